//! Patterns of room names: what a token or a line of the configuration file speaks about many rooms with.

use std::fmt;
use std::str::FromStr;

use crate::hub::Name;

/// The most stars in a pattern: the time that a comparison takes grows with them.
pub const PATTERN_STARS_MAX: usize = 8;

/// The most bytes of a pattern.
pub const PATTERN_SIZE_MAX: usize = 4096;

/// A pattern of names: every `*` stands for any characters, none included; everything else stands for itself.
///
/// `lobby` is one name, `chat.*` all that begin with `chat.`, `*` all. Names are compared as they are, byte by byte: they come in Unicode normalisation form C
/// ([`check_name`](crate::wire::check_name)), so two that look the same are the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(Name);

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It matches nothing, as no name is empty.
    #[error("is empty; `*` stands for every name")]
    Empty,
    /// More than [`PATTERN_SIZE_MAX`].
    #[error("is longer than {PATTERN_SIZE_MAX} bytes")]
    TooLong,
    /// More than [`PATTERN_STARS_MAX`].
    #[error("has more than {PATTERN_STARS_MAX} stars")]
    TooManyStars,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > PATTERN_SIZE_MAX {
            return Err(PatternError::TooLong);
        }
        if text.matches('*').count() > PATTERN_STARS_MAX {
            return Err(PatternError::TooManyStars);
        }
        Ok(Self(text.into()))
    }
}

impl Pattern {
    /// `*`: every name.
    #[must_use]
    pub fn all() -> Self {
        Self("*".into())
    }

    /// Whether the name is one of those that the pattern stands for.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        // There is always a first part.
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        // The first place where a part fits leaves the most to those behind it.
        for part in parts {
            let Some((_, behind)) = rest.split_once(part) else {
                return false;
            };
            rest = behind;
        }
        rest.ends_with(last)
    }

    /// Whether it stands for every name that the other stands for.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        // Nothing but a star of this one fits a star of the other.
        self.matches(&other.0)
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_pattern_stands_for() {
        let cases = [
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
            ("lobby", "lobb", false),
            ("*", "x", true),
            ("**", "x", true),
            ("chat.*", "chat.", true),
            ("chat.*", "chat.a.b", true),
            ("chat.*", "chat", false),
            ("*.news", "de.news", true),
            ("*.news", "de.news.x", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "ac", false),
            ("ab*ba", "aba", false),
            ("ab*ba", "abba", true),
            ("*a*a*", "a", false),
            ("Straße*", "Straße 7", true),
            ("caf\u{e9}", "cafe\u{301}", false),
        ];
        for (pattern, name, expected) in cases {
            let parsed: Pattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        let cases = [
            ("*", "a*b", true),
            ("a*", "a*b", true),
            ("a*", "a", true),
            ("a*", "a*", true),
            ("a*b", "a*", false),
            ("a", "a*", false),
            ("*a*", "a", true),
            ("a*b", "a*c*b", true),
            ("a*b", "*b", false),
        ];
        for (wide, narrow, expected) in cases {
            let [wide, narrow] = [wide, narrow].map(|text| text.parse::<Pattern>().unwrap());
            assert_eq!(wide.covers(&narrow), expected, "{wide} {narrow}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        let parse = |text: &str| text.parse::<Pattern>();
        assert_eq!(parse(""), Err(PatternError::Empty));
        assert_eq!(
            parse(&"a".repeat(PATTERN_SIZE_MAX + 1)),
            Err(PatternError::TooLong)
        );
        assert_eq!(parse(&"*".repeat(9)), Err(PatternError::TooManyStars));
        assert!(parse(&"*".repeat(8)).is_ok());
    }

    /// The plain definition, in exponential time.
    fn matches(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=name.len()).any(|skip| matches(rest, &name[skip..])),
            ([one, pattern @ ..], [other, name @ ..]) => one == other && matches(pattern, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*é]{1,7}", name in "[abé]{0,9}") {
            let parsed: Pattern = pattern.parse().unwrap();
            let chars = |text: &str| text.chars().collect::<Vec<char>>();
            prop_assert_eq!(parsed.matches(&name), matches(&chars(&pattern), &chars(&name)));
        }

        #[test]
        fn what_covers_matches_all_the_same(wide in "[ab*]{1,5}", narrow in "[ab*]{1,5}", name in "[abc]{0,7}") {
            let [wide, narrow] = [wide, narrow].map(|text| text.parse::<Pattern>().unwrap());
            prop_assert!(!wide.covers(&narrow) || !narrow.matches(&name) || wide.matches(&name));
        }
    }
}
