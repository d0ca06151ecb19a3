//! What waits for one connection: payloads shared with other members, the send in flight, and what
//! happens when the consumer is too slow.
//!
//! Only connections with output own an outbox; an idle one has none, and where one payload alone waits, as in most deliveries, it waits in a
//! list until the connections are settled and takes none either. Outboxes are pooled.

mod line;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;

use crate::driver::ConnectionKey;
use crate::gathering::Gathering;
use crate::hub::Name;
use crate::hub::event::{Event, Message};
use line::Line;

/// What happens to a consumer whose outbox is full, or who is behind in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// Close 1013: the client comes back and recovers from the history.
    #[default]
    Disconnect,
    /// Drop its oldest room messages, whole ones only, and tell it which. Answers, acknowledgements and direct messages are
    /// never dropped: when they alone fill the outbox, the connection is closed 1013.
    DropOldest,
    /// Of each room only the latest message waits: a newer one takes the place of one that has not begun to leave, and the consumer is told which
    /// it missed. The latest is never dropped.
    Conflate,
}

/// Which room message a payload carries, so that a gap can name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) room: Name,
    pub(crate) seq: u64,
}

/// What the policy of its room may do with a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing.
    Kept,
    /// A message that may be dropped when too much waits ([`SlowConsumer::DropOldest`]).
    Droppable(Origin),
    /// A message that gives way to the next one of its room ([`SlowConsumer::Conflate`]).
    Latest(Origin),
    /// Says where the consumer stands in such a room: what is told of the messages before it must not be told behind it.
    Fence(Name),
}

/// Bytes that go to any number of connections of a shard. Shared as an [`Rc`]: a delivery costs a count of its own thread's, where an atomic one would wait
/// for all that was written before, most of it to other connections.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    pub(crate) role: Role,
}

impl Payload {
    /// Bytes that no policy drops.
    pub(crate) fn kept(bytes: Bytes) -> Rc<Self> {
        Rc::new(Self {
            bytes,
            role: Role::Kept,
        })
    }
}

/// Room messages that were dropped, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) room: Name,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What is encoded only when its turn to leave has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    Gap(Gap),
    /// A message that the consumer missed while it was away.
    Missed(Arc<Message>),
}

impl Late {
    /// What the consumer is told.
    pub(crate) fn into_event(self) -> Event {
        match self {
            Self::Gap(Gap { room, from, to }) => Event::Gap { room, from, to },
            Self::Missed(message) => Event::Message(message),
        }
    }
}

/// The bounds of an outbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxLimits {
    pub(crate) bytes_max: usize,
    pub(crate) messages_max: usize,
    pub(crate) gather_bytes_max: usize,
    /// What missed messages may cost while they wait.
    pub(crate) recovery_bytes_max: usize,
}

/// Payloads that wait for one connection, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Whose it is.
    owner: Option<ConnectionKey>,
    line: Line,
    /// The first of `line` answers the handshake: without it the peer would understand nothing that follows.
    begins_with_response: bool,
    /// What the send in flight carries; kept to go on after a partial send.
    in_flight: Option<Bytes>,
    /// Bytes of it that are no missed messages, at most.
    in_flight_counted: usize,
    /// Its share of [`OutboxPool::bytes`].
    noted_bytes: usize,
}

/// Bytes that wait for connections or are being sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Those that `outbox_bytes_max` bounds. One message alone may be larger.
    pub bytes: usize,
    /// What `recovery_bytes_max` bounds. The messages of one room alone may be more.
    pub missed_bytes: usize,
}

impl Outbox {
    /// Bytes waiting or in flight.
    pub(crate) fn bytes(&self) -> usize {
        self.line.bytes() + self.line.missed_bytes() + self.in_flight.as_ref().map_or(0, Bytes::len)
    }

    /// Nothing waits and nothing is in flight.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty() && self.in_flight.is_none()
    }

    /// Adds a payload behind the others, in place of one that gives way to it.
    pub(crate) fn push(&mut self, payload: Rc<Payload>) {
        self.line.push(payload);
    }

    /// Messages that gave way to newer ones since the last call.
    pub(crate) fn take_conflated_count(&mut self) -> u64 {
        self.line.take_conflated_count()
    }

    /// Adds the answer to the handshake, before which nothing can have been said.
    pub(crate) fn push_response(&mut self, response: Bytes) {
        self.begins_with_response = self.line.is_empty();
        self.push(Payload::kept(response));
    }

    /// Whether what the consumer has missed of one more room may wait too. The messages of one room alone are never too much.
    pub(crate) fn has_room_for(&self, missed: &[Arc<Message>], limits: &OutboxLimits) -> bool {
        let bytes: usize = missed.iter().map(|message| line::cost(message)).sum();
        self.line.missed_count() == 0
            || self.line.missed_bytes() + bytes <= limits.recovery_bytes_max
    }

    /// Adds a message that the consumer has missed behind all else. It does not count against the consumer, which would be
    /// closed as too slow for what it had no time to read, come back, and be closed again. `origin` is known where it may be dropped.
    pub(crate) fn push_missed(&mut self, message: Arc<Message>, origin: Option<Origin>) {
        self.line.push_missed(message, origin);
    }

    /// More waits than may. What is in flight counts too: the kernel has not taken it. One payload alone is never too
    /// much, or the largest message could not be delivered.
    pub(crate) fn is_over(&self, limits: &OutboxLimits) -> bool {
        let count = self.line.counted();
        let alone = count + usize::from(self.in_flight_counted > 0) <= 1;
        let bytes = self.line.bytes() + self.in_flight_counted;
        (bytes > limits.bytes_max && !alone) || count > limits.messages_max
    }

    /// Drops the oldest messages that may be dropped until the rest fits; answers how many went. The outbox may still be over its
    /// bounds afterwards, when nothing more may be dropped.
    pub(crate) fn drop_oldest(&mut self, limits: &OutboxLimits) -> u64 {
        let mut dropped = 0;
        while self.is_over(limits) && self.line.drop_oldest() {
            dropped += 1;
        }
        dropped
    }

    /// Forgets everything that waits, but for the answer to the handshake; what is in flight stays, since the kernel has it.
    pub(crate) fn clear_waiting(&mut self) {
        self.line.truncate(usize::from(self.begins_with_response));
    }

    /// What to send now, where nothing is in flight: as many payloads as may be gathered. A payload that leaves alone is not copied.
    pub(crate) fn next_send(
        &mut self,
        limits: &OutboxLimits,
        gathering: &mut Gathering,
        encode: impl FnMut(Late) -> Option<Bytes>,
    ) -> Option<Bytes> {
        if self.in_flight.is_some() {
            return None;
        }
        let payload = self.gather(limits.gather_bytes_max, gathering, encode)?;
        self.in_flight = Some(payload.clone());
        Some(payload)
    }

    fn gather(
        &mut self,
        bytes_max: usize,
        gathering: &mut Gathering,
        encode: impl FnMut(Late) -> Option<Bytes>,
    ) -> Option<Bytes> {
        let waiting_bytes = self.line.bytes();
        let share = self.line.first_share(bytes_max, encode);
        let payload = match share.payloads {
            0 | 1 => self.line.pop()?,
            _ => {
                let whole = gathering.gather(self.line.payloads(share));
                self.line.pop_share(share);
                whole
            }
        };
        self.begins_with_response = false;
        self.in_flight_counted = waiting_bytes - self.line.bytes();
        Some(payload)
    }

    /// What [`Outbox::next_send`] has just given leaves all at once if it is tried, as far as the outbox is concerned: nothing else waits, and nothing
    /// in it is not to be held against the consumer.
    pub(crate) fn is_last(&self) -> bool {
        let bytes = self.in_flight.as_ref().map_or(0, Bytes::len);
        self.line.is_empty() && self.in_flight_counted == bytes
    }

    /// Has these bytes in flight, ahead of all that waits.
    pub(crate) fn put_in_flight(&mut self, payload: Bytes) {
        self.in_flight_counted = payload.len();
        self.in_flight = Some(payload);
    }

    /// What [`Outbox::next_send`] has just given leaves as these bytes, which carry it.
    pub(crate) fn seal_in_flight(&mut self, sealed: Bytes) {
        self.in_flight = Some(sealed);
    }

    /// The send in flight has ended after so many bytes; answers the rest that must be sent again, if any.
    pub(crate) fn sent(&mut self, bytes: usize) -> Option<Bytes> {
        let mut payload = self.in_flight.take()?;
        if bytes >= payload.len() {
            self.in_flight_counted = 0;
            return None;
        }
        let rest = payload.split_off(bytes);
        self.in_flight_counted = self.in_flight_counted.min(rest.len());
        self.in_flight = Some(rest.clone());
        Some(rest)
    }

    fn reset(&mut self) {
        self.owner = None;
        self.begins_with_response = false;
        self.line.reset();
        self.in_flight = None;
        self.in_flight_counted = 0;
        self.noted_bytes = 0;
    }
}

/// What waits for a connection: the number of an outbox in its pool or, with [`LONE`] set, of a payload that waits alone; [`OutboxId::NONE`] for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutboxId(u32);

impl OutboxId {
    pub(crate) const NONE: Self = Self(u32::MAX);

    fn lone(self) -> Option<usize> {
        (self != Self::NONE && self.0 & LONE != 0).then_some((self.0 & !LONE) as usize)
    }
}

/// Above every number of either kind.
const LONE: u32 = 1 << 31;

/// Outboxes that are kept when unused: beyond it their memory is given back.
const SPARE_OUTBOXES_MAX: usize = 1024;

/// Lone payloads for which room is kept while there are none.
const SPARE_LONE_MAX: usize = 4096;

/// The outboxes of a shard. As many as connections with output, at most.
#[derive(Debug, Default)]
pub(crate) struct OutboxPool {
    outboxes: Vec<Option<Box<Outbox>>>,
    free: Vec<u32>,
    #[expect(clippy::vec_box, reason = "a box moves between the lists as it is")]
    spare: Vec<Box<Outbox>>,
    /// Payloads that wait alone until their connections are settled. Empty then; kept for its capacity.
    lone: Vec<Option<Rc<Payload>>>,
    lone_count: usize,
    /// What waits in outboxes, as of when each was noted.
    noted_bytes: usize,
}

impl OutboxPool {
    /// The outbox of a connection, if it has one.
    pub(crate) fn find(&mut self, id: OutboxId) -> Option<&mut Outbox> {
        self.outboxes.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// Bytes waiting or in flight in all outboxes, as far as they were noted ([`OutboxPool::note`]).
    pub(crate) fn bytes(&self) -> usize {
        self.noted_bytes
    }

    /// Counts what is in the outbox of a connection, if it has one. Called where a settle leaves something in it, and not as payloads come and go: most outboxes are
    /// empty by then.
    pub(crate) fn note(&mut self, id: OutboxId) {
        let outbox = self.outboxes.get_mut(id.0 as usize);
        if let Some(outbox) = outbox.and_then(Option::as_deref_mut) {
            let bytes = outbox.bytes();
            self.noted_bytes = self.noted_bytes - outbox.noted_bytes + bytes;
            outbox.noted_bytes = bytes;
        }
    }

    /// Connections that a settle has left something waiting for or in flight, with how many bytes that was: those of so many places from the one given on. The second value is where to go on.
    pub(crate) fn page(
        &self,
        from: usize,
        most: usize,
    ) -> (impl Iterator<Item = (ConnectionKey, usize)>, usize) {
        let from = from.min(self.outboxes.len());
        let end = from.saturating_add(most).min(self.outboxes.len());
        let outboxes = self.outboxes[from..end].iter().flatten();
        let waiting = outboxes.filter(|outbox| outbox.noted_bytes > 0);
        let page = waiting.filter_map(|outbox| Some((outbox.owner?, outbox.noted_bytes)));
        (page, if end == self.outboxes.len() { 0 } else { end })
    }

    /// Bytes waiting or in flight for a connection.
    pub(crate) fn bytes_of(&self, id: OutboxId) -> usize {
        if let Some(place) = id.lone() {
            return self
                .lone
                .get(place)
                .and_then(Option::as_ref)
                .map_or(0, |payload| payload.bytes.len());
        }
        self.outboxes
            .get(id.0 as usize)
            .and_then(Option::as_deref)
            .map_or(0, Outbox::bytes)
    }

    /// Puts a payload behind what else waits for a connection; answers its outbox, unless the payload waits alone.
    pub(crate) fn push(
        &mut self,
        id: &mut OutboxId,
        owner: ConnectionKey,
        payload: Rc<Payload>,
    ) -> Option<&mut Outbox> {
        if *id == OutboxId::NONE {
            *id = OutboxId(LONE | self.lone.len() as u32);
            self.lone.push(Some(payload));
            self.lone_count += 1;
            return None;
        }
        let outbox = self.ensure(id, owner);
        outbox.push(payload);
        Some(outbox)
    }

    /// Takes a payload that waits alone: nothing waits for the connection any more.
    pub(crate) fn take_lone(&mut self, id: &mut OutboxId) -> Option<Rc<Payload>> {
        let lone = self.lone.get_mut(id.lone()?)?.take();
        *id = OutboxId::NONE;
        self.lone_count -= usize::from(lone.is_some());
        if self.lone_count == 0 {
            self.lone.clear();
            self.lone.shrink_to(SPARE_LONE_MAX);
        }
        lone
    }

    /// The outbox of a connection; it is given one where it has none.
    pub(crate) fn ensure(&mut self, id: &mut OutboxId, owner: ConnectionKey) -> &mut Outbox {
        let lone = self.take_lone(id);
        if *id == OutboxId::NONE {
            *id = OutboxId(self.free.pop().unwrap_or_else(|| {
                self.outboxes.push(None);
                (self.outboxes.len() - 1) as u32
            }));
        }
        let outbox = self.outboxes[id.0 as usize]
            .get_or_insert_with(|| self.spare.pop().unwrap_or_default());
        outbox.owner = Some(owner);
        if let Some(payload) = lone {
            outbox.push(payload);
        }
        outbox
    }

    /// Takes the outbox of a connection back, with whatever is in it.
    pub(crate) fn release(&mut self, id: &mut OutboxId) {
        self.take_lone(id);
        if let Some(mut outbox) = self.outboxes.get_mut(id.0 as usize).and_then(Option::take) {
            self.noted_bytes -= outbox.noted_bytes;
            outbox.reset();
            if self.spare.len() < SPARE_OUTBOXES_MAX {
                self.spare.push(outbox);
            }
            self.free.push(id.0);
        }
        *id = OutboxId::NONE;
    }

    /// The most that waits for any one connection, of either kind.
    pub(crate) fn largest(&self) -> Backlog {
        let outboxes = self.outboxes.iter().flatten();
        let lone = self
            .lone
            .iter()
            .flatten()
            .map(|payload| payload.bytes.len());
        let lone = Backlog {
            bytes: lone.max().unwrap_or(0),
            missed_bytes: 0,
        };
        outboxes.fold(lone, |most, outbox| Backlog {
            bytes: most
                .bytes
                .max(outbox.line.bytes() + outbox.in_flight_counted),
            missed_bytes: most.missed_bytes.max(outbox.line.missed_bytes()),
        })
    }

    /// Connections for which something waits or is in flight.
    pub(crate) fn used(&self) -> usize {
        self.outboxes.len() - self.free.len() + self.lone_count
    }
}
