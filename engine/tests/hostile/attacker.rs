//! One hostile connection, and the floods that many of them make.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::raw::{CLOSE, upgrade_request};
use crate::scene::Arena;
use crate::scene::machine;

/// How long an attacker waits for an answer that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server tells a connection that sends too much.
const RATE_LIMITED: &[u8] = b"\"rate_limited\"";

/// A connection whose bytes the test writes itself. It is reset when it is dropped.
pub(crate) struct Attacker {
    stream: TcpStream,
    received: Vec<u8>,
    /// Place in what is sent over and over.
    sent: usize,
    was_limited: bool,
    has_begun: bool,
    unsent: Vec<u8>,
}

impl Attacker {
    /// A TCP connection on which nothing was said.
    pub(crate) fn connect(arena: &Arena) -> Self {
        Self::try_connect(arena).expect("the server listens")
    }

    /// The same where there may be no connection to be had.
    pub(crate) fn try_connect(arena: &Arena) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", arena.port()))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        machine::reset_on_close(&stream);
        Ok(Self {
            stream,
            received: Vec::new(),
            sent: 0,
            was_limited: false,
            has_begun: false,
            unsent: Vec::new(),
        })
    }

    /// A connection after its handshake, as a user of its own.
    pub(crate) fn open(arena: &Arena) -> Self {
        Self::open_with(arena, "")
    }

    /// The same with more header lines, each ending in CRLF.
    pub(crate) fn open_with(arena: &Arena, headers: &str) -> Self {
        let mut attacker = Self::connect(arena);
        let path = format!("/ws?user=hostile-{}", arena.unique());
        attacker.send(upgrade_request(&path, headers).as_bytes());
        assert_eq!(attacker.status(), 101);
        attacker
    }

    /// Whether it was told to begin.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// It begins now.
    pub(crate) fn begin(&mut self) {
        self.has_begun = true;
    }

    /// Writes bytes, also where the server may have closed.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// From here on neither reads nor writes wait.
    pub(crate) fn never_wait(&self) {
        self.stream.set_nonblocking(true).expect("an open socket");
    }

    /// The status of an HTTP answer; 0 where the connection ended without one.
    pub(crate) fn status(&mut self) -> u16 {
        loop {
            if let Some(end) = position(&self.received, b"\r\n\r\n") {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                return status_in(&head);
            }
            if !matches!(self.fill(), Ok(1..)) {
                return 0;
            }
        }
    }

    /// The next frame's first byte and payload; `None` at the end of the stream.
    pub(crate) fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((first, start, length)) = crate::scene::frame_at(&self.received) {
                let payload = self.received[start..start + length].to_vec();
                self.received.drain(..start + length);
                return Some((first, payload));
            }
            if !matches!(self.fill(), Ok(1..)) {
                return None;
            }
        }
    }

    /// Reads on to the close frame and returns its code; 0 where the connection ended without one.
    pub(crate) fn close_code(&mut self) -> u16 {
        while let Some((first, payload)) = self.frame() {
            if let Some(code) = code_of_close(first, &payload) {
                return code;
            }
        }
        0
    }

    /// Reads on to the next text in which `part` occurs.
    pub(crate) fn text_with(&mut self, part: &str) -> Option<String> {
        loop {
            let (_, payload) = self.frame()?;
            let text = String::from_utf8_lossy(&payload);
            if text.contains(part) {
                return Some(text.into_owned());
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16384];
        let count = self.stream.read(&mut chunk)?;
        self.received.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    /// Goes on with sending `bytes` over and over, as far as the socket takes them; answers how many it took. For those that never wait.
    pub(crate) fn pump(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.write(&bytes[self.sent..]) {
            Ok(count) => {
                self.sent = (self.sent + count) % bytes.len();
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Goes on by one byte. For those that never wait.
    pub(crate) fn pump_one(&mut self, bytes: &[u8]) {
        let next = self.sent % bytes.len();
        if self.stream.write(&bytes[next..=next]).is_ok() {
            self.sent += 1;
        }
    }

    /// Sends `bytes` as soon as the socket takes them. For those that never wait, and have nothing left to send.
    pub(crate) fn send_later(&mut self, bytes: Vec<u8>) {
        self.unsent = bytes;
        self.finish_sending();
    }

    /// Goes on with what was to be sent later; whether all of it has left.
    pub(crate) fn finish_sending(&mut self) -> bool {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => {
                    self.unsent.drain(..count);
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// What has come, up to a socket buffer of it. For those that never wait.
    pub(crate) fn read_some(&mut self) -> Vec<u8> {
        let mut chunk = vec![0; 65536];
        let count = self.stream.read(&mut chunk).unwrap_or(0);
        chunk.truncate(count);
        chunk
    }

    /// Throws away what has come, after a look for the notice that it sends too much. For those that never wait.
    pub(crate) fn drain(&mut self, arena: &Arena) -> io::Result<usize> {
        let mut chunk = [0; 65536];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                if !self.was_limited && position(&chunk[..count], RATE_LIMITED).is_some() {
                    self.was_limited = true;
                    arena.count("rate_limited");
                }
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// What has come of an HTTP answer, without waiting for it: `None` so far. For those that never wait.
    pub(crate) fn status_so_far(&mut self) -> Option<u16> {
        match self.fill() {
            Ok(0) => Some(0),
            Ok(_) if self.received.ends_with(b"\r\n\r\n") || self.received.len() > 12 => {
                Some(status_in(&self.received))
            }
            Ok(_) => None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(_) => Some(0),
        }
    }
}

fn status_in(head: &[u8]) -> u16 {
    let digits = head.get(9..12).unwrap_or_default();
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

/// The code of a close frame; `None` for other frames, and where it has none.
pub(crate) fn code_of_close(first: u8, payload: &[u8]) -> Option<u16> {
    let code = payload.first_chunk::<2>().filter(|_| first == CLOSE)?;
    Some(u16::from_be_bytes(*code))
}

pub(crate) fn position(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}

/// So many connections send `opening` and then `bytes` over and over, as fast as the server takes them, and read what comes back.
pub(crate) fn flood(
    arena: &Arena,
    connections: usize,
    headers: &str,
    opening: &[u8],
    bytes: &[u8],
) {
    let mut attackers: Vec<Attacker> = (0..connections)
        .map_while(|_| arena.goes_on().then(|| Attacker::open_with(arena, headers)))
        .collect();
    for attacker in &mut attackers {
        attacker.send(opening);
        attacker.never_wait();
    }
    while arena.goes_on() {
        let mut moved = 0;
        attackers.retain_mut(|attacker| {
            match (attacker.pump(bytes), attacker.drain(arena)) {
                (Ok(sent), Ok(received)) => moved += sent + received,
                _ => arena.count("ended"),
            }
            true
        });
        if moved == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// `bytes` repeated until they are some socket buffers' worth.
pub(crate) fn repeated(bytes: &[u8]) -> Vec<u8> {
    bytes.repeat((64 << 10) / bytes.len() + 1)
}
