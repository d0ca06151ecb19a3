//! How a shard learns that there is mail, awake or asleep.
//!
//! Every receiver has one [`Doorbell`]: a bit for each channel that leads to it, and a flag that says that
//! it sleeps. A sender pushes its mail, marks the channel's bit and rings. A receiver that wants to sleep raises its
//! flag and looks at the bits once more. Both have a sequentially consistent fence between their write and their read,
//! so that at least one of them sees the other: the sender the flag, or the receiver the bit. With
//! release and acquire alone both could miss, and the receiver would sleep over its mail.

// Whoever includes this file says whose atomics these are: the standard library's, or loom's in `tests/interleavings.rs`.
use super::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// Bits of one word of marks.
pub(super) const WORD_BITS: usize = u64::BITS as usize;

/// The marks and the sleep flag of one receiver. Aligned so that two receivers share no cache line.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Doorbell {
    /// Written by exchanges only, by both sides: each then follows the one before it, and what a late sender
    /// lowers of the last sleep cannot be taken for newer than the next sleep's announcement.
    asleep: AtomicBool,
    /// What holds mail, a bit for each channel.
    words: Box<[AtomicU64]>,
}

impl Doorbell {
    /// A doorbell of an awake receiver with `words` words of marks, none set.
    pub(super) fn new(words: usize) -> Self {
        Self {
            asleep: AtomicBool::new(false),
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Sender: marks a bit. The mail must have been pushed before, [`Self::ring`] must follow.
    pub(super) fn mark(&self, word: usize, bit: usize) {
        self.words[word].fetch_or(1 << bit, Ordering::Release);
    }

    /// Sender: whether the receiver sleeps and must be woken by the caller. Of all senders that ring during one sleep,
    /// exactly one is told so.
    pub(super) fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel)
    }

    /// Receiver: takes the marks of a word. Whatever was pushed before a mark that is returned can be received.
    pub(super) fn take(&self, word: usize) -> u64 {
        let marks = &self.words[word];
        // An idle pass reads the line and leaves it shared; only a mark is worth a locked operation.
        if marks.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        marks.swap(0, Ordering::AcqRel)
    }

    /// Receiver: raises the sleep flag, unless anything is marked. Returns whether to sleep.
    pub(super) fn sleep(&self) -> bool {
        self.asleep.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        let marked = self
            .words
            .iter()
            .any(|marks| marks.load(Ordering::Relaxed) != 0);
        if marked {
            self.awake();
        }
        !marked
    }

    /// Receiver: lowers the sleep flag. A sender that saw it raised may still wake the receiver once.
    pub(super) fn awake(&self) {
        self.asleep.swap(false, Ordering::AcqRel);
    }
}
