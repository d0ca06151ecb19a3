//! Tungstenite decodes the same streams and must see the same.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, error::ProtocolError};

use super::streams::{cuts_within, damaged, faults, valid};
use super::*;

/// The stream to read; what is written is of no interest.
struct Socket<'a>(Cursor<&'a [u8]>);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The bytes were used up.
    OfStream,
    /// The peer closed.
    Close,
    /// The connection is to be closed with this code.
    Violation(u16),
}

fn tungstenite_events(stream: &[u8]) -> (Vec<Event>, End) {
    let config = WebSocketConfig::default()
        .read_buffer_size(512)
        .max_message_size(Some(LIMITS.message_size_max))
        .max_frame_size(Some(LIMITS.message_size_max));
    let mut socket =
        WebSocket::from_raw_socket(Socket(Cursor::new(stream)), Role::Server, Some(config));
    let mut events = Vec::new();
    loop {
        events.push(match socket.read() {
            Ok(tungstenite::Message::Text(text)) => Event::text(&text),
            Ok(tungstenite::Message::Binary(bytes)) => {
                Event::Message(MessageKind::Binary, bytes.to_vec())
            }
            Ok(tungstenite::Message::Ping(payload)) => Event::Ping(payload.to_vec()),
            Ok(tungstenite::Message::Pong(payload)) => Event::Pong(payload.to_vec()),
            Ok(tungstenite::Message::Close(None)) => {
                events.push(Event::Close(None, String::new()));
                return (events, End::Close);
            }
            Ok(tungstenite::Message::Close(Some(close))) => {
                // A code that must not be sent is reported as this one.
                if close.reason == "Protocol violation" {
                    return (events, End::Violation(1002));
                }
                events.push(Event::Close(
                    Some(close.code.into()),
                    close.reason.to_string(),
                ));
                return (events, End::Close);
            }
            Ok(message @ tungstenite::Message::Frame(_)) => panic!("{message:?}"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (events, End::OfStream);
            }
            Err(Error::Protocol(_)) => return (events, End::Violation(1002)),
            Err(Error::Utf8(_)) => return (events, End::Violation(1007)),
            Err(Error::Capacity(_)) => return (events, End::Violation(1009)),
            Err(error) => panic!("{error:?}"),
        });
    }
}

/// The session's events in the same form, and the violation where there is one.
fn session_events(stream: &[u8], cuts: &[usize]) -> (Vec<Event>, End, Option<Violation>) {
    let mut events = events_of(Session::opened(), stream, cuts);
    match events.last() {
        Some(&Event::Violation(violation)) => {
            events.pop();
            (events, End::Violation(violation.code()), Some(violation))
        }
        Some(Event::Close(..)) => (events, End::Close, None),
        _ => (events, End::OfStream, None),
    }
}

#[test]
fn violations_end_both_with_the_same_code() {
    for (stream, _) in faults() {
        let (events, end, _) = session_events(&stream, &[]);
        assert_eq!((events, end), tungstenite_events(&stream), "{stream:x?}");
    }
}

#[test]
fn a_client_elsewhere_is_understood() {
    use tungstenite::client::IntoClientRequest;
    use tungstenite::handshake::client::generate_request;

    let request = "ws://localhost:9000/ws?user=ada"
        .into_client_request()
        .unwrap();
    let (mut received, key) = generate_request(request).unwrap();
    let mut session = Session::new();
    match session.next(&mut Input::new(&mut received), &LIMITS) {
        Some(Incoming::Upgrade(request)) => {
            assert_eq!(request.key(), key);
            assert_eq!(request.host(), "localhost:9000");
            assert_eq!(request.query_value("user").as_deref(), Some("ada"));
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn valid_streams(
        (stream, expected) in valid(),
        closing in prop::option::of((3000_u16..5000, "\\PC{0,30}")),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (mut stream, mut expected) = (stream, expected);
        if let Some((code, reason)) = closing {
            let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
            frame::encode_masked(frame::Opcode::Close, true, [4, 3, 2, 1], &payload, &mut stream);
            expected.push(Event::Close(Some(code), reason));
        }
        let cuts = cuts_within(&stream, &cuts);
        let (events, end, _) = session_events(&stream, &cuts);
        prop_assert_eq!(&events, &expected);
        prop_assert_eq!((events, end), tungstenite_events(&stream));
    }

    #[test]
    fn damaged_streams(
        stream in damaged(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (events, end, violation) = session_events(&stream, &cuts_within(&stream, &cuts));
        let (oracle_events, oracle_end) = tungstenite_events(&stream);
        match violation {
            // Tungstenite takes lengths in any form.
            Some(Violation::LengthNotMinimal | Violation::LengthTopBit) => {
                prop_assert!(oracle_events.starts_with(&events));
            }
            // Tungstenite looks at whole frames only, so it may miss what is wrong with the last one; and where a
            // frame is wrong in two ways it may name the other.
            Some(_) => {
                prop_assert_eq!(events, oracle_events);
                prop_assert_ne!(oracle_end, End::Close);
            }
            None => prop_assert_eq!((events, end), (oracle_events, oracle_end)),
        }
    }
}
