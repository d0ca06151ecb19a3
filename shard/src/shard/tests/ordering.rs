//! Orders of other threads: what they are answered, and that they look at a bounded part of what there is.

use std::sync::Mutex;

use super::*;
use crate::hub::Position;
use crate::hub::event::ErrorCode;
use crate::orders::{
    Activity, BUSIEST_MAX, CLOSES_PER_ORDER_MAX, Closed, ENTRIES_PER_ORDER_MAX, Page, Published,
    Recalled, Reply, RoomMember, RoomState, SLOWEST_MAX, UserConnections, WATCH_US_MAX, Whose,
};

/// Joins the rooms that messages name.
struct Joining;

impl App for Joining {
    fn on_upgrade(
        &mut self,
        _: &mut Context<'_>,
        request: &UpgradeRequest<'_>,
    ) -> Result<Upgrade, Refusal> {
        Ok(Upgrade::of(request.header("user").unwrap_or_default()))
    }

    fn on_message(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        message: Message<'_>,
    ) {
        let room = String::from_utf8_lossy(message.payload);
        context
            .join(connection, room.as_ref().into(), None)
            .unwrap();
    }

    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> Option<MessageKind> {
        let text = match event {
            Event::Message(message) => format!("{}:{}", message.user, message.seq),
            _ => return None,
        };
        out.extend_from_slice(text.as_bytes());
        Some(MessageKind::Text)
    }
}

fn rig(shards: u16, limits: Limits) -> Rig<Joining> {
    let compression = Compression::default();
    Rig::running(
        1,
        shards,
        limits,
        SlowConsumer::Disconnect,
        compression,
        || Joining,
    )
}

impl Rig<Joining> {
    fn member(&mut self, user: &str, rooms: &[&str]) -> SimWebSocket {
        let mut client = self.client_with(&[("user", user)]);
        for room in rooms {
            client.send_text(room);
        }
        client.step(usize::MAX);
        self.settle_all();
        client.step(usize::MAX);
        client
    }

    fn settle_all(&mut self) {
        for _ in 0..4 {
            for shard in 0..self.shards.len() {
                self.rest(shard);
            }
        }
    }

    /// Gives an order to a shard; its answer, or `None` where it was dropped.
    fn order<T: Send + 'static>(
        &mut self,
        shard: usize,
        order: impl FnOnce(Reply<T>) -> Order,
    ) -> Option<T> {
        let answer: Arc<Mutex<Option<T>>> = Arc::default();
        let place = Arc::clone(&answer);
        let reply = Reply::new(move |answer| *place.lock().unwrap() = Some(answer));
        let order = Control::Order(Box::new(order(reply)));
        self.controls[shard].send(order).unwrap();
        self.settle_all();
        answer.lock().unwrap().take()
    }

    fn home_of(&self, room: &str) -> usize {
        let target = Target::Room(room.into());
        usize::from(self.core().hub.home_of(&target))
    }

    fn publish(
        &mut self,
        shard: usize,
        room: &str,
        id: Option<&str>,
    ) -> Option<Result<Published, ErrorCode>> {
        let publication = Publication {
            user: "server".into(),
            target: Target::Room(room.into()),
            content: Bytes::from_static(b"1"),
            id: id.map(Into::into),
        };
        self.order(shard, |reply| Order::Publish {
            publication,
            reply: Some(reply),
        })
    }
}

#[test]
fn a_publication_is_answered_with_its_place_and_a_repeat_with_the_same() {
    let mut rig = rig(2, Limits::default());
    let mut ada = rig.member("ada", &["tea"]);
    let home = rig.home_of("tea");
    let numbers: Vec<(u64, bool)> = [Some("a"), None, Some("a"), Some("b")]
        .into_iter()
        .map(|id| rig.publish(home, "tea", id).unwrap().unwrap())
        .map(|published| (published.position.seq, published.duplicate))
        .collect();
    assert_eq!(numbers, [(1, false), (2, false), (1, true), (3, false)]);
    let heard = texts(ada.step(usize::MAX));
    assert_eq!(heard, ["server:1", "server:2", "server:3"]);
    let elsewhere = rig.publish(1 - home, "tea", None);
    assert_eq!(elsewhere, Some(Err(ErrorCode::Unavailable)));
    rig.settle_all();
    assert!(
        texts(ada.step(usize::MAX)).is_empty(),
        "nothing was published"
    );
}

#[test]
fn a_publication_that_nobody_asks_about_goes_from_any_shard_and_once_for_its_id() {
    let mut rig = rig(2, Limits::default());
    let mut ada = rig.member("ada", &["tea"]);
    for shard in [0, 1, 0] {
        let publication = Publication {
            user: "server".into(),
            target: Target::Room("tea".into()),
            content: Bytes::from_static(b"1"),
            id: Some("a".into()),
        };
        rig.controls[shard].send(publication.into()).unwrap();
        rig.settle_all();
    }
    assert_eq!(texts(ada.step(usize::MAX)), ["server:1"]);
}

#[test]
fn a_room_tells_how_it_stands() {
    let mut rig = rig(2, Limits::default());
    let _clients = [
        rig.member("ada", &["tea", "milk"]),
        rig.member("ada", &["tea"]),
        rig.member("bob", &["tea"]),
    ];
    let home = rig.home_of("tea");
    let Published { position, .. } = rig.publish(home, "tea", None).unwrap().unwrap();
    let state = rig.order(home, |reply| Order::Room {
        room: "tea".into(),
        reply,
    });
    let RoomState {
        room,
        users,
        connections,
        position: told,
        last_unix_ms,
        history_messages,
        history_bytes,
    } = state.flatten().unwrap();
    assert_eq!((room.as_str(), users, connections), ("tea", 2, 3));
    assert_eq!((told, history_messages), (position, 1));
    assert!(last_unix_ms.is_some() && history_bytes > 0);

    let members: Option<Option<Page<RoomMember>>> = rig.order(home, |reply| Order::Members {
        room: "tea".into(),
        from: 0,
        limit: 10,
        reply,
    });
    let members = members.flatten().unwrap();
    let mut found: Vec<_> = members
        .entries
        .iter()
        .map(|m| (m.user.as_str(), m.connections))
        .collect();
    found.sort_unstable();
    assert_eq!((found, members.next), (vec![("ada", 2), ("bob", 1)], None));

    let recall = |since| {
        move |reply| Order::History {
            room: "tea".into(),
            since,
            limit: 10,
            reply,
        }
    };
    let recalled: Option<Recalled> = rig.order(home, recall(None)).flatten();
    let recalled = recalled.unwrap();
    assert_eq!((recalled.messages.len(), recalled.complete), (1, true));
    let after = rig.order(home, recall(Some(position))).flatten().unwrap();
    assert_eq!((after.messages.len(), after.complete), (0, true));
    let gone = Position { epoch: 1, seq: 1 };
    assert!(
        !rig.order(home, recall(Some(gone)))
            .flatten()
            .unwrap()
            .complete
    );

    for missing in ["nothing", "te"] {
        let home = rig.home_of(missing);
        let state = rig.order(home, |reply| Order::Room {
            room: missing.into(),
            reply,
        });
        assert_eq!(state, Some(None), "{missing}");
    }
}

#[test]
fn rooms_come_in_pages_of_a_bounded_search() {
    let mut rig = rig(1, Limits::default());
    let rooms = ENTRIES_PER_ORDER_MAX * 2 + 300;
    for number in 0..rooms {
        let name = match number % 700 {
            0 => format!("rare-{number}"),
            _ => format!("often-{number}"),
        };
        let publication = Publication {
            user: "server".into(),
            target: Target::Room(name.into()),
            content: Bytes::from_static(b"1"),
            id: None,
        };
        rig.controls[0].send(publication.into()).unwrap();
        if number % 500 == 0 {
            rig.rest(0);
        }
    }
    rig.rest(0);
    for (prefix, limit, expected, pages_min) in [
        ("", 100, rooms, 23),
        ("rare-", 100, 4, 3),
        ("none", 1, 0, 3),
    ] {
        let (mut from, mut names, mut pages) = (Some(0), Vec::new(), 0);
        while let Some(place) = from {
            let page: Page<RoomState> = rig
                .order(0, |reply| Order::Rooms {
                    prefix: prefix.into(),
                    from: place,
                    limit,
                    reply,
                })
                .unwrap();
            assert!(page.entries.len() <= limit);
            names.extend(page.entries.into_iter().map(|room| room.room));
            from = page.next;
            pages += 1;
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), expected, "{prefix}");
        assert!(pages >= pages_min, "{pages} pages of {prefix:?}");
    }
}

#[test]
fn connections_are_told_and_closed() {
    let mut rig = rig(1, Limits::default());
    let mut ada = rig.member("ada", &["tea", "milk"]);
    let mut other = rig.member("ada", &[]);
    let mut bob = rig.member("bob", &["tea"]);
    let told: UserConnections = rig
        .order(0, |reply| Order::Connections {
            whose: Whose::User("ada".into()),
            limit: 10,
            reply,
        })
        .unwrap();
    assert_eq!((told.count, told.connections.len()), (2, 2));
    let mut rooms: Vec<_> = told
        .connections
        .iter()
        .flat_map(|c| c.rooms.clone())
        .collect();
    rooms.sort_unstable();
    assert_eq!(rooms, ["milk", "tea"]);

    let close = |whose| {
        move |reply| Order::Close {
            whose,
            code: crate::ws::close::FORBIDDEN,
            reason: "go".into(),
            reply,
        }
    };
    let key = told.connections[0].key;
    let closed = rig.order(0, close(Whose::Connection(key)));
    assert_eq!(closed, Some(Closed { closed: 1, left: 0 }));
    assert_eq!(
        rig.order(0, close(Whose::Connection(key))),
        Some(Closed::default()),
        "it is closing already"
    );
    let closed = rig.order(0, close(Whose::User("ada".into())));
    assert_eq!(closed, Some(Closed { closed: 1, left: 0 }));
    let is_closed = |client: &mut SimWebSocket| {
        let events = client.step(usize::MAX);
        events.iter().any(|event| {
            matches!(
                event,
                SimEvent::Close {
                    code: Some(4403),
                    ..
                }
            )
        })
    };
    assert!(is_closed(&mut ada) && is_closed(&mut other) && !is_closed(&mut bob));
    assert_eq!(rig.stats[0].close_ordered.value(), 2);
    assert_eq!(rig.shards[0].counts().hub.members, 1);
}

#[test]
fn a_crowd_of_one_user_is_closed_in_parts() {
    let mut rig = rig(1, Limits::default());
    let crowd = CLOSES_PER_ORDER_MAX + 20;
    let mut clients = Vec::new();
    for _ in 0..crowd {
        clients.push(rig.member("ada", &[]));
        // Slower than the pace of accepting.
        rig.advance_ms(20);
    }
    let mut left = Vec::new();
    loop {
        let closed: Closed = rig
            .order(0, |reply| Order::Close {
                whose: Whose::User("ada".into()),
                code: 1008,
                reason: "".into(),
                reply,
            })
            .unwrap();
        left.push((closed.closed, closed.left));
        if closed.left == 0 {
            break;
        }
    }
    assert_eq!(left, [(CLOSES_PER_ORDER_MAX as u64, 20), (20, 0)]);
}

#[test]
fn an_answer_that_panics_ends_nothing() {
    let mut rig = rig(1, Limits::default());
    let reply = Reply::new(|_| panic!("whoever asked has a fault"));
    let order = Control::Order(Box::new(Order::Counts { reply }));
    rig.controls[0].send(order).unwrap();
    rig.rest(0);
    assert_eq!(rig.stats[0].panics.value(), 1);
    assert_eq!(
        rig.order(0, |reply| Order::Counts { reply })
            .unwrap()
            .connections,
        0
    );
}

fn busiest(activity: &Activity) -> Vec<(&str, u64, u64, u64)> {
    let rooms = activity.busiest_rooms.iter();
    rooms
        .map(|room| {
            (
                room.room.as_str(),
                room.messages,
                room.deliveries,
                room.members,
            )
        })
        .collect()
}

#[test]
fn rooms_are_counted_while_somebody_looks() {
    let mut rig = rig(1, Limits::default());
    let _members = [
        rig.member("ada", &["tea", "milk"]),
        rig.member("bob", &["tea"]),
    ];
    let look = |rig: &mut Rig<Joining>| rig.order(0, |reply| Order::Activity { reply }).unwrap();
    rig.publish(0, "tea", None);
    let first = look(&mut rig);
    assert_eq!((first.counted_us, busiest(&first)), (0, vec![]));
    for room in ["tea", "milk", "tea", "empty"] {
        rig.publish(0, room, None);
    }
    rig.advance_ms(500);
    let second = look(&mut rig);
    assert!(
        (500_000..600_000).contains(&second.counted_us),
        "{second:?}"
    );
    assert_eq!(busiest(&second), [("tea", 2, 4, 2), ("milk", 1, 1, 1)]);
    rig.publish(0, "milk", None);
    assert_eq!(busiest(&look(&mut rig)), [("milk", 1, 1, 1)]);
    rig.advance_ms(WATCH_US_MAX / 1000 + 1);
    rig.settle_all();
    assert!(
        rig.shards[0].core.watch.is_none(),
        "nobody has looked for a while"
    );
    rig.publish(0, "tea", None);
    assert_eq!(look(&mut rig).counted_us, 0);
}

#[test]
fn a_look_tells_of_a_bounded_number_of_rooms() {
    let mut rig = rig(
        1,
        Limits {
            rooms_per_connection_max: 100,
            ..Limits::default()
        },
    );
    let names: Vec<String> = (0..2 * BUSIEST_MAX).map(|n| format!("room-{n}")).collect();
    let rooms: Vec<&str> = names.iter().map(String::as_str).collect();
    let _member = rig.member("ada", &rooms);
    let look = |rig: &mut Rig<Joining>| rig.order(0, |reply| Order::Activity { reply }).unwrap();
    look(&mut rig);
    for room in rooms {
        rig.publish(0, room, None);
    }
    rig.publish(0, "room-39", None);
    let activity = look(&mut rig);
    assert_eq!(activity.busiest_rooms.len(), BUSIEST_MAX);
    assert_eq!(busiest(&activity)[0], ("room-39", 2, 2, 1));
}

#[test]
fn those_that_do_not_read_are_found_the_slowest_first() {
    let mut rig = rig(1, Limits::default());
    let mut members: Vec<SimWebSocket> = (0..SLOWEST_MAX + 5)
        .map(|number| rig.member(&format!("user-{number}"), &["tea"]))
        .collect();
    let look = |rig: &mut Rig<Joining>| rig.order(0, |reply| Order::Activity { reply }).unwrap();
    assert!(look(&mut rig).slow_consumers.is_empty());
    // Everybody is told of somebody with a very long name; the first hears it all, the second some of it, the others nothing.
    for _ in 0..20 {
        let publication = Publication {
            user: "x".repeat(10_000).as_str().into(),
            target: Target::Room("tea".into()),
            content: Bytes::from_static(b"1"),
            id: None,
        };
        rig.order(0, |reply| Order::Publish {
            publication,
            reply: Some(reply),
        });
        members[0].step(usize::MAX);
        members[1].step(1_000);
        rig.settle_all();
    }
    let slow = look(&mut rig).slow_consumers;
    assert_eq!(slow.len(), SLOWEST_MAX);
    assert!(slow.is_sorted_by(|one, next| one.outbox_bytes >= next.outbox_bytes));
    let users: Vec<&str> = slow.iter().map(|slow| slow.user.as_str()).collect();
    assert!(
        !users.contains(&"user-0") && !users.contains(&"user-1"),
        "{users:?}"
    );
    assert!(slow[SLOWEST_MAX - 1].outbox_bytes > 100_000, "{slow:?}");
}
