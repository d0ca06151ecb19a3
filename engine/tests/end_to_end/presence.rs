//! Presence: each user in small rooms, a count in large ones, and an answer to whoever asks.

use serde_json::{Value, json};

use crate::client::{Client, members, number};
use crate::server::Server;

fn names(presence: &Value) -> Vec<String> {
    let mut names: Vec<String> = presence["users"]
        .as_array()
        .expect("an answer lists users")
        .iter()
        .map(|name| name.as_str().expect("names are strings").to_owned())
        .collect();
    names.sort();
    names
}

fn ask(client: &mut Client, room: &str) -> Value {
    client.send(&json!({"type": "presence", "room": room}));
    client.expect_where("an answer to a presence request", |object| {
        object["type"] == "presence" && object["room"] == room && object["users"].is_array()
    })
}

#[test]
fn a_presence_request_is_answered_with_every_user_once() {
    let server = Server::start(&["--shards", "4"]);
    let mut clients: Vec<Client> = ["ada", "bob", "cleo", "ada"]
        .into_iter()
        .map(|user| {
            let mut client = Client::connect(&server, user);
            client.join("hall");
            client
        })
        .collect();
    for client in &mut clients {
        let presence = ask(client, "hall");
        assert_eq!(presence["count"], 3);
        assert_eq!(names(&presence), ["ada", "bob", "cleo"]);
    }
    let mut bob = clients.remove(1);
    bob.send(&json!({"type": "leave", "room": "hall"}));
    bob.expect("left");
    clients[0].expect("user_left");
    assert_eq!(names(&ask(&mut clients[0], "hall")), ["ada", "cleo"]);
}

#[test]
fn a_long_list_is_cut_and_the_count_is_whole() {
    let server = Server::start(&["--shards", "2", "--presence-list-max", "3"]);
    let mut clients = members(&server, "hall", 8);
    let presence = ask(&mut clients[7], "hall");
    assert_eq!(presence["count"], 8);
    assert_eq!(names(&presence).len(), 3);
}

#[test]
fn a_large_room_is_told_counts_in_place_of_names() {
    let server = Server::start(&[
        "--shards",
        "4",
        "--presence-individual-max",
        "5",
        "--presence-count-ms",
        "200",
    ]);
    let mut clients = members(&server, "hall", 12);
    clients[0].expect_where("a count of 12", |object| {
        object["type"] == "presence" && object["count"] == 12
    });
    let announced = clients[0].take_unclaimed("user_joined");
    let users: Vec<_> = announced.iter().map(|object| &object["user"]).collect();
    assert_eq!(users, ["member-1", "member-2", "member-3", "member-4"]);
    let counts = clients[0].take_unclaimed("presence");
    assert!(
        counts
            .iter()
            .all(|count| number(count, "count") > 5 && count["room"] == "hall"),
        "{counts:?}"
    );

    clients.truncate(9);
    clients[0].expect_where("a count of 9", |object| {
        object["type"] == "presence" && object["count"] == 9
    });
    assert!(clients[0].take_unclaimed("user_left").is_empty());
}
