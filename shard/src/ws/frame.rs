//! Frames on the wire (RFC 6455 §5.2): reading a header, writing a server's frames, and a client's for tests and load.

use bytes::{BufMut, Bytes, BytesMut};

use super::close::Violation;
use super::mask;

/// Bytes of the longest header: two, a length of eight, a mask of four.
pub const HEADER_SIZE_MAX: usize = 14;
/// Bytes of the longest header that a server sends: its frames have no mask.
pub const SERVER_HEADER_SIZE_MAX: usize = 10;
/// Bytes of the longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_SIZE_MAX: usize = 125;
/// Bytes of the longest reason of a close frame: the code takes two.
pub const CLOSE_REASON_SIZE_MAX: usize = CONTROL_SIZE_MAX - 2;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;
const LENGTH_16_BIT: u8 = 126;
const LENGTH_64_BIT: u8 = 127;

/// What a frame is (RFC 6455 §11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation = 0x0,
    /// A text message or its first fragment.
    Text = 0x1,
    /// A binary message or its first fragment.
    Binary = 0x2,
    /// The end of the connection.
    Close = 0x8,
    /// Asks for a pong with the same payload.
    Ping = 0x9,
    /// Answers a ping, or says that the sender is alive.
    Pong = 0xa,
}

impl Opcode {
    /// Whether the frame is about the connection, not part of a message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

impl TryFrom<u8> for Opcode {
    type Error = Violation;

    fn try_from(bits: u8) -> Result<Self, Violation> {
        match bits {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xa => Ok(Self::Pong),
            reserved => Err(Violation::ReservedOpcode(reserved)),
        }
    }
}

/// The header of a frame of either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether the message ends with this frame.
    pub fin: bool,
    /// RSV1 to RSV3 as the bits 4, 2 and 1. An extension gives them a meaning; without one they must be 0.
    pub reserved: u8,
    /// What the frame is.
    pub opcode: Opcode,
    /// The mask of a client's frame; a server's has none.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload after the header.
    pub length: u64,
}

impl Header {
    /// RSV1 among [`Header::reserved`]: the first frame of a compressed message (RFC 7692 §6).
    pub const COMPRESSED: u8 = RSV1 >> 4;
}

/// Reads the header at the start of `bytes`: the header and its own size in bytes, `None` when it is not all there.
///
/// Checks what holds for both directions and needs no session: opcode, control frames, form of the length. The header's
/// bytes are judged in their order, so a longer `bytes` never changes an error.
///
/// # Errors
/// The bytes there already break RFC 6455 §5.2 or §5.5.
pub fn parse_header(bytes: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
    let Some((&first, bytes)) = bytes.split_first() else {
        return Ok(None);
    };
    let (fin, opcode) = (first & FIN != 0, Opcode::try_from(first & 0x0f)?);
    if opcode.is_control() && !fin {
        return Err(Violation::ControlFragmented);
    }
    let Some((&second, bytes)) = bytes.split_first() else {
        return Ok(None);
    };
    let short_length = second & !MASKED;
    if opcode.is_control() && usize::from(short_length) > CONTROL_SIZE_MAX {
        return Err(Violation::ControlTooLarge);
    }
    let Some((length, length_size)) = parse_length(short_length, bytes)? else {
        return Ok(None);
    };
    let (mask, mask_size) = if second & MASKED == 0 {
        (None, 0)
    } else {
        match bytes.get(length_size..).and_then(<[u8]>::first_chunk) {
            Some(&mask) => (Some(mask), mask.len()),
            None => return Ok(None),
        }
    };
    let header = Header {
        fin,
        reserved: (first & RESERVED) >> 4,
        opcode,
        mask,
        length,
    };
    Ok(Some((header, 2 + length_size + mask_size)))
}

/// The payload length and how many bytes after the second one it takes.
fn parse_length(short: u8, bytes: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let (length, size, least) = match short {
        LENGTH_16_BIT => match bytes.first_chunk() {
            Some(long) => (u64::from(u16::from_be_bytes(*long)), 2, 126),
            None => return Ok(None),
        },
        LENGTH_64_BIT => match bytes.first_chunk() {
            Some(long) => (u64::from_be_bytes(*long), 8, 1 << 16),
            None => return Ok(None),
        },
        short => (u64::from(short), 0, 0),
    };
    if length > i64::MAX.unsigned_abs() {
        return Err(Violation::LengthTopBit);
    }
    if length < least {
        return Err(Violation::LengthNotMinimal);
    }
    Ok(Some((length, size)))
}

/// The header of an unfragmented server frame with `length` bytes of payload: the first `.1` bytes of `.0`.
#[must_use]
pub fn header(opcode: Opcode, length: usize) -> ([u8; SERVER_HEADER_SIZE_MAX], usize) {
    let mut bytes = [0; SERVER_HEADER_SIZE_MAX];
    bytes[0] = FIN | opcode as u8;
    let long = (length as u64).to_be_bytes();
    let size = match length {
        0..=125 => {
            bytes[1] = long[7];
            2
        }
        126..=0xffff => {
            bytes[1] = LENGTH_16_BIT;
            bytes[2..4].copy_from_slice(&long[6..]);
            4
        }
        _ => {
            bytes[1] = LENGTH_64_BIT;
            bytes[2..].copy_from_slice(&long);
            10
        }
    };
    (bytes, size)
}

/// The same as [`header`] for a compressed message: RSV1 is set (RFC 7692 §6).
#[must_use]
pub fn compressed_header(opcode: Opcode, length: usize) -> ([u8; SERVER_HEADER_SIZE_MAX], usize) {
    let (mut bytes, size) = header(opcode, length);
    bytes[0] |= RSV1;
    (bytes, size)
}

/// Appends an unfragmented server frame.
pub fn encode(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let (header, size) = header(opcode, payload.len());
    out.reserve(size + payload.len());
    out.extend_from_slice(&header[..size]);
    out.extend_from_slice(payload);
}

/// Appends a client's frame, masked. For the clients in tests and in the load generator.
pub fn encode_masked(opcode: Opcode, fin: bool, mask: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    let (mut header, size) = header(opcode, payload.len());
    if !fin {
        header[0] &= !FIN;
    }
    header[1] |= MASKED;
    out.reserve(size + mask.len() + payload.len());
    out.extend_from_slice(&header[..size]);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[start..], mask, 0);
}

/// A close frame. Without a code it is empty, as the answer to an empty close frame is (RFC 6455 §5.5.1).
///
/// The reason is cut at a character's end so that it fits; without a code there is none. The code should be one that
/// [`super::close::may_be_sent`].
#[must_use]
pub fn close(code: impl Into<Option<u16>>, reason: &str) -> Bytes {
    let Some(code) = code.into() else {
        return control(Opcode::Close, &[], &[]);
    };
    let mut end = reason.len().min(CLOSE_REASON_SIZE_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    control(
        Opcode::Close,
        &code.to_be_bytes(),
        &reason.as_bytes()[..end],
    )
}

/// A ping. Of the payload at most 125 bytes are sent.
#[must_use]
pub fn ping(payload: &[u8]) -> Bytes {
    control(Opcode::Ping, &[], clip(payload))
}

/// A pong. Of the payload at most 125 bytes are sent; that of a ping is never longer.
#[must_use]
pub fn pong(payload: &[u8]) -> Bytes {
    control(Opcode::Pong, &[], clip(payload))
}

fn clip(payload: &[u8]) -> &[u8] {
    &payload[..payload.len().min(CONTROL_SIZE_MAX)]
}

fn control(opcode: Opcode, start: &[u8], rest: &[u8]) -> Bytes {
    let length = start.len() + rest.len();
    let (header, size) = header(opcode, length);
    let mut frame = BytesMut::with_capacity(size + length);
    frame.put_slice(&header[..size]);
    frame.put_slice(start);
    frame.put_slice(rest);
    frame.freeze()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn data(opcode: Opcode, fin: bool, mask: Option<[u8; 4]>, length: u64) -> Header {
        Header {
            fin,
            reserved: 0,
            opcode,
            mask,
            length,
        }
    }

    #[test]
    fn headers_that_are_valid() {
        let mask = Some([1, 2, 3, 4]);
        let reserved = Header {
            reserved: 0b100,
            ..data(Opcode::Text, true, None, 5)
        };
        let cases: &[(&[u8], Header)] = &[
            (b"\x81\x05", data(Opcode::Text, true, None, 5)),
            (b"\xc1\x05", reserved),
            (
                b"\x02\x85\x01\x02\x03\x04",
                data(Opcode::Binary, false, mask, 5),
            ),
            (
                b"\x80\x80\x01\x02\x03\x04",
                data(Opcode::Continuation, true, mask, 0),
            ),
            (b"\x89\x7d", data(Opcode::Ping, true, None, 125)),
            (b"\x82\x7e\x00\x7e", data(Opcode::Binary, true, None, 126)),
            (
                b"\x82\xfe\xff\xff\x01\x02\x03\x04",
                data(Opcode::Binary, true, mask, 65_535),
            ),
            (
                b"\x82\x7f\0\0\0\0\0\x01\0\0",
                data(Opcode::Binary, true, None, 65_536),
            ),
            (
                b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04",
                data(Opcode::Binary, true, mask, (1 << 63) - 1),
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(
                parse_header(bytes),
                Ok(Some((*expected, bytes.len()))),
                "{bytes:x?}"
            );
            let followed = [bytes, &b"payload"[..]].concat();
            assert_eq!(
                parse_header(&followed),
                Ok(Some((*expected, bytes.len()))),
                "{bytes:x?}"
            );
            for length in 0..bytes.len() {
                assert_eq!(
                    parse_header(&bytes[..length]),
                    Ok(None),
                    "{bytes:x?} cut to {length}"
                );
            }
        }
    }

    #[test]
    fn headers_that_break_the_protocol_at_their_last_byte() {
        let cases: &[(&[u8], Violation)] = &[
            (b"\x83", Violation::ReservedOpcode(3)),
            (b"\x87", Violation::ReservedOpcode(7)),
            (b"\x8b", Violation::ReservedOpcode(11)),
            (b"\x8f", Violation::ReservedOpcode(15)),
            (b"\x08", Violation::ControlFragmented),
            (b"\x09", Violation::ControlFragmented),
            (b"\x0a", Violation::ControlFragmented),
            (b"\x89\xfe", Violation::ControlTooLarge),
            (b"\x88\x7f", Violation::ControlTooLarge),
            (b"\x82\xfe\x00\x7d", Violation::LengthNotMinimal),
            (b"\x82\xff\0\0\0\0\0\0\xff\xff", Violation::LengthNotMinimal),
            (b"\x82\xff\x80\0\0\0\0\0\0\0", Violation::LengthTopBit),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse_header(bytes), Err(*expected), "{bytes:x?}");
            let followed = [bytes, &[0; 20][..]].concat();
            assert_eq!(parse_header(&followed), Err(*expected), "{bytes:x?}");
            assert_eq!(
                parse_header(&bytes[..bytes.len() - 1]),
                Ok(None),
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn written_frames_are_read_again() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
            for opcode in [Opcode::Text, Opcode::Binary] {
                let mut server = Vec::new();
                encode(opcode, &payload, &mut server);
                let (header, size) = parse_header(&server).unwrap().unwrap();
                assert_eq!(header, data(opcode, true, None, length));
                assert_eq!(&server[size..], payload);

                let mut client = Vec::new();
                let key = [9, 8, 7, 6];
                encode_masked(opcode, false, key, &payload, &mut client);
                let (header, size) = parse_header(&client).unwrap().unwrap();
                assert_eq!(header, data(opcode, false, Some(key), length));
                mask::apply(&mut client[size..], key, 0);
                assert_eq!(&client[size..], payload);
            }
        }
    }

    #[test]
    fn control_frames() {
        assert_eq!(ping(b"")[..], b"\x89\x00"[..]);
        assert_eq!(pong(b"abc")[..], b"\x8a\x03abc"[..]);
        assert_eq!(ping(&[b'x'; 126]).len(), 2 + CONTROL_SIZE_MAX);
        assert_eq!(close(None, "not sent")[..], b"\x88\x00"[..]);
        assert_eq!(close(1000, "")[..], b"\x88\x02\x03\xe8"[..]);
        assert_eq!(close(Some(1002), "no")[..], b"\x88\x04\x03\xeano"[..]);
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        for (character, kept) in [("x", 123), ("ü", 122), ("€", 123), ("𝄞", 120)] {
            let frame = close(1008, &character.repeat(200));
            let (code, reason) = super::super::close::parse(&frame[2..]).unwrap();
            assert_eq!(code, Some(1008));
            assert_eq!(reason, character.repeat(kept / character.len()));
            assert_eq!(usize::from(frame[1]), 2 + kept);
        }
    }
}
