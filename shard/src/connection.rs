//! One connection and the slab of all of a shard's.
//!
//! A connection's life is a [`State`] and a few fields that say which operations the kernel still
//! holds. Everything that a pass of the loop wants of a connection is written into these fields;
//! [`Connection::settle`] then compares what is wanted with what is under way and asks the driver for the
//! difference, once a pass. Teardown needs no path of its own: `settle` is entered again at every completion until nothing is
//! in flight, and only then closes the descriptor.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use crate::chunked::Chunked;
use crate::driver::{ConnectionKey, Driver, Shutdown, Slot};
use crate::gathering::Gathering;
use crate::outbox::{Late, OutboxId, OutboxLimits, OutboxPool};
use crate::tls::ServerSession;
use crate::ws::Session;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// The slot is empty.
    #[default]
    Free,
    /// The upgrade request has not arrived whole.
    Handshake,
    /// The request is accepted, and nobody knows yet whose connection it is: its first message says so, until when pings are answered and
    /// nothing else is said.
    Unnamed,
    /// It is known whose the connection is, and somebody else decides whether it may come in: what the peer sends waits.
    Held,
    /// It may come in, and the rooms do not know it yet: what the peer sends waits.
    Opening,
    /// Messages go both ways.
    Open,
    /// This end has sent its close frame and waits for the peer's.
    Closing,
    /// Everything is said, and the peer may not know it: what waits goes out, then the stream is ended, then the peer
    /// ends its own.
    Finishing,
    /// Both close frames are exchanged: what waits goes out, then the descriptor is closed.
    Leaving,
    /// Whatever is in flight is being ended; the descriptor is closed when nothing is.
    Terminating,
    /// The descriptor is being closed.
    Closed,
}

impl State {
    /// Whether what the peer sends still matters.
    pub(crate) fn decodes(self) -> bool {
        matches!(
            self,
            Self::Handshake
                | Self::Unnamed
                | Self::Held
                | Self::Opening
                | Self::Open
                | Self::Closing
        )
    }
}

/// Received bytes that wait to be decoded, because the connection had its share of this pass or is to be
/// read more slowly. Bounded by what one receive takes before it ends: 64 KiB, on kernels before 6.17 all receive buffers of the shard.
/// While it waits, nothing more is received.
#[derive(Debug, Default)]
pub(crate) struct Stash {
    bytes: Vec<u8>,
    start: usize,
}

impl Stash {
    /// What waits.
    pub(crate) fn waiting(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// So many bytes have been decoded.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
    }

    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Adds what arrived behind it.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }
}

/// Messages that a connection may still send now: a token bucket (capacity `messages_burst_max`, filled at
/// `messages_per_second_max`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowance {
    /// Thousandths of a message. Below zero after a message that counted for several.
    tokens: i32,
    /// Low bits of the monotonic milliseconds of the last filling.
    filled_ms: u32,
}

impl Allowance {
    const MESSAGE: i64 = 1000;
    /// How long a connection that has used up its messages rests at least, so that they are taken in groups.
    const PAUSE_MS: i64 = 10;

    pub(crate) fn full(burst: u64, now_ms: u64) -> Self {
        Self {
            tokens: Self::most(burst) as i32,
            filled_ms: now_ms as u32,
        }
    }

    fn most(burst: u64) -> i64 {
        (burst as i64 * Self::MESSAGE).min(i64::from(i32::MAX))
    }

    /// Whether a message may be taken now, and what the connection's pace is from here on.
    ///
    /// # Errors
    /// It may not: for how long, and whether the peer is to be told.
    pub(crate) fn check(
        &mut self,
        pace: &mut Pace,
        rate: u64,
        burst: u64,
        now_ms: u64,
    ) -> Result<(), TooFast> {
        let rate = rate as i64;
        let passed = i64::from((now_ms as u32).wrapping_sub(self.filled_ms));
        // A rate of one a second is one thousandth of a message a millisecond.
        let saved = passed
            .saturating_mul(rate)
            .saturating_add(i64::from(self.tokens));
        let tokens = saved.min(Self::most(burst));
        self.tokens = tokens as i32;
        self.filled_ms = now_ms as u32;
        if tokens < Self::MESSAGE {
            // No longer than until the burst is full: what comes in after that would be lost.
            let group_ms = Self::PAUSE_MS.min(Self::most(burst) / rate);
            let wait_ms = (Self::MESSAGE - tokens + rate - 1) / rate;
            return Err(TooFast {
                wait_ms: wait_ms.max(group_ms) as u64,
                tell: std::mem::replace(pace, Pace::Limited) == Pace::Free,
            });
        }
        // More than what the pause for the rate alone gives: the peer has paused by itself.
        if saved >= (Self::MESSAGE + rate * (Self::PAUSE_MS + 1)).max(Self::most(burst) / 2) {
            *pace = Pace::Free;
        }
        Ok(())
    }

    /// Whether it is so many messages, or half of the burst, behind what the rate permits, as of the last message: whoever sends that much is
    /// heard after the others.
    pub(crate) fn is_behind(&self, messages: u64, burst: u64) -> bool {
        let (most, messages) = (Self::most(burst), Self::most(messages));
        i64::from(self.tokens) < most - messages.min(most / 2)
    }

    /// A message was taken that counts for so many.
    pub(crate) fn spend(&mut self, count: u64) {
        let spent = (count as i64).saturating_mul(Self::MESSAGE);
        let left = i64::from(self.tokens).saturating_sub(spent);
        self.tokens = left.max(i64::from(i32::MIN)) as i32;
    }
}

/// A connection has used up its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooFast {
    /// How long it rests, in milliseconds.
    pub(crate) wait_ms: u64,
    /// The peer has not been told in this spell.
    pub(crate) tell: bool,
}

/// The multishot receive of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// The kernel does not hold one.
    #[default]
    No,
    /// The kernel receives until further notice.
    Started,
    /// The kernel was asked to end it.
    Stopping,
}

/// Whether a connection sends more messages than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It does not.
    #[default]
    Free,
    /// It did, was told so, and may go on.
    Told,
    /// It has used up its messages; a timer lets it go on.
    Limited,
    /// It waits until somebody has decided about its last message.
    Held,
}

/// Which directions of the stream this end has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ended {
    #[default]
    None,
    Write,
    Both,
}

bitflags::bitflags! {
    /// What is true of a connection, beside where it stands.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Flags: u8 {
        /// Heard of since the last heartbeat.
        const ALIVE = 1;
        /// It counts against `connections_max`.
        const ADMITTED = 1 << 1;
        /// Received bytes wait to be decoded.
        const STASHED = 1 << 2;
        /// It stands in the list of connections to settle.
        const DIRTY = 1 << 3;
        /// It stands in the line of connections whose stash is to be decoded.
        const READY = 1 << 4;
        /// The peer has ended its stream.
        const PEER_ENDED = 1 << 5;
        /// The kernel has a send of it.
        const SENDING = 1 << 6;
        /// The receive under way is for a connection that is expected to be silent.
        const QUIET = 1 << 7;
    }
}

/// One connection. An idle one owns no heap.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) session: Session,
    pub(crate) allowance: Allowance,
    generation: u32,
    pub(crate) outbox: OutboxId,
    pub(crate) state: State,
    pub(crate) pace: Pace,
    /// Heartbeats in a row that were not answered.
    pub(crate) heartbeats_missed: u8,
    pub(crate) flags: Flags,
    pub(crate) receiving: Receiving,
    pub(crate) shutdowns_submitted: u8,
    /// Receives since the last heartbeat; see [`Connection::receives_reset`].
    receives: u8,
    ended: Ended,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            session: Session::new(),
            allowance: Allowance::default(),
            generation: 0,
            outbox: OutboxId::NONE,
            state: State::Free,
            pace: Pace::Free,
            heartbeats_missed: 0,
            flags: Flags::empty(),
            receiving: Receiving::No,
            shutdowns_submitted: 0,
            receives: 0,
            ended: Ended::None,
        }
    }
}

// Part of what an idle connection costs; the rest is named in ARCHITECTURE.md.
const _: () = assert!(size_of::<Connection>() <= 40);

/// What was to leave at once in this pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SentNow {
    pub(crate) sends: u64,
    pub(crate) bytes: u64,
}

/// Receives in the interval of a heartbeat from which on a connection is received from until further notice, which takes less time and more of the kernel's memory. A
/// member that does no more than join a room and answer heartbeats stays below.
const BUSY_RECEIVES: u8 = 4;

/// The most bytes that are sent in the hope that they leave at once. What is longer often does not.
const SEND_NOW_BYTES_MAX: usize = 64 << 10;

/// What [`Connection::settle`] needs to know besides the connection.
pub(crate) struct Settling<'a> {
    pub(crate) outboxes: &'a mut OutboxPool,
    pub(crate) outbox_limits: &'a OutboxLimits,
    pub(crate) gathering: &'a mut Gathering,
    pub(crate) sent_now: &'a mut SentNow,
    /// Bytes waiting above which the connection is not read; `usize::MAX` where they do not matter.
    pub(crate) unread_bytes_max: usize,
    /// Messages that a connection is behind its rate when it is received from sparingly, and the burst; `None` where there is no rate.
    pub(crate) behind: Option<(u64, u64)>,
    /// Where the connection is encrypted.
    pub(crate) tls: Option<&'a mut ServerSession>,
    /// Takes the connection where nothing can be encrypted for it any more.
    pub(crate) unsealable: &'a mut Vec<ConnectionKey>,
}

impl Settling<'_> {
    /// A payload as it leaves: encrypted, where the connection is. `None` where that cannot be, and the connection must end.
    fn seal(&mut self, key: ConnectionKey, payload: Bytes) -> Option<Bytes> {
        let Some(tls) = &mut self.tls else {
            return Some(payload);
        };
        let sealed = catch_unwind(AssertUnwindSafe(|| tls.seal(&payload)));
        let Ok(Ok(sealed)) = sealed else {
            self.unsealable.push(key);
            return None;
        };
        Some(sealed)
    }

    /// What TLS itself has to say, where nothing else waits.
    fn outgoing(&mut self, key: ConnectionKey, ends: bool) -> Option<Bytes> {
        let tls = self.tls.as_mut()?;
        if ends && catch_unwind(AssertUnwindSafe(|| tls.close())).is_err() {
            self.unsealable.push(key);
            return None;
        }
        tls.has_outgoing().then(|| tls.take_outgoing())
    }
}

impl Connection {
    pub(crate) fn has(&self, flag: Flags) -> bool {
        self.flags.contains(flag)
    }

    /// Whether a flag is set; it no longer is afterwards.
    pub(crate) fn take(&mut self, flag: Flags) -> bool {
        let is_set = self.has(flag);
        self.flags.remove(flag);
        is_set
    }

    /// Something of it is still in the kernel's hands.
    fn is_in_flight(&self) -> bool {
        self.receiving != Receiving::No || self.has(Flags::SENDING) || self.shutdowns_submitted > 0
    }

    /// Whether decoding may go on, as far as the connection itself is concerned.
    pub(crate) fn may_decode(&self, outboxes: &OutboxPool, unread_bytes_max: usize) -> bool {
        matches!(self.pace, Pace::Free | Pace::Told)
            && self.state.decodes()
            && !matches!(self.state, State::Held | State::Opening)
            && outboxes.bytes_of(self.outbox) <= unread_bytes_max
    }

    fn wants_bytes(&self, settling: &Settling<'_>) -> bool {
        if self.has(Flags::PEER_ENDED) {
            return false;
        }
        match self.state {
            // A verdict comes soon, like the welcome.
            State::Open if self.pace == Pace::Held => !self.has(Flags::STASHED),
            State::Handshake | State::Unnamed | State::Open | State::Closing => {
                !self.has(Flags::STASHED)
                    && self.may_decode(settling.outboxes, settling.unread_bytes_max)
            }
            // Hardly anybody speaks before the welcome, so the receive is not stopped only to be started again.
            State::Held | State::Opening => !self.has(Flags::STASHED),
            // What still arrives is thrown away: closing with unread bytes would reset the connection, and
            // the peer might never read the answer.
            State::Finishing => true,
            State::Leaving | State::Free | State::Terminating | State::Closed => false,
        }
    }

    /// Something has been received.
    pub(crate) fn note_received(&mut self) {
        self.flags.insert(Flags::ALIVE);
        self.receives = self.receives.saturating_add(1);
    }

    /// A heartbeat's interval begins. Whoever was busy in the last one starts from [`BUSY_RECEIVES`], so that it stays busy until an interval has passed
    /// in which it was not.
    pub(crate) fn receives_reset(&mut self) {
        self.receives = match self.receives > BUSY_RECEIVES {
            true => BUSY_RECEIVES,
            false => 0,
        };
    }

    fn is_busy(&self) -> bool {
        self.receives >= BUSY_RECEIVES
    }

    /// Asks the driver for the difference between what is wanted and what is under way. Answers whether it stopped reading.
    pub(crate) fn settle<D: Driver>(
        &mut self,
        key: ConnectionKey,
        driver: &mut D,
        mut settling: Settling<'_>,
        encode: impl FnMut(Late) -> Option<Bytes>,
    ) -> bool {
        match self.state {
            State::Free | State::Closed => return false,
            State::Terminating => {
                self.terminate_join(key, driver, settling.outboxes);
                return false;
            }
            _ => {}
        }
        self.settle_output(key, driver, &mut settling, encode);
        if self.state == State::Terminating {
            self.terminate_join(key, driver, settling.outboxes);
            return false;
        }
        let wanted = self.wants_bytes(&settling);
        match self.receiving {
            Receiving::No if wanted => {
                self.receiving = Receiving::Started;
                self.flags.set(Flags::QUIET, !self.is_busy());
                match settling.behind {
                    _ if !self.is_busy() => driver.receive_quietly(key),
                    Some((messages, burst)) if self.allowance.is_behind(messages, burst) => {
                        driver.receive_once(key);
                    }
                    _ => driver.receive_start(key),
                }
                false
            }
            Receiving::Started if wanted && !self.is_busy() && !self.has(Flags::QUIET) => {
                self.receiving = Receiving::Stopping;
                driver.receive_stop(key);
                false
            }
            Receiving::Started if !wanted => {
                self.receiving = Receiving::Stopping;
                driver.receive_stop(key);
                self.state.decodes()
            }
            _ => false,
        }
    }

    fn settle_output<D: Driver>(
        &mut self,
        key: ConnectionKey,
        driver: &mut D,
        settling: &mut Settling<'_>,
        encode: impl FnMut(Late) -> Option<Bytes>,
    ) {
        if self.has(Flags::SENDING) {
            settling.outboxes.note(self.outbox);
            return;
        }
        if let Some(payload) = settling.outboxes.take_lone(&mut self.outbox) {
            if self.may_leave_at_once(&payload.bytes, settling) {
                self.send_now(key, driver, payload.bytes.clone(), settling);
                return;
            }
            settling
                .outboxes
                .ensure(&mut self.outbox, key)
                .push(payload);
        }
        if let Some(outbox) = settling.outboxes.find(self.outbox) {
            if let Some(payload) =
                outbox.next_send(settling.outbox_limits, settling.gathering, encode)
            {
                if outbox.is_last() && self.may_leave_at_once(&payload, settling) {
                    settling.outboxes.release(&mut self.outbox);
                    self.send_now(key, driver, payload, settling);
                } else {
                    self.send(key, driver, payload, settling);
                }
                return;
            }
            settling.outboxes.release(&mut self.outbox);
        }
        let ends = matches!(self.state, State::Finishing | State::Leaving);
        if let Some(records) = settling.outgoing(key, ends) {
            let outbox = settling.outboxes.ensure(&mut self.outbox, key);
            outbox.put_in_flight(records.clone());
            settling.outboxes.note(self.outbox);
            self.flags.insert(Flags::SENDING);
            driver.send(key, records);
            return;
        }
        match self.state {
            State::Finishing if self.has(Flags::PEER_ENDED) => self.state = State::Terminating,
            State::Finishing if self.ended == Ended::None => {
                self.ended = Ended::Write;
                self.shutdowns_submitted += 1;
                driver.shutdown(key, Shutdown::Write);
            }
            State::Leaving => self.state = State::Terminating,
            _ => {}
        }
    }

    /// Whether the shard need not hear of the send's end. It must where more is to happen then: where the connection ends, where it is to be read
    /// again (while more waited than `unread_bytes_max` it was not), and where that end is the only sign of life there is.
    fn may_leave_at_once(&self, payload: &Bytes, settling: &Settling<'_>) -> bool {
        let is_read = self.receiving == Receiving::Started || self.wants_bytes(settling);
        self.state == State::Open
            && is_read
            && payload.len() <= settling.unread_bytes_max.min(SEND_NOW_BYTES_MAX)
    }

    /// Sends what the outbox has in flight.
    fn send<D: Driver>(
        &mut self,
        key: ConnectionKey,
        driver: &mut D,
        payload: Bytes,
        settling: &mut Settling<'_>,
    ) {
        let is_sealed = settling.tls.is_some();
        let Some(payload) = settling.seal(key, payload) else {
            return;
        };
        if is_sealed && let Some(outbox) = settling.outboxes.find(self.outbox) {
            outbox.seal_in_flight(payload.clone());
        }
        settling.outboxes.note(self.outbox);
        self.flags.insert(Flags::SENDING);
        driver.send(key, payload);
    }

    fn send_now<D: Driver>(
        &self,
        key: ConnectionKey,
        driver: &mut D,
        payload: Bytes,
        settling: &mut Settling<'_>,
    ) {
        let Some(payload) = settling.seal(key, payload) else {
            return;
        };
        settling.sent_now.sends += 1;
        settling.sent_now.bytes += payload.len() as u64;
        driver.send_now(key, payload);
    }

    /// Ends what is in flight, and closes the descriptor once nothing is.
    fn terminate_join<D: Driver>(
        &mut self,
        key: ConnectionKey,
        driver: &mut D,
        outboxes: &mut OutboxPool,
    ) {
        outboxes.release(&mut self.outbox);
        if self.has(Flags::SENDING) && self.ended != Ended::Both {
            self.ended = Ended::Both;
            self.shutdowns_submitted += 1;
            driver.shutdown(key, Shutdown::Both);
        } else if self.receiving == Receiving::Started {
            // Cheaper than a shutdown, which the kernel hands to a thread of its own.
            self.receiving = Receiving::Stopping;
            driver.receive_stop(key);
        }
        if !self.is_in_flight() {
            self.state = State::Closed;
            driver.close(key);
        }
    }
}

/// All connections of a shard, by slot.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Chunked<Connection>,
    used: usize,
}

impl Connections {
    /// Takes the slot of a connection just accepted.
    pub(crate) fn insert(&mut self, slot: Slot) -> (ConnectionKey, &mut Connection) {
        let connection = self.slots.ensure(slot as usize);
        debug_assert_eq!(
            connection.state,
            State::Free,
            "the kernel gives out free slots only"
        );
        connection.state = State::Handshake;
        self.used += 1;
        (ConnectionKey::new(slot, connection.generation), connection)
    }

    /// The connection, unless the key is stale.
    pub(crate) fn find(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.slots.get_mut(key.slot as usize).filter(|connection| {
            connection.generation == key.generation && connection.state != State::Free
        })
    }

    /// Frees the slot; keys of the connection are stale from now on.
    pub(crate) fn remove(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.find(key) {
            *connection = Connection {
                generation: key.next().generation,
                ..Connection::default()
            };
            self.used -= 1;
        }
    }

    /// The key of whatever connection is in the slot now.
    pub(crate) fn key_at(&self, slot: Slot) -> Option<ConnectionKey> {
        let connection = self.slots.get(slot as usize)?;
        (connection.state != State::Free).then(|| ConnectionKey::new(slot, connection.generation))
    }

    /// A number above all slots ever used: the bound of a walk over all connections.
    pub(crate) fn slots(&self) -> Slot {
        self.slots.len() as Slot
    }

    /// Connections there are, in whatever state.
    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_an_earlier_use_is_stale() {
        let mut connections = Connections::default();
        let (first, _) = connections.insert(3);
        assert!(connections.find(first).is_some());
        connections.remove(first);
        assert!(connections.find(first).is_none());
        let (second, _) = connections.insert(3);
        assert_ne!(first, second);
        assert!(connections.find(first).is_none() && connections.find(second).is_some());
        assert_eq!(connections.used(), 1);
        assert!(connections.slots() > 3);
        assert_eq!(
            (connections.key_at(3), connections.key_at(2)),
            (Some(second), None)
        );
    }

    #[test]
    fn a_connection_is_busy_until_an_interval_has_passed_in_which_it_was_not() {
        let mut connection = Connection::default();
        let receive = |connection: &mut Connection, count: u8| {
            (0..count).for_each(|_| connection.note_received());
        };
        receive(&mut connection, BUSY_RECEIVES - 1);
        assert!(!connection.is_busy(), "who joins and answers heartbeats");
        connection.receives_reset();
        receive(&mut connection, BUSY_RECEIVES - 1);
        assert!(!connection.is_busy(), "each interval counts for itself");
        receive(&mut connection, 10);
        assert!(connection.is_busy());
        connection.receives_reset();
        assert!(connection.is_busy(), "it was");
        receive(&mut connection, 1);
        connection.receives_reset();
        assert!(connection.is_busy(), "it has been heard again");
        connection.receives_reset();
        assert!(!connection.is_busy(), "silent for an interval");
    }

    #[test]
    fn an_allowance_gives_a_burst_and_then_the_rate() {
        let (rate, burst) = (10, 5);
        let mut allowance = Allowance::full(burst, 1_000);
        let mut pace = Pace::Free;
        let mut take = |now_ms| {
            allowance
                .check(&mut pace, rate, burst, now_ms)
                .map(|()| allowance.spend(1))
                .map_err(|too_fast| too_fast.wait_ms)
        };
        let at_once = (0..20).take_while(|_| take(1_000).is_ok()).count();
        assert_eq!(at_once, 5);
        assert_eq!(take(1_000), Err(100), "the next in a tenth of a second");
        assert_eq!(take(1_050), Err(50), "half of it has passed");
        assert_eq!(take(1_100), Ok(()));
        let later = (0..20).take_while(|_| take(60_000).is_ok()).count();
        assert_eq!(later, 5, "a long silence saves up a burst, no more");
    }

    #[test]
    fn whoever_keeps_coming_too_fast_is_told_once_and_read_at_the_rate() {
        for (rate, burst) in [
            (1, 1),
            (1, 2),
            (10, 5),
            (1000, 1),
            (1000, 15),
            (1000, 2000),
            (5000, 20),
            (10_000_000, 2_000_000),
        ] {
            let mut allowance = Allowance::full(burst, 1_000);
            let (mut now_ms, mut taken, mut told) = (1_000, 0, 0);
            let mut pace = Pace::Free;
            while now_ms < 4_000 {
                match allowance.check(&mut pace, rate, burst, now_ms) {
                    Ok(()) => {
                        allowance.spend(1);
                        taken += 1;
                    }
                    Err(TooFast { wait_ms, tell }) => {
                        assert!(wait_ms >= 1);
                        assert_eq!(pace, Pace::Limited);
                        pace = Pace::Told;
                        told += u32::from(tell);
                        now_ms += wait_ms;
                    }
                }
            }
            assert_eq!(told, 1, "{rate} a second, {burst} at once");
            let rested = allowance.check(&mut pace, rate, burst, now_ms + 60_000);
            assert_eq!(rested, Ok(()));
            assert_eq!(
                pace == Pace::Told,
                rate * 60 < burst / 2,
                "after a pause it is told again"
            );
            // Time passes in whole milliseconds, and a burst is all that one of them can bring.
            let most = burst + 3 * rate;
            let least = 3 * rate.min(1000 * burst);
            assert!(
                (least..=most).contains(&taken),
                "{taken} at {rate} a second, {burst} at once"
            );
        }
    }

    #[test]
    fn a_message_that_counts_for_several_is_paid_off_at_the_rate() {
        let (rate, burst) = (1000, 5);
        let mut allowance = Allowance::full(burst, 1_000);
        let mut pace = Pace::Free;
        assert_eq!(allowance.check(&mut pace, rate, burst, 1_000), Ok(()));
        allowance.spend(64);
        let wait_ms = allowance
            .check(&mut pace, rate, burst, 1_000)
            .map_err(|too_fast| too_fast.wait_ms);
        assert_eq!(wait_ms, Err(64 - 5 + 1));
        assert_eq!(allowance.check(&mut pace, rate, burst, 1_060), Ok(()));
    }

    #[test]
    fn a_stash_keeps_the_order_of_bytes() {
        let mut stash = Stash::default();
        stash.extend(b"abc");
        stash.consume(2);
        stash.extend(b"de");
        assert_eq!(stash.waiting(), b"cde");
        stash.consume(3);
        assert!(stash.is_empty());
    }
}
