//! One connection: its socket, and what waits because the socket was full.

use std::net::{Shutdown, TcpStream};

use rustix::net::SendFlags;

use crate::handshake::Route;

/// How many bytes may wait for one connection.
const BACKLOG_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// The request has not come in whole.
    Opening,
    /// It speaks the protocol of its path.
    Open(Route),
    /// It has been sent a close frame; what it still sends is thrown away.
    Closing,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// The kernel has it, or it waits behind others that wait already.
    Taken,
    /// It is the first that waits: the connection is to be flushed when the socket is writable.
    Blocked,
    /// More than the bound waits: the connection is to be dropped.
    TooSlow,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    pub(crate) stage: Stage,
    /// The beginning of a request or frame whose end has not come yet.
    pub(crate) unread: Vec<u8>,
    pub(crate) name: Option<Box<str>>,
    pub(crate) rooms: Vec<Box<str>>,
    backlog: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(socket: TcpStream) -> Self {
        let (unread, rooms, backlog) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            socket,
            stage: Stage::Opening,
            unread,
            name: None,
            rooms,
            backlog,
        }
    }

    /// Sends a frame, or keeps what the kernel does not take.
    pub(crate) fn send(&mut self, frame: &[u8]) -> Outcome {
        let nothing_waited = self.backlog.is_empty();
        let sent = if nothing_waited {
            send_now(&self.socket, frame)
        } else {
            0
        };
        let rest = &frame[sent..];
        if rest.is_empty() {
            return Outcome::Taken;
        }
        if self.backlog.len() + rest.len() > BACKLOG_BYTES_MAX {
            return Outcome::TooSlow;
        }
        self.backlog.extend_from_slice(rest);
        if nothing_waited {
            Outcome::Blocked
        } else {
            Outcome::Taken
        }
    }

    /// Sends what waits; true when all of it is sent.
    pub(crate) fn flush(&mut self) -> bool {
        let sent = send_now(&self.socket, &self.backlog);
        self.backlog.drain(..sent);
        if self.backlog.is_empty() {
            self.backlog = Vec::new();
            self.end_output();
        }
        self.backlog.is_empty()
    }

    /// Ends the outgoing direction of a closing connection once its close frame is sent, so that the peer sees the end and
    /// closes too.
    pub(crate) fn end_output(&self) {
        if self.stage == Stage::Closing && self.backlog.is_empty() {
            // An error means that the connection has gone, and `epoll` says so as well.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }
}

/// How many bytes the kernel took. All of them where the connection is broken: nobody misses them, and `epoll` tells.
fn send_now(socket: &TcpStream, bytes: &[u8]) -> usize {
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(sent) => sent,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
        Err(_) => bytes.len(),
    }
}
