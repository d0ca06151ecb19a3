//! The command line.

use clap::{Args, Parser, Subcommand};

use crate::compare::CompareOptions;
use crate::options::Common;
use crate::run::{Finished, RunError};
use crate::workload::capacity::{self, CapacityOptions};
use crate::workload::churn::{self, ChurnOptions};
use crate::workload::density::{self, DensityOptions};
use crate::workload::echo::{self, EchoOptions};
use crate::workload::fault::{self, FaultOptions};
use crate::workload::mixed::{self, MixedOptions};
use crate::workload::slow::{self, SlowOptions};
use crate::workload::storm::{self, StormOptions};
use crate::workload::{RoomOptions, rooms};

/// The latency and density harness of Shardcast: an open-loop load generator for WebSocket servers that records the latency
/// of every receiver.
///
/// Ends with 0 when the run passed, 1 when deliveries went wrong or connections were lost, 2 when it could not run.
#[derive(Parser, Debug)]
#[command(name = "shardcast-bench", version, max_term_width = 110)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

/// What the harness can do.
#[derive(Subcommand, Clone, Debug)]
pub enum Task {
    /// One workload against one server.
    #[command(flatten)]
    Workload(Workload),
    /// The same workloads against many servers in turn: prints ratios with their spread.
    Compare(CompareOptions),
}

/// A workload with the options of all workloads.
#[derive(Args, Clone, Debug)]
pub struct With<O: Args> {
    /// Options of all workloads.
    #[command(flatten)]
    pub common: Common,
    /// Its own.
    #[command(flatten, next_help_heading = "Workload")]
    pub options: O,
}

/// What connections do.
#[derive(Subcommand, Clone, Debug)]
pub enum Workload {
    /// Every message comes back to its sender.
    Echo(With<EchoOptions>),
    /// Rooms whose publishers send at a steady rate.
    Rooms(With<RoomOptions>),
    /// The common chat benchmark: half broadcasts to rooms of 100, half direct messages, 1,024 bytes, 10 a second a connection.
    Mixed(With<MixedOptions>),
    /// Idle connections by the step: memory for each, and the latency of busy rooms beside them.
    Density(With<DensityOptions>),
    /// Connections come and go beside rooms that stay.
    Churn(With<ChurnOptions>),
    /// All connections of many rooms drop at once and return.
    Storm(With<StormOptions>),
    /// Some receivers stop reading.
    Slow(With<SlowOptions>),
    /// Raises the rate until p99 passes a bound, and finds the knee.
    Capacity(With<CapacityOptions>),
    /// The server, or a part of it, fails while rooms are busy.
    Fault(With<FaultOptions>),
}

impl Workload {
    /// The options of all workloads.
    #[must_use]
    pub const fn common(&self) -> &Common {
        match self {
            Self::Echo(with) => &with.common,
            Self::Rooms(with) => &with.common,
            Self::Mixed(with) => &with.common,
            Self::Density(with) => &with.common,
            Self::Churn(with) => &with.common,
            Self::Storm(with) => &with.common,
            Self::Slow(with) => &with.common,
            Self::Capacity(with) => &with.common,
            Self::Fault(with) => &with.common,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// The run could not be made.
    pub fn run(&self) -> Result<Finished, RunError> {
        match self {
            Self::Echo(with) => echo::run(&with.common, &with.options),
            Self::Rooms(with) => rooms::run(&with.common, &with.options),
            Self::Mixed(with) => mixed::run(&with.common, &with.options),
            Self::Density(with) => density::run(&with.common, &with.options),
            Self::Churn(with) => churn::run(&with.common, &with.options),
            Self::Storm(with) => storm::run(&with.common, &with.options),
            Self::Slow(with) => slow::run(&with.common, &with.options),
            Self::Capacity(with) => capacity::run(&with.common, &with.options),
            Self::Fault(with) => fault::run(&with.common, &with.options),
        }
    }
}
