//! What must hold after every pass of every shard, whatever goes on. What must hold of each thing that a client hears
//! stands in `view` and `member`, and is checked as it hears it.

use shardcast_shard::driver::ShardId;
use shardcast_shard::limits::Limits;
use shardcast_shard::outbox::Backlog;
use shardcast_shard::shard::ShardCounts;
use shardcast_shard::sim::Held;
use shardcast_shard::stats::ShardStats;

/// A shard right after a pass.
#[derive(Clone, Copy)]
pub(crate) struct Passed<'a> {
    pub(crate) shard: ShardId,
    pub(crate) counts: ShardCounts,
    /// What it holds of its driver.
    pub(crate) held: Held,
    pub(crate) stats: &'a ShardStats,
    pub(crate) limits: &'a Limits,
    /// The most that waits for any one connection; looked at now and then where there are many.
    pub(crate) backlog: Option<Backlog>,
}

/// What may be said to a connection beyond all bounds, in bytes: why it is closed.
const LAST_WORDS_BYTES: usize = 256;

impl Passed<'_> {
    /// Asserts what must hold after every pass.
    pub(crate) fn assert_sound(&self) {
        self.assert_nothing_leaks();
        self.assert_nobody_waits_to_send();
        self.assert_bounds_hold();
        self.assert_nothing_went_wrong();
    }

    /// What the shard believes to hold is what it holds of its driver.
    fn assert_nothing_leaks(&self) {
        let Self {
            shard,
            counts,
            held,
            stats,
            ..
        } = self;
        assert_eq!(
            held.buffers, 0,
            "shard {shard} keeps receive buffers after its pass"
        );
        assert_eq!(
            held.slots, counts.connections,
            "shard {shard} and its driver disagree about which slots are in use"
        );
        assert_eq!(
            stats.connections_open.value(),
            counts.connections as u64,
            "shard {shard} has counted its connections wrongly"
        );
        let members = counts.hub.members as usize;
        assert!(
            members <= counts.connections
                && counts.dedicated_windows <= counts.connections
                && counts.grants <= members,
            "shard {shard} keeps members, windows or grants of connections that are gone: {counts:?}"
        );
    }

    /// Whatever waits for a connection is on its way, or waits for more to leave with: no connection with something to send is passed over, not even once.
    fn assert_nobody_waits_to_send(&self) {
        let Self {
            shard,
            counts,
            held,
            ..
        } = self;
        // A driver that is behind is asked for nothing.
        assert!(
            held.is_behind || counts.outboxes <= held.sends + counts.unsettled,
            "shard {shard} has output for {} connections, only {} sends are in flight and {} wait for more",
            counts.outboxes,
            held.sends,
            counts.unsettled
        );
    }

    fn assert_bounds_hold(&self) {
        let Self {
            shard,
            counts,
            limits,
            ..
        } = self;
        let hub = &counts.hub;
        assert!(
            counts.connections as u64 <= limits.shard_connections_max
                && counts.dedicated_windows as u64 <= limits.dedicated_windows_max
                && hub.rooms <= limits.rooms_max
                && hub.history_bytes <= limits.history_shard_bytes_max,
            "shard {shard} holds more than it may: {counts:?}"
        );
        assert!(
            counts.outboxes > 0 || counts.outbox_bytes == 0,
            "shard {shard} counts bytes in outboxes that are gone: {counts:?}"
        );
        let Some(backlog) = self.backlog else { return };
        assert!(
            self.held.is_behind || counts.unsettled > 0 || backlog.bytes <= counts.outbox_bytes,
            "shard {shard} has not counted what waits: {backlog:?} of {counts:?}"
        );
        let missed_bytes_max = limits.recovery_bytes_max.max(limits.history_bytes_max);
        assert!(
            backlog.bytes <= limits.outbox_bytes_max as usize + LAST_WORDS_BYTES
                && backlog.missed_bytes <= missed_bytes_max as usize,
            "shard {shard} lets more wait for one connection than it may: {backlog:?}"
        );
    }

    fn assert_nothing_went_wrong(&self) {
        let stats = self.stats;
        let wrong = [
            ("panics", stats.panics.value()),
            ("connections closed over a panic", stats.close_panic.value()),
            ("stale completions", stats.stale_completions.value()),
        ];
        for (what, count) in wrong {
            assert_eq!(count, 0, "shard {} has had {what}", self.shard);
        }
    }
}
