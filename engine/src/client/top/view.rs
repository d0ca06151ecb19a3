//! What `top` shows: the activity, or the one at which it was paused, and where the user is in it.

use std::cmp::Ordering;
use std::time::Instant;

use ratatui::crossterm::event::{Event as TerminalEvent, KeyCode, KeyEventKind, KeyModifiers};

use super::activity::{Activity, BusyRoom, Shard, SlowConsumer, last};
use crate::client::api::ApiError;
use crate::client::text::harmless;

/// A list on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// The shards.
    Shards,
    /// The busiest rooms.
    Rooms,
    /// The slow consumers.
    Consumers,
}

impl Pane {
    /// All of them, in their order on the screen.
    pub const ALL: [Self; 3] = [Self::Shards, Self::Rooms, Self::Consumers];

    /// By what it can be sorted; first by what it is.
    #[must_use]
    pub const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Shards => &["shard", "busy", "connections", "outbox", "mailbox"],
            Self::Rooms => &["deliveries/s", "messages/s", "connections", "room"],
            Self::Consumers => &["outbox", "user", "shard"],
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Shards => 0,
            Self::Rooms => 1,
            Self::Consumers => 2,
        }
    }
}

/// What a key asks for beyond the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Nothing.
    Nothing,
    /// To end.
    Quit,
}

/// What is looked at.
#[derive(Debug)]
pub struct View {
    activity: Activity,
    /// What is shown while it is paused.
    paused: Option<Activity>,
    api: String,
    /// Since when the server does not answer, and why.
    failed: Option<(Instant, String)>,
    pane: Pane,
    sorted_by: [usize; 3],
    scrolled: [usize; 3],
    /// Whether the keys are explained.
    pub help: bool,
}

impl View {
    /// Begins with an answer of this admin API.
    #[must_use]
    pub fn new(activity: Activity, api: String) -> Self {
        Self {
            activity,
            paused: None,
            api,
            failed: None,
            pane: Pane::Shards,
            sorted_by: [0; 3],
            scrolled: [0; 3],
            help: false,
        }
    }

    /// A further answer has come.
    pub fn update(&mut self, activity: Activity) {
        self.failed = None;
        self.activity.update(activity);
    }

    /// None has come.
    pub fn fail(&mut self, error: &ApiError) {
        let since = self
            .failed
            .as_ref()
            .map_or_else(Instant::now, |(since, _)| *since);
        let why = match error {
            ApiError::Unreachable { url, why } => format!("cannot reach {url}: {why}"),
            error => error.to_string(),
        };
        self.failed = Some((since, harmless(&why)));
    }

    /// What is shown.
    #[must_use]
    pub fn activity(&self) -> &Activity {
        self.paused.as_ref().unwrap_or(&self.activity)
    }

    /// Where the answers come from.
    #[must_use]
    pub fn api(&self) -> &str {
        &self.api
    }

    /// Whether it stands still.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// For how many seconds the server has not answered, and why.
    #[must_use]
    pub fn failure(&self) -> Option<(u64, &str)> {
        let (since, why) = self.failed.as_ref()?;
        Some((since.elapsed().as_secs(), why))
    }

    /// The list that keys go to.
    #[must_use]
    pub const fn pane(&self) -> Pane {
        self.pane
    }

    /// By what a list is sorted.
    #[must_use]
    pub fn sorted_by(&self, pane: Pane) -> &'static str {
        let columns = pane.columns();
        columns
            .get(self.sorted_by[pane.place()])
            .unwrap_or(&columns[0])
    }

    /// The first row of a list that is shown, where so many of its rows are.
    pub fn scroll(&mut self, pane: Pane, rows: usize, visible: usize) -> usize {
        let scrolled = &mut self.scrolled[pane.place()];
        *scrolled = (*scrolled).min(rows.saturating_sub(visible));
        *scrolled
    }

    /// A key.
    pub fn handle(&mut self, event: &TerminalEvent) -> Doing {
        let TerminalEvent::Key(key) = event else {
            return Doing::Nothing;
        };
        if key.kind == KeyEventKind::Release {
            return Doing::Nothing;
        }
        if std::mem::take(&mut self.help) && key.code != KeyCode::Char('q') {
            return Doing::Nothing;
        }
        let place = self.pane.place();
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Doing::Quit,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Doing::Quit;
            }
            KeyCode::Tab | KeyCode::Right => self.pane = Pane::ALL[(place + 1) % 3],
            KeyCode::BackTab | KeyCode::Left => self.pane = Pane::ALL[(place + 2) % 3],
            KeyCode::Down => self.scrolled[place] += 1,
            KeyCode::PageDown => self.scrolled[place] += 10,
            KeyCode::Up => self.scrolled[place] = self.scrolled[place].saturating_sub(1),
            KeyCode::PageUp => self.scrolled[place] = self.scrolled[place].saturating_sub(10),
            KeyCode::Char('s') => {
                self.sorted_by[place] = (self.sorted_by[place] + 1) % self.pane.columns().len();
                self.scrolled[place] = 0;
            }
            KeyCode::Char('p' | ' ') => {
                self.paused = match self.paused {
                    Some(_) => None,
                    None => Some(self.activity.clone()),
                };
            }
            KeyCode::Char('?' | 'h') => self.help = true,
            _ => {}
        }
        Doing::Nothing
    }

    /// The shards in order, each with how busy it is.
    #[must_use]
    pub fn shards(&self) -> Vec<(Shard, f64)> {
        let activity = self.activity();
        let mut shards: Vec<_> = activity
            .shards
            .iter()
            .enumerate()
            .map(|(place, shard)| {
                let series = activity.samples.shards.get(place);
                (
                    shard.clone(),
                    series.map_or(0.0, |series| last(&series.busy)),
                )
            })
            .collect();
        let sorted_by = self.sorted_by(Pane::Shards);
        shards.sort_by(|(one, busy), (other, other_busy)| match sorted_by {
            "busy" => other_busy.total_cmp(busy),
            "connections" => other.connections.cmp(&one.connections),
            "outbox" => other.outbox_bytes.cmp(&one.outbox_bytes),
            "mailbox" => other.mailbox_depth.cmp(&one.mailbox_depth),
            _ => one.shard.cmp(&other.shard),
        });
        shards
    }

    /// The busiest rooms in order.
    #[must_use]
    pub fn rooms(&self) -> Vec<BusyRoom> {
        let mut rooms = self.activity().busiest_rooms.clone();
        let sorted_by = self.sorted_by(Pane::Rooms);
        rooms.sort_by(|one, other| {
            let order = match sorted_by {
                "messages/s" => other.messages_per_s.total_cmp(&one.messages_per_s),
                "connections" => other.connections.cmp(&one.connections),
                "room" => Ordering::Equal,
                _ => other.deliveries_per_s.total_cmp(&one.deliveries_per_s),
            };
            order.then_with(|| one.room.cmp(&other.room))
        });
        rooms
    }

    /// The slow consumers in order.
    #[must_use]
    pub fn consumers(&self) -> Vec<SlowConsumer> {
        let mut consumers = self.activity().slow_consumers.clone();
        let sorted_by = self.sorted_by(Pane::Consumers);
        consumers.sort_by(|one, other| {
            let order = match sorted_by {
                "user" => one.user.cmp(&other.user),
                "shard" => one.shard.cmp(&other.shard),
                _ => other.outbox_bytes.cmp(&one.outbox_bytes),
            };
            order.then_with(|| one.id.cmp(&other.id))
        });
        consumers
    }
}
