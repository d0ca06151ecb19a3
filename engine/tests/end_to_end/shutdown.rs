//! Shutdown: every connection gets what was queued for it, then a close that says when to come back.

use serde_json::json;

use crate::client::{Client, End, PATIENCE, members};
use crate::server::Server;

/// The close of a server that goes away, with the milliseconds to wait in its reason.
fn assert_goes_away(end: &End) {
    let End::Closed(code, reason) = end else {
        panic!("dropped without a close frame: {end:?}");
    };
    assert_eq!(*code, 1001, "{reason}");
    assert!(
        reason.chars().any(|character| character.is_ascii_digit()),
        "the reason does not say how long to wait: {reason:?}"
    );
}

#[test]
fn a_shutdown_tells_every_connection_when_to_come_back() {
    let mut server = Server::start(&[
        "--shards",
        "4",
        "--shutdown-window-ms",
        "500",
        "--reconnect-after-ms",
        "700",
    ]);
    let mut clients = members(&server, "hall", 40);
    let lines_before = server.output().len();
    server.terminate();
    for client in &mut clients {
        assert_goes_away(&client.expect_end());
    }
    let status = server.wait_exit(PATIENCE);
    assert_eq!(status.code(), Some(0), "{status}");
    let output = server.output();
    let summary = output.iter().skip(lines_before).any(|line| {
        line.contains("connections") && line.chars().any(|character| character.is_ascii_digit())
    });
    assert!(
        summary,
        "no summary with the number of connections in {output:#?}"
    );
}

#[test]
fn a_shutdown_delivers_what_was_queued_first() {
    const MESSAGES: u64 = 4_000;
    let mut server = Server::start(&[
        "--shards",
        "2",
        "--shutdown-window-ms",
        "200",
        "--shutdown-ms-max",
        "30000",
        "--messages-per-second-max",
        "0",
        "--outbox-bytes-max",
        "67108864",
        "--socket-send-bytes",
        "16384",
    ]);
    let mut late = Client::connect(&server, "late");
    late.join("hall");
    let mut ada = Client::connect(&server, "ada");
    ada.join("hall");
    // Sixteen megabytes for a member that does not read yet: more than the kernel holds for it.
    let filler = "x".repeat(4096);
    for index in 0..MESSAGES {
        ada.publish("hall", &json!([index, filler]));
        ada.expect("message");
    }
    server.terminate();
    assert_goes_away(&late.expect_end());
    let received: Vec<_> = late.take_unclaimed("message");
    let order: Vec<_> = received
        .iter()
        .map(|message| message["content"][0].as_u64())
        .collect();
    assert!(
        order == (0..MESSAGES).map(Some).collect::<Vec<_>>(),
        "{} arrived",
        order.len()
    );
    assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn a_server_without_connections_ends_at_once() {
    let mut server = Server::start(&["--shards", "2"]);
    drop(members(&server, "hall", 3));
    server.terminate();
    assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn a_peer_that_does_not_answer_cannot_hold_the_server_up() {
    let mut server = Server::start(&["--shards", "2", "--shutdown-ms-max", "1000"]);
    let mut clients = members(&server, "hall", 4);
    let stuck = clients.pop().expect("there are members");
    server.terminate();
    for client in &mut clients {
        assert_goes_away(&client.expect_end());
    }
    assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
    drop(stuck);
}
