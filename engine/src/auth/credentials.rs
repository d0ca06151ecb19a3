//! Where a handshake may carry a token.

use std::borrow::Cow;

use shardcast_shard::ws::UpgradeRequest;

/// The query parameter that may carry a token: browsers cannot set headers of a WebSocket.
pub const TOKEN_PARAMETER: &str = "token";

/// The scheme of a header that carries one (RFC 6750 §2.1).
const SCHEME: &str = "bearer";

/// More than one token came: nobody can say which was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Twice;

/// The token of a handshake, where it has one. Other schemes of authorisation are those of whoever stands in front of the server. What does not
/// decode is an empty token, which is malformed.
pub(super) fn token<'a>(request: &UpgradeRequest<'a>) -> Result<Option<Cow<'a, str>>, Twice> {
    let in_headers = request
        .header_values("authorization")
        .filter_map(|value| bearer(value?).map(Cow::Borrowed));
    let in_query = request
        .query_values(TOKEN_PARAMETER)
        .map(Option::unwrap_or_default);
    let mut tokens = in_headers.chain(in_query);
    match (tokens.next(), tokens.next()) {
        (_, Some(_)) => Err(Twice),
        (token, None) => Ok(token),
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| token.trim_matches(' '))
}
