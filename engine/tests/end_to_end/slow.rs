//! Slow consumers: one that does not read costs a bounded amount, and costs the others nothing.

use serde_json::{Value, json};

use crate::client::{Client, End, number};
use crate::server::Server;

/// Messages of the flood. With [`SIZE`] they are more than the kernel's buffers and the outbox hold.
const MESSAGES: u64 = 3_000;

/// Bytes of each content.
const SIZE: usize = 8_000;

fn start(policy: &str) -> Server {
    Server::start(&[
        "--shards",
        "2",
        "--slow-consumer",
        policy,
        "--outbox-bytes-max",
        "65536",
        "--outbox-unread-bytes-max",
        "65536",
        "--socket-send-bytes",
        "16384",
        "--messages-per-second-max",
        "0",
        // A consumer that does not read does not answer pings either; that is another test.
        "--heartbeat-ms",
        "3600000",
        "--close-ms-max",
        "2000",
    ])
}

/// Publishes the flood in step with the members that do read, and checks that they lose nothing.
fn flood(publisher: &mut Client, healthy: &mut [Client]) {
    let filler = "x".repeat(SIZE);
    for seq in 1..=MESSAGES {
        publisher.publish("hall", &Value::String(format!("{seq}:{filler}")));
        for member in std::iter::once(&mut *publisher).chain(healthy.iter_mut()) {
            check(&member.expect("message"), seq);
        }
    }
}

/// The message is whole and the one with this number.
fn check(message: &Value, seq: u64) {
    assert_eq!(number(message, "seq"), seq);
    let content = message["content"].as_str().expect("content was a string");
    let (prefix, filler) = content.split_once(':').expect("content was numbered");
    assert_eq!(prefix, seq.to_string());
    assert!(filler.len() == SIZE && filler.bytes().all(|byte| byte == b'x'));
}

#[test]
fn disconnect_closes_the_slow_one_and_the_others_lose_nothing() {
    let server = start("disconnect");
    let mut slow = Client::connect(&server, "slow");
    slow.join("hall");
    let mut publisher = Client::connect(&server, "publisher");
    publisher.join("hall");
    let mut healthy: Vec<Client> = (0..3)
        .map(|index| {
            let mut client = Client::connect(&server, &format!("healthy-{index}"));
            client.join("hall");
            client
        })
        .collect();
    flood(&mut publisher, &mut healthy);

    for member in &mut healthy {
        let left = member.expect("user_left");
        assert_eq!(left["user"], "slow", "only the slow one was disconnected");
        member.heartbeat();
    }
    match slow.expect_end() {
        End::Closed(code, reason) => assert_eq!(code, 1013, "{reason}"),
        // Its socket was stuck for as long as a close may take: there was no way to say goodbye.
        End::Dropped(_) => {}
    }
    let received = slow.take_unclaimed("message");
    assert!((received.len() as u64) < MESSAGES);
    for (message, seq) in received.iter().zip(1..) {
        check(message, seq);
    }
}

#[test]
fn drop_oldest_accounts_for_every_message_it_drops() {
    account("drop_oldest");
}

#[test]
fn conflate_accounts_for_what_it_leaves_out_and_ends_with_the_latest() {
    let last = account("conflate");
    assert_eq!(last["type"], "message");
    check(&last, MESSAGES);
}

/// Floods a member that does not read until the flood is over, under a policy that leaves messages out, and has all of them accounted for. Answers
/// the last that is heard of the flood.
fn account(policy: &str) -> Value {
    let server = start(policy);
    let mut slow = Client::connect(&server, "slow");
    slow.join("hall");
    let mut publisher = Client::connect(&server, "publisher");
    publisher.join("hall");
    let mut healthy = [Client::connect(&server, "healthy")];
    healthy[0].join("hall");
    flood(&mut publisher, &mut healthy);

    let mut next = 1;
    let mut dropped = 0;
    let mut last = Value::Null;
    while next <= MESSAGES {
        let object = slow.expect_where("a message or a gap", |object| {
            object["type"] == "message" || object["type"] == "gap"
        });
        if object["type"] == "message" {
            check(&object, next);
            next += 1;
        } else {
            let (from, to) = (number(&object, "from"), number(&object, "to"));
            assert_eq!(object["room"], "hall");
            assert_eq!(from, next, "a gap begins where the messages ended");
            assert!(from <= to && to <= MESSAGES, "{object}");
            dropped += to - from + 1;
            next = to + 1;
        }
        last = object;
    }
    assert!(dropped > 0, "the flood was too small to be a test");

    // It is a member like the others again.
    publisher.publish("hall", &json!("after"));
    let after = slow.expect("message");
    assert_eq!(
        (number(&after, "seq"), &after["content"]),
        (MESSAGES + 1, &json!("after"))
    );
    assert!(slow.take_unclaimed("gap").is_empty());
    last
}
