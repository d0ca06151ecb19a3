//! The knee of a server that is known to make no more than so many deliveries a second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::server::{Fate, Server};

/// Each delivery takes the server at least this long, so it makes at most 1,000 a second, one after the other.
const DELIVERY: Duration = Duration::from_millis(1);
const CAPACITY_PER_S: f64 = 1000.0;

#[test]
fn the_knee_of_a_server_of_known_capacity_is_found() {
    let server = Server::with_fates(|_| {
        std::thread::sleep(DELIVERY);
        Fate::Deliver
    });
    // At 1,600 a second the last of one second's messages is 600 ms late at the least.
    let words = "capacity --connections 10 --room-size 10 --start-rate 100 --factor 4 --refine 1 \
                 --p99-max-ms 300 --warmup 0 --duration 1";
    let result = Bench::against(&server.address(), "plain", words).passes();
    let steps = &result.capacity;
    let passed: Vec<bool> = steps.iter().map(|step| step.passed).collect();
    let offered: Vec<f64> = steps
        .iter()
        .map(|step| step.offered_per_s.round())
        .collect();
    // A machine with much else to do may make 400 too many for the server, and 800 are few enough for it only if
    // its sleeps are punctual.
    let orders: [&[f64]; 2] = [&[100.0, 400.0, 800.0, 1600.0], &[100.0, 200.0, 400.0]];
    assert!(orders.contains(&&offered[..]), "{steps:#?}");
    assert!(passed[0] && !passed[passed.len() - 1], "{steps:#?}");
    assert!(
        passed.is_sorted_by(|lower, higher| lower >= higher),
        "{steps:#?}"
    );
    for step in steps {
        let latency = step.latency.as_ref().unwrap();
        assert_eq!(
            step.passed,
            latency.quantiles.p99_us <= 300_000.0,
            "{step:#?}"
        );
        assert_eq!(step.passed, step.reason.is_none());
        assert_eq!(step.server_cores, None, "nothing is known without --pid");
    }
    let knee = steps.iter().rfind(|step| step.passed).unwrap();
    assert!(knee.offered_per_s < CAPACITY_PER_S);
    assert!(knee.received_per_s <= CAPACITY_PER_S, "{knee:#?}");
    let sentence = format!("The knee: {:.0} deliveries a second", knee.received_per_s);
    assert!(
        result.notes.iter().any(|note| note.starts_with(&sentence)),
        "{:?}",
        result.notes
    );
}

#[test]
fn a_first_rate_beyond_the_knee_is_said() {
    let server = Server::with_fates(|_| {
        std::thread::sleep(DELIVERY);
        Fate::Deliver
    });
    let words = "capacity --connections 10 --room-size 10 --start-rate 2000 --p99-max-ms 100 --warmup 0 --duration 1";
    let result = Bench::against(&server.address(), "plain", words).fails();
    assert_eq!(result.capacity.len(), 1);
    assert!(
        result.failures[0].contains("lower --start-rate"),
        "{:?}",
        result.failures
    );
}

/// What a server does that protects itself: it is no reason to give up, and the members are needed at the next step.
#[test]
fn members_that_overload_drops_are_back_for_the_next_step() {
    const IN_A_SECOND_MAX: usize = 1100;
    let mut recent = VecDeque::new();
    let server = Server::with_fates(move |_| {
        let now = Instant::now();
        recent.push_back(now);
        while now.duration_since(recent[0]) > Duration::from_secs(1) {
            recent.pop_front();
        }
        if recent.len() > IN_A_SECOND_MAX {
            Fate::Close
        } else {
            Fate::Deliver
        }
    });
    let words = "capacity --connections 10 --room-size 10 --start-rate 400 --factor 4 --refine 1 \
                 --p99-max-ms 500 --warmup 0 --duration 1 --drain 1";
    let result = Bench::against(&server.address(), "plain", words).passes();
    let steps: Vec<(f64, bool)> = result
        .capacity
        .iter()
        .map(|step| (step.offered_per_s.round(), step.passed))
        .collect();
    assert_eq!(steps, [(400.0, true), (800.0, true), (1600.0, false)]);
    let reason = result.capacity[2].reason.as_deref().unwrap();
    assert!(reason.contains("lost"), "{reason}");
    assert!(result.connections.lost > 0, "{:?}", result.connections);
}
