//! A coarse timer wheel: one deadline for each connection slot.
//!
//! Heartbeats, idle checks and close deadlines of a million connections need to be set, moved and
//! cancelled in constant time, and need not be exact. So deadlines are rounded up to ticks, a
//! wheel of buckets holds the ticks ahead, and the entries of a bucket are linked through one table
//! indexed by slot: 12 bytes a slot, no allocation for a deadline.
//!
//! A deadline beyond the wheel's span waits in the furthest bucket and is filed again when that
//! bucket's tick comes. Hence every entry in a bucket that is looked at leaves it, and work that is
//! cut short by its bound goes on where it stopped.

use crate::chunked::Chunked;
use crate::limits::SLOT_BITS;

/// Buckets of a wheel. 64 words of 64 bits, so that one more word summarises which words hold anything.
const BUCKETS: u64 = 4096;
const WORD_BITS: usize = 64;
const WORDS: usize = BUCKETS as usize / WORD_BITS;

/// The end of a list of slots.
const NONE: u32 = (1 << LINK_BITS) - 1;
/// Set in what stands before the first slot of a bucket: the bucket's number.
const IN_BUCKET: u32 = 1 << (LINK_BITS - 1);
/// Bits of a link: a slot, a bucket's number with [`IN_BUCKET`], or [`NONE`].
const LINK_BITS: u32 = 24;
/// Ticks are kept in 48 bits: thousands of years of milliseconds.
const TICK_MAX: u64 = (1 << 48) - 1;

const _: () = assert!(
    SLOT_BITS < LINK_BITS - 1,
    "a slot must not look like a bucket"
);
const _: () = assert!(
    BUCKETS < (IN_BUCKET - 1) as u64,
    "no bucket's link must look like NONE"
);
const _: () = assert!(WORDS == WORD_BITS, "one word must summarise all words");

/// The deadline of one slot and its neighbours in the bucket: two links in the low bits of the first two words, the rest is the deadline's
/// tick. Before the first of a bucket stands the bucket; before one without a deadline stands nothing.
#[derive(Clone, Copy, Debug)]
struct Entry([u32; 3]);

const _: () = assert!(size_of::<Entry>() <= 12, "a slot's timer must stay small");

impl Default for Entry {
    fn default() -> Self {
        Self([NONE, NONE, 0])
    }
}

impl Entry {
    const fn next(self) -> u32 {
        self.0[0] & NONE
    }

    fn next_set(&mut self, link: u32) {
        self.0[0] = self.0[0] & !NONE | link;
    }

    const fn previous(self) -> u32 {
        self.0[1] & NONE
    }

    fn previous_set(&mut self, link: u32) {
        self.0[1] = self.0[1] & !NONE | link;
    }

    const fn deadline(self) -> u64 {
        let [low, middle, high] = self.0;
        (high as u64) << 16 | ((middle >> LINK_BITS) as u64) << 8 | (low >> LINK_BITS) as u64
    }

    fn deadline_set(&mut self, tick: u64) {
        self.0[0] = self.next() | (tick as u32) << LINK_BITS;
        self.0[1] = self.previous() | ((tick >> 8) as u32) << LINK_BITS;
        self.0[2] = (tick >> 16) as u32;
    }
}

/// Deadlines of slots, at most one each, rounded up to the next tick: none expires early.
#[derive(Debug)]
pub struct TimerWheel {
    tick_ms: u64,
    /// The tick up to which all is done, except for what stands in its own bucket. The bucket of
    /// tick `t` is `t % BUCKETS`, and the wheel holds the ticks from here to `BUCKETS - 1` later.
    cursor: u64,
    /// First slot of each bucket.
    heads: Box<[u32]>,
    /// Which buckets are not empty.
    occupied: [u64; WORDS],
    /// Which words of `occupied` are not zero.
    occupied_words: u64,
    /// By slot.
    entries: Chunked<Entry>,
}

impl TimerWheel {
    /// A wheel without deadlines whose ticks last `tick_ms` milliseconds (0 counts as 1).
    #[must_use]
    pub fn new(tick_ms: u64) -> Self {
        Self {
            tick_ms: tick_ms.max(1),
            cursor: 0,
            heads: vec![NONE; BUCKETS as usize].into_boxed_slice(),
            occupied: [0; WORDS],
            occupied_words: 0,
            entries: Chunked::default(),
        }
    }

    /// Sets the deadline of `slot`, in milliseconds of the monotonic clock, and replaces the one it had.
    ///
    /// A deadline that has passed expires with the next [`Self::expire`].
    pub fn set(&mut self, slot: u32, deadline_ms: u64) {
        self.entries.ensure(slot as usize);
        self.unlink(slot);
        let tick = deadline_ms.div_ceil(self.tick_ms).min(TICK_MAX);
        self.entries[slot as usize].deadline_set(tick);
        self.link(slot, tick);
    }

    /// The deadline of `slot` as it is kept, rounded up to a tick; `None` where it has none.
    #[must_use]
    pub fn deadline_ms(&self, slot: u32) -> Option<u64> {
        let entry = self.entries.get(slot as usize)?;
        let is_set = entry.previous() != NONE;
        is_set.then(|| entry.deadline().saturating_mul(self.tick_ms))
    }

    /// Removes the deadline of `slot`, if it has one.
    pub fn cancel(&mut self, slot: u32) {
        if (slot as usize) < self.entries.len() {
            self.unlink(slot);
        }
    }

    /// Appends to `expired` the slots whose deadline has passed at `now_ms` and removes their deadlines.
    ///
    /// At most `max` entries are looked at, due or not. Where that was too few, the rest stays for the next
    /// call, and [`Self::next_due_ms`] is not later than `now_ms`. Slots come in no particular order.
    pub fn expire(&mut self, now_ms: u64, max: usize, expired: &mut Vec<u32>) {
        let now = now_ms / self.tick_ms;
        if now < self.cursor {
            return;
        }
        // More than a lap behind: every bucket is due a look whatever lap it stands for, so laps are not walked one by one.
        self.cursor = self.cursor.max((now + 1).saturating_sub(BUCKETS));
        for _ in 0..max {
            let Some(tick) = self.occupied_first().filter(|&tick| tick <= now) else {
                self.cursor = now;
                return;
            };
            self.cursor = tick;
            let slot = self.heads[Self::bucket(tick)];
            let deadline = self.entries[slot as usize].deadline();
            self.unlink(slot);
            if deadline <= now {
                expired.push(slot);
            } else {
                self.link(slot, deadline);
            }
        }
    }

    /// A time in milliseconds before which nothing expires; `None` without any deadline.
    ///
    /// The time is that of the earliest deadline, or earlier when that deadline lies beyond the wheel's span.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        self.occupied_first()
            .map(|tick| tick.saturating_mul(self.tick_ms))
    }

    const fn bucket(tick: u64) -> usize {
        (tick % BUCKETS) as usize
    }

    /// The earliest tick whose bucket holds anything: the first set bit, going round from the cursor's.
    fn occupied_first(&self) -> Option<u64> {
        if self.occupied_words == 0 {
            return None;
        }
        let start = Self::bucket(self.cursor);
        let (word, bit) = (start / WORD_BITS, start % WORD_BITS);
        let ahead = self.occupied[word] >> bit;
        if ahead != 0 {
            return Some(self.cursor + u64::from(ahead.trailing_zeros()));
        }
        // Rotated so that the word after the cursor's is bit 0 and the cursor's own, whose lower bits
        // are the end of the round, is the last.
        let rotated = self.occupied_words.rotate_right(word as u32 + 1);
        let word_found = (word + 1 + rotated.trailing_zeros() as usize) % WORDS;
        let found = word_found * WORD_BITS + self.occupied[word_found].trailing_zeros() as usize;
        let distance = (found + BUCKETS as usize - start) % BUCKETS as usize;
        Some(self.cursor + distance as u64)
    }

    /// Files an unlinked slot under `tick`, or as near to it as the wheel reaches.
    fn link(&mut self, slot: u32, tick: u64) {
        let bucket = Self::bucket(tick.clamp(self.cursor, self.cursor + BUCKETS - 1));
        let head = std::mem::replace(&mut self.heads[bucket], slot);
        if head == NONE {
            self.occupied[bucket / WORD_BITS] |= 1 << (bucket % WORD_BITS);
            self.occupied_words |= 1 << (bucket / WORD_BITS);
        } else {
            self.entries[head as usize].previous_set(slot);
        }
        let entry = &mut self.entries[slot as usize];
        entry.next_set(head);
        entry.previous_set(IN_BUCKET | bucket as u32);
    }

    /// Takes a slot of the table out of its bucket, if it is in one.
    fn unlink(&mut self, slot: u32) {
        let entry = &mut self.entries[slot as usize];
        let (next, previous) = (entry.next(), entry.previous());
        if previous == NONE {
            return;
        }
        entry.previous_set(NONE);
        if next != NONE {
            self.entries[next as usize].previous_set(previous);
        }
        if previous & IN_BUCKET == 0 {
            self.entries[previous as usize].next_set(next);
            return;
        }
        let bucket = (previous & !IN_BUCKET) as usize;
        self.heads[bucket] = next;
        if next == NONE {
            let word = bucket / WORD_BITS;
            self.occupied[word] &= !(1 << (bucket % WORD_BITS));
            if self.occupied[word] == 0 {
                self.occupied_words &= !(1 << word);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const TICK_MS: u64 = 10;
    const SPAN_MS: u64 = BUCKETS * TICK_MS;

    fn expired(wheel: &mut TimerWheel, now_ms: u64) -> Vec<u32> {
        let mut slots = Vec::new();
        wheel.expire(now_ms, usize::MAX, &mut slots);
        slots.sort_unstable();
        slots
    }

    #[test]
    fn a_deadline_is_rounded_up_to_a_tick() {
        let mut wheel = TimerWheel::new(TICK_MS);
        wheel.set(3, 15);
        assert_eq!(wheel.next_due_ms(), Some(20));
        assert_eq!(wheel.deadline_ms(3), Some(20));
        assert!(expired(&mut wheel, 19).is_empty());
        assert_eq!(expired(&mut wheel, 20), [3]);
        assert_eq!(wheel.next_due_ms(), None);
        assert_eq!(
            (wheel.deadline_ms(3), wheel.deadline_ms(9999)),
            (None, None)
        );
        assert!(expired(&mut wheel, 1000).is_empty());
    }

    #[test]
    fn a_later_deadline_replaces_and_cancel_removes() {
        let mut wheel = TimerWheel::new(TICK_MS);
        wheel.set(0, 100);
        wheel.set(1, 100);
        wheel.set(0, 300);
        wheel.cancel(1);
        wheel.cancel(99);
        assert!(expired(&mut wheel, 200).is_empty());
        assert_eq!(expired(&mut wheel, 300), [0]);
    }

    #[test]
    fn a_deadline_in_the_past_expires_at_once() {
        let mut wheel = TimerWheel::new(TICK_MS);
        assert!(expired(&mut wheel, 5000).is_empty());
        wheel.set(7, 20);
        assert!(wheel.next_due_ms().unwrap() <= 5000);
        assert_eq!(expired(&mut wheel, 5000), [7]);
    }

    #[test]
    fn a_deadline_beyond_the_span_waits_its_laps() {
        let mut wheel = TimerWheel::new(TICK_MS);
        let deadline_ms = SPAN_MS * 5 + 30;
        wheel.set(1, deadline_ms);
        let mut now_ms = 0;
        let mut steps = 0;
        while now_ms < deadline_ms {
            assert!(expired(&mut wheel, now_ms).is_empty(), "at {now_ms}");
            let due_ms = wheel.next_due_ms().unwrap();
            assert!(
                now_ms < due_ms && due_ms <= deadline_ms,
                "{due_ms} at {now_ms}"
            );
            now_ms = due_ms;
            steps += 1;
        }
        assert!(steps <= 7, "one look a lap, not {steps}");
        assert_eq!(expired(&mut wheel, deadline_ms), [1]);
    }

    #[test]
    fn the_end_of_time_is_not_due() {
        let mut wheel = TimerWheel::new(1);
        wheel.set(0, u64::MAX);
        assert!(expired(&mut wheel, 1 << 40).is_empty());
        assert!(wheel.next_due_ms().is_some());
    }

    #[test]
    fn work_of_a_call_is_bounded_and_goes_on() {
        let mut wheel = TimerWheel::new(TICK_MS);
        for slot in 0..1000 {
            wheel.set(slot, 50);
        }
        let mut slots = Vec::new();
        for round in 1..=10 {
            assert_eq!(wheel.next_due_ms(), Some(50));
            wheel.expire(60, 100, &mut slots);
            assert_eq!(slots.len(), round * 100);
        }
        assert_eq!(wheel.next_due_ms(), None);
        slots.sort_unstable();
        assert_eq!(slots, (0..1000).collect::<Vec<_>>());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set { slot: u32, delay_ms: u64 },
        SetPast { slot: u32 },
        Cancel { slot: u32 },
        Expire { advance_ms: u64, max: usize },
    }

    fn delay_ms() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..200_u64,
            0..SPAN_MS,
            (SPAN_MS - 30)..(SPAN_MS + 30),
            0..SPAN_MS * 4
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        let slot = || 0..40_u32;
        prop_oneof![
            6 => (slot(), delay_ms()).prop_map(|(slot, delay_ms)| Step::Set { slot, delay_ms }),
            1 => slot().prop_map(|slot| Step::SetPast { slot }),
            2 => slot().prop_map(|slot| Step::Cancel { slot }),
            4 => (delay_ms(), prop_oneof![Just(usize::MAX), 0..8_usize])
                .prop_map(|(advance_ms, max)| Step::Expire { advance_ms, max }),
        ]
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_map(start_ms in 0..1_u64 << 40, steps in prop::collection::vec(step(), 1..120)) {
            let mut wheel = TimerWheel::new(TICK_MS);
            let mut model = BTreeMap::<u32, u64>::new();
            let mut now_ms = start_ms;
            for step in steps {
                match step {
                    Step::Set { slot, delay_ms } => {
                        wheel.set(slot, now_ms + delay_ms);
                        model.insert(slot, (now_ms + delay_ms).div_ceil(TICK_MS));
                    }
                    Step::SetPast { slot } => {
                        wheel.set(slot, 0);
                        model.insert(slot, 0);
                    }
                    Step::Cancel { slot } => {
                        wheel.cancel(slot);
                        model.remove(&slot);
                    }
                    Step::Expire { advance_ms, max } => {
                        now_ms += advance_ms;
                        let mut slots = Vec::new();
                        wheel.expire(now_ms, max, &mut slots);
                        prop_assert!(slots.len() <= max);
                        for slot in &slots {
                            let deadline = model.remove(slot);
                            prop_assert!(deadline.is_some_and(|tick| tick <= now_ms / TICK_MS), "{slot}: {deadline:?}");
                        }
                        let left = model.values().filter(|&&tick| tick <= now_ms / TICK_MS).count();
                        prop_assert!(max < usize::MAX || left == 0, "{left} overdue");
                    }
                }
                prop_assert_eq!(wheel.next_due_ms().is_some(), !model.is_empty());
                if let (Some(due_ms), Some(&tick)) = (wheel.next_due_ms(), model.values().min()) {
                    prop_assert!(due_ms <= (tick * TICK_MS).max(now_ms), "{due_ms} is later than tick {tick}");
                }
            }
        }
    }
}
