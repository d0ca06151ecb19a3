//! Runs that cannot be made: each says why, and what to do.

use std::net::TcpListener;
use std::process::Command;

use crate::bench::Bench;
use crate::server::{Server, Welcome};

/// A run that gives up soon.
const ROOMS: &str = "rooms --connections 5 --room-size 5 --warmup 0 --duration 1 --patience 1";

#[track_caller]
pub(crate) fn assert_says(message: &str, phrases: &[&str]) {
    for phrase in phrases {
        assert!(message.contains(phrase), "no {phrase:?} in: {message}");
    }
}

#[track_caller]
fn assert_cannot_join(welcome: Welcome, phrases: &[&str]) {
    let server = Server::with_welcome(welcome);
    let message = Bench::against(&server.address(), "plain", ROOMS).refusal();
    assert_says(
        &message,
        &["0 of 5 connections are open and for 1 s none was added"],
    );
    assert_says(&message, phrases);
    // How often it was met.
    assert!(
        message.trim_end().ends_with(')') && message.contains(" ("),
        "{message}"
    );
}

#[test]
fn nothing_listens() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let message = Bench::against(&address.to_string(), "plain", ROOMS).refusal();
    assert_says(
        &message,
        &[
            "0 of 5 connections",
            "connecting: Connection refused",
            "see --target",
        ],
    );
}

#[test]
fn a_server_answers_with_another_status() {
    let phrase = "handshake: the server answered with status 404 instead of 101 (";
    assert_cannot_join(Welcome::Status(404), &[phrase]);
    let phrase = "handshake: the server answered with status 503 instead of 101 (";
    assert_cannot_join(Welcome::Status(503), &[phrase]);
}

#[test]
fn a_server_closes_after_the_handshake() {
    assert_cannot_join(
        Welcome::Close(1013),
        &["the server closed with code 1013 ("],
    );
}

#[test]
fn a_server_breaks_the_protocol() {
    // Reserved bits; a reserved opcode; a masked frame.
    for (bytes, violation) in [
        (&[0xf1, 0x00][..], "reserved bits set"),
        (&[0x83, 0x00], "malformed frame"),
        (&[0x81, 0x81, 0, 0, 0, 0, b'x'], "masked frame"),
    ] {
        let phrase = format!("the server broke the protocol: {violation} (");
        assert_cannot_join(Welcome::Bytes(bytes), &[&phrase]);
    }
}

/// A server that speaks something else never answers a join: the attempts are under way when patience ends.
#[test]
fn a_server_of_another_protocol_lets_nobody_in() {
    let server = Server::correct();
    let words = format!("{ROOMS} --path /echo");
    let message = Bench::against(&server.address(), "shardcast", &words).refusal();
    assert_says(
        &message,
        &["0 of 5 connections", "no answer yet", "--protocol"],
    );
}

/// Echo connections are open with the handshake: that they are lost after it fails the run instead.
#[test]
fn a_server_that_hangs_up_on_open_connections_fails_the_run() {
    let server = Server::with_welcome(Welcome::Close(1001));
    let words = "echo --connections 1 --warmup 0 --duration 1 --patience 1 --path /echo";
    let outcome = Bench::against(&server.address(), "echo", words).run();
    assert!(matches!(outcome.code, Some(1 | 2)), "{outcome:#?}");
    let said = outcome.stdout + &outcome.stderr;
    assert_says(&said, &["lost: the server closed with code 1001 (1)"]);
}

#[test]
fn command_lines_are_checked() {
    // A process that has ended and been waited for has no number any more.
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let no_pid = format!("rooms --pid {}", child.id());
    for (words, phrases) in [
        (
            "rooms --rate 0",
            &["--rate", "write a rate above 0"] as &[&str],
        ),
        (
            "rooms --rate fast",
            &["--rate", "write a number a second, such as 10"],
        ),
        (
            "echo --payload 3",
            &["--payload", "write a number of bytes from 36"],
        ),
        ("rooms --payload 9999999", &["--payload", "to 1048576"]),
        ("rooms --duration=-1", &["--duration"]),
        (
            "rooms --duration 1d",
            &["--duration", "write a number of seconds"],
        ),
        ("rooms --connections 0", &["--connections", "1..="]),
        (
            "rooms --target nowhere",
            &["--target", "write ADDRESS:PORT, such as 127.0.0.1:8080"],
        ),
        (
            "rooms --target wss://127.0.0.1:9",
            &[
                "which certificate to trust",
                "--tls-ca FILE",
                "--tls-insecure",
            ],
        ),
        (
            "rooms --url wss://127.0.0.1:9 --tls-ca nowhere.pem",
            &[
                "--tls-ca nowhere.pem: the file cannot be read",
                "name a PEM file",
            ],
        ),
        (
            "rooms --target wss://127.0.0.1:9 --tls-ca Cargo.toml",
            &["--tls-ca Cargo.toml: there is no certificate in the file"],
        ),
        (
            "rooms --target wss://127.0.0.1:9 --tls-ca a.pem --tls-insecure",
            &["--tls-ca", "cannot be used with", "--tls-insecure"],
        ),
        (
            "rooms --target 127.0.0.1:9 --tls-insecure",
            &["--tls-insecure is about TLS", "--target wss://127.0.0.1:9"],
        ),
        (
            "rooms --target wss://127.0.0.1:9 --tls-version 1.1",
            &["--tls-version", "1.2", "1.3"],
        ),
        ("rooms --cores 0-", &["--cores"]),
        ("rooms --sources 1.2.3", &["--sources"]),
        (
            "rooms --protocol http",
            &["--protocol", "shardcast", "plain", "echo"],
        ),
        (
            "rooms --protocol echo",
            &["has no rooms", "use the workload `echo`"],
        ),
        ("slow --room-size 5 --slow 5", &["leave no one to measure"]),
        (
            "rooms --publishers 100000 --room-size 1000000 --connections 1000000",
            &["lower --publishers"],
        ),
        ("fault", &["--break <COMMAND>", "--crash-shard"]),
        (
            "fault --crash-shard --protocol plain",
            &["--crash-shard needs --protocol shardcast"],
        ),
        ("rooms --rte 5", &["--rte", "--rate"]),
        ("room", &["room", "rooms"]),
        (
            "",
            &["Usage: shardcast-bench <COMMAND>", "rooms", "density"],
        ),
        (&no_pid, &["no process", "give the pid of the server"]),
    ] {
        let outcome = Bench::new(words).run_as_it_is();
        assert_eq!(outcome.code, Some(2), "{words}: {outcome:#?}");
        assert_says(&outcome.stderr, phrases);
    }
}
