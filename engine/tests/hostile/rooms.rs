//! Those who join rooms by the million: as many at once as the server has, and fresh names without end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::attacker::{Attacker, position};
use crate::raw::{FINAL_TEXT, frame};
use crate::scene::{Arena, Attack, CONNECTION_BYTES};

const CONNECTIONS: usize = 200;
const THREADS: usize = 2;

/// Rooms that a connection is in at once: fewer than `rooms_per_connection_max`, so that another bound must answer.
const ROOMS_EACH: u64 = 50;

/// What a room costs that nobody says anything in: its name at the home and in the slice, its entries in both and in the indexes.
const ROOM_BYTES: u64 = 2048;

/// Half of what the attackers may be in at once as far as their connections are concerned.
const ROOMS_MAX: u64 = CONNECTIONS as u64 * ROOMS_EACH / 2;

#[test]
fn all_rooms_there_are() {
    let rooms_max = ROOMS_MAX.to_string();
    let attack = Attack {
        name: "all rooms there are",
        attackers: "200 connections that want twice the rooms of the server, and trade theirs for others",
        arguments: &["--rooms-max", &rooms_max],
        threads: THREADS,
        until: "too_many_rooms",
        budget: ROOMS_MAX * ROOM_BYTES + CONNECTIONS as u64 * CONNECTION_BYTES,
    };
    // Never more than there are: a room counts after its join was answered, and no more before it is left.
    let held = AtomicU64::new(0);
    let outcome = attack.play(|arena, _| {
        let mut occupants: Vec<Occupant> = Vec::new();
        while arena.goes_on() {
            if occupants.len() < CONNECTIONS / THREADS {
                let mut occupant = Occupant::new(arena);
                occupant.join_many(arena, &held, ROOMS_EACH);
                occupants.push(occupant);
                continue;
            }
            for occupant in &mut occupants {
                if arena.goes_on() {
                    occupant.trade(arena, &held);
                }
            }
        }
        let rooms: usize = occupants.iter().map(|occupant| occupant.rooms.len()).sum();
        held.fetch_sub(rooms as u64, Ordering::SeqCst);
    });
    outcome.assert_only(&["joined", "too_many_rooms"]);
}

/// A connection and the rooms it is in.
struct Occupant {
    attacker: Attacker,
    rooms: Vec<String>,
}

impl Occupant {
    fn new(arena: &Arena) -> Self {
        Self {
            attacker: Attacker::open(arena),
            rooms: Vec::new(),
        }
    }

    fn join_many(&mut self, arena: &Arena, held: &AtomicU64, count: u64) {
        let rooms: Vec<String> = (0..count).map(|_| fresh_name(arena.unique())).collect();
        let joins: Vec<u8> = rooms
            .iter()
            .flat_map(|room| request("join", room))
            .collect();
        self.attacker.send(&joins);
        for room in rooms {
            let answer = loop {
                match self.attacker.text_with("") {
                    Some(text) if text.contains("\"joined\"") => break "joined",
                    Some(text) if text.contains("too_many_rooms") => {
                        let own = "a connection may be in";
                        assert!(
                            !text.contains(own),
                            "not the bound of the connection: {text}"
                        );
                        break "too_many_rooms";
                    }
                    Some(_) => {}
                    None => break "no answer",
                }
            };
            arena.count(answer);
            if answer == "joined" {
                self.rooms.push(room);
                let now_held = held.fetch_add(1, Ordering::SeqCst) + 1;
                assert!(now_held <= ROOMS_MAX, "{now_held}");
            } else {
                // All are taken but for those that the other attackers have just left, or were not told of yet. At the end of a turn all are left.
                let now_held = held.load(Ordering::SeqCst);
                let is_full = now_held + THREADS as u64 * ROOMS_EACH >= ROOMS_MAX;
                assert!(is_full || !arena.goes_on(), "{now_held}");
            }
        }
    }

    /// Leaves one room for a fresh one.
    fn trade(&mut self, arena: &Arena, held: &AtomicU64) {
        if let Some(room) = self.rooms.pop() {
            held.fetch_sub(1, Ordering::SeqCst);
            self.attacker.send(&request("leave", &room));
        }
        self.join_many(arena, held, 1);
    }
}

#[test]
fn millions_of_rooms() {
    const ROOMS_AT_ONCE: u64 = CONNECTIONS as u64 * ROOMS_EACH;
    let rooms_max = (ROOMS_AT_ONCE + 1).to_string();
    let attack = Attack {
        name: "millions of rooms",
        attackers: "200 connections, each joins 50 fresh rooms and leaves them, over and over, as fast as permitted",
        // Enough, as long as each room that was left is forgotten.
        arguments: &["--rooms-max", &rooms_max],
        threads: THREADS,
        until: MORE,
        budget: ROOMS_AT_ONCE * ROOM_BYTES + CONNECTIONS as u64 * (CONNECTION_BYTES + 262_144),
    };
    let joined = AtomicU64::new(0);
    let outcome = attack.play(|arena, _| {
        let mut attackers: Vec<Attacker> = (0..CONNECTIONS / THREADS)
            .map_while(|_| arena.goes_on().then(|| Attacker::open(arena)))
            .collect();
        attackers.iter().for_each(Attacker::never_wait);
        while arena.goes_on() {
            for attacker in &mut attackers {
                // A socket that is full has taken a part of it, which would break the frames after it.
                if attacker.finish_sending() {
                    attacker.send_later(join_and_leave(arena));
                }
                let said = attacker.read_some();
                if position(&said, b"too_many_rooms").is_some() {
                    arena.count("too_many_rooms");
                }
                let fresh = occurrences(&said, b"\"joined\"");
                if joined.fetch_add(fresh, Ordering::Relaxed) + fresh > ROOMS_AT_ONCE {
                    arena.count_many(MORE, fresh);
                }
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    outcome.assert_only(&[MORE]);
}

/// Rooms joined beyond as many as the server may hold at once: those that were left are forgotten.
const MORE: &str = "joined rooms beyond those that there may be at once";

fn occurrences(bytes: &[u8], pattern: &[u8]) -> u64 {
    let is_pattern = |window: &&[u8]| *window == pattern;
    bytes.windows(pattern.len()).filter(is_pattern).count() as u64
}

/// Joins to rooms that nobody was ever in, and then a leave of each.
fn join_and_leave(arena: &Arena) -> Vec<u8> {
    let rooms: Vec<String> = (0..ROOMS_EACH)
        .map(|_| fresh_name(arena.unique()))
        .collect();
    let all = |what| rooms.iter().flat_map(move |room| request(what, room));
    all("join").chain(all("leave")).collect()
}

fn fresh_name(number: u64) -> String {
    format!("{number:0>200}")
}

fn request(what: &str, room: &str) -> Vec<u8> {
    let object = json!({"type": what, "room": room}).to_string();
    frame(FINAL_TEXT, object.as_bytes())
}
