//! Connections whose first message says whose they are.

use super::guarded::Guarded;
use super::*;

fn rig() -> Rig<Guarded> {
    Rig::guarded(1, Limits::default())
}

/// A client whose handshake is done and whose first message is awaited.
fn unnamed(rig: &mut Rig<Guarded>) -> SimWebSocket {
    let mut client = rig.knock("/?later");
    assert_eq!(rig.hear(&mut client), ["upgraded"]);
    client
}

fn opened(rig: &Rig<Guarded>) -> (u64, u64) {
    let shard = |index: usize| &rig.shards[index].core.app;
    (0..rig.shards.len()).fold((0, 0), |(opened, closed), index| {
        (opened + shard(index).opened, closed + shard(index).closed)
    })
}

#[test]
fn a_first_message_that_is_good_opens_the_connection() {
    for shards in [1, 4] {
        let mut rig = Rig::guarded(shards, Limits::default());
        let mut ada = unnamed(&mut rig);
        assert_eq!(opened(&rig), (0, 0));
        assert_eq!(rig.ask(&mut ada, &["token ada lobby:j"]), ["welcome ada"]);
        let joined = rig.ask(&mut ada, &["join lobby"]);
        assert_eq!(joined, ["joined lobby: - recovered false"]);
        assert_eq!(rig.ask(&mut ada, &["who lobby"]), ["forbidden: lobby -"]);
        assert_eq!(opened(&rig), (1, 0));
        // The deadline of the handshake is over: it is the heartbeat's now.
        assert_eq!(rig.wait(&mut ada, 60_000), None);
        ada.send_close(Some(1000), "");
        ada.step(usize::MAX);
        rig.settle();
        assert_eq!(opened(&rig), (1, 1));
    }
}

#[test]
fn what_comes_behind_the_first_message_waits_for_the_rooms() {
    for shards in [1, 4] {
        let mut rig = Rig::guarded(shards, Limits::default());
        // All of it in one packet with the request, and then with the first message.
        for together in [true, false] {
            let mut ada = SimWebSocket::connect(&rig.network, 0, "/?later");
            if !together {
                ada.step(usize::MAX);
                assert_eq!(rig.hear(&mut ada), ["upgraded"]);
            }
            for text in ["token ada", "to ada hi", "to ada you"] {
                ada.send_text(text);
            }
            ada.step(usize::MAX);
            let heard = rig.hear(&mut ada);
            let told = heard.iter().filter(|what| *what != "upgraded");
            let told: Vec<&String> = told.collect();
            assert_eq!(told, ["welcome ada", "ada: hi", "ada: you"]);
            drop(ada);
            rig.settle();
        }
    }
}

#[test]
fn a_first_message_that_is_bad_closes_the_connection() {
    let mut rig = rig();
    for (text, closed) in [
        ("join lobby", "close 4401 no such token"),
        ("panic", "close 1011 internal error"),
    ] {
        let mut client = unnamed(&mut rig);
        let heard = rig.ask(&mut client, &[text, "token ada", "join lobby"]);
        assert_eq!(heard[0], closed);
        assert!(heard[1..].iter().all(|what| what == "end"), "{heard:?}");
    }
    assert_eq!(rig.count(|stats| stats.close_unnamed.value()), 1);
    assert_eq!(rig.count(|stats| stats.close_panic.value()), 1);
    assert_eq!(opened(&rig), (0, 0));
    rig.advance_ms(6000);
    rig.settle();
    assert_eq!(rig.shards[0].counts().connections, 0);
}

#[test]
fn a_first_message_must_come_in_time() {
    let limits = Limits {
        handshake_ms_max: 500,
        ..Limits::default()
    };
    let mut rig = Rig::guarded(1, limits);
    let mut silent = unnamed(&mut rig);
    let (passed_ms, heard) = rig.wait(&mut silent, 1000).unwrap();
    assert_eq!(heard, ["close 4401 no token in time"]);
    assert!((500..=520).contains(&passed_ms), "{passed_ms}");
    assert_eq!(rig.count(|stats| stats.close_unnamed.value()), 1);
    // Half of a message is none, and neither pings nor fragments gain time.
    let mut slow = unnamed(&mut rig);
    let mut closed_ms = None;
    for passed_ms in 0..1000 {
        if passed_ms % 50 == 0 {
            slow.send_ping(b"");
            slow.send_frame(&SimFrame {
                fin: false,
                opcode: if passed_ms == 0 {
                    Opcode::Text
                } else {
                    Opcode::Continuation
                },
                compressed: false,
                payload: b"t".to_vec(),
            });
        }
        slow.step(usize::MAX);
        let heard = rig.hear(&mut slow);
        if heard
            .iter()
            .any(|what| what == "close 4401 no token in time")
        {
            closed_ms = closed_ms.or(Some(passed_ms));
        }
        rig.advance_ms(1);
    }
    assert!(closed_ms.is_some_and(|ms| ms <= 520), "{closed_ms:?}");
    assert_eq!(opened(&rig), (0, 0));
}

#[test]
fn pings_are_answered_and_nothing_else_is_said() {
    let mut rig = rig();
    let mut ada = unnamed(&mut rig);
    ada.send_ping(b"there?");
    ada.step(usize::MAX);
    assert_eq!(rig.hear(&mut ada), ["pong there?"]);
    // It may come in pieces, with pings between them.
    let piece = |fin, opcode, payload: &[u8]| SimFrame {
        fin,
        opcode,
        compressed: false,
        payload: payload.to_vec(),
    };
    ada.send_frame(&piece(false, Opcode::Text, b"token "));
    ada.step(usize::MAX);
    assert_eq!(rig.hear(&mut ada), [""; 0]);
    ada.send_ping(b"still?");
    ada.send_frame(&piece(true, Opcode::Continuation, b"ada"));
    ada.send_text("join lobby");
    ada.step(usize::MAX);
    assert_eq!(
        rig.hear(&mut ada),
        [
            "pong still?",
            "welcome ada",
            "joined lobby: 1 recovered false"
        ]
    );
}

#[test]
fn pings_before_the_first_message_pile_up_no_more_than_permitted() {
    let limits = Limits {
        outbox_messages_max: 100,
        messages_per_second_max: 500,
        messages_burst_max: 500,
        ..Limits::default()
    };
    let mut rig = Rig::guarded(1, limits);
    let mut client = unnamed(&mut rig);
    for _ in 0..50 {
        for _ in 0..100 {
            client.send_ping(&[b'x'; 125]);
        }
        client.step(0);
        rig.rest(0);
        rig.advance_ms(100);
    }
    // As many as may wait, and as many as left together before.
    assert!(rig.shards[0].largest_backlog().bytes <= 2 * 101 * 127);
    // As fast as permitted, no faster, and it was not told.
    assert!(rig.count(|stats| stats.rate_limited.value()) > 0);
    let heard = client.step(usize::MAX);
    assert!(
        heard.iter().all(|event| matches!(event, SimEvent::Pong(_))),
        "{heard:?}"
    );
}

#[test]
fn a_peer_may_close_before_it_has_said_anything() {
    let mut rig = rig();
    let mut polite = unnamed(&mut rig);
    polite.send_close(Some(1000), "");
    polite.step(usize::MAX);
    assert_eq!(rig.hear(&mut polite), ["close 1000 ", "end"]);
    let broken = unnamed(&mut rig);
    broken.client().reset();
    let ended = unnamed(&mut rig);
    ended.client().close();
    let mut wrong = unnamed(&mut rig);
    wrong.send_raw(&[0xff, 0xff]);
    wrong.step(usize::MAX);
    let heard = rig.hear(&mut wrong);
    assert!(heard[0].starts_with("close 1002"), "{heard:?}");
    drop(wrong);
    rig.settle();
    assert_eq!(rig.shards[0].counts().connections, 0);
    assert_eq!(opened(&rig), (0, 0));
}

#[test]
fn a_first_message_is_no_larger_than_a_handshake() {
    let limits = Limits {
        handshake_size_max: 1000,
        ..Limits::default()
    };
    let mut rig = Rig::guarded(1, limits);
    let mut ada = unnamed(&mut rig);
    let token = format!("token ada  {}", "x".repeat(1000));
    let (fits, whole) = (&token[..1000], &token[..1001]);
    assert_eq!(rig.ask(&mut ada, &[fits]), ["welcome ada"]);
    // From then on messages may be as large as anybody's.
    let large = format!("say lobby {}", "x".repeat(5000));
    assert_eq!(rig.ask(&mut ada, &[&large]), ["not_joined: lobby -"]);
    let mut eve = unnamed(&mut rig);
    let heard = rig.ask(&mut eve, &[whole]);
    assert_eq!(heard[0], "close 1009 message too large");
}

#[test]
fn nobody_finds_a_connection_that_is_not_named() {
    let mut rig = rig();
    let mut unnamed = unnamed(&mut rig);
    let mut bob = rig.guest("bob", "");
    let heard = rig.ask(
        &mut bob,
        &["to - hi", "to ada hi", "join lobby", "say lobby hi"],
    );
    assert_eq!(
        heard,
        ["joined lobby: 1 recovered false", "bob in lobby: hi"]
    );
    assert_eq!(rig.hear(&mut unnamed), [""; 0]);
    assert_eq!(rig.shards[0].counts().hub.members, 1);
    // From its first message on it is found.
    assert_eq!(rig.ask(&mut unnamed, &["token ada"]), ["welcome ada"]);
    rig.ask(&mut bob, &["to ada hi"]);
    assert_eq!(rig.hear(&mut unnamed), ["bob: hi"]);
}

#[test]
fn a_stop_reaches_connections_that_are_not_named() {
    let mut rig = rig();
    let mut client = unnamed(&mut rig);
    let plan = StopPlan {
        window_ms: 0,
        stop_ms_max: 1000,
        reconnect_after_ms: 0,
    };
    rig.controls[0].send(Control::Stop(plan)).unwrap();
    rig.rest(0);
    let events = client.step(usize::MAX);
    assert!(
        matches!(
            events[..],
            [SimEvent::Close {
                code: Some(1001),
                ..
            }]
        ),
        "{events:?}"
    );
    assert_eq!(rig.rest(0), None);
    assert_eq!(opened(&rig), (0, 0));
}
