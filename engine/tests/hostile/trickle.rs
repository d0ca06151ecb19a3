//! Those who send a byte now and then: handshakes and messages that never end, by the thousand.

use std::time::Duration;

use crate::attacker::Attacker;
use crate::raw::{FINAL_TEXT, header, upgrade_request};
use crate::scene::{Arena, Attack, CONNECTION_BYTES};

const CONNECTIONS: usize = 2_000;
const THREADS: usize = 2;

/// Has one thread's share of the attackers do their next step, over and over with a pause.
fn trickle(arena: &Arena, pause: Duration, mut step: impl FnMut(&mut Attacker)) {
    let mut attackers = Vec::new();
    while arena.goes_on() {
        // A part of them is opened at a time, so that those that are open keep trickling.
        for _ in 0..CONNECTIONS / THREADS / 8 {
            if attackers.len() < CONNECTIONS / THREADS && arena.goes_on() {
                attackers.push(Attacker::connect(arena));
            }
        }
        for attacker in &mut attackers {
            step(attacker);
        }
        arena.pause(pause);
    }
}

#[test]
fn slow_headers() {
    let request = upgrade_request("/ws", "X-Padding: 0123456789\r\n");
    let attack = Attack {
        name: "slow headers",
        attackers: "2,000 connections, 20 bytes a second each",
        arguments: &["--handshake-ms-max", "500"],
        threads: THREADS,
        until: "status 408",
        budget: CONNECTIONS as u64 * (8192 + CONNECTION_BYTES),
    };
    let outcome = attack.play(|arena, _| {
        trickle(arena, Duration::from_millis(50), |attacker| {
            attacker.never_wait();
            // Never the whole of it, by the time that the server permits.
            attacker.pump_one(request.as_bytes());
            if let Some(status) = attacker.status_so_far() {
                arena.count(format!("status {status}"));
                *attacker = Attacker::connect(arena);
            }
        });
    });
    outcome.assert_only(&["status 408"]);
}

#[test]
fn slow_bodies() {
    const SIZE: u64 = 65_536;
    let size = SIZE.to_string();
    let attack = Attack {
        name: "slow bodies",
        attackers: "2,000 connections, messages of 64 KiB by 100 bytes, 20 times a second",
        arguments: &["--message-size-max", &size],
        threads: THREADS,
        until: "begun",
        budget: CONNECTIONS as u64 * (SIZE + CONNECTION_BYTES),
    };
    let request = upgrade_request("/ws", "");
    let outcome = attack.play(|arena, _| {
        trickle(arena, Duration::from_millis(50), |attacker| {
            if !attacker.has_begun() {
                attacker.begin();
                attacker.send(request.as_bytes());
                attacker.send(&header(FINAL_TEXT, SIZE));
                attacker.never_wait();
                arena.count("begun");
            }
            if !attacker.send(&[b'x'; 100]) {
                arena.count("ended");
            }
        });
    });
    // The server waits for the rest: a message has no deadline as long as the connection lives.
    outcome.assert_only(&["begun"]);
}
