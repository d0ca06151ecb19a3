//! What a shard measures of itself: how long its passes take, how long messages take through it, how late it wakes.
//!
//! All of it comes from the clock that a pass reads anyway. A pass ends where the next begins: by then the kernel has been given what the pass wanted sent, which is
//! the larger part of its time, and the deliveries have left as far as they leave at once. So nothing is measured for a delivery: a message costs one entry of a
//! list, and messages that were taken in at the same time share one.
//!
//! Levels that other parts keep for themselves are copied to where other threads can read them when the shard goes to sleep, and else ten times a second.

use super::{Shard, ShardCounts};
use crate::app::App;
use crate::driver::{Driver, DriverCounts};
use crate::stats::{GAUGES_US, ShardStats};

/// Times at which messages were taken in that wait to leave. Above it a message counts as one with the one before it.
const LEAVING_MAX: usize = 1024;

/// Deliveries of messages that were taken in at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leaving {
    taken_us: u64,
    deliveries: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Measuring {
    /// When the pass began, where it had something to do.
    busy_since_us: Option<u64>,
    leaving: Vec<Leaving>,
    /// What is in `leaving` has been handed to the driver.
    handed_over: bool,
    gauges_due_us: u64,
    /// Of the driver, as they were counted last.
    driver: DriverCounts,
}

impl Measuring {
    /// A pass begins; the driver is behind if it has not yet given the kernel all that was handed to it.
    pub(super) fn begin(&mut self, now_us: u64, is_behind: bool, stats: &ShardStats) {
        if let Some(since_us) = self.busy_since_us.take() {
            stats.pass_time.record(now_us - since_us, 1);
        }
        if self.handed_over && !is_behind {
            self.handed_over = false;
            for leaving in self.leaving.drain(..) {
                // The publisher's shard has a pass of its own, which may have begun after this one.
                let latency_us = now_us.saturating_sub(leaving.taken_us);
                stats
                    .delivery_latency
                    .record(latency_us, leaving.deliveries);
            }
        }
    }

    /// A message that was taken in then has been queued to so many connections.
    pub(super) fn delivered(&mut self, taken_us: u64, deliveries: u64) {
        if deliveries == 0 {
            return;
        }
        let is_full = self.leaving.len() >= LEAVING_MAX;
        match self.leaving.last_mut() {
            Some(last) if last.taken_us == taken_us || is_full => last.deliveries += deliveries,
            _ => self.leaving.push(Leaving {
                taken_us,
                deliveries,
            }),
        }
    }

    /// All that was queued has been handed to the driver.
    pub(super) fn handed_over(&mut self) {
        self.handed_over = !self.leaving.is_empty();
    }

    /// The pass that began then had something to do, and another follows at once.
    pub(super) fn busy(&mut self, since_us: u64) {
        self.busy_since_us = Some(since_us);
    }
}

impl<D: Driver, A: App> Shard<D, A> {
    /// A pass begins.
    pub(super) fn measure(&mut self) {
        let core = &mut self.core;
        let now_us = core.clock.monotonic_us;
        core.measuring
            .begin(now_us, self.driver.is_behind(), &core.stats);
        if let Some(latency_us) = self.driver.take_wake_us() {
            core.stats.wake_latency.record(latency_us, 1);
        }
        if now_us >= core.measuring.gauges_due_us {
            core.measuring.gauges_due_us = now_us + GAUGES_US;
            core.end_unwatched();
            self.copy_gauges();
        }
    }

    /// Copies what is kept elsewhere to where other threads can read it.
    pub(super) fn copy_gauges(&mut self) {
        let counts = self.counts();
        let core = &mut self.core;
        set_gauges(&core.stats, &counts);
        let now = self.driver.counts();
        let before = std::mem::replace(&mut core.measuring.driver, now);
        let stats = &core.stats;
        stats.ring_enters.add(now.enters - before.enters);
        stats.ring_overflows.add(now.overflows - before.overflows);
        stats.ring_busy.add(now.busy - before.busy);
        stats.ring_deferred.add(now.deferred - before.deferred);
        stats
            .wakes_failed
            .add(now.wakes_failed - before.wakes_failed);
    }
}

/// Says how much a shard holds.
pub(super) fn set_gauges(stats: &ShardStats, counts: &ShardCounts) {
    stats.members.set(counts.hub.members);
    stats.rooms.set(counts.hub.rooms);
    stats.inboxes.set(counts.hub.inboxes);
    stats.slices.set(counts.hub.slices);
    stats.history_bytes.set(counts.hub.history_bytes);
    stats.outboxes.set(counts.outboxes as u64);
    stats.outbox_bytes.set(counts.outbox_bytes as u64);
    stats.mails_waiting.set(counts.mails_waiting as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_counts_once_it_is_with_the_kernel() {
        let (mut measuring, stats) = (Measuring::default(), ShardStats::default());
        let counted = || {
            let durations = stats.delivery_latency.durations();
            (durations.count, durations.sum_us)
        };
        measuring.delivered(100, 3);
        measuring.begin(200, false, &stats);
        assert_eq!(counted(), (0, 0), "it waits to leave with more");
        measuring.delivered(100, 2);
        measuring.delivered(150, 0);
        measuring.delivered(250, 1);
        assert_eq!(measuring.leaving.len(), 2);
        measuring.handed_over();
        measuring.begin(300, true, &stats);
        assert_eq!(counted(), (0, 0), "the kernel has not taken all");
        measuring.begin(400, false, &stats);
        assert_eq!(counted(), (6, 5 * 300 + 150));
        measuring.handed_over();
        measuring.begin(500, false, &stats);
        assert_eq!(counted().0, 6, "each counts once");
        // The publisher's shard has read its clock later.
        measuring.delivered(700, 1);
        measuring.handed_over();
        measuring.begin(600, false, &stats);
        assert_eq!(counted(), (7, 5 * 300 + 150));
    }

    #[test]
    fn what_is_measured_has_a_bound_and_loses_no_delivery() {
        let (mut measuring, stats) = (Measuring::default(), ShardStats::default());
        for taken_us in 0..3 * LEAVING_MAX as u64 {
            measuring.delivered(taken_us, 2);
        }
        assert_eq!(measuring.leaving.len(), LEAVING_MAX);
        measuring.handed_over();
        measuring.begin(10_000, false, &stats);
        let durations = stats.delivery_latency.durations();
        assert_eq!(durations.count, 6 * LEAVING_MAX as u64);
    }

    #[test]
    fn only_passes_with_something_to_do_are_timed() {
        let (mut measuring, stats) = (Measuring::default(), ShardStats::default());
        measuring.begin(100, false, &stats);
        measuring.busy(100);
        measuring.begin(130, false, &stats);
        measuring.begin(9_000_000, false, &stats);
        let durations = stats.pass_time.durations();
        assert_eq!((durations.count, durations.sum_us), (1, 30));
    }
}
