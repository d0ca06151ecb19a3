//! Direct messages: every connection of the user, on whichever shard, and nobody else.

use serde_json::{Value, json};

use crate::client::{Client, number};
use crate::server::Server;

#[test]
fn a_direct_message_reaches_every_connection_of_the_user_and_no_other() {
    let server = Server::start(&["--shards", "4"]);
    let mut ada: Vec<Client> = (0..12).map(|_| Client::connect(&server, "ada")).collect();
    let mut bob: Vec<Client> = (0..6).map(|_| Client::connect(&server, "bob")).collect();
    let mut cleo = Client::connect(&server, "cleo");
    for round in 0..3 {
        let content = json!({"round": round, "text": "psst"});
        cleo.send(&json!({"type": "direct", "to": "ada", "content": content}));
        for connection in &mut ada {
            let direct = connection.expect("direct");
            assert_eq!(direct["from"], "cleo");
            assert_eq!(direct["content"], content);
            assert!(number(&direct, "timestamp") > 1_500_000_000_000);
        }
        // Whatever bob received wrongly would stand before this.
        cleo.send(&json!({"type": "direct", "to": "bob", "content": round}));
        for connection in &mut bob {
            assert_eq!(connection.expect("direct")["content"], round);
        }
    }
    cleo.send(&json!({"type": "direct", "to": "cleo", "content": "note to self"}));
    assert_eq!(cleo.expect("direct")["content"], "note to self");
}

#[test]
fn every_connection_of_a_user_sees_the_same_order() {
    const EACH: usize = 20;
    let server = Server::start(&["--shards", "4"]);
    let mut ada: Vec<Client> = (0..8).map(|_| Client::connect(&server, "ada")).collect();
    let mut senders: Vec<Client> = (0..4)
        .map(|index| Client::connect(&server, &format!("sender-{index}")))
        .collect();
    let total = EACH * senders.len();
    for round in 0..EACH {
        for sender in &mut senders {
            sender.send(&json!({"type": "direct", "to": "ada", "content": round}));
        }
    }
    let orders: Vec<Vec<(u64, Value, Value)>> = ada
        .iter_mut()
        .map(|connection| {
            (0..total)
                .map(|_| {
                    let direct = connection.expect("direct");
                    (
                        number(&direct, "seq"),
                        direct["from"].clone(),
                        direct["content"].clone(),
                    )
                })
                .collect()
        })
        .collect();
    for order in &orders {
        assert_eq!(order, &orders[0]);
        for pair in order.windows(2) {
            assert_eq!(pair[1].0, pair[0].0 + 1, "numbered with a gap");
        }
    }
}
