//! Those who send little that inflates to much.

use miniz_oxide::deflate::compress_to_vec;

use crate::attacker::{Attacker, flood, repeated};
use crate::raw::{FINAL_TEXT, frame};
use crate::scene::{Attack, CONNECTION_BYTES, machine};

const CONNECTIONS: usize = 32;
const THREADS: usize = 2;
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// RSV1: the message is compressed (RFC 7692, section 6).
const COMPRESSED: u8 = 0x40;

/// The largest level of compression.
const LEVEL: u8 = 10;

/// A message as a compressed frame. A stream that says that it ends is given one more byte (RFC 7692, section 7.2.3.5).
fn compressed(message: &[u8]) -> Vec<u8> {
    let mut payload = compress_to_vec(message, LEVEL);
    payload.push(0);
    frame(COMPRESSED | FINAL_TEXT, &payload)
}

/// A valid message of about so many bytes that wants nothing.
fn heartbeat(bytes: usize) -> Vec<u8> {
    format!(
        "{{\"type\":\"heartbeat\",\"pad\":\"{}\"}}",
        "a".repeat(bytes)
    )
    .into_bytes()
}

/// What inflating takes besides a connection's own: the message, inflated, and parsed.
const INFLATED_BYTES: u64 = 3 << 20;

#[test]
fn deflate_bomb() {
    let attack = Attack {
        name: "deflate bomb",
        attackers: "4 threads, 64 KB that would inflate to 64 MiB, a new connection after each close",
        arguments: &[],
        threads: 4,
        until: "close 1009",
        budget: 4 * (65_536 + CONNECTION_BYTES) + INFLATED_BYTES,
    };
    let bomb = compressed(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 100_000);
    let outcome = attack.play(|arena, _| {
        while arena.goes_on() {
            let mut attacker = Attacker::open_with(arena, OFFER);
            attacker.send(&bomb);
            arena.count(format!("close {}", attacker.close_code()));
        }
    });
    outcome.assert_only(&["close 1009"]);
}

/// Plays a flood of one compressed message.
fn flooded(name: &str, arguments: &[&str], message: &[u8]) {
    let attack = Attack {
        name,
        attackers: "32 connections, as fast as they are read",
        arguments,
        threads: THREADS,
        until: "rate_limited",
        budget: CONNECTIONS as u64 * (machine::stash_bytes() + 262_144 + CONNECTION_BYTES)
            + INFLATED_BYTES,
    };
    let frames = repeated(&compressed(message));
    let outcome = attack.play(|arena, _| flood(arena, CONNECTIONS / THREADS, OFFER, b"", &frames));
    outcome.assert_only(&["rate_limited"]);
}

#[test]
fn bombs_of_the_permitted_size() {
    // One message is handled in one go: how long that takes is for `message_size_max` to say.
    let arguments = ["--message-size-max", "262144"];
    flooded(
        "messages of 256 KiB, compressed",
        &arguments,
        &heartbeat(262_000),
    );
}

#[test]
fn small_compressed_messages() {
    flooded("small messages, compressed", &[], &heartbeat(4_000));
}
