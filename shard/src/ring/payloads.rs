//! The payloads of sends in flight. A cell is reused, so a send allocates nothing once the slab has grown.

use bytes::Bytes;

use super::ops::{AUXILIARY_BITS, Operation, Tag};
use crate::driver::ConnectionKey;

/// The end of the list of free cells.
const NONE: u32 = u32::MAX;

enum Cell {
    Free { next: u32 },
    InFlight { key: ConnectionKey, payload: Bytes },
}

/// A slab whose index travels through the kernel in the send's `user_data`.
pub(super) struct Payloads {
    cells: Vec<Cell>,
    free: u32,
}

impl Payloads {
    pub(super) const fn new() -> Self {
        Self {
            cells: Vec::new(),
            free: NONE,
        }
    }

    /// Keeps a payload until [`Payloads::remove`], and says under which index.
    ///
    /// # Panics
    /// More than a million sends are in flight: the caller broke the rule of one send a connection,
    /// as there are no more slots than that.
    pub(super) fn insert(&mut self, key: ConnectionKey, payload: Bytes) -> u32 {
        let cell = Cell::InFlight { key, payload };
        // Only a free cell is ever overwritten: what is in flight is the kernel's to read, whatever the list says.
        if let Some(place) = self.cells.get_mut(self.free as usize)
            && let Cell::Free { next } = *place
        {
            *place = cell;
            return std::mem::replace(&mut self.free, next);
        }
        let index = self.cells.len();
        assert!(
            index < 1 << AUXILIARY_BITS,
            "at most one send in flight a connection"
        );
        self.cells.push(cell);
        index as u32
    }

    /// The bytes of a payload in flight.
    pub(super) fn bytes(&self, index: u32) -> &[u8] {
        match self.cells.get(index as usize) {
            Some(Cell::InFlight { payload, .. }) => payload,
            _ => &[],
        }
    }

    /// Lets a payload go. `false` if none of this connection is in flight there: the completion is stale.
    pub(super) fn remove(&mut self, index: u32, key: ConnectionKey) -> bool {
        let Some(cell) = self.cells.get_mut(index as usize) else {
            return false;
        };
        if !matches!(cell, Cell::InFlight { key: owner, .. } if *owner == key) {
            return false;
        }
        *cell = Cell::Free { next: self.free };
        self.free = index;
        true
    }

    /// The tags of those that are in flight.
    pub(super) fn tags(&self) -> impl Iterator<Item = Tag> {
        (0..)
            .zip(&self.cells)
            .filter_map(|(auxiliary, cell)| match cell {
                Cell::InFlight { key, .. } => Some(Tag {
                    operation: Operation::Send,
                    key: *key,
                    auxiliary,
                }),
                Cell::Free { .. } => None,
            })
    }

    /// How many are in flight. Walks all cells.
    pub(super) fn in_flight(&self) -> usize {
        self.cells
            .iter()
            .filter(|cell| matches!(cell, Cell::InFlight { .. }))
            .count()
    }

    /// Gives up what is in flight without ever freeing it.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.cells));
        self.free = NONE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ConnectionKey = ConnectionKey::new(7, 1);

    #[test]
    fn cells_are_reused_before_the_slab_grows() {
        let mut payloads = Payloads::new();
        let first = payloads.insert(KEY, Bytes::from_static(b"a"));
        let second = payloads.insert(KEY.next(), Bytes::from_static(b"b"));
        assert_eq!((first, second), (0, 1));
        assert!(payloads.remove(first, KEY));
        assert!(payloads.remove(second, KEY.next()));
        let mut again = [
            payloads.insert(KEY, Bytes::from_static(b"c")),
            payloads.insert(KEY, Bytes::from_static(b"d")),
        ];
        again.sort_unstable();
        assert_eq!(again, [0, 1]);
        assert_eq!(payloads.cells.len(), 2);
    }

    #[test]
    fn a_stale_completion_frees_nothing() {
        let mut payloads = Payloads::new();
        let index = payloads.insert(KEY, Bytes::from_static(b"kept"));
        assert!(!payloads.remove(index, KEY.next()), "another generation");
        assert!(!payloads.remove(index + 1, KEY), "no such cell");
        assert_eq!(payloads.bytes(index), b"kept");
        assert!(payloads.remove(index, KEY));
        assert!(!payloads.remove(index, KEY), "already gone");
        assert_eq!(payloads.bytes(index), b"");
    }

    #[test]
    fn a_broken_list_costs_a_cell_but_never_a_payload() {
        let payload = Bytes::from(vec![1_u8; 100]);
        let mut payloads = Payloads::new();
        payloads.free = payloads.insert(KEY, payload.clone());
        assert_eq!(payloads.insert(KEY.next(), Bytes::new()), 1);
        assert_eq!(payloads.bytes(0), payload);
        assert_eq!(payloads.in_flight(), 2);
    }

    #[test]
    fn a_payload_is_dropped_with_its_completion() {
        let payload = Bytes::from(vec![1_u8; 100]);
        let mut payloads = Payloads::new();
        let index = payloads.insert(KEY, payload.clone());
        assert!(!payload.is_unique());
        assert!(payloads.remove(index, KEY));
        assert!(payload.is_unique());
    }
}
