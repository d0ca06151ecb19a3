//! What a call of the hub asks its caller to do.

use std::sync::Arc;

use super::event::{Event, Message, Position};
use super::mail::{Delivery, Mail, Request};
use super::{Name, SliceId};
use crate::driver::{Clock, ConnectionKey, ShardId};
use crate::verdict::Occupancy;

/// One thing to do. The effects of a call are carried out in order, and before the next call.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send a mail. A mail to the shard itself comes back through [`Hub::handle`](super::Hub::handle),
    /// in order, and dies with the shard.
    Mail {
        /// To which shard; may be the hub's own.
        to: ShardId,
        /// What.
        mail: Mail,
    },
    /// The connection's inbox is open: whatever is said to its user from here on reaches it. Comes once for each
    /// [`Hub::member_open`](super::Hub::member_open), unless the connection closes first or is refused.
    Opened {
        /// Which.
        key: ConnectionKey,
    },
    /// The connection's user has as many as `user_connections_max` without it: it is to be closed. The rooms have forgotten it. Comes in place of
    /// [`Effect::Opened`].
    Refused {
        /// Which.
        key: ConnectionKey,
    },
    /// Tell one connection.
    ToMember {
        /// Which.
        key: ConnectionKey,
        /// What.
        event: Event,
    },
    /// Tell one connection by [`Event::Joined`] that it is in a room, and then what it has missed, unless more waits for it than may:
    /// then it recovers nothing.
    Joined {
        /// Which.
        key: ConnectionKey,
        /// The room.
        room: Name,
        /// Where the room stands.
        position: Position,
        /// Users present.
        members: u64,
        /// Everything after the position that the joiner gave, oldest first; `None` where something is lost, or none was given.
        missed: Option<Vec<Arc<Message>>>,
    },
    /// Tell every member of a slice; encoded once.
    ToSlice {
        /// Which; its members are [`Hub::slice_members`](super::Hub::slice_members).
        slice: SliceId,
        /// What.
        event: Event,
        /// When a message was taken in that is told for the first time; see [`Delivery::Message`].
        taken_us: Option<u64>,
    },
    /// A room whose home is here has its first user, or has lost its last. Comes only after [`Hub::tell_occupancy`](super::Hub::tell_occupancy).
    Occupancy {
        /// The room.
        room: Name,
        /// Which of the two.
        occupancy: Occupancy,
    },
    /// Tell every connection that a user has on this shard.
    ToUser {
        /// Who; the connections are [`Hub::user_connections`](super::Hub::user_connections).
        user: Name,
        /// What.
        event: Event,
        /// When the message was taken in; see [`Delivery::Message`].
        taken_us: u64,
    },
}

/// The effects of one or more calls, in order.
pub type Effects = Vec<Effect>;

/// Queues a request to a home.
pub(super) fn request(effects: &mut Effects, to: ShardId, request: Request) {
    effects.push(Effect::Mail {
        to,
        mail: Mail::Request(request),
    });
}

/// A request that a home is answering: where it came from, when, and where the answers go.
pub(super) struct Call<'a> {
    pub(super) from: ShardId,
    pub(super) clock: Clock,
    pub(super) effects: &'a mut Effects,
}

impl Call<'_> {
    /// Queues a delivery to a shard.
    pub(super) fn deliver(&mut self, to: ShardId, delivery: Delivery) {
        self.effects.push(Effect::Mail {
            to,
            mail: Mail::Delivery(delivery),
        });
    }

    /// Queues an answer to one connection of the shard that asked.
    pub(super) fn reply(&mut self, to: ConnectionKey, event: Event) {
        self.deliver(self.from, Delivery::Reply { to, event });
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.monotonic_ms()
    }
}
