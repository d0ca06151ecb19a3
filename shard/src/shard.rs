//! The one loop of a shard.
//!
//! [`Shard::tick`] is a plain synchronous function over a [`Driver`]: the executor and the simulator
//! decide when to call it, and nothing else. A pass submits and reaps, handles what completed, drains mail, fires
//! timers, and then settles every connection that something happened to, once.
//!
//! The parts of a pass live in the modules below: `accepting` lets connections in or turns them away, `input` decodes what connections sent, `consequences`
//! carries out what the application and the rooms want, `grants` says what of that connections may do, `deadlines` is everything that happens by time, `encrypted`
//! takes TLS off what was received, `held` is what waits for a decision from outside, `ordering` carries out what other threads order, `stopping` ends the shard,
//! `table` holds the connections, `measuring` is what operators want to know of it all.

mod accepting;
mod coalescing;
mod consequences;
mod deadlines;
mod encrypted;
mod grants;
mod held;
mod input;
mod measuring;
mod ordering;
mod stopping;
mod table;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
mod turns;
mod watching;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::admission::Admission;
use crate::app::{Action, App};
use crate::byte_rate::ByteRates;
use crate::close_reason::{CloseReason, LogPace};
use crate::compression::Compression;
use crate::connection::{Flags, Pace, Receiving, State};
use crate::driver::{Clock, Completion, ConnectionKey, Driver, ReceiveEnd, ShardId};
use crate::error::FatalError;
use crate::hub::mail::Mail;
use crate::hub::{Effects, Hub, HubCounts};
use crate::limits::Limits;
use crate::orders::{Order, Publication};
use crate::outbox::{Backlog, Role, SlowConsumer};
use crate::post::{Post, ShardMesh};
use crate::random::Random;
use crate::room_settings::{RoomKinds, RoomSettings};
use crate::stats::ShardStats;
use crate::verdict::{Hooks, Verdict};
use crate::ws::SessionLimits;
use rustls::ServerConfig;

pub use accepting::TABLE_RESERVE;
use coalescing::{Coalescing, Sent};
use deadlines::Deadlines;
use grants::Grants;
use held::Held;
use measuring::Measuring;
pub use stopping::StopPlan;
use stopping::Stopping;
use table::Table;
use turns::Turns;
use watching::Watch;

/// What a shard is made from besides its driver and its application.
pub struct ShardOptions {
    /// Its number.
    pub id: ShardId,
    /// How many there are.
    pub shards: u16,
    /// The bounds.
    pub limits: Arc<Limits>,
    /// What happens to a consumer that is too slow, in rooms whose settings say nothing else.
    pub slow_consumer: SlowConsumer,
    /// What is special in rooms of some names; see [`room_settings::check`](crate::room_settings::check).
    pub rooms: Arc<[RoomSettings]>,
    /// What clients that offer compression are answered.
    pub compression: Compression,
    /// Certificates and what else is agreed on in a handshake of TLS; without it connections are not encrypted.
    pub tls: Option<Arc<ServerConfig>>,
    /// Direct descriptors of the ring; some of them are kept for telling connections that the shard is full.
    pub table_size: u32,
    /// Keys the hash that chooses homes: the same on every shard of a process.
    pub hash_seed: u64,
    /// Starts the shard's own random numbers.
    pub random_seed: u64,
    /// The time at which the first shard of the process started, which writes it. Outlives the shards.
    pub origin: Arc<OnceLock<Clock>>,
    /// The bounds over all shards.
    pub admission: Arc<Admission>,
    /// Where the shard counts.
    pub stats: Arc<ShardStats>,
    /// The mailboxes.
    pub mesh: Arc<ShardMesh>,
}

/// Orders from an ordinary thread to a shard.
#[derive(Debug)]
pub enum Control {
    /// Close every connection and end. Overtakes orders that wait.
    Stop(StopPlan),
    /// Anything else. Orders wait, in order, while a mailbox of another shard is full. Boxed, as a channel holds places for many.
    Order(Box<Order>),
}

impl From<Publication> for Control {
    /// The order to publish, unanswered.
    fn from(publication: Publication) -> Self {
        Self::Order(Box::new(Order::Publish {
            publication,
            reply: None,
        }))
    }
}

impl From<Verdict> for Control {
    fn from(verdict: Verdict) -> Self {
        Self::Order(Box::new(Order::Verdict(verdict)))
    }
}

/// What a pass of the loop came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Something was done, or is left to do: call again.
    Busy,
    /// Nothing to do before the monotonic time given, unless a completion or mail comes.
    Idle {
        /// In microseconds; `None` where no timer runs.
        until_us: Option<u64>,
    },
    /// The shard was told to stop and has.
    Stopped,
}

/// What a shard holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCounts {
    /// Connections in whatever state.
    pub connections: usize,
    /// Connections with output waiting or in flight.
    pub outboxes: usize,
    /// Bytes of that output, as of when each connection was settled last.
    pub outbox_bytes: usize,
    /// Connections that something happened to, and whose output waits to leave together with more (`coalesce_us_max`).
    pub unsettled: usize,
    /// Connections with compression windows of their own.
    pub dedicated_windows: usize,
    /// Connections that have a grant.
    pub grants: usize,
    /// Connections that wait for a verdict.
    pub held: usize,
    /// Mails that wait for a full mailbox.
    pub mails_waiting: usize,
    /// The rooms' part.
    pub hub: HubCounts,
}

/// One shard: its driver, and everything it owns.
pub struct Shard<D: Driver, A: App> {
    driver: D,
    core: Core<A>,
    completions: Vec<Completion>,
}

/// Everything of a shard but its driver.
pub(crate) struct Core<A: App> {
    id: ShardId,
    limits: Arc<Limits>,
    session_limits: SessionLimits,
    /// While it is not known whose a connection is: its message may be as large as its handshake might have been.
    first_message_limits: SessionLimits,
    connections_max: usize,
    clock: Clock,
    app: A,
    hub: Hub,
    /// What the application wants to be asked and told.
    hooks: Hooks,
    table: Table,
    grants: Grants,
    held: Held,
    close_log: LogPace,
    deadlines: Deadlines,
    coalescing: Coalescing,
    measuring: Measuring,
    /// While somebody watches.
    watch: Option<Box<Watch>>,
    post: Post,
    admission: Arc<Admission>,
    stats: Arc<ShardStats>,
    random: Random,
    stopping: Option<Stopping>,
    accepting: bool,
    accept_stop_submitted: bool,
    /// Connections that were not let in and are not gone yet: they take no place of those who may come in.
    turned_away: usize,
    byte_rates: ByteRates,
    /// With bytes left to decode.
    turns: Turns,
    /// What is left of the messages that this pass may handle.
    pass_left: u64,
    /// Bytes of the answers that the message at hand was given.
    answer_bytes: usize,
    /// Orders that wait while a mailbox is full.
    orders: VecDeque<Box<Order>>,
    /// Mail of this shard to itself.
    local: VecDeque<Mail>,
    actions: VecDeque<Action>,
    /// Known to the rooms, and not yet to the application.
    opened: VecDeque<ConnectionKey>,
    /// Not let in by the rooms; to be closed.
    refused: VecDeque<ConnectionKey>,
    effects: Effects,
    scratch: Vec<u8>,
    /// What was decrypted of the bytes at hand.
    plain: Vec<u8>,
}

impl<D: Driver, A: App> Shard<D, A> {
    /// A shard that has not accepted anything yet.
    pub fn new(driver: D, app: A, options: ShardOptions) -> Self {
        let clock = driver.clock();
        let origin = *options.origin.get_or_init(|| clock);
        let mut core = Core::new(app, options, clock);
        core.start(origin);
        Self {
            driver,
            core,
            completions: Vec::new(),
        }
    }

    /// One pass of the loop. Never waits.
    ///
    /// # Errors
    /// The ring is unusable: the shard must be dropped.
    pub fn tick(&mut self) -> Result<Progress, FatalError> {
        // What came while the shard was about to sleep is this pass's: its buffers must not be held over another poll.
        if self.completions.is_empty() {
            self.driver.poll(&mut self.completions)?;
        }
        self.core.clock = self.driver.clock();
        self.core.begin();
        self.measure();
        self.core.pass_left = self.core.limits.queued_messages_per_pass_max;
        let mut busy = !self.completions.is_empty();
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            self.handle(completion);
        }
        if !self.driver.is_behind() {
            self.core.table.count_sent_now();
        }
        // Handling adds no completion, so the list and its memory can be taken back.
        self.completions = completions;
        busy |= self.core.take_control();
        busy |= self.core.decode_ready();
        busy |= self.core.drain_mail();
        busy |= self.core.run_due();
        busy |= self.settle();
        self.core.stats.passes.add(1);
        if self.core.has_stopped() {
            return Ok(Progress::Stopped);
        }
        if busy {
            self.core.measuring.busy(self.core.clock.monotonic_us);
            return Ok(Progress::Busy);
        }
        Ok(Progress::Idle {
            until_us: self.core.idle(),
        })
    }

    /// Announces to the other shards that this one sleeps from now on until its driver has a completion; false where there is
    /// something to do after all. [`Shard::sleep`] may follow, [`Shard::awake`] must.
    ///
    /// # Errors
    /// The ring is unusable: the shard must be dropped.
    pub fn fall_asleep(&mut self, until_us: Option<u64>) -> Result<bool, FatalError> {
        // A blocked shard may not take the mail that waits for it, so that must not keep it awake: its deadline is close.
        if !self.core.post.announce_sleep() && !self.core.post.is_blocked() {
            return Ok(false);
        }
        if let Some(until_us) = until_us {
            self.driver.wake_at(until_us);
        }
        self.driver.poll(&mut self.completions)?;
        let asleep = self.completions.is_empty();
        if asleep {
            self.core.stats.sleeps.add(1);
            self.copy_gauges();
        }
        Ok(asleep)
    }

    /// Sleeps as the driver does: `wait` appends what has completed to the list that it is given. The next pass handles it.
    ///
    /// # Errors
    /// What `wait` answers.
    pub fn sleep(
        &mut self,
        wait: impl FnOnce(&mut D, &mut Vec<Completion>) -> Result<(), FatalError>,
    ) -> Result<(), FatalError> {
        wait(&mut self.driver, &mut self.completions)
    }

    /// The shard no longer sleeps.
    pub fn awake(&self) {
        self.core.post.awake();
    }

    /// The driver, for its owner's own needs.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// How long the shard may look for work before it sleeps, in microseconds.
    #[must_use]
    pub fn spin_us_max(&self) -> u64 {
        self.core.limits.spin_us_max
    }

    /// What the shard holds now. Nothing of it is left when every connection is gone and rooms have expired.
    #[must_use]
    pub fn counts(&self) -> ShardCounts {
        self.core.counts()
    }

    /// The most that waits for any one connection. It looks at all of them: for tests.
    #[must_use]
    pub fn largest_backlog(&self) -> Backlog {
        self.core.table.largest_backlog()
    }

    fn handle(&mut self, completion: Completion) {
        let core = &mut self.core;
        match completion {
            Completion::Accepted { slot, peer } => core.accepted(slot, peer),
            Completion::AcceptEnded { error } => core.accept_ended(error),
            Completion::Received {
                key,
                buffer,
                length,
            } => {
                core.arrived(key, self.driver.buffer(buffer, length));
                self.driver.buffer_release(buffer);
            }
            Completion::ReceiveEnded { key, end } => core.receive_ended(key, end),
            Completion::Sent { key, result } => {
                if let Some(rest) = core.sent(key, result) {
                    self.driver.send(key, rest);
                }
            }
            Completion::Unsent { key, rest, error } => {
                if let Some(rest) = core.unsent(key, rest, error) {
                    self.driver.send(key, rest);
                }
            }
            Completion::ShutDown { key } => core.shut_down(key),
            Completion::Closed { key } => core.closed(key),
            // A shard connects to nobody, so this answers nothing of it.
            Completion::Connected { .. } => core.stats.stale_completions.add(1),
            Completion::Woken | Completion::DeadlinePassed => {}
        }
    }

    /// Asks the driver for all that this pass wants of it.
    fn settle(&mut self) -> bool {
        let core = &mut self.core;
        core.settle_accepting(&mut self.driver);
        let Core {
            table,
            app,
            scratch,
            stats,
            ..
        } = core;
        let now_us = core.clock.monotonic_us;
        let held = table.may_wait() && core.coalescing.held_until_us(now_us).is_some();
        // What is handed over now is given to the kernel by the next poll; where the last one has left something undone, nothing is.
        let was_behind = self.driver.is_behind();
        let busy = !held
            && table.settle(&mut self.driver, |late| {
                consequences::encode(app, &late.into_event(), Role::Kept, scratch, stats)
                    .map(|message| message.plain().bytes.clone())
            });
        if busy {
            core.coalescing.settled(now_us);
        }
        if !held && !was_behind {
            core.measuring.handed_over();
        }
        core.stats.passes_coalesced.add(u64::from(held));
        while let Some(key) = core.table.next_unsealable() {
            core.terminate(key, CloseReason::Tls);
        }
        let unblocked = core.post.retry();
        let wakes = core.post.wake(&mut self.driver);
        core.stats.wakes.add(wakes);
        core.stats
            .messages_compressed
            .add(core.table.windows.take_compressed_count());
        core.stats
            .mails_sent
            .add(std::mem::take(&mut core.post.sent_count));
        core.stats
            .mailbox_full
            .add(std::mem::take(&mut core.post.full_count));
        busy || unblocked
    }
}

impl<A: App> Core<A> {
    fn new(app: A, options: ShardOptions, clock: Clock) -> Self {
        let limits = options.limits;
        let kinds = Arc::new(RoomKinds::new(
            &limits,
            options.slow_consumer,
            &options.rooms,
        ));
        let connections_max = limits
            .shard_connections_max
            .min(u64::from(options.table_size.saturating_sub(TABLE_RESERVE)));
        let session_limits = SessionLimits {
            handshake_size_max: limits.handshake_size_max as usize,
            handshake_headers_max: limits.handshake_headers_max as usize,
            message_size_max: limits.message_size_max as usize,
        };
        let hooks = app.hooks();
        let mut hub = Hub::with_kinds(
            options.id,
            options.shards,
            &limits,
            Arc::clone(&kinds),
            options.hash_seed,
        );
        if hooks.contains(Hooks::OCCUPANCY) {
            hub.tell_occupancy();
        }
        let mut random = Random::new(options.random_seed);
        Self {
            id: options.id,
            session_limits,
            first_message_limits: SessionLimits {
                message_size_max: limits.message_size_max.min(limits.handshake_size_max) as usize,
                ..session_limits
            },
            connections_max: connections_max as usize,
            clock,
            app,
            hub,
            hooks,
            table: Table::new(
                &limits,
                kinds.may_drop(),
                options.compression,
                options.tls.clone(),
                Arc::clone(&options.stats),
            ),
            grants: Grants::default(),
            held: Held::new(random.next()),
            close_log: LogPace::new(clock.monotonic_ms()),
            deadlines: Deadlines::new(&limits, options.tls.is_some(), options.random_seed),
            coalescing: Coalescing::new(limits.coalesce_us_max, clock.monotonic_us),
            measuring: Measuring::default(),
            watch: None,
            post: Post::new(&options.mesh, options.id, options.shards),
            admission: options.admission,
            stats: options.stats,
            random,
            stopping: None,
            accepting: false,
            accept_stop_submitted: false,
            turned_away: 0,
            byte_rates: ByteRates::new(&limits),
            turns: Turns::default(),
            pass_left: 0,
            answer_bytes: 0,
            orders: VecDeque::new(),
            local: VecDeque::new(),
            actions: VecDeque::new(),
            opened: VecDeque::new(),
            refused: VecDeque::new(),
            effects: Effects::new(),
            scratch: Vec::new(),
            plain: Vec::new(),
            limits,
        }
    }

    /// A pass begins.
    fn begin(&mut self) {
        let sent = Sent {
            deliveries: self.stats.deliveries_sent.value(),
            sends: self.stats.sends.value(),
        };
        self.coalescing.begin(self.clock.monotonic_us, sent);
    }

    /// A pass has found nothing to do; answers when there is something, in monotonic microseconds.
    fn idle(&mut self) -> Option<u64> {
        let now_us = self.clock.monotonic_us;
        self.coalescing.idle(now_us);
        let output = self
            .table
            .may_wait()
            .then(|| self.coalescing.held_until_us(now_us));
        [self.next_due_us(), output.flatten()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Tells the other shards that this one starts without memory, and lets the application begin.
    fn start(&mut self, origin: Clock) {
        self.hub.start(self.clock, origin, &mut self.effects);
        self.call_app(|app, context| app.on_start(context));
        self.work_off();
    }

    fn receive_ended(&mut self, key: ConnectionKey, end: ReceiveEnd) {
        let Some(connection) = self.table.find(key) else {
            self.stats.stale_completions.add(1);
            return;
        };
        connection.receiving = Receiving::No;
        match end {
            ReceiveEnd::Stopped => {}
            ReceiveEnd::NoBuffers => self.stats.receive_no_buffers.add(1),
            ReceiveEnd::EndOfStream => self.peer_ended(key),
            ReceiveEnd::Failed(error) => {
                self.stats.receive_errors.add(1);
                self.terminate(key, CloseReason::ReceiveError(error));
            }
        }
        self.table.mark_dirty(key);
    }

    /// The peer has ended its stream, and what it had sent before counts: an open connection ends when all of it is decoded.
    fn peer_ended(&mut self, key: ConnectionKey) {
        let Some(connection) = self.table.find(key) else {
            return;
        };
        connection.flags.insert(Flags::PEER_ENDED);
        match connection.state {
            State::Handshake | State::Unnamed | State::Held | State::Opening | State::Open
                if connection.has(Flags::STASHED) || connection.pace == Pace::Held => {}
            State::Handshake | State::Unnamed | State::Held | State::Opening | State::Open => {
                self.terminate(key, CloseReason::StreamEnded);
            }
            // It has our close frame, or will not read it: what waits still goes out.
            State::Closing => connection.state = State::Finishing,
            State::Finishing
            | State::Leaving
            | State::Terminating
            | State::Free
            | State::Closed => {}
        }
    }

    /// The send in flight has ended; answers what must be sent again.
    fn sent(&mut self, key: ConnectionKey, result: Result<usize, i32>) -> Option<Bytes> {
        let Some(connection) = self.table.find(key) else {
            self.stats.stale_completions.add(1);
            return None;
        };
        self.stats.sends.add(1);
        let rest = match result {
            Ok(bytes) => {
                self.stats.bytes_sent.add(bytes as u64);
                // Where the peer is not read, that it takes bytes is the only sign of life there is.
                if connection.receiving != Receiving::Started {
                    connection.flags.insert(Flags::ALIVE);
                }
                self.table.sent(key, bytes)
            }
            Err(error) => {
                self.send_failed(key, error);
                None
            }
        };
        if rest.is_none()
            && let Some(connection) = self.table.find(key)
        {
            connection.flags.remove(Flags::SENDING);
        }
        self.resume(key);
        self.table.mark_dirty(key);
        rest
    }

    /// A send did not leave at once; answers what must be sent as there is room for it.
    fn unsent(&mut self, key: ConnectionKey, rest: Bytes, error: Option<i32>) -> Option<Bytes> {
        self.stats.sends_unfinished.add(1);
        self.table.uncount_sent_now(rest.len());
        if self.table.find(key).is_none() {
            self.stats.stale_completions.add(1);
            return None;
        }
        match error {
            Some(error) => {
                self.send_failed(key, error);
                None
            }
            None => self.table.unsent(key, rest),
        }
    }

    fn send_failed(&mut self, key: ConnectionKey, error: i32) {
        self.stats.send_errors.add(1);
        if let Some(connection) = self.table.find(key) {
            connection.flags.remove(Flags::SENDING);
        }
        self.terminate(key, CloseReason::SendError(error));
    }

    fn shut_down(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.table.find(key) {
            connection.shutdowns_submitted -= 1;
        } else {
            self.stats.stale_completions.add(1);
        }
        self.table.mark_dirty(key);
    }

    fn closed(&mut self, key: ConnectionKey) {
        let Some(connection) = self.table.find(key) else {
            self.stats.stale_completions.add(1);
            return;
        };
        let admitted = connection.has(Flags::ADMITTED);
        // While the key is still good: what is left in the slot would be taken for bytes of the next connection.
        self.table.drop_stash(key);
        self.table.connections.remove(key);
        self.table.windows.close(key.slot);
        self.table.close_tls(key.slot);
        self.byte_rates.close(key.slot);
        self.deadlines.cancel(key.slot);
        let peer = self.table.addresses.remove(&key.slot);
        if admitted {
            self.admission.leave(peer);
        } else {
            self.turned_away -= 1;
        }
        self.stats.connections_open.subtract(1);
        self.stats.connections_closed.add(1);
        self.deadlines.resume_accept();
    }

    /// Ends a connection at once, whatever waits for it.
    fn terminate(&mut self, key: ConnectionKey, why: CloseReason) {
        self.retire(key, why);
        if let Some(connection) = self.table.find(key)
            && connection.state != State::Closed
        {
            connection.state = State::Terminating;
            self.table.mark_dirty(key);
        }
        self.work_off();
    }

    fn drain_mail(&mut self) -> bool {
        let mut count = 0;
        while count < self.limits.mail_per_pass_max {
            let Some((from, mail)) = self.post.receive() else {
                break;
            };
            count += 1;
            self.hub.handle(from, mail, self.clock, &mut self.effects);
            self.work_off();
        }
        self.stats.mails_received.add(count);
        count > 0
    }
}

impl<A: App> Drop for Core<A> {
    /// A shard that dies takes its connections with it: their places must be given back.
    fn drop(&mut self) {
        for slot in 0..self.table.connections.slots() {
            let admitted = self
                .table
                .connections
                .key_at(slot)
                .and_then(|key| self.table.find(key))
                .is_some_and(|connection| connection.has(Flags::ADMITTED));
            if admitted {
                self.admission.leave(self.table.addresses.remove(&slot));
            }
        }
        self.stats
            .connections_open
            .subtract(self.table.connections.used() as u64);
        measuring::set_gauges(&self.stats, &ShardCounts::default());
    }
}
