//! Latencies: an HdrHistogram of nanoseconds, and the summary of it that reports hold.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::result::Quantiles;

/// The largest latency that is told apart from larger ones: ten minutes.
pub const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// Significant decimal digits of a recorded latency.
const DIGITS: u8 = 3;

/// The quantiles that a summary keeps for the plot of latency by percentile: from the median to six nines.
const CURVE: [f64; 22] = [
    0.0, 0.1, 0.25, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9975, 0.999,
    0.9995, 0.9999, 0.99995, 0.99999, 0.999999, 1.0,
];

/// A distribution of latencies, recorded in nanoseconds with three digits.
pub type Recording = Histogram<u64>;

/// An empty recording.
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "the bounds are constants that HdrHistogram accepts, as the tests show"
)]
pub fn recording() -> Recording {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS).expect("constant bounds")
}

/// Records one latency. What exceeds [`LATENCY_NS_MAX`] is recorded as that.
pub fn record(recording: &mut Recording, latency_ns: u64) {
    recording.saturating_record(latency_ns);
}

/// Adds what `others` holds to `sum`.
pub fn add(sum: &mut Recording, others: &Recording) {
    let result = sum.add(others);
    debug_assert!(result.is_ok(), "all recordings have the same bounds");
}

/// The summary of a recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were recorded.
    pub count: u64,
    /// The arithmetic mean, in microseconds.
    pub mean_us: f64,
    /// The points that people compare.
    pub quantiles: Quantiles,
    /// Points of the curve of latency by percentile: quantile (0 to 1) and microseconds.
    pub curve: Vec<(f64, f64)>,
}

impl Latency {
    /// The summary of a recording; `None` of an empty one.
    #[must_use]
    pub fn of(recording: &Recording) -> Option<Self> {
        let count = recording.len();
        let enough = |quantile: f64| {
            // A quantile that would name less than one value of so many says nothing but the maximum again.
            quantile >= 1.0 || (1.0 - quantile) * count as f64 >= 1.0 || quantile <= 0.5
        };
        Some(Self {
            count,
            mean_us: recording.mean() / 1000.0,
            quantiles: quantiles(recording)?,
            curve: CURVE
                .into_iter()
                .filter(|quantile| enough(*quantile))
                .map(|quantile| (quantile, at(recording, quantile)))
                .collect(),
        })
    }
}

/// The points that people compare; `None` of an empty recording.
#[must_use]
pub fn quantiles(recording: &Recording) -> Option<Quantiles> {
    (!recording.is_empty()).then(|| Quantiles {
        p50_us: at(recording, 0.5),
        p90_us: at(recording, 0.9),
        p99_us: at(recording, 0.99),
        p999_us: at(recording, 0.999),
        max_us: recording.max() as f64 / 1000.0,
    })
}

fn at(recording: &Recording, quantile: f64) -> f64 {
    recording.value_at_quantile(quantile) as f64 / 1000.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_holds_what_was_recorded_within_three_digits() {
        let mut recording = recording();
        for microseconds in 1..=10_000_u64 {
            record(&mut recording, microseconds * 1000);
        }
        let latency = Latency::of(&recording).unwrap();
        assert_eq!(latency.count, 10_000);
        let near = |value: f64, wanted: f64| (value / wanted - 1.0).abs() < 0.002;
        assert!(near(latency.quantiles.p50_us, 5000.0));
        assert!(near(latency.quantiles.p99_us, 9900.0));
        assert!(near(latency.quantiles.p999_us, 9990.0));
        assert!(near(latency.quantiles.max_us, 10_000.0));
        assert!(near(latency.mean_us, 5000.5));
        assert!(
            latency
                .curve
                .iter()
                .all(|(quantile, _)| *quantile < 0.99995 || *quantile == 1.0)
        );
    }

    #[test]
    fn nothing_recorded_is_no_latency() {
        assert_eq!(Latency::of(&recording()), None);
    }

    #[test]
    fn what_is_beyond_the_bound_counts_as_the_bound() {
        let mut recording = recording();
        record(&mut recording, u64::MAX);
        let max = Latency::of(&recording).unwrap().quantiles.max_us;
        assert!((max / (LATENCY_NS_MAX as f64 / 1000.0) - 1.0).abs() < 0.002);
    }
}
