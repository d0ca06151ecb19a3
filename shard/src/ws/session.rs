//! One connection's state: a handshake, then messages, then nothing any more.

use super::close::{self, Violation};
use super::decoder::{self, Partial, Place, WholeKind};
use super::deflate::{Agreement, Inflater};
use super::frame::Opcode;
use super::handshake::{self, Head, Rejection, UpgradeRequest};
use super::input::Input;
use super::utf8;

/// The bounds of a session, in bytes where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// The request line and headers of the handshake together. Above it: [`Rejection::TooLarge`].
    pub handshake_size_max: usize,
    /// Number of header lines of the handshake. Above it: [`Rejection::TooManyHeaders`].
    pub handshake_headers_max: usize,
    /// One message, all its fragments together, both as it came and inflated. Above it: [`Violation::MessageTooLarge`].
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
    /// Bytes that it took compressed, where it came so: inflating it was more work than its size says.
    pub compressed_size: Option<usize>,
    /// What the peer sent, unmasked and inflated. It may be written to: parsers that work in place need that.
    pub payload: &'a mut [u8],
}

/// What has come in.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// A valid upgrade request. The session is open from here on, and bytes after the request are frames: the
    /// caller answers with [`handshake::response`], or sends a [`handshake::Refusal`] and calls [`Session::finish`]. Where the answer
    /// agrees to compressed messages it calls [`Session::agree`] before it asks for the next event.
    Upgrade(UpgradeRequest<'a>),
    /// Not a valid upgrade request: send the rejection's response and close. Nothing follows.
    Rejected(Rejection),
    /// A message, however it was fragmented.
    Message(Message<'a>),
    /// A message that is not whole yet has taken sixteen more fragments. There is nothing to answer: it is for whoever counts what a
    /// peer sends, as fragments may be empty and never end.
    Fragments,
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
    /// What permits compressed messages.
    agreement: Option<Agreement>,
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
            ..Self::default()
        }
    }

    /// Permits compressed messages from here on. The answer to the upgrade request has to say the same.
    pub fn agree(&mut self, agreement: Agreement) {
        self.agreement = Some(agreement);
    }

    /// What was agreed about compressed messages.
    #[must_use]
    pub fn agreement(&self) -> Option<Agreement> {
        self.agreement
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
    /// The same limits are to be given at every call from one message to the next. `inflater` may be shared with other sessions, unless the client takes its window
    /// over ([`Agreement::client_takeover`]): then it is this session's own.
    pub fn next<'a, 'input: 'a>(
        &'a mut self,
        input: &mut Input<'input>,
        limits: &SessionLimits,
        inflater: &'a mut Inflater,
    ) -> Option<Incoming<'a>> {
        inflater.release();
        match self.phase {
            Phase::Handshake => self.next_upgrade(input, limits),
            Phase::Open => self.next_frame(input, limits, inflater),
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
        inflater: &'a mut Inflater,
    ) -> Option<Incoming<'a>> {
        if self
            .partial
            .as_ref()
            .is_some_and(|partial| partial.is_done())
        {
            self.partial = None;
        }
        let permits_compressed = self.agreement.is_some();
        let next = decoder::next_whole(&mut self.partial, input, limits, permits_compressed);
        let whole = match next {
            Ok(whole) => whole?,
            Err(violation) => {
                self.finish();
                return Some(Incoming::Violation(violation));
            }
        };
        if let WholeKind::Compressed(kind) = whole.kind {
            return Some(self.inflate(kind, whole.place, limits, inflater));
        }
        let payload = whole.place.resolve(self.partial.as_deref_mut());
        Some(match whole.kind {
            WholeKind::Message(kind) | WholeKind::Compressed(kind) => Incoming::Message(Message {
                kind,
                compressed_size: None,
                payload,
            }),
            WholeKind::Fragments => Incoming::Fragments,
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

    /// Inflates a message that came whole.
    fn inflate<'a>(
        &mut self,
        kind: MessageKind,
        place: Place<'_>,
        limits: &SessionLimits,
        inflater: &'a mut Inflater,
    ) -> Incoming<'a> {
        let compressed = place.resolve(self.partial.as_deref_mut());
        let compressed_size = Some(compressed.len());
        let inflated = inflater.message(compressed, limits.message_size_max);
        // Nothing else is in progress where a message has ended.
        self.partial = None;
        let checked = inflated.and_then(|payload| {
            if kind == MessageKind::Text {
                utf8::check(payload)?;
            }
            Ok(payload)
        });
        match checked {
            Ok(payload) => Incoming::Message(Message {
                kind,
                compressed_size,
                payload,
            }),
            Err(violation) => {
                self.finish();
                Incoming::Violation(violation)
            }
        }
    }
}
