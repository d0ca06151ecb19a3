//! Those who never read, in a room in which much is said.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::attacker::Attacker;
use crate::raw::{FINAL_TEXT, frame};
use crate::scene::{Arena, Attack, CONNECTION_BYTES, ROOM};

const READERS: usize = 64;
const THREADS: usize = 2;
const OUTBOX: u64 = 262_144;
const MESSAGE: usize = 4096;

/// What fills the outbox of somebody who does not read, and before it the buffers of the kernel at both ends.
const MESSAGES: usize = 2 * OUTBOX as usize / MESSAGE + 64;

/// How long the last words of the server may take to whoever begins to read. It hears what its other room says all the while, so that it never
/// waits for long.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(10);

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
        while arena.goes_on() {
            let readers: Vec<Attacker> = (0..READERS / THREADS)
                .map(|_| silent_reader(arena, &room))
                .collect();
            if !fill(arena, &room) {
                return;
            }
            // Only now do they read, to learn what became of them.
            for mut reader in readers {
                arena.count(last_words(&mut reader));
            }
        }
    });
    outcome.assert_only(&["close 1013"]);
}

fn join(room: &str) -> Vec<u8> {
    let object = json!({"type": "join", "room": room}).to_string();
    frame(FINAL_TEXT, object.as_bytes())
}

/// A member of the busy room who does not read. The innocent have it in their room too.
fn silent_reader(arena: &Arena, room: &str) -> Attacker {
    let mut reader = Attacker::open(arena);
    reader.send(&join(room));
    reader.send(&join(ROOM));
    reader
}

/// Says more in the room than waits for anybody, and waits until the room has heard all of it: the speaker itself is the last to be told.
/// False where the turn ended before.
fn fill(arena: &Arena, room: &str) -> bool {
    let object = json!({"type": "message", "room": room, "content": "x".repeat(MESSAGE)});
    let message = frame(FINAL_TEXT, object.to_string().as_bytes());
    let mut speaker = Attacker::open(arena);
    speaker.send(&join(room));
    speaker.never_wait();
    speaker.send_later(message.repeat(MESSAGES));
    let mut heard = 0;
    while heard < MESSAGES * MESSAGE {
        if !arena.goes_on() {
            return false;
        }
        speaker.finish_sending();
        let received = speaker.read_some().len();
        heard += received;
        if received == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    true
}

/// How the server closed a connection that begins to read, in words.
fn last_words(reader: &mut Attacker) -> String {
    let deadline = Instant::now() + LAST_WORDS_PATIENCE;
    while let Some((first, payload)) = reader.frame() {
        if let Some(code) = crate::attacker::code_of_close(first, &payload) {
            return format!("close {code}");
        }
        if Instant::now() > deadline {
            return "still open".to_owned();
        }
    }
    "ended without a close frame".to_owned()
}
