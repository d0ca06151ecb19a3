//! `publish`, `rooms`, `top`, `completions` and `man`, against a real server and a false one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::client::{Client, PATIENCE};
use crate::file::File;
use crate::http::Admin;
use crate::program::{run, run_with_input, shardcast};
use crate::server::Server;
use crate::tmux::{self, Tmux};

fn server(arguments: &[&str]) -> (Server, String) {
    let mut all = vec!["--shards", "2", "--admin", "127.0.0.1:0"];
    all.extend(arguments);
    let server = Server::start(&all);
    let api = format!("http://{}", Admin::of(&server).address);
    (server, api)
}

#[test]
fn what_is_published_arrives_as_it_was_meant() {
    let (server, api) = server(&[]);
    let mut ada = Client::connect(&server, "ada");
    ada.join("tea time");
    let publish = |arguments: &[&str]| {
        let mut all = vec!["publish", "--api", &api];
        all.extend(arguments);
        run(&all)
    };
    let mut place = |arguments: &[&str], user: &str, content: Value| {
        let mut all = vec!["tea time"];
        all.extend(arguments);
        let out = publish(&all).ok();
        let message = ada.expect("message");
        assert_eq!(
            (&message["user"], &message["content"]),
            (&json!(user), &content)
        );
        out
    };
    let first = place(&["hello"], "server", json!("hello"));
    assert!(first.trim_end().ends_with(".1"), "{first}");
    place(
        &[r#"{"text": "hi"}"#, "--as", "bob"],
        "bob",
        json!({"text": "hi"}),
    );
    place(&["42"], "server", json!("42"));
    place(&["--json", "42"], "server", json!(42));
    place(&["--text", "[1]"], "server", json!("[1]"));
    let once = place(&["once", "--id", "k1"], "server", json!("once"));
    let twice = publish(&["tea time", "once", "--id", "k1"]).ok();
    assert_eq!(twice, format!("{} (published before)\n", once.trim_end()));
    publish(&["--user", "ada", "psst", "--as", "eve"]).ok();
    let direct = ada.expect("direct");
    assert_eq!(
        (&direct["from"], &direct["content"]),
        (&json!("eve"), &json!("psst"))
    );
    let places = run_with_input(
        &["publish", "--api", &api, "tea time", "-", "--id", "l"],
        "one\n{\"n\":2}\n",
    );
    assert_eq!(places.ok().lines().count(), 2);
    assert_eq!(ada.expect("message")["content"], "one");
    assert_eq!(ada.expect("message")["content"], json!({"n": 2}));
    assert!(ada.take_unclaimed("message").is_empty());
}

#[test]
fn what_is_not_published_says_why() {
    let (_server, api) = server(&[]);
    let error = run(&["publish", "--api", &api, "tea", "--json", "{"]).failed(2);
    assert!(error.contains("`{` is not JSON"), "{error}");
    let error = run(&["publish", "--api", &api, "tea"]).failed(2);
    assert!(error.contains("CONTENT is missing"), "{error}");
    let long = "x".repeat(300);
    let error = run(&["publish", "--api", &api, &long, "hi"]).failed(1);
    assert!(error.contains("255"), "{error}");
    // A line that cannot be published keeps none of the others from it.
    let done = run_with_input(
        &["publish", "--api", &api, "tea", "-", "--json"],
        "1\nnone\n3\n",
    );
    assert_eq!(done.out.lines().count(), 2);
    assert!(done.failed(1).contains("line 2: `none` is not JSON"));
    // Nobody listens where a listener has been.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let api = format!("http://{free}");
    let error = run(&["publish", "--api", &api, "tea", "hi"]).failed(1);
    assert_eq!(
        error,
        format!(
            "error: cannot reach the admin API on {api}: connection refused; is the server running? name another with --api\n"
        )
    );
    let error = run(&["rooms", "--api", &api]).failed(1);
    assert!(error.contains("connection refused"), "{error}");
    let error = run(&["top", "--once", "--api", &api]).failed(1);
    assert!(error.contains("connection refused"), "{error}");
}

#[test]
fn a_token_opens_the_admin_api() {
    let token = File::new("a-token-of-32-characters-or-more!\n");
    let (_server, api) = server(&["--admin-token", token.path()]);
    let error = run(&["rooms", "--api", &api]).failed(1);
    assert!(error.contains("--api-token"), "{error}");
    let empty = File::new("");
    let error = run(&["rooms", "--api", &api, "--api-token", empty.path()]).failed(2);
    assert!(error.contains("holds no token"), "{error}");
    let out = run(&["rooms", "--api", &api, "--api-token", token.path()]).ok();
    assert_eq!(out, "there are no rooms\n");
    let output = shardcast(&["rooms"])
        .env("SHARDCAST_API", &api)
        .env("SHARDCAST_API_TOKEN", token.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn rooms_are_listed_and_one_is_shown() {
    let (server, api) = server(&[]);
    let mut ada = Client::connect(&server, "ada");
    let mut bob = Client::connect(&server, "bob");
    for number in 0..7 {
        ada.join(&format!("tea-{number}"));
    }
    bob.join("tea-3");
    bob.publish("tea-3", &json!({"text": "evil \u{1b}[2J"}));
    bob.expect("message");
    let rooms = |arguments: &[&str]| {
        let mut all = vec!["rooms", "--api", &api];
        all.extend(arguments);
        run(&all)
    };
    let text = rooms(&[]).ok();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("ROOM"), "{text}");
    assert!(lines[1].starts_with("tea-3") && lines.len() == 8, "{text}");
    assert_eq!(lines[1].split_whitespace().nth(2), Some("2"), "{text}");
    let text = rooms(&["--limit", "3"]).ok();
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.contains("there are more"), "{text}");
    let text = rooms(&["--prefix", "coffee"]).ok();
    assert_eq!(text, "no room has a name that begins with coffee\n");
    let listed: Value = serde_json::from_str(&rooms(&["--json"]).ok()).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 7);
    let text = rooms(&["tea-3"]).ok();
    for part in ["ada", "bob", "evil ␛[2J", "MESSAGE", "CONNECTIONS"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let shown: Value = serde_json::from_str(&rooms(&["tea-3", "--json"]).ok()).unwrap();
    assert_eq!(shown["members"].as_array().unwrap().len(), 2);
    assert_eq!(shown["messages"][0]["user"], "bob");
    let error = rooms(&["coffee"]).failed(1);
    assert!(error.contains("no room is called `coffee`"), "{error}");
}

/// An admin API that knows nothing but its activity.
fn false_activity() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut asked = String::new();
                reader.read_line(&mut asked).unwrap();
                let mut header = String::new();
                while reader.read_line(&mut header).unwrap() > 2 {
                    header.clear();
                }
                let body = activity(asked.contains("after=")).to_string();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let answer = head + &body;
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
            });
        }
    });
    format!("http://{address}")
}

/// Rooms are counted only once somebody has asked.
fn activity(is_asked_again: bool) -> Value {
    let series = json!({
        "connections": [600], "accepts_per_s": [2.5], "messages_per_s": [10.0], "deliveries_per_s": [1000.0],
        "received_bytes_per_s": [2048], "sent_bytes_per_s": [1_048_576], "dropped_per_s": [0], "busy": [0.25],
        "p50_us": [120], "p99_us": [2100], "p999_us": [null]
    });
    let rooms = json!([{"room": "tea", "connections": 100, "messages_per_s": 10.0, "deliveries_per_s": 1000.0}]);
    json!({
        "now_unix_ms": 1_790_000_001_000_u64, "interval_ms": 100, "samples_max": 300,
        "node": {"version": "0.1.0", "phase": "serving", "listen": "127.0.0.1:9000", "url": "ws://127.0.0.1:9000/ws",
            "shards": 1, "connections": 1234, "started_unix_ms": 1_789_999_000_000_u64, "uptime_ms": 1_001_000},
        "shards": [{"shard": 0, "core": 0, "answers": true, "restarts": 0, "connections": 600, "rooms": 12, "outboxes": 3,
            "outbox_bytes": 4096, "mailbox_depth": 0, "history_bytes": 0}],
        "samples": {"unix_ms": [1_790_000_000_000_u64], "all": series.clone(), "shards": [series]},
        "busiest_rooms": if is_asked_again { rooms } else { json!([]) },
        "slow_consumers": [{"id": "0-12-3", "user": "ada", "shard": 0, "outbox_bytes": 65536}]
    })
}

#[test]
fn one_picture_of_the_activity_as_text() {
    let api = false_activity();
    // Standard output is no terminal here.
    for arguments in [
        &["top", "--once", "--api", &api][..],
        &["top", "--api", &api],
    ] {
        let text = run(arguments).ok();
        for part in [
            "shardcast 0.1.0 ws://127.0.0.1:9000/ws serving, up 16 min",
            "connections 1,234  accepts 2.5/s  messages 10/s  deliveries 1.00k/s",
            "latency p50 120 µs  p99 2.10 ms  p99.9 –  busy 25%",
            "received 2.00 KiB/s  sent 1.00 MiB/s  dropped 0/s",
            "SHARD  CORE  BUSY",
            "1.00k  tea",
            "64.0 KiB      0  0-12-3           ada",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }
}

#[test]
fn the_activity_of_a_real_server() {
    let (server, api) = server(&[]);
    let mut ada = Client::connect(&server, "ada");
    ada.join("tea");
    let deadline = Instant::now() + PATIENCE;
    loop {
        ada.publish("tea", &json!("steep"));
        let text = run(&["top", "--once", "--api", &api]).ok();
        // A sample is taken each second, and rooms are counted once somebody has asked.
        let is_whole = text.contains("connections 1 ") && text.contains("  tea\n");
        if is_whole {
            assert!(
                text.contains(&format!("{} serving", server.url())),
                "{text}"
            );
            assert!(!text.contains("p50 –"), "{text}");
            return;
        }
        assert!(Instant::now() < deadline, "{text}");
    }
}

#[test]
fn the_activity_on_a_screen() {
    if !tmux::is_there() {
        return;
    }
    let api = false_activity();
    let program = env!("CARGO_BIN_EXE_shardcast");
    let tmux = Tmux::run(&format!(
        "{program} top --api {api}; echo ended with $?; cat"
    ));
    tmux.expect(&[
        "1,234 connections",
        "p99",
        "2.10 ms",
        "busiest rooms (1)",
        "tea",
        "ada",
    ]);
    tmux.press("p");
    tmux.expect(&["paused"]);
    tmux.press("p");
    tmux.resize(40, 10);
    tmux.expect_where("smaller picture", |screen| {
        screen.contains("deliveries") && !screen.contains("busiest rooms")
    });
    tmux.press("q");
    let screen = tmux.expect(&["ended with 0"]);
    assert!(!screen.contains("deliveries"), "{screen}");
}

#[test]
fn completions_and_the_manual() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(&["completions", shell]).ok();
        assert!(script.contains("publish"), "{shell}");
    }
    run(&["completions", "tcsh"]).failed(2);
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("man-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.to_str().unwrap();
    run(&["man", path]).ok();
    let mut pages: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    assert_eq!(
        pages,
        [
            "shardcast-chat.1",
            "shardcast-completions.1",
            "shardcast-config.1",
            "shardcast-doctor.1",
            "shardcast-publish.1",
            "shardcast-rooms.1",
            "shardcast-serve.1",
            "shardcast-top.1",
            "shardcast.1"
        ]
    );
    let page = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    assert!(page("shardcast-serve.1").contains("shards"));
    assert!(page("shardcast-chat.1").contains("SHARDCAST_SERVER"));
    std::fs::remove_dir_all(&directory).unwrap();
    let error = run(&["man", path]).failed(1);
    assert!(error.contains("cannot write the manual into"), "{error}");
    assert!(!run(&["--help"]).ok().contains("  man "));
}
