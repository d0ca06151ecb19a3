//! Who is in a room.

use ahash::RandomState;
use hashbrown::HashTable;

use super::Name;
use crate::driver::ShardId;

/// The users of a room. A user is present as long as one connection on any shard is a member.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// One entry a user and shard, so that the users of a shard that has died can be told apart.
    entries: HashTable<Present>,
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

    /// One membership more; true where it is the user's first on any shard.
    pub(super) fn add(&mut self, user: &Name, shard: ShardId, hasher: &RandomState) -> bool {
        let hash = hasher.hash_one(user.as_str());
        let mut first = true;
        for entry in self.entries.iter_hash_mut(hash) {
            if entry.user == *user {
                first = false;
                if entry.shard == shard {
                    entry.connections += 1;
                    return false;
                }
            }
        }
        let entry = Present {
            user: user.clone(),
            connections: 1,
            shard,
        };
        self.entries
            .insert_unique(hash, entry, |entry| hasher.hash_one(entry.user.as_str()));
        self.users += u32::from(first);
        first
    }

    /// One membership less.
    pub(super) fn remove(&mut self, user: &str, shard: ShardId, hasher: &RandomState) -> Departure {
        let hash = hasher.hash_one(user);
        let Ok(mut entry) = self
            .entries
            .find_entry(hash, |entry| entry.shard == shard && entry.user == user)
        else {
            return Departure::Unknown;
        };
        entry.get_mut().connections -= 1;
        if entry.get().connections > 0 {
            return Departure::Stays;
        }
        entry.remove();
        self.shrink(hasher);
        self.departed(user, hash)
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
        let mut gone: Vec<Name> = self
            .entries
            .extract_if(|entry| entry.connections == 0)
            .map(|entry| entry.user)
            .collect();
        gone.retain(|user| self.departed(user, hasher.hash_one(user.as_str())) == Departure::Gone);
        self.shrink(hasher);
        gone
    }

    /// At most `most` names of users, each once.
    pub(super) fn names(&self, most: usize, hasher: &RandomState) -> Vec<Name> {
        self.entries
            .iter()
            .filter(|entry| {
                // Of a user's entries on several shards, the one of the lowest shard speaks.
                !self
                    .entries
                    .iter_hash(hasher.hash_one(entry.user.as_str()))
                    .any(|other| other.shard < entry.shard && other.user == entry.user)
            })
            .take(most)
            .map(|entry| entry.user.clone())
            .collect()
    }

    /// Counts a user out, after an entry was removed, where no other entry is left.
    fn departed(&mut self, user: &str, hash: u64) -> Departure {
        if self.entries.iter_hash(hash).any(|entry| entry.user == user) {
            return Departure::Stays;
        }
        self.users -= 1;
        Departure::Gone
    }

    /// Gives memory back once a crowd has left; rarely, so that it costs each departure next to nothing.
    fn shrink(&mut self, hasher: &RandomState) {
        let wanted = self.entries.len() * 2;
        if self.entries.capacity() > 28 && self.entries.capacity() > wanted * 2 {
            self.entries
                .shrink_to(wanted, |entry| hasher.hash_one(entry.user.as_str()));
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
            4 => (0_u8..60, 0_u16..3).prop_map(|(user, shard)| Step::Add(user, shard)),
            4 => (0_u8..60, 0_u16..3).prop_map(|(user, shard)| Step::Remove(user, shard)),
            1 => (0_u16..3, proptest::collection::vec(0_u8..60, 0..20)).prop_map(|(shard, users)| Step::Set(shard, users)),
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
