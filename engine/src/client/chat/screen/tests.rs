#![allow(clippy::unwrap_used, clippy::expect_used)]

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

use super::*;

fn session(rooms: &[&str]) -> Session {
    let rooms: Vec<_> = rooms.iter().map(|room| (*room).to_owned()).collect();
    let mut session = Session::new(&rooms, 1);
    tell(
        &mut session,
        json!({"type": "welcome", "user": "ada", "session": "x"}),
    );
    for room in rooms {
        let joined = json!({"type": "joined", "room": room, "epoch": 1, "seq": 0, "members": 1, "recovered": false});
        tell(&mut session, joined);
    }
    session
}

fn tell(session: &mut Session, object: serde_json::Value) {
    session.handle_text(&object.to_string());
}

fn message(session: &mut Session, seq: u64, user: &str, text: &str) {
    let message = json!({"type": "message", "room": "tea", "user": user, "content": text, "seq": seq,
        "timestamp": 1_790_000_000_000_u64});
    tell(session, message);
}

fn picture(view: &mut View, session: &Session, columns: u16, rows: u16) -> String {
    picture_of(view, session, &Standing::Connected, columns, rows)
}

fn picture_of(
    view: &mut View,
    session: &Session,
    standing: &Standing,
    columns: u16,
    rows: u16,
) -> String {
    let url = ServerUrl::default();
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal
        .draw(|frame| view.draw(frame, session, standing, &url))
        .unwrap();
    terminal.backend().to_string()
}

fn press(view: &mut View, session: &mut Session, code: KeyCode) -> Doing {
    let key = KeyEvent::new(code, KeyModifiers::NONE);
    view.handle(&TerminalEvent::Key(key), session)
}

fn type_in(view: &mut View, session: &mut Session, text: &str) -> Doing {
    for character in text.chars() {
        press(view, session, KeyCode::Char(character));
    }
    press(view, session, KeyCode::Enter)
}

#[test]
fn rooms_messages_and_members_are_seen() {
    let (mut view, mut session) = (View::default(), session(&["tea", "lobby"]));
    message(&mut session, 1, "bob", "the kettle is on");
    message(&mut session, 4, "gone", "two lines\nof text");
    let presence = json!({"type": "presence", "room": "tea", "count": 2, "users": ["ada", "bob"]});
    tell(&mut session, presence);
    let lobby = json!({"type": "message", "room": "lobby", "user": "eve", "content": "x", "seq": 1, "timestamp": 1});
    tell(&mut session, lobby);
    while session.poll_event().is_some() {}
    let text = picture(&mut view, &session, 80, 12);
    for part in [
        " tea  lobby (1) ",
        "bob  the kettle is on",
        "2 messages are missing here",
        "gone  two lines",
        "            of text",
        " 2 here",
        "● ada",
        "○ gone",
        "connected as ada to ws://127.0.0.1:9000/ws",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn no_message_drives_the_terminal() {
    let (mut view, mut session) = (View::default(), session(&["tea"]));
    message(
        &mut session,
        1,
        "e\u{1b}[31mve\u{7}",
        "\u{1b}]0;title\u{7}\u{202e}txt\u{9b}2J",
    );
    let text = picture(&mut view, &session, 100, 8);
    assert!(text.contains("e␛[31mve␇"), "{text}");
    assert!(text.contains("␛]0;title␇\u{fffd}txt\u{fffd}2J"), "{text}");
    let cleaned = text.replace('\n', "");
    assert!(!cleaned.chars().any(char::is_control));
    let why = "\u{1b}[2J".to_owned();
    let text = picture_of(
        &mut view,
        &session,
        &Standing::Stopped(harmless(&why)),
        100,
        8,
    );
    assert!(text.contains("␛[2J; /reconnect tries again"), "{text}");
}

#[test]
fn any_size_and_any_width_can_be_drawn() {
    let (mut view, mut session) = (
        View::default(),
        session(&["tea", "漢字漢字漢字漢字漢字漢字漢字"]),
    );
    for seq in 1..60 {
        message(
            &mut session,
            seq,
            "漢字漢字漢字漢字",
            "漢字 👩‍👩‍👧 e\u{301} wide text that is longer than a line",
        );
    }
    for character in "漢字 text that is typed".chars() {
        press(&mut view, &mut session, KeyCode::Char(character));
    }
    for columns in [1, 2, 3, 10, 40, 60, 61, 100] {
        for rows in [1, 2, 3, 4, 5, 10, 30] {
            picture(&mut view, &session, columns, rows);
            press(&mut view, &mut session, KeyCode::PageUp);
        }
    }
    press(&mut view, &mut session, KeyCode::Esc);
    let text = picture(&mut view, &session, 40, 10);
    assert!(
        text.contains("tea> ") && text.contains("is typed"),
        "{text}"
    );
    view.help = true;
    picture(&mut view, &session, 40, 10);
    // No room at all.
    press(&mut view, &mut session, KeyCode::Esc);
    let mut empty = Session::new(&[], 1);
    picture(&mut view, &empty, 10, 4);
    assert_eq!(
        press(&mut view, &mut empty, KeyCode::PageUp),
        Doing::Nothing
    );
}

#[test]
fn whoever_reads_back_stays_there_and_gets_older_messages_at_the_top() {
    let (mut view, mut session) = (View::default(), session(&["tea"]));
    for seq in 51..=80 {
        message(&mut session, seq, "bob", &format!("line {seq}"));
    }
    while session.poll_event().is_some() {}
    let text = picture(&mut view, &session, 60, 13);
    assert!(
        text.contains("line 80") && !text.contains("line 60"),
        "{text}"
    );
    press(&mut view, &mut session, KeyCode::PageUp);
    let text = picture(&mut view, &session, 60, 13);
    assert!(
        !text.contains("line 80") && text.contains("line 66"),
        "{text}"
    );
    assert!(text.contains("lines below"), "{text}");
    // What is said meanwhile moves nothing.
    message(&mut session, 81, "bob", "new");
    while let Some(events) = session.poll_event() {
        events
            .iter()
            .for_each(|event| view.handle_event(event, &session));
    }
    let later = picture(&mut view, &session, 60, 13);
    let messages = |text: &str| {
        text.lines()
            .skip(1)
            .take(10)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(messages(&text), messages(&later));
    let mut doing = Doing::Nothing;
    for _ in 0..6 {
        picture(&mut view, &session, 60, 13);
        doing = press(&mut view, &mut session, KeyCode::PageUp);
    }
    let target = Target::Room("tea".to_owned());
    assert_eq!(doing, Doing::Command(Command::Older(target)));
    let text = picture(&mut view, &session, 60, 13);
    assert!(
        text.contains("PageUp: older messages") && text.contains("line 51"),
        "{text}"
    );
    press(&mut view, &mut session, KeyCode::Esc);
    assert!(picture(&mut view, &session, 60, 13).contains("new"));
}

#[test]
fn lines_are_typed_edited_and_recalled() {
    let (mut view, mut session) = (View::default(), session(&["tea"]));
    let say = |text: &str| {
        let target = Target::Room("tea".to_owned());
        Doing::Command(Command::Say(target, text.to_owned()))
    };
    for character in "helo".chars() {
        press(&mut view, &mut session, KeyCode::Char(character));
    }
    press(&mut view, &mut session, KeyCode::Left);
    press(&mut view, &mut session, KeyCode::Char('l'));
    assert_eq!(press(&mut view, &mut session, KeyCode::Enter), say("hello"));
    assert_eq!(type_in(&mut view, &mut session, "second"), say("second"));
    for _ in 0..5 {
        press(&mut view, &mut session, KeyCode::Up);
    }
    assert_eq!(press(&mut view, &mut session, KeyCode::Enter), say("hello"));
    press(&mut view, &mut session, KeyCode::Up);
    press(&mut view, &mut session, KeyCode::Down);
    assert_eq!(
        press(&mut view, &mut session, KeyCode::Enter),
        Doing::Nothing
    );
    let paste = TerminalEvent::Paste("two\nlines\u{1b}".to_owned());
    assert_eq!(view.handle(&paste, &mut session), Doing::Nothing);
    assert_eq!(
        press(&mut view, &mut session, KeyCode::Enter),
        say("two lines␛")
    );
    assert_eq!(type_in(&mut view, &mut session, "/nothing"), Doing::Nothing);
    assert!(picture(&mut view, &session, 80, 8).contains("there is no /nothing"));
    assert_eq!(type_in(&mut view, &mut session, "/help"), Doing::Nothing);
    assert!(picture(&mut view, &session, 80, 20).contains("/msg USER TEXT"));
    assert_eq!(type_in(&mut view, &mut session, "/quit"), Doing::Quit);
}

#[test]
fn the_connection_and_what_waits_for_it_are_said() {
    let (mut view, mut session) = (View::default(), session(&["tea"]));
    session.handle_end(&super::super::backoff::End::Lost("gone".to_owned()));
    let say = Command::Say(Target::Room("tea".to_owned()), "unsent words".to_owned());
    session.command(say, 5).unwrap();
    let waiting = Standing::Waiting {
        why: "connection refused".to_owned(),
        seconds: 3,
    };
    let text = picture_of(&mut view, &session, &waiting, 80, 8);
    assert!(
        text.contains("reconnecting in 3 s (connection refused), 1 to send"),
        "{text}"
    );
    assert!(text.contains("unsent words"), "{text}");
}
