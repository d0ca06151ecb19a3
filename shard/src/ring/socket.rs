//! The system calls that prepare a socket before the ring has it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A socket's address as the kernel reads it.
pub(super) enum RawAddress {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl RawAddress {
    pub(super) const fn as_ptr(&self) -> *const libc::sockaddr {
        match self {
            Self::V4(address) => (&raw const *address).cast(),
            Self::V6(address) => (&raw const *address).cast(),
        }
    }

    /// Bytes of the address.
    pub(super) const fn length(&self) -> libc::socklen_t {
        let length = match self {
            Self::V4(address) => size_of_val(address),
            Self::V6(address) => size_of_val(address),
        };
        length as libc::socklen_t
    }
}

impl From<SocketAddr> for RawAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from(*address.ip()).to_be(),
                },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(address) => Self::V6(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            }),
        }
    }
}

/// A TCP socket of the family of `address`. It is blocking, as io_uring answers EAGAIN on one that is not.
///
/// # Errors
/// The kernel's answer, such as EMFILE.
pub(super) fn create(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    // SAFETY: the call takes no memory.
    let raw = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    checked(raw)?;
    // SAFETY: the descriptor is new, valid and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Sets an option whose value is a number.
///
/// # Errors
/// The kernel's answer.
pub(super) fn option_set(
    socket: &OwnedFd,
    level: i32,
    name: i32,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: a number points to nothing.
    unsafe { option_write(socket, level, name, &value) }
}

/// Sets an option whose value is a structure of the kernel's.
///
/// # Errors
/// The kernel's answer.
///
/// # Safety
/// What the structure points to is valid for as much as the option has the kernel read of it during the call.
pub(super) unsafe fn option_write<T>(
    socket: &OwnedFd,
    level: i32,
    name: i32,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the pointer is to a live value and its size is given; the caller answers for what that points to.
    checked(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
}

/// Makes the close of the socket a reset: nothing lingers, the port is free at once, and the peer sees ECONNRESET.
///
/// # Errors
/// The kernel's answer.
pub(super) fn reset_on_close_set(socket: &OwnedFd) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the structure points to nothing.
    unsafe { option_write(socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger) }
}

/// Binds the socket to a local address.
///
/// # Errors
/// The kernel's answer, such as EADDRINUSE or EADDRNOTAVAIL.
pub(super) fn bind(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let address = RawAddress::from(address);
    // SAFETY: the pointer is to a live socket address and its size is given.
    checked(unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr(), address.length()) })
}

/// The error of a system call that answers with a negative number.
pub(super) fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
