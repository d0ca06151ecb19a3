//! The JSON protocol against serde_json: the decoder accepts what an independent reading of the protocol accepts, and takes it
//! for the same command; what the encoder writes is JSON that says the same.
#![no_main]

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;
use shardcast_shard::hub::event::{ErrorCode, Message};
use shardcast_shard::hub::{Event, Name, Position, Target};
use shardcast_shard::limits::Limits;
use shardcast_shard::wire::json::{DecodeError, JsonDecoder, encode, encode_welcome};
use shardcast_shard::wire::{Command, check_name};

/// An object; the last of several members with the same key counts.
type Members<'a> = HashMap<String, &'a RawValue>;

fuzz_target!(|text: &[u8]| {
    let limits = Limits {
        room_name_size_max: 32,
        user_name_size_max: 24,
        id_size_max: 16,
        ..Limits::default()
    };
    let mut decoder = JsonDecoder::new();
    let decoded = decoder.decode(text, &limits);
    match &decoded {
        Err(DecodeError::Malformed) => {
            let value = serde_json::from_slice::<Value>(text);
            assert!(
                !matches!(value, Ok(Value::Object(_))),
                "malformed? {}",
                text.escape_ascii()
            );
        }
        judged => {
            let members: Members<'_> = serde_json::from_slice(text)
                .unwrap_or_else(|error| panic!("{judged:?}, but {error}: {}", text.escape_ascii()));
            let fields = Fields::read(&members);
            let expected = fields.command(&limits);
            assert_eq!(
                judged.as_ref().ok(),
                expected.as_ref(),
                "{}",
                text.escape_ascii()
            );
            if let Err(DecodeError::BadRequest { id, room, .. }) = judged {
                let fits = |name: &Option<String>, size_max| {
                    name.as_ref()
                        .is_none_or(|name| check_name(name, size_max).is_ok())
                };
                assert!(fits(id, limits.id_size_max) && fits(room, limits.room_name_size_max));
            }
        }
    }
    if let Ok(
        Command::Message { room, content, id }
        | Command::Direct {
            to: room,
            content,
            id,
        },
    ) = decoded
    {
        let content = std::str::from_utf8(content).expect("a part of a text");
        assert_written(room, content, id.unwrap_or("-"));
    }
    if let Ok(text) = std::str::from_utf8(text) {
        assert_string(text);
        // The same decoder must not remember anything.
        let again = decoder.decode(text.as_bytes(), &limits).is_ok();
        assert_eq!(
            again,
            JsonDecoder::new().decode(text.as_bytes(), &limits).is_ok()
        );
    }
});

/// The members of a request that mean something.
struct Fields<'a> {
    kind: Option<String>,
    room: Option<String>,
    to: Option<String>,
    token: Option<String>,
    /// `Err` where it is there and no string.
    id: Result<Option<String>, ()>,
    since: Result<Option<Position>, ()>,
    limit: Result<Option<u64>, ()>,
    content: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn read(members: &Members<'a>) -> Self {
        let string = |key: &str| members.get(key).and_then(|raw| string(raw));
        let present = |key: &str| members.get(key).filter(|raw| raw.get() != "null");
        Self {
            kind: string("type"),
            room: string("room"),
            to: string("to"),
            token: string("token"),
            id: present("id").map(|raw| string_or(raw)).transpose(),
            since: present("since")
                .map(|raw| position(raw).ok_or(()))
                .transpose(),
            limit: present("limit")
                .map(|raw| number(raw).ok_or(()))
                .transpose(),
            content: members.get("content").map(|raw| raw.get().as_bytes()),
        }
    }

    /// The command that the protocol makes of them; `None` where it refuses.
    fn command(&self, limits: &Limits) -> Option<Command<'_>> {
        let name = |name: &'_ Option<String>, size_max| {
            name.as_ref()
                .filter(|name| check_name(name, size_max).is_ok())
                .is_some()
        };
        let room = || {
            let room = self.room.as_deref();
            room.filter(|_| name(&self.room, limits.room_name_size_max))
        };
        let id = || match &self.id {
            Ok(None) => Some(None),
            Ok(id) => name(id, limits.id_size_max).then_some(id.as_deref()),
            Err(()) => None,
        };
        Some(match self.kind.as_deref()? {
            "join" => Command::Join {
                room: room()?,
                since: self.since.ok()?,
            },
            "leave" => Command::Leave { room: room()? },
            "message" => Command::Message {
                room: room()?,
                content: self.content?,
                id: id()?,
            },
            "direct" => Command::Direct {
                to: self
                    .to
                    .as_deref()
                    .filter(|_| name(&self.to, limits.user_name_size_max))?,
                content: self.content?,
                id: id()?,
            },
            "presence" => Command::Presence { room: room()? },
            "history" => Command::History {
                room: room()?,
                since: self.since.ok()?,
                limit: self.limit.ok()?,
            },
            "heartbeat" => Command::Heartbeat,
            "auth" => Command::Auth {
                token: self.token.as_deref()?,
            },
            _ => return None,
        })
    }
}

fn string(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

fn string_or(raw: &RawValue) -> Result<String, ()> {
    string(raw).ok_or(())
}

fn number(raw: &RawValue) -> Option<u64> {
    match raw.get() {
        // serde_json takes this for a fraction.
        "-0" => Some(0),
        text => serde_json::from_str(text).ok(),
    }
}

fn position(raw: &RawValue) -> Option<Position> {
    let members: Members<'_> = serde_json::from_str(raw.get()).ok()?;
    Some(Position {
        epoch: number(members.get("epoch")?)?,
        seq: number(members.get("seq")?)?,
    })
}

/// Any text survives as a string of an event.
fn assert_string(text: &str) {
    let written = write(&Event::Error {
        code: ErrorCode::BadRequest,
        message: text.into(),
        id: Some(text.into()),
        room: None,
    });
    let members = read(&written);
    assert_eq!(members.len(), 4);
    for key in ["message", "id"] {
        assert_eq!(string(members[key]).as_deref(), Some(text));
    }
}

/// Events around a content keep it to the letter, and say the names.
fn assert_written(room: &str, content: &str, id: &str) {
    let (name, user) = (Name::from(room), Name::from(id));
    let message = |target: Target| {
        Arc::new(Message {
            target,
            user: user.clone(),
            content: Bytes::copy_from_slice(content.as_bytes()),
            seq: u64::MAX,
            timestamp_ms: 0,
        })
    };
    let delivered = message(Target::Room(name.clone()));
    let direct = message(Target::Inbox(name.clone()));
    let position = Position { epoch: 1, seq: 2 };
    let history = Event::History {
        room: name.clone(),
        position,
        messages: vec![Arc::clone(&delivered), Arc::clone(&delivered)],
        complete: false,
    };
    for (event, sender) in [
        (Event::Message(delivered), "user"),
        (Event::Message(direct), "from"),
    ] {
        let written = write(&event);
        let members = read(&written);
        assert_eq!(members["content"].get(), content);
        assert_eq!(string(members[sender]).as_deref(), Some(id));
        assert_eq!(number(members["seq"]), Some(u64::MAX));
        let in_room = members.get("room").and_then(|raw| string(raw));
        assert_eq!(in_room.as_deref(), (sender == "user").then_some(room));
    }
    let written = write(&history);
    let messages: Vec<Members<'_>> =
        serde_json::from_str(read(&written)["messages"].get()).expect("a list of objects");
    assert_eq!(messages.len(), 2);
    assert!(
        messages
            .iter()
            .all(|message| message["content"].get() == content)
    );

    let written = write(&Event::Presence {
        room: name,
        count: 2,
        users: vec![user.clone(), user],
    });
    let users: Vec<String> =
        serde_json::from_str(read(&written)["users"].get()).expect("a list of names");
    assert_eq!(users, [id, id]);

    let mut welcome = Vec::new();
    encode_welcome(room, id, &Limits::default(), &mut welcome);
    assert_eq!(string(read(&welcome)["user"]).as_deref(), Some(room));
}

fn write(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    encode(event, &mut out);
    out
}

fn read(written: &[u8]) -> Members<'_> {
    serde_json::from_slice(written)
        .unwrap_or_else(|error| panic!("{error}: {}", written.escape_ascii()))
}
