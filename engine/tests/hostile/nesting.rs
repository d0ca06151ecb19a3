//! Those whose JSON is nested as deep as a message is long.

use serde_json::json;

use crate::attacker::Attacker;
use crate::raw::{FINAL_TEXT, frame};
use crate::scene::{Attack, CONNECTION_BYTES};

const THREADS: usize = 4;
const DEPTH: usize = 100_000;

/// Levels of a content that is taken, of the 128 that a message may have.
const PERMITTED_DEPTH: usize = 120;

#[test]
fn deep_nesting() {
    let attack = Attack {
        name: "deep nesting",
        attackers: "4 threads, messages of 100,000 levels",
        arguments: &["--history-messages-max", "4"],
        threads: THREADS,
        until: "answered",
        // A message each at most, what is made of it, and what the room remembers.
        budget: THREADS as u64 * (8 * DEPTH as u64 * 16 + CONNECTION_BYTES),
    };
    let outcome = attack.play(|arena, thread| {
        let room = format!("deep-{thread}");
        let nested = |open: &str, close: &str, depth: usize| {
            let levels = format!("{}0{}", open.repeat(depth), close.repeat(depth));
            let text = format!(
                "{{\"type\":\"message\",\"room\":\"{room}\",\"id\":\"deep\",\"content\":{levels}}}"
            );
            frame(FINAL_TEXT, text.as_bytes())
        };
        let too_deep = [("[", "]"), ("{\"a\":", "}"), ("[", ""), ("{\"a\":", "")]
            .map(|(open, close)| nested(open, close, DEPTH));
        let permitted = nested("[", "]", PERMITTED_DEPTH);
        let join = json!({"type": "join", "room": room}).to_string();
        while arena.goes_on() {
            let mut attacker = Attacker::open(arena);
            attacker.send(&frame(FINAL_TEXT, join.as_bytes()));
            attacker.send(&permitted);
            let answered = attacker.text_with("\"id\":\"deep\"").is_some();
            arena.count(if answered { "answered" } else { "not answered" });
            for message in &too_deep {
                let mut attacker = Attacker::open(arena);
                attacker.send(message);
                arena.count(format!("close {}", attacker.close_code()));
            }
        }
    });
    outcome.assert_only(&["answered", "close 1003"]);
}
