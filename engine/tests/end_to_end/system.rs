//! What a test asks of the operating system: descriptors, the memory of a process, and its turn.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by tests with many thousands of connections, so that only one runs at a time.
static MANY_CONNECTIONS: Mutex<()> = Mutex::new(());

/// Waits for this test's turn and makes sure of enough descriptors for `connections` of them.
pub(crate) fn many_connections(connections: u64) -> MutexGuard<'static, ()> {
    // A test that failed in its turn leaves nothing behind that could disturb the next.
    let turn = MANY_CONNECTIONS
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    // The other tests of this process keep their own descriptors meanwhile.
    require_open_files(connections + 2_000);
    turn
}

/// Raises the limit of open files, and fails where that leaves fewer than a test needs.
pub(crate) fn require_open_files(needed: u64) {
    let permitted = raise_open_files();
    assert!(
        permitted >= needed,
        "the hard limit of open files is {permitted}, and this test needs {needed}: raise it with `ulimit -Hn {needed}` as root"
    );
}

/// Raises the soft limit of open files to the hard one, which children inherit, and returns it.
#[allow(unsafe_code)]
fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live `rlimit`, which the call fills.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    assert_eq!(read, 0, "cannot read the limit of open files");
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer is to a live `rlimit`, which the call only reads.
    let written = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(written, 0, "cannot raise the limit of open files");
    limit.rlim_cur
}

/// Resident memory of a process in bytes.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let kibibytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse().ok())
        .expect("the kernel names the resident size in kB");
    kibibytes * 1024
}
