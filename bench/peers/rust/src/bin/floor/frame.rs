//! Frames, decoded and turned into what a server sends, in the buffer that they were received in.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, OpCode};

/// The longest payload, in bytes.
const PAYLOAD_LENGTH_MAX: u64 = 1024 * 1024;

/// One whole message.
#[derive(Debug)]
pub(crate) struct Frame<'buffer> {
    pub(crate) opcode: OpCode,
    /// The frame as a server sends it: a header without a mask, and the payload in the clear.
    pub(crate) unmasked: &'buffer mut [u8],
    header_length: usize,
    /// How many bytes of the buffer the frame took up as it was received.
    pub(crate) received_length: usize,
}

impl Frame<'_> {
    pub(crate) fn payload(&self) -> &[u8] {
        &self.unmasked[self.header_length..]
    }
}

/// Takes the frame that `received` begins with; `None` where more bytes must come first.
///
/// # Errors
///
/// The code to close the connection with.
pub(crate) fn take(received: &mut [u8]) -> Result<Option<Frame<'_>>, CloseCode> {
    let mut cursor = Cursor::new(&*received);
    let Some((header, payload_length)) =
        FrameHeader::parse(&mut cursor).map_err(|_| CloseCode::Protocol)?
    else {
        return Ok(None);
    };
    let masked_header_length = cursor.position() as usize;
    let Some(mask) = header.mask else {
        return Err(CloseCode::Protocol);
    };
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(CloseCode::Protocol);
    }
    if !header.is_final {
        return Err(CloseCode::Unsupported);
    }
    if payload_length > PAYLOAD_LENGTH_MAX {
        return Err(CloseCode::Size);
    }
    let received_length = masked_header_length + payload_length as usize;
    let Some(frame) = received.get_mut(..received_length) else {
        return Ok(None);
    };

    unmask(&mut frame[masked_header_length..], mask);
    // The header without the mask moves up to where the mask ended: a whole frame to send, and nothing copied.
    let header_length = masked_header_length - mask.len();
    frame.copy_within(..header_length, mask.len());
    let unmasked = &mut frame[mask.len()..];
    unmasked[1] &= 0x7f;
    Ok(Some(Frame {
        opcode: header.opcode,
        unmasked,
        header_length,
        received_length,
    }))
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let mask_once = u64::from(u32::from_ne_bytes(mask));
    let mask_twice = mask_once << 32 | mask_once;
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ mask_twice).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// A close frame without a reason.
pub(crate) fn close(code: CloseCode) -> [u8; 4] {
    let [high, low] = u16::from(code).to_be_bytes();
    [0x88, 2, high, low]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tungstenite::protocol::frame::Frame as Oracle;
    use tungstenite::protocol::frame::coding::Data;

    use super::*;

    fn bytes_of(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut frame = Oracle::message(payload.to_vec(), OpCode::Data(Data::Binary), true);
        frame.header_mut().mask = mask;
        let mut bytes = Vec::new();
        frame.format(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_frame_becomes_what_a_server_sends() {
        for length in [0, 1, 7, 8, 9, 125, 126, 127, 65_535, 65_536, 70_001] {
            let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let mut received = bytes_of(&payload, Some([1, 2, 3, 250]));
            let whole = received.len();
            received.extend_from_slice(b"next");
            let frame = take(&mut received).unwrap().unwrap();
            assert_eq!(frame.opcode, OpCode::Data(Data::Binary));
            assert_eq!(frame.received_length, whole);
            assert_eq!(frame.payload(), payload);
            assert_eq!(frame.unmasked, bytes_of(&payload, None));
            assert!(received.ends_with(b"next"));
        }
    }

    #[test]
    fn part_of_a_frame_is_left_as_it_is() {
        let whole = bytes_of(&[7; 300], Some([9, 8, 7, 6]));
        for length in 0..whole.len() {
            let mut part = whole[..length].to_vec();
            assert!(take(&mut part).unwrap().is_none(), "{length}");
            assert_eq!(part, whole[..length]);
        }
    }

    #[test]
    fn what_it_does_not_take_is_refused() {
        let masked = bytes_of(b"x", Some([1, 2, 3, 4]));
        let with_first_byte = |byte: u8| [&[byte], &masked[1..]].concat();
        assert_eq!(
            take(&mut bytes_of(b"x", None)).unwrap_err(),
            CloseCode::Protocol
        );
        assert_eq!(
            take(&mut with_first_byte(0x02)).unwrap_err(),
            CloseCode::Unsupported
        );
        assert_eq!(
            take(&mut with_first_byte(0xc2)).unwrap_err(),
            CloseCode::Protocol
        );
        assert_eq!(
            take(&mut bytes_of(&vec![0; 1024 * 1024 + 1], Some([0; 4]))).unwrap_err(),
            CloseCode::Size
        );
    }

    #[test]
    fn a_close_frame_carries_its_code() {
        assert_eq!(close(CloseCode::Unsupported), [0x88, 2, 0x03, 0xeb]);
    }
}
