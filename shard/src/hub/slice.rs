//! The members of one room on this shard.

use super::event::Position;
use super::member::Place;
use crate::driver::{ShardId, Slot};
use crate::room_settings::KindId;

/// A room's members here. Those that wait for the home's answer to their join stand apart.
#[derive(Debug)]
pub(super) struct Slice {
    /// The room's home.
    pub(super) home: ShardId,
    pub(super) kind: KindId,
    /// Whether the home has started again and has not answered the rejoin yet: its messages are of an epoch
    /// that the members do not know, and come again with the answer.
    pub(super) rejoining: bool,
    /// The last join's number when the slice last told the home who is here: that has settled all joins up to it.
    pub(super) registered: u32,
    /// Up to where the active members have been told; of no meaning while there are none.
    pub(super) position: Position,
    active: Vec<Slot>,
    pending: Vec<Pending>,
}

const _: () = assert!(size_of::<Slice>() <= 72, "one a room on each of its shards");

/// A join on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) slot: Slot,
    /// Which of this shard's joins.
    pub(super) attempt: u32,
    /// Kept to ask again should the home start again.
    pub(super) since: Option<Position>,
}

impl Slice {
    /// An empty slice; `attempt_last` is the number of the shard's last join.
    pub(super) fn new(home: ShardId, kind: KindId, attempt_last: u32) -> Self {
        Self {
            home,
            kind,
            rejoining: false,
            registered: attempt_last,
            position: Position::default(),
            active: Vec::new(),
            pending: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.active.is_empty() && self.pending.is_empty()
    }

    /// Slots of the members that get what the room gets.
    pub(super) fn active(&self) -> &[Slot] {
        &self.active
    }

    pub(super) fn pending(&self, index: u32) -> Option<&Pending> {
        self.pending.get(index as usize)
    }

    pub(super) fn all_pending_mut(&mut self) -> &mut [Pending] {
        &mut self.pending
    }

    /// Adds a member that gets what the room gets.
    pub(super) fn add_active(&mut self, slot: Slot) -> Place {
        self.active.push(slot);
        Place::Active(self.active.len() as u32 - 1)
    }

    /// Adds a member that waits for the home's answer.
    pub(super) fn add_pending(&mut self, pending: Pending) -> Place {
        self.pending.push(pending);
        Place::Pending(self.pending.len() as u32 - 1)
    }

    /// Takes a member out. The last of the list moves into the place: its slot is returned.
    pub(super) fn remove(&mut self, place: Place) -> Option<Slot> {
        match place {
            Place::Active(index) => {
                let index = index as usize;
                if index >= self.active.len() {
                    return None;
                }
                self.active.swap_remove(index);
                if self.active.capacity() > 4 * self.active.len().max(4) {
                    self.active.shrink_to(2 * self.active.len());
                }
                self.active.get(index).copied()
            }
            Place::Pending(index) => {
                let index = index as usize;
                if index >= self.pending.len() {
                    return None;
                }
                self.pending.swap_remove(index);
                if self.pending.is_empty() {
                    // Nobody waits for long: an idle slice holds no memory for it.
                    self.pending = Vec::new();
                }
                self.pending.get(index).map(|pending| pending.slot)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_moves_into_the_hole() {
        let mut slice = Slice::new(0, KindId::default(), 0);
        for slot in 10..14 {
            slice.add_active(slot);
        }
        let pending = |slot| Pending {
            slot,
            attempt: slot * 100,
            since: None,
        };
        assert_eq!(slice.add_pending(pending(20)), Place::Pending(0));
        assert_eq!(slice.add_pending(pending(21)), Place::Pending(1));

        assert_eq!(slice.remove(Place::Active(1)), Some(13));
        assert_eq!(slice.active(), [10, 13, 12]);
        assert_eq!(slice.remove(Place::Active(2)), None, "it was the last");
        assert_eq!(slice.remove(Place::Active(9)), None, "no such place");
        assert_eq!(slice.remove(Place::Pending(0)), Some(21));
        assert_eq!(slice.pending(0), Some(&pending(21)));
        assert_eq!(slice.remove(Place::Pending(0)), None);
        assert!(!slice.is_empty());
        assert_eq!(slice.remove(Place::Active(0)), Some(13));
        assert_eq!(slice.remove(Place::Active(0)), None);
        assert!(slice.is_empty());
    }
}
