//! The client's side of the opening handshake (RFC 6455 §4.1): the request, and what the server made of it.
//!
//! ```
//! use shardcast_shard::ws::handshake::client;
//!
//! let key = [7; 16];
//! let request = client::request("localhost:9000", "/ws?user=ada", &key, &[], &[]);
//! # assert!(request.ends_with(b"\r\n\r\n"));
//! let received = b"HTTP/1.1 404 Not Found\r\n\r\n";
//! assert_eq!(
//!     client::parse_response(received, &key),
//!     Err(client::ResponseError::Status { code: 404 })
//! );
//! ```

use bytes::Bytes;
use tungstenite::handshake::derive_accept_key;

use super::{head_end, headers};

/// Bytes of the largest head of a response.
pub const RESPONSE_SIZE_MAX: usize = 16 * 1024;

/// The most headers of a response.
const HEADERS_MAX: usize = 64;

/// Characters of 16 bytes in base64, padded.
const KEY_LENGTH: usize = 24;

/// A request to open a WebSocket.
///
/// `host` is the server's name with its port, `path_and_query` begins with `/`, and `key` is 16 bytes that are new and
/// random for every connection (here they may be any: they guard against caches, not attackers). `protocols` are offered in
/// this order; an extension offered among `headers` is refused when the server takes it up. The caller vouches
/// for the texts: they are written as they are, so a line break in one would write a header of its own.
#[must_use]
pub fn request(
    host: &str,
    path_and_query: &str,
    key: &[u8; 16],
    protocols: &[&str],
    headers: &[(&str, &str)],
) -> Bytes {
    let mut request = String::with_capacity(256);
    request.push_str("GET ");
    request.push_str(path_and_query);
    request.push_str(" HTTP/1.1\r\n");
    headers::push(&mut request, "Host", host);
    request.push_str("Upgrade: websocket\r\nConnection: Upgrade\r\n");
    request.push_str("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ");
    request.extend(base64(key).map(char::from));
    request.push_str("\r\n");
    if !protocols.is_empty() {
        headers::push(
            &mut request,
            "Sec-WebSocket-Protocol",
            &protocols.join(", "),
        );
    }
    for (name, value) in headers {
        headers::push(&mut request, name, value);
    }
    request.push_str("\r\n");
    Bytes::from(request)
}

/// The server has opened the WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted<'response> {
    /// Bytes of the response's head. What follows are frames.
    pub length: usize,
    /// The subprotocol that the server chose. A client must close the connection when it did not offer it.
    pub protocol: Option<&'response str>,
}

/// Why a response opens no WebSocket. The connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Not HTTP/1.1, or not the way it is written.
    #[error("the response is not valid HTTP/1.1")]
    Malformed,
    /// The server refuses, or wants something else first.
    #[error("the server answered with status {code} instead of 101")]
    Status {
        /// The status code (RFC 9110 §15).
        code: u16,
    },
    /// `Upgrade` does not name websocket.
    #[error("the response's Upgrade header does not name websocket")]
    Upgrade,
    /// `Connection` does not name `Upgrade`.
    #[error("the response's Connection header does not name Upgrade")]
    Connection,
    /// No `Sec-WebSocket-Accept`, several, or the answer to another key.
    #[error("the response's Sec-WebSocket-Accept does not answer the request's key")]
    Accept,
    /// An extension, which nothing here can speak.
    #[error("the server chose an extension of the WebSocket protocol, and none is spoken here")]
    Extension,
    /// More than one subprotocol, or one whose name is not text.
    #[error("the response's Sec-WebSocket-Protocol header does not name one subprotocol")]
    Protocol,
    /// The head is larger than [`RESPONSE_SIZE_MAX`].
    #[error("the response's head is larger than {RESPONSE_SIZE_MAX} bytes")]
    TooLarge,
    /// The head has more headers than fit.
    #[error("the response has more than {HEADERS_MAX} headers")]
    TooManyHeaders,
}

/// Reads the response to a request with this key at the start of `bytes`, which are everything that the connection has
/// received so far. `None` when its head is not all there.
///
/// What the answer is depends on the bytes alone, never on how they were split.
///
/// # Errors
/// Everything that RFC 6455 §4.1 tells a client to fail the connection for, but for a subprotocol that was not
/// offered: see [`Accepted::protocol`].
pub fn parse_response<'response>(
    bytes: &'response [u8],
    key: &[u8; 16],
) -> Result<Option<Accepted<'response>>, ResponseError> {
    // A server that does not speak HTTP on this port is known at once instead of by the timeout.
    if bytes.first().is_some_and(|byte| *byte != b'H') {
        return Err(ResponseError::Malformed);
    }
    let window = &bytes[..bytes.len().min(RESPONSE_SIZE_MAX)];
    match head_end(window, 0) {
        Some(length) => judge(&bytes[..length], key).map(Some),
        None if window.len() == RESPONSE_SIZE_MAX => Err(ResponseError::TooLarge),
        None => Ok(None),
    }
}

fn judge<'response>(
    head: &'response [u8],
    key: &[u8; 16],
) -> Result<Accepted<'response>, ResponseError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(head) {
        Ok(httparse::Status::Complete(size)) if size == head.len() => {}
        // Bare line feeds made the parser see another end.
        Ok(_) => return Err(ResponseError::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::TooManyHeaders),
        Err(_) => return Err(ResponseError::Malformed),
    }
    match (response.version, response.code) {
        (Some(1), Some(101)) => {}
        // Whatever the version: a refusal says more than that.
        (_, Some(code)) if code != 101 => return Err(ResponseError::Status { code }),
        _ => return Err(ResponseError::Malformed),
    }
    let headers = &*response.headers;
    let names_websocket = |value: &str| value.eq_ignore_ascii_case("websocket");
    if !headers::single(headers, "upgrade").is_some_and(names_websocket) {
        return Err(ResponseError::Upgrade);
    }
    if !headers::has_token(headers, "connection", "upgrade") {
        return Err(ResponseError::Connection);
    }
    let expected = derive_accept_key(&base64(key));
    if headers::single(headers, "sec-websocket-accept") != Some(expected.as_str()) {
        return Err(ResponseError::Accept);
    }
    if headers::tokens(headers, "sec-websocket-extensions")
        .next()
        .is_some()
    {
        return Err(ResponseError::Extension);
    }
    let mut protocols = headers::values(headers, "sec-websocket-protocol");
    let protocol = match (protocols.next(), protocols.next()) {
        (None, _) => None,
        (Some(Some(protocol)), None) if !protocol.is_empty() && !protocol.contains(',') => {
            Some(protocol)
        }
        _ => return Err(ResponseError::Protocol),
    };
    Ok(Accepted {
        length: head.len(),
        protocol,
    })
}

/// The key as its header says it (RFC 4648 §4).
fn base64(key: &[u8; 16]) -> [u8; KEY_LENGTH] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = [b'='; KEY_LENGTH];
    for (group, characters) in key.chunks(3).zip(text.chunks_exact_mut(4)) {
        let byte = |index| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        // One byte makes two digits, two make three, three make four; the rest stays padding.
        for (position, character) in characters.iter_mut().enumerate().take(group.len() + 1) {
            *character = DIGITS[(bits >> (18 - 6 * position) & 0x3f) as usize];
        }
    }
    text
}
