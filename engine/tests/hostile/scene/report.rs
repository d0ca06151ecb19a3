//! How long turns last, what their medians are, and the line that `scripts/hostile.sh` makes its table from.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Attack;

/// What a line of the report begins with.
const MARK: &str = "HOSTILE";

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
    quiet_us: u64,
    /// The same over the turns under attack.
    pub(super) attacked_us: u64,
    /// Median over the rounds of the ratio within each.
    ratio: f64,
    /// Bytes that the server grew by, at the highest.
    pub(super) growth: u64,
    /// Bytes that it may.
    pub(super) budget: u64,
}

impl Verdict {
    pub(super) fn new(latencies: &[Histogram<u64>], growth: u64, budget: u64) -> Self {
        // The first is for what belongs to no turn; quiet and attacked ones follow in pairs.
        let p99 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.99).max(1);
        let rounds: Vec<(u64, u64)> = latencies[1..]
            .chunks_exact(2)
            .map(|pair| (p99(&pair[0]), p99(&pair[1])))
            .collect();
        let ratio = |(quiet, attacked): &(u64, u64)| *attacked as f64 / *quiet as f64;
        Self {
            quiet_us: median(rounds.iter().map(|round| round.0)),
            attacked_us: median(rounds.iter().map(|round| round.1)),
            ratio: median(rounds.iter().map(ratio)),
            growth,
            budget,
        }
    }

    /// Prints the line of the report, and what was counted.
    pub(super) fn print(&self, attack: &Attack<'_>, tally: &BTreeMap<String, u64>) {
        println!(
            "\n{MARK}|{}|{}|{}|{}|{:.2}|{:.1}|{:.0}",
            attack.name,
            attack.attackers,
            self.quiet_us,
            self.attacked_us,
            self.ratio,
            self.growth as f64 / f64::from(1 << 20),
            self.budget as f64 / f64::from(1 << 20),
        );
        println!("{}: {tally:?}", attack.name);
    }
}

/// The middle one, or the lower of the two in the middle.
fn median<T: PartialOrd + Copy>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_by(|a, b| a.partial_cmp(b).expect("latencies are numbers"));
    values[(values.len() - 1) / 2]
}
