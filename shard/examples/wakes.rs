//! How long mail waits for a shard that sleeps, and for one that looks for work before it sleeps.
//!
//! Two rings on two cores wake each other in turn, with a pause before each wake that lets the other fall asleep. A round trip is two
//! wakes; half of it is printed. `cargo run --release -p shardcast-shard --example wakes -- [CORE CORE]`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot be made ends"
)]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use shardcast_shard::driver::{Completion, Driver, ShardId};
use shardcast_shard::limits::Limits;
use shardcast_shard::ring::{Peers, RingDriver, RingOptions};

const ROUNDS: usize = 5000;

/// Longer than it takes to fall asleep.
const PAUSE: Duration = Duration::from_micros(300);

fn main() {
    let mut named = std::env::args().skip(1).map(|core| core.parse().unwrap());
    let cores: [usize; 2] = [named.next().unwrap_or(0), named.next().unwrap_or(1)];
    println!(
        "one way between cores {} and {}, {ROUNDS} round trips, µs",
        cores[0], cores[1]
    );
    for (what, spin) in [
        ("asleep", Duration::ZERO),
        ("looking for work for 50 µs", Duration::from_micros(50)),
        ("looking for work for 1 ms", Duration::from_millis(1)),
    ] {
        let (mut halves_us, busy) = measure(cores, spin);
        halves_us.sort_by(f64::total_cmp);
        let at = |share: f64| halves_us[(share * (halves_us.len() - 1) as f64) as usize];
        println!(
            "{what:>28}: p50 {:6.1}  p99 {:6.1}   {:3.0} % of the second core",
            at(0.5),
            at(0.99),
            busy * 100.0
        );
    }
}

/// Half of each round trip, in microseconds, and the share of its time that the second thread was busy.
fn measure(cores: [usize; 2], spin: Duration) -> (Vec<f64>, f64) {
    let peers = Arc::new(Peers::new(2).unwrap());
    let echo = thread::spawn({
        let peers = Arc::clone(&peers);
        move || {
            let mut ring = ring(1, cores[1], &peers);
            let (began, before) = (Instant::now(), thread_cpu());
            let mut heard = Vec::new();
            for _ in 0..ROUNDS {
                wait(&mut ring, spin, &mut heard);
                wake(&mut ring, 0, &mut heard);
            }
            (thread_cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64()
        }
    });
    let mut ring = ring(0, cores[0], &peers);
    while !peers.is_up(1) {
        thread::yield_now();
    }
    let mut heard = Vec::new();
    let halves_us = (0..ROUNDS)
        .map(|_| {
            thread::sleep(PAUSE);
            let began = Instant::now();
            wake(&mut ring, 1, &mut heard);
            wait(&mut ring, spin, &mut heard);
            began.elapsed().as_secs_f64() * 1e6 / 2.0
        })
        .collect();
    (halves_us, echo.join().unwrap())
}

fn ring(shard: ShardId, core: usize, peers: &Arc<Peers>) -> RingDriver {
    core_affinity::set_for_current(CoreId { id: core });
    RingDriver::new(RingOptions {
        listener: None,
        table_size: 4,
        shard,
        peers: Arc::clone(peers),
        accept_one_by_one: false,
        limits: &Limits::default(),
    })
    .unwrap()
}

/// Wakes the other one. Its answer may be heard at once.
fn wake(ring: &mut RingDriver, shard: ShardId, heard: &mut Vec<Completion>) {
    ring.wake(shard);
    ring.poll(heard).unwrap();
}

/// Waits for a wake as a shard does: looks for it for a while, then sleeps.
fn wait(ring: &mut RingDriver, spin: Duration, heard: &mut Vec<Completion>) {
    let began = Instant::now();
    while !heard.contains(&Completion::Woken) {
        if began.elapsed() < spin {
            ring.poll(heard).unwrap();
            std::hint::spin_loop();
        } else {
            ring.wait(heard, None).unwrap();
        }
    }
    heard.clear();
}

/// Processor time of this thread, from /proc/thread-self/schedstat: its first number counts nanoseconds.
fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}
