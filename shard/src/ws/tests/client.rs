//! The client's side of the handshake, against this server and against tungstenite.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;
use tungstenite::handshake::server;

use super::*;
use crate::ws::handshake::client::{
    Accepted, RESPONSE_SIZE_MAX, ResponseError, parse_response, request,
};

/// The key of RFC 6455 §1.3.
const KEY: &[u8; 16] = b"the sample nonce";

/// The answer of RFC 6455 §1.3 to it.
const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Protocol: chat\r\n\r\n";

#[test]
fn the_bytes_of_a_request() {
    let request = request(
        "server.example.com:9000",
        "/chat?user=ada",
        KEY,
        &["chat", "superchat"],
        &[
            ("Origin", "http://example.com"),
            ("Authorization", "Bearer a.b"),
        ],
    );
    assert_eq!(
        std::str::from_utf8(&request).unwrap(),
        "GET /chat?user=ada HTTP/1.1\r\n\
         Host: server.example.com:9000\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: chat, superchat\r\n\
         Origin: http://example.com\r\n\
         Authorization: Bearer a.b\r\n\r\n"
    );
}

#[test]
fn the_example_of_the_rfc() {
    let accepted = Accepted {
        length: RESPONSE.len(),
        protocol: Some("chat"),
    };
    let bytes = [RESPONSE.as_bytes(), b"\x81\x02hi"].concat();
    assert_eq!(parse_response(&bytes, KEY), Ok(Some(accepted)));
    assert_eq!(bytes[accepted.length..], b"\x81\x02hi"[..]);
}

#[test]
fn responses_in_other_forms() {
    let cases = [
        ("Switching Protocols", ""),
        ("Upgrade: websocket", "upgrade:\t WebSocket "),
        ("Connection: Upgrade", "connection: keep-alive, upgrade"),
        ("Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Extensions:"),
        ("Sec-WebSocket-Protocol: chat", "X-Name: \u{fc}"),
    ];
    for (part, other) in cases {
        assert!(RESPONSE.contains(part));
        let response = RESPONSE.replace(part, other);
        let accepted = parse_response(response.as_bytes(), KEY).unwrap().unwrap();
        assert_eq!(accepted.length, response.len());
        assert_eq!(
            accepted.protocol,
            response.contains("chat").then_some("chat")
        );
    }
}

#[test]
fn responses_that_open_nothing() {
    use ResponseError::*;
    let many = "X: y\r\n".repeat(64);
    let large = "x".repeat(RESPONSE_SIZE_MAX);
    let cases: &[(&str, &str, ResponseError)] = &[
        ("HTTP/1.1", "SSH-2.0", Malformed),
        ("HTTP/1.1", "HTTP/1.0", Malformed),
        ("HTTP/1.1", "\r\nHTTP/1.1", Malformed),
        ("101", "1o1", Malformed),
        ("Upgrade: websocket\r\n", "X: y\n\n", Malformed),
        ("101", "200", Status { code: 200 }),
        ("1.1 101", "1.0 503", Status { code: 503 }),
        ("Upgrade: websocket\r\n", "", Upgrade),
        ("Upgrade: websocket", "Upgrade: h2c", Upgrade),
        ("Connection: Upgrade\r\n", "", Connection),
        ("Connection: Upgrade", "Connection: close", Connection),
        ("s3pP", "S3pP", Accept),
        (
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
            "",
            Accept,
        ),
        (
            "Sec-WebSocket-Protocol: chat",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            Accept,
        ),
        (
            "Protocol: chat",
            "Extensions: permessage-deflate",
            Extension,
        ),
        (": chat", ": chat, superchat", Protocol),
        (": chat", ": chat\r\nSec-WebSocket-Protocol: chat", Protocol),
        (": chat", ":", Protocol),
        ("\r\n\r\n", &format!("\r\n{many}\r\n"), TooManyHeaders),
        ("chat", &large, TooLarge),
    ];
    for (part, other, expected) in cases {
        assert!(RESPONSE.contains(part), "{part}");
        let response = RESPONSE.replacen(part, other, 1);
        let result = parse_response(response.as_bytes(), KEY);
        assert_eq!(result, Err(*expected), "{response}");
        check_splits(response.as_bytes(), KEY);
    }
    assert_eq!(
        Status { code: 503 }.to_string(),
        "the server answered with status 503 instead of 101"
    );
}

#[test]
fn a_head_may_be_as_large_as_the_limit() {
    let padding = "x".repeat(RESPONSE_SIZE_MAX - RESPONSE.len());
    let largest = RESPONSE.replace("chat", &format!("chat{padding}"));
    assert_eq!(largest.len(), RESPONSE_SIZE_MAX);
    let accepted = parse_response(largest.as_bytes(), KEY).unwrap().unwrap();
    assert_eq!(accepted.length, RESPONSE_SIZE_MAX);
    let larger = RESPONSE.replace("chat", &format!("chat{padding}x"));
    let larger = larger.as_bytes();
    assert_eq!(
        parse_response(&larger[..RESPONSE_SIZE_MAX - 1], KEY),
        Ok(None)
    );
    // Too large is known when the last permitted byte is not the end.
    for end in [RESPONSE_SIZE_MAX, larger.len()] {
        let result = parse_response(&larger[..end], KEY);
        assert_eq!(result, Err(ResponseError::TooLarge));
    }
}

/// However much is there, the answer is that to the whole, or that more is needed; once given, it stays.
fn check_splits(response: &[u8], key: &[u8; 16]) {
    let step = if cfg!(miri) {
        1 + response.len() / 16
    } else {
        1
    };
    let lengths = (0..response.len()).step_by(step).chain([response.len()]);
    let whole = parse_response(response, key);
    let mut answered = false;
    for length in lengths {
        let result = parse_response(&response[..length], key);
        answered |= result != Ok(None);
        let expected = if answered { &whole } else { &Ok(None) };
        assert_eq!(&result, expected, "the first {length} bytes");
    }
}

/// A stream for tungstenite: what it reads is given, what it writes is kept.
struct Socket {
    received: Cursor<Vec<u8>>,
    sent: Vec<u8>,
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.received.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.sent.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The answer of tungstenite's server, which chooses `protocol`.
#[allow(
    clippy::result_large_err,
    reason = "the callback's type is tungstenite's"
)]
fn tungstenite_response(request: &[u8], protocol: Option<&str>) -> Vec<u8> {
    let socket = Socket {
        received: Cursor::new(request.to_vec()),
        sent: Vec::new(),
    };
    let choose = |_: &server::Request, mut response: server::Response| {
        if let Some(protocol) = protocol {
            let value = protocol.parse().unwrap();
            response
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", value);
        }
        Ok(response)
    };
    let socket = tungstenite::accept_hdr(socket, choose).unwrap();
    socket.get_ref().sent.clone()
}

/// The answer of this crate's server.
fn own_response(request: &[u8], protocol: Option<&str>) -> Vec<u8> {
    let limits = SessionLimits {
        handshake_size_max: 4096,
        ..LIMITS
    };
    let mut received = request.to_vec();
    match Session::new().next(
        &mut Input::new(&mut received),
        &limits,
        &mut Inflater::shared(),
    ) {
        Some(Incoming::Upgrade(request)) => handshake::response(&request, protocol, None).to_vec(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn servers_accept_every_request_and_their_responses_are_accepted_at_every_split(
        host in "[a-z0-9.-]{1,20}(:[1-9][0-9]{0,3})?",
        path in "/[a-z0-9/._~%-]{0,30}(\\?[a-z0-9=&%+]{0,30})?",
        key: [u8; 16],
        protocols in prop::collection::vec("[a-z0-9.-]{1,12}", 0..4),
        values in prop::collection::vec("[!-~]([ -~]{0,20}[!-~])?", 0..4),
        chosen: prop::sample::Index,
    ) {
        let protocols: Vec<_> = protocols.iter().map(String::as_str).collect();
        let headers: Vec<_> = values.iter().map(|value| ("X-Test", value.as_str())).collect();
        let request = request(&host, &path, &key, &protocols, &headers);
        let protocol = (!protocols.is_empty()).then(|| protocols[chosen.index(protocols.len())]);
        for response in [own_response(&request, protocol), tungstenite_response(&request, protocol)] {
            let accepted = parse_response(&response, &key);
            prop_assert_eq!(accepted, Ok(Some(Accepted { length: response.len(), protocol })));
            check_splits(&response, &key);
            let mut other = key;
            other[15] ^= 1;
            prop_assert_eq!(parse_response(&response, &other), Err(ResponseError::Accept));
        }
    }

    #[test]
    fn damaged_responses(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut response = RESPONSE.as_bytes().to_vec();
        for (index, byte) in damage {
            response[index.index(RESPONSE.len())] = byte;
        }
        check_splits(&response, KEY);
    }
}
