//! Order: every member sees the same messages in the same order, numbered without a gap.

use serde_json::{Value, json};
use std::net::TcpStream;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use crate::client::{Client, number};
use crate::server::Server;

const MEMBERS: usize = 200;
const PUBLISHERS: usize = 8;
const MESSAGES: usize = 10_000;
const READERS: usize = 8;

/// Messages read from one member before the next one has its turn, so that nobody falls far behind.
const TURN: usize = 100;

/// A message as one number: the publisher and its count.
fn content(publisher: usize, count: usize) -> u64 {
    (publisher * MESSAGES + count) as u64
}

/// The contents that each of these members receives, in order; the numbers must have no gap.
fn read_all(members: &mut [Client]) -> Vec<Vec<u64>> {
    let mut orders = vec![Vec::with_capacity(MESSAGES); members.len()];
    for _ in 0..MESSAGES / TURN {
        for (member, order) in members.iter_mut().zip(&mut orders) {
            for _ in 0..TURN {
                let message = member.expect("message");
                assert_eq!(number(&message, "seq"), order.len() as u64 + 1);
                order.push(number(&message, "content"));
            }
        }
    }
    orders
}

/// Publishes this publisher's share. Another thread reads from the same socket.
fn publish_all(stream: TcpStream, publisher: usize) {
    let mut socket = WebSocket::from_raw_socket(stream, Role::Client, None);
    for count in 0..MESSAGES / PUBLISHERS {
        let object: Value =
            json!({"type": "message", "room": "hall", "content": content(publisher, count)});
        socket
            .send(Message::text(object.to_string()))
            .expect("the connection stays");
    }
}

#[test]
fn every_member_sees_the_same_order_without_a_gap() {
    let server = Server::start(&[
        "--shards",
        "4",
        "--messages-per-second-max",
        "0",
        "--presence-individual-max",
        "0",
        // Pings would be answered by the readers while the publishers write on the same socket.
        "--heartbeat-ms",
        "3600000",
        // A reader that waits for its turn is not what this test calls a slow consumer.
        "--outbox-bytes-max",
        "67108864",
        "--outbox-messages-max",
        "1048576",
    ]);
    let mut members: Vec<Client> = (0..MEMBERS)
        .map(|index| {
            let mut client = Client::connect(&server, &format!("member-{index}"));
            client.join("hall");
            client
        })
        .collect();
    let orders: Vec<Vec<u64>> = std::thread::scope(|scope| {
        for (publisher, member) in members.iter().take(PUBLISHERS).enumerate() {
            let stream = member.stream().try_clone().expect("a socket can be shared");
            scope.spawn(move || publish_all(stream, publisher));
        }
        let readers: Vec<_> = members
            .chunks_mut(MEMBERS / READERS)
            .map(|chunk| scope.spawn(|| read_all(chunk)))
            .collect();
        readers
            .into_iter()
            .flat_map(|reader| reader.join().expect("every member reads everything"))
            .collect()
    });

    assert_eq!(orders.len(), MEMBERS);
    for (index, order) in orders.iter().enumerate() {
        assert!(
            order == &orders[0],
            "member {index} saw another order than member 0"
        );
    }
    for publisher in 0..PUBLISHERS {
        let own = content(publisher, 0)..content(publisher + 1, 0);
        let received: Vec<u64> = orders[0]
            .iter()
            .copied()
            .filter(|content| own.contains(content))
            .collect();
        let sent: Vec<u64> = (0..MESSAGES / PUBLISHERS)
            .map(|count| content(publisher, count))
            .collect();
        assert!(
            received == sent,
            "messages of publisher {publisher} were reordered or lost"
        );
    }
}
