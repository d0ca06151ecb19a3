//! Rooms and users of the servers on tokio.
//!
//! A broadcast is the hot path: one look-up of the room, then one bounded, non-waiting channel operation a member.
//! It holds the room's read lock meanwhile, which nothing waits under, so broadcasts of several threads walk a room
//! side by side and copy no list of members. Rooms are made, joined, left and removed under the lock of the map's shard
//! that the room is in, so nobody joins a room that is being removed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use dashmap::DashMap;
use futures_util::future::{AbortHandle, AbortRegistration};
use indexmap::IndexMap;
use tokio::sync::mpsc;

use crate::command::{self, BadCommand, Command};

/// How many messages may wait for one connection. One more, and the connection is dropped.
pub const OUTBOX_MESSAGES_MAX: usize = 8192;

/// The way to one connection: a bounded channel, and a handle that drops the connection when the channel is full.
#[derive(Debug)]
pub struct Outbox<P> {
    messages: mpsc::Sender<P>,
    connection: AbortHandle,
}

/// The connection's end of its [`Outbox`].
#[derive(Debug)]
pub struct Inbox<P> {
    /// What waits for the connection.
    pub messages: mpsc::Receiver<P>,
    /// The connection runs as a [`futures_util::future::Abortable`] under this, so that it can be dropped.
    pub registration: AbortRegistration,
}

impl<P> Outbox<P> {
    /// An outbox of [`OUTBOX_MESSAGES_MAX`] messages, with its other end.
    #[must_use]
    pub fn new() -> (Self, Inbox<P>) {
        let (sender, messages) = mpsc::channel(OUTBOX_MESSAGES_MAX);
        let (connection, registration) = AbortHandle::new_pair();
        (
            Self {
                messages: sender,
                connection,
            },
            Inbox {
                messages,
                registration,
            },
        )
    }

    /// Queues a message; drops the connection where there is no room for it. A connection that is gone gets nothing.
    pub fn push(&self, payload: P) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.messages.try_send(payload) {
            self.connection.abort();
        }
    }
}

type Room<P> = Arc<RwLock<IndexMap<u64, Arc<Outbox<P>>>>>;

/// Every room with its members, and every user's connection. `P` is a message as the library sends it, cheap to clone.
#[derive(Debug)]
pub struct Registry<P> {
    rooms: DashMap<Box<str>, Room<P>>,
    users: DashMap<Box<str>, (u64, Arc<Outbox<P>>)>,
    next_connection: AtomicU64,
}

impl<P> Default for Registry<P> {
    fn default() -> Self {
        Self {
            rooms: DashMap::new(),
            users: DashMap::new(),
            next_connection: AtomicU64::new(0),
        }
    }
}

impl<P: Clone> Registry<P> {
    fn join(&self, room: &str, connection: u64, outbox: &Arc<Outbox<P>>) {
        // A poisoned lock means that a broadcast panicked; the list of members is whole nevertheless.
        let members = self.rooms.entry(room.into()).or_default();
        members
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(connection, Arc::clone(outbox));
    }

    fn leave(&self, room: &str, connection: u64) {
        self.rooms.remove_if(room, |_, members| {
            let mut members = members.write().unwrap_or_else(PoisonError::into_inner);
            members.swap_remove(&connection);
            members.is_empty()
        });
    }

    fn broadcast(&self, room: &str, payload: &P) {
        let Some(members) = self.rooms.get(room).map(|members| Arc::clone(&members)) else {
            return;
        };
        for outbox in members
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            outbox.push(payload.clone());
        }
    }

    fn direct(&self, name: &str, payload: P) {
        if let Some(user) = self.users.get(name) {
            user.1.push(payload);
        }
    }
}

/// One connection on `/rooms`: its name and its rooms. Dropping it leaves them all.
#[derive(Debug)]
pub struct Session<P: Clone> {
    registry: Arc<Registry<P>>,
    connection: u64,
    outbox: Arc<Outbox<P>>,
    name: Option<Box<str>>,
    rooms: Vec<Box<str>>,
}

impl<P: Clone> Session<P> {
    /// A connection without a name and in no room.
    pub fn new(registry: Arc<Registry<P>>, outbox: Outbox<P>) -> Self {
        let connection = registry.next_connection.fetch_add(1, Ordering::Relaxed);
        Self {
            registry,
            connection,
            outbox: Arc::new(outbox),
            name: None,
            rooms: Vec::new(),
        }
    }

    /// Queues something for this connection itself.
    pub fn answer(&self, payload: P) {
        self.outbox.push(payload);
    }

    /// Does what a message asks for. `payload` makes the message into what is sent, once, and only where it is sent.
    ///
    /// # Errors
    ///
    /// [`BadCommand`] where the message is none of the protocol; the caller closes the connection with code 1003.
    pub fn receive(
        &mut self,
        message: &str,
        payload: impl FnOnce() -> P,
    ) -> Result<(), BadCommand> {
        match command::parse(message)? {
            Command::Login(name) => {
                self.log_in(name);
                self.answer(payload());
            }
            Command::Join(room) => {
                if !self.rooms.iter().any(|joined| **joined == *room) {
                    self.registry.join(room, self.connection, &self.outbox);
                    self.rooms.push(room.into());
                }
                self.answer(payload());
            }
            Command::Send(room) => self.registry.broadcast(room, &payload()),
            Command::Direct(name) => self.registry.direct(name, payload()),
        }
        Ok(())
    }

    fn log_in(&mut self, name: &str) {
        self.log_out();
        self.registry
            .users
            .insert(name.into(), (self.connection, Arc::clone(&self.outbox)));
        self.name = Some(name.into());
    }

    fn log_out(&mut self) {
        if let Some(name) = self.name.take() {
            // The name may be another connection's by now: the latest has it.
            self.registry
                .users
                .remove_if(&name, |_, user| user.0 == self.connection);
        }
    }
}

impl<P: Clone> Drop for Session<P> {
    fn drop(&mut self) {
        self.log_out();
        for room in &self.rooms {
            self.registry.leave(room, self.connection);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    type Texts = Registry<Arc<str>>;

    fn connect(registry: &Arc<Texts>) -> (Session<Arc<str>>, Inbox<Arc<str>>) {
        let (outbox, inbox) = Outbox::new();
        (Session::new(Arc::clone(registry), outbox), inbox)
    }

    fn say(session: &mut Session<Arc<str>>, message: &str) {
        session.receive(message, || message.into()).unwrap();
    }

    fn heard(inbox: &mut Inbox<Arc<str>>) -> Vec<String> {
        std::iter::from_fn(|| inbox.messages.try_recv().ok())
            .map(|message| message.to_string())
            .collect()
    }

    #[test]
    fn members_hear_a_room_and_others_do_not() {
        let registry = Arc::new(Texts::default());
        let (mut ada, mut to_ada) = connect(&registry);
        let (mut bob, mut to_bob) = connect(&registry);
        let (mut eve, mut to_eve) = connect(&registry);
        say(&mut ada, "join r");
        say(&mut ada, "join r");
        say(&mut bob, "join r");
        say(&mut eve, "join s");
        say(&mut eve, "send r from outside");
        say(&mut ada, "send r from inside");
        say(&mut ada, "send nowhere x");
        assert_eq!(
            heard(&mut to_ada),
            [
                "join r",
                "join r",
                "send r from outside",
                "send r from inside"
            ]
        );
        assert_eq!(
            heard(&mut to_bob),
            ["join r", "send r from outside", "send r from inside"]
        );
        assert_eq!(heard(&mut to_eve), ["join s"]);
    }

    #[test]
    fn nothing_is_left_of_a_session() {
        let registry = Arc::new(Texts::default());
        let (mut ada, _to_ada) = connect(&registry);
        let (mut bob, mut to_bob) = connect(&registry);
        say(&mut ada, "login ada");
        say(&mut ada, "join r");
        say(&mut ada, "join s");
        say(&mut bob, "join r");
        drop(ada);
        assert!(registry.users.is_empty());
        assert_eq!(registry.rooms.len(), 1);
        assert_eq!(registry.rooms.get("r").unwrap().read().unwrap().len(), 1);
        say(&mut bob, "send r x");
        say(&mut bob, "direct ada x");
        assert_eq!(heard(&mut to_bob), ["join r", "send r x"]);
        drop(bob);
        assert!(registry.rooms.is_empty());
    }

    #[test]
    fn a_name_belongs_to_the_latest() {
        let registry = Arc::new(Texts::default());
        let (mut first, mut to_first) = connect(&registry);
        let (mut second, mut to_second) = connect(&registry);
        say(&mut first, "login ada");
        say(&mut second, "login ada");
        say(&mut first, "direct ada 1");
        drop(first);
        say(&mut second, "direct ada 2");
        say(&mut second, "login eve");
        say(&mut second, "direct ada 3");
        assert_eq!(heard(&mut to_first), ["login ada"]);
        assert_eq!(
            heard(&mut to_second),
            ["login ada", "direct ada 1", "direct ada 2", "login eve"]
        );
    }

    #[test]
    fn a_full_outbox_drops_its_connection_alone() {
        let registry = Arc::new(Texts::default());
        let (mut slow, to_slow) = connect(&registry);
        let (mut quick, mut to_quick) = connect(&registry);
        say(&mut slow, "join r");
        say(&mut quick, "join r");
        for _ in 1..OUTBOX_MESSAGES_MAX {
            say(&mut quick, "send r x");
            heard(&mut to_quick);
        }
        assert!(!slow.outbox.connection.is_aborted());
        say(&mut quick, "send r x");
        assert!(slow.outbox.connection.is_aborted());
        assert!(!quick.outbox.connection.is_aborted());
        assert_eq!(to_slow.messages.len(), OUTBOX_MESSAGES_MAX);
        assert_eq!(heard(&mut to_quick), ["send r x"]);
    }

    #[test]
    fn a_bad_command_changes_nothing() {
        let registry = Arc::new(Texts::default());
        let (mut ada, mut to_ada) = connect(&registry);
        assert_eq!(ada.receive("leave r", || "leave r".into()), Err(BadCommand));
        assert!(heard(&mut to_ada).is_empty());
    }
}
