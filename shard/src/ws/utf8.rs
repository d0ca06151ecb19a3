//! UTF-8 checks of text messages (RFC 6455 §8.1).

/// The text is not UTF-8 and no further byte can make it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidUtf8;

/// Checks a whole text.
pub(super) fn check(text: &[u8]) -> Result<&str, InvalidUtf8> {
    simdutf8::basic::from_utf8(text).map_err(|_| InvalidUtf8)
}

/// Checks a text that grows at its end, looking at each byte a bounded number of times.
///
/// The text stays with the caller in one piece, so all that is kept here is how far it was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes known to be whole, valid characters. At most three bytes of a further character follow.
    checked: usize,
}

impl Progress {
    /// Goes on to the end of `text`, whose start was seen before.
    ///
    /// A character that is cut off at the end passes as long as some continuation makes it valid.
    pub(super) fn advance(&mut self, text: &[u8]) -> Result<(), InvalidUtf8> {
        let fresh = text.get(self.checked..).unwrap_or_default();
        match simdutf8::compat::from_utf8(fresh) {
            Ok(_) => self.checked = text.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(InvalidUtf8),
        }
        Ok(())
    }

    /// Ends the check: `text` must not end within a character.
    pub(super) fn finish(self, text: &[u8]) -> Result<(), InvalidUtf8> {
        if self.checked == text.len() {
            Ok(())
        } else {
            Err(InvalidUtf8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How a text fares that arrives byte by byte.
    #[derive(Debug, PartialEq, Eq)]
    enum Verdict {
        Valid,
        CutOff,
        /// Refused when so many bytes were there.
        InvalidAt(usize),
    }

    fn byte_by_byte(text: &[u8]) -> Verdict {
        let mut progress = Progress::default();
        for length in 1..=text.len() {
            if progress.advance(&text[..length]).is_err() {
                return Verdict::InvalidAt(length);
            }
        }
        match progress.finish(text) {
            Ok(()) => Verdict::Valid,
            Err(InvalidUtf8) => Verdict::CutOff,
        }
    }

    #[test]
    fn invalid_text_is_refused_at_the_byte_that_makes_it_so() {
        let cases: &[(&[u8], Verdict)] = &[
            (b"", Verdict::Valid),
            ("κόσμε €𝄞".as_bytes(), Verdict::Valid),
            (b"\xf4\x8f\xbf\xbf", Verdict::Valid), // U+10FFFF, the last one
            (b"\xf4\x90", Verdict::InvalidAt(2)),  // above U+10FFFF
            (b"\xed\x9f\xbf", Verdict::Valid),     // U+D7FF, before the surrogates
            (b"\xed\xa0", Verdict::InvalidAt(2)),  // a surrogate
            (b"\xc0", Verdict::InvalidAt(1)),      // always overlong
            (b"\xe0\x9f", Verdict::InvalidAt(2)),  // overlong
            (b"\xf0\x8f", Verdict::InvalidAt(2)),  // overlong
            (b"\x80", Verdict::InvalidAt(1)),      // continuation without a start
            (b"ab\xff", Verdict::InvalidAt(3)),
            (b"\xe2\x82a", Verdict::InvalidAt(3)), // start without its continuation
            (b"ab\xe2\x82", Verdict::CutOff),      // cut off
            (b"\xf0\x9d\x84", Verdict::CutOff),
        ];
        for (text, expected) in cases {
            assert_eq!(byte_by_byte(text), *expected, "{text:x?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_are_judged_like_the_whole(
            text in prop_oneof![
                any::<String>().prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..40),
                (any::<String>(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(text, index, byte)| {
                    let mut bytes = text.into_bytes();
                    if !bytes.is_empty() {
                        let at = index.index(bytes.len());
                        bytes[at] = byte;
                    }
                    bytes
                }),
            ],
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut progress = Progress::default();
            let mut ends: Vec<usize> = cuts.drain(..).map(|cut| cut.index(text.len() + 1)).collect();
            ends.push(text.len());
            ends.sort_unstable();
            let judged = ends
                .iter()
                .try_for_each(|&end| progress.advance(&text[..end]))
                .and_then(|()| progress.finish(&text));
            prop_assert_eq!(judged.is_ok(), std::str::from_utf8(&text).is_ok());
            prop_assert_eq!(check(&text).is_ok(), judged.is_ok());
        }
    }
}
