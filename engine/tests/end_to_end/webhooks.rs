//! Webhooks: what a backend is asked and told, and what follows from its answers. What becomes of events while it is away is in `webhook_events`.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::{Backend, Reply, Request, await_line, count, counted, of_kind, server};
use crate::certificate::Certificate;
use crate::client::{Client, End, PATIENCE};
use crate::file::File;
use crate::off_the_shelf::python;
use crate::server::Server;

/// A connection that is refused: the code and the reason.
fn refused(server: &Server, user: &str) -> (u16, String) {
    let mut client = Client::shake_hands(server, &format!("/ws?user={user}")).unwrap();
    match client.expect_end() {
        End::Closed(code, reason) => (code, reason),
        End::Dropped(error) => panic!("dropped without a close frame: {error}"),
    }
}

#[test]
fn a_backend_is_asked_and_told_everything_and_all_of_it_is_signed() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let backend = Backend::start();
    let file = File::new(format!("{secret}\n"));
    let all = "connect,connected,disconnected,room_occupied,room_vacated,publish";
    let mut server = server(
        &backend,
        &["--webhook-secret", file.path(), "--webhook-events", all],
    );
    let mut ada = Client::connect(&server, "ada");
    ada.join("lobby");
    let mut bob = Client::connect(&server, "bob");
    bob.join("lobby");
    ada.send(&json!({"type": "message", "room": "lobby", "content": {"text": "hi"}, "id": "m1"}));
    assert_eq!(bob.expect("message")["content"]["text"], "hi");
    ada.send(&json!({"type": "direct", "to": "bob", "content": 7}));
    assert_eq!(bob.expect("direct")["content"], 7);
    ada.send(&json!({"type": "leave", "room": "lobby"}));
    ada.expect("left");
    bob.close();
    drop(ada);
    let events = backend.await_events("end of everybody", |events| {
        count(events, "disconnected") == 2 && count(events, "room_vacated") == 1
    });
    let kinds = |kind: &str, key: &str| -> Vec<Value> {
        let events = of_kind(&events, kind).into_iter();
        events.map(|event| event[key].clone()).collect()
    };
    let mut shards = kinds("shard_started", "shard");
    shards.sort_by_key(Value::to_string);
    assert_eq!(shards, [json!(0), json!(1)]);
    assert_eq!(kinds("connected", "user"), ["ada", "bob"]);
    assert_eq!(kinds("room_occupied", "room"), ["lobby"]);
    assert_eq!(kinds("room_vacated", "room"), ["lobby"]);
    let ended: BTreeSet<(String, String, String)> = of_kind(&events, "disconnected")
        .iter()
        .map(|event| {
            let of = |key: &str| event[key].to_string();
            (of("user"), of("reason"), of("code"))
        })
        .collect();
    let expected = [
        ("\"ada\"", "\"stream_ended\"", "null"),
        ("\"bob\"", "\"peer\"", "1000"),
    ];
    let expected =
        expected.map(|(user, reason, code)| (user.to_owned(), reason.to_owned(), code.to_owned()));
    assert_eq!(ended, expected.into());
    assert_eq!(
        kinds("connected", "connection")
            .into_iter()
            .map(|id| id.to_string())
            .collect::<BTreeSet<_>>(),
        kinds("disconnected", "connection")
            .into_iter()
            .map(|id| id.to_string())
            .collect::<BTreeSet<_>>()
    );
    let ids: BTreeSet<String> = events.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), events.len(), "no two events have the same id");

    let asked = backend.questions("connect");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0]["connection"], kinds("connected", "connection")[0]);
    let asked = backend.questions("publish");
    assert_eq!(asked.len(), 2);
    assert_eq!(
        (
            &asked[0]["room"],
            &asked[0]["content"],
            &asked[0]["message_id"]
        ),
        (&json!("lobby"), &json!({"text": "hi"}), &json!("m1"))
    );
    assert_eq!(
        (&asked[1]["to"], &asked[1]["content"], &asked[1]["user"]),
        (&json!("bob"), &json!(7), &json!("ada"))
    );
    server.terminate();
    assert!(server.wait_exit(PATIENCE).success());
    assert_eq!(counted(&server, "delivered"), events.len() as u64);
    assert!(are_signed(&backend.requests(), secret));
    let another = secret.replace("Mf", "fM");
    assert!(!are_signed(&backend.requests(), &another));
}

/// Whether the reference library finds every request signed with the secret, and none that was changed.
fn are_signed(requests: &[Request], secret: &str) -> bool {
    let mut script = Command::new(python())
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/clients/webhooks.py"
        ))
        .arg(secret)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = script.stdin.take().unwrap();
    for request in requests {
        let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let headers: serde_json::Map<String, Value> = names
            .into_iter()
            .map(|name| (name.to_owned(), request.header(name).unwrap().into()))
            .collect();
        let line = json!({"headers": headers, "body": request.text});
        if writeln!(input, "{line}").is_err() {
            // It has ended, and says why.
            break;
        }
    }
    drop(input);
    let output = script.wait_with_output().unwrap();
    let checked = String::from_utf8(output.stdout).unwrap();
    output.status.success() && checked.trim() == requests.len().to_string()
}

/// The last request, where one more connection has asked.
fn last_request(server: &Server, backend: &Backend) -> Request {
    let _visitor = Client::connect(server, "visitor");
    let mut requests = backend.requests().into_iter();
    requests
        .rfind(|request| request.body["type"] == "connect")
        .unwrap()
}

#[test]
fn a_new_secret_signs_after_sighup() {
    let [old, new] = ["A", "B"].map(|letter| format!("whsec_{}", letter.repeat(40)));
    let backend = Backend::start();
    let file = File::new(&old);
    let server = server(&backend, &["--webhook-secret", file.path()]);
    assert!(are_signed(&[last_request(&server, &backend)], &old));
    file.write("nonsense");
    server.hang_up();
    await_line(
        &server,
        &["webhook_secret", "the secrets stay as they were"],
    );
    assert!(are_signed(&[last_request(&server, &backend)], &old));
    // While one replaces the other both sign.
    let both = format!("{old}\n{new}\n");
    for (secrets, is_old_good) in [(both, true), (new.clone(), false)] {
        file.write(secrets);
        server.hang_up();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = [last_request(&server, &backend)];
            let good = [&old, &new].map(|secret| are_signed(&request, secret));
            if good == [is_old_good, true] {
                break;
            }
            assert!(Instant::now() < deadline, "the secret is not read again");
        }
    }
}

#[test]
fn a_backend_refuses_connections_with_a_code_and_a_reason() {
    let backend = Backend::start();
    backend.reply(|body| match body["user"].as_str() {
        Some("mallory") => Reply::ok(json!({"allow": false})),
        Some("banned") => {
            Reply::ok(json!({"allow": false, "code": 4007, "reason": "banned until noon"}))
        }
        Some("broken") => Reply::ok("yes"),
        Some("failing") => Reply::Status(500, String::new()),
        Some("moved") => Reply::Status(307, String::new()),
        Some("wrong") => Reply::ok(json!({"allow": false, "code": 1000})),
        Some("endless") => Reply::ok("x".repeat(4 << 20)),
        Some("hanging") => Reply::Hang,
        _ => Reply::ok(json!({"allow": true})),
    });
    let failing = ["broken", "failing", "moved", "wrong", "endless", "hanging"];
    for on_failure in ["refuse", "allow"] {
        let server = server(
            &backend,
            &[
                "--webhook-on-failure",
                on_failure,
                "--webhook-timeout-ms",
                "300",
            ],
        );
        assert_eq!(refused(&server, "mallory"), (4403, "refused".into()));
        assert_eq!(
            refused(&server, "banned"),
            (4007, "banned until noon".into())
        );
        for user in failing {
            match on_failure {
                "allow" => Client::connect(&server, user).heartbeat(),
                _ => {
                    let (code, reason) = refused(&server, user);
                    assert_eq!(code, 1013, "{user}: {reason}");
                }
            }
        }
        Client::connect(&server, "ada").heartbeat();
        await_line(
            &server,
            &["a connection has ended", "reason=dismissed (code 4007)"],
        );
        await_line(&server, &["the backend of the webhooks fails to decide"]);
        // Who was refused was never there.
        let events = backend.await_events("ada", |events| {
            of_kind(events, "connected")
                .iter()
                .any(|event| event["user"] == "ada")
        });
        for event in &events {
            assert!(
                event["user"] != "mallory" && event["user"] != "banned",
                "{event}"
            );
        }
    }
}

#[test]
fn a_backend_on_https_is_believed_where_somebody_vouches_for_it() {
    let certificate = Certificate::new();
    let backend = Backend::start_tls(&certificate);
    let secret = File::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let url = backend.url();
    let own = [
        "--shards",
        "1",
        "--webhook-url",
        &url,
        "--webhook-secret",
        secret.path(),
    ];
    let stranger = Server::start(&own);
    assert_eq!(refused(&stranger, "ada").0, 1013);
    await_line(&stranger, &["fails to decide", "invalid peer certificate"]);
    assert!(backend.requests().is_empty());

    let authority = certificate.path().to_str().unwrap();
    let server = Server::start(&[&own[..], &["--webhook-ca", authority]].concat());
    Client::connect(&server, "ada").heartbeat();
    assert_eq!(backend.questions("connect").len(), 1);
    backend.await_events("end", |events| count(events, "disconnected") == 1);
}

#[test]
fn a_backend_refuses_and_rewrites_messages_and_their_order_is_kept() {
    let backend = Backend::start();
    backend.reply(|body| {
        let Some(number) = body["content"].as_u64() else {
            return Reply::ok("");
        };
        // The later ones are answered sooner.
        thread::sleep(Duration::from_millis(20 - number.min(20)));
        match number % 4 {
            0 => Reply::ok(json!({"allow": true})),
            1 => Reply::ok(json!({"allow": true, "content": {"was": number}})),
            2 => Reply::ok(json!({"allow": false, "reason": "not this one"})),
            _ => Reply::ok(""),
        }
    });
    let server = server(&backend, &["--webhook-events", "publish"]);
    let mut bob = Client::connect(&server, "bob");
    bob.join("lobby");
    let mut ada = Client::connect(&server, "ada");
    ada.join("lobby");
    for number in 0..40 {
        let id = format!("m{number}");
        ada.send(&json!({"type": "message", "room": "lobby", "content": number, "id": id}));
    }
    ada.heartbeat();
    for number in (0..40).filter(|number| number % 4 != 2) {
        let expected = match number % 4 {
            1 => json!({"was": number}),
            _ => json!(number),
        };
        assert_eq!(bob.expect("message")["content"], expected);
    }
    let refused = ada.take_unclaimed("error");
    let ids: Vec<&str> = refused
        .iter()
        .filter_map(|error| error["id"].as_str())
        .collect();
    let expected: Vec<String> = (0..40)
        .filter(|n| n % 4 == 2)
        .map(|n| format!("m{n}"))
        .collect();
    assert_eq!(ids, expected);
    assert!(refused.iter().all(|error| error["code"] == "forbidden"
        && error["message"] == "not this one"
        && error["room"] == "lobby"));
    // They come from the room's home, which may be another shard.
    let acknowledged: BTreeSet<String> = (0..30)
        .map(|_| ada.expect("ack")["id"].to_string())
        .collect();
    assert_eq!(acknowledged.len(), 30);
    // What could not be published anyway is not asked about.
    ada.send(&json!({"type": "message", "room": "elsewhere", "content": 100}));
    assert_eq!(ada.expect("error")["code"], "not_joined");
    assert_eq!(backend.questions("publish").len(), 40);
    // A code closes the connection.
    backend.reply(|_| Reply::ok(json!({"allow": false, "code": 4010, "reason": "enough"})));
    ada.publish("lobby", &json!(1));
    assert_eq!(ada.expect_end(), End::Closed(4010, "enough".into()));
}

#[test]
fn only_messages_of_some_rooms_are_asked_about() {
    let backend = Backend::start();
    backend.reply(|_| Reply::ok(json!({"allow": false})));
    let server = server(
        &backend,
        &[
            "--webhook-events",
            "publish",
            "--webhook-publish-rooms",
            "chat.*,news",
        ],
    );
    let mut ada = Client::connect(&server, "ada");
    for (room, is_asked) in [
        ("chat.1", true),
        ("news", true),
        ("chat", false),
        ("new", false),
    ] {
        ada.join(room);
        ada.publish(room, &json!(room));
        match is_asked {
            true => assert_eq!(ada.expect("error")["code"], "forbidden"),
            false => assert_eq!(ada.expect("message")["content"], room),
        }
    }
    ada.send(&json!({"type": "direct", "to": "ada", "content": 1}));
    ada.expect("direct");
    assert_eq!(backend.questions("publish").len(), 2);
}

#[test]
fn whoever_waits_for_a_backend_that_hangs_keeps_nobody_else_waiting() {
    let backend = Backend::start();
    backend.reply(|body| match body["content"] == json!("slow") {
        true => Reply::Hang,
        false => Reply::ok(""),
    });
    let server = server(
        &backend,
        &[
            "--webhook-events",
            "publish",
            "--webhook-timeout-ms",
            "2000",
        ],
    );
    let mut slow = Client::connect(&server, "slow");
    slow.join("lobby");
    slow.send(&json!({"type": "message", "room": "lobby", "content": "slow", "id": "s"}));
    let begun = Instant::now();
    slow.send(&json!({"type": "message", "room": "lobby", "content": "behind", "id": "b"}));
    let mut ada = Client::connect(&server, "ada");
    ada.join("lobby");
    let mut told = 0;
    while begun.elapsed() < Duration::from_millis(1500) {
        ada.publish("lobby", &json!(told));
        assert_eq!(ada.expect("message")["content"], told);
        told += 1;
    }
    assert!(told > 10, "only {told} messages came meanwhile");
    let error = slow.expect("error");
    assert_eq!(
        (&error["code"], &error["id"]),
        (&json!("unavailable"), &json!("s"))
    );
    assert!(begun.elapsed() >= Duration::from_millis(1900));
    assert_eq!(slow.expect("ack")["id"], "b");
}

#[test]
fn many_ask_at_once_and_more_than_may_are_answered_by_the_policy() {
    let backend = Backend::start();
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    backend.reply(move |body| match body["type"] == "connect" {
        true => {
            counted.fetch_add(1, Ordering::Relaxed);
            Reply::Hang
        }
        false => Reply::ok(""),
    });
    let server = server(
        &backend,
        &[
            "--webhook-decisions-max",
            "4",
            "--webhook-timeout-ms",
            "15000",
            "--decision-ms-max",
            "20000",
        ],
    );
    let begun = Instant::now();
    let clients =
        (0..40).map(|index| Client::shake_hands(&server, &format!("/ws?user=u{index}")).unwrap());
    // Each waits by itself: which are asked about first is for the shards to say.
    let waiting: Vec<_> = clients
        .map(|mut client| {
            thread::spawn(move || match client.expect_end() {
                End::Closed(code, reason) => (code, reason, begun.elapsed()),
                End::Dropped(error) => panic!("dropped without a close frame: {error}"),
            })
        })
        .collect();
    let mut soon = 0;
    for client in waiting {
        let (code, reason, took) = client.join().unwrap();
        assert_eq!(code, 1013, "{reason}");
        soon += u64::from(took < Duration::from_secs(14));
    }
    // Four are asked about at once, and four wait.
    let asked = asked.load(Ordering::Relaxed);
    assert!((4..=8).contains(&asked), "{asked} were asked about");
    assert_eq!(soon, 32, "the others are refused at once");
}

#[test]
fn what_cannot_be_is_said_at_the_start() {
    let secret = File::new("nonsense");
    let cases: [(&[&str], &str); 7] = [
        (
            &["--webhook-url", "http://10.0.0.1/"],
            "webhook_secret is not set",
        ),
        (
            &[
                "--webhook-url",
                "http://127.0.0.1/",
                "--webhook-secret",
                secret.path(),
            ],
            "that is not `whsec_`",
        ),
        (
            &[
                "--webhook-url",
                "http://127.0.0.1/",
                "--webhook-ca",
                secret.path(),
            ],
            "webhook_url does not begin with https://",
        ),
        (
            &[
                "--webhook-url",
                "https://127.0.0.1/",
                "--webhook-ca",
                secret.path(),
            ],
            "holds no certificate",
        ),
        (
            &["--webhook-secret", secret.path()],
            "there are no webhooks without webhook_url",
        ),
        (
            &[
                "--webhook-url",
                "http://127.0.0.1/",
                "--webhook-publish-rooms",
                "x",
            ],
            "does not include publish",
        ),
        (
            &[
                "--webhook-url",
                "http://127.0.0.1/",
                "--webhook-timeout-ms",
                "20000",
            ],
            "must be less than decision_ms_max",
        ),
    ];
    for (arguments, expected) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_shardcast"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && text.contains(expected),
            "{text}"
        );
    }
}
