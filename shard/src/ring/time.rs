//! The clock of a pass, and the one timer that ends a sleep.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use io_uring::types::Timespec;

use super::ops;
use super::queue::Queue;
use crate::driver::Clock;

/// A moment in the 31 bits that a message between rings carries: microseconds of the monotonic clock, which come round after 35 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(i32);

impl Stamp {
    const MASK: u64 = i32::MAX as u64;

    /// This moment.
    pub(super) fn now() -> Self {
        Self::at(clock_read().monotonic_us)
    }

    const fn at(monotonic_us: u64) -> Self {
        // The mask leaves what an `i32` holds.
        Self((monotonic_us & Self::MASK) as i32)
    }

    /// As the kernel carries it.
    pub(super) const fn bits(self) -> i32 {
        self.0
    }

    /// As the kernel has carried it; a negative number is an error of its own.
    pub(super) fn received(bits: i32) -> Option<Self> {
        (bits >= 0).then_some(Self(bits))
    }

    /// How long ago it was, in microseconds. No time at all where it seems to lie in the future: the other thread's clock was read a little later.
    pub(super) fn elapsed_us(self, monotonic_us: u64) -> u64 {
        let elapsed_us = (monotonic_us & Self::MASK).wrapping_sub(self.0 as u64) & Self::MASK;
        if elapsed_us > Self::MASK / 2 {
            0
        } else {
            elapsed_us
        }
    }
}

/// Reads both clocks. The monotonic one is `CLOCK_MONOTONIC`, which the kernel's timer runs on too.
pub(super) fn clock_read() -> Clock {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live timespec, which the call fills. It cannot fail: the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Clock {
        // Neither part is negative on this clock, and microseconds fill 64 bits in 584,000 years.
        monotonic_us: time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000,
        unix_ms: unix.as_millis() as u64,
    }
}

/// The deadline that the caller asked for and the kernel's timer that ends a sleep in time for it.
///
/// Whether the deadline has passed is decided by the clock of the pass, so a busy shard need not
/// wait for the timer, and a timer that fires early reports nothing. A later deadline leaves the timer
/// where it is: it fires early once and is armed again. Timers are pushed back often and
/// fire seldom, so that costs less than moving it each time.
pub(super) struct Deadline {
    wanted_us: Option<u64>,
    /// When the timer in the kernel fires; `None` when there is none.
    armed_us: Option<u64>,
    /// Read by the kernel when the timer is submitted. Behind a pointer, as its address must outlast a move of the driver, and
    /// not a `Box`: that would claim, each time it is moved, that nobody else has the address.
    time: Rc<Cell<Timespec>>,
}

impl Deadline {
    pub(super) fn new() -> Self {
        Self {
            wanted_us: None,
            armed_us: None,
            time: Rc::new(Cell::new(Timespec::new())),
        }
    }

    /// Replaces the deadline.
    pub(super) const fn set(&mut self, monotonic_us: u64) {
        self.wanted_us = Some(monotonic_us);
    }

    /// Queues what brings the kernel's timer in line with the deadline.
    pub(super) fn arm(&mut self, queue: &mut Queue) {
        let Some(wanted_us) = self.wanted_us else {
            return;
        };
        let armed_us = self.armed_us.replace(wanted_us);
        if let Some(armed_us) = armed_us
            && armed_us <= wanted_us
        {
            self.armed_us = Some(armed_us);
            return;
        }
        // An entry queued before and not yet submitted reads this newer time too, which is the one wanted.
        self.time.set(
            Timespec::new()
                .sec(wanted_us / 1_000_000)
                .nsec((wanted_us % 1_000_000) as u32 * 1000),
        );
        let entry = if armed_us.is_some() {
            ops::timeout_update(self.time.as_ptr())
        } else {
            ops::timeout(self.time.as_ptr())
        };
        // SAFETY: the kernel copies the time as it takes the entry, inside `io_uring_enter`. This driver keeps the time as long as
        // it enters the ring, and changes it only outside of that.
        unsafe { queue.push_pointing(entry) };
    }

    /// The kernel's timer fired.
    pub(super) const fn fired(&mut self) {
        self.armed_us = None;
    }

    /// Whether the deadline has passed. `true` once.
    pub(super) fn passed(&mut self, clock: Clock) -> bool {
        self.wanted_us
            .take_if(|wanted_us| *wanted_us <= clock.monotonic_us)
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_forward_and_knows_the_date() {
        let first = clock_read();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = clock_read();
        assert!(second.monotonic_us >= first.monotonic_us + 2000);
        assert!(first.unix_ms > 1_700_000_000_000, "after 2023");
    }

    #[test]
    fn a_stamp_tells_how_long_ago_it_was() {
        const ROUND: u64 = 1 << 31;
        for (at, now, elapsed) in [
            (5, 5, 0),
            (5, 105, 100),
            (ROUND - 1, ROUND + 9, 10),
            (3 * ROUND + 7, 3 * ROUND + 8, 1),
            // Read by the other thread a little later.
            (110, 105, 0),
            (ROUND, ROUND - 1, 0),
        ] {
            let stamp = Stamp::received(Stamp::at(at).bits());
            let since = stamp.map(|stamp| stamp.elapsed_us(now));
            assert_eq!(since, Some(elapsed), "{at} to {now}");
        }
        assert_eq!(Stamp::received(-libc::ENOMEM), None);
    }

    /// What the kernel does, at the address that it was told. For Miri, which knows whether that is still permitted.
    #[test]
    fn the_time_stays_where_the_kernel_was_told() {
        let deadline = Deadline::new();
        let told = deadline.time.as_ptr().cast_const();
        let moved = Box::new(deadline);
        moved.time.set(Timespec::new().sec(7));
        // SAFETY: the deadline is alive, and nobody writes meanwhile.
        let read = unsafe { *told };
        assert_eq!(format!("{read:?}"), format!("{:?}", Timespec::new().sec(7)));
    }

    #[test]
    fn a_deadline_passes_once_and_not_before_its_time() {
        let mut deadline = Deadline::new();
        let at = |monotonic_us| Clock {
            monotonic_us,
            unix_ms: 0,
        };
        assert!(!deadline.passed(at(u64::MAX)), "none was set");
        deadline.set(100);
        deadline.set(50);
        assert!(!deadline.passed(at(49)));
        assert!(deadline.passed(at(50)));
        assert!(!deadline.passed(at(51)), "only once");
    }
}
