//! Raises the rate until p99 passes a bound, and finds the knee.

use clap::Args;

use super::{RoomOptions, payload};
use crate::generator::{GroupId, GroupPlan, Metric};
use crate::options::{self, Common};
use crate::result::{CapacityStep, Fact};
use crate::run::{Finished, Load, Measured, Run, RunError};

/// Options of `capacity`.
#[derive(Args, Clone, Debug)]
pub struct CapacityOptions {
    /// Members of all rooms together.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub connections: u32,
    /// Members of a room.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub room_size: u32,
    /// Members of a room that publish.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub publishers: u32,
    /// Bytes of a message's payload.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = payload)]
    pub payload: usize,
    /// The bound of p99, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "50", value_parser = options::rate)]
    pub p99_max_ms: f64,
    /// Deliveries a second of the first step.
    #[arg(long, value_name = "PER_SECOND", default_value = "20000", value_parser = options::rate)]
    pub start_rate: f64,
    /// By how much the rate grows from step to step.
    #[arg(long, default_value = "1.6", value_parser = factor)]
    pub factor: f64,
    /// Steps that halve the distance between the last rate that passed and the first that did not.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub refine: u32,
}

/// More steps than this make no sense with any factor.
const STEPS_MAX: usize = 40;

fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text
        .parse()
        .map_err(|_| "write a number such as 1.5".to_owned())?;
    if (1.01..=10.0).contains(&factor) {
        Ok(factor)
    } else {
        Err("write a number from 1.01 to 10".to_owned())
    }
}

/// Runs it. The measured part of each step is as long as `--duration`.
///
/// # Errors
/// The run could not be made.
pub fn run(common: &Common, options: &CapacityOptions) -> Result<Finished, RunError> {
    let rooms = RoomOptions {
        connections: options.connections,
        room_size: options.room_size,
        rate: 1.0,
        publishers: options.publishers,
        payload: options.payload,
    };
    let mut facts = rooms.facts();
    facts.retain(|fact| fact.name != "messages to each room");
    facts.push(Fact::new(
        "bound of p99",
        format!("{} ms", options.p99_max_ms),
    ));
    let mut run = Run::start("capacity", common, options.connections.into(), facts)?;
    // A server may protect itself from a step by dropping members: they come back for the next one.
    let plan = GroupPlan {
        group: rooms.group(&run, "capacity")?,
        direct: false,
        returns: true,
        recovers: false,
        ramp_per_s: common.ramp,
    };
    let group = run.open(plan, "connecting")?;
    match climb(&mut run, group, &rooms, options) {
        Err(stuck @ RunError::Stuck { .. }) if !run.result.capacity.is_empty() => {
            let failure = format!("The server did not recover from the last step: {stuck}.");
            run.result.failures.push(failure);
        }
        done => done?,
    }
    let steps = &mut run.result.capacity;
    steps.sort_by(|one, other| one.offered_per_s.total_cmp(&other.offered_per_s));
    match steps.iter().rfind(|step| step.passed) {
        Some(step) => run.result.notes.push(format!(
            "The knee: {:.0} deliveries a second with p99 within {} ms.",
            step.received_per_s, options.p99_max_ms
        )),
        None => run.result.failures.push(format!(
            "p99 is above {} ms already at {} deliveries a second: lower --start-rate.",
            options.p99_max_ms, options.start_rate
        )),
    }
    if let Some(limited) = run
        .result
        .capacity
        .iter()
        .find(|step| !step.passed)
        .and_then(|step| step.reason.clone())
    {
        run.result
            .notes
            .push(format!("The first step that did not pass: {limited}"));
    }
    Ok(run.finish())
}

/// Measures step after step until the knee is found.
fn climb(
    run: &mut Run,
    group: GroupId,
    rooms: &RoomOptions,
    options: &CapacityOptions,
) -> Result<(), RunError> {
    let mut search = Search::new(options.start_rate, options.factor, options.refine);
    while let Some(offered_per_s) = search.next() {
        let load = Load {
            rate: offered_per_s
                / f64::from(options.connections)
                / f64::from(options.publishers.min(options.room_size)),
            ..rooms.load(run.common())
        };
        let phase = format!("{offered_per_s:.0} deliveries/s");
        let mut measured = run.measure(group, load, &phase, |_| Ok(()))?;
        let mut step = step_of(&measured, offered_per_s, options.p99_max_ms);
        run.note(&describe(&step));
        if !step.passed {
            run.pass_over(measured);
            recover(run, group, options.connections)?;
            // One disturbance of the machine must not pass for the server's knee.
            measured = run.measure(group, load, &format!("{phase}, once more"), |_| Ok(()))?;
            step = step_of(&measured, offered_per_s, options.p99_max_ms);
            run.note(&describe(&step));
        }
        search.learn(step.passed);
        let best = step.passed
            && run
                .result
                .capacity
                .iter()
                .all(|other| !other.passed || other.offered_per_s < offered_per_s);
        if best {
            // The report holds the best step; those before it were on the way.
            run.result.latencies.clear();
            run.result.deliveries = None;
            run.report(measured, "");
        } else {
            run.pass_over(measured);
        }
        let passed = step.passed;
        run.result.capacity.push(step);
        if !passed {
            recover(run, group, options.connections)?;
        }
    }
    Ok(())
}

/// Waits until what overload has left is over: deliveries on their way, and members that were dropped.
fn recover(run: &mut Run, group: GroupId, members: u32) -> Result<(), RunError> {
    run.await_silence()?;
    run.await_ready(group, members.into(), "recovering")
}

fn describe(step: &CapacityStep) -> String {
    let p99 = step.latency.as_ref().map_or_else(
        || "—".to_owned(),
        |latency| format!("{:.2} ms", latency.quantiles.p99_us / 1000.0),
    );
    let verdict = if step.passed { "passed" } else { "not passed" };
    format!(
        "{:>12.0} deliveries/s offered, {:>12.0} received, p99 {p99}: {verdict}",
        step.offered_per_s, step.received_per_s
    )
}

fn step_of(measured: &Measured, offered_per_s: f64, p99_max_ms: f64) -> CapacityStep {
    let deliveries = measured.deliveries();
    let latency = measured.latency(Metric::Delivery);
    let p99_ms = latency
        .as_ref()
        .map(|latency| latency.quantiles.p99_us / 1000.0);
    let wrong =
        deliveries.missing + deliveries.repeated + deliveries.out_of_order + deliveries.astray;
    let lost = measured.books.tally.lost;
    let reason = if lost > 0 {
        Some(format!("{lost} connections were lost."))
    } else if wrong > 0 {
        Some(format!(
            "{wrong} deliveries were missing, repeated, out of order or at the wrong connection."
        ))
    } else if deliveries.unsent > 0 {
        Some(format!(
            "The server took {} messages too few.",
            deliveries.unsent
        ))
    } else if p99_ms.is_none_or(|p99_ms| p99_ms > p99_max_ms) {
        let p99 = p99_ms.map_or_else(|| "absent".to_owned(), |p99_ms| format!("{p99_ms:.1} ms"));
        Some(format!("p99 was {p99}."))
    } else {
        None
    };
    let passed = reason.is_none();
    let limit = if passed { None } else { measured.limit() };
    CapacityStep {
        offered_per_s,
        received_per_s: deliveries.received as f64 / measured.span.as_secs_f64(),
        latency,
        server_cores: measured.server.map(|used| used.cores),
        cpu_per_delivery_us: measured.server.and_then(|used| used.per_delivery_us()),
        passed,
        reason: reason.map(|reason| match limit {
            Some(limit) => format!("{reason} But the harness was the limit: {limit}."),
            None => reason,
        }),
    }
}

/// Which rate to try next: upwards by a factor until one does not pass, then by halves between.
#[derive(Debug)]
struct Search {
    next: f64,
    factor: f64,
    passed: Option<f64>,
    failed: Option<f64>,
    refinements: u32,
    steps: usize,
}

impl Search {
    const fn new(start: f64, factor: f64, refinements: u32) -> Self {
        Self {
            next: start,
            factor,
            passed: None,
            failed: None,
            refinements,
            steps: 0,
        }
    }

    fn next(&mut self) -> Option<f64> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return None;
        }
        match (self.passed, self.failed) {
            (_, None) => Some(self.next),
            (Some(passed), Some(failed)) if self.refinements > 0 => {
                self.refinements -= 1;
                Some((passed * failed).sqrt())
            }
            (Some(_) | None, Some(_)) => None,
        }
        .inspect(|rate| self.next = *rate)
    }

    fn learn(&mut self, passed: bool) {
        if passed {
            self.passed = Some(self.next);
            self.next *= self.factor;
        } else {
            self.failed = Some(self.next);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn knee(capacity: f64, start: f64, refinements: u32) -> (Option<f64>, usize) {
        let mut search = Search::new(start, 2.0, refinements);
        let mut best: Option<f64> = None;
        let mut steps = 0;
        while let Some(rate) = search.next() {
            steps += 1;
            let passed = rate <= capacity;
            if passed {
                best = Some(best.map_or(rate, |best| best.max(rate)));
            }
            search.learn(passed);
        }
        (best, steps)
    }

    #[test]
    fn the_search_closes_in_on_the_knee() {
        let (best, steps) = knee(1_000_000.0, 1000.0, 5);
        let best = best.unwrap();
        assert!(best <= 1_000_000.0 && best > 950_000.0, "{best}");
        assert!(steps <= 16, "{steps}");
    }

    #[test]
    fn a_start_above_the_knee_finds_none() {
        assert_eq!(knee(10.0, 1000.0, 5), (None, 1));
    }

    #[test]
    fn a_server_without_a_knee_ends_all_the_same() {
        assert_eq!(knee(f64::INFINITY, 1.0, 5).1, STEPS_MAX);
    }
}
