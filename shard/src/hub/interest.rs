//! Which shards have members of a room, or connections of an inbox's user.

use crate::driver::ShardId;

/// Shards with at least one member, and how many members each has.
///
/// A list, because shards are few: a publish walks it, and a search costs less than a hash would.
#[derive(Debug, Default)]
pub(super) struct Interest {
    shards: Vec<(ShardId, u32)>,
}

impl Interest {
    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.shards.iter().map(|(shard, _)| *shard)
    }

    /// Members on all shards.
    pub(super) fn members(&self) -> u64 {
        let members = self.shards.iter().map(|(_, members)| u64::from(*members));
        members.sum()
    }

    /// One member more.
    pub(super) fn add(&mut self, shard: ShardId) {
        match self.shards.iter_mut().find(|(other, _)| *other == shard) {
            Some((_, members)) => *members += 1,
            None => self.shards.push((shard, 1)),
        }
    }

    /// One member less; false where the shard had none.
    pub(super) fn remove(&mut self, shard: ShardId) -> bool {
        let Some(place) = self.place(shard) else {
            return false;
        };
        let members = self.shards[place].1;
        self.set(shard, members - 1);
        true
    }

    /// So many members; with 0 the shard is of no interest any more.
    pub(super) fn set(&mut self, shard: ShardId, members: u32) {
        match (self.place(shard), members) {
            (Some(place), 0) => {
                self.shards.swap_remove(place);
            }
            (Some(place), members) => self.shards[place].1 = members,
            (None, 0) => {}
            (None, members) => self.shards.push((shard, members)),
        }
    }

    /// The one shard with its members, where it is exactly one.
    pub(super) fn only(&self) -> Option<(ShardId, u32)> {
        match self.shards[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Members on all shards but one.
    pub(super) fn elsewhere(&self, shard: ShardId) -> u64 {
        let others = self.shards.iter().filter(|(other, _)| *other != shard);
        others.map(|(_, members)| u64::from(*members)).sum()
    }

    /// Whether the shard has any.
    pub(super) fn has(&self, shard: ShardId) -> bool {
        self.place(shard).is_some()
    }

    fn place(&self, shard: ShardId) -> Option<usize> {
        self.shards.iter().position(|(other, _)| *other == shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_of_interest_while_it_has_members() {
        let mut interest = Interest::default();
        interest.add(3);
        interest.add(3);
        interest.add(1);
        assert_eq!(interest.shards().collect::<Vec<_>>(), [3, 1]);
        assert!(interest.remove(3));
        assert_eq!(interest.only(), None);
        assert!(interest.remove(3));
        assert!(!interest.remove(3), "it has none left");
        assert_eq!(interest.only(), Some((1, 1)));
        interest.set(5, 7);
        assert_eq!((interest.elsewhere(1), interest.elsewhere(5)), (7, 1));
        interest.set(5, 0);
        interest.set(1, 0);
        interest.set(2, 0);
        assert!(interest.is_empty());
        interest.set(2, 5);
        assert_eq!(interest.shards().collect::<Vec<_>>(), [2]);
    }
}
