//! A session as its caller sees it: rules by table, splits and an oracle by property.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod frames;
mod handshakes;
mod memory;
mod oracle;
mod splits;
mod streams;

use super::*;

const LIMITS: SessionLimits = SessionLimits {
    handshake_size_max: 512,
    handshake_headers_max: 16,
    message_size_max: 1000,
};

/// An event that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Upgrade { path: String, key: String },
    Rejected(Rejection),
    Message(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Violation(Violation),
}

impl Event {
    fn is_last(&self) -> bool {
        matches!(
            self,
            Self::Rejected(_) | Self::Close(..) | Self::Violation(_)
        )
    }

    fn text(text: &str) -> Self {
        Self::Message(MessageKind::Text, text.into())
    }
}

impl From<Incoming<'_>> for Event {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Upgrade(request) => Self::Upgrade {
                path: request.path().to_owned(),
                key: request.key().to_owned(),
            },
            Incoming::Rejected(rejection) => Self::Rejected(rejection),
            Incoming::Message(message) => Self::Message(message.kind, message.payload.to_vec()),
            Incoming::Ping(payload) => Self::Ping(payload.to_vec()),
            Incoming::Pong(payload) => Self::Pong(payload.to_vec()),
            Incoming::Close { code, reason } => Self::Close(code, reason.to_owned()),
            Incoming::Violation(violation) => Self::Violation(violation),
        }
    }
}

/// Gives the session one piece and collects its events. Nothing may follow a last event.
fn feed(session: &mut Session, piece: &[u8], events: &mut Vec<Event>) {
    let mut received = piece.to_vec();
    let mut input = Input::new(&mut received);
    while let Some(incoming) = session.next(&mut input, &LIMITS) {
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
fn events_of(mut session: Session, stream: &[u8], cuts: &[usize]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut start = 0;
    for &cut in cuts.iter().chain([&stream.len()]) {
        feed(&mut session, &stream[start..cut], &mut events);
        start = cut;
    }
    events
}
