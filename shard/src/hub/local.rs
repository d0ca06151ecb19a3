//! The members' side of a shard: what its connections ask for. That they come and go is in `opening`.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use bytes::Bytes;

use super::effect::{Effect, Effects, request};
use super::event::{ErrorCode, Event, Position, Target};
use super::mail::{JoinToken, Request};
use super::member::{Closed, Members, Membership, Place};
use super::opening::Opening;
use super::slice::{Pending, Slice};
use super::table::NameTable;
use super::{HomeChoice, Name};
use crate::driver::{Clock, ConnectionKey, ShardId};
use crate::limits::Limits;
use crate::room_settings::{Publishers, RoomKinds};

/// The members of a shard and their slices.
///
/// What they do is in this file; what homes answer is handled in `deliveries`.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) shard: ShardId,
    pub(super) members: Members,
    pub(super) slices: NameTable<Slice>,
    /// Users whose inbox is not open yet, with the connections that wait for it.
    pub(super) opening: HashMap<Name, Opening, RandomState>,
    pub(super) choice: HomeChoice,
    /// Tells this start of the shard from others.
    pub(super) incarnation: u64,
    /// By shard: whether it has answered this incarnation's Hello. What it says before is not for us.
    pub(super) welcomed: Vec<bool>,
    /// Number of the last join.
    pub(super) attempt_last: u32,
    rooms_per_connection_max: usize,
    /// Whether homes are asked about each connection of a user.
    pub(super) counts_connections: bool,
    pub(super) kinds: Arc<RoomKinds>,
    /// Answers that nobody waits for any more.
    pub(super) stale: u64,
    /// Deliveries for rooms that have no slice here, or that do not fit to what was told before.
    pub(super) ignored: u64,
}

impl Local {
    pub(super) fn new(
        shard: ShardId,
        choice: HomeChoice,
        limits: &Limits,
        kinds: Arc<RoomKinds>,
        hasher: RandomState,
    ) -> Self {
        let mut welcomed = vec![false; usize::from(choice.shards())];
        if let Some(own) = welcomed.get_mut(usize::from(shard)) {
            // Mail to the shard itself dies with it: nothing can come from before.
            *own = true;
        }
        Self {
            shard,
            members: Members::new(hasher.clone()),
            slices: NameTable::new(hasher.clone()),
            opening: HashMap::with_hasher(hasher),
            choice,
            incarnation: 0,
            welcomed,
            attempt_last: 0,
            rooms_per_connection_max: usize::try_from(limits.rooms_per_connection_max)
                .unwrap_or(usize::MAX),
            counts_connections: limits.user_connections_max > 0,
            kinds,
            stale: 0,
            ignored: 0,
        }
    }

    pub(super) fn start(&mut self, clock: Clock, effects: &mut Effects) {
        // Two starts of a shard differ in one clock or the other, whatever the operator does to the second.
        self.incarnation = clock.unix_ms.rotate_left(32) ^ clock.monotonic_us;
        for shard in (0..self.choice.shards()).filter(|shard| *shard != self.shard) {
            self.say_hello(shard, effects);
        }
    }

    pub(super) fn say_hello(&self, shard: ShardId, effects: &mut Effects) {
        let incarnation = self.incarnation;
        request(effects, shard, Request::Hello { incarnation });
    }

    pub(super) fn close(&mut self, key: ConnectionKey, effects: &mut Effects) {
        if let Some(closed) = self.forget(key, effects) {
            self.close_inbox(key, closed.user, closed.last, effects);
        }
    }

    /// Takes a connection out of the rooms and out of its user's connections.
    pub(super) fn forget(&mut self, key: ConnectionKey, effects: &mut Effects) -> Option<Closed> {
        let mut closed = self.members.close(key)?;
        for membership in std::mem::take(&mut closed.memberships) {
            self.take_out(membership.slice, membership.place);
            self.say_left(membership.slice, &closed.user, effects);
        }
        Some(closed)
    }

    /// Asks the room's home to let the connection in. A connection that is in, or waits, asks anew: it is
    /// told once more where the room stands, and what it missed since the place it gives.
    pub(super) fn join(
        &mut self,
        key: ConnectionKey,
        room: Name,
        since: Option<Position>,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        let user = self.members.user(key).ok_or(ErrorCode::BadRequest)?.clone();
        let slice = self.slices.find(&room);
        let place = slice.and_then(|slice| self.members.place(key, slice));
        if place.is_none() && self.members.rooms(key.slot) >= self.rooms_per_connection_max {
            return Err(ErrorCode::TooManyRooms);
        }
        let slice = slice.unwrap_or_else(|| {
            let home = self.choice.room(&room);
            let kind = self.kinds.of_room(&room);
            self.slices
                .insert(room.clone(), Slice::new(home, kind, self.attempt_last))
        });
        if let Some(place) = place {
            self.take_out(slice, place);
        }
        let attempt = attempt_next(&mut self.attempt_last);
        let Some(entry) = self.slices.get_mut(slice) else {
            return Err(ErrorCode::BadRequest);
        };
        let place_new = entry.add_pending(Pending {
            slot: key.slot,
            attempt,
            since,
        });
        let home = entry.home;
        self.members.set_place(key.slot, slice, place_new);
        let join = Request::Join {
            room: room.clone(),
            token: JoinToken {
                member: key,
                attempt,
            },
            user: user.clone(),
            since,
        };
        request(effects, home, join);
        if place.is_some() {
            // After the join: the user is never absent in between, so nobody is told of a coming and going.
            request(effects, home, Request::Leave { room, user });
        }
        Ok(())
    }

    pub(super) fn leave(
        &mut self,
        key: ConnectionKey,
        room: &str,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        let (slice, place) = self.membership(key, room).ok_or(ErrorCode::NotJoined)?;
        self.part(key, Membership { slice, place }, None, effects);
        Ok(())
    }

    /// A member leaves the rooms that it has joined or asked for and may not stay in.
    pub(super) fn expel(
        &mut self,
        key: ConnectionKey,
        may_stay: impl Fn(&str) -> bool,
        effects: &mut Effects,
    ) {
        let denied = |membership: &&Membership| {
            let room = self.slices.name(membership.slice);
            room.is_some_and(|room| !may_stay(room))
        };
        let memberships = self.members.memberships_of(key).iter();
        let denied: Vec<Membership> = memberships.filter(denied).copied().collect();
        for membership in denied {
            self.part(key, membership, Some(ErrorCode::Forbidden), effects);
        }
    }

    /// Ends a membership and tells the member and the home.
    fn part(
        &mut self,
        key: ConnectionKey,
        Membership { slice, place }: Membership,
        reason: Option<ErrorCode>,
        effects: &mut Effects,
    ) {
        let (Some(user), Some(room)) = (self.members.user(key), self.slices.name(slice)) else {
            return;
        };
        let (user, room) = (user.clone(), room.clone());
        self.take_out(slice, place);
        self.members.remove_place(key.slot, slice);
        self.say_left(slice, &user, effects);
        let event = Event::Left { room, reason };
        effects.push(Effect::ToMember { key, event });
    }

    pub(super) fn publish(
        &mut self,
        key: ConnectionKey,
        target: Target,
        content: Bytes,
        id: Option<Name>,
        clock: Clock,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        self.may_publish(key, &target, content.len())?;
        let user = self.members.user(key).ok_or(ErrorCode::BadRequest)?.clone();
        let home = self.choice.target(&target);
        let publish = Request::Publish {
            target,
            user,
            content,
            id,
            sender: Some(key),
            taken_us: Some(clock.monotonic_us),
        };
        request(effects, home, publish);
        Ok(())
    }

    /// Whether a connection may publish so many bytes, as far as membership and the settings of rooms go.
    pub(super) fn may_publish(
        &self,
        key: ConnectionKey,
        target: &Target,
        bytes: usize,
    ) -> Result<(), ErrorCode> {
        self.members.user(key).ok_or(ErrorCode::BadRequest)?;
        if let Target::Room(room) = target {
            let (slice, _) = self.membership(key, room).ok_or(ErrorCode::NotJoined)?;
            self.check_publish(slice, bytes)?;
        }
        Ok(())
    }

    /// Whether the settings of a room permit that a member publishes so many bytes.
    fn check_publish(&self, slice: u32, bytes: usize) -> Result<(), ErrorCode> {
        let kind = self.slices.get(slice).map(|slice| slice.kind);
        let kind = self.kinds.get(kind.unwrap_or_default());
        if kind.publish == Publishers::Server {
            return Err(ErrorCode::Forbidden);
        }
        if bytes as u64 > kind.message_size_max {
            return Err(ErrorCode::TooLarge);
        }
        Ok(())
    }

    /// The member's place in a room's slice.
    pub(super) fn membership(&self, key: ConnectionKey, room: &str) -> Option<(u32, Place)> {
        let slice = self.slices.find(room)?;
        Some((slice, self.members.place(key, slice)?))
    }

    /// Takes a member out of a slice's lists and notes the new place of the one that fills the hole.
    pub(super) fn take_out(&mut self, slice: u32, place: Place) {
        let moved = self
            .slices
            .get_mut(slice)
            .and_then(|entry| entry.remove(place));
        if let Some(slot) = moved {
            self.members.set_place(slot, slice, place);
        }
    }

    /// Drops a slice without members.
    pub(super) fn drop_if_empty(&mut self, slice: u32) {
        if self.slices.get(slice).is_some_and(Slice::is_empty) {
            self.slices.remove(slice);
        }
    }

    /// Tells the home that a member has left the slice, which is dropped where it was the last.
    fn say_left(&mut self, slice: u32, user: &Name, effects: &mut Effects) {
        let (Some(entry), Some(room)) = (self.slices.get(slice), self.slices.name(slice)) else {
            return;
        };
        let leave = Request::Leave {
            room: room.clone(),
            user: user.clone(),
        };
        request(effects, entry.home, leave);
        self.drop_if_empty(slice);
    }
}

/// The number of the next join. By the time the numbers come round again, no answer is under way.
pub(super) fn attempt_next(last: &mut u32) -> u32 {
    *last = last.wrapping_add(1);
    *last
}

/// Whether one join came after another.
pub(super) fn attempt_is_after(one: u32, other: u32) -> bool {
    // The numbers come round: the shorter way from one to the other counts.
    one.wrapping_sub(other).cast_signed() > 0
}
