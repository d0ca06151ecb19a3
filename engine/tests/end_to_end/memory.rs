//! Memory: what an idle connection costs in user memory, measured from outside.

use serde_json::json;
use std::ops::Range;
use std::time::Duration;

use crate::raw::{FINAL_TEXT, PING, PONG, RawClient, upgrade_request};
use crate::server::Server;
use crate::system;

/// Connections before the first measurement: what is allocated once is there by then.
const BEFORE: usize = 1_000;

/// Connections at the second measurement.
const AFTER: usize = 15_000;

/// The same where connections with and without compression are compared.
const COMPARED_AFTER: usize = 11_000;

const ROOM_SIZE: usize = 100;
const THREADS: usize = 4;

/// Bytes of user memory that a connection in one room may cost.
const BYTES_MAX: u64 = 256;

/// What a connection says about compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    Nothing,
    Deflate,
}

/// A member of a room. Where it has offered compression, it has sent and been sent a compressed message.
fn member(port: u16, index: usize, offer: Offer) -> RawClient {
    let user = format!("u{index}");
    let join = json!({"type": "join", "room": format!("r{}", index / ROOM_SIZE)});
    if offer == Offer::Nothing {
        let mut client = RawClient::open(port, &user);
        client.send(&join);
        client.expect("joined");
        return client;
    }
    let mut client = RawClient::connect(port);
    let header = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    client.send_bytes(upgrade_request(&format!("/ws?user={user}"), header).as_bytes());
    let response = client.response();
    let agreed = response.header("Sec-WebSocket-Extensions");
    assert!(agreed.is_some(), "{response:?}");
    client.send_frame(COMPRESSED | FINAL_TEXT, &stored(&join.to_string()));
    // The welcome and the answer to the join.
    for _ in 0..2 {
        let frame = client
            .frame()
            .expect("a frame")
            .expect("the stream goes on");
        assert_eq!(frame.first, COMPRESSED | FINAL_TEXT, "it is compressed");
    }
    client
}

/// RSV1: the message is compressed (RFC 7692, section 6).
const COMPRESSED: u8 = 0x40;

/// A text as a compressed message: one stored block (RFC 1951, section 3.2.4), and the byte that begins an empty one, whose rest a
/// message lacks (RFC 7692, section 7.2.1).
fn stored(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    let mut bytes = vec![0];
    bytes.extend(length.to_le_bytes());
    bytes.extend((!length).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

fn open(port: u16, connections: Range<usize>, offer: Offer) -> Vec<RawClient> {
    connections
        .map(|index| member(port, index, offer))
        .collect()
}

/// Opens these connections from several threads.
fn open_in_parallel(port: u16, connections: Range<usize>, offer: Offer) -> Vec<RawClient> {
    let share = connections.len().div_ceil(THREADS);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let start = connections.start + thread * share;
                let end = (start + share).min(connections.end);
                scope.spawn(move || open(port, start..end, offer))
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("every connection opens"))
            .collect()
    })
}

/// Resident memory when it no longer changes: queued output has left and its memory was given back.
fn settled_bytes(server: &Server) -> u64 {
    let mut last = system::resident_bytes(server.pid());
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(500));
        let now = system::resident_bytes(server.pid());
        if now == last {
            break;
        }
        last = now;
    }
    last
}

/// Idle: neither heartbeats nor announcements while it is measured.
const IDLE: [&str; 6] = [
    "--shards",
    "2",
    "--heartbeat-ms",
    "3600000",
    "--presence-individual-max",
    "0",
];

#[test]
fn an_idle_connection_in_a_room_costs_little() {
    let _turn = system::many_connections(AFTER as u64);
    let server = Server::start(&IDLE);
    let mut clients = open_in_parallel(server.port(), 0..BEFORE, Offer::Nothing);
    let before = settled_bytes(&server);
    clients.extend(open_in_parallel(
        server.port(),
        BEFORE..AFTER,
        Offer::Nothing,
    ));
    let after = settled_bytes(&server);

    let connections = (AFTER - BEFORE) as u64;
    let each = after.saturating_sub(before) / connections;
    println!(
        "an idle connection in one room costs {each} B of user memory \
         ({before} B resident with {BEFORE} connections, {after} B with {AFTER})"
    );
    assert!(
        each <= BYTES_MAX,
        "{each} B a connection, and {BYTES_MAX} B are the bound"
    );
    // All of them are still there.
    for client in clients.iter_mut().step_by(500) {
        client.send(&json!({"type": "heartbeat"}));
        client.expect("heartbeat");
    }
}

/// Bytes that ten thousand more connections cost a server whose shards have inflated and compressed before.
fn cost_of_ten_thousand(offer: Offer) -> u64 {
    let server = Server::start(&[&IDLE[..], &["--compressed-bytes-min", "1"]].concat());
    let mut clients = open_in_parallel(server.port(), 0..BEFORE, offer);
    let before = settled_bytes(&server);
    clients.extend(open_in_parallel(
        server.port(),
        BEFORE..COMPARED_AFTER,
        offer,
    ));
    let after = settled_bytes(&server);
    // All of them are still there.
    for client in clients.iter_mut().step_by(500) {
        client.send_frame(PING, b"there?");
        // The room may have said something meanwhile.
        while client
            .frame()
            .expect("a frame")
            .expect("the stream goes on")
            .first
            != PONG
        {}
    }
    after.saturating_sub(before)
}

#[test]
fn an_idle_connection_that_agreed_on_compression_costs_no_more() {
    let _turn = system::many_connections(COMPARED_AFTER as u64);
    let connections = COMPARED_AFTER - BEFORE;
    // How high queued output piles up while they connect varies, so one comparison in three has to hold.
    let holds = (0..3).any(|_| {
        let [plain, compressed] = [Offer::Nothing, Offer::Deflate].map(cost_of_ten_thousand);
        println!(
            "{connections} idle connections cost {plain} B of user memory, and {compressed} B where they agreed on compression ({:+.1}%)",
            (compressed as f64 / plain as f64 - 1.0) * 100.0
        );
        compressed <= plain + plain / 20
    });
    assert!(holds, "compression costs more than 5%");
}
