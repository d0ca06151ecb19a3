//! Some receivers stop reading: what happens to the others, and to them.

use clap::Args;

use super::{RoomOptions, payload};
use crate::generator::GroupPlan;
use crate::options::{self, Common};
use crate::result::Fact;
use crate::run::{Finished, Run, RunError};

/// Options of `slow`. By default each slow member is sent 800 KB a second: what the kernel and most servers keep for one
/// connection is full within seconds.
#[derive(Args, Clone, Debug)]
pub struct SlowOptions {
    /// Members of all rooms together.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(3..=10_000_000))]
    pub connections: u32,
    /// Members of a room.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(3..=10_000_000))]
    pub room_size: u32,
    /// Messages a second to each room.
    #[arg(long, value_name = "PER_SECOND", default_value = "200", value_parser = options::rate)]
    pub rate: f64,
    /// Members of a room that publish, each at its share of the rate.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub publishers: u32,
    /// Bytes of a message's payload.
    #[arg(long, value_name = "BYTES", default_value_t = 4096, value_parser = payload)]
    pub payload: usize,
    /// Members of each room that stop reading. What they are sent is not measured.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub slow: u32,
}

impl SlowOptions {
    const fn rooms(&self) -> RoomOptions {
        RoomOptions {
            connections: self.connections,
            room_size: self.room_size,
            rate: self.rate,
            publishers: self.publishers,
            payload: self.payload,
        }
    }
}

/// How long slow members are watched after they read again.
const AFTERWARDS: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs it.
///
/// # Errors
/// The run could not be made.
pub fn run(common: &Common, options: &SlowOptions) -> Result<Finished, RunError> {
    let rooms = options.rooms();
    if options.slow + rooms.publishers >= rooms.room_size {
        return Err(RunError::Options(format!(
            "{} slow members and {} publishers leave no one to measure in rooms of {}",
            options.slow, rooms.publishers, rooms.room_size
        )));
    }
    let mut facts = rooms.facts();
    facts.push(Fact::new(
        "slow members of each room",
        options.slow.to_string(),
    ));
    let mut run = Run::start("slow", common, rooms.connections.into(), facts)?;
    let mut group = rooms.group(&run, "slow")?;
    group.slow = options.slow;
    let slow = u64::from(group.connections)
        - (0..group.rooms())
            .map(|room| group.receivers(room).len() as u64)
            .sum::<u64>();
    let plan = GroupPlan {
        group,
        direct: false,
        returns: false,
        recovers: false,
        ramp_per_s: common.ramp,
    };
    let group = run.open(plan, "connecting")?;
    let load = rooms.load(common);
    let quiet = run.measure(group, load, "all read", |_| Ok(()))?;
    run.report(quiet, "all read");
    let lost_before = run.totals().tally.lost;
    let resident = run.server_usage()?.map(|usage| usage.resident_bytes);
    let stalled = run.measure(group, load, "some do not read", |run| {
        run.fleet.stall(group, true);
        Ok(())
    })?;
    run.report(stalled, "some do not read");
    if let (Some(before), Some(after)) = (resident, run.server_usage()?) {
        let growth = after.resident_bytes as i64 - before as i64;
        run.result.notes.push(format!(
            "The server's resident memory grew by {:.1} MiB while {slow} members did not read.",
            growth as f64 / f64::from(1 << 20)
        ));
    }
    // Only now do they learn what became of them.
    run.fleet.stall(group, false);
    run.pause(AFTERWARDS)?;
    run.collect();
    let lost = run.totals().tally.lost - lost_before;
    run.result.notes.push(format!(
        "Of {slow} members that did not read, the server had closed {} when they read again.",
        lost.min(slow)
    ));
    if lost > slow {
        run.result
            .failures
            .push(format!("{} members were lost that did read.", lost - slow));
    }
    Ok(run.finish())
}
