//! What operators ask the rooms: pages of what a shard is home to, and of who is there. Each call looks at a bounded number of entries.

use super::event::{Event, Position};
use super::home::Home;
use super::homes::Homes;
use super::{Hub, Name};
use crate::driver::{Clock, ConnectionKey};
use crate::orders::{ENTRIES_PER_ORDER_MAX, Page, Recalled, RoomMember, RoomState};

impl Hub {
    /// Rooms that this shard is home to and whose names begin with `prefix`, from the place given on.
    #[must_use]
    pub fn rooms_page(&self, prefix: &str, from: u32, limit: usize) -> Page<RoomState> {
        self.homes.page(prefix, from, limit)
    }

    /// A room that this shard is home to.
    #[must_use]
    pub fn room_state(&self, room: &str) -> Option<RoomState> {
        self.homes.state(room)
    }

    /// Who is in a room that this shard is home to, from the place given on.
    #[must_use]
    pub fn members_page(&self, room: &str, from: u32, limit: usize) -> Option<Page<RoomMember>> {
        self.homes.members(room, from, limit)
    }

    /// What is remembered of a room that this shard is home to.
    pub fn recall(
        &mut self,
        room: &Name,
        since: Option<Position>,
        limit: u64,
        clock: Clock,
    ) -> Option<Recalled> {
        self.homes.recall(room, since, limit, clock)
    }

    /// The rooms that a connection has joined or asked for, at most so many.
    #[must_use]
    pub fn rooms_of(&self, key: ConnectionKey, most: usize) -> Vec<Name> {
        let memberships = self.local.members.memberships_of(key).iter();
        memberships
            .take(most)
            .filter_map(|membership| self.local.slices.name(membership.slice).cloned())
            .collect()
    }

    /// How many connections a user has on this shard.
    #[must_use]
    pub fn user_connections_count(&self, user: &str) -> usize {
        self.local.members.connections_count(user)
    }
}

impl Homes {
    fn page(&self, prefix: &str, from: u32, limit: usize) -> Page<RoomState> {
        let mut entries = Vec::new();
        let end = self.rooms.end();
        let mut id = from;
        let last = from.saturating_add(ENTRIES_PER_ORDER_MAX as u32).min(end);
        while id < last && entries.len() < limit {
            if let (Some(name), Some(home)) = (self.rooms.name(id), self.rooms.get(id))
                && name.starts_with(prefix)
            {
                entries.push(state_of(name, home));
            }
            id += 1;
        }
        Page {
            entries,
            next: (id < end).then_some(id),
        }
    }

    fn state(&self, room: &str) -> Option<RoomState> {
        let id = self.rooms.find(room)?;
        Some(state_of(self.rooms.name(id)?, self.rooms.get(id)?))
    }

    fn members(&self, room: &str, from: u32, limit: usize) -> Option<Page<RoomMember>> {
        let home = self.rooms.get(self.rooms.find(room)?)?;
        let limit = limit.min(ENTRIES_PER_ORDER_MAX);
        let entries: Vec<RoomMember> = home.members_from(from as usize).take(limit).collect();
        let next = from as usize + entries.len();
        Some(Page {
            entries,
            // A room has fewer entries than its shards have connections, which are counted in 32 bits.
            next: (next < home.members_len()).then_some(next as u32),
        })
    }

    fn recall(
        &mut self,
        room: &Name,
        since: Option<Position>,
        limit: u64,
        clock: Clock,
    ) -> Option<Recalled> {
        let id = self.rooms.find(room)?;
        let home = self.rooms.get_mut(id)?;
        home.order.expire(clock.monotonic_ms(), &mut self.shelf);
        let limit = limit.min(ENTRIES_PER_ORDER_MAX as u64);
        match home.order.recall(room.clone(), since, Some(limit)) {
            Event::History {
                position,
                messages,
                complete,
                ..
            } => Some(Recalled {
                position,
                messages,
                complete,
            }),
            _ => None,
        }
    }
}

fn state_of(room: &Name, home: &Home) -> RoomState {
    let (history_messages, history_bytes) = home.order.history_size();
    RoomState {
        room: room.clone(),
        users: home.users(),
        connections: home.interest.members(),
        position: home.order.position(),
        last_unix_ms: home.order.last_unix_ms(),
        history_messages,
        history_bytes,
    }
}
