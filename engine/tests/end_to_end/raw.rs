//! Bytes on a socket: for input that no WebSocket library would send, and for more connections than
//! one would want to spend a library's buffers on.

use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::client::PATIENCE;

/// Every client frame is masked; the key itself is of no consequence to a test.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// First bytes of frames: the final bit and the opcode (RFC 6455, section 5.2).
pub(crate) const CONTINUATION: u8 = 0x00;
pub(crate) const TEXT: u8 = 0x01;
pub(crate) const FINAL_CONTINUATION: u8 = 0x80;
pub(crate) const FINAL_TEXT: u8 = 0x81;
pub(crate) const FINAL_BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

/// A frame from the server.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The final bit, reserved bits and opcode.
    pub(crate) first: u8,
    /// Its payload.
    pub(crate) payload: Vec<u8>,
}

/// The head of an HTTP response.
#[derive(Debug)]
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    head: String,
}

impl Response {
    fn parse(head: &str) -> Self {
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("not an HTTP response: {head:?}"));
        Self {
            status,
            head: head.to_owned(),
        }
    }

    /// The value of a header, by its name without regard to case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A socket whose bytes the test writes itself.
pub(crate) struct RawClient {
    stream: TcpStream,
    received: Vec<u8>,
}

impl RawClient {
    /// A TCP connection on which nothing was said.
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_nodelay(true).expect("an open socket");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("an open socket");
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// A connection after its handshake and the `welcome`, as `user`.
    pub(crate) fn open(port: u16, user: &str) -> Self {
        let mut client = Self::connect(port);
        client.send_bytes(upgrade_request(&format!("/ws?user={user}"), "").as_bytes());
        let response = client.response();
        assert_eq!(response.status, 101, "{response:?}");
        client.expect("welcome");
        client
    }

    /// Writes bytes as they stand.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the socket is open");
    }

    /// Writes bytes where the server may have closed already.
    pub(crate) fn try_send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a masked frame.
    pub(crate) fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.send_bytes(&frame(first, payload));
    }

    /// Sends an object as one text frame.
    pub(crate) fn send(&mut self, object: &Value) {
        self.send_frame(FINAL_TEXT, object.to_string().as_bytes());
    }

    /// Reads the head of a response.
    pub(crate) fn response(&mut self) -> Response {
        loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                return Response::parse(&String::from_utf8_lossy(&head));
            }
            let count = self.fill().expect("a response arrives");
            assert_ne!(
                count,
                0,
                "the stream ended within a response: {:?}",
                String::from_utf8_lossy(&self.received)
            );
        }
    }

    /// Reads until the server has closed the connection.
    pub(crate) fn expect_end_of_stream(&mut self) {
        loop {
            match self.fill() {
                Ok(0) => return,
                Ok(_) => {}
                // A server that closes before it has read everything resets the connection.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the server did not close the connection: {error}"),
            }
        }
    }

    /// What comes until the server has closed the connection, as text.
    pub(crate) fn rest(&mut self) -> String {
        self.expect_end_of_stream();
        String::from_utf8_lossy(&self.received).into_owned()
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) fn frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some((frame, length)) = parse(&self.received) {
                self.received.drain(..length);
                if self.received.is_empty() {
                    // Thousands of these clients stay open: an idle one keeps no buffer.
                    self.received = Vec::new();
                }
                return Ok(Some(frame));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next text message as it stands; pings are answered.
    pub(crate) fn text(&mut self) -> String {
        loop {
            let frame = self
                .frame()
                .unwrap_or_else(|error| panic!("no frame: {error}"))
                .expect("the stream goes on");
            match frame.first {
                FINAL_TEXT => return String::from_utf8(frame.payload).expect("text is UTF-8"),
                PING => self.send_frame(PONG, &frame.payload),
                PONG => {}
                _ => panic!(
                    "an unexpected frame {:#x}: {:?}",
                    frame.first,
                    String::from_utf8_lossy(&frame.payload)
                ),
            }
        }
    }

    /// Reads on to the next object of this type; others are dropped.
    pub(crate) fn expect(&mut self, kind: &str) -> Value {
        loop {
            let text = self.text();
            let object: Value = serde_json::from_str(&text).expect("objects are JSON");
            assert!(
                object["type"] != "error" || kind == "error",
                "an error in place of `{kind}`: {object}"
            );
            if object["type"] == kind {
                return object;
            }
        }
    }

    /// Reads on to the close frame, then to the end of the stream, and returns code and reason.
    pub(crate) fn expect_close(&mut self) -> (u16, String) {
        loop {
            let frame = self
                .frame()
                .unwrap_or_else(|error| panic!("no close frame: {error}"))
                .expect("a close frame comes before the end of the stream");
            if frame.first != CLOSE {
                continue;
            }
            let (code, reason) = frame
                .payload
                .split_first_chunk::<2>()
                .expect("the server gives a code");
            let code = u16::from_be_bytes(*code);
            let reason = String::from_utf8(reason.to_vec()).expect("a reason is UTF-8");
            // The server may have dropped the connection after an error of the protocol.
            drop(self.try_send_bytes(&self::frame(CLOSE, &code.to_be_bytes())));
            self.expect_end_of_stream();
            return (code, reason);
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16384];
        let count = self.stream.read(&mut chunk)?;
        self.received.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}

/// A handshake as browsers send it, with more header lines (each ending in CRLF) where a test needs them.
pub(crate) fn upgrade_request(path: &str, more_headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more_headers}\r\n"
    )
}

/// The bytes of a masked frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    bytes
}

/// The header of a masked frame that claims a length, with the mask.
pub(crate) fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    if let Ok(short) = u8::try_from(length)
        && short < 126
    {
        bytes.push(0x80 | short);
    } else if let Ok(medium) = u16::try_from(length) {
        bytes.push(0x80 | 126);
        bytes.extend(medium.to_be_bytes());
    } else {
        bytes.push(0x80 | 127);
        bytes.extend(length.to_be_bytes());
    }
    bytes.extend(MASK);
    bytes
}

/// The first whole frame of a stream from the server, and how many bytes it takes.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    assert_eq!(second & 0x80, 0, "a server does not mask its frames");
    let (length, rest) = match second {
        126 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (u64::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*length), rest)
        }
        short => (u64::from(short), rest),
    };
    let length = usize::try_from(length).expect("frames fit into memory");
    let payload = rest.get(..length)?.to_vec();
    let taken = bytes.len() - rest.len() + length;
    Some((Frame { first, payload }, taken))
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}
