//! The rules of RFC 6455 §5 to §7, case by case.

use super::streams::{compressed_faults, faults};
use super::*;
use crate::ws::frame::{Opcode, encode_masked};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn frames(frames: &[(Opcode, bool, &[u8])]) -> Vec<u8> {
    let mut stream = Vec::new();
    for (opcode, fin, payload) in frames {
        encode_masked(*opcode, *fin, MASK, payload, &mut stream);
    }
    stream
}

#[test]
fn fragments_are_reported_in_groups_wherever_the_stream_is_cut() {
    let mut parts = vec![(Opcode::Text, false, &b"a"[..])];
    parts.extend([(Opcode::Continuation, false, &b""[..]); 38]);
    parts.push((Opcode::Continuation, true, b"b"));
    // The count begins anew with each message.
    let stream = frames(&[&parts[..], &parts[..]].concat());
    let message = [Event::Fragments, Event::Fragments, Event::text("ab")];
    let expected = [message.clone(), message].concat();
    for cut in 0..=stream.len() {
        let events = events_of(Session::opened(), &stream, &[cut]);
        assert_eq!(events, expected, "cut at {cut}");
    }
}

#[test]
fn valid_streams() {
    use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};
    let largest = vec![b'x'; LIMITS.message_size_max];
    type Case<'a> = (&'a [(Opcode, bool, &'a [u8])], Vec<Event>);
    let cases: &[Case<'_>] = &[
        (&[(Text, true, b"Hello")], vec![Event::text("Hello")]),
        (&[(Text, true, b"")], vec![Event::text("")]),
        (
            &[(Binary, true, &[0xff; 200])],
            vec![Event::Message(MessageKind::Binary, vec![0xff; 200])],
        ),
        (
            &[(Binary, true, &largest)],
            vec![Event::Message(MessageKind::Binary, largest.clone())],
        ),
        (
            &[
                (Text, false, &largest[..999]),
                (Continuation, true, &largest[999..]),
            ],
            vec![Event::Message(MessageKind::Text, largest.clone())],
        ),
        // A character may be cut by a fragment's end, and a fragment may be empty.
        (
            &[
                (Text, false, b"\xe2\x82"),
                (Continuation, false, b""),
                (Continuation, true, b"\xac"),
            ],
            vec![Event::text("€")],
        ),
        // Control frames between fragments come first.
        (
            &[
                (Text, false, b"a"),
                (Ping, true, b"p"),
                (Pong, true, &[7; 125]),
                (Continuation, true, b"b"),
            ],
            vec![
                Event::Ping(b"p".to_vec()),
                Event::Pong(vec![7; 125]),
                Event::text("ab"),
            ],
        ),
        (
            &[(Close, true, b"")],
            vec![Event::Close(None, String::new())],
        ),
        (
            &[(Text, false, b"never ends"), (Close, true, b"\x03\xe9bye")],
            vec![Event::Close(Some(1001), "bye".to_owned())],
        ),
        // Nothing after a close frame is looked at.
        (
            &[
                (Close, true, b"\x0f\xa0"),
                (Text, true, b"\xff"),
                (Continuation, true, b""),
            ],
            vec![Event::Close(Some(4000), String::new())],
        ),
    ];
    for (sent, expected) in cases {
        let stream = frames(sent);
        assert_eq!(events_of(Session::opened(), &stream, &[]), *expected);
    }
}

#[test]
fn every_violation_is_named_and_ends_the_session() {
    for (stream, violation) in faults() {
        let events = events_of(Session::opened(), &stream, &[]);
        assert_eq!(
            events.last(),
            Some(&Event::Violation(violation)),
            "{stream:x?}"
        );
    }
}

#[test]
fn violations_have_the_codes_of_the_rfc() {
    for (_, violation) in [faults(), compressed_faults()].concat() {
        let expected = match violation {
            Violation::InvalidText | Violation::InvalidDeflate => 1007,
            Violation::MessageTooLarge => 1009,
            _ => 1002,
        };
        assert_eq!(violation.code(), expected, "{violation}");
        assert!(close::may_be_sent(violation.code()));
    }
}

#[test]
fn violations_are_reported_before_the_frame_is_whole() {
    let invalid_text = frames(&[(
        Opcode::Text,
        true,
        &[&b"ab\xf4\x90"[..], &[b'x'; 300]].concat(),
    )]);
    let large = frames(&[(Opcode::Binary, true, &[0; 1001])]);
    let second = frames(&[
        (Opcode::Binary, false, &[0; 600]),
        (Opcode::Continuation, true, &[0; 401]),
    ]);
    let cases = [
        // The header of 8 bytes and as much of the text as shows that it is none.
        (&invalid_text, 8 + 4, Violation::InvalidText),
        (&large, 8, Violation::MessageTooLarge),
        (&second, 8 + 600 + 8, Violation::MessageTooLarge),
    ];
    for (stream, size, violation) in cases {
        let before = events_of(Session::opened(), &stream[..size - 1], &[]);
        assert_eq!(before, [], "{violation}");
        let at_once = events_of(Session::opened(), &stream[..size], &[]);
        assert_eq!(at_once, [Event::Violation(violation)]);
    }
}

#[test]
fn what_lies_whole_in_the_input_is_lent_from_it() {
    let mut stream = frames(&[
        (Opcode::Text, true, b"Hello"),
        (Opcode::Ping, true, b"p"),
        (Opcode::Binary, true, &[1; 300]),
    ]);
    let range = stream.as_ptr_range();
    let mut session = Session::opened();
    let mut input = Input::new(&mut stream);
    let mut count = 0;
    while let Some(incoming) = session.next(&mut input, &LIMITS, &mut Inflater::shared()) {
        let payload = match incoming {
            Incoming::Message(message) => message.payload.as_ptr(),
            Incoming::Ping(payload) => payload.as_ptr(),
            other => panic!("{other:?}"),
        };
        assert!(range.contains(&payload));
        count += 1;
        assert_eq!(session.buffered_bytes(), 0);
    }
    assert_eq!(count, 3);
}

#[test]
fn a_finished_session_yields_nothing() {
    let mut session = Session::opened();
    let mut events = Vec::new();
    let stream = frames(&[(Opcode::Text, false, b"begun")]);
    feed(&mut session, &stream, &mut events);
    assert!(session.is_open());
    assert!(session.buffered_bytes() > 0);
    session.finish();
    assert!(!session.is_open());
    assert_eq!(session.buffered_bytes(), 0);
    let mut more = frames(&[(Opcode::Text, true, b"more")]);
    assert!(
        session
            .next(&mut Input::new(&mut more), &LIMITS, &mut Inflater::shared())
            .is_none()
    );
}
