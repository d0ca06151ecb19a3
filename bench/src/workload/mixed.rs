//! The commonly published chat benchmark: every connection sends, half of its messages to its room and half to one user.

use clap::Args;

use super::{RoomOptions, payload};
use crate::generator::Mix;
use crate::options::{self, Common};
use crate::result::Fact;
use crate::run::{Finished, Load, Run, RunError};

/// Options of `mixed`.
#[derive(Args, Clone, Debug)]
pub struct MixedOptions {
    /// Connections. With the defaults 100 of them are 50,500 deliveries a second.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    pub connections: u32,
    /// Members of a room: the receivers of a broadcast.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub room_size: u32,
    /// Messages a second on each connection; every second one goes to a single user.
    #[arg(long, value_name = "PER_SECOND", default_value = "10", value_parser = options::rate)]
    pub rate: f64,
    /// Bytes of a message's payload.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = payload)]
    pub payload: usize,
}

/// Runs it.
///
/// # Errors
/// The run could not be made.
pub fn run(common: &Common, options: &MixedOptions) -> Result<Finished, RunError> {
    let rooms = RoomOptions {
        connections: options.connections,
        room_size: options.room_size,
        rate: options.rate * f64::from(options.room_size),
        publishers: options.room_size,
        payload: options.payload,
    };
    let mut facts = rooms.facts();
    facts.retain(|fact| fact.name != "messages to each room");
    facts.push(Fact::new(
        "messages on each connection",
        format!("{} a second", options.rate),
    ));
    let mut run = Run::start("mixed", common, options.connections.into(), facts)?;
    run.result
        .notes
        .push("Half of the messages go to the room, half to one user elsewhere.".to_owned());
    let group = rooms.group(&run, "mixed")?;
    let group = super::open_steady(&mut run, group, true)?;
    let load = Load {
        mix: Mix::Half,
        ..rooms.load(common)
    };
    let measured = run.measure(group, load, "measuring", |_| Ok(()))?;
    run.report(measured, "");
    run.fail_on_lost();
    Ok(run.finish())
}
