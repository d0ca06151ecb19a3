//! The compact form of a token (RFC 7515 §7.1), and whether it counts (RFC 7519 §7.2, RFC 8725).
//!
//! What costs nothing comes first: the size, the form, the algorithm, the times. A signature is looked at once a token, and nothing that a token
//! says is acted on before, except to refuse it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use shardcast_shard::limits::Limits;
use shardcast_shard::rights::{Grant, Identity};

use super::claims::{Claims, Expected};
use super::key::Algorithm;
use super::keyring::Keys;
use super::refused::Refused;
use super::rules::RulesCache;

/// Checks tokens with the keys in force. One for all shards.
#[derive(Debug, Default)]
pub(super) struct Verifier {
    pub(super) keys: Arc<Keys>,
    pub(super) expected: Expected,
}

/// What a header says (RFC 7515 §4.1). Where a key is to be had (`jku`, `x5u`, `jwk`, `x5c`) is none of the bearer's business.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl Verifier {
    /// Whose token it is, and what it grants at this time.
    ///
    /// # Errors
    /// Why it does not count.
    pub(super) fn verify(
        &self,
        token: &str,
        now_unix_ms: u64,
        limits: &Limits,
        cache: &mut RulesCache,
    ) -> Result<Identity, Refused> {
        if token.len() as u64 > limits.token_size_max {
            return Err(Refused::TooLarge(limits.token_size_max));
        }
        let parts = Parts::of(token)?;
        let header: Header = object(parts.header, "its header is no JSON object with `alg`")?;
        if header.alg.eq_ignore_ascii_case("none") {
            return Err(Refused::AlgorithmNone);
        }
        if header.crit.is_some() {
            return Err(Refused::Malformed("its header asks for an extension"));
        }
        let algorithm = Algorithm::named(&header.alg).ok_or(Refused::AlgorithmNotPermitted)?;
        let ring = self.keys.current();
        let key = ring
            .find(header.kid.as_deref(), algorithm)
            .inspect_err(|refused| {
                if *refused == Refused::UnknownKey && header.kid.is_some() {
                    self.keys.note_missed();
                }
            })?;
        let claims: Claims = object(parts.claims, "its claims are no JSON object")?;
        let expires_unix_ms = claims.check(&self.expected, now_unix_ms)?;
        let user = claims.user(limits)?;
        if !key.has_signed(parts.signed, &decode(parts.signature)?) {
            return Err(Refused::Signature);
        }
        let rules = claims.rules(limits)?.map(|rules| cache.share(rules));
        Ok(Identity {
            user,
            grant: Some(Grant {
                rules,
                expires_unix_ms: Some(expires_unix_ms),
            }),
        })
    }
}

/// The parts of a token, each in base64url.
struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    /// What the signature is of: header, full stop, claims.
    signed: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Result<Self, Refused> {
        let parts = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let (header, claims) = signed.split_once('.')?;
            (!claims.contains('.')).then_some(Self {
                header,
                claims,
                signature,
                signed: signed.as_bytes(),
            })
        };
        parts().ok_or(Refused::Malformed(
            "it is not three parts with full stops between",
        ))
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Refused> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| Refused::Malformed("a part of it is not base64url"))
}

/// Reads the JSON object in a part. Where a member is of the wrong type, missing or there twice, the claims do not fit; a header is then none.
fn object<T: Member>(part: &str, problem: &'static str) -> Result<T, Refused> {
    let text = decode(part)?;
    // An array would do for serde.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(Refused::Malformed(problem));
    }
    serde_json::from_slice(&text).map_err(|error| match error.is_data() {
        true => T::UNFIT.unwrap_or(Refused::Malformed(problem)),
        false => Refused::Malformed(problem),
    })
}

/// A part that is JSON.
trait Member: DeserializeOwned {
    /// Why the token is refused when the part is an object, but not the right one.
    const UNFIT: Option<Refused>;
}

impl Member for Header {
    const UNFIT: Option<Refused> = None;
}

impl Member for Claims {
    const UNFIT: Option<Refused> = Some(Refused::Claims("one is of the wrong type or comes twice"));
}
