#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::hub::event::ErrorCode;

fn encoded(event: &Event) -> Value {
    let mut out = Vec::new();
    encode(event, &mut out);
    serde_json::from_slice(&out)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
}

fn message(target: Target, content: &'static str) -> Arc<Message> {
    Arc::new(Message {
        target,
        user: "ada".into(),
        content: Bytes::from_static(content.as_bytes()),
        seq: 7,
        timestamp_ms: 1_700_000_000_123,
    })
}

const POSITION: Position = Position {
    epoch: 9_007_199_254_740_991,
    seq: 42,
};

#[test]
fn every_event_has_its_object() {
    let room = Target::Room("r".into());
    let inbox = Target::Inbox("bob".into());
    let cases = [
        (
            Event::Message(message(room.clone(), r#"{"a":[1,2.50]}"#)),
            json!({"type":"message","room":"r","user":"ada","content":{"a":[1,2.5]},"seq":7,"timestamp":1_700_000_000_123_u64}),
        ),
        (
            Event::Message(message(inbox.clone(), "null")),
            json!({"type":"direct","from":"ada","content":null,"seq":7,"timestamp":1_700_000_000_123_u64}),
        ),
        (
            Event::Joined {
                room: "r".into(),
                position: POSITION,
                members: Some(3),
                recovered: true,
            },
            json!({"type":"joined","room":"r","epoch":POSITION.epoch,"seq":42,"members":3,"recovered":true}),
        ),
        (
            Event::Authenticated {
                expires_unix_ms: Some(1_700_000_000_123),
            },
            json!({"type":"authenticated","expires":1_700_000_000_123_u64}),
        ),
        (
            Event::Authenticated {
                expires_unix_ms: None,
            },
            json!({"type":"authenticated"}),
        ),
        (
            Event::Joined {
                room: "r".into(),
                position: POSITION,
                members: None,
                recovered: false,
            },
            json!({"type":"joined","room":"r","epoch":POSITION.epoch,"seq":42,"recovered":false}),
        ),
        (
            Event::Left {
                room: "r".into(),
                reason: None,
            },
            json!({"type":"left","room":"r"}),
        ),
        (
            Event::Left {
                room: "r".into(),
                reason: Some(ErrorCode::Forbidden),
            },
            json!({"type":"left","room":"r","reason":"forbidden"}),
        ),
        (
            Event::Reset {
                room: "r".into(),
                position: POSITION,
            },
            json!({"type":"reset","room":"r","epoch":POSITION.epoch,"seq":42}),
        ),
        (
            Event::UserJoined {
                room: "r".into(),
                user: "b".into(),
            },
            json!({"type":"user_joined","room":"r","user":"b"}),
        ),
        (
            Event::UserLeft {
                room: "r".into(),
                user: "b".into(),
            },
            json!({"type":"user_left","room":"r","user":"b"}),
        ),
        (
            Event::PresenceCount {
                room: "r".into(),
                count: 5,
            },
            json!({"type":"presence","room":"r","count":5}),
        ),
        (
            Event::Presence {
                room: "r".into(),
                count: 2,
                users: vec!["a".into(), "b".into()],
            },
            json!({"type":"presence","room":"r","count":2,"users":["a","b"]}),
        ),
        (
            Event::History {
                room: "r".into(),
                position: POSITION,
                messages: vec![message(room.clone(), "1"), message(room.clone(), r#""x""#)],
                complete: false,
            },
            json!({"type":"history","room":"r","epoch":POSITION.epoch,"seq":42,"complete":false,"messages":[
                {"user":"ada","content":1,"seq":7,"timestamp":1_700_000_000_123_u64},
                {"user":"ada","content":"x","seq":7,"timestamp":1_700_000_000_123_u64}]}),
        ),
        (
            Event::Ack {
                id: "i".into(),
                target: room,
                seq: 7,
                duplicate: false,
            },
            json!({"type":"ack","id":"i","room":"r","seq":7}),
        ),
        (
            Event::Ack {
                id: "i".into(),
                target: inbox,
                seq: 7,
                duplicate: true,
            },
            json!({"type":"ack","id":"i","to":"bob","seq":7,"duplicate":true}),
        ),
        (
            Event::Error {
                code: ErrorCode::NotJoined,
                message: "m".into(),
                id: None,
                room: None,
            },
            json!({"type":"error","code":"not_joined","message":"m"}),
        ),
        (
            Event::Error {
                code: ErrorCode::BadRequest,
                message: "m".into(),
                id: Some("i".into()),
                room: Some("r".into()),
            },
            json!({"type":"error","code":"bad_request","message":"m","id":"i","room":"r"}),
        ),
        (
            Event::Error {
                code: ErrorCode::Forbidden,
                message: "m".into(),
                id: Some("i".into()),
                room: None,
            },
            json!({"type":"error","code":"forbidden","message":"m","id":"i"}),
        ),
        (
            Event::Gap {
                room: "r".into(),
                from: 3,
                to: 9,
            },
            json!({"type":"gap","room":"r","from":3,"to":9}),
        ),
    ];
    for (event, expected) in cases {
        assert_eq!(encoded(&event), expected);
    }
}

#[test]
fn the_welcome_names_the_bounds() {
    let mut out = Vec::new();
    encode_welcome("ada", "0123", &Limits::default(), &mut out);
    let welcome: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(welcome["type"], "welcome");
    assert_eq!(
        (&welcome["user"], &welcome["session"]),
        (&json!("ada"), &json!("0123"))
    );
    assert_eq!(welcome["heartbeat_ms"], Limits::default().heartbeat_ms);
    assert_eq!(
        welcome["limits"]["message_size_max"],
        Limits::default().message_size_max
    );
    assert_eq!(welcome["limits"].as_object().unwrap().len(), 5);
}

proptest! {
    #[test]
    fn any_name_reads_back_as_itself(name in any::<String>()) {
        let value = encoded(&Event::Left { room: name.as_str().into(), reason: None });
        prop_assert_eq!(value["room"].as_str(), Some(name.as_str()));
    }
}
