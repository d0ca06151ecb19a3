//! What this kernel offers, for the start-up banner and `shardcast doctor`.

use std::fmt;

use io_uring::{IoUring, Probe, opcode};

use super::buffers::BufferRing;
use super::setup;
use crate::error::FatalError;
use crate::limits::Limits;

/// The parts of io_uring that the driver uses, as this kernel and this process's limits have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The kernel's release, such as `6.18.1`.
    pub kernel: String,
    /// Work is deferred until the shard asks for it (`DEFER_TASKRUN` and `SINGLE_ISSUER`).
    pub deferred_work: bool,
    /// Sockets live in the ring's own table, and the kernel picks the slot.
    pub direct_descriptors: bool,
    /// Receive buffers are shared by all connections through a ring.
    pub buffer_ring: bool,
    /// One submission receives until further notice.
    pub multishot_receive: bool,
    /// One submission accepts until further notice. Without it connections are accepted one by one.
    pub multishot_accept: bool,
    /// A shard wakes another through its ring. Without it through an eventfd, which takes longer.
    pub message_ring: bool,
    /// The most direct descriptors that one ring's table may hold.
    pub table_size_max: u32,
}

/// One line of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is called in the kernel's documentation.
    pub name: &'static str,
    /// The kernel that brought it.
    pub since: &'static str,
    /// Whether this one has it.
    pub present: bool,
    /// Whether a shard cannot run without it.
    pub required: bool,
}

impl Capabilities {
    /// Asks the kernel: it makes a small ring and tries what can be tried without a socket.
    ///
    /// # Errors
    /// [`FatalError::RingSetup`] if io_uring is refused altogether, with what the operator can do.
    pub fn probe() -> Result<Self, FatalError> {
        let ring = IoUring::new(8).map_err(|source| setup::refused("io_uring_setup", source))?;
        let mut probe = Probe::new();
        ring.submitter()
            .register_probe(&mut probe)
            .map_err(|source| setup::refused("asking for the operations", source))?;
        let limits = Limits {
            submissions_max: 16,
            completions_max: 64,
            ..Limits::default()
        };
        let mut buffers = BufferRing::new(8, 512)
            .map_err(|source| setup::refused("mapping receive buffers", source))?;
        // SAFETY: nothing is ever submitted on this ring.
        let registered = unsafe { buffers.register(&ring) };
        Ok(Self {
            kernel: kernel_release(),
            deferred_work: setup::ring_create(&limits).is_ok(),
            direct_descriptors: ring.submitter().register_files_sparse(1).is_ok(),
            buffer_ring: registered.is_ok(),
            // Multishot is a flag of an older operation, which no probe shows; these two came with the same kernels.
            multishot_receive: probe.is_supported(opcode::SendZc::CODE),
            multishot_accept: probe.is_supported(opcode::Socket::CODE),
            message_ring: probe.is_supported(opcode::MsgRingData::CODE),
            table_size_max: setup::table_size_max(),
        })
    }

    /// Each capability with its kernel, those that a shard cannot do without first.
    #[must_use]
    pub const fn table(&self) -> [Capability; 6] {
        const fn row(
            name: &'static str,
            since: &'static str,
            present: bool,
            required: bool,
        ) -> Capability {
            Capability {
                name,
                since,
                present,
                required,
            }
        }
        [
            row("deferred task work", "6.1", self.deferred_work, true),
            row("multishot receive", "6.0", self.multishot_receive, true),
            row("direct descriptors", "5.19", self.direct_descriptors, true),
            row("buffer ring", "5.19", self.buffer_ring, true),
            row("multishot accept", "5.19", self.multishot_accept, false),
            row("ring messages", "5.18", self.message_ring, false),
        ]
    }

    /// Whether a shard can run here.
    #[must_use]
    pub fn is_sufficient(&self) -> bool {
        self.table()
            .iter()
            .all(|capability| capability.present || !capability.required)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "io_uring on Linux {}, up to {} connections a shard",
            self.kernel, self.table_size_max
        )?;
        for capability in self.table() {
            let Capability { name, since, .. } = capability;
            match (capability.present, capability.required) {
                (true, _) => write!(f, "\n  {name}: yes")?,
                (false, true) => write!(f, "\n  {name}: missing, needs Linux {since}")?,
                (false, false) => write!(f, "\n  {name}: no, slower without (Linux {since})")?,
            }
        }
        Ok(())
    }
}

fn kernel_release() -> String {
    // Without /proc the report says so; nothing depends on the number.
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_names_what_is_missing_and_its_kernel() {
        let capabilities = Capabilities {
            kernel: "6.0.1".to_owned(),
            deferred_work: false,
            direct_descriptors: true,
            buffer_ring: true,
            multishot_receive: true,
            multishot_accept: false,
            message_ring: true,
            table_size_max: 1024,
        };
        assert!(!capabilities.is_sufficient());
        assert_eq!(
            capabilities.to_string(),
            "io_uring on Linux 6.0.1, up to 1024 connections a shard\n  \
             deferred task work: missing, needs Linux 6.1\n  \
             multishot receive: yes\n  \
             direct descriptors: yes\n  \
             buffer ring: yes\n  \
             multishot accept: no, slower without (Linux 5.19)\n  \
             ring messages: yes"
        );
        let sufficient = Capabilities {
            deferred_work: true,
            ..capabilities
        };
        assert!(sufficient.is_sufficient(), "one-shot accept will do");
    }
}
