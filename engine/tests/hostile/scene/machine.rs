//! What a scene asks of the operating system: cores, priorities, addresses, and what it says about the server.

#![allow(unsafe_code, reason = "the standard library has none of these calls")]

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The core of the server, where there are two.
pub(crate) const SERVER_CORE: usize = 0;

/// The core of everybody else.
const CLIENT_CORE: usize = 1;

/// Whether server and clients can have cores of their own.
pub(crate) fn has_two_cores() -> bool {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    [SERVER_CORE, CLIENT_CORE]
        .iter()
        .all(|wanted| cores.iter().any(|core| core.id == *wanted))
}

/// Moves the calling thread to the clients' core, where that is permitted.
pub(crate) fn pin_to_client_core() {
    if has_two_cores() {
        core_affinity::set_for_current(core_affinity::CoreId { id: CLIENT_CORE });
    }
}

/// Lets the calling thread run before all ordinary ones of its core, where that is permitted: members measure the server,
/// not how busy the attackers keep their own core.
pub(crate) fn run_before_others() -> bool {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is to a live parameter, which the call only reads; 0 names the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) == 0 }
}

/// Prefers this session, which the server is of, to the others of the machine where `SHARDCAST_HOSTILE_PREFER` asks for it and that is permitted.
/// Linux divides a core between sessions first, so that priorities count only within each (sched(7), "the autogroup feature").
pub(crate) fn prefer_session() {
    if std::env::var_os("SHARDCAST_HOSTILE_PREFER").is_some() {
        // Without it the figures are those of a machine that is shared.
        drop(std::fs::write("/proc/self/autogroup", "-20"));
    }
}

/// Prefers every thread of a process to whatever else runs on the machine, where that is permitted.
pub(crate) fn prefer(pid: u32) {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return;
    };
    for task in tasks.flatten() {
        let name = task.file_name();
        if let Some(thread) = name.to_str().and_then(|name| name.parse::<u32>().ok()) {
            // SAFETY: the call touches no memory.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, thread, -20) };
        }
    }
}

/// Connects to the server from a loopback address of the caller's choice.
pub(crate) fn connect_from(source: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    // SAFETY: the call touches no memory.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let (from, to) = (
        address(SocketAddrV4::new(source, 0)),
        address(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)),
    );
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the pointer is to a live address of the length given, which the call only reads.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const from).cast(), length) };
    if bound != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    let connected = unsafe { libc::connect(socket.as_raw_fd(), (&raw const to).cast(), length) };
    if connected != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpStream::from(socket))
}

fn address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*address.ip()).to_be(),
        },
        sin_zero: [0; 8],
    }
}

/// Has a socket reset its connection when it is closed. It also leaves no port behind that would have to wait.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    set_option(stream, libc::SO_LINGER, &linger);
}

fn set_option<T>(stream: &TcpStream, option: libc::c_int, value: &T) {
    let length = size_of::<T>() as libc::socklen_t;
    let pointer = std::ptr::from_ref(value).cast();
    let socket = stream.as_raw_fd();
    // SAFETY: the pointer is to a live value of the length given, which the call only reads.
    let set = unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, option, pointer, length) };
    assert_eq!(set, 0, "an open socket");
}

/// Waits until one of the descriptors can be read, `timeout_ns` at the most.
pub(crate) fn wait_readable(descriptors: &mut [libc::pollfd], timeout_ns: u64) {
    let timeout = libc::timespec {
        tv_sec: (timeout_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: the slice is live and of the length given, and so is the timeout; without a mask the last pointer is null.
    unsafe {
        libc::ppoll(
            descriptors.as_mut_ptr(),
            descriptors.len() as libc::nfds_t,
            &raw const timeout,
            std::ptr::null(),
        )
    };
}

/// Bytes that may wait to be decoded, of each connection that sends too much: what one receive takes, 64 KiB and the rest of a buffer. Kernels before
/// 6.17 do not know that bound and take as much as there are buffers for. A vector may be twice as large as what is in it.
pub(crate) fn stash_bytes() -> u64 {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let version = (numbers.next(), numbers.next());
    let is_bounded =
        matches!(version, (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (6_u32, 17_u32));
    let received = if is_bounded {
        (64 << 10) + 8192
    } else {
        512 * 8192
    };
    2 * received
}

/// Connections that a server still holds on `port` of 127.0.0.1, whatever has become of their other ends. Those of other addresses do not count:
/// an end of a client's that is bound to one may have the same port.
pub(crate) fn connections_of(port: u16) -> usize {
    /// States of `include/net/tcp_states.h` in which the server's end is a descriptor no more: TIME_WAIT, CLOSE, LISTEN, NEW_SYN_RECV.
    const NOBODYS: [&str; 4] = ["06", "07", "0A", "0C"];
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel lists its sockets");
    // The kernel prints an address as the number that its four bytes make in memory.
    let address = u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets());
    let server_end = format!("{address:08X}:{port:04X}");
    table
        .lines()
        .skip(1)
        .filter(|line| {
            let mut words = line.split_whitespace().skip(1);
            let is_servers = words.next() == Some(server_end.as_str());
            let state = words.nth(1);
            is_servers && state.is_some_and(|state| !NOBODYS.contains(&state))
        })
        .count()
}

#[test]
fn connections_of_another_address_are_not_the_servers() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = server.local_addr().expect("a bound socket").port();
    // An address that nobody else uses, so that the port is free there.
    let stranger = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 9), port)).expect("it is free");
    let _to_stranger = TcpStream::connect(stranger.local_addr().expect("a bound socket"));
    assert_eq!(connections_of(port), 0);
    let _to_server = TcpStream::connect(server.local_addr().expect("a bound socket"));
    assert_eq!(connections_of(port), 1);
}
