//! The WebSocket client against answers written by hand.

use bytes::Bytes;

use super::{KEY, connected, poll};
use crate::driver::{Completion, Driver, Shutdown};
use crate::sim::{SimEvent, SimSetup, SimWebSocket};

/// Short frames as a server sends them: each the first byte and the payload.
fn server_frames(frames: &[(u8, &[u8])]) -> Vec<u8> {
    let encode =
        |(first, payload): &(u8, &[u8])| [&[*first, payload.len() as u8], *payload].concat();
    frames.iter().flat_map(encode).collect()
}

#[test]
fn a_websocket_client_makes_events_of_what_it_reads() {
    let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let frames: [(u8, &[u8]); 6] = [
        (0x01, b"hel"),
        (0x89, b"?"),
        (0x80, b"lo"),
        (0x82, b"\xFF"),
        (0x8A, b""),
        (0x88, b"\x03\xE9bye"),
    ];
    let answer = [&head[..], &server_frames(&frames)].concat();
    for read_max in [1, 7, 1000] {
        let (_network, mut driver, client) = connected(1000, SimSetup::default());
        let mut socket = SimWebSocket::connect_with(client, "/ws?user=ada", &[("Origin", "here")]);
        driver.send(KEY, Bytes::copy_from_slice(&answer));
        driver.shutdown(KEY, Shutdown::Write);
        poll(&mut driver);
        let mut events = Vec::new();
        while !socket.is_ended() {
            events.extend(socket.step(read_max));
        }
        let SimEvent::Upgraded(response) = events.remove(0) else {
            panic!("{events:?}");
        };
        assert_eq!(response.header("upgrade"), Some("websocket"));
        let expected = [
            SimEvent::Ping(b"?".to_vec()),
            SimEvent::Text("hello".to_owned()),
            SimEvent::Binary(vec![0xFF]),
            SimEvent::Pong(Vec::new()),
            SimEvent::Close {
                code: Some(1001),
                reason: "bye".to_owned(),
            },
            SimEvent::EndOfStream,
        ];
        assert_eq!(events, expected);
        // The request, a pong of 1 byte and a close frame with a code.
        driver.receive_start(KEY);
        let [Completion::Received { buffer, length, .. }] = poll(&mut driver)[..] else {
            panic!("nothing was received");
        };
        let request = driver.buffer(buffer, length).to_vec();
        assert!(request.starts_with(b"GET /ws?user=ada HTTP/1.1\r\n"));
        let end = request
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")
            .unwrap();
        assert_eq!(length, end + 4 + 7 + 8);
        driver.buffer_release(buffer);
    }
}

#[test]
fn a_websocket_client_sees_refusals_and_mistakes() {
    let upgraded =
        "HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let refused = "HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nbusy";
    let wrong_key = "HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: no\r\n\r\n";
    let cases: [(String, &str); 6] = [
        (refused.to_owned(), "Refused"),
        (wrong_key.to_owned(), "Sec-WebSocket-Accept is"),
        ("SMTP".to_owned(), "the answer to the handshake"),
        (format!("{upgraded}\u{0}\u{0}"), "a continuation of nothing"),
        (
            format!("{upgraded}\u{1}\u{0}\u{1}\u{0}"),
            "a message within",
        ),
        (format!("{upgraded}\u{11}\u{0}"), "reserved bits"),
    ];
    for (answer, expected) in cases {
        let (_network, mut driver, client) = connected(1000, SimSetup::default());
        let mut socket = SimWebSocket::connect_with(client, "/", &[]);
        driver.send(KEY, Bytes::from(answer));
        poll(&mut driver);
        let events = socket.step(1000);
        let last = format!("{:?}", events.last());
        assert!(last.contains(expected), "{last}");
        drop(driver);
        assert_eq!(socket.step(1000), [SimEvent::Reset]);
        assert!(socket.is_ended());
    }
}
