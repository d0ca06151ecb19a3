//! What threads count that are no shards.

use prometheus::proto::{MetricFamily, MetricType};

use super::{counter, family};
use crate::counter::Counter;

/// What is counted once a process.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Requests to the admin API that brought no token, or that a page of another origin sent.
    pub(crate) admin_refused: Counter,
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
