//! How much may wait.

use std::sync::atomic::{AtomicU64, Ordering};

/// Things and bytes that wait, within two bounds. Many threads take, and none of them waits.
#[derive(Debug)]
pub(super) struct Budget {
    things_max: u64,
    bytes_max: u64,
    things: AtomicU64,
    bytes: AtomicU64,
}

impl Budget {
    pub(super) fn new(things_max: u64, bytes_max: u64) -> Self {
        Self {
            things_max,
            bytes_max,
            things: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Takes room for one thing of so many bytes. False where that would be more than may wait.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let things = self.things.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes_taken = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = things <= self.things_max && bytes_taken <= self.bytes_max;
        if !fits {
            self.give_back(1, bytes);
        }
        fits
    }

    /// So much waits no longer.
    pub(super) fn give_back(&self, things: u64, bytes: u64) {
        self.things.fetch_sub(things, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Things that wait.
    pub(super) fn things(&self) -> u64 {
        self.things.load(Ordering::Relaxed)
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is() {
        let budget = Budget::new(3, 100);
        assert!(budget.take(60) && !budget.take(41) && budget.take(40));
        assert!(!budget.take(1) && budget.take(0) && !budget.take(0));
        assert_eq!((budget.things(), budget.bytes()), (3, 100));
        budget.give_back(2, 60);
        assert!(budget.take(1));
        assert_eq!((budget.things(), budget.bytes()), (2, 41));
    }
}
