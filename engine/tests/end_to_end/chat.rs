//! `shardcast chat`: as lines, and on a screen that tmux plays.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::client::Client;
use crate::file::File;
use crate::http::Admin;
use crate::program::{Program, run, run_with_input};
use crate::server::Server;
use crate::tmux::{self, Tmux};

/// Between a stop and the time at which clients are told to come again, there is time for others to come first.
const RESTARTED: &[&str] = &[
    "--shards",
    "2",
    "--shutdown-window-ms",
    "50",
    "--reconnect-after-ms",
    "3000",
    "--history-messages-max",
    "500",
];

/// Publishes `message 1` and on, and waits until all have their place.
fn publish_numbered(client: &mut Client, room: &str, count: u64) {
    for number in 1..=count {
        client.publish(room, &json!(format!("message {number}.")));
    }
    client.expect_where("the last", |object| object["seq"] == count);
}

/// All that a client has been told was said, from its next acknowledgement back.
fn contents(client: &mut Client, room: &str) -> Vec<Value> {
    client.heartbeat();
    let messages = client.take_unclaimed_in("message", room).into_iter();
    messages
        .map(|mut message| message["content"].take())
        .collect()
}

#[test]
fn lines_in_and_lines_out() {
    let server = Server::start(&["--shards", "2"]);
    let url = server.url();
    let mut bob = Client::connect(&server, "bob");
    bob.join("tea");
    bob.publish("tea", &json!("before"));
    bob.expect("message");
    let mut ada = Program::start(&["chat", "--server", &url, "--user", "ada", "tea", "lobby"]);
    ada.expect("connected as ada to ");
    ada.expect(" tea bob: before");
    ada.type_line("hello from a pipe");
    ada.type_line("/not a command");
    assert_eq!(bob.expect("message")["content"], "hello from a pipe");
    assert_eq!(bob.expect("message")["content"], "/not a command");
    ada.expect(" tea ada: hello from a pipe");
    bob.publish("tea", &json!("\u{1b}[2J\nforged"));
    let line = ada.expect("forged");
    assert!(line.ends_with(" tea bob: ␛[2J␊forged"), "{line}");
    bob.send(&json!({"type": "direct", "to": "ada", "content": "psst"}));
    ada.expect(" @bob bob: psst");
    let (code, lines) = ada.finish();
    assert_eq!(code, Some(0), "{lines:#?}");
    // What is said is acknowledged before it ends, however much it is.
    let many: String = (0..1000).map(|number| format!("line {number}\n")).collect();
    run_with_input(&["chat", "--server", &url, "--user", "eve", "tea"], &many).ok();
    for number in 0..1000 {
        let said = bob.expect_where("a line", |object| {
            object["user"] == "eve" && object["type"] == "message"
        });
        assert_eq!(said["content"], format!("line {number}"));
    }
}

#[test]
fn a_connection_that_breaks_loses_nothing_and_repeats_nothing() {
    let server = Server::start(&["--shards", "2", "--admin", "127.0.0.1:0"]);
    let admin = Admin::of(&server);
    let mut bob = Client::connect(&server, "bob");
    bob.join("tea");
    let url = server.url();
    let mut ada = Program::start(&["chat", "--server", &url, "--user", "ada", "--follow", "tea"]);
    ada.expect("connected as ada");
    bob.expect_where("ada", |object| object["type"] == "user_joined");
    for number in 0..5 {
        bob.publish("tea", &json!(format!("before {number}")));
        ada.expect(&format!("bob: before {number}"));
        admin
            .post(
                "/v1/users/ada/disconnect",
                &json!({"code": 4000, "reason": "test"}),
            )
            .ok();
        bob.publish("tea", &json!(format!("meanwhile {number}")));
        ada.type_line(&format!("typed {number}"));
        let said = bob.expect_where("what ada says", |object| {
            object["user"] == "ada" && object["type"] == "message"
        });
        assert_eq!(said["content"], format!("typed {number}"));
    }
    bob.publish("tea", &json!("last"));
    ada.expect("bob: last");
    ada.type_line("end");
    ada.expect("ada: end");
    assert_eq!(
        contents(&mut bob, "tea")
            .iter()
            .filter(|content| *content == "end")
            .count(),
        1
    );
    let lines = ada.seen().join("\n");
    for number in 0..5 {
        for said in ["bob: before", "bob: meanwhile", "ada: typed"] {
            let said = format!("{said} {number}");
            assert_eq!(lines.matches(&said).count(), 1, "{said}: {lines}");
        }
    }
    assert!(!lines.contains("missing"), "{lines}");
    assert!(
        lines.contains("the connection is gone (closed with 4000: test); again in 1 s"),
        "{lines}"
    );
}

#[test]
fn who_may_not_connect_is_told_why() {
    let secret = File::new("0123456789abcdef0123456789abcdef");
    let server = Server::start(&[
        "--shards",
        "1",
        "--handshake-ms-max",
        "500",
        "--auth-key",
        secret.path(),
    ]);
    let url = server.url();
    let error = run(&["chat", "--server", &url, "--user", "ada", "tea"]).failed(1);
    assert!(
        error.contains("does not let you in: closed with 4401: no token in time")
            && error.contains("--token"),
        "{error}"
    );
    let error = run(&["chat", "--server", &url, "--token", "no/such/file", "tea"]).failed(2);
    assert!(
        error.contains("cannot read the token in no/such/file"),
        "{error}"
    );
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("ws://{free}/ws");
    let error = run(&["chat", "--server", &url, "tea"]).failed(1);
    assert_eq!(
        error,
        format!(
            "error: cannot reach {url}: connection refused; is the server running? name another with --server\n"
        )
    );
}

#[test]
fn a_token_names_the_user_and_tls_carries_it() {
    let server = Server::start_tls(&["--shards", "2"]);
    let authorities = server
        .certificate
        .as_ref()
        .unwrap()
        .path()
        .to_str()
        .unwrap();
    let url = server.url();
    let arguments = [
        "chat",
        "--server",
        &url,
        "--tls-ca",
        authorities,
        "--user",
        "ada",
        "tea",
    ];
    let said = run_with_input(&arguments, "sealed\n").ok();
    assert!(said.contains(" tea ada: sealed"), "{said}");
    let arguments = ["chat", "--server", &url, "--user", "ada", "tea"];
    let error = run(&arguments).failed(1);
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn a_room_that_may_not_be_joined_is_a_failure() {
    let server = Server::start(&["--shards", "1", "--rooms-per-connection-max", "1"]);
    let url = server.url();
    let done = run_with_input(
        &["chat", "--server", &url, "--user", "ada", "tea", "lobby"],
        "said\n",
    );
    assert!(done.out.contains(" tea ada: said"), "{done:?}");
    assert!(done.failed(1).contains("lobby was not joined"));
}

#[test]
fn a_chat_on_a_screen_survives_a_restart() {
    if !tmux::is_there() {
        return;
    }
    let mut server = Server::start(RESTARTED);
    let (url, port) = (server.url(), server.port());
    let mut bob = Client::connect(&server, "bob");
    bob.join("tea");
    publish_numbered(&mut bob, "tea", 120);
    let program = env!("CARGO_BIN_EXE_shardcast");
    let tmux = Tmux::run(&format!(
        "{program} chat --server {url} --user ada tea lobby; echo ended with $?; cat"
    ));
    // History, who is there, and that there are two rooms.
    tmux.expect(&[
        "message 120.",
        "message 110.",
        "2 here",
        "● bob",
        " lobby",
        "connected as ada",
    ]);
    tmux.enter("hello from the screen");
    assert_eq!(
        bob.expect_where("ada", |object| object["user"] == "ada"
            && object["type"] == "message")["content"],
        "hello from the screen"
    );
    tmux.expect(&["ada  hello from the screen"]);
    bob.publish("tea", &json!("hello from bob"));
    tmux.expect(&["bob  hello from bob"]);
    // Back to what was said long before, which was not loaded at first.
    for _ in 0..20 {
        tmux.press("PageUp");
        tmux.expect(&["lines below"]);
        if tmux.screen().contains("message 5.") {
            break;
        }
    }
    tmux.expect(&["message 5.", "lines below"]);
    tmux.press("Escape");
    tmux.expect(&["hello from bob"]);
    tmux.enter("/who");
    tmux.expect(&["2 here: ada, bob"]);

    drop(bob);
    server.terminate();
    server.wait_exit(crate::client::PATIENCE);
    tmux.expect(&["reconnecting in"]);
    tmux.enter("typed while it was away");
    tmux.expect(&["typed while it was away", "1 to send"]);
    let server = Server::start_again(port, RESTARTED);
    let mut bob = Client::connect(&server, "bob");
    bob.join("tea");
    bob.publish("tea", &json!("said while ada was away"));
    let screen = tmux.expect(&[
        "begun anew",
        "bob  said while ada was away",
        "ada  typed while it was away",
        "connected as ada",
        "● bob",
    ]);
    let place = |text: &str| screen.find(text).unwrap();
    assert!(place("hello from bob") < place("begun anew"), "{screen}");
    assert!(
        place("begun anew") < place("said while ada was away"),
        "{screen}"
    );
    assert!(
        place("said while ada was away") < place("typed while it was away"),
        "{screen}"
    );
    bob.expect_where("ada's words", |object| {
        object["content"] == "typed while it was away"
    });
    // Once, and the screen goes on.
    tmux.enter("after it all");
    bob.expect_where("ada's words", |object| object["content"] == "after it all");
    let again = contents(&mut bob, "tea");
    assert!(
        !again.contains(&json!("typed while it was away")),
        "{again:?}"
    );
    tmux.enter("/msg bob between us");
    assert_eq!(bob.expect("direct")["content"], "between us");
    tmux.expect(&[" @bob"]);

    tmux.resize(40, 10);
    tmux.expect_where("a small screen", |screen| !screen.contains("● bob"));
    tmux.enter("/quit");
    let screen = tmux.expect(&["ended with 0"]);
    assert!(
        !screen.contains("after it all"),
        "the screen was not given back:\n{screen}"
    );
}

#[test]
fn a_signal_gives_the_screen_back() {
    if !tmux::is_there() {
        return;
    }
    let server = Server::start(&["--shards", "1"]);
    let url = server.url();
    let program = env!("CARGO_BIN_EXE_shardcast");
    let tmux = Tmux::run(&format!(
        "{program} chat --server {url} --user ada tea; echo ended with $?; stty -a; cat"
    ));
    tmux.expect(&["connected as ada"]);
    terminate(tmux.pid());
    let screen = tmux.expect(&["ended with 0", "speed"]);
    assert!(
        !screen.contains("-icanon") && !screen.contains("-echo "),
        "{screen}"
    );
    assert!(!screen.contains("connected as ada"), "{screen}");
}

#[allow(unsafe_code)]
fn terminate(pid: i32) {
    // SAFETY: `kill` touches no memory. The process is a child of a shell that waits for it, so the id is still its own.
    let outcome = unsafe { libc::kill(pid, libc::SIGTERM) };
    assert_eq!(outcome, 0);
}
