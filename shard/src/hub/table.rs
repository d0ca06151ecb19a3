//! A table from names to values, at the price of one copy of the name and an index of 4 bytes.

use ahash::RandomState;
use hashbrown::HashTable;

use super::Name;
use super::slab::Slab;

/// Values by name, each also reachable under a number that stays the same while it is kept.
#[derive(Debug)]
pub(super) struct NameTable<T> {
    slab: Slab<Entry<T>>,
    index: HashTable<u32>,
    hasher: RandomState,
}

/// What one name costs beside its 4 to 8 bytes of index.
#[derive(Debug)]
pub(super) struct Entry<T> {
    name: Name,
    value: T,
}

impl<T> NameTable<T> {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            slab: Slab::default(),
            index: HashTable::new(),
            hasher,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        self.index
            .find(hash, |id| self.name(*id).is_some_and(|other| other == name))
            .copied()
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        Some(&self.slab.get(id)?.value)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        Some(&mut self.slab.get_mut(id)?.value)
    }

    pub(super) fn name(&self, id: u32) -> Option<&Name> {
        Some(&self.slab.get(id)?.name)
    }

    /// Above every number in use.
    pub(super) fn end(&self) -> u32 {
        self.slab.end()
    }

    /// Keeps a value under a name and says under which number. A value already there is replaced.
    pub(super) fn insert(&mut self, name: Name, value: T) -> u32 {
        if let Some(id) = self.find(&name) {
            if let Some(kept) = self.get_mut(id) {
                *kept = value;
            }
            return id;
        }
        let hash = self.hasher.hash_one(name.as_str());
        let id = self.slab.insert(Entry { name, value });
        let (slab, hasher) = (&self.slab, &self.hasher);
        self.index.insert_unique(hash, id, |id| {
            slab.get(*id)
                .map_or(0, |entry| hasher.hash_one(entry.name.as_str()))
        });
        id
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let hash = self.hasher.hash_one(self.name(id)?.as_str());
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        let value = self.slab.remove(id)?.value;
        if self.index.is_empty() {
            self.index = HashTable::new();
        }
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Name, &T)> {
        self.slab
            .iter()
            .map(|(id, entry)| (id, &entry.name, &entry.value))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn table() -> NameTable<u32> {
        NameTable::new(RandomState::with_seeds(1, 2, 3, 4))
    }

    #[test]
    fn a_name_stands_once() {
        let mut table = table();
        let first = table.insert("a".into(), 1);
        let second = table.insert("a".into(), 2);
        assert_eq!(first, second);
        assert_eq!(table.len(), 1);
        assert_eq!(table.get(first), Some(&2));
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in proptest::collection::vec((0_u8..40, any::<bool>(), any::<u32>()), 0..300)) {
            let mut table = table();
            let mut map = HashMap::new();
            for (name, insert, value) in steps {
                let name = Name::from(format!("a rather long name, number {name}"));
                if insert {
                    table.insert(name.clone(), value);
                    map.insert(name, value);
                } else {
                    let removed = table.find(&name).and_then(|id| table.remove(id));
                    prop_assert_eq!(removed, map.remove(&name));
                }
                prop_assert_eq!(table.len(), map.len());
            }
            for (name, value) in &map {
                let id = table.find(name).unwrap();
                prop_assert_eq!(table.get(id), Some(value));
                prop_assert_eq!(table.name(id), Some(name));
            }
            prop_assert_eq!(table.iter().count(), map.len());
        }
    }
}
