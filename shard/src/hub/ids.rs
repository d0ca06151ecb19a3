//! The ids of recent publishes, so that a repeat is recognised.

use ahash::RandomState;
use hashbrown::HashTable;
use std::collections::VecDeque;

use super::Name;
use crate::limits::Limits;

/// Bounds of one window.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdBounds {
    ids_max: usize,
    age_ms_max: u64,
}

impl IdBounds {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            ids_max: usize::try_from(limits.ids_max).unwrap_or(usize::MAX),
            age_ms_max: limits.ids_age_ms_max,
        }
    }

    /// Milliseconds after which the last id of a quiet window has gone; 0 where none is kept.
    pub(super) fn lifetime_ms(&self) -> u64 {
        if self.ids_max == 0 {
            0
        } else {
            self.age_ms_max
        }
    }
}

/// The ids of one order, oldest first, with an index.
#[derive(Debug, Default)]
pub(super) struct IdWindow {
    entries: VecDeque<Entry>,
    /// Ordinals of the entries: an entry's place in `entries` is its ordinal less `first`.
    index: HashTable<u32>,
    first: u32,
}

#[derive(Debug)]
struct Entry {
    user: Name,
    id: Name,
    seq: u64,
    at_ms: u64,
}

impl IdWindow {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number that the message with this id was given, if it is remembered.
    pub(super) fn find(&self, user: &str, id: &str, hasher: &RandomState) -> Option<u64> {
        let found = self.index.find(hasher.hash_one((user, id)), |ordinal| {
            self.entry(*ordinal)
                .is_some_and(|entry| entry.user == user && entry.id == id)
        })?;
        Some(self.entry(*found)?.seq)
    }

    /// Remembers an id that [`IdWindow::find`] does not know.
    pub(super) fn remember(
        &mut self,
        user: Name,
        id: Name,
        seq: u64,
        now_ms: u64,
        bounds: &IdBounds,
        hasher: &RandomState,
    ) {
        if bounds.ids_max == 0 || bounds.age_ms_max == 0 {
            return;
        }
        while self.entries.len() >= bounds.ids_max {
            self.pop(hasher);
        }
        let ordinal = self.first.wrapping_add(self.entries.len() as u32);
        let hash = hasher.hash_one((user.as_str(), id.as_str()));
        self.entries.push_back(Entry {
            user,
            id,
            seq,
            at_ms: now_ms,
        });
        let (entries, first) = (&self.entries, self.first);
        self.index.insert_unique(hash, ordinal, |ordinal| {
            entries
                .get(ordinal.wrapping_sub(first) as usize)
                .map_or(0, |entry| {
                    hasher.hash_one((entry.user.as_str(), entry.id.as_str()))
                })
        });
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now_ms: u64, bounds: &IdBounds, hasher: &RandomState) {
        while let Some(oldest) = self.entries.front()
            && now_ms.saturating_sub(oldest.at_ms) >= bounds.age_ms_max
        {
            self.pop(hasher);
        }
    }

    fn pop(&mut self, hasher: &RandomState) {
        let Some(entry) = self.entries.pop_front() else {
            return;
        };
        let hash = hasher.hash_one((entry.user.as_str(), entry.id.as_str()));
        let first = self.first;
        if let Ok(found) = self.index.find_entry(hash, |ordinal| *ordinal == first) {
            found.remove();
        }
        self.first = first.wrapping_add(1);
    }

    fn entry(&self, ordinal: u32) -> Option<&Entry> {
        self.entries.get(ordinal.wrapping_sub(self.first) as usize)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn window(first: u32, ids_max: usize, count: u64) -> (IdWindow, IdBounds, RandomState) {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let bounds = IdBounds {
            ids_max,
            age_ms_max: 100,
        };
        let mut window = IdWindow {
            first,
            ..IdWindow::default()
        };
        for seq in 1..=count {
            let id = Name::from(format!("id {seq}"));
            window.remember("ada".into(), id, seq, seq * 10, &bounds, &hasher);
        }
        (window, bounds, hasher)
    }

    #[test]
    fn the_newest_are_remembered_also_across_the_end_of_the_ordinals() {
        for first in [0, u32::MAX - 2] {
            let (window, _, hasher) = window(first, 4, 9);
            for seq in 1..=9_u64 {
                let found = window.find("ada", &format!("id {seq}"), &hasher);
                assert_eq!(found, (seq > 5).then_some(seq), "{seq}");
            }
            assert_eq!(window.index.len(), 4);
        }
    }

    #[test]
    fn an_id_belongs_to_its_user() {
        let (window, _, hasher) = window(0, 4, 1);
        assert_eq!(window.find("ada", "id 1", &hasher), Some(1));
        assert_eq!(window.find("bob", "id 1", &hasher), None);
    }

    #[test]
    fn age_forgets() {
        let (mut window, bounds, hasher) = window(0, 100, 9);
        window.expire(150, &bounds, &hasher);
        assert_eq!(window.find("ada", "id 5", &hasher), None);
        assert_eq!(window.find("ada", "id 6", &hasher), Some(6));
        window.expire(1000, &bounds, &hasher);
        assert!(window.is_empty() && window.index.is_empty());
    }

    #[test]
    fn a_window_of_none_remembers_none() {
        let (window, _, hasher) = window(0, 0, 3);
        assert!(window.is_empty());
        assert_eq!(window.find("ada", "id 3", &hasher), None);
    }
}
