//! The connections of a shard with what waits for each of them, and the list of those that something happened to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::compression::{Compression, Outgoing, Windows};
use crate::connection::{Connection, Connections, Flags, SentNow, Settling, Stash, State};
use crate::driver::{ConnectionKey, Driver, Slot};
use crate::gathering::Gathering;
use crate::hub::event::Message;
use crate::limits::Limits;
use crate::outbox::{Backlog, Late, Origin, Outbox, OutboxLimits, OutboxPool, Payload};
use crate::stats::ShardStats;
use crate::tls::{ALERT_INTERNAL_ERROR, ServerSession, TlsError, TlsSessions};
use crate::ws::deflate::Agreement;
use rustls::ServerConfig;

/// See the module.
pub(super) struct Table {
    pub(super) connections: Connections,
    /// Peers' addresses, where the bound by address is on.
    pub(super) addresses: HashMap<Slot, IpAddr>,
    /// Bytes that wait to be decoded; one entry for each connection that is `stashed`.
    stashes: HashMap<Slot, Stash>,
    pub(super) windows: Windows,
    /// Where connections are encrypted.
    tls: Option<TlsSessions>,
    outboxes: OutboxPool,
    outbox_limits: OutboxLimits,
    /// Above these output waits for no other.
    outbox_pressed: OutboxLimits,
    gathering: Gathering,
    unread_bytes_max: usize,
    /// See [`Settling::behind`].
    behind: Option<(u64, u64)>,
    sent_now: SentNow,
    /// See [`Table::may_wait`].
    is_pressed: bool,
    /// To be settled at the end of the pass.
    dirty: Vec<ConnectionKey>,
    /// Too slow for what they are sent; closed when the event at hand has reached everybody.
    too_slow: Vec<ConnectionKey>,
    /// For whom nothing can be encrypted any more.
    unsealable: Vec<ConnectionKey>,
    stats: Arc<ShardStats>,
}

impl Table {
    /// `may_drop`: messages of some rooms may be left out for slow consumers.
    pub(super) fn new(
        limits: &Limits,
        may_drop: bool,
        compression: Compression,
        tls: Option<Arc<ServerConfig>>,
        stats: Arc<ShardStats>,
    ) -> Self {
        let outbox_limits = OutboxLimits {
            bytes_max: limits.outbox_bytes_max as usize,
            messages_max: limits.outbox_messages_max as usize,
            gather_bytes_max: limits.gather_bytes_max.min(limits.outbox_bytes_max / 2) as usize,
            recovery_bytes_max: limits.recovery_bytes_max as usize,
        };
        Self {
            connections: Connections::default(),
            addresses: HashMap::new(),
            stashes: HashMap::new(),
            windows: Windows::new(compression, may_drop, limits),
            tls: tls.map(TlsSessions::new),
            outboxes: OutboxPool::default(),
            outbox_limits,
            outbox_pressed: OutboxLimits {
                bytes_max: outbox_limits.bytes_max.min(outbox_limits.gather_bytes_max),
                messages_max: outbox_limits.messages_max / 4,
                ..outbox_limits
            },
            gathering: Gathering::default(),
            unread_bytes_max: match may_drop {
                false => limits.outbox_unread_bytes_max as usize,
                // A consumer that may stay slow must still be heard, or it could not answer heartbeats.
                true => usize::MAX,
            },
            behind: (limits.messages_per_second_max > 0)
                .then_some((limits.messages_per_pass_max, limits.messages_burst_max)),
            sent_now: SentNow::default(),
            is_pressed: false,
            dirty: Vec::new(),
            too_slow: Vec::new(),
            unsealable: Vec::new(),
            stats,
        }
    }

    /// The connection, unless the key is stale.
    pub(super) fn find(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.connections.find(key)
    }

    /// The connection's state; [`State::Free`] where the key is stale.
    pub(super) fn state(&mut self, key: ConnectionKey) -> State {
        self.find(key)
            .map_or(State::Free, |connection| connection.state)
    }

    /// Whether decoding may go on, as far as the connection itself is concerned.
    pub(super) fn may_decode(&mut self, key: ConnectionKey) -> bool {
        let Self {
            connections,
            outboxes,
            unread_bytes_max,
            ..
        } = self;
        connections
            .find(key)
            .is_some_and(|connection| connection.may_decode(outboxes, *unread_bytes_max))
    }

    /// Bytes that wait to be sent to a connection, or are being sent.
    pub(super) fn waiting_bytes(&mut self, key: ConnectionKey) -> usize {
        let outbox = self.connections.find(key).map(|found| found.outbox);
        outbox.map_or(0, |outbox| self.outboxes.bytes_of(outbox))
    }

    /// Has the connection settled at the end of the pass.
    pub(super) fn mark_dirty(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.find(key)
            && !connection.has(Flags::DIRTY)
        {
            connection.flags.insert(Flags::DIRTY);
            self.dirty.push(key);
        }
    }

    /// The outbox of a connection, which is settled at the end of the pass.
    fn outbox(&mut self, key: ConnectionKey) -> Option<&mut Outbox> {
        self.mark_dirty(key);
        let connection = self.connections.find(key)?;
        Some(self.outboxes.ensure(&mut connection.outbox, key))
    }

    /// Puts a message behind what else waits for a connection, in the form that it takes. The slow-consumer policy decides where too much waits.
    pub(super) fn queue(&mut self, key: ConnectionKey, message: &mut Outgoing) {
        self.queue_with(key, |windows, agreement| match agreement {
            None => message.plain(),
            Some(agreement) => windows.frame(message, key.slot, agreement),
        });
    }

    /// The same for a control frame, which is never compressed (RFC 7692 §6.1).
    pub(super) fn queue_control(&mut self, key: ConnectionKey, frame: Bytes) {
        self.queue_with(key, |_, _| Payload::kept(frame));
    }

    fn queue_with(
        &mut self,
        key: ConnectionKey,
        payload: impl FnOnce(&mut Windows, Option<Agreement>) -> Rc<Payload>,
    ) {
        let Some(connection) = self.connections.find(key) else {
            return;
        };
        // No message follows a close frame (RFC 6455 §5.5.1).
        if connection.state != State::Open {
            return;
        }
        let payload = payload(&mut self.windows, connection.session.agreement());
        let outbox = self.outboxes.push(&mut connection.outbox, key, payload);
        self.stats.deliveries_sent.add(1);
        // One payload alone is never too much.
        if let Some(outbox) = outbox {
            let conflated = outbox.take_conflated_count();
            if conflated > 0 {
                self.stats.conflated.add(conflated);
            }
            if outbox.is_over(&self.outbox_pressed) {
                // Where a send is in flight, settling would let nothing go.
                self.is_pressed |= !connection.has(Flags::SENDING);
                if outbox.is_over(&self.outbox_limits) {
                    let dropped = outbox.drop_oldest(&self.outbox_limits);
                    self.stats.dropped_oldest.add(dropped);
                    if outbox.is_over(&self.outbox_limits) {
                        self.too_slow.push(key);
                    }
                }
            }
        }
        if !connection.has(Flags::DIRTY) {
            connection.flags.insert(Flags::DIRTY);
            self.dirty.push(key);
        }
    }

    /// Whether what a connection has missed of one more room may wait for it.
    pub(super) fn has_room_for(&mut self, key: ConnectionKey, missed: &[Arc<Message>]) -> bool {
        let Some(connection) = self.connections.find(key) else {
            return true;
        };
        let outbox = self.outboxes.find(connection.outbox);
        outbox.is_none_or(|outbox| outbox.has_room_for(missed, &self.outbox_limits))
    }

    /// Puts a message that a connection has missed behind what else waits. It is encoded as it leaves, and not compressed: in a
    /// window of the connection's own it would come after what was said, and compressed, later.
    pub(super) fn queue_missed(
        &mut self,
        key: ConnectionKey,
        message: Arc<Message>,
        origin: Option<Origin>,
    ) {
        if self.state(key) == State::Open
            && let Some(outbox) = self.outbox(key)
        {
            outbox.push_missed(message, origin);
            self.stats.deliveries_sent.add(1);
        }
    }

    /// Answers a ping, also one that comes after this end's close frame (RFC 6455 §5.5.3) or before it is known whose the connection is. Then no
    /// slow-consumer policy bounds what waits, and pongs that the peer does not read are left out.
    pub(super) fn queue_pong(&mut self, key: ConnectionKey, pong: Bytes) {
        let Some(connection) = self.connections.find(key) else {
            return;
        };
        if !matches!(connection.state, State::Unnamed | State::Closing) {
            self.queue_control(key, pong);
            return;
        }
        let outbox = self.outboxes.find(connection.outbox);
        if !outbox.is_some_and(|outbox| outbox.is_over(&self.outbox_limits)) {
            self.stats.deliveries_sent.add(1);
            self.queue_last(key, pong);
        }
    }

    /// Answers the handshake, whether it opens the connection or not.
    pub(super) fn queue_response(&mut self, key: ConnectionKey, response: Bytes) {
        if let Some(outbox) = self.outbox(key) {
            outbox.push_response(response);
        }
    }

    /// Puts the last words of a connection behind the others that wait; no bound applies to them.
    pub(super) fn queue_last(&mut self, key: ConnectionKey, payload: Bytes) {
        if let Some(outbox) = self.outbox(key) {
            outbox.push(Payload::kept(payload));
        }
    }

    /// Keeps bytes of a connection that wait to be decoded, behind those that already do.
    pub(super) fn stash(&mut self, key: ConnectionKey, bytes: &[u8]) {
        if let Some(connection) = self.connections.find(key) {
            connection.flags.insert(Flags::STASHED);
            self.stashes.entry(key.slot).or_default().extend(bytes);
        }
    }

    /// Bytes that wait to be decoded.
    #[cfg(test)]
    pub(super) fn stashed_bytes(&mut self, key: ConnectionKey) -> usize {
        let stash = self.stashes.get_mut(&key.slot);
        stash.map_or(0, |stash| stash.waiting().len())
    }

    /// Takes what waits to be decoded. Until it is put back or dropped, bytes that arrive would overtake it.
    pub(super) fn take_stash(&mut self, key: ConnectionKey) -> Option<Stash> {
        let connection = self.connections.find(key)?;
        connection
            .take(Flags::STASHED)
            .then(|| self.stashes.remove(&key.slot))?
    }

    /// Puts back what still waits to be decoded.
    pub(super) fn put_stash(&mut self, key: ConnectionKey, stash: Stash) {
        if let Some(connection) = self.connections.find(key) {
            connection.flags.insert(Flags::STASHED);
            self.stashes.insert(key.slot, stash);
        }
    }

    /// Forgets what waits to be decoded.
    pub(super) fn drop_stash(&mut self, key: ConnectionKey) {
        self.take_stash(key);
    }

    /// Forgets what waits for a connection.
    pub(super) fn clear_waiting(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.find(key) else {
            return;
        };
        match self.outboxes.find(connection.outbox) {
            Some(outbox) => outbox.clear_waiting(),
            None => self.outboxes.release(&mut connection.outbox),
        }
    }

    /// Whether connections are encrypted.
    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The session of a connection; `None` where connections are not encrypted.
    pub(super) fn tls(&mut self, key: ConnectionKey) -> Option<&mut ServerSession> {
        self.tls.as_mut()?.find(key.slot)
    }

    /// Sessions there are.
    #[cfg(test)]
    pub(super) fn tls_sessions(&self) -> usize {
        self.tls.as_ref().map_or(0, TlsSessions::count)
    }

    /// A connection that is to be let in has come.
    ///
    /// # Errors
    /// There can be no session for it.
    pub(super) fn open_tls(&mut self, key: ConnectionKey) -> Result<(), TlsError> {
        match &mut self.tls {
            Some(tls) => tls.open(key.slot).map(drop),
            None => Ok(()),
        }
    }

    /// Gives up a handshake of TLS, or one that has not begun: the peer is told so if it can still be.
    pub(super) fn dismiss_tls(&mut self, key: ConnectionKey) {
        match self.tls(key) {
            Some(session) => session.dismiss(),
            None => self.queue_response(key, Bytes::from_static(ALERT_INTERNAL_ERROR)),
        }
        self.mark_dirty(key);
    }

    /// The connection is gone.
    pub(super) fn close_tls(&mut self, slot: Slot) {
        if let Some(tls) = &mut self.tls {
            tls.close(slot);
        }
    }

    /// A connection for which nothing can be encrypted any more.
    pub(super) fn next_unsealable(&mut self) -> Option<ConnectionKey> {
        self.unsealable.pop()
    }

    /// A consumer that has become too slow.
    pub(super) fn next_too_slow(&mut self) -> Option<ConnectionKey> {
        self.too_slow.pop()
    }

    /// So many bytes of the send in flight have left; answers what must be sent again.
    pub(super) fn sent(&mut self, key: ConnectionKey, bytes: usize) -> Option<Bytes> {
        let connection = self.connections.find(key)?;
        let rest = self
            .outboxes
            .find(connection.outbox)
            .and_then(|outbox| outbox.sent(bytes));
        rest.filter(|_| connection.state != State::Terminating)
    }

    /// Not all of what was to leave at once has left; answers the rest, which is to be sent as there is room for it.
    pub(super) fn unsent(&mut self, key: ConnectionKey, rest: Bytes) -> Option<Bytes> {
        let connection = self.connections.find(key)?;
        if matches!(connection.state, State::Terminating | State::Closed) {
            return None;
        }
        connection.flags.insert(Flags::SENDING);
        let outbox = self.outboxes.ensure(&mut connection.outbox, key);
        outbox.put_in_flight(rest.clone());
        self.outboxes.note(connection.outbox);
        Some(rest)
    }

    /// So many bytes of what was to leave at once have not left.
    pub(super) fn uncount_sent_now(&mut self, bytes: usize) {
        self.sent_now.bytes -= bytes as u64;
    }

    /// Counts what left at once in the last pass, now that it is known what did not.
    pub(super) fn count_sent_now(&mut self) {
        let SentNow { sends, bytes } = std::mem::take(&mut self.sent_now);
        self.stats.sends.add(sends);
        self.stats.bytes_sent.add(bytes);
    }

    /// Connections with output waiting or in flight.
    pub(super) fn outboxes_used(&self) -> usize {
        self.outboxes.used()
    }

    /// Bytes of the output that waits or is in flight, as of when each connection was settled last.
    pub(super) fn outbox_bytes(&self) -> usize {
        self.outboxes.bytes()
    }

    /// Connections with output that a settle has left; see [`OutboxPool::page`].
    pub(super) fn backlogs(
        &self,
        from: usize,
        most: usize,
    ) -> (impl Iterator<Item = (ConnectionKey, usize)>, usize) {
        self.outboxes.page(from, most)
    }

    /// The most that waits for any one connection.
    pub(super) fn largest_backlog(&self) -> Backlog {
        self.outboxes.largest()
    }

    /// Whether there is something to settle, none of which needs it now.
    pub(super) fn may_wait(&self) -> bool {
        !self.dirty.is_empty() && !self.is_pressed
    }

    /// Connections to be settled.
    pub(super) fn unsettled(&self) -> usize {
        self.dirty.len()
    }

    /// Settles every connection that something happened to, once; answers whether there was one.
    pub(super) fn settle<D: Driver>(
        &mut self,
        driver: &mut D,
        mut encode: impl FnMut(Late) -> Option<Bytes>,
    ) -> bool {
        let Self {
            connections,
            outboxes,
            outbox_limits,
            gathering,
            dirty,
            sent_now,
            stats,
            tls,
            unsealable,
            ..
        } = self;
        let busy = !dirty.is_empty();
        if driver.is_behind() {
            return busy;
        }
        self.is_pressed = false;
        for key in dirty.drain(..) {
            let Some(connection) = connections.find(key) else {
                continue;
            };
            connection.flags.remove(Flags::DIRTY);
            let settling = Settling {
                outboxes,
                outbox_limits,
                gathering,
                sent_now,
                unread_bytes_max: self.unread_bytes_max,
                behind: self.behind,
                tls: tls.as_mut().and_then(|tls| tls.find(key.slot)),
                unsealable,
            };
            let paused = connection.settle(key, driver, settling, &mut encode);
            stats.reading_paused.add(u64::from(paused));
        }
        gathering.clear();
        busy
    }
}
