//! What a message of the harness carries: when it should have left, and which one of its stream it is.
//!
//! A stamp is text of fixed length, so it survives whatever a server wraps around it (a JSON string, a line of words),
//! and is found again without knowing that wrapping:
//!
//! ```text
//! ~SC~  intended time, ns (16)  stream (8)  number (8)      all in hexadecimal digits
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
        let digits = message.get(start..start + STAMP_SIZE - MARK.len())?;
        let (time, rest) = digits.split_at(16);
        let (stream, number) = rest.split_at(8);
        Some(Self {
            intended_ns: number_of(time)?,
            stream: u32::try_from(number_of(stream)?).ok()?,
            number: u32::try_from(number_of(number)?).ok()?,
        })
    }
}

fn hexadecimal(value: u64, digits: u32, out: &mut Vec<u8>) {
    for digit in (0..digits).rev() {
        let nibble = (value >> (4 * digit)) as usize & 0xf;
        out.push(b"0123456789abcdef"[nibble]);
    }
}

fn number_of(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| {
        let nibble = char::from(*digit).to_digit(16)?;
        Some(value << 4 | u64::from(nibble))
    })
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
        fn any_bytes_are_searched_without_harm(bytes: Vec<u8>) {
            let mut message = MARK.to_vec();
            message.extend_from_slice(&bytes);
            let hexadecimal = bytes.len() >= 32 && bytes[..32].iter().all(u8::is_ascii_hexdigit);
            prop_assert_eq!(Stamp::find(&message).is_some(), hexadecimal);
        }
    }
}
