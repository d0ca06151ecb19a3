//! The order of one room or inbox: numbers, times, and what is remembered of it.

use ahash::RandomState;
use bytes::Bytes;
use std::sync::Arc;

use super::Name;
use super::event::{Event, Message, Position, Target};
use super::history::{History, HistoryBounds};
use super::ids::{IdBounds, IdWindow};
use crate::driver::Clock;
use crate::limits::Limits;
use crate::room_settings::{KindId, RoomKinds};

/// What all orders of a shard share: bounds, the keyed hash, and what they hold together.
#[derive(Debug)]
pub(super) struct Shelf {
    /// By kind of room.
    pub(super) histories: Vec<HistoryBounds>,
    pub(super) ids: IdBounds,
    pub(super) hasher: RandomState,
    /// Bytes of all histories.
    pub(super) history_bytes: u64,
    epoch_last: u64,
    /// The clocks at a moment that all starts of a shard agree about.
    pub(super) origin: Clock,
}

impl Shelf {
    pub(super) fn new(limits: &Limits, kinds: &RoomKinds, hasher: RandomState) -> Self {
        let histories = kinds.iter().map(|kind| HistoryBounds::new(kind, limits));
        Self {
            histories: histories.collect(),
            ids: IdBounds::new(limits),
            hasher,
            history_bytes: 0,
            epoch_last: 0,
            origin: Clock::default(),
        }
    }

    /// A new epoch, above all that this shard gave before, also before it was started again: it follows the time since the
    /// origin, which the operator cannot set back, at 1024 epochs a millisecond, and stays below 2⁵³ for the next two centuries.
    fn epoch(&mut self, clock: Clock) -> u64 {
        let passed_ms = clock
            .monotonic_ms()
            .saturating_sub(self.origin.monotonic_ms());
        let now_ms = self.origin.unix_ms.saturating_add(passed_ms);
        self.epoch_last = self
            .epoch_last
            .saturating_add(1)
            .max(now_ms.saturating_mul(1024));
        self.epoch_last
    }
}

/// A publish on its way into an order.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) target: Target,
    pub(super) user: Name,
    pub(super) content: Bytes,
    pub(super) id: Option<Name>,
    pub(super) taken_us: u64,
}

/// What became of a publish.
#[derive(Debug)]
pub(super) enum Ordered {
    /// It has this number and is to be delivered.
    New(Arc<Message>),
    /// It repeats the message of this number.
    Duplicate(u64),
}

/// Numbers the messages of one room or inbox and remembers the last of them.
#[derive(Debug)]
pub(super) struct Order {
    epoch: u64,
    seq: u64,
    timestamp_ms: u64,
    history: History,
    /// Absent until a publish with an id comes: most rooms never see one.
    ids: Option<Box<IdWindow>>,
    /// Whether the sweep will come by.
    pub(super) sweep_queued: bool,
    pub(super) kind: KindId,
}

// What there is one of for each room, beside its history.
const _: () = assert!(size_of::<Order>() <= 80);

impl Order {
    pub(super) fn new(kind: KindId, shelf: &mut Shelf, clock: Clock) -> Self {
        Self {
            epoch: shelf.epoch(clock),
            seq: 0,
            timestamp_ms: 0,
            history: History::default(),
            ids: None,
            sweep_queued: false,
            kind,
        }
    }

    pub(super) fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            seq: self.seq,
        }
    }

    /// When the last message of this epoch came.
    pub(super) fn last_unix_ms(&self) -> Option<u64> {
        (self.seq > 0).then_some(self.timestamp_ms)
    }

    /// How many messages are remembered, and what that costs in bytes.
    pub(super) fn history_size(&self) -> (u64, u64) {
        self.history.size()
    }

    /// Whether no message or id is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.history.is_empty() && self.ids.is_none()
    }

    /// Gives the next number, or finds that the same user's message of the same id has one.
    pub(super) fn publish(&mut self, publish: Publish, shelf: &mut Shelf, clock: Clock) -> Ordered {
        let now_ms = clock.monotonic_ms();
        self.expire(now_ms, shelf);
        if let (Some(id), Some(ids)) = (&publish.id, &self.ids)
            && let Some(seq) = ids.find(&publish.user, id, &shelf.hasher)
        {
            return Ordered::Duplicate(seq);
        }
        self.seq += 1;
        // The operator may set the clock back; the room's times must not follow.
        self.timestamp_ms = self.timestamp_ms.max(clock.unix_ms);
        let message = Arc::new(Message {
            target: publish.target,
            user: publish.user,
            content: publish.content,
            seq: self.seq,
            timestamp_ms: self.timestamp_ms,
        });
        self.history.push(
            Arc::clone(&message),
            now_ms,
            &shelf.histories[self.kind.index()],
            &mut shelf.history_bytes,
        );
        if let Some(id) = publish.id
            && shelf.ids.lifetime_ms() > 0
        {
            let ids = self.ids.get_or_insert_default();
            let user = message.user.clone();
            ids.remember(user, id, self.seq, now_ms, &shelf.ids, &shelf.hasher);
        }
        Ordered::New(message)
    }

    /// Drops messages and ids that are too old.
    pub(super) fn expire(&mut self, now_ms: u64, shelf: &mut Shelf) {
        let bounds = &shelf.histories[self.kind.index()];
        self.history
            .expire(now_ms, bounds, &mut shelf.history_bytes);
        if let Some(ids) = &mut self.ids {
            ids.expire(now_ms, &shelf.ids, &shelf.hasher);
            if ids.is_empty() {
                self.ids = None;
            }
        }
    }

    /// All messages that are remembered, oldest first.
    pub(super) fn remembered(&self) -> Vec<Arc<Message>> {
        self.history.all()
    }

    /// Everything after a place, oldest first, where nothing of it is lost.
    pub(super) fn recover(&self, since: Position) -> Option<Vec<Arc<Message>>> {
        let whole = since.epoch == self.epoch
            && since.seq <= self.seq
            && self.history.reaches(since.seq, self.seq);
        whole.then(|| self.history.after(since.seq).cloned().collect())
    }

    /// The answer to a history request.
    ///
    /// A place that this order never gave (another epoch, a number to come) is taken as none.
    pub(super) fn recall(&self, room: Name, since: Option<Position>, limit: Option<u64>) -> Event {
        let limit = limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });
        let known = since.filter(|since| since.epoch == self.epoch && since.seq <= self.seq);
        let messages: Vec<_> = match known {
            Some(since) => self.history.after(since.seq).take(limit).cloned().collect(),
            None => {
                let mut newest: Vec<_> = self.history.after(0).rev().take(limit).cloned().collect();
                newest.reverse();
                newest
            }
        };
        let complete = match (since, known) {
            (_, Some(since)) => self.history.reaches(since.seq, self.seq),
            (Some(_), None) => false,
            (None, None) => self.seq == 0 || messages.first().is_some_and(|oldest| oldest.seq == 1),
        };
        Event::History {
            room,
            position: self.position(),
            messages,
            complete,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::outbox::SlowConsumer;

    /// After which place, at most how many; the numbers, and whether nothing is missing before them.
    type Case<'a> = (Option<Position>, Option<u64>, &'a [u64], bool);

    fn clock(ms: u64) -> Clock {
        Clock {
            monotonic_us: ms * 1000,
            unix_ms: 1_800_000_000_000 + ms,
        }
    }

    fn shelf() -> Shelf {
        let limits = Limits {
            history_messages_max: 3,
            history_age_ms_max: 1000,
            ids_age_ms_max: 1000,
            ..Limits::default()
        };
        let kinds = RoomKinds::new(&limits, SlowConsumer::default(), &[]);
        let mut shelf = Shelf::new(&limits, &kinds, RandomState::with_seeds(1, 2, 3, 4));
        shelf.origin = clock(0);
        shelf
    }

    fn publish(order: &mut Order, shelf: &mut Shelf, id: Option<&str>, at: Clock) -> Ordered {
        let publish = Publish {
            target: Target::Room("room".into()),
            user: "ada".into(),
            content: Bytes::from_static(b"1"),
            id: id.map(Name::from),
            taken_us: 0,
        };
        order.publish(publish, shelf, at)
    }

    #[test]
    fn epochs_grow_and_fit_into_javascript() {
        let mut shelf = shelf();
        let epochs: Vec<u64> = [5, 5, 5, 2, 900]
            .map(|ms| {
                Order::new(KindId::default(), &mut shelf, clock(ms))
                    .position()
                    .epoch
            })
            .to_vec();
        assert!(epochs.is_sorted_by(|one, other| one < other), "{epochs:?}");
        assert!(epochs.iter().all(|epoch| *epoch < 1 << 53), "{epochs:?}");
    }

    #[test]
    fn epochs_grow_over_a_restart_whatever_the_operator_does_to_the_clock() {
        let started = clock(7);
        let epoch = |at: Clock| {
            let mut shelf = shelf();
            shelf.origin = started;
            Order::new(KindId::default(), &mut shelf, at)
                .position()
                .epoch
        };
        let before = epoch(clock(20));
        let restarted = Clock {
            unix_ms: clock(21).unix_ms - 3_600_000,
            ..clock(21)
        };
        assert!(epoch(restarted) > before);
    }

    #[test]
    fn times_never_go_back() {
        let mut shelf = shelf();
        let mut order = Order::new(KindId::default(), &mut shelf, clock(0));
        let times: Vec<u64> = [50, 10, 60]
            .iter()
            .map(
                |ms| match publish(&mut order, &mut shelf, None, clock(*ms)) {
                    Ordered::New(message) => message.timestamp_ms - 1_800_000_000_000,
                    Ordered::Duplicate(_) => 0,
                },
            )
            .collect();
        assert_eq!(times, [50, 50, 60]);
    }

    #[test]
    fn a_repeat_is_recognised_until_it_expires() {
        let mut shelf = shelf();
        let mut order = Order::new(KindId::default(), &mut shelf, clock(0));
        assert!(matches!(
            publish(&mut order, &mut shelf, Some("x"), clock(0)),
            Ordered::New(_)
        ));
        assert!(matches!(
            publish(&mut order, &mut shelf, Some("y"), clock(1)),
            Ordered::New(_)
        ));
        assert!(matches!(
            publish(&mut order, &mut shelf, Some("x"), clock(999)),
            Ordered::Duplicate(1)
        ));
        assert!(matches!(
            publish(&mut order, &mut shelf, Some("x"), clock(1000)),
            Ordered::New(_)
        ));
        order.expire(9000, &mut shelf);
        assert!(order.is_empty());
        assert_eq!(shelf.history_bytes, 0);
    }

    #[test]
    fn recovery_is_all_or_nothing() {
        let mut shelf = shelf();
        let mut order = Order::new(KindId::default(), &mut shelf, clock(0));
        for _ in 0..5 {
            publish(&mut order, &mut shelf, None, clock(0));
        }
        let epoch = order.position().epoch;
        let cases = [
            (epoch, 5, Some(vec![])),
            (epoch, 4, Some(vec![5])),
            (epoch, 2, Some(vec![3, 4, 5])),
            (epoch, 1, None),
            (epoch, 6, None),
            (epoch, u64::MAX, None),
            (epoch - 1, 5, None),
        ];
        for (epoch, seq, expected) in cases {
            let missed = order.recover(Position { epoch, seq });
            let numbers =
                missed.map(|missed| missed.iter().map(|message| message.seq).collect::<Vec<_>>());
            assert_eq!(numbers, expected, "{seq}");
        }
    }

    #[test]
    fn recall_takes_the_newest_or_goes_on_from_a_place() {
        let mut shelf = shelf();
        let mut order = Order::new(KindId::default(), &mut shelf, clock(0));
        let epoch = order.position().epoch;
        let at = |seq| Some(Position { epoch, seq });
        let foreign = Some(Position { epoch: 1, seq: 0 });
        let mut check = |count: u64, cases: &[Case<'_>]| {
            for _ in 0..count {
                publish(&mut order, &mut shelf, None, clock(0));
            }
            for (since, limit, expected, whole) in cases {
                let Event::History {
                    messages, complete, ..
                } = order.recall("room".into(), *since, *limit)
                else {
                    panic!("a recall answers with history");
                };
                let numbers: Vec<u64> = messages.iter().map(|message| message.seq).collect();
                assert_eq!(
                    (&numbers[..], complete),
                    (*expected, *whole),
                    "{since:?} {limit:?}"
                );
            }
        };
        check(
            0,
            &[
                (None, None, &[], true),
                (at(0), None, &[], true),
                (at(1), None, &[], false),
            ],
        );
        check(
            2,
            &[
                (None, None, &[1, 2], true),
                (None, Some(1), &[2], false),
                (at(0), Some(1), &[1], true),
            ],
        );
        check(
            3,
            &[
                (None, None, &[3, 4, 5], false),
                (None, Some(2), &[4, 5], false),
                (None, Some(0), &[], false),
                (at(2), Some(2), &[3, 4], true),
                (at(1), Some(2), &[3, 4], false),
                (at(5), None, &[], true),
                (foreign, Some(2), &[4, 5], false),
            ],
        );
    }
}
