#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use super::*;
use crate::client::chat::conversation::ENTRIES_MAX;

/// A session with a server that a test plays.
struct Play {
    session: Session,
}

impl Play {
    fn new(rooms: &[&str]) -> Self {
        let rooms: Vec<_> = rooms.iter().map(|room| (*room).to_owned()).collect();
        Self {
            session: Session::new(&rooms, 1),
        }
    }

    /// The server says something.
    fn tell(&mut self, object: Value) {
        self.session.handle_text(&object.to_string());
    }

    fn welcome(&mut self) {
        self.tell(
            json!({"type": "welcome", "user": "ada", "session": "x", "heartbeat_ms": 25_000,
            "limits": {"message_size_max": 65_536}}),
        );
    }

    fn joined(&mut self, room: &str, epoch: u64, seq: u64, recovered: bool) {
        self.tell(
            json!({"type": "joined", "room": room, "epoch": epoch, "seq": seq, "members": 1,
            "recovered": recovered}),
        );
    }

    fn message(&mut self, room: &str, seq: u64) {
        self.tell(
            json!({"type": "message", "room": room, "user": "bob", "content": format!("m{seq}"),
            "seq": seq, "timestamp": 1}),
        );
    }

    fn history(&mut self, room: &str, epoch: u64, seqs: impl Iterator<Item = u64>, complete: bool) {
        let messages: Vec<_> = seqs
            .map(|seq| json!({"seq": seq, "user": "bob", "content": format!("m{seq}"), "timestamp": 1}))
            .collect();
        self.tell(
            json!({"type": "history", "room": room, "epoch": epoch, "seq": 0, "complete": complete,
            "messages": messages}),
        );
    }

    /// What it sends.
    fn sent(&mut self) -> Vec<Value> {
        let texts = std::iter::from_fn(|| self.session.poll_transmit());
        texts
            .map(|text| serde_json::from_str(&text).unwrap())
            .collect()
    }

    /// The same, but for questions about presence.
    fn asked(&mut self) -> Vec<Value> {
        let sent = self.sent().into_iter();
        sent.filter(|object| object["type"] != "presence").collect()
    }

    /// What it tells, as texts.
    fn told(&mut self) -> Vec<String> {
        let events = std::iter::from_fn(|| self.session.poll_event());
        events.flatten().map(|event| text(&event)).collect()
    }

    /// What stands in the conversation that is shown.
    fn shown(&self) -> Vec<String> {
        let shown = self.session.shown().unwrap();
        let event = |entry| Event::Entry(shown.target.clone(), entry);
        shown.entries().map(|entry| text(&event(entry))).collect()
    }

    fn say(&mut self, target: Target, text: &str) {
        self.session
            .command(Command::Say(target, text.to_owned()), 7)
            .unwrap();
    }

    fn lose(&mut self) -> Next {
        self.session.handle_end(&End::Lost("gone".to_owned()))
    }
}

fn text(event: &Event) -> String {
    match event {
        Event::Entry(_, Entry::Message(message)) => format!("{}: {}", message.user, message.text),
        Event::Entry(_, Entry::Notice(text)) => format!("* {text}"),
        Event::Entry(_, Entry::Gap(count)) => format!("- {count}"),
        Event::Entry(_, Entry::Anew) => "- anew".to_owned(),
        Event::Failed(why) => format!("! {why}"),
    }
}

fn room(name: &str) -> Target {
    Target::Room(name.to_owned())
}

fn user(name: &str) -> Target {
    Target::User(name.to_owned())
}

#[test]
fn a_join_asks_for_the_newest_messages_and_keeps_their_order() {
    let mut play = Play::new(&["tea"]);
    assert!(play.sent().is_empty());
    play.welcome();
    assert_eq!(play.sent(), [json!({"type": "join", "room": "tea"})]);
    play.joined("tea", 9, 3, false);
    assert_eq!(
        play.sent(),
        [
            json!({"type": "history", "room": "tea", "limit": PAGE}),
            json!({"type": "presence", "room": "tea"})
        ]
    );
    // What is said meanwhile waits for what was said before.
    play.message("tea", 4);
    assert!(play.told().is_empty());
    play.history("tea", 9, 1..4, true);
    assert_eq!(play.told(), ["bob: m1", "bob: m2", "bob: m3", "bob: m4"]);
    play.message("tea", 5);
    assert_eq!(play.told(), ["bob: m5"]);
    assert_eq!(play.shown().len(), 5);
}

#[test]
fn after_a_loss_what_was_missed_is_recovered_by_its_place() {
    let mut play = Play::new(&["tea"]);
    play.welcome();
    play.joined("tea", 9, 0, false);
    (1..=3).for_each(|seq| play.message("tea", seq));
    play.told();
    play.sent();
    assert!(matches!(play.lose(), Next::Retry(_)));
    assert!(!play.session.is_open());
    play.welcome();
    assert_eq!(
        play.sent(),
        [json!({"type": "join", "room": "tea", "since": {"epoch": 9, "seq": 3}})]
    );
    play.joined("tea", 9, 5, true);
    assert!(play.asked().is_empty());
    play.message("tea", 4);
    play.message("tea", 5);
    assert_eq!(play.told(), ["bob: m4", "bob: m5"]);
}

#[test]
fn what_cannot_be_recovered_is_asked_for_in_pieces_and_a_gap_is_said() {
    let mut play = Play::new(&["tea"]);
    play.welcome();
    play.joined("tea", 9, 0, false);
    play.message("tea", 1);
    play.told();
    play.lose();
    play.welcome();
    play.sent();
    play.joined("tea", 9, 100, false);
    let since = |seq: u64| json!({"type": "history", "room": "tea", "since": {"epoch": 9, "seq": seq}, "limit": PAGE});
    assert_eq!(play.asked(), [since(1)]);
    play.message("tea", 101);
    // Of 2 to 10 nothing is kept any more.
    play.history("tea", 9, 11..11 + PAGE, false);
    let last = 10 + PAGE;
    assert_eq!(play.asked(), [since(last)]);
    assert!(play.told().is_empty());
    play.history("tea", 9, last + 1..101, true);
    assert!(play.asked().is_empty());
    let told = play.told();
    assert_eq!(told[..2], ["- 9", "bob: m11"]);
    assert_eq!(told.last().unwrap(), "bob: m101");
    assert_eq!(told.len(), 1 + 91);
    // A loss in the middle of that goes on where it was.
    play.lose();
    play.welcome();
    assert_eq!(play.asked()[0]["since"], json!({"epoch": 9, "seq": 101}));
}

#[test]
fn a_server_that_begins_anew_is_said() {
    let mut play = Play::new(&["tea"]);
    play.welcome();
    play.joined("tea", 9, 0, false);
    play.message("tea", 1);
    play.message("tea", 2);
    play.lose();
    play.welcome();
    play.sent();
    play.joined("tea", 20, 1, false);
    assert_eq!(
        play.asked(),
        [json!({"type": "history", "room": "tea", "limit": PAGE})]
    );
    play.history("tea", 20, 1..2, true);
    play.message("tea", 2);
    let anew = ["bob: m1", "bob: m2", "- anew", "bob: m1", "bob: m2"];
    assert_eq!(play.shown(), anew);
    assert_eq!(play.told(), anew);
    // What the dead server kept cannot be had from this one.
    play.session
        .command(Command::Older(room("tea")), 0)
        .unwrap();
    assert!(play.asked().is_empty());
    // A shard that starts again begins anew too.
    play.tell(json!({"type": "reset", "room": "tea", "epoch": 30, "seq": 0}));
    play.message("tea", 1);
    assert_eq!(play.told(), ["- anew", "bob: m1"]);
}

#[test]
fn what_is_not_acknowledged_is_sent_again_with_the_same_id() {
    let mut play = Play::new(&["tea"]);
    play.say(room("tea"), "early");
    play.say(user("bob"), "psst");
    play.welcome();
    let sent = play.sent();
    // A message to a room waits until the room is joined.
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[1]["type"], "direct");
    play.joined("tea", 9, 0, false);
    let first = play.asked();
    assert_eq!(first[0]["content"], "early");
    play.lose();
    play.welcome();
    let again = play.sent();
    assert_eq!(again[1], sent[1]);
    play.joined("tea", 9, 1, true);
    assert_eq!(play.asked(), first);
    play.tell(
        json!({"type": "ack", "id": first[0]["id"], "room": "tea", "seq": 1, "duplicate": true}),
    );
    play.tell(json!({"type": "ack", "id": sent[1]["id"], "to": "bob", "seq": 1}));
    assert!(play.session.sends().is_empty());
    // Nobody else tells what was said to bob.
    assert_eq!(play.told(), ["ada: psst"]);
    play.lose();
    play.welcome();
    play.joined("tea", 9, 1, true);
    assert!(play.asked().iter().all(|object| object["type"] == "join"));
    // A reset may have lost what was under way.
    play.say(room("tea"), "late");
    let late = play.asked();
    play.tell(json!({"type": "reset", "room": "tea", "epoch": 10, "seq": 0}));
    assert_eq!(play.asked(), late);
}

#[test]
fn refusals_are_told_where_they_belong() {
    let mut play = Play::new(&["tea", "closed"]);
    play.welcome();
    play.joined("tea", 9, 0, false);
    play.tell(
        json!({"type": "error", "code": "forbidden", "message": "not here", "room": "closed"}),
    );
    assert_eq!(
        play.told(),
        [
            "! closed was not joined: not here (forbidden)",
            "* not joined: not here (forbidden)"
        ]
    );
    let refused = Command::Say(room("closed"), "x".to_owned());
    assert!(play.session.command(refused, 0).is_err());
    play.say(room("tea"), "too much");
    let id = play.asked().last().unwrap()["id"].clone();
    play.tell(json!({"type": "error", "code": "too_large", "message": "too large", "id": id, "room": "tea"}));
    assert_eq!(
        play.told(),
        [
            "! tea: not sent: too much: too large (too_large)",
            "* not sent: too much: too large (too_large)"
        ]
    );
    // A shard that starts again is asked once more, but not for ever.
    play.say(room("tea"), "again");
    for _ in 0..ATTEMPTS_MAX {
        let sent = play.asked();
        assert_eq!(sent.len(), 1);
        let id = sent[0]["id"].clone();
        play.tell(json!({"type": "error", "code": "unavailable", "message": "restarting", "id": id, "room": "tea"}));
        play.session.handle_tick();
    }
    assert!(play.session.sends().is_empty());
    // What the server could not bear is not sent to it again.
    play.told();
    play.say(room("tea"), "poison");
    play.session.handle_end(&End::Closed {
        code: 1009,
        reason: String::new(),
    });
    assert!(play.session.sends().is_empty());
    assert_eq!(play.told().len(), 2);
    let banned = End::Closed {
        code: 4403,
        reason: "banned".to_owned(),
    };
    assert_eq!(play.session.handle_end(&banned), Next::Stop);
}

#[test]
fn older_messages_come_in_pages_until_there_are_no_more() {
    let mut play = Play::new(&["tea"]);
    play.welcome();
    play.joined("tea", 9, 200, false);
    play.asked();
    play.history("tea", 9, 151..201, true);
    let newest = play.told().len();
    assert_eq!(newest, 50);
    let older = |play: &mut Play| {
        play.session
            .command(Command::Older(room("tea")), 0)
            .unwrap();
        play.asked()
    };
    let asked = older(&mut play);
    assert_eq!(asked[0]["since"], json!({"epoch": 9, "seq": 150 - PAGE}));
    // Once is enough.
    assert!(older(&mut play).is_empty());
    play.history("tea", 9, 101..151, true);
    // They are shown, and are no news.
    assert!(play.told().is_empty());
    assert_eq!(play.shown().len(), 100);
    older(&mut play);
    // Only some of that page are kept.
    play.history("tea", 9, 90..101, false);
    assert!(older(&mut play).is_empty());
    assert!(play.session.shown().unwrap().is_past_exhausted());
    assert_eq!(play.shown()[0], "bob: m90");
}

#[test]
fn unread_messages_are_counted_until_they_are_looked_at() {
    let mut play = Play::new(&["tea", "lobby"]);
    play.welcome();
    play.joined("tea", 1, 0, false);
    play.joined("lobby", 2, 0, false);
    play.message("lobby", 1);
    play.message("lobby", 2);
    play.message("tea", 1);
    play.tell(json!({"type": "direct", "from": "bob", "content": {"text": "psst"}, "seq": 1, "timestamp": 5}));
    play.told();
    let unread = |play: &Play| -> Vec<_> {
        let conversations = play.session.conversations().iter();
        conversations
            .map(|one| (one.target.label(), one.unread))
            .collect()
    };
    assert_eq!(
        unread(&play),
        [
            ("tea".to_owned(), 0),
            ("lobby".to_owned(), 2),
            ("@bob".to_owned(), 1)
        ]
    );
    play.session.show_next(1);
    assert_eq!(unread(&play)[1].1, 0);
    play.session.show_next(1);
    assert_eq!(play.shown(), ["bob: psst"]);
    play.session.show_next(1);
    assert_eq!(play.session.shown().unwrap().target, room("tea"));
    play.session.show_next(-1);
    assert_eq!(play.session.shown().unwrap().target, user("bob"));
}

#[test]
fn who_is_there_is_followed() {
    let mut play = Play::new(&["tea"]);
    play.welcome();
    play.joined("tea", 1, 0, false);
    play.tell(json!({"type": "presence", "room": "tea", "count": 2, "users": ["ada", "bob"]}));
    play.tell(json!({"type": "user_joined", "room": "tea", "user": "eve"}));
    play.tell(json!({"type": "user_left", "room": "tea", "user": "bob"}));
    let tea = play.session.shown().unwrap();
    assert_eq!(tea.members().iter().collect::<Vec<_>>(), ["ada", "eve"]);
    assert_eq!(tea.count(), Some(2));
    assert!(play.told().is_empty());
    play.session.command(Command::Who(room("tea")), 0).unwrap();
    play.tell(json!({"type": "presence", "room": "tea", "count": 3, "users": ["ada", "eve"]}));
    assert_eq!(play.told(), ["* 3 here: ada, eve, …"]);
    // Above some number only counts are told.
    play.tell(json!({"type": "presence", "room": "tea", "count": 500}));
    let tea = play.session.shown().unwrap();
    assert_eq!((tea.count(), tea.members().len()), (Some(500), 0));
}

#[test]
fn everything_has_a_bound() {
    let mut play = Play::new(&["tea"]);
    play.welcome();
    play.joined("tea", 1, 0, false);
    for seq in 1..=(ENTRIES_MAX as u64 + 100) {
        play.message("tea", seq);
    }
    assert_eq!(play.shown().len(), ENTRIES_MAX);
    // There is no room for older ones.
    play.session
        .command(Command::Older(room("tea")), 0)
        .unwrap();
    assert!(
        play.asked()
            .iter()
            .all(|object| object["type"] != "history")
    );
    for number in 0..SENDS_MAX {
        play.say(room("tea"), &number.to_string());
    }
    let say = |text: String| Command::Say(room("tea"), text);
    assert!(play.session.command(say("more".to_owned()), 0).is_err());
    let mut play = Play::new(&["tea"]);
    play.welcome();
    assert!(play.session.command(say("x".repeat(70_000)), 0).is_err());
    for number in 0..CONVERSATIONS_MAX - 1 {
        let target = room(&number.to_string());
        play.session.command(Command::Open(target), 0).unwrap();
    }
    assert!(
        play.session
            .command(Command::Open(room("more")), 0)
            .is_err()
    );
    play.tell(json!({"type": "direct", "from": "zoe", "content": "x", "seq": 1, "timestamp": 5}));
    assert_eq!(play.session.conversations().len(), CONVERSATIONS_MAX);
}

#[test]
fn leaving_a_room_forgets_it() {
    let mut play = Play::new(&["tea", "lobby"]);
    play.welcome();
    play.joined("tea", 1, 0, false);
    play.sent();
    play.session
        .command(Command::Leave(room("tea")), 0)
        .unwrap();
    assert_eq!(play.sent(), [json!({"type": "leave", "room": "tea"})]);
    play.tell(json!({"type": "left", "room": "tea"}));
    assert_eq!(play.session.shown().unwrap().target, room("lobby"));
    play.tell(json!({"type": "left", "room": "lobby", "reason": "forbidden"}));
    assert_eq!(play.told(), ["* you were put out: forbidden"]);
    assert!(play.session.is_settled());
}

#[test]
fn what_nobody_understands_does_no_harm() {
    let mut play = Play::new(&["tea"]);
    for text in [
        "",
        "{",
        "[]",
        r#"{"type":"news"}"#,
        r#"{"type":"joined"}"#,
        "\u{1b}",
    ] {
        play.session.handle_text(text);
    }
    play.welcome();
    play.message("nowhere", 1);
    play.history("nowhere", 1, 1..2, true);
    play.history("tea", 1, 1..2, true);
    play.joined("tea", 1, u64::MAX, false);
    play.message("tea", u64::MAX);
    play.history("tea", 1, [u64::MAX, 0, 5].into_iter(), true);
    play.session
        .command(Command::Older(room("tea")), 0)
        .unwrap();
    play.told();
}
