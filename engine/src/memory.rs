//! How much memory this process holds, for `memory_mib_max`.

use std::{fs, io};

/// Memory of this process that is resident, in bytes: the second field of `/proc/self/statm` (proc_pid_statm(5)).
///
/// The kernel sums it from counters of its own that lag by some pages a thread. Sockets are not in it.
///
/// # Errors
/// `/proc` is not mounted, or is not Linux's.
pub fn resident_bytes() -> io::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    resident_pages(&statm)
        .and_then(|pages| pages.checked_mul(page_bytes()))
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/self/statm holds `{}`", statm.trim_end()),
            )
        })
}

/// The second of the numbers of `statm`.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Bytes of a page of memory.
#[expect(
    unsafe_code,
    reason = "the page size is only to be had from the C library"
)]
fn page_bytes() -> u64 {
    // SAFETY: sysconf reads a constant of the process; it takes no pointer and has no precondition.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // The C library knows this constant always; 4096 is the smallest page of Linux.
    u64::try_from(bytes).unwrap_or(4096)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_second_field_is_the_resident_one() {
        let cases = [
            ("765 438 410 5 0 123 0\n", Some(438)),
            ("1 0", Some(0)),
            ("765", None),
            ("765 many", None),
            ("", None),
        ];
        for (statm, pages) in cases {
            assert_eq!(resident_pages(statm), pages, "{statm:?}");
        }
    }

    #[test]
    fn memory_that_is_touched_becomes_resident() {
        const MIB: u64 = 1024 * 1024;
        let before = resident_bytes().unwrap();
        let block = std::hint::black_box(vec![1_u8; 64 * 1024 * 1024]);
        let after = resident_bytes().unwrap();
        assert!(before > 0);
        assert!(after >= before + 60 * MIB, "{before} then {after}");
        drop(block);
    }
}
