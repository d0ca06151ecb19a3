//! The connections of this shard, as the rooms see them.

use ahash::RandomState;

use super::Name;
use super::slab::Slab;
use super::users::UserIndex;
use crate::chunked::Chunked;
use crate::driver::{ConnectionKey, Slot};

/// All members of a shard, by slot.
#[derive(Debug)]
pub(super) struct Members {
    entries: Chunked<Option<Member>>,
    count: usize,
    /// The memberships of members with more than one.
    many: Slab<Vec<Membership>>,
    users: UserIndex,
    hasher: RandomState,
}

/// One connection.
#[derive(Debug)]
struct Member {
    user: Name,
    generation: u32,
    rooms: Rooms,
}

const _: () = assert!(size_of::<Option<Member>>() <= 32, "one a connection");

/// Where a member is a member.
#[derive(Clone, Copy, Debug)]
enum Rooms {
    None,
    One(Membership),
    /// A number in [`Members::many`].
    Many(u32),
}

/// A member's place in one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    /// The slice's number.
    pub(super) slice: u32,
    /// Where in the slice.
    pub(super) place: Place,
}

/// A member's place within a slice: which list, and where in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Gets what the room gets.
    Active(u32),
    /// Waits for the home's answer.
    Pending(u32),
}

/// What is left of a member that has closed.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) user: Name,
    pub(super) memberships: Vec<Membership>,
    /// Whether the user has no other connection here.
    pub(super) last: bool,
}

impl Members {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            entries: Chunked::default(),
            count: 0,
            many: Slab::default(),
            users: UserIndex::default(),
            hasher,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn entry(&self, key: ConnectionKey) -> Option<&Member> {
        self.entries
            .get(key.slot as usize)?
            .as_ref()
            .filter(|member| member.generation == key.generation)
    }

    /// The member's key, from the slot alone.
    pub(super) fn key(&self, slot: Slot) -> Option<ConnectionKey> {
        let member = self.entries.get(slot as usize)?.as_ref()?;
        Some(ConnectionKey::new(slot, member.generation))
    }

    /// The user; `None` where the key is stale.
    pub(super) fn user(&self, key: ConnectionKey) -> Option<&Name> {
        Some(&self.entry(key)?.user)
    }

    /// Puts a member into a slot, which must be vacant; true where it is the user's first.
    pub(super) fn open(&mut self, key: ConnectionKey, user: Name) -> bool {
        let slot = key.slot as usize;
        self.entries.ensure(slot);
        let entries = &self.entries;
        let first = self
            .users
            .insert(&user, key.slot, |slot| user_of(entries, slot), &self.hasher);
        self.entries[slot] = Some(Member {
            user,
            generation: key.generation,
            rooms: Rooms::None,
        });
        self.count += 1;
        first
    }

    /// Takes a member out; `None` where the key is stale.
    pub(super) fn close(&mut self, key: ConnectionKey) -> Option<Closed> {
        let user = self.user(key)?.clone();
        let entries = &self.entries;
        let last = self
            .users
            .remove(&user, key.slot, |slot| user_of(entries, slot), &self.hasher);
        let member = self.entries.get_mut(key.slot as usize)?.take()?;
        self.count -= 1;
        let memberships = match member.rooms {
            Rooms::None => Vec::new(),
            Rooms::One(one) => vec![one],
            Rooms::Many(many) => self.many.remove(many).unwrap_or_default(),
        };
        Some(Closed {
            user,
            memberships,
            last,
        })
    }

    /// Connections of a user.
    pub(super) fn connections(&self, user: &str) -> impl Iterator<Item = ConnectionKey> {
        self.users
            .slots(user, |slot| user_of(&self.entries, slot), &self.hasher)
            .filter_map(|slot| self.key(slot))
    }

    /// How many connections a user has.
    pub(super) fn connections_count(&self, user: &str) -> usize {
        self.users
            .count(user, |slot| user_of(&self.entries, slot), &self.hasher)
    }

    /// Every user, once.
    pub(super) fn users(&self) -> impl Iterator<Item = &Name> {
        self.users.users(|slot| user_of(&self.entries, slot))
    }

    /// How many rooms a slot's member is in.
    pub(super) fn rooms(&self, slot: Slot) -> usize {
        self.memberships(slot).len()
    }

    fn memberships(&self, slot: Slot) -> &[Membership] {
        match self.entries.get(slot as usize) {
            Some(Some(member)) => match &member.rooms {
                Rooms::None => &[],
                Rooms::One(one) => std::slice::from_ref(one),
                Rooms::Many(many) => self.many.get(*many).map_or(&[], Vec::as_slice),
            },
            _ => &[],
        }
    }

    /// Wherever a member is a member; nowhere where the key is stale.
    pub(super) fn memberships_of(&self, key: ConnectionKey) -> &[Membership] {
        match self.entry(key) {
            Some(_) => self.memberships(key.slot),
            None => &[],
        }
    }

    /// The member's place in a slice; `None` where the key is stale, too.
    pub(super) fn place(&self, key: ConnectionKey, slice: u32) -> Option<Place> {
        self.entry(key)?;
        self.memberships(key.slot)
            .iter()
            .find(|membership| membership.slice == slice)
            .map(|membership| membership.place)
    }

    /// Notes a place, new or moved.
    pub(super) fn set_place(&mut self, slot: Slot, slice: u32, place: Place) {
        let Some(Some(member)) = self.entries.get_mut(slot as usize) else {
            return;
        };
        let new = Membership { slice, place };
        match &mut member.rooms {
            Rooms::None => member.rooms = Rooms::One(new),
            Rooms::One(one) if one.slice == slice => *one = new,
            Rooms::One(one) => {
                let one = *one;
                member.rooms = Rooms::Many(self.many.insert(vec![one, new]));
            }
            Rooms::Many(many) => {
                let Some(many) = self.many.get_mut(*many) else {
                    return;
                };
                match many.iter_mut().find(|one| one.slice == slice) {
                    Some(one) => *one = new,
                    None => many.push(new),
                }
            }
        }
    }

    /// Forgets a place.
    pub(super) fn remove_place(&mut self, slot: Slot, slice: u32) {
        let Some(Some(member)) = self.entries.get_mut(slot as usize) else {
            return;
        };
        match member.rooms {
            Rooms::One(one) if one.slice == slice => member.rooms = Rooms::None,
            Rooms::None | Rooms::One(_) => {}
            Rooms::Many(number) => {
                let Some(many) = self.many.get_mut(number) else {
                    return;
                };
                many.retain(|one| one.slice != slice);
                if let [one] = many[..] {
                    self.many.remove(number);
                    member.rooms = Rooms::One(one);
                }
            }
        }
    }
}

fn user_of(entries: &Chunked<Option<Member>>, slot: Slot) -> Option<&Name> {
    Some(&entries.get(slot as usize)?.as_ref()?.user)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn members() -> Members {
        Members::new(RandomState::with_seeds(1, 2, 3, 4))
    }

    #[test]
    fn a_stale_key_is_nobody() {
        let mut members = members();
        let old = ConnectionKey::new(3, 1);
        assert!(members.open(old, "ada".into()));
        assert!(members.close(old).unwrap().last);
        let new = old.next();
        assert!(members.open(new, "bob".into()));
        members.set_place(new.slot, 7, Place::Active(0));
        assert_eq!(members.user(old), None);
        assert_eq!(members.place(old, 7), None);
        assert!(members.close(old).is_none());
        assert_eq!(members.user(new), Some(&"bob".into()));
        assert_eq!(members.place(new, 7), Some(Place::Active(0)));
    }

    #[test]
    fn memberships_come_and_go() {
        let mut members = members();
        let key = ConnectionKey::new(0, 0);
        members.open(key, "ada".into());
        for slice in 0..4 {
            members.set_place(0, slice, Place::Pending(slice * 10));
        }
        members.set_place(0, 2, Place::Active(5));
        assert_eq!(members.rooms(0), 4);
        assert_eq!(members.place(key, 2), Some(Place::Active(5)));
        for slice in [1, 0, 1, 3] {
            members.remove_place(0, slice);
            assert_eq!(members.place(key, slice), None);
        }
        assert_eq!(members.rooms(0), 1);
        assert_eq!(members.many.len(), 0, "one needs no list");
        assert_eq!(members.close(key).unwrap().memberships.len(), 1);
    }

    proptest! {
        #[test]
        fn users_and_their_connections_agree_with_a_map(steps in proptest::collection::vec((0_u32..40, 0_u8..6), 0..200)) {
            let mut members = members();
            let mut truth: BTreeMap<Slot, Name> = BTreeMap::new();
            for (slot, user) in steps {
                let key = ConnectionKey::new(slot, 0);
                if let Some(user) = truth.remove(&slot) {
                    let closed = members.close(key).unwrap();
                    prop_assert_eq!(closed.last, !truth.values().any(|other| *other == user));
                } else {
                    let user = Name::from(format!("user {user}"));
                    let first = members.open(key, user.clone());
                    prop_assert_eq!(first, !truth.values().any(|other| *other == user));
                    truth.insert(slot, user);
                }
                prop_assert_eq!(members.len(), truth.len());
                for user in 0..6 {
                    let user = format!("user {user}");
                    let mut slots: Vec<Slot> = members.connections(&user).map(|key| key.slot).collect();
                    slots.sort_unstable();
                    let expected: Vec<Slot> = truth.iter().filter(|(_, other)| **other == user).map(|(slot, _)| *slot).collect();
                    prop_assert_eq!(members.connections_count(&user), expected.len());
                    prop_assert_eq!(slots, expected);
                }
            }
        }
    }
}
