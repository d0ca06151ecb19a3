//! Clocks that only the C library gives: monotonic time as a number, and the processor time of another process.
#![expect(
    unsafe_code,
    reason = "the standard library has no monotonic time as a number and no clocks of processes"
)]

/// Nanoseconds of `CLOCK_MONOTONIC` (clock_gettime(2)), which all processes of a machine share.
pub(super) fn monotonic_ns() -> u64 {
    // Linux always has this clock; 0 would only shift the origin of an origin-less time.
    read_ns(libc::CLOCK_MONOTONIC).unwrap_or(0)
}

/// Processor time that all threads of a process have used so far, those that have ended included, in nanoseconds.
/// `None`: there is no such process.
///
/// Any process may read it of any other (clock_getcpuclockid(3)). The kernel brings a thread that is running just now
/// up to date at its next timer tick, so that up to one tick (1 to 10 ms) of each such thread may be missing.
pub(super) fn process_cpu_ns(pid: i32) -> Option<u64> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a valid clockid_t that outlives the call, which only writes into it.
    let result = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    (result == 0).then_some(clock).and_then(read_ns)
}

fn read_ns(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec that outlives the call, which only writes into it.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if result != 0 {
        return None;
    }
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanoseconds = u64::try_from(time.tv_nsec).ok()?;
    Some(seconds * 1_000_000_000 + nanoseconds)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_passes() {
        let before = monotonic_ns();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let passed = monotonic_ns() - before;
        assert!(passed >= 2_000_000, "{passed} ns");
    }

    #[test]
    fn a_process_that_does_not_exist_has_no_clock() {
        // Numbers of processes stay below this (PID_MAX_LIMIT, proc_sys_kernel(5)).
        assert_eq!(process_cpu_ns(1 << 22), None);
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(process_cpu_ns(own).unwrap() > 0);
    }
}
