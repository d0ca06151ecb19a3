//! What a backend of webhooks is told while it is there, away or slow: nothing is lost but what is accounted for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::{Backend, Reply, Request, await_line, count, counted, of_kind, server};
use crate::client::{Client, PATIENCE};

/// How long something must stay away for a test to believe that it does.
const QUIET: Duration = Duration::from_millis(400);

#[test]
fn nothing_is_lost_while_a_backend_is_down_and_the_rooms_go_on() {
    let mut backend = Backend::start();
    let mut server = server(
        &backend,
        &[
            "--webhook-events",
            "connected,disconnected,room_occupied,room_vacated",
        ],
    );
    let mut bob = Client::connect(&server, "bob");
    bob.join("hall");
    backend.await_events("bob", |events| count(events, "connected") == 1);
    backend.down();
    let begun = Instant::now();
    let mut number = 0;
    while begun.elapsed() < Duration::from_secs(3) || number < 50 {
        let mut guest = Client::connect(&server, &format!("guest-{number}"));
        guest.join(&format!("room-{number}"));
        guest.publish(&format!("room-{number}"), &json!(number));
        assert_eq!(guest.expect("message")["content"], number);
        guest.close();
        number += 1;
    }
    bob.heartbeat();
    await_line(
        &server,
        &["the backend of the webhooks fails to take events"],
    );
    backend.up();
    let events = backend.await_events("all that happened meanwhile", |events| {
        count(events, "room_vacated") == number
    });
    await_line(
        &server,
        &["the backend of the webhooks works again to take events"],
    );
    for kind in ["connected", "disconnected"] {
        let users: Vec<&str> = of_kind(&events, kind)
            .iter()
            .filter_map(|event| event["user"].as_str())
            .filter(|user| *user != "bob")
            .collect();
        let expected: Vec<String> = (0..number).map(|n| format!("guest-{n}")).collect();
        assert_eq!(users.len(), number);
        // Guests come one after another, and to one shard or the other.
        let (users, expected): (BTreeSet<&str>, BTreeSet<&str>) = (
            users.into_iter().collect(),
            expected.iter().map(String::as_str).collect(),
        );
        assert_eq!(users, expected);
    }
    // Of each connection and room in its order.
    let places = |kind: &str, key: &str| -> BTreeMap<String, usize> {
        let of_kind = events.iter().enumerate();
        let of_kind = of_kind.filter(|(_, event)| event["type"] == kind);
        of_kind
            .map(|(place, event)| (event[key].to_string(), place))
            .collect()
    };
    for (first, then, key) in [
        ("connected", "disconnected", "connection"),
        ("room_occupied", "room_vacated", "room"),
    ] {
        let (first, then) = (places(first, key), places(then, key));
        assert_eq!(then.len(), number);
        assert!(then.iter().all(|(name, place)| first[name] < *place));
    }
    let ids: BTreeSet<String> = events.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), events.len(), "something came twice");
    assert_eq!(count(&events, "dropped"), 0);
    server.terminate();
    assert!(server.wait_exit(PATIENCE).success());
    assert_eq!(
        (counted(&server, "dropped"), counted(&server, "given_up")),
        (0, 0)
    );
    // The end of bob is told too.
    assert_eq!(count(&backend.events(), "disconnected"), number + 1);
}

#[test]
fn what_fails_is_sent_again_as_it_was() {
    let backend = Backend::start();
    let failures = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&failures);
    backend.reply(move |body| match body.as_array() {
        Some(events)
            if count(events, "connected") > 0 && counted.fetch_add(1, Ordering::Relaxed) < 3 =>
        {
            Reply::Status(500, "no".into())
        }
        _ => Reply::ok(""),
    });
    let server = server(&backend, &[]);
    let _ada = Client::connect(&server, "ada");
    backend.await_events("ada", |events| count(events, "connected") == 1);
    let tried: Vec<_> = backend
        .requests()
        .into_iter()
        .filter(|request| count(request.events(), "connected") > 0)
        .collect();
    assert_eq!(tried.len(), 4);
    let is_same = |request: &Request| {
        request.text == tried[0].text
            && request.header("webhook-id") == tried[0].header("webhook-id")
    };
    assert!(tried.iter().all(is_same));
    assert_eq!(
        tried
            .iter()
            .map(|request| request.status)
            .collect::<Vec<_>>(),
        [500, 500, 500, 200]
    );
}

#[test]
fn what_does_not_fit_is_dropped_counted_and_said() {
    let mut backend = Backend::start();
    let mut server = server(
        &backend,
        &[
            "--webhook-events",
            "connected,disconnected",
            "--webhook-queue-events-max",
            "20",
            "--webhook-batch-events-max",
            "5",
        ],
    );
    backend.await_events("start", |events| count(events, "shard_started") == 2);
    backend.down();
    let guests = 60;
    for number in 0..guests {
        Client::connect(&server, &format!("guest-{number}")).close();
    }
    backend.up();
    let missing = |events: &[Value]| -> u64 {
        let dropped = of_kind(events, "dropped").into_iter();
        dropped.filter_map(|event| event["count"].as_u64()).sum()
    };
    let told = |events: &[Value]| count(events, "connected") + count(events, "disconnected");
    let events = backend.await_events("account of everything", |events| {
        told(events) as u64 + missing(events) == 2 * guests
    });
    assert!(told(&events) >= 18, "{} were told", told(&events));
    // What came first was kept, and what is missing is said where it is missing: behind what was said before by its shard.
    for shard in 0..2 {
        let own: Vec<&Value> = events
            .iter()
            .filter(|event| event["shard"] == shard)
            .collect();
        let gap = own.iter().position(|event| event["type"] == "dropped");
        assert_eq!(own[0]["type"], "shard_started");
        assert!(gap.is_none_or(|gap| gap > 1), "{own:#?}");
    }
    // From now on nothing is missing.
    let _late = Client::connect(&server, "late");
    let events = backend.await_events("late", |events| {
        of_kind(events, "connected")
            .iter()
            .any(|event| event["user"] == "late")
    });
    let dropped = missing(&events);
    server.terminate();
    assert!(server.wait_exit(PATIENCE).success());
    assert_eq!(counted(&server, "dropped"), dropped);
}

#[test]
fn what_is_given_up_is_said_too() {
    let mut backend = Backend::start();
    let mut server = server(
        &backend,
        &[
            "--webhook-events",
            "connected",
            "--webhook-retry-ms-max",
            "300",
        ],
    );
    backend.await_events("start", |events| count(events, "shard_started") == 2);
    backend.down();
    let _ada = Client::connect(&server, "ada");
    let _bob = Client::connect(&server, "bob");
    await_line(&server, &["are given up"]);
    thread::sleep(QUIET);
    backend.up();
    let events = backend.await_events("a gap", |events| {
        let gaps = of_kind(events, "dropped").into_iter();
        let missing: u64 = gaps.filter_map(|event| event["count"].as_u64()).sum();
        missing + count(events, "connected") as u64 == 2
    });
    assert!(count(&events, "dropped") > 0);
    server.terminate();
    assert!(server.wait_exit(PATIENCE).success());
    assert_eq!(
        counted(&server, "given_up"),
        2 - count(&events, "connected") as u64
    );
}

#[test]
fn a_shard_that_died_is_said_to_have_started_again() {
    let backend = Backend::start();
    let server = server(&backend, &[]);
    let mut clients: Vec<Client> = (0..20)
        .map(|index| Client::connect(&server, &format!("user-{index}")))
        .collect();
    for client in &mut clients {
        client.join("hall");
    }
    let events = backend.await_events("everybody", |events| count(events, "connected") == 20);
    let shard_of = |event: &Value| event["shard"].as_u64().unwrap();
    let user_of_dead = of_kind(&events, "connected")
        .into_iter()
        .find(|event| shard_of(event) == 1)
        .map(|event| event["user"].as_str().unwrap().to_owned())
        .unwrap();
    let index: usize = user_of_dead.trim_start_matches("user-").parse().unwrap();
    clients[index].send(&json!({"type": "fault", "what": "panic_shard"}));
    let events = backend.await_events("second start", |events| count(events, "shard_started") == 3);
    let last = *of_kind(&events, "shard_started").last().unwrap();
    assert_eq!(shard_of(last), 1);
    // Whom the event ends is never said to have ended; the others go on, and who comes next is told.
    let mut late = Client::connect(&server, "late");
    late.join("hall");
    let events = backend.await_events("late", |events| {
        of_kind(events, "connected")
            .iter()
            .any(|event| event["user"] == "late")
    });
    assert_eq!(count(&events, "disconnected"), 0);
    drop(clients);
}

#[test]
fn the_end_of_a_server_is_told_or_counted() {
    for is_down in [false, true] {
        let mut backend = Backend::start();
        let mut server = server(&backend, &["--webhook-events", "connected,disconnected"]);
        let clients: Vec<Client> = (0..10)
            .map(|index| Client::connect(&server, &format!("user-{index}")))
            .collect();
        backend.await_events("everybody", |events| count(events, "connected") == 10);
        if is_down {
            backend.down();
        }
        server.terminate();
        for mut client in clients {
            client.expect_end();
        }
        let begun = Instant::now();
        assert!(server.wait_exit(PATIENCE).success());
        assert!(begun.elapsed() < Duration::from_secs(20));
        let ended = of_kind(&backend.events(), "disconnected").len();
        match is_down {
            false => {
                assert_eq!(ended, 10);
                assert!(
                    of_kind(&backend.events(), "disconnected")
                        .iter()
                        .all(|event| event["reason"] == "shutdown" && event["code"] == 1001)
                );
            }
            true => await_line(&server, &["was not told of everything", "events=10"]),
        }
        let expected = if is_down { 10 } else { 0 };
        assert_eq!(counted(&server, "given_up"), expected);
    }
}
