//! What a run found: the one structure that the terminal's table, `--json`, the page and the comparison are made from.
//!
//! What could not be measured is absent (`None`), never zero. Times are microseconds (`_us`) or seconds (`_s`), sizes bytes.

use serde::{Deserialize, Serialize};

use crate::latency::Latency;

/// The version of this structure in `--json`. It grows when a field changes its meaning or goes.
pub const RESULT_VERSION: u32 = 1;

/// A name and its value, in the order in which a person should read them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is, such as `kernel`.
    pub name: String,
    /// Its value, with the unit.
    pub value: String,
}

impl Fact {
    /// A fact.
    #[must_use]
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// One run of one workload against one server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunResult {
    /// [`RESULT_VERSION`].
    pub version: u32,
    /// The subcommand: `echo`, `rooms`, `mixed`, `density`, `churn`, `storm`, `slow`, `capacity` or `fault`.
    pub workload: String,
    /// What the user calls the server (`--label`), else its protocol and address.
    pub server: String,
    /// The command line that made this result.
    pub command: String,
    /// When it began, milliseconds since 1970 (UTC).
    pub started_unix_ms: u64,
    /// Length of the measured part.
    pub measured_s: f64,
    /// The options in force, defaults included.
    pub options: Vec<Fact>,
    /// The machine, its kernel and the limits in force.
    pub machine: Vec<Fact>,
    /// Connections and how they were opened.
    pub connections: Connections,
    /// What was sent and what of it arrived, where the workload sends.
    pub deliveries: Option<Deliveries>,
    /// Latencies, the most important first: each has a name such as `delivery`, `last receiver`, `handshake`.
    pub latencies: Vec<NamedLatency>,
    /// The same over time.
    pub seconds: Vec<Second>,
    /// The server's use of the machine, with `--pid`.
    pub server_use: Option<ServerUse>,
    /// The harness's own use of the machine, and whether it was the limit.
    pub generator: Generator,
    /// A row for each step of `density`.
    pub density: Vec<DensityStep>,
    /// A row for each step of `capacity`.
    pub capacity: Vec<CapacityStep>,
    /// Recovery after `storm` and `fault`.
    pub recovery: Option<Recovery>,
    /// Why the run failed, one sentence each; empty when it passed.
    pub failures: Vec<String>,
    /// What a reader must know to read the numbers, one sentence each.
    pub notes: Vec<String>,
}

/// A latency and what it is of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NamedLatency {
    /// What was measured, such as `delivery`.
    pub name: String,
    /// From when to when, as a phrase.
    pub meaning: String,
    /// The distribution.
    pub latency: Latency,
}

/// Connections of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// How many the user asked for.
    pub asked: u64,
    /// How many were open and joined when the measured part began.
    pub open: u64,
    /// Handshakes begun, those of reconnects included.
    pub attempts: u64,
    /// Attempts that the network refused or that timed out.
    pub failed: u64,
    /// Attempts that the server answered with another status than 101.
    pub refused: u64,
    /// Open connections that the server or the network ended.
    pub lost: u64,
    /// Time from the first attempt until the last connection of the ramp was open and joined.
    pub ramp_s: Option<f64>,
    /// Each kind of failure and how often it was met, the most frequent first.
    pub errors: Vec<ErrorCount>,
}

/// A kind of failure and how often it was met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorCount {
    /// What went wrong, as a phrase.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// What was sent and what of it arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliveries {
    /// Messages sent in the measured part.
    pub published: u64,
    /// Messages that the schedule demanded and that were not sent, as the server took none from their connection.
    pub unsent: u64,
    /// Deliveries that those sent must cause: one for each receiver.
    pub expected: u64,
    /// Deliveries that arrived, each counted once.
    pub received: u64,
    /// Deliveries that never arrived.
    pub missing: u64,
    /// Deliveries that arrived more than once.
    pub repeated: u64,
    /// Deliveries that arrived after a later one of the same sender.
    pub out_of_order: u64,
    /// Deliveries that arrived at a connection that they were not meant for. They count as nothing else.
    #[serde(default)]
    pub astray: u64,
}

/// One second of the measured part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the measured part began; its end.
    pub at_s: f64,
    /// Connections open at its end.
    pub connections: u64,
    /// Messages sent in it.
    pub published: u64,
    /// Deliveries in it.
    pub received: u64,
    /// Latencies of the deliveries in it; absent when there was none.
    pub latency: Option<Quantiles>,
    /// The server's CPU time in it, in cores, with `--pid`.
    pub server_cores: Option<f64>,
    /// The server's resident memory, with `--pid`.
    pub server_resident_bytes: Option<u64>,
}

/// The points of a distribution that people compare. Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The median.
    pub p50_us: f64,
    /// 90 of 100 are at most this.
    pub p90_us: f64,
    /// 99 of 100 are at most this.
    pub p99_us: f64,
    /// 999 of 1,000 are at most this.
    pub p999_us: f64,
    /// The largest.
    pub max_us: f64,
}

/// What the server used in the measured part, its descendants included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerUse {
    /// The process that `--pid` named.
    pub pid: u32,
    /// CPU time in user mode.
    pub user_s: f64,
    /// CPU time in the kernel, on behalf of the server.
    pub system_s: f64,
    /// CPU time over wall time.
    pub cores: f64,
    /// CPU time of both kinds for each delivery; absent where nothing was delivered.
    pub cpu_per_delivery_us: Option<f64>,
    /// The user-mode part of it.
    pub user_per_delivery_us: Option<f64>,
    /// Resident memory at the end.
    pub resident_bytes: u64,
    /// The part of it that no other process shares (`Private_Clean` and `Private_Dirty` of smaps_rollup).
    pub private_bytes: Option<u64>,
}

/// The harness's own part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Generator {
    /// Threads, each with a ring.
    pub threads: u64,
    /// CPU time of all threads over wall time.
    pub cores: f64,
    /// The largest share of its wall time that a core given to the harness was busy with it, 0 to 1.
    pub busiest_core: f64,
    /// How late messages left, counted from the time at which they should have.
    pub lateness: Option<Latency>,
    /// Why the harness, not the server, was the limit; absent when it was not.
    pub limit: Option<String>,
}

/// One step of `density`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DensityStep {
    /// Connections open and joined.
    pub connections: u64,
    /// Seconds since the first connection was begun.
    pub at_s: f64,
    /// The server's private memory, with `--pid`.
    pub server_bytes: Option<u64>,
    /// The growth of the server's private memory since before the first connection, for each connection.
    pub server_bytes_per_connection: Option<f64>,
    /// The growth of the kernel's memory for each connection, where it can be read. On one machine it holds both ends.
    pub kernel_bytes_per_connection: Option<f64>,
    /// The fall of available memory for each connection, the harness's own included where it runs on the same machine.
    pub total_bytes_per_connection: Option<f64>,
    /// The harness's own private memory for each connection.
    pub generator_bytes_per_connection: Option<f64>,
    /// Latency of the probe rooms at this step.
    pub probe: Option<Latency>,
    /// The server's CPU time over wall time while nothing but heartbeats and probes ran, with `--pid`.
    pub server_cores: Option<f64>,
}

/// One step of `capacity`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CapacityStep {
    /// Deliveries a second that the schedule demanded.
    pub offered_per_s: f64,
    /// Deliveries a second that arrived.
    pub received_per_s: f64,
    /// Latency of the deliveries.
    pub latency: Option<Latency>,
    /// The server's CPU time over wall time, with `--pid`.
    pub server_cores: Option<f64>,
    /// CPU time for each delivery, with `--pid`.
    pub cpu_per_delivery_us: Option<f64>,
    /// Whether p99 kept within the bound and nothing was lost.
    pub passed: bool,
    /// Why it did not pass, or that the harness was the limit.
    pub reason: Option<String>,
}

/// How connections came back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Recovery {
    /// Connections that were dropped.
    pub dropped: u64,
    /// Those that were back and joined at the end.
    pub recovered: u64,
    /// From the drop until the first connection was back, joined and had received a message.
    pub first_s: Option<f64>,
    /// The same of the last one.
    pub last_s: Option<f64>,
    /// Attempts that failed on the way.
    pub failed_attempts: u64,
    /// The times of all, from the drop.
    pub times: Option<Latency>,
    /// Messages sent while a receiver was away that it was sent on its return, where the protocol can.
    pub messages_recovered: Option<u64>,
}
