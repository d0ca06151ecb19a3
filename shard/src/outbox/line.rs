//! What waits in one outbox, in order, and what is taken out of its middle.
//!
//! An entry that is taken out leaves its place vacant, so that the others keep theirs and nothing is moved. Vacant places at the front go at once, those in the
//! middle when they are more than half of all. So every step costs the same on average, however much waits.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::{Gap, Late, Origin, Payload, Role};
use crate::hub::Name;
use crate::hub::event::Message;

#[derive(Debug)]
enum Waiting {
    Ready(Rc<Payload>),
    /// Never held against the consumer.
    Later(Box<Later>),
    /// What stood here was taken out.
    Vacant,
}

/// What is encoded only as it leaves.
#[derive(Debug)]
struct Later {
    what: Late,
    /// Empty while it is not encoded.
    bytes: Bytes,
    /// Known where a missed message may be dropped.
    origin: Option<Origin>,
}

/// The bytes of a vacant place, and of what is not encoded.
static NO_BYTES: Bytes = Bytes::new();

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
            Self::Vacant => &NO_BYTES,
        }
    }

    /// Of a message that may be dropped when too much waits.
    fn droppable(&self) -> Option<&Origin> {
        match self {
            Self::Ready(payload) => match &payload.role {
                Role::Droppable(origin) => Some(origin),
                Role::Kept | Role::Latest(_) | Role::Fence(_) => None,
            },
            Self::Later(later) => later.origin.as_ref(),
            Self::Vacant => None,
        }
    }
}

/// What a missed message costs while it waits, in bytes: about what it costs the history.
pub(super) fn cost(message: &Message) -> usize {
    message.content.len() + size_of::<Message>() + size_of::<Waiting>() + size_of::<Later>()
}

/// Where the only message of a conflating room stands that may give way to the next, by the numbers of the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Latest {
    message: u64,
    seq: u64,
    /// What tells of those that have given way.
    gap: Option<u64>,
}

/// The first entries of a line: those that leave in one send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    places: usize,
    pub(super) payloads: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Begins with no vacant place.
    entries: VecDeque<Waiting>,
    /// The number of the first place. Places keep their numbers, unless vacant ones go.
    first: u64,
    /// Without missed messages and gaps.
    bytes: usize,
    missed_count: usize,
    missed_bytes: usize,
    gaps_count: usize,
    vacant_count: usize,
    /// In so many of the first places stands nothing that may be dropped.
    searched: usize,
    /// By room; no more than there are messages waiting.
    latest: HashMap<Name, Latest>,
    conflated_count: u64,
}

/// Entries that an emptied line may keep room for.
const SPARE_ENTRIES_MAX: usize = 64;

/// Vacant places in the middle that are always let be.
const VACANT_MIN: usize = 32;

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Payloads that count against the consumer.
    pub(super) fn counted(&self) -> usize {
        self.entries.len() - self.missed_count - self.gaps_count - self.vacant_count
    }

    /// Bytes of these.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn missed_count(&self) -> usize {
        self.missed_count
    }

    /// What the missed messages cost.
    pub(super) fn missed_bytes(&self) -> usize {
        self.missed_bytes
    }

    #[cfg(test)]
    pub(super) fn gaps_count(&self) -> usize {
        self.gaps_count
    }

    /// Places, vacant ones included.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn take_conflated_count(&mut self) -> u64 {
        std::mem::take(&mut self.conflated_count)
    }

    /// Adds a payload behind the others. The message of a conflating room that waits gives way to the next.
    pub(super) fn push(&mut self, payload: Rc<Payload>) {
        match &payload.role {
            Role::Kept | Role::Droppable(_) => {}
            Role::Latest(origin) => self.conflate(origin),
            Role::Fence(room) => {
                self.latest.remove(room);
            }
        }
        self.bytes += payload.bytes.len();
        self.entries.push_back(Waiting::Ready(payload));
    }

    pub(super) fn push_missed(&mut self, message: Arc<Message>, origin: Option<Origin>) {
        self.missed_count += 1;
        self.missed_bytes += cost(&message);
        self.entries
            .push_back(Waiting::later(Late::Missed(message), origin));
    }

    /// Makes way for the next message of a conflating room. What tells of the one that goes moves to the end: the room has told the consumer nothing in
    /// between that it would have to stand before.
    fn conflate(&mut self, origin: &Origin) {
        let before = self.latest.get(&origin.room).copied();
        let mut gap = None;
        if let Some(before) = before.filter(|before| before.seq + 1 == origin.seq) {
            let told = before.gap.and_then(|gap| self.vacate(gap));
            self.vacate(before.message);
            self.conflated_count += 1;
            let entry = match told {
                Some(Waiting::Later(mut later)) => {
                    if let Late::Gap(gap) = &mut later.what {
                        gap.to = before.seq;
                    }
                    // It may have been encoded for a send that it did not fit into.
                    later.bytes = Bytes::new();
                    Waiting::Later(later)
                }
                _ => Waiting::later(gap_of(origin.room.clone(), before.seq), None),
            };
            self.thin_out();
            gap = Some(self.end());
            self.gaps_count += 1;
            self.entries.push_back(entry);
        }
        let latest = Latest {
            message: self.end(),
            seq: origin.seq,
            gap,
        };
        self.latest.insert(origin.room.clone(), latest);
    }

    /// The number of the place behind the last.
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Takes out what stands in a place.
    fn vacate(&mut self, place: u64) -> Option<Waiting> {
        let index = usize::try_from(place.checked_sub(self.first)?).ok()?;
        let entry = std::mem::replace(self.entries.get_mut(index)?, Waiting::Vacant);
        self.count_out(&entry, place);
        self.vacant_count += 1;
        self.trim();
        Some(entry)
    }

    /// Vacant places at the front go.
    fn trim(&mut self) {
        while let Some(Waiting::Vacant) = self.entries.front() {
            self.entries.pop_front();
            self.vacant_count -= 1;
            self.first += 1;
            self.searched = self.searched.saturating_sub(1);
        }
    }

    /// An entry is out of its place.
    fn count_out(&mut self, entry: &Waiting, place: u64) {
        match entry {
            Waiting::Vacant => {}
            Waiting::Ready(payload) => {
                self.bytes -= payload.bytes.len();
                if let Role::Latest(origin) = &payload.role
                    && let Some(latest) = self.latest.get(&origin.room)
                    && latest.message == place
                {
                    self.latest.remove(&origin.room);
                }
            }
            Waiting::Later(later) => match &later.what {
                Late::Missed(message) => {
                    self.missed_count -= 1;
                    self.missed_bytes -= cost(message);
                }
                Late::Gap(gap) => {
                    self.gaps_count -= 1;
                    if let Some(latest) = self.latest.get_mut(&gap.room)
                        && latest.gap == Some(place)
                    {
                        latest.gap = None;
                    }
                }
            },
        }
    }

    /// Drops the oldest message that may be dropped, and has its gap told; false where there is none.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let origin = loop {
            let Some(entry) = self.entries.get(self.searched) else {
                return false;
            };
            if let Some(origin) = entry.droppable() {
                break origin.clone();
            }
            self.searched += 1;
        };
        let index = self.searched;
        let entry = std::mem::replace(&mut self.entries[index], Waiting::Vacant);
        self.count_out(&entry, self.first + index as u64);
        self.entries[index] = self.gap_before(index, origin);
        self.gaps_count += 1;
        self.searched += 1;
        self.trim();
        self.thin_out();
        true
    }

    /// What tells of a message that stood at `index`, in its place: what the consumer is told of the room before and behind, that it
    /// has joined or that the room has begun anew, keeps its place too. It tells of those before it as well, where nothing but gaps and vacant places stands between.
    fn gap_before(&mut self, index: usize, origin: Origin) -> Waiting {
        for before in (0..index).rev() {
            let later = match &mut self.entries[before] {
                Waiting::Vacant => continue,
                Waiting::Later(later) => later,
                Waiting::Ready(_) => break,
            };
            let Late::Gap(gap) = &mut later.what else {
                break;
            };
            if gap.room == origin.room && gap.to + 1 == origin.seq {
                gap.to = origin.seq;
                later.bytes = Bytes::new();
                self.gaps_count -= 1;
                self.vacant_count += 1;
                return std::mem::replace(&mut self.entries[before], Waiting::Vacant);
            }
        }
        Waiting::later(gap_of(origin.room, origin.seq), None)
    }

    /// Lets vacant places go where there are many, which gives those behind them new numbers.
    fn thin_out(&mut self) {
        if self.vacant_count <= VACANT_MIN || self.vacant_count * 2 <= self.entries.len() {
            return;
        }
        let entries = std::mem::take(&mut self.entries);
        let (mut searched, capacity) = (0, entries.len() - self.vacant_count);
        self.entries = VecDeque::with_capacity(capacity + VACANT_MIN);
        for (index, entry) in entries.into_iter().enumerate() {
            let (old, new) = (self.first + index as u64, self.end());
            match &entry {
                Waiting::Vacant => continue,
                Waiting::Ready(payload) => {
                    if let Role::Latest(origin) = &payload.role
                        && let Some(latest) = self.latest.get_mut(&origin.room)
                        && latest.message == old
                    {
                        latest.message = new;
                    }
                }
                Waiting::Later(later) => {
                    if let Late::Gap(gap) = &later.what
                        && let Some(latest) = self.latest.get_mut(&gap.room)
                        && latest.gap == Some(old)
                    {
                        latest.gap = Some(new);
                    }
                }
            }
            searched += usize::from(index < self.searched);
            self.entries.push_back(entry);
        }
        self.searched = searched;
        self.vacant_count = 0;
    }

    /// What may leave in one send of so many bytes, at least one payload. Encodes what has to be; what has no encoding is taken out.
    pub(super) fn first_share(
        &mut self,
        bytes_max: usize,
        mut encode: impl FnMut(Late) -> Option<Bytes>,
    ) -> Share {
        let (mut places, mut payloads, mut bytes) = (0, 0, 0);
        while let Some(entry) = self.entries.get_mut(places) {
            if let Waiting::Later(later) = entry
                && later.bytes.is_empty()
            {
                let Some(encoded) = encode(later.what.clone()) else {
                    // The application has no words for it, as it may have none for any event.
                    self.vacate(self.first + places as u64);
                    continue;
                };
                later.bytes = encoded;
            }
            let size = entry.bytes().len();
            if payloads > 0 && bytes + size > bytes_max {
                break;
            }
            places += 1;
            payloads += usize::from(size > 0);
            bytes += size;
        }
        Share { places, payloads }
    }

    /// The payloads of a share.
    pub(super) fn payloads(&self, share: Share) -> impl Iterator<Item = &Bytes> + Clone {
        let entries = self.entries.iter().take(share.places).map(Waiting::bytes);
        entries.filter(|bytes| !bytes.is_empty())
    }

    /// Takes the first payload.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let entry = self.entries.pop_front()?;
        self.count_out(&entry, self.first);
        self.first += 1;
        self.searched = self.searched.saturating_sub(1);
        self.trim();
        Some(entry.bytes().clone())
    }

    /// Takes the payloads of a share.
    pub(super) fn pop_share(&mut self, share: Share) {
        let end = self.first + share.places as u64;
        while self.first < end && self.pop().is_some() {}
    }

    /// Forgets all but so many of the first.
    pub(super) fn truncate(&mut self, count: usize) {
        self.entries.truncate(count);
        self.bytes = self.entries.iter().map(|entry| entry.bytes().len()).sum();
        (self.missed_count, self.missed_bytes, self.gaps_count) = (0, 0, 0);
        self.vacant_count = 0;
        self.searched = self.searched.min(count);
        if self.latest.capacity() > 0 {
            self.latest = HashMap::new();
        }
    }

    /// Forgets everything, and gives memory back.
    pub(super) fn reset(&mut self) {
        self.truncate(0);
        self.conflated_count = 0;
        self.entries.shrink_to(SPARE_ENTRIES_MAX);
    }
}

fn gap_of(room: Name, seq: u64) -> Late {
    Late::Gap(Gap {
        room,
        from: seq,
        to: seq,
    })
}
