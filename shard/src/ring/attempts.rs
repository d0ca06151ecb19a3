//! The payloads of sends that leave at once or not at all ([`Driver::send_now`](crate::driver::Driver::send_now)).
//!
//! The kernel reads such a payload only inside the `io_uring_enter` that takes its entry. So payloads are kept in the order in which they
//! were asked for, and let go all together once every entry has been taken.

use bytes::Bytes;

use super::ops::AUXILIARY_BITS;
use crate::driver::ConnectionKey;

/// Payloads for which room is kept.
const SPARE_MAX: usize = 4096;

/// Those that were asked for since all had been taken.
#[derive(Default)]
pub(super) struct Attempts {
    payloads: Vec<(ConnectionKey, Bytes)>,
}

impl Attempts {
    /// Keeps a payload, and says under which index, which travels through the kernel.
    ///
    /// # Panics
    /// There are more than a million: the caller broke the rule of one a connection.
    pub(super) fn insert(&mut self, key: ConnectionKey, payload: Bytes) -> u32 {
        let index = self.payloads.len();
        assert!(index < 1 << AUXILIARY_BITS, "at most one a connection");
        self.payloads.push((key, payload));
        index as u32
    }

    /// The bytes of a payload; empty for an index that was not given out.
    pub(super) fn bytes(&self, index: u32) -> &[u8] {
        self.payloads
            .get(index as usize)
            .map_or(&[], |(_, payload)| payload)
    }

    /// What did not leave of a payload of which `sent` bytes did. `None` if the index is not one of this connection.
    pub(super) fn rest(&self, index: u32, key: ConnectionKey, sent: usize) -> Option<Bytes> {
        let (owner, payload) = self.payloads.get(index as usize)?;
        (*owner == key && sent < payload.len()).then(|| payload.slice(sent..))
    }

    /// Lets all payloads go: the kernel has taken every entry, and what did not leave has been reported.
    pub(super) fn clear(&mut self) {
        self.payloads.clear();
        self.payloads.shrink_to(SPARE_MAX);
    }

    /// None is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_what_has_not_left() {
        let (key, other) = (ConnectionKey::new(7, 1), ConnectionKey::new(8, 1));
        let mut attempts = Attempts::default();
        let first = attempts.insert(key, Bytes::from_static(b"abcd"));
        let second = attempts.insert(other, Bytes::from_static(b"ef"));
        assert_eq!(attempts.bytes(second), b"ef");
        assert_eq!(attempts.rest(first, key, 0).unwrap(), "abcd");
        assert_eq!(attempts.rest(first, key, 3).unwrap(), "d");
        assert_eq!(attempts.rest(first, key, 4), None, "all has left");
        assert_eq!(attempts.rest(first, other, 0), None, "not its own");
        assert_eq!(attempts.rest(second + 1, other, 0), None, "no such payload");
        attempts.clear();
        assert!(attempts.is_empty());
        assert_eq!(attempts.bytes(first), b"");
    }
}
