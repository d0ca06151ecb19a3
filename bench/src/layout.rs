//! Which connection is a member of which room, and which thread of the harness holds it.
//!
//! Members of a group are numbered through, room after room, and each thread holds a contiguous slice of them. So a room
//! lies on one thread, or on a few neighbours.

use std::ops::Range;

/// Connections of one purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The first word of its rooms' and users' names.
    pub name: String,
    /// How many connections it has.
    pub connections: u32,
    /// Members of a room, at least 1. The last room has the rest.
    pub room_size: u32,
    /// The first so many members of each room publish.
    pub publishers: u32,
    /// The last so many members of each room may stop reading; what they are sent is not measured.
    pub slow: u32,
    /// The threads that hold it.
    pub threads: Range<u32>,
}

impl Group {
    /// How many rooms it has.
    #[must_use]
    pub const fn rooms(&self) -> u32 {
        self.connections.div_ceil(self.room_size)
    }

    /// The members that a thread holds.
    #[must_use]
    pub fn slice(&self, thread: u32) -> Range<u32> {
        if !self.threads.contains(&thread) {
            return 0..0;
        }
        let parts = u64::from(self.threads.end - self.threads.start);
        let part = u64::from(thread - self.threads.start);
        let bound = |part: u64| (u64::from(self.connections) * part / parts) as u32;
        bound(part)..bound(part + 1)
    }

    /// The room of a member.
    #[must_use]
    pub const fn room(&self, member: u32) -> u32 {
        member / self.room_size
    }

    /// The members of a room.
    #[must_use]
    pub fn members(&self, room: u32) -> Range<u32> {
        let start = room * self.room_size;
        start..start.saturating_add(self.room_size).min(self.connections)
    }

    /// The members of a room whose deliveries are measured.
    #[must_use]
    pub fn receivers(&self, room: u32) -> Range<u32> {
        let members = self.members(room);
        members.start..members.end.saturating_sub(self.slow).max(members.start)
    }

    /// Whether the member may stop reading.
    #[must_use]
    pub fn is_slow(&self, member: u32) -> bool {
        !self.receivers(self.room(member)).contains(&member)
    }

    /// The member's number as a publisher of its room; `None` when it does not publish.
    #[must_use]
    pub const fn publisher(&self, member: u32) -> Option<u32> {
        let number = member % self.room_size;
        if number < self.publishers {
            Some(number)
        } else {
            None
        }
    }

    /// The place of a publisher among all of the group: the member's room and its number there.
    #[must_use]
    pub const fn publisher_rank(&self, member: u32, number: u32) -> u64 {
        self.room(member) as u64 * self.publishers as u64 + number as u64
    }

    /// Whom the member sends direct messages: each member has one partner, far away, and is one member's partner.
    #[must_use]
    pub const fn partner(&self, member: u32) -> u32 {
        let far = self.connections / 2 + 1;
        ((member as u64 + far as u64) % self.connections as u64) as u32
    }

    /// How many threads hold receivers of a room.
    #[must_use]
    pub fn parts(&self, room: u32) -> u32 {
        let receivers = self.receivers(room);
        let holds = |thread: &u32| {
            let slice = self.slice(*thread);
            slice.start.max(receivers.start) < slice.end.min(receivers.end)
        };
        self.threads.clone().filter(holds).count() as u32
    }

    /// The name of a room.
    #[must_use]
    pub fn room_name(&self, room: u32) -> String {
        format!("{}-{room}", self.name)
    }

    /// The name of a user.
    #[must_use]
    pub fn user_name(&self, member: u32) -> String {
        format!("{}.{member}", self.name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    prop_compose! {
        fn group()(
            connections in 1_u32..2000, room_size in 1_u32..300, publishers in 0_u32..5, slow in 0_u32..5,
            first in 0_u32..3, threads in 1_u32..9,
        ) -> Group {
            Group { name: "g".to_owned(), connections, room_size, publishers, slow, threads: first..first + threads }
        }
    }

    proptest! {
        #[test]
        fn slices_hold_every_member_once(group in group()) {
            let held: Vec<u32> = (0..20).flat_map(|thread| group.slice(thread)).collect();
            prop_assert_eq!(held, (0..group.connections).collect::<Vec<_>>());
        }

        #[test]
        fn rooms_hold_every_member_once(group in group()) {
            let held: Vec<u32> = (0..group.rooms()).flat_map(|room| group.members(room)).collect();
            prop_assert_eq!(held, (0..group.connections).collect::<Vec<_>>());
            for member in 0..group.connections {
                prop_assert!(group.members(group.room(member)).contains(&member));
            }
        }

        #[test]
        fn parts_are_the_threads_that_hold_a_receiver(group in group()) {
            for room in 0..group.rooms() {
                let receivers = group.receivers(room);
                let holders = (0..20).filter(|thread| group.slice(*thread).any(|member| receivers.contains(&member)));
                prop_assert_eq!(group.parts(room), holders.count() as u32);
            }
        }

        #[test]
        fn everyone_is_the_partner_of_exactly_one(group in group()) {
            let partners: HashSet<u32> = (0..group.connections).map(|member| group.partner(member)).collect();
            prop_assert_eq!(partners.len() as u32, group.connections);
        }
    }
}
