//! Which connections of this shard belong to a user.

use ahash::RandomState;
use hashbrown::HashTable;

use super::Name;
use super::slab::Slab;
use crate::driver::Slot;
use crate::limits::SLOT_BITS;

/// Connections by user, at 4 bytes and a hash byte for a user with one connection: the name itself
/// stands with the member, where the closures that the methods take find it.
#[derive(Debug, Default)]
pub(super) struct UserIndex {
    index: HashTable<Entry>,
    groups: Slab<Group>,
}

/// A slot, or the number of a group with [`GROUP`] set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry(u32);

/// Above every slot.
const GROUP: u32 = 1 << 31;
const _: () = assert!(SLOT_BITS < 31, "a slot must not look like a group");

/// A user with several connections. They stand in a table of their own: thousands of equal hashes in
/// the index would make every change walk all of them.
#[derive(Debug)]
struct Group {
    user: Name,
    slots: HashTable<Slot>,
}

impl Entry {
    fn group(self) -> Option<u32> {
        (self.0 & GROUP != 0).then_some(self.0 & !GROUP)
    }
}

impl UserIndex {
    /// Adds a connection; true where it is the user's first. `user_of` knows all others already.
    pub(super) fn insert<'a>(
        &mut self,
        user: &Name,
        slot: Slot,
        user_of: impl Fn(Slot) -> Option<&'a Name>,
        hasher: &RandomState,
    ) -> bool {
        let hash = hasher.hash_one(user.as_str());
        let groups = &self.groups;
        let found = self
            .index
            .find_mut(hash, |entry| name(*entry, groups, &user_of) == Some(user));
        let Some(entry) = found else {
            self.index.insert_unique(hash, Entry(slot), |entry| {
                name(*entry, groups, &user_of).map_or(0, |name| hasher.hash_one(name.as_str()))
            });
            return true;
        };
        let group = match entry.group() {
            Some(group) => group,
            None => {
                let mut slots = HashTable::new();
                slots.insert_unique(hasher.hash_one(entry.0), entry.0, |slot| {
                    hasher.hash_one(*slot)
                });
                let group = self.groups.insert(Group {
                    user: user.clone(),
                    slots,
                });
                *entry = Entry(group | GROUP);
                group
            }
        };
        if let Some(group) = self.groups.get_mut(group) {
            group
                .slots
                .insert_unique(hasher.hash_one(slot), slot, |slot| hasher.hash_one(*slot));
        }
        false
    }

    /// Removes a connection that was inserted; true where it was the user's last.
    pub(super) fn remove<'a>(
        &mut self,
        user: &Name,
        slot: Slot,
        user_of: impl Fn(Slot) -> Option<&'a Name>,
        hasher: &RandomState,
    ) -> bool {
        let hash = hasher.hash_one(user.as_str());
        let groups = &self.groups;
        let Ok(found) = self
            .index
            .find_entry(hash, |entry| name(*entry, groups, &user_of) == Some(user))
        else {
            return false;
        };
        if let Some(id) = found.get().group()
            && let Some(group) = self.groups.get_mut(id)
        {
            if let Ok(entry) = group
                .slots
                .find_entry(hasher.hash_one(slot), |other| *other == slot)
            {
                entry.remove();
            }
            if !group.slots.is_empty() {
                return false;
            }
            self.groups.remove(id);
        }
        found.remove();
        true
    }

    /// Every user, once.
    pub(super) fn users<'a>(
        &'a self,
        user_of: impl Fn(Slot) -> Option<&'a Name>,
    ) -> impl Iterator<Item = &'a Name> {
        self.index
            .iter()
            .filter_map(move |entry| name(*entry, &self.groups, &user_of))
    }

    /// How many connections a user has.
    pub(super) fn count<'a>(
        &'a self,
        user: &str,
        user_of: impl Fn(Slot) -> Option<&'a Name>,
        hasher: &RandomState,
    ) -> usize {
        let found = self.find(user, user_of, hasher);
        found.map_or(0, |entry| match entry.group() {
            None => 1,
            Some(group) => self.groups.get(group).map_or(0, |group| group.slots.len()),
        })
    }

    fn find<'a>(
        &'a self,
        user: &str,
        user_of: impl Fn(Slot) -> Option<&'a Name>,
        hasher: &RandomState,
    ) -> Option<Entry> {
        self.index
            .find(hasher.hash_one(user), |entry| {
                name(*entry, &self.groups, &user_of).is_some_and(|other| other == user)
            })
            .copied()
    }

    /// The slots of a user's connections.
    pub(super) fn slots<'a>(
        &'a self,
        user: &str,
        user_of: impl Fn(Slot) -> Option<&'a Name>,
        hasher: &RandomState,
    ) -> impl Iterator<Item = Slot> {
        let found = self.find(user, user_of, hasher);
        let group = found
            .and_then(Entry::group)
            .and_then(|group| self.groups.get(group));
        found
            .filter(|entry| entry.group().is_none())
            .map(|entry| entry.0)
            .into_iter()
            .chain(
                group
                    .into_iter()
                    .flat_map(|group| group.slots.iter().copied()),
            )
    }
}

/// The name that an entry stands for.
fn name<'a, 'b: 'a>(
    entry: Entry,
    groups: &'a Slab<Group>,
    user_of: &impl Fn(Slot) -> Option<&'b Name>,
) -> Option<&'a Name> {
    match entry.group() {
        Some(group) => groups.get(group).map(|group| &group.user),
        None => user_of(entry.0),
    }
}
