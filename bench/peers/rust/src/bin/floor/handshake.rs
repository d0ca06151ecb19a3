//! The request that opens a connection.

use tungstenite::handshake::derive_accept_key;

/// The longest request, in bytes.
const REQUEST_LENGTH_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;

/// Which of the two paths a connection is on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    Echo,
    Rooms,
}

/// A request to one of the two paths.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Upgrade {
    pub(crate) route: Route,
    pub(crate) response: String,
    /// How many bytes the request was long.
    pub(crate) request_length: usize,
}

/// Reads a request; `None` where more bytes must come first.
///
/// # Errors
///
/// The response to refuse with, where this is no request to upgrade one of the two paths.
pub(crate) fn upgrade(received: &[u8]) -> Result<Option<Upgrade>, &'static str> {
    const BAD_REQUEST: &str =
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    const NOT_FOUND: &str =
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let request_length = match request.parse(received).map_err(|_| BAD_REQUEST)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if received.len() < REQUEST_LENGTH_MAX => return Ok(None),
        httparse::Status::Partial => return Err(BAD_REQUEST),
    };
    let target = request.path.unwrap_or_default();
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let route = match path {
        "/echo" => Route::Echo,
        "/rooms" => Route::Rooms,
        _ => return Err(NOT_FOUND),
    };
    let key = request
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("sec-websocket-key"));
    let accept = derive_accept_key(key.ok_or(BAD_REQUEST)?.value);
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Ok(Some(Upgrade {
        route,
        response,
        request_length,
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The example of RFC 6455, section 1.3.
    const REQUEST: &str =
        "GET /rooms?x HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    #[test]
    fn a_request_is_answered() {
        let answer = upgrade(format!("{REQUEST}rest").as_bytes())
            .unwrap()
            .unwrap();
        assert_eq!(answer.route, Route::Rooms);
        assert_eq!(answer.request_length, REQUEST.len());
        assert!(
            answer
                .response
                .contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")
        );
    }

    #[test]
    fn part_of_a_request_waits() {
        assert_eq!(upgrade(&REQUEST.as_bytes()[..REQUEST.len() - 1]), Ok(None));
        assert!(upgrade(&[b'a'; REQUEST_LENGTH_MAX]).is_err());
    }

    #[test]
    fn other_requests_are_refused() {
        assert!(
            upgrade(REQUEST.replace("/rooms", "/room").as_bytes())
                .unwrap_err()
                .contains("404")
        );
        assert!(
            upgrade(REQUEST.replace("Key", "Cay").as_bytes())
                .unwrap_err()
                .contains("400")
        );
    }
}
