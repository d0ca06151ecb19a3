//! A client of the JSON protocol, made from tungstenite: nothing of it shares code with the server.

use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use crate::server::Server;

/// How long an answer may take before the test calls it missing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long one read waits before the deadline is looked at again.
const READ_SLICE: Duration = Duration::from_millis(50);

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By a close frame: its code and reason.
    Closed(u16, String),
    /// Without one.
    Dropped(String),
}

/// What a connection is carried by.
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// An open connection.
pub(crate) struct Client {
    socket: WebSocket<Stream>,
    /// The server's first object.
    pub(crate) welcome: Value,
    /// Received and not yet asked for, oldest first.
    unclaimed: VecDeque<Value>,
    /// Objects that were received.
    received: usize,
    end: Option<End>,
}

impl Client {
    /// Connects as `user`.
    pub(crate) fn connect(server: &Server, user: &str) -> Self {
        Self::try_connect(server, user)
            .unwrap_or_else(|error| panic!("{user} cannot connect: {error}"))
    }

    /// Connects as a user that the server names.
    pub(crate) fn connect_anonymous(server: &Server) -> Self {
        Self::open(server, "/ws").unwrap_or_else(|error| panic!("cannot connect: {error}"))
    }

    /// Connects as `user`, where the server may refuse.
    pub(crate) fn try_connect(server: &Server, user: &str) -> Result<Self, String> {
        Self::open(server, &format!("/ws?user={user}"))
    }

    /// Connects as whoever a token in the query says.
    pub(crate) fn connect_with_token(server: &Server, token: &str) -> Self {
        Self::open(server, &format!("/ws?token={token}"))
            .unwrap_or_else(|error| panic!("the token does not count: {error}"))
    }

    /// A connection after its handshake, on which nothing was said.
    pub(crate) fn connect_unnamed(server: &Server) -> Self {
        Self::shake_hands(server, "/ws").unwrap_or_else(|error| panic!("cannot connect: {error}"))
    }

    /// Connects with a path of any kind, where the server may refuse.
    pub(crate) fn open(server: &Server, path: &str) -> Result<Self, String> {
        let mut client = Self::shake_hands(server, path)?;
        client.welcome = client.try_expect("welcome", |object| object["type"] == "welcome")?;
        Ok(client)
    }

    /// A connection whose handshake is done, and that has been told nothing yet.
    pub(crate) fn shake_hands(server: &Server, path: &str) -> Result<Self, String> {
        let stream =
            TcpStream::connect(("127.0.0.1", server.port())).map_err(|error| error.to_string())?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        // The handshake is one blocking exchange; only later reads are cut into slices.
        stream
            .set_read_timeout(Some(PATIENCE))
            .map_err(|error| error.to_string())?;
        let url = format!("ws://127.0.0.1:{}{path}", server.port());
        let stream = match &server.certificate {
            None => Stream::Plain(stream),
            Some(certificate) => Stream::Tls(Box::new(certificate.connect(stream))),
        };
        let config = WebSocketConfig::default();
        let (socket, _) = tungstenite::client::client_with_config(url, stream, Some(config))
            .map_err(|error| error.to_string())?;
        socket
            .get_ref()
            .tcp()
            .set_read_timeout(Some(READ_SLICE))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            socket,
            welcome: Value::Null,
            unclaimed: VecDeque::new(),
            received: 0,
            end: None,
        })
    }

    /// Says goodbye, and waits until the server has.
    pub(crate) fn close(mut self) {
        let goodbye = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        self.socket
            .close(Some(goodbye))
            .unwrap_or_else(|error| panic!("cannot close: {error}"));
        self.expect_end();
    }

    /// The stream below, for a second writer or for socket options.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.socket.get_ref().tcp()
    }

    /// How many objects it has received.
    pub(crate) fn received(&self) -> usize {
        self.received
    }

    /// Sends an object.
    pub(crate) fn send(&mut self, object: &Value) {
        self.send_text(&object.to_string());
    }

    /// Sends a text as it stands.
    pub(crate) fn send_text(&mut self, text: &str) {
        self.try_send_text(text)
            .unwrap_or_else(|error| panic!("cannot send {text:.200}: {error}"));
    }

    /// Sends a text where the connection may be gone.
    pub(crate) fn try_send_text(&mut self, text: &str) -> Result<(), String> {
        self.socket
            .send(Message::text(text))
            .map_err(|error| error.to_string())
    }

    /// Joins a room and returns the answer.
    pub(crate) fn join(&mut self, room: &str) -> Value {
        self.send(&json!({"type": "join", "room": room}));
        self.expect_in("joined", room)
    }

    /// Joins a room, asking for what was missed since a place, and returns the answer.
    pub(crate) fn join_since(&mut self, room: &str, epoch: u64, seq: u64) -> Value {
        self.send(&json!({"type": "join", "room": room, "since": {"epoch": epoch, "seq": seq}}));
        self.expect_in("joined", room)
    }

    /// Publishes without asking for an acknowledgement.
    pub(crate) fn publish(&mut self, room: &str, content: &Value) {
        self.send(&json!({"type": "message", "room": room, "content": content}));
    }

    /// One round trip to this connection's shard.
    pub(crate) fn heartbeat(&mut self) {
        self.try_heartbeat()
            .unwrap_or_else(|error| panic!("no answer to a heartbeat: {error}"));
    }

    /// One round trip to this connection's shard, where the connection may be gone.
    pub(crate) fn try_heartbeat(&mut self) -> Result<(), String> {
        self.try_send_text(r#"{"type":"heartbeat"}"#)?;
        self.try_expect("heartbeat", |object| object["type"] == "heartbeat")
            .map(drop)
    }

    /// The oldest object of this type, received already or still to come. Other objects are kept.
    pub(crate) fn expect(&mut self, kind: &str) -> Value {
        self.expect_where(kind, |object| object["type"] == kind)
    }

    /// The oldest object of this type about this room.
    pub(crate) fn expect_in(&mut self, kind: &str, room: &str) -> Value {
        self.expect_where(&format!("{kind} in {room}"), |object| {
            object["type"] == kind && object["room"] == room
        })
    }

    /// The oldest object that fits. `description` is for the message of a failure.
    pub(crate) fn expect_where(
        &mut self,
        description: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        self.try_expect(description, fits)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The oldest object that fits, where the connection may end first.
    pub(crate) fn try_expect(
        &mut self,
        description: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<Value, String> {
        if let Some(index) = self.unclaimed.iter().position(&fits) {
            return Ok(self
                .unclaimed
                .remove(index)
                .expect("the index was just found"));
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.receive_once() {
                Some(object) if fits(&object) => return Ok(object),
                Some(object) => self.unclaimed.push_back(object),
                None => {}
            }
            if let Some(end) = &self.end {
                return Err(format!(
                    "the connection ended before `{description}`: {end:?}"
                ));
            }
        }
        let recent: Vec<_> = self.unclaimed.iter().rev().take(10).collect();
        Err(format!(
            "no `{description}` within {PATIENCE:?}; {} others came, the last of them {recent:?}",
            self.unclaimed.len()
        ))
    }

    /// Takes everything of this type that was received and not asked for.
    pub(crate) fn take_unclaimed(&mut self, kind: &str) -> Vec<Value> {
        self.take_unclaimed_where(|object| object["type"] == kind)
    }

    /// Takes everything of this type about this room that was received and not asked for.
    pub(crate) fn take_unclaimed_in(&mut self, kind: &str, room: &str) -> Vec<Value> {
        self.take_unclaimed_where(|object| object["type"] == kind && object["room"] == room)
    }

    /// Takes everything that was received and not asked for.
    pub(crate) fn take_all(&mut self) -> Vec<Value> {
        self.take_unclaimed_where(|_| true)
    }

    fn take_unclaimed_where(&mut self, fits: impl FnMut(&Value) -> bool) -> Vec<Value> {
        let (taken, kept) = self.unclaimed.drain(..).partition(fits);
        self.unclaimed = kept;
        taken.into()
    }

    /// Reads on until the connection ends. What it receives meanwhile is kept.
    pub(crate) fn expect_end(&mut self) -> End {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(object) = self.receive_once() {
                self.unclaimed.push_back(object);
            }
            if let Some(end) = &self.end {
                return end.clone();
            }
        }
        panic!("the connection did not end within {PATIENCE:?}");
    }

    /// Reads one object; `None` where none came in this slice of time or the connection ended.
    fn receive_once(&mut self) -> Option<Value> {
        if self.end.is_some() {
            return None;
        }
        match self.socket.read() {
            Ok(Message::Text(text)) => {
                self.received += 1;
                let object = serde_json::from_str(text.as_str());
                Some(object.unwrap_or_else(|error| panic!("not JSON ({error}): {text:.200}")))
            }
            Ok(Message::Close(frame)) => {
                // The answering close frame leaves with the next flush; the peer may be gone by then.
                drop(self.socket.flush());
                self.end = Some(match frame {
                    Some(frame) => End::Closed(frame.code.into(), frame.reason.to_string()),
                    None => End::Closed(1005, String::new()),
                });
                None
            }
            Ok(Message::Binary(bytes)) => panic!("a binary message of {} bytes", bytes.len()),
            Ok(_) => None,
            Err(Error::Io(error))
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                None
            }
            Err(error) => {
                self.end = Some(End::Dropped(error.to_string()));
                None
            }
        }
    }
}

/// `count` members of `room`, named `member-0` and on, and all of them told about each other.
pub(crate) fn members(server: &Server, room: &str, count: usize) -> Vec<Client> {
    (0..count)
        .map(|index| {
            let mut client = Client::connect(server, &format!("member-{index}"));
            client.join(room);
            client
        })
        .collect()
}

/// The number under `key`.
pub(crate) fn number(object: &Value, key: &str) -> u64 {
    object[key]
        .as_u64()
        .unwrap_or_else(|| panic!("`{key}` is not a number in {object}"))
}
