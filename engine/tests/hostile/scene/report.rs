//! How long turns last, what their medians are, and the line that `scripts/hostile.sh` makes its table from.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Attack;

/// What a line of the report begins with.
const MARK: &str = "HOSTILE";

/// What a lower quiet p99 counts as where a ratio is judged, in microseconds: below it a ratio says how fast the quiet turn was. One pass of the
/// server's loop under attack lasts about a millisecond, whoever waits for it.
const QUIET_FLOOR_US: f64 = 2000.0;

/// Turns of a scene.
pub(super) struct Pace {
    /// Pairs of a turn without and one under attack.
    pub(super) rounds: usize,
    /// How long one without lasts.
    pub(super) quiet: Duration,
    /// How long one under attack lasts.
    pub(super) attack: Duration,
}

impl Pace {
    /// Short turns, unless `SHARDCAST_HOSTILE_ROUNDS` and `SHARDCAST_HOSTILE_SECONDS` ask for others.
    pub(super) fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok()?.parse::<f64>().ok();
        let seconds = number("SHARDCAST_HOSTILE_SECONDS").map(Duration::from_secs_f64);
        Self {
            rounds: number("SHARDCAST_HOSTILE_ROUNDS").map_or(1, |rounds| rounds as usize),
            quiet: seconds.unwrap_or(Duration::from_millis(400)),
            attack: seconds.unwrap_or(Duration::from_millis(900)),
        }
    }
}

/// The figures of a scene.
pub(super) struct Verdict {
    /// Median over the quiet turns of the members' 99th percentile, in microseconds.
    quiet_us: f64,
    /// The same over the turns under attack.
    pub(super) attacked_us: f64,
    /// Median over the rounds of the ratio within each.
    ratio: f64,
    /// The same with the floor of the quiet percentile: what is judged.
    judged: f64,
    /// Bytes that the server grew by, at the highest.
    pub(super) growth: u64,
    /// Bytes that it may.
    pub(super) budget: u64,
}

impl Verdict {
    pub(super) fn new(latencies: &[Histogram<u64>], growth: u64, budget: u64) -> Self {
        // The first is for what belongs to no turn; quiet and attacked ones follow in pairs.
        let p99 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.99).max(1) as f64;
        let rounds: Vec<(f64, f64)> = latencies[1..]
            .chunks_exact(2)
            .map(|pair| (p99(&pair[0]), p99(&pair[1])))
            .collect();
        let over = |figure: fn(&(f64, f64)) -> f64| median(rounds.iter().map(figure));
        Self {
            quiet_us: over(|(quiet, _)| *quiet),
            attacked_us: over(|(_, attacked)| *attacked),
            ratio: over(|(quiet, attacked)| attacked / quiet),
            judged: over(|(quiet, attacked)| attacked / quiet.max(QUIET_FLOOR_US)),
            growth,
            budget,
        }
    }

    /// Prints the line of the report, and what was counted.
    pub(super) fn print(&self, attack: &Attack<'_>, tally: &BTreeMap<String, u64>) {
        println!(
            "\n{MARK}|{}|{}|{:.0}|{:.0}|{:.2}|{:.2}|{:.1}|{:.0}",
            attack.name,
            attack.attackers,
            self.quiet_us,
            self.attacked_us,
            self.ratio,
            self.judged,
            self.growth as f64 / f64::from(1 << 20),
            self.budget as f64 / f64::from(1 << 20),
        );
        println!("{}: {tally:?}", attack.name);
    }
}

/// The middle one, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    f64::midpoint(lower, upper)
}

#[test]
fn a_median_of_an_even_number_is_the_mean_of_two() {
    assert!((median([9.0, 1.0, 2.0].into_iter()) - 2.0).abs() < 1e-9);
    assert!((median([9.0, 1.0, 4.0, 2.0].into_iter()) - 3.0).abs() < 1e-9);
}
