//! Made-up results of every kind, for the tests of reports.

use std::ops::Range;

use crate::latency::{self, Latency};
use crate::result::{
    CapacityStep, Connections, Deliveries, DensityStep, ErrorCount, Fact, Generator, NamedLatency,
    RESULT_VERSION, Recovery, RunResult, Second, ServerUse,
};

/// A latency of `count` values around `median_us` with a long tail, the same each time.
pub(in crate::report) fn latency(count: u64, median_us: f64) -> Latency {
    let mut recording = latency::recording();
    for place in 0..count {
        let quantile = (place as f64 + 0.5) / count as f64;
        let value_us = median_us * (0.6 + 0.4 * (0.5 / (1.0 - quantile)).powf(0.55));
        latency::record(&mut recording, (value_us * 1000.0) as u64);
    }
    Latency::of(&recording).unwrap_or_default()
}

/// A latency of values spread evenly over a range of microseconds.
fn evenly(range_us: Range<u64>) -> Latency {
    let mut recording = latency::recording();
    for value_us in range_us.step_by(1_000) {
        latency::record(&mut recording, value_us * 1_000);
    }
    Latency::of(&recording).unwrap_or_default()
}

/// The least that a run can have found.
pub(in crate::report) fn bare() -> RunResult {
    RunResult {
        version: RESULT_VERSION,
        workload: "echo".to_owned(),
        server: "plain 127.0.0.1:8080".to_owned(),
        command: "shardcast-bench echo".to_owned(),
        started_unix_ms: 1_767_225_600_000,
        measured_s: 10.0,
        connections: Connections {
            asked: 100,
            open: 100,
            attempts: 100,
            ..Connections::default()
        },
        generator: Generator {
            threads: 1,
            cores: 0.31,
            busiest_core: 0.31,
            ..Generator::default()
        },
        ..RunResult::default()
    }
}

/// A run of `rooms` that passed, with everything measured.
pub(in crate::report) fn rooms(server: &str) -> RunResult {
    // Servers differ in speed by their name, so that their lines differ too.
    let slowness = 1.0 + ((server.len() + 5) % 7) as f64 * 0.35;
    RunResult {
        workload: "rooms".to_owned(),
        server: server.to_owned(),
        command: "shardcast-bench rooms --connections 10000 --room-size 100 --rate 1 --duration 60 --pid 4242 --html rooms.html".to_owned(),
        measured_s: 60.0,
        options: facts(&[
            ("target", "127.0.0.1:8080"),
            ("protocol", "shardcast"),
            ("room size", "100"),
            ("rate", "1/s a room"),
            ("payload", "1,024 B"),
            ("duration", "60 s after 5 s of warm-up"),
        ]),
        machine: machine(),
        connections: Connections {
            asked: 10_000,
            open: 10_000,
            attempts: 10_003,
            failed: 3,
            ramp_s: Some(2.1),
            errors: vec![ErrorCount {
                what: "connection reset by peer".to_owned(),
                count: 3,
            }],
            ..Connections::default()
        },
        deliveries: Some(Deliveries {
            published: 6_000,
            expected: 600_000,
            received: 600_000,
            ..Deliveries::default()
        }),
        latencies: vec![
            named("delivery", "from the time at which the message should have left to its arrival at each receiver", latency(60_000, 182.0 * slowness)),
            named("last receiver", "the same, to the last receiver of the broadcast", latency(6_000, 640.0 * slowness)),
        ],
        seconds: (1..=60).map(|at| second(at, slowness)).collect(),
        server_use: Some(ServerUse {
            pid: 4242,
            user_s: 10.4,
            system_s: 15.1,
            cores: 0.425 * slowness,
            cpu_per_delivery_us: Some(1.25 * slowness),
            user_per_delivery_us: Some(0.41 * slowness),
            resident_bytes: 49_200_000,
            private_bytes: Some(44_000_000),
        }),
        generator: Generator {
            threads: 1,
            cores: 0.38,
            busiest_core: 0.38,
            lateness: Some(latency(6_000, 12.0)),
            limit: None,
        },
        notes: vec!["Loopback has no network.".to_owned()],
        ..bare()
    }
}

/// A second of such a run.
fn second(at: u32, slowness: f64) -> Second {
    let wave = 1.0 + 0.25 * (f64::from(at) / 5.0).sin();
    let latency = latency(2_000, 180.0 * slowness * wave);
    Second {
        at_s: f64::from(at),
        connections: 10_000,
        published: 100,
        received: (10_000.0 * (1.0 + 0.02 * (f64::from(at) / 3.0).cos())) as u64,
        // One second in which nothing arrived, so that a line has a gap.
        latency: (at != 31).then_some(latency.quantiles),
        server_cores: Some(0.42 * slowness * wave.sqrt()),
        server_resident_bytes: Some(48_000_000 + u64::from(at) * 20_000),
    }
}

/// A run that failed, whose harness was the limit, and whose server says hostile things.
pub(in crate::report) fn failed() -> RunResult {
    let mut result = rooms("<script>alert('x')</script> & \"friends\"");
    result.command = "shardcast-bench rooms --label '<script>'".to_owned();
    result.deliveries = Some(Deliveries {
        published: 6_000,
        expected: 600_000,
        received: 599_988,
        missing: 12,
        ..Deliveries::default()
    });
    result.connections.errors = vec![ErrorCount {
        what: "the server said \u{1b}[2J<b>no</b>".to_owned(),
        count: 3,
    }];
    result.generator.busiest_core = 0.995;
    result.generator.limit =
        Some("its core was busy 99.5% of the time, so latencies hold its own waiting.".to_owned());
    result.failures = vec!["12 deliveries never arrived.".to_owned()];
    result
}

/// A run of `density` to a million connections.
pub(in crate::report) fn density() -> RunResult {
    let step = |place: u64| DensityStep {
        connections: place * 125_000,
        at_s: place as f64 * 6.25,
        server_bytes: Some(30_000_000 + place * 125_000 * 190),
        server_bytes_per_connection: Some(190.0 + 900.0 / place as f64),
        kernel_bytes_per_connection: Some(6_900.0 + 300.0 / place as f64),
        total_bytes_per_connection: Some(7_800.0 + 900.0 / place as f64),
        generator_bytes_per_connection: Some(120.0),
        probe: Some(latency(2_000, 150.0 + place as f64 * 12.0)),
        server_cores: Some(0.02 * place as f64),
    };
    RunResult {
        workload: "density".to_owned(),
        server: "shardcast".to_owned(),
        command: "shardcast-bench density --connections 1000000 --pid 4242".to_owned(),
        machine: machine(),
        connections: Connections {
            asked: 1_000_000,
            open: 1_000_000,
            attempts: 1_000_000,
            ramp_s: Some(50.0),
            ..Connections::default()
        },
        density: (1..=8).map(step).collect(),
        ..bare()
    }
}

/// The same without `--pid`, and without the kernel's memory in its first step.
pub(in crate::report) fn density_without_pid() -> RunResult {
    let mut result = density();
    for step in &mut result.density {
        step.server_bytes = None;
        step.server_bytes_per_connection = None;
        step.server_cores = None;
    }
    result.density.remove(0);
    result.density[0].kernel_bytes_per_connection = None;
    result
}

/// A run of `capacity` that meets its knee.
pub(in crate::report) fn capacity(server: &str) -> RunResult {
    let slowness = 1.0 + ((server.len() + 5) % 7) as f64 * 0.2;
    let step = |place: i32| {
        let offered = 20_000.0 * 1.35_f64.powi(place);
        let load = offered * slowness / 330_000.0;
        let passed = load < 0.95;
        CapacityStep {
            offered_per_s: offered,
            received_per_s: if passed {
                offered
            } else {
                313_000.0 / slowness
            },
            latency: Some(latency(2_000, 150.0 / (1.02 - load).max(0.004))),
            server_cores: Some(load.min(1.0)),
            cpu_per_delivery_us: Some(1.1 + 1.5 / f64::from(place + 1)),
            passed,
            reason: (!passed).then(|| "p99 exceeded 50 ms".to_owned()),
        }
    };
    RunResult {
        workload: "capacity".to_owned(),
        server: server.to_owned(),
        capacity: (0..=10).map(step).collect(),
        machine: machine(),
        ..bare()
    }
}

/// A run of `storm`: everyone drops at once and returns.
pub(in crate::report) fn storm() -> RunResult {
    let second = |at: u32| Second {
        at_s: f64::from(at),
        connections: match at {
            ..10 => 50_000,
            10 => 0,
            later => (u64::from(later - 10) * 9_000).min(50_000),
        },
        published: 50,
        received: if at == 10 { 0 } else { 5_000 },
        latency: (at != 10).then(|| latency(1_000, 210.0).quantiles),
        ..Second::default()
    };
    RunResult {
        workload: "storm".to_owned(),
        server: "shardcast".to_owned(),
        seconds: (1..=30).map(second).collect(),
        recovery: Some(Recovery {
            dropped: 50_000,
            recovered: 49_990,
            first_s: Some(0.0031),
            last_s: Some(5.62),
            failed_attempts: 17,
            times: Some(evenly(3_100..5_620_000)),
            messages_recovered: None,
        }),
        ..bare()
    }
}

/// One of each kind.
pub(in crate::report) fn all() -> Vec<RunResult> {
    vec![
        bare(),
        rooms("shardcast"),
        failed(),
        density(),
        density_without_pid(),
        capacity("shardcast"),
        storm(),
    ]
}

fn named(name: &str, meaning: &str, latency: Latency) -> NamedLatency {
    NamedLatency {
        name: name.to_owned(),
        meaning: meaning.to_owned(),
        latency,
    }
}

fn machine() -> Vec<Fact> {
    facts(&[
        ("processor", "AMD EPYC 7B13, 2 of its cores"),
        ("memory", "24 GiB"),
        ("kernel", "Linux 6.12.9 x86_64"),
        ("descriptors", "20,000 at most a process"),
        ("net.ipv4.tcp_rmem", "4096 131072 6291456"),
    ])
}

fn facts(pairs: &[(&str, &str)]) -> Vec<Fact> {
    pairs
        .iter()
        .map(|(name, value)| Fact::new(*name, *value))
        .collect()
}
