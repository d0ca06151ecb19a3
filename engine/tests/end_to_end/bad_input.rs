//! Handshakes that are refused: each gets the status that says why, then the connection is closed.

use serde_json::json;
use std::time::{Duration, Instant};

use crate::client::{Client, PATIENCE};
use crate::raw::{RawClient, Response, upgrade_request};
use crate::server::Server;

/// Sends a request and returns the response, after the server has closed the connection.
fn refusal(server: &Server, request: &str) -> Response {
    let mut client = RawClient::connect(server.port());
    client.send_bytes(request.as_bytes());
    let response = client.response();
    assert_ne!(response.status, 101, "accepted: {request:?}");
    client.expect_end_of_stream();
    response
}

/// The status of a handshake with more header lines; an accepted one is dropped again.
fn status(server: &Server, path: &str, more_headers: &str) -> u16 {
    let mut client = RawClient::connect(server.port());
    client.send_bytes(upgrade_request(path, more_headers).as_bytes());
    client.response().status
}

/// The standard handshake with one part replaced.
fn altered(from: &str, to: &str) -> String {
    let request = upgrade_request("/ws", "");
    assert!(request.contains(from), "{from} is not in {request}");
    request.replace(from, to)
}

#[test]
fn what_is_not_http_gets_400() {
    let server = Server::start(&["--shards", "2"]);
    let cases = [
        "\x16\x03\x01 a TLS hello, more or less\r\n\r\n",
        "\r\n\r\n\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET /ws HTTP/9.9\r\n\r\n",
        "GET /ws HTTP/1.1\r\nno colon here\r\n\r\n",
        "GET /ws HTTP/1.1\r\nbad name : value\r\n\r\n",
    ];
    for case in cases {
        assert_eq!(refusal(&server, case).status, 400, "{case:?}");
    }
    Client::connect(&server, "ada").heartbeat();
}

#[test]
fn a_request_that_is_no_upgrade_or_of_another_version_gets_426() {
    let server = Server::start(&["--shards", "2"]);
    let cases = [
        "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_owned(),
        altered("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"),
        altered("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 14"),
    ];
    for case in &cases {
        let response = refusal(&server, case);
        assert_eq!(response.status, 426, "{case:?}");
        assert_eq!(
            response.header("Sec-WebSocket-Version"),
            Some("13"),
            "{response:?}"
        );
    }
}

#[test]
fn a_bad_key_gets_400() {
    let server = Server::start(&["--shards", "2"]);
    let cases = [
        altered("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
        altered("dGhlIHNhbXBsZSBub25jZQ==", "short"),
        altered("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ==AAAA"),
        altered("dGhlIHNhbXBsZSBub25jZQ==", "????????????????????????"),
    ];
    for case in &cases {
        assert_eq!(refusal(&server, case).status, 400, "{case:?}");
    }
}

#[test]
fn too_much_header_gets_431() {
    let server = Server::start(&["--shards", "2"]);
    let long = upgrade_request("/ws", &format!("X-Long: {}\r\n", "x".repeat(9000)));
    assert_eq!(refusal(&server, &long).status, 431);
    // It is refused as soon as it is too long, not when it ends.
    let endless = format!("GET /ws HTTP/1.1\r\nX-Long: {}", "x".repeat(9000));
    assert_eq!(refusal(&server, &endless).status, 431);
    let many: String = (0..100).map(|index| format!("X-{index}: y\r\n")).collect();
    assert_eq!(refusal(&server, &upgrade_request("/ws", &many)).status, 431);
}

#[test]
fn too_slow_a_handshake_gets_408() {
    let server = Server::start(&["--shards", "2", "--handshake-ms-max", "300"]);
    for beginning in ["", "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgr"] {
        let mut client = RawClient::connect(server.port());
        client.send_bytes(beginning.as_bytes());
        let response = client.response();
        assert_eq!(response.status, 408, "after {beginning:?}");
        client.expect_end_of_stream();
    }
    // The deadline is one of the handshake and not of the connection.
    let mut ada = Client::connect(&server, "ada");
    std::thread::sleep(Duration::from_millis(800));
    ada.heartbeat();
}

#[test]
fn a_handshake_may_arrive_in_pieces() {
    let server = Server::start(&["--shards", "2"]);
    let mut client = RawClient::connect(server.port());
    for piece in upgrade_request("/ws?user=ada", "").as_bytes().chunks(7) {
        client.send_bytes(piece);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(client.response().status, 101);
    assert_eq!(client.expect("welcome")["user"], "ada");
}

#[test]
fn an_origin_that_is_not_allowed_gets_403() {
    let server = Server::start(&[
        "--shards",
        "2",
        "--origins",
        "https://chat.example,https://www.example",
    ]);
    let cases = [
        ("https://chat.example", 101),
        ("https://www.example", 101),
        ("https://evil.example", 403),
        ("https://chat.example.evil.example", 403),
        ("http://chat.example", 403),
        ("null", 403),
    ];
    for (origin, expected) in cases {
        let found = status(&server, "/ws", &format!("Origin: {origin}\r\n"));
        assert_eq!(found, expected, "{origin}");
    }
}

#[test]
fn too_long_a_user_name_gets_400() {
    let server = Server::start(&["--shards", "2"]);
    for (length, expected) in [(255, 101), (256, 400), (4000, 400)] {
        let path = format!("/ws?user={}", "x".repeat(length));
        assert_eq!(status(&server, &path, ""), expected, "{length} bytes");
    }
}

/// Connects until the server lets this client in: a place becomes free a moment after its connection closed.
fn connect_when_free(server: &Server) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Client::try_connect(server, "late") {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "no place became free: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn too_many_connections_from_one_address_get_429() {
    let server = Server::start(&["--shards", "2", "--address-connections-max", "3"]);
    let mut open: Vec<_> = (0..3)
        .map(|index| Client::connect(&server, &format!("user-{index}")))
        .collect();
    for _ in 0..4 {
        assert_eq!(refusal(&server, &upgrade_request("/ws", "")).status, 429);
    }
    for client in &mut open {
        client.heartbeat();
    }
    open.pop();
    connect_when_free(&server).heartbeat();
}

#[test]
fn a_full_server_answers_503_with_when_to_try_again() {
    let server = Server::start(&["--shards", "2", "--connections-max", "3"]);
    let mut open: Vec<_> = (0..3)
        .map(|index| Client::connect(&server, &format!("user-{index}")))
        .collect();
    for _ in 0..4 {
        assert_is_503(&refusal(&server, &upgrade_request("/ws", "")));
    }
    for client in &mut open {
        client.join("hall");
    }
    open[0].publish("hall", &json!("we stay"));
    for client in &mut open {
        client.expect("message");
    }
    open.pop();
    connect_when_free(&server).heartbeat();
}

#[test]
fn a_server_beyond_its_memory_budget_answers_503() {
    // No process of this kind lives in one mebibyte, so the budget is reached from the start.
    let server = Server::start(&["--shards", "2", "--memory-mib-max", "1"]);
    // The resident size is measured now and then, so the first connections may still be let in.
    let deadline = Instant::now() + PATIENCE;
    while status(&server, "/ws", "") == 101 {
        assert!(Instant::now() < deadline, "the budget has no effect");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_is_503(&refusal(&server, &upgrade_request("/ws", "")));
}

fn assert_is_503(response: &Response) {
    assert_eq!(response.status, 503, "{response:?}");
    let seconds = response.header("Retry-After").map(str::parse::<u64>);
    assert!(matches!(seconds, Some(Ok(1..))), "{response:?}");
}
