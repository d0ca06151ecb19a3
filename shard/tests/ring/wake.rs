//! Being woken: by other rings, by ordinary threads, by a deadline, by completions.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use shardcast_shard::driver::{Completion, ConnectionKey, Driver, ShardId};
use shardcast_shard::ring::{Peers, RingDriver, RingOptions, listen};

use crate::harness::{Harness, PATIENCE, Setup, client, is_supported, small_limits};

fn shard(shard: ShardId, peers: &Arc<Peers>) -> RingDriver {
    let limits = small_limits();
    RingDriver::new(RingOptions {
        listener: Some(Arc::new(
            listen("127.0.0.1:0".parse().unwrap(), &limits).unwrap(),
        )),
        table_size: 16,
        shard,
        peers: Arc::clone(peers),
        accept_one_by_one: false,
        limits: &limits,
    })
    .unwrap()
}

fn poll(driver: &mut RingDriver) -> Vec<Completion> {
    let mut completions = Vec::new();
    driver.poll(&mut completions).unwrap();
    completions
}

/// Sleeps until something has completed.
fn sleep(driver: &mut RingDriver) -> Vec<Completion> {
    let mut completions = Vec::new();
    let began = Instant::now();
    while completions.is_empty() && began.elapsed() < PATIENCE {
        driver.wait(&mut completions, Some(PATIENCE)).unwrap();
    }
    completions
}

#[test]
fn a_ring_wakes_another_on_another_thread() {
    if !is_supported() {
        return;
    }
    let peers = Arc::new(Peers::new(2).unwrap());
    let (ready, is_ready) = mpsc::channel();
    let (sent, was_sent) = mpsc::channel::<()>();
    let target = thread::spawn({
        let peers = Arc::clone(&peers);
        move || {
            let mut driver = shard(1, &peers);
            let mut woken = 0;
            for _ in 0..20 {
                ready.send(()).unwrap();
                let completions = sleep(&mut driver);
                was_sent.recv().unwrap();
                assert_eq!(
                    completions,
                    [Completion::Woken],
                    "once a pass of the sender"
                );
                let late_us = driver.take_wake_us();
                let patience_us = PATIENCE.as_micros() as u64;
                assert!(
                    late_us.is_some_and(|us| us < patience_us),
                    "{late_us:?} µs late"
                );
                assert_eq!(driver.take_wake_us(), None, "told once");
                assert_eq!(poll(&mut driver), []);
                woken += 1;
            }
            woken
        }
    });
    let mut driver = shard(0, &peers);
    for _ in 0..20 {
        is_ready.recv().unwrap();
        for _ in 0..100 {
            driver.wake(1);
        }
        assert_eq!(poll(&mut driver), []);
        sent.send(()).unwrap();
    }
    assert_eq!(target.join().unwrap(), 20);
    assert_eq!(driver.counters().wakes_sent, 20);
    let counts = driver.counts();
    assert_eq!(counts.enters, driver.counters().enters);
    assert!(counts.enters >= 20, "{counts:?}");
    assert_eq!(driver.counters().wakes_failed, 0);
}

#[test]
fn a_shard_may_wake_itself() {
    let Some(mut harness) = Harness::new(&Setup::default()) else {
        return;
    };
    harness.driver.wake(0);
    harness.until("wake", |completion| {
        (*completion == Completion::Woken).then_some(())
    });
}

#[test]
fn a_shard_that_is_down_is_not_waited_for_and_its_successor_is_reached() {
    let Some(mut harness) = Harness::new(&Setup::default()) else {
        return;
    };
    harness.driver.wake(1);
    harness.settle();
    assert_eq!(harness.driver.counters().wakes_failed, 1);
    for round in 1..4_usize {
        let mut other = shard(1, &harness.peers);
        harness.driver.wake(1);
        harness.settle();
        // The wake that failed in the round before is there as well.
        let wakes = [Completion::Woken, Completion::Woken];
        assert_eq!(poll(&mut other), wakes[..usize::min(round, 2)]);
        // On its way when the other goes: it fails, and is not waited for.
        harness.driver.wake(1);
        drop(other);
        assert!(!harness.peers.is_up(1));
        harness.settle();
        assert_eq!(harness.driver.counters().wakes_sent, 2 * round as u64);
        assert_eq!(harness.driver.counters().wakes_failed, 1 + round as u64);
        assert_eq!(harness.reported, []);
    }
}

#[test]
fn a_wake_after_one_that_has_left_already_is_sent_too() {
    let Some(mut harness) = Harness::new(&Setup::default()) else {
        return;
    };
    let mut other = shard(1, &harness.peers);
    harness.driver.wake(1);
    // Far more than the queue holds, so that it is submitted and the wake leaves in the middle of a pass.
    for slot in 0..200 {
        harness.driver.receive_stop(ConnectionKey::new(slot, 1));
    }
    assert_eq!(poll(&mut other), [Completion::Woken]);
    harness.driver.wake(1);
    harness.settle();
    assert_eq!(poll(&mut other), [Completion::Woken]);
    assert_eq!(harness.reported, [], "stops of nothing are silent");
}

#[test]
fn an_ordinary_thread_wakes_a_shard() {
    let Some(mut harness) = Harness::new(&Setup::default()) else {
        return;
    };
    harness.settle();
    assert_eq!(harness.reported, [], "nobody has woken it yet");
    // More than once: nobody reads the eventfd, so it stays readable.
    for _ in 0..3 {
        let peers = Arc::clone(&harness.peers);
        let waker = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            peers.wake_from_thread(0)
        });
        assert_eq!(sleep(&mut harness.driver), [Completion::Woken]);
        assert!(waker.join().unwrap());
        assert_eq!(harness.driver.take_wake_us(), None, "it told no time");
        assert_eq!(poll(&mut harness.driver), []);
    }
    assert!(!harness.peers.wake_from_thread(2), "no such shard");
}

#[test]
fn a_shard_that_starts_hears_that_its_predecessor_was_woken() {
    let Some(harness) = Harness::new(&Setup::default()) else {
        return;
    };
    assert!(harness.peers.wake_from_thread(1));
    let mut other = shard(1, &harness.peers);
    assert_eq!(sleep(&mut other), [Completion::Woken]);
    drop(other);
    assert!(harness.peers.wake_from_thread(1));
    let mut successor = shard(1, &harness.peers);
    assert_eq!(sleep(&mut successor), [Completion::Woken]);
}

#[test]
fn a_completion_ends_a_sleep_and_an_idle_pass_costs_no_system_call() {
    let Some(mut harness) = Harness::new(&Setup::default()) else {
        return;
    };
    harness.driver.accept_start();
    assert_eq!(poll(&mut harness.driver), []);
    let enters = harness.driver.counters().enters;
    for _ in 0..100 {
        assert_eq!(poll(&mut harness.driver), []);
    }
    assert_eq!(harness.driver.counters().enters, enters);

    let address = harness.address;
    let client = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        client(address)
    });
    assert!(matches!(
        sleep(&mut harness.driver)[..],
        [Completion::Accepted { .. }]
    ));
    drop(client.join().unwrap());
}

#[test]
fn the_clock_is_read_at_each_pass() {
    let Some(mut harness) = Harness::new(&Setup::default()) else {
        return;
    };
    poll(&mut harness.driver);
    let before = harness.driver.clock();
    thread::sleep(Duration::from_millis(5));
    assert_eq!(harness.driver.clock(), before);
    poll(&mut harness.driver);
    let passed = harness.driver.clock().monotonic_us - before.monotonic_us;
    assert!((5000..PATIENCE.as_micros() as u64).contains(&passed));
}

/// Waits for the deadline asleep, and says how late it was.
fn deadline_passed(harness: &mut Harness, at_us: u64) -> u64 {
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "the deadline passes");
        // Nothing but the timer ends the sleep.
        let completions = sleep(&mut harness.driver);
        if completions == [Completion::DeadlinePassed] {
            return harness
                .driver
                .clock()
                .monotonic_us
                .checked_sub(at_us)
                .expect("not early");
        }
        assert_eq!(completions, []);
    }
}

#[test]
fn a_deadline_ends_a_sleep_in_time_and_once() {
    let Some(mut harness) = Harness::new(&Setup::default()) else {
        return;
    };
    poll(&mut harness.driver);
    for later_us in [20_000, 1, 0, 5_000] {
        let at = harness.driver.clock().monotonic_us + later_us;
        harness.driver.wake_at(at);
        let late = deadline_passed(&mut harness, at);
        assert!(late < 2_000_000, "{late} µs late");
    }
    harness.settle();
    assert_eq!(harness.reported, []);
}

#[test]
fn a_later_call_replaces_the_deadline() {
    let Some(mut harness) = Harness::new(&Setup::default()) else {
        return;
    };
    poll(&mut harness.driver);
    let now = harness.driver.clock().monotonic_us;
    // Each armed before it is replaced: earlier, later, and earlier than that again.
    for at in [
        now + 60_000_000,
        now + 20_000,
        now + 90_000_000,
        now + 60_000,
    ] {
        harness.driver.wake_at(at);
        assert_eq!(poll(&mut harness.driver), []);
    }
    deadline_passed(&mut harness, now + 60_000);
    harness.settle();
    assert_eq!(harness.reported, []);
}

#[test]
fn a_deadline_that_has_not_changed_is_not_armed_again() {
    let Some(mut harness) = Harness::new(&Setup::default()) else {
        return;
    };
    poll(&mut harness.driver);
    let at = harness.driver.clock().monotonic_us + 60_000_000;
    harness.driver.wake_at(at);
    poll(&mut harness.driver);
    let enters = harness.driver.counters().enters;
    for later in 0..100 {
        harness.driver.wake_at(at + later);
        poll(&mut harness.driver);
    }
    assert_eq!(harness.driver.counters().enters, enters);
}
