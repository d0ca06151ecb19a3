//! The workloads: what connections do, and what is measured of it. One file each.

pub mod capacity;
pub mod churn;
pub mod density;
pub mod echo;
pub mod fault;
pub mod mixed;
pub mod rooms;
pub mod slow;
pub mod storm;

use clap::Args;

use crate::generator::{GroupId, GroupPlan, Mix};
use crate::layout::Group;
use crate::options::{self, Common};
use crate::result::Fact;
use crate::run::{Load, Run, RunError};
use crate::stamp::STAMP_SIZE;

/// Rooms in which some members publish: the measured part of most workloads.
#[derive(Args, Clone, Debug)]
pub struct RoomOptions {
    /// Members of all rooms together.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub connections: u32,
    /// Members of a room.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub room_size: u32,
    /// Messages a second to each room.
    #[arg(long, value_name = "PER_SECOND", default_value = "4", value_parser = options::rate)]
    pub rate: f64,
    /// Members of a room that publish, each at its share of the rate.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub publishers: u32,
    /// Bytes of a message's payload.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = payload)]
    pub payload: usize,
}

/// Windows and counts are kept for each pair of publisher and receiver: more of them than this are refused.
const PAIRS_MAX: u64 = 200_000_000;

impl RoomOptions {
    fn facts(&self) -> Vec<Fact> {
        vec![
            Fact::new("connections", self.connections.to_string()),
            Fact::new("members of a room", self.room_size.to_string()),
            Fact::new("messages to each room", format!("{} a second", self.rate)),
            Fact::new("publishers in each room", self.publishers.to_string()),
            Fact::new("payload", format!("{} B", self.payload)),
        ]
    }

    fn group(&self, run: &Run, name: &str) -> Result<Group, RunError> {
        if !run.common().protocol.has_rooms() {
            return Err(RunError::Options(
                "the protocol `echo` has no rooms: use the workload `echo`, or another --protocol"
                    .to_owned(),
            ));
        }
        let publishers = self.publishers.min(self.room_size);
        if u64::from(publishers) * u64::from(self.connections) > PAIRS_MAX {
            return Err(RunError::Options(format!(
                "{publishers} publishers a room and {} connections are more than {PAIRS_MAX} pairs to keep account of: \
                 lower --publishers",
                self.connections
            )));
        }
        Ok(run.rooms(name, self.connections, self.room_size, publishers))
    }

    /// The load for the span that the common options name.
    fn load(&self, common: &Common) -> Load {
        let publishers = self.publishers.min(self.room_size);
        Load {
            rate: self.rate / f64::from(publishers),
            payload_bytes: self.payload,
            mix: Mix::Broadcasts,
            closed_loop: false,
            warmup: common.warmup,
            duration: common.duration,
        }
    }
}

/// Opens rooms that nothing is expected to happen to.
fn open_steady(run: &mut Run, group: Group, direct: bool) -> Result<GroupId, RunError> {
    let ramp_per_s = run.common().ramp;
    let plan = GroupPlan {
        group,
        direct,
        returns: false,
        recovers: false,
        ramp_per_s,
    };
    run.open(plan, "connecting")
}

/// Reads the size of a payload.
///
/// # Errors
/// Not a number, too small for a stamp, or above a mebibyte.
fn payload(text: &str) -> Result<usize, String> {
    let wrong = || {
        format!(
            "write a number of bytes from {STAMP_SIZE} (what the harness needs to know a message by) to 1048576"
        )
    };
    let bytes: usize = text.parse().map_err(|_| wrong())?;
    if (STAMP_SIZE..=1 << 20).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(wrong())
    }
}
