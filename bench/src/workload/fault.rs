//! The server, or a part of it, is made to fail while rooms are busy: how long until receivers have messages again.

use std::process::{Command, Stdio};
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::RoomOptions;
use crate::generator::{GroupPlan, Metric};
use crate::latency::Latency;
use crate::options::Common;
use crate::protocol::Protocol;
use crate::result::{Fact, Recovery};
use crate::run::{Finished, Run, RunError};

/// What makes a Shardcast server that was started with SHARDCAST_FAULTS=1 lose the shard of the connection that says it.
const CRASH_SHARD: &str = r#"{"type":"fault","what":"panic_shard"}"#;

/// How long before the fault the threads of the harness are told of it: longer than they sleep.
const FAULT_NOTICE: Duration = Duration::from_millis(50);

/// Options of `fault`.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("how").required(true).args(["break_command", "crash_shard"]))]
pub struct FaultOptions {
    /// The rooms.
    #[command(flatten)]
    pub rooms: RoomOptions,
    /// How the server is made to fail: a command for the shell, such as `kill -9 $(pidof shardcast)`. Whoever supervises the
    /// server is expected to start it again, unless --restore does.
    #[arg(long = "break", value_name = "COMMAND")]
    pub break_command: Option<String>,
    /// A command for the shell that brings the server back; it may go on running.
    #[arg(long, value_name = "COMMAND")]
    pub restore: Option<String>,
    /// Crashes one shard of a Shardcast server that was started with SHARDCAST_FAULTS=1.
    #[arg(long)]
    pub crash_shard: bool,
}

/// Runs it: a third of `--duration` passes before the fault.
///
/// # Errors
/// The run could not be made.
pub fn run(common: &Common, options: &FaultOptions) -> Result<Finished, RunError> {
    if options.crash_shard && common.protocol != Protocol::Shardcast {
        return Err(RunError::Options(
            "--crash-shard needs --protocol shardcast".to_owned(),
        ));
    }
    let mut facts = options.rooms.facts();
    facts.push(Fact::new(
        "fault",
        match &options.break_command {
            Some(command) => command.clone(),
            None => "one shard crashes".to_owned(),
        },
    ));
    let mut run = Run::start("fault", common, options.rooms.connections.into(), facts)?;
    let recovers = common.protocol.recovers();
    let plan = GroupPlan {
        group: options.rooms.group(&run, "fault")?,
        direct: false,
        returns: true,
        recovers,
        ramp_per_s: common.ramp,
    };
    let group = run.open(plan, "connecting")?;
    let mut load = options.rooms.load(common);
    load.duration = common.duration / 3;
    let quiet = run.measure(group, load, "before the fault", |_| Ok(()))?;
    run.report(quiet, "before the fault");
    load.duration = common.duration - load.duration;
    load.warmup = Duration::ZERO;
    let mut restored = None;
    let fault = run.measure(group, load, "fault", |run| {
        // The threads are told ahead, so that they know the time before the first connection is lost.
        let at_ns = run.fleet.now_ns() + FAULT_NOTICE.as_nanos() as u64;
        run.fleet.fault(at_ns);
        run.pause(Duration::from_nanos(
            at_ns.saturating_sub(run.fleet.now_ns()),
        ))?;
        if options.crash_shard {
            run.fleet.say(group, CRASH_SHARD);
        }
        if let Some(command) = &options.break_command {
            shell(command)?
                .wait()
                .map_err(|error| failed(command, &error))?;
        }
        if let Some(command) = &options.restore {
            restored = Some(shell(command)?);
        }
        Ok(())
    })?;
    let tally = fault.books.tally;
    let times = fault.books.recordings.of(Metric::Restored);
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    let recovery = Recovery {
        dropped: tally.away,
        recovered: times.map_or(0, |times| times.len()),
        first_s: times.map(|times| seconds(times.min())),
        last_s: times.map(|times| seconds(times.max())),
        failed_attempts: tally.failed,
        times: times.and_then(Latency::of),
        messages_recovered: recovers.then_some(tally.caught_up),
    };
    let before = run.result.failures.len();
    let deliveries = fault.deliveries();
    run.report(fault, "fault");
    // What a fault loses is what this workload finds out, not a failure of the run.
    run.result.failures.truncate(before);
    if deliveries.repeated + deliveries.out_of_order + deliveries.astray > 0 {
        run.result.failures.push(format!(
            "{} deliveries came more than once, {} out of order and {} to connections that they were not meant for.",
            deliveries.repeated, deliveries.out_of_order, deliveries.astray
        ));
    }
    run.result.notes.push(format!(
        "Between the fault and the end {} messages could not be sent, as their publishers were away, and {} of {} deliveries \
         never came. A connection counts as restored at its first delivery after its loss; times count from the fault.",
        deliveries.unsent, deliveries.missing, deliveries.expected
    ));
    if recovery.dropped == 0 {
        run.result
            .failures
            .push("No connection was lost: the fault did not happen.".to_owned());
    }
    if recovery.recovered < recovery.dropped {
        run.result.failures.push(format!(
            "{} of {} lost connections had no delivery again before the end.",
            recovery.dropped - recovery.recovered,
            recovery.dropped
        ));
    }
    run.result.recovery = Some(recovery);
    if let Some(mut child) = restored
        && let Ok(Some(status)) = child.try_wait()
        && !status.success()
    {
        run.result
            .failures
            .push(format!("The command of --restore ended with {status}."));
    }
    Ok(run.finish())
}

fn shell(command: &str) -> Result<std::process::Child, RunError> {
    Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| failed(command, &error))
}

fn failed(command: &str, error: &std::io::Error) -> RunError {
    RunError::Command {
        command: command.to_owned(),
        reason: error.to_string(),
    }
}
