//! A WebSocket client on a simulated connection.

use tungstenite::handshake::derive_accept_key;

use super::client::SimClient;
use super::deflate::SimDeflate;
use super::frame::{Opcode, SimFrame};
use super::network::SimNetwork;
use super::random::Random;
use crate::driver::ShardId;
use crate::tls::ClientSession;

/// The key of the example in RFC 6455, section 1.3. A server cannot tell it from another one.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The header of offers and of their answer (RFC 6455, section 11.3.2).
pub const EXTENSIONS: &str = "Sec-WebSocket-Extensions";

/// Header lines of a response that are parsed at most.
const HEADERS_MAX: usize = 32;

/// The head of the server's answer to the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimResponse {
    /// The status, such as 101.
    pub status: u16,
    /// Names and values of the header lines, in their order.
    pub headers: Vec<(String, String)>,
}

impl SimResponse {
    /// The value of the first header of this name, whatever the case of its letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        Some(value)
    }
}

/// What the client has met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimEvent {
    /// The handshake succeeded; its `Sec-WebSocket-Accept` is the right one.
    Upgraded(SimResponse),
    /// The handshake was answered with another status than 101. Its body is read and dropped.
    Refused(SimResponse),
    /// A whole text message.
    Text(String),
    /// A whole binary message.
    Binary(Vec<u8>),
    /// A ping. It has been answered where [`SimWebSocket::set_answers`] left that on.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The close frame. It has been answered where [`SimWebSocket::set_answers`] left that on.
    Close {
        /// The status code (RFC 6455, section 7.4), where one was sent.
        code: Option<u16>,
        /// The reason.
        reason: String,
    },
    /// The server sent what it must not: which rule. Nothing more is parsed.
    ProtocolError(String),
    /// The server ended its stream (FIN). Always the last event.
    EndOfStream,
    /// The connection was refused or broke (RST). Always the last event.
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Open,
    /// What arrives is read and dropped.
    Deaf,
    /// The last event was given.
    Ended,
}

/// A WebSocket client that acts when [`SimWebSocket::step`] is called and only then.
#[derive(Debug)]
pub struct SimWebSocket {
    client: SimClient,
    random: Random,
    /// Where the connection is encrypted.
    tls: Option<Box<ClientSession>>,
    /// Records that were not written yet.
    records: Vec<u8>,
    /// Bytes that were not written yet.
    outgoing: Vec<u8>,
    /// Bytes that were read and are not parsed yet.
    incoming: Vec<u8>,
    /// The message whose end has not arrived, and whether it is compressed.
    message: Option<(Opcode, bool, Vec<u8>)>,
    /// Where compression was offered, what was agreed on.
    deflate: Option<SimDeflate>,
    offered: bool,
    inflated: u64,
    phase: Phase,
    answers: bool,
}

impl SimWebSocket {
    /// Connects to a shard and asks for the target, such as `/ws?user=ada`.
    #[must_use]
    pub fn connect(network: &SimNetwork, shard: ShardId, target: &str) -> Self {
        Self::connect_with(network.connect(shard), target, &[])
    }

    /// Asks for the target on a connection, with more header lines than the handshake needs.
    #[must_use]
    pub fn connect_with(client: SimClient, target: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = format!(
            "GET {target} HTTP/1.1\r\nHost: simulation\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let random = client.network().world_mut().random.fork();
        Self {
            client,
            random,
            tls: None,
            records: Vec::new(),
            outgoing: request.into_bytes(),
            incoming: Vec::new(),
            message: None,
            deflate: None,
            offered: headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(EXTENSIONS)),
            inflated: 0,
            phase: Phase::Handshake,
            answers: true,
        }
    }

    /// Has everything encrypted, from the first byte on.
    #[must_use]
    pub fn over_tls(mut self, session: ClientSession) -> Self {
        self.tls = Some(Box::new(session));
        self
    }

    /// Whether pings and close frames are answered. On at first.
    pub fn set_answers(&mut self, answers: bool) {
        self.answers = answers;
    }

    /// Sends a text message in one frame, compressed where that is agreed on.
    pub fn send_text(&mut self, text: &str) {
        let mut frame = SimFrame::whole(Opcode::Text, text.as_bytes());
        if let Some(deflated) = self
            .deflate
            .as_mut()
            .and_then(|deflate| deflate.deflate(&frame.payload).ok())
        {
            frame.compressed = true;
            frame.payload = deflated;
        }
        self.send_frame(&frame);
    }

    /// Whether the server has agreed to compress.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.deflate.is_some()
    }

    /// Messages that came compressed.
    #[must_use]
    pub fn inflated(&self) -> u64 {
        self.inflated
    }

    /// Sends a ping.
    pub fn send_ping(&mut self, payload: &[u8]) {
        self.send_frame(&SimFrame::whole(Opcode::Ping, payload));
    }

    /// Sends a close frame.
    pub fn send_close(&mut self, code: Option<u16>, reason: &str) {
        self.send_frame(&SimFrame::close(code, reason));
    }

    /// Sends any frame, masked at random.
    pub fn send_frame(&mut self, frame: &SimFrame) {
        let mask = (self.random.next_u64() as u32).to_be_bytes();
        self.send_raw(&frame.encode(mask));
    }

    /// Sends bytes that need not be a frame.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.outgoing.extend(bytes);
    }

    /// Bytes that wait for room in the connection.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.outgoing.len() + self.records.len()
    }

    /// The connection below, to close or reset it.
    #[must_use]
    pub fn client(&self) -> &SimClient {
        &self.client
    }

    /// Whether the last event was given.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Writes what there is room for, reads at most `read_max` bytes and returns what they mean.
    pub fn step(&mut self, read_max: usize) -> Vec<SimEvent> {
        let mut events = Vec::new();
        self.write();
        let mut bytes = self.client.read(read_max);
        match &mut self.tls {
            None => self.incoming.extend(bytes),
            Some(tls) => {
                if let Err(error) = tls.receive(&mut bytes, &mut self.incoming)
                    && !matches!(self.phase, Phase::Deaf | Phase::Ended)
                {
                    self.phase = Phase::Deaf;
                    events.push(SimEvent::ProtocolError(error.to_string()));
                }
            }
        }
        while let Some(event) = self.next_event() {
            events.push(event);
        }
        // The answers to what was read.
        self.write();
        if self.phase != Phase::Ended && self.client.is_closed() {
            self.phase = Phase::Ended;
            events.push(match self.client.is_end_of_stream() {
                true => SimEvent::EndOfStream,
                false => SimEvent::Reset,
            });
        }
        events
    }

    fn write(&mut self) {
        let Some(tls) = &mut self.tls else {
            let written = self.client.write(&self.outgoing);
            self.outgoing.drain(..written);
            return;
        };
        self.records.extend(tls.take_outgoing());
        if !self.outgoing.is_empty()
            && !tls.is_handshaking()
            && let Ok(records) = tls.seal(&self.outgoing)
        {
            self.outgoing.clear();
            self.records.extend(records);
        }
        let written = self.client.write(&self.records);
        self.records.drain(..written);
    }

    fn next_event(&mut self) -> Option<SimEvent> {
        let event = match self.phase {
            Phase::Handshake => self.response(),
            Phase::Open => self.message(),
            Phase::Deaf | Phase::Ended => {
                self.incoming.clear();
                return None;
            }
        };
        event.unwrap_or_else(|rule| {
            self.phase = Phase::Deaf;
            Some(SimEvent::ProtocolError(rule))
        })
    }

    fn response(&mut self) -> Result<Option<SimEvent>, String> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut headers);
        let size = match parsed.parse(&self.incoming) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(format!("the answer to the handshake: {error}")),
        };
        let header = |header: &httparse::Header<'_>| {
            let value = String::from_utf8_lossy(header.value).into_owned();
            (header.name.to_owned(), value)
        };
        let response = SimResponse {
            status: parsed.code.unwrap_or_default(),
            headers: parsed.headers.iter().map(header).collect(),
        };
        self.incoming.drain(..size);
        if response.status != 101 {
            self.phase = Phase::Deaf;
            return Ok(Some(SimEvent::Refused(response)));
        }
        let expected = derive_accept_key(KEY.as_bytes());
        let accept = response.header("Sec-WebSocket-Accept");
        if accept != Some(expected.as_str()) {
            return Err(format!("Sec-WebSocket-Accept is {accept:?}"));
        }
        if let Some(answer) = response.header(EXTENSIONS) {
            if !self.offered {
                return Err(format!("an extension that was not offered: {answer}"));
            }
            self.deflate = Some(SimDeflate::from_answer(answer)?);
        }
        self.phase = Phase::Open;
        Ok(Some(SimEvent::Upgraded(response)))
    }

    fn message(&mut self) -> Result<Option<SimEvent>, String> {
        while let Some((frame, size)) = SimFrame::decode(&self.incoming)? {
            self.incoming.drain(..size);
            if frame.compressed && self.deflate.is_none() {
                return Err("a compressed message that was not agreed on".to_owned());
            }
            let payload = frame.payload;
            match frame.opcode {
                Opcode::Close => return self.close_event(&payload).map(Some),
                Opcode::Ping => {
                    if self.answers {
                        self.send_frame(&SimFrame::whole(Opcode::Pong, &payload));
                    }
                    return Ok(Some(SimEvent::Ping(payload)));
                }
                Opcode::Pong => return Ok(Some(SimEvent::Pong(payload))),
                Opcode::Continuation => match &mut self.message {
                    Some((_, _, message)) => message.extend(payload),
                    None => return Err("a continuation of nothing".to_owned()),
                },
                opcode @ (Opcode::Text | Opcode::Binary) => {
                    let begun = (opcode, frame.compressed, payload);
                    if self.message.replace(begun).is_some() {
                        return Err("a message within a message".to_owned());
                    }
                }
            }
            if frame.fin
                && let Some((opcode, compressed, mut message)) = self.message.take()
            {
                if let Some(deflate) = self.deflate.as_mut().filter(|_| compressed) {
                    message = deflate.inflate(&message)?;
                    self.inflated += 1;
                }
                return match opcode {
                    Opcode::Text => text(&message).map(|text| Some(SimEvent::Text(text))),
                    _ => Ok(Some(SimEvent::Binary(message))),
                };
            }
        }
        Ok(None)
    }

    fn close_event(&mut self, payload: &[u8]) -> Result<SimEvent, String> {
        let (code, reason) = match payload {
            [] => (None, String::new()),
            [_] => return Err("a close frame of 1 byte".to_owned()),
            [high, low, reason @ ..] => (Some(u16::from_be_bytes([*high, *low])), text(reason)?),
        };
        self.phase = Phase::Deaf;
        if self.answers {
            self.send_frame(&SimFrame::close(code, ""));
        }
        Ok(SimEvent::Close { code, reason })
    }
}

fn text(bytes: &[u8]) -> Result<String, String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(format!("text that is not UTF-8: {error}")),
    }
}
