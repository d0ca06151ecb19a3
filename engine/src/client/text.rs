//! Text of strangers, made fit for a terminal.
//!
//! Names and messages come from whoever is connected. Written as they are, control characters in them would move the cursor, change colours or titles, or answer for the
//! reader; characters that turn the direction of writing would make one line look like another.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

/// Combining marks that one character may bear; further ones would cover the lines around.
const MARKS_MAX: usize = 4;

/// The text with every character that would drive a terminal replaced by one that shows it. Has no line feeds: those are shown too.
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut marks = 0;
    for character in text.chars() {
        let combines = unicode_width::UnicodeWidthChar::width(character) == Some(0);
        marks = if combines { marks + 1 } else { 0 };
        match character {
            '\t' => shown.push_str("    "),
            // The Unicode pictures of the C0 controls stand in their order.
            '\0'..='\u{1f}' => shown.extend(char::from_u32(0x2400 + u32::from(character))),
            '\u{7f}' => shown.push('\u{2421}'),
            _ if is_unsafe(character) => shown.push('\u{fffd}'),
            _ if combines && marks > MARKS_MAX => {}
            _ => shown.push(character),
        }
    }
    shown
}

/// Controls of the second set; marks and overrides of direction; separators of lines; what is no character; tags, which nobody sees.
const fn is_unsafe(character: char) -> bool {
    matches!(character,
        '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{61c}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The lines of a text of several, each harmless.
pub fn lines(text: &str) -> impl Iterator<Item = String> + '_ {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.split('\n')
        .map(|line| harmless(line.strip_suffix('\r').unwrap_or(line)))
}

/// A text cut to so many columns, with `…` where something was cut.
#[must_use]
pub fn fit(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let (mut fitted, mut width) = (String::new(), 0);
    for grapheme in text.graphemes(true) {
        width += grapheme.width();
        if width >= columns {
            break;
        }
        fitted.push_str(grapheme);
    }
    if columns > 0 {
        fitted.push('…');
    }
    fitted
}

/// The beginning of a text, of at most so many bytes.
#[must_use]
pub fn beginning(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Breaks a line into pieces of at most so many columns, between words where that can be. A character that is wider than all columns stands alone.
#[must_use]
pub fn wrap(line: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut pieces = Vec::new();
    let (mut piece, mut width) = (String::new(), 0);
    for word in line.split_word_bounds() {
        let word_width = word.width();
        if width + word_width > columns && width > 0 && word_width <= columns {
            pieces.push(std::mem::take(&mut piece));
            width = 0;
            // The space at which a line was broken begins no other.
            if word.trim().is_empty() {
                continue;
            }
        }
        for grapheme in word.graphemes(true) {
            let grapheme_width = grapheme.width();
            if width + grapheme_width > columns && width > 0 {
                pieces.push(std::mem::take(&mut piece));
                width = 0;
            }
            piece.push_str(grapheme);
            width += grapheme_width;
        }
    }
    if !piece.is_empty() || pieces.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// What is shown of the content of a message: its text where it is one or has one, and otherwise its JSON. It is not harmless yet.
#[must_use]
pub fn shown_content(content: &Value) -> String {
    let text = content.as_str().or_else(|| {
        let object = content.as_object()?;
        object.get("text")?.as_str()
    });
    text.map_or_else(|| content.to_string(), str::to_owned)
}

/// A moment in the time zone of this machine: the time, behind its date.
#[must_use]
pub fn moment(unix_ms: u64) -> String {
    zoned(unix_ms, "%Y-%m-%d %H:%M:%S")
}

/// The hour and the minute of a moment.
#[must_use]
pub fn hour(unix_ms: u64) -> String {
    zoned(unix_ms, "%H:%M")
}

/// The day of a moment.
#[must_use]
pub fn day(unix_ms: u64) -> String {
    zoned(unix_ms, "%Y-%m-%d")
}

fn zoned(unix_ms: u64, format: &str) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    match Timestamp::from_millisecond(ms) {
        Ok(moment) => moment
            .to_zoned_datetime(TimeZone::system())
            .strftime(format)
            .to_string(),
        // Only a server that makes things up tells of the year 10,000.
        Err(_) => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_drives_a_terminal() {
        let cases = [
            ("plain", "plain"),
            ("\u{1b}[2J\u{7}", "␛[2J␇"),
            ("a\nb\r\u{7f}", "a␊b␍␡"),
            ("\u{9b}31mred", "\u{fffd}31mred"),
            ("\u{202e}abc\u{2066}", "\u{fffd}abc\u{fffd}"),
            ("tab\tbed", "tab    bed"),
            ("漢字 👩‍👩‍👧 é", "漢字 👩‍👩‍👧 é"),
            (
                "e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}!",
                "e\u{301}\u{301}\u{301}\u{301}!",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(harmless(text), expected);
        }
        for character in ('\0'..='\u{ffff}').filter(|character| character.is_control()) {
            let shown = harmless(&character.to_string());
            assert!(!shown.chars().any(char::is_control), "{character:?}");
        }
    }

    #[test]
    fn lines_of_a_message() {
        let all = |text| lines(text).collect::<Vec<_>>();
        assert_eq!(all("one"), ["one"]);
        assert_eq!(all("one\r\ntwo\u{1b}\n"), ["one", "two␛"]);
        assert_eq!(all(""), [""]);
    }

    #[test]
    fn cut_to_columns() {
        let cases = [
            ("hello", 5, "hello"),
            ("hello", 4, "hel…"),
            ("漢字漢字", 5, "漢字…"),
            ("漢字", 3, "漢…"),
            ("漢字", 1, "…"),
            ("漢字", 0, ""),
        ];
        for (text, columns, expected) in cases {
            let fitted = fit(text, columns);
            assert_eq!(fitted, expected);
            assert!(fitted.width() <= columns);
        }
    }

    #[test]
    fn cut_to_bytes() {
        let cases = [
            ("hello", 9, "hello"),
            ("hello", 2, "he"),
            ("é", 1, ""),
            ("aé", 2, "a"),
        ];
        for (text, bytes, expected) in cases {
            assert_eq!(beginning(text, bytes), expected);
        }
    }

    #[test]
    fn wrapped_between_words_and_never_too_wide() {
        assert_eq!(wrap("one two three", 8), ["one two ", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("漢字漢字", 5), ["漢字", "漢字"]);
        assert_eq!(wrap("", 5), [""]);
        for columns in 2..20 {
            for piece in wrap("the 漢字 of a longtextwithoutspaces 👩‍👩‍👧, and  more", columns)
            {
                assert!(piece.width() <= columns, "{columns}: {piece}");
            }
        }
    }
}
