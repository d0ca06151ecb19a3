//! The rules of RFC 6455 §4, case by case, and the bytes of the answers.

use super::streams::raw;
use super::*;

/// The request of RFC 6455 §1.2.
const REQUEST: &str = "GET /chat HTTP/1.1\r\n\
    Host: server.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Origin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

fn with_request<R>(request: &str, check: impl FnOnce(&UpgradeRequest<'_>) -> R) -> R {
    let mut received = request.as_bytes().to_vec();
    let mut session = Session::new();
    match session.next(
        &mut Input::new(&mut received),
        &LIMITS,
        &mut Inflater::shared(),
    ) {
        Some(Incoming::Upgrade(request)) => check(&request),
        other => panic!("{request}{other:?}"),
    }
}

#[test]
fn the_example_of_the_rfc() {
    with_request(REQUEST, |request| {
        assert_eq!(request.path(), "/chat");
        assert_eq!(request.query(), None);
        assert_eq!(request.host(), "server.example.com");
        assert_eq!(request.origin(), Some("http://example.com"));
        assert_eq!(
            request.protocols().collect::<Vec<_>>(),
            ["chat", "superchat"]
        );
        assert_eq!(request.extensions().count(), 0);
        let answer = handshake::response(request, Some("chat"), None);
        assert_eq!(
            std::str::from_utf8(&answer).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\n\
             Upgrade: websocket\r\n\
             Connection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Sec-WebSocket-Protocol: chat\r\n\r\n"
        );
    });
}

#[test]
fn a_protocol_that_was_not_offered_is_not_named() {
    let odd = REQUEST.replace("chat, superchat", "chat, no token");
    with_request(&odd, |request| {
        for protocol in [
            None,
            Some("other"),
            Some("no token"),
            Some("x\r\nSet-Cookie: a=b"),
            Some(""),
        ] {
            let answer = handshake::response(request, protocol, None);
            let answer = std::str::from_utf8(&answer).unwrap();
            assert!(!answer.contains("Sec-WebSocket-Protocol"), "{answer}");
            assert_eq!(answer.matches("\r\n").count(), 5);
        }
    });
}

#[test]
fn requests_in_other_forms() {
    let cases = [
        ("Upgrade: websocket", "upgrade:WebSocket , h2c\t"),
        ("Connection: Upgrade", "Connection: keep-alive, UPGRADE"),
        (
            "Connection: Upgrade",
            "Connection: keep-alive\r\nConnection: upgrade",
        ),
        ("Origin: http://example.com", "X-Name: \u{fc}"),
        ("GET /chat", "GET http://server.example.com/chat"),
        ("GET /chat", "GET ws://server.example.com/chat?a"),
        // The 22nd digit has four bits to spare.
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZR=="),
    ];
    for (part, other) in cases {
        assert!(REQUEST.contains(part));
        with_request(&REQUEST.replace(part, other), |request| {
            assert_eq!(request.path(), "/chat");
        });
    }
    let bare = REQUEST.replace("GET /chat", "GET http://server.example.com?x=1");
    with_request(&bare, |request| {
        assert_eq!((request.path(), request.query()), ("/", Some("x=1")));
    });
}

#[test]
fn requests_that_are_rejected() {
    use Rejection::*;
    let many = "X: y\r\n".repeat(16);
    let cases: &[(&str, &str, Rejection)] = &[
        ("GET /chat", "POST /chat", Method),
        ("GET /chat", "GETX /chat", Method),
        ("GET /chat", "HEAD /chat", Method),
        ("GET /chat", "get /chat", Malformed),
        ("GET /chat", "\r\nGET /chat", Malformed),
        ("GET /chat", "\x16\x03\x01", Malformed),
        ("GET /chat", "GET *", Malformed),
        ("GET /chat", "GET chat", Malformed),
        ("GET /chat", "GET file://server/chat", Malformed),
        ("HTTP/1.1", "HTTP/1.0", HttpVersion),
        ("HTTP/1.1", "HTTP/2.0", Malformed),
        ("Host: server.example.com", "Host : x", Malformed),
        ("Host: server.example.com", "Host: a\0b", Malformed),
        ("Host: server.example.com", " folded: x", Malformed),
        ("Host: server.example.com", "X: y\n\n", Malformed),
        ("Host: server.example.com\r\n", "", Host),
        ("Host: server.example.com", "Host:", Host),
        ("Host: server.example.com", "Host: a\r\nHost: b", Host),
        ("Upgrade: websocket\r\n", "", NotUpgrade),
        ("Upgrade: websocket", "Upgrade: h2c", Upgrade),
        ("Upgrade: websocket", "Upgrade: websockets", Upgrade),
        ("Connection: Upgrade\r\n", "", Connection),
        ("Connection: Upgrade", "Connection: keep-alive", Connection),
        ("Version: 13\r\n", "Version: 8\r\n", Version),
        ("Version: 13\r\n", "Version: 13, 8\r\n", Version),
        ("Sec-WebSocket-Version: 13\r\n", "", Version),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", Key),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", Key),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQQ=", Key),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhl HNhbXBsZSBub25jZQ==", Key),
        (
            "Origin:",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin:",
            Key,
        ),
        (
            "Origin:",
            "Sec-WebSocket-Extensions: a;\r\nOrigin:",
            Extensions,
        ),
        (
            "Origin: http",
            &format!("{many}Origin: http"),
            TooManyHeaders,
        ),
        (
            "Origin: http",
            &format!("Origin: {}", "x".repeat(512)),
            TooLarge,
        ),
    ];
    for (part, other, expected) in cases {
        assert!(REQUEST.contains(part), "{part}");
        let request = REQUEST.replace(part, other);
        let events = events_of(Session::new(), request.as_bytes(), &[]);
        assert_eq!(events, [Event::Rejected(*expected)], "{request}");
    }
}

#[test]
fn a_request_may_be_as_large_as_the_limit() {
    let padded = |size: usize| {
        let padding = size - REQUEST.len() - "X: \r\n".len();
        REQUEST.replace("Origin", &format!("X: {}\r\nOrigin", "x".repeat(padding)))
    };
    let size_max = LIMITS.handshake_size_max;
    let largest = padded(size_max);
    assert_eq!(largest.len(), size_max);
    with_request(&largest, |_| {});
    // Too large is known when the last permitted byte is not the end.
    let larger = padded(size_max + 1);
    let events = events_of(Session::new(), &larger.as_bytes()[..size_max], &[]);
    assert_eq!(events, [Event::Rejected(Rejection::TooLarge)]);
}

#[test]
fn what_is_not_http_is_rejected_at_its_first_byte() {
    let events = events_of(Session::new(), b"\x16", &[]);
    assert_eq!(events, [Event::Rejected(Rejection::Malformed)]);
}

#[test]
fn query_values() {
    let query = "user=ada&na%6de=J%c3%bcrgen+M%C3%BCller&flag&empty=&bad=%ff&odd=100%&odd2=%4&odd3=%zz&twice=1&twice=2&eq=a=b&%ff=x";
    let request = REQUEST.replace("/chat", &format!("/chat?{query}"));
    let limits = SessionLimits {
        handshake_size_max: 4096,
        ..LIMITS
    };
    let mut received = request.into_bytes();
    let (mut session, mut inflater) = (Session::new(), Inflater::shared());
    let mut input = Input::new(&mut received);
    let Some(Incoming::Upgrade(request)) = session.next(&mut input, &limits, &mut inflater) else {
        panic!("rejected");
    };
    assert_eq!(request.query(), Some(query));
    let cases = [
        ("user", Some("ada")),
        ("name", Some("Jürgen Müller")),
        ("flag", Some("")),
        ("empty", Some("")),
        ("bad", None),
        ("odd", Some("100%")),
        ("odd2", Some("%4")),
        ("odd3", Some("%zz")),
        ("twice", Some("1")),
        ("eq", Some("a=b")),
        ("missing", None),
    ];
    for (name, expected) in cases {
        assert_eq!(request.query_value(name).as_deref(), expected, "{name}");
    }
    let user = request.query_value("user");
    assert!(matches!(user, Some(std::borrow::Cow::Borrowed(_))));
}

#[test]
fn headers() {
    let request = REQUEST
        .replace("Origin:", "X-Token:  \t a b \t\r\nx-token: second\r\nOrigin:")
        .replace("Sec-WebSocket-Version", "Sec-WebSocket-Protocol: ,third,\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x\r\nSec-WebSocket-Version");
    with_request(&request, |request| {
        assert_eq!(request.header("X-TOKEN"), Some("a b"));
        assert_eq!(request.header("X-Other"), None);
        assert_eq!(request.key(), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(
            request.protocols().collect::<Vec<_>>(),
            ["chat", "superchat", "third"]
        );
        let extensions: Vec<_> = request.extensions().collect();
        assert_eq!(
            extensions,
            ["permessage-deflate; client_max_window_bits", "x"]
        );
    });
    let mut received = REQUEST.replace("http://example.com", "\u{1}").into_bytes();
    let position = received.iter().position(|byte| *byte == 1).unwrap();
    received[position] = 0xff;
    let mut session = Session::new();
    match session.next(
        &mut Input::new(&mut received),
        &LIMITS,
        &mut Inflater::shared(),
    ) {
        Some(Incoming::Upgrade(request)) => assert_eq!(request.origin(), None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn frames_right_after_the_request_are_decoded() {
    let mut stream = REQUEST.as_bytes().to_vec();
    frame::encode_masked(
        frame::Opcode::Text,
        true,
        [1, 2, 3, 4],
        b"early",
        &mut stream,
    );
    let events = events_of(Session::new(), &stream, &[]);
    let [Event::Upgrade { path, key, .. }, early] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (path.as_str(), key.as_str()),
        ("/chat", "dGhlIHNhbXBsZSBub25jZQ==")
    );
    assert_eq!(*early, Event::text("early"));
}

#[test]
fn compressed_frames_right_after_the_request_are_decoded() {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\nOrigin";
    let mut stream = REQUEST.replace("Origin", offer).into_bytes();
    stream.extend(raw(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"));
    let policy = Policy {
        server_window_bits: 15,
        client_window_bits: 15,
        server_takeover: false,
        client_takeover: false,
    };
    let (mut session, mut inflater) = (Session::new(), Inflater::shared());
    let mut input = Input::new(&mut stream);
    let agreement = match session.next(&mut input, &LIMITS, &mut inflater) {
        Some(Incoming::Upgrade(request)) => {
            let agreement = policy.negotiate(&request).unwrap();
            let answer = handshake::response(&request, None, Some(&agreement));
            assert!(answer.ends_with(
                b"\r\nSec-WebSocket-Extensions: permessage-deflate; \
                server_no_context_takeover; client_no_context_takeover\r\n\r\n"
            ));
            agreement
        }
        other => panic!("{other:?}"),
    };
    session.agree(agreement);
    match session.next(&mut input, &LIMITS, &mut inflater) {
        Some(Incoming::Message(message)) => assert_eq!(message.payload, b"Hello"),
        other => panic!("{other:?}"),
    }
    assert!(session.next(&mut input, &LIMITS, &mut inflater).is_none());
}

/// Reads an answer with an HTTP parser: status, and headers by lower-case name; checks what every error answer has.
fn parse_error(answer: &[u8]) -> (u16, Vec<(String, String)>, String) {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(size) = response.parse(answer).unwrap() else {
        panic!("cut off");
    };
    let body = std::str::from_utf8(&answer[size..]).unwrap().to_owned();
    let headers: Vec<_> = response
        .headers
        .iter()
        .map(|header| {
            let value = std::str::from_utf8(header.value).unwrap();
            (header.name.to_ascii_lowercase(), value.to_owned())
        })
        .collect();
    for (name, value) in [
        ("connection", "close"),
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", &body.len().to_string()),
    ] {
        assert!(
            headers.contains(&(name.to_owned(), value.to_owned())),
            "{name}: {headers:?}"
        );
    }
    assert!(!response.reason.unwrap().is_empty());
    (response.code.unwrap(), headers, body)
}

#[test]
fn answers_to_rejections() {
    use Rejection::*;
    type Case<'a> = (&'a [Rejection], u16, &'a [(&'a str, &'a str)]);
    let cases: &[Case<'_>] = &[
        (
            &[
                Malformed,
                HttpVersion,
                Host,
                Upgrade,
                Connection,
                Key,
                Extensions,
            ],
            400,
            &[],
        ),
        (&[Method], 405, &[("allow", "GET")]),
        (&[TimedOut], 408, &[]),
        (
            &[NotUpgrade, Version],
            426,
            &[
                ("sec-websocket-version", "13"),
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
            ],
        ),
        (&[TooLarge, TooManyHeaders], 431, &[]),
    ];
    for (rejections, status, expected) in cases {
        for rejection in *rejections {
            let (code, headers, body) = parse_error(&rejection.response());
            assert_eq!(code, *status);
            assert_eq!(rejection.status().0, *status);
            assert_eq!(body.trim_end(), rejection.to_string());
            assert_eq!(headers.len(), 3 + expected.len());
            for (name, value) in *expected {
                assert!(
                    headers.contains(&((*name).to_owned(), (*value).to_owned())),
                    "{headers:?}"
                );
            }
        }
    }
}

#[test]
fn answers_to_refused_upgrades() {
    use RefusalStatus::*;
    let cases = [
        (Refusal::new(BadRequest, "user name too long"), 400, None),
        (
            Refusal::new(Unauthorized, "no token"),
            401,
            Some(("www-authenticate", "Bearer")),
        ),
        (
            Refusal::invalid_token("the token has expired"),
            401,
            Some((
                "www-authenticate",
                r#"Bearer error="invalid_token", error_description="the token has expired""#,
            )),
        ),
        (
            // Nothing ends the quotes or the line.
            Refusal::invalid_token("a\"b\\c\r\nX: y é"),
            401,
            Some((
                "www-authenticate",
                r#"Bearer error="invalid_token", error_description="abcX: y ""#,
            )),
        ),
        (Refusal::new(Forbidden, "origin not allowed"), 403, None),
        (Refusal::new(NotFound, "nothing here"), 404, None),
        (
            Refusal::new(TooManyRequests, "slow down").retry_after(5),
            429,
            Some(("retry-after", "5")),
        ),
        (
            Refusal::new(Unavailable, String::from("voll: später")),
            503,
            None,
        ),
        (
            Refusal::new(Unavailable, "full").retry_after(30),
            503,
            Some(("retry-after", "30")),
        ),
    ];
    for (refusal, status, header) in cases {
        let (code, headers, body) = parse_error(&refusal.response());
        assert_eq!(code, status);
        assert_eq!(body.trim_end(), refusal.text);
        assert_eq!(headers.len(), 3 + usize::from(header.is_some()));
        if let Some((name, value)) = header {
            assert!(headers.contains(&(name.to_owned(), value.to_owned())));
        }
    }
}
