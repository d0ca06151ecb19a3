//! Memory: what an idle connection costs in user memory, measured from outside.

use serde_json::json;
use std::ops::Range;
use std::time::Duration;

use crate::raw::RawClient;
use crate::server::Server;
use crate::system;

/// Connections before the first measurement: what is allocated once is there by then.
const BEFORE: usize = 1_000;

/// Connections at the second measurement.
const AFTER: usize = 15_000;

const ROOM_SIZE: usize = 100;
const THREADS: usize = 4;

/// Bytes of user memory that a connection in one room may cost.
const BYTES_MAX: u64 = 256;

fn open(port: u16, connections: Range<usize>) -> Vec<RawClient> {
    connections
        .map(|index| {
            let mut client = RawClient::open(port, &format!("u{index}"));
            client.send(&json!({"type": "join", "room": format!("r{}", index / ROOM_SIZE)}));
            client.expect("joined");
            client
        })
        .collect()
}

/// Opens these connections from several threads.
fn open_in_parallel(port: u16, connections: Range<usize>) -> Vec<RawClient> {
    let share = connections.len().div_ceil(THREADS);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let start = connections.start + thread * share;
                let end = (start + share).min(connections.end);
                scope.spawn(move || open(port, start..end))
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

#[test]
fn an_idle_connection_in_a_room_costs_little() {
    let _turn = system::many_connections(AFTER as u64);
    let server = Server::start(&[
        "--shards",
        "2",
        // Idle: neither heartbeats nor announcements while it is measured.
        "--heartbeat-ms",
        "3600000",
        "--presence-individual-max",
        "0",
    ]);
    let mut clients = open_in_parallel(server.port(), 0..BEFORE);
    let before = settled_bytes(&server);
    clients.extend(open_in_parallel(server.port(), BEFORE..AFTER));
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
