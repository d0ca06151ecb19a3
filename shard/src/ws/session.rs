//! One connection's state: a handshake, then messages, then nothing any more.

use super::close::{self, Violation};
use super::decoder::{self, Partial, WholeKind};
use super::frame::Opcode;
use super::handshake::{self, Head, Rejection, UpgradeRequest};
use super::input::Input;

/// The bounds of a session, in bytes where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// The request line and headers of the handshake together. Above it: [`Rejection::TooLarge`].
    pub handshake_size_max: usize,
    /// Number of header lines of the handshake. Above it: [`Rejection::TooManyHeaders`].
    pub handshake_headers_max: usize,
    /// One message, all its fragments together. Above it: [`Violation::MessageTooLarge`].
    pub message_size_max: usize,
}

/// Whether a message is text or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Known to be UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl MessageKind {
    /// The opcode of an unfragmented message of this kind.
    #[must_use]
    pub const fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Text, whose payload has been checked, or bytes.
    pub kind: MessageKind,
    /// What the peer sent, unmasked. It may be written to: parsers that work in place need that.
    pub payload: &'a mut [u8],
}

/// What has come in.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// A valid upgrade request. The session is open from here on, and bytes after the request are frames: the
    /// caller answers with [`handshake::response`], or sends a [`handshake::Refusal`] and calls [`Session::finish`].
    Upgrade(UpgradeRequest<'a>),
    /// Not a valid upgrade request: send the rejection's response and close. Nothing follows.
    Rejected(Rejection),
    /// A message, however it was fragmented.
    Message(Message<'a>),
    /// A ping of at most 125 bytes: answer with a pong that carries the same.
    Ping(&'a [u8]),
    /// A pong of at most 125 bytes.
    Pong(&'a [u8]),
    /// The peer's close frame: answer with the same code, unless a close frame was already sent. Nothing follows.
    Close {
        /// The peer's code; an empty close frame has none.
        code: Option<u16>,
        /// The peer's reason, at most 123 bytes.
        reason: &'a str,
    },
    /// The peer broke the protocol: close with the violation's code. Nothing follows.
    Violation(Violation),
}

/// The server's side of one connection, without its socket.
#[derive(Debug, Default)]
pub struct Session {
    phase: Phase,
    /// Exists only while a request, frame or message is in progress or lent.
    partial: Option<Box<Partial>>,
}

// A shard holds one for every idle connection.
const _: () = assert!(
    size_of::<Session>() <= 16,
    "a session has outgrown 16 bytes"
);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Until the request is whole.
    #[default]
    Handshake,
    /// Frames come in.
    Open,
    /// Nothing is yielded any more.
    Finished,
}

impl Session {
    /// A session that expects a handshake.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A session whose handshake has been done elsewhere: it expects frames.
    #[must_use]
    pub fn opened() -> Self {
        Self {
            phase: Phase::Open,
            partial: None,
        }
    }

    /// Whether the handshake was valid and nothing has ended the session since.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Bytes of heap held for what is in progress or was lent last; 0 for an idle session.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.partial
            .as_ref()
            .map_or(0, |partial| size_of::<Partial>() + partial.bytes.capacity())
    }

    /// Ends the session: it frees what it holds and yields nothing any more.
    pub fn finish(&mut self) {
        self.phase = Phase::Finished;
        self.partial = None;
    }

    /// Takes the next event out of `input`. `None` when the input is used up, where the start of a request or
    /// frame is kept for the next input, or when the session has finished.
    ///
    /// The same limits are to be given at every call.
    pub fn next<'a, 'input: 'a>(
        &'a mut self,
        input: &mut Input<'input>,
        limits: &SessionLimits,
    ) -> Option<Incoming<'a>> {
        match self.phase {
            Phase::Handshake => self.next_upgrade(input, limits),
            Phase::Open => self.next_frame(input, limits),
            Phase::Finished => {
                self.partial = None;
                None
            }
        }
    }

    fn next_upgrade<'a, 'input: 'a>(
        &'a mut self,
        input: &mut Input<'input>,
        limits: &SessionLimits,
    ) -> Option<Incoming<'a>> {
        let head = match handshake::take_head(&mut self.partial, input, limits.handshake_size_max) {
            Ok(head) => head?,
            Err(rejection) => {
                self.finish();
                return Some(Incoming::Rejected(rejection));
            }
        };
        let head = match (head, &self.partial) {
            (Head::Input(head), _) => head,
            (Head::Collected, Some(partial)) => &partial.bytes,
            // A head is collected only in a partial.
            (Head::Collected, None) => &[],
        };
        match UpgradeRequest::parse(head, limits.handshake_headers_max) {
            Ok(request) => {
                self.phase = Phase::Open;
                Some(Incoming::Upgrade(request))
            }
            Err(rejection) => {
                self.phase = Phase::Finished;
                Some(Incoming::Rejected(rejection))
            }
        }
    }

    fn next_frame<'a, 'input: 'a>(
        &'a mut self,
        input: &mut Input<'input>,
        limits: &SessionLimits,
    ) -> Option<Incoming<'a>> {
        if self
            .partial
            .as_ref()
            .is_some_and(|partial| partial.is_done())
        {
            self.partial = None;
        }
        let whole = match decoder::next_whole(&mut self.partial, input, limits) {
            Ok(whole) => whole?,
            Err(violation) => {
                self.finish();
                return Some(Incoming::Violation(violation));
            }
        };
        let payload = whole.place.resolve(self.partial.as_deref_mut());
        Some(match whole.kind {
            WholeKind::Message(kind) => Incoming::Message(Message { kind, payload }),
            WholeKind::Ping => Incoming::Ping(payload),
            WholeKind::Pong => Incoming::Pong(payload),
            WholeKind::Close => {
                self.phase = Phase::Finished;
                match close::parse(payload) {
                    Ok((code, reason)) => Incoming::Close { code, reason },
                    Err(violation) => Incoming::Violation(violation),
                }
            }
        })
    }
}
