//! What a connection may do, and until when.

use super::guarded::Guarded;
use super::*;

/// A request, the grant of somebody who may make it and what that one hears, the grant of somebody who may do everything else, and what
/// the refusal names.
type Case = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static str,
);

/// In a room that "host" is in, where one thing was said.
const CASES: [Case; 6] = [
    (
        "join lobby",
        "lobby:j",
        &["joined lobby: - recovered false"],
        "lobby:pwh,*:jpwh/*",
        "lobby -",
    ),
    (
        "say lobby hi",
        "lobby:jp",
        &["ada in lobby: hi"],
        "lobby:jwh,*:jpwh/*",
        "lobby -",
    ),
    (
        "say lobby hi 7",
        "lob*:jp,*:jwh",
        &["ada in lobby: hi", "ack 7"],
        "lobby:jwh,*:jpwh/*",
        "lobby 7",
    ),
    (
        "to host hi 7",
        "lobby:j/eve,h*t",
        &["ack 7"],
        "*:jpwh/eve",
        "- 7",
    ),
    (
        "who lobby",
        "lobby:jw",
        &["2 in lobby"],
        "lobby:jph,*:jpwh/*",
        "lobby -",
    ),
    (
        "past lobby",
        "lobby:jh",
        &["1 said in lobby"],
        "lobby:jpw,*:jpwh/*",
        "lobby -",
    ),
];

/// A shard with "host", who may do everything, in the lobby; in each number of shards that the case is to hold in.
fn hosted(shards: u16) -> (Rig<Guarded>, SimWebSocket) {
    let mut rig = Rig::guarded(shards, Limits::default());
    let mut host = rig.guest("host", "");
    let heard = rig.ask(&mut host, &["join lobby", "say lobby one"]);
    assert_eq!(
        heard,
        ["joined lobby: 1 recovered false", "host in lobby: one"]
    );
    (rig, host)
}

#[test]
fn each_request_needs_its_right() {
    for shards in [1, 4] {
        for (request, grant, expected, ..) in CASES {
            let (mut rig, _host) = hosted(shards);
            let mut ada = rig.guest("ada", grant);
            if !request.starts_with("join") {
                rig.ask(&mut ada, &["join lobby"]);
            }
            assert_eq!(rig.ask(&mut ada, &[request]), expected, "{request}");
            assert_eq!(rig.count(|stats| stats.forbidden.value()), 0);
        }
    }
}

#[test]
fn without_the_right_a_request_is_refused_and_nobody_else_hears_of_it() {
    for shards in [1, 4] {
        for (request, .., grant, names) in CASES {
            let (mut rig, mut host) = hosted(shards);
            let mut ada = rig.guest("ada", grant);
            if !request.starts_with("join") {
                rig.ask(&mut ada, &["join lobby"]);
                rig.hear(&mut host);
            }
            let refused = [format!("forbidden: {names}")];
            assert_eq!(rig.ask(&mut ada, &[request]), refused, "{request}");
            assert_eq!(rig.hear(&mut host), [""; 0], "{request}");
            assert_eq!(rig.count(|stats| stats.forbidden.value()), 1);
            assert_eq!(rig.count(|stats| stats.bad_requests.value()), 0);
        }
    }
}

#[test]
fn a_refusal_does_not_tell_whether_there_is_such_a_room_and_makes_none() {
    let (mut rig, _host) = hosted(1);
    let rooms = rig.shards[0].counts().hub.rooms;
    let mut ada = rig.guest("ada", "nothing:jpwh");
    for request in [
        "join ROOM",
        "say ROOM x 1",
        "who ROOM",
        "past ROOM",
        "to ROOM x 1",
    ] {
        let mut answer = |room: &str| {
            ada.send_text(&request.replace("ROOM", room));
            ada.step(usize::MAX);
            rig.settle();
            let answer = texts(ada.step(usize::MAX)).concat();
            answer.replace(room, "ROOM")
        };
        let known = answer("lobby");
        assert!(known.contains(r#""code":"forbidden""#), "{known}");
        assert_eq!(answer("unheard-of"), known);
    }
    let hub = rig.shards[0].counts().hub;
    assert_eq!(hub.rooms, rooms);
}

#[test]
fn to_leave_needs_no_right_and_to_publish_membership_too() {
    let (mut rig, _host) = hosted(1);
    let mut ada = rig.guest("ada", "lobby:p");
    assert_eq!(rig.ask(&mut ada, &["say lobby x"]), ["not_joined: lobby -"]);
    assert_eq!(rig.ask(&mut ada, &["leave lobby"]), ["not_joined: lobby -"]);
    let mut eve = rig.guest("eve", "lobby:j");
    rig.ask(&mut eve, &["join lobby"]);
    assert_eq!(rig.ask(&mut eve, &["leave lobby"]), ["left lobby: -"]);
}

#[test]
fn a_join_recovers_only_with_the_right_to_history() {
    for shards in [1, 4] {
        let (mut rig, mut host) = hosted(shards);
        host.send_text("join lobby");
        host.step(usize::MAX);
        rig.settle();
        let joined: serde_json::Value =
            serde_json::from_str(&texts(host.step(usize::MAX))[0]).unwrap();
        let since = format!("join lobby {} 0", joined["epoch"]);
        for (grant, expected) in [
            (
                "lobby:jh",
                &["joined lobby: - recovered true", "host in lobby: one"][..],
            ),
            ("lobby:jpw", &["joined lobby: 2 recovered false"][..]),
        ] {
            let mut ada = rig.guest("ada", grant);
            assert_eq!(rig.ask(&mut ada, &[&since]), expected);
            drop(ada);
            rig.settle();
        }
        assert_eq!(rig.count(|stats| stats.forbidden.value()), 0);
    }
}

#[test]
fn who_comes_and_goes_is_told_to_those_who_may_know() {
    for shards in [1, 4] {
        let (mut rig, _host) = hosted(shards);
        let mut knows = rig.guest("knows", "lobby:jw");
        let mut hears = rig.guest("hears", "lobby:j,*:jw");
        assert_eq!(
            rig.ask(&mut knows, &["join lobby"]),
            ["joined lobby: 2 recovered false"]
        );
        assert_eq!(
            rig.ask(&mut hears, &["join lobby", "join other"]),
            [
                "joined lobby: - recovered false",
                "joined other: 1 recovered false"
            ]
        );
        let mut guest = rig.guest("guest", "");
        rig.ask(&mut guest, &["join lobby", "join other"]);
        rig.ask(&mut guest, &["leave lobby", "say other x"]);
        assert_eq!(
            rig.hear(&mut knows),
            ["+hears in lobby", "+guest in lobby", "-guest in lobby"]
        );
        let heard = ["+guest in other", "guest in other: x"];
        assert_eq!(rig.hear(&mut hears), heard);
    }
}

#[test]
fn counts_of_large_rooms_are_told_to_those_who_may_know() {
    let limits = Limits {
        presence_individual_max: 0,
        ..Limits::default()
    };
    let mut rig = Rig::guarded(1, limits);
    let mut knows = rig.guest("knows", "lobby:jw");
    let mut hears = rig.guest("hears", "lobby:j");
    rig.ask(&mut knows, &["join lobby"]);
    rig.ask(&mut hears, &["join lobby"]);
    rig.advance_ms(1000);
    assert_eq!(rig.hear(&mut knows), ["2 in lobby"]);
    assert_eq!(rig.hear(&mut hears), [""; 0]);
}

#[test]
fn a_grant_ends_at_its_time() {
    // In less than a tick, between two heartbeats, at one, and after some.
    for (seed, lasts_ms) in [1, 9, 3000, 12_500, 25_000, 80_123].into_iter().enumerate() {
        for back_ms in [0, 3_600_000] {
            let mut rig = Rig::guarded_seeded(seed as u64, 2, Limits::default());
            let other = rig.guest("other", "*:jpwh");
            let expires = rig.unix_ms() + lasts_ms;
            let mut ada = rig.guest("ada", &format!("@{expires}"));
            // Whatever the operator does to the clock.
            rig.network.set_unix_ms(rig.unix_ms() - back_ms);
            let (passed_ms, heard) = rig.wait(&mut ada, lasts_ms + 1000).unwrap();
            assert_eq!(heard, ["close 4401 token expired"]);
            assert!(
                (lasts_ms..=lasts_ms + 250).contains(&passed_ms),
                "{passed_ms} of {lasts_ms}"
            );
            assert_eq!(rig.count(|stats| stats.close_expired.value()), 1);
            assert_eq!(rig.core().app.closed, 1);
            assert_eq!(rig.shards[0].counts().grants, 1);
            drop(other);
        }
    }
}

#[test]
fn a_grant_that_has_ended_already_closes_at_once() {
    for shards in [1, 4] {
        let mut rig = Rig::guarded(shards, Limits::default());
        let ended = rig.unix_ms();
        let mut ada = rig.knock(&format!("/?user=ada&grant=@{ended}"));
        let closed = ["upgraded", "close 4401 token expired"];
        assert_eq!(rig.hear(&mut ada), closed);
        let mut eve = rig.knock("/?later");
        eve.send_text(&format!("token eve lobby:j@{}", ended - 1));
        eve.send_text("join lobby");
        eve.step(usize::MAX);
        assert_eq!(rig.hear(&mut eve), closed);
        assert_eq!((rig.core().app.opened, rig.core().app.closed), (0, 0));
        let mut bob = rig.guest("bob", "lobby:j");
        let renewal = format!("renew lobby:j@{ended}");
        let heard = rig.ask(&mut bob, &[&renewal, "join lobby"]);
        assert_eq!(heard, ["close 4401 token expired"]);
        assert_eq!((rig.core().app.opened, rig.core().app.closed), (1, 1));
        rig.advance_ms(10);
        rig.settle();
        for shard in &rig.shards {
            let counts = shard.counts();
            assert_eq!((counts.hub.members, counts.grants), (0, 0));
        }
    }
}

#[test]
fn a_grant_renewed_in_time_goes_on() {
    let mut rig = Rig::guarded(1, Limits::default());
    let expires = rig.unix_ms() + 10_000;
    let mut ada = rig.guest("ada", &format!("@{expires}"));
    assert_eq!(rig.wait(&mut ada, 9990), None);
    let later = rig.unix_ms() + 60_000;
    assert_eq!(rig.ask(&mut ada, &[&format!("renew @{later}")]), [""; 0]);
    assert_eq!(rig.wait(&mut ada, 30_000), None);
    // Sooner than it would have ended, and sooner than the next heartbeat.
    let sooner = rig.unix_ms() + 50;
    rig.ask(&mut ada, &[&format!("renew *:j@{sooner}")]);
    assert_eq!(rig.wait(&mut ada, 45), None);
    assert_eq!(rig.ask(&mut ada, &["renew *:j"]), [""; 0]);
    assert_eq!(rig.wait(&mut ada, 100_000), None);
    assert_eq!(rig.shards[0].counts().grants, 1);
    rig.ask(&mut ada, &[&format!("renew @{}", rig.unix_ms() + 50)]);
    let mut other = rig.guest("other", "");
    rig.ask(&mut other, &["renew-all *:j"]);
    assert_eq!(rig.wait(&mut ada, 100_000), None);
    assert_eq!(rig.count(|stats| stats.close_expired.value()), 0);
}

#[test]
fn grants_that_end_between_heartbeats_do_not_disturb_them() {
    let limits = Limits {
        heartbeat_ms: 1000,
        heartbeat_missed_max: 2,
        ..Limits::default()
    };
    for answers in [true, false] {
        let mut rig = Rig::guarded(1, limits.clone());
        let mut operator = rig.guest("operator", "");
        let mut ada = rig.guest("ada", "");
        ada.set_answers(answers);
        let (mut pings, mut closed_ms) = (0, None);
        for passed_ms in 0..10_000 {
            if passed_ms % 50 == 0 {
                // It never lasts as long as the interval of a heartbeat.
                let renewal = format!("renew-all @{}", rig.unix_ms() + 120);
                operator.send_text(&renewal);
                operator.step(usize::MAX);
            }
            rig.rest(0);
            operator.step(usize::MAX);
            for event in ada.step(usize::MAX) {
                match event {
                    SimEvent::Ping(_) => pings += 1,
                    SimEvent::Close { code, .. } => {
                        assert_eq!((code, closed_ms), (Some(1001), None));
                        closed_ms = Some(passed_ms);
                    }
                    _ => {}
                }
            }
            rig.advance_ms(1);
        }
        match answers {
            // Every second interval is silent, as an answer is a sign of life.
            true => assert!(
                closed_ms.is_none() && (4..=6).contains(&pings),
                "{pings} pings, closed at {closed_ms:?}"
            ),
            false => assert!(
                closed_ms.is_some_and(|ms| (2500..=4500).contains(&ms)) && pings == 2,
                "{pings} pings, closed at {closed_ms:?}"
            ),
        }
    }
}

#[test]
fn a_renewal_counts_from_the_next_request_on() {
    let (mut rig, _host) = hosted(1);
    let mut ada = rig.guest("ada", "lobby:j");
    let heard = rig.ask(
        &mut ada,
        &[
            "join lobby",
            "who lobby",
            "renew lobby:jw",
            "who lobby",
            "renew lobby:j",
            "who lobby",
        ],
    );
    let mut refused = heard.iter().filter(|what| *what == "forbidden: lobby -");
    assert_eq!(refused.by_ref().count(), 2, "{heard:?}");
    assert!(heard.contains(&"2 in lobby".to_owned()), "{heard:?}");
    // Whatever it may do, until when: it needs no entry any more.
    rig.ask(&mut ada, &["renew *:jpwh"]);
    let counts = rig.shards[0].counts();
    assert_eq!(counts.grants, 1);
}

#[test]
fn a_renewal_takes_rooms_away() {
    for shards in [1, 4] {
        let (mut rig, mut host) = hosted(shards);
        rig.ask(&mut host, &["join kept", "join gone"]);
        let mut ada = rig.guest("ada", "*:jp");
        rig.ask(&mut ada, &["join lobby", "join kept", "join gone"]);
        rig.hear(&mut host);
        let mut heard = rig.ask(&mut ada, &["renew kept:jp", "say lobby hi", "say kept hi"]);
        heard.sort();
        assert_eq!(
            heard,
            [
                "ada in kept: hi",
                "forbidden: lobby -",
                "left gone: forbidden",
                "left lobby: forbidden",
            ]
        );
        let mut heard = rig.hear(&mut host);
        heard.sort();
        assert_eq!(heard, ["-ada in gone", "-ada in lobby", "ada in kept: hi"]);
        rig.ask(&mut host, &["say lobby x", "say gone x", "say kept x"]);
        assert_eq!(rig.hear(&mut ada), ["host in kept: x"]);
    }
}

#[test]
fn a_renewal_ends_joins_that_are_under_way() {
    let mut rig = Rig::guarded(2, Limits::default());
    rig.settle();
    let far = rig.room_at(1);
    for late in [false, true] {
        let mut ada = rig.guest("ada", "*:j");
        ada.send_text(&format!("join {far}"));
        ada.step(usize::MAX);
        rig.rest(0);
        if late {
            // The home has let it in, and its answer is on the way.
            rig.rest(1);
        }
        ada.send_text("renew other:j");
        ada.step(usize::MAX);
        let left = [format!("left {far}: forbidden")];
        assert_eq!(rig.hear(&mut ada), left, "{late}");
        let mut host = rig.guest("host", "");
        let heard = rig.ask(
            &mut host,
            &[&format!("join {far}"), &format!("say {far} x")],
        );
        let alone = format!("joined {far}: 1 recovered false");
        assert_eq!(heard, [alone, format!("host in {far}: x")], "{late}");
        assert_eq!(rig.hear(&mut ada), [""; 0], "{late}");
        drop((ada, host));
        rig.settle();
    }
}

#[test]
fn answers_that_are_under_way_are_not_told_to_whom_may_no_longer_know() {
    let mut rig = Rig::guarded(2, Limits::default());
    rig.settle();
    let far = rig.room_at(1);
    let mut host = rig.guest("host", "");
    let heard = rig.ask(
        &mut host,
        &[&format!("join {far}"), &format!("say {far} x 1")],
    );
    assert_eq!(heard.len(), 3, "{heard:?}");
    let mut ada = rig.guest("ada", "*:jwh");
    for request in ["who", "past"] {
        let request = format!("{request} {far}");
        let heard = rig.ask(&mut ada, &[&request, "renew *:j"]);
        assert_eq!(heard, [format!("forbidden: {far} -")]);
        rig.ask(&mut ada, &["renew *:jwh"]);
    }
    assert_eq!(rig.count(|stats| stats.forbidden.value()), 2);
    // The same for what a join would have recovered.
    host.send_text(&format!("join {far}"));
    host.step(usize::MAX);
    rig.settle();
    let joined: serde_json::Value = serde_json::from_str(&texts(host.step(usize::MAX))[0]).unwrap();
    let join = format!("join {far} {} 0", joined["epoch"]);
    let nothing = [format!("joined {far}: - recovered false")];
    assert_eq!(rig.ask(&mut ada, &[&join, "renew *:j"]), nothing);
    // The right that comes after the request is too late for it.
    assert_eq!(rig.ask(&mut ada, &[&join, "renew *:jh"]), nothing);
    let heard = rig.ask(&mut ada, &[&join]);
    let recovered = [
        format!("joined {far}: - recovered true"),
        format!("host in {far}: x"),
    ];
    assert_eq!(heard, recovered);
}

#[test]
fn what_is_granted_goes_with_the_connection() {
    let mut rig = Rig::guarded(1, Limits::default());
    let far_off = rig.unix_ms() + 1_000_000;
    for round in 0..3 {
        let mut ada = rig.guest("ada", &format!("lobby:j@{far_off}"));
        assert_eq!(rig.shards[0].counts().grants, 1);
        match round {
            0 => ada.client().reset(),
            1 => ada.send_close(Some(1000), ""),
            // What is granted behind a close goes to nobody.
            _ => ada.send_text(&format!("close-and-renew lobby:j@{far_off}")),
        }
        ada.step(usize::MAX);
        rig.settle();
        ada.step(usize::MAX);
        rig.settle();
        assert_eq!(rig.shards[0].counts().grants, 0);
        drop(ada);
        rig.settle();
        // The next one in the slot may do everything.
        let mut bob = rig.guest("bob", "");
        let heard = rig.ask(&mut bob, &["join other", "who other"]);
        assert_eq!(heard, ["joined other: 1 recovered false", "1 in other"]);
    }
}
