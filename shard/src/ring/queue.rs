//! The two queues of the ring: what is pushed and when the kernel is entered.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, squeue};

use super::RingCounters;
use super::ops::Plain;
use crate::error::FatalError;

/// Entries of the kernel in one pass. Recent kernels run only some 20 pieces of deferred work an entry,
/// so a busy shard enters more than once, to fill its pass; an endless flood must still not hold the pass.
const ENTERS_MAX: usize = 16;

/// `IORING_ENTER_NO_IOWAIT` of `linux/io_uring.h`: somebody who waits for messages is no sign of a slow disk.
const ENTER_NO_IOWAIT: u32 = 1 << 7;

/// The ring itself. Its users push entries and take batches of completions.
pub(super) struct Queue {
    ring: IoUring,
    /// What did not fit even after a submission. Bounded by what callers may have in flight: four
    /// operations a connection (receive, its stop, send or shutdown, close; before those a connect and its stop)
    /// and a few for the shard.
    backlog: VecDeque<squeue::Entry>,
    /// Counts submissions: what was queued under an earlier number is with the kernel.
    submission: u64,
    /// The last call of [`Queue::enter`] left work behind.
    cut_short: bool,
    /// The kernel counts the time of a wait as idle; before Linux 6.15, which does not know the flag, as waiting for a disk.
    counts_as_idle: bool,
    pub(super) counters: RingCounters,
}

/// What the queues ask for.
struct Pending {
    entries: u32,
    deferred_work: bool,
}

impl Queue {
    pub(super) fn new(ring: IoUring) -> Self {
        Self {
            ring,
            backlog: VecDeque::new(),
            submission: 0,
            cut_short: false,
            counts_as_idle: true,
            counters: RingCounters::default(),
        }
    }

    /// The ring, for registrations.
    pub(super) const fn ring(&self) -> &IoUring {
        &self.ring
    }

    /// The number of the submission that takes what is queued now.
    pub(super) const fn submission(&self) -> u64 {
        self.submission
    }

    /// Queues an entry.
    pub(super) fn push(&mut self, entry: Plain) {
        // SAFETY: a plain entry names no memory.
        unsafe { self.push_pointing(entry.into_entry()) }
    }

    /// Queues an entry that names memory. A full queue is submitted at once; what still finds no room
    /// waits in order and goes with the next pass.
    ///
    /// # Safety
    /// The memory stays valid, and is not written to through Rust's references where the kernel writes, until the operation's last
    /// completion has been reaped (until its submission, for what the kernel copies then). The end of the ring does not shorten that:
    /// a worker thread of the kernel may be in the middle of the operation, and the close of a ring does not wait for it.
    pub(super) unsafe fn push_pointing(&mut self, entry: squeue::Entry) {
        if self.backlog.is_empty() {
            if self.try_push(&entry) {
                return;
            }
            let entries = self.pending().entries;
            // An error is not lost: the entry finds no room then, and the pass meets the error again.
            if self.enter_once(entries, EnterFlags::empty()).is_ok() && self.try_push(&entry) {
                return;
            }
        }
        self.counters.deferred += 1;
        self.backlog.push_back(entry);
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: entries come through `push_pointing`, whose caller keeps what they name.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Submits all that is queued and lets the kernel run what it deferred until this thread enters.
    /// Costs no system call when there is neither.
    ///
    /// # Errors
    /// The ring is unusable.
    pub(super) fn enter(&mut self) -> Result<(), FatalError> {
        self.cut_short = true;
        for _ in 0..ENTERS_MAX {
            self.backlog_drain();
            let pending = self.pending();
            if pending.entries == 0 && !pending.deferred_work {
                self.cut_short = false;
                break;
            }
            // Only GETEVENTS runs deferred work.
            match self.enter_once(pending.entries, EnterFlags::GETEVENTS) {
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // Short of memory, or completions must be reaped first: go on with those.
                    Some(libc::EAGAIN | libc::EBUSY) => {
                        self.counters.busy += 1;
                        break;
                    }
                    _ => return Err(fatal("io_uring_enter", error)),
                },
            }
        }
        Ok(())
    }

    /// As [`Queue::enter`], but waits for a completion if there is none yet and nothing is left to do, `timeout` at the most where there is one.
    ///
    /// # Errors
    /// The ring is unusable.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> Result<(), FatalError> {
        self.enter()?;
        if self.cut_short || !self.ring.completion().is_empty() {
            return Ok(());
        }
        self.counters.enters += 1;
        self.submission += 1;
        let waited = match timeout.map(Timespec::from) {
            Some(time) => {
                let arguments = SubmitArgs::new().timespec(&time);
                let submitter = self.ring.submitter();
                submitter.submit_with_args(1, &arguments).map(drop)
            }
            None => self.wait_without_end(),
        };
        match waited {
            Ok(()) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(fatal("waiting in io_uring_enter", error)),
            },
        }
    }

    /// Waits until something completes. Nothing is left to submit.
    fn wait_without_end(&mut self) -> io::Result<()> {
        let mut flags = EnterFlags::GETEVENTS.bits();
        if self.counts_as_idle {
            flags |= ENTER_NO_IOWAIT;
        }
        // SAFETY: no argument is passed, and nothing is submitted.
        let waited = unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(0, 1, flags, None)
        };
        match waited {
            Err(error) if self.counts_as_idle && error.raw_os_error() == Some(libc::EINVAL) => {
                self.counts_as_idle = false;
                self.wait_without_end()
            }
            waited => waited.map(drop),
        }
    }

    /// Whether the kernel holds completions that found no room in the queue. Reap, then fetch them.
    pub(super) fn overflowed(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// Fetches the completions that found no room.
    ///
    /// # Errors
    /// The ring is unusable.
    pub(super) fn overflow_fetch(&mut self) -> Result<(), FatalError> {
        self.counters.overflows += 1;
        match self.enter_once(0, EnterFlags::GETEVENTS) {
            Ok(()) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(fatal("fetching overflowed completions", error)),
            },
        }
    }

    /// Moves all completions to `batch`; their places are free again with one store.
    pub(super) fn reap(&mut self, batch: &mut Vec<cqueue::Entry>) {
        batch.extend(self.ring.completion());
    }

    /// Whether entries wait for a submission.
    pub(super) fn is_pending(&mut self) -> bool {
        !self.backlog.is_empty() || self.pending().entries > 0
    }

    fn backlog_drain(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    fn pending(&mut self) -> Pending {
        let submissions = self.ring.submission();
        Pending {
            // At most the queue's size, 32,768.
            entries: submissions.len() as u32,
            deferred_work: submissions.taskrun(),
        }
    }

    fn enter_once(&mut self, entries: u32, flags: EnterFlags) -> io::Result<()> {
        self.counters.enters += 1;
        self.submission += 1;
        // SAFETY: no argument is passed, and what the entries name is valid: see `push_pointing`.
        unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(entries, 0, flags.bits(), None)
        }
        .map(drop)
    }
}

fn fatal(step: &'static str, source: io::Error) -> FatalError {
    FatalError::Ring { step, source }
}
