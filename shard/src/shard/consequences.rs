//! What follows from a message, a mail or a timer: the application's actions, the rooms' effects, and the
//! mail of the shard to itself, worked off until nothing is left.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::Core;
use crate::app::{Action, App, Context};
use crate::close_reason::CloseReason;
use crate::compression::Outgoing;
use crate::connection::{Pace, State};
use crate::connection_id::ConnectionId;
use crate::driver::ConnectionKey;
use crate::hub::event::{ErrorCode, Event};
use crate::hub::{Effect, Name, Target};
use crate::outbox::{Origin, Role, SlowConsumer};
use crate::rights::Rights;
use crate::stats::ShardStats;
use crate::ws::close::TOO_MANY_CONNECTIONS;
use crate::ws::frame;

/// Encodes an event as one message, shared by everybody who is sent it.
pub(super) fn encode<A: App>(
    app: &mut A,
    event: &Event,
    role: Role,
    scratch: &mut Vec<u8>,
    stats: &ShardStats,
) -> Option<Outgoing> {
    scratch.clear();
    let encoded = catch_unwind(AssertUnwindSafe(|| app.encode(event, scratch)));
    let Ok(kind) = encoded else {
        stats.panics.add(1);
        tracing::error!("the application panicked while it encoded an event; the event is dropped");
        return None;
    };
    Some(Outgoing::new(kind?, scratch, role))
}

/// The room that an event is told of, where its policy for slow consumers may concern it: a message, and what says where its members stand.
fn room_of(event: &Event) -> Option<&Name> {
    match event {
        Event::Message(message) => match &message.target {
            Target::Room(room) => Some(room),
            Target::Inbox(_) => None,
        },
        Event::Joined { room, .. } | Event::Left { room, .. } | Event::Reset { room, .. } => {
            Some(room)
        }
        _ => None,
    }
}

/// What the policy of its room may do with an event.
fn role_of(event: &Event, policy: SlowConsumer) -> Role {
    let Some(room) = room_of(event) else {
        return Role::Kept;
    };
    let origin = |seq| Origin {
        room: room.clone(),
        seq,
    };
    match (policy, event) {
        (SlowConsumer::Disconnect, _) => Role::Kept,
        (SlowConsumer::DropOldest, Event::Message(message)) => Role::Droppable(origin(message.seq)),
        (SlowConsumer::DropOldest, _) => Role::Kept,
        (SlowConsumer::Conflate, Event::Message(message)) => Role::Latest(origin(message.seq)),
        (SlowConsumer::Conflate, _) => Role::Fence(room.clone()),
    }
}

impl<A: App> Core<A> {
    /// Carries out all that follows. Effects go first: the rooms expect those of one call to be done before the next call.
    pub(super) fn work_off(&mut self) {
        loop {
            if !self.effects.is_empty() {
                let mut effects = std::mem::take(&mut self.effects);
                for effect in effects.drain(..) {
                    self.apply(effect);
                }
                // Applying makes no effects, so the list and its memory can be taken back.
                self.effects = effects;
            } else if let Some(action) = self.actions.pop_front() {
                self.perform(action);
            } else if let Some(key) = self.opened.pop_front() {
                self.opened(key);
            } else if let Some(key) = self.refused.pop_front() {
                self.stats.close_user_connections.add(1);
                let reason = "too many connections of this user";
                let why = CloseReason::TooManyOfUser;
                self.end(key, why, TOO_MANY_CONNECTIONS, reason, State::Closing);
            } else if let Some(key) = self.table.next_too_slow() {
                self.close_slow_consumer(key);
            } else if let Some(mail) = self.local.pop_front() {
                self.hub
                    .handle(self.id, mail, self.clock, &mut self.effects);
            } else {
                break;
            }
        }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Mail { to, mail } if to == self.id => self.local.push_back(mail),
            Effect::Mail { to, mail } => self.post.send(to, mail),
            Effect::Opened { key } => self.opened.push_back(key),
            Effect::Refused { key } => self.refused.push_back(key),
            Effect::ToMember { key, event } => {
                if self.permits_answer(key, &event) {
                    self.send_event(key, &event);
                }
            }
            Effect::Joined {
                key,
                room,
                position,
                members,
                missed,
            } => {
                let rights = self.grants.rights_in(key.slot, &room);
                // The joiner counts too, so none at all says that presence is off.
                let may_know = rights.contains(Rights::PRESENCE) && members > 0;
                // The right may have gone since it asked.
                let missed = missed.filter(|_| rights.contains(Rights::HISTORY));
                let missed = missed.filter(|missed| {
                    let has_room = self.table.has_room_for(key, missed);
                    self.stats.recoveries_refused.add(u64::from(!has_room));
                    has_room
                });
                let recovered = missed.is_some();
                let may_drop = self.hub.room_policy(&room) == SlowConsumer::DropOldest;
                let joined = Event::Joined {
                    room: room.clone(),
                    position,
                    members: may_know.then_some(members),
                    recovered,
                };
                self.send_event(key, &joined);
                for message in missed.into_iter().flatten() {
                    let origin = may_drop.then(|| Origin {
                        room: room.clone(),
                        seq: message.seq,
                    });
                    self.table.queue_missed(key, message, origin);
                }
            }
            Effect::ToSlice {
                slice,
                event,
                taken_us,
            } => {
                let before = self.stats.deliveries_sent.value();
                let role = role_of(&event, self.hub.slice_policy(slice));
                let Some(mut message) = self.message(&event, role) else {
                    return;
                };
                let members = self.hub.slice_members(slice);
                match self.grants.audience(&event) {
                    None => members.for_each(|key| self.table.queue(key, &mut message)),
                    Some(mut audience) => members
                        .filter(|key| audience.includes(key.slot))
                        .for_each(|key| self.table.queue(key, &mut message)),
                }
                if let Some(taken_us) = taken_us {
                    let deliveries = self.stats.deliveries_sent.value() - before;
                    self.measuring.delivered(taken_us, deliveries);
                    self.note_traffic(&event, deliveries);
                }
            }
            Effect::Occupancy { room, occupancy } => {
                self.call_app(|app, context| app.on_occupancy(context, &room, occupancy));
            }
            Effect::ToUser {
                user,
                event,
                taken_us,
            } => {
                let before = self.stats.deliveries_sent.value();
                let Some(mut message) = self.message(&event, Role::Kept) else {
                    return;
                };
                for key in self.hub.user_connections(&user) {
                    self.table.queue(key, &mut message);
                }
                let deliveries = self.stats.deliveries_sent.value() - before;
                self.measuring.delivered(taken_us, deliveries);
            }
        }
    }

    fn perform(&mut self, mut action: Action) {
        if !self.permits(&mut action) {
            return;
        }
        match action {
            Action::Send {
                connection,
                kind,
                payload,
            } => {
                let mut message = Outgoing::new(kind, &payload, Role::Kept);
                self.table.queue(connection, &mut message);
            }
            Action::SendEvent { connection, event } => self.send_event(connection, &event),
            Action::Close {
                connection,
                code,
                reason,
            } => {
                let why = CloseReason::Application(code);
                self.end(connection, why, code, &reason, State::Closing);
            }
            Action::Join {
                connection,
                room,
                since,
            } => {
                let joined = self
                    .hub
                    .join(connection, room.clone(), since, &mut self.effects);
                self.report(connection, joined, None, Some(room));
            }
            Action::Leave { connection, room } => {
                let left = self.hub.leave(connection, &room, &mut self.effects);
                self.report(connection, left, None, Some(room));
            }
            Action::Publish {
                connection,
                target,
                content,
                id,
            } => self.publish(connection, target, content, id),
            Action::PublishFromServer(publication) => {
                self.hub.publish_from_server(publication, &mut self.effects);
            }
            Action::Presence { connection, room } => {
                self.hub.presence(connection, room, &mut self.effects);
            }
            Action::History {
                connection,
                room,
                since,
                limit,
            } => {
                self.hub
                    .history(connection, room, since, limit, &mut self.effects);
            }
            Action::Renew { connection, grant } => self.renew(connection, grant),
            Action::Count(what) => self.stats.count(what),
            #[expect(clippy::panic, reason = "the application asked for exactly this")]
            Action::CrashShard => panic!("the application asked for the shard to crash"),
        }
    }

    /// Publishes what a connection may publish.
    pub(super) fn publish_now(
        &mut self,
        key: ConnectionKey,
        target: Target,
        content: Bytes,
        id: Option<Name>,
    ) {
        let room = match &target {
            Target::Room(room) => Some(room.clone()),
            Target::Inbox(_) => None,
        };
        let published = self.hub.publish(
            key,
            target,
            content,
            id.clone(),
            self.clock,
            &mut self.effects,
        );
        self.report(key, published, id, room);
    }

    fn report(
        &mut self,
        key: ConnectionKey,
        result: Result<(), ErrorCode>,
        id: Option<Name>,
        room: Option<Name>,
    ) {
        let Err(code) = result else { return };
        self.stats.bad_requests.add(1);
        let message = match code {
            ErrorCode::NotJoined => "join the room first".into(),
            ErrorCode::TooManyRooms => ecow::eco_format!(
                "a connection may be in {} rooms",
                self.limits.rooms_per_connection_max
            ),
            ErrorCode::TooLarge => ecow::eco_format!(
                "the content of a message to this room may have {} bytes",
                self.hub
                    .message_size_max(room.as_deref().unwrap_or_default())
            ),
            ErrorCode::Forbidden => "only the server publishes in this room".into(),
            ErrorCode::BadRequest
            | ErrorCode::RateLimited
            | ErrorCode::Unavailable
            | ErrorCode::Unauthorized => code.as_str().into(),
        };
        self.send_error(key, code, message, id, room);
    }

    fn message(&mut self, event: &Event, role: Role) -> Option<Outgoing> {
        encode(&mut self.app, event, role, &mut self.scratch, &self.stats)
    }

    /// Sends an event to one connection.
    pub(super) fn send_event(&mut self, key: ConnectionKey, event: &Event) {
        let role = match room_of(event) {
            Some(room) => role_of(event, self.hub.room_policy(room)),
            None => Role::Kept,
        };
        if let Some(mut message) = self.message(event, role) {
            self.spend_answer(key, self.scratch.len());
            self.table.queue(key, &mut message);
        }
    }

    /// Calls the application outside of any message. A panic is counted, and nothing of what the call had asked for is done; then there is no answer.
    pub(super) fn call_app<T>(
        &mut self,
        call: impl FnOnce(&mut A, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let actions_before = self.actions.len();
        let mut context = Context::new(
            self.clock,
            self.id,
            &self.limits,
            &mut self.random,
            &mut self.actions,
            &mut self.deadlines.app_timer_ms,
            &self.hub,
        );
        let app = &mut self.app;
        let called = catch_unwind(AssertUnwindSafe(|| call(app, &mut context))).ok();
        if called.is_none() {
            self.stats.panics.add(1);
            self.actions.truncate(actions_before);
        }
        called
    }

    /// Takes a connection away from the rooms and from the application: nothing more is sent to it but its last words.
    /// The caller says what it is from now on; until then it is [`State::Closing`].
    pub(super) fn retire(&mut self, key: ConnectionKey, why: CloseReason) {
        let Some(connection) = self.table.find(key) else {
            return;
        };
        let before = connection.state;
        if !matches!(
            before,
            State::Unnamed | State::Held | State::Opening | State::Open
        ) {
            return;
        }
        connection.state = State::Closing;
        self.log_close(key, why);
        self.grants.remove(key.slot);
        self.held.forget(key.slot);
        if before == State::Open {
            self.call_app(|app, context| app.on_close(context, key, why));
        }
        self.hub.member_close(key, &mut self.effects);
    }

    fn log_close(&mut self, key: ConnectionKey, why: CloseReason) {
        if !why.is_abnormal() || !self.close_log.may_log(self.clock.monotonic_ms()) {
            return;
        }
        let connection = ConnectionId {
            shard: self.id,
            key,
        };
        // The rooms know whose it is, or whoever waits to be let in has said so.
        let user = self.hub.member_user(key);
        let user = user.or_else(|| self.held.user(key.slot)).map(Name::as_str);
        tracing::info!(%connection, user, reason = %why, "a connection has ended");
    }

    /// Says how many lines about ended connections were left out, once it is time.
    pub(super) fn log_left_out(&mut self) {
        if let Some(left_out) = self.close_log.take_left_out(self.clock.monotonic_ms()) {
            tracing::warn!(
                shard = self.id,
                left_out,
                "more connections have ended than are logged one by one"
            );
        }
    }

    /// Ends an open connection with a close frame. `then` is [`State::Closing`] where the peer's close frame is
    /// waited for, [`State::Finishing`] where nothing it says matters any more.
    pub(super) fn end(
        &mut self,
        key: ConnectionKey,
        why: CloseReason,
        code: u16,
        reason: &str,
        then: State,
    ) {
        match self.table.state(key) {
            State::Unnamed | State::Held | State::Opening | State::Open => {
                self.retire(key, why);
                self.table.queue_last(key, frame::close(code, reason));
            }
            // The close frame was sent before; what the peer says now ends it.
            State::Closing if then == State::Finishing => {}
            _ => return,
        }
        self.await_close(key, then);
    }

    /// The peer has sent its close frame: an answer, or the beginning of the close handshake (RFC 6455 §5.5.1).
    pub(super) fn closed_by_peer(&mut self, key: ConnectionKey, code: Option<u16>) {
        if matches!(self.table.state(key), State::Unnamed | State::Open) {
            self.retire(key, CloseReason::Peer(code));
            self.table.queue_last(key, frame::close(code, ""));
        }
        self.await_close(key, State::Leaving);
    }

    pub(super) fn await_close(&mut self, key: ConnectionKey, then: State) {
        if let Some(connection) = self.table.find(key) {
            connection.state = then;
            connection.pace = Pace::Free;
            self.deadlines.set(
                key.slot,
                self.clock.monotonic_ms() + self.limits.close_ms_max,
            );
        }
        if then == State::Closing {
            self.resume(key);
        } else {
            self.table.drop_stash(key);
        }
        self.table.mark_dirty(key);
    }

    fn close_slow_consumer(&mut self, key: ConnectionKey) {
        if self.table.state(key) == State::Open {
            self.stats.close_slow_consumer.add(1);
            self.table.clear_waiting(key);
            self.end(
                key,
                CloseReason::SlowConsumer,
                1013,
                "too slow: reconnect and recover from the history",
                State::Closing,
            );
        }
    }
}
