//! What the admin API tells of a node's activity, and the last minutes of it put together from many answers.

use serde::Deserialize;

/// Samples that are kept. A server keeps 300.
const SAMPLES_MAX: usize = 600;

/// The answer to `GET /v1/activity`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Activity {
    /// When it was given.
    pub now_unix_ms: u64,
    /// Between two samples.
    pub interval_ms: u64,
    /// The node.
    pub node: Node,
    /// Its shards.
    pub shards: Vec<Shard>,
    /// How it went.
    pub samples: Samples,
    /// By deliveries.
    pub busiest_rooms: Vec<BusyRoom>,
    /// By what waits for them.
    pub slow_consumers: Vec<SlowConsumer>,
}

/// The node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Of the server.
    pub version: String,
    /// Serving, draining or drained.
    pub phase: String,
    /// For clients.
    pub url: String,
    /// That there are.
    pub connections: u64,
    /// Since its start.
    pub uptime_ms: u64,
}

/// A shard, as it is now.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Shard {
    /// Which.
    pub shard: u64,
    /// Its core, where it is bound to one.
    pub core: Option<u64>,
    /// Whether it does.
    pub answers: bool,
    /// How often it was started again.
    pub restarts: u64,
    /// That it has.
    pub connections: u64,
    /// Whose home it is.
    pub rooms: u64,
    /// Connections that output waits for.
    pub outboxes: u64,
    /// What waits for them.
    pub outbox_bytes: u64,
    /// Mails that wait for it.
    pub mailbox_depth: u64,
    /// Of what it remembers.
    pub history_bytes: u64,
}

/// The samples.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Samples {
    /// When each was taken.
    pub unix_ms: Vec<u64>,
    /// Of all shards together.
    pub all: Series,
    /// Of each.
    pub shards: Vec<Series>,
}

/// What was measured: lists as long as that of the times.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Series {
    /// That there were.
    pub connections: Vec<f64>,
    /// New ones.
    pub accepts_per_s: Vec<f64>,
    /// Received.
    pub messages_per_s: Vec<f64>,
    /// To members.
    pub deliveries_per_s: Vec<f64>,
    /// From the network.
    pub received_bytes_per_s: Vec<f64>,
    /// To the network.
    pub sent_bytes_per_s: Vec<f64>,
    /// Left out for slow consumers.
    pub dropped_per_s: Vec<f64>,
    /// From 0 to 1.
    pub busy: Vec<f64>,
    /// Latency of deliveries.
    pub p50_us: Vec<Option<f64>>,
    /// Of all but a hundredth.
    pub p99_us: Vec<Option<f64>>,
    /// Of all but a thousandth.
    pub p999_us: Vec<Option<f64>>,
}

/// A room with much to do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct BusyRoom {
    /// Its name.
    pub room: String,
    /// In it.
    pub connections: u64,
    /// Published.
    pub messages_per_s: f64,
    /// To members.
    pub deliveries_per_s: f64,
}

/// A connection that does not read as fast as it is sent to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SlowConsumer {
    /// Its name in the log.
    pub id: String,
    /// Whose.
    pub user: String,
    /// Where.
    pub shard: u64,
    /// What waits for it.
    pub outbox_bytes: u64,
}

impl Activity {
    /// The time of the newest sample, from which to ask on.
    #[must_use]
    pub fn newest_unix_ms(&self) -> Option<u64> {
        self.samples.unix_ms.last().copied()
    }

    /// Takes a later answer, and keeps the samples of before that are not in it. One of another process begins anew.
    pub fn update(&mut self, mut later: Self) {
        let is_same = later.node.uptime_ms >= self.node.uptime_ms
            && later.samples.shards.len() == self.samples.shards.len();
        if is_same {
            let mut samples = std::mem::take(&mut self.samples);
            let known = samples.unix_ms.last().copied();
            let skip = later
                .samples
                .unix_ms
                .iter()
                .take_while(|time| known.is_some_and(|known| **time <= known))
                .count();
            samples.append(&later.samples, skip);
            later.samples = samples;
        }
        *self = later;
        self.samples.keep(SAMPLES_MAX);
    }
}

impl Samples {
    fn append(&mut self, later: &Self, skip: usize) {
        self.unix_ms.extend(later.unix_ms.iter().skip(skip));
        self.all.append(&later.all, skip);
        for (shard, later) in self.shards.iter_mut().zip(&later.shards) {
            shard.append(later, skip);
        }
    }

    fn keep(&mut self, most: usize) {
        let surplus = self.unix_ms.len().saturating_sub(most);
        self.unix_ms.drain(..surplus);
        for series in std::iter::once(&mut self.all).chain(&mut self.shards) {
            series.drop_first(surplus);
        }
    }
}

impl Series {
    fn numbers(&mut self) -> [&mut Vec<f64>; 8] {
        [
            &mut self.connections,
            &mut self.accepts_per_s,
            &mut self.messages_per_s,
            &mut self.deliveries_per_s,
            &mut self.received_bytes_per_s,
            &mut self.sent_bytes_per_s,
            &mut self.dropped_per_s,
            &mut self.busy,
        ]
    }

    fn latencies(&mut self) -> [&mut Vec<Option<f64>>; 3] {
        [&mut self.p50_us, &mut self.p99_us, &mut self.p999_us]
    }

    fn append(&mut self, later: &Self, skip: usize) {
        let mut later = later.clone();
        for (numbers, later) in self.numbers().into_iter().zip(later.numbers()) {
            numbers.extend(later.iter().skip(skip));
        }
        for (numbers, later) in self.latencies().into_iter().zip(later.latencies()) {
            numbers.extend(later.iter().skip(skip));
        }
    }

    fn drop_first(&mut self, count: usize) {
        for numbers in self.numbers() {
            numbers.drain(..count.min(numbers.len()));
        }
        for numbers in self.latencies() {
            numbers.drain(..count.min(numbers.len()));
        }
    }
}

/// The last of some numbers.
#[must_use]
pub fn last(numbers: &[f64]) -> f64 {
    numbers.last().copied().unwrap_or_default()
}

/// The last of some latencies; the latest that was measured counts, where nothing was delivered for less than so many samples.
#[must_use]
pub fn last_latency(latencies: &[Option<f64>], samples_max: usize) -> Option<f64> {
    latencies.iter().rev().take(samples_max).find_map(|us| *us)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(uptime_ms: u64, times: &[u64]) -> Activity {
        let numbers: Vec<_> = times.iter().map(|time| *time as f64).collect();
        let series = Series {
            messages_per_s: numbers,
            p99_us: times.iter().map(|time| Some(*time as f64)).collect(),
            ..Series::default()
        };
        Activity {
            node: Node {
                uptime_ms,
                ..Node::default()
            },
            samples: Samples {
                unix_ms: times.to_vec(),
                all: series.clone(),
                shards: vec![series],
            },
            ..Activity::default()
        }
    }

    #[test]
    fn answers_are_put_together() {
        let mut activity = answer(10, &[1, 2, 3]);
        activity.update(answer(20, &[3, 4]));
        assert_eq!(activity.samples.unix_ms, [1, 2, 3, 4]);
        assert_eq!(activity.samples.all.messages_per_s, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(activity.samples.shards[0].p99_us.len(), 4);
        assert_eq!(activity.newest_unix_ms(), Some(4));
        // Started again.
        activity.update(answer(5, &[9]));
        assert_eq!(activity.samples.unix_ms, [9]);
        let many: Vec<_> = (10..2000).collect();
        activity.update(answer(50, &many));
        assert_eq!(activity.samples.unix_ms.len(), SAMPLES_MAX);
        assert_eq!(activity.samples.all.messages_per_s.len(), SAMPLES_MAX);
        assert_eq!(activity.newest_unix_ms(), Some(1999));
    }

    #[test]
    fn an_answer_may_lack_and_have_what_it_will() {
        let text = r#"{"now_unix_ms":1,"more":true,"shards":[{"shard":0,"core":null,"answers":true}],
            "samples":{"unix_ms":[1],"all":{"p50_us":[null],"busy":[0.5]},"shards":[]}}"#;
        let activity: Result<Activity, _> = serde_json::from_str(text);
        let activity = activity.unwrap_or_default();
        assert_eq!(last(&activity.samples.all.busy), 0.5);
        assert_eq!(last_latency(&activity.samples.all.p50_us, 3), None);
        assert!(activity.shards[0].answers);
    }
}
