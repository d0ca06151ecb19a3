//! Those who never read, in a room in which much is said.

use serde_json::json;

use crate::attacker::Attacker;
use crate::raw::{FINAL_TEXT, frame};
use crate::scene::{Attack, CONNECTION_BYTES, ROOM};

const READERS: usize = 64;
const THREADS: usize = 2;
const OUTBOX: u64 = 262_144;

#[test]
fn never_reading() {
    let outbox = OUTBOX.to_string();
    // What is being sent is gathered into a copy.
    let gathered = 65_536;
    let attack = Attack {
        name: "never reading",
        attackers: "64 members of busy rooms who never read, 4 KiB messages as fast as permitted",
        arguments: &[
            "--outbox-bytes-max",
            &outbox,
            "--outbox-unread-bytes-max",
            "65536",
            "--socket-send-bytes",
            "16384",
            "--close-ms-max",
            "60000",
        ],
        threads: THREADS,
        until: "close 1013",
        budget: READERS as u64 * (OUTBOX + gathered + CONNECTION_BYTES)
            + (100 * 4200 * THREADS as u64),
    };
    let outcome = attack.play(|arena, thread| {
        let room = format!("busy-{thread}");
        let join = |room: &str| {
            let object = json!({"type": "join", "room": room}).to_string();
            frame(FINAL_TEXT, object.as_bytes())
        };
        let object = json!({"type": "message", "room": room, "content": "x".repeat(4096)});
        let message = frame(FINAL_TEXT, object.to_string().as_bytes());
        while arena.goes_on() {
            let mut readers = Vec::new();
            for _ in 0..READERS / THREADS {
                let mut reader = Attacker::open(arena);
                reader.take_little();
                reader.send(&join(&room));
                // The innocent have them in their room too.
                reader.send(&join(ROOM));
                readers.push(reader);
            }
            let mut publisher = Attacker::open(arena);
            publisher.send(&join(&room));
            publisher.never_wait();
            // As much as fills the sockets of all and their outboxes, and more.
            let mut left = 3 * OUTBOX as usize;
            while arena.goes_on() && left > 0 {
                let sent = publisher.pump(&message).expect("it reads, so it stays");
                publisher.drain(arena).expect("it reads, so it stays");
                left = left.saturating_sub(sent);
                if sent == 0 {
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
            }
            for mut reader in readers {
                if arena.goes_on() {
                    arena.count(format!("close {}", reader.close_code()));
                }
            }
        }
    });
    outcome.assert_only(&["close 1013"]);
}
