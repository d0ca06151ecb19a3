//! From bytes to whole messages and control frames (RFC 6455 §5.4 to §5.6 and §6.2).

use super::close::Violation;
use super::frame::{CONTROL_SIZE_MAX, HEADER_SIZE_MAX, Header, Opcode, parse_header};
use super::input::Input;
use super::session::{MessageKind, SessionLimits};
use super::{mask, utf8};

/// What is in progress between two inputs. A session has one only while something is.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// The bytes of the request being received, or of the message being assembled, unmasked.
    pub(super) bytes: Vec<u8>,
    /// The fragmented or partial message that `bytes` belong to.
    message: Option<PartialMessage>,
    /// The frame whose payload is not all there.
    frame: Option<Frame>,
    /// The start of a header that is not all there.
    header: Short<HEADER_SIZE_MAX>,
    /// The payload of a control frame, which may arrive between the fragments of a message.
    control: Short<CONTROL_SIZE_MAX>,
    /// Fragments of the message in progress since the last group of them was reported.
    fragments: u8,
}

/// Fragments of a message that go unreported: whoever counts what a peer sends hears of each group of so many. Real clients make
/// far fewer, and sixteen empty ones are less work than one message.
const FRAGMENTS_MAX: u8 = 16;

impl Partial {
    /// Whether nothing is in progress: what `bytes` and `control` hold has been lent and is done with.
    pub(super) fn is_done(&self) -> bool {
        self.message.is_none() && self.frame.is_none() && self.header.length == 0
    }

    /// Begins or goes on with the message in progress and checks it as far as it is known.
    fn extend_message(
        &mut self,
        frame: &Frame,
        starts: bool,
        fresh: &[u8],
        limits: &SessionLimits,
    ) -> Result<(), Violation> {
        match frame.opcode {
            Opcode::Text if starts && frame.compressed => {
                self.message = Some(PartialMessage::Compressed(MessageKind::Text));
            }
            Opcode::Binary if starts && frame.compressed => {
                self.message = Some(PartialMessage::Compressed(MessageKind::Binary));
            }
            Opcode::Text if starts => {
                self.message = Some(PartialMessage::Text(utf8::Progress::default()));
            }
            Opcode::Binary if starts => self.message = Some(PartialMessage::Binary),
            _ => {}
        }
        let size_max = if frame.fin {
            self.bytes.len() + fresh.len() + (frame.length - frame.received)
        } else {
            limits.message_size_max
        };
        append(&mut self.bytes, fresh, size_max);
        match &mut self.message {
            Some(PartialMessage::Text(progress)) => Ok(progress.advance(&self.bytes)?),
            Some(PartialMessage::Binary | PartialMessage::Compressed(_)) | None => Ok(()),
        }
    }

    /// A fragment is whole and its message goes on.
    fn count_fragment<'input>(&mut self) -> Option<Whole<'input>> {
        self.fragments += 1;
        if self.fragments < FRAGMENTS_MAX {
            return None;
        }
        self.fragments = 0;
        Some(Whole {
            kind: WholeKind::Fragments,
            place: Place::Input(&mut []),
        })
    }

    /// Ends the message in progress.
    fn finish_message(&mut self) -> Result<WholeKind, Violation> {
        match self.message.take() {
            Some(PartialMessage::Text(progress)) => {
                progress.finish(&self.bytes)?;
                Ok(WholeKind::Message(MessageKind::Text))
            }
            Some(PartialMessage::Binary) => Ok(WholeKind::Message(MessageKind::Binary)),
            Some(PartialMessage::Compressed(kind)) => Ok(WholeKind::Compressed(kind)),
            None => Err(Violation::UnexpectedContinuation),
        }
    }
}

/// A message whose end is not there.
#[derive(Clone, Copy, Debug)]
enum PartialMessage {
    Text(utf8::Progress),
    Binary,
    /// What it is can be said when it is whole.
    Compressed(MessageKind),
}

/// A frame whose header has been judged.
#[derive(Clone, Copy, Debug)]
struct Frame {
    fin: bool,
    opcode: Opcode,
    /// Whether it begins a compressed message.
    compressed: bool,
    mask: [u8; 4],
    /// Bytes of its payload.
    length: usize,
    /// How many of them have been taken from the input.
    received: usize,
}

/// A few bytes without an allocation.
#[derive(Clone, Copy, Debug)]
struct Short<const SIZE_MAX: usize> {
    bytes: [u8; SIZE_MAX],
    length: usize,
}

impl<const SIZE_MAX: usize> Default for Short<SIZE_MAX> {
    fn default() -> Self {
        Self {
            bytes: [0; SIZE_MAX],
            length: 0,
        }
    }
}

impl<const SIZE_MAX: usize> Short<SIZE_MAX> {
    /// Adds what fits. Headers and control payloads always do: their lengths are checked before.
    fn extend(&mut self, fresh: &[u8]) {
        for (place, byte) in self.bytes.iter_mut().skip(self.length).zip(fresh) {
            *place = *byte;
            self.length += 1;
        }
    }

    fn filled(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Something whole. Where its payload lies is told apart from lending it, so that the session
/// is borrowed only for an event that is really returned.
#[derive(Debug)]
pub(super) struct Whole<'input> {
    pub(super) kind: WholeKind,
    pub(super) place: Place<'input>,
}

/// What is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WholeKind {
    /// A message that may be lent. Text has been checked.
    Message(MessageKind),
    /// A message to be inflated first.
    Compressed(MessageKind),
    /// One more group of fragments of a message in progress.
    Fragments,
    Ping,
    Pong,
    Close,
}

/// Where a payload lies, unmasked.
#[derive(Debug)]
pub(super) enum Place<'input> {
    /// In the input: it was never copied.
    Input(&'input mut [u8]),
    /// In [`Partial::bytes`].
    Message,
    /// In the control buffer of [`Partial`].
    Control,
}

impl<'input> Place<'input> {
    /// Lends the payload.
    pub(super) fn resolve<'a>(self, partial: Option<&'a mut Partial>) -> &'a mut [u8]
    where
        'input: 'a,
    {
        match (self, partial) {
            (Self::Input(payload), _) => payload,
            (Self::Message, Some(partial)) => &mut partial.bytes,
            (Self::Control, Some(partial)) => {
                let length = partial.control.length;
                &mut partial.control.bytes[..length]
            }
            // Both places are named only after the partial was made.
            (Self::Message | Self::Control, None) => &mut [],
        }
    }
}

/// Decodes up to the end of the next message or control frame, `None` when the input is used up before.
///
/// `permits_compressed` says whether messages may come compressed (RFC 7692).
pub(super) fn next_whole<'input>(
    partial: &mut Option<Box<Partial>>,
    input: &mut Input<'input>,
    limits: &SessionLimits,
    permits_compressed: bool,
) -> Result<Option<Whole<'input>>, Violation> {
    loop {
        let frame = match partial.as_mut().and_then(|partial| partial.frame.take()) {
            Some(frame) => frame,
            None => match next_header(partial, input)? {
                Some(header) => judge(&header, partial.as_deref(), limits, permits_compressed)?,
                None => return Ok(None),
            },
        };
        if let Some(whole) = take_in_place(&frame, partial.as_deref(), input)? {
            return Ok(Some(whole));
        }
        let partial = partial.get_or_insert_default();
        if let Some(whole) = take_by_copy(frame, partial, input, limits)? {
            return Ok(Some(whole));
        }
        if partial.frame.is_some() {
            return Ok(None);
        }
    }
}

/// The next header, `None` when the input ends within it.
fn next_header(
    partial: &mut Option<Box<Partial>>,
    input: &mut Input<'_>,
) -> Result<Option<Header>, Violation> {
    let starts_here = partial
        .as_ref()
        .is_none_or(|partial| partial.header.length == 0);
    if starts_here {
        if let Some((header, size)) = parse_header(input.remaining())? {
            input.take(size);
            return Ok(Some(header));
        }
        if input.is_empty() {
            return Ok(None);
        }
    }
    let start = &mut partial.get_or_insert_default().header;
    while !input.is_empty() {
        start.extend(input.take(1));
        if let Some((header, _)) = parse_header(start.filled())? {
            start.length = 0;
            return Ok(Some(header));
        }
    }
    Ok(None)
}

/// Checks what needs the session: reserved bits, mask, order of fragments, size of the message.
fn judge(
    header: &Header,
    partial: Option<&Partial>,
    limits: &SessionLimits,
    permits_compressed: bool,
) -> Result<Frame, Violation> {
    let starts_message = matches!(header.opcode, Opcode::Text | Opcode::Binary);
    let compressed = header.reserved == Header::COMPRESSED && permits_compressed && starts_message;
    if header.reserved != 0 && !compressed {
        return Err(Violation::ReservedBits);
    }
    let mask = header.mask.ok_or(Violation::Unmasked)?;
    let message_size = partial.and_then(|partial| partial.message.map(|_| partial.bytes.len()));
    let size_max = match (header.opcode, message_size) {
        (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => CONTROL_SIZE_MAX,
        (Opcode::Text | Opcode::Binary, None) => limits.message_size_max,
        (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Violation::MessageInterrupted),
        (Opcode::Continuation, Some(size)) => limits.message_size_max.saturating_sub(size),
        (Opcode::Continuation, None) => return Err(Violation::UnexpectedContinuation),
    };
    match usize::try_from(header.length) {
        Ok(length) if length <= size_max => Ok(Frame {
            fin: header.fin,
            opcode: header.opcode,
            compressed,
            mask,
            length,
            received: 0,
        }),
        _ => Err(Violation::MessageTooLarge),
    }
}

/// Takes a frame whose payload lies whole in the input and that is a message or a control frame by itself.
fn take_in_place<'input>(
    frame: &Frame,
    partial: Option<&Partial>,
    input: &mut Input<'input>,
) -> Result<Option<Whole<'input>>, Violation> {
    let in_message = partial.is_some_and(|partial| partial.message.is_some());
    let alone = frame.opcode.is_control() || (frame.fin && !in_message);
    if !alone || frame.received > 0 || input.len() < frame.length {
        return Ok(None);
    }
    let kind = match frame.opcode {
        Opcode::Text if frame.compressed => WholeKind::Compressed(MessageKind::Text),
        Opcode::Binary if frame.compressed => WholeKind::Compressed(MessageKind::Binary),
        Opcode::Text => WholeKind::Message(MessageKind::Text),
        Opcode::Binary => WholeKind::Message(MessageKind::Binary),
        Opcode::Ping => WholeKind::Ping,
        Opcode::Pong => WholeKind::Pong,
        Opcode::Close => WholeKind::Close,
        Opcode::Continuation => return Ok(None),
    };
    let payload = input.take(frame.length);
    mask::apply(payload, frame.mask, 0);
    if kind == WholeKind::Message(MessageKind::Text) {
        utf8::check(payload)?;
    }
    let place = Place::Input(payload);
    Ok(Some(Whole { kind, place }))
}

/// Takes what is there of a frame into the partial. The frame stays in progress when that is not all of it.
fn take_by_copy<'input>(
    mut frame: Frame,
    partial: &mut Partial,
    input: &mut Input<'_>,
    limits: &SessionLimits,
) -> Result<Option<Whole<'input>>, Violation> {
    let fresh = input.take(frame.length - frame.received);
    if fresh.is_empty() && frame.length > 0 {
        // Nothing is begun yet: the payload may still come whole and be lent in place.
        partial.frame = Some(frame);
        return Ok(None);
    }
    mask::apply(fresh, frame.mask, frame.received);
    let starts = frame.received == 0;
    frame.received += fresh.len();
    let kind = match frame.opcode {
        Opcode::Text | Opcode::Binary | Opcode::Continuation => {
            partial.extend_message(&frame, starts, fresh, limits)?;
            return if frame.received < frame.length {
                partial.frame = Some(frame);
                Ok(None)
            } else if frame.fin {
                let kind = partial.finish_message()?;
                let place = Place::Message;
                Ok(Some(Whole { kind, place }))
            } else {
                Ok(partial.count_fragment())
            };
        }
        Opcode::Ping => WholeKind::Ping,
        Opcode::Pong => WholeKind::Pong,
        Opcode::Close => WholeKind::Close,
    };
    if starts {
        partial.control.length = 0;
    }
    partial.control.extend(fresh);
    if frame.received < frame.length {
        partial.frame = Some(frame);
        return Ok(None);
    }
    let place = Place::Control;
    Ok(Some(Whole { kind, place }))
}

/// Appends with a capacity of at most twice what has arrived and at most `size_max`, which the caller has checked
/// that the bytes do not exceed.
pub(super) fn append(bytes: &mut Vec<u8>, fresh: &[u8], size_max: usize) {
    let size = bytes.len() + fresh.len();
    if size > bytes.capacity() {
        let capacity = size.saturating_mul(2).min(size_max).max(size);
        bytes.reserve_exact(capacity - bytes.len());
    }
    bytes.extend_from_slice(fresh);
}
