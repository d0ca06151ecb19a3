//! Axes of plots: where values stand, and which ticks a person expects there.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::units;

/// What an axis measures, and so where its ticks are and what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds, on a logarithmic axis.
    LatencyUs,
    /// Seconds.
    Seconds,
    /// Things, or things a second.
    Count,
    /// Bytes.
    Bytes,
    /// CPU time over wall time.
    Cores,
    /// A share of 100.
    Percent,
    /// One over the share of values that are larger, on a logarithmic axis: 100 is the 99th percentile.
    Percentile,
}

/// An axis over some values: where they stand on it, and its ticks.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    is_log: bool,
    /// From the first value to the last.
    range: Range<f64>,
    /// Values and what they say.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// The axis that shows all of the values; `None` if none can be shown.
    pub(super) fn over(unit: Unit, values: impl Iterator<Item = f64>) -> Option<Self> {
        let is_log = matches!(unit, Unit::LatencyUs | Unit::Percentile);
        let shown = |value: &f64| value.is_finite() && (!is_log || *value > 0.0);
        let (low, high) = values
            .filter(shown)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if low > high {
            return None;
        }
        Some(match unit {
            Unit::Percentile => Self::of_percentiles(high),
            Unit::LatencyUs => Self::of_latencies(low, high),
            Unit::Percent => Self::linear(100.0, 25.0, |value| format!("{value:.0}%")),
            Unit::Seconds => {
                let high = high.max(1e-6);
                Self::linear(high, round_step(high / 6.0), |value| {
                    units::significant(value)
                })
            }
            Unit::Bytes => Self::of_bytes(high.max(1.0)),
            Unit::Cores => {
                let step = round_step(high.max(0.01) / 5.0);
                Self::up_to_a_tick(high, step, |value| {
                    format!("{}", (value * 1e4).round() / 1e4)
                })
            }
            Unit::Count => {
                let step = round_step(high.max(1.0) / 6.0).max(1.0);
                Self::up_to_a_tick(high, step, |value| abbreviated(value, high))
            }
        })
    }

    /// Whether a value has a place on it.
    pub(super) fn shows(&self, value: f64) -> bool {
        self.scaled(value).is_finite()
    }

    fn scaled(&self, value: f64) -> f64 {
        if self.is_log { value.log10() } else { value }
    }

    fn linear(end: f64, step: f64, label: impl Fn(f64) -> String) -> Self {
        let steps = (end / step + 1e-9).floor() as u32;
        Self {
            is_log: false,
            range: 0.0..end,
            ticks: (0..=steps)
                .map(|place| f64::from(place) * step)
                .map(|value| (value, label(value)))
                .collect(),
        }
    }

    /// From zero to the first tick that is no less than the highest value.
    fn up_to_a_tick(high: f64, step: f64, label: impl Fn(f64) -> String) -> Self {
        Self::linear((high / step).ceil().max(1.0) * step, step, label)
    }

    fn of_bytes(high: f64) -> Self {
        let unit = 1024_f64.powi((high.log2() / 10.0).floor().clamp(0.0, 4.0) as i32);
        let step = round_step(high / unit / 4.0) * unit;
        Self::up_to_a_tick(high, step, |value| match value {
            0.0 => "0".to_owned(),
            value => units::bytes(value),
        })
    }

    /// 50%, 90%, 99%, and so on.
    fn of_percentiles(high: f64) -> Self {
        let end = high.log10().max(1.0);
        let nines = |count: i32| match count {
            1 => "90%".to_owned(),
            2 => "99%".to_owned(),
            more => format!("99.{}%", "9".repeat(more as usize - 2)),
        };
        let whole =
            (1..=(end + 1e-9).floor() as i32).map(|count| (10_f64.powi(count), nines(count)));
        Self {
            is_log: true,
            range: 2.0..10_f64.powf(end),
            ticks: std::iter::once((2.0, "50%".to_owned()))
                .chain(whole)
                .collect(),
        }
    }

    /// Ticks at the powers of ten; over less than three of them also at 2 and 5; over less than one at more.
    fn of_latencies(low: f64, high: f64) -> Self {
        let marks = |steps: &'static [f64]| {
            (-4..=10).flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
        };
        let steps: &[f64] = match high / low {
            ratio if ratio < 5.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
            ratio if ratio < 1_000.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let from = marks(steps).rfind(|mark| *mark <= low * 1.000_001);
        let to = marks(steps).find(|mark| *mark >= high * 0.999_999);
        let (from, to) = (from.unwrap_or(low), to.unwrap_or(high));
        // Values that are all the same still need an axis of some length.
        let to = if to / from < 1.5 { from * 10.0 } else { to };
        Self {
            is_log: true,
            range: from..to,
            ticks: marks(steps)
                .filter(|mark| (from * 0.999..=to * 1.001).contains(mark))
                .map(|mark| (mark, without_fraction(&units::duration_us(mark))))
                .collect(),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let (low, high) = (self.scaled(self.range.start), self.scaled(self.range.end));
        let share = (self.scaled(*value) - low) / (high - low);
        first + (f64::from(last - first) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Light points would be lines of the grid between the ticks; there are none.
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|(value, _)| *value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(tick, _)| tick == value);
        tick.map(|(_, label)| label.clone()).unwrap_or_default()
    }
}

/// `1 ms` of `1.00 ms`.
fn without_fraction(label: &str) -> String {
    label.replace(".00", "").replace(".0\u{a0}", "\u{a0}")
}

/// `250 k` of a quarter of a million, on an axis that ends at `high`: small numbers on the axis of large ones are thousands
/// too.
fn abbreviated(value: f64, high: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e9, "\u{a0}G"), (1e6, "\u{a0}M"), (1e3, "\u{a0}k")];
    let fits = |(size, _): &&(f64, &str)| value >= *size && high >= 1e4;
    match UNITS.iter().find(fits) {
        Some((size, unit)) => format!("{}{unit}", (value / size * 1e3).round() / 1e3),
        None => units::significant(value),
    }
}

/// The number of the form 1, 2, 2.5 or 5 times a power of ten that is no less than this one.
fn round_step(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0]
        .into_iter()
        .find(|factor| factor * power >= value * 0.999_999);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn labels(unit: Unit, values: &[f64]) -> Vec<String> {
        let axis = Axis::over(unit, values.iter().copied()).unwrap();
        let label = |(_, label): (f64, String)| label.replace('\u{a0}', " ");
        axis.ticks.into_iter().map(label).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            labels(Unit::LatencyUs, &[180.0, 1_900.0]),
            ["100 µs", "200 µs", "500 µs", "1 ms", "2 ms"]
        );
        assert_eq!(
            labels(Unit::LatencyUs, &[30.0, 2_000_000.0]),
            ["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"]
        );
        assert_eq!(
            labels(Unit::LatencyUs, &[550.0, 1_200.0])[..3],
            ["500 µs", "600 µs", "700 µs"]
        );
        assert_eq!(
            labels(Unit::Percentile, &[2.0, 15_000.0]),
            ["50%", "90%", "99%", "99.9%", "99.99%"]
        );
        assert_eq!(
            labels(Unit::Count, &[0.0, 1_000_000.0]),
            ["0", "200 k", "400 k", "600 k", "800 k", "1 M"]
        );
        assert_eq!(labels(Unit::Seconds, &[1.0, 60.0])[..3], ["0", "10", "20"]);
        assert_eq!(labels(Unit::Bytes, &[7_900.0])[1], "2 KiB");
        assert_eq!(labels(Unit::Cores, &[0.9])[1], "0.2");
    }

    #[test]
    fn an_axis_needs_a_value_that_it_can_show() {
        assert!(Axis::over(Unit::Count, std::iter::empty()).is_none());
        assert!(Axis::over(Unit::LatencyUs, [0.0, f64::NAN].into_iter()).is_none());
        assert!(Axis::over(Unit::LatencyUs, [5.0].into_iter()).is_some());
        assert!(Axis::over(Unit::Bytes, [0.0].into_iter()).is_some());
    }

    #[test]
    fn values_stand_where_their_size_or_its_logarithm_says() {
        let linear = Axis::over(Unit::Count, [0.0, 100.0].into_iter()).unwrap();
        assert_eq!(linear.map(&50.0, (0, 1_000)), 500);
        let log = Axis::over(Unit::LatencyUs, [1.0, 1e6].into_iter()).unwrap();
        assert_eq!(log.map(&1e3, (0, 1_000)), 500);
        assert!(!log.shows(0.0) && linear.shows(0.0));
    }
}
