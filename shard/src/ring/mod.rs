//! The io_uring driver: a shard's sockets on one ring.
//!
//! ```text
//! RingDriver ─ Driver methods queue ─▶ Queue ─ enter ─▶ kernel
//!      ▲                                                   │
//!      └── one closed switch over `ops::Tag` ◀── reap ─────┘
//! ```
//!
//! What holds here:
//!
//! * **One thread.** The ring belongs to the thread that made it (`SINGLE_ISSUER`), so a driver is not `Send`.
//! * **The kernel works when asked**, but for its worker threads. With `DEFER_TASKRUN` it receives into this process's memory, and reads
//!   and writes the queues, only inside `io_uring_enter`, which is called with the driver borrowed exclusively. A worker thread
//!   runs every shutdown, which names no memory, and takes over a send or a one-shot accept that did not
//!   get done in 128 attempts (a peer with a tiny window can bring that about), or at once when the kernel is short of memory. So a payload and an accept's address are the kernel's
//!   until the completion. Multishot operations are never given to a worker.
//! * **What the kernel has is not freed.** Buffers, payloads and addresses stay until the last completion of each operation that
//!   names them. A driver that is dropped waits for those; what does not come in time is leaked. Every `unsafe` block below leans on
//!   these two.
//! * **Every answer comes from the operation itself.** A cancel's own completion is ignored, so a stop that
//!   comes too late can neither lose nor double an answer.
//! * **Nothing queued is slept upon.** A pass that must leave work behind is followed by one that does not sleep.
#![allow(
    unsafe_code,
    reason = "entries name memory that the kernel reads and writes; each block says why that memory is valid then"
)]

mod accept;
mod attempts;
mod buffers;
mod capabilities;
mod connect;
mod ops;
mod payloads;
mod peers;
mod queue;
mod setup;
mod socket;
mod steering;
mod time;

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use bytes::Bytes;
use io_uring::{Probe, cqueue, opcode};

use crate::driver::{
    BufferId, Clock, Completion, ConnectionKey, Driver, DriverCounts, ReceiveEnd, ShardId, Shutdown,
};
use crate::error::FatalError;
use crate::limits::Limits;

use accept::Acceptor;
use attempts::Attempts;
use buffers::BufferRing;
use connect::Targets;
use ops::{Operation, Tag};
use payloads::Payloads;
use queue::Queue;
use time::{Deadline, Stamp};

pub use capabilities::{Capabilities, Capability};
pub use connect::ConnectOptions;
pub use peers::Peers;
pub use setup::{bound_address, listen, table_size_max};
pub use steering::steer_by_core;

/// How often a pass fetches completions that found no room in the queue. Each time fetches a whole queue of them.
const OVERFLOW_FETCHES_MAX: usize = 8;

/// How long a driver that is dropped waits for its operations to end. They end at once unless the machine is overloaded or a worker
/// thread of the kernel is in the middle of a large send to a fast reader.
const DROP_WAIT: Duration = Duration::from_millis(100);

/// What a driver is made from.
pub struct RingOptions<'limits> {
    /// A listening socket, as made by [`listen`]. Shared, as it survives the shard. Without one the driver only connects
    /// ([`RingDriver::connect`]): the slots of its table are the caller's to hand out, and accepting ends at once with EBADF.
    pub listener: Option<Arc<OwnedFd>>,
    /// Direct descriptors: the most connections that may be open at once. Above [`table_size_max`] set-up fails.
    pub table_size: u32,
    /// Which row of `peers` is this shard's.
    pub shard: ShardId,
    /// How the shards reach each other.
    pub peers: Arc<Peers>,
    /// Whether connections are accepted one by one: `Accepted` carries the peer's address then, and a pass accepts a few at most, not all that
    /// wait. It costs more under a storm of them.
    pub accept_one_by_one: bool,
    /// The sizes of queues and buffers.
    pub limits: &'limits Limits,
}

/// What a driver has met since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// System calls to submit or reap.
    pub enters: u64,
    /// Submissions that the kernel put off, for want of memory or because completions had to be reaped first.
    pub busy: u64,
    /// Entries that found no room in the submission queue, even after a submission, and went with the next pass.
    pub deferred: u64,
    /// Completions that answer no operation in flight; dropped.
    pub stale: u64,
    /// Times that completions overflowed their queue and were fetched from the kernel. Raise `completions_max` if it grows.
    pub overflows: u64,
    /// Receives that ended because all buffers were in use. Raise `receive_buffers_max` if it grows.
    pub no_buffers: u64,
    /// Wakes of other shards.
    pub wakes_sent: u64,
    /// Wakes that found the shard down, or its ring unable to take the message.
    pub wakes_failed: u64,
    /// Switches from multishot to one-shot accept because the kernel refused the former.
    pub accept_downgrades: u64,
}

/// The driver of one shard. Made and used on the shard's thread, which the compiler sees to:
///
/// ```compile_fail,E0277
/// fn on_any_thread<T: Send>() {}
/// on_any_thread::<shardcast_shard::ring::RingDriver>();
/// ```
///
/// The order of fields matters little: the end of the ring does not wait for the kernel. What it may still use is seen to
/// in `drop`. A driver that is forgotten leaks all of it, which harms nobody.
pub struct RingDriver {
    queue: Queue,
    buffers: BufferRing,
    /// Receives that wait for bytes: while there are any, the kernel may write to the buffers. Those of quiet connections are none: they
    /// take what is there as they are submitted.
    receives: HashSet<ConnectionKey, RandomState>,
    /// Whether the kernel ends a multishot receive after so many bytes.
    receives_bounded: bool,
    payloads: Payloads,
    attempts: Attempts,
    targets: Targets,
    acceptor: Acceptor,
    deadline: Deadline,
    clock: Clock,
    /// Completions taken from the ring and not yet translated. Empty between passes; kept for its capacity.
    batch: Vec<cqueue::Entry>,
    shard: ShardId,
    peers: Arc<Peers>,
    eventfd: Arc<File>,
    /// Whether the kernel can send messages between rings.
    messages: bool,
    /// For each shard the submission that carries the last wake, plus one.
    wakes: Vec<u64>,
    /// See [`Driver::take_wake_us`].
    wake_us: Option<u64>,
}

impl RingDriver {
    /// Makes the ring and opens this shard's door to the others. To be called on the shard's thread.
    ///
    /// # Errors
    /// [`FatalError::RingSetup`]: what the kernel refused, and what the operator can do.
    pub fn new(options: RingOptions<'_>) -> Result<Self, FatalError> {
        let RingOptions {
            shard,
            peers,
            limits,
            ..
        } = options;
        let Some(eventfd) = peers.eventfd_shared(shard) else {
            let source = std::io::Error::from_raw_os_error(libc::EINVAL);
            return Err(setup::refused("looking up the shard's eventfd", source));
        };
        // The table of limits bounds both: 32,768 buffers, 1 MiB each.
        let (count, bytes) = (
            limits.receive_buffers_max as u16,
            limits.receive_buffer_bytes as usize,
        );
        let mut buffers = BufferRing::new(count, bytes)
            .map_err(|source| setup::refused("mapping receive buffers", source))?;
        let ring = setup::ring_create(limits)?;
        // SAFETY: the driver drops the buffers, and leaks them where a receive has not ended (`Drop`). Where set-up fails
        // nothing has been submitted.
        unsafe { setup::register(&ring, options.table_size, &mut buffers) }?;
        let mut probe = Probe::new();
        ring.submitter()
            .register_probe(&mut probe)
            .map_err(|source| setup::refused("asking for the operations", source))?;
        peers
            .ring_up(shard, ring.as_raw_fd())
            .map_err(|source| setup::refused("opening the shard's door", source))?;
        let mut queue = Queue::new(ring);
        queue.push(ops::bell(eventfd.as_raw_fd()));
        Ok(Self {
            queue,
            buffers,
            receives: HashSet::default(),
            receives_bounded: setup::receives_bounded(),
            payloads: Payloads::new(),
            attempts: Attempts::default(),
            targets: Targets::default(),
            acceptor: Acceptor::new(options.listener, options.accept_one_by_one),
            deadline: Deadline::new(),
            clock: time::clock_read(),
            batch: Vec::new(),
            shard,
            eventfd,
            messages: probe.is_supported(opcode::MsgRingData::CODE),
            wakes: vec![0; peers.shards()],
            wake_us: None,
            peers,
        })
    }

    /// What the driver has met since its start.
    #[must_use]
    pub const fn counters(&self) -> RingCounters {
        self.queue.counters
    }

    /// Whether a receive ends by itself after 64 KiB, or only where all buffers are in use (kernels before 6.17).
    #[must_use]
    pub const fn receives_bounded(&self) -> bool {
        self.receives_bounded
    }

    /// As [`Driver::poll`], but sleeps until something completes, also a wake or the deadline; `timeout` at the most, where there is
    /// one. It may end without a completion to report.
    ///
    /// # Errors
    /// The ring itself is unusable.
    pub fn wait(
        &mut self,
        completions: &mut Vec<Completion>,
        timeout: Option<Duration>,
    ) -> Result<(), FatalError> {
        self.deadline.arm(&mut self.queue);
        self.queue.wait(timeout)?;
        self.complete(completions)
    }

    /// The second half of a pass: reports what the kernel has completed.
    fn complete(&mut self, completions: &mut Vec<Completion>) -> Result<(), FatalError> {
        self.clock = time::clock_read();
        self.reap(completions);
        for _ in 0..OVERFLOW_FETCHES_MAX {
            if !self.queue.overflowed() {
                break;
            }
            self.queue.overflow_fetch()?;
            self.reap(completions);
        }
        // The kernel has taken every entry, and what it had to say of them has been reaped.
        if !self.queue.is_pending() && !self.queue.overflowed() {
            self.attempts.clear();
        }
        if self.deadline.passed(self.clock) {
            completions.push(Completion::DeadlinePassed);
        }
        // What reaping itself queued (an accept or the timer armed again) must not wait for the next pass:
        // the shard may sleep before that.
        self.deadline.arm(&mut self.queue);
        if self.queue.is_pending() {
            self.queue.enter()?;
            // Bytes that were announced have been received by now.
            self.reap(completions);
        }
        Ok(())
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) {
        let mut batch = std::mem::take(&mut self.batch);
        self.queue.reap(&mut batch);
        for entry in batch.drain(..) {
            if !self.translate(&entry, completions) {
                self.queue.counters.stale += 1;
            }
        }
        self.batch = batch;
    }

    /// The switch over operations. `false` for a completion that answers nothing in flight.
    fn translate(&mut self, entry: &cqueue::Entry, completions: &mut Vec<Completion>) -> bool {
        let result = entry.result();
        let more = cqueue::more(entry.flags());
        let Some(Tag {
            operation,
            key,
            auxiliary,
        }) = Tag::decode(entry.user_data())
        else {
            return false;
        };
        match operation {
            Operation::Accept => {
                return self.acceptor.completed(
                    auxiliary,
                    result,
                    more,
                    &mut self.queue,
                    completions,
                );
            }
            Operation::Receive => return self.received(key, entry, completions),
            Operation::Readable if result >= 0 => self.queue.push(ops::receive_now(key)),
            Operation::Readable => {
                let end = receive_end(result);
                completions.push(Completion::ReceiveEnded { key, end });
            }
            Operation::Send => {
                if !self.payloads.remove(auxiliary, key) {
                    return false;
                }
                let result = usize::try_from(result).map_err(|_| -result);
                completions.push(Completion::Sent { key, result });
            }
            Operation::SendNow => {
                let sent = usize::try_from(result).unwrap_or(0);
                let Some(rest) = self.attempts.rest(auxiliary, key, sent) else {
                    return false;
                };
                let error = (result < 0 && result != -libc::EAGAIN).then_some(-result);
                completions.push(Completion::Unsent { key, rest, error });
            }
            Operation::Connect => {
                let result = if result < 0 { Err(-result) } else { Ok(()) };
                completions.push(Completion::Connected { key, result });
            }
            Operation::Shutdown => completions.push(Completion::ShutDown { key }),
            Operation::Close => completions.push(Completion::Closed { key }),
            // Success is silent. Failure means that the operation has ended by itself and says so itself.
            Operation::Cancel | Operation::TimeoutUpdate => {}
            // Success is silent.
            Operation::Message => self.wake_failed(auxiliary),
            Operation::Woken => {
                let asked = Stamp::received(result);
                self.wake_us = asked.map(|asked| asked.elapsed_us(self.clock.monotonic_us));
                completions.push(Completion::Woken);
            }
            Operation::Bell => {
                completions.push(Completion::Woken);
                if !more {
                    self.queue.push(ops::bell(self.eventfd.as_raw_fd()));
                }
            }
            Operation::Timeout => self.deadline.fired(),
        }
        true
    }

    fn received(
        &mut self,
        key: ConnectionKey,
        entry: &cqueue::Entry,
        completions: &mut Vec<Completion>,
    ) -> bool {
        let result = entry.result();
        if !cqueue::more(entry.flags()) {
            self.receives.remove(&key);
        }
        if let Some(buffer) = cqueue::buffer_select(entry.flags()) {
            if !self.buffers.lend(buffer) {
                return false;
            }
            match usize::try_from(result) {
                Ok(length @ 1..) => completions.push(Completion::Received {
                    key,
                    buffer,
                    length,
                }),
                // A buffer without bytes comes with no `Received` that would give it back.
                _ => self.buffers.release(buffer),
            }
        }
        if cqueue::more(entry.flags()) {
            return true;
        }
        let end = receive_end(result);
        self.queue.counters.no_buffers += u64::from(end == ReceiveEnd::NoBuffers);
        completions.push(Completion::ReceiveEnded { key, end });
        true
    }

    /// Whether the kernel may still read or write memory of this driver.
    fn is_used_by_kernel(&self) -> bool {
        !self.receives.is_empty()
            || self.acceptor.addresses_in_flight()
            || self.payloads.in_flight() > 0
    }

    /// Cancels the operations that name memory, one by one, and runs them to their ends. `false` if some have not ended by the time that there is.
    /// (To cancel all that there are in one call takes the kernel time in proportion to the square of their number: seconds where thousands of connections wait.)
    ///
    /// A cancel does not wait: it only knocks at a worker thread, which looks up when the send that it runs would wait.
    fn operations_end(&mut self) -> bool {
        let deadline = Instant::now() + DROP_WAIT;
        let receives = self
            .receives
            .iter()
            .map(|key| Tag::connection(Operation::Receive, *key));
        let sends = self.payloads.tags();
        let named: Vec<Tag> = receives.chain(sends).collect();
        for tag in named {
            self.queue.push(ops::cancel(tag));
        }
        let mut unheard = Vec::new();
        loop {
            self.reap(&mut unheard);
            unheard.clear();
            if !self.is_used_by_kernel() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.queue.wait(Some(left)).is_err() {
                tracing::debug!(shard = self.shard, "operations have not ended");
                return false;
            }
        }
    }

    /// Leaks what the kernel may still use.
    fn leak(&mut self) {
        tracing::warn!(
            shard = self.shard,
            receives = self.receives.len(),
            payloads = self.payloads.in_flight(),
            addresses = self.acceptor.addresses_in_flight(),
            "the kernel has not ended all operations of this ring; their memory is never freed"
        );
        if !self.receives.is_empty() {
            self.buffers.leak();
        }
        if self.acceptor.addresses_in_flight() {
            self.acceptor.leak();
        }
        self.payloads.leak();
    }

    /// A message did not arrive. The shard may have gone down, and its successor empties its mailboxes first;
    /// or its ring was out of memory, and then the eventfd still wakes it. Writing to that harms neither.
    fn wake_failed(&mut self, shard: u32) {
        self.queue.counters.wakes_failed += 1;
        if let Ok(shard) = ShardId::try_from(shard) {
            self.peers.wake_from_thread(shard);
        }
    }
}

/// What the last completion of a receive means.
fn receive_end(result: i32) -> ReceiveEnd {
    match result {
        0 => ReceiveEnd::EndOfStream,
        1.. => ReceiveEnd::Stopped,
        _ => match -result {
            libc::ENOBUFS => ReceiveEnd::NoBuffers,
            // Stopped, or somebody else took what was announced.
            libc::ECANCELED | libc::EAGAIN => ReceiveEnd::Stopped,
            error => ReceiveEnd::Failed(error),
        },
    }
}

impl Driver for RingDriver {
    fn clock(&self) -> Clock {
        self.clock
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) -> Result<(), FatalError> {
        self.deadline.arm(&mut self.queue);
        self.queue.enter()?;
        self.complete(completions)
    }

    fn accept_start(&mut self) {
        self.acceptor.start(&mut self.queue);
    }

    fn accept_stop(&mut self) {
        self.acceptor.stop(&mut self.queue);
    }

    fn receive_start(&mut self, key: ConnectionKey) {
        self.receives.insert(key);
        self.queue.push(ops::receive(key, self.receives_bounded));
    }

    fn receive_once(&mut self, key: ConnectionKey) {
        self.receives.insert(key);
        self.queue.push(ops::receive_once(key));
    }

    fn receive_quietly(&mut self, key: ConnectionKey) {
        self.queue.push(ops::readable(key));
    }

    fn receive_stop(&mut self, key: ConnectionKey) {
        // Entries are carried out in order, so this cannot reach a receive that is started later, though
        // that one carries the same number.
        let operation = match self.receives.contains(&key) {
            true => Operation::Receive,
            false => Operation::Readable,
        };
        self.queue
            .push(ops::cancel(Tag::connection(operation, key)));
    }

    fn send(&mut self, key: ConnectionKey, payload: Bytes) {
        let index = self.payloads.insert(key, payload);
        let entry = ops::send(key, self.payloads.bytes(index), index);
        // SAFETY: the slab keeps the payload, whose bytes never move or change, until the completion is reaped, and a
        // driver leaks it if that has not come by its end.
        unsafe { self.queue.push_pointing(entry) };
    }

    fn send_now(&mut self, key: ConnectionKey, payload: Bytes) {
        let index = self.attempts.insert(key, payload);
        let entry = ops::send_now(key, self.attempts.bytes(index), index);
        // SAFETY: the payload, whose bytes never move or change, is kept until the kernel has taken every entry (`complete`), and it
        // reads them only as it takes this one.
        unsafe { self.queue.push_pointing(entry) };
    }

    fn is_behind(&self) -> bool {
        !self.attempts.is_empty()
    }

    fn shutdown(&mut self, key: ConnectionKey, how: Shutdown) {
        self.queue.push(ops::shutdown(key, how));
    }

    fn close(&mut self, key: ConnectionKey) {
        self.queue.push(ops::close(key));
    }

    fn buffer(&mut self, buffer: BufferId, length: usize) -> &mut [u8] {
        self.buffers.bytes(buffer, length)
    }

    fn buffer_release(&mut self, buffer: BufferId) {
        self.buffers.release(buffer);
    }

    fn wake(&mut self, shard: ShardId) {
        let Some(last) = self.wakes.get_mut(usize::from(shard)) else {
            debug_assert!(false, "no shard has the number {shard}");
            return;
        };
        // One wake a submission is enough, as whatever was mailed before it is seen by whoever it wakes. A wake that
        // has left already is not: a full queue is submitted in the middle of a pass.
        if *last == self.queue.submission() + 1 {
            return;
        }
        match self.peers.door(shard) {
            None => self.queue.counters.wakes_failed += 1,
            Some(door) if self.messages => {
                self.queue.counters.wakes_sent += 1;
                self.queue.push(ops::message(door, shard, Stamp::now()));
                *last = self.queue.submission() + 1;
            }
            Some(_) => {
                self.queue.counters.wakes_sent += 1;
                self.peers.wake_from_thread(shard);
            }
        }
    }

    fn wake_at(&mut self, monotonic_us: u64) {
        self.deadline.set(monotonic_us);
    }

    fn take_wake_us(&mut self) -> Option<u64> {
        self.wake_us.take()
    }

    fn counts(&self) -> DriverCounts {
        let RingCounters {
            enters,
            overflows,
            busy,
            deferred,
            wakes_failed,
            ..
        } = self.queue.counters;
        DriverCounts {
            enters,
            overflows,
            busy,
            deferred,
            wakes_failed,
        }
    }
}

impl Drop for RingDriver {
    /// Ends everything in flight and closes every connection before the ring goes.
    ///
    /// The ring's close would do that too, but in its own time. Here what was queued is submitted, so that closes asked
    /// for happen, and operations are cancelled and run to their end on this thread. Memory of those that do not end is leaked.
    /// A step that fails leaves its work to the close.
    fn drop(&mut self) {
        self.peers.ring_down(self.shard);
        self.acceptor.stop(&mut self.queue);
        let submitted = self.queue.enter();
        if !self.operations_end() {
            self.leak();
        }
        let closed = self.queue.ring().submitter().unregister_files();
        tracing::debug!(shard = self.shard, ?submitted, ?closed, "ring dropped");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn driver() -> Option<RingDriver> {
        let limits = Limits {
            receive_buffers_max: 8,
            ..Limits::default()
        };
        let driver = RingDriver::new(RingOptions {
            listener: None,
            table_size: 4,
            shard: 0,
            peers: Arc::new(Peers::new(1).unwrap()),
            accept_one_by_one: false,
            limits: &limits,
        });
        match driver {
            Err(error) => {
                println!("skipped: {error}");
                None
            }
            Ok(driver) => Some(driver),
        }
    }

    fn is_mapped(address: usize) -> bool {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().any(|line| {
            let (from, rest) = line.split_once('-').unwrap();
            let (to, _) = rest.split_once(' ').unwrap();
            let bound = |text| usize::from_str_radix(text, 16).unwrap();
            (bound(from)..bound(to)).contains(&address)
        })
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no rings")]
    fn what_the_kernel_has_not_given_back_is_never_freed() {
        let Some(mut driver) = driver() else {
            return;
        };
        // A send and a receive that the kernel never ends, as it never heard of them.
        let payload = Bytes::from(vec![1; 100]);
        let key = ConnectionKey::new(1, 1);
        driver.payloads.insert(key, payload.clone());
        driver.receives.insert(key);
        let buffer = driver.buffers.address();
        drop(driver);
        assert!(!payload.is_unique());
        assert!(is_mapped(buffer));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no rings")]
    fn nothing_is_leaked_where_everything_has_ended() {
        let Some(mut driver) = driver() else {
            return;
        };
        // Both fail, as the slot is empty, and nobody hears of it.
        let payload = Bytes::from(vec![1; 100]);
        let key = ConnectionKey::new(1, 1);
        driver.send(key, payload.clone());
        driver.receive_start(key);
        assert!(driver.is_used_by_kernel());
        driver.operations_end();
        assert!(!driver.is_used_by_kernel());
        drop(driver);
        assert!(payload.is_unique());
    }
}
