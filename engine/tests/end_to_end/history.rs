//! History and recovery: what was missed arrives once, in order, also while others go on publishing.

use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::{Client, number};
use crate::server::Server;

fn publish_numbered(client: &mut Client, room: &str, count: u64) {
    for content in 1..=count {
        client.publish(room, &json!(content));
        assert_eq!(
            number(&client.expect_in("message", room), "content"),
            content
        );
    }
}

fn history(client: &mut Client, request: &Value) -> (Value, Vec<u64>) {
    client.send(request);
    let answer = client.expect("history");
    let seqs = answer["messages"]
        .as_array()
        .expect("an answer lists messages")
        .iter()
        .map(|message| {
            assert_eq!(
                message["content"], message["seq"],
                "content was numbered alike"
            );
            assert_eq!(message["user"], "ada");
            assert!(number(message, "timestamp") > 1_500_000_000_000);
            number(message, "seq")
        })
        .collect();
    (answer, seqs)
}

#[test]
fn history_answers_with_limit_and_since() {
    let server = Server::start(&["--shards", "4"]);
    let mut ada = Client::connect(&server, "ada");
    let epoch = number(&ada.join("hall"), "epoch");
    publish_numbered(&mut ada, "hall", 10);
    let mut bob = Client::connect(&server, "bob");
    bob.join("hall");

    let place = |seq: u64| json!({"epoch": epoch, "seq": seq});
    let whole: Vec<u64> = (1..=10).collect();
    let cases = [
        (json!({"type": "history", "room": "hall"}), &whole[..]),
        (
            json!({"type": "history", "room": "hall", "limit": 3}),
            &[8, 9, 10],
        ),
        (
            json!({"type": "history", "room": "hall", "limit": 100}),
            &whole,
        ),
        (
            json!({"type": "history", "room": "hall", "since": place(4)}),
            &[5, 6, 7, 8, 9, 10],
        ),
        (
            json!({"type": "history", "room": "hall", "since": place(4), "limit": 2}),
            &[5, 6],
        ),
        (
            json!({"type": "history", "room": "hall", "since": place(10)}),
            &[],
        ),
    ];
    for (request, expected) in cases {
        let (answer, seqs) = history(&mut bob, &request);
        assert_eq!(seqs, expected, "{request} was answered with {answer}");
        assert_eq!(answer["room"], "hall");
    }
    let (answer, _) = history(
        &mut bob,
        &json!({"type": "history", "room": "hall", "since": place(4)}),
    );
    assert_eq!(answer["complete"], true);
}

#[test]
fn a_reconnecting_member_gets_what_it_missed() {
    let server = Server::start(&["--shards", "4"]);
    let mut ada = Client::connect(&server, "ada");
    let mut bob = Client::connect(&server, "bob");
    ada.join("hall");
    let epoch = number(&bob.join("hall"), "epoch");
    publish_numbered(&mut ada, "hall", 3);
    for _ in 0..3 {
        bob.expect("message");
    }
    drop(bob);
    publish_numbered(&mut ada, "hall", 7);

    let mut bob = Client::connect(&server, "bob");
    let joined = bob.join_since("hall", epoch, 3);
    assert_eq!(joined["recovered"], true);
    ada.publish("hall", &json!("live"));
    for seq in 4..=10 {
        let message = bob.expect("message");
        assert_eq!(
            (number(&message, "seq"), number(&message, "content")),
            (seq, seq - 3)
        );
        assert_eq!(message["user"], "ada");
    }
    let live = bob.expect("message");
    assert_eq!(
        (number(&live, "seq"), &live["content"]),
        (11, &json!("live"))
    );
}

#[test]
fn nothing_missed_is_recovered_too() {
    let server = Server::start(&["--shards", "2"]);
    let mut ada = Client::connect(&server, "ada");
    let epoch = number(&ada.join("hall"), "epoch");
    publish_numbered(&mut ada, "hall", 2);
    let mut bob = Client::connect(&server, "bob");
    assert_eq!(bob.join_since("hall", epoch, 2)["recovered"], true);
    ada.publish("hall", &json!("next"));
    assert_eq!(number(&bob.expect("message"), "seq"), 3);
}

#[test]
fn recovery_beyond_the_history_says_so() {
    let server = Server::start(&["--shards", "2", "--history-messages-max", "5"]);
    let mut ada = Client::connect(&server, "ada");
    let epoch = number(&ada.join("hall"), "epoch");
    publish_numbered(&mut ada, "hall", 10);
    for (what, epoch, seq) in [
        ("a place that has left the history", epoch, 2),
        ("another epoch", epoch + 1, 9),
        ("a place in the future", epoch, 50),
    ] {
        let mut bob = Client::connect(&server, "bob");
        let joined = bob.join_since("hall", epoch, seq);
        assert_eq!(joined["recovered"], false, "{what}");
        assert_eq!(joined["seq"], 10, "{what}");
    }
    let mut cleo = Client::connect(&server, "cleo");
    assert_eq!(cleo.join_since("hall", epoch, 5)["recovered"], true);
}

/// A member whose connection breaks again and again while others publish sees every message once.
#[test]
fn recovery_leaves_no_gap_while_others_publish() {
    const PUBLISHERS: u64 = 4;
    const EACH: u64 = 250;
    let server = Server::start(&["--shards", "4", "--history-messages-max", "100000"]);
    let mut reader = Client::connect(&server, "reader");
    let epoch = number(&reader.join("hall"), "epoch");
    let failed = AtomicBool::new(false);

    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let (server, failed) = (&server, &failed);
            scope.spawn(move || {
                let mut client = Client::connect(server, &format!("publisher-{publisher}"));
                client.join("hall");
                for round in 0..EACH {
                    if failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let content = json!({"publisher": publisher, "round": round});
                    client.publish("hall", &content);
                    client.expect_where("its own message", |object| object["content"] == content);
                    // The deliveries of the others are not of interest here.
                    client.take_unclaimed("message");
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut seen = 0;
            let mut connections = 0;
            while seen < PUBLISHERS * EACH {
                // Uneven steps, so that the connection breaks at different places.
                let step = 17 + 29 * (connections % 5);
                for _ in 0..step.min(PUBLISHERS * EACH - seen) {
                    let message = reader.expect("message");
                    seen += 1;
                    assert_eq!(number(&message, "seq"), seen, "on connection {connections}");
                }
                connections += 1;
                reader = Client::connect(&server, "reader");
                let joined = reader.join_since("hall", epoch, seen);
                assert_eq!(joined["recovered"], true, "on connection {connections}");
            }
        }));
        failed.store(outcome.is_err(), Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}
