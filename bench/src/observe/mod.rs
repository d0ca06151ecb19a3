//! What the harness reads of the server under test and of the machine that both run on.
//!
//! * [`ProcessTree`]: processor time and memory of the server, its children included.
//! * [`KernelMemory`]: where the memory went that no process owns; sockets are most of it.
//! * [`Machine`] and [`CpuTimes`]: what the numbers were measured on, and whether others disturbed them.
//!
//! Everything is read from `/proc` and `/sys` and may be written into a report. What cannot be read is `None`, never 0,
//! and a sum of which a part cannot be read is `None` too.

mod clock;
mod cpu_times;
mod kernel;
mod machine;
mod process;

pub use cpu_times::{CoreShares, CoreTimes, CpuShares, CpuTimes, MachineUse};
pub use kernel::{KernelGrowth, KernelMemory, SlabCache, SlabGrowth, SocketCounts};
pub use machine::{CgroupLimits, Machine, ResourceLimit};
pub use process::{CpuUse, ProcessTree, ProcessUsage};

/// Why a reading failed. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// No process has this number.
    #[error(
        "no process {pid}: give the pid of the server while it runs (`pgrep -a NAME` lists them); a process of \
         another user is also invisible where /proc is mounted with hidepid"
    )]
    NoSuchProcess {
        /// The number that was asked for.
        pid: u32,
    },
    /// The process was there when its observation began, and is not any more.
    #[error("process {pid} has ended; see its own output for the reason")]
    Ended {
        /// The process that has ended.
        pid: u32,
    },
    /// A file that every Linux has could not be read or understood.
    #[error("cannot read {file}: {reason}; is /proc mounted here?")]
    Unreadable {
        /// Path of the file.
        file: String,
        /// What the system, or the parser, said.
        reason: String,
    },
}
