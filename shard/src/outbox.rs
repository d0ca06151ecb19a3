//! What waits for one connection: payloads shared with other members, the send in flight, and what
//! happens when the consumer is too slow.
//!
//! Only connections with output own an outbox; an idle one has none. Outboxes are pooled, because a busy
//! shard fills and empties one for every delivery.

use bytes::Bytes;
use std::collections::VecDeque;

use crate::hub::Name;

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

/// Room messages that were dropped, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) room: Name,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

#[derive(Debug)]
struct Waiting {
    payload: Bytes,
    /// Known where the policy may drop the payload.
    origin: Option<Origin>,
}

/// The bounds of an outbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxLimits {
    pub(crate) bytes_max: usize,
    pub(crate) messages_max: usize,
    pub(crate) gather_bytes_max: usize,
}

/// Payloads that wait for one connection, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<Waiting>,
    /// Bytes of `waiting`.
    waiting_bytes: usize,
    /// What the send in flight carries; kept to go on after a partial send.
    in_flight: Option<Bytes>,
    /// Dropped and not yet told.
    gaps: Vec<Gap>,
}

/// Entries that an emptied outbox may keep room for.
const SPARE_ENTRIES_MAX: usize = 64;

impl Outbox {
    /// Bytes waiting or in flight.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting_bytes + self.in_flight.as_ref().map_or(0, Bytes::len)
    }

    /// Nothing waits and nothing is in flight.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.gaps.is_empty() && self.in_flight.is_none()
    }

    /// Adds a payload behind the others.
    pub(crate) fn push(&mut self, payload: Bytes, origin: Option<Origin>) {
        self.waiting_bytes += payload.len();
        self.waiting.push_back(Waiting { payload, origin });
    }

    /// More waits than may. What is in flight counts too: the kernel has not taken it. One payload alone is never too
    /// much, or the largest message could not be delivered.
    pub(crate) fn is_over(&self, limits: &OutboxLimits) -> bool {
        let alone = self.waiting.len() + usize::from(self.in_flight.is_some()) <= 1;
        (self.bytes() > limits.bytes_max && !alone) || self.waiting.len() > limits.messages_max
    }

    /// Drops the oldest room messages until the rest fits; answers how many went. The outbox may still be over its
    /// bounds afterwards, when nothing more may be dropped.
    pub(crate) fn drop_oldest(&mut self, limits: &OutboxLimits) -> u64 {
        let mut dropped = 0;
        let mut index = 0;
        while self.is_over(limits) && index < self.waiting.len() {
            if self.waiting[index].origin.is_none() {
                index += 1;
                continue;
            }
            if let Some(Waiting {
                payload,
                origin: Some(origin),
            }) = self.waiting.remove(index)
            {
                self.waiting_bytes -= payload.len();
                self.note_gap(origin);
                dropped += 1;
            }
        }
        dropped
    }

    fn note_gap(&mut self, origin: Origin) {
        let last = self
            .gaps
            .iter_mut()
            .rev()
            .find(|gap| gap.room == origin.room);
        match last {
            Some(gap) if gap.to + 1 == origin.seq => gap.to = origin.seq,
            _ => self.gaps.push(Gap {
                room: origin.room,
                from: origin.seq,
                to: origin.seq,
            }),
        }
    }

    /// Forgets everything that waits; what is in flight stays, since the kernel has it.
    pub(crate) fn clear_waiting(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.gaps.clear();
    }

    /// What to send now, where nothing is in flight: the gaps first, then as many payloads as may be gathered.
    /// A payload that leaves alone is not copied.
    pub(crate) fn next_send(
        &mut self,
        limits: &OutboxLimits,
        mut encode_gap: impl FnMut(Gap) -> Option<Bytes>,
    ) -> Option<Bytes> {
        if self.in_flight.is_some() {
            return None;
        }
        // In front of all that waits: what was dropped was older than the same room's messages behind it.
        for gap in std::mem::take(&mut self.gaps).into_iter().rev() {
            if let Some(payload) = encode_gap(gap) {
                self.waiting_bytes += payload.len();
                self.waiting.push_front(Waiting {
                    payload,
                    origin: None,
                });
            }
        }
        let payload = self.gather(limits.gather_bytes_max)?;
        self.in_flight = Some(payload.clone());
        Some(payload)
    }

    fn gather(&mut self, bytes_max: usize) -> Option<Bytes> {
        let mut count = 0;
        let mut bytes = 0;
        for waiting in &self.waiting {
            if count > 0 && bytes + waiting.payload.len() > bytes_max {
                break;
            }
            count += 1;
            bytes += waiting.payload.len();
        }
        self.waiting_bytes -= bytes;
        if count <= 1 {
            return self.waiting.pop_front().map(|waiting| waiting.payload);
        }
        let mut gathered = Vec::with_capacity(bytes);
        for waiting in self.waiting.drain(..count) {
            gathered.extend_from_slice(&waiting.payload);
        }
        Some(Bytes::from(gathered))
    }

    /// The send in flight has ended after so many bytes; answers the rest that must be sent again, if any.
    pub(crate) fn sent(&mut self, bytes: usize) -> Option<Bytes> {
        let mut payload = self.in_flight.take()?;
        if bytes >= payload.len() {
            return None;
        }
        let rest = payload.split_off(bytes);
        self.in_flight = Some(rest.clone());
        Some(rest)
    }

    fn reset(&mut self) {
        self.clear_waiting();
        self.in_flight = None;
        self.waiting.shrink_to(SPARE_ENTRIES_MAX);
        self.gaps.shrink_to(0);
    }
}

/// Number of an outbox in its pool; [`OutboxId::NONE`] for a connection without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutboxId(u32);

impl OutboxId {
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// Outboxes that are kept when unused: beyond it their memory is given back.
const SPARE_OUTBOXES_MAX: usize = 1024;

/// The outboxes of a shard. As many as connections with output, at most.
#[derive(Debug, Default)]
pub(crate) struct OutboxPool {
    outboxes: Vec<Option<Box<Outbox>>>,
    free: Vec<u32>,
    #[expect(clippy::vec_box, reason = "a box moves between the lists as it is")]
    spare: Vec<Box<Outbox>>,
}

impl OutboxPool {
    /// The outbox of a connection, if it has one.
    pub(crate) fn find(&mut self, id: OutboxId) -> Option<&mut Outbox> {
        self.outboxes.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// Bytes waiting or in flight for a connection.
    pub(crate) fn bytes_of(&self, id: OutboxId) -> usize {
        self.outboxes
            .get(id.0 as usize)
            .and_then(Option::as_deref)
            .map_or(0, Outbox::bytes)
    }

    /// The outbox of a connection; it is given one where it has none.
    pub(crate) fn ensure(&mut self, id: &mut OutboxId) -> &mut Outbox {
        if *id == OutboxId::NONE {
            *id = OutboxId(self.free.pop().unwrap_or_else(|| {
                self.outboxes.push(None);
                (self.outboxes.len() - 1) as u32
            }));
        }
        self.outboxes[id.0 as usize].get_or_insert_with(|| self.spare.pop().unwrap_or_default())
    }

    /// Takes the outbox of a connection back, with whatever is in it.
    pub(crate) fn release(&mut self, id: &mut OutboxId) {
        if let Some(mut outbox) = self.outboxes.get_mut(id.0 as usize).and_then(Option::take) {
            outbox.reset();
            if self.spare.len() < SPARE_OUTBOXES_MAX {
                self.spare.push(outbox);
            }
            self.free.push(id.0);
        }
        *id = OutboxId::NONE;
    }

    /// Outboxes in use: none where nothing waits.
    pub(crate) fn used(&self) -> usize {
        self.outboxes.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits {
        bytes_max: 100,
        messages_max: 8,
        gather_bytes_max: 50,
    };

    fn payload(length: usize, byte: u8) -> Bytes {
        Bytes::from(vec![byte; length])
    }

    fn message(outbox: &mut Outbox, room: &str, seq: u64, length: usize) {
        outbox.push(
            payload(length, seq as u8),
            Some(Origin {
                room: room.into(),
                seq,
            }),
        );
    }

    fn encode(gap: Gap) -> Option<Bytes> {
        Some(Bytes::from(format!(
            "<{}:{}-{}>",
            gap.room, gap.from, gap.to
        )))
    }

    #[test]
    fn a_single_payload_leaves_without_a_copy() {
        let mut outbox = Outbox::default();
        let shared = payload(20, 7);
        outbox.push(shared.clone(), None);
        let sent = outbox.next_send(&LIMITS, encode);
        assert_eq!(
            sent.as_ref().map(|bytes| bytes.as_ptr()),
            Some(shared.as_ptr())
        );
    }

    #[test]
    fn small_payloads_leave_together_up_to_the_bound() {
        let mut outbox = Outbox::default();
        for byte in 0..4 {
            outbox.push(payload(20, byte), None);
        }
        let sent = outbox.next_send(&LIMITS, encode);
        assert_eq!(sent.as_ref().map(Bytes::len), Some(40));
        assert_eq!(
            outbox.next_send(&LIMITS, encode),
            None,
            "one send in flight"
        );
        assert_eq!(outbox.sent(40), None);
        assert_eq!(
            outbox.next_send(&LIMITS, encode).map(|bytes| bytes.len()),
            Some(40)
        );
        assert_eq!(outbox.sent(40), None);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_partial_send_goes_on_where_it_stopped() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"abcdef"), None);
        assert!(outbox.next_send(&LIMITS, encode).is_some());
        assert_eq!(outbox.sent(2), Some(Bytes::from_static(b"cdef")));
        assert_eq!(outbox.bytes(), 4);
        assert_eq!(outbox.sent(4), None);
        assert!(outbox.is_empty());
    }

    #[test]
    fn dropping_takes_the_oldest_room_messages_and_names_them() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"answer"), None);
        for seq in 1..=6 {
            message(&mut outbox, if seq == 3 { "b" } else { "a" }, seq, 20);
        }
        assert!(outbox.is_over(&LIMITS));
        assert_eq!(outbox.drop_oldest(&LIMITS), 2);
        assert!(!outbox.is_over(&LIMITS));
        let first = outbox.next_send(&LIMITS, encode).unwrap_or_default();
        assert!(first.starts_with(b"<a:1-2>answer"), "{first:?}");
    }

    #[test]
    fn answers_are_never_dropped() {
        let mut outbox = Outbox::default();
        for byte in 0..6 {
            outbox.push(payload(20, byte), None);
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
        assert_eq!(
            outbox.gaps,
            vec![Gap {
                room: "a".into(),
                from: 1,
                to: 45
            }]
        );
    }

    #[test]
    fn the_pool_reuses_places_and_memory() {
        let mut pool = OutboxPool::default();
        let mut first = OutboxId::NONE;
        pool.ensure(&mut first).push(payload(3, 1), None);
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
