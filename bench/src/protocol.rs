//! What the harness says to a server and understands of its answers: one protocol a kind of server.
//!
//! Payloads carry a [`Stamp`], so a delivery is recognised in whatever a server wraps around it; only what is needed to join
//! and to recover is read in the protocol's own form.

use std::fmt::Write as _;

use clap::ValueEnum;
use memchr::memmem;

use crate::stamp::Stamp;

/// The protocols that the harness speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Shardcast's JSON protocol, version 1: one object a text message.
    Shardcast,
    /// Words separated by a space: `login NAME`, `join ROOM`, `send ROOM TEXT`, `direct NAME TEXT`; see bench/peers/README.md.
    Plain,
    /// A server that sends every message back to whoever sent it.
    Echo,
}

/// A place in a room's history, as Shardcast numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which life of the room.
    pub epoch: u64,
    /// The number of the last message that arrived.
    pub seq: u64,
}

/// What a message of the server means to the harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A message of the harness has been delivered.
    Delivery(Stamp),
    /// The connection is a member of its room now.
    Joined,
    /// The server refuses something.
    Error,
    /// Nothing that the harness waits for: presence, acknowledgements, welcomes.
    Other,
}

impl Protocol {
    /// The path that is asked for unless the user names one.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Shardcast => "/ws",
            Self::Plain => "/rooms",
            Self::Echo => "/echo",
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shardcast => "shardcast",
            Self::Plain => "plain",
            Self::Echo => "echo",
        }
    }

    /// Whether a message reaches others than its sender.
    #[must_use]
    pub const fn has_rooms(self) -> bool {
        !matches!(self, Self::Echo)
    }

    /// Whether a member that returns can ask for what it missed.
    #[must_use]
    pub const fn recovers(self) -> bool {
        matches!(self, Self::Shardcast)
    }

    /// Path and query of the handshake of a user.
    #[must_use]
    pub fn request_target(self, path: &str, user: &str) -> String {
        match self {
            Self::Shardcast if path.contains('?') => format!("{path}&user={user}"),
            Self::Shardcast => format!("{path}?user={user}"),
            Self::Plain | Self::Echo => path.to_owned(),
        }
    }

    /// The messages that a connection sends first, after which [`Meaning::Joined`] is awaited. None where there is
    /// nothing to join: the connection is ready at once.
    #[must_use]
    pub fn opening(self, user: &str, room: &str, since: Option<Position>) -> Vec<String> {
        match self {
            Self::Shardcast => {
                let mut join = format!(r#"{{"type":"join","room":"{room}""#);
                if let Some(Position { epoch, seq }) = since {
                    // Writing to a string cannot fail.
                    let _ = write!(join, r#","since":{{"epoch":{epoch},"seq":{seq}}}"#);
                }
                join.push('}');
                vec![join]
            }
            Self::Plain => vec![format!("login {user}"), format!("join {room}")],
            Self::Echo => Vec::new(),
        }
    }

    /// Writes a message to all members of a room, with the payload of `size` bytes that `stamp` begins.
    pub fn broadcast(self, room: &str, stamp: Stamp, size: usize, out: &mut Vec<u8>) {
        self.publish(
            [r#"{"type":"message","room":""#, "send "],
            room,
            stamp,
            size,
            out,
        );
    }

    /// Writes a message to one user. With [`Protocol::Echo`] it comes back to the sender.
    pub fn direct(self, user: &str, stamp: Stamp, size: usize, out: &mut Vec<u8>) {
        self.publish(
            [r#"{"type":"direct","to":""#, "direct "],
            user,
            stamp,
            size,
            out,
        );
    }

    /// Writes a message to a name, after what stands before that in JSON and in words.
    fn publish(
        self,
        [json, word]: [&str; 2],
        name: &str,
        stamp: Stamp,
        size: usize,
        out: &mut Vec<u8>,
    ) {
        match self {
            Self::Shardcast => push(out, &[json, name, r#"","content":""#]),
            Self::Plain => push(out, &[word, name, " "]),
            Self::Echo => {}
        }
        stamp.write(size, out);
        if self == Self::Shardcast {
            push(out, &["\"}"]);
        }
    }

    /// What a message of the server means.
    #[must_use]
    pub fn meaning(self, message: &[u8]) -> Meaning {
        if let Some(stamp) = Stamp::find(message) {
            return Meaning::Delivery(stamp);
        }
        match self {
            Self::Shardcast if message.starts_with(br#"{"type":"joined""#) => Meaning::Joined,
            Self::Shardcast if message.starts_with(br#"{"type":"error""#) => Meaning::Error,
            Self::Plain if message.starts_with(b"join ") => Meaning::Joined,
            Self::Shardcast | Self::Plain | Self::Echo => Meaning::Other,
        }
    }

    /// Brings `position` up to date with a `joined` or a delivery of the room, where the protocol numbers them.
    pub fn follow(self, message: &[u8], position: &mut Option<Position>) {
        if self != Self::Shardcast {
            return;
        }
        let Some(seq) = number_after(message, br#""seq":"#) else {
            return;
        };
        match (number_after(message, br#""epoch":"#), &mut *position) {
            (Some(epoch), _) => *position = Some(Position { epoch, seq }),
            (None, Some(position)) => position.seq = seq,
            (None, None) => {}
        }
    }
}

fn push(out: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        out.extend_from_slice(text.as_bytes());
    }
}

/// The number after the last occurrence of a key: the harness's own payload comes before the server's numbers.
fn number_after(message: &[u8], key: &[u8]) -> Option<u64> {
    let start = memmem::rfind(message, key)? + key.len();
    let digits = message.get(start..)?;
    let end = digits
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(digits.len());
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::stamp::STREAM_DIRECT;

    const STAMP: Stamp = Stamp {
        intended_ns: 12_345,
        stream: 7,
        number: 9,
    };

    #[test]
    fn every_protocol_finds_what_it_wrote() {
        for protocol in [Protocol::Shardcast, Protocol::Plain, Protocol::Echo] {
            let mut message = Vec::new();
            protocol.broadcast("room-1", STAMP, 128, &mut message);
            assert_eq!(protocol.meaning(&message), Meaning::Delivery(STAMP));
            let direct = Stamp {
                stream: STREAM_DIRECT,
                ..STAMP
            };
            message.clear();
            protocol.direct("ada", direct, 64, &mut message);
            assert_eq!(protocol.meaning(&message), Meaning::Delivery(direct));
        }
    }

    #[test]
    fn json_of_shardcast_is_json() {
        let mut message = Vec::new();
        Protocol::Shardcast.broadcast("room-1", STAMP, 100, &mut message);
        let value: serde_json::Value = serde_json::from_slice(&message).unwrap();
        assert_eq!(value["room"], "room-1");
        assert_eq!(value["content"].as_str().unwrap().len(), 100);
        let since = Some(Position { epoch: 3, seq: 4 });
        for join in Protocol::Shardcast.opening("ada", "room-1", since) {
            let value: serde_json::Value = serde_json::from_str(&join).unwrap();
            assert_eq!(value["since"]["seq"], 4);
        }
    }

    #[test]
    fn a_position_follows_joins_and_deliveries() {
        let protocol = Protocol::Shardcast;
        let mut position = None;
        protocol.follow(
            br#"{"type":"message","content":"x","seq":4,"timestamp":1}"#,
            &mut position,
        );
        assert_eq!(
            position, None,
            "without an epoch there is nothing to go on from"
        );
        protocol.follow(
            br#"{"type":"joined","room":"r","epoch":99,"seq":4,"members":1}"#,
            &mut position,
        );
        assert_eq!(position, Some(Position { epoch: 99, seq: 4 }));
        protocol.follow(
            br#"{"type":"message","content":"\"seq\":77","seq":5,"timestamp":1}"#,
            &mut position,
        );
        assert_eq!(position, Some(Position { epoch: 99, seq: 5 }));
        Protocol::Plain.follow(br#""seq":9"#, &mut position);
        assert_eq!(position, Some(Position { epoch: 99, seq: 5 }));
    }

    #[test]
    fn answers_are_told_apart() {
        let cases: [(Protocol, &[u8], Meaning); 6] = [
            (
                Protocol::Shardcast,
                br#"{"type":"joined","room":"r"}"#,
                Meaning::Joined,
            ),
            (
                Protocol::Shardcast,
                br#"{"type":"error","code":"x"}"#,
                Meaning::Error,
            ),
            (
                Protocol::Shardcast,
                br#"{"type":"welcome"}"#,
                Meaning::Other,
            ),
            (Protocol::Plain, b"login ada", Meaning::Other),
            (Protocol::Plain, b"join room", Meaning::Joined),
            (Protocol::Echo, b"join room", Meaning::Other),
        ];
        for (protocol, message, meaning) in cases {
            assert_eq!(
                protocol.meaning(message),
                meaning,
                "{}",
                String::from_utf8_lossy(message)
            );
        }
    }
}
