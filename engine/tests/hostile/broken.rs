//! Those who break the rules of HTTP and RFC 6455, over and over on new connections.

use crate::attacker::Attacker;
use crate::raw::{CLOSE, CONTINUATION, FINAL_TEXT, PING, frame, header, upgrade_request};
use crate::scene::{Attack, CONNECTION_BYTES};

const THREADS: usize = 4;

/// Plays an attack of open connections that each send something broken, and checks how they were closed.
fn closed(name: &str, broken: &[Vec<u8>], expected: &str) {
    let attack = Attack {
        name,
        attackers: "4 threads, a new connection after each close",
        arguments: &[],
        threads: THREADS,
        until: expected,
        // Each is closed before the next is opened.
        budget: THREADS as u64 * CONNECTION_BYTES,
    };
    let outcome = attack.play(|arena, _| {
        for bytes in broken.iter().cycle() {
            if !arena.goes_on() {
                return;
            }
            let mut attacker = Attacker::open(arena);
            attacker.send(bytes);
            arena.count(format!("close {}", attacker.close_code()));
        }
    });
    outcome.assert_only(&[expected]);
}

#[test]
fn large_headers() {
    let attack = Attack {
        name: "16 KiB headers",
        attackers: "4 threads, a new connection after each answer",
        arguments: &[],
        threads: THREADS,
        until: "status 431",
        budget: THREADS as u64 * (16_384 + CONNECTION_BYTES),
    };
    let padding = format!("X-Padding: {}\r\n", "x".repeat(16_384));
    let request = upgrade_request("/ws", &padding);
    let outcome = attack.play(|arena, _| {
        while arena.goes_on() {
            let mut attacker = Attacker::connect(arena);
            attacker.send(request.as_bytes());
            arena.count(format!("status {}", attacker.status()));
        }
    });
    outcome.assert_only(&["status 431"]);
}

#[test]
fn missing_masks() {
    let unmasked = |first: u8, payload: &[u8]| [&[first, payload.len() as u8], payload].concat();
    let broken = [
        unmasked(FINAL_TEXT, b"{\"type\":\"heartbeat\"}"),
        unmasked(PING, b""),
        unmasked(CLOSE, b""),
    ];
    closed("missing masks", &broken, "close 1002");
}

#[test]
fn reserved_bits() {
    // Bits that no extension was agreed for, and opcodes that mean nothing.
    let mut broken: Vec<Vec<u8>> = [0x40, 0x20, 0x10, 0x70]
        .iter()
        .flat_map(|bits| [frame(FINAL_TEXT | bits, b"{}"), frame(PING | bits, b"")])
        .collect();
    broken.extend([0x83, 0x87, 0x8b, 0x8f].map(|first| frame(first, b"{}")));
    // A control frame in fragments, and one that is too long.
    broken.extend([frame(PING & 0x7f, b""), header(PING, 126)]);
    // The middle of a message that never began.
    broken.push(frame(CONTINUATION, b"{}"));
    closed("reserved bits", &broken, "close 1002");
}

#[test]
fn giant_lengths() {
    let broken =
        [1 << 20 | 1, 1 << 32, 1 << 40, u64::MAX >> 1].map(|length| header(FINAL_TEXT, length));
    closed("giant lengths", &broken, "close 1009");
}

#[test]
fn impossible_lengths() {
    let mut not_shortest = vec![FINAL_TEXT, 0x80 | 126, 0, 5];
    not_shortest.extend([0; 4]);
    // The first bit of eight bytes must be 0.
    let broken = [
        header(FINAL_TEXT, u64::MAX),
        header(FINAL_TEXT, 1 << 63),
        not_shortest,
    ];
    closed("impossible lengths", &broken, "close 1002");
}
