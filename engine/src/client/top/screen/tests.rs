#![allow(clippy::unwrap_used, clippy::expect_used)]

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::*;
use crate::client::api::ApiError;
use crate::client::top::activity::Activity;
use crate::client::top::view::Doing;

fn activity() -> Activity {
    let series = json!({
        "connections": [1000, 1200], "accepts_per_s": [10, 12], "messages_per_s": [900.0, 1000.0],
        "deliveries_per_s": [90_000, 98_000], "received_bytes_per_s": [1000, 2048],
        "sent_bytes_per_s": [1000, 20_971_520], "dropped_per_s": [0, 3], "busy": [0.5, 0.95],
        "p50_us": [300, null], "p99_us": [2100, 2000], "p999_us": [null, null]
    });
    let shard = |number: u64, answers: bool| {
        json!({"shard": number, "core": if answers { Some(number) } else { None }, "answers": answers, "restarts": number,
            "connections": 600 + number, "rooms": 12, "outboxes": 3, "outbox_bytes": 4096, "mailbox_depth": 7, "history_bytes": 0})
    };
    let answer = json!({
        "now_unix_ms": 1_790_000_000_000_u64, "interval_ms": 1000, "samples_max": 300,
        "node": {"version": "0.1.0", "phase": "serving", "url": "ws://127.0.0.1:9000/ws", "connections": 1234, "uptime_ms": 11_520_000},
        "shards": [shard(0, true), shard(1, false)],
        "samples": {"unix_ms": [1, 2], "all": series.clone(), "shards": [series.clone(), series]},
        "busiest_rooms": [
            {"room": "tea", "connections": 100, "messages_per_s": 1.0, "deliveries_per_s": 1000.0},
            {"room": "\u{1b}[2J漢字", "connections": 7, "messages_per_s": 30.0, "deliveries_per_s": 210.0}
        ],
        "slow_consumers": [{"id": "0-12-3", "user": "ada", "shard": 0, "outbox_bytes": 65_536}]
    });
    serde_json::from_value(answer).unwrap()
}

fn view() -> View {
    View::new(activity(), "http://127.0.0.1:9001".to_owned())
}

fn picture(view: &mut View, columns: u16, rows: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(frame, view)).unwrap();
    terminal.backend().to_string()
}

fn press(view: &mut View, code: KeyCode) -> Doing {
    view.handle(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

#[test]
fn everything_has_room_on_a_usual_screen() {
    let text = picture(&mut view(), 110, 40);
    for part in [
        "shardcast 0.1.0  ws://127.0.0.1:9000/ws  serving  up 3 h 12 min  1,234 connections",
        "deliveries ───── 98.0k/s",
        "p50 ──────────── 300 µs",
        "p99.9 ─────────────── –",
        "sent ─────── 20.0 MiB/s",
        "busy ──────────────────────── 95%",
        "shards (2) by shard",
        "██████████  95%",
        "NO",
        "busiest rooms (2) by deliveries/s",
        "␛[2J漢字",
        "slow consumers (1) by outbox",
        "64.0 KiB",
    ] {
        // A wide character takes two cells, and the second is drawn as a space.
        let text = text.replace("漢 字 ", "漢字");
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn any_size_can_be_drawn() {
    for columns in [1, 5, 20, 40, 60, 80, 100, 200] {
        for rows in [1, 2, 3, 5, 10, 24, 50] {
            let mut view = view();
            picture(&mut view, columns, rows);
            press(&mut view, KeyCode::Char('?'));
            picture(&mut view, columns, rows);
        }
    }
    let text = picture(&mut view(), 40, 10);
    assert!(
        text.contains("deliveries") && text.contains("98.0k/s"),
        "{text}"
    );
    let text = picture(&mut view(), 80, 24);
    for part in [
        "restarts",
        "mailbox",
        "answers",
        "busiest rooms",
        "tea",
        "ada",
        "deliveries ──── 98.0k/s",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn keys_sort_choose_pause_and_end() {
    let mut view = view();
    let first = |text: &str| text.find("tea").unwrap() < text.find("␛[2J").unwrap();
    assert!(first(&picture(&mut view, 110, 40)));
    press(&mut view, KeyCode::Tab);
    assert_eq!(view.pane(), Pane::Rooms);
    press(&mut view, KeyCode::Char('s'));
    let text = picture(&mut view, 110, 40);
    assert!(text.contains("by messages/s") && !first(&text), "{text}");
    press(&mut view, KeyCode::BackTab);
    for _ in 0..3 {
        press(&mut view, KeyCode::Down);
    }
    press(&mut view, KeyCode::Char('p'));
    let mut later = activity();
    later.node.connections = 4321;
    view.update(later);
    assert!(picture(&mut view, 110, 40).contains("paused"));
    assert!(!picture(&mut view, 110, 40).contains("4,321"));
    press(&mut view, KeyCode::Char('p'));
    assert!(picture(&mut view, 110, 40).contains("4,321"));
    press(&mut view, KeyCode::Char('?'));
    assert!(picture(&mut view, 110, 40).contains("sort the list by another column"));
    // Any key closes that, and does nothing else.
    press(&mut view, KeyCode::Tab);
    assert!(!view.help && view.pane() == Pane::Shards);
    assert_eq!(press(&mut view, KeyCode::Char('q')), Doing::Quit);
}

#[test]
fn a_server_that_is_gone_is_said_and_so_is_its_return() {
    let mut view = view();
    view.fail(&ApiError::Unreachable {
        url: "http://127.0.0.1:9001".to_owned(),
        why: "connection refused".to_owned(),
    });
    let text = picture(&mut view, 110, 40);
    assert!(
        text.contains("cannot reach http://127.0.0.1:9001: connection refused; for 0 s"),
        "{text}"
    );
    assert!(text.contains("98.0k/s"), "{text}");
    view.update(activity());
    assert!(!picture(&mut view, 110, 40).contains("cannot reach"));
}
