//! What an application has decided outside of the shard: whether a connection may come in, and what becomes of a message.
//!
//! A shard that asks holds the connection: nothing further that the peer sends is decoded, so its messages keep their order and wait where they always do. It goes on when the
//! verdict comes ([`Order::Verdict`](crate::orders::Order::Verdict)) or after `decision_ms_max`. A verdict that comes later, or twice, is ignored and counted.

use bytes::Bytes;

use crate::app::Dismissal;
use crate::driver::ConnectionKey;
use crate::hub::Name;
use crate::hub::event::ErrorCode;

bitflags::bitflags! {
    /// What an application wants to be asked or told that costs something.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Hooks: u8 {
        /// [`App::on_identity`](crate::app::App::on_identity).
        const IDENTITY = 1;
        /// [`App::on_publish`](crate::app::App::on_publish).
        const PUBLISH = 1 << 1;
        /// [`App::on_occupancy`](crate::app::App::on_occupancy).
        const OCCUPANCY = 1 << 2;
    }
}

/// Names one thing that a shard has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// Of which connection.
    pub connection: ConnectionKey,
    /// Tells it from every other question of the shard. Numbers begin anew at random when a shard starts again, as the keys of its connections are the same as before.
    pub number: u64,
}

/// The application's answer to a question of its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is decided.
    Decided(Ruling),
    /// Somebody outside decides; a [`Verdict`] follows.
    Held,
}

/// What is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The connection may come in; the message is published as it is.
    Allow,
    /// This, the text of one JSON value, is published in place of what the message said. Of a connection it means the same as [`Ruling::Allow`].
    Rewrite(Bytes),
    /// The connection is closed, and its message not published.
    Dismiss(Dismissal),
    /// The message is not published, and its sender told so. A connection is closed with 4403 for it.
    Refuse {
        /// Which kind of error the sender is told.
        code: ErrorCode,
        /// The reason, for people.
        message: Name,
    },
}

/// What has been decided about a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which.
    pub question: Question,
    /// And how.
    pub ruling: Ruling,
}

/// What becomes of a room's membership as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Occupancy {
    /// The room has its first user. May be said again without a [`Occupancy::Vacated`] before it, where the shard that is home to the room has started again.
    Occupied,
    /// The room has lost its last user.
    Vacated,
}
