//! The JSON protocol of a server, as a client reads and writes it: the README says what each object means.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A place in a room's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Which run of numbers.
    pub epoch: u64,
    /// The number.
    pub seq: u64,
}

/// What a client asks for.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request<'a> {
    /// Become a member, and be sent what was missed since a place.
    Join {
        /// Of which room.
        room: &'a str,
        /// Which place.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<Position>,
    },
    /// Be a member no longer.
    Leave {
        /// Of which room.
        room: &'a str,
    },
    /// Publish to a room.
    Message {
        /// Which.
        room: &'a str,
        /// What.
        content: &'a str,
        /// Has it acknowledged, and a repeat recognised.
        id: &'a str,
    },
    /// Publish to every connection of a user.
    Direct {
        /// Whose.
        to: &'a str,
        /// What.
        content: &'a str,
        /// Likewise.
        id: &'a str,
    },
    /// Who is there.
    Presence {
        /// In which room.
        room: &'a str,
    },
    /// What was said.
    History {
        /// In which room.
        room: &'a str,
        /// After which place; otherwise the newest.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<Position>,
        /// At most so many messages.
        limit: u64,
    },
}

impl Request<'_> {
    /// The text that is sent.
    #[must_use]
    pub fn text(&self) -> String {
        // Strings and numbers under names: there is nothing that could not be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What a server says. What it lacks has the value that says least.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Told {
    /// First of all.
    Welcome {
        /// Who the client is.
        user: String,
        /// A connection is never silent for much longer.
        #[serde(default)]
        heartbeat_ms: u64,
        /// Bounds.
        #[serde(default)]
        limits: Limits,
    },
    /// Messages after this place will come.
    Joined {
        /// Which room.
        room: String,
        /// The place.
        epoch: u64,
        /// The place.
        seq: u64,
        /// Absent where it may not be known.
        members: Option<u64>,
        /// Whether all that was missed follows.
        #[serde(default)]
        recovered: bool,
    },
    /// No longer a member.
    Left {
        /// Of which room.
        room: String,
        /// Why, where it was not asked for.
        reason: Option<String>,
    },
    /// A user's first connection came.
    UserJoined {
        /// Into which room.
        room: String,
        /// Whose.
        user: String,
    },
    /// A user's last connection went.
    UserLeft {
        /// From which room.
        room: String,
        /// Whose.
        user: String,
    },
    /// How many there are, and, where that was asked, who.
    Presence {
        /// In which room.
        room: String,
        /// How many users.
        count: u64,
        /// Who; not always all.
        users: Option<Vec<String>>,
    },
    /// A message to a room.
    Message {
        /// Which.
        room: String,
        /// The message.
        #[serde(flatten)]
        message: Past,
    },
    /// A message to this user.
    Direct {
        /// Who wrote it.
        from: String,
        /// What.
        content: Value,
        /// When, in milliseconds since 1970.
        timestamp: u64,
    },
    /// A message of this connection has its place.
    Ack {
        /// Which.
        id: String,
    },
    /// What was said.
    History {
        /// In which room.
        room: String,
        /// The run of numbers.
        epoch: u64,
        /// Whether nothing is missing before the first message.
        #[serde(default)]
        complete: bool,
        /// Oldest first.
        messages: Vec<Past>,
    },
    /// A new epoch begins.
    Reset {
        /// In which room.
        room: String,
        /// Which.
        epoch: u64,
        /// Messages after this number follow.
        seq: u64,
    },
    /// A request failed.
    Error {
        /// In one word.
        code: String,
        /// In a sentence.
        message: String,
        /// Of which message.
        id: Option<String>,
        /// In which room.
        room: Option<String>,
    },
    /// Anything else is none of this client's business.
    #[serde(other)]
    Other,
}

/// Bounds that a server tells of.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Limits {
    /// Bytes of a message.
    pub message_size_max: Option<usize>,
}

/// A message that has its place.
#[derive(Clone, Debug, Deserialize)]
pub struct Past {
    /// Its number.
    pub seq: u64,
    /// Who wrote it.
    pub user: String,
    /// What.
    pub content: Value,
    /// When, in milliseconds since 1970.
    pub timestamp: u64,
}
