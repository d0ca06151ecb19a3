//! What clients are told, case by case.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::cluster::{ClientKey, Cluster};
use super::from_server;
use crate::driver::{ConnectionKey, ShardId};
use crate::hub::event::{ErrorCode, Message};
use crate::hub::mail::{Delivery, JoinToken};
use crate::hub::{Event, Hub, Mail, Name, Position, Target};
use crate::limits::Limits;

fn cluster(limits: Limits) -> Cluster {
    let mut cluster = Cluster::new(3, limits);
    cluster.settle();
    cluster
}

/// A room whose home is the given shard.
fn room_at(cluster: &Cluster, home: ShardId) -> Name {
    (0..)
        .map(|number| Name::from(format!("room {number}")))
        .find(|room| cluster.hubs[0].home_of(&Target::Room(room.clone())) == home)
        .unwrap()
}

/// A connection that has joined a room and has nothing left to be told.
pub(super) fn joined(
    cluster: &mut Cluster,
    shard: ShardId,
    slot: u32,
    user: &str,
    room: &str,
) -> ClientKey {
    let client = cluster.open(shard, slot, user);
    cluster.join(client, room, None).unwrap();
    cluster.settle();
    cluster.events(client);
    client
}

pub(super) fn say(cluster: &mut Cluster, client: ClientKey, room: &str, content: &str) {
    let target = Target::Room(room.into());
    cluster.publish(client, target, content, None).unwrap();
    cluster.settle();
}

/// Events in a few words.
fn words(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            Event::Message(message) => {
                let content = String::from_utf8_lossy(&message.content);
                format!("{} {}: {content}", message.seq, message.user)
            }
            Event::Joined {
                position,
                members,
                recovered,
                ..
            } => {
                let members = members.unwrap();
                format!("joined at {} of {members}, {recovered}", position.seq)
            }
            Event::Left { .. } => "left".to_owned(),
            Event::Reset { position, .. } => format!("reset to {}", position.seq),
            Event::UserJoined { user, .. } => format!("+{user}"),
            Event::UserLeft { user, .. } => format!("-{user}"),
            Event::PresenceCount { count, .. } => format!("{count} users"),
            Event::Ack {
                id, seq, duplicate, ..
            } => format!("ack {id} {seq} {duplicate}"),
            Event::Error { code, .. } => code.as_str().to_owned(),
            other => format!("{other:?}"),
        })
        .collect()
}

pub(super) fn told(cluster: &mut Cluster, client: ClientKey) -> Vec<String> {
    words(&cluster.events(client))
}

#[test]
fn a_room_spans_shards() {
    let mut cluster = cluster(Limits::default());
    let room = room_at(&cluster, 2);
    let ada = joined(&mut cluster, 0, 0, "ada", &room);
    let bob = joined(&mut cluster, 1, 0, "bob", &room);
    say(&mut cluster, ada, &room, "hello");
    say(&mut cluster, bob, &room, "well");
    cluster.leave(bob, &room).unwrap();
    cluster.settle();
    assert_eq!(
        told(&mut cluster, ada),
        ["+bob", "1 ada: hello", "2 bob: well", "-bob"]
    );
    assert_eq!(
        told(&mut cluster, bob),
        ["1 ada: hello", "2 bob: well", "left"]
    );
    let target = Target::Room(room.clone());
    assert_eq!(
        cluster.publish(bob, target, "x", None),
        Err(ErrorCode::NotJoined)
    );
}

#[test]
fn whoever_may_not_stay_leaves_what_it_has_joined_and_what_it_has_asked_for() {
    let mut cluster = cluster(Limits::default());
    let rooms = [0, 1, 2].map(|home| room_at(&cluster, home));
    let ada = joined(&mut cluster, 0, 0, "ada", &rooms[0]);
    let bob = joined(&mut cluster, 0, 1, "bob", &rooms[0]);
    cluster.join(ada, &rooms[1], None).unwrap();
    cluster.settle();
    cluster.join(ada, &rooms[2], None).unwrap();
    cluster.events(ada);
    assert_eq!(cluster.expel(ada, &rooms), 0);
    assert_eq!(cluster.expel(ada, &rooms[1..2]), 2);
    cluster.settle();
    assert_eq!(told(&mut cluster, ada), ["left", "left"]);
    assert_eq!(told(&mut cluster, bob), ["-ada"]);
    say(&mut cluster, bob, &rooms[0], "alone");
    assert_eq!(told(&mut cluster, ada), [""; 0]);
    assert_eq!(cluster.presence(&rooms[2]), (0, [].into()));
    assert_eq!(cluster.hubs[0].counts().slices, 2);
    let stale = ClientKey {
        key: ada.key.next(),
        ..ada
    };
    cluster.call(0, |hub, effects| hub.expel(stale.key, |_| false, effects));
    say(&mut cluster, ada, &rooms[1], "still here");
    assert_eq!(told(&mut cluster, ada), ["1 ada: still here"]);
}

#[test]
fn a_user_comes_with_the_first_connection_and_leaves_with_the_last() {
    let mut cluster = cluster(Limits::default());
    let room = room_at(&cluster, 0);
    let ada = joined(&mut cluster, 0, 0, "ada", &room);
    let bobs: Vec<ClientKey> = [(0, 1), (1, 0), (1, 1)]
        .map(|(shard, slot)| joined(&mut cluster, shard, slot, "bob", &room))
        .to_vec();
    assert_eq!(told(&mut cluster, ada), ["+bob"]);
    assert_eq!(told(&mut cluster, bobs[0]), [""; 0], "nobody meets himself");
    let both = ["ada", "bob"].map(Name::from).into_iter().collect();
    assert_eq!(cluster.presence(&room), (2, both));
    for bob in bobs {
        assert_eq!(told(&mut cluster, ada), [""; 0]);
        cluster.close(bob);
        cluster.settle();
    }
    assert_eq!(told(&mut cluster, ada), ["-bob"]);
}

#[test]
fn a_large_room_is_told_counts_and_not_too_often() {
    let mut cluster = cluster(Limits {
        presence_individual_max: 2,
        presence_count_ms: 1000,
        ..Limits::default()
    });
    let room = room_at(&cluster, 1);
    let ada = joined(&mut cluster, 0, 0, "ada", &room);
    let others: Vec<ClientKey> = (1..5)
        .map(|slot| joined(&mut cluster, 0, slot, &format!("user {slot}"), &room))
        .collect();
    cluster.pass(999);
    cluster.settle();
    assert_eq!(told(&mut cluster, ada), ["+user 1"]);
    cluster.pass(1);
    cluster.settle();
    assert_eq!(told(&mut cluster, ada), ["5 users"]);
    cluster.pass(5000);
    cluster.settle();
    assert_eq!(told(&mut cluster, ada), [""; 0], "nothing has changed");
    for other in others {
        cluster.close(other);
        cluster.settle();
    }
    assert_eq!(
        told(&mut cluster, ada),
        ["-user 4"],
        "the room is small again"
    );
    cluster.pass(1000);
    cluster.settle();
    assert_eq!(told(&mut cluster, ada), ["1 users"]);
}

#[test]
fn joining_again_tells_only_the_joiner() {
    let mut cluster = cluster(Limits::default());
    let room = room_at(&cluster, 1);
    let ada = joined(&mut cluster, 0, 0, "ada", &room);
    let bob = joined(&mut cluster, 0, 1, "bob", &room);
    say(&mut cluster, bob, &room, "a");
    say(&mut cluster, bob, &room, "b");
    let Some(Event::Message(_)) = cluster.events(ada).pop() else {
        panic!("a message was published");
    };
    cluster.events(bob);
    let epoch = cluster.hubs[1].homes.position(&room).unwrap().epoch;
    cluster
        .join(ada, &room, Some(Position { epoch, seq: 1 }))
        .unwrap();
    cluster
        .join(ada, &room, Some(Position { epoch, seq: 0 }))
        .unwrap();
    cluster.settle();
    assert_eq!(
        told(&mut cluster, ada),
        ["joined at 2 of 2, true", "1 bob: a", "2 bob: b"],
        "the first of two joins under way is not answered"
    );
    assert_eq!(told(&mut cluster, bob), [""; 0]);
    cluster.close(ada);
    cluster.settle();
    assert_eq!(told(&mut cluster, bob), ["-ada"], "counted once");
}

#[test]
fn what_was_missed_follows_the_join() {
    let mut cluster = cluster(Limits {
        history_messages_max: 3,
        ..Limits::default()
    });
    let room = room_at(&cluster, 1);
    let ada = joined(&mut cluster, 0, 0, "ada", &room);
    for content in ["a", "b", "c", "d", "e"] {
        say(&mut cluster, ada, &room, content);
    }
    let epoch = cluster.hubs[1].homes.position(&room).unwrap().epoch;
    let cases: [(u64, u64, &[&str]); 6] = [
        (epoch, 5, &["joined at 5 of 2, true"]),
        (
            epoch,
            3,
            &["joined at 5 of 2, true", "4 ada: d", "5 ada: e"],
        ),
        (
            epoch,
            2,
            &["joined at 5 of 2, true", "3 ada: c", "4 ada: d", "5 ada: e"],
        ),
        (epoch, 1, &["joined at 5 of 2, false"]),
        (epoch, 6, &["joined at 5 of 2, false"]),
        (epoch - 1, 5, &["joined at 5 of 2, false"]),
    ];
    for (slot, (epoch, seq, expected)) in (1..).zip(cases) {
        let bob = cluster.open(2, slot, "bob");
        cluster
            .join(bob, &room, Some(Position { epoch, seq }))
            .unwrap();
        cluster.settle();
        assert_eq!(told(&mut cluster, bob), expected, "since {seq}");
        cluster.close(bob);
        cluster.settle();
    }
}

#[test]
fn a_repeated_id_is_acknowledged_and_not_delivered() {
    let mut cluster = cluster(Limits::default());
    let room = room_at(&cluster, 1);
    let ada = joined(&mut cluster, 0, 0, "ada", &room);
    let bob = joined(&mut cluster, 2, 0, "bob", &room);
    cluster.events(ada);
    let target = Target::Room(room.clone());
    for (client, content) in [(ada, "a"), (ada, "b"), (bob, "c")] {
        cluster
            .publish(client, target.clone(), content, Some("x"))
            .unwrap();
        cluster.settle();
    }
    assert_eq!(
        told(&mut cluster, ada),
        ["1 ada: a", "ack x 1 false", "ack x 1 true", "2 bob: c"]
    );
    assert_eq!(
        told(&mut cluster, bob),
        ["1 ada: a", "2 bob: c", "ack x 2 false"]
    );
}

#[test]
fn rooms_are_bounded_for_a_connection_and_for_a_home() {
    let mut cluster = cluster(Limits {
        rooms_per_connection_max: 2,
        rooms_max: 1,
        ..Limits::default()
    });
    let rooms = [0, 1, 2].map(|home| room_at(&cluster, home));
    let ada = joined(&mut cluster, 0, 0, "ada", &rooms[0]);
    joined(&mut cluster, 0, 1, "bob", &rooms[0]);
    cluster.join(ada, &rooms[1], None).unwrap();
    assert_eq!(
        cluster.join(ada, &rooms[2], None),
        Err(ErrorCode::TooManyRooms)
    );
    cluster.settle();
    cluster.events(ada);

    let eve = cluster.open(1, 0, "eve");
    let second = (0..)
        .map(|number| Name::from(format!("another room {number}")))
        .find(|room| cluster.hubs[0].home_of(&Target::Room(room.clone())) == 0)
        .unwrap();
    cluster.join(eve, &second, None).unwrap();
    let target = Target::Room(second.clone());
    cluster.publish(eve, target, "lost", Some("x")).unwrap();
    cluster.settle();
    assert_eq!(
        told(&mut cluster, eve),
        ["too_many_rooms", "too_many_rooms"]
    );
    assert_eq!(cluster.leave(eve, &second), Err(ErrorCode::NotJoined));
    assert_eq!(cluster.hubs[1].counts().slices, 0);
}

#[test]
fn a_direct_message_reaches_every_connection_of_its_user() {
    let mut cluster = cluster(Limits::default());
    let ada = cluster.open(0, 0, "ada");
    let bobs = [(0, 1), (1, 0), (1, 1)].map(|(shard, slot)| cluster.open(shard, slot, "bob"));
    cluster.settle();
    for (to, content) in [("bob", "hello"), ("nobody", "hello?")] {
        let target = Target::Inbox(to.into());
        cluster
            .publish(ada, target, content, Some(content))
            .unwrap();
    }
    cluster.settle();
    for bob in bobs {
        assert_eq!(told(&mut cluster, bob), ["1 ada: hello"]);
        cluster.close(bob);
    }
    let acks: BTreeSet<String> = told(&mut cluster, ada).into_iter().collect();
    assert_eq!(
        acks.into_iter().collect::<Vec<_>>(),
        ["ack hello 1 false", "ack hello? 1 false"]
    );
}

#[test]
fn once_an_inbox_is_open_no_direct_message_passes_it_by() {
    let mut cluster = cluster(Limits::default());
    let ada = cluster.open(0, 0, "ada");
    cluster.settle();
    for (slot, user) in (1..).zip(["bob", "eve", "mallory", "trent"]) {
        let client = cluster.open(1, slot, user);
        // The message leaves at the first moment at which anybody may know of the connection.
        while !cluster.clients[&client].opened {
            let waiting = cluster.waiting();
            cluster.deliver(waiting[0]);
        }
        cluster
            .publish(ada, Target::Inbox(user.into()), "hello", None)
            .unwrap();
        cluster.settle();
        assert_eq!(told(&mut cluster, client), ["1 ada: hello"], "{user}");
    }
}

#[test]
fn a_home_that_starts_again_opens_a_new_epoch() {
    let mut cluster = cluster(Limits::default());
    let room = room_at(&cluster, 1);
    let ada = joined(&mut cluster, 0, 0, "ada", &room);
    let bob = joined(&mut cluster, 2, 0, "bob", &room);
    say(&mut cluster, bob, &room, "before");
    cluster.events(ada);
    let epoch = cluster.hubs[1].homes.position(&room).unwrap().epoch;

    cluster.pass(5);
    cluster.restart(1, |length| length, |_| 0);
    // Bob's shard hears of it first, and bob speaks before ada's shard does.
    cluster.deliver((1, 2, true));
    let target = Target::Room(room.clone());
    cluster.publish(bob, target, "after", None).unwrap();
    while cluster.deliver((2, 1, false)) {}
    cluster.settle();
    assert_eq!(told(&mut cluster, ada), ["reset to 1", "1 bob: after"]);
    assert_eq!(
        told(&mut cluster, bob),
        ["1 bob: before", "reset to 0", "1 bob: after"]
    );
    assert!(cluster.hubs[1].homes.position(&room).unwrap().epoch > epoch);
    let both = ["ada", "bob"].map(Name::from).into_iter().collect();
    assert_eq!(cluster.presence(&room), (2, both));
}

#[test]
fn the_members_of_a_shard_that_dies_are_gone() {
    let mut cluster = cluster(Limits::default());
    let room = room_at(&cluster, 1);
    let ada = joined(&mut cluster, 0, 0, "ada", &room);
    joined(&mut cluster, 2, 0, "bob", &room);
    joined(&mut cluster, 2, 1, "eve", &room);
    let eve = joined(&mut cluster, 0, 1, "eve", &room);
    cluster.events(ada);
    cluster.restart(2, |_| 0, |_| 0);
    cluster.settle();
    assert_eq!(told(&mut cluster, ada), ["-bob"]);
    assert_eq!(
        told(&mut cluster, eve),
        ["-bob"],
        "eve has a connection elsewhere"
    );
    cluster.clients.clear();
}

#[test]
fn answers_to_an_earlier_incarnation_reach_nobody() {
    let mut cluster = cluster(Limits::default());
    let room = room_at(&cluster, 1);
    let old = cluster.open(0, 0, "ada");
    cluster.join(old, &room, None).unwrap();
    cluster.call(0, |hub, effects| {
        hub.history(old.key, room.clone(), None, None, effects)
    });
    cluster.restart(0, |_| 0, |_| 0);
    let new = cluster.open(0, 0, "bob");
    assert_eq!(old, new, "the slot and the generation come again");
    cluster.join(new, &room, None).unwrap();
    while cluster.deliver((0, 1, false)) {}
    cluster.settle();
    assert_eq!(told(&mut cluster, new), ["joined at 0 of 1, false"]);
    assert_eq!(cluster.hubs[0].counts().stale_replies, 2);
    assert_eq!(cluster.presence(&room), (1, ["bob"].map(Name::from).into()));
}

#[test]
fn an_answer_that_comes_after_the_leave_is_dropped() {
    let mut cluster = cluster(Limits::default());
    let room = room_at(&cluster, 1);
    let ada = cluster.open(0, 0, "ada");
    for _ in 0..2 {
        cluster.join(ada, &room, None).unwrap();
        cluster.leave(ada, &room).unwrap();
    }
    cluster.join(ada, &room, None).unwrap();
    cluster.settle();
    assert_eq!(
        told(&mut cluster, ada),
        ["left", "left", "joined at 0 of 1, false"]
    );
    assert_eq!(cluster.counts().stale_replies, 2);
}

#[test]
fn a_stale_key_asks_for_nothing() {
    let mut cluster = cluster(Limits::default());
    let ada = cluster.open(0, 0, "ada");
    cluster.close(ada);
    cluster.settle();
    let clock = cluster.clock;
    let results = cluster.call(0, |hub, effects| {
        [
            hub.join(ada.key, "room".into(), None, effects),
            hub.publish(
                ada.key,
                Target::Inbox("bob".into()),
                "1".into(),
                None,
                clock,
                effects,
            ),
            hub.leave(ada.key, "room", effects),
        ]
    });
    let refused = [
        ErrorCode::BadRequest,
        ErrorCode::BadRequest,
        ErrorCode::NotJoined,
    ];
    assert_eq!(results, refused.map(Err));
    cluster.call(0, |hub, effects| hub.member_close(ada.key, effects));
    assert!(cluster.waiting().is_empty());
    assert_eq!(cluster.hubs[0].member_user(ada.key), None);
}

/// Hands a delivery from shard 1 to shard 0, as if it came by mail.
fn hand(cluster: &mut Cluster, delivery: Delivery) {
    let clock = cluster.clock;
    cluster.call(0, |hub, effects| {
        hub.handle(1, Mail::Delivery(delivery), clock, effects);
    });
}

#[test]
fn mail_that_is_lost_or_comes_twice_is_told_from_the_numbers() {
    let mut cluster = cluster(Limits::default());
    let room = room_at(&cluster, 1);
    let ada = joined(&mut cluster, 0, 0, "ada", &room);
    let epoch = cluster.hubs[1].homes.position(&room).unwrap().epoch;
    let at = |seq| Position { epoch, seq };
    let message = |seq: u64| {
        Arc::new(Message {
            target: Target::Room(room.clone()),
            user: "bob".into(),
            content: seq.to_string().into(),
            seq,
            timestamp_ms: 0,
        })
    };
    // Such mail comes from no cluster: the client is told that it may.
    cluster.restarted = true;
    for seq in [1, 1, 2, 5, 4] {
        let (message, taken_us) = (message(seq), 0);
        hand(&mut cluster, Delivery::Message { message, taken_us });
    }
    assert_eq!(
        told(&mut cluster, ada),
        ["1 bob: 1", "2 bob: 2", "reset to 4", "5 bob: 5"]
    );
    let reset = |position, missed: &[u64]| Delivery::Reset {
        room: room.clone(),
        position,
        missed: missed.iter().map(|seq| message(*seq)).collect(),
    };
    hand(&mut cluster, reset(at(5), &[3, 4, 5]));
    assert_eq!(told(&mut cluster, ada), [""; 0], "nothing was missed");
    hand(&mut cluster, reset(at(7), &[5, 6, 7]));
    assert_eq!(told(&mut cluster, ada), ["6 bob: 6", "7 bob: 7"]);
    hand(&mut cluster, reset(at(9), &[9]));
    assert_eq!(told(&mut cluster, ada), ["reset to 9", "9 bob: 9"]);

    let bob = cluster.open(0, 1, "bob");
    cluster.join(bob, &room, None).unwrap();
    let joined = Delivery::Joined {
        room: room.clone(),
        token: JoinToken {
            member: bob.key,
            attempt: cluster.hubs[0].local.attempt_last,
        },
        position: at(12),
        members: 2,
        recovered: false,
        missed: Vec::new(),
    };
    hand(&mut cluster, joined);
    assert_eq!(told(&mut cluster, ada), ["reset to 12"]);
    assert_eq!(told(&mut cluster, bob), ["joined at 12 of 2, false"]);
}

#[test]
fn mail_for_nobody_is_counted() {
    let mut cluster = cluster(Limits::default());
    let room = Name::from("nobody's");
    let before = cluster.hubs[0].counts().ignored_mails;
    let event = Arc::new(Event::UserLeft {
        room: room.clone(),
        user: "ada".into(),
    });
    hand(
        &mut cluster,
        Delivery::Broadcast {
            room: room.clone(),
            event,
        },
    );
    let reset = Delivery::Reset {
        room,
        position: Position::default(),
        missed: Vec::new(),
    };
    hand(&mut cluster, reset);
    let to = ConnectionKey::new(9, 9);
    let event = Event::Left {
        room: "room".into(),
        reason: None,
    };
    hand(&mut cluster, Delivery::Reply { to, event });
    let counts = cluster.hubs[0].counts();
    assert_eq!(counts.ignored_mails, before + 2);
    assert_eq!(counts.stale_replies, 1);
}

#[test]
fn a_room_is_forgotten_once_nothing_is_left_to_remember() {
    let mut cluster = cluster(Limits::default());
    let room = room_at(&cluster, 1);
    let ada = joined(&mut cluster, 0, 0, "ada", &room);
    say(&mut cluster, ada, &room, "hello");
    let first = cluster.hubs[1].homes.position(&room).unwrap();
    cluster.leave(ada, &room).unwrap();
    cluster.settle();
    assert_eq!(cluster.hubs[1].counts().rooms, 1, "it remembers a message");
    assert!(cluster.hubs[1].counts().history_bytes > 0);
    cluster
        .join(ada, &room, Some(Position { seq: 0, ..first }))
        .unwrap();
    cluster.settle();
    cluster.leave(ada, &room).unwrap();
    assert_eq!(
        told(&mut cluster, ada),
        [
            "1 ada: hello",
            "left",
            "joined at 1 of 1, true",
            "1 ada: hello",
            "left"
        ]
    );
    cluster.pass_until_idle();
    assert_eq!(cluster.hubs[1].counts().rooms, 0);
    assert_eq!(cluster.hubs[1].counts().history_bytes, 0);
    cluster.join(ada, &room, Some(first)).unwrap();
    cluster.settle();
    assert_eq!(told(&mut cluster, ada), ["joined at 0 of 1, false"]);
    assert!(cluster.hubs[1].homes.position(&room).unwrap().epoch > first.epoch);
}

#[test]
fn due_work_is_bounded() {
    let mut cluster = Cluster::new(1, Limits::default());
    for room in 0..200 {
        let target = Target::Room(format!("room {room}").into());
        cluster.call(0, |hub, effects| {
            hub.publish_from_server(from_server(target, "1".into()), effects);
        });
    }
    cluster.settle();
    let counts = [0, 10_000_000, 0, 0, 0].map(|ms| {
        cluster.pass(ms);
        cluster.hubs[0].counts().rooms
    });
    assert_eq!(counts, [200, 136, 72, 8, 0]);
    assert_eq!(cluster.hubs[0].next_due_ms(), None);
}

#[test]
fn a_slot_that_was_never_closed_is_closed_when_it_opens() {
    let mut cluster = cluster(Limits::default());
    let room = room_at(&cluster, 1);
    let ada = joined(&mut cluster, 0, 0, "ada", &room);
    cluster.clients.remove(&ada);
    cluster.open(0, 0, "bob");
    cluster.settle();
    assert_eq!(cluster.presence(&room).0, 0);
    let counts = cluster.counts();
    assert_eq!((counts.members, counts.inboxes, counts.slices), (1, 1, 0));
}

#[test]
fn all_shards_choose_the_same_homes_and_use_all_of_them() {
    let limits = Limits::default();
    let hubs: Vec<Hub> = (0..4).map(|shard| Hub::new(shard, 4, &limits, 9)).collect();
    let other = Hub::new(0, 4, &limits, 10);
    let (mut used, mut apart, mut keyed) = ([0; 4], 0, 0);
    for number in 0..1000 {
        let name = Name::from(format!("name {number}"));
        let (room, inbox) = (Target::Room(name.clone()), Target::Inbox(name));
        let home = hubs[0].home_of(&room);
        assert!(hubs.iter().all(|hub| hub.home_of(&room) == home));
        used[usize::from(home)] += 1;
        apart += u32::from(hubs[0].home_of(&inbox) != home);
        keyed += u32::from(other.home_of(&room) != home);
    }
    assert!(
        used.iter().all(|rooms| (150..350).contains(rooms)),
        "{used:?}"
    );
    assert!(apart > 600, "an inbox does not follow the room of its name");
    assert!(keyed > 600, "the seed decides");
}
