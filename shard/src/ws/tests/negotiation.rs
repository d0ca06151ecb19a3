//! What is agreed about compressed messages, offer by offer (RFC 6455 §9.1, RFC 7692 §5 and §7.1).

use proptest::prelude::*;

use super::*;
use crate::ws::deflate::Agreement;

/// Each message by itself, the largest windows: what costs an idle connection nothing.
const WITHOUT_TAKEOVER: Policy = Policy {
    server_window_bits: 15,
    client_window_bits: 15,
    server_takeover: false,
    client_takeover: false,
};

/// Takes over on both sides.
const WITH_TAKEOVER: Policy = Policy {
    server_takeover: true,
    client_takeover: true,
    ..WITHOUT_TAKEOVER
};

/// A request with these lines of headers.
fn request(lines: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
}

/// What the policy makes of one header with this value, and the value of the answer's.
fn negotiate(policy: Policy, offers: &str) -> Option<(Agreement, String)> {
    negotiate_lines(policy, &format!("Sec-WebSocket-Extensions: {offers}\r\n"))
}

fn negotiate_lines(policy: Policy, lines: &str) -> Option<(Agreement, String)> {
    let mut received = request(lines).into_bytes();
    let (mut session, mut inflater) = (Session::new(), Inflater::shared());
    let incoming = session.next(&mut Input::new(&mut received), &LIMITS, &mut inflater);
    let Some(Incoming::Upgrade(request)) = incoming else {
        panic!("{lines}{incoming:?}");
    };
    let agreement = policy.negotiate(&request);
    let response = handshake::response(&request, None, agreement.as_ref());
    let response = std::str::from_utf8(&response).unwrap();
    let answers: Vec<_> = response
        .lines()
        .filter_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "))
        .collect();
    assert!(response.ends_with("\r\n\r\n"));
    assert_eq!(answers.len(), usize::from(agreement.is_some()));
    agreement.map(|agreement| (agreement, answers[0].to_owned()))
}

/// The answer alone.
fn answer(policy: Policy, offers: &str) -> Option<String> {
    negotiate(policy, offers).map(|(_, answer)| answer)
}

#[test]
fn answers_to_offers() {
    let smaller = Policy {
        server_window_bits: 12,
        client_window_bits: 11,
        ..WITH_TAKEOVER
    };
    let none = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let cases: &[(Policy, &str, Option<&str>)] = &[
        // What browsers send.
        (
            WITHOUT_TAKEOVER,
            "permessage-deflate; client_max_window_bits",
            Some(none),
        ),
        (
            WITH_TAKEOVER,
            "permessage-deflate; client_max_window_bits",
            Some("permessage-deflate"),
        ),
        (WITHOUT_TAKEOVER, "permessage-deflate", Some(none)),
        (WITHOUT_TAKEOVER, "", None),
        (WITHOUT_TAKEOVER, "x-webkit-deflate-frame", None),
        (WITHOUT_TAKEOVER, "Permessage-Deflate", None),
        // What a client does not want taken over is not.
        (
            WITH_TAKEOVER,
            "permessage-deflate; server_no_context_takeover",
            Some("permessage-deflate; server_no_context_takeover"),
        ),
        (
            WITH_TAKEOVER,
            "permessage-deflate; client_no_context_takeover",
            Some("permessage-deflate; client_no_context_takeover"),
        ),
        // A window that the client names is answered, the largest too.
        (
            WITH_TAKEOVER,
            "permessage-deflate; server_max_window_bits=15",
            Some("permessage-deflate; server_max_window_bits=15"),
        ),
        (
            WITH_TAKEOVER,
            "permessage-deflate; server_max_window_bits=8",
            Some("permessage-deflate; server_max_window_bits=8"),
        ),
        (
            smaller,
            "permessage-deflate; server_max_window_bits=\"10\"; client_max_window_bits",
            Some("permessage-deflate; server_max_window_bits=10; client_max_window_bits=11"),
        ),
        (
            smaller,
            "permessage-deflate; server_max_window_bits=13; client_max_window_bits=\"1\\0\"",
            Some("permessage-deflate; server_max_window_bits=12; client_max_window_bits=10"),
        ),
        // A smaller window of the server's own needs no offer, one of the client's does.
        (
            smaller,
            "permessage-deflate; client_max_window_bits=15",
            Some("permessage-deflate; server_max_window_bits=12; client_max_window_bits=11"),
        ),
        (smaller, "permessage-deflate", None),
        (
            WITH_TAKEOVER,
            "permessage-deflate; client_max_window_bits=9",
            Some("permessage-deflate; client_max_window_bits=9"),
        ),
    ];
    for (policy, offers, expected) in cases {
        assert_eq!(answer(*policy, offers).as_deref(), *expected, "{offers}");
    }
}

#[test]
fn what_is_agreed_is_what_the_answer_says() {
    let offers = "permessage-deflate; client_max_window_bits=12; server_max_window_bits=10; \
        client_no_context_takeover";
    let (agreement, answer) = negotiate(WITH_TAKEOVER, offers).unwrap();
    let expected = Agreement {
        server_window_bits: 10,
        client_window_bits: 12,
        server_takeover: true,
        client_takeover: false,
        server_window_named: true,
    };
    assert_eq!(agreement, expected);
    assert_eq!(
        answer,
        "permessage-deflate; client_no_context_takeover; server_max_window_bits=10; \
        client_max_window_bits=12"
    );
}

#[test]
fn an_offer_with_a_parameter_that_is_not_understood_is_declined() {
    let parameters = [
        "x",
        "x=1",
        "Server_No_Context_Takeover",
        "server_no_context_takeover=1",
        "server_no_context_takeover=true",
        "client_no_context_takeover=\"x\"",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=08",
        "server_max_window_bits=+9",
        "server_max_window_bits=9.0",
        "server_max_window_bits=0x9",
        "server_max_window_bits=265",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=\"010\"",
        "client_max_window_bits; client_max_window_bits",
        "client_max_window_bits; client_max_window_bits=15",
        "client_max_window_bits=15; client_max_window_bits",
    ];
    for parameters in parameters {
        let alone = format!("permessage-deflate; {parameters}");
        assert_eq!(answer(WITH_TAKEOVER, &alone), None, "{alone}");
        // The next offer counts.
        let followed = format!("{alone}, permessage-deflate; server_max_window_bits=9");
        assert_eq!(
            answer(WITH_TAKEOVER, &followed).as_deref(),
            Some("permessage-deflate; server_max_window_bits=9"),
            "{followed}"
        );
    }
}

#[test]
fn the_first_acceptable_offer_of_all_lines_counts() {
    let lines = "Sec-WebSocket-Extensions: x-other; a=\"b\", ,permessage-deflate;z\r\n\
        X-Between: y\r\n\
        sec-websocket-extensions:\r\n\
        SEC-WEBSOCKET-EXTENSIONS:\tpermessage-deflate ;\tserver_max_window_bits = 11 , permessage-deflate\r\n";
    let (_, answer) = negotiate_lines(WITH_TAKEOVER, lines).unwrap();
    assert_eq!(answer, "permessage-deflate; server_max_window_bits=11");
    assert!(negotiate_lines(WITH_TAKEOVER, "").is_none());
}

#[test]
fn windows_of_a_policy_that_are_none_count_as_the_nearest() {
    let odd = Policy {
        server_window_bits: 0,
        client_window_bits: 99,
        ..WITH_TAKEOVER
    };
    assert_eq!(
        answer(odd, "permessage-deflate").as_deref(),
        Some("permessage-deflate; server_max_window_bits=8")
    );
}

#[test]
fn a_header_that_breaks_the_grammar_is_rejected() {
    let values = [
        "permessage-deflate;",
        "permessage-deflate; ",
        "permessage-deflate;; server_no_context_takeover",
        "; server_no_context_takeover",
        "permessage deflate",
        "permessage-deflate; a b",
        "permessage-deflate; a=",
        "permessage-deflate; =1",
        "permessage-deflate; a=b=c",
        "permessage-deflate; a=\"",
        "permessage-deflate; a=\"b",
        "permessage-deflate; a=b\"",
        "permessage-deflate; a=\"b\"c",
        "permessage-deflate; a=\"\"",
        "permessage-deflate; a=\"b c\"",
        "permessage-deflate; a=\"b,c\"",
        "permessage-deflate; a=\"b;c\"",
        "permessage-deflate; a=\"b\\\"c\"",
        "permessage-deflate; a=\"b\\",
        "permessage-deflate=1",
        "permessage-deflate; ä=1",
        "x, y; z;",
        "\"permessage-deflate\"",
        "permessage-deflate/1",
    ];
    for value in values {
        let request = request(&format!("Sec-WebSocket-Extensions: {value}\r\n"));
        let events = events_of(Session::new(), request.as_bytes(), &[]);
        assert_eq!(events, [Event::Rejected(Rejection::Extensions)], "{value}");
        // In any of the lines.
        let request = request.replace(
            "Sec-WebSocket-Extensions",
            "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Extensions",
        );
        let events = events_of(Session::new(), request.as_bytes(), &[]);
        assert_eq!(events, [Event::Rejected(Rejection::Extensions)], "{value}");
    }
    let mut request = request("Sec-WebSocket-Extensions: a\x01\r\n").into_bytes();
    let position = request.iter().position(|byte| *byte == 1).unwrap();
    request[position] = 0xff;
    let events = events_of(Session::new(), &request, &[]);
    assert_eq!(events, [Event::Rejected(Rejection::Extensions)]);
}

proptest! {
    #[test]
    fn whatever_is_offered_the_answer_keeps_to_it(
        bits in (7_u8..17, 7_u8..17),
        takeover in (any::<bool>(), any::<bool>()),
        parameters in prop::collection::vec((0..4_usize, prop::option::of(7_u8..17)), 0..5),
    ) {
        let policy = Policy {
            server_window_bits: bits.0,
            client_window_bits: bits.1,
            server_takeover: takeover.0,
            client_takeover: takeover.1,
        };
        let names = [
            "server_no_context_takeover",
            "client_no_context_takeover",
            "server_max_window_bits",
            "client_max_window_bits",
        ];
        let offered = |name: usize| parameters.iter().find(|(offered, _)| *offered == name);
        let mut offer = "permessage-deflate".to_owned();
        for (name, bits) in &parameters {
            offer += "; ";
            offer += names[*name];
            if let Some(bits) = bits {
                offer += &format!("={bits}");
            }
        }
        if let Some((agreement, answer)) = negotiate(policy, &offer) {
            let largest = |name| offered(name).and_then(|(_, bits)| *bits).unwrap_or(15);
            prop_assert!(agreement.server_window_bits <= largest(2).min(policy.server_window_bits.max(8)));
            prop_assert!(agreement.client_window_bits <= largest(3).min(policy.client_window_bits.max(8)));
            prop_assert!(agreement.server_window_bits >= 8 && agreement.client_window_bits >= 8);
            prop_assert!(!agreement.server_takeover || offered(0).is_none() && policy.server_takeover);
            prop_assert!(!agreement.client_takeover || offered(1).is_none() && policy.client_takeover);
            // What the client did not offer it is not told, and what it asked for it is answered.
            prop_assert!(!answer.contains(names[3]) || offered(3).is_some());
            prop_assert!(answer.contains(names[2]) || offered(2).is_none());
            prop_assert!(answer.contains(names[0]) || offered(0).is_none());
            // The answer says what was agreed.
            prop_assert_eq!(answer.contains(names[0]), !agreement.server_takeover);
            prop_assert_eq!(answer.contains(names[1]), !agreement.client_takeover);
        }
    }
}
