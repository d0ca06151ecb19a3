//! The last messages of a room or of an inbox.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::Message;
use crate::limits::Limits;
use crate::room_settings::RoomKind;

/// Bounds of one history and of all histories of the shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct HistoryBounds {
    messages_max: usize,
    bytes_max: u64,
    age_ms_max: u64,
    shard_bytes_max: u64,
}

impl HistoryBounds {
    pub(super) fn new(kind: &RoomKind, limits: &Limits) -> Self {
        Self {
            messages_max: usize::try_from(kind.history_messages_max).unwrap_or(usize::MAX),
            bytes_max: kind.history_bytes_max,
            age_ms_max: kind.history_age_ms_max,
            shard_bytes_max: limits.history_shard_bytes_max,
        }
    }

    /// Milliseconds after which the last message of a quiet history has gone; 0 where nothing is kept.
    pub(super) fn lifetime_ms(&self) -> u64 {
        if self.messages_max == 0 || self.bytes_max == 0 {
            0
        } else {
            self.age_ms_max
        }
    }
}

/// The newest messages of one order, without a gap between them.
#[derive(Debug, Default)]
pub(super) struct History {
    messages: VecDeque<Kept>,
    bytes: u64,
}

/// A message and when it came, on the clock that never goes back.
#[derive(Debug)]
struct Kept {
    at_ms: u64,
    message: Arc<Message>,
}

/// What keeping a message costs, in bytes: its content, its record and the entry here.
fn cost(message: &Message) -> u64 {
    (message.content.len() + size_of::<Message>() + size_of::<Kept>()) as u64
}

impl History {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many messages are kept, and what that costs in bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.messages.len() as u64, self.bytes)
    }

    /// Adds the newest message, then drops the oldest until every bound holds again; `shard_bytes` is
    /// what all histories of the shard hold together.
    pub(super) fn push(
        &mut self,
        message: Arc<Message>,
        now_ms: u64,
        bounds: &HistoryBounds,
        shard_bytes: &mut u64,
    ) {
        if bounds.lifetime_ms() == 0 {
            return;
        }
        self.bytes += cost(&message);
        *shard_bytes += cost(&message);
        self.messages.push_back(Kept {
            at_ms: now_ms,
            message,
        });
        while self.messages.len() > bounds.messages_max
            || self.bytes > bounds.bytes_max
            || (*shard_bytes > bounds.shard_bytes_max && !self.messages.is_empty())
        {
            self.pop(shard_bytes);
        }
        self.expire(now_ms, bounds, shard_bytes);
    }

    /// Drops what is too old.
    pub(super) fn expire(&mut self, now_ms: u64, bounds: &HistoryBounds, shard_bytes: &mut u64) {
        while let Some(oldest) = self.messages.front()
            && now_ms.saturating_sub(oldest.at_ms) >= bounds.age_ms_max
        {
            self.pop(shard_bytes);
        }
        if self.messages.is_empty() {
            // A room that falls quiet gives its memory back.
            self.messages = VecDeque::new();
        }
    }

    fn pop(&mut self, shard_bytes: &mut u64) {
        if let Some(kept) = self.messages.pop_front() {
            self.bytes -= cost(&kept.message);
            *shard_bytes = shard_bytes.saturating_sub(cost(&kept.message));
        }
    }

    /// Whether every message after number `seq` is still here, where `last` is the newest number given.
    pub(super) fn reaches(&self, seq: u64, last: u64) -> bool {
        seq == last
            || self
                .messages
                .front()
                .is_some_and(|oldest| oldest.message.seq <= seq.saturating_add(1))
    }

    /// The messages after number `seq`, oldest first.
    pub(super) fn after(&self, seq: u64) -> impl DoubleEndedIterator<Item = &Arc<Message>> {
        let start = self
            .messages
            .partition_point(|kept| kept.message.seq <= seq);
        self.messages.range(start..).map(|kept| &kept.message)
    }

    /// All messages, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Message>> {
        self.after(0).cloned().collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::hub::Target;

    fn message(seq: u64, bytes: usize) -> Arc<Message> {
        Arc::new(Message {
            target: Target::Room("room".into()),
            user: "user".into(),
            content: vec![b'1'; bytes].into(),
            seq,
            timestamp_ms: 0,
        })
    }

    fn numbers(history: &History) -> Vec<u64> {
        history.after(0).map(|message| message.seq).collect()
    }

    #[test]
    fn every_bound_drops_the_oldest() {
        let one = cost(&message(1, 10));
        let wide = HistoryBounds {
            messages_max: 100,
            bytes_max: 1 << 30,
            age_ms_max: 1000,
            shard_bytes_max: 1 << 30,
        };
        let cases = [
            ("none", wide, 0, vec![1, 2, 3, 4, 5]),
            (
                "messages",
                HistoryBounds {
                    messages_max: 2,
                    ..wide
                },
                0,
                vec![4, 5],
            ),
            (
                "off",
                HistoryBounds {
                    messages_max: 0,
                    ..wide
                },
                0,
                vec![],
            ),
            (
                "bytes",
                HistoryBounds {
                    bytes_max: 3 * one,
                    ..wide
                },
                0,
                vec![3, 4, 5],
            ),
            (
                "no bytes",
                HistoryBounds {
                    bytes_max: 0,
                    ..wide
                },
                0,
                vec![],
            ),
            (
                "age",
                HistoryBounds {
                    age_ms_max: 20,
                    ..wide
                },
                0,
                vec![4, 5],
            ),
            (
                "shard",
                HistoryBounds {
                    shard_bytes_max: 4 * one,
                    ..wide
                },
                2 * one,
                vec![4, 5],
            ),
            (
                "shard full",
                HistoryBounds {
                    shard_bytes_max: 1,
                    ..wide
                },
                2 * one,
                vec![],
            ),
        ];
        for (name, bounds, others, expected) in cases {
            let (mut history, mut shard_bytes) = (History::default(), others);
            for seq in 1..=5 {
                history.push(message(seq, 10), seq * 10, &bounds, &mut shard_bytes);
            }
            assert_eq!(numbers(&history), expected, "{name}");
            assert_eq!(shard_bytes, others + one * expected.len() as u64, "{name}");
            history.expire(1_000_000, &bounds, &mut shard_bytes);
            assert_eq!(shard_bytes, others, "{name}: all has expired");
        }
    }

    #[test]
    fn reaches_back_as_far_as_it_is_whole() {
        let bounds = HistoryBounds {
            messages_max: 3,
            bytes_max: 1 << 30,
            age_ms_max: 1000,
            shard_bytes_max: 1 << 30,
        };
        let (mut history, mut bytes) = (History::default(), 0);
        assert!(history.reaches(0, 0), "nothing was ever published");
        assert!(!history.reaches(0, 7), "all of it is gone");
        for seq in 1..=5 {
            history.push(message(seq, 1), 0, &bounds, &mut bytes);
        }
        for (seq, whole, count) in [
            (0, false, 3),
            (1, false, 3),
            (2, true, 3),
            (4, true, 1),
            (5, true, 0),
        ] {
            assert_eq!(history.reaches(seq, 5), whole, "{seq}");
            assert_eq!(history.after(seq).count(), count, "{seq}");
        }
    }
}
