//! TLS between the driver and the WebSocket session: rustls without IO and without buffers of its own.
//!
//! A [`TlsSession`] is given what arrived and appends what it decrypts to the caller's buffer; it is given what is to be sent and answers the records that
//! carry it. Between records it holds no bytes: an idle connection has its keys, and nothing else.
//!
//! Records are numbered as they are made (RFC 8446 §5.3), so they must leave in that order. What TLS itself has to say is therefore kept here until the next
//! send, in front of what that send carries, and what is sealed must be sent.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ClientConfig, CommonState, HandshakeKind, ServerConfig, SupportedCipherSuite};

use crate::chunked::Chunked;
use crate::driver::Slot;

/// Bytes of a record of which more is to come, at most: the largest that there can be (RFC 5246 §6.2.3). A message of the handshake that is longer is refused.
const INCOMING_BYTES_MAX: usize = 5 + (1 << 14) + 2048;

/// Plaintext of one record, at most (RFC 8446 §5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

/// What a record takes besides its plaintext, at most: header, nonce of TLS 1.2, tag.
const RECORD_OVERHEAD_MAX: usize = 5 + 8 + 16;

/// A fatal alert, `internal_error` (RFC 8446 §6), as it stands before any key is agreed on.
pub(crate) const ALERT_INTERNAL_ERROR: &[u8] = &[21, 3, 3, 0, 2, 2, 80];

/// Why a connection over TLS ends.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// The first byte is that of an HTTP request: somebody took `ws://` for `wss://`.
    #[error("a request without TLS")]
    NotTls,
    /// More of a record than a record may have.
    #[error("a message of the handshake is longer than {INCOMING_BYTES_MAX} bytes")]
    TooLong,
    /// The peer broke the rules, has nothing in common with this end, or does not trust it.
    #[error(transparent)]
    Protocol(#[from] rustls::Error),
    /// There is nothing to encrypt with: not yet, or no longer.
    #[error("nothing can be encrypted now")]
    NoKeys,
}

/// What has become of the connection with the bytes that were received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The handshake has ended with them.
    pub established: Option<Established>,
    /// The peer sends nothing more.
    pub peer_closed: bool,
}

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Established {
    /// With a signature of the certificate's key.
    Full,
    /// With what a former connection had agreed on.
    Resumed,
}

/// One end of TLS: of a server or of a client.
pub trait End {
    /// What rustls tells the two ends apart by.
    type Data;

    /// Processes records.
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// What both ends have.
    fn common(&self) -> &CommonState;
}

impl End for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

impl End for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

/// A session of a server.
pub type ServerSession = TlsSession<UnbufferedServerConnection>;

/// A session of a client.
pub type ClientSession = TlsSession<UnbufferedClientConnection>;

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has arrived.
    New,
    Handshaking,
    Established,
    /// This end has said that it sends nothing more, or cannot say anything that the peer would understand.
    Over,
}

/// One connection's TLS. See the module.
pub struct TlsSession<E> {
    end: E,
    phase: Phase,
    /// The beginning of a record, or of a message of the handshake, of which more is to come.
    incoming: Vec<u8>,
    /// Records of TLS itself, in front of everything that is sealed from now on.
    outgoing: Vec<u8>,
}

impl ServerSession {
    /// A session that waits for the client's hello.
    ///
    /// # Errors
    /// The configuration makes no sense to rustls.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        Ok(Self::new(UnbufferedServerConnection::new(config)?))
    }
}

impl ClientSession {
    /// A session whose hello waits to be sent.
    ///
    /// # Errors
    /// The configuration makes no sense to rustls.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsError> {
        let mut session = Self::new(UnbufferedClientConnection::new(config, name)?);
        session.receive(&mut [], &mut Vec::new())?;
        Ok(session)
    }
}

impl<E: End> TlsSession<E> {
    fn new(end: E) -> Self {
        Self {
            end,
            phase: Phase::New,
            incoming: Vec::new(),
            outgoing: Vec::new(),
        }
    }

    /// Whether nothing can be sent yet.
    pub fn is_handshaking(&self) -> bool {
        self.end.common().is_handshaking()
    }

    /// What both ends encrypt with, which also tells the version; `None` before they have agreed.
    pub fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        self.end.common().negotiated_cipher_suite()
    }

    /// Whether TLS itself has something to send.
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Takes what TLS itself has to send.
    pub fn take_outgoing(&mut self) -> Bytes {
        std::mem::take(&mut self.outgoing).into()
    }

    /// Decrypts what has arrived and appends it to `plain`. Afterwards [`TlsSession::has_outgoing`] may be true.
    ///
    /// # Errors
    /// The connection must end; what to tell the peer waits to be sent. What was decrypted before counts.
    pub fn receive(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Result<Heard, TlsError> {
        if self.phase == Phase::New
            && let Some(first) = bytes.first()
        {
            if first.is_ascii_uppercase() {
                return Err(TlsError::NotTls);
            }
            self.phase = Phase::Handshaking;
        }
        let mut heard = Heard::default();
        if self.incoming.is_empty() {
            let consumed = self.process(bytes, plain, &mut heard)?;
            self.incoming.extend_from_slice(&bytes[consumed..]);
        } else {
            let mut incoming = std::mem::take(&mut self.incoming);
            incoming.extend_from_slice(bytes);
            let consumed = self.process(&mut incoming, plain, &mut heard)?;
            incoming.drain(..consumed);
            if !incoming.is_empty() {
                self.incoming = incoming;
            }
        }
        if self.incoming.len() > INCOMING_BYTES_MAX {
            self.phase = Phase::Over;
            return Err(TlsError::TooLong);
        }
        if self.phase == Phase::Handshaking && !self.is_handshaking() {
            self.phase = Phase::Established;
            heard.established = Some(match self.end.common().handshake_kind() {
                Some(HandshakeKind::Resumed) => Established::Resumed,
                _ => Established::Full,
            });
        }
        Ok(heard)
    }

    /// Answers how many bytes are done with.
    fn process(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        heard: &mut Heard,
    ) -> Result<usize, TlsError> {
        let mut consumed = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.end.process(&mut bytes[consumed..]);
            let mut step = discard;
            let mut goes_on = true;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        step += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut record)) => {
                    append(&mut self.outgoing, |free| {
                        record.encode(free).map_err(too_small)
                    });
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => heard.peer_closed = true,
                // Waiting for more, or for something to send. Early data is not offered, so none is read.
                Ok(_) => goes_on = false,
                Err(error) => {
                    self.note_failure(&mut bytes[consumed + discard..]);
                    return Err(error.into());
                }
            }
            consumed += step;
            if !goes_on {
                return Ok(consumed);
            }
        }
    }

    /// Collects the alert that tells the peer what is wrong. The bytes are looked at no more, as long as there is something to send.
    fn note_failure(&mut self, bytes: &mut [u8]) {
        self.phase = Phase::Over;
        while self.end.common().wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut record)) = self.end.process(bytes).state
            else {
                return;
            };
            append(&mut self.outgoing, |free| {
                record.encode(free).map_err(too_small)
            });
        }
    }

    /// The records that carry a payload, behind those of TLS itself. They must be sent, and before any that are sealed later.
    ///
    /// # Errors
    /// Nothing can be encrypted: the handshake has not ended, this end has said its last word, or the keys are used up.
    pub fn seal(&mut self, payload: &[u8]) -> Result<Bytes, TlsError> {
        if self.phase == Phase::Over {
            return Err(TlsError::NoKeys);
        }
        let records = payload.len().div_ceil(RECORD_BYTES_MAX);
        let room = payload.len() + records * RECORD_OVERHEAD_MAX;
        // What is not done with must always be there: rustls knows how much of it is.
        let state = self.end.process(&mut self.incoming).state;
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else {
            return Err(TlsError::NoKeys);
        };
        let mut sealed = std::mem::take(&mut self.outgoing);
        let written = append_within(&mut sealed, room, |free| {
            traffic.encrypt(payload, free).map_err(insufficient)
        });
        if !written {
            self.outgoing = sealed;
            return Err(TlsError::NoKeys);
        }
        Ok(sealed.into())
    }

    /// Says that this end sends nothing more (RFC 8446 §6.1), unless it has: the record waits to be sent.
    pub fn close(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) =
            self.end.process(&mut self.incoming).state
        {
            append(&mut self.outgoing, |free| {
                traffic.queue_close_notify(free).map_err(insufficient)
            });
        }
        self.phase = Phase::Over;
    }

    /// Gives up before keys are agreed on: the peer is told so in one alert, if it can still read one.
    pub fn dismiss(&mut self) {
        if self.phase == Phase::New {
            self.outgoing.extend_from_slice(ALERT_INTERNAL_ERROR);
        }
        self.phase = Phase::Over;
    }

    /// Answers a peer that does not speak TLS in its own words.
    pub fn answer_plainly(&mut self, response: &[u8]) {
        self.outgoing.extend_from_slice(response);
        self.phase = Phase::Over;
    }
}

fn too_small(error: EncodeError) -> Option<InsufficientSizeError> {
    match error {
        EncodeError::InsufficientSize(size) => Some(size),
        EncodeError::AlreadyEncoded => None,
    }
}

fn insufficient(error: EncryptError) -> Option<InsufficientSizeError> {
    match error {
        EncryptError::InsufficientSize(size) => Some(size),
        EncryptError::EncryptExhausted => None,
    }
}

/// Appends what `write` writes, for which it may have to say first how much room it needs. Answers whether it has.
fn append(
    buffer: &mut Vec<u8>,
    write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> bool {
    append_within(buffer, 0, write)
}

/// The same where the room that is needed is known, at least nearly.
fn append_within(
    buffer: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> bool {
    let start = buffer.len();
    // Once with too little room, once with enough.
    for _ in 0..2 {
        buffer.resize(start + room, 0);
        match write(&mut buffer[start..]) {
            Ok(written) => {
                buffer.truncate(start + written);
                return true;
            }
            Err(Some(InsufficientSizeError { required_size })) => room = required_size,
            Err(None) => break,
        }
    }
    buffer.truncate(start);
    false
}

impl<E> fmt::Debug for TlsSession<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession")
            .field("phase", &self.phase)
            .field("incoming", &self.incoming.len())
            .field("outgoing", &self.outgoing.len())
            .finish()
    }
}

/// The sessions of a shard, by slot.
#[derive(Debug)]
pub(crate) struct TlsSessions {
    config: Arc<ServerConfig>,
    sessions: Chunked<Option<Box<ServerSession>>>,
}

impl TlsSessions {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            config,
            sessions: Chunked::default(),
        }
    }

    /// A connection has come.
    ///
    /// # Errors
    /// The configuration makes no sense to rustls.
    pub(crate) fn open(&mut self, slot: Slot) -> Result<&mut ServerSession, TlsError> {
        let session = ServerSession::server(Arc::clone(&self.config))?;
        Ok(self
            .sessions
            .ensure(slot as usize)
            .insert(Box::new(session)))
    }

    pub(crate) fn find(&mut self, slot: Slot) -> Option<&mut ServerSession> {
        self.sessions.get_mut(slot as usize)?.as_deref_mut()
    }

    /// Sessions there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.sessions.iter().flatten().count()
    }

    /// The connection is gone.
    pub(crate) fn close(&mut self, slot: Slot) {
        if let Some(session) = self.sessions.get_mut(slot as usize) {
            *session = None;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
pub(crate) mod tests;
