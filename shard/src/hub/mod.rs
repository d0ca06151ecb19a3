//! Rooms: who is in them, in which order things are said, and who must be told.
//!
//! No bytes of a client protocol, no sockets, no clock, no randomness: the time and the seed are passed in, and
//! what is to be done comes out as [`Effect`]s. So the simulation runs the same code as the server.
//!
//! A hub is one shard's part of all rooms, and has two sides. On the members' side (`local`, `deliveries`) stand
//! the shard's connections and the slices of the rooms that they are in. On the home side (`homes`) stand
//! the rooms that the shard orders. The sides talk in [`Mail`] alone, also within one shard, so a room whose
//! home is elsewhere works in no way differently.
//!
//! What the rest relies on:
//!
//! * **Mail between two shards keeps its order within a class.** A joiner is counted in at the home at one place of
//!   the room's order, and the answer and the messages after that place travel one way: no gap, no repeat.
//! * **A shard may start again at any time**, and then has lost a part of the mail sent to it before. Its first mail,
//!   a Hello of each class, makes the others forget its members and register their own. Members are told by
//!   [`Event::Reset`] that a room has lost its memory.
//! * **Nothing here panics or waits**, whatever mail comes; what does not fit is counted and dropped.
//! * An idle room or connection costs no work at all, and work that is due is found without a search.

mod deliveries;
mod due;
mod effect;
pub mod event;
mod history;
mod home;
mod homes;
mod ids;
mod inbox;
mod inspect;
mod interest;
mod local;
pub mod mail;
mod member;
mod opening;
mod order;
mod presence;
mod slab;
mod slice;
mod table;
#[cfg(test)]
mod tests;
mod users;

pub use effect::{Effect, Effects};
pub use event::{Event, Position, Target};
pub use mail::Mail;

use ahash::RandomState;
use bytes::Bytes;
use std::sync::Arc;

use crate::driver::{Clock, ConnectionKey, ShardId};
use crate::limits::Limits;
use crate::orders::{Publication, Published};
use crate::outbox::SlowConsumer;
use crate::room_settings::RoomKinds;
use effect::{Call, request};
use event::ErrorCode;
use homes::Homes;
use local::Local;
use mail::{Delivery, Request};

/// The name of a room, of a user or of a message: 16 bytes, without an allocation up to 15 bytes.
pub type Name = ecow::EcoString;

/// Number of a room's slice on its shard; given to another room's once the slice is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SliceId(u32);

/// How much a hub holds. All of it is kept as counters: reading costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubCounts {
    /// Rooms that this shard is home to.
    pub rooms: u64,
    /// Inboxes that this shard is home to.
    pub inboxes: u64,
    /// Bytes of their histories.
    pub history_bytes: u64,
    /// Rooms that have members, or joins under way, on this shard.
    pub slices: u64,
    /// Connections.
    pub members: u64,
    /// Answers that nobody waited for any more, since the start.
    pub stale_replies: u64,
    /// Mails that made no sense, as restarts of shards leave them, since the start.
    pub ignored_mails: u64,
}

/// One shard's part of all rooms.
#[derive(Debug)]
pub struct Hub {
    shard: ShardId,
    local: Local,
    homes: Homes,
}

impl Hub {
    /// The hub of shard number `shard` out of `shards`, whose rooms are all alike. All hubs of a process are given the same `seed`, which keys the
    /// choice of homes; it should be hard to guess, or strangers can crowd one shard with their rooms.
    #[must_use]
    pub fn new(shard: ShardId, shards: u16, limits: &Limits, seed: u64) -> Self {
        let kinds = RoomKinds::new(limits, SlowConsumer::default(), &[]);
        Self::with_kinds(shard, shards, limits, Arc::new(kinds), seed)
    }

    /// The same where rooms differ. All hubs of a process are given the same kinds.
    #[must_use]
    pub fn with_kinds(
        shard: ShardId,
        shards: u16,
        limits: &Limits,
        kinds: Arc<RoomKinds>,
        seed: u64,
    ) -> Self {
        let choice = HomeChoice::new(shards, seed);
        // Other keys than the choice's: all names of a shard agree in what the choice looks at.
        let hasher = RandomState::with_seeds(seed, 0x7461_626c_6573, u64::from(shard), 2);
        Self {
            shard,
            local: Local::new(shard, choice, limits, Arc::clone(&kinds), hasher.clone()),
            homes: Homes::new(limits, kinds, hasher),
        }
    }

    /// Has the hub tell by [`Effect::Occupancy`] of rooms that users come into and leave empty. Before the first other call.
    pub fn tell_occupancy(&mut self) {
        self.homes.tells_occupancy = true;
    }

    /// The shard that orders a target's messages.
    #[must_use]
    pub fn home_of(&self, target: &Target) -> ShardId {
        self.local.choice.target(target)
    }

    /// Says Hello to every other shard. Must be the first call, and its mail the first to leave the shard. `origin` is the time of
    /// the first start of the first shard, the same at every later start.
    pub fn start(&mut self, clock: Clock, origin: Clock, effects: &mut Effects) {
        self.homes.start(origin);
        self.local.start(clock, effects);
        for to in (0..self.local.choice.shards()).filter(|to| *to != self.shard) {
            effects.push(Effect::Mail {
                to,
                mail: Mail::Delivery(Delivery::Hello),
            });
        }
    }

    /// A connection has opened. Until it closes, `key` names it. [`Effect::Opened`] follows, at once or when the home of
    /// the user's inbox has answered: before it, nobody should know that the connection is there. [`Effect::Refused`] follows in its place where
    /// `user_connections_max` is reached.
    pub fn member_open(&mut self, key: ConnectionKey, user: Name, effects: &mut Effects) {
        self.local.open(key, user, effects);
    }

    /// A connection has closed: it leaves every room. A stale key is nobody's.
    pub fn member_close(&mut self, key: ConnectionKey, effects: &mut Effects) {
        self.local.close(key, effects);
    }

    /// The user of a connection; `None` where the key is stale.
    #[must_use]
    pub fn member_user(&self, key: ConnectionKey) -> Option<&Name> {
        self.local.members.user(key)
    }

    /// Asks for a room. [`Event::Joined`] or an [`Event::Error`] follows; what was missed after `since` follows
    /// [`Event::Joined`]. A connection that has joined already is answered anew.
    ///
    /// # Errors
    /// [`ErrorCode::TooManyRooms`]: the connection is in as many rooms as it may be in.
    /// [`ErrorCode::BadRequest`]: the key is stale.
    pub fn join(
        &mut self,
        key: ConnectionKey,
        room: Name,
        since: Option<Position>,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        self.local.join(key, room, since, effects)
    }

    /// Leaves a room that the connection has joined or asked for; it is told so by [`Event::Left`].
    ///
    /// # Errors
    /// [`ErrorCode::NotJoined`]: it has done neither.
    pub fn leave(
        &mut self,
        key: ConnectionKey,
        room: &str,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        self.local.leave(key, room, effects)
    }

    /// Has a connection leave, of the rooms that it has joined or asked for, those that it may not stay in; it is told so by [`Event::Left`]
    /// with [`ErrorCode::Forbidden`] as the reason. Takes time in proportion to the rooms of that connection.
    pub fn expel(
        &mut self,
        key: ConnectionKey,
        may_stay: impl Fn(&str) -> bool,
        effects: &mut Effects,
    ) {
        self.local.expel(key, may_stay, effects);
    }

    /// Publishes to a room that the connection has joined or asked for, or to anybody's inbox. `content` is the
    /// text of one JSON value. With an `id`, an [`Event::Ack`] or an [`Event::Error`] follows, and a repeat of
    /// the same user's id is not delivered again.
    ///
    /// # Errors
    /// [`ErrorCode::NotJoined`]: the connection has neither joined the room nor asked for it.
    /// [`ErrorCode::Forbidden`], [`ErrorCode::TooLarge`]: the room's settings do not permit it.
    /// [`ErrorCode::BadRequest`]: the key is stale.
    pub fn publish(
        &mut self,
        key: ConnectionKey,
        target: Target,
        content: Bytes,
        id: Option<Name>,
        clock: Clock,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        self.local.publish(key, target, content, id, clock, effects)
    }

    /// Whether [`Hub::publish`] would take so many bytes of this connection now.
    ///
    /// # Errors
    /// Those of [`Hub::publish`].
    pub fn may_publish(
        &self,
        key: ConnectionKey,
        target: &Target,
        bytes: usize,
    ) -> Result<(), ErrorCode> {
        self.local.may_publish(key, target, bytes)
    }

    /// Publishes on behalf of the server, as `user`; needs no membership and is not acknowledged.
    pub fn publish_from_server(&mut self, publication: Publication, effects: &mut Effects) {
        let Publication {
            user,
            target,
            content,
            id,
        } = publication;
        let home = self.home_of(&target);
        let publish = Request::Publish {
            target,
            user,
            content,
            id,
            sender: None,
            taken_us: None,
        };
        request(effects, home, publish);
    }

    /// Publishes on behalf of the server to a room or an inbox that this shard is home to.
    ///
    /// # Errors
    /// [`ErrorCode::TooManyRooms`]: this shard holds as many as it may. [`ErrorCode::TooLarge`]: the room's settings do not permit it.
    /// [`ErrorCode::Unavailable`]: another shard is home to it.
    pub fn publish_at_home(
        &mut self,
        publication: Publication,
        clock: Clock,
        effects: &mut Effects,
    ) -> Result<Published, ErrorCode> {
        if self.home_of(&publication.target) != self.shard {
            return Err(ErrorCode::Unavailable);
        }
        let mut call = Call {
            from: self.shard,
            clock,
            effects,
        };
        self.homes.publish_from_server(publication, &mut call)
    }

    /// Asks who is in a room; [`Event::Presence`] follows, or an [`Event::Error`] where presence is off.
    pub fn presence(&mut self, key: ConnectionKey, room: Name, effects: &mut Effects) {
        let home = self.local.choice.room(&room);
        request(effects, home, Request::Presence { room, asker: key });
    }

    /// Asks for past messages of a room; [`Event::History`] follows.
    pub fn history(
        &mut self,
        key: ConnectionKey,
        room: Name,
        since: Option<Position>,
        limit: Option<u64>,
        effects: &mut Effects,
    ) {
        let home = self.local.choice.room(&room);
        let history = Request::History {
            room,
            asker: key,
            since,
            limit,
        };
        request(effects, home, history);
    }

    /// A mail has come from a shard, which may be this one.
    pub fn handle(&mut self, from: ShardId, mail: Mail, clock: Clock, effects: &mut Effects) {
        match mail {
            Mail::Request(request) => {
                let mut call = Call {
                    from,
                    clock,
                    effects,
                };
                self.homes.handle(request, &mut call);
            }
            Mail::Delivery(delivery) => self.local.handle(from, delivery, effects),
        }
    }

    /// Does a bounded part of what is due: counts of large rooms, and forgetting what has expired.
    pub fn run_due(&mut self, clock: Clock, effects: &mut Effects) {
        self.homes.run_due(self.shard, clock, effects);
    }

    /// When [`Hub::run_due`] is to be called next, on the monotonic clock in milliseconds; `None` where nothing waits.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        self.homes.next_due_ms()
    }

    /// The members whom an [`Effect::ToSlice`] means.
    pub fn slice_members(&self, slice: SliceId) -> impl Iterator<Item = ConnectionKey> {
        let slots = self
            .local
            .slices
            .get(slice.0)
            .map_or(&[][..], |slice| slice.active());
        slots
            .iter()
            .filter_map(|slot| self.local.members.key(*slot))
    }

    /// What happens to members of a slice who are too slow.
    pub(crate) fn slice_policy(&self, slice: SliceId) -> SlowConsumer {
        let slice = self.local.slices.get(slice.0);
        let kind = slice.map(|slice| slice.kind).unwrap_or_default();
        self.local.kinds.get(kind).slow_consumer
    }

    /// What happens to members of a room who are too slow.
    pub(crate) fn room_policy(&self, room: &str) -> SlowConsumer {
        let Local { slices, kinds, .. } = &self.local;
        let slice = slices.find(room).and_then(|slice| slices.get(slice));
        let kind = slice.map_or_else(|| kinds.of_room(room), |slice| slice.kind);
        kinds.get(kind).slow_consumer
    }

    /// Bytes of content that a member may publish in a room.
    pub(crate) fn message_size_max(&self, room: &str) -> u64 {
        let kinds = &self.local.kinds;
        kinds.get(kinds.of_room(room)).message_size_max
    }

    /// The connections of a user on this shard.
    pub fn user_connections(&self, user: &str) -> impl Iterator<Item = ConnectionKey> {
        self.local.members.connections(user)
    }

    /// How much the hub holds.
    #[must_use]
    pub fn counts(&self) -> HubCounts {
        HubCounts {
            rooms: self.homes.rooms() as u64,
            inboxes: self.homes.inboxes() as u64,
            history_bytes: self.homes.history_bytes(),
            slices: self.local.slices.len() as u64,
            members: self.local.members.len() as u64,
            stale_replies: self.local.stale,
            ignored_mails: self.local.ignored + self.homes.ignored,
        }
    }
}

/// Which shard is home to what. The same on all shards of a process.
#[derive(Clone, Debug)]
pub struct HomeChoice {
    hasher: RandomState,
    shards: u16,
}

impl HomeChoice {
    /// The choice of all hubs that were given this seed.
    #[must_use]
    pub fn new(shards: u16, seed: u64) -> Self {
        Self {
            hasher: RandomState::with_seeds(seed, 0x0068_6f6d_6573, 0, 1),
            shards: shards.max(1),
        }
    }

    fn shards(&self) -> u16 {
        self.shards
    }

    /// The two kinds are told apart, so that a user's inbox does not follow the room of the same name.
    fn choose(&self, kind: u8, name: &str) -> ShardId {
        let hash = self.hasher.hash_one((kind, name));
        // The remainder is below a `u16`.
        (hash % u64::from(self.shards)) as ShardId
    }

    /// The shard that orders a room's messages.
    #[must_use]
    pub fn room(&self, room: &str) -> ShardId {
        self.choose(b'r', room)
    }

    fn inbox(&self, user: &str) -> ShardId {
        self.choose(b'i', user)
    }

    /// The shard that orders a target's messages.
    #[must_use]
    pub fn target(&self, target: &Target) -> ShardId {
        match target {
            Target::Room(room) => self.room(room),
            Target::Inbox(user) => self.inbox(user),
        }
    }
}
