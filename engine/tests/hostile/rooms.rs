//! Those who join rooms by the million: fresh names without end, as many at once as a connection may.

use std::time::Duration;

use serde_json::json;

use crate::attacker::{Attacker, position};
use crate::raw::{FINAL_TEXT, frame};
use crate::scene::{Attack, CONNECTION_BYTES};

const CONNECTIONS: usize = 200;
const THREADS: usize = 2;
const ROOMS_MAX: u64 = 20_000;

/// What a room costs that nobody says anything in: its name at the home and in the slice, its entries in both and in the indexes.
const ROOM_BYTES: u64 = 2048;

#[test]
fn millions_of_rooms() {
    let rooms_max = ROOMS_MAX.to_string();
    let attack = Attack {
        name: "millions of rooms",
        attackers: "200 connections, each joins fresh rooms and leaves old ones, as fast as permitted",
        arguments: &["--rooms-max", &rooms_max],
        threads: THREADS,
        until: "too_many_rooms",
        budget: ROOMS_MAX * ROOM_BYTES + CONNECTIONS as u64 * (CONNECTION_BYTES + 262_144),
    };
    let outcome = attack.play(|arena, _| {
        let mut attackers: Vec<Attacker> = (0..CONNECTIONS / THREADS)
            .map_while(|_| arena.goes_on().then(|| Attacker::open(arena)))
            .collect();
        attackers.iter().for_each(Attacker::never_wait);
        let mut joins = 0;
        let mut seen = false;
        while arena.goes_on() {
            for attacker in &mut attackers {
                let bytes = join_and_leave(arena.unique());
                // A socket that is full has taken a part of it, which would break the frames after it.
                if attacker.finish_sending() {
                    attacker.send_later(bytes);
                    joins += 64;
                }
                let said = attacker.read_some();
                seen |= position(&said, b"too_many_rooms").is_some();
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        arena.count_many("joins", joins);
        if seen {
            arena.count("too_many_rooms");
        }
    });
    outcome.assert_only(&["joins", "too_many_rooms"]);
}

/// Sixty-four joins to rooms that nobody was ever in, and a leave of every second.
fn join_and_leave(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for room in 0..64 {
        let room = format!("{number:0>200}-{room}");
        let join = json!({"type": "join", "room": room}).to_string();
        bytes.extend(frame(FINAL_TEXT, join.as_bytes()));
        if number.is_multiple_of(2) {
            let leave = json!({"type": "leave", "room": room}).to_string();
            bytes.extend(frame(FINAL_TEXT, leave.as_bytes()));
        }
    }
    bytes
}
