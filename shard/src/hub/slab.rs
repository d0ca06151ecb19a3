//! Values under small numbers, which stay the same while a value is kept.

use crate::chunked::Chunked;

/// A table with holes that are filled again before more of it is used.
///
/// An entry costs what `Option<T>` costs: nothing more than `T` where `T` has a niche.
#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Chunked<Option<T>>,
    /// Entries that were ever used.
    used: usize,
    vacant: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            entries: Chunked::default(),
            used: 0,
            vacant: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    pub(super) fn len(&self) -> usize {
        self.used - self.vacant.len()
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        self.entries.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.entries.get_mut(id as usize)?.as_mut()
    }

    /// Above every number in use.
    pub(super) fn end(&self) -> u32 {
        self.used as u32
    }

    /// Keeps a value and says under which number.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(id) = self.vacant.pop()
            && let Some(entry) = self.entries.get_mut(id as usize)
        {
            *entry = Some(value);
            return id;
        }
        // Four thousand million entries would not fit into any memory: the cast loses nothing.
        let id = self.used as u32;
        *self.entries.ensure(self.used) = Some(value);
        self.used += 1;
        id
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let value = self.entries.get_mut(id as usize)?.take()?;
        self.vacant.push(id);
        if self.vacant.len() == self.used {
            // Nothing is kept: give the memory of a past crowd back.
            *self = Self::default();
        }
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.entries
            .iter()
            .enumerate()
            .filter_map(|(id, entry)| Some((id as u32, entry.as_ref()?)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_holes_are_filled() {
        let mut slab = Slab::default();
        let ids: Vec<u32> = (0..4).map(|value| slab.insert(value * 10)).collect();
        assert_eq!(ids, [0, 1, 2, 3]);
        assert_eq!(slab.remove(1), Some(10));
        assert_eq!(slab.remove(1), None, "removed once");
        assert_eq!(slab.get(2), Some(&20));
        assert_eq!(slab.len(), 3);
        assert_eq!(slab.insert(99), 1, "the hole comes first");
        assert_eq!(slab.iter().map(|(_, value)| *value).sum::<i32>(), 149);
    }

    #[test]
    fn an_empty_slab_holds_no_memory() {
        let mut slab = Slab::default();
        let ids: Vec<u32> = (0..100).map(|value| slab.insert(value)).collect();
        for id in ids {
            assert!(slab.remove(id).is_some());
        }
        assert_eq!(slab.len(), 0);
        assert_eq!(slab.entries.len(), 0);
    }
}
