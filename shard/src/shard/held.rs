//! Connections that wait until somebody outside of the shard has decided: whether they may come in, or what becomes of a message.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::Core;
use crate::app::{Action, App, Dismissal};
use crate::close_reason::CloseReason;
use crate::connection::{Flags, Pace, State};
use crate::driver::{ConnectionKey, Slot};
use crate::hub::event::ErrorCode;
use crate::hub::{Name, Target};
use crate::rights::Identity;
use crate::verdict::{Hooks, Question, Ruling, Standing, Verdict};
use crate::ws::close::{FORBIDDEN, TRY_AGAIN_LATER};

/// What the shard waits for, one question a connection.
#[derive(Debug)]
pub(super) struct Held {
    entries: HashMap<Slot, Entry>,
    number_next: u64,
    /// Messages by the time at which they are given up. A connection that is to come in has its deadline in the wheel instead.
    due: VecDeque<(u64, Question)>,
}

#[derive(Debug)]
struct Entry {
    question: Question,
    matter: Matter,
}

/// What a question is about.
#[derive(Debug)]
enum Matter {
    Identity(Identity),
    Publish(Publication),
}

/// A message that is to be published.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) target: Target,
    pub(super) content: Bytes,
    pub(super) id: Option<Name>,
    /// The connection's pace, which goes on afterwards.
    pace: Pace,
}

impl Held {
    /// Questions are numbered from `first`.
    pub(super) fn new(first: u64) -> Self {
        Self {
            entries: HashMap::new(),
            number_next: first,
            due: VecDeque::new(),
        }
    }

    /// Connections that wait.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whose a connection is that waits to come in.
    pub(super) fn user(&self, slot: Slot) -> Option<&Name> {
        match &self.entries.get(&slot)?.matter {
            Matter::Identity(identity) => Some(&identity.user),
            Matter::Publish(_) => None,
        }
    }

    /// When the next message is given up, on the monotonic clock.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.due.front().map(|(due_ms, _)| *due_ms)
    }

    fn question(&mut self, connection: ConnectionKey) -> Question {
        let number = self.number_next;
        self.number_next = number.wrapping_add(1);
        Question { connection, number }
    }

    fn insert(&mut self, question: Question, matter: Matter) {
        let entry = Entry { question, matter };
        self.entries.insert(question.connection.slot, entry);
    }

    /// What the question was about, unless it is answered already or its connection is gone.
    fn take(&mut self, question: Question) -> Option<Matter> {
        let slot = question.connection.slot;
        self.entries
            .get(&slot)
            .filter(|entry| entry.question == question)?;
        let entry = self.entries.remove(&slot)?;
        self.tidy();
        Some(entry.matter)
    }

    /// Nothing is to be decided about the connection any more.
    pub(super) fn forget(&mut self, slot: Slot) {
        if self.entries.remove(&slot).is_some() {
            self.tidy();
        }
    }

    fn is_open(&self, question: Question) -> bool {
        let entry = self.entries.get(&question.connection.slot);
        entry.is_some_and(|entry| entry.question == question)
    }

    /// Nobody wakes for what is answered.
    fn tidy(&mut self) {
        while let Some((_, question)) = self.due.front()
            && !self.is_open(*question)
        {
            self.due.pop_front();
        }
        if self.entries.is_empty() {
            // Give the memory of a past crowd back.
            self.entries.shrink_to(16);
            self.due.shrink_to(16);
        }
    }

    fn next_due(&mut self, now_ms: u64) -> Option<Question> {
        let (due_ms, question) = *self.due.front()?;
        (due_ms <= now_ms).then_some(question)
    }
}

impl<A: App> Core<A> {
    /// It is known whose connection it is. The application may let somebody else decide whether it may come in.
    pub(super) fn name(&mut self, key: ConnectionKey, identity: Identity) {
        if !self.hooks.contains(Hooks::IDENTITY) {
            self.admit(key, identity);
            return;
        }
        let question = self.held.question(key);
        let standing = self.call_app(|app, context| app.on_identity(context, question, &identity));
        match standing {
            None => self.panicked(key),
            Some(Standing::Decided(ruling)) => self.rule_identity(key, identity, ruling),
            Some(Standing::Held) => {
                let Some(connection) = self.table.find(key) else {
                    return;
                };
                connection.state = State::Held;
                self.held.insert(question, Matter::Identity(identity));
                let due_ms = self.clock.monotonic_ms() + self.limits.decision_ms_max;
                self.deadlines.set(key.slot, due_ms);
            }
        }
    }

    fn rule_identity(&mut self, key: ConnectionKey, identity: Identity, ruling: Ruling) {
        let Dismissal { code, reason } = match ruling {
            Ruling::Allow | Ruling::Rewrite(_) => return self.admit(key, identity),
            Ruling::Dismiss(dismissal) => dismissal,
            Ruling::Refuse { message, .. } => Dismissal {
                code: FORBIDDEN,
                reason: message,
            },
        };
        self.dismiss(key, code, &reason);
    }

    fn dismiss(&mut self, key: ConnectionKey, code: u16, reason: &str) {
        self.stats.close_dismissed.add(1);
        let why = CloseReason::Dismissed(code);
        self.end(key, why, code, reason, State::Closing);
    }

    /// The time is over in which it might have been decided whether the connection may come in.
    pub(super) fn undecided(&mut self, key: ConnectionKey) {
        self.stats.undecided.add(1);
        let reason = "nobody has decided in time whether you may connect; try again later";
        let why = CloseReason::Undecided;
        self.end(key, why, TRY_AGAIN_LATER, reason, State::Closing);
        self.work_off();
    }

    /// A connection asks to publish what it may publish as far as its grant goes. The application may let somebody else decide.
    pub(super) fn publish(
        &mut self,
        key: ConnectionKey,
        target: Target,
        content: Bytes,
        id: Option<Name>,
    ) {
        if !self.hooks.contains(Hooks::PUBLISH) || self.table.state(key) != State::Open {
            return self.publish_now(key, target, content, id);
        }
        let question = self.held.question(key);
        let standing = self.call_app(|app, context| {
            app.on_publish(context, question, &target, &content, id.as_ref())
        });
        let Some(connection) = self.table.find(key) else {
            return;
        };
        let publication = Publication {
            target,
            content,
            id,
            pace: connection.pace,
        };
        match standing {
            None => self.panicked(key),
            Some(Standing::Decided(ruling)) => self.rule_publish(key, publication, ruling),
            Some(Standing::Held) if connection.pace == Pace::Held => {
                // One message of a connection waits at a time, which is all that it can send; an application might ask for more.
                let message = "another message of this connection waits to be decided about".into();
                let code = ErrorCode::Unavailable;
                self.rule_publish(key, publication, Ruling::Refuse { code, message });
            }
            Some(Standing::Held) => {
                connection.pace = Pace::Held;
                let due_ms = self.clock.monotonic_ms() + self.limits.decision_ms_max;
                self.held.insert(question, Matter::Publish(publication));
                self.held.due.push_back((due_ms, question));
            }
        }
    }

    fn rule_publish(&mut self, key: ConnectionKey, publication: Publication, ruling: Ruling) {
        let Publication {
            target,
            content,
            id,
            ..
        } = publication;
        match ruling {
            Ruling::Allow => self.publish_now(key, target, content, id),
            Ruling::Rewrite(content) => self.publish_now(key, target, content, id),
            Ruling::Dismiss(Dismissal { code, reason }) => self.dismiss(key, code, &reason),
            Ruling::Refuse { code, message } => {
                self.stats.bad_requests.add(1);
                let room = match target {
                    Target::Room(room) => Some(room),
                    Target::Inbox(_) => None,
                };
                self.send_error(key, code, message, id, room);
            }
        }
    }

    /// Carries out what has been decided.
    pub(super) fn decided(&mut self, verdict: Verdict) {
        let Verdict { question, ruling } = verdict;
        let key = question.connection;
        match self.held.take(question) {
            None => self.stats.verdicts_stale.add(1),
            Some(Matter::Identity(identity)) => {
                // What is left of the handshake's time may have passed while somebody decided.
                let due_ms = self.clock.monotonic_ms() + self.limits.handshake_ms_max;
                self.deadlines.set(key.slot, due_ms);
                self.rule_identity(key, identity, ruling);
            }
            Some(Matter::Publish(publication)) => self.release(key, publication, ruling),
        }
        self.work_off();
    }

    /// Gives up messages that nobody has decided about in time; answers whether there were any.
    pub(super) fn run_undecided(&mut self) -> bool {
        let now_ms = self.clock.monotonic_ms();
        let mut busy = false;
        while let Some(question) = self.held.next_due(now_ms) {
            if let Some(Matter::Publish(publication)) = self.held.take(question) {
                self.stats.undecided.add(1);
                let ruling = Ruling::Refuse {
                    code: ErrorCode::Unavailable,
                    message: "nobody has decided about this message in time; it is not published"
                        .into(),
                };
                self.release(question.connection, publication, ruling);
                self.work_off();
            }
            busy = true;
        }
        busy
    }

    /// A message waits no longer, and neither does what its connection has sent behind it.
    fn release(&mut self, key: ConnectionKey, publication: Publication, ruling: Ruling) {
        let Some(connection) = self.table.find(key) else {
            return;
        };
        connection.pace = publication.pace;
        // The grant may have been replaced since.
        let mut action = Action::Publish {
            connection: key,
            target: publication.target.clone(),
            content: Bytes::new(),
            id: publication.id.clone(),
        };
        let publishes = matches!(ruling, Ruling::Allow | Ruling::Rewrite(_));
        if !publishes || self.permits(&mut action) {
            self.rule_publish(key, publication, ruling);
        }
        self.work_off();
        let Some(connection) = self.table.find(key) else {
            return;
        };
        match connection.has(Flags::PEER_ENDED) && !connection.has(Flags::STASHED) {
            true => self.peer_ended(key),
            false => self.resume(key),
        }
        self.table.mark_dirty(key);
    }
}
