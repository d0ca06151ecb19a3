//! Which seeds a property is tried on, and what is said when one fails.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What a run has met, by name: a property that never meets what it is about would hold for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Met(BTreeMap<&'static str, u64>);

impl Met {
    pub(crate) fn add(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    fn merge(&mut self, other: &Self) {
        other
            .0
            .iter()
            .for_each(|(what, count)| self.add(what, *count));
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.0.get("steps").copied().unwrap_or_default();
        write!(f, "{steps} steps")?;
        let others = self.0.iter().filter(|(what, _)| **what != "steps");
        for (what, count) in others.filter(|(_, count)| **count > 0) {
            write!(f, ", {what} {count}")?;
        }
        Ok(())
    }
}

/// What a driver does of itself where nothing else is said: each property whose connections stay has to meet all of it.
pub(crate) const FAULTS: &[&str] = &[
    "split receives",
    "ended receives",
    "buffers withheld",
    "buffers used up",
    "short sends",
    "full sockets",
    "late completions",
    "accept errors",
    "full completion queues",
    "polls cut short",
    "sends that did not leave at once",
];

/// What breaks connections.
pub(crate) const BREAKS: &[&str] = &["failed sends", "broken connections", "lost bytes"];

/// A run of so many ordinary seeds tries a property whose runs are large on one seed.
const SEEDS_PER_LARGE: u64 = 100;

/// One run of a property.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    /// Print what clients hear.
    pub(crate) verbose: bool,
}

/// Tries a property on each seed. Over as many seeds as the default ones, everything in `must_meet` has to have been met.
pub(crate) fn for_each(
    test: &str,
    default: Range<u64>,
    must_meet: &[&str],
    property: impl Fn(Run) -> Met,
) {
    try_seeds(test, default, must_meet, 1, property);
}

/// The same for a property whose runs are large: it is tried on the first few of the seeds that are chosen.
pub(crate) fn for_few(
    test: &str,
    default: Range<u64>,
    must_meet: &[&str],
    property: impl Fn(Run) -> Met,
) {
    try_seeds(test, default, must_meet, SEEDS_PER_LARGE, property);
}

fn try_seeds(
    test: &str,
    default: Range<u64>,
    must_meet: &[&str],
    one_in: u64,
    property: impl Fn(Run) -> Met,
) {
    let single = env::var("SHARDCAST_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    let chosen = env::var("SHARDCAST_SEEDS").ok().map(|seeds| range(&seeds));
    let chosen = chosen.map(|seeds| {
        let count = (seeds.end - seeds.start).div_ceil(one_in);
        seeds.start..seeds.start + count
    });
    let enough = default.end - default.start;
    let (seeds, verbose) = match single {
        Some(seed) => (seed..seed + 1, true),
        None => (chosen.unwrap_or(default), false),
    };
    let mut met = Met::default();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| property(Run { seed, verbose }))) {
            Ok(of_seed) => met.merge(&of_seed),
            Err(panic) => {
                eprintln!(
                    "{test} does not hold for seed {seed}. To repeat it and see what clients hear:\n    \
                     SHARDCAST_SEED={seed} cargo test -p shardcast --test simulation {test} -- --nocapture"
                );
                resume_unwind(panic);
            }
        }
    }
    println!("property {test}: {count} seeds, {met}");
    // Few seeds may miss what many meet.
    if count >= enough {
        for what in must_meet {
            assert!(
                met.0.get(what).is_some_and(|&count| count > 0),
                "{test} never met {what}: {met}"
            );
        }
    }
}

fn range(text: &str) -> Range<u64> {
    let (from, to) = text
        .split_once("..")
        .expect("SHARDCAST_SEEDS is a range such as 0..1000");
    from.parse().unwrap()..to.parse().unwrap()
}
