//! Faults: a panic in one connection is that connection's affair, a panic of a shard is that shard's.

use serde_json::json;
use std::time::{Duration, Instant};

use crate::client::{Client, End, PATIENCE, members, number};
use crate::server::Server;

/// Rooms enough that each of four shards is home to some.
const ROOMS: usize = 40;

fn room(index: usize) -> String {
    format!("room-{index}")
}

#[test]
fn a_panic_in_one_connection_closes_only_that_one() {
    let server = Server::start_with_faults(&["--shards", "1"]);
    let mut clients = members(&server, "hall", 10);
    let mut victim = Client::connect(&server, "victim");
    victim.join("hall");
    for round in 0..2 {
        victim.send(&json!({"type": "fault", "what": "panic_connection"}));
        match victim.expect_end() {
            End::Closed(code, reason) => assert_eq!(code, 1011, "{reason}"),
            End::Dropped(error) => panic!("dropped without a close frame: {error}"),
        }
        for client in &mut clients {
            assert_eq!(client.expect("user_left")["user"], "victim");
        }
        clients[round].publish("hall", &json!(round));
        for client in &mut clients {
            assert_eq!(client.expect("message")["content"], round);
        }
        victim = Client::connect(&server, "victim");
        victim.join("hall");
    }
}

#[test]
fn without_the_switch_a_fault_is_a_bad_request() {
    let server = Server::start(&["--shards", "2"]);
    let mut ada = Client::connect(&server, "ada");
    ada.send(&json!({"type": "fault", "what": "panic_shard"}));
    assert_eq!(ada.expect("error")["code"], "bad_request");
    ada.heartbeat();
}

#[test]
fn a_panic_of_a_shard_leaves_the_others_working() {
    let server = Server::start_with_faults(&["--shards", "4", "--presence-individual-max", "0"]);
    let mut clients: Vec<Client> = (0..40)
        .map(|index| Client::connect(&server, &format!("member-{index}")))
        .collect();
    let mut epochs = vec![0; ROOMS];
    for client in &mut clients {
        for (index, epoch) in epochs.iter_mut().enumerate() {
            *epoch = number(&client.join(&room(index)), "epoch");
        }
    }
    let mut victim = clients.pop().expect("there are members");
    victim.send(&json!({"type": "fault", "what": "panic_shard"}));
    victim.expect_end();

    // Connections of the same shard end with it; all others answer.
    clients.retain_mut(|client| client.try_heartbeat().is_ok());
    assert!(
        (1..39).contains(&clients.len()),
        "{} of 39 connections survived the end of one shard of four",
        clients.len()
    );

    let mut reset = 0;
    for (index, epoch) in epochs.iter().enumerate() {
        let before = *epoch;
        let now = publish_until_delivered(&mut clients, &room(index), before);
        reset += usize::from(now != before);
    }
    assert!(
        (1..ROOMS).contains(&reset),
        "{reset} of {ROOMS} rooms lost their home with one shard of four"
    );

    let mut newcomers: Vec<Client> = (0..20).map(|_| connect_again(&server)).collect();
    for client in &mut newcomers {
        client.join("after");
    }
    newcomers[0].publish("after", &json!("all well"));
    for client in &mut newcomers {
        assert_eq!(client.expect_in("message", "after")["content"], "all well");
    }
}

/// Publishes until a message reaches every member, and returns the room's epoch. Where the home was restarted, every
/// member was told of the new epoch by then.
fn publish_until_delivered(clients: &mut [Client], room: &str, before: u64) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    for attempt in 0.. {
        assert!(Instant::now() < deadline, "{room} did not come back");
        let content = format!("attempt {attempt} in {room}");
        let id = format!("{attempt}-{room}");
        clients[0].send(&json!({"type": "message", "room": room, "content": content, "id": id}));
        let answer = clients[0].expect_where("an answer to the publish", |object| {
            object["id"] == id && (object["type"] == "ack" || object["type"] == "error")
        });
        if answer["type"] == "error" {
            assert_eq!(answer["code"], "unavailable", "{answer}");
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        let epochs: Vec<u64> = clients
            .iter_mut()
            .map(|client| {
                client.expect_where(&content, |object| {
                    object["type"] == "message" && object["content"] == content.as_str()
                });
                let resets = client.take_unclaimed_in("reset", room);
                resets
                    .iter()
                    .map(|reset| number(reset, "epoch"))
                    .next_back()
                    .unwrap_or(before)
            })
            .collect();
        assert!(
            epochs.iter().all(|epoch| *epoch == epochs[0]),
            "{room}: {epochs:?}"
        );
        assert!(epochs[0] >= before, "epochs grow");
        return epochs[0];
    }
    unreachable!("attempts are not bounded");
}

/// Connects while the shard that the kernel may choose is still being started again.
fn connect_again(server: &Server) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Client::try_connect(server, "newcomer") {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "cannot connect again: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
