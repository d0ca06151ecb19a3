//! Connecting, on a ring that has no listener: its owner, not the kernel, hands out the slots.
//!
//! A socket is made and prepared by ordinary system calls and moved into the table of direct descriptors; only the
//! connect itself, which waits for the network, is an operation of the ring. The plain descriptor lives no longer than the
//! call, so connections do not count towards the process's open files.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use super::RingDriver;
use super::ops::{self, Operation, Tag};
use super::socket::{self, RawAddress};
use crate::driver::ConnectionKey;

/// Where and how [`RingDriver::connect`] connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// The address to connect to.
    pub target: SocketAddr,
    /// The local address, of the target's family; `None` leaves it to the kernel's routing.
    ///
    /// The kernel picks the port as it connects, so a port counts as taken only between the same two addresses: each source
    /// gives as many connections to one target as `net.ipv4.ip_local_port_range` has ports, about 28,000. Use
    /// half of them: the kernel takes every other port first, and once those are gone each connect
    /// searches through all of them (measured: 25 µs before, above a millisecond after).
    pub source: Option<IpAddr>,
    /// Whether a close resets the connection (SO_LINGER with no time) instead of ending it in good order. The port is free
    /// at once then, as nothing stays in TIME_WAIT, and the peer sees ECONNRESET.
    pub reset_on_close: bool,
    /// Bytes of the receive buffer (SO_RCVBUF). The kernel doubles them for its own needs and cuts them to
    /// `net.core.rmem_max` first; `None` lets it size the buffer by itself.
    pub receive_buffer_bytes: Option<u32>,
}

impl ConnectOptions {
    /// Options that ask for nothing beyond the connection.
    #[must_use]
    pub const fn new(target: SocketAddr) -> Self {
        Self {
            target,
            source: None,
            reset_on_close: false,
            receive_buffer_bytes: None,
        }
    }

    /// A socket that is ready to connect.
    fn socket(&self) -> io::Result<OwnedFd> {
        let socket = socket::create(self.target)?;
        socket::option_set(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        if let Some(bytes) = self.receive_buffer_bytes {
            let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
            socket::option_set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)?;
        }
        if self.reset_on_close {
            socket::reset_on_close_set(&socket)?;
        }
        if let Some(source) = self.source {
            if source.is_ipv4() != self.target.is_ipv4() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("{source} cannot reach {}: one is IPv4", self.target),
                ));
            }
            // Without this option bind takes a port for itself, whatever the target, and 28,000 would be the end. It is one
            // of IPPROTO_IP for both families.
            let name = libc::IP_BIND_ADDRESS_NO_PORT;
            socket::option_set(&socket, libc::IPPROTO_IP, name, 1)?;
            socket::bind(&socket, SocketAddr::new(source, 0))?;
        }
        Ok(socket)
    }
}

/// The addresses that connects name: one for each target ever connected to, kept as long as the driver. Boxed, as
/// they must not move while the kernel may read them.
#[derive(Default)]
pub(super) struct Targets(HashMap<SocketAddr, Box<RawAddress>>);

impl Targets {
    fn address(&mut self, target: SocketAddr) -> &RawAddress {
        self.0
            .entry(target)
            .or_insert_with(|| Box::new(RawAddress::from(target)))
    }
}

impl RingDriver {
    /// Connects to `options.target`; answered by [`Completion::Connected`](crate::driver::Completion::Connected).
    /// After that the key is used as that of an accepted connection is; a connect that failed leaves a slot to
    /// [`close`](crate::driver::Driver::close), too.
    ///
    /// The slot must be free: never used before, or its last use answered by `Closed`. Whatever else is there is replaced. The
    /// generation is the caller's to count.
    ///
    /// # Errors
    /// Nothing is left behind, and no completion comes.
    /// * `InvalidInput`: the ring has a listener, so the kernel hands out its slots; the slot is beyond the table; or
    ///   the source is of another family than the target.
    /// * The kernel's answer to a system call, such as EMFILE (the socket needs a plain descriptor for the length of this
    ///   call), EADDRNOTAVAIL (the source is not an address of this machine) or ENOBUFS.
    pub fn connect(&mut self, key: ConnectionKey, options: &ConnectOptions) -> io::Result<()> {
        if self.acceptor.has_listener() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a ring with a listener cannot connect: the kernel hands out its slots",
            ));
        }
        let socket = options.socket()?;
        self.queue
            .ring()
            .submitter()
            .register_files_update(key.slot, &[socket.as_raw_fd()])?;
        let entry = ops::connect(key, self.targets.address(options.target));
        // SAFETY: the kernel copies the address as it takes the entry. It is never written to, stays where it is, and is kept
        // until the driver enters the ring no more.
        unsafe { self.queue.push_pointing(entry) };
        Ok(())
    }

    /// Asks for a connect in flight to end; it is then answered with `Err(ECANCELED)`. Does nothing when it has ended
    /// already, and its own answer stands.
    pub fn connect_stop(&mut self, key: ConnectionKey) {
        let connect = Tag::connection(Operation::Connect, key);
        self.queue.push(ops::cancel(connect));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    fn option_get(socket: &OwnedFd, level: i32, name: i32) -> libc::c_int {
        let mut value = 0;
        let mut length = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the pointers are to live integers and the size of the value is given.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                level,
                name,
                (&raw mut value).cast(),
                &raw mut length,
            )
        };
        assert_eq!(result, 0);
        value
    }

    /// What the kernel does, at the address that it was told. For Miri, which knows whether that is still permitted.
    #[test]
    fn an_address_stays_where_the_kernel_was_told() {
        let target = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut targets = Targets::default();
        let told = targets.address(target(7)).as_ptr();
        // The table grows more than once.
        for port in 8..40 {
            targets.address(target(port));
        }
        let moved = Box::new(targets);
        // SAFETY: the table is alive, and the address is of the Internet.
        let read = unsafe { *told.cast::<libc::sockaddr_in>() };
        assert_eq!(read.sin_port, 7_u16.to_be());
        drop(moved);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such socket options")]
    fn a_socket_has_what_was_asked_for_and_no_more() {
        let target = "127.0.0.1:9".parse().unwrap();
        let plain = ConnectOptions::new(target).socket().unwrap();
        assert_eq!(option_get(&plain, libc::IPPROTO_TCP, libc::TCP_NODELAY), 1);
        let options = ConnectOptions {
            source: Some(Ipv4Addr::new(127, 0, 0, 9).into()),
            receive_buffer_bytes: Some(10_000),
            ..ConnectOptions::new(target)
        };
        let socket = options.socket().unwrap();
        let receive = option_get(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF);
        assert_eq!(receive, 20_000, "doubled, as socket(7) says");
        assert_ne!(
            option_get(&plain, libc::SOL_SOCKET, libc::SO_RCVBUF),
            receive
        );
        let bound = TcpStream::from(socket).local_addr().unwrap();
        assert_eq!(Some(bound.ip()), options.source);
        assert_eq!(bound.port(), 0, "the port waits for the target");
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri connects no sockets")]
    fn addresses_are_those_of_the_standard_library() {
        for target in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(target) else {
                println!("skipped: no {target} on this machine");
                continue;
            };
            let address = listener.local_addr().unwrap();
            let mut targets = Targets::default();
            let socket = ConnectOptions::new(address).socket().unwrap();
            let raw = targets.address(address);
            // SAFETY: the address lives in the table and its length is given.
            let result = unsafe { libc::connect(socket.as_raw_fd(), raw.as_ptr(), raw.length()) };
            assert_eq!(result, 0, "{target}");
            let peer = TcpStream::from(socket).peer_addr().unwrap();
            assert_eq!(peer, address);
            let first = targets.address(address).as_ptr();
            assert_eq!(targets.address(address).as_ptr(), first);
            assert_eq!(targets.0.len(), 1);
        }
    }
}
