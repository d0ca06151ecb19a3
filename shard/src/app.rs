//! What runs on the engine: the trait that an application implements, and what it may ask for.
//!
//! A shard owns one value of the application's type and calls it on the shard's thread, so the
//! application needs no lock. A call asks for things through its [`Context`]; they are carried out when
//! the call has returned. So an application that panics half-way leaves rooms and other
//! connections as they were: its connection alone is closed, with code 1011.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::close_reason::CloseReason;
use crate::driver::{Clock, ConnectionKey, ShardId};
use crate::hub::{Event, Hub, Name, Position, Target};
use crate::limits::Limits;
use crate::orders::Publication;
use crate::random::Random;
use crate::rights::{Grant, Identity};
use crate::verdict::{Hooks, Occupancy, Question, Ruling, Standing};
use crate::ws::{Message, MessageKind, Refusal, UpgradeRequest};

/// An application on one shard.
///
/// Every call runs on the shard's thread and delays all of its connections: it should take microseconds.
pub trait App: 'static {
    /// What the application wants to be asked or told that costs something. Asked once, before the shard starts.
    fn hooks(&self) -> Hooks {
        Hooks::empty()
    }

    /// Called once, when the shard has started (also when it has started again).
    fn on_start(&mut self, _context: &mut Context<'_>) {}

    /// Decides about a valid upgrade request.
    ///
    /// # Errors
    /// The refusal is sent as an HTTP answer and the connection is closed.
    fn on_upgrade(
        &mut self,
        context: &mut Context<'_>,
        request: &UpgradeRequest<'_>,
    ) -> Result<Admission, Refusal>;

    /// The first message of a connection that was let in without an identity. Nothing is known of the connection before, neither to the rooms nor to
    /// [`App::on_open`], and nothing is sent to it but the answers to its pings. The message has no more than `handshake_size_max` bytes (above it the
    /// connection is closed 1009) and arrives within `handshake_ms_max` of the connection (after it: 4401).
    ///
    /// # Errors
    /// The connection is closed with the code and the reason given; [`App::on_close`] does not hear of it.
    fn on_first_message(
        &mut self,
        _context: &mut Context<'_>,
        _message: Message<'_>,
    ) -> Result<Identity, Dismissal> {
        Err(Dismissal {
            code: 1008,
            reason: "this application names connections in the handshake".into(),
        })
    }

    /// It is known whose connection it is, and nobody has been told of it yet: whether it may come in. Where somebody else decides, the connection is held: what the
    /// peer sends waits, its pings too, until the [`Verdict`](crate::verdict::Verdict) comes. After `decision_ms_max` it is closed 1013. Called only where
    /// [`App::hooks`] asks for it.
    fn on_identity(
        &mut self,
        _context: &mut Context<'_>,
        _question: Question,
        _identity: &Identity,
    ) -> Standing {
        Standing::Decided(Ruling::Allow)
    }

    /// The connection is open and belongs to `user`. What is sent here is the first that the peer reads.
    fn on_open(&mut self, _context: &mut Context<'_>, _connection: ConnectionKey, _user: &Name) {}

    /// A whole message arrived. The payload may be changed in place; text is valid UTF-8.
    fn on_message(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        message: Message<'_>,
    );

    /// A connection has asked to publish, by [`Context::publish`], what its grant permits: whether, and what instead. Where somebody else decides,
    /// nothing further of the connection is decoded until the [`Verdict`](crate::verdict::Verdict) comes, so its messages keep their order. After `decision_ms_max` its
    /// sender is told [`Unavailable`](crate::hub::event::ErrorCode::Unavailable). What is allowed is checked as if it had just been asked for, so whoever decides need not be asked about what
    /// [`Context::may_publish`] says is in vain. Called only where [`App::hooks`] asks for it.
    fn on_publish(
        &mut self,
        _context: &mut Context<'_>,
        _question: Question,
        _target: &Target,
        _content: &Bytes,
        _id: Option<&Name>,
    ) -> Standing {
        Standing::Decided(Ruling::Allow)
    }

    /// A room whose home is this shard has its first user, or has lost its last. Called only where [`App::hooks`] asks for it.
    fn on_occupancy(&mut self, _context: &mut Context<'_>, _room: &Name, _occupancy: Occupancy) {}

    /// The connection that was opened is going away; nothing can be sent to it any more. [`Context::user_of`] still knows whose it was.
    fn on_close(
        &mut self,
        _context: &mut Context<'_>,
        _connection: ConnectionKey,
        _reason: CloseReason,
    ) {
    }

    /// The time asked for with [`Context::timer_after`] has come.
    fn on_timer(&mut self, _context: &mut Context<'_>) {}

    /// Writes an event of the rooms in the protocol that clients speak and says how it is framed; `None`
    /// where the protocol has no word for it. Called once an event and shard, not once a member.
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> Option<MessageKind>;
}

/// The answer to an accepted upgrade request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Whose connection it is; `None`: its first message says so, within the time of the handshake ([`App::on_first_message`]).
    pub identity: Option<Identity>,
    /// The subprotocol chosen among those offered.
    pub protocol: Option<String>,
}

impl Admission {
    /// A connection of `user` that may do everything.
    #[must_use]
    pub fn of(user: impl Into<Name>) -> Self {
        Self {
            identity: Some(Identity {
                user: user.into(),
                grant: None,
            }),
            protocol: None,
        }
    }
}

/// Why a connection is closed before it has said who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dismissal {
    /// The code of the close frame, 1000 to 4999.
    pub code: u16,
    /// At most 123 bytes.
    pub reason: Name,
}

/// One call asked for more than `actions_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "one call of the application asked for more than actions_max actions; do the rest from a timer"
)]
pub struct Overload;

/// What an application asked for, in order.
#[derive(Debug)]
pub(crate) enum Action {
    Send {
        connection: ConnectionKey,
        kind: MessageKind,
        payload: Bytes,
    },
    SendEvent {
        connection: ConnectionKey,
        event: Event,
    },
    Close {
        connection: ConnectionKey,
        code: u16,
        reason: Name,
    },
    Join {
        connection: ConnectionKey,
        room: Name,
        since: Option<Position>,
    },
    Leave {
        connection: ConnectionKey,
        room: Name,
    },
    Publish {
        connection: ConnectionKey,
        target: Target,
        content: Bytes,
        id: Option<Name>,
    },
    PublishFromServer(Publication),
    Presence {
        connection: ConnectionKey,
        room: Name,
    },
    History {
        connection: ConnectionKey,
        room: Name,
        since: Option<Position>,
        limit: Option<u64>,
    },
    /// From now on the connection may do this.
    Renew {
        connection: ConnectionKey,
        grant: Option<Grant>,
    },
    Count(Count),
    CrashShard,
}

/// Events that only the application can see, for the shard's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// A message that the protocol could not read at all.
    MalformedMessage,
    /// A request that the protocol could read and had to refuse.
    BadRequest,
    /// A token was looked at.
    Token(TokenOutcome),
}

/// What became of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOutcome {
    /// It was good.
    Accepted,
    /// It was larger than `token_size_max`.
    TooLarge,
    /// It is not what RFC 7515 and RFC 7519 call a token, or came twice.
    Malformed,
    /// It is not signed at all (`alg` is `none`).
    AlgorithmNone,
    /// Its algorithm is not the one of the key.
    AlgorithmNotPermitted,
    /// No key is known for it.
    UnknownKey,
    /// Its signature is another's.
    Signature,
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
    /// Somebody else issued it.
    Issuer,
    /// It is meant for somebody else.
    Audience,
    /// What it says of user, rooms or times is missing or wrong.
    Claims,
    /// It names another user than the connection's.
    OtherUser,
    /// There are no keys yet to check it with.
    NoKeys,
}

/// An application's access to its shard during one call.
pub struct Context<'a> {
    clock: Clock,
    shard: ShardId,
    limits: &'a Limits,
    random: &'a mut Random,
    actions: &'a mut VecDeque<Action>,
    timer_at_ms: &'a mut Option<u64>,
    hub: &'a Hub,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        clock: Clock,
        shard: ShardId,
        limits: &'a Limits,
        random: &'a mut Random,
        actions: &'a mut VecDeque<Action>,
        timer_at_ms: &'a mut Option<u64>,
        hub: &'a Hub,
    ) -> Self {
        Self {
            clock,
            shard,
            limits,
            random,
            actions,
            timer_at_ms,
            hub,
        }
    }

    /// The time of this pass of the loop.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Which shard this is.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The bounds in force.
    #[must_use]
    pub fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// Whose connection of this shard it is; `None` where it is not open.
    #[must_use]
    pub fn user_of(&self, connection: ConnectionKey) -> Option<&'a Name> {
        self.hub.member_user(connection)
    }

    /// Whether the room's settings and the connection's membership permit that it publishes so many bytes.
    #[must_use]
    pub fn may_publish(&self, connection: ConnectionKey, target: &Target, bytes: usize) -> bool {
        self.hub.may_publish(connection, target, bytes).is_ok()
    }

    /// A random number, not fit for secrets.
    pub fn random(&mut self) -> u64 {
        self.random.next()
    }

    /// Sends one message to one connection of this shard; it is dropped when that is gone.
    ///
    /// # Errors
    /// The call has asked for too much.
    pub fn send(
        &mut self,
        connection: ConnectionKey,
        kind: MessageKind,
        payload: Bytes,
    ) -> Result<(), Overload> {
        self.push(Action::Send {
            connection,
            kind,
            payload,
        })
    }

    /// Sends one event to one connection of this shard, in the application's protocol.
    ///
    /// # Errors
    /// The call has asked for too much.
    pub fn send_event(&mut self, connection: ConnectionKey, event: Event) -> Result<(), Overload> {
        self.push(Action::SendEvent { connection, event })
    }

    /// Begins the close handshake (RFC 6455 §7.1.2) with a code from 1000 to 4999 and a reason of at most 123 bytes.
    ///
    /// # Errors
    /// The call has asked for too much.
    pub fn close(
        &mut self,
        connection: ConnectionKey,
        code: u16,
        reason: &str,
    ) -> Result<(), Overload> {
        self.push(Action::Close {
            connection,
            code,
            reason: reason.into(),
        })
    }

    /// Joins a room; the answer comes as [`Event::Joined`] or [`Event::Error`]. Where the connection's grant does not permit what was said before,
    /// the place is left out, and where it does not permit presence, the number of members.
    ///
    /// # Errors
    /// The call has asked for too much.
    pub fn join(
        &mut self,
        connection: ConnectionKey,
        room: Name,
        since: Option<Position>,
    ) -> Result<(), Overload> {
        self.push(Action::Join {
            connection,
            room,
            since,
        })
    }

    /// Leaves a room; the answer comes as [`Event::Left`] or [`Event::Error`].
    ///
    /// # Errors
    /// The call has asked for too much.
    pub fn leave(&mut self, connection: ConnectionKey, room: Name) -> Result<(), Overload> {
        self.push(Action::Leave { connection, room })
    }

    /// Publishes the text of one JSON value in the name of a connection's user. With an id the sender gets an
    /// [`Event::Ack`], and a repeat of the id is not delivered again.
    ///
    /// # Errors
    /// The call has asked for too much.
    pub fn publish(
        &mut self,
        connection: ConnectionKey,
        target: Target,
        content: Bytes,
        id: Option<Name>,
    ) -> Result<(), Overload> {
        self.push(Action::Publish {
            connection,
            target,
            content,
            id,
        })
    }

    /// Publishes the text of one JSON value in the application's own name, `user`.
    ///
    /// # Errors
    /// The call has asked for too much.
    pub fn publish_from_server(
        &mut self,
        user: Name,
        target: Target,
        content: Bytes,
    ) -> Result<(), Overload> {
        self.push(Action::PublishFromServer(Publication {
            user,
            target,
            content,
            id: None,
        }))
    }

    /// Asks who is in a room; the answer comes as [`Event::Presence`].
    ///
    /// # Errors
    /// The call has asked for too much.
    pub fn presence(&mut self, connection: ConnectionKey, room: Name) -> Result<(), Overload> {
        self.push(Action::Presence { connection, room })
    }

    /// Asks for past messages; the answer comes as [`Event::History`].
    ///
    /// # Errors
    /// The call has asked for too much.
    pub fn history(
        &mut self,
        connection: ConnectionKey,
        room: Name,
        since: Option<Position>,
        limit: Option<u64>,
    ) -> Result<(), Overload> {
        self.push(Action::History {
            connection,
            room,
            since,
            limit,
        })
    }

    /// Replaces what a connection may do and for how long; `None`: everything, for ever. It leaves the rooms that it may no longer be in, each with an
    /// [`Event::Left`] that gives the reason, joins under way included. A grant that has ended already ends the connection (4401).
    ///
    /// # Errors
    /// The call has asked for too much.
    pub fn renew(
        &mut self,
        connection: ConnectionKey,
        grant: Option<Grant>,
    ) -> Result<(), Overload> {
        self.push(Action::Renew { connection, grant })
    }

    /// Asks for [`App::on_timer`] in so many milliseconds. One timer a shard: a later call replaces it.
    pub fn timer_after(&mut self, milliseconds: u64) {
        *self.timer_at_ms = Some(self.clock.monotonic_ms() + milliseconds);
    }

    /// Counts what only the application can see.
    ///
    /// # Errors
    /// The call has asked for too much.
    pub fn count(&mut self, what: Count) -> Result<(), Overload> {
        self.push(Action::Count(what))
    }

    /// Makes the whole shard panic when the call has returned: how tests show that the others go on.
    ///
    /// # Errors
    /// The call has asked for too much.
    pub fn crash_shard(&mut self) -> Result<(), Overload> {
        self.push(Action::CrashShard)
    }

    fn push(&mut self, action: Action) -> Result<(), Overload> {
        if self.actions.len() as u64 >= self.limits.actions_max {
            return Err(Overload);
        }
        self.actions.push_back(action);
        Ok(())
    }
}
