//! Tungstenite decodes the same streams and must see the same.

use proptest::prelude::*;

use super::streams::{cuts_within, damaged, faults, valid};
use super::*;
use crate::ws::oracle::{assert_agreement, session_events, tungstenite_events};

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
    match session.next(
        &mut Input::new(&mut received),
        &LIMITS,
        &mut Inflater::shared(),
    ) {
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
        assert_agreement(&stream, &cuts_within(&stream, &cuts));
    }
}
