//! Connections and messages that somebody outside of the shard decides about; and why connections end.

use super::guarded::Guarded;
use super::*;
use crate::app::Dismissal;
use crate::hub::event::ErrorCode;
use crate::rights::Identity;
use crate::verdict::{Occupancy, Question, Ruling, Standing};

/// [`Guarded`], whose connections and messages wait for a verdict.
#[derive(Default)]
struct Deciding {
    guarded: Guarded,
    /// What was asked, in order, and the verdict that is awaited.
    asked: Vec<(String, Question)>,
    rooms: Vec<(String, Occupancy)>,
}

impl App for Deciding {
    fn hooks(&self) -> Hooks {
        Hooks::all()
    }

    fn on_upgrade(
        &mut self,
        context: &mut Context<'_>,
        request: &UpgradeRequest<'_>,
    ) -> Result<Upgrade, Refusal> {
        self.guarded.on_upgrade(context, request)
    }

    fn on_first_message(
        &mut self,
        context: &mut Context<'_>,
        message: Message<'_>,
    ) -> Result<Identity, Dismissal> {
        self.guarded.on_first_message(context, message)
    }

    fn on_identity(
        &mut self,
        _: &mut Context<'_>,
        question: Question,
        identity: &Identity,
    ) -> Standing {
        match identity.user.as_str() {
            "trusted" => Standing::Decided(Ruling::Allow),
            "hated" => Standing::Decided(refuse("go away")),
            "panic" => panic!("the client asked for this"),
            user => {
                self.asked.push((format!("connect {user}"), question));
                Standing::Held
            }
        }
    }

    fn on_publish(
        &mut self,
        context: &mut Context<'_>,
        question: Question,
        target: &Target,
        content: &Bytes,
        _: Option<&Name>,
    ) -> Standing {
        if !context.may_publish(question.connection, target, content.len()) {
            return Standing::Decided(Ruling::Allow);
        }
        let text = String::from_utf8_lossy(content);
        match &*text {
            "\"fine\"" => Standing::Decided(Ruling::Allow),
            "\"panic\"" => panic!("the client asked for this"),
            _ => {
                self.asked.push((format!("publish {text}"), question));
                Standing::Held
            }
        }
    }

    fn on_occupancy(&mut self, _: &mut Context<'_>, room: &Name, occupancy: Occupancy) {
        self.rooms.push((room.to_string(), occupancy));
    }

    fn on_open(&mut self, context: &mut Context<'_>, connection: ConnectionKey, user: &Name) {
        self.guarded.on_open(context, connection, user);
    }

    fn on_message(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        message: Message<'_>,
    ) {
        self.guarded.on_message(context, connection, message);
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        reason: CloseReason,
    ) {
        assert!(context.user_of(connection).is_some());
        self.guarded.on_close(context, connection, reason);
    }

    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> Option<MessageKind> {
        self.guarded.encode(event, out)
    }
}

fn refuse(message: &str) -> Ruling {
    Ruling::Refuse {
        code: ErrorCode::Forbidden,
        message: message.into(),
    }
}

fn rewrite(content: &'static str) -> Ruling {
    Ruling::Rewrite(Bytes::from_static(content.as_bytes()))
}

impl Rig<Deciding> {
    fn deciding(shards: u16, limits: Limits) -> Self {
        Self::running(
            1,
            shards,
            limits,
            SlowConsumer::Disconnect,
            Compression::default(),
            Deciding::default,
        )
    }

    /// What shard 0 has asked since the last time.
    fn asked(&mut self) -> Vec<(String, Question)> {
        std::mem::take(&mut self.shards[0].core.app.asked)
    }

    /// The one thing that shard 0 has asked since the last time.
    fn asked_once(&mut self, what: &str) -> Question {
        let asked = self.asked();
        let [(question, number)] = &asked[..] else {
            panic!("{asked:?} in place of {what}");
        };
        assert_eq!(question, what);
        *number
    }

    fn decide(&mut self, question: Question, ruling: Ruling) {
        let verdict = Verdict { question, ruling };
        self.controls[0].send(verdict.into()).unwrap();
        self.settle();
    }

    /// A member whose connection was allowed.
    fn member(&mut self, user: &str, room: &str) -> SimWebSocket {
        let mut client = self.knock(&format!("/?user={user}"));
        assert_eq!(self.hear(&mut client), ["upgraded"]);
        let question = self.asked_once(&format!("connect {user}"));
        self.decide(question, Ruling::Allow);
        assert_eq!(self.hear(&mut client), [format!("welcome {user}")]);
        self.ask(&mut client, &[&format!("join {room}")]);
        client
    }

    /// The peers are gone, and so is everything.
    fn assert_nothing_is_left(&mut self) {
        self.advance_ms(60_000);
        self.settle();
        let counts = self.shards[0].counts();
        assert_eq!((counts.held, counts.connections), (0, 0));
        assert_eq!(self.core().held.due_ms(), None);
    }
}

#[test]
fn a_connection_waits_until_it_is_allowed() {
    for shards in [1, 4] {
        let mut rig = Rig::deciding(shards, Limits::default());
        // By the handshake, and by the first message.
        for target in ["/?user=ada", "/?later"] {
            let mut ada = rig.knock(target);
            assert_eq!(rig.hear(&mut ada), ["upgraded"]);
            if target == "/?later" {
                ada.send_text("token ada");
            }
            for text in ["join lobby", "who lobby"] {
                ada.send_text(text);
            }
            ada.send_ping(b"?");
            ada.step(usize::MAX);
            assert_eq!(rig.hear(&mut ada), [""; 0]);
            assert_eq!(rig.shards[0].counts().held, 1);
            assert_eq!(rig.shards[0].core.app.guarded.opened, 0);
            let question = rig.asked_once("connect ada");
            rig.decide(question, Ruling::Allow);
            let heard = [
                "welcome ada",
                "joined lobby: 1 recovered false",
                "pong ?",
                "1 in lobby",
            ];
            let mut told = rig.hear(&mut ada);
            told.sort();
            let mut heard: Vec<_> = heard.map(str::to_owned).to_vec();
            heard.sort();
            assert_eq!(told, heard);
            // An answer counts once.
            rig.decide(question, refuse("too late"));
            assert_eq!(rig.ask(&mut ada, &["leave lobby"]), ["left lobby: -"]);
            assert_eq!(rig.count(|stats| stats.verdicts_stale.value()), 1);
            rig.stats[0].verdicts_stale.subtract(1);
            drop(ada);
            rig.settle();
            rig.shards[0].core.app.guarded.opened = 0;
        }
        rig.assert_nothing_is_left();
    }
}

#[test]
fn a_connection_is_closed_with_the_code_and_the_reason_of_the_verdict() {
    let cases = [
        (
            Ruling::Dismiss(Dismissal {
                code: 4007,
                reason: "banned until noon".into(),
            }),
            "close 4007 banned until noon",
        ),
        (refuse("not you"), "close 4403 not you"),
    ];
    for (ruling, closed) in cases {
        let mut rig = Rig::deciding(1, Limits::default());
        let mut ada = rig.knock("/?user=ada");
        ada.send_text("join lobby");
        assert_eq!(rig.hear(&mut ada), ["upgraded"]);
        let question = rig.asked_once("connect ada");
        rig.decide(question, ruling);
        assert_eq!(rig.hear(&mut ada)[0], closed);
        assert_eq!(rig.count(|stats| stats.close_dismissed.value()), 1);
        assert_eq!(rig.core().app.guarded.opened, 0);
        drop(ada);
        rig.assert_nothing_is_left();
    }
}

#[test]
fn what_the_application_decides_itself_needs_no_verdict() {
    let mut rig = Rig::deciding(1, Limits::default());
    for (user, heard) in [
        ("trusted", "welcome trusted"),
        ("hated", "close 4403 go away"),
        ("panic", "close 1011 internal error"),
    ] {
        let mut client = rig.knock(&format!("/?user={user}"));
        assert_eq!(rig.hear(&mut client)[..2], ["upgraded", heard]);
    }
    assert_eq!(rig.asked(), []);
    assert_eq!(rig.count(|stats| stats.panics.value()), 1);
}

#[test]
fn nobody_waits_for_a_verdict_for_ever() {
    let limits = Limits {
        decision_ms_max: 500,
        ..Limits::default()
    };
    let mut rig = Rig::deciding(1, limits);
    let mut ada = rig.knock("/?user=ada");
    assert_eq!(rig.hear(&mut ada), ["upgraded"]);
    let question = rig.asked_once("connect ada");
    let (passed_ms, heard) = rig.wait(&mut ada, 1000).unwrap();
    assert_eq!(
        heard[0],
        "close 1013 nobody has decided in time whether you may connect; try again later"
    );
    assert!((500..=520).contains(&passed_ms), "{passed_ms}");
    rig.decide(question, Ruling::Allow);
    assert_eq!(rig.count(|stats| stats.verdicts_stale.value()), 1);

    let mut bob = rig.member("bob", "lobby");
    assert_eq!(
        rig.ask(
            &mut bob,
            &["say lobby one 1", "say lobby fine 2", "who lobby"]
        ),
        [""; 0]
    );
    let question = rig.asked_once("publish \"one\"");
    let (passed_ms, heard) = rig.wait(&mut bob, 1000).unwrap();
    assert!((500..=502).contains(&passed_ms), "{passed_ms}");
    assert_eq!(heard[0], "unavailable: lobby 1");
    let mut rest = heard[1..].to_vec();
    rest.sort();
    assert_eq!(rest, ["1 in lobby", "ack 2", "bob in lobby: fine"]);
    rig.decide(question, Ruling::Allow);
    assert_eq!(rig.count(|stats| stats.verdicts_stale.value()), 2);
    assert_eq!(rig.count(|stats| stats.undecided.value()), 2);
    drop((ada, bob));
    rig.assert_nothing_is_left();
}

#[test]
fn a_verdict_reaches_nobody_but_who_was_asked_about() {
    let mut rig = Rig::deciding(1, Limits::default());
    let mut ada = rig.knock("/?user=ada");
    assert_eq!(rig.hear(&mut ada), ["upgraded"]);
    let question = rig.asked_once("connect ada");
    // As another start of the shard would have asked about the same key.
    let other = Question {
        number: question.number ^ 1,
        ..question
    };
    rig.decide(other, Ruling::Allow);
    assert_eq!(rig.hear(&mut ada), [""; 0]);
    drop(ada);
    rig.settle();
    // The slot's next use.
    let mut eve = rig.knock("/?user=eve");
    assert_eq!(rig.hear(&mut eve), ["upgraded"]);
    rig.decide(question, Ruling::Allow);
    assert_eq!(rig.hear(&mut eve), [""; 0]);
    assert_eq!(rig.count(|stats| stats.verdicts_stale.value()), 2);
    let question = rig.asked_once("connect eve");
    rig.decide(question, Ruling::Allow);
    assert_eq!(rig.hear(&mut eve), ["welcome eve"]);
}

#[test]
fn messages_keep_their_order_whatever_is_decided_about_them() {
    for shards in [1, 4] {
        let mut rig = Rig::deciding(shards, Limits::default());
        let mut ada = rig.member("ada", "lobby");
        let mut bob = rig.member("bob", "lobby");
        let told = rig.hear(&mut ada);
        assert_eq!(told, ["+bob in lobby"]);
        let all = [
            "say lobby one",
            "say lobby two 2",
            "say lobby three 3",
            "say lobby fine",
            "say elsewhere four",
            "to bob five",
            "leave lobby",
        ];
        assert_eq!(rig.ask(&mut ada, &all), [""; 0]);
        let mut answers = vec![
            ("publish \"one\"", Ruling::Allow),
            ("publish \"two\"", rewrite("\"2\"")),
            ("publish \"three\"", refuse("not three")),
            ("publish \"five\"", rewrite("{\"5\":5}")),
        ];
        for (what, ruling) in answers.drain(..) {
            let question = rig.asked_once(what);
            rig.decide(question, ruling);
        }
        assert_eq!(rig.asked(), []);
        // The direct message has a home of its own, so it comes when it comes.
        let heard = rig.hear(&mut bob);
        let (direct, heard): (Vec<_>, Vec<_>) =
            heard.into_iter().partition(|what| what.starts_with("ada:"));
        assert_eq!(direct, ["ada: {\"5\":5}"]);
        assert_eq!(
            heard,
            [
                "ada in lobby: one",
                "ada in lobby: 2",
                "ada in lobby: fine",
                "-ada in lobby",
            ]
        );
        drop((ada, bob));
        rig.assert_nothing_is_left();
    }
}

#[test]
fn a_sender_is_told_what_became_of_its_message() {
    let mut rig = Rig::deciding(1, Limits::default());
    let mut ada = rig.member("ada", "lobby");
    let cases = [
        (Ruling::Allow, vec!["ada in lobby: x", "ack 1"]),
        (rewrite("7"), vec!["ada in lobby: 7", "ack 2"]),
        (refuse("no"), vec!["forbidden: lobby 3"]),
        (
            Ruling::Dismiss(Dismissal {
                code: 4010,
                reason: "enough".into(),
            }),
            vec!["close 4010 enough"],
        ),
    ];
    for (index, (ruling, expected)) in cases.into_iter().enumerate() {
        let say = format!("say lobby x {}", index + 1);
        assert_eq!(rig.ask(&mut ada, &[&say]), [""; 0]);
        let question = rig.asked_once("publish \"x\"");
        rig.decide(question, ruling);
        let heard = rig.hear(&mut ada);
        assert_eq!(heard[..expected.len()], expected);
    }
    assert_eq!(
        rig.core().app.guarded.reasons,
        [CloseReason::Dismissed(4010)]
    );
    drop(ada);
    rig.assert_nothing_is_left();
}

#[test]
fn what_was_allowed_is_published_though_its_sender_has_gone_and_as_its_grant_says_by_then() {
    let mut rig = Rig::deciding(1, Limits::default());
    let mut bob = rig.member("bob", "lobby");
    let mut ada = rig.member("ada", "lobby");
    ada.send_text("say lobby goodbye");
    ada.step(usize::MAX);
    ada.client().close();
    rig.settle();
    let question = rig.asked_once("publish \"goodbye\"");
    rig.decide(question, Ruling::Allow);
    let heard = rig.hear(&mut bob);
    assert_eq!(
        heard,
        ["+ada in lobby", "ada in lobby: goodbye", "-ada in lobby"]
    );
    assert_eq!(rig.core().app.guarded.reasons, [CloseReason::StreamEnded]);

    let mut eve = rig.member("eve", "lobby");
    assert_eq!(rig.ask(&mut eve, &["say lobby late 1"]), [""; 0]);
    let question = rig.asked_once("publish \"late\"");
    let may_join = super::guarded::grant("lobby:j");
    let key = question.connection;
    rig.shards[0].core.renew(key, may_join);
    rig.decide(question, Ruling::Allow);
    assert_eq!(rig.hear(&mut eve), ["forbidden: lobby 1"]);
}

#[test]
fn heartbeats_go_on_for_a_connection_whose_message_waits() {
    let limits = Limits {
        heartbeat_ms: 100,
        heartbeat_missed_max: 1,
        decision_ms_max: 5000,
        ..Limits::default()
    };
    let mut rig = Rig::deciding(1, limits);
    let mut ada = rig.member("ada", "lobby");
    ada.set_answers(false);
    assert_eq!(
        rig.ask(&mut ada, &["say lobby one", "say lobby fine"]),
        [""; 0]
    );
    let question = rig.asked_once("publish \"one\"");
    assert_eq!(rig.wait(&mut ada, 4000), None);
    rig.decide(question, Ruling::Allow);
    assert_eq!(
        rig.hear(&mut ada),
        ["ada in lobby: one", "ada in lobby: fine"]
    );
    // And are missed again from then on.
    let (_, heard) = rig.wait(&mut ada, 1000).unwrap();
    assert_eq!(heard, ["close 1001 no heartbeat"]);
    assert_eq!(rig.core().app.guarded.reasons, [CloseReason::Heartbeat]);
}

#[test]
fn rooms_are_occupied_and_vacated_once() {
    let mut rig = Rig::deciding(1, Limits::default());
    let ada = rig.member("ada", "lobby");
    let bob = rig.member("bob", "lobby");
    let occupied = ("lobby".to_owned(), Occupancy::Occupied);
    assert_eq!(rig.core().app.rooms, std::slice::from_ref(&occupied));
    drop(ada);
    rig.settle();
    drop(bob);
    rig.settle();
    let vacated = ("lobby".to_owned(), Occupancy::Vacated);
    assert_eq!(rig.core().app.rooms, [occupied, vacated]);
}

#[test]
fn everybody_ends_for_a_reason() {
    let reasons = |end: &dyn Fn(&mut Rig<Guarded>, &mut SimWebSocket)| {
        let mut rig = Rig::guarded(1, Limits::default());
        let mut ada = rig.guest("ada", "");
        end(&mut rig, &mut ada);
        ada.step(usize::MAX);
        rig.settle();
        drop(ada);
        rig.settle();
        let reasons = std::mem::take(&mut rig.shards[0].core.app.reasons);
        let [reason] = reasons[..] else {
            panic!("{reasons:?}")
        };
        reason
    };
    assert_eq!(
        reasons(&|_, ada| ada.send_close(Some(1000), "")),
        CloseReason::Peer(Some(1000))
    );
    assert_eq!(
        reasons(&|_, ada| ada.send_close(None, "")),
        CloseReason::Peer(None)
    );
    assert_eq!(
        reasons(&|_, ada| ada.client().close()),
        CloseReason::StreamEnded
    );
    assert_eq!(
        reasons(&|_, ada| ada.send_frame(&SimFrame {
            fin: true,
            opcode: Opcode::Text,
            compressed: false,
            payload: vec![0xff],
        })),
        CloseReason::Protocol(1007)
    );
    assert_eq!(
        reasons(&|_, ada| ada.send_text("close-and-renew @9999999999999")),
        CloseReason::Application(4000)
    );
    assert_eq!(
        reasons(&|_, ada| ada.send_text("renew @1")),
        CloseReason::Expired
    );
    assert_eq!(
        reasons(&|_, ada| ada.send_text("nonsense")),
        CloseReason::Panic
    );
    assert_eq!(
        reasons(&|rig, ada| {
            ada.set_answers(false);
            rig.wait(ada, 120_000);
        }),
        CloseReason::Heartbeat
    );
    assert_eq!(
        reasons(&|rig, _| {
            let plan = StopPlan {
                window_ms: 0,
                stop_ms_max: 10_000,
                reconnect_after_ms: 0,
            };
            rig.controls[0].send(Control::Stop(plan)).unwrap();
            rig.shards[0].tick().unwrap();
        }),
        CloseReason::Shutdown
    );
}
