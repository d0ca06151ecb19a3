//! Which seeds a property is tried on, and what is said when one fails.

use std::collections::BTreeMap;
use std::env;
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

/// One run of a property.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    /// Print what clients hear.
    pub(crate) verbose: bool,
}

/// Tries a property on each seed. Over the default seeds together, everything in `must_meet` has to have been met.
pub(crate) fn for_each(
    test: &str,
    default: Range<u64>,
    must_meet: &[&str],
    property: impl Fn(Run) -> Met,
) {
    let single = env::var("SHARDCAST_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    let chosen = env::var("SHARDCAST_SEEDS").ok().map(|seeds| range(&seeds));
    let (seeds, verbose) = match single {
        Some(seed) => (seed..seed + 1, true),
        None => (chosen.clone().unwrap_or(default), false),
    };
    let mut met = Met::default();
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
    println!("{test}: {met:?}");
    if single.is_none() && chosen.is_none() {
        for what in must_meet {
            assert!(
                met.0.get(what).is_some_and(|&count| count > 0),
                "{test} never met {what}: {met:?}"
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
