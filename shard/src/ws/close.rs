//! Close codes, close frames and the ways a peer can break the protocol (RFC 6455 §7).

use super::utf8;

/// The purpose of the connection has been fulfilled.
pub const NORMAL: u16 = 1000;
/// The server goes down, or the peer has not answered for too long.
pub const GOING_AWAY: u16 = 1001;
/// The peer broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// The peer sent a kind of message that cannot be accepted.
pub const UNSUPPORTED: u16 = 1003;
/// The contents of a message do not fit its kind: a text is not UTF-8, or what is compressed does not inflate.
pub const INVALID_PAYLOAD: u16 = 1007;
/// The peer broke a rule of the application.
pub const POLICY: u16 = 1008;
/// A message was too large.
pub const TOO_LARGE: u16 = 1009;
/// The server failed.
pub const INTERNAL_ERROR: u16 = 1011;
/// The server is overloaded, or the peer reads too slowly: it should come back later (IANA registry).
pub const TRY_AGAIN_LATER: u16 = 1013;
/// Who the peer is was not said, or is true no longer: the counterpart of the HTTP status 401 among the codes that are left to applications
/// (RFC 6455 §7.4.2).
pub const UNAUTHORIZED: u16 = 4401;
/// Who the peer is does not suffice: the counterpart of the HTTP status 403 likewise.
pub const FORBIDDEN: u16 = 4403;
/// The peer's user has too many connections: the counterpart of the HTTP status 429 (RFC 6585 §4) likewise, as a browser tells a page nothing of a
/// handshake that was refused.
pub const TOO_MANY_CONNECTIONS: u16 = 4429;

/// How the peer broke RFC 6455, or RFC 7692 where that is named. The text fits into a close frame's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A reserved bit is set though no extension gives it a meaning there (§5.2; RFC 7692 §6).
    #[error("reserved bits must be 0")]
    ReservedBits,
    /// An opcode that the RFC reserves (§5.2).
    #[error("opcode {0:#x} is reserved")]
    ReservedOpcode(u8),
    /// A client's frame without a mask (§5.1).
    #[error("frames of a client must be masked")]
    Unmasked,
    /// A control frame without FIN (§5.5).
    #[error("control frames must not be fragmented")]
    ControlFragmented,
    /// A control frame of more than 125 bytes (§5.5).
    #[error("control frames carry at most 125 bytes")]
    ControlTooLarge,
    /// A length written with more bytes than it needs (§5.2).
    #[error("the payload length must use the fewest bytes")]
    LengthNotMinimal,
    /// A 64-bit length whose most significant bit is set (§5.2).
    #[error("the most significant bit of a payload length must be 0")]
    LengthTopBit,
    /// A continuation where no message has begun (§5.4).
    #[error("continuation without a message")]
    UnexpectedContinuation,
    /// A new message before the fragmented one has ended (§5.4).
    #[error("new message within a fragmented message")]
    MessageInterrupted,
    /// A close frame with half a code (§5.5.1).
    #[error("a close frame carries no code or two bytes of it")]
    CloseTruncated,
    /// A close code that must not be sent (§7.4).
    #[error("close code {0} must not be sent")]
    CloseCode(u16),
    /// A text or a close reason that is not UTF-8 (§8.1).
    #[error("text must be UTF-8")]
    InvalidText,
    /// A compressed message that is not whole, valid DEFLATE (RFC 7692 §7.2.2).
    #[error("what is compressed must be valid DEFLATE")]
    InvalidDeflate,
    /// A message above the session's limit, as it came or inflated (§7.4.1).
    #[error("message too large")]
    MessageTooLarge,
}

impl Violation {
    /// The code to close with.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Self::InvalidText | Self::InvalidDeflate => INVALID_PAYLOAD,
            Self::MessageTooLarge => TOO_LARGE,
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::Unmasked
            | Self::ControlFragmented
            | Self::ControlTooLarge
            | Self::LengthNotMinimal
            | Self::LengthTopBit
            | Self::UnexpectedContinuation
            | Self::MessageInterrupted
            | Self::CloseTruncated
            | Self::CloseCode(_) => PROTOCOL_ERROR,
        }
    }
}

impl From<utf8::InvalidUtf8> for Violation {
    fn from(_: utf8::InvalidUtf8) -> Self {
        Self::InvalidText
    }
}

/// Whether a close frame may carry the code: one that RFC 6455 §7.4.1 or the IANA registry defines for the
/// wire, or one of the ranges left to libraries and applications (3000 to 4999).
#[must_use]
pub const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Reads the payload of a close frame: the code, if there is one, and the reason.
///
/// # Errors
/// The payload is a single byte, the reason is not UTF-8, or the code must not be sent.
pub fn parse(payload: &[u8]) -> Result<(Option<u16>, &str), Violation> {
    if payload.is_empty() {
        return Ok((None, ""));
    }
    let (code, reason) = payload
        .split_first_chunk()
        .ok_or(Violation::CloseTruncated)?;
    let (code, reason) = (u16::from_be_bytes(*code), utf8::check(reason)?);
    if may_be_sent(code) {
        Ok((Some(code), reason))
    } else {
        Err(Violation::CloseCode(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_may_be_sent() {
        let refused = [0..=999, 1004..=1006, 1015..=2999, 5000..=u16::MAX];
        let step = if cfg!(miri) { 97 } else { 1 };
        for code in (0..=u16::MAX).step_by(step) {
            let expected = !refused.iter().any(|range| range.contains(&code));
            assert_eq!(may_be_sent(code), expected, "{code}");
        }
    }

    #[test]
    fn payloads_of_close_frames() {
        let longest = [&1000_u16.to_be_bytes()[..], &[b'x'; 123]].concat();
        let longest_reason = "x".repeat(123);
        type Parsed<'a> = Result<(Option<u16>, &'a str), Violation>;
        let cases: &[(&[u8], Parsed<'_>)] = &[
            (b"", Ok((None, ""))),
            (b"\x03", Err(Violation::CloseTruncated)),
            (b"\x03\xe8", Ok((Some(1000), ""))),
            (b"\x03\xe8gr\xc3\xbc\xc3\x9fe", Ok((Some(1000), "grüße"))),
            (&longest, Ok((Some(1000), &longest_reason))),
            (b"\x03\xe8\xc3", Err(Violation::InvalidText)),
            (b"\x03\xed", Err(Violation::CloseCode(1005))),
            (b"\x13\x87", Ok((Some(4999), ""))),
        ];
        for (payload, expected) in cases {
            assert_eq!(parse(payload), *expected, "{payload:x?}");
        }
    }

    #[test]
    fn every_message_fits_into_a_reason() {
        let longest = [
            Violation::LengthTopBit,
            Violation::CloseTruncated,
            Violation::CloseCode(u16::MAX),
            Violation::ReservedOpcode(u8::MAX),
        ];
        for violation in longest {
            assert!(violation.to_string().len() <= 123, "{violation}");
        }
    }
}
