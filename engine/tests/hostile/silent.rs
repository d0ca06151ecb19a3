//! Those who say nothing: connected and no more, or opened and then gone without a word.

use std::time::Duration;

use crate::attacker::Attacker;
use crate::scene::{Arena, Attack, CONNECTION_BYTES};

const CONNECTIONS: usize = 2_000;
const THREADS: usize = 2;

#[test]
fn half_open() {
    let attack = Attack {
        name: "half open",
        attackers: "2,000 connections that say nothing",
        arguments: &["--handshake-ms-max", "300"],
        threads: THREADS,
        until: "status 408",
        budget: CONNECTIONS as u64 * CONNECTION_BYTES,
    };
    let outcome = attack.play(|arena, _| {
        let mut attackers: Vec<Attacker> = Vec::new();
        while arena.goes_on() {
            if attackers.len() < CONNECTIONS / THREADS {
                for _ in 0..100 {
                    attackers.push(Attacker::connect(arena));
                    attackers.last().expect("just pushed").never_wait();
                }
            }
            for attacker in &mut attackers {
                if let Some(status) = attacker.status_so_far() {
                    arena.count(format!("status {status}"));
                    *attacker = Attacker::connect(arena);
                    attacker.never_wait();
                }
            }
            arena.pause(Duration::from_millis(20));
        }
    });
    outcome.assert_only(&["status 408"]);
}

/// A peer that has vanished without a FIN looks like one that no longer answers: the server's pings go unanswered.
#[test]
fn vanished() {
    const OPEN: usize = 1_000;
    let attack = Attack {
        name: "vanished",
        attackers: "1,000 open connections that answer no ping",
        arguments: &["--heartbeat-ms", "100", "--close-ms-max", "100"],
        threads: THREADS,
        until: "close 1001",
        budget: OPEN as u64 * CONNECTION_BYTES,
    };
    let outcome = attack.play(|arena, _| {
        let mut attackers: Vec<Attacker> = (0..OPEN / THREADS)
            .map_while(|_| arena.goes_on().then(|| Attacker::open(arena)))
            .collect();
        while arena.goes_on() {
            // By then three heartbeats have passed, and the one at which the connection ends.
            arena.pause(Duration::from_millis(500));
            if arena.goes_on() {
                count_closed(arena, &mut attackers);
            }
        }
    });
    outcome.assert_only(&["close 1001"]);
}

/// Counts how each of them was closed, and opens it again.
fn count_closed(arena: &Arena, attackers: &mut [Attacker]) {
    for attacker in attackers {
        if !arena.goes_on() {
            return;
        }
        arena.count(format!("close {}", attacker.close_code()));
        *attacker = Attacker::open(arena);
    }
}
