//! Load: ten thousand connections on two shards, without an error or a drop.

use serde_json::json;
use std::ops::Range;
use std::sync::Barrier;

use crate::client::number;
use crate::raw::RawClient;
use crate::server::Server;
use crate::system;

const CONNECTIONS: usize = 10_000;
const ROOM_SIZE: usize = 100;
const MESSAGES: u64 = 4;
const THREADS: usize = 4;

/// Connects the members of one room after the other.
fn open_rooms(port: u16, rooms: Range<usize>) -> Vec<Vec<RawClient>> {
    rooms
        .map(|room| {
            (1..=ROOM_SIZE as u64)
                .map(|member| {
                    let mut client = RawClient::open(port, &format!("u{room}-{member}"));
                    client.send(&json!({"type": "join", "room": format!("room-{room}")}));
                    assert_eq!(number(&client.expect("joined"), "members"), member);
                    client
                })
                .collect()
        })
        .collect()
}

/// Publishes in every room, from another member each time.
fn publish(rooms: &mut [Vec<RawClient>], first_room: usize) {
    for seq in 1..=MESSAGES {
        for (members, room) in rooms.iter_mut().zip(first_room..) {
            let publisher = (room + seq as usize * 31) % ROOM_SIZE;
            members[publisher]
                .send(&json!({"type": "message", "room": format!("room-{room}"), "content": room}));
        }
    }
}

/// Every member receives every message of its room exactly once. A repeat or a stranger's message would
/// stand in the place of the next number.
fn receive(rooms: &mut [Vec<RawClient>], first_room: usize) {
    for (members, room) in rooms.iter_mut().zip(first_room..) {
        for client in members {
            for seq in 1..=MESSAGES {
                let message = client.expect("message");
                assert_eq!(number(&message, "seq"), seq, "room {room}");
                assert_eq!(message["content"], room);
            }
        }
    }
}

#[test]
fn two_shards_carry_ten_thousand_connections() {
    let _turn = system::many_connections(CONNECTIONS as u64);
    let server = Server::start(&["--shards", "2", "--heartbeat-ms", "120000"]);
    let port = server.port();
    let rooms_each = CONNECTIONS / ROOM_SIZE / THREADS;
    let all_open = Barrier::new(THREADS);
    let groups: Vec<Vec<Vec<RawClient>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let all_open = &all_open;
                scope.spawn(move || {
                    let first_room = thread * rooms_each;
                    // A thread that fails must not leave the others waiting: it arrives all the same.
                    let opened = std::panic::catch_unwind(|| {
                        open_rooms(port, first_room..first_room + rooms_each)
                    });
                    all_open.wait();
                    let mut rooms = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                    publish(&mut rooms, first_room);
                    receive(&mut rooms, first_room);
                    rooms
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("every room is served"))
            .collect()
    });
    let connections: usize = groups.iter().flatten().map(Vec::len).sum();
    assert_eq!(connections, CONNECTIONS);
}
