//! All connections of many rooms drop at once and come back as fast as they can, beside rooms that stay.

use std::time::Instant;

use clap::Args;

use super::RoomOptions;
use crate::generator::{GroupPlan, Metric};
use crate::layout::Group;
use crate::options::Common;
use crate::result::{Fact, Recovery};
use crate::run::{Finished, Run, RunError};

/// Members of the rooms that the storm hits.
const ROOM_SIZE: u32 = 100;

/// Options of `storm`.
#[derive(Args, Clone, Debug)]
pub struct StormOptions {
    /// The rooms that stay.
    #[command(flatten)]
    pub rooms: RoomOptions,
    /// Connections that drop at once, in rooms of their own.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub dropped: u32,
}

/// Runs it.
///
/// # Errors
/// The run could not be made.
pub fn run(common: &Common, options: &StormOptions) -> Result<Finished, RunError> {
    let mut facts = options.rooms.facts();
    facts.push(Fact::new(
        "connections that drop at once",
        options.dropped.to_string(),
    ));
    // Rooms that stay may be so large that they need those threads, too.
    let connections = options.rooms.connections + options.dropped;
    let mut run = Run::start_beside("storm", common, connections, facts)?;
    let rooms = options.rooms.group(&run, "rooms")?;
    let rooms = super::open_steady(&mut run, rooms, false)?;
    // Whoever comes back has a machine of its own: it takes no time from those that stay, but what it takes of the server's.
    let stormy = Group {
        threads: run.threads_beside(),
        ..run.rooms("storm", options.dropped, ROOM_SIZE, 0)
    };
    let stormy = GroupPlan {
        group: stormy,
        direct: false,
        returns: true,
        recovers: false,
        ramp_per_s: common.ramp,
    };
    let stormy = run.open(stormy, "connecting those that will drop")?;
    let load = options.rooms.load(common);
    let quiet = run.measure(rooms, load, "quiet", |_| Ok(()))?;
    run.report(quiet, "quiet");
    let before = run.totals().tally;
    let mut dropped_at = Instant::now();
    let storm = run.measure(rooms, load, "storm", |run| {
        dropped_at = Instant::now();
        run.fleet.drop_all(stormy);
        Ok(())
    })?;
    run.report(storm, "storm");
    run.await_ready(stormy, options.dropped.into(), "the last ones return")?;
    run.collect();
    let totals = run.totals();
    let times = totals.recordings.of(Metric::Rejoin);
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    let recovery = Recovery {
        dropped: totals.tally.dropped - before.dropped,
        recovered: totals.tally.rejoined - before.rejoined,
        first_s: times.map(|times| seconds(times.min())),
        last_s: times.map(|times| seconds(times.max())),
        failed_attempts: totals.tally.failed - before.failed,
        times: times.and_then(crate::latency::Latency::of),
        messages_recovered: None,
    };
    if recovery.recovered < recovery.dropped {
        run.result.failures.push(format!(
            "{} of {} dropped connections are not back {:.0} s after the drop.",
            recovery.dropped - recovery.recovered,
            recovery.dropped,
            dropped_at.elapsed().as_secs_f64()
        ));
    }
    run.result.recovery = Some(recovery);
    run.result
        .notes
        .push("A dropped connection counts as back when it has joined its room again.".to_owned());
    run.fail_on_lost();
    Ok(run.finish())
}
