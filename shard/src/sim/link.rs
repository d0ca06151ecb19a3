//! One connection between a client and a shard, as the two kernels in between hold it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;

use super::faults::Faults;
use super::random::Random;
use crate::driver::Shutdown;

/// A link that both of its ends hold.
pub(super) type SharedLink = Rc<RefCell<Link>>;

/// One direction: a bounded queue of bytes, standing for the send buffer, the wire and the receive buffer.
#[derive(Debug)]
struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// The writer has sent its FIN, which comes after the bytes.
    finished: bool,
}

impl Pipe {
    fn new(random: &mut Random, faults: &Faults) -> Self {
        Self {
            bytes: VecDeque::new(),
            capacity: random.magnitude_between(faults.pipe_bytes_min, faults.pipe_bytes_max),
            finished: false,
        }
    }

    fn room(&self) -> usize {
        self.capacity - self.bytes.len()
    }

    fn push(&mut self, bytes: &[u8]) -> usize {
        let length = bytes.len().min(self.room());
        self.bytes.extend(&bytes[..length]);
        length
    }

    fn pop(&mut self, into: &mut [u8]) -> usize {
        let length = into.len().min(self.bytes.len());
        for (place, byte) in into.iter_mut().zip(self.bytes.drain(..length)) {
            *place = byte;
        }
        length
    }

    /// Loses what was sent last, and the FIN after it.
    fn lose(&mut self, random: &mut Random) {
        self.bytes.truncate(random.between(0, self.bytes.len()));
        self.finished = false;
    }
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// What the client sends.
    Server,
    /// What the shard sends.
    Client,
}

/// What a receive on the server's end meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readable {
    /// Nothing yet.
    Nothing,
    /// So many bytes.
    Bytes(usize),
    /// The end of the stream.
    End,
    /// An error number.
    Error(i32),
}

/// A connection. Its methods are named for the end that calls them.
#[derive(Debug)]
pub(super) struct Link {
    peer: IpAddr,
    to_server: Pipe,
    to_client: Pipe,
    server_open: bool,
    client_open: bool,
    /// The server has shut down both directions: what the client still sends is answered by RST.
    server_deaf: bool,
    /// RST: neither end can send any more.
    broken: bool,
    /// The error that the server has not been told yet. Linux tells it once, to whichever operation comes first;
    /// after that, a receive meets the end of the stream and a send EPIPE.
    server_error: Option<i32>,
    /// Bytes of a direction after which the connection breaks.
    break_after: Option<(Toward, usize)>,
}

impl Link {
    pub(super) fn new(peer: IpAddr, random: &mut Random, faults: &Faults) -> Self {
        Self {
            peer,
            to_server: Pipe::new(random, faults),
            to_client: Pipe::new(random, faults),
            server_open: true,
            client_open: true,
            server_deaf: false,
            broken: false,
            server_error: None,
            break_after: None,
        }
    }

    /// A connection to a shard that does not listen.
    pub(super) fn refused(peer: IpAddr, random: &mut Random, faults: &Faults) -> Self {
        let mut link = Self::new(peer, random, faults);
        link.server_open = false;
        link.broken = true;
        link
    }

    pub(super) fn shared(self) -> SharedLink {
        Rc::new(RefCell::new(self))
    }

    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// The connection breaks when so many more bytes have passed in a direction: the last of them still arrives.
    pub(super) fn break_after(&mut self, toward: Toward, bytes: usize) {
        self.break_after = Some((toward, bytes));
        self.passed(toward, 0);
    }

    /// How many of so many bytes may still pass.
    fn permitted(&self, toward: Toward, bytes: usize) -> usize {
        match self.break_after {
            Some((of, left)) if of == toward => bytes.min(left),
            _ => bytes,
        }
    }

    /// So many bytes have passed.
    fn passed(&mut self, toward: Toward, bytes: usize) {
        let Some((of, left)) = &mut self.break_after else {
            return;
        };
        if *of != toward {
            return;
        }
        *left -= bytes;
        if *left == 0 && !self.broken {
            self.broken = true;
            self.server_error = Some(libc::ECONNRESET);
            self.to_server.bytes.clear();
            self.to_server.finished = false;
        }
    }

    /// RST, seen by both ends after the bytes that have already arrived. Answers how many were lost.
    pub(super) fn break_off(&mut self, random: &mut Random, faults: &Faults) -> u64 {
        if self.broken {
            return 0;
        }
        let before = self.to_server.bytes.len() + self.to_client.bytes.len();
        self.broken = true;
        // Linux (tcp_reset) says EPIPE where the peer's FIN was already seen.
        self.server_error = Some(match self.to_server.finished {
            true => libc::EPIPE,
            false => libc::ECONNRESET,
        });
        if random.chance(faults.loss_per_mille) {
            self.to_server.lose(random);
            self.to_client.lose(random);
        }
        (before - self.to_server.bytes.len() - self.to_client.bytes.len()) as u64
    }

    pub(super) fn server_readable(&self) -> Readable {
        match (self.to_server.bytes.len(), self.server_error) {
            (0, Some(error)) if self.broken => Readable::Error(error),
            (0, _) if self.broken || self.to_server.finished || self.server_deaf => Readable::End,
            (0, _) => Readable::Nothing,
            (length, _) => Readable::Bytes(length),
        }
    }

    pub(super) fn server_read(&mut self, into: &mut [u8]) -> usize {
        let length = self.permitted(Toward::Server, into.len());
        let length = self.to_server.pop(&mut into[..length]);
        self.passed(Toward::Server, length);
        length
    }

    /// The server was told of the error.
    pub(super) fn server_error_take(&mut self) -> Option<i32> {
        self.server_error.take()
    }

    /// Whether a send would get anywhere, be it into an error.
    pub(super) fn server_writable(&self) -> bool {
        self.broken || self.to_client.finished || !self.client_open || self.to_client.room() > 0
    }

    /// Takes as many bytes as there is room for.
    pub(super) fn server_write(
        &mut self,
        bytes: &[u8],
        random: &mut Random,
        faults: &Faults,
    ) -> Result<usize, i32> {
        if self.broken {
            return Err(self.server_error.take().unwrap_or(libc::EPIPE));
        }
        if self.to_client.finished {
            return Err(libc::EPIPE);
        }
        if !self.client_open {
            // The bytes leave, and the answer is RST.
            self.break_off(random, faults);
            return Ok(bytes.len());
        }
        let length = self.permitted(Toward::Client, bytes.len());
        let length = self.to_client.push(&bytes[..length]);
        self.passed(Toward::Client, length);
        Ok(length)
    }

    pub(super) fn server_shutdown(&mut self, how: Shutdown, random: &mut Random) {
        self.to_client.finished |= !self.broken;
        if how == Shutdown::Both {
            self.server_deaf = true;
            // What has arrived may or may not still be read.
            if random.coin() {
                self.to_server.bytes.clear();
            }
        }
    }

    /// The server's descriptor is closed: FIN, or RST where bytes of the client were not read.
    pub(super) fn server_close(&mut self, random: &mut Random, faults: &Faults) {
        match self.to_server.bytes.is_empty() {
            true => self.to_client.finished |= !self.broken,
            false => {
                self.break_off(random, faults);
            }
        }
        self.server_open = false;
        self.to_server.bytes.clear();
    }

    /// The server's process lost the socket.
    pub(super) fn server_vanish(&mut self, random: &mut Random, faults: &Faults) {
        self.break_off(random, faults);
        self.server_open = false;
        self.to_server.bytes.clear();
    }

    /// How many of the bytes were taken; 0 where the buffer is full or the client cannot send any more.
    pub(super) fn client_write(
        &mut self,
        bytes: &[u8],
        random: &mut Random,
        faults: &Faults,
    ) -> usize {
        if self.broken || self.to_server.finished {
            return 0;
        }
        if !self.server_open || self.server_deaf {
            self.break_off(random, faults);
            return bytes.len();
        }
        self.to_server.push(bytes)
    }

    pub(super) fn client_read(&mut self, bytes_max: usize) -> Vec<u8> {
        let mut bytes = vec![0; bytes_max.min(self.to_client.bytes.len())];
        self.to_client.pop(&mut bytes);
        bytes
    }

    pub(super) fn client_finish(&mut self) {
        if !self.broken {
            self.to_server.finished = true;
        }
    }

    /// The client sends RST and reads nothing more.
    pub(super) fn client_reset(&mut self, random: &mut Random, faults: &Faults) {
        self.break_off(random, faults);
        self.to_client.bytes.clear();
        self.to_client.finished = false;
    }

    /// The client's descriptor is closed: FIN, or RST where bytes of the server were not read.
    pub(super) fn client_close(&mut self, random: &mut Random, faults: &Faults) {
        match self.to_client.bytes.is_empty() {
            true => self.client_finish(),
            false => self.client_reset(random, faults),
        }
        self.client_open = false;
    }

    pub(super) fn client_at_end_of_stream(&self) -> bool {
        self.to_client.finished && self.to_client.bytes.is_empty()
    }

    pub(super) fn client_is_reset(&self) -> bool {
        self.broken && !self.to_client.finished && self.to_client.bytes.is_empty()
    }

    pub(super) fn client_readable(&self) -> usize {
        self.to_client.bytes.len()
    }
}
