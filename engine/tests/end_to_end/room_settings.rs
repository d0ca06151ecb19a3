//! A file with `[[rooms]]`, and bounds on users and bytes, as clients meet them.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::client::Client;
use crate::server::Server;

/// A file that is gone when the test ends.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("{}-{name}.toml", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, text).expect("the build directory can be written to");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("the path is UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // A file that is left behind in the build directory does no harm.
        drop(std::fs::remove_file(&self.0));
    }
}

const ROOMS: &str = r#"
shards = 2

[limits]
presence_count_ms = 20

[[rooms]]
pattern = "ticker.*"
presence = "off"
slow_consumer = "conflate"
publish = "server"

[[rooms]]
pattern = "short.*"
history_messages_max = 2
presence = "count"
message_size_max = 10
"#;

#[test]
fn a_room_of_which_nothing_is_told_and_in_which_nobody_publishes() {
    let file = File::new("ticker", ROOMS);
    let server = Server::start(&["--config", file.path()]);
    let mut ada = Client::connect(&server, "ada");
    assert!(ada.join("ticker.eur").get("members").is_none());
    let mut bob = Client::connect(&server, "bob");
    bob.join("ticker.eur");
    ada.send(&json!({"type": "presence", "room": "ticker.eur"}));
    let refused = ada.expect("error");
    assert_eq!(
        (&refused["code"], &refused["room"]),
        (&json!("forbidden"), &json!("ticker.eur"))
    );
    ada.send(&json!({"type": "message", "room": "ticker.eur", "content": 1, "id": "x"}));
    let refused = ada.expect("error");
    assert_eq!(
        (&refused["code"], &refused["id"]),
        (&json!("forbidden"), &json!("x"))
    );
    ada.heartbeat();
    for kind in ["user_joined", "presence", "message"] {
        assert!(ada.take_unclaimed(kind).is_empty(), "{kind}");
    }
}

#[test]
fn a_room_with_a_short_memory_and_short_messages() {
    let file = File::new("short", ROOMS);
    let server = Server::start(&["--config", file.path()]);
    let mut ada = Client::connect(&server, "ada");
    ada.join("short.a");
    for content in ["12345678", "b", "c"] {
        ada.publish("short.a", &json!(content));
        assert_eq!(ada.expect("message")["content"], content);
    }
    ada.publish("short.a", &json!("123456789"));
    let refused = ada.expect("error");
    assert_eq!(refused["code"], "too_large");
    assert!(
        refused["message"]
            .as_str()
            .is_some_and(|text| text.contains("10 bytes")),
        "{refused}"
    );
    ada.send(&json!({"type": "history", "room": "short.a"}));
    let history = ada.expect("history");
    assert_eq!(history["messages"].as_array().map(Vec::len), Some(2));
    let mut bob = Client::connect(&server, "bob");
    bob.join("short.a");
    ada.expect_where("a count of two", |object| {
        object["type"] == "presence" && object["count"] == 2
    });
    ada.send(&json!({"type": "presence", "room": "short.a"}));
    let answer = ada.expect_where("an answer", |object| object["users"].is_array());
    assert_eq!(
        (&answer["count"], &answer["users"]),
        (&json!(2), &json!([]))
    );
    assert!(ada.take_unclaimed("user_joined").is_empty());

    // Of a room that no pattern fits everything is as ever.
    ada.join("plain");
    bob.join("plain");
    assert_eq!(ada.expect_in("user_joined", "plain")["user"], "bob");
    ada.publish("plain", &json!("longer than ten bytes"));
    bob.expect_in("message", "plain");
}

#[test]
fn a_user_has_no_more_connections_than_permitted_on_all_shards() {
    let server = Server::start(&["--shards", "3", "--user-connections-max", "4"]);
    let mut open: Vec<Client> = (0..4).map(|_| Client::connect(&server, "ada")).collect();
    for _ in 0..8 {
        let refused = Client::try_connect(&server, "ada").err();
        assert!(
            refused
                .as_ref()
                .is_some_and(|end| end.contains("Closed(4429")),
            "{refused:?}"
        );
    }
    Client::connect(&server, "bob").heartbeat();
    open.iter_mut().for_each(Client::heartbeat);
    drop(open.pop());
    // The server hears of it a little later.
    let deadline = std::time::Instant::now() + crate::client::PATIENCE;
    while let Err(refused) = Client::try_connect(&server, "ada").map(|client| open.push(client)) {
        assert!(std::time::Instant::now() < deadline, "{refused}");
    }
    assert!(Client::try_connect(&server, "ada").is_err());
}
