//! Every split of the byte stream gives the same events.

use proptest::prelude::*;

use super::streams::{
    compressed_faults, cuts_within, damaged, damaged_compressed, faults, raw, valid,
    valid_compressed,
};
use super::*;
use crate::ws::frame::{Opcode, encode_masked};

const REQUEST: &[u8] =
    b"GET /ws?user=ada HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A bit of everything, ending in a close frame.
fn conversation() -> Vec<u8> {
    let mut stream = Vec::new();
    let frames: &[(Opcode, bool, &[u8])] = &[
        (Opcode::Text, true, "grüße €𝄞".as_bytes()),
        (Opcode::Ping, true, b""),
        (Opcode::Binary, true, &[0xee; 130]),
        (Opcode::Text, false, b"\xf0\x9d"),
        (Opcode::Pong, true, b"between"),
        (Opcode::Continuation, false, b""),
        (Opcode::Continuation, true, b"\x84\x9e!"),
        (Opcode::Binary, true, b""),
        (Opcode::Close, true, b"\x03\xe8done"),
        (Opcode::Text, true, b"not looked at"),
    ];
    for (index, (opcode, fin, payload)) in frames.iter().enumerate() {
        let mask = (0x1234_5678_u32.wrapping_mul(index as u32 + 1)).to_be_bytes();
        encode_masked(*opcode, *fin, mask, payload, &mut stream);
    }
    stream
}

/// Compares the whole stream with all splits into two and with single bytes.
fn check_two_way_splits(session: fn() -> Session, stream: &[u8]) {
    check_splits(stream, |cuts| events_of(session(), stream, cuts));
}

/// The same for a connection that may be sent compressed messages, with an inflater of its own and with a shared one.
fn check_compressed_splits(stream: &[u8]) {
    for takeover in [false, true] {
        check_splits(stream, |cuts| Agreed::new(takeover).events_of(stream, cuts));
    }
}

fn check_splits(stream: &[u8], events_of: impl Fn(&[usize]) -> Vec<Event>) {
    let whole = events_of(&[]);
    for cut in 0..=stream.len() {
        assert_eq!(events_of(&[cut]), whole, "cut at {cut}: {stream:x?}");
    }
    let every_byte: Vec<_> = (0..stream.len()).collect();
    assert_eq!(events_of(&every_byte), whole, "{stream:x?}");
}

#[test]
fn a_conversation() {
    let stream = [REQUEST, &conversation()].concat();
    assert_eq!(events_of(Session::new(), &stream, &[]).len(), 8);
    check_two_way_splits(Session::new, &stream);
}

#[test]
fn requests_that_are_rejected() {
    let request = String::from_utf8(REQUEST.to_vec()).unwrap();
    let cases = [
        request.replace("GET", "PUT"),
        request.replace("Host: a", "Host: a\n\n"),
        request.replace("13", "7"),
        request.replace("Host: a", &format!("X: {}", "x".repeat(600))),
        request.replace("Host: a\r\n", &"X: y\r\n".repeat(20)),
        "\r\n\r\n".to_owned(),
        "G\r\n\r\n".to_owned(),
    ];
    for case in cases {
        check_two_way_splits(Session::new, case.as_bytes());
    }
}

#[test]
fn violations() {
    for (stream, _) in faults() {
        check_two_way_splits(Session::opened, &[conversation_start(), stream].concat());
    }
}

#[test]
fn a_compressed_conversation() {
    let stream = [
        // RFC 7692 §7.2.3.1 in three fragments with a ping between, §7.2.3.4, and something plain.
        raw(0x41, b"\xf2\x48\xcd"),
        raw(0x89, b"between"),
        raw(0x00, b""),
        raw(0x80, b"\xc9\xc9\x07\x00"),
        raw(0xc1, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"),
        raw(0x81, b"plain"),
        raw(0xc2, b"\x00"),
        raw(0x88, b"\x03\xe8done"),
    ]
    .concat();
    let events = Agreed::new(false).events_of(&stream, &[]);
    let expected = [
        Event::Ping(b"between".to_vec()),
        Event::text("Hello"),
        Event::text("Hello"),
        Event::text("plain"),
        Event::Message(MessageKind::Binary, Vec::new()),
        Event::Close(Some(1000), "done".to_owned()),
    ];
    assert_eq!(events, expected);
    check_compressed_splits(&stream);
}

#[test]
fn violations_with_compressed_messages() {
    for (stream, violation) in compressed_faults() {
        let events = Agreed::new(false).events_of(&stream, &[]);
        assert_eq!(events, [Event::Violation(violation)], "{stream:x?}");
        check_compressed_splits(&[conversation_start(), stream].concat());
    }
}

/// Something valid before the violation.
fn conversation_start() -> Vec<u8> {
    let mut stream = Vec::new();
    encode_masked(Opcode::Text, true, [9, 8, 7, 6], b"hi", &mut stream);
    stream
}

proptest! {
    #[test]
    fn valid_streams(
        (stream, expected) in valid(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let cuts = cuts_within(&stream, &cuts);
        prop_assert_eq!(events_of(Session::opened(), &stream, &cuts), expected);
    }

    #[test]
    fn damaged_streams(
        stream in damaged(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let cuts = cuts_within(&stream, &cuts);
        let whole = events_of(Session::opened(), &stream, &[]);
        prop_assert_eq!(events_of(Session::opened(), &stream, &cuts), whole);
    }

    #[test]
    fn valid_compressed_streams(
        (takeover, stream, expected) in valid_compressed(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let cuts = cuts_within(&stream, &cuts);
        prop_assert_eq!(Agreed::new(takeover).events_of(&stream, &cuts), expected);
    }

    #[test]
    fn damaged_compressed_streams(
        (takeover, stream) in damaged_compressed(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let cuts = cuts_within(&stream, &cuts);
        let whole = Agreed::new(takeover).events_of(&stream, &[]);
        prop_assert_eq!(Agreed::new(takeover).events_of(&stream, &cuts), whole);
    }

    #[test]
    fn arbitrary_bytes(
        stream in prop::collection::vec(any::<u8>(), 0..80),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let cuts = cuts_within(&stream, &cuts);
        for session in [Session::new, Session::opened] {
            let whole = events_of(session(), &stream, &[]);
            prop_assert_eq!(events_of(session(), &stream, &cuts), whole);
        }
        for takeover in [false, true] {
            let whole = Agreed::new(takeover).events_of(&stream, &[]);
            prop_assert_eq!(Agreed::new(takeover).events_of(&stream, &cuts), whole);
        }
    }

    #[test]
    fn damaged_requests(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..3),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut stream = [REQUEST, &conversation()].concat();
        for (index, byte) in damage {
            stream[index.index(REQUEST.len())] = byte;
        }
        let cuts = cuts_within(&stream, &cuts);
        let whole = events_of(Session::new(), &stream, &[]);
        prop_assert_eq!(events_of(Session::new(), &stream, &cuts), whole);
    }
}
