//! What a message of the harness carries: when it should have left, and which one of its stream it is.
//!
//! A stamp is text of fixed length, so it survives whatever a server wraps around it (a JSON string, a line of words),
//! and is found again without knowing that wrapping:
//!
//! ```text
//! ~SC~  intended time, ns (16)  stream (8)  number (8)      all in hexadecimal digits, small letters
//! ```

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// How a stamp begins. Neither names nor padding contain it.
const MARK: &[u8; 4] = b"~SC~";

/// Bytes of a stamp, and so the smallest payload.
pub const STAMP_SIZE: usize = MARK.len() + 16 + 8 + 8;

/// What fills a payload up to its size.
const PADDING: u8 = b'x';

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));

/// The bit that makes a member's number the stream of direct messages to it. Without it a number is that of a publisher.
/// So every stream tells whom it is for, and a delivery to someone else is recognised.
pub const STREAM_DIRECT: u32 = 1 << 31;

/// What a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When the schedule wanted it sent, in nanoseconds of the harness's clock.
    pub intended_ns: u64,
    /// Whose messages these are: the publisher's number in its group; or to whom, with [`STREAM_DIRECT`].
    pub stream: u32,
    /// Which message of the stream, from 0.
    pub number: u32,
}

impl Stamp {
    /// Appends a payload of `size` bytes, at least [`STAMP_SIZE`], that begins with the stamp.
    pub fn write(self, size: usize, out: &mut Vec<u8>) {
        let end = out.len() + size.max(STAMP_SIZE);
        out.extend_from_slice(MARK);
        hexadecimal(self.intended_ns, 16, out);
        hexadecimal(self.stream.into(), 8, out);
        hexadecimal(self.number.into(), 8, out);
        out.resize(end, PADDING);
    }

    /// The first stamp in a message; `None` when it holds none.
    #[must_use]
    pub fn find(message: &[u8]) -> Option<Self> {
        let start = FINDER.find(message)? + MARK.len();
        let digits: &[u8; STAMP_SIZE - MARK.len()] = message.get(start..)?.first_chunk()?;
        let (parts, _) = digits.as_chunks();
        let [high, low, stream, number] = [0, 1, 2, 3].map(|part: usize| number_of(parts[part]));
        Some(Self {
            intended_ns: u64::from(high?) << 32 | u64::from(low?),
            stream: stream?,
            number: number?,
        })
    }
}

fn hexadecimal(value: u64, digits: u32, out: &mut Vec<u8>) {
    for digit in (0..digits).rev() {
        let nibble = (value >> (4 * digit)) as usize & 0xf;
        out.push(b"0123456789abcdef"[nibble]);
    }
}

/// The number that eight hexadecimal digits make, all of them at once in one register: this is done four times for every delivery.
fn number_of(digits: [u8; 8]) -> Option<u32> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let text = u64::from_be_bytes(digits);
    // Of a letter, bit 6 is set, and its lower half counts from 1.
    let values = (text & (0x0f * EACH)) + ((text >> 6) & EACH) * 9;
    let letters = ((values + 6 * EACH) >> 4) & EACH;
    let written = values + u64::from(b'0') * EACH + letters * u64::from(b'a' - b'0' - 10);
    if written != text || values & (0xf0 * EACH) != 0 {
        return None;
    }
    let pairs = (values | values >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    Some((fours | fours >> 16) as u32)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_stamp_is_found_in_any_wrapping(
            intended_ns: u64, stream: u32, number: u32, size in 0_usize..500,
            before in "[ -}]{0,80}", after in "[ -}]{0,80}",
        ) {
            let stamp = Stamp { intended_ns, stream, number };
            let mut message = before.into_bytes();
            let start = message.len();
            stamp.write(size, &mut message);
            prop_assert_eq!(message.len() - start, size.max(STAMP_SIZE));
            message.extend_from_slice(after.as_bytes());
            prop_assert_eq!(Stamp::find(&message), Some(stamp));
        }

        #[test]
        fn digits_are_read_as_the_library_reads_them(digits in "[0-9a-f]{8}", index in 0..8_usize, byte: u8) {
            let mut text: [u8; 8] = digits.into_bytes().try_into().unwrap();
            text[index] = byte;
            let expected = std::str::from_utf8(&text).ok().filter(|_| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            prop_assert_eq!(number_of(text), expected.map(|text| u32::from_str_radix(text, 16).unwrap()));
        }

        #[test]
        fn any_bytes_are_searched_without_harm(bytes: Vec<u8>) {
            let mut message = MARK.to_vec();
            message.extend_from_slice(&bytes);
            let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            let hexadecimal = bytes.len() >= 32 && bytes[..32].iter().all(is_digit);
            prop_assert_eq!(Stamp::find(&message).is_some(), hexadecimal);
        }
    }
}
