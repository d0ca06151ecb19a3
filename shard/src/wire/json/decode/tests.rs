#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;

fn limits() -> Limits {
    Limits {
        room_name_size_max: 8,
        user_name_size_max: 8,
        id_size_max: 8,
        ..Limits::default()
    }
}

/// Decodes and hands the outcome over while the decoder still lends it.
fn decoded<T>(text: &str, check: impl FnOnce(Result<Command<'_>, DecodeError>) -> T) -> T {
    check(JsonDecoder::new().decode(text.as_bytes(), &limits()))
}

fn content(text: &str) -> String {
    decoded(text, |command| match command {
        Ok(Command::Message { content, .. }) => String::from_utf8(content.to_vec()).unwrap(),
        other => panic!("{text}: {other:?}"),
    })
}

#[test]
fn every_command() {
    let since = Some(Position { epoch: 5, seq: 6 });
    let cases = [
        (
            r#"{"type":"join","room":"r"}"#,
            Command::Join {
                room: "r",
                since: None,
            },
        ),
        (
            r#"{"type":"join","since":{"seq":6,"epoch":5,"x":[]},"room":"r"}"#,
            Command::Join { room: "r", since },
        ),
        (
            r#"{"type":"leave","room":"r"}"#,
            Command::Leave { room: "r" },
        ),
        (
            r#"{"type":"message","room":"r","content":{"a":1}}"#,
            Command::Message {
                room: "r",
                content: br#"{"a":1}"#,
                id: None,
            },
        ),
        (
            r#" { "id" : "i" , "content" : null , "to" : "u" , "type" : "direct" } "#,
            Command::Direct {
                to: "u",
                content: b"null",
                id: Some("i"),
            },
        ),
        (
            r#"{"type":"presence","room":"r"}"#,
            Command::Presence { room: "r" },
        ),
        (
            r#"{"type":"history","room":"r","since":null,"limit":null,"id":null}"#,
            Command::History {
                room: "r",
                since: None,
                limit: None,
            },
        ),
        (
            r#"{"type":"history","room":"r","since":{"epoch":5,"seq":6},"limit":10}"#,
            Command::History {
                room: "r",
                since,
                limit: Some(10),
            },
        ),
        (
            r#"{"type":"history","room":"r"}"#,
            Command::History {
                room: "r",
                since: None,
                limit: None,
            },
        ),
        (
            r#"{"type":"heartbeat","room":7,"unknown":{"room":"x"}}"#,
            Command::Heartbeat,
        ),
        (
            r#"{"type":"auth","token":"a.b.c","id":7}"#,
            Command::Auth { token: "a.b.c" },
        ),
        (r#"{"token":"","type":"auth"}"#, Command::Auth { token: "" }),
        (
            r#"{"type":"leave","room":"a","room":"b"}"#,
            Command::Leave { room: "b" },
        ),
    ];
    for (text, expected) in &cases {
        decoded(text, |command| {
            assert_eq!(command.as_ref(), Ok(expected), "{text}")
        });
    }
    decoded(r#"{"t\u0079pe":"leave","room":"\u00e9\"x"}"#, |command| {
        assert_eq!(command, Ok(Command::Leave { room: "é\"x" }));
    });
}

#[test]
fn what_is_no_object_is_malformed() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_object = format!(r#"{{"type":"message","room":"r","content":{deep}}}"#);
    for text in [
        "",
        " ",
        "x",
        "1",
        "null",
        r#""a""#,
        "[]",
        "[{}]",
        "{",
        "{}}",
        "{}{}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{'a':1}"#,
        r#"{"a":01}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\ud800"}"#,
        &deep,
        &deep_object,
    ] {
        decoded(text, |command| {
            assert_eq!(
                command,
                Err(DecodeError::Malformed),
                "{}",
                &text[..text.len().min(40)]
            );
        });
    }
}

#[test]
fn what_asks_for_nothing_known_is_a_bad_request() {
    let cases = [
        ("{}", "`type` is missing"),
        (r#"{"type":7}"#, "`type` must be a string"),
        (
            r#"{"type":"dance"}"#,
            "`type` must be one of join, leave, message, direct, presence, history, heartbeat, auth",
        ),
        (r#"{"type":"join"}"#, "`room` is missing"),
        (r#"{"type":"join","room":7}"#, "`room` must be a string"),
        (r#"{"type":"join","room":""}"#, "`room` is empty"),
        (
            r#"{"type":"join","room":"123456789"}"#,
            "`room` is longer than 8 bytes",
        ),
        (
            r#"{"type":"join","room":"a\u0000"}"#,
            "`room` contains a control character",
        ),
        (
            r#"{"type":"join","room":"r","since":5}"#,
            "`since` must be an object with `epoch` and `seq`",
        ),
        (
            r#"{"type":"join","room":"r","since":{"epoch":5}}"#,
            "`since.seq` is missing",
        ),
        (
            r#"{"type":"join","room":"r","since":{"epoch":-5,"seq":1}}"#,
            "`since.epoch` must be a whole number, 0 or greater",
        ),
        (r#"{"type":"message","room":"r"}"#, "`content` is missing"),
        (
            r#"{"type":"message","room":"r","content":1,"id":5}"#,
            "`id` must be a string",
        ),
        (r#"{"type":"direct","content":1}"#, "`to` is missing"),
        (r#"{"type":"auth"}"#, "`token` is missing"),
        (
            r#"{"type":"auth","token":null}"#,
            "`token` must be a string",
        ),
        (
            r#"{"type":"history","room":"r","limit":1.5}"#,
            "`limit` must be a whole number, 0 or greater",
        ),
    ];
    for (text, expected) in cases {
        decoded(text, |command| match command {
            Err(DecodeError::BadRequest { message, .. }) => assert_eq!(message, expected, "{text}"),
            other => panic!("{text}: {other:?}"),
        });
    }
}

#[test]
fn a_refusal_carries_the_id_and_the_room() {
    decoded(r#"{"type":"message","room":"r","id":"i"}"#, |command| {
        let Err(DecodeError::BadRequest { id, room, .. }) = command else {
            panic!("{command:?}")
        };
        assert_eq!((id.as_deref(), room.as_deref()), (Some("i"), Some("r")));
    });
}

#[test]
fn content_is_kept_to_the_letter() {
    for value in [
        "0",
        "-0.0",
        "1e5",
        "12345678901234567890123456789",
        "0.1000000000000000055511151231257827",
        r#""\u00e9\/\n""#,
        r#""a,b:{}[]\"\\""#,
        "[]",
        "{}",
        r#"[ 1 , {"content":2} ]"#,
        r#"{"b":1,"a":1,"b":2}"#,
    ] {
        for text in [
            format!(r#"{{"type":"message","room":"r","content":{value}}}"#),
            format!(r#"{{"content":{value},"type":"message","room":"r"}}"#),
            format!("{{\"type\":\"message\",\t\"c\\u006fntent\" :\r\n {value} ,\n\"room\":\"r\"}}"),
            format!(
                r#"{{"content":"first","x":[{{"content":0}}],"type":"message","content":{value},"room":"r"}}"#
            ),
        ] {
            assert_eq!(content(&text), value, "{text}");
        }
    }
}

#[test]
fn working_memory_of_a_large_message_is_given_back() {
    let mut decoder = JsonDecoder::new();
    let large = format!(
        r#"{{"type":"message","room":"r","content":"{}"}}"#,
        "x".repeat(SPARE_BYTES_MAX * 4)
    );
    assert!(decoder.decode(large.as_bytes(), &limits()).is_ok());
    assert!(decoder.copy.capacity() > SPARE_BYTES_MAX);
    assert!(
        decoder
            .decode(br#"{"type":"heartbeat"}"#, &limits())
            .is_ok()
    );
    assert!(decoder.copy.capacity() <= SPARE_BYTES_MAX);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn content_is_what_another_parser_finds(
        value in any_json(),
        others in prop::collection::vec((any::<String>(), any_json()), 0..4),
        place in 0_usize..5,
        pretty in any::<bool>(),
    ) {
        let raw = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let mut members: Vec<String> = others
            .iter()
            .filter(|(key, _)| !["type", "room", "content", "id"].contains(&key.as_str()))
            .map(|(key, value)| format!("{}:{}", json!(key), value))
            .collect();
        members.push(r#""type":"message""#.to_owned());
        members.push(r#""room":"r""#.to_owned());
        members.insert(place.min(members.len()), format!(r#""content": {raw} "#));
        let text = format!("{{{}}}", members.join(","));
        #[derive(serde::Deserialize)]
        struct Outer<'a> {
            #[serde(borrow)]
            content: &'a RawValue,
        }
        let expected: Outer<'_> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(content(&text), expected.content.get());
    }

    #[test]
    fn nothing_panics(text in any::<Vec<u8>>()) {
        let _outcome = JsonDecoder::new().decode(&text, &limits()).is_ok();
    }
}
