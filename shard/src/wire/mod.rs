//! What clients speak: bytes in, a [`Command`] out; an event of the rooms in, bytes out.
//!
//! A protocol is a module here. Events and commands belong to none of them, so clients of different protocols can
//! share a room.

pub mod json;

use crate::hub::Position;

/// What a client asks for. Borrows from the decoder and from the received bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// To become a member of a room.
    Join {
        /// The room.
        room: &'a str,
        /// The last place seen; what was missed since is sent again.
        since: Option<Position>,
    },
    /// To be a member no longer.
    Leave {
        /// The room.
        room: &'a str,
    },
    /// To publish to a room.
    Message {
        /// The room.
        room: &'a str,
        /// The text of one JSON value, exactly as it was received.
        content: &'a [u8],
        /// Asks for an acknowledgement, and makes a repeat harmless.
        id: Option<&'a str>,
    },
    /// To publish to every connection of a user.
    Direct {
        /// The user.
        to: &'a str,
        /// The text of one JSON value, exactly as it was received.
        content: &'a [u8],
        /// Asks for an acknowledgement, and makes a repeat harmless.
        id: Option<&'a str>,
    },
    /// To be told who is in a room.
    Presence {
        /// The room.
        room: &'a str,
    },
    /// To be sent past messages of a room.
    History {
        /// The room.
        room: &'a str,
        /// After which place.
        since: Option<Position>,
        /// How many at most.
        limit: Option<u64>,
    },
    /// To be answered.
    Heartbeat,
    /// To say who connects, or to go on for longer or with other rights.
    Auth {
        /// A JSON Web Token in its compact form (RFC 7519 §3), not looked at yet.
        token: &'a str,
    },
}

/// Why a name is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has no characters.
    #[error("is empty")]
    Empty,
    /// It has more bytes than permitted.
    #[error("is longer than {0} bytes")]
    TooLong(u64),
    /// It contains U+0000 to U+001F or U+007F.
    #[error("contains a control character")]
    Control,
    /// It has characters that another sequence of code points stands for (Unicode Standard Annex #15).
    #[error("is not in Unicode normalisation form C (NFC)")]
    NotNormal,
}

/// Checks the name of a room or a user: 1 to `size_max` bytes, none of them a control character, in Unicode normalisation form C. Names are
/// compared byte by byte everywhere, and two that nobody can tell apart must not be two names (RFC 8264 §5.2).
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str, size_max: u64) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() as u64 > size_max {
        return Err(NameError::TooLong(size_max));
    }
    if name.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(NameError::Control);
    }
    if !name.is_ascii() && !unicode_normalization::is_nfc(name) {
        return Err(NameError::NotNormal);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let cases = [
            ("lobby", Ok(())),
            ("Straße 7", Ok(())),
            ("12345678", Ok(())),
            ("", Err(NameError::Empty)),
            ("123456789", Err(NameError::TooLong(8))),
            ("a\nb", Err(NameError::Control)),
            ("a\u{7f}", Err(NameError::Control)),
            ("caf\u{e9}", Ok(())),
            ("cafe\u{301}", Err(NameError::NotNormal)),
            ("\u{212b}", Err(NameError::NotNormal)),
            ("\u{1100}\u{1161}", Err(NameError::NotNormal)),
            ("각", Ok(())),
        ];
        for (name, expected) in cases {
            assert_eq!(
                check_name(
                    name,
                    if name.len() > 8 && expected.is_ok() {
                        16
                    } else {
                        8
                    }
                ),
                expected,
                "{name:?}"
            );
        }
    }
}
