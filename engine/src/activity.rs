//! What a node has been doing: a sample of every shard each second for the last five minutes, and, while somebody asks, its busiest rooms and slowest consumers.
//!
//! Samples come from the shards' counters, which are read without the shards noticing. Rooms and consumers are asked of the shards with an order, at most once a second however many ask.

mod looks;
mod samples;

pub(crate) use looks::Look;
pub(crate) use samples::{Sample, Samples};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::control::Shards;
use crate::metrics::Metrics;
use looks::Looks;

/// The time between two samples.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Samples that are kept; the oldest goes.
pub(crate) const SAMPLES_MAX: usize = 300;

/// See the module.
pub(crate) struct Activity {
    metrics: Metrics,
    samples: Mutex<Samples>,
    /// Held while shards are asked: who asks meanwhile gets the same answer.
    looks: tokio::sync::Mutex<Looks>,
}

impl Activity {
    pub(crate) fn new(metrics: Metrics) -> Arc<Self> {
        let samples = Samples::new(metrics.stats(), Instant::now().into_std());
        Arc::new(Self {
            metrics,
            samples: Mutex::new(samples),
            looks: tokio::sync::Mutex::default(),
        })
    }

    /// Takes a sample each second, for ever.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut ticks = interval(INTERVAL);
        // A sample says over which time it is.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let now = Instant::now().into_std();
            self.samples()
                .take(self.metrics.stats(), now, unix_ms_now());
        }
    }

    /// The samples.
    pub(crate) fn samples(&self) -> MutexGuard<'_, Samples> {
        // Whoever held it did not leave it half done: a sample is added at once.
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the shards are busy with.
    pub(crate) async fn look(&self, shards: &Shards) -> Look {
        self.looks.lock().await.take(shards).await
    }

    /// The counters of the shards.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// The time now, in milliseconds since 1970 (UTC).
pub(crate) fn unix_ms_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
