//! From an event to the text of one object. Allocates nothing but room in the caller's buffer.

use crate::hub::event::{Event, Message};
use crate::hub::{Name, Position, Target};
use crate::limits::Limits;

/// A heartbeat, and the answer to one.
pub const HEARTBEAT: &str = r#"{"type":"heartbeat"}"#;

/// Writes the object for an event. The content of messages is copied as it is: it is the text of a JSON value already.
pub fn encode(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::Message(message) => encode_message(message, out),
        Event::Joined {
            room,
            position,
            members,
            recovered,
        } => {
            let mut object = Writer::new("joined", out);
            object.string("room", room);
            object.position(position);
            if let Some(members) = members {
                object.number("members", *members);
            }
            object.boolean("recovered", *recovered);
            object.end();
        }
        Event::Left { room, reason } => {
            let mut object = of_room("left", room, out);
            if let Some(reason) = reason {
                object.string("reason", reason.as_str());
            }
            object.end();
        }
        Event::Reset { room, position } => {
            let mut object = of_room("reset", room, out);
            object.position(position);
            object.end();
        }
        Event::UserJoined { room, user } => of_user("user_joined", room, user, out),
        Event::UserLeft { room, user } => of_user("user_left", room, user, out),
        Event::PresenceCount { room, count } => {
            let mut object = of_room("presence", room, out);
            object.number("count", *count);
            object.end();
        }
        Event::Presence { room, count, users } => encode_presence(room, *count, users, out),
        Event::History {
            room,
            position,
            messages,
            complete,
        } => {
            let mut object = of_room("history", room, out);
            object.position(position);
            object.boolean("complete", *complete);
            object.list("messages", messages, |message, out| {
                let mut object = Writer::untyped(out);
                object.delivery("user", message);
                object.end();
            });
            object.end();
        }
        Event::Ack {
            id,
            target,
            seq,
            duplicate,
        } => {
            let mut object = Writer::new("ack", out);
            object.string("id", id);
            match target {
                Target::Room(room) => object.string("room", room),
                Target::Inbox(user) => object.string("to", user),
            }
            object.number("seq", *seq);
            if *duplicate {
                object.boolean("duplicate", true);
            }
            object.end();
        }
        Event::Error {
            code,
            message,
            id,
            room,
        } => {
            let mut object = Writer::new("error", out);
            object.string("code", code.as_str());
            object.string("message", message);
            for (key, value) in [("id", id), ("room", room)] {
                if let Some(value) = value {
                    object.string(key, value);
                }
            }
            object.end();
        }
        Event::Authenticated { expires_unix_ms } => {
            let mut object = Writer::new("authenticated", out);
            if let Some(expires) = expires_unix_ms {
                object.number("expires", *expires);
            }
            object.end();
        }
        Event::Gap { room, from, to } => {
            let mut object = of_room("gap", room, out);
            object.number("from", *from);
            object.number("to", *to);
            object.end();
        }
    }
}

/// Writes the first object that a connection is sent.
pub fn encode_welcome(user: &str, session: &str, limits: &Limits, out: &mut Vec<u8>) {
    let mut object = Writer::new("welcome", out);
    object.string("user", user);
    object.string("session", session);
    object.number("heartbeat_ms", limits.heartbeat_ms);
    object.key("limits");
    let mut bounds = Writer::untyped(object.out);
    bounds.number("message_size_max", limits.message_size_max);
    bounds.number("messages_per_second_max", limits.messages_per_second_max);
    bounds.number("rooms_per_connection_max", limits.rooms_per_connection_max);
    bounds.number("room_name_size_max", limits.room_name_size_max);
    bounds.number("id_size_max", limits.id_size_max);
    bounds.end();
    object.end();
}

fn encode_message(message: &Message, out: &mut Vec<u8>) {
    let mut object = match &message.target {
        Target::Room(room) => of_room("message", room, out),
        Target::Inbox(_) => Writer::new("direct", out),
    };
    let sender = match &message.target {
        Target::Room(_) => "user",
        Target::Inbox(_) => "from",
    };
    object.delivery(sender, message);
    object.end();
}

fn encode_presence(room: &str, count: u64, users: &[Name], out: &mut Vec<u8>) {
    let mut object = of_room("presence", room, out);
    object.number("count", count);
    object.list("users", users, |user, out| write_string(user, out));
    object.end();
}

fn of_room<'a>(kind: &str, room: &str, out: &'a mut Vec<u8>) -> Writer<'a> {
    let mut object = Writer::new(kind, out);
    object.string("room", room);
    object
}

fn of_user(kind: &str, room: &str, user: &str, out: &mut Vec<u8>) {
    let mut object = of_room(kind, room, out);
    object.string("user", user);
    object.end();
}

/// Writes one object, member by member.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Writer<'a> {
    fn new(kind: &str, out: &'a mut Vec<u8>) -> Self {
        let mut object = Self::untyped(out);
        object.string("type", kind);
        object
    }

    fn untyped(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Keys are names of this protocol and need no escapes.
    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        write_string(value, self.out);
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.out
            .extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn boolean(&mut self, key: &str, value: bool) {
        self.key(key);
        self.out
            .extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn position(&mut self, position: &Position) {
        self.number("epoch", position.epoch);
        self.number("seq", position.seq);
    }

    /// The members that a message has in common wherever it stands.
    fn delivery(&mut self, sender: &str, message: &Message) {
        self.string(sender, &message.user);
        self.key("content");
        self.out.extend_from_slice(&message.content);
        self.number("seq", message.seq);
        self.number("timestamp", message.timestamp_ms);
    }

    fn list<T>(&mut self, key: &str, items: &[T], mut each: impl FnMut(&T, &mut Vec<u8>)) {
        self.key(key);
        self.out.push(b'[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            each(item, self.out);
        }
        self.out.push(b']');
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

/// Writes a string with the escapes that RFC 8259 §7 demands, copying the runs in between.
fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[copied..index]);
        copied = index + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests;
