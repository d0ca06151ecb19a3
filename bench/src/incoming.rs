//! What a server sends, cut into messages. Sans-IO: the client's half of RFC 6455 §5, without extensions.

use shardcast_shard::ws::frame::{self, Opcode};

/// Bytes of the largest message that a server may send; beyond it the connection has failed.
pub const MESSAGE_SIZE_MAX: usize = 16 * 1024 * 1024;

/// One thing that the server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole message, of text or binary.
    Message(&'a [u8]),
    /// A ping that must be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// The server closes, with this code if it gave one.
    Close(Option<u16>),
}

/// What the server did that no server may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A header that RFC 6455 forbids.
    #[error("malformed frame")]
    Frame,
    /// A server's frame must not be masked.
    #[error("masked frame")]
    Masked,
    /// An extension that nobody agreed on.
    #[error("reserved bits set")]
    Reserved,
    /// A continuation without a message, or a message inside another one.
    #[error("fragments out of order")]
    Fragments,
    /// More than [`MESSAGE_SIZE_MAX`].
    #[error("message too large")]
    TooLarge,
}

/// What has arrived of a frame, and of a message of several frames. Most connections have neither at most times.
#[derive(Debug, Default)]
pub struct Unfinished {
    /// The beginning of a frame.
    frame: Vec<u8>,
    /// The fragments so far; `None` outside of a fragmented message.
    message: Option<Vec<u8>>,
}

impl Unfinished {
    /// Notes bytes that are to be read later, such as those that came with the end of the handshake.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            frame: bytes.to_vec(),
            message: None,
        }
    }

    /// The bytes noted so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.frame
    }

    /// Notes more bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.frame.extend_from_slice(bytes);
    }
}

/// Cuts what arrived into pieces, in order. What remains is kept in `unfinished`, which is `None` again when nothing does.
///
/// # Errors
/// The server broke the protocol; the connection must be given up.
pub fn split(
    unfinished: &mut Option<Box<Unfinished>>,
    received: &[u8],
    mut on_piece: impl FnMut(Piece<'_>),
) -> Result<(), Violation> {
    let Some(kept) = unfinished else {
        let mut message = None;
        let used = frames(received, &mut message, &mut on_piece)?;
        let rest = received.get(used..).unwrap_or_default();
        if !rest.is_empty() || message.is_some() {
            *unfinished = Some(Box::new(Unfinished {
                frame: rest.to_vec(),
                message,
            }));
        }
        return Ok(());
    };
    kept.frame.extend_from_slice(received);
    let used = frames(&kept.frame, &mut kept.message, &mut on_piece)?;
    kept.frame.drain(..used);
    if kept.frame.is_empty() && kept.message.is_none() {
        *unfinished = None;
    }
    Ok(())
}

/// Reads all whole frames: how many bytes they are.
fn frames(
    bytes: &[u8],
    message: &mut Option<Vec<u8>>,
    on_piece: &mut impl FnMut(Piece<'_>),
) -> Result<usize, Violation> {
    let mut used = 0;
    loop {
        let rest = bytes.get(used..).unwrap_or_default();
        let Some((header, size)) = frame::parse_header(rest).map_err(|_| Violation::Frame)? else {
            return Ok(used);
        };
        if header.mask.is_some() {
            return Err(Violation::Masked);
        }
        if header.reserved != 0 {
            return Err(Violation::Reserved);
        }
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        if length > MESSAGE_SIZE_MAX {
            return Err(Violation::TooLarge);
        }
        let Some(payload) = rest.get(size..size + length) else {
            return Ok(used);
        };
        used += size + length;
        frame(header.opcode, header.fin, payload, message, on_piece)?;
    }
}

fn frame(
    opcode: Opcode,
    fin: bool,
    payload: &[u8],
    message: &mut Option<Vec<u8>>,
    on_piece: &mut impl FnMut(Piece<'_>),
) -> Result<(), Violation> {
    match (opcode, &mut *message) {
        (Opcode::Ping, _) => on_piece(Piece::Ping(payload)),
        (Opcode::Pong, _) => {}
        (Opcode::Close, _) => {
            let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            on_piece(Piece::Close(code));
        }
        (Opcode::Text | Opcode::Binary, None) if fin => on_piece(Piece::Message(payload)),
        (Opcode::Text | Opcode::Binary, None) => *message = Some(payload.to_vec()),
        (Opcode::Continuation, Some(started)) => {
            if started.len() + payload.len() > MESSAGE_SIZE_MAX {
                return Err(Violation::TooLarge);
            }
            started.extend_from_slice(payload);
            if fin && let Some(whole) = message.take() {
                on_piece(Piece::Message(&whole));
            }
        }
        (Opcode::Text | Opcode::Binary, Some(_)) | (Opcode::Continuation, None) => {
            return Err(Violation::Fragments);
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces(stream: &[u8], cuts: &[usize]) -> Result<Vec<String>, Violation> {
        let mut found = Vec::new();
        let mut unfinished = None;
        let mut at = 0;
        for end in cuts.iter().copied().chain([stream.len()]) {
            split(&mut unfinished, &stream[at..end], |piece| {
                found.push(format!("{piece:?}"))
            })?;
            at = end;
        }
        assert!(unfinished.is_none(), "a whole stream leaves nothing");
        Ok(found)
    }

    fn stream() -> Vec<u8> {
        let mut stream = Vec::new();
        frame::encode(Opcode::Text, b"hello", &mut stream);
        frame::encode(Opcode::Ping, b"beat", &mut stream);
        let first = stream.len();
        frame::encode(Opcode::Text, b"in ", &mut stream);
        stream[first] &= 0x7f;
        frame::encode(Opcode::Pong, b"", &mut stream);
        frame::encode(Opcode::Continuation, b"two", &mut stream);
        frame::encode(Opcode::Binary, &vec![7; 70_000], &mut stream);
        stream.extend_from_slice(&frame::close(1013, "slow"));
        stream
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same_pieces(mut cuts in prop::collection::vec(0_usize..70_000, 0..40)) {
            cuts.sort_unstable();
            let stream = stream();
            let whole = pieces(&stream, &[]).unwrap();
            prop_assert_eq!(whole.len(), 5);
            prop_assert_eq!(pieces(&stream, &cuts).unwrap(), whole);
        }
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        let mut masked = Vec::new();
        frame::encode_masked(Opcode::Text, true, [1; 4], b"x", &mut masked);
        let cases: [(&[u8], Violation); 6] = [
            (&masked, Violation::Masked),
            (&[0xc1, 0x00], Violation::Reserved),
            (&[0x80, 0x00], Violation::Fragments),
            (&[0x01, 0x00, 0x01, 0x00], Violation::Fragments),
            (&[0x83, 0x00], Violation::Frame),
            (&[0x82, 127, 0, 0, 0, 0, 2, 0, 0, 0], Violation::TooLarge),
        ];
        for (bytes, violation) in cases {
            assert_eq!(pieces(bytes, &[]), Err(violation), "{bytes:02x?}");
        }
    }
}
