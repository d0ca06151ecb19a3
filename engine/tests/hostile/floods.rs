//! Those who send small frames as fast as the server takes them: messages, pings, pongs, fragments.

use crate::attacker::{flood, repeated};
use crate::raw::{CONTINUATION, FINAL_TEXT, PING, PONG, TEXT, frame};
use crate::scene::{Attack, CONNECTION_BYTES, Outcome, machine};

const CONNECTIONS: usize = 64;
const THREADS: usize = 2;

/// Floods the server with one frame, or a few, over and over.
fn flooded(name: &str, opening: &[u8], frames: &[u8]) -> Outcome {
    let attack = Attack {
        name,
        attackers: "64 connections, as fast as they are read",
        arguments: &[],
        threads: THREADS,
        until: "rate_limited",
        budget: CONNECTIONS as u64 * (machine::stash_bytes() + 262_144 + CONNECTION_BYTES),
    };
    let frames = repeated(frames);
    let outcome = attack.play(|arena, _| flood(arena, CONNECTIONS / THREADS, "", opening, &frames));
    outcome.assert_only(&["rate_limited"]);
    outcome
}

#[test]
fn tiny_frames() {
    flooded("tiny frames", b"", &frame(FINAL_TEXT, b"{}"));
}

#[test]
fn pings() {
    flooded("pings", b"", &frame(PING, b""));
}

#[test]
fn pongs() {
    // Nothing is answered, so the server sees that the attackers have gone only when it has taken what they had sent, at the rate: large ones are fewer.
    flooded("pongs", b"", &frame(PONG, &[b'x'; 125]));
}

#[test]
fn fragments() {
    flooded("fragments", &frame(TEXT, b"\""), &frame(CONTINUATION, b"x"));
}

#[test]
fn empty_fragments() {
    flooded(
        "empty fragments",
        &frame(TEXT, b""),
        &frame(CONTINUATION, b""),
    );
}

#[test]
fn pings_between_fragments() {
    let mixed = [frame(CONTINUATION, b""), frame(PING, b"?")].concat();
    flooded("pings between fragments", &frame(TEXT, b""), &mixed);
}
