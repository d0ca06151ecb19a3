//! Who is in a room.

use ahash::RandomState;
use hashbrown::HashTable;

use super::Name;
use crate::driver::ShardId;
use crate::orders::RoomMember;

/// The users of a room. A user is present as long as one connection on any shard is a member.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// One entry a user and shard, so that the users of a shard that has died can be told apart.
    entries: Vec<Present>,
    /// Places in `entries`, by users' names; empty where there are few enough to be looked through, as in nearly every room.
    index: HashTable<u32>,
    users: u32,
}

/// A user's connections on one shard.
#[derive(Debug)]
struct Present {
    user: Name,
    connections: u32,
    shard: ShardId,
}

const _: () = assert!(size_of::<Present>() <= 24, "one a member of every room");

/// Entries that are looked through: that takes less than a microsecond, and an index would cost each of them 6 to 11 bytes.
const LOOKED_THROUGH_MAX: usize = 128;

/// What the end of one membership meant for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// The user had no membership on that shard.
    Unknown,
    /// The user is still present.
    Stays,
    /// It was the user's last membership.
    Gone,
}

impl Presence {
    /// Distinct users.
    pub(super) fn users(&self) -> u64 {
        u64::from(self.users)
    }

    /// Where the entries of a user stand.
    fn places(&self, user: &str, hasher: &RandomState) -> impl Iterator<Item = usize> {
        let is_indexed = !self.index.is_empty();
        let looked_through = match is_indexed {
            true => 0..0,
            false => 0..self.entries.len(),
        };
        let indexed = is_indexed.then(|| self.index.iter_hash(hasher.hash_one(user)));
        let indexed = indexed.into_iter().flatten().map(|place| *place as usize);
        looked_through
            .chain(indexed)
            .filter(move |place| self.entries[*place].user == user)
    }

    /// One membership more; true where it is the user's first on any shard.
    pub(super) fn add(&mut self, user: &Name, shard: ShardId, hasher: &RandomState) -> bool {
        let mut first = true;
        let mut own = None;
        for place in self.places(user, hasher) {
            first = false;
            if self.entries[place].shard == shard {
                own = Some(place);
                break;
            }
        }
        match own {
            Some(place) => self.entries[place].connections += 1,
            None => {
                let entry = Present {
                    user: user.clone(),
                    connections: 1,
                    shard,
                };
                self.push(entry, hasher);
            }
        }
        self.users += u32::from(first);
        first
    }

    /// One membership less.
    pub(super) fn remove(&mut self, user: &str, shard: ShardId, hasher: &RandomState) -> Departure {
        let own = self
            .places(user, hasher)
            .find(|place| self.entries[*place].shard == shard);
        let Some(place) = own else {
            return Departure::Unknown;
        };
        let entry = &mut self.entries[place];
        entry.connections -= 1;
        if entry.connections > 0 {
            return Departure::Stays;
        }
        self.take(place, hasher);
        self.shrink(hasher);
        self.departed(user, hasher)
    }

    /// Replaces all memberships of a shard by one for each of `users`, and says who is gone thereby.
    ///
    /// Walks the whole room: a shard that starts again is rare.
    pub(super) fn set_shard(
        &mut self,
        shard: ShardId,
        users: &[Name],
        hasher: &RandomState,
    ) -> Vec<Name> {
        for entry in self.entries.iter_mut().filter(|entry| entry.shard == shard) {
            entry.connections = 0;
        }
        for user in users {
            self.add(user, shard, hasher);
        }
        let mut gone = Vec::new();
        // From the end, as the last one moves to where one is taken out.
        for place in (0..self.entries.len()).rev() {
            if self.entries[place].connections == 0 {
                gone.push(self.take(place, hasher).user);
            }
        }
        gone.retain(|user| self.departed(user, hasher) == Departure::Gone);
        self.shrink(hasher);
        gone
    }

    /// At most `most` names of users, each once.
    pub(super) fn names(&self, most: usize, hasher: &RandomState) -> Vec<Name> {
        let each_once = self.entries.len() == self.users as usize;
        self.entries
            .iter()
            .filter(|entry| {
                // Of a user's entries on several shards, the one of the lowest shard speaks.
                each_once
                    || !self
                        .places(&entry.user, hasher)
                        .any(|other| self.entries[other].shard < entry.shard)
            })
            .take(most)
            .map(|entry| entry.user.clone())
            .collect()
    }

    /// One entry a user and shard, from a place in the list on.
    pub(super) fn members_from(&self, place: usize) -> impl Iterator<Item = RoomMember> {
        let entries = self.entries.get(place..).unwrap_or_default();
        entries.iter().map(|entry| RoomMember {
            user: entry.user.clone(),
            shard: entry.shard,
            connections: entry.connections,
        })
    }

    /// How many of those entries there are.
    pub(super) fn entries_len(&self) -> usize {
        self.entries.len()
    }

    fn push(&mut self, entry: Present, hasher: &RandomState) {
        let count = self.entries.len();
        if count == self.entries.capacity() {
            // By an eighth, not twofold: there is one of these for each member of each room.
            self.entries.reserve_exact((count / 8).max(4));
        }
        self.entries.push(entry);
        if self.index.is_empty() && count >= LOOKED_THROUGH_MAX {
            (0..=count).for_each(|place| self.index_place(place, hasher));
        } else if !self.index.is_empty() {
            self.index_place(count, hasher);
        }
    }

    fn index_place(&mut self, place: usize, hasher: &RandomState) {
        let hash_of = |place: usize| hasher.hash_one(self.entries[place].user.as_str());
        self.index
            .insert_unique(hash_of(place), place as u32, |other| {
                hash_of(*other as usize)
            });
    }

    /// Takes an entry out; the last one moves to its place.
    fn take(&mut self, place: usize, hasher: &RandomState) -> Present {
        if !self.index.is_empty() {
            let hash_of = |place: usize| hasher.hash_one(self.entries[place].user.as_str());
            let last = self.entries.len() - 1;
            let (hash, hash_of_last) = (hash_of(place), hash_of(last));
            if let Ok(found) = self
                .index
                .find_entry(hash, |other| *other as usize == place)
            {
                found.remove();
            }
            if let Some(moved) = self
                .index
                .find_mut(hash_of_last, |other| *other as usize == last)
            {
                *moved = place as u32;
            }
        }
        self.entries.swap_remove(place)
    }

    /// Counts a user out, after an entry was removed, where no other entry is left.
    fn departed(&mut self, user: &str, hasher: &RandomState) -> Departure {
        if self.places(user, hasher).next().is_some() {
            return Departure::Stays;
        }
        self.users -= 1;
        Departure::Gone
    }

    /// Gives memory back once a crowd has left; rarely, so that it costs each departure next to nothing.
    fn shrink(&mut self, hasher: &RandomState) {
        let count = self.entries.len();
        if self.entries.capacity() <= 2 * count.max(4) {
            return;
        }
        self.entries.shrink_to(count + count / 8);
        if count <= LOOKED_THROUGH_MAX / 2 {
            self.index = HashTable::new();
        } else {
            let hash_of =
                |place: &u32| hasher.hash_one(self.entries[*place as usize].user.as_str());
            self.index.shrink_to(count, hash_of);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// What a presence should say: connections by user and shard.
    type Truth = BTreeMap<(Name, ShardId), u32>;

    fn users(truth: &Truth) -> BTreeSet<Name> {
        truth.keys().map(|(user, _)| user.clone()).collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u8, ShardId),
        Remove(u8, ShardId),
        Set(ShardId, Vec<u8>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u8..100, 0_u16..3).prop_map(|(user, shard)| Step::Add(user, shard)),
            4 => (0_u8..100, 0_u16..3).prop_map(|(user, shard)| Step::Remove(user, shard)),
            1 => (0_u16..3, proptest::collection::vec(0_u8..100, 0..100)).prop_map(|(shard, users)| Step::Set(shard, users)),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in proptest::collection::vec(step(), 0..200)) {
            let hasher = RandomState::with_seeds(1, 2, 3, 4);
            let (mut presence, mut truth) = (Presence::default(), Truth::new());
            let name = |user: u8| Name::from(format!("user {user}"));
            for step in steps {
                let before = users(&truth);
                match step {
                    Step::Add(user, shard) => {
                        *truth.entry((name(user), shard)).or_default() += 1;
                        let first = presence.add(&name(user), shard, &hasher);
                        prop_assert_eq!(first, !before.contains(&name(user)));
                    }
                    Step::Remove(user, shard) => {
                        let key = (name(user), shard);
                        let known = truth.contains_key(&key);
                        if let Some(connections) = truth.get_mut(&key) {
                            *connections -= 1;
                            if *connections == 0 {
                                truth.remove(&key);
                            }
                        }
                        let expected = match (known, users(&truth).contains(&key.0)) {
                            (false, _) => Departure::Unknown,
                            (true, true) => Departure::Stays,
                            (true, false) => Departure::Gone,
                        };
                        prop_assert_eq!(presence.remove(&key.0, shard, &hasher), expected);
                    }
                    Step::Set(shard, list) => {
                        truth.retain(|(_, other), _| *other != shard);
                        let list: Vec<Name> = list.into_iter().map(name).collect();
                        for user in &list {
                            *truth.entry((user.clone(), shard)).or_default() += 1;
                        }
                        let gone: BTreeSet<Name> = presence.set_shard(shard, &list, &hasher).into_iter().collect();
                        let expected: BTreeSet<Name> = before.difference(&users(&truth)).cloned().collect();
                        prop_assert_eq!(gone, expected);
                    }
                }
                prop_assert_eq!(presence.users(), users(&truth).len() as u64);
            }
            let names = presence.names(usize::MAX, &hasher);
            prop_assert_eq!(names.len() as u64, presence.users());
            prop_assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), users(&truth));
            prop_assert!(presence.names(3, &hasher).len() <= 3);
        }
    }
}
