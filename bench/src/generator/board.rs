//! Rooms that lie on several threads: where those threads meet to find a message's last receiver.

use std::collections::HashMap;
use std::sync::Mutex;

use super::lock;

/// Messages waited for at once. Beyond it the last receiver of a message is not found: there are then more on their
/// way than any report could make sense of.
const MESSAGES_MAX: usize = 1 << 20;

/// Which message: the room, the publisher's number in it, and the number of its message.
pub(super) type MessageKey = (u32, u32, u32);

/// One for each group, shared by all threads. A thread comes here once a message, not once a delivery.
#[derive(Debug, Default)]
pub(super) struct Board {
    waiting: Mutex<HashMap<MessageKey, Waiting>>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    parts_left: u32,
    last_ns: u64,
}

impl Board {
    /// One of `parts` threads has had its last delivery of a message, at `now_ns`. The time of the very last one is the
    /// answer to the thread that completes the message.
    pub(super) fn part_done(&self, message: MessageKey, parts: u32, now_ns: u64) -> Option<u64> {
        if parts <= 1 {
            return Some(now_ns);
        }
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= MESSAGES_MAX && !waiting.contains_key(&message) {
            return None;
        }
        let entry = waiting.entry(message).or_insert(Waiting {
            parts_left: parts,
            last_ns: 0,
        });
        entry.parts_left -= 1;
        entry.last_ns = entry.last_ns.max(now_ns);
        let Waiting {
            parts_left,
            last_ns,
        } = *entry;
        (parts_left == 0).then(|| {
            waiting.remove(&message);
            last_ns
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_tells_the_latest_time() {
        let board = Board::default();
        assert_eq!(board.part_done((1, 0, 5), 1, 10), Some(10));
        assert_eq!(board.part_done((1, 0, 6), 3, 10), None);
        assert_eq!(board.part_done((1, 0, 7), 2, 11), None);
        assert_eq!(board.part_done((1, 0, 6), 3, 40), None);
        assert_eq!(board.part_done((1, 0, 6), 3, 20), Some(40));
        assert_eq!(board.part_done((1, 0, 7), 2, 12), Some(12));
        assert!(board.waiting.lock().unwrap().is_empty());
    }
}
