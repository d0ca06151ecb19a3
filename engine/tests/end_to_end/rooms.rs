//! Rooms: who is told what, in which order, and that content arrives as it was sent.

use serde_json::{Value, json};
use std::time::Duration;

use crate::client::{Client, members, number};
use crate::raw::RawClient;
use crate::server::Server;

#[test]
fn the_first_object_is_a_welcome_that_names_the_user() {
    let server = Server::start(&["--shards", "2"]);
    let ada = Client::connect(&server, "ada");
    assert_eq!(ada.welcome["user"], "ada");
    assert_eq!(ada.welcome["heartbeat_ms"], 25_000);
    assert!(ada.welcome["limits"].is_object(), "{}", ada.welcome);
    let again = Client::connect(&server, "ada");
    assert_ne!(ada.welcome["session"], again.welcome["session"]);

    let first = Client::connect_anonymous(&server);
    let second = Client::connect_anonymous(&server);
    assert!(first.welcome["user"].is_string(), "{}", first.welcome);
    assert_ne!(first.welcome["user"], second.welcome["user"]);
}

#[test]
fn shards_that_look_for_work_before_they_sleep_serve_like_others() {
    let server = Server::start(&["--shards", "2", "--spin-us-max", "2000"]);
    let mut members = members(&server, "hall", 4);
    for round in 0..20 {
        // Now within the time that they look for work, now long after it.
        std::thread::sleep(Duration::from_millis(round % 3 * 5));
        members[round as usize % 4].publish("hall", &json!(round));
        for member in &mut members {
            assert_eq!(member.expect("message")["content"], round);
        }
    }
}

#[test]
fn a_join_is_answered_with_where_the_room_stands() {
    let server = Server::start(&["--shards", "2"]);
    let mut ada = Client::connect(&server, "ada");
    let joined = ada.join("hall");
    assert!(number(&joined, "epoch") < 1 << 53, "{joined}");
    assert_eq!(joined["seq"], 0);
    assert_eq!(joined["members"], 1);
    assert_eq!(joined["recovered"], false);
    ada.publish("hall", &json!("first"));
    ada.expect("message");

    let mut bob = Client::connect(&server, "bob");
    let later = bob.join("hall");
    assert_eq!(later["epoch"], joined["epoch"]);
    assert_eq!(later["seq"], 1);
    assert_eq!(later["members"], 2);
    assert_eq!(later["recovered"], false);
    bob.publish("hall", &json!("second"));
    // What was said before the join is not delivered where nobody asked for it.
    assert_eq!(bob.expect("message")["content"], "second");
}

#[test]
fn a_broadcast_reaches_every_member_on_every_shard() {
    const MEMBERS: usize = 40;
    let server = Server::start(&["--shards", "4"]);
    let mut clients = members(&server, "hall", MEMBERS);
    for (index, client) in clients.iter_mut().enumerate() {
        client.publish("hall", &json!({"from": index}));
    }
    let orders: Vec<Vec<Value>> = clients
        .iter_mut()
        .map(|client| {
            (1..=MEMBERS as u64)
                .map(|seq| {
                    let message = client.expect_in("message", "hall");
                    assert_eq!(number(&message, "seq"), seq);
                    assert!(number(&message, "timestamp") > 1_500_000_000_000);
                    let sender = number(&message["content"], "from");
                    assert_eq!(message["user"], format!("member-{sender}"));
                    message["content"].clone()
                })
                .collect()
        })
        .collect();
    for order in &orders {
        assert_eq!(order, &orders[0], "members saw different orders");
    }
}

#[test]
fn rooms_do_not_hear_each_other() {
    let server = Server::start(&["--shards", "4"]);
    let mut ada = Client::connect(&server, "ada");
    let mut bob = Client::connect(&server, "bob");
    ada.join("red");
    ada.join("blue");
    bob.join("blue");
    ada.publish("red", &json!("for red"));
    ada.expect_in("message", "red");
    ada.publish("blue", &json!("for blue"));
    let heard = bob.expect("message");
    assert_eq!(
        (&heard["room"], &heard["content"]),
        (&json!("blue"), &json!("for blue"))
    );
}

#[test]
fn members_are_told_who_comes_and_goes() {
    let server = Server::start(&["--shards", "4"]);
    let mut ada = Client::connect(&server, "ada");
    ada.join("hall");
    let mut bob = Client::connect(&server, "bob");
    bob.join("hall");
    assert_eq!(ada.expect_in("user_joined", "hall")["user"], "bob");
    let mut cleo = Client::connect(&server, "cleo");
    cleo.join("hall");
    assert_eq!(ada.expect_in("user_joined", "hall")["user"], "cleo");
    assert_eq!(bob.expect_in("user_joined", "hall")["user"], "cleo");

    bob.send(&json!({"type": "leave", "room": "hall"}));
    bob.expect_in("left", "hall");
    assert_eq!(ada.expect_in("user_left", "hall")["user"], "bob");
    // A connection that breaks leaves as well.
    drop(cleo);
    assert_eq!(ada.expect_in("user_left", "hall")["user"], "cleo");

    ada.publish("hall", &json!("anyone here?"));
    ada.expect("message");
    bob.join("hall");
    bob.publish("hall", &json!("me"));
    assert_eq!(bob.expect("message")["content"], "me", "heard in absence");
}

#[test]
fn a_second_connection_of_a_user_is_not_announced() {
    let server = Server::start(&["--shards", "4"]);
    let mut ada = Client::connect(&server, "ada");
    ada.join("hall");
    let mut first = Client::connect(&server, "bob");
    first.join("hall");
    let mut second = Client::connect(&server, "bob");
    assert_eq!(second.join("hall")["members"], 2, "members are users");
    first.send(&json!({"type": "leave", "room": "hall"}));
    first.expect_in("left", "hall");
    // The message comes after everything that was announced before it.
    second.publish("hall", &json!("still here"));
    ada.expect("message");
    assert_eq!(ada.take_unclaimed("user_joined").len(), 1);
    assert_eq!(ada.take_unclaimed("user_left").len(), 0);
    drop(second);
    assert_eq!(ada.expect("user_left")["user"], "bob");
}

#[test]
fn a_message_to_a_room_not_joined_is_refused() {
    let server = Server::start(&["--shards", "2"]);
    let mut ada = Client::connect(&server, "ada");
    let mut bob = Client::connect(&server, "bob");
    ada.join("hall");
    bob.send(&json!({"type": "message", "room": "hall", "content": 1, "id": "i-1"}));
    let refusal = bob.expect("error");
    assert_eq!(refusal["code"], "not_joined");
    assert_eq!(refusal["id"], "i-1");
    assert!(refusal["message"].is_string(), "{refusal}");

    bob.join("hall");
    bob.send(&json!({"type": "leave", "room": "hall"}));
    bob.expect("left");
    bob.publish("hall", &json!(2));
    assert_eq!(bob.expect("error")["code"], "not_joined");

    ada.publish("hall", &json!(3));
    let heard = ada.expect("message");
    assert_eq!((&heard["content"], &heard["seq"]), (&json!(3), &json!(1)));
}

#[test]
fn content_of_every_kind_arrives_as_the_same_value() {
    let contents = [
        "null",
        "true",
        "false",
        "0",
        "-1",
        "9007199254740993",
        "-9223372036854775808",
        "18446744073709551615",
        "0.1",
        "-2.5e-7",
        "1e300",
        r#""""#,
        r#""plain""#,
        r#""caf\u00e9 \ud83d\ude00 \"quoted\" back\\slash \/ \b\f\n\r\t \u0000 \u2028""#,
        r#""café 😀 ﷽""#,
        "[]",
        "{}",
        r#"[1,[2,[3,[null,{"a":[{"b":[]}]}]]]]"#,
        r#"{"type":"join","room":"decoy","content":{"content":1},"":"empty key","\u0061":1}"#,
        r#"  { "spaced" :	[ 1 , 2 ]  }  "#,
    ];
    let server = Server::start(&["--shards", "2"]);
    let mut ada = Client::connect(&server, "ada");
    let mut bob = Client::connect(&server, "bob");
    ada.join("hall");
    bob.join("hall");
    for content in contents {
        ada.send_text(&format!(
            r#"{{"type":"message","room":"hall","content":{content}}}"#
        ));
        let sent: Value = serde_json::from_str(content).unwrap();
        assert_eq!(bob.expect("message")["content"], sent, "sent as {content}");
    }
}

#[test]
fn numbers_beyond_64_bits_arrive_digit_for_digit() {
    let server = Server::start(&["--shards", "2"]);
    let mut ada = RawClient::open(server.port(), "ada");
    ada.send(&json!({"type": "join", "room": "hall"}));
    ada.expect("joined");
    for digits in [
        "123456789012345678901234567890",
        "3.14159265358979323846264338327950288",
    ] {
        let text = format!(r#"{{"type":"message","room":"hall","content":[{digits}]}}"#);
        ada.send_frame(crate::raw::FINAL_TEXT, text.as_bytes());
        let delivery = ada.text();
        assert!(delivery.contains(digits), "{digits} became {delivery}");
    }
}

#[test]
fn spacing_order_and_unknown_fields_do_not_matter() {
    let server = Server::start(&["--shards", "2"]);
    let mut ada = Client::connect(&server, "ada");
    ada.send_text(
        " {\r\n\t\"future\" : { \"type\" : [ \"leave\" ] } , \"room\" : \"h\\u0061ll\" , \"type\" : \"join\" , \"type2\" : 0 } ",
    );
    ada.expect_in("joined", "hall");
    ada.send_text(
        r#"{"content":"ok","x":[1,{"room":"other"}],"room":"hall","y":null,"type":"message","z":"\"}"}"#,
    );
    assert_eq!(ada.expect_in("message", "hall")["content"], "ok");
}

#[test]
fn names_of_rooms_are_any_text() {
    let server = Server::start(&["--shards", "4"]);
    let mut ada = Client::connect(&server, "ada");
    let long = "x".repeat(255);
    for room in [
        "r",
        "with space",
        "café 😀",
        "quote\"back\\slash",
        "[brackets], {braces}: commas",
        &long,
    ] {
        ada.join(room);
        ada.publish(room, &json!(room));
        assert_eq!(ada.expect_in("message", room)["content"], room);
    }
}

#[test]
fn a_client_that_knows_two_commands_works() {
    let server = Server::start(&["--shards", "2"]);
    let mut old = Client::connect_anonymous(&server);
    let mut new = Client::connect(&server, "ada");
    new.join("hall");
    old.send_text(r#"{"type":"join","room":"hall"}"#);
    // It does not wait for an answer: the message follows the join on the same connection.
    old.send_text(r#"{"type":"message","room":"hall","content":"hello"}"#);
    for client in [&mut old, &mut new] {
        assert_eq!(client.expect_in("message", "hall")["content"], "hello");
    }
    assert!(old.take_unclaimed("error").is_empty());
}
