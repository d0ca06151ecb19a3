//! Every message comes back to its sender.

use clap::Args;

use super::payload;
use crate::generator::Mix;
use crate::options::{self, Common};
use crate::result::Fact;
use crate::run::{Finished, Load, Run, RunError};

/// Options of `echo`.
#[derive(Args, Clone, Debug)]
pub struct EchoOptions {
    /// Connections.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub connections: u32,
    /// Messages a second on each connection.
    #[arg(long, value_name = "PER_SECOND", default_value = "10", value_parser = options::rate)]
    pub rate: f64,
    /// Bytes of a message's payload.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = payload)]
    pub payload: usize,
    /// Sends the next message only when the last one has come back, and counts from then: how many tools measure. A stall of
    /// the server then holds up the measurement with the server, and most of it is never recorded. For comparison only.
    #[arg(long)]
    pub closed_loop: bool,
}

/// Runs it.
///
/// # Errors
/// The run could not be made.
pub fn run(common: &Common, options: &EchoOptions) -> Result<Finished, RunError> {
    let facts = vec![
        Fact::new("connections", options.connections.to_string()),
        Fact::new(
            "messages on each connection",
            format!("{} a second", options.rate),
        ),
        Fact::new("payload", format!("{} B", options.payload)),
        Fact::new(
            "loop",
            if options.closed_loop {
                "closed"
            } else {
                "open"
            },
        ),
    ];
    let mut run = Run::start("echo", common, options.connections.into(), facts)?;
    if common.protocol.has_rooms() {
        run.result.notes.push(
            "The server has rooms, so each connection publishes to a room of its own instead of an echo.".to_owned(),
        );
    }
    if options.closed_loop {
        run.result.notes.push(
            "Closed loop: each connection waited for its last message before it sent the next. These latencies hide stalls."
                .to_owned(),
        );
    }
    let group = run.rooms("echo", options.connections, 1, 1);
    let group = super::open_steady(&mut run, group, false)?;
    let load = Load {
        rate: options.rate,
        payload_bytes: options.payload,
        mix: Mix::Broadcasts,
        closed_loop: options.closed_loop,
        warmup: common.warmup,
        duration: common.duration,
    };
    let measured = run.measure(group, load, "measuring", |_| Ok(()))?;
    run.report(measured, "");
    run.fail_on_lost();
    Ok(run.finish())
}
