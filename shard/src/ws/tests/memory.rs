//! What a session holds: never more than twice what arrived, never above the limits, nothing when idle.

use super::*;
use crate::ws::frame::{Opcode, encode_masked};

#[test]
fn an_idle_session_owns_nothing() {
    let mut session = Session::new();
    assert_eq!(session.buffered_bytes(), 0);
    let mut events = Vec::new();
    feed(&mut session, b"", &mut events);
    assert_eq!(session.buffered_bytes(), 0);
}

#[test]
fn a_message_is_held_as_it_arrives_and_freed_after_it() {
    let mut stream = Vec::new();
    encode_masked(Opcode::Binary, false, [1, 2, 3, 4], &[7; 500], &mut stream);
    encode_masked(Opcode::Ping, true, [1, 2, 3, 4], &[8; 125], &mut stream);
    encode_masked(
        Opcode::Continuation,
        true,
        [1, 2, 3, 4],
        &[9; 400],
        &mut stream,
    );
    let fixed = begun_bytes();
    for size in [1, 2, 3, 7, 64, 300] {
        let (mut session, mut events, mut arrived) = (Session::opened(), Vec::new(), 0);
        for piece in stream.chunks(size) {
            feed(&mut session, piece, &mut events);
            arrived += piece.len();
            let held = session.buffered_bytes();
            let bound = fixed + (2 * arrived).min(LIMITS.message_size_max);
            assert!(held <= bound, "{held} > {bound} at {arrived}");
            assert!(held > 0 || arrived == stream.len());
        }
        assert_eq!(events.len(), 2);
        assert_eq!(session.buffered_bytes(), 0);
    }
}

#[test]
fn an_announced_size_reserves_nothing() {
    let mut stream = Vec::new();
    encode_masked(Opcode::Binary, true, [0; 4], &[1; 1000], &mut stream);
    let mut session = Session::opened();
    let mut events = Vec::new();
    feed(&mut session, &stream[..8], &mut events);
    assert_eq!(session.buffered_bytes(), begun_bytes());
    feed(&mut session, &stream[8..12], &mut events);
    assert!(session.buffered_bytes() <= begun_bytes() + 8);
    feed(&mut session, &stream[12..900], &mut events);
    assert!(session.buffered_bytes() <= begun_bytes() + 1000);
    assert_eq!(events, []);
}

#[test]
fn a_payload_that_starts_with_its_own_input_is_not_copied() {
    let mut stream = Vec::new();
    encode_masked(
        Opcode::Text,
        true,
        [1, 2, 3, 4],
        b"in one piece",
        &mut stream,
    );
    let (header, payload) = stream.split_at_mut(6);
    let mut session = Session::opened();
    assert!(
        session
            .next(&mut Input::new(header), &LIMITS, &mut Inflater::shared())
            .is_none()
    );
    let address = payload.as_ptr();
    match session.next(&mut Input::new(payload), &LIMITS, &mut Inflater::shared()) {
        Some(Incoming::Message(message)) => assert_eq!(message.payload.as_ptr(), address),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_is_held_up_to_its_limit_and_freed_after_it() {
    let size_max = LIMITS.handshake_size_max;
    let endless = [b"GET /".to_vec(), vec![b'x'; 2 * size_max]].concat();
    let (mut session, mut events) = (Session::new(), Vec::new());
    for (index, byte) in endless.iter().enumerate() {
        feed(&mut session, &[*byte], &mut events);
        assert!(session.buffered_bytes() <= begun_bytes() + size_max);
        assert_eq!(events.is_empty(), index + 1 < size_max);
    }
    assert_eq!(events, [Event::Rejected(Rejection::TooLarge)]);
    assert_eq!(session.buffered_bytes(), 0);
}
