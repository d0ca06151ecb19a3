//! How a shard learns that there is mail, awake or asleep.
//!
//! Every receiver has one [`Doorbell`]: a bit for each channel that leads to it, and a flag that says that
//! it sleeps. A sender pushes its mail, marks the channel's bit and rings. A receiver that wants to sleep raises its
//! flag and looks at the bits once more. Both have a sequentially consistent fence between their write and their read,
//! so that at least one of them sees the other: the sender the flag, or the receiver the bit. With
//! release and acquire alone both could miss, and the receiver would sleep over its mail.

#[cfg(shardcast_loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
#[cfg(not(shardcast_loom))]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

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

#[cfg(all(test, shardcast_loom))]
#[allow(clippy::unwrap_used)]
mod loom_doorbell {
    //! Every interleaving of a few threads:
    //! `RUSTFLAGS="--cfg shardcast_loom" cargo test -p shardcast-shard --lib --release loom_doorbell`

    use super::*;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// The wake of a driver: counted, and kept until the receiver waits for it.
    #[derive(Default)]
    struct Wakes {
        state: Mutex<(usize, bool)>,
        raised: Condvar,
    }

    impl Wakes {
        fn wake(&self) {
            let mut state = self.state.lock().unwrap();
            state.0 += 1;
            state.1 = true;
            self.raised.notify_one();
        }

        fn wait(&self) {
            let mut state = self.state.lock().unwrap();
            while !state.1 {
                state = self.raised.wait(state).unwrap();
            }
            state.1 = false;
        }

        fn count(&self) -> usize {
            self.state.lock().unwrap().0
        }
    }

    /// `senders` threads mark `marks` bits each, one word a sender. The receiver sleeps whenever it
    /// may, until it has every bit. A lost wake is a deadlock, which loom reports.
    fn model(senders: usize, marks: usize) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let doorbell = Arc::new(Doorbell::new(senders));
            let wakes = Arc::new(Wakes::default());
            let threads: Vec<_> = (0..senders)
                .map(|word| {
                    let (doorbell, wakes) = (Arc::clone(&doorbell), Arc::clone(&wakes));
                    thread::spawn(move || {
                        for bit in 0..marks {
                            doorbell.mark(word, bit);
                            if doorbell.ring() {
                                wakes.wake();
                            }
                        }
                    })
                })
                .collect();
            let mut missing = senders * marks;
            let mut announced = 0;
            while missing > 0 {
                for word in 0..senders {
                    missing -= doorbell.take(word).count_ones() as usize;
                }
                if missing > 0 {
                    announced += 1;
                    if doorbell.sleep() {
                        wakes.wait();
                        doorbell.awake();
                    }
                }
            }
            for thread in threads {
                thread.join().unwrap();
            }
            assert!(
                wakes.count() <= announced,
                "{} wakes for {announced} sleeps",
                wakes.count()
            );
            assert!(doorbell.sleep(), "a mark is left after all were taken");
        });
    }

    #[test]
    fn one_sender_three_marks() {
        model(1, 3);
    }

    #[test]
    fn two_senders() {
        model(2, 2);
    }

    /// What is pushed before a mark can be read by whoever takes the mark.
    #[test]
    fn a_mark_publishes_what_was_pushed() {
        loom::model(|| {
            let doorbell = Arc::new(Doorbell::new(1));
            let pushed = Arc::new(AtomicU64::new(0));
            let sender = {
                let (doorbell, pushed) = (Arc::clone(&doorbell), Arc::clone(&pushed));
                thread::spawn(move || {
                    pushed.store(7, Ordering::Relaxed);
                    doorbell.mark(0, 5);
                })
            };
            if doorbell.take(0) == 1 << 5 {
                assert_eq!(pushed.load(Ordering::Relaxed), 7);
            }
            sender.join().unwrap();
        });
    }
}
