//! Every interleaving of a few threads at a doorbell. Its file is included here, so that loom's atomics take the place of the standard
//! library's and nothing else has to be built for loom.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../src/mailbox/doorbell.rs"]
mod doorbell;

use doorbell::{Doorbell, WORD_BITS};
use loom::sync::atomic::{self, AtomicU64, Ordering};
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
    assert!(marks <= WORD_BITS);
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
#[ignore = "takes half a minute; scripts/check.sh runs it"]
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
