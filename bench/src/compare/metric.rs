//! What is compared: figures that are taken from the result of a run, and which of two is the better.

use serde::Serialize;

use crate::latency::Latency;
use crate::result::RunResult;

/// The names, in the results of runs, of the latencies from a message's intended time to each receiver, and to the last one.
const DELIVERY: &str = "delivery";
const LAST_RECEIVER: &str = "last receiver";

/// A figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The server's CPU time for each delivery, user and system.
    CpuPerDelivery,
    /// The user-mode part of it.
    UserPerDelivery,
    /// The median latency.
    MedianLatency,
    /// The latency that 99 of 100 deliveries keep within.
    P99Latency,
    /// The latency that the last receivers of 99 of 100 broadcasts keep within.
    LastReceiverP99,
    /// The growth of the server's private memory for each connection.
    MemoryPerConnection,
    /// Deliveries a second within the bound on p99.
    Capacity,
}

impl Metric {
    /// What it is called in tables, with its unit.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::CpuPerDelivery => "CPU a delivery, µs",
            Self::UserPerDelivery => "of it user, µs",
            Self::MedianLatency => "p50, µs",
            Self::P99Latency => "p99, µs",
            Self::LastReceiverP99 => "last receiver p99, µs",
            Self::MemoryPerConnection => "memory a connection, B",
            Self::Capacity => "deliveries a second",
        }
    }

    /// What it is called in a sentence.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CpuPerDelivery => "CPU a delivery",
            Self::UserPerDelivery => "user CPU a delivery",
            Self::MedianLatency => "p50",
            Self::P99Latency => "p99",
            Self::LastReceiverP99 => "last receiver p99",
            Self::MemoryPerConnection => "memory a connection",
            Self::Capacity => "capacity",
        }
    }

    /// Whether the table shows it as a multiple of the floor: where the kernel's own cost is the measure.
    #[must_use]
    pub fn has_floor_column(self) -> bool {
        matches!(self, Self::CpuPerDelivery | Self::Capacity)
    }

    /// Whether a server whose figure is `ratio` times another's is the better one.
    #[must_use]
    pub fn is_better(self, ratio: f64) -> bool {
        match self {
            Self::Capacity => ratio > 1.0,
            _ => ratio < 1.0,
        }
    }

    /// The figure of a run; `None` where the run did not measure it.
    #[must_use]
    pub fn of(self, result: &RunResult) -> Option<f64> {
        let server = result.server_use.as_ref();
        match self {
            Self::CpuPerDelivery => server?.cpu_per_delivery_us,
            Self::UserPerDelivery => server?.user_per_delivery_us,
            Self::MedianLatency => Some(latency(result, DELIVERY)?.quantiles.p50_us),
            Self::P99Latency => Some(latency(result, DELIVERY)?.quantiles.p99_us),
            Self::LastReceiverP99 => Some(latency(result, LAST_RECEIVER)?.quantiles.p99_us),
            Self::MemoryPerConnection => {
                let full = result.density.iter().max_by_key(|step| step.connections)?;
                full.server_bytes_per_connection
            }
            Self::Capacity => {
                let passed = result.capacity.iter().filter(|step| step.passed);
                passed.map(|step| step.received_per_s).reduce(f64::max)
            }
        }
    }
}

fn latency<'a>(result: &'a RunResult, name: &str) -> Option<&'a Latency> {
    let mut latencies = result.latencies.iter();
    latencies
        .find(|named| named.name == name)
        .map(|named| &named.latency)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::result::{CapacityStep, DensityStep, NamedLatency, Quantiles, ServerUse};

    fn named(name: &str, p99_us: f64) -> NamedLatency {
        NamedLatency {
            name: name.to_owned(),
            meaning: String::new(),
            latency: Latency {
                quantiles: Quantiles {
                    p50_us: p99_us / 2.0,
                    p99_us,
                    ..Quantiles::default()
                },
                ..Latency::default()
            },
        }
    }

    #[test]
    fn figures_are_found_where_the_run_has_them() {
        let result = RunResult {
            latencies: vec![named(DELIVERY, 80.0), named(LAST_RECEIVER, 200.0)],
            server_use: Some(ServerUse {
                cpu_per_delivery_us: Some(6.5),
                ..ServerUse::default()
            }),
            ..RunResult::default()
        };
        assert_eq!(Metric::CpuPerDelivery.of(&result), Some(6.5));
        assert_eq!(Metric::UserPerDelivery.of(&result), None);
        assert_eq!(Metric::MedianLatency.of(&result), Some(40.0));
        assert_eq!(Metric::P99Latency.of(&result), Some(80.0));
        assert_eq!(Metric::LastReceiverP99.of(&result), Some(200.0));
        assert_eq!(Metric::MemoryPerConnection.of(&result), None);
        assert_eq!(Metric::Capacity.of(&result), None);
    }

    #[test]
    fn memory_is_that_of_the_fullest_step_and_capacity_the_best_that_passed() {
        let density = |connections, bytes| DensityStep {
            connections,
            server_bytes_per_connection: Some(bytes),
            ..DensityStep::default()
        };
        let capacity = |received_per_s, passed| CapacityStep {
            received_per_s,
            passed,
            ..CapacityStep::default()
        };
        let result = RunResult {
            density: vec![density(10_000, 210.0), density(1000, 900.0)],
            capacity: vec![
                capacity(100.0, true),
                capacity(200.0, true),
                capacity(230.0, false),
            ],
            ..RunResult::default()
        };
        assert_eq!(Metric::MemoryPerConnection.of(&result), Some(210.0));
        assert_eq!(Metric::Capacity.of(&result), Some(200.0));
    }
}
