//! Making a ring and a listener, and saying what to do where the kernel refuses.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use io_uring::IoUring;

use super::buffers::BufferRing;
use super::{ops, socket};
use crate::driver::ConnectionKey;
use crate::error::FatalError;
use crate::limits::{Limits, SLOT_BITS};

/// The most worker threads of the kernel that may block in operations of one shard at a time. Only peers that hinder their own connection
/// have any business there, and more of them than this wait for each other. Without the bound each would cost a thread, up to RLIMIT_NPROC.
const BLOCKED_WORKERS_MAX: u32 = 4;

/// A ring of the sizes that the limits name. To be called on the thread that will use it.
///
/// # Errors
/// [`FatalError::RingSetup`] with what the operator can do.
pub(super) fn ring_create(limits: &Limits) -> Result<IoUring, FatalError> {
    // The table of limits bounds both numbers far below 2^32.
    let submissions = limits.submissions_max as u32;
    let completions = limits.completions_max as u32;
    IoUring::builder()
        // One thread submits, so the kernel takes no lock for the others. It also makes the creator that
        // thread: there is nothing to be done between creation and use on another one (R_DISABLED).
        .setup_single_issuer()
        // Completions are finished when this thread asks for them, not in the middle of what it does, and
        // many at a time. It makes COOP_TASKRUN, which only saves the interrupt, superfluous.
        .setup_defer_taskrun()
        // A flag in shared memory says when deferred work waits, so an idle pass makes no system call.
        .setup_taskrun_flag()
        // Multishot operations complete often for one submission; a full queue ends them.
        .setup_cqsize(completions)
        // One bad entry must not hold up those behind it.
        .setup_submit_all()
        // A kernel with lower bounds than the limits' still serves, with smaller queues.
        .setup_clamp()
        .build(submissions)
        .map_err(|source| refused("io_uring_setup", source))
}

/// Whether this kernel ends a multishot receive after as many bytes as it was asked for (Linux 6.17). Asked on a ring of its own, with a receive on no
/// connection: a kernel that knows the request says that there is none (EBADF), an older one that the request makes no sense. It is asked once.
pub(super) fn receives_bounded() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(ask_receives_bounded)
}

fn ask_receives_bounded() -> bool {
    let entry = ops::receive(ConnectionKey::new(0, 0), true).into_entry();
    let answer = IoUring::new(1).and_then(|mut ring| {
        // SAFETY: the entry names no memory, and the buffer group that it names does not exist on this ring.
        let pushed = unsafe { ring.submission().push(&entry) };
        pushed.map_err(io::Error::other)?;
        ring.submit_and_wait(1)?;
        Ok(ring
            .completion()
            .next()
            .map(|completion| completion.result()))
    });
    let bounded = matches!(answer, Ok(Some(result)) if result == -libc::EBADF);
    if !bounded {
        tracing::info!(
            ?answer,
            "this kernel does not bound a receive: a connection that sends much at once may fill all receive buffers"
        );
    }
    bounded
}

/// Registers the table of direct descriptors and the buffers.
///
/// # Errors
/// [`FatalError::RingSetup`] with what the operator can do.
///
/// # Safety
/// As for [`BufferRing::register`].
pub(super) unsafe fn register(
    ring: &IoUring,
    table_size: u32,
    buffers: &mut BufferRing,
) -> Result<(), FatalError> {
    let submitter = ring.submitter();
    submitter
        .register_files_sparse(table_size)
        .map_err(|source| table_refused(table_size, source))?;
    // The first number, 0, leaves those as they are that do not block for long: shutdowns.
    submitter
        .register_iowq_max_workers(&mut [0, BLOCKED_WORKERS_MAX])
        .map_err(|source| refused("bounding the kernel's worker threads", source))?;
    // SAFETY: the caller promises it.
    unsafe { buffers.register(ring) }
        .map_err(|source| refused("registering the buffer ring", source))
}

/// A listening socket whose port other shards share (SO_REUSEPORT): the kernel spreads connections over them.
///
/// Accepted sockets inherit TCP_NODELAY and, where `limits.socket_send_bytes` is not 0, the size of the send buffer.
/// The backlog is `limits.backlog_max`. The socket is blocking, as io_uring answers EAGAIN on one that
/// is not. With port 0 the kernel picks one: see [`bound_address`].
///
/// # Errors
/// The kernel's answer, such as EADDRINUSE or EACCES.
pub fn listen(address: SocketAddr, limits: &Limits) -> io::Result<OwnedFd> {
    let socket = socket::create(address)?;
    socket::option_set(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    socket::option_set(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    socket::option_set(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    if limits.socket_send_bytes > 0 {
        // The table of limits bounds it to 1 GiB.
        let bytes = limits.socket_send_bytes as libc::c_int;
        socket::option_set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes)?;
    }
    socket::bind(&socket, address)?;
    // SAFETY: the call takes no memory.
    socket::checked(unsafe {
        libc::listen(socket.as_raw_fd(), limits.backlog_max as libc::c_int)
    })?;
    Ok(socket)
}

/// The address that a listener is bound to, with the port that the kernel picked.
///
/// # Errors
/// The descriptor is not a socket of the Internet, or the process has no descriptor left.
pub fn bound_address(listener: &OwnedFd) -> io::Result<SocketAddr> {
    TcpListener::from(listener.try_clone()?).local_addr()
}

/// The most direct descriptors that one ring's table may hold in this process: its soft RLIMIT_NOFILE, and at
/// most as many as an operation's key can name.
#[must_use]
pub fn table_size_max() -> u32 {
    let soft = descriptors_soft_limit().min(1 << SLOT_BITS);
    soft as u32
}

fn descriptors_soft_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live structure. The call cannot fail for a known resource.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur
}

/// What the kernel refused, with what the operator can do about it.
pub(super) fn refused(step: &'static str, source: io::Error) -> FatalError {
    let remedy = match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is forbidden here: set the sysctl kernel.io_uring_disabled to 0, and in a container \
             use a seccomp profile that permits io_uring_setup, io_uring_enter and io_uring_register"
        }
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring: Linux 6.1 or newer is needed, and a sandbox such as gVisor has none"
        }
        Some(libc::ENOMEM) => {
            "raise RLIMIT_MEMLOCK (ulimit -l unlimited, LimitMEMLOCK=infinity), or lower completions_max, \
             submissions_max or receive_buffers_max"
        }
        Some(libc::EINVAL) => "this kernel is too old: Linux 6.1 or newer is needed",
        Some(libc::EMFILE | libc::ENFILE) => {
            "raise the limit of open files (ulimit -n, LimitNOFILE=, fs.file-max)"
        }
        _ => "run `shardcast doctor` for what this machine offers",
    };
    FatalError::RingSetup {
        step,
        source,
        remedy: remedy.to_owned(),
    }
}

fn table_refused(table_size: u32, source: io::Error) -> FatalError {
    let soft = descriptors_soft_limit();
    let remedy = match source.raw_os_error() {
        Some(libc::EMFILE) => format!(
            "{table_size} direct descriptors were asked for and the soft limit of open files is {soft}: raise it \
             (ulimit -n, LimitNOFILE=), lower shard_connections_max, or run more shards"
        ),
        Some(libc::EINVAL) => format!(
            "{table_size} direct descriptors were asked for; a ring takes 1 to {}",
            1 << SLOT_BITS
        ),
        _ => return refused("registering the table of direct descriptors", source),
    };
    FatalError::RingSetup {
        step: "registering the table of direct descriptors",
        source,
        remedy,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such socket options")]
    fn accepted_sockets_inherit_the_listeners_options() {
        let limits = Limits {
            socket_send_bytes: 65_536,
            ..Limits::default()
        };
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = match listen(address.parse().unwrap(), &limits) {
                Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                    println!("skipped: no {address} on this machine");
                    continue;
                }
                result => result.unwrap(),
            };
            let bound = bound_address(&socket).unwrap();
            assert_ne!(bound.port(), 0);
            let _client = TcpStream::connect(bound).unwrap();
            let (accepted, _) = TcpListener::from(socket).accept().unwrap();
            assert!(accepted.nodelay().unwrap(), "{address}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such socket options")]
    fn a_port_is_shared_between_listeners() {
        let limits = Limits::default();
        let first = listen("127.0.0.1:0".parse().unwrap(), &limits).unwrap();
        let address = bound_address(&first).unwrap();
        let second = listen(address, &limits).unwrap();
        assert_eq!(bound_address(&second).unwrap(), address);
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let cases = [
            (libc::EPERM, "kernel.io_uring_disabled"),
            (libc::ENOSYS, "6.1"),
            (libc::ENOMEM, "RLIMIT_MEMLOCK"),
            (libc::EINVAL, "too old"),
            (libc::EMFILE, "ulimit -n"),
            (libc::EIO, "doctor"),
        ];
        for (error, word) in cases {
            let text = refused("a step", io::Error::from_raw_os_error(error)).to_string();
            assert!(text.contains(word), "{text}");
        }
    }
}
