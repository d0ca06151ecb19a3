//! What waits for one connection: payloads shared with other members, the send in flight, and what
//! happens when the consumer is too slow.
//!
//! Only connections with output own an outbox; an idle one has none, and where one payload alone waits, as in most deliveries, it waits in a
//! list until the connections are settled and takes none either. Outboxes are pooled.

use bytes::Bytes;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::gathering::Gathering;
use crate::hub::Name;
use crate::hub::event::{Event, Message};

/// What happens to a consumer whose outbox is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// Close 1013: the client comes back and recovers from the history.
    #[default]
    Disconnect,
    /// Drop its oldest room messages, whole ones only, and tell it which. Answers, acknowledgements and direct messages are
    /// never dropped: when they alone fill the outbox, the connection is closed 1013.
    DropOldest,
}

/// Which room message a payload carries, so that a gap can name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) room: Name,
    pub(crate) seq: u64,
}

/// Bytes that go to any number of connections of a shard. Shared as an [`Rc`]: a delivery costs a count of its own thread's, where an atomic one would wait
/// for all that was written before, most of it to other connections.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    /// Known where the policy may drop the payload.
    pub(crate) origin: Option<Origin>,
}

impl Payload {
    /// Bytes that no policy drops.
    pub(crate) fn kept(bytes: Bytes) -> Rc<Self> {
        Rc::new(Self {
            bytes,
            origin: None,
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

#[derive(Debug)]
enum Waiting {
    Ready(Rc<Payload>),
    /// Never held against the consumer.
    Later(Box<Later>),
}

/// What is encoded only as it leaves.
#[derive(Debug)]
struct Later {
    what: Late,
    /// Empty while it is not encoded.
    bytes: Bytes,
    origin: Option<Origin>,
}

impl Waiting {
    fn later(what: Late, origin: Option<Origin>) -> Self {
        Self::Later(Box::new(Later {
            what,
            bytes: Bytes::new(),
            origin,
        }))
    }

    fn bytes(&self) -> &Bytes {
        match self {
            Self::Ready(payload) => &payload.bytes,
            Self::Later(later) => &later.bytes,
        }
    }

    fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Ready(payload) => payload.origin.as_ref(),
            Self::Later(later) => later.origin.as_ref(),
        }
    }
}

/// What a missed message costs while it waits, in bytes: about what it costs the history.
fn cost(message: &Message) -> usize {
    message.content.len() + size_of::<Message>() + size_of::<Waiting>() + size_of::<Later>()
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
    waiting: VecDeque<Waiting>,
    /// Bytes of `waiting`, without missed messages.
    waiting_bytes: usize,
    /// Missed messages in `waiting`, and what they cost.
    missed_count: usize,
    missed_bytes: usize,
    /// Gaps in `waiting`.
    gaps_count: usize,
    /// The first of `waiting` answers the handshake: without it the peer would understand nothing that follows.
    begins_with_response: bool,
    /// What the send in flight carries; kept to go on after a partial send.
    in_flight: Option<Bytes>,
    /// Bytes of it that are no missed messages, at most.
    in_flight_counted: usize,
}

/// Entries that an emptied outbox may keep room for.
const SPARE_ENTRIES_MAX: usize = 64;

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
        self.waiting_bytes + self.missed_bytes + self.in_flight.as_ref().map_or(0, Bytes::len)
    }

    /// Nothing waits and nothing is in flight.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_none()
    }

    /// Adds a payload behind the others.
    pub(crate) fn push(&mut self, payload: Rc<Payload>) {
        self.waiting_bytes += payload.bytes.len();
        self.waiting.push_back(Waiting::Ready(payload));
    }

    /// Adds the answer to the handshake, before which nothing can have been said.
    pub(crate) fn push_response(&mut self, response: Bytes) {
        self.begins_with_response = self.waiting.is_empty();
        self.push(Payload::kept(response));
    }

    /// Whether what the consumer has missed of one more room may wait too. The messages of one room alone are never too much.
    pub(crate) fn has_room_for(&self, missed: &[Arc<Message>], limits: &OutboxLimits) -> bool {
        let bytes: usize = missed.iter().map(|message| cost(message)).sum();
        self.missed_count == 0 || self.missed_bytes + bytes <= limits.recovery_bytes_max
    }

    /// Adds a message that the consumer has missed behind all else. It does not count against the consumer, which would be
    /// closed as too slow for what it had no time to read, come back, and be closed again.
    pub(crate) fn push_missed(&mut self, message: Arc<Message>, origin: Option<Origin>) {
        self.missed_count += 1;
        self.missed_bytes += cost(&message);
        self.waiting
            .push_back(Waiting::later(Late::Missed(message), origin));
    }

    /// More waits than may. What is in flight counts too: the kernel has not taken it. One payload alone is never too
    /// much, or the largest message could not be delivered.
    pub(crate) fn is_over(&self, limits: &OutboxLimits) -> bool {
        let count = self.waiting.len() - self.missed_count - self.gaps_count;
        let alone = count + usize::from(self.in_flight_counted > 0) <= 1;
        let bytes = self.waiting_bytes + self.in_flight_counted;
        (bytes > limits.bytes_max && !alone) || count > limits.messages_max
    }

    /// Drops the oldest room messages until the rest fits; answers how many went. The outbox may still be over its
    /// bounds afterwards, when nothing more may be dropped.
    pub(crate) fn drop_oldest(&mut self, limits: &OutboxLimits) -> u64 {
        let mut dropped = 0;
        let mut index = 0;
        while self.is_over(limits) && index < self.waiting.len() {
            let Some(origin) = self.waiting[index].origin().cloned() else {
                index += 1;
                continue;
            };
            self.take(index);
            index += usize::from(self.note_gap(index, origin));
            dropped += 1;
        }
        dropped
    }

    /// Takes an entry out of `waiting`.
    fn take(&mut self, index: usize) -> Option<Waiting> {
        let waiting = match index {
            0 => self.waiting.pop_front(),
            _ => self.waiting.remove(index),
        }?;
        self.begins_with_response &= index > 0;
        match &waiting {
            Waiting::Ready(payload) => self.waiting_bytes -= payload.bytes.len(),
            Waiting::Later(later) => match &later.what {
                Late::Missed(message) => {
                    self.missed_count -= 1;
                    self.missed_bytes -= cost(message);
                }
                Late::Gap(_) => self.gaps_count -= 1,
            },
        }
        Some(waiting)
    }

    /// Has the gap of a message that stood at `index` told in its place: what the consumer is told of the room before and behind, that it
    /// has joined or that the room has begun anew, keeps its place too. Answers whether an entry was added.
    fn note_gap(&mut self, index: usize, origin: Origin) -> bool {
        let mut before = index;
        // One for each room at most, as nothing stands between them that would keep them apart.
        while before > 0
            && let Some(Waiting::Later(later)) = self.waiting.get_mut(before - 1)
            && let Late::Gap(gap) = &mut later.what
        {
            if gap.room == origin.room && gap.to + 1 == origin.seq {
                gap.to = origin.seq;
                // It may have been encoded for a send that it did not fit into.
                later.bytes = Bytes::new();
                return false;
            }
            before -= 1;
        }
        self.gaps_count += 1;
        let gap = Gap {
            room: origin.room,
            from: origin.seq,
            to: origin.seq,
        };
        self.waiting
            .insert(index, Waiting::later(Late::Gap(gap), None));
        true
    }

    /// Forgets everything that waits, but for the answer to the handshake; what is in flight stays, since the kernel has it.
    pub(crate) fn clear_waiting(&mut self) {
        self.waiting
            .truncate(usize::from(self.begins_with_response));
        self.waiting_bytes = self.waiting.iter().map(|first| first.bytes().len()).sum();
        (self.missed_count, self.missed_bytes, self.gaps_count) = (0, 0, 0);
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
        mut encode: impl FnMut(Late) -> Option<Bytes>,
    ) -> Option<Bytes> {
        let (mut count, mut bytes) = (0, 0);
        while let Some(waiting) = self.waiting.get_mut(count) {
            if let Waiting::Later(later) = waiting
                && later.bytes.is_empty()
            {
                let Some(encoded) = encode(later.what.clone()) else {
                    // The application has no words for it, as it may have none for any event.
                    self.take(count);
                    continue;
                };
                later.bytes = encoded;
            }
            let size = waiting.bytes().len();
            if count > 0 && bytes + size > bytes_max {
                break;
            }
            count += 1;
            bytes += size;
        }
        let waiting_bytes = self.waiting_bytes;
        let payload = if count <= 1 {
            self.take(0)?.bytes().clone()
        } else {
            let whole = gathering.gather(self.waiting.iter().take(count).map(Waiting::bytes));
            for _ in 0..count {
                self.take(0);
            }
            whole
        };
        self.in_flight_counted = waiting_bytes - self.waiting_bytes;
        Some(payload)
    }

    /// What [`Outbox::next_send`] has just given leaves all at once if it is tried, as far as the outbox is concerned: nothing else waits, and nothing
    /// in it is not to be held against the consumer.
    pub(crate) fn is_last(&self) -> bool {
        let bytes = self.in_flight.as_ref().map_or(0, Bytes::len);
        self.waiting.is_empty() && self.in_flight_counted == bytes
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
        self.begins_with_response = false;
        self.clear_waiting();
        self.in_flight = None;
        self.in_flight_counted = 0;
        self.waiting.shrink_to(SPARE_ENTRIES_MAX);
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
}

impl OutboxPool {
    /// The outbox of a connection, if it has one.
    pub(crate) fn find(&mut self, id: OutboxId) -> Option<&mut Outbox> {
        self.outboxes.get_mut(id.0 as usize)?.as_deref_mut()
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
    pub(crate) fn push(&mut self, id: &mut OutboxId, payload: Rc<Payload>) -> Option<&mut Outbox> {
        if *id == OutboxId::NONE {
            *id = OutboxId(LONE | self.lone.len() as u32);
            self.lone.push(Some(payload));
            self.lone_count += 1;
            return None;
        }
        let outbox = self.ensure(id);
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
    pub(crate) fn ensure(&mut self, id: &mut OutboxId) -> &mut Outbox {
        let lone = self.take_lone(id);
        if *id == OutboxId::NONE {
            *id = OutboxId(self.free.pop().unwrap_or_else(|| {
                self.outboxes.push(None);
                (self.outboxes.len() - 1) as u32
            }));
        }
        let outbox = self.outboxes[id.0 as usize]
            .get_or_insert_with(|| self.spare.pop().unwrap_or_default());
        if let Some(payload) = lone {
            outbox.push(payload);
        }
        outbox
    }

    /// Takes the outbox of a connection back, with whatever is in it.
    pub(crate) fn release(&mut self, id: &mut OutboxId) {
        self.take_lone(id);
        if let Some(mut outbox) = self.outboxes.get_mut(id.0 as usize).and_then(Option::take) {
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
                .max(outbox.waiting_bytes + outbox.in_flight_counted),
            missed_bytes: most.missed_bytes.max(outbox.missed_bytes),
        })
    }

    /// Connections for which something waits or is in flight.
    pub(crate) fn used(&self) -> usize {
        self.outboxes.len() - self.free.len() + self.lone_count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits {
        bytes_max: 100,
        messages_max: 8,
        gather_bytes_max: 50,
        recovery_bytes_max: 2000,
    };

    fn payload(length: usize, byte: u8) -> Rc<Payload> {
        Payload::kept(Bytes::from(vec![byte; length]))
    }

    fn message(outbox: &mut Outbox, room: &str, seq: u64, length: usize) {
        let room = room.into();
        outbox.push(Rc::new(Payload {
            bytes: Bytes::from(vec![seq as u8; length]),
            origin: Some(Origin { room, seq }),
        }));
    }

    fn encode(late: Late) -> Option<Bytes> {
        Some(Bytes::from(match late {
            Late::Gap(Gap { room, from, to }) => format!("<{room}:{from}-{to}>"),
            Late::Missed(message) => format!("({})", message.seq),
        }))
    }

    fn next_send(outbox: &mut Outbox) -> Option<Bytes> {
        outbox.next_send(&LIMITS, &mut Gathering::default(), encode)
    }

    /// Messages 1 to `last`, each of 1000 bytes.
    fn missed(last: u64) -> Vec<Arc<Message>> {
        let message = |seq| Message {
            target: crate::hub::Target::Room("a".into()),
            user: "ada".into(),
            content: Bytes::from(vec![b'x'; 1000]),
            seq,
            timestamp_ms: 0,
        };
        (1..=last).map(message).map(Arc::new).collect()
    }

    fn push_missed(outbox: &mut Outbox, missed: Vec<Arc<Message>>) {
        for message in missed {
            let (room, seq) = ("a".into(), message.seq);
            outbox.push_missed(message, Some(Origin { room, seq }));
        }
    }

    #[test]
    fn a_single_payload_leaves_without_a_copy() {
        let mut outbox = Outbox::default();
        let shared = payload(20, 7);
        outbox.push(Rc::clone(&shared));
        let sent = next_send(&mut outbox);
        assert_eq!(
            sent.as_ref().map(|bytes| bytes.as_ptr()),
            Some(shared.bytes.as_ptr())
        );
    }

    #[test]
    fn small_payloads_leave_together_up_to_the_bound() {
        let mut outbox = Outbox::default();
        for byte in 0..4 {
            outbox.push(payload(20, byte));
        }
        let sent = next_send(&mut outbox);
        assert_eq!(sent.as_ref().map(Bytes::len), Some(40));
        assert_eq!(next_send(&mut outbox), None, "one send in flight");
        assert_eq!(outbox.sent(40), None);
        assert_eq!(next_send(&mut outbox).map(|bytes| bytes.len()), Some(40));
        assert_eq!(outbox.sent(40), None);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_partial_send_goes_on_where_it_stopped() {
        let mut outbox = Outbox::default();
        outbox.push(Payload::kept(Bytes::from_static(b"abcdef")));
        assert!(next_send(&mut outbox).is_some());
        assert_eq!(outbox.sent(2), Some(Bytes::from_static(b"cdef")));
        assert_eq!(outbox.bytes(), 4);
        assert_eq!(outbox.sent(4), None);
        assert!(outbox.is_empty());
    }

    #[test]
    fn dropping_takes_the_oldest_room_messages_and_names_them() {
        let mut outbox = Outbox::default();
        outbox.push(Payload::kept(Bytes::from_static(b"answer")));
        for seq in 1..=6 {
            message(&mut outbox, if seq == 3 { "b" } else { "a" }, seq, 20);
        }
        assert!(outbox.is_over(&LIMITS));
        assert_eq!(outbox.drop_oldest(&LIMITS), 2);
        assert!(!outbox.is_over(&LIMITS));
        let first = next_send(&mut outbox).unwrap_or_default();
        assert!(first.starts_with(b"answer<a:1-2>"), "{first:?}");
    }

    #[test]
    fn a_gap_stands_where_its_messages_stood() {
        let mut outbox = Outbox::default();
        message(&mut outbox, "a", 1, 20);
        message(&mut outbox, "b", 7, 20);
        message(&mut outbox, "a", 2, 20);
        // The consumer leaves the room and comes again: what it misses then must not be told before it is in.
        outbox.push(Payload::kept(Bytes::from_static(b"joined")));
        for seq in 12..=16 {
            message(&mut outbox, "a", seq, 20);
        }
        message(&mut outbox, "a", 17, 90);
        assert_eq!(outbox.drop_oldest(&LIMITS), 8);
        let first = next_send(&mut outbox).unwrap_or_default();
        assert_eq!(first, &b"<a:1-2><b:7-7>joined<a:12-16>"[..]);
        assert_eq!(outbox.sent(first.len()), None);
        assert_eq!(outbox.bytes(), 90);
    }

    #[test]
    fn answers_are_never_dropped() {
        let mut outbox = Outbox::default();
        for byte in 0..6 {
            outbox.push(payload(20, byte));
        }
        assert_eq!(outbox.drop_oldest(&LIMITS), 0);
        assert!(outbox.is_over(&LIMITS));
    }

    #[test]
    fn a_run_of_drops_is_one_gap() {
        let mut outbox = Outbox::default();
        for seq in 1..=50 {
            message(&mut outbox, "a", seq, 20);
            outbox.drop_oldest(&LIMITS);
        }
        assert_eq!(outbox.gaps_count, 1);
        let first = next_send(&mut outbox).unwrap_or_default();
        assert!(first.starts_with(b"<a:1-45>"), "{first:?}");
    }

    #[test]
    fn what_was_missed_is_never_too_much_and_keeps_its_place() {
        let mut outbox = Outbox::default();
        outbox.push(Payload::kept(Bytes::from_static(b"joined")));
        assert!(outbox.has_room_for(&missed(20), &LIMITS));
        push_missed(&mut outbox, missed(20));
        assert!(!outbox.is_over(&LIMITS));
        assert!(outbox.bytes() > 20_000, "the client is not read meanwhile");
        assert!(
            !outbox.has_room_for(&missed(1), &LIMITS),
            "the bound holds for rooms together"
        );
        message(&mut outbox, "a", 21, 20);
        let mut sent = Vec::new();
        while let Some(payload) = next_send(&mut outbox) {
            assert!(payload.len() <= LIMITS.gather_bytes_max);
            assert_eq!(outbox.sent(payload.len()), None);
            sent.extend_from_slice(&payload);
        }
        let mut expected = b"joined".to_vec();
        (1..=20).for_each(|seq| expected.extend_from_slice(format!("({seq})").as_bytes()));
        expected.extend_from_slice(&[21; 20]);
        assert_eq!(sent, expected);
        assert!(outbox.is_empty() && outbox.bytes() == 0);
        assert!(outbox.has_room_for(&missed(20), &LIMITS));
    }

    #[test]
    fn what_is_said_meanwhile_counts_and_drops_the_oldest_first() {
        let mut outbox = Outbox::default();
        push_missed(&mut outbox, missed(3));
        for seq in 4..=8 {
            message(&mut outbox, "a", seq, 20);
        }
        assert!(!outbox.is_over(&LIMITS), "100 bytes are permitted");
        message(&mut outbox, "a", 9, 20);
        assert!(outbox.is_over(&LIMITS));
        assert_eq!(outbox.drop_oldest(&LIMITS), 4, "1 to 3 count for nothing");
        let first = next_send(&mut outbox).unwrap_or_default();
        assert!(first.starts_with(b"<a:1-4>\x05"), "{first:?}");
        outbox.clear_waiting();
        assert_eq!(outbox.bytes(), first.len());
    }

    #[test]
    fn the_pool_reuses_places_and_memory() {
        let mut pool = OutboxPool::default();
        let mut first = OutboxId::NONE;
        pool.ensure(&mut first).push(payload(3, 1));
        let before = first;
        assert_eq!(pool.bytes_of(first), 3);
        pool.release(&mut first);
        assert_eq!((first, pool.used()), (OutboxId::NONE, 0));
        pool.release(&mut first);
        let mut second = OutboxId::NONE;
        assert!(pool.ensure(&mut second).is_empty());
        assert_eq!(second, before);
    }
}
