//! What a server says in the JSON protocol, version 1, parsed apart from the engine's own encoder.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use shardcast_shard::hub::Position;

/// One object from the server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Heard {
    Welcome {
        user: String,
    },
    Joined {
        room: String,
        epoch: u64,
        seq: u64,
        members: Option<u64>,
        recovered: bool,
    },
    Left {
        room: String,
        /// Why, where it was not asked for.
        reason: Option<String>,
    },
    Reset {
        room: String,
        epoch: u64,
        seq: u64,
    },
    Message {
        room: String,
        seq: u64,
        #[serde(flatten)]
        said: Said,
    },
    Direct {
        seq: u64,
        #[serde(flatten)]
        said: Said,
    },
    Ack {
        id: String,
        /// Where it was published, where that is a room.
        room: Option<String>,
        seq: u64,
        #[serde(default)]
        duplicate: bool,
    },
    UserJoined {
        room: String,
        user: String,
    },
    UserLeft {
        room: String,
        user: String,
    },
    /// Names are told on request only.
    Presence {
        room: String,
        count: u64,
        users: Option<BTreeSet<String>>,
    },
    Gap {
        room: String,
        from: u64,
        to: u64,
    },
    History {
        room: String,
    },
    Error {
        code: String,
        message: String,
        id: Option<String>,
        room: Option<String>,
    },
    Heartbeat {},
}

/// A message without its place in the order.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Said {
    #[serde(alias = "from")]
    pub(crate) user: String,
    pub(crate) content: Value,
    #[serde(rename = "timestamp")]
    pub(crate) timestamp_ms: u64,
}

impl Said {
    /// The number of the publication.
    pub(crate) fn number(&self) -> usize {
        let number = self.content[0].as_u64();
        number.expect("a content begins with its number") as usize
    }
}

impl Heard {
    /// Parses an object.
    ///
    /// # Panics
    /// The protocol knows no such object.
    pub(crate) fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The room that it is about.
    pub(crate) fn room(&self) -> Option<&str> {
        match self {
            Self::Joined { room, .. }
            | Self::Left { room, .. }
            | Self::Reset { room, .. }
            | Self::Message { room, .. }
            | Self::UserJoined { room, .. }
            | Self::UserLeft { room, .. }
            | Self::Presence { room, .. }
            | Self::History { room }
            | Self::Gap { room, .. } => Some(room),
            Self::Welcome { .. }
            | Self::Direct { .. }
            | Self::Ack { .. }
            | Self::Error { .. }
            | Self::Heartbeat {} => None,
        }
    }

    /// Where the room stands, where it says so.
    pub(crate) fn position(&self) -> Option<Position> {
        match *self {
            Self::Joined { epoch, seq, .. } | Self::Reset { epoch, seq, .. } => {
                Some(Position { epoch, seq })
            }
            _ => None,
        }
    }
}
