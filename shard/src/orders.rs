//! What threads that are no shards ask of one: to publish, to tell what it holds, to close connections. Each order is carried out in one pass of the loop
//! and answered through a [`Reply`]; how much it may look at is bounded, so an answer may be a part with the place from which to go on.

use std::fmt;

use bytes::Bytes;
use std::sync::Arc;

use crate::busiest::RoomTraffic;
use crate::driver::ConnectionKey;
use crate::hub::event::{ErrorCode, Message};
use crate::hub::{Name, Position, Target};
use crate::shard::ShardCounts;
use crate::verdict::Verdict;

/// Entries of a table that one order looks at, at the most. Some 50 µs.
pub const ENTRIES_PER_ORDER_MAX: usize = 1000;

/// Connections that one order closes, at the most.
pub const CLOSES_PER_ORDER_MAX: usize = 100;

/// Rooms that a look at what a shard is busy with tells of, at the most.
pub const BUSIEST_MAX: usize = 20;

/// How long rooms are counted without another look.
pub const WATCH_US_MAX: u64 = 10_000_000;

/// Slow consumers that a look at what a shard is busy with tells of, at the most.
pub const SLOWEST_MAX: usize = 20;

/// Where the answer to an order goes. It is called on the shard's thread, once, and must not wait. It is dropped uncalled where the shard dies before it
/// has come to the order.
pub struct Reply<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Reply<T> {
    /// Calls `take` with the answer.
    pub fn new(take: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(take))
    }

    pub(crate) fn give(self, answer: T) {
        (self.0)(answer);
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// A message of the server's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// In whose name.
    pub user: Name,
    /// Where to.
    pub target: Target,
    /// The text of one JSON value.
    pub content: Bytes,
    /// Makes a repeat of it by the same user harmless, within the time that ids are kept.
    pub id: Option<Name>,
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its place in the order of the room or inbox.
    pub position: Position,
    /// Whether the id was seen before; then nothing was delivered again, and the place is that of the first.
    pub duplicate: bool,
}

/// A room, as its home sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomState {
    /// Its name.
    pub room: Name,
    /// Distinct users in it.
    pub users: u64,
    /// Connections in it.
    pub connections: u64,
    /// Where it stands.
    pub position: Position,
    /// When the last message of this epoch came, in milliseconds since 1970 (UTC).
    pub last_unix_ms: Option<u64>,
    /// Messages that are kept.
    pub history_messages: u64,
    /// What keeping them costs, in bytes.
    pub history_bytes: u64,
}

/// A user in a room, by way of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomMember {
    /// Who.
    pub user: Name,
    /// The shard that the connections are on.
    pub shard: u16,
    /// So many of the user's connections there are in the room.
    pub connections: u32,
}

/// A part of a table, in no particular order. Entries that come and go while the parts are read may be missing or stand twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What was found.
    pub entries: Vec<T>,
    /// Where to go on; `None` where all was seen.
    pub next: Option<u32>,
}

/// What is remembered of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// Where the room stands.
    pub position: Position,
    /// Oldest first.
    pub messages: Vec<Arc<Message>>,
    /// Whether nothing is missing between the place asked for and the first message.
    pub complete: bool,
}

/// An open connection, as its shard sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionState {
    /// Its name on the shard.
    pub key: ConnectionKey,
    /// Whose it is.
    pub user: Name,
    /// The rooms that it has joined or asked for; at most [`ENTRIES_PER_ORDER_MAX`] of all connections together.
    pub rooms: Vec<Name>,
    /// Bytes that wait to be sent to it.
    pub outbox_bytes: u64,
}

/// Connections of a user on one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserConnections {
    /// Some of them.
    pub connections: Vec<ConnectionState>,
    /// How many there are.
    pub count: u64,
}

/// A connection that does not read as fast as it is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowConsumer {
    /// Its name on the shard.
    pub key: ConnectionKey,
    /// Whose it is.
    pub user: Name,
    /// Bytes that wait to be sent to it, or are being sent.
    pub outbox_bytes: u64,
}

/// What a shard is busy with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// For how long rooms have been counted: since the last look, 0 where there was none for a while.
    pub counted_us: u64,
    /// The rooms with the most deliveries in that time, the busiest first; at most [`BUSIEST_MAX`].
    pub busiest_rooms: Vec<RoomTraffic>,
    /// Those that the most waits for, the slowest first; at most [`SLOWEST_MAX`]. Where very many outboxes are in use it takes some looks to find them.
    pub slow_consumers: Vec<SlowConsumer>,
}

/// How many connections an order to close has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// So many.
    pub closed: u64,
    /// So many are left; order again.
    pub left: u64,
}

/// Which connections an order means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// All of a user's on the shard.
    User(Name),
    /// One.
    Connection(ConnectionKey),
}

/// One order.
#[derive(Debug)]
pub enum Order {
    /// To publish. An answer is given by the home of the target alone: another shard answers [`ErrorCode::Unavailable`] and publishes nothing. Where no answer
    /// is wanted any shard will do.
    Publish {
        /// What.
        publication: Publication,
        /// Whether it was taken.
        reply: Option<Reply<Result<Published, ErrorCode>>>,
    },
    /// To go on with a connection or a message that was held until this was decided.
    Verdict(Verdict),
    /// How much the shard holds. That it answers says that it runs.
    Counts {
        /// The counts.
        reply: Reply<ShardCounts>,
    },
    /// What the shard is busy with. Rooms are counted from one look to the next, and no longer where none comes within [`WATCH_US_MAX`].
    Activity {
        /// Rooms and connections.
        reply: Reply<Activity>,
    },
    /// Rooms that the shard is home to.
    Rooms {
        /// Those whose names begin so.
        prefix: Name,
        /// Where to go on; 0 to begin.
        from: u32,
        /// How many at the most.
        limit: usize,
        /// Some of them.
        reply: Reply<Page<RoomState>>,
    },
    /// One room, of its home; `None` where there is no such room.
    Room {
        /// Its name.
        room: Name,
        /// How it stands.
        reply: Reply<Option<RoomState>>,
    },
    /// Who is in a room, of its home; `None` where there is no such room.
    Members {
        /// Its name.
        room: Name,
        /// Where to go on; 0 to begin.
        from: u32,
        /// How many at the most.
        limit: usize,
        /// Some of them.
        reply: Reply<Option<Page<RoomMember>>>,
    },
    /// What was said in a room, of its home; `None` where there is no such room.
    History {
        /// Its name.
        room: Name,
        /// After which place; the newest where none is given.
        since: Option<Position>,
        /// How many at the most.
        limit: u64,
        /// What is remembered.
        reply: Reply<Option<Recalled>>,
    },
    /// Connections of the shard.
    Connections {
        /// Which.
        whose: Whose,
        /// How many at the most.
        limit: usize,
        /// Those that are open.
        reply: Reply<UserConnections>,
    },
    /// To close connections, in the orderly way.
    Close {
        /// Which.
        whose: Whose,
        /// The code of the close frame, one that may be sent.
        code: u16,
        /// At most 123 bytes.
        reason: Name,
        /// How many were closed.
        reply: Reply<Closed>,
    },
}

impl Order {
    /// What the order takes, counted in mails.
    pub(crate) fn weight(&self) -> u64 {
        match self {
            Self::Publish { .. } | Self::Verdict(_) | Self::Counts { .. } | Self::Room { .. } => 1,
            Self::Activity { .. }
            | Self::Rooms { .. }
            | Self::Members { .. }
            | Self::History { .. }
            | Self::Connections { .. }
            | Self::Close { .. } => 64,
        }
    }
}
