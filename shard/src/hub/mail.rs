//! What shards say to each other about rooms.
//!
//! Mail has two classes, and each class has mailboxes of its own. A [`Request`] goes to a home and may
//! cause deliveries. A [`Delivery`] goes to a slice and causes no mail. So deliveries can always be drained,
//! and full mailboxes cannot hold each other up in a circle. Three deliveries are exceptions, all rare:
//! a [`Delivery::Hello`] makes the slices register with the home that has started again, a
//! [`Delivery::JoinRefused`] that comes after the member has left makes its slice register once more, and a [`Delivery::InboxOpened`] where a user's
//! connections are bounded may be followed by one request more about those that came or went meanwhile.

use bytes::Bytes;
use std::sync::Arc;

use super::event::{Event, Message};
use super::{Name, Position, Target};
use crate::driver::ConnectionKey;

/// Any mail.
#[derive(Clone, Debug, PartialEq)]
pub enum Mail {
    /// From a slice to a home.
    Request(Request),
    /// From a home to a slice.
    Delivery(Delivery),
}

/// A member's join on its way to the home and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JoinToken {
    /// Who joins.
    pub member: ConnectionKey,
    /// Which of that member's joins: a join, a leave and a join again are told apart by it.
    pub attempt: u32,
}

/// To the home of a room or of an inbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// The sending shard has started (again): whatever it had before is gone. First mail of each incarnation,
    /// answered by [`Delivery::Welcome`].
    Hello {
        /// Different for each start of the sending shard; comes back with the answer.
        incarnation: u64,
    },
    /// A connection of the sending shard wants to join.
    Join {
        /// The room.
        room: Name,
        /// Comes back with the answer.
        token: JoinToken,
        /// The joiner's user.
        user: Name,
        /// The last place the joiner saw.
        since: Option<Position>,
    },
    /// A connection that had asked to join leaves.
    Leave {
        /// The room.
        room: Name,
        /// The leaver's user.
        user: Name,
    },
    /// The members of a slice whose home has started again. They replace whatever the home knows of the
    /// sending shard's members; answered by [`Delivery::Reset`] unless there are none.
    Rejoin {
        /// The room.
        room: Name,
        /// Each member connection's user; a user with two connections stands twice. Without those whose
        /// join is not answered yet: their joins follow.
        users: Vec<Name>,
    },
    /// Connections of a user wait on the sending shard: the first ones or, where `user_connections_max` bounds them, any. Answered by
    /// [`Delivery::InboxOpened`].
    InboxOpen {
        /// Whose inbox.
        user: Name,
        /// Comes back with the answer.
        attempt: u32,
        /// Connections of the user that the shard has let in. Replaces whatever the home knew of it.
        open: u32,
        /// Connections that wait to be let in.
        waiting: u32,
    },
    /// Connections of a user on the sending shard have closed: the last one or, where `user_connections_max` bounds them, any.
    InboxClose {
        /// Whose inbox.
        user: Name,
        /// Connections of the user that are left.
        left: u32,
    },
    /// A message to be ordered and delivered.
    Publish {
        /// Where to.
        target: Target,
        /// From whom.
        user: Name,
        /// The text of one JSON value.
        content: Bytes,
        /// The client's id: asks for an acknowledgement and makes a repeat harmless.
        id: Option<Name>,
        /// Who is acknowledged.
        sender: Option<ConnectionKey>,
        /// When the publisher's shard took it in, on the monotonic clock of the process; `None` where nobody timed it.
        taken_us: Option<u64>,
    },
    /// Who is in the room?
    Presence {
        /// The room.
        room: Name,
        /// Who is answered.
        asker: ConnectionKey,
    },
    /// What was said in the room?
    History {
        /// The room.
        room: Name,
        /// Who is answered.
        asker: ConnectionKey,
        /// After which place; from the oldest where none is given.
        since: Option<Position>,
        /// At most so many of the newest where no place is given, of the oldest after it otherwise.
        limit: Option<u64>,
    },
}

/// From the home of a room or of an inbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// The sending shard has started (again): the rooms it was home to must be registered anew.
    Hello,
    /// The answer to [`Request::Hello`]. Deliveries before it were meant for an earlier incarnation.
    Welcome {
        /// From the request.
        incarnation: u64,
    },
    /// The join was carried out. Messages after the position will be delivered.
    Joined {
        /// The room.
        room: Name,
        /// From the request.
        token: JoinToken,
        /// Where the room stands.
        position: Position,
        /// Users present.
        members: u64,
        /// Whether `missed` closes the gap to the place that the joiner gave.
        recovered: bool,
        /// What the joiner missed, oldest first.
        missed: Vec<Arc<Message>>,
    },
    /// The join was refused.
    JoinRefused {
        /// The room.
        room: Name,
        /// From the request.
        token: JoinToken,
        /// Why.
        code: super::event::ErrorCode,
    },
    /// From here on, direct messages to the user are delivered, if any of its connections is let in.
    InboxOpened {
        /// Whose inbox.
        user: Name,
        /// From the request.
        attempt: u32,
        /// How many of those that wait are let in.
        admitted: u32,
    },
    /// The answer to a rejoin: where the room stands, mostly in a new epoch.
    Reset {
        /// The room.
        room: Name,
        /// Where the room stands in it.
        position: Position,
        /// What was published in this epoch so far and is remembered.
        missed: Vec<Arc<Message>>,
    },
    /// A message for every member of the slice, or for every connection of the user.
    Message {
        /// The message.
        message: Arc<Message>,
        /// When a shard first had it, on the monotonic clock of the process. Here and not in the message: what a history remembers does without.
        taken_us: u64,
    },
    /// Something else for every member of the slice of `room`: presence.
    Broadcast {
        /// The room.
        room: Name,
        /// What they are told.
        event: Arc<Event>,
    },
    /// An answer for one connection.
    Reply {
        /// Who asked.
        to: ConnectionKey,
        /// The answer.
        event: Event,
    },
}
