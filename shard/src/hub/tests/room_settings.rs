//! Rooms that differ by the pattern of their names.

use super::cluster::Cluster;
use super::from_server;
use super::scenarios::{joined, say, told};
use crate::hub::event::ErrorCode;
use crate::hub::{Event, Position, Target};
use crate::limits::Limits;
use crate::room_settings::{PresenceMode, Publishers, RoomSettings};

fn entry(pattern: &str) -> RoomSettings {
    RoomSettings::new(pattern.parse().unwrap())
}

fn cluster(entries: &[RoomSettings]) -> Cluster {
    let mut cluster = Cluster::with_rooms(3, Limits::default(), entries);
    cluster.settle();
    cluster
}

#[test]
fn each_room_remembers_what_its_pattern_says() {
    let mut cluster = cluster(&[
        RoomSettings {
            history_messages_max: Some(0),
            ..entry("live.*")
        },
        RoomSettings {
            history_messages_max: Some(2),
            history_age_ms_max: Some(1000),
            ..entry("short.*")
        },
    ]);
    // Messages that are remembered of four, right after them and two seconds later.
    for (slot, (room, at_once, later)) in [("live.a", 0, 0), ("short.a", 2, 0), ("plain", 4, 4)]
        .into_iter()
        .enumerate()
    {
        let client = joined(&mut cluster, 1, slot as u32, "ada", room);
        for number in 1..=4 {
            say(&mut cluster, client, room, &format!("\"{room} {number}\""));
        }
        cluster.events(client);
        for (pass_ms, expected) in [(0, at_once), (2000, later)] {
            cluster.pass(pass_ms);
            cluster.call(client.shard, |hub, effects| {
                hub.history(client.key, room.into(), None, None, effects);
            });
            cluster.settle();
            let events = cluster.events(client);
            let [
                Event::History {
                    messages, position, ..
                },
            ] = &events[..]
            else {
                panic!("{events:?}");
            };
            assert_eq!((messages.len(), position.seq), (expected, 4), "{room}");
        }
    }
    assert!(cluster.counts().history_bytes > 0);
}

#[test]
fn what_is_forgotten_by_pattern_cannot_be_recovered() {
    let mut cluster = cluster(&[RoomSettings {
        history_messages_max: Some(1),
        ..entry("short.*")
    }]);
    for (slot, (room, recovered)) in [("short.a", false), ("plain", true)]
        .into_iter()
        .enumerate()
    {
        let slot = 2 * slot as u32;
        let ada = joined(&mut cluster, 0, slot, "ada", room);
        say(&mut cluster, ada, room, &format!("\"{room} 1\""));
        say(&mut cluster, ada, room, &format!("\"{room} 2\""));
        let bob = cluster.open(1, slot, "bob");
        cluster.settle();
        let Some(Event::Message(first)) = cluster.events(ada).into_iter().next() else {
            panic!("a message comes first");
        };
        assert_eq!(first.seq, 1);
        let epoch = cluster.epoch_of(ada, room);
        cluster
            .join(bob, room, Some(Position { epoch, seq: 0 }))
            .unwrap();
        cluster.settle();
        let joined = format!("joined at 2 of 2, {recovered}");
        assert_eq!(told(&mut cluster, bob)[0], joined, "{room}");
    }
}

/// A room, what a member hears of another who comes and goes, how that one joins, and the count and the names in an answer.
type Case<'a> = (&'a str, &'a [&'a str], &'a str, Option<(u64, usize)>);

#[test]
fn presence_is_individual_a_count_or_nothing() {
    let mut cluster = cluster(&[
        RoomSettings {
            presence: Some(PresenceMode::Off),
            ..entry("off.*")
        },
        RoomSettings {
            presence: Some(PresenceMode::Count),
            ..entry("count.*")
        },
        RoomSettings {
            presence_individual_max: Some(1),
            ..entry("small.*")
        },
    ]);
    let cases: [Case<'_>; 4] = [
        ("off.a", &[], "joined at 0 of 0, false", None),
        (
            "count.a",
            &["2 users", "1 users"],
            "joined at 0 of 2, false",
            Some((1, 0)),
        ),
        (
            "small.a",
            &["2 users", "1 users"],
            "joined at 0 of 2, false",
            Some((1, 1)),
        ),
        (
            "plain",
            &["+bob", "-bob"],
            "joined at 0 of 2, false",
            Some((1, 1)),
        ),
    ];
    for (slot, (room, heard, joined_as, answer)) in cases.into_iter().enumerate() {
        let slot = slot as u32;
        let ada = joined(&mut cluster, 0, slot, "ada", room);
        cluster.pass(2000);
        cluster.settle();
        cluster.events(ada);
        let bob = cluster.open(2, slot, "bob");
        cluster.join(bob, room, None).unwrap();
        cluster.settle();
        assert_eq!(told(&mut cluster, bob)[0], joined_as, "{room}");
        cluster.pass(2000);
        cluster.settle();
        cluster.close(bob);
        cluster.settle();
        cluster.pass(2000);
        cluster.settle();
        assert_eq!(told(&mut cluster, ada), heard, "{room}");
        cluster.call(ada.shard, |hub, effects| {
            hub.presence(ada.key, room.into(), effects);
        });
        cluster.settle();
        match (&cluster.events(ada)[..], answer) {
            ([Event::Presence { count, users, .. }], Some(expected)) => {
                assert_eq!((*count, users.len()), expected, "{room}");
            }
            ([Event::Error { code, .. }], None) => assert_eq!(*code, ErrorCode::Forbidden),
            (other, _) => panic!("{room}: {other:?}"),
        }
    }
}

#[test]
fn what_a_room_does_not_permit_is_refused_before_it_is_sent() {
    let mut cluster = cluster(&[
        RoomSettings {
            publish: Some(Publishers::Server),
            ..entry("news")
        },
        RoomSettings {
            message_size_max: Some(4),
            ..entry("short")
        },
    ]);
    let cases = [
        ("news", "1", Err(ErrorCode::Forbidden)),
        ("short", "1234", Ok(())),
        ("short", "12345", Err(ErrorCode::TooLarge)),
        ("plain", "123456", Ok(())),
    ];
    for (slot, (room, content, expected)) in cases.into_iter().enumerate() {
        let client = joined(&mut cluster, 0, slot as u32, "ada", room);
        let target = Target::Room(room.into());
        let published = cluster.publish(client, target.clone(), content, None);
        assert_eq!(published, expected, "{room}");
        assert_eq!(cluster.waiting().is_empty(), expected.is_err());
        cluster.settle();
        cluster.events(client);
        cluster.call(1, |hub, effects| {
            let content = format!("\"{slot} from the server\"").into();
            hub.publish_from_server(from_server(target, content), effects);
        });
        cluster.settle();
        assert_eq!(
            cluster.events(client).len(),
            1,
            "the server says what it likes in {room}"
        );
    }
}
