//! A chat over connections that come and go, without a socket or a clock: commands and what the server says go in, what is to be sent comes out, and the conversations
//! are there to be drawn.
//!
//! Getters tell of the state, `handle_*` take input, `poll_*` give output; [`Session::command`] is what the user asks for.

mod hearing;

use std::collections::VecDeque;

use fastrand::Rng;

use super::backoff::{Backoff, End};
use super::conversation::{Conversation, Entry, Membership, Message, PAGE, Target};
use super::wire::{Position, Request};

/// Conversations that may be open.
pub const CONVERSATIONS_MAX: usize = 64;

/// Messages that may wait to be acknowledged.
pub const SENDS_MAX: usize = 256;

/// Attempts at a message while the shard that orders it starts again.
const ATTEMPTS_MAX: u32 = 10;

/// Ticks of a connection after which it counts as a good one.
const GOOD_TICKS: u32 = 10;

/// Bytes around the content of a message: field names, target and id.
const FRAME_BYTES: usize = 1024;

/// What a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Join a room, or open a conversation with a user.
    Open(Target),
    /// Leave it.
    Leave(Target),
    /// Say something there.
    Say(Target, String),
    /// Tell who is there.
    Who(Target),
    /// Get older messages.
    Older(Target),
}

/// A command that cannot be carried out, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// A message that the server has not acknowledged.
#[derive(Clone, Debug)]
pub struct Sending {
    /// Where to.
    pub target: Target,
    /// What.
    pub text: String,
    id: String,
    unix_ms: u64,
    is_sent: bool,
    attempts: u32,
}

/// What has happened, in the order in which it is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// In a conversation.
    Entry(Target, Entry),
    /// A message was given up, or a room not joined: the user has lost something.
    Failed(String),
}

/// What follows the end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Connect again after so many milliseconds.
    Retry(u64),
    /// It would be the same again.
    Stop,
}

/// The chat.
#[derive(Debug)]
pub struct Session {
    user: Option<String>,
    is_open: bool,
    heartbeat_ms: u64,
    message_size_max: Option<usize>,
    conversations: Vec<Conversation>,
    shown: Option<Target>,
    sends: VecDeque<Sending>,
    transmits: VecDeque<String>,
    failures: VecDeque<String>,
    ids: (u64, u64),
    backoff: Backoff,
    ticks: u32,
}

impl Session {
    /// One that wants to be in these rooms. Ids and pauses depend on the seed.
    #[must_use]
    pub fn new(rooms: &[String], seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut session = Self {
            user: None,
            is_open: false,
            heartbeat_ms: 0,
            message_size_max: None,
            conversations: Vec::new(),
            shown: None,
            sends: VecDeque::new(),
            transmits: VecDeque::new(),
            failures: VecDeque::new(),
            ids: (random.u64(..), 0),
            backoff: Backoff::new(random.u64(..)),
            ticks: 0,
        };
        for room in rooms {
            // Further rooms than there may be are said where they are asked for.
            if let Err(refused) = session.open(Target::Room(room.clone())) {
                session.fail(format!("{room}: {refused}"));
            }
        }
        session.shown = session.conversations.first().map(|one| one.target.clone());
        session
    }

    /// Who the server says that this is.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Whether there is a connection on which the server has said so.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// A connection is silent for no longer than a few of these; 0 where that is not known.
    #[must_use]
    pub const fn heartbeat_ms(&self) -> u64 {
        self.heartbeat_ms
    }

    /// All conversations, in the order in which they were opened.
    #[must_use]
    pub fn conversations(&self) -> &[Conversation] {
        &self.conversations
    }

    /// The conversation that is looked at.
    #[must_use]
    pub fn shown(&self) -> Option<&Conversation> {
        self.find(self.shown.as_ref()?)
    }

    /// What waits to be acknowledged.
    #[must_use]
    pub const fn sends(&self) -> &VecDeque<Sending> {
        &self.sends
    }

    /// Whether all that was asked for is done: every room joined or refused, and nothing waits to be acknowledged or caught up with.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_settled = |one: &Conversation| {
            let is_room = matches!(one.target, Target::Room(_));
            let is_answered = matches!(one.membership, Membership::Joined | Membership::Refused);
            (!is_room || is_answered) && !one.is_catching_up()
        };
        self.sends.is_empty() && self.conversations.iter().all(is_settled)
    }

    /// Looks at a conversation.
    pub fn show(&mut self, target: &Target) {
        if let Some(place) = self.place_of(target) {
            self.conversations[place].unread = 0;
            self.shown = Some(target.clone());
        }
    }

    /// Looks at the next conversation, or with -1 at the one before.
    pub fn show_next(&mut self, step: isize) {
        let count = self.conversations.len();
        let place = self.shown.as_ref().and_then(|shown| self.place_of(shown));
        let (Some(place), true) = (place, count > 0) else {
            return;
        };
        let next = (place + count).saturating_add_signed(step) % count;
        let target = self.conversations[next].target.clone();
        self.show(&target);
    }

    /// Carries out what the user asks for.
    ///
    /// # Errors
    /// It cannot be done, and why.
    pub fn command(&mut self, command: Command, now_unix_ms: u64) -> Result<(), Refused> {
        match command {
            Command::Open(target) => {
                self.open(target.clone())?;
                self.show(&target);
            }
            Command::Leave(target) => self.leave(&target),
            Command::Say(target, text) => self.say(target, text, now_unix_ms)?,
            Command::Who(target) => self.who(&target)?,
            Command::Older(target) => self.older(&target)?,
        }
        Ok(())
    }

    /// The text of a message of the server.
    pub fn handle_text(&mut self, text: &str) {
        // What cannot be understood is of a protocol to come.
        if let Ok(told) = serde_json::from_str(text) {
            self.told(told);
        }
    }

    /// The connection is gone, or there was none. Tells whether to try again.
    pub fn handle_end(&mut self, end: &End) -> Next {
        self.is_open = false;
        self.transmits.clear();
        for conversation in &mut self.conversations {
            conversation.disconnected();
        }
        if end.blames_message() {
            self.give_up(|sending| sending.is_sent, &end.text());
        }
        for sending in &mut self.sends {
            sending.is_sent = false;
        }
        match end.is_final() {
            true => Next::Stop,
            false => Next::Retry(self.backoff.pause_ms(end)),
        }
    }

    /// About a second has passed.
    pub fn handle_tick(&mut self) {
        if !self.is_open {
            return;
        }
        self.ticks = self.ticks.saturating_add(1);
        if self.ticks == GOOD_TICKS {
            self.backoff.reset();
        }
        self.transmit_sends();
    }

    /// What is to be sent next.
    pub fn poll_transmit(&mut self) -> Option<String> {
        self.transmits.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Vec<Event>> {
        if let Some(failure) = self.failures.pop_front() {
            return Some(vec![Event::Failed(failure)]);
        }
        let (shown, user) = (self.shown.clone(), self.user.clone());
        for conversation in &mut self.conversations {
            let Some(entries) = conversation.next_entry() else {
                continue;
            };
            for entry in &entries {
                if let Entry::Message(message) = entry
                    && Some(&conversation.target) != shown.as_ref()
                    && Some(&message.user) != user.as_ref()
                {
                    conversation.unread += 1;
                }
            }
            let target = &conversation.target;
            let event = |entry| Event::Entry(target.clone(), entry);
            return Some(entries.into_iter().map(event).collect());
        }
        None
    }

    fn place_of(&self, target: &Target) -> Option<usize> {
        let conversations = self.conversations.iter();
        conversations
            .map(|one| &one.target)
            .position(|one| one == target)
    }

    fn find(&self, target: &Target) -> Option<&Conversation> {
        self.conversations.get(self.place_of(target)?)
    }

    fn room(&mut self, room: &str) -> Option<&mut Conversation> {
        let is_it =
            |one: &&mut Conversation| matches!(&one.target, Target::Room(name) if name == room);
        self.conversations.iter_mut().find(is_it)
    }

    fn open(&mut self, target: Target) -> Result<(), Refused> {
        let place = match self.place_of(&target) {
            Some(place) => place,
            None if self.conversations.len() < CONVERSATIONS_MAX => {
                self.conversations.push(Conversation::new(target.clone()));
                self.conversations.len() - 1
            }
            None => {
                return Err(Refused(format!(
                    "{CONVERSATIONS_MAX} conversations are open; /leave one of them first"
                )));
            }
        };
        let conversation = &mut self.conversations[place];
        if conversation.membership == Membership::Refused {
            conversation.membership = Membership::Wanted;
        }
        if self.is_open && conversation.membership == Membership::Wanted {
            self.join(place);
        }
        Ok(())
    }

    /// Asks to be a member. With a user there is nothing to ask for.
    fn join(&mut self, place: usize) {
        let conversation = &mut self.conversations[place];
        conversation.membership = Membership::Asked;
        if let Target::Room(room) = &conversation.target {
            let since = conversation.position();
            let text = Request::Join { room, since }.text();
            self.transmits.push_back(text);
        }
    }

    fn leave(&mut self, target: &Target) {
        let Some(place) = self.place_of(target) else {
            return;
        };
        self.give_up(|sending| sending.target == *target, "the room was left");
        let left = self.conversations.remove(place);
        if let (Target::Room(room), true) = (&left.target, self.is_open) {
            self.transmits.push_back(Request::Leave { room }.text());
        }
        if self.shown.as_ref() == Some(target) {
            self.shown = None;
            let next = place.min(self.conversations.len().saturating_sub(1));
            if let Some(next) = self.conversations.get(next) {
                let next = next.target.clone();
                self.show(&next);
            }
        }
    }

    fn say(&mut self, target: Target, text: String, now_unix_ms: u64) -> Result<(), Refused> {
        if self.sends.len() >= SENDS_MAX {
            return Err(Refused(format!(
                "{SENDS_MAX} messages wait for the server already; wait until it has them"
            )));
        }
        let bytes = serde_json::to_string(&text).map_or(usize::MAX, |json| json.len());
        if let Some(most) = self.message_size_max
            && bytes.saturating_add(FRAME_BYTES) > most
        {
            return Err(Refused(format!(
                "the message has {bytes} bytes, and the server takes {} at the most",
                most.saturating_sub(FRAME_BYTES)
            )));
        }
        if self.find(&target).map(|one| one.membership) == Some(Membership::Refused) {
            return Err(Refused(
                "the server does not let you in here; /join asks once more".to_owned(),
            ));
        }
        self.open(target.clone())?;
        self.ids.1 += 1;
        self.sends.push_back(Sending {
            target,
            text,
            id: format!("{:016x}-{}", self.ids.0, self.ids.1),
            unix_ms: now_unix_ms,
            is_sent: false,
            attempts: 0,
        });
        self.transmit_sends();
        Ok(())
    }

    /// Sends what can be sent and was not, in order.
    fn transmit_sends(&mut self) {
        if !self.is_open {
            return;
        }
        let conversations = &self.conversations;
        for sending in self.sends.iter_mut().filter(|sending| !sending.is_sent) {
            let (content, id) = (sending.text.as_str(), sending.id.as_str());
            let request = match &sending.target {
                Target::Room(room) => {
                    let is_joined = conversations.iter().any(|one| {
                        one.target == sending.target && one.membership == Membership::Joined
                    });
                    if !is_joined {
                        continue;
                    }
                    Request::Message { room, content, id }
                }
                Target::User(to) => Request::Direct { to, content, id },
            };
            self.transmits.push_back(request.text());
            sending.is_sent = true;
            sending.attempts += 1;
        }
    }

    fn who(&mut self, target: &Target) -> Result<(), Refused> {
        let Target::Room(name) = target else {
            return Err(Refused("/who is for rooms".to_owned()));
        };
        if !self.is_open {
            return Err(Refused("there is no connection; try again".to_owned()));
        }
        if let Some(room) = self.room(name) {
            room.who_asked = true;
            self.transmits
                .push_back(Request::Presence { room: name }.text());
        }
        Ok(())
    }

    fn older(&mut self, target: &Target) -> Result<(), Refused> {
        let (Target::Room(name), true) = (target, self.is_open) else {
            return Ok(());
        };
        if let Some(since) = self.room(name).and_then(Conversation::ask_older) {
            self.ask_past(name, Some(since));
        }
        Ok(())
    }

    fn ask_past(&mut self, room: &str, since: Option<Position>) {
        let limit = PAGE;
        self.transmits
            .push_back(Request::History { room, since, limit }.text());
    }

    /// Gives up messages that wait to be acknowledged, and says so where they would have been.
    fn give_up(&mut self, mut is_lost: impl FnMut(&Sending) -> bool, why: &str) {
        let (lost, kept): (VecDeque<_>, _) =
            self.sends.drain(..).partition(|sending| is_lost(sending));
        self.sends = kept;
        for Sending { target, text, .. } in lost {
            let text = Message::new(String::new(), text, 0).text;
            let notice = format!("not sent: {text}: {why}");
            if let Some(place) = self.place_of(&target) {
                self.conversations[place].notice(notice.clone());
            }
            self.fail(format!("{}: {notice}", target.label()));
        }
    }

    /// Whoever does not read of failures keeps the latest.
    fn fail(&mut self, text: String) {
        if self.failures.len() >= SENDS_MAX {
            self.failures.pop_front();
        }
        self.failures.push_back(text);
    }
}

#[cfg(test)]
mod tests;
