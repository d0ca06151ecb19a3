//! What members of rooms are told, free of any client protocol.

use bytes::Bytes;
use std::sync::Arc;

use super::Name;

/// A place in a room's order: the epoch says which run of numbers, `seq` the last number seen.
///
/// A home opens a new epoch when it starts without memory of the room. Epochs of a room grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which run of numbers. Below 2⁵³, so that JavaScript can hold it.
    pub epoch: u64,
    /// Number of the last message seen; 0 before the first.
    pub seq: u64,
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The members of the room of this name.
    Room(Name),
    /// The inbox of the user of this name: every connection of that user.
    Inbox(Name),
}

/// A message that its home has ordered. Shared by all shards and by the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The room or inbox.
    pub target: Target,
    /// Who sent it.
    pub user: Name,
    /// The content in the protocol-neutral form: the text of one JSON value.
    pub content: Bytes,
    /// Number in the room's order, from 1 without a gap within an epoch.
    pub seq: u64,
    /// When the home ordered it, in milliseconds since 1970 (UTC).
    pub timestamp_ms: u64,
}

/// Why a request was refused. The connection stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// An object of unknown type, with missing or malformed fields.
    BadRequest,
    /// A publish to a room that the connection has not joined.
    NotJoined,
    /// The connection, or the room's home, holds as many rooms as it may.
    TooManyRooms,
    /// The connection sends more messages a second than it may; it is now read more slowly.
    RateLimited,
    /// The room's home is being restarted; try again.
    Unavailable,
    /// The token is not one that counts here.
    Unauthorized,
    /// The connection's grant or the room does not permit it, or the token is a good one, but another user's.
    Forbidden,
    /// The content is larger than the room permits.
    TooLarge,
}

impl ErrorCode {
    /// The code as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NotJoined => "not_joined",
            Self::TooManyRooms => "too_many_rooms",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::TooLarge => "too_large",
        }
    }
}

/// What one connection or the members of a slice are told. A wire encodes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A message to a room or to an inbox.
    Message(Arc<Message>),
    /// To the joiner. The missed messages follow, each as its own [`Event::Message`].
    Joined {
        /// The room.
        room: Name,
        /// Where the room stands: messages after this place are delivered.
        position: Position,
        /// Users present, the joiner included; `None` where the joiner may not know, or presence is off.
        members: Option<u64>,
        /// Whether everything after the position that the joiner gave follows. False where none was given.
        recovered: bool,
    },
    /// To the leaver, or to a member whose grant no longer permits it to be there.
    Left {
        /// The room.
        room: Name,
        /// Why, where it did not ask to leave.
        reason: Option<ErrorCode>,
    },
    /// The room's home lost its memory and opened a new epoch: what was published meanwhile may be lost.
    /// The messages of the new epoch up to the position follow.
    Reset {
        /// The room.
        room: Name,
        /// Where the room stands in the new epoch.
        position: Position,
    },
    /// A user's first connection entered the room.
    UserJoined {
        /// The room.
        room: Name,
        /// Who.
        user: Name,
    },
    /// A user's last connection left the room.
    UserLeft {
        /// The room.
        room: Name,
        /// Who.
        user: Name,
    },
    /// How many users are in a large room; at most once in `presence_count_ms`.
    PresenceCount {
        /// The room.
        room: Name,
        /// Users present.
        count: u64,
    },
    /// The answer to a presence request.
    Presence {
        /// The room.
        room: Name,
        /// Users present.
        count: u64,
        /// Their names in no particular order, at most `presence_list_max`; none where only counts are told.
        users: Vec<Name>,
    },
    /// The answer to a history request.
    History {
        /// The room.
        room: Name,
        /// Where the room stands.
        position: Position,
        /// The messages after the place asked for, oldest first.
        messages: Vec<Arc<Message>>,
        /// Whether nothing is missing between the place asked for and the first message.
        complete: bool,
    },
    /// The home has ordered the message with this id.
    Ack {
        /// The client's id.
        id: Name,
        /// Where it was published.
        target: Target,
        /// Its number.
        seq: u64,
        /// Whether the id was seen before; then nothing was delivered again.
        duplicate: bool,
    },
    /// A request failed.
    Error {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        message: Name,
        /// The id of the failed message, where it had one.
        id: Option<Name>,
        /// The room of the request, where it had one.
        room: Option<Name>,
    },
    /// A further token was good: what it grants counts from now on.
    Authenticated {
        /// When the connection is closed unless another token comes, in milliseconds since 1970 (UTC); `None`: never.
        expires_unix_ms: Option<u64>,
    },
    /// Messages `from` to `to` of a room were dropped because this consumer was too slow.
    Gap {
        /// The room.
        room: Name,
        /// First number dropped.
        from: u64,
        /// Last number dropped.
        to: u64,
    },
}
