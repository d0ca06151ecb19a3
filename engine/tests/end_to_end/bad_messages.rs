//! Bad input after the handshake: what breaks the protocol closes its own connection with the code that
//! says why; what is only a bad request is answered, and the connection stays.

use serde_json::{Value, json};
use std::time::{Duration, Instant};

use crate::client::{Client, number};
use crate::raw::{
    CLOSE, CONTINUATION, FINAL_BINARY, FINAL_CONTINUATION, FINAL_TEXT, PING, RawClient, TEXT,
    frame, header,
};
use crate::server::Server;

/// What the server answers to these bytes from a connection that is a member of a room.
fn close_after(server: &Server, bytes: &[u8]) -> (u16, String) {
    let mut client = RawClient::open(server.port(), "mallory");
    client.send(&json!({"type": "join", "room": "hall"}));
    client.expect("joined");
    client.send_bytes(bytes);
    client.expect_close()
}

#[test]
fn frames_that_break_the_protocol_close_with_the_code_of_the_rfc() {
    let server = Server::start(&["--shards", "2", "--message-size-max", "1000"]);
    let mut witness = Client::connect(&server, "witness");
    witness.join("hall");

    let text_start = frame(TEXT, br#"{"type":"#);
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("an unmasked frame", vec![FINAL_TEXT, 2, b'{', b'}'], 1002),
        ("a reserved bit", frame(FINAL_TEXT | 0x40, b"{}"), 1002),
        (
            "another reserved bit",
            frame(FINAL_TEXT | 0x10, b"{}"),
            1002,
        ),
        ("a reserved opcode for data", frame(0x83, b"{}"), 1002),
        ("a reserved opcode for control", frame(0x8b, b""), 1002),
        ("a ping in fragments", frame(0x09, b"ping"), 1002),
        ("too long a ping", frame(PING, &[b'p'; 126]), 1002),
        (
            "a continuation of nothing",
            frame(FINAL_CONTINUATION, b"{}"),
            1002,
        ),
        (
            "a new message within another",
            [text_start.clone(), frame(FINAL_TEXT, b"{}")].concat(),
            1002,
        ),
        ("a close frame of one byte", frame(CLOSE, &[3]), 1002),
        (
            "a close code that is not for use",
            frame(CLOSE, &1005_u16.to_be_bytes()),
            1002,
        ),
        (
            "a length with its highest bit set",
            header(FINAL_TEXT, 1 << 63),
            1002,
        ),
        (
            "text that is not UTF-8",
            frame(FINAL_TEXT, b"{\"type\":\"\xff\"}"),
            1007,
        ),
        (
            "text that ends within a character",
            frame(FINAL_TEXT, b"{\"type\":\"\xe2\x82"),
            1007,
        ),
        ("a surrogate", frame(FINAL_TEXT, b"\"\xed\xa0\x80\""), 1007),
        (
            "a close reason that is not UTF-8",
            frame(CLOSE, b"\x03\xe8\xff"),
            1007,
        ),
        (
            "a message that claims to be too large",
            header(FINAL_TEXT, 1001),
            1009,
        ),
        (
            "a message that claims to be huge",
            header(FINAL_TEXT, 1 << 40),
            1009,
        ),
        (
            "fragments that are too large together",
            [frame(TEXT, &[b' '; 600]), frame(CONTINUATION, &[b' '; 600])].concat(),
            1009,
        ),
    ];
    for (what, bytes, expected) in cases {
        let (code, reason) = close_after(&server, &bytes);
        assert_eq!(code, expected, "{what}: {reason}");
    }

    witness.publish("hall", &json!("still here"));
    assert_eq!(witness.expect("message")["content"], "still here");
}

#[test]
fn a_close_frame_is_answered_with_its_own_code() {
    let server = Server::start(&["--shards", "2"]);
    for (payload, expected) in [
        (&b"\x03\xe8"[..], 1000),
        (b"\x03\xe9going", 1001),
        (b"\x0f\xa0own", 4000),
    ] {
        let mut client = RawClient::open(server.port(), "ada");
        client.send_frame(CLOSE, payload);
        assert_eq!(client.expect_close().0, expected);
    }
}

#[test]
fn text_that_is_not_an_object_and_binary_messages_close_with_1003() {
    let server = Server::start(&["--shards", "2"]);
    let texts = [
        "",
        " ",
        "hello",
        "{",
        "}",
        "[1,2]",
        "\"text\"",
        "17",
        "null",
        r#"{"type":"heartbeat""#,
        r#"{"type":"heartbeat"}{}"#,
        r#"{'type':'heartbeat'}"#,
        r#"{"type":"heartbeat",}"#,
        r#"{"type":"message","room":"hall","content":01}"#,
        r#"{"type":"message","room":"hall","content":}"#,
    ];
    for text in texts {
        let (code, reason) = close_after(&server, &frame(FINAL_TEXT, text.as_bytes()));
        assert_eq!(
            (code, reason.as_str()),
            (1003, "malformed message"),
            "{text:?}"
        );
    }
    let nested = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let (code, _) = close_after(&server, &frame(FINAL_TEXT, nested.as_bytes()));
    assert_eq!(code, 1003, "deeply nested");
    let (code, _) = close_after(&server, &frame(FINAL_BINARY, br#"{"type":"heartbeat"}"#));
    assert_eq!(code, 1003, "a binary message");
}

#[test]
fn a_bad_request_is_answered_and_the_connection_stays() {
    let server = Server::start(&["--shards", "2"]);
    let mut ada = Client::connect(&server, "ada");
    ada.join("hall");
    let long = "x".repeat(256);
    let requests: Vec<Value> = vec![
        json!({}),
        json!({"type": 7}),
        json!({"type": null}),
        json!({"type": "nonsense"}),
        json!({"type": "join"}),
        json!({"type": "join", "room": 5}),
        json!({"type": "join", "room": ""}),
        json!({"type": "join", "room": long}),
        json!({"type": "join", "room": "x", "since": 5}),
        json!({"type": "join", "room": "x", "since": {"epoch": "y", "seq": 1}}),
        json!({"type": "leave"}),
        json!({"type": "message", "room": "hall"}),
        json!({"type": "message", "content": 1}),
        json!({"type": "message", "room": ["hall"], "content": 1}),
        json!({"type": "message", "room": "hall", "content": 1, "id": "x".repeat(65)}),
        json!({"type": "direct", "content": 1}),
        json!({"type": "direct", "to": "bob"}),
        json!({"type": "direct", "to": long, "content": 1}),
        json!({"type": "presence"}),
        json!({"type": "history", "limit": 3}),
        json!({"type": "history", "room": "hall", "limit": -1}),
    ];
    for request in requests {
        ada.send(&request);
        let answer = ada.expect("error");
        assert_eq!(
            answer["code"], "bad_request",
            "{request} was answered with {answer}"
        );
        assert!(answer["message"].is_string(), "{answer}");
        ada.heartbeat();
    }
    ada.publish("hall", &json!("fine"));
    let message = ada.expect("message");
    assert_eq!(
        (&message["content"], &message["seq"]),
        (&json!("fine"), &json!(1))
    );
}

#[test]
fn too_many_rooms_are_refused_one_by_one() {
    let server = Server::start(&["--shards", "2", "--rooms-per-connection-max", "3"]);
    let mut ada = Client::connect(&server, "ada");
    for room in ["a", "b", "c"] {
        ada.join(room);
    }
    ada.send(&json!({"type": "join", "room": "d"}));
    assert_eq!(ada.expect("error")["code"], "too_many_rooms");
    ada.send(&json!({"type": "leave", "room": "a"}));
    ada.expect("left");
    ada.join("d");
}

#[test]
fn beyond_its_rate_a_connection_is_told_and_slowed_and_loses_nothing() {
    const MESSAGES: u64 = 100;
    let server = Server::start(&[
        "--shards",
        "2",
        "--messages-per-second-max",
        "50",
        "--messages-burst-max",
        "20",
    ]);
    let mut ada = Client::connect(&server, "ada");
    let mut bob = Client::connect(&server, "bob");
    ada.join("hall");
    bob.join("hall");
    let start = Instant::now();
    for content in 1..=MESSAGES {
        ada.publish("hall", &json!(content));
    }
    assert_eq!(ada.expect("error")["code"], "rate_limited");
    // Others are not slowed with it.
    bob.heartbeat();
    for content in 1..=MESSAGES {
        for member in [&mut ada, &mut bob] {
            let message = member.expect("message");
            assert_eq!(
                (number(&message, "seq"), number(&message, "content")),
                (content, content)
            );
        }
    }
    // 100 messages, 20 of them at once and 50 a second after that, take 1.6 seconds.
    assert!(
        start.elapsed() > Duration::from_secs(1),
        "it was not slowed down"
    );
}

#[test]
fn a_connection_that_answers_no_heartbeat_closes_with_1001() {
    let server = Server::start(&["--shards", "2", "--heartbeat-ms", "100"]);
    let mut dead = RawClient::open(server.port(), "dead");
    let mut pings = 0;
    loop {
        let frame = dead
            .frame()
            .expect("the server goes on")
            .expect("no end yet");
        match frame.first {
            PING => pings += 1,
            CLOSE => {
                assert_eq!(frame.payload.first_chunk(), Some(&1001_u16.to_be_bytes()));
                break;
            }
            other => panic!("an unexpected frame {other:#x}"),
        }
    }
    assert_eq!(pings, 2, "two heartbeats may go unanswered");
    dead.expect_end_of_stream();
}

#[test]
fn a_connection_that_answers_heartbeats_stays() {
    let server = Server::start(&["--shards", "2", "--heartbeat-ms", "200"]);
    // tungstenite answers pings whenever it reads: a member that only listens.
    let mut listener = Client::connect(&server, "listener");
    listener.join("hall");
    // Any message counts as a sign of life, answered pings or not.
    let mut talker = RawClient::open(server.port(), "talker");
    let quiet_until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < quiet_until {
        listener.heartbeat();
        talker.send(&json!({"type": "heartbeat"}));
        std::thread::sleep(Duration::from_millis(50));
    }
    talker.expect("heartbeat");
    talker.send(&json!({"type": "join", "room": "hall"}));
    talker.expect("joined");
    assert_eq!(listener.expect("user_joined")["user"], "talker");
}
