//! Those whose names and contents are of every kind of Unicode, and of what is none.

use serde_json::{Value, json};

use crate::attacker::Attacker;
use crate::raw::{FINAL_TEXT, frame};
use crate::scene::{Arena, Attack};

const THREADS: usize = 4;

/// Texts that are valid, whatever a terminal makes of them.
fn valid_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "\u{202e}right to left\u{202c}",
        "العربية עברית",
        "\u{200b}\u{200d}\u{2060}\u{feff}",
        "👩‍👩‍👧‍👦🏳️‍🌈",
        "\u{10ffff}\u{10fffe}\u{fffe}\u{ffff}\u{fdd0}",
        "\u{e000}\u{f8ff}\u{100000}",
        "\u{d7ff}\u{e000}\u{fffd}",
        "𝕬𝕭\u{1d173}",
        "\u{85}\u{2028}\u{2029}",
        "ﷺ각",
    ]
    .map(str::to_owned)
    .into();
    // As many marks on one letter as a name takes.
    texts.push(format!("Z{}", "\u{300}".repeat(120)));
    texts
}

/// Texts that are not in normalisation form C: contents, and no names.
const NOT_NORMAL: [&str; 4] = [
    "e\u{301}\u{327}\u{308}",
    "\u{1100}\u{1161}\u{11a8}",
    "\u{212b}",
    "caf\u{65}\u{301}",
];

/// Contents as they stand in JSON, with escapes of every kind.
const ESCAPED: [&str; 6] = [
    r#""\u0000\u0001\u001f""#,
    r#""\ud83d\ude00 \uD834\uDD1E""#,
    r#""\"\\\/\b\f\n\r\t""#,
    r#""\ufffe\uffff\ufdd0""#,
    r#"{"\u0000":"\ud83d\ude00"}"#,
    r#""\u00e9\u0301""#,
];

/// Contents that are not JSON: halves of surrogates, and escapes that are none.
const NOT_JSON: [&str; 5] = [
    r#""\ud800""#,
    r#""\ude00\ud83d""#,
    r#""\ud83d\u0041""#,
    r#""\u12""#,
    r#""\x41""#,
];

/// Bytes that are not UTF-8: cut short, overlong, surrogates, beyond the last code point, bytes of no sequence.
const NOT_UTF8: [&[u8]; 7] = [
    b"\xe2\x82",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xff\xfe",
    b"\x80",
    b"\xf0\x80\x80\xaf",
];

#[test]
fn every_kind_of_text() {
    let attack = Attack {
        name: "every kind of text",
        attackers: "4 threads, names and contents of every kind",
        arguments: &["--history-messages-max", "4"],
        threads: THREADS,
        until: "not UTF-8: 1007",
        budget: 4 << 20,
    };
    let outcome = attack.play(|arena, _| {
        while arena.goes_on() {
            valid(arena);
            no_names(arena);
            for content in NOT_JSON {
                let text = format!("{{\"type\":\"direct\",\"to\":\"x\",\"content\":{content}}}");
                closed(arena, "not JSON", text.as_bytes());
            }
            for bytes in NOT_UTF8 {
                let text = [br#"{"type":"join","room":""#, bytes, br#""}"#].concat();
                closed(arena, "not UTF-8", &text);
            }
        }
    });
    outcome.assert_only(&[
        "delivered",
        "not JSON: 1003",
        "not UTF-8: 1007",
        "name with control characters: bad_request",
        "name not in normal form: bad_request",
    ]);
}

/// Joins rooms of each name and says each content there; it must come back as it was.
fn valid(arena: &Arena) {
    let mut attacker = Attacker::open(arena);
    let texts = valid_texts();
    let mut contents: Vec<String> = texts.iter().map(|text| json!(text).to_string()).collect();
    contents.extend(ESCAPED.map(str::to_owned));
    contents.extend(NOT_NORMAL.map(|text| json!(text).to_string()));
    for (index, content) in contents.iter().enumerate() {
        let room = &texts[index % texts.len()];
        let name = json!(room);
        let join = format!("{{\"type\":\"join\",\"room\":{name}}}");
        let message = format!(
            "{{\"type\":\"message\",\"room\":{name},\"content\":{content},\"id\":\"{}\"}}",
            arena.unique()
        );
        attacker.send(&frame(FINAL_TEXT, join.as_bytes()));
        attacker.send(&frame(FINAL_TEXT, message.as_bytes()));
        // Other attackers say other things in the same room.
        let expected: Value = serde_json::from_str(content).expect("it is JSON");
        let came_back = loop {
            let Some(text) = attacker.text_with("\"content\"") else {
                break false;
            };
            let object: Value = serde_json::from_str(&text).expect("the server sends JSON");
            if object["room"] == *room && object["content"] == expected {
                break true;
            }
        };
        arena.count(if came_back { "delivered" } else { "lost" });
    }
}

/// Names may not hold control characters, however they are written, and are in normalisation form C.
fn no_names(arena: &Arena) {
    let mut attacker = Attacker::open(arena);
    let control = [r"\u0000", r"a\u0000b", r"\n", r"\u007f", r"\u001b[2J"]
        .map(|name| ("name with control characters", name));
    let not_normal = NOT_NORMAL.map(|name| ("name not in normal form", name));
    for (what, name) in control.into_iter().chain(not_normal) {
        let join = format!("{{\"type\":\"join\",\"room\":\"{name}\"}}");
        attacker.send(&frame(FINAL_TEXT, join.as_bytes()));
        let code = attacker.text_with("\"error\"").and_then(|text| {
            let object: Value = serde_json::from_str(&text).ok()?;
            Some(object["code"].as_str()?.to_owned())
        });
        let code = code.unwrap_or_else(|| "no answer".to_owned());
        arena.count(format!("{what}: {code}"));
    }
}

fn closed(arena: &Arena, what: &str, text: &[u8]) {
    let mut attacker = Attacker::open(arena);
    attacker.send(&frame(FINAL_TEXT, text));
    arena.count(format!("{what}: {}", attacker.close_code()));
}
