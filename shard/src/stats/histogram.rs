//! How long something took, counted by buckets.

use super::Counter;

/// The upper bounds of the buckets, in microseconds; what is above the last has a bucket of its own. In steps of 1, 2, 5: whoever reads them
/// knows them, and a quantile that is interpolated within one is off by no more than its width.
pub const BOUNDS_US: [u64; 16] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000,
    500_000, 1_000_000,
];

/// Durations with one writer. As with a [`Counter`], recording takes no lock, and a reader sees each number whole.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BOUNDS_US.len() + 1],
    sum_us: Counter,
}

/// A histogram as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durations {
    /// How many were no longer than each of [`BOUNDS_US`].
    pub cumulative: [u64; BOUNDS_US.len()],
    /// How many there were.
    pub count: u64,
    /// Their sum, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Counts a duration, so many times; for the shard's own thread.
    pub fn record(&self, duration_us: u64, times: u64) {
        let bucket = BOUNDS_US.partition_point(|bound_us| *bound_us < duration_us);
        self.buckets[bucket].add(times);
        self.sum_us.add(duration_us.wrapping_mul(times));
    }

    /// What was counted so far.
    #[must_use]
    pub fn durations(&self) -> Durations {
        let mut count = 0;
        let mut cumulative = [0; BOUNDS_US.len()];
        // The count is the sum of the buckets that were read, so that the last never is above it.
        for (place, bucket) in self.buckets.iter().enumerate() {
            count += bucket.value();
            if let Some(cumulative) = cumulative.get_mut(place) {
                *cumulative = count;
            }
        }
        Durations {
            cumulative,
            count,
            sum_us: self.sum_us.value(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        for (duration_us, bucket) in [
            (0, 0),
            (10, 0),
            (11, 1),
            (1_000, 6),
            (1_001, 7),
            (1_000_000, 15),
            (1_000_001, 16),
            (u64::MAX, 16),
        ] {
            let histogram = Histogram::default();
            histogram.record(duration_us, 3);
            let durations = histogram.durations();
            assert_eq!(durations.count, 3, "{duration_us}");
            assert_eq!(durations.sum_us, duration_us.wrapping_mul(3));
            let expected: Vec<u64> = (0..BOUNDS_US.len())
                .map(|place| if place < bucket { 0 } else { 3 })
                .collect();
            assert_eq!(durations.cumulative[..], expected, "{duration_us}");
        }
    }

    #[test]
    fn bounds_grow() {
        assert!(BOUNDS_US.is_sorted_by(|one, other| one < other));
    }
}
