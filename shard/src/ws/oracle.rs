//! What a session must make of a stream, and what tungstenite makes of the same bytes. For tests and fuzz targets only.
//!
//! Two oracles: a session that is given the stream in pieces must say the same as one that is given all of it at once,
//! and tungstenite, which nobody here wrote, must see what the session sees, up to where the two may differ by rule.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a check that does not hold panics"
)]

use std::io::{self, Cursor, Read, Write};

use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, error::ProtocolError};

use super::deflate::Inflater;
use super::{Incoming, Input, MessageKind, Rejection, Session, SessionLimits, Violation};

/// Bounds that short streams reach.
pub const LIMITS: SessionLimits = SessionLimits {
    handshake_size_max: 512,
    handshake_headers_max: 16,
    message_size_max: 1000,
};

/// How tungstenite reports a peer's close code that must not be sent.
const REFUSED_CLOSE: &str = "Protocol violation";

/// An event that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A valid request.
    Upgrade {
        /// Its path.
        path: String,
        /// Its key.
        key: String,
        /// All that was understood of it, headers included.
        request: String,
    },
    /// A request that is not valid.
    Rejected(Rejection),
    /// A whole message.
    Message(MessageKind, Vec<u8>),
    /// Sixteen more fragments of a message that is not whole.
    Fragments,
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The peer's close frame: code and reason.
    Close(Option<u16>, String),
    /// The peer broke the protocol.
    Violation(Violation),
}

impl Event {
    /// Whether nothing may follow.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(
            self,
            Self::Rejected(_) | Self::Close(..) | Self::Violation(_)
        )
    }

    /// A text message.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Message(MessageKind::Text, text.into())
    }
}

impl From<Incoming<'_>> for Event {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Upgrade(request) => Self::Upgrade {
                path: request.path().to_owned(),
                key: request.key().to_owned(),
                request: format!("{request:?}"),
            },
            Incoming::Rejected(rejection) => Self::Rejected(rejection),
            Incoming::Message(message) => {
                let owned = message.payload.to_vec();
                // Parsers that work in place leave something else there; nothing that follows may depend on it.
                message.payload.fill(0xa5);
                Self::Message(message.kind, owned)
            }
            Incoming::Fragments => Self::Fragments,
            Incoming::Ping(payload) => Self::Ping(payload.to_vec()),
            Incoming::Pong(payload) => Self::Pong(payload.to_vec()),
            Incoming::Close { code, reason } => Self::Close(code, reason.to_owned()),
            Incoming::Violation(violation) => Self::Violation(violation),
        }
    }
}

/// Gives the session one piece and collects its events.
///
/// # Panics
/// Something follows a last event, a piece is left over, or a finished session holds memory.
pub fn feed(session: &mut Session, piece: &[u8], events: &mut Vec<Event>) {
    feed_with(&mut Inflater::shared(), session, piece, events);
}

/// The same with an inflater that has been used before.
///
/// # Panics
/// As [`feed`].
pub fn feed_with(
    inflater: &mut Inflater,
    session: &mut Session,
    piece: &[u8],
    events: &mut Vec<Event>,
) {
    let mut received = piece.to_vec();
    let mut input = Input::new(&mut received);
    while let Some(incoming) = session.next(&mut input, &LIMITS, inflater) {
        let follows_last = events.last().is_some_and(Event::is_last);
        assert!(!follows_last, "{incoming:?} follows {events:?}");
        events.push(incoming.into());
    }
    let finished = events.last().is_some_and(Event::is_last);
    assert!(input.is_empty() || finished, "input was left over");
    if finished {
        assert_eq!(session.buffered_bytes(), 0);
        assert!(!session.is_open());
    }
}

/// The events of a stream that is cut into pieces at the positions in `cuts`, which ascend.
///
/// # Panics
/// As [`feed`], or the session holds more than what has arrived and its bounds permit.
#[must_use]
pub fn events_of(mut session: Session, stream: &[u8], cuts: &[usize]) -> Vec<Event> {
    let fixed = begun_bytes();
    let held_max = LIMITS.message_size_max.max(LIMITS.handshake_size_max);
    let mut events = Vec::new();
    let mut start = 0;
    for &cut in cuts.iter().chain([&stream.len()]) {
        feed(&mut session, &stream[start..cut], &mut events);
        let held = session.buffered_bytes();
        assert!(
            held <= fixed + (2 * cut).min(held_max),
            "{held} bytes are held of {cut} that have arrived"
        );
        start = cut;
    }
    events
}

/// Heap of a session that has begun something but holds no payload.
///
/// # Panics
/// One byte was enough for an event.
#[must_use]
pub fn begun_bytes() -> usize {
    let (mut session, mut first) = (Session::opened(), [0x81]);
    let (mut input, mut inflater) = (Input::new(&mut first), Inflater::shared());
    let nothing = session.next(&mut input, &LIMITS, &mut inflater);
    assert!(nothing.is_none());
    session.buffered_bytes()
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The bytes were used up.
    OfStream,
    /// The peer closed.
    Close,
    /// The connection is to be closed with this code.
    Violation(u16),
}

/// The stream to read; what is written is of no interest.
struct Socket<'a>(Cursor<&'a [u8]>);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of a client's frames.
///
/// # Panics
/// It answers what it never should.
#[must_use]
pub fn tungstenite_events(stream: &[u8]) -> (Vec<Event>, End) {
    let config = WebSocketConfig::default()
        .read_buffer_size(512)
        .max_message_size(Some(LIMITS.message_size_max))
        .max_frame_size(Some(LIMITS.message_size_max));
    let mut socket =
        WebSocket::from_raw_socket(Socket(Cursor::new(stream)), Role::Server, Some(config));
    let mut events = Vec::new();
    loop {
        events.push(match socket.read() {
            Ok(tungstenite::Message::Text(text)) => Event::text(&text),
            Ok(tungstenite::Message::Binary(bytes)) => {
                Event::Message(MessageKind::Binary, bytes.to_vec())
            }
            Ok(tungstenite::Message::Ping(payload)) => Event::Ping(payload.to_vec()),
            Ok(tungstenite::Message::Pong(payload)) => Event::Pong(payload.to_vec()),
            Ok(tungstenite::Message::Close(None)) => {
                events.push(Event::Close(None, String::new()));
                return (events, End::Close);
            }
            Ok(tungstenite::Message::Close(Some(close))) => {
                if close.reason == REFUSED_CLOSE {
                    return (events, End::Violation(1002));
                }
                events.push(Event::Close(
                    Some(close.code.into()),
                    close.reason.to_string(),
                ));
                return (events, End::Close);
            }
            Ok(message @ tungstenite::Message::Frame(_)) => panic!("{message:?}"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (events, End::OfStream);
            }
            Err(Error::Protocol(_)) => return (events, End::Violation(1002)),
            Err(Error::Utf8(_)) => return (events, End::Violation(1007)),
            Err(Error::Capacity(_)) => return (events, End::Violation(1009)),
            Err(error) => panic!("{error:?}"),
        });
    }
}

/// The session's events in the same form, and the violation where there is one.
#[must_use]
pub fn session_events(stream: &[u8], cuts: &[usize]) -> (Vec<Event>, End, Option<Violation>) {
    let mut events = events_of(Session::opened(), stream, cuts);
    // Tungstenite does not tell.
    events.retain(|event| *event != Event::Fragments);
    match events.last() {
        Some(&Event::Violation(violation)) => {
            events.pop();
            (events, End::Violation(violation.code()), Some(violation))
        }
        Some(Event::Close(code, reason)) if is_refused_by_tungstenite(*code, reason) => {
            events.pop();
            (events, End::Violation(1002), None)
        }
        Some(Event::Close(..)) => (events, End::Close, None),
        _ => (events, End::OfStream, None),
    }
}

/// Whether tungstenite takes a close frame that is valid for one that is not: the code 1014 (bad gateway, IANA registry) is
/// not known to it, and a peer may say by chance what tungstenite says of a code that must not be sent.
fn is_refused_by_tungstenite(code: Option<u16>, reason: &str) -> bool {
    code == Some(1014) || (code == Some(1002) && reason == REFUSED_CLOSE)
}

/// Asserts that a session and tungstenite see the same in a stream.
///
/// # Panics
/// They do not, and no rule says why.
pub fn assert_agreement(stream: &[u8], cuts: &[usize]) {
    let (events, end, violation) = session_events(stream, cuts);
    let (oracle_events, oracle_end) = tungstenite_events(stream);
    match violation {
        // Tungstenite takes lengths in any form; one of a control frame in more than a byte is too large to begin with.
        Some(
            Violation::LengthNotMinimal | Violation::LengthTopBit | Violation::ControlTooLarge,
        ) => {
            assert!(
                oracle_events.starts_with(&events),
                "{events:?} {oracle_events:?} {stream:x?}"
            );
        }
        // Tungstenite looks at whole frames only, so it may miss what is wrong with the last one; and where a
        // frame is wrong in two ways it may name the other.
        Some(_) => {
            assert_eq!(events, oracle_events, "{stream:x?}");
            assert_ne!(oracle_end, End::Close, "{stream:x?}");
        }
        None => assert_eq!((events, end), (oracle_events, oracle_end), "{stream:x?}"),
    }
}
