//! What Prometheus is told of a running engine, in its text format.
//!
//! The numbers of the shards stand in one table, with their names (`shard/src/stats.rs`); here they are read, on whichever thread asks, and what only the process
//! knows is added. A shard notices nothing: reading its numbers writes nothing.

mod counts;
mod process;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub(crate) use counts::Counts;

use std::sync::Arc;

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use shardcast_shard::limits::Limits;
use shardcast_shard::post::ShardControl;
use shardcast_shard::stats::{BOUNDS_US, Durations, Kind, Reading, ShardStats};

use crate::webhooks;

/// The content type of what [`Metrics::render`] answers.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The numbers of an engine, for any thread.
#[derive(Clone)]
pub struct Metrics {
    stats: Vec<Arc<ShardStats>>,
    controls: Vec<ShardControl>,
    limits: Arc<Limits>,
    counts: Arc<Counts>,
    /// All zero where there are none.
    webhooks: Arc<webhooks::Counters>,
}

impl Metrics {
    pub(crate) fn new(
        stats: Vec<Arc<ShardStats>>,
        controls: Vec<ShardControl>,
        limits: Arc<Limits>,
    ) -> Self {
        Self {
            stats,
            controls,
            limits,
            counts: Arc::default(),
            webhooks: Arc::default(),
        }
    }

    /// The same with what webhooks count.
    pub(crate) fn with_webhooks(mut self, webhooks: Option<Arc<webhooks::Counters>>) -> Self {
        self.webhooks = webhooks.unwrap_or_default();
        self
    }

    /// The numbers of each shard.
    pub(crate) fn stats(&self) -> &[Arc<ShardStats>] {
        &self.stats
    }

    /// The mailbox of each shard.
    pub(crate) fn controls(&self) -> &[ShardControl] {
        &self.controls
    }

    /// What threads count that are no shards.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// All families in the text format of Prometheus, version 0.0.4, each with its help.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // It refuses families without a name or without a metric, and those there are none of.
        if let Err(error) = TextEncoder::new().encode_utf8(&self.families(), &mut text) {
            tracing::error!(%error, "the metrics cannot be written as text");
        }
        text
    }

    fn families(&self) -> Vec<MetricFamily> {
        let mut families = self.of_shards();
        families.extend(self.histograms());
        families.push(self.mailbox_depth());
        families.extend(self.bounds());
        families.extend(self.counts.families());
        families.extend(self.of_webhooks());
        families.extend(process::families());
        families
    }

    /// Counters and gauges of the shards.
    fn of_shards(&self) -> Vec<MetricFamily> {
        let by_shard: Vec<Vec<Reading>> = self.stats.iter().map(|stats| stats.readings()).collect();
        let Some(first) = by_shard.first() else {
            return Vec::new();
        };
        let mut families = Vec::new();
        let mut begin = 0;
        for rows in first.chunk_by(|one, next| one.family == next.family) {
            let places = begin..begin + rows.len();
            begin = places.end;
            let metrics = by_shard.iter().enumerate().flat_map(|(shard, readings)| {
                readings[places.clone()]
                    .iter()
                    .map(move |reading| metric(Some(shard), reading))
            });
            families.push(family(
                rows[0].family,
                rows[0].family_help,
                kind(rows[0].kind),
                metrics.collect(),
            ));
        }
        families
    }

    fn of_webhooks(&self) -> Vec<MetricFamily> {
        let readings = self.webhooks.readings();
        let rows = readings.chunk_by(|one, next| one.family == next.family);
        rows.map(|rows| {
            let metrics = rows.iter().map(|reading| metric(None, reading));
            let (name, help) = (rows[0].family, rows[0].family_help);
            family(name, help, kind(rows[0].kind), metrics.collect())
        })
        .collect()
    }

    fn histograms(&self) -> Vec<MetricFamily> {
        let mut families: Vec<MetricFamily> = Vec::new();
        for (shard, stats) in self.stats.iter().enumerate() {
            for (place, reading) in stats.histograms().into_iter().enumerate() {
                if families.len() == place {
                    let (name, help) = (reading.family, reading.help);
                    families.push(family(name, help, MetricType::HISTOGRAM, Vec::new()));
                }
                let mut metric = Metric::from_label(vec![shard_label(shard)]);
                metric.set_histogram(histogram(&reading.durations));
                families[place].mut_metric().push(metric);
            }
        }
        families
    }

    /// Read from the channels themselves, so that the shards do nothing for it.
    fn mailbox_depth(&self) -> MetricFamily {
        let metrics = self.controls.iter().flat_map(|control| {
            let depth = control.depth();
            let lanes = [
                ("requests", depth.requests),
                ("deliveries", depth.deliveries),
                ("orders", depth.orders),
            ];
            lanes.map(|(lane, count)| {
                let labels = vec![
                    label("lane", lane),
                    shard_label(usize::from(control.shard())),
                ];
                gauge(labels, count as f64)
            })
        });
        family(
            "shardcast_mailbox_depth",
            "Mails that wait for a shard, by what they are.",
            MetricType::GAUGE,
            metrics.collect(),
        )
    }

    /// What other numbers are to be compared with.
    fn bounds(&self) -> [MetricFamily; 4] {
        let limits = &self.limits;
        [
            single(
                "shardcast_connections_max",
                "Connections that the whole process may have (`connections_max`).",
                limits.connections_max as f64,
            ),
            single(
                "shardcast_memory_max_bytes",
                "Resident memory above which new connections are turned away (`memory_mib_max`); 0: there is no bound.",
                limits.memory_mib_max.saturating_mul(1 << 20) as f64,
            ),
            single("shardcast_shards", "Shards.", self.stats.len() as f64),
            family(
                "shardcast_build_info",
                "Always 1; the label says which version runs.",
                MetricType::GAUGE,
                vec![gauge(
                    vec![label("version", env!("CARGO_PKG_VERSION"))],
                    1.0,
                )],
            ),
        ]
    }
}

fn kind(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
    }
}

/// A number of a shard, or of the whole process.
fn metric(shard: Option<usize>, reading: &Reading) -> Metric {
    // In the order of their names, as Prometheus's own libraries write them.
    let mut labels: Vec<LabelPair> = shard.map(shard_label).into_iter().collect();
    if let Some((name, value)) = reading.label {
        labels.push(label(name, value));
        labels.sort_unstable_by(|one, other| one.name().cmp(other.name()));
    }
    // Whole numbers are exact up to 2⁵³.
    let value = reading.value as f64;
    match reading.kind {
        Kind::Gauge => gauge(labels, value),
        Kind::Counter => counter(labels, value),
    }
}

fn histogram(durations: &Durations) -> Histogram {
    let buckets = BOUNDS_US.iter().zip(durations.cumulative);
    let buckets = buckets.map(|(bound_us, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound_us as f64 / 1e6);
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(durations.count);
    histogram.set_sample_sum(durations.sum_us as f64 / 1e6);
    histogram
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

/// A gauge of the whole process.
fn single(name: &str, help: &str, value: f64) -> MetricFamily {
    family(
        name,
        help,
        MetricType::GAUGE,
        vec![gauge(Vec::new(), value)],
    )
}

fn gauge(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_gauge(gauge);
    metric
}

fn counter(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

fn shard_label(shard: usize) -> LabelPair {
    label("shard", &shard.to_string())
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}
