//! Work that comes due: a queue each for work that always waits equally long.

use std::collections::VecDeque;

/// Entries of a queue that one call works off. What is left waits for the next pass of the loop.
pub(super) const DUE_PER_CALL_MAX: usize = 64;

/// Work of one kind, in the order in which it comes due.
///
/// All entries wait equally long, so the first to come is the first due, and finding it costs nothing
/// however many rooms there are.
#[derive(Debug)]
pub(super) struct DueQueue<T> {
    wait_ms: u64,
    entries: VecDeque<(u64, T)>,
}

impl<T> DueQueue<T> {
    pub(super) fn new(wait_ms: u64) -> Self {
        Self {
            wait_ms,
            entries: VecDeque::new(),
        }
    }

    pub(super) fn push(&mut self, now_ms: u64, work: T) {
        self.entries
            .push_back((now_ms.saturating_add(self.wait_ms), work));
    }

    /// The first entry, where it is due.
    pub(super) fn pop(&mut self, now_ms: u64) -> Option<T> {
        let (due_ms, _) = self.entries.front()?;
        if *due_ms > now_ms {
            return None;
        }
        self.entries.pop_front().map(|(_, work)| work)
    }

    /// When the first entry is due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.entries.front().map(|(due_ms, _)| *due_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_first_is_due_first() {
        let mut queue = DueQueue::new(10);
        assert_eq!((queue.next_ms(), queue.pop(1000)), (None, None));
        queue.push(0, 'a');
        queue.push(5, 'b');
        assert_eq!((queue.next_ms(), queue.pop(9)), (Some(10), None));
        assert_eq!((queue.pop(10), queue.pop(10)), (Some('a'), None));
        assert_eq!((queue.pop(99), queue.next_ms()), (Some('b'), None));
    }
}
