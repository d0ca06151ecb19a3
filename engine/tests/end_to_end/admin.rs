//! The admin API: what it tells agrees with what clients do, and what it orders happens to them.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, End, members, number};
use crate::file::File;
use crate::http::Admin;
use crate::server::Server;
use crate::starts::{failure, refusal};

/// How long something that the server does by itself may take.
const PATIENCE: Duration = Duration::from_secs(30);

const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];

fn start(arguments: &[&str]) -> (Server, Admin) {
    let server = Server::start(&[&ADMIN[..], arguments].concat());
    let admin = Admin::of(&server);
    (server, admin)
}

/// Asks until the answer is as expected.
fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what} has not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Code and reason with which the server closes.
fn close_frame(client: &mut Client) -> (u16, String) {
    match client.expect_end() {
        End::Closed(code, reason) => (code, reason),
        End::Dropped(error) => panic!("not closed by a frame: {error}"),
    }
}

#[test]
fn what_is_published_reaches_rooms_and_users_once() {
    let (server, admin) = start(&["--shards", "3"]);
    let mut clients = members(&server, "tea", 4);
    let body = json!({"content": {"steep": [1, 2.50, "ü"]}, "user": "kettle", "id": "a"});
    let receipt = admin.post("/v1/rooms/tea/messages", &body).ok();
    assert_eq!(receipt["duplicate"], false);
    let again = admin.post("/v1/rooms/tea/messages", &body).ok();
    assert_eq!(
        (&again["seq"], &again["duplicate"]),
        (&receipt["seq"], &json!(true))
    );
    let key = [("Idempotency-Key", "b")];
    let plain = json!({"content": "second"});
    for duplicate in [false, true] {
        let receipt = admin.post_with("/v1/rooms/tea/messages", &plain, &key).ok();
        assert_eq!(receipt["duplicate"], duplicate);
    }
    for client in &mut clients {
        let first = client.expect_in("message", "tea");
        assert_eq!(first["content"], body["content"]);
        assert_eq!(
            (&first["user"], &first["seq"]),
            (&json!("kettle"), &receipt["seq"])
        );
        let second = client.expect_in("message", "tea");
        assert_eq!(
            (&second["content"], &second["user"]),
            (&json!("second"), &json!("server"))
        );
        client.heartbeat();
        assert!(client.take_unclaimed_in("message", "tea").is_empty());
    }

    let mut ada = [
        Client::connect(&server, "ada"),
        Client::connect(&server, "ada"),
    ];
    admin
        .post("/v1/users/ada/messages", &json!({"content": 7}))
        .ok();
    for client in &mut ada {
        let direct = client.expect("direct");
        assert_eq!(
            (&direct["from"], &direct["content"]),
            (&json!("server"), &json!(7))
        );
    }
}

#[test]
fn many_messages_go_in_their_order_and_a_repeat_adds_only_what_was_missing() {
    let (server, admin) = start(&["--shards", "3", "--id-size-max", "64"]);
    let mut clients = members(&server, "tea", 2);
    let messages: Vec<Value> = (0..200)
        .map(|number| json!({"room": if number % 2 == 0 { "tea" } else { "milk" }, "content": number}))
        .collect();
    let key = [("Idempotency-Key", "batch-1")];
    let some = json!({"messages": messages[..150]});
    let all = json!({"messages": messages});
    let first = admin.post_with("/v1/messages", &some, &key).ok();
    assert_eq!(
        (&first["published"], &first["refused"]),
        (&json!(150), &json!(0))
    );
    let second = admin.post_with("/v1/messages", &all, &key).ok();
    let repeats = |results: &Value| {
        let results = results.as_array().unwrap().iter();
        results.filter(|result| result["duplicate"] == true).count()
    };
    assert_eq!(
        (repeats(&first["results"]), repeats(&second["results"])),
        (0, 150)
    );
    for client in &mut clients {
        let heard: Vec<u64> = (0..100)
            .map(|_| number(&client.expect_in("message", "tea"), "content"))
            .collect();
        let expected: Vec<u64> = (0..100).map(|place| 2 * place).collect();
        assert_eq!(heard, expected);
    }
    let mixed = json!({"messages": [
        {"room": "tea", "content": 1},
        {"room": "", "content": 1},
        {"room": "tea", "to": "ada", "content": 1},
        {"to": "ada", "content": 1, "id": "x".repeat(65)},
    ]});
    let mixed = admin.post("/v1/messages", &mixed).ok();
    assert_eq!(
        (&mixed["published"], &mixed["refused"]),
        (&json!(1), &json!(3))
    );
    let details: Vec<&str> = (1..4)
        .map(|place| mixed["results"][place]["detail"].as_str().unwrap())
        .collect();
    assert_eq!(
        details,
        [
            "`room` is empty",
            "a message goes either to a `room` or `to` a user",
            "`id` is longer than 64 bytes"
        ]
    );
}

#[test]
fn rooms_and_members_are_those_that_clients_are_in() {
    let (server, admin) = start(&["--shards", "3"]);
    let mut clients = Vec::new();
    for number in 0..30 {
        let mut client = Client::connect(&server, &format!("user-{}", number % 10));
        client.join("all");
        client.join(&format!("room/{}", number % 3));
        clients.push(client);
    }
    let all = admin.get("/v1/rooms/all").ok();
    assert_eq!(
        (&all["users"], &all["connections"]),
        (&json!(10), &json!(30))
    );
    let slash = admin.get("/v1/rooms/room%2F0").ok();
    assert_eq!(
        (&slash["room"], &slash["connections"]),
        (&json!("room/0"), &json!(10))
    );

    let pages = |path: &str, list: &str, limit: usize| {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let page = admin
                .get(&format!("{path}{separator}limit={limit}{cursor}"))
                .ok();
            let entries = page[list].as_array().unwrap();
            assert!(entries.len() <= limit);
            found.extend(entries.iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return found,
            }
        }
    };
    for limit in [1, 2, 1000] {
        let names: BTreeSet<String> = pages("/v1/rooms", "rooms", limit)
            .iter()
            .map(|room| room["room"].as_str().unwrap().to_owned())
            .collect();
        let expected = ["all", "room/0", "room/1", "room/2"].map(str::to_owned);
        assert_eq!(names, BTreeSet::from(expected));
        assert_eq!(pages("/v1/rooms?prefix=room", "rooms", limit).len(), 3);
    }
    for limit in [3, 1000] {
        let list = pages("/v1/rooms/all/members", "members", limit);
        let users: BTreeSet<&str> = list
            .iter()
            .map(|member| member["user"].as_str().unwrap())
            .collect();
        let connections: u64 = list
            .iter()
            .map(|member| number(member, "connections"))
            .sum();
        assert_eq!((users.len(), connections), (10, 30));
    }
    drop(clients);
    await_that("the end of the room", || {
        admin.get("/v1/rooms/all").status == 404
    });
    assert!(
        admin
            .get("/v1/rooms/all/members")
            .problem()
            .contains("no room is called `all`")
    );
}

#[test]
fn the_history_is_what_members_heard() {
    let (server, admin) = start(&["--shards", "2"]);
    let mut client = Client::connect(&server, "ada");
    client.join("tea");
    let heard: Vec<Value> = (0..5)
        .map(|number| {
            client.publish("tea", &json!({"number": number}));
            client.expect_in("message", "tea")
        })
        .collect();
    let whole = admin.get("/v1/rooms/tea/history").ok();
    assert_eq!(
        (&whole["complete"], &whole["seq"]),
        (&json!(true), &json!(5))
    );
    for (told, heard) in whole["messages"].as_array().unwrap().iter().zip(&heard) {
        for key in ["seq", "user", "content", "timestamp"] {
            assert_eq!(told[key], heard[key], "{key}");
        }
    }
    let epoch = number(&whole, "epoch");
    let rest = admin
        .get(&format!("/v1/rooms/tea/history?since={epoch}.3&limit=1"))
        .ok();
    assert_eq!(rest["messages"][0]["seq"], 4);
    assert_eq!(rest["messages"].as_array().unwrap().len(), 1);
    let gone = admin.get("/v1/rooms/tea/history?since=1.3").ok();
    assert_eq!(gone["complete"], false);
}

#[test]
fn connections_are_told_and_closed_with_code_and_reason() {
    let (server, admin) = start(&["--shards", "3"]);
    let mut ada: Vec<Client> = (0..6).map(|_| Client::connect(&server, "ada")).collect();
    let mut bob = Client::connect(&server, "bob");
    for client in &mut ada {
        client.join("tea");
    }
    let told = admin.get("/v1/users/ada/connections").ok();
    assert_eq!(told["count"], 6);
    let list = told["connections"].as_array().unwrap();
    let ids: BTreeSet<&str> = list.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 6);
    for one in list {
        assert_eq!(
            (&one["user"], &one["rooms"]),
            (&json!("ada"), &json!(["tea"]))
        );
        let path = format!("/v1/connections/{}", one["id"].as_str().unwrap());
        assert_eq!(admin.get(&path).ok()["id"], one["id"]);
    }
    let first = list[0]["id"].as_str().unwrap();
    let path = format!("/v1/connections/{first}/disconnect");
    let how = json!({"code": 4000, "reason": "one too many"});
    assert_eq!(admin.post(&path, &how).ok()["closed"], 1);
    await_that("the end of the connection", || {
        admin.post(&path, &how).status == 404
    });
    let others = admin.post("/v1/users/ada/disconnect", &json!({})).ok();
    assert_eq!((&others["closed"], &others["left"]), (&json!(5), &json!(0)));
    let mut ends: Vec<(u16, String)> = ada.iter_mut().map(close_frame).collect();
    ends.sort();
    assert_eq!(ends[0], (4000, "one too many".to_owned()));
    assert!(
        ends[1..]
            .iter()
            .all(|end| *end == (4403, "disconnected by the operator".to_owned())),
        "{ends:?}"
    );
    bob.heartbeat();
    assert_eq!(admin.get("/v1/users/ada/connections").ok()["count"], 0);
}

#[test]
fn a_node_is_drained_and_stays_until_it_is_ended() {
    let (mut server, admin) = start(&["--shards", "2"]);
    let mut client = Client::connect(&server, "ada");
    assert_eq!(admin.get("/readyz").ok()["ok"], true);
    let drain = admin.post(
        "/v1/drain",
        &json!({"window_ms": 100, "drain_ms_max": 5000}),
    );
    assert_eq!(
        (drain.status, &drain.json()["phase"]),
        (202, &json!("draining"))
    );
    assert_eq!(admin.get("/readyz").status, 503);
    assert_eq!(close_frame(&mut client).0, 1001);
    await_that("the end of the draining", || {
        admin.get("/v1/node").ok()["phase"] == "drained"
    });
    assert_eq!(admin.get("/v1/node").ok()["connections"], 0);
    assert_eq!(admin.get("/healthz").status, 200, "a drained node works");
    assert_eq!(admin.post("/v1/drain", &json!({})).status, 202);
    assert!(Client::try_connect(&server, "ada").is_err());
    let publish = admin.post("/v1/rooms/tea/messages", &json!({"content": 1}));
    assert_eq!(publish.status, 503);
    assert!(publish.problem().contains("drained"), "{publish:?}");
    server.terminate();
    assert!(server.wait_exit(PATIENCE).success());
}

#[test]
fn a_signal_ends_a_node_that_is_being_drained_when_that_is_done() {
    let (mut server, admin) = start(&["--shards", "2"]);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&server, "ada")).collect();
    let drain = json!({"window_ms": 1000, "drain_ms_max": 20000});
    assert_eq!(admin.post("/v1/drain", &drain).status, 202);
    assert_eq!(admin.get("/v1/node").ok()["phase"], "draining");
    server.terminate();
    for client in &mut clients {
        assert_eq!(close_frame(client).0, 1001);
    }
    assert!(server.wait_exit(PATIENCE).success());
    let told = server.output().join("\n");
    assert!(
        told.contains("stopping when the draining is done"),
        "{told}"
    );
    assert!(told.contains("20 connections served"), "{told}");
}

#[test]
fn a_token_is_asked_for_and_replaced() {
    let file = File::new("a-token-of-many-bytes\n");
    let server = Server::start(&["--admin", "127.0.0.1:0", "--admin-token", file.path()]);
    let bare = Admin::of(&server);
    for path in ["/v1/node", "/v1/rooms", "/openapi.json", "/nothing"] {
        let refused = bare.get(path);
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.problem().contains("Bearer TOKEN"));
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(bare.get(path).status, 200, "{path}");
    }
    let old = Admin::of(&server).with_token("a-token-of-many-bytes");
    assert_eq!(old.get("/v1/node").ok()["phase"], "serving");
    file.write("another-token-of-many-bytes");
    server.hang_up();
    let new = Admin::of(&server).with_token("another-token-of-many-bytes");
    await_that("the new token", || new.get("/v1/node").status == 200);
    assert_eq!(old.get("/v1/node").status, 401);
    file.write("short");
    server.hang_up();
    await_that("a word about the bad file", || {
        server
            .output()
            .iter()
            .any(|line| line.contains("the token in force stays"))
    });
    assert_eq!(new.get("/v1/node").status, 200);
}

#[test]
fn a_page_of_another_origin_orders_nothing() {
    let (_server, admin) = start(&[]);
    let body = json!({"content": 1});
    let foreign = [("Origin", "http://evil.example")];
    let refused = admin.post_with("/v1/rooms/tea/messages", &body, &foreign);
    assert_eq!(refused.status, 403);
    assert!(refused.problem().contains("another origin"));
    let own = format!("http://{}", admin.address);
    let own = [("Origin", own.as_str())];
    assert_eq!(
        admin
            .post_with("/v1/rooms/tea/messages", &body, &own)
            .status,
        200
    );
    let rebound = [("Host", "evil.example")];
    assert_eq!(admin.get_with("/v1/rooms", &rebound).status, 403);
}

#[test]
fn what_is_too_large_or_malformed_is_said() {
    let (_server, admin) = start(&[
        "--admin-request-size-max",
        "100000",
        "--admin-messages-max",
        "10",
        "--message-size-max",
        "1000",
    ]);
    let path = "/v1/rooms/tea/messages";
    let cases = [
        (
            path,
            json!({"content": "x".repeat(200_000)}),
            413,
            "admin_request_size_max",
        ),
        (
            path,
            json!({"content": "x".repeat(2000)}),
            413,
            "message_size_max",
        ),
        (
            path,
            json!({"content": 1, "user": ""}),
            422,
            "`user` is empty",
        ),
        (
            path,
            json!({"content": 1, "usr": "x"}),
            422,
            "unknown field `usr`",
        ),
        (path, json!({}), 422, "missing field `content`"),
        (path, json!([]), 422, "must be an object"),
        (
            "/v1/rooms/a%07b/messages",
            json!({"content": 1}),
            404,
            "control character",
        ),
        (
            "/v1/messages",
            json!({"messages": vec![json!({"room": "a", "content": 1}); 11]}),
            413,
            "admin_messages_max",
        ),
        (
            "/v1/messages",
            json!({"messages": [["tea", null, 1, "server", null]]}),
            422,
            "an entry must be an object",
        ),
        (
            "/v1/users/ada/disconnect",
            json!({"code": 1000}),
            422,
            "4000 to 4999",
        ),
        (
            "/v1/users/ada/disconnect",
            json!({"reason": "x".repeat(124)}),
            422,
            "124 bytes",
        ),
        ("/v1/connections/0-0/disconnect", json!({}), 404, "`0-0`"),
        (
            "/v1/drain",
            json!({"window_ms": 86_400_001}),
            422,
            "`window_ms`",
        ),
    ];
    for (path, body, status, part) in cases {
        let refused = admin.post(path, &body);
        assert_eq!(refused.status, status, "{path} {}", refused.text);
        assert!(refused.problem().contains(part), "{part}: {}", refused.text);
    }
    for (path, part) in [
        ("/v1/rooms?limit=1001", "1 to 1000"),
        ("/v1/rooms?limit=x", "limit"),
        ("/v1/rooms?cursor=x", "`next`"),
        ("/v1/rooms?page=2", "unknown field `page`"),
        ("/v1/rooms/tea/history?since=5", "`since`"),
    ] {
        let refused = admin.get(path);
        assert_eq!(refused.status, 400, "{path}");
        assert!(refused.problem().contains(part), "{part}: {}", refused.text);
    }
    let key = "k".repeat(65);
    let key = [("Idempotency-Key", key.as_str())];
    assert_eq!(
        admin.post_with(path, &json!({"content": 1}), &key).status,
        400
    );
}

#[test]
fn the_configuration_tells_where_values_come_from() {
    let (_server, admin) = start(&["--rooms-max", "77"]);
    let config = admin.get("/v1/config").ok();
    let setting = |name: &str| {
        let settings = config["settings"].as_array().unwrap().iter();
        settings
            .clone()
            .find(|setting| setting["name"] == name)
            .cloned()
            .unwrap()
    };
    assert_eq!(
        setting("rooms_max"),
        json!({"name": "rooms_max", "value": "77", "source": "flag --rooms-max"})
    );
    assert_eq!(setting("admin_messages_max")["source"], "default");
}

#[test]
fn a_shard_that_died_takes_orders_again() {
    let server = Server::start_with_faults(&[&ADMIN[..], &["--shards", "2"]].concat());
    let admin = Admin::of(&server);
    let mut client = Client::connect(&server, "ada");
    client.send_text(r#"{"type":"fault","what":"panic_shard"}"#);
    client.expect_end();
    await_that("the shard's return", || admin.get("/healthz").status == 200);
    let published = admin.post("/v1/rooms/tea/messages", &json!({"content": 1}));
    assert_eq!(published.status, 200, "{}", published.text);
}

#[test]
fn slow_clients_of_the_admin_api_are_bounded_and_hold_up_nobody() {
    let (_server, admin) = start(&["--admin-connections-max", "4"]);
    let slow: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = TcpStream::connect(&admin.address).unwrap();
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nHost: 127")
                .unwrap();
            stream
        })
        .collect();
    assert_eq!(admin.get("/healthz").status, 200, "one place is left");
    let mut fourth = TcpStream::connect(&admin.address).unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    fourth.write_all(request).unwrap();
    // The client before keeps its connection; a place is free when one of the slow ones goes.
    drop(slow);
    let mut answer = String::new();
    fourth.set_read_timeout(Some(PATIENCE)).unwrap();
    fourth.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_program_that_embeds_the_engine_has_no_admin_api_unless_it_asks_for_one() {
    let server = Server::example("echo", &[]);
    let told = server.output();
    assert!(!told.iter().any(|line| line.contains("admin")), "{told:?}");
}

#[test]
fn an_address_that_is_taken_stops_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let cases = [
        (address.as_str(), 1, ["cannot listen on", "--admin off"]),
        (
            "0.0.0.0:0",
            2,
            ["is reached from other hosts", "--admin-token FILE"],
        ),
        ("nowhere", 2, ["is not permitted", "127.0.0.1:9001"]),
    ];
    for (address, code, parts) in cases {
        let message = failure(&["--listen", "127.0.0.1:0", "--admin", address], code);
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    let short = File::new("short");
    let message = refusal(&[
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--admin-token",
        short.path(),
    ]);
    assert!(message.contains("openssl rand -hex 32"), "{message}");
}
