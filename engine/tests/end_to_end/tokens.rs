//! Tokens: where they may come from, what is said of those that do not count, and how they are renewed.

use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

use crate::client::{Client, End, number};
use crate::file::File;
use crate::raw::{FINAL_BINARY, RawClient, Response, frame, upgrade_request};
use crate::server::Server;
use crate::signer::Signer;

/// The time in seconds since 1970, so many seconds from now.
pub(crate) fn seconds_from_now(seconds: i64) -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    now.checked_add_signed(seconds).unwrap()
}

/// Claims of a user that count for an hour.
pub(crate) fn claims(user: &str) -> Value {
    json!({"sub": user, "exp": seconds_from_now(3600)})
}

pub(crate) fn claims_with(user: &str, others: &Value) -> Value {
    let mut claims = claims(user);
    for (name, value) in others.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// A server that checks tokens with this signer's key.
fn server(signer: &Signer, more: &[&str]) -> (Server, File) {
    let key = File::new(signer.public_file());
    let arguments = [&["--shards", "2", "--auth-key", key.path()], more].concat();
    (Server::start(&arguments), key)
}

/// The answer to a handshake: its head and its text.
fn answer(server: &Server, path: &str, more_headers: &str) -> (Response, String) {
    let mut client = RawClient::connect(server.port());
    client.send_bytes(upgrade_request(path, more_headers).as_bytes());
    let response = client.response();
    let text = match response.status {
        101 => String::new(),
        _ => client.rest(),
    };
    (response, text)
}

fn auth(token: &str) -> Value {
    json!({"type": "auth", "token": token})
}

#[test]
fn a_token_in_the_query_or_in_a_header_says_who_connects() {
    for signer in Signer::of_each_kind() {
        let (server, _key) = server(&signer, &[]);
        let token = signer.token(&claims("ada"));
        let mut ada = Client::connect_with_token(&server, &token);
        assert_eq!(ada.welcome["user"], "ada", "{}", signer.algorithm());
        ada.join("hall");

        for scheme in ["Bearer", "bearer"] {
            let mut client = RawClient::connect(server.port());
            let header = format!("Authorization: {scheme} {token}\r\n");
            client.send_bytes(upgrade_request("/ws?user=root", &header).as_bytes());
            assert_eq!(client.response().status, 101);
            assert_eq!(client.expect("welcome")["user"], "ada");
        }
    }
}

#[test]
fn a_token_in_the_first_message_says_who_connects() {
    let signer = Signer::ed25519();
    let (server, _key) = server(&signer, &[]);
    let mut ada = Client::connect_unnamed(&server);
    ada.send(&auth(&signer.token(&claims("ada"))));
    assert_eq!(ada.expect("welcome")["user"], "ada");
    ada.join("hall");
    // The user of the query is nobody's word.
    let mut client = RawClient::connect(server.port());
    client.send_bytes(upgrade_request("/ws?user=root", "").as_bytes());
    assert_eq!(client.response().status, 101);
    client.send(&auth(&signer.token(&claims("bob"))));
    assert_eq!(client.expect("welcome")["user"], "bob");
}

#[test]
fn a_token_that_does_not_count_gets_401_with_the_reason() {
    let signer = Signer::rsa(2048);
    let (server, key) = server(
        &signer,
        &[
            "--auth-issuer",
            "https://id.example",
            "--auth-audience",
            "chat",
        ],
    );
    let good = claims_with(
        "ada",
        &json!({"iss": "https://id.example", "aud": ["chat"]}),
    );
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        signer.token(&claims)
    };
    let none = signer.token_of(&json!({"alg": "none"}), &good);
    let confused = Signer::with_secret(&std::fs::read(key.path()).unwrap()).token(&good);
    let cases = [
        (String::new(), "malformed"),
        ("abc".to_owned(), "malformed"),
        ("%ff".to_owned(), "malformed"),
        ("x".repeat(4097), "more than 4096 bytes"),
        (none, "algorithm is none"),
        (confused, "algorithm is not permitted"),
        (Signer::rsa(2048).token(&good), "signature is wrong"),
        (with("exp", json!(seconds_from_now(-60))), "has expired"),
        (with("nbf", json!(seconds_from_now(60))), "not yet valid"),
        (with("iss", json!("https://evil.example")), "another issuer"),
        (with("aud", json!("mail")), "another audience"),
        (with("sub", json!("")), "claims do not fit"),
        (with("rooms", json!("all")), "claims do not fit"),
    ];
    for (token, reason) in &cases {
        let query = answer(&server, &format!("/ws?token={token}"), "");
        let header = answer(
            &server,
            "/ws",
            &format!("Authorization: Bearer {token}\r\n"),
        );
        for (response, text) in [query, header] {
            assert_eq!(response.status, 401, "{reason}: {response:?}");
            assert!(text.contains(reason), "{reason}: {text}");
            let expected = format!(
                r#"Bearer error="invalid_token", error_description="{}""#,
                text.trim_end()
            );
            assert_eq!(response.header("WWW-Authenticate"), Some(expected.as_str()));
        }
    }
    assert_eq!(
        Client::connect_with_token(&server, &signer.token(&good)).welcome["user"],
        "ada"
    );
    let printed = server.output().join("\n");
    for (token, _) in cases.iter().filter(|(token, _)| token.len() > 3) {
        assert!(!printed.contains(token), "a token is in the log");
    }
}

#[test]
fn two_tokens_are_refused_and_other_schemes_are_none() {
    let signer = Signer::secret();
    let (server, _key) = server(&signer, &[]);
    let token = signer.token(&claims("ada"));
    let header = format!("Authorization: Bearer {token}\r\n");
    for (path, headers) in [
        (format!("/ws?token={token}"), header.clone()),
        (format!("/ws?token={token}&token={token}"), String::new()),
        ("/ws".to_owned(), format!("{header}{header}")),
    ] {
        let (response, text) = answer(&server, &path, &headers);
        assert_eq!(response.status, 400, "{path}");
        assert!(text.contains("more than one token"), "{text}");
    }
    // A proxy's own credentials are not for this server.
    let basic = "Authorization: Basic YWRhOnNlY3JldA==\r\n";
    let path = format!("/ws?token={token}");
    assert_eq!(answer(&server, &path, basic).0.status, 101);
}

#[test]
fn an_origin_that_is_not_allowed_gets_403_whatever_its_token() {
    let signer = Signer::secret();
    let (server, _key) = server(&signer, &["--origins", "https://chat.example"]);
    let good = signer.token(&claims("ada"));
    let (allowed, other) = (
        "Origin: https://chat.example\r\n",
        "Origin: https://evil.example\r\n",
    );
    for (token, origin, status) in [
        (good.as_str(), allowed, 101),
        (good.as_str(), other, 403),
        ("bad", other, 403),
        ("bad", allowed, 401),
        (good.as_str(), "", 101),
    ] {
        let found = answer(&server, &format!("/ws?token={token}"), origin)
            .0
            .status;
        assert_eq!(found, status, "{token:.5} {origin}");
    }
}

#[test]
fn a_first_message_without_a_good_token_is_closed_with_the_reason() {
    let signer = Signer::p256();
    let (server, _key) = server(&signer, &[]);
    let expired = json!({"sub": "ada", "exp": seconds_from_now(-60)});
    let cases = [
        (auth(&signer.token(&expired)), 4401, "has expired"),
        (
            auth(&Signer::p256().token(&claims("ada"))),
            4401,
            "signature is wrong",
        ),
        (auth("abc"), 4401, "malformed"),
        (auth(&"x".repeat(5000)), 4401, "more than 4096 bytes"),
        (json!({"type": "auth"}), 4401, "say first who you are"),
        (
            json!({"type": "join", "room": "hall"}),
            4401,
            "say first who you are",
        ),
        (json!({"type": "heartbeat"}), 4401, "say first who you are"),
        (json!(["auth"]), 1003, "malformed message"),
    ];
    for (message, code, reason) in cases {
        let mut client = Client::connect_unnamed(&server);
        client.send(&message);
        match client.expect_end() {
            End::Closed(found, text) => {
                assert_eq!(found, code, "{message:.80}: {text}");
                assert!(text.contains(reason), "{reason}: {text}");
            }
            End::Dropped(error) => panic!("{message:.80}: dropped: {error}"),
        }
    }
    let mut client = RawClient::connect(server.port());
    client.send_bytes(upgrade_request("/ws", "").as_bytes());
    assert_eq!(client.response().status, 101);
    client.send_bytes(&frame(FINAL_BINARY, b"{}"));
    assert_eq!(client.expect_close().0, 1003);
}

#[test]
fn a_token_is_renewed_on_an_open_connection() {
    let signer = Signer::p256();
    let (server, _key) = server(&signer, &["--auth-leeway-ms", "0"]);
    let mut ada = Client::connect_with_token(&server, &signer.token(&claims("ada")));
    ada.join("hall");

    let exp = seconds_from_now(7200);
    ada.send(&auth(&signer.token(&json!({"sub": "ada", "exp": exp}))));
    let answer = ada.expect("authenticated");
    assert_eq!(number(&answer, "expires"), exp * 1000);

    let expired = signer.token(&json!({"sub": "ada", "exp": seconds_from_now(-1)}));
    for (token, code, reason) in [
        (signer.token(&claims("bob")), "forbidden", "another user's"),
        (expired, "unauthorized", "has expired"),
        ("abc".to_owned(), "unauthorized", "malformed"),
        ("x".repeat(5000), "unauthorized", "more than 4096 bytes"),
    ] {
        ada.send(&auth(&token));
        let error = ada.expect("error");
        assert_eq!(error["code"], code, "{error}");
        assert!(
            error["message"].as_str().unwrap().contains(reason),
            "{error}"
        );
    }
    ada.send(&json!({"type": "auth"}));
    assert_eq!(ada.expect("error")["code"], "bad_request");
    ada.publish("hall", &json!("still here"));
    ada.expect_in("message", "hall");
}

#[test]
fn a_connection_is_closed_when_its_token_expires_and_not_if_it_is_renewed() {
    let signer = Signer::secret();
    let (server, _key) = server(&signer, &["--auth-leeway-ms", "0"]);
    let short = |user: &str| signer.token(&json!({"sub": user, "exp": seconds_from_now(3)}));
    let mut ada = Client::connect_with_token(&server, &short("ada"));
    let mut bob = Client::connect_with_token(&server, &short("bob"));
    bob.send(&auth(&signer.token(&claims("bob"))));
    bob.expect("authenticated");
    match ada.expect_end() {
        End::Closed(4401, _) => {}
        other => panic!("not closed with 4401: {other:?}"),
    }
    std::thread::sleep(Duration::from_secs(1));
    bob.heartbeat();
}

#[test]
fn a_token_grants_what_its_claims_say_and_no_more() {
    let signer = Signer::secret();
    let (server, _key) = server(&signer, &[]);
    let rules = json!({
        "rooms": [
            {"room": "chat.*", "rights": ["join", "publish"]},
            {"room": "news", "rights": ["join"]},
        ],
        "direct": ["bob"],
    });
    let token = signer.token(&claims_with("ada", &rules));
    let mut ada = Client::connect_with_token(&server, &token);
    ada.join("chat.one");
    ada.publish("chat.one", &json!(1));
    ada.expect_in("message", "chat.one");
    ada.join("news");
    for refused in [
        json!({"type": "join", "room": "other"}),
        json!({"type": "message", "room": "news", "content": 1}),
        json!({"type": "history", "room": "chat.one"}),
        json!({"type": "presence", "room": "chat.one"}),
        json!({"type": "direct", "to": "eve", "content": 1}),
    ] {
        ada.send(&refused);
        assert_eq!(ada.expect("error")["code"], "forbidden", "{refused}");
    }
}

#[test]
fn guests_and_bearers_of_tokens_side_by_side() {
    let signer = Signer::secret();
    let (server, _key) = server(&signer, &["--anonymous", "on"]);
    let mut guest = Client::connect_anonymous(&server);
    let name = guest.welcome["user"].as_str().unwrap();
    assert!(name.starts_with("u-"), "{name}");
    guest.join("hall");
    let (response, text) = answer(&server, "/ws?user=ada", "");
    assert_eq!(response.status, 400, "a name that a token may give");
    assert!(text.contains("a token names the user"), "{text}");
    let token = signer.token(&claims("ada"));
    assert_eq!(
        Client::connect_with_token(&server, &token).welcome["user"],
        "ada"
    );
    assert_eq!(
        answer(&server, "/ws?token=bad&user=guest", "").0.status,
        401
    );
}

#[test]
fn without_a_key_tokens_are_not_looked_at() {
    let server = Server::start(&["--shards", "2"]);
    let (response, _) = answer(&server, "/ws?token=bad", "Authorization: Bearer worse\r\n");
    assert_eq!(response.status, 101);
    let mut ada = Client::connect(&server, "ada");
    ada.send(&auth("bad"));
    let error = ada.expect("error");
    assert_eq!(error["code"], "bad_request", "{error}");
    assert_eq!(error["message"], "no token is asked for here");
    ada.heartbeat();
}
