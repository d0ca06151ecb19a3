//! Idle connections by the step, up to as many as the machine holds: memory for each, and the latency of busy rooms beside them.

use std::time::Duration;

use clap::Args;

use crate::generator::{GroupId, Metric, Mix};
use crate::layout::Group;
use crate::observe::{KernelMemory, ProcessTree, ProcessUsage};
use crate::options::{self, Common};
use crate::result::{DensityStep, Fact};
use crate::run::{Finished, Load, Measured, Run, RunError};

use super::payload;

/// How long memory is given to settle before it is read.
const SETTLE: Duration = Duration::from_secs(1);

/// Options of `density`.
#[derive(Args, Clone, Debug)]
pub struct DensityOptions {
    /// Idle connections, each in a room.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    pub connections: u32,
    /// Members of the idle rooms. A server that announces who comes tells all members, so large rooms cost the ramp dearly.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub room_size: u32,
    /// Idle connections of a first step, measured for as long as the last one: how much the latency of busy rooms grows with the idle ones beside them; 0
    /// for none.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub first: u32,
    /// Steps on the way; at each, memory and the latency of the probe rooms are measured for `--duration`.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub steps: u32,
    /// How long all connections are held at the end, with their heartbeats. Longer than the server's heartbeat, it shows their cost.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = options::seconds)]
    pub hold: Duration,
    /// Probe rooms, busy from the first step to the last; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub probe_rooms: u32,
    /// Members of a probe room.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub probe_room_size: u32,
    /// Messages a second to each probe room.
    #[arg(long, value_name = "PER_SECOND", default_value = "4", value_parser = options::rate)]
    pub probe_rate: f64,
    /// Bytes of a probe's payload.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = payload)]
    pub payload: usize,
}

/// Memory before the first connection.
struct Baseline {
    server: Option<ProcessUsage>,
    generator: Option<ProcessUsage>,
    kernel: Option<KernelMemory>,
}

fn generator_usage() -> Option<ProcessUsage> {
    ProcessTree::of(std::process::id()).ok()?.usage().ok()
}

impl Baseline {
    fn take(run: &Run) -> Result<Self, RunError> {
        Ok(Self {
            server: run.server_usage()?,
            generator: generator_usage(),
            kernel: KernelMemory::read().ok(),
        })
    }

    /// What so many connections have added.
    fn step(
        &self,
        run: &Run,
        connections: u64,
        measured: Option<&Measured>,
    ) -> Result<DensityStep, RunError> {
        let each = |bytes: i64| bytes as f64 / connections.max(1) as f64;
        let grown = |now: Option<u64>, before: Option<u64>| Some(now? as i64 - before? as i64);
        let server = run.server_usage()?;
        let server_bytes = server.as_ref().and_then(|usage| usage.private_bytes);
        let server_before = self.server.as_ref().and_then(|usage| usage.private_bytes);
        let generator = grown(
            generator_usage().and_then(|usage| usage.private_bytes),
            self.generator
                .as_ref()
                .and_then(|usage| usage.private_bytes),
        );
        let kernel = match (KernelMemory::read().ok(), &self.kernel) {
            (Some(now), Some(before)) => Some(now.since(before)),
            _ => None,
        };
        Ok(DensityStep {
            connections,
            at_s: run.elapsed_s(),
            server_bytes,
            server_bytes_per_connection: grown(server_bytes, server_before).map(each),
            kernel_bytes_per_connection: kernel
                .as_ref()
                .and_then(|growth| growth.kernel_bytes)
                .map(each),
            total_bytes_per_connection: kernel
                .as_ref()
                .and_then(|growth| growth.total_bytes)
                .map(each),
            generator_bytes_per_connection: generator.map(each),
            probe: measured.and_then(|measured| measured.latency(Metric::Delivery)),
            server_cores: measured
                .and_then(|measured| measured.server)
                .map(|used| used.cores),
        })
    }
}

/// Runs it.
///
/// # Errors
/// The run could not be made.
pub fn run(common: &Common, options: &DensityOptions) -> Result<Finished, RunError> {
    let rooms = common.protocol.has_rooms();
    let probes = if rooms {
        options.probe_rooms * options.probe_room_size
    } else {
        0
    };
    let mut run = Run::start_beside(
        "density",
        common,
        options.connections,
        facts(options, probes),
    )?;
    let busy = run.fleet.busy_threads();
    run.pause(SETTLE)?;
    let baseline = Baseline::take(&run)?;
    let group = |name: &str, connections: u32, room_size: u32, publishers: u32, threads| Group {
        // Names of members stay within 15 bytes, which need no memory of their own in most servers.
        name: format!("{name}{:05x}", run.result.started_unix_ms & 0xf_ffff),
        connections,
        room_size,
        publishers,
        slow: 0,
        threads,
    };
    let idle_threads = run.threads_beside();
    let probe_group = group("p", probes, options.probe_room_size, 1, 0..busy);
    let first = options.first.min(options.connections - 1);
    let idle: Vec<Group> = [first]
        .into_iter()
        .chain(parts(options.connections - first, options.steps))
        .filter(|connections| *connections > 0)
        .enumerate()
        .map(|(step, connections)| {
            group(
                &format!("i{step}"),
                connections,
                options.room_size,
                0,
                idle_threads.clone(),
            )
        })
        .collect();
    let probe = if probes > 0 {
        Some(super::open_steady(&mut run, probe_group, false)?)
    } else {
        None
    };
    let steps = idle.len();
    for (step, group) in idle.into_iter().enumerate() {
        super::open_steady(&mut run, group, false)?;
        run.pause(SETTLE)?;
        let duration = match step == 0 && first > 0 {
            true => options.hold.max(common.duration),
            false => common.duration,
        };
        let measured = probe_rooms(&mut run, probe, options, duration)?;
        let connections = run.fleet.ready_all();
        let row = baseline.step(&run, connections, measured.as_ref())?;
        run.note(&describe(&row));
        run.result.density.push(row);
        if let Some(measured) = measured {
            let last = step + 1 == steps && options.hold.is_zero();
            report(&mut run, measured, connections, last);
        }
    }
    if !options.hold.is_zero() {
        hold(&mut run, probe, options, &baseline)?;
    }
    run.result.notes.push(
        "Kernel and total memory hold both ends of each connection when server and harness share a machine; the total \
         holds the harness's own memory as well."
            .to_owned(),
    );
    run.fail_on_lost();
    Ok(run.finish())
}

/// All connections are held with their heartbeats, and measured once more.
fn hold(
    run: &mut Run,
    probe: Option<GroupId>,
    options: &DensityOptions,
    baseline: &Baseline,
) -> Result<(), RunError> {
    let measured = if probe.is_some() {
        probe_rooms(run, probe, options, options.hold)?
    } else {
        run.pause(options.hold)?;
        None
    };
    let connections = run.fleet.ready_all();
    let row = baseline.step(run, connections, measured.as_ref())?;
    run.note(&describe(&row));
    run.result.density.push(row);
    if let Some(measured) = measured {
        report(run, measured, connections, true);
    }
    Ok(())
}

/// The last span's latencies are the run's; those of the steps before it stand in the steps.
fn report(run: &mut Run, measured: Measured, connections: u64, last: bool) {
    let latencies = run.result.latencies.len();
    run.report(measured, &format!("beside {connections} connections"));
    if !last {
        run.result.latencies.truncate(latencies);
    }
}

fn probe_rooms(
    run: &mut Run,
    probe: Option<GroupId>,
    options: &DensityOptions,
    duration: Duration,
) -> Result<Option<Measured>, RunError> {
    let Some(probe) = probe else {
        return Ok(None);
    };
    let load = Load {
        rate: options.probe_rate,
        payload_bytes: options.payload,
        mix: Mix::Broadcasts,
        closed_loop: false,
        warmup: run.common().warmup,
        duration,
    };
    run.measure(probe, load, "probing", |_| Ok(())).map(Some)
}

/// `total` in `count` parts, none of them empty, as even as can be.
fn parts(total: u32, count: u32) -> Vec<u32> {
    let bound = |part: u32| (u64::from(total) * u64::from(part) / u64::from(count)) as u32;
    (0..count)
        .map(|part| bound(part + 1) - bound(part))
        .filter(|part| *part > 0)
        .collect()
}

fn describe(row: &DensityStep) -> String {
    let bytes =
        |value: Option<f64>| value.map_or_else(|| "—".to_owned(), |value| format!("{value:.0} B"));
    let p99 = row.probe.as_ref().map_or_else(
        || "—".to_owned(),
        |probe| format!("{:.2} ms", probe.quantiles.p99_us / 1000.0),
    );
    format!(
        "{:>9} connections after {:>4.0} s: server {}, kernel {}, total {} a connection; p99 of the probes {p99}",
        row.connections,
        row.at_s,
        bytes(row.server_bytes_per_connection),
        bytes(row.kernel_bytes_per_connection),
        bytes(row.total_bytes_per_connection),
    )
}

fn facts(options: &DensityOptions, probes: u32) -> Vec<Fact> {
    vec![
        Fact::new("idle connections", options.connections.to_string()),
        Fact::new("members of an idle room", options.room_size.to_string()),
        Fact::new(
            "idle connections of the first step",
            options.first.to_string(),
        ),
        Fact::new("steps", options.steps.to_string()),
        Fact::new(
            "held at the end",
            format!("{} s", options.hold.as_secs_f64()),
        ),
        Fact::new("connections in probe rooms", probes.to_string()),
        Fact::new(
            "members of a probe room",
            options.probe_room_size.to_string(),
        ),
        Fact::new(
            "messages to each probe room",
            format!("{} a second", options.probe_rate),
        ),
        Fact::new("payload of a probe", format!("{} B", options.payload)),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        for (total, count) in [(10, 3), (1_000_000, 7), (2, 5), (1, 1)] {
            let parts = parts(total, count);
            assert_eq!(parts.iter().sum::<u32>(), total);
            assert!(parts.iter().all(|part| *part > 0));
        }
    }
}
