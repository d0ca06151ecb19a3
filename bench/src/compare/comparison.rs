//! What a comparison found: every run, the medians and ratios made of them, and where another server is ahead.

use serde::Serialize;

use super::catalogue::{Contestant, FLOOR};
use super::metric::Metric;
use super::plan::Workload;
use super::ratio::{Spread, ratios};
use crate::latency::Latency;
use crate::result::{Fact, RunResult};

/// The version of [`Comparison`] in `--json`. It grows when a field changes its meaning or goes.
pub const COMPARISON_VERSION: u32 = 1;

/// What a comparison found.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// [`COMPARISON_VERSION`].
    pub version: u32,
    /// The command line that made it.
    pub command: String,
    /// When it began, milliseconds since 1970 (UTC).
    pub started_unix_ms: u64,
    /// How long it took, in seconds.
    pub took_s: f64,
    /// What the orders were made from.
    pub seed: u64,
    /// The rounds that were planned; there are as many `orders` as were run.
    pub rounds: u32,
    /// The server, or the family of servers, that ratios are made to.
    pub baseline: String,
    /// The cores that each server ran on.
    pub server_cores: String,
    /// The cores that the generator ran on.
    pub generator_cores: String,
    /// The machine, as the first run that knew it says.
    pub machine: Vec<Fact>,
    /// The servers that took part.
    pub servers: Vec<Participant>,
    /// Servers that were left out, and how to build them; one sentence each.
    pub missing: Vec<String>,
    /// The order of the servers in each round that was run.
    pub orders: Vec<Vec<String>>,
    /// The comparison of each workload.
    pub workloads: Vec<WorkloadComparison>,
    /// Every run, in the order in which they were made.
    pub runs: Vec<Run>,
}

/// A server that took part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Participant {
    /// What it is called.
    pub name: String,
    /// Its version and those of what it is built on, in one line; absent where nobody wrote it down.
    pub version: Option<String>,
}

/// One run of one workload against one server.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// The round, counted from 0.
    pub round: u32,
    /// The workload's name in the comparison, such as `rooms-100`.
    pub workload: String,
    /// The server's name.
    pub server: String,
    /// Why the run failed; absent where it passed.
    pub failure: Option<String>,
    /// What the generator found; absent where it could not run at all.
    pub result: Option<RunResult>,
}

/// One workload over all servers.
#[derive(Clone, Debug, Serialize)]
pub struct WorkloadComparison {
    /// Its name, such as `rooms-100`.
    pub name: String,
    /// What it does, as a phrase.
    pub title: String,
    /// The generator's subcommand and options, but for those about the server and the output.
    pub arguments: Vec<String>,
    /// What was compared, the most important first.
    pub metrics: Vec<Metric>,
    /// The server that ratios are made to; absent where none of the baseline's family took part.
    pub baseline: Option<String>,
    /// A row for each server, the best first.
    pub rows: Vec<Row>,
}

/// One server in one workload.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The server's name.
    pub server: String,
    /// How many runs were made.
    pub runs: usize,
    /// Why runs failed, one for each that did. What they measured is in none of the figures.
    pub failures: Vec<String>,
    /// For each passed run in which the generator was the limit, why.
    pub generator_limits: Vec<String>,
    /// The figures that at least one passed run has.
    pub figures: Vec<Figure>,
}

/// One metric of one server in one workload, over the passed runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What it is of.
    pub metric: Metric,
    /// Its values.
    pub value: Spread,
    /// How many times the baseline's, round by round.
    pub to_baseline: Option<Spread>,
    /// How many times the floor's, round by round.
    pub to_floor: Option<Spread>,
}

impl Comparison {
    /// For each workload and server that passed at least once, the run whose most important figure is nearest to the median: what a page
    /// of single runs should show. Its `workload` is the name in the comparison, so that `rooms-100` and `rooms-1000` stand apart.
    #[must_use]
    pub fn representatives(&self) -> Vec<RunResult> {
        let of_row = |workload: &WorkloadComparison, row: &Row| {
            let metric = *workload.metrics.first()?;
            let passed = self.runs.iter().filter(|run| {
                run.failure.is_none() && run.workload == workload.name && run.server == row.server
            });
            let results = passed.filter_map(|run| run.result.as_ref());
            let median = row.figure(metric).map(|figure| figure.value.median);
            let distance = |result: &RunResult| match (metric.of(result), median) {
                (Some(value), Some(median)) => (value - median).abs(),
                _ => f64::INFINITY,
            };
            results.min_by(|a, b| distance(a).total_cmp(&distance(b)))
        };
        self.workloads
            .iter()
            .flat_map(|workload| workload.rows.iter().map(move |row| (workload, row)))
            .filter_map(|(workload, row)| {
                let mut result = of_row(workload, row)?.clone();
                result.workload.clone_from(&workload.name);
                Some(result)
            })
            .collect()
    }

    /// The same without the seconds and curves of the runs: what `--json` writes.
    #[must_use]
    pub fn without_curves(&self) -> Self {
        let mut short = self.clone();
        for result in short.runs.iter_mut().filter_map(|run| run.result.as_mut()) {
            remove_curves(result);
        }
        short
    }

    /// One sentence for each workload and metric in which another server, the floor apart, is ahead of the baseline.
    #[must_use]
    pub fn ahead_of_baseline(&self) -> Vec<String> {
        let workloads = self.workloads.iter();
        workloads
            .flat_map(WorkloadComparison::ahead_of_baseline)
            .collect()
    }
}

impl WorkloadComparison {
    pub(super) fn of(
        workload: &Workload,
        contestants: &[Contestant],
        baseline: &str,
        rounds: u32,
        runs: &[Run],
    ) -> Self {
        let taking_part: Vec<&Contestant> = contestants
            .iter()
            .filter(|contestant| contestant.takes_part(workload))
            .collect();
        let is_baseline = |one: &&&Contestant| one.name == baseline || one.family == baseline;
        let baseline = taking_part.iter().find(is_baseline).map(|one| &*one.name);
        let own_runs: Vec<&Run> = runs
            .iter()
            .filter(|run| run.workload == workload.name)
            .collect();
        let values = |server: &str, metric: Metric| by_round(&own_runs, server, metric, rounds);
        let figure = |server: &str, metric: Metric| {
            let own = values(server, metric);
            Some(Figure {
                metric,
                value: Spread::of(own.iter().copied().flatten())?,
                to_baseline: baseline.and_then(|base| ratios(&own, &values(base, metric))),
                to_floor: ratios(&own, &values(FLOOR, metric)),
            })
        };
        let mut rows: Vec<Row> = taking_part
            .iter()
            .map(|one| {
                let metrics = workload.metrics.iter();
                let figures = metrics.filter_map(|metric| figure(&one.name, *metric));
                Row::of(&one.name, &own_runs, figures.collect())
            })
            .collect();
        if let Some(first) = workload.metrics.first() {
            sort_best_first(&mut rows, *first);
        }
        Self {
            name: workload.name.to_owned(),
            title: workload.title.clone(),
            arguments: std::iter::once(workload.subcommand.to_owned())
                .chain(workload.arguments())
                .collect(),
            metrics: workload.metrics.to_vec(),
            baseline: baseline.map(str::to_owned),
            rows,
        }
    }

    fn ahead_of_baseline(&self) -> Vec<String> {
        let Some(baseline) = &self.baseline else {
            return Vec::new();
        };
        let Some(base) = self.rows.iter().find(|row| row.server == *baseline) else {
            return Vec::new();
        };
        let others = self
            .rows
            .iter()
            .filter(|row| row.server != *baseline && row.server != FLOOR);
        let others: Vec<&Row> = others.collect();
        let less_failed = others
            .iter()
            .filter(|row| base.failures.len() > row.failures.len())
            .map(|row| {
                format!(
                    "{}: {} failed {} of {} runs, {baseline} {} of {}",
                    self.name,
                    row.server,
                    row.failures.len(),
                    row.runs,
                    base.failures.len(),
                    base.runs,
                )
            });
        let metrics = base.figures.iter().map(|figure| figure.metric);
        let ahead = metrics.filter_map(|metric| {
            let ahead: Vec<String> = others
                .iter()
                .filter_map(|row| ahead_in(row, metric))
                .collect();
            (!ahead.is_empty())
                .then(|| format!("{}, {}: {}", self.name, metric.name(), ahead.join(", ")))
        });
        less_failed.chain(ahead).collect()
    }
}

/// By how much a server is ahead of the baseline in a metric; `None` when it is not.
fn ahead_in(row: &Row, metric: Metric) -> Option<String> {
    let ratio = row.figure(metric)?.to_baseline?;
    if !metric.is_better(ratio.median) {
        return None;
    }
    let always = metric.is_better(ratio.min) && metric.is_better(ratio.max);
    let spread = match (ratio.count, always) {
        (1, _) => "one round".to_owned(),
        (_, true) => format!("{:.2}–{:.2}", ratio.min, ratio.max),
        (_, false) => format!("{:.2}–{:.2}, so not in every round", ratio.min, ratio.max),
    };
    Some(format!("{} {:.2}× ({spread})", row.server, ratio.median))
}

impl Row {
    fn of(server: &str, runs: &[&Run], figures: Vec<Figure>) -> Self {
        let own: Vec<&&Run> = runs.iter().filter(|run| run.server == server).collect();
        let passed = own.iter().filter(|run| run.failure.is_none());
        let limit = |run: &&&Run| run.result.as_ref()?.generator.limit.clone();
        Self {
            server: server.to_owned(),
            runs: own.len(),
            failures: own.iter().filter_map(|run| run.failure.clone()).collect(),
            generator_limits: passed.filter_map(limit).collect(),
            figures,
        }
    }

    /// The figure of a metric, where there is one.
    #[must_use]
    pub fn figure(&self, metric: Metric) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.metric == metric)
    }
}

/// The value in each round; `None` for rounds that failed, measured nothing or were not run.
fn by_round(runs: &[&Run], server: &str, metric: Metric, rounds: u32) -> Vec<Option<f64>> {
    let value = |round: u32| {
        let mut passed = runs.iter().filter(|run| run.failure.is_none());
        let run = passed.find(|run| run.server == server && run.round == round)?;
        metric.of(run.result.as_ref()?)
    };
    (0..rounds).map(value).collect()
}

/// The best median first; servers without a figure last.
fn sort_best_first(rows: &mut [Row], metric: Metric) {
    let median = |row: &Row| row.figure(metric).map(|figure| figure.value.median);
    rows.sort_by(|a, b| match (median(a), median(b)) {
        (Some(a), Some(b)) if metric.is_better(2.0) => b.total_cmp(&a),
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    });
}

fn remove_curves(result: &mut RunResult) {
    result.seconds.clear();
    let named = result.latencies.iter_mut().map(|named| &mut named.latency);
    let density = result.density.iter_mut().filter_map(|s| s.probe.as_mut());
    let capacity = result
        .capacity
        .iter_mut()
        .filter_map(|s| s.latency.as_mut());
    let recovery = result.recovery.iter_mut().filter_map(|r| r.times.as_mut());
    let lateness = result.generator.lateness.iter_mut();
    let all = named
        .chain(density)
        .chain(capacity)
        .chain(recovery)
        .chain(lateness);
    all.for_each(|latency: &mut Latency| latency.curve.clear());
}
