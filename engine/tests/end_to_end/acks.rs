//! Acknowledgements: a message with an id is acknowledged with its number, and a repeat does no harm.

use serde_json::{Value, json};

use crate::client::{Client, number};
use crate::server::Server;

fn publish(client: &mut Client, id: &str, content: &str) -> Value {
    client.send(&json!({"type": "message", "room": "hall", "content": content, "id": id}));
    client.expect_where("the acknowledgement", |object| {
        object["type"] == "ack" && object["id"] == id
    })
}

fn is_duplicate(ack: &Value) -> bool {
    // The field may be left out where it would be false.
    ack["duplicate"] == true
}

#[test]
fn a_repeat_is_acknowledged_alike_and_delivered_once() {
    let server = Server::start(&["--shards", "4"]);
    let mut ada = Client::connect(&server, "ada");
    let mut bob = Client::connect(&server, "bob");
    ada.join("hall");
    bob.join("hall");

    let first = publish(&mut ada, "0b54e1f0-1", "once");
    assert_eq!((&first["room"], number(&first, "seq")), (&json!("hall"), 1));
    assert!(!is_duplicate(&first), "{first}");
    for _ in 0..3 {
        let repeat = publish(&mut ada, "0b54e1f0-1", "once");
        assert_eq!(number(&repeat, "seq"), 1);
        assert!(is_duplicate(&repeat), "{repeat}");
    }
    let second = publish(&mut ada, "0b54e1f0-2", "twice");
    assert_eq!(number(&second, "seq"), 2);
    assert!(!is_duplicate(&second), "{second}");

    // The client lost its connection and cannot know whether its last message arrived.
    drop(ada);
    let mut ada = Client::connect(&server, "ada");
    ada.join("hall");
    let repeat = publish(&mut ada, "0b54e1f0-2", "twice");
    assert_eq!(number(&repeat, "seq"), 2);
    assert!(is_duplicate(&repeat), "{repeat}");

    let last = publish(&mut ada, "0b54e1f0-3", "last");
    assert_eq!(number(&last, "seq"), 3);
    for (seq, content) in [(1, "once"), (2, "twice"), (3, "last")] {
        let message = bob.expect("message");
        assert_eq!(
            (number(&message, "seq"), &message["content"]),
            (seq, &json!(content))
        );
    }
}

#[test]
fn a_message_without_an_id_is_not_acknowledged() {
    let server = Server::start(&["--shards", "2"]);
    let mut ada = Client::connect(&server, "ada");
    ada.join("hall");
    ada.publish("hall", &json!("same"));
    ada.publish("hall", &json!("same"));
    let ack = publish(&mut ada, "i", "marked");
    assert_eq!(number(&ack, "seq"), 3, "equal contents are two messages");
    assert!(ada.take_unclaimed("ack").is_empty());
}

#[test]
fn direct_messages_are_acknowledged_too() {
    let server = Server::start(&["--shards", "4"]);
    let mut ada = Client::connect(&server, "ada");
    let mut bob = Client::connect(&server, "bob");
    let direct = json!({"type": "direct", "to": "bob", "content": "hi", "id": "d-1"});
    ada.send(&direct);
    let first = ada.expect("ack");
    assert_eq!(first["id"], "d-1");
    assert!(!is_duplicate(&first), "{first}");
    ada.send(&direct);
    let repeat = ada.expect("ack");
    assert_eq!(repeat["seq"], first["seq"]);
    assert!(is_duplicate(&repeat), "{repeat}");

    ada.send(&json!({"type": "direct", "to": "bob", "content": "bye"}));
    assert_eq!(bob.expect("direct")["content"], "hi");
    assert_eq!(bob.expect("direct")["content"], "bye");
}
