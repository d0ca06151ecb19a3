//! The one seam to the kernel: what a shard asks of its sockets and what it is told back.
//!
//! Two parts implement [`Driver`]: `ring` on io_uring, and `sim` on a seed. A shard
//! cannot tell them apart, so what the simulation proves holds for the loop that runs.
//!
//! Operations are requests: a method queues, [`Driver::poll`] submits all that was queued and
//! reaps what has completed. Nothing here waits.

use bytes::Bytes;
use std::net::IpAddr;

use crate::limits::SLOT_BITS;

/// Number of a shard within the process, from 0.
pub type ShardId = u16;

/// Index of a connection in its shard's slab, which is also its index in the ring's table of direct
/// descriptors. Below `1 << SLOT_BITS`.
pub type Slot = u32;

/// A connection's name on its shard: the slot and how often the slot was used before.
///
/// A completion or a mail for a connection that is gone carries a generation that no longer
/// fits, and is recognised by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey {
    /// Where the connection lives.
    pub slot: Slot,
    /// Which use of the slot, modulo `1 << GENERATION_BITS`.
    pub generation: u32,
}

/// Bits of a generation inside an operation's key.
pub const GENERATION_BITS: u32 = 20;

impl ConnectionKey {
    /// A key; both parts are masked to their widths.
    #[must_use]
    pub const fn new(slot: Slot, generation: u32) -> Self {
        Self {
            slot: slot & ((1 << SLOT_BITS) - 1),
            generation: generation & ((1 << GENERATION_BITS) - 1),
        }
    }

    /// The key of the slot's next use.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::new(self.slot, self.generation.wrapping_add(1))
    }
}

/// The time of one pass of the loop. Read once a pass, so everything in a pass happens at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Microseconds since an arbitrary start; never goes back.
    pub monotonic_us: u64,
    /// Milliseconds since 1970 (UTC); may be set back by the operator.
    pub unix_ms: u64,
}

impl Clock {
    /// Milliseconds since an arbitrary start; never goes back.
    #[must_use]
    pub const fn monotonic_ms(self) -> u64 {
        self.monotonic_us / 1000
    }
}

/// Number of a receive buffer that the driver has lent to the shard.
pub type BufferId = u16;

/// Which direction [`Driver::shutdown`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// No more is sent; the peer sees the end of the stream.
    Write,
    /// Both directions: whatever is in flight completes at once.
    Both,
}

/// Why a connection is no longer being received from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveEnd {
    /// The peer ended its stream (FIN).
    EndOfStream,
    /// Every receive buffer was in use (ENOBUFS). Give buffers back, then arm again.
    NoBuffers,
    /// [`Driver::receive_stop`] took effect, or the kernel ended the multishot (a full completion
    /// queue does). Nothing was lost; arm again when data is wanted.
    Stopped,
    /// The connection broke; the error number of the kernel (ECONNRESET, ETIMEDOUT, …).
    Failed(i32),
}

/// What a driver has met since its start, as far as operators want to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverCounts {
    /// System calls to submit or reap.
    pub enters: u64,
    /// Times that completions found no room in their queue.
    pub overflows: u64,
    /// Submissions that the kernel put off.
    pub busy: u64,
    /// Entries that found no room in the submission queue.
    pub deferred: u64,
    /// Wakes that found the shard down, or its ring unable to take the message.
    pub wakes_failed: u64,
}

/// What the driver reports. Every operation that was asked for on a connection is answered, also
/// when the connection is shut down: only then may its slot be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// A connection was accepted into `slot`. The shard gives it its generation.
    Accepted {
        /// Index in the table of direct descriptors, chosen by the kernel.
        slot: Slot,
        /// The peer's address where the driver accepts with addresses (see [`Driver::accept_start`]).
        peer: Option<IpAddr>,
    },
    /// Accepting has stopped: [`Driver::accept_stop`] (error `None`), or an error number such as ENFILE
    /// (table full) or EMFILE. Start again when the cause is gone.
    AcceptEnded {
        /// The kernel's error number.
        error: Option<i32>,
    },
    /// A connect has ended: [`RingDriver::connect`](crate::ring::RingDriver::connect), which is no part of [`Driver`],
    /// so a shard is never told this. After an error the slot is still to be closed.
    Connected {
        /// The connection.
        key: ConnectionKey,
        /// The kernel's error number where there is one: ECONNREFUSED, ETIMEDOUT, EADDRNOTAVAIL (no port is left between
        /// the two addresses), ECANCELED (stopped), …
        result: Result<(), i32>,
    },
    /// Bytes arrived in a buffer. The shard gives the buffer back with [`Driver::buffer_release`]
    /// exactly once, in the same pass, also when the key is stale.
    Received {
        /// The connection.
        key: ConnectionKey,
        /// The buffer that holds them.
        buffer: BufferId,
        /// How many, at least 1.
        length: usize,
    },
    /// Receiving has ended and must be started again to go on. Exactly one for each
    /// [`Driver::receive_start`], after all of its `Received`.
    ReceiveEnded {
        /// The connection.
        key: ConnectionKey,
        /// Why.
        end: ReceiveEnd,
    },
    /// The send in flight has ended: how many bytes of the payload left (fewer than asked for is possible), or
    /// the kernel's error number.
    Sent {
        /// The connection.
        key: ConnectionKey,
        /// Bytes sent, or the error number.
        result: Result<usize, i32>,
    },
    /// A [`Driver::send_now`] that did not leave as a whole.
    Unsent {
        /// The connection.
        key: ConnectionKey,
        /// What did not leave: the end of the payload, or all of it.
        rest: Bytes,
        /// The kernel's error number where the connection broke. Without one the peer does not take more at the moment.
        error: Option<i32>,
    },
    /// [`Driver::shutdown`] has been carried out (errors are of no consequence: the peer was first).
    ShutDown {
        /// The connection.
        key: ConnectionKey,
    },
    /// [`Driver::close`] has been carried out: the slot is free and may come back in `Accepted` at any time.
    Closed {
        /// The connection.
        key: ConnectionKey,
    },
    /// Another thread woke this shard.
    Woken,
    /// The deadline of [`Driver::wake_at`] has passed.
    DeadlinePassed,
}

/// A shard's access to its sockets.
///
/// Rules that a caller keeps: at most one send in flight a connection, of either kind, and one `send_now` a connection between two polls; `receive_start` only when not started (or ended since);
/// `close` only when no operation of the connection is in flight. A driver may assert them.
pub trait Driver {
    /// The time, read once at each [`Driver::poll`].
    fn clock(&self) -> Clock;

    /// Submits everything queued and appends what has completed. Never waits.
    ///
    /// # Errors
    /// The ring itself is unusable: the shard ends.
    fn poll(&mut self, completions: &mut Vec<Completion>) -> Result<(), crate::error::FatalError>;

    /// Starts accepting on the shard's listener; goes on until an `AcceptEnded`.
    fn accept_start(&mut self);

    /// Stops accepting; answered by `AcceptEnded`. Connections accepted meanwhile are still reported before it.
    fn accept_stop(&mut self);

    /// Starts receiving on a connection; goes on until a `ReceiveEnded`.
    fn receive_start(&mut self, key: ConnectionKey);

    /// The same for a connection that is to be received from sparingly: ends by itself after one buffer where the driver can see to that. A peer that sends
    /// without rest is otherwise received from until every buffer is in use, all of which its connection would have to keep.
    fn receive_once(&mut self, key: ConnectionKey) {
        self.receive_start(key);
    }

    /// The same for a connection that is expected to be silent: it takes less of the kernel's memory while nothing arrives, and more time when something
    /// does. Ends by itself after one buffer.
    fn receive_quietly(&mut self, key: ConnectionKey) {
        self.receive_once(key);
    }

    /// Asks for receiving to end; answered by `ReceiveEnded`. Bytes that arrived before are still reported.
    fn receive_stop(&mut self, key: ConnectionKey);

    /// Sends a payload; answered by `Sent`. The driver keeps the bytes until then.
    fn send(&mut self, key: ConnectionKey, payload: Bytes);

    /// Sends a payload as far as it leaves at once. Answered by nothing where all of it does, as nearly always, and otherwise by an `Unsent`
    /// of the next poll (or of a later one, while [`Driver::is_behind`]). So a delivery costs no completion, and the payload need not be kept.
    fn send_now(&mut self, key: ConnectionKey, payload: Bytes);

    /// Whether the last poll has left something undone: no `send_now` then, as it might overtake the rest of the one before.
    fn is_behind(&self) -> bool {
        false
    }

    /// Ends one or both directions; answered by `ShutDown`.
    fn shutdown(&mut self, key: ConnectionKey, how: Shutdown);

    /// Closes the connection's descriptor and frees its slot; answered by `Closed`.
    fn close(&mut self, key: ConnectionKey);

    /// The bytes of a buffer that `Received` named.
    fn buffer(&mut self, buffer: BufferId, length: usize) -> &mut [u8];

    /// Gives a buffer back to the kernel.
    fn buffer_release(&mut self, buffer: BufferId);

    /// Wakes another shard's loop. Cheap when called more than once in a pass.
    fn wake(&mut self, shard: ShardId);

    /// How long before the last poll another shard had asked for this one to be woken, in microseconds; `None` where none has since the last call, or where the driver
    /// does not know.
    fn take_wake_us(&mut self) -> Option<u64> {
        None
    }

    /// What the driver has met since its start.
    fn counts(&self) -> DriverCounts {
        DriverCounts::default()
    }

    /// Asks for a `DeadlinePassed` at the monotonic time given, in microseconds. One deadline is armed at a time: a later call replaces it.
    fn wake_at(&mut self, monotonic_us: u64);
}
