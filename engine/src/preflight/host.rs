//! What the kernel and this process's limits permit, as plain numbers.

use std::{fs, io};

/// The numbers that decide whether and how large the engine can run. `None` where the kernel does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Release of the kernel, as `uname -r` prints it.
    pub kernel_release: String,
    /// `kernel.io_uring_disabled`: 0 permits io_uring to all, 1 to one group and to the privileged, 2 to none.
    /// Kernels before 6.6 have no such switch.
    pub io_uring_disabled: Option<u64>,
    /// Soft limit of open descriptors (`RLIMIT_NOFILE`), which also caps a ring's table of direct descriptors.
    pub descriptors_soft: u64,
    /// Hard limit of open descriptors.
    pub descriptors_hard: u64,
    /// `fs.nr_open`: what the hard limit can be raised to.
    pub descriptors_most: Option<u64>,
    /// `fs.file-max`: open files of the whole system, direct descriptors included.
    pub files_max: Option<u64>,
    /// Soft limit of the bytes that this process may lock (`RLIMIT_MEMLOCK`); rings count against it. `u64::MAX`: none.
    pub lockable_bytes: u64,
    /// Whether the kernel does not apply that limit to this process (CAP_IPC_LOCK).
    pub may_lock_without_bound: bool,
    /// `net.core.somaxconn`: what the backlog of a listener is cut to.
    pub backlog_most: Option<u64>,
    /// Memory of the machine in bytes.
    pub memory_bytes: Option<u64>,
}

impl Host {
    /// Reads the numbers of this machine and process.
    ///
    /// # Errors
    /// The system does not tell this process's own limits.
    pub fn read() -> io::Result<Self> {
        let (descriptors_soft, descriptors_hard) = rlimit::get(rlimit::Resource::Descriptors)?;
        let (lockable_bytes, _) = rlimit::get(rlimit::Resource::LockedMemory)?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Ok(Self {
            kernel_release: system_text("kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
            io_uring_disabled: system_number("kernel/io_uring_disabled"),
            descriptors_soft,
            descriptors_hard,
            descriptors_most: system_number("fs/nr_open"),
            files_max: system_number("fs/file-max"),
            lockable_bytes,
            may_lock_without_bound: may_lock_without_bound(&status),
            backlog_most: system_number("net/core/somaxconn"),
            memory_bytes: fs::read_to_string("/proc/meminfo")
                .ok()
                .and_then(|text| memory_total_bytes(&text)),
        })
    }
}

/// Raises this process's soft limit of open descriptors to the hard one.
///
/// # Errors
/// The system refuses.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let (soft, hard) = rlimit::get(rlimit::Resource::Descriptors)?;
    if soft < hard {
        rlimit::set_descriptors(hard, hard)?;
    }
    Ok(())
}

fn system_text(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    Some(text.trim().to_owned())
}

fn system_number(name: &str) -> Option<u64> {
    system_text(name)?.parse().ok()
}

/// `MemTotal` of `/proc/meminfo`, which is in KiB there.
fn memory_total_bytes(meminfo: &str) -> Option<u64> {
    let value = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Whether `/proc/self/status` shows the capability CAP_IPC_LOCK, to which `RLIMIT_MEMLOCK` does not apply.
fn may_lock_without_bound(status: &str) -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> CAP_IPC_LOCK & 1 == 1)
}

/// This process's resource limits (getrlimit(2)).
#[expect(
    unsafe_code,
    reason = "resource limits are only to be had from the C library"
)]
mod rlimit {
    use std::io;

    /// What is limited. The type of the C constants differs between C libraries, so it is not named here.
    #[derive(Clone, Copy)]
    pub(super) enum Resource {
        Descriptors,
        LockedMemory,
    }

    /// The soft and the hard limit; `u64::MAX` means none.
    pub(super) fn get(resource: Resource) -> io::Result<(u64, u64)> {
        let resource = match resource {
            Resource::Descriptors => libc::RLIMIT_NOFILE,
            Resource::LockedMemory => libc::RLIMIT_MEMLOCK,
        };
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `limit` is a valid rlimit that outlives the call, which only writes into it.
        let result = unsafe { libc::getrlimit(resource, &raw mut limit) };
        if result == 0 {
            Ok((limit.rlim_cur, limit.rlim_max))
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Sets both limits of descriptors.
    pub(super) fn set_descriptors(soft: u64, hard: u64) -> io::Result<()> {
        let limit = libc::rlimit {
            rlim_cur: soft,
            rlim_max: hard,
        };
        // SAFETY: `limit` is a valid rlimit that outlives the call, which only reads it.
        let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn total_memory() {
        let cases = [
            (
                "MemTotal:       24684084 kB\nMemFree: 1 kB\n",
                Some(24_684_084 * 1024),
            ),
            ("MemFree: 1 kB\nMemTotal: 2 kB", Some(2048)),
            ("MemTotal: many kB", None),
            ("MemTotal: 2 MB", None),
            ("", None),
        ];
        for (meminfo, bytes) in cases {
            assert_eq!(memory_total_bytes(meminfo), bytes, "{meminfo:?}");
        }
    }

    #[test]
    fn the_capability_to_lock_memory() {
        let cases = [
            ("Name:\tx\nCapEff:\t000001ffffffffff\n", true),
            ("CapEff:\t0000000000004000", true),
            ("CapEff:\t0000000000003fff", false),
            ("CapEff:\t0000000000000000", false),
            ("CapPrm:\t000001ffffffffff", false),
            ("", false),
        ];
        for (status, permitted) in cases {
            assert_eq!(may_lock_without_bound(status), permitted, "{status:?}");
        }
    }

    #[test]
    fn the_soft_limit_rises_to_the_hard_one() {
        raise_descriptor_limit().unwrap();
        let host = Host::read().unwrap();
        assert_eq!(host.descriptors_soft, host.descriptors_hard);
        assert!(host.kernel_release.contains('.'));
        assert!(host.memory_bytes.unwrap() > 0);
    }
}
