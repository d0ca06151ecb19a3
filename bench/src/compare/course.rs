//! The course of a comparison: round by round, workload by workload, server by server.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::catalogue::{Contestant, Selection};
use super::comparison::{COMPARISON_VERSION, Comparison, Participant, Run, WorkloadComparison};
use super::measure::{Interrupted, Laboratory};
use super::plan::Workload;
use super::{CompareError, CompareOptions, plan, round, table};

/// A comparison under way.
pub(super) struct Course<'a> {
    pub(super) workloads: Vec<Workload>,
    pub(super) selection: Selection,
    pub(super) laboratory: Laboratory<'a>,
    pub(super) options: &'a CompareOptions,
}

impl Course<'_> {
    /// Makes every run, and the comparison of them.
    pub(super) fn run(&self) -> Result<Comparison, CompareError> {
        let contestants = &self.selection.contestants;
        let begun = Instant::now();
        let started_unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        let taking_part = |workload: &Workload| self.taking_part(workload).count();
        let rounds = plan::rounds(
            self.options.rounds,
            self.options.quick,
            &self.workloads,
            taking_part,
        );
        let orders = round::orders(self.options.seed, rounds, contestants.len());
        let expected_s = plan::expected_s(&self.workloads, rounds, taking_part);
        self.announce(rounds, expected_s);

        let mut runs = Vec::new();
        let mut rounds_run = 0;
        for (round, order) in (0..rounds).zip(&orders) {
            let elapsed_s = begun.elapsed().as_secs_f64();
            if round > 0 && self.has_no_time_for_another(elapsed_s, elapsed_s / f64::from(round)) {
                self.say("the time is up: the remaining rounds are left out");
                break;
            }
            self.round(round, order, &mut runs)?;
            rounds_run += 1;
        }
        let took_s = begun.elapsed().as_secs_f64();
        let orders = &orders[..rounds_run];
        Ok(self.comparison(started_unix_ms, took_s, rounds, orders, runs))
    }

    /// The comparison of these runs.
    fn comparison(
        &self,
        started_unix_ms: u64,
        took_s: f64,
        rounds: u32,
        orders: &[Vec<usize>],
        runs: Vec<Run>,
    ) -> Comparison {
        let contestants = &self.selection.contestants;
        let name = |index: &usize| contestants[*index].name.clone();
        Comparison {
            version: COMPARISON_VERSION,
            command: self.command(),
            started_unix_ms,
            took_s,
            seed: self.options.seed,
            rounds,
            baseline: self.options.baseline.clone(),
            server_cores: self.laboratory.server_cores.to_string(),
            generator_cores: self.laboratory.generator_cores.to_string(),
            machine: runs
                .iter()
                .filter_map(|run| run.result.as_ref())
                .map(|result| result.machine.clone())
                .find(|machine| !machine.is_empty())
                .unwrap_or_default(),
            servers: contestants.iter().map(participant).collect(),
            missing: self.selection.missing.clone(),
            orders: orders
                .iter()
                .map(|order| order.iter().map(name).collect())
                .collect(),
            workloads: self
                .workloads
                .iter()
                .map(|workload| {
                    let baseline = &self.options.baseline;
                    WorkloadComparison::of(workload, contestants, baseline, rounds, &runs)
                })
                .collect(),
            runs,
        }
    }

    fn round(&self, round: u32, order: &[usize], runs: &mut Vec<Run>) -> Result<(), CompareError> {
        let contestants = &self.selection.contestants;
        let names: Vec<&str> = order
            .iter()
            .map(|index| &*contestants[*index].name)
            .collect();
        self.say(&format!("round {}: {}", round + 1, names.join(", ")));
        for workload in self.workloads.iter().filter(|one| one.is_in_round(round)) {
            for contestant in order.iter().map(|index| &contestants[*index]) {
                if !contestant.takes_part(workload) {
                    continue;
                }
                let run = self.laboratory.run(contestant, workload, round);
                let run = run.map_err(|Interrupted| CompareError::Interrupted)?;
                self.say(&format!("  {}", outcome(&run, workload)));
                runs.push(run);
            }
        }
        Ok(())
    }

    fn taking_part(&self, workload: &Workload) -> impl Iterator<Item = &Contestant> {
        let contestants = self.selection.contestants.iter();
        contestants.filter(|contestant| contestant.takes_part(workload))
    }

    /// Only a quick comparison promises when it ends, and only while nobody says how many rounds it must have.
    fn has_no_time_for_another(&self, elapsed_s: f64, round_s: f64) -> bool {
        let promised = self.options.quick && self.options.rounds.is_none();
        promised && elapsed_s + round_s > plan::QUICK_S_MAX
    }

    fn announce(&self, rounds: u32, expected_s: f64) {
        for line in &self.selection.missing {
            self.say(line);
        }
        self.say(&format!(
            "{} servers, {} workloads, {rounds} rounds, seed {}; servers on core {}, the generator on core {}; about {:.0} minutes",
            self.selection.contestants.len(),
            self.workloads.len(),
            self.options.seed,
            self.laboratory.server_cores,
            self.laboratory.generator_cores,
            (expected_s / 60.0).ceil(),
        ));
    }

    fn say(&self, line: &str) {
        if !self.options.quiet {
            eprintln!("{line}");
        }
    }

    fn command(&self) -> String {
        match &self.options.called_as {
            Some(command) => command.trim().to_owned(),
            None => std::env::args().collect::<Vec<_>>().join(" "),
        }
    }
}

/// One line about a run.
fn outcome(run: &Run, workload: &Workload) -> String {
    let place = format!("{}, {}", run.workload, run.server);
    if let Some(failure) = &run.failure {
        return format!("{place}: failed: {failure}");
    }
    let figures = workload.metrics.iter().filter_map(|metric| {
        let value = metric.of(run.result.as_ref()?)?;
        Some(format!("{} {}", metric.title(), table::number(value)))
    });
    format!("{place}: {}", figures.collect::<Vec<_>>().join("; "))
}

fn participant(contestant: &Contestant) -> Participant {
    Participant {
        name: contestant.name.clone(),
        version: contestant.version.clone(),
    }
}
