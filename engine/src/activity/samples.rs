//! Samples of the shards' counters, one a second.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use shardcast_shard::stats::{Durations, ShardStats};

use super::SAMPLES_MAX;

/// What a shard, or the whole node, did in one second. As numbers of 4 bytes, as there are many; not a number where there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) connections: f32,
    pub(crate) accepts_per_s: f32,
    pub(crate) messages_per_s: f32,
    pub(crate) deliveries_per_s: f32,
    pub(crate) received_bytes_per_s: f32,
    pub(crate) sent_bytes_per_s: f32,
    pub(crate) dropped_per_s: f32,
    /// The share of the time in which there was something to do.
    pub(crate) busy: f32,
    pub(crate) p50_us: f32,
    pub(crate) p99_us: f32,
    pub(crate) p999_us: f32,
}

const _: () = assert!(size_of::<Sample>() == 44, "300 of each shard");

/// What the counters of a shard, or of several, stand at.
#[derive(Clone, Copy, Debug)]
struct Totals {
    connections: u64,
    accepts: u64,
    messages: u64,
    deliveries: u64,
    received_bytes: u64,
    sent_bytes: u64,
    dropped: u64,
    busy_us: u64,
    latency: Durations,
}

impl Totals {
    fn read(stats: &ShardStats) -> Self {
        Self {
            connections: stats.connections_open.value(),
            accepts: stats.connections_accepted.value(),
            messages: stats.messages_received.value(),
            deliveries: stats.deliveries_sent.value(),
            received_bytes: stats.bytes_received.value(),
            sent_bytes: stats.bytes_sent.value(),
            dropped: stats.dropped_oldest.value() + stats.conflated.value(),
            busy_us: stats.pass_time.durations().sum_us,
            latency: stats.delivery_latency.durations(),
        }
    }

    /// What came since an earlier reading; connections are as they are now.
    fn since(&self, earlier: &Self) -> Self {
        Self {
            connections: self.connections,
            accepts: self.accepts - earlier.accepts,
            messages: self.messages - earlier.messages,
            deliveries: self.deliveries - earlier.deliveries,
            received_bytes: self.received_bytes - earlier.received_bytes,
            sent_bytes: self.sent_bytes - earlier.sent_bytes,
            dropped: self.dropped - earlier.dropped,
            busy_us: self.busy_us - earlier.busy_us,
            latency: self.latency.since(&earlier.latency),
        }
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            accepts: self.accepts + other.accepts,
            messages: self.messages + other.messages,
            deliveries: self.deliveries + other.deliveries,
            received_bytes: self.received_bytes + other.received_bytes,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            dropped: self.dropped + other.dropped,
            busy_us: self.busy_us + other.busy_us,
            latency: self.latency.and(&other.latency),
        }
    }

    /// As a sample of so many shards over so long.
    fn sample(&self, shards: usize, seconds: f64) -> Sample {
        let per_second = |count: u64| (count as f64 / seconds) as f32;
        let quantile = |share| {
            self.latency
                .quantile_us(share)
                .map_or(f32::NAN, |us| us as f32)
        };
        Sample {
            connections: self.connections as f32,
            accepts_per_s: per_second(self.accepts),
            messages_per_s: per_second(self.messages),
            deliveries_per_s: per_second(self.deliveries),
            received_bytes_per_s: per_second(self.received_bytes),
            sent_bytes_per_s: per_second(self.sent_bytes),
            dropped_per_s: per_second(self.dropped),
            // A pass that was under way at either end counts as a whole where it ended.
            busy: (per_second(self.busy_us) / 1e6 / shards as f32).min(1.0),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
        }
    }
}

/// The last samples, the oldest first.
#[derive(Debug)]
pub(crate) struct Samples {
    before: Vec<Totals>,
    taken: Instant,
    unix_ms: VecDeque<u64>,
    all: VecDeque<Sample>,
    shards: Vec<VecDeque<Sample>>,
}

impl Samples {
    /// None yet.
    pub(super) fn new(stats: &[Arc<ShardStats>], now: Instant) -> Self {
        Self {
            before: stats.iter().map(|stats| Totals::read(stats)).collect(),
            taken: now,
            unix_ms: VecDeque::new(),
            all: VecDeque::new(),
            shards: vec![VecDeque::new(); stats.len()],
        }
    }

    /// Takes one.
    pub(super) fn take(&mut self, stats: &[Arc<ShardStats>], now: Instant, unix_ms: u64) {
        let seconds = now.duration_since(self.taken).as_secs_f64().max(1e-3);
        let mut all: Option<Totals> = None;
        for (shard, stats) in stats.iter().enumerate() {
            let totals = Totals::read(stats);
            let since = totals.since(&self.before[shard]);
            push(&mut self.shards[shard], since.sample(1, seconds));
            all = Some(all.map_or(since, |all| all.and(&since)));
            self.before[shard] = totals;
        }
        if let Some(all) = all {
            push(&mut self.all, all.sample(stats.len(), seconds));
            push(&mut self.unix_ms, unix_ms);
            self.taken = now;
        }
    }

    /// When those were taken that are newer than this, in milliseconds since 1970 (UTC).
    pub(crate) fn times_after(&self, after_unix_ms: u64) -> Vec<u64> {
        let first = self.first_after(after_unix_ms);
        self.unix_ms.range(first..).copied().collect()
    }

    /// Those of the node that are newer than this.
    pub(crate) fn all_after(&self, after_unix_ms: u64) -> impl Iterator<Item = &Sample> + Clone {
        self.all.range(self.first_after(after_unix_ms)..)
    }

    /// Those of each shard that are newer than this.
    pub(crate) fn shards_after(
        &self,
        after_unix_ms: u64,
    ) -> impl Iterator<Item = impl Iterator<Item = &Sample> + Clone> {
        let first = self.first_after(after_unix_ms);
        self.shards
            .iter()
            .map(move |samples| samples.range(first..))
    }

    /// Found from the end: a clock that is set back must not hide what is new.
    fn first_after(&self, after_unix_ms: u64) -> usize {
        let newer = self.unix_ms.iter().rev();
        self.unix_ms.len() - newer.take_while(|taken| **taken > after_unix_ms).count()
    }
}

fn push<T>(samples: &mut VecDeque<T>, sample: T) {
    if samples.len() == SAMPLES_MAX {
        samples.pop_front();
    }
    samples.push_back(sample);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shards(count: usize) -> Vec<Arc<ShardStats>> {
        (0..count).map(|_| Arc::default()).collect()
    }

    #[test]
    fn a_sample_is_of_its_second() {
        let (stats, begun) = (shards(2), Instant::now());
        stats[0].messages_received.add(1_000);
        let mut samples = Samples::new(&stats, begun);
        stats[0].connections_open.set(7);
        stats[1].connections_open.set(5);
        stats[0].messages_received.add(30);
        stats[1].deliveries_sent.add(100);
        stats[1].dropped_oldest.add(1);
        stats[1].conflated.add(3);
        stats[1].pass_time.record(500_000, 1);
        stats[1].delivery_latency.record(15, 100);
        samples.take(&stats, begun + Duration::from_secs(2), 5_000);
        let all: Vec<Sample> = samples.all_after(0).copied().collect();
        let [all] = all[..] else {
            panic!("{all:?}");
        };
        assert_eq!((all.connections, all.messages_per_s), (12.0, 15.0));
        assert_eq!((all.deliveries_per_s, all.dropped_per_s), (50.0, 2.0));
        assert_eq!((all.busy, all.p50_us), (0.125, 15.0));
        let by_shard: Vec<Sample> = samples.shards_after(0).flatten().copied().collect();
        assert_eq!((by_shard[0].messages_per_s, by_shard[0].busy), (15.0, 0.0));
        assert!(by_shard[0].p99_us.is_nan(), "nothing was delivered");
        assert_eq!((by_shard[1].connections, by_shard[1].busy), (5.0, 0.25));
    }

    #[test]
    fn the_newest_are_kept_and_found() {
        let (stats, begun) = (shards(1), Instant::now());
        let mut samples = Samples::new(&stats, begun);
        for second in 1..=SAMPLES_MAX as u64 + 10 {
            let now = begun + Duration::from_secs(second);
            samples.take(&stats, now, 1_000 * second);
        }
        let times = samples.times_after(0);
        assert_eq!((times.len(), times[0]), (SAMPLES_MAX, 11_000));
        assert_eq!(samples.times_after(308_000), [309_000, 310_000]);
        assert_eq!(samples.all_after(308_000).count(), 2);
        assert_eq!(samples.shards_after(309_000).flatten().count(), 1);
        assert!(samples.times_after(u64::MAX).is_empty());
    }
}
