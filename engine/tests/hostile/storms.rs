//! Those who come in crowds: connections that are reset as soon as they are made, and one address that opens everything.

use std::time::Duration;

use crate::attacker::Attacker;
use crate::raw::{Response, upgrade_request};
use crate::scene::{Arena, Attack, CONNECTION_BYTES};

const THREADS: usize = 4;

#[test]
fn connect_and_reset() {
    let attack = Attack {
        name: "connect and reset",
        attackers: "4 threads, each connection reset at once, by turns before, within and after its handshake",
        arguments: &[],
        threads: THREADS,
        until: "reset",
        // Pending ones: as many as the backlog takes.
        budget: 4096 * CONNECTION_BYTES,
    };
    let request = upgrade_request("/ws", "");
    let outcome = attack.play(|arena, _| {
        for said in [0, request.len() / 2, request.len()].iter().cycle() {
            if !arena.goes_on() {
                break;
            }
            let mut attacker = Attacker::connect(arena);
            if *said > 0 {
                attacker.send(&request.as_bytes()[..*said]);
            }
            drop(attacker);
            arena.count("reset");
        }
    });
    outcome.assert_only(&["reset"]);
}

/// Opens all that the server lets in, keeps it, and goes on trying.
fn open_everything(arena: &Arena) {
    let request = upgrade_request("/ws", "");
    let mut open = Vec::new();
    while arena.goes_on() {
        let mut attacker = Attacker::connect(arena);
        attacker.send(request.as_bytes());
        let status = attacker.status();
        arena.count(format!("status {status}"));
        if status == 101 {
            open.push(attacker);
        }
    }
}

#[test]
fn one_address() {
    const PERMITTED: u64 = 500;
    let attack = Attack {
        name: "one address",
        attackers: "4 threads, all connections from one address, 500 permitted",
        arguments: &["--address-connections-max", "500"],
        threads: THREADS,
        until: "status 429",
        budget: PERMITTED * CONNECTION_BYTES,
    };
    let outcome = attack.play(|arena, _| open_everything(arena));
    outcome.assert_only(&["status 101", "status 429"]);
}

#[test]
fn one_address_without_bound() {
    const PERMITTED: u64 = 1_000;
    let attack = Attack {
        name: "full server",
        attackers: "4 threads, all connections that the server takes, 1,000 permitted",
        arguments: &["--shard-connections-max", "1000"],
        threads: THREADS,
        until: "status 503",
        budget: PERMITTED * CONNECTION_BYTES,
    };
    let outcome = attack.play(|arena, _| open_everything(arena));
    // Where even the descriptors kept for refusals are in use, one goes without an answer.
    let (refused, unanswered) = (outcome.counted("status 503"), outcome.counted("status 0"));
    assert!(
        refused > 0 && unanswered <= refused / 100,
        "{refused} {unanswered}"
    );
    // Who comes when they are gone is let in.
    std::thread::sleep(Duration::from_millis(100));
    let mut late = crate::raw::RawClient::connect(outcome.server.port());
    late.send_bytes(upgrade_request("/ws", "").as_bytes());
    let Response { status, .. } = late.response();
    assert_eq!(status, 101);
}
