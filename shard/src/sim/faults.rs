//! What goes wrong, and how often.

use super::random::Random;

/// How often each fault strikes, in cases of 1000, and the sizes of the connections' buffers.
///
/// A test takes [`Faults::none`] or [`Faults::from_seed`] and sets single fields where it has to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// A piece of received bytes is shorter than it could be, down to 1 byte.
    pub split_per_mille: u16,
    /// A multishot receive ends for no reason (`Stopped`).
    pub receive_end_per_mille: u16,
    /// A multishot receive ends with `NoBuffers` although some are free.
    pub no_buffers_per_mille: u16,
    /// A send completes with fewer bytes than asked for.
    pub short_send_per_mille: u16,
    /// A send fails with ECONNRESET, EPIPE or ETIMEDOUT, and its connection is broken.
    pub send_error_per_mille: u16,
    /// A connection breaks (RST seen by both ends) when bytes are about to move over it.
    pub reset_per_mille: u16,
    /// A reset loses bytes that were under way.
    pub loss_per_mille: u16,
    /// A poll leaves off in the middle of what was queued, as a kernel that is short of memory does; the rest goes with the next.
    pub cut_short_per_mille: u16,
    /// A connection rests for a poll, or a completion is reported later than it could be.
    pub delay_per_mille: u16,
    /// How many polls late a completion is at most. At least 1.
    pub delay_polls_max: u64,
    /// A multishot accept ends with EMFILE or ECONNABORTED; the connections stay in the queue.
    pub accept_error_per_mille: u16,
    /// The completion queue is full in a poll: multishots end that would report beyond its first few entries.
    pub queue_full_per_mille: u16,
    /// Smallest buffer of one direction of a connection, in bytes. At least 1.
    pub pipe_bytes_min: usize,
    /// Largest buffer of one direction of a connection, in bytes.
    pub pipe_bytes_max: usize,
}

impl Faults {
    /// A perfect network with buffers of 64 KiB.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            split_per_mille: 0,
            receive_end_per_mille: 0,
            no_buffers_per_mille: 0,
            short_send_per_mille: 0,
            send_error_per_mille: 0,
            reset_per_mille: 0,
            loss_per_mille: 0,
            cut_short_per_mille: 0,
            delay_per_mille: 0,
            delay_polls_max: 1,
            accept_error_per_mille: 0,
            queue_full_per_mille: 0,
            pipe_bytes_min: 65_536,
            pipe_bytes_max: 65_536,
        }
    }

    /// A network that is bad in its own way. Each seed leaves out about half of the faults, because some mistakes
    /// only show while nothing else goes wrong.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        // Not the numbers that a network of the same seed draws.
        let mut random = Random::new(seed).fork();
        let mut rate = |most: usize| match random.coin() {
            true => random.between(1, most) as u16,
            false => 0,
        };
        let mut faults = Self {
            split_per_mille: rate(1000),
            receive_end_per_mille: rate(200),
            no_buffers_per_mille: rate(100),
            short_send_per_mille: rate(300),
            send_error_per_mille: rate(5),
            reset_per_mille: rate(5),
            loss_per_mille: rate(1000),
            delay_per_mille: rate(300),
            delay_polls_max: 1,
            accept_error_per_mille: rate(200),
            queue_full_per_mille: rate(100),
            cut_short_per_mille: rate(100),
            ..Self::none()
        };
        faults.delay_polls_max = random.between(1, 8) as u64;
        faults.pipe_bytes_max = random.magnitude_between(64, 262_144);
        faults.pipe_bytes_min = random.magnitude_between(16, faults.pipe_bytes_max);
        faults
    }

    /// The same without anything that breaks a connection: every byte arrives.
    #[must_use]
    pub const fn without_resets(self) -> Self {
        Self {
            send_error_per_mille: 0,
            reset_per_mille: 0,
            ..self
        }
    }
}

/// How often each fault has struck so far, and what else the network has done that a perfect one would not.
///
/// A test that is about a fault asserts that it was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Struck {
    pub(super) split_receives: u64,
    pub(super) ended_receives: u64,
    pub(super) buffers_withheld: u64,
    pub(super) buffers_used_up: u64,
    pub(super) short_sends: u64,
    pub(super) full_sockets: u64,
    pub(super) failed_sends: u64,
    pub(super) broken_connections: u64,
    pub(super) lost_bytes: u64,
    pub(super) late_completions: u64,
    pub(super) accept_errors: u64,
    pub(super) full_tables: u64,
    pub(super) full_queues: u64,
    pub(super) cut_short_polls: u64,
    pub(super) unfinished_sends: u64,
}

impl Struck {
    /// All of it, by name.
    #[must_use]
    pub const fn readings(&self) -> [(&'static str, u64); 15] {
        [
            ("split receives", self.split_receives),
            ("ended receives", self.ended_receives),
            ("buffers withheld", self.buffers_withheld),
            ("buffers used up", self.buffers_used_up),
            ("short sends", self.short_sends),
            ("full sockets", self.full_sockets),
            ("failed sends", self.failed_sends),
            ("broken connections", self.broken_connections),
            ("lost bytes", self.lost_bytes),
            ("late completions", self.late_completions),
            ("accept errors", self.accept_errors),
            ("full tables", self.full_tables),
            ("full completion queues", self.full_queues),
            ("polls cut short", self.cut_short_polls),
            ("sends that did not leave at once", self.unfinished_sends),
        ]
    }
}
