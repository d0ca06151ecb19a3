//! The chat on a screen: tabs, messages, who is there, the line that is typed.

mod log;

use std::collections::{BTreeSet, VecDeque};

use ratatui::Frame;
use ratatui::crossterm::event::{
    Event as TerminalEvent, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};
use tui_input::Input;
use tui_input::backend::crossterm::EventHandler as _;
use unicode_width::UnicodeWidthStr as _;

use super::conversation::{Conversation, Entry, Membership, Message, Target};
use super::link::ServerUrl;
use super::live::Standing;
use super::session::{Command, Event, Session};
use super::typed::{HELP, Typed};
use crate::client::help;
use crate::client::text::{day, fit, harmless, lines, wrap};
use log::{beginning, entry_lines, name_style, rule};

/// Lines that were typed and can be had again.
const TYPED_MAX: usize = 100;

/// Columns of the list of members.
const MEMBERS_COLUMNS: u16 = 20;

/// A screen of fewer columns has no list of members.
const MEMBERS_SCREEN_COLUMNS: u16 = 60;

/// The latest entries that are searched for users who have gone.
const ENTRIES_SEARCHED_MAX: usize = 200;

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Nothing beyond the view.
    Nothing,
    /// To end.
    Quit,
    /// To connect at once.
    Reconnect,
    /// Something of the session.
    Command(Command),
}

/// What is looked at, and what is being typed.
#[derive(Debug, Default)]
pub struct View {
    input: Input,
    typed: VecDeque<String>,
    /// How far back in what was typed.
    recalled: Option<usize>,
    /// Lines between the end of the conversation and the lowest that is shown.
    scroll: usize,
    /// The size of the messages when they were last drawn.
    messages: Rect,
    is_top: bool,
    help: bool,
    /// Said once to whoever types.
    said: Option<String>,
}

impl View {
    /// Says something until the next key.
    pub fn say(&mut self, text: String) {
        self.said = Some(text);
    }

    /// What has happened in the conversations. Whoever reads further back goes on reading there.
    pub fn handle_event(&mut self, event: &Event, session: &Session) {
        match event {
            Event::Failed(why) => self.say(why.clone()),
            Event::Entry(target, entry) => {
                let is_shown = session.shown().map(|one| &one.target) == Some(target);
                if is_shown && self.scroll > 0 {
                    let width = self.messages.width;
                    self.scroll += entry_lines(entry, width, None).len();
                }
            }
        }
    }

    /// A key, a paste, a change of size.
    pub fn handle(&mut self, event: &TerminalEvent, session: &mut Session) -> Doing {
        match event {
            TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => {
                self.said = None;
                self.key(*key, event, session)
            }
            TerminalEvent::Paste(text) => {
                // Lines that are pasted are one message, which is looked at before it is sent.
                let pasted = lines(text).collect::<Vec<_>>().join(" ");
                for character in pasted.chars() {
                    self.input
                        .handle(tui_input::InputRequest::InsertChar(character));
                }
                Doing::Nothing
            }
            _ => Doing::Nothing,
        }
    }

    fn key(&mut self, key: KeyEvent, event: &TerminalEvent, session: &mut Session) -> Doing {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let page = usize::from(self.messages.height.saturating_sub(2)).max(1);
        if self.help && key.code != KeyCode::Enter {
            self.help = false;
            if key.code == KeyCode::Esc {
                return Doing::Nothing;
            }
        }
        match key.code {
            KeyCode::Char('c') if control => return Doing::Quit,
            KeyCode::Char('d') if control && self.input.value().is_empty() => return Doing::Quit,
            KeyCode::Char('n') if control => self.turn(session, 1),
            KeyCode::Char('p') if control => self.turn(session, -1),
            KeyCode::Tab => self.turn(session, 1),
            KeyCode::BackTab => self.turn(session, -1),
            KeyCode::PageUp => {
                let was_top = self.is_top;
                if !was_top {
                    self.scroll += page;
                }
                return Self::older(session, was_top);
            }
            KeyCode::PageDown => self.scroll = self.scroll.saturating_sub(page),
            KeyCode::Esc => self.scroll = 0,
            KeyCode::Up => self.recall(1),
            KeyCode::Down => self.recall(-1),
            KeyCode::Enter => return self.enter(session),
            _ => {
                self.input.handle_event(event);
            }
        }
        Doing::Nothing
    }

    /// Whoever is at the top of what is here wants what was before.
    fn older(session: &Session, is_top: bool) -> Doing {
        match session.shown() {
            Some(shown) if is_top => Doing::Command(Command::Older(shown.target.clone())),
            _ => Doing::Nothing,
        }
    }

    fn turn(&mut self, session: &mut Session, step: isize) {
        session.show_next(step);
        self.scroll = 0;
    }

    /// Goes back in what was typed, or forth.
    fn recall(&mut self, step: isize) {
        let place = self.recalled.map_or(0, |place| place + 1);
        let place = place.saturating_add_signed(step).min(self.typed.len());
        self.recalled = place.checked_sub(1);
        let text = self.recalled.and_then(|place| self.typed.get(place));
        self.input = Input::new(text.cloned().unwrap_or_default());
    }

    fn enter(&mut self, session: &Session) -> Doing {
        let line = self.input.value_and_reset();
        self.recalled = None;
        if !line.trim().is_empty() && self.typed.front() != Some(&line) {
            self.typed.push_front(line.clone());
            self.typed.truncate(TYPED_MAX);
        }
        self.help = false;
        let shown = session.shown().map(|shown| &shown.target);
        match Typed::parse(&line, shown) {
            Typed::Nothing => Doing::Nothing,
            Typed::Quit => Doing::Quit,
            Typed::Reconnect => Doing::Reconnect,
            Typed::Help => {
                self.help = true;
                Doing::Nothing
            }
            Typed::Wrong(why) => {
                self.say(why);
                Doing::Nothing
            }
            Typed::Command(command) => {
                self.scroll = 0;
                Doing::Command(command)
            }
        }
    }

    /// Draws all of it.
    pub fn draw(
        &mut self,
        frame: &mut Frame<'_>,
        session: &Session,
        standing: &Standing,
        url: &ServerUrl,
    ) {
        let [tabs, middle, input, status] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(1),
            Constraint::Length(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        draw_tabs(frame, tabs, session);
        let shown = session.shown();
        let is_room = shown.is_some_and(|shown| matches!(shown.target, Target::Room(_)));
        let has_members = is_room && frame.area().width >= MEMBERS_SCREEN_COLUMNS;
        let [messages, members] = Layout::horizontal([
            Constraint::Min(1),
            Constraint::Length(if has_members { MEMBERS_COLUMNS } else { 0 }),
        ])
        .areas(middle);
        self.messages = messages;
        match shown {
            Some(shown) => {
                self.draw_messages(frame, messages, shown, session);
                if has_members {
                    draw_members(frame, members, shown, session);
                }
            }
            None => {
                let welcome = "You are in no room. /join ROOM joins one, /help tells more.";
                let pieces = wrap(welcome, usize::from(messages.width));
                let pieces: Vec<_> = pieces.into_iter().map(Line::from).collect();
                frame.render_widget(Paragraph::new(pieces), messages);
            }
        }
        self.draw_input(frame, input, shown);
        self.draw_status(frame, status, session, standing, url);
        if self.help {
            help::draw(frame, middle, "help, Esc closes it", HELP, 70);
        }
    }

    fn draw_messages(
        &mut self,
        frame: &mut Frame<'_>,
        area: Rect,
        shown: &Conversation,
        session: &Session,
    ) {
        let wanted = self.scroll + usize::from(area.height);
        let user = session.user();
        // From the last line up, no further than what is seen.
        let mut below_first: VecDeque<Line<'static>> = VecDeque::new();
        let sends = session.sends().iter().rev();
        for sending in sends.filter(|sending| sending.target == shown.target) {
            let me = user.unwrap_or_default().to_owned();
            let message = Message::new(me, sending.text.clone(), 0);
            let entry = Entry::Message(message);
            for line in entry_lines(&entry, area.width, user).into_iter().rev() {
                below_first.push_front(line.patch_style(Style::new().dim().italic()));
            }
        }
        let mut later_day: Option<String> = None;
        let mut is_top = true;
        for entry in shown.entries().rev() {
            if below_first.len() >= wanted {
                is_top = false;
                break;
            }
            if let Entry::Message(message) = &entry {
                let today = day(message.unix_ms);
                if later_day.as_ref().is_some_and(|later| *later != today) {
                    let later = later_day.take().unwrap_or_default();
                    below_first.push_front(rule(&later, area.width));
                }
                later_day = Some(today);
            }
            for line in entry_lines(&entry, area.width, user).into_iter().rev() {
                below_first.push_front(line);
            }
        }
        if is_top {
            below_first.push_front(beginning(shown, area.width));
        }
        let total = below_first.len();
        self.is_top = is_top && total <= wanted;
        let height = usize::from(area.height);
        self.scroll = self.scroll.min(total.saturating_sub(height));
        let end = total - self.scroll;
        let start = end.saturating_sub(height);
        let lines: Vec<_> = below_first.into_iter().take(end).skip(start).collect();
        // A conversation begins right above the line that is typed.
        let top = height.saturating_sub(lines.len());
        let area = Rect {
            y: area.y + top as u16,
            height: area.height - top as u16,
            ..area
        };
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn draw_input(&self, frame: &mut Frame<'_>, area: Rect, shown: Option<&Conversation>) {
        let label = shown.map(|shown| harmless(&shown.target.label()));
        let label = fit(
            &label.unwrap_or_default(),
            usize::from(area.width / 4).max(1),
        );
        let prompt = format!("{label}> ");
        let columns = usize::from(area.width).saturating_sub(prompt.width() + 1);
        let scroll = self.input.visual_scroll(columns.max(1));
        let text = skipped(self.input.value(), scroll);
        let line = Line::from(vec![
            Span::styled(prompt.clone(), Style::new().bold()),
            Span::raw(fit_exactly(&text, columns + 1)),
        ]);
        frame.render_widget(Paragraph::new(line), area);
        let column = prompt.width() + self.input.visual_cursor().saturating_sub(scroll);
        let column = (column as u16).min(area.width.saturating_sub(1));
        frame.set_cursor_position(Position::new(area.x + column, area.y));
    }

    fn draw_status(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        session: &Session,
        standing: &Standing,
        url: &ServerUrl,
    ) {
        let user = harmless(session.user().unwrap_or_default());
        let (mut text, style) = match standing {
            Standing::Connected => (
                format!("connected as {user} to {}", url.text()),
                Style::new().fg(Color::Green),
            ),
            Standing::Connecting => ("connecting …".to_owned(), Style::new().fg(Color::Yellow)),
            Standing::Waiting { why, seconds } => (
                format!("reconnecting in {seconds} s ({why})"),
                Style::new().fg(Color::Yellow),
            ),
            Standing::Stopped(why) => (
                format!("{why}; /reconnect tries again"),
                Style::new().fg(Color::Red),
            ),
        };
        let waiting = session.sends().len();
        if waiting > 0 && *standing != Standing::Connected {
            text = format!("{text}, {waiting} to send");
        }
        if self.scroll > 0 {
            text = format!("[{} lines below, Esc] {text}", self.scroll);
        }
        let (text, style) = match &self.said {
            Some(said) => (harmless(said), Style::new().fg(Color::Red)),
            None => (text, style),
        };
        let columns = usize::from(area.width);
        let line = Line::styled(fit(&text, columns), style.add_modifier(Modifier::REVERSED));
        frame.render_widget(
            Paragraph::new(line).style(style.add_modifier(Modifier::REVERSED)),
            area,
        );
    }
}

fn draw_tabs(frame: &mut Frame<'_>, area: Rect, session: &Session) {
    let shown = session.shown().map(|shown| &shown.target);
    let columns = usize::from(area.width);
    let tabs: Vec<_> = session
        .conversations()
        .iter()
        .map(|one| {
            let label = fit(&harmless(&one.target.label()), 20);
            let text = match one.unread {
                0 => format!(" {label} "),
                unread => format!(" {label} ({unread}) "),
            };
            let style = match (Some(&one.target) == shown, one.membership) {
                (true, _) => Style::new().bold().reversed(),
                (false, Membership::Refused) => Style::new().crossed_out(),
                (false, _) if one.unread > 0 => Style::new().bold().fg(Color::Yellow),
                (false, _) => Style::new(),
            };
            Span::styled(text, style)
        })
        .collect();
    // The tab that is shown is always seen.
    let place = session
        .conversations()
        .iter()
        .position(|one| Some(&one.target) == shown)
        .unwrap_or_default();
    let mut first = 0;
    let width = |from: usize| -> usize {
        let upto = tabs.get(from..=place).unwrap_or_default();
        upto.iter().map(Span::width).sum()
    };
    while first < place && width(first) > columns {
        first += 1;
    }
    let line: Line<'_> = tabs.into_iter().skip(first).collect();
    frame.render_widget(
        Paragraph::new(line).style(Style::new().add_modifier(Modifier::UNDERLINED)),
        area,
    );
}

fn draw_members(frame: &mut Frame<'_>, area: Rect, shown: &Conversation, session: &Session) {
    let block = Block::new().borders(Borders::LEFT);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let columns = usize::from(inner.width);
    let title = match shown.count() {
        Some(count) => format!(" {count} here"),
        None => " who is here?".to_owned(),
    };
    let mut list = vec![Line::styled(title, Style::new().bold())];
    let room = usize::from(inner.height).saturating_sub(1);
    let present = shown.members();
    let gone = gone(shown);
    let entries = present
        .iter()
        .map(|user| (user, true))
        .chain(gone.iter().map(|user| (user, false)));
    let total = present.len() + gone.len();
    let visible = if total > room {
        room.saturating_sub(1)
    } else {
        room
    };
    for (user, is_here) in entries.take(visible) {
        let name = fit(&harmless(user), columns.saturating_sub(3));
        let is_me = session.user() == Some(user);
        list.push(match is_here {
            true => Line::from(vec![
                Span::styled(" ● ", Style::new().fg(Color::Green)),
                Span::styled(name, name_style(user, is_me)),
            ]),
            false => Line::styled(format!(" ○ {name}"), Style::new().dim()),
        });
    }
    if total > visible {
        list.push(Line::styled(
            format!(" … {} more", total - visible),
            Style::new().dim(),
        ));
    }
    frame.render_widget(Paragraph::new(list), inner);
}

/// Users who have spoken lately and are not here any more, where it is known who is.
fn gone(shown: &Conversation) -> BTreeSet<String> {
    if shown.members().is_empty() {
        return BTreeSet::new();
    }
    let latest = shown.entries().rev().take(ENTRIES_SEARCHED_MAX);
    latest
        .filter_map(|entry| match entry {
            Entry::Message(message) => Some(message.user),
            _ => None,
        })
        .filter(|user| !shown.members().contains(user))
        .collect()
}

/// A text without its first columns.
fn skipped(text: &str, columns: usize) -> String {
    let mut width = 0;
    let shown = unicode_segmentation::UnicodeSegmentation::graphemes(text, true);
    shown
        .skip_while(|grapheme| {
            let is_before = width < columns;
            width += grapheme.width();
            is_before
        })
        .collect()
}

/// A text cut to so many columns, with nothing in place of what was cut.
fn fit_exactly(text: &str, columns: usize) -> String {
    let mut width = 0;
    let shown = unicode_segmentation::UnicodeSegmentation::graphemes(text, true);
    shown
        .take_while(|grapheme| {
            width += grapheme.width();
            width <= columns
        })
        .collect()
}

#[cfg(test)]
mod tests;
