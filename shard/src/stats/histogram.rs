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

impl Durations {
    /// What was counted since an earlier reading of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.combined(earlier, u64::wrapping_sub)
    }

    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.combined(other, u64::wrapping_add)
    }

    fn combined(&self, other: &Self, with: fn(u64, u64) -> u64) -> Self {
        Self {
            cumulative: std::array::from_fn(|place| {
                with(self.cumulative[place], other.cumulative[place])
            }),
            count: with(self.count, other.count),
            sum_us: with(self.sum_us, other.sum_us),
        }
    }

    /// What this share of the durations did not exceed, in microseconds: interpolated within a bucket, as Prometheus does, and the last bound for what is above it. `None`
    /// where nothing was counted.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = share * self.count as f64;
        let place = self
            .cumulative
            .partition_point(|cumulative| (*cumulative as f64) < rank);
        let Some(upper) = BOUNDS_US.get(place) else {
            return Some(BOUNDS_US[BOUNDS_US.len() - 1] as f64);
        };
        let (lower, before) = match place.checked_sub(1) {
            Some(place) => (BOUNDS_US[place], self.cumulative[place]),
            None => (0, 0),
        };
        let within = (self.cumulative[place] - before) as f64;
        let part = if within > 0.0 {
            (rank - before as f64) / within
        } else {
            0.0
        };
        Some(lower as f64 + part * (upper - lower) as f64)
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
    fn quantiles_are_interpolated_within_buckets() {
        let histogram = Histogram::default();
        assert_eq!(histogram.durations().quantile_us(0.5), None);
        for (duration_us, times) in [(15, 50), (150, 40), (1_500, 9), (7_000_000, 1)] {
            histogram.record(duration_us, times);
        }
        let durations = histogram.durations();
        for (share, expected) in [
            (0.0, 0.0),
            (0.25, 15.0),
            (0.5, 20.0),
            (0.7, 150.0),
            (0.9, 200.0),
            (0.99, 2_000.0),
            (0.995, 1_000_000.0),
            (1.0, 1_000_000.0),
        ] {
            assert_eq!(durations.quantile_us(share), Some(expected), "{share}");
        }
    }

    #[test]
    fn readings_are_subtracted_and_added() {
        let histogram = Histogram::default();
        histogram.record(5, 2);
        let earlier = histogram.durations();
        histogram.record(5_000, 3);
        let since = histogram.durations().since(&earlier);
        assert_eq!((since.count, since.sum_us), (3, 15_000));
        assert_eq!(since.quantile_us(1.0), Some(5_000.0));
        assert_eq!(since.and(&earlier), histogram.durations());
    }

    #[test]
    fn bounds_grow() {
        assert!(BOUNDS_US.is_sorted_by(|one, other| one < other));
    }
}
