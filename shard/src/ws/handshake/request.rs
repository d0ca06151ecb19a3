//! A client's request, parsed and judged (RFC 6455 §4.2.1).

use std::borrow::Cow;

use super::answer::Rejection;
use super::extensions::Offer;
use super::headers::{has_token, members, single, tokens, values};

/// Characters of a `Sec-WebSocket-Key`: 16 bytes in base64, padded.
const KEY_LENGTH: usize = 24;

/// The header of a client's offers.
const EXTENSIONS: &str = "sec-websocket-extensions";

/// A valid upgrade request, borrowed from the bytes that it arrived in.
#[derive(Clone, Debug)]
pub struct UpgradeRequest<'a> {
    path: &'a str,
    query: Option<&'a str>,
    host: &'a str,
    key: &'a str,
    headers: Vec<httparse::Header<'a>>,
}

impl<'a> UpgradeRequest<'a> {
    /// Parses a whole head and checks everything that RFC 6455 §4.2.1 asks for.
    pub(in crate::ws) fn parse(head: &'a [u8], headers_max: usize) -> Result<Self, Rejection> {
        let mut headers = vec![httparse::EMPTY_HEADER; headers_max];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(httparse::Status::Complete(size)) if size == head.len() => {}
            // Bare line feeds made the parser see another end.
            Ok(_) => return Err(Rejection::Malformed),
            Err(httparse::Error::TooManyHeaders) => return Err(Rejection::TooManyHeaders),
            Err(_) => return Err(Rejection::Malformed),
        }
        let (method, version) = (request.method, request.version);
        let target = request.path.ok_or(Rejection::Malformed)?;
        let header_count = request.headers.len();
        headers.truncate(header_count);

        if method != Some("GET") {
            return Err(Rejection::Method);
        }
        if version != Some(1) {
            return Err(Rejection::HttpVersion);
        }
        let (path, query) = split_target(target).ok_or(Rejection::Malformed)?;
        let host = single(&headers, "host")
            .filter(|host| !host.is_empty())
            .ok_or(Rejection::Host)?;
        if values(&headers, "upgrade").next().is_none() {
            return Err(Rejection::NotUpgrade);
        }
        if !has_token(&headers, "upgrade", "websocket") {
            return Err(Rejection::Upgrade);
        }
        if !has_token(&headers, "connection", "upgrade") {
            return Err(Rejection::Connection);
        }
        if single(&headers, "sec-websocket-version") != Some("13") {
            return Err(Rejection::Version);
        }
        let key = single(&headers, "sec-websocket-key")
            .filter(|key| is_key(key))
            .ok_or(Rejection::Key)?;
        let are_offers = |value| members(value).all(|member| Offer::parse(member).is_some());
        if !values(&headers, EXTENSIONS).all(|value| value.is_some_and(are_offers)) {
            return Err(Rejection::Extensions);
        }
        Ok(Self {
            path,
            query,
            host,
            key,
            headers,
        })
    }

    /// The path as it was sent: percent-encoded, beginning with `/`.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// What follows the first `?` of the target, as it was sent.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The value of the first query parameter called `name`, decoded as a form is: `+` is a space and `%XX` a byte.
    /// `None` when there is none, or when it does not decode to UTF-8. A parameter without `=` is empty.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query_values(name).next()?
    }

    /// The values of all query parameters called `name`; `None` stands for one that does not decode to UTF-8.
    pub fn query_values(&self, name: &str) -> impl Iterator<Item = Option<Cow<'a, str>>> {
        let parameters = self.query.into_iter().flat_map(|query| query.split('&'));
        parameters.filter_map(move |parameter| {
            let (raw_name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (decode(raw_name)? == name).then(|| decode(value))
        })
    }

    /// The value of the first header called `name`, in any case, without the white space around it. `None` also
    /// when it is not UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.header_values(name).next().flatten()
    }

    /// The values of all headers called `name`; `None` stands for one that is not UTF-8.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = Option<&'a str>> {
        values(&self.headers, name)
    }

    /// Where the page that opened the connection came from (RFC 6455 §10.2); only browsers can be trusted to say so.
    #[must_use]
    pub fn origin(&self) -> Option<&'a str> {
        self.header("origin")
    }

    /// The host and, where it is not the scheme's own, the port that the client meant to reach.
    #[must_use]
    pub fn host(&self) -> &'a str {
        self.host
    }

    /// The subprotocols offered, in the client's order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> {
        tokens(&self.headers, "sec-websocket-protocol")
    }

    /// The extensions offered, in the client's order of preference, each with its parameters:
    /// `permessage-deflate; client_max_window_bits`.
    pub fn extensions(&self) -> impl Iterator<Item = &'a str> {
        tokens(&self.headers, EXTENSIONS)
    }

    /// The same, taken apart.
    pub(in crate::ws) fn offers(&self) -> impl Iterator<Item = Offer<'a>> {
        self.extensions().filter_map(Offer::parse)
    }

    /// The client's nonce: 16 bytes in base64.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.key
    }
}

/// The path and query of a request target in origin form, or in the absolute form that RFC 6455 §4.2.1 permits too.
fn split_target(target: &str) -> Option<(&str, Option<&str>)> {
    let origin_form = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://")?;
        ["http", "https", "ws", "wss"]
            .iter()
            .find(|known| scheme.eq_ignore_ascii_case(known))?;
        rest.find(['/', '?']).map_or("/", |start| &rest[start..])
    };
    let (path, query) = match origin_form.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin_form, None),
    };
    Some((if path.is_empty() { "/" } else { path }, query))
}

/// Whether the key is 16 bytes in base64. The bits that the last character has to spare are not looked at.
fn is_key(key: &str) -> bool {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    key.len() == KEY_LENGTH
        && key
            .strip_suffix("==")
            .is_some_and(|digits| digits.bytes().all(is_base64))
}

/// Decodes a part of a query. A `%` without two hexadecimal digits stands for itself, as in browsers.
fn decode(encoded: &str) -> Option<Cow<'_, str>> {
    if !encoded.contains(['%', '+']) {
        return Some(Cow::Borrowed(encoded));
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => match hexadecimal(after) {
                Some(value) => {
                    decoded.push(value);
                    rest = &after[2..];
                }
                None => decoded.push(b'%'),
            },
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// The byte that the first two characters write.
fn hexadecimal(characters: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low] = characters.first_chunk().copied()?;
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}
