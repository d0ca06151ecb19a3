//! One room, or what was said between two users: its messages in their order, where some are missing, and who is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use super::wire::{Past, Position};
use crate::client::text::{beginning, shown_content};

/// Entries that are kept of one conversation; the oldest go first.
pub const ENTRIES_MAX: usize = 2000;

/// Messages in one answer about the past.
pub const PAGE: u64 = 50;

/// Bytes of a message that are kept; what is longer is cut.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// Names of members that are kept. A server tells of no more than a thousand, unless it was told otherwise.
const NAMES_MAX: usize = 10_000;

/// With whom one talks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// All in a room.
    Room(String),
    /// One user.
    User(String),
}

impl Target {
    /// How it is called: users with an `@` before their names.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Room(room) => room.clone(),
            Self::User(user) => format!("@{user}"),
        }
    }
}

/// Something in the course of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A message.
    Message(Message),
    /// What happened here beside messages.
    Notice(String),
    /// So many messages are missing here.
    Gap(u64),
    /// The server has begun anew to count, and what came before may not be all that was said.
    Anew,
}

/// A message, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who wrote it.
    pub user: String,
    /// Its text, not harmless yet.
    pub text: String,
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
}

impl Message {
    /// A message of someone, cut to what is kept.
    #[must_use]
    pub fn new(user: String, mut text: String, unix_ms: u64) -> Self {
        if text.len() > TEXT_BYTES_MAX {
            let bytes = text.len();
            text.truncate(beginning(&text, TEXT_BYTES_MAX).len());
            text.push_str(&format!("… ({bytes} bytes)"));
        }
        Self {
            user,
            text,
            unix_ms,
        }
    }
}

impl From<Past> for Message {
    fn from(past: Past) -> Self {
        Self::new(past.user, shown_content(&past.content), past.timestamp)
    }
}

/// Where an entry stands: the run of numbers, the number, and for what is no message its place behind that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    run: u32,
    seq: u64,
    behind: u32,
}

/// How this client stands to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It will be asked for as soon as there is a connection.
    Wanted,
    /// It was asked for.
    Asked,
    /// It is a member.
    Joined,
    /// It may not be one, or has been put out.
    Refused,
}

/// For what the past was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// For the newest messages, as none is known yet.
    Newest,
    /// For those that were missed.
    Missed,
    /// For older ones than there are here.
    Older,
}

/// A conversation.
#[derive(Debug)]
pub struct Conversation {
    /// With whom.
    pub target: Target,
    /// Of a room: whether it is joined.
    pub membership: Membership,
    /// Messages that came since it was last looked at.
    pub unread: usize,
    /// Whether the user has asked who is there and waits for the answer.
    pub who_asked: bool,
    entries: BTreeMap<Place, Entry>,
    /// Messages that have come and were told by [`Conversation::next_entry`].
    told: Option<Place>,
    /// The last place up to which nothing can be missed any more.
    position: Option<Position>,
    /// The number that the room had reached when it was joined.
    reached: u64,
    run: u32,
    asked: VecDeque<Asked>,
    past_exhausted: bool,
    members: BTreeSet<String>,
    count: Option<u64>,
}

impl Conversation {
    /// One that has just been opened.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target,
            membership: Membership::Wanted,
            unread: 0,
            who_asked: false,
            entries: BTreeMap::new(),
            told: None,
            position: None,
            reached: 0,
            run: 0,
            asked: VecDeque::new(),
            past_exhausted: false,
            members: BTreeSet::new(),
            count: None,
        }
    }

    /// The place to recover from.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// Users that are there, as far as they are known.
    #[must_use]
    pub const fn members(&self) -> &BTreeSet<String> {
        &self.members
    }

    /// How many users there are, where that is known.
    #[must_use]
    pub const fn count(&self) -> Option<u64> {
        self.count
    }

    /// Whether messages that belong before others may still come.
    #[must_use]
    pub fn is_catching_up(&self) -> bool {
        let asked = self.asked.iter();
        asked.copied().any(|asked| asked != Asked::Older)
    }

    /// Whether older messages were asked for.
    #[must_use]
    pub fn is_loading_older(&self) -> bool {
        self.asked.contains(&Asked::Older)
    }

    /// Whether there is nothing older to be had.
    #[must_use]
    pub fn is_past_exhausted(&self) -> bool {
        let is_first = self.entries.keys().any(|place| place.run < self.run);
        self.past_exhausted || is_first || self.oldest_seq().is_some_and(|oldest| oldest <= 1)
    }

    /// The server counts in this epoch.
    fn count_in(&mut self, epoch: u64) {
        let known = self.position.map(|position| position.epoch);
        if known.is_some_and(|known| known != epoch) {
            self.run += 1;
            self.past_exhausted = false;
            self.position = Some(Position { epoch, seq: 0 });
        } else if known.is_none() {
            self.position = Some(Position { epoch, seq: 0 });
        }
    }

    /// The answer to a join. Tells whether what was missed has to be asked for, and after which place.
    pub fn joined(&mut self, position: Position, recovered: bool) -> Option<Option<Position>> {
        let before = self.position;
        self.membership = Membership::Joined;
        self.count_in(position.epoch);
        self.reached = position.seq;
        if recovered {
            return None;
        }
        let is_missing = position.seq > 0 || before.is_some();
        if !is_missing {
            self.position = Some(position);
            return None;
        }
        // Of a new epoch nothing is known here, so its newest are wanted.
        let since = before.filter(|before| before.epoch == position.epoch);
        self.asked.push_back(match since {
            Some(_) => Asked::Missed,
            None => Asked::Newest,
        });
        Some(since)
    }

    /// The shard that ordered the room died, and a new epoch begins.
    pub fn reset(&mut self, position: Position) {
        self.count_in(position.epoch);
        self.position = Some(position);
        self.reached = position.seq;
        self.asked.clear();
    }

    /// The connection is gone: what was asked on it is not answered.
    pub fn disconnected(&mut self) {
        if self.membership != Membership::Refused {
            self.membership = Membership::Wanted;
        }
        self.asked.clear();
        self.members.clear();
        self.count = None;
        self.who_asked = false;
    }

    /// A message of the run of numbers that is current.
    pub fn message(&mut self, past: Past) {
        let seq = past.seq;
        self.put(past);
        if !self.is_catching_up() {
            self.advance(seq);
        }
    }

    /// What was said, in answer to the oldest request for it. Tells whether more of what was missed has to be asked for.
    pub fn past(&mut self, epoch: u64, complete: bool, messages: Vec<Past>) -> bool {
        let asked = self.asked.pop_front();
        self.count_in(epoch);
        let oldest = self.oldest_seq();
        let first = messages.first().map(|past| past.seq);
        let last = messages.last().map(|past| past.seq);
        let is_full = messages.len() as u64 >= PAGE;
        for past in messages {
            self.put(past);
        }
        match asked {
            Some(Asked::Older) => {
                let is_older =
                    first.is_some_and(|first| oldest.is_none_or(|oldest| first < oldest));
                self.past_exhausted = !complete || !is_older;
            }
            Some(Asked::Newest | Asked::Missed) | None => {
                // A page that is full and ends before what has come since is not the last.
                let is_followed = last.is_some_and(|last| self.is_known(last + 1));
                if asked == Some(Asked::Missed) && is_full && !is_followed {
                    self.advance(last.unwrap_or_default());
                    self.asked.push_back(Asked::Missed);
                    return true;
                }
                self.caught_up();
            }
        }
        self.trim();
        false
    }

    /// A request about this room failed, which may have been one for the past.
    pub fn failed(&mut self) {
        if self.asked.pop_front() == Some(Asked::Older) {
            self.past_exhausted = true;
        }
        if !self.is_catching_up() {
            self.caught_up();
        }
    }

    /// Where to ask for what was said before all that is here; nothing where there is no more, or no room for it.
    pub fn ask_older(&mut self) -> Option<Position> {
        let position = self.position?;
        let oldest = self.oldest_seq()?;
        let has_room = self.entries.len() + PAGE as usize <= ENTRIES_MAX;
        if self.is_past_exhausted() || !self.asked.is_empty() || !has_room {
            return None;
        }
        self.asked.push_back(Asked::Older);
        Some(Position {
            epoch: position.epoch,
            seq: oldest.saturating_sub(PAGE + 1),
        })
    }

    /// A message that has no number here: one between two users.
    pub fn direct(&mut self, message: Message) {
        let seq = self.newest_seq().unwrap_or_default() + 1;
        let place = Place {
            run: self.run,
            seq,
            behind: 0,
        };
        self.entries.insert(place, Entry::Message(message));
        self.trim();
    }

    /// Says something behind all that is here.
    pub fn notice(&mut self, text: String) {
        let last = self.entries.last_key_value().map(|(place, _)| *place);
        let mut place = last.unwrap_or_default();
        place.behind += 1;
        self.entries.insert(place, Entry::Notice(text));
        self.trim();
    }

    /// Who is there.
    pub fn present(&mut self, count: u64, users: Option<Vec<String>>) {
        self.count = Some(count);
        match users {
            Some(users) => self.members = users.into_iter().take(NAMES_MAX).collect(),
            // Who comes and goes is not told any more.
            None if self.members.len() as u64 != count => self.members.clear(),
            None => {}
        }
    }

    /// A user came.
    pub fn came(&mut self, user: String) {
        let has_room = self.members.len() < NAMES_MAX;
        if has_room && self.members.insert(user) {
            self.count = self.count.map(|count| count + 1);
        }
    }

    /// A user went.
    pub fn went(&mut self, user: &str) {
        if self.members.remove(user) {
            self.count = self.count.map(|count| count.saturating_sub(1));
        }
    }

    /// The next entry that has not been told yet, gaps among them. None while something before it may come.
    pub fn next_entry(&mut self) -> Option<Vec<Entry>> {
        if self.is_catching_up() {
            return None;
        }
        let from = self.told.map_or(Bound::Unbounded, Bound::Excluded);
        let (place, entry) = self.entries.range((from, Bound::Unbounded)).next()?;
        let mut told: Vec<_> = self.gap_before(*place).into_iter().collect();
        told.push(entry.clone());
        self.told = Some(*place);
        Some(told)
    }

    /// All entries, with what is missing between them.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = Entry> + '_ {
        self.entries.iter().flat_map(|(place, entry)| {
            let gap = (!self.is_catching_up())
                .then(|| self.gap_before(*place))
                .flatten();
            gap.into_iter().chain(std::iter::once(entry.clone()))
        })
    }

    /// What is missing right before a place that is taken. Between two users nothing has numbers.
    fn gap_before(&self, place: Place) -> Option<Entry> {
        if place.behind > 0 || matches!(self.target, Target::User(_)) {
            return None;
        }
        let mut before = self.entries.range(..place).rev();
        let before = before.next().map(|(before, _)| *before)?;
        if before.run < place.run {
            return Some(Entry::Anew);
        }
        match place.seq - before.seq - 1 {
            0 => None,
            // Notices at the very beginning stand behind no message.
            _ if before.seq == 0 => None,
            missing => Some(Entry::Gap(missing)),
        }
    }

    fn put(&mut self, past: Past) {
        let place = Place {
            run: self.run,
            seq: past.seq,
            behind: 0,
        };
        self.entries
            .entry(place)
            .or_insert_with(|| Entry::Message(past.into()));
        self.trim();
    }

    fn advance(&mut self, seq: u64) {
        if let Some(position) = &mut self.position {
            position.seq = position.seq.max(seq);
        }
    }

    /// Nothing before what has come is awaited any more.
    fn caught_up(&mut self) {
        let newest = self.newest_seq().unwrap_or_default();
        self.advance(newest.max(self.reached));
    }

    fn is_known(&self, seq: u64) -> bool {
        let place = Place {
            run: self.run,
            seq,
            behind: 0,
        };
        self.entries.contains_key(&place)
    }

    fn of_run(&self) -> impl DoubleEndedIterator<Item = u64> + '_ {
        let first = Place {
            run: self.run,
            seq: 1,
            behind: 0,
        };
        self.entries.range(first..).map(|(place, _)| place.seq)
    }

    fn oldest_seq(&self) -> Option<u64> {
        self.of_run().next()
    }

    fn newest_seq(&self) -> Option<u64> {
        self.of_run().next_back()
    }

    fn trim(&mut self) {
        while self.entries.len() > ENTRIES_MAX {
            self.entries.pop_first();
        }
    }
}
