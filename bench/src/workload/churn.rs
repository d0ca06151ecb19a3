//! Connections come and go in good order beside rooms that stay: what a handshake takes, and what the rooms feel of it.

use std::time::Duration;

use clap::Args;

use super::RoomOptions;
use crate::generator::GroupPlan;
use crate::options::{self, Common};
use crate::result::Fact;
use crate::run::{Finished, Run, RunError};

/// Members of the rooms that connections come to and go from.
const ROOM_SIZE: u32 = 100;

/// Options of `churn`.
#[derive(Args, Clone, Debug)]
pub struct ChurnOptions {
    /// The rooms that stay.
    #[command(flatten)]
    pub rooms: RoomOptions,
    /// Connections that come and go, in rooms of their own.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub churning: u32,
    /// How many of them go, and come again, a second.
    #[arg(long, value_name = "PER_SECOND", default_value = "200", value_parser = options::rate)]
    pub churn_rate: f64,
}

/// Runs it.
///
/// # Errors
/// The run could not be made.
pub fn run(common: &Common, options: &ChurnOptions) -> Result<Finished, RunError> {
    let mut facts = options.rooms.facts();
    facts.push(Fact::new(
        "connections that come and go",
        options.churning.to_string(),
    ));
    facts.push(Fact::new(
        "come and go",
        format!("{} a second", options.churn_rate),
    ));
    let connections = u64::from(options.rooms.connections) + u64::from(options.churning);
    let mut run = Run::start("churn", common, connections, facts)?;
    let rooms = options.rooms.group(&run, "rooms")?;
    let rooms = super::open_steady(&mut run, rooms, false)?;
    let churning = GroupPlan {
        group: run.rooms("churn", options.churning, ROOM_SIZE, 0),
        direct: false,
        returns: true,
        recovers: false,
        ramp_per_s: common.ramp,
    };
    let churning = run.open(churning, "connecting those that will go")?;
    let load = options.rooms.load(common);
    let quiet = run.measure(rooms, load, "quiet", |_| Ok(()))?;
    run.report(quiet, "quiet");
    let busy = run.measure(rooms, load, "coming and going", |run| {
        let until_ns =
            run.fleet.now_ns() + u64::try_from(common.duration.as_nanos()).unwrap_or(u64::MAX);
        run.fleet.churn(churning, options.churn_rate, until_ns);
        Ok(())
    })?;
    let tally = busy.books.tally;
    run.report(busy, "with connections that come and go");
    let wanted = options.churn_rate * common.duration.as_secs_f64();
    run.result.notes.push(format!(
        "{} connections went, {} came again, in {} s.",
        tally.dropped,
        tally.rejoined,
        common.duration.as_secs_f64()
    ));
    if (tally.dropped as f64) < 0.95 * wanted {
        run.result.failures.push(format!(
            "Only {} of {wanted:.0} connections went: the others were not back in time.",
            tally.dropped
        ));
    }
    run.pause(Duration::from_millis(500))?;
    run.await_ready(churning, options.churning.into(), "the last ones return")?;
    run.fail_on_lost();
    Ok(run.finish())
}
