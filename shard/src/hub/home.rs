//! The home of one room: its order, who is there, and which shards must be told.

use ahash::RandomState;

use super::Name;
use super::interest::Interest;
use super::order::{Order, Shelf};
use super::presence::{Departure, Presence};
use crate::driver::{Clock, ShardId};
use crate::orders::RoomMember;
use crate::room_settings::KindId;

/// A room, at the shard that orders it.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) order: Order,
    pub(super) interest: Interest,
    presence: Presence,
    /// Whether a count is due to be told.
    pub(super) count_queued: bool,
}

/// A change of who is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A user came.
    Came(Name),
    /// A user is gone.
    Gone(Name),
}

impl Home {
    pub(super) fn new(kind: KindId, shelf: &mut Shelf, clock: Clock) -> Self {
        Self {
            order: Order::new(kind, shelf, clock),
            interest: Interest::default(),
            presence: Presence::default(),
            count_queued: false,
        }
    }

    /// Whether nothing is lost when the home is dropped.
    pub(super) fn is_forgettable(&self) -> bool {
        self.interest.is_empty() && self.order.is_empty()
    }

    /// Users present.
    pub(super) fn users(&self) -> u64 {
        self.presence.users()
    }

    /// At most `most` names of users present.
    pub(super) fn names(&self, most: usize, hasher: &RandomState) -> Vec<Name> {
        self.presence.names(most, hasher)
    }

    /// Who is here by way of which shard, from a place in the list on.
    pub(super) fn members_from(&self, place: usize) -> impl Iterator<Item = RoomMember> {
        self.presence.members_from(place)
    }

    /// How long that list is.
    pub(super) fn members_len(&self) -> usize {
        self.presence.entries_len()
    }

    /// Counts a membership in, without the shard's interest: the others are told first.
    pub(super) fn enter(
        &mut self,
        user: &Name,
        shard: ShardId,
        hasher: &RandomState,
    ) -> Option<Change> {
        self.presence
            .add(user, shard, hasher)
            .then(|| Change::Came(user.clone()))
    }

    /// Counts a membership out, and the shard's interest with it.
    ///
    /// # Errors
    /// The user has no membership on that shard: the home has started again since.
    pub(super) fn depart(
        &mut self,
        user: &Name,
        shard: ShardId,
        hasher: &RandomState,
    ) -> Result<Option<Change>, UnknownMember> {
        let departure = self.presence.remove(user, shard, hasher);
        if departure == Departure::Unknown {
            return Err(UnknownMember);
        }
        self.interest.remove(shard);
        Ok((departure == Departure::Gone).then(|| Change::Gone(user.clone())))
    }

    /// Replaces all memberships of a shard by one for each of `users`.
    ///
    /// Only who is gone is a change: who stands in the list was there before, as far as others know.
    pub(super) fn replace(
        &mut self,
        shard: ShardId,
        users: &[Name],
        hasher: &RandomState,
    ) -> Vec<Change> {
        let gone = self.presence.set_shard(shard, users, hasher);
        // Memberships of one shard are below `1 << SLOT_BITS`: one a connection.
        self.interest
            .set(shard, u32::try_from(users.len()).unwrap_or(u32::MAX));
        gone.into_iter().map(Change::Gone).collect()
    }
}

/// A leave for a membership that the home does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnknownMember;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::outbox::SlowConsumer;
    use crate::room_settings::RoomKinds;

    #[test]
    fn users_come_and_go_once_however_many_connections_they_have() {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let kinds = RoomKinds::new(&Limits::default(), SlowConsumer::default(), &[]);
        let mut shelf = Shelf::new(&Limits::default(), &kinds, hasher.clone());
        let mut home = Home::new(KindId::default(), &mut shelf, Clock::default());
        let ada = Name::from("ada");

        let came = Some(Change::Came(ada.clone()));
        for (shard, expected) in [(1, came), (1, None), (2, None)] {
            assert_eq!(home.enter(&ada, shard, &hasher), expected);
            home.interest.add(shard);
        }
        assert_eq!(home.users(), 1);
        assert_eq!(home.depart(&ada, 2, &hasher), Ok(None));
        assert_eq!(home.depart(&ada, 2, &hasher), Err(UnknownMember));
        assert_eq!(home.interest.only(), Some((1, 2)));
        assert_eq!(home.replace(1, std::slice::from_ref(&ada), &hasher), []);
        assert_eq!(
            home.depart(&ada, 1, &hasher),
            Ok(Some(Change::Gone(ada.clone())))
        );
        assert!(home.is_forgettable());
        assert_eq!(home.replace(2, std::slice::from_ref(&ada), &hasher), []);
        assert_eq!(home.replace(2, &[], &hasher), [Change::Gone(ada)]);
        assert!(home.is_forgettable());
    }
}
