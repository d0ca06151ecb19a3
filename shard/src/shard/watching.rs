//! What a shard looks at only while somebody watches it: which rooms are busiest, which connections are slowest.

use std::cmp::Reverse;

use super::Core;
use crate::app::App;
use crate::busiest::Busiest;
use crate::driver::ConnectionKey;
use crate::hub::event::{Event, Target};
use crate::orders::{
    Activity, BUSIEST_MAX, ENTRIES_PER_ORDER_MAX, SLOWEST_MAX, SlowConsumer, WATCH_US_MAX,
};

/// Begun by the first look, and given up where none comes for a while.
#[derive(Debug)]
pub(super) struct Watch {
    /// When the last look was.
    since_us: u64,
    busiest: Busiest,
    /// Where the next look goes on among the outboxes.
    outboxes_from: usize,
    /// The slowest that were found, to be looked at again.
    slowest: Vec<ConnectionKey>,
}

impl<A: App> Core<A> {
    /// A message of a room went to so many members.
    pub(super) fn note_traffic(&mut self, event: &Event, deliveries: u64) {
        if let Some(watch) = &mut self.watch
            && let Event::Message(message) = event
            && let Target::Room(room) = &message.target
        {
            watch.busiest.record(room, deliveries);
        }
    }

    /// What the shard is busy with.
    pub(super) fn look(&mut self) -> Activity {
        let now_us = self.clock.monotonic_us;
        let mut watch = self.watch.take().unwrap_or_else(|| {
            Box::new(Watch {
                since_us: now_us,
                busiest: Busiest::default(),
                outboxes_from: 0,
                slowest: Vec::new(),
            })
        });
        let activity = Activity {
            counted_us: now_us - watch.since_us,
            busiest_rooms: watch.busiest.take(BUSIEST_MAX),
            slow_consumers: self.slow_consumers(&mut watch),
        };
        watch.since_us = now_us;
        self.watch = Some(watch);
        activity
    }

    /// Those found before, and those of the next outboxes: the slowest of them.
    fn slow_consumers(&mut self, watch: &mut Watch) -> Vec<SlowConsumer> {
        let (page, next) = self
            .table
            .backlogs(watch.outboxes_from, ENTRIES_PER_ORDER_MAX);
        let mut keys = std::mem::take(&mut watch.slowest);
        keys.extend(page.map(|(key, _)| key));
        watch.outboxes_from = next;
        keys.sort_unstable();
        keys.dedup();
        let mut waiting: Vec<(ConnectionKey, usize)> = keys
            .into_iter()
            .map(|key| (key, self.table.waiting_bytes(key)))
            .filter(|(_, bytes)| *bytes > 0)
            .collect();
        waiting.sort_unstable_by_key(|(_, bytes)| Reverse(*bytes));
        waiting.truncate(SLOWEST_MAX);
        watch.slowest = waiting.iter().map(|(key, _)| *key).collect();
        let consumers = waiting.into_iter().filter_map(|(key, bytes)| {
            Some(SlowConsumer {
                key,
                user: self.hub.member_user(key)?.clone(),
                outbox_bytes: bytes as u64,
            })
        });
        consumers.collect()
    }

    /// Gives up watching where nobody has looked for a while.
    pub(super) fn end_unwatched(&mut self) {
        let now_us = self.clock.monotonic_us;
        let is_over = |watch: &Watch| now_us - watch.since_us > WATCH_US_MAX;
        if self.watch.as_deref().is_some_and(is_over) {
            self.watch = None;
        }
    }
}
