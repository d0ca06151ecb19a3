//! A backend of webhooks that is away for a long time, while connections come and go: what is told, what is missing, and what it takes in memory meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::backend::Backend;
use crate::client::{Client, PATIENCE};
use crate::server::Server;
use crate::system::resident_bytes;

/// How many threads of visitors there are.
const THREADS: u64 = 4;

/// What an outage came to.
struct Outage {
    visitors: u64,
    /// Events by their kinds.
    told: BTreeMap<String, u64>,
    /// Events that the backend was told are missing.
    missing: u64,
    /// Resident memory in MiB: before, the most meanwhile, and when everything was told.
    memory: [u64; 3],
    /// From the backend's return until everything was told.
    catching_up: Duration,
    /// The line of the log with the counters.
    counters: String,
}

/// Visitors come so many a second, join a room of their own, and go, while the backend is away for so long.
fn outage(arguments: &[&str], lasts: Duration, per_second: u64) -> Outage {
    let mut backend = Backend::start();
    let url = backend.url();
    let events = "connected,disconnected,room_occupied,room_vacated";
    let own = [
        "--shards",
        "2",
        "--webhook-url",
        &url,
        "--webhook-events",
        events,
    ];
    let mut server = Server::start(&[&own, arguments].concat());
    let resident_mib = |server: &Server| resident_bytes(server.pid()) >> 20;
    // What it takes to serve visitors at all.
    let first = visit(&server, Duration::from_secs(2), per_second, "first");
    // Four of each visitor, and the starts of two shards.
    let first = 2 + 4 * first;
    backend.await_events("the first visitors", |events| events.len() as u64 == first);
    let before = resident_mib(&server);
    backend.down();
    let most = AtomicU64::new(before);
    let visitors = thread::scope(|scope| {
        let server = &server;
        let visits = scope.spawn(move || visit(server, lasts, per_second, "guest"));
        while !visits.is_finished() {
            most.fetch_max(resident_mib(server), Ordering::Relaxed);
            thread::sleep(Duration::from_millis(200));
        }
        visits.join().unwrap()
    });
    backend.up();
    let begun = Instant::now();
    let account = |events: &[Value]| {
        let missing: u64 = events
            .iter()
            .filter_map(|event| event["count"].as_u64())
            .sum();
        let gaps = events
            .iter()
            .filter(|event| event["type"] == "dropped")
            .count() as u64;
        (events.len() as u64 - gaps - first, missing)
    };
    let all = backend.await_events("everything", |events| {
        let (told, missing) = account(events);
        told + missing == 4 * visitors
    });
    let catching_up = begun.elapsed();
    let ids: BTreeSet<String> = all.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), all.len(), "an event came twice");
    let after = resident_mib(&server);
    server.terminate();
    assert!(server.wait_exit(PATIENCE).success());
    let output = server.output();
    let counters = output
        .iter()
        .find(|line| line.contains("webhooks have ended"));
    Outage {
        visitors,
        told: kinds(&all[first as usize..]),
        missing: account(&all).1,
        memory: [before, most.load(Ordering::Relaxed), after],
        catching_up,
        counters: counters.cloned().unwrap_or_default(),
    }
}

fn kinds(events: &[Value]) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for event in events {
        let kind = event["type"].as_str().unwrap_or_default();
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    kinds
}

/// Answers how many came.
fn visit(server: &Server, lasts: Duration, per_second: u64, name: &str) -> u64 {
    let begun = Instant::now();
    let each = Duration::from_secs(THREADS) / per_second as u32;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut count = 0_u64;
                    while begun.elapsed() < lasts {
                        let who = format!("{name}-{thread}-{count}");
                        let mut visitor = Client::connect(server, &who);
                        visitor.join(&who);
                        visitor.close();
                        count += 1;
                        let due = begun + each * count as u32;
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                    }
                    count
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    })
}

fn print(what: &str, outage: &Outage) {
    let Outage {
        visitors,
        told,
        missing,
        memory: [before, most, after],
        catching_up,
        counters,
    } = outage;
    println!(
        "{what}: {visitors} visitors, {} events expected; told {told:?}, missing {missing}; memory {before} MiB before, {most} MiB at most meanwhile, {after} MiB after; \
         caught up in {:.1} s; {counters}",
        4 * visitors,
        catching_up.as_secs_f64()
    );
}

#[test]
#[ignore = "takes two minutes"]
fn a_minute_without_a_backend() {
    let minute = Duration::from_secs(60);
    let whole = outage(&[], minute, 200);
    print("default bounds", &whole);
    for kind in ["connected", "disconnected", "room_occupied", "room_vacated"] {
        assert_eq!(whole.told[kind], whole.visitors, "{kind}");
    }
    assert_eq!(whole.missing, 0);
    let bounded = outage(&["--webhook-queue-events-max", "10000"], minute, 200);
    print("10,000 events at most", &bounded);
    assert!(bounded.missing > 0);
    for Outage {
        memory: [before, most, _],
        ..
    } in [&whole, &bounded]
    {
        assert!(
            most - before <= 32 + 16,
            "more than the queue's bound and some"
        );
    }
}
