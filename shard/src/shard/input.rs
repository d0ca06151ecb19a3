//! From received bytes to the application: decoding, within a connection's share of the pass.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::Core;
use super::table::Table;
use crate::app::{App, Context, Dismissal};
use crate::close_reason::CloseReason;
use crate::connection::{Connection, Flags, Pace, State, TooFast};
use crate::driver::ConnectionKey;
use crate::hub::Name;
use crate::hub::event::{ErrorCode, Event};
use crate::rights::Identity;
use crate::ws::deflate::Agreement;
use crate::ws::{Incoming, Input, frame, handshake};

/// What one step of decoding came to. Owns what it needs, so that it outlives the bytes.
enum Heard {
    /// The input is used up.
    Nothing,
    /// Nothing that needs an answer.
    Sign,
    Message {
        /// What it took, or inflated to.
        bytes: usize,
        compressed: bool,
    },
    /// The message that says whose connection it is, or does not.
    FirstMessage {
        bytes: usize,
        compressed: bool,
        named: Result<Identity, Dismissal>,
    },
    Upgrade {
        response: Bytes,
        identity: Option<Identity>,
        agreement: Option<Agreement>,
    },
    Refused {
        response: Bytes,
    },
    Ping {
        pong: Bytes,
    },
    Closed {
        code: Option<u16>,
    },
    Broken {
        code: u16,
        reason: String,
    },
    Panicked,
}

impl Heard {
    /// What it counts for in the connection's share of a pass.
    fn share(&self) -> u64 {
        match self {
            Self::Message { bytes, compressed }
            | Self::FirstMessage {
                bytes, compressed, ..
            } => counted(*bytes, bytes_per_share(*compressed)),
            // How much of a message there was to inflate before is not known.
            Self::Broken { .. } => u64::MAX,
            _ => 1,
        }
    }
}

/// Bytes that a message may take, or inflate to, and count for one against the connection's rate: few bytes can grow a thousandfold, and
/// many may inflate to nothing.
const BYTES_PER_MESSAGE: usize = 16 * 1024;

/// The same for what is done in one pass, where a message of many bytes keeps all others waiting.
const BYTES_PER_SHARE: usize = 4 * 1024;

/// The same for messages that came compressed: it takes ten times as long to inflate a byte as to handle it, and whoever sends them has sent a
/// hundredth of that. By default a pass inflates no more than 64 KiB of what waits, but for its last message.
const INFLATED_BYTES_PER_SHARE: usize = 256;

const fn bytes_per_share(compressed: bool) -> usize {
    match compressed {
        true => INFLATED_BYTES_PER_SHARE,
        false => BYTES_PER_SHARE,
    }
}

/// Messages that a connection is heard at once where its bytes arrive. If it has sent more, the others come first.
pub(super) const FIRST_MESSAGES: u64 = 4;

/// What so many bytes count for, at least one.
fn counted(bytes: usize, bytes_per_count: usize) -> u64 {
    bytes.div_ceil(bytes_per_count).max(1) as u64
}

impl<A: App> Core<A> {
    /// Bytes of a connection arrived from the network.
    pub(super) fn arrived(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        let Some(connection) = self.table.find(key) else {
            self.stats.stale_completions.add(1);
            return;
        };
        self.stats.bytes_received.add(bytes.len() as u64);
        connection.note_received();
        match self.table.is_tls() {
            true => self.received_records(key, bytes),
            false => self.received(key, bytes),
        }
    }

    /// Bytes of a connection are to be decoded.
    pub(super) fn received(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        let Some(connection) = self.table.find(key) else {
            return;
        };
        if connection.has(Flags::STASHED) {
            self.table.stash(key, bytes);
            return;
        }
        let share = self
            .limits
            .messages_per_pass_max
            .min(FIRST_MESSAGES)
            .min(self.pass_left);
        let consumed = match self.is_heavy(key) {
            true => 0,
            false => self.decode(key, bytes, share),
        };
        if consumed < bytes.len() {
            self.table.stash(key, &bytes[consumed..]);
            self.resume(key);
        }
        self.table.mark_dirty(key);
    }

    /// Whether the connection has used up so much of what it may send that the others come first.
    fn is_heavy(&mut self, key: ConnectionKey) -> bool {
        let (burst, few) = (
            self.limits.messages_burst_max,
            self.limits.messages_per_pass_max,
        );
        self.limits.messages_per_second_max > 0
            && self
                .table
                .find(key)
                .is_some_and(|connection| connection.allowance.is_behind(few, burst))
    }

    /// Decodes what waits, of each connection its share in turn, until all of them together have had theirs.
    pub(super) fn decode_ready(&mut self) -> bool {
        if self.post.is_blocked() {
            return false;
        }
        let count = self.turns.len();
        // However much has just arrived, the line moves on.
        self.pass_left = self.pass_left.max(self.limits.messages_per_pass_max);
        for _ in 0..count {
            if self.pass_left == 0 {
                break;
            }
            let Some(key) = self.turns.pop() else {
                break;
            };
            let Some(connection) = self.table.find(key) else {
                continue;
            };
            connection.flags.remove(Flags::READY);
            let Some(mut stash) = self.table.take_stash(key) else {
                continue;
            };
            // Whole, also where the pass is nearly over: whoever is cut short would have to wait for another round each time.
            let share = self.limits.messages_per_pass_max;
            let consumed = self.decode(key, stash.waiting(), share);
            stash.consume(consumed);
            if !stash.is_empty() {
                self.table.put_stash(key, stash);
                self.resume(key);
            } else if self
                .table
                .find(key)
                .is_some_and(|connection| connection.has(Flags::PEER_ENDED))
            {
                self.peer_ended(key);
            }
            self.table.mark_dirty(key);
        }
        count > 0
    }

    /// Puts a connection with bytes to decode on the list, unless something holds it up; whoever takes
    /// that away calls this again.
    pub(super) fn resume(&mut self, key: ConnectionKey) {
        if !self.table.may_decode(key) {
            return;
        }
        let is_heavy = self.is_heavy(key);
        if let Some(connection) = self.table.find(key)
            && connection.has(Flags::STASHED)
            && !connection.has(Flags::READY)
        {
            connection.flags.insert(Flags::READY);
            self.turns.push(key, is_heavy);
        }
    }

    /// Decodes and handles until the input is used up or the connection has had its share; answers how many bytes are done with.
    fn decode(&mut self, key: ConnectionKey, bytes: &mut [u8], share: u64) -> usize {
        let length = bytes.len();
        let mut input = Input::new(bytes);
        let mut count: u64 = 0;
        loop {
            // The step that finds nothing more is no message: it gives the memory of the last one back.
            let has_share = count < share || input.is_empty();
            if !has_share || !self.may_decode(key, input.is_empty()) {
                break;
            }
            let before = input.remaining().len();
            let heard = self.step(key, &mut input);
            if self.byte_rates.is_on() {
                let bytes = before - input.remaining().len();
                self.byte_rates
                    .spend(key.slot, bytes, self.clock.monotonic_ms());
            }
            if matches!(heard, Heard::Nothing) {
                break;
            }
            count = count.saturating_add(heard.share());
            // Answers that others were given meanwhile are not this message's.
            self.answer_bytes = 0;
            self.answer(key, heard);
            self.work_off();
            let answered = std::mem::take(&mut self.answer_bytes) / BYTES_PER_SHARE;
            count = count.saturating_add(answered as u64);
        }
        self.pass_left = self.pass_left.saturating_sub(count);
        match self.table.state(key).decodes() {
            true => length - input.remaining().len(),
            false => length,
        }
    }

    fn may_decode(&mut self, key: ConnectionKey, used_up: bool) -> bool {
        if used_up {
            // One more step gives the memory of a message back that was put together from pieces.
            return self.table.state(key).decodes();
        }
        if self.post.is_blocked() || !self.table.may_decode(key) {
            return false;
        }
        let Some(connection) = self.table.find(key) else {
            return false;
        };
        let (rate, burst) = (
            self.limits.messages_per_second_max,
            self.limits.messages_burst_max,
        );
        let is_bounded = rate > 0 || self.byte_rates.is_on();
        if !is_bounded || !matches!(connection.state, State::Unnamed | State::Open) {
            return true;
        }
        let now_ms = self.clock.monotonic_ms();
        let Connection {
            allowance, pace, ..
        } = connection;
        if rate > 0
            && let Err(too_fast) = allowance.check(pace, rate, burst, now_ms)
        {
            self.slow_down(key, too_fast, format_args!("{rate} messages"));
            return false;
        }
        if self.byte_rates.is_on()
            && let Err(too_fast) = self.byte_rates.check(key.slot, now_ms)
        {
            *pace = Pace::Limited;
            let rate = self.byte_rates.rate();
            self.slow_down(key, too_fast, format_args!("{rate} bytes"));
            return false;
        }
        true
    }

    /// A connection has used up what it may send, so much a second.
    fn slow_down(&mut self, key: ConnectionKey, too_fast: TooFast, rate: fmt::Arguments<'_>) {
        let due_ms = self.clock.monotonic_ms() + too_fast.wait_ms;
        self.deadlines.resume_at(key, due_ms);
        if too_fast.tell {
            self.stats.rate_limited.add(1);
            let message = ecow::eco_format!(
                "more than {rate} a second; this connection is now read at that rate"
            );
            self.send_error(key, ErrorCode::RateLimited, message, None, None);
        }
    }

    /// Takes one event out of the input. Whatever panics in here is this connection's fault alone.
    fn step(&mut self, key: ConnectionKey, input: &mut Input<'_>) -> Heard {
        let Self {
            app,
            table,
            actions,
            random,
            limits,
            clock,
            deadlines,
            hub,
            ..
        } = self;
        let Table {
            connections,
            windows,
            ..
        } = table;
        let Some(connection) = connections.find(key) else {
            return Heard::Nothing;
        };
        let actions_before = actions.len();
        let mut context = Context::new(
            *clock,
            self.id,
            limits,
            random,
            actions,
            &mut deadlines.app_timer_ms,
            hub,
        );
        let state = connection.state;
        let policy = windows.policy();
        let session_limits = match state {
            State::Unnamed => &self.first_message_limits,
            _ => &self.session_limits,
        };
        let heard = catch_unwind(AssertUnwindSafe(|| {
            let inflater = windows.inflater(key.slot, connection.session.agreement());
            let Some(incoming) = connection.session.next(input, session_limits, inflater) else {
                return Heard::Nothing;
            };
            match incoming {
                Incoming::Upgrade(request) => match app.on_upgrade(&mut context, &request) {
                    Ok(admission) => {
                        let agreement = policy.and_then(|policy| policy.negotiate(&request));
                        let protocol = admission.protocol.as_deref();
                        Heard::Upgrade {
                            response: handshake::response(&request, protocol, agreement.as_ref()),
                            identity: admission.identity,
                            agreement,
                        }
                    }
                    Err(refusal) => Heard::Refused {
                        response: refusal.response(),
                    },
                },
                Incoming::Rejected(rejection) => Heard::Refused {
                    response: rejection.response(),
                },
                Incoming::Message(message) => {
                    let compressed = message.compressed_size.is_some();
                    let bytes = message
                        .compressed_size
                        .unwrap_or(0)
                        .max(message.payload.len());
                    if state == State::Unnamed {
                        return Heard::FirstMessage {
                            bytes,
                            compressed,
                            named: app.on_first_message(&mut context, message),
                        };
                    }
                    if state == State::Open {
                        app.on_message(&mut context, key, message);
                    }
                    Heard::Message { bytes, compressed }
                }
                Incoming::Ping(payload) => Heard::Ping {
                    pong: frame::pong(payload),
                },
                Incoming::Pong(_) | Incoming::Fragments => Heard::Sign,
                Incoming::Close { code, .. } => Heard::Closed { code },
                Incoming::Violation(violation) => Heard::Broken {
                    code: violation.code(),
                    reason: violation.to_string(),
                },
            }
        }));
        heard.unwrap_or_else(|_| {
            actions.truncate(actions_before);
            Heard::Panicked
        })
    }

    fn answer(&mut self, key: ConnectionKey, heard: Heard) {
        match heard {
            Heard::Nothing => {}
            Heard::Sign => self.spend(key, 1),
            Heard::Message { bytes, compressed } => self.count_message(key, bytes, compressed),
            Heard::FirstMessage {
                bytes,
                compressed,
                named,
            } => {
                self.count_message(key, bytes, compressed);
                match named {
                    Ok(identity) => self.name(key, identity),
                    Err(Dismissal { code, reason }) => {
                        self.stats.close_unnamed.add(1);
                        let why = CloseReason::Unnamed(code);
                        self.end(key, why, code, &reason, State::Closing);
                    }
                }
            }
            Heard::Upgrade {
                response,
                identity,
                agreement,
            } => self.open(key, response, identity, agreement),
            Heard::Refused { response } => {
                self.stats.handshakes_rejected.add(1);
                self.refuse(key, response);
            }
            Heard::Ping { pong } => {
                self.spend(key, 1);
                self.table.queue_pong(key, pong);
            }
            Heard::Closed { code } => self.closed_by_peer(key, code),
            Heard::Broken { code, reason } => {
                self.stats.close_protocol.add(1);
                let why = CloseReason::Protocol(code);
                self.end(key, why, code, &reason, State::Finishing);
            }
            Heard::Panicked => self.panicked(key),
        }
    }

    fn count_message(&mut self, key: ConnectionKey, bytes: usize, compressed: bool) {
        self.stats.messages_received.add(1);
        self.stats.messages_inflated.add(u64::from(compressed));
        self.spend(key, counted(bytes, BYTES_PER_MESSAGE));
    }

    /// What the connection sent, or is answered, counts for so many of the messages that it may send.
    fn spend(&mut self, key: ConnectionKey, count: u64) {
        if let Some(connection) = self.table.find(key) {
            connection.allowance.spend(count);
        }
    }

    /// A large answer is more work than the request for it.
    pub(super) fn spend_answer(&mut self, key: ConnectionKey, bytes: usize) {
        self.answer_bytes += bytes;
        self.spend(key, (bytes / BYTES_PER_MESSAGE) as u64);
    }

    /// An upgrade request was accepted.
    fn open(
        &mut self,
        key: ConnectionKey,
        response: Bytes,
        identity: Option<Identity>,
        agreement: Option<Agreement>,
    ) {
        let Some(connection) = self.table.find(key) else {
            return;
        };
        connection.state = State::Unnamed;
        if let Some(agreement) = agreement {
            connection.session.agree(agreement);
            self.table.windows.open(key.slot, agreement);
            self.stats.compression_agreed.add(1);
        }
        self.table.queue_response(key, response);
        self.stats.handshakes_accepted.add(1);
        if let Some(identity) = identity {
            self.name(key, identity);
        }
    }

    /// The connection may come in. The application hears of it when the rooms know it.
    pub(super) fn admit(&mut self, key: ConnectionKey, identity: Identity) {
        let Some(connection) = self.table.find(key) else {
            return;
        };
        connection.state = State::Opening;
        if self.grant(key, identity.grant) {
            self.hub.member_open(key, identity.user, &mut self.effects);
        }
    }

    /// The rooms know the connection.
    pub(super) fn opened(&mut self, key: ConnectionKey) {
        let Some(connection) = self.table.find(key) else {
            return;
        };
        let Some(user) = self.hub.member_user(key).cloned() else {
            return;
        };
        connection.state = State::Open;
        connection.flags.insert(Flags::ALIVE);
        self.set_first_heartbeat(key);
        let told = self.call_app(|app, context| app.on_open(context, key, &user));
        if told.is_none() {
            self.panicked(key);
        }
        self.resume(key);
    }

    /// The application or the session panicked over this connection: it is closed, nothing else happens.
    pub(super) fn panicked(&mut self, key: ConnectionKey) {
        self.stats.close_panic.add(1);
        tracing::error!(
            shard = self.id,
            slot = key.slot,
            "a connection's handling panicked; it is closed 1011"
        );
        if self.table.state(key) == State::Handshake {
            self.terminate(key, CloseReason::Panic);
        } else {
            let why = CloseReason::Panic;
            self.end(key, why, 1011, "internal error", State::Finishing);
        }
    }

    /// Tells a connection that its request failed.
    pub(super) fn send_error(
        &mut self,
        key: ConnectionKey,
        code: ErrorCode,
        message: Name,
        id: Option<Name>,
        room: Option<Name>,
    ) {
        self.send_event(
            key,
            &Event::Error {
                code,
                message,
                id,
                room,
            },
        );
    }
}
