//! Statistics over rounds: the median with its spread, and ratios made within a round, because a round shares the machine's noise.

use serde::Serialize;

/// The median of some values and between which bounds all of them lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; the mean of the two in the middle where their number is even.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there are: at least one.
    pub count: usize,
}

impl Spread {
    /// The spread of these values; `None` of none. Values that are no numbers do not count.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self {
            median,
            min,
            max,
            count: values.len(),
        })
    }
}

/// The ratios of `values` to `base`, each value to that of its own round. Rounds that one of the two lacks, and those whose base is
/// zero, do not count; `None` where no round is left.
#[must_use]
pub fn ratios(values: &[Option<f64>], base: &[Option<f64>]) -> Option<Spread> {
    let rounds = values.iter().zip(base);
    Spread::of(rounds.filter_map(|(value, base)| match (value, base) {
        (Some(value), Some(base)) if *base > 0.0 => Some(value / base),
        _ => None,
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_the_mean_of_two() {
        let odd = Spread::of([9.0, 1.0, 4.0]).unwrap();
        assert_eq!(
            (odd.median, odd.min, odd.max, odd.count),
            (4.0, 1.0, 9.0, 3)
        );
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([f64::NAN, 2.0]).unwrap().count, 1);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_made_within_a_round() {
        // The second round was twice as slow for both: that cancels out.
        let base = [Some(10.0), Some(20.0), Some(10.0)];
        let values = [Some(15.0), Some(30.0), Some(16.0)];
        let ratio = ratios(&values, &base).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (1.5, 1.5, 1.6));
    }

    #[test]
    fn a_round_that_one_of_the_two_lacks_does_not_count() {
        let base = [None, Some(2.0), Some(0.0)];
        let ratio = ratios(&[Some(1.0), Some(3.0), Some(1.0)], &base).unwrap();
        assert_eq!((ratio.median, ratio.count), (1.5, 1));
        assert_eq!(ratios(&[Some(1.0)], &[None]), None);
        assert_eq!(ratios(&[], &[]), None);
    }
}
