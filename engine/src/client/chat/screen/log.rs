//! The messages of a conversation as lines of a screen.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr as _;

use super::MEMBERS_COLUMNS;
use crate::client::chat::conversation::{Conversation, Entry, Membership, Message, Target};
use crate::client::text::{fit, harmless, hour, lines, wrap};

/// Columns of a user's name before a message.
const NAME_COLUMNS: usize = 12;

/// A screen of fewer columns has no times, and names stand in a line of their own width.
const TIMES_SCREEN_COLUMNS: u16 = 50;

/// Colours of users. None that is hard to read on black or on white.
const COLOURS: [Color; 6] = [
    Color::Cyan,
    Color::Green,
    Color::Magenta,
    Color::Yellow,
    Color::Blue,
    Color::LightRed,
];

/// What stands above the first message that is here.
pub(super) fn beginning(shown: &Conversation, width: u16) -> Line<'static> {
    let text = match shown.target {
        Target::User(_) => "what is said here is not kept by the server",
        Target::Room(_) if shown.membership == Membership::Refused => "not joined",
        Target::Room(_) if shown.membership != Membership::Joined => "joining …",
        Target::Room(_) if shown.is_loading_older() || shown.is_catching_up() => "loading …",
        Target::Room(_) if shown.is_past_exhausted() || shown.entries().next().is_none() => {
            "the server keeps nothing older"
        }
        Target::Room(_) => "PageUp: older messages",
    };
    rule(text, width)
}

/// A text in the middle of a line.
pub(super) fn rule(text: &str, width: u16) -> Line<'static> {
    let columns = usize::from(width);
    let text = fit(&format!(" {} ", harmless(text)), columns);
    let rest = columns.saturating_sub(text.width());
    let (left, right) = (rest / 2, rest - rest / 2);
    let line = format!("{}{text}{}", "─".repeat(left), "─".repeat(right));
    Line::styled(line, Style::new().dim())
}

/// An entry as the lines that it takes.
pub(super) fn entry_lines(entry: &Entry, width: u16, me: Option<&str>) -> Vec<Line<'static>> {
    match entry {
        Entry::Message(message) => message_lines(message, width, me),
        Entry::Notice(text) => {
            let pieces = wrap(&harmless(text), usize::from(width).saturating_sub(2));
            let style = Style::new().fg(Color::Yellow);
            let lines = pieces.into_iter();
            lines
                .map(|piece| Line::styled(format!("* {piece}"), style))
                .collect()
        }
        Entry::Gap(1) => vec![rule("one message is missing here", width).fg(Color::Yellow)],
        Entry::Gap(count) => {
            let text = format!("{count} messages are missing here");
            vec![rule(&text, width).fg(Color::Yellow)]
        }
        Entry::Anew => {
            let text = "the server has begun anew; messages may be missing here";
            vec![rule(text, width).fg(Color::Yellow)]
        }
    }
}

fn message_lines(message: &Message, width: u16, me: Option<&str>) -> Vec<Line<'static>> {
    let has_time = width >= TIMES_SCREEN_COLUMNS - MEMBERS_COLUMNS;
    let time = match (has_time, message.unix_ms) {
        (false, _) => String::new(),
        // It has no time yet.
        (true, 0) => "  …   ".to_owned(),
        (true, unix_ms) => format!("{} ", hour(unix_ms)),
    };
    let name = fit(
        &harmless(&message.user),
        NAME_COLUMNS.min(usize::from(width / 3)),
    );
    let head = time.width() + name.width() + 2;
    let columns = usize::from(width).saturating_sub(head).max(1);
    let is_me = me == Some(message.user.as_str());
    let pieces = lines(&message.text).flat_map(|line| wrap(&line, columns));
    pieces
        .enumerate()
        .map(|(place, piece)| match place {
            0 => Line::from(vec![
                Span::styled(time.clone(), Style::new().dim()),
                Span::styled(name.clone(), name_style(&message.user, is_me)),
                Span::raw("  "),
                Span::raw(piece),
            ]),
            _ => Line::raw(format!("{}{piece}", " ".repeat(head))),
        })
        .collect()
}

/// A user has the same colour everywhere.
pub(super) fn name_style(user: &str, is_me: bool) -> Style {
    let mut hasher = DefaultHasher::new();
    user.hash(&mut hasher);
    let colour = COLOURS[(hasher.finish() % COLOURS.len() as u64) as usize];
    let style = Style::new().fg(colour);
    if is_me { style.bold() } else { style }
}
