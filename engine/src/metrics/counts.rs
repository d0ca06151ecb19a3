//! What threads count that are no shards.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::proto::{MetricFamily, MetricType};

use super::{counter, family};

/// A number that only grows, and that several threads may count.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted once a process.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Requests to the admin API that brought no token, or that a page of another origin sent.
    pub(crate) admin_refused: Count,
}

impl Counts {
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let rows = [(
            "shardcast_admin_requests_refused_total",
            "Requests to the admin API that brought no token, or that a page of another origin sent.",
            &self.admin_refused,
        )];
        rows.map(|(name, help, count)| {
            let metrics = vec![counter(Vec::new(), count.value() as f64)];
            family(name, help, MetricType::COUNTER, metrics)
        })
        .into()
    }
}
