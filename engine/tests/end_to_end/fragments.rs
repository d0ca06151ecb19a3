//! Fragments: a large message arrives whole, however it is cut and whatever comes in between.

use serde_json::{Value, json};

use crate::client::Client;
use crate::raw::{
    CONTINUATION, FINAL_CONTINUATION, FINAL_TEXT, PING, PONG, RawClient, TEXT, frame,
};
use crate::server::Server;

/// Bytes of the content: with the fields around it just below the default `message_size_max` of 1 MiB.
const SIZE: usize = 1_048_576 - 4096;

/// Text of characters of one to four bytes, so that cuts fall within characters too.
fn long_text(seed: usize) -> String {
    let alphabet = ["a", "é", "€", "😀", "z", "ß"];
    let mut text = String::with_capacity(SIZE);
    let mut index = seed;
    while text.len() < SIZE - 4 {
        text.push_str(alphabet[index % alphabet.len()]);
        index = index * 7 / 5 % 10_007 + 1;
    }
    text
}

/// Cuts a message at the sizes given, again and again, with a ping before each cut.
fn fragments(message: &[u8], sizes: &[usize]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut bytes = Vec::new();
    let mut pings = Vec::new();
    let mut rest = message;
    let mut first = TEXT;
    for size in sizes.iter().cycle() {
        let (now, later) = rest.split_at(rest.len().min(*size));
        rest = later;
        if rest.is_empty() {
            bytes.extend(frame(
                if first == TEXT {
                    FINAL_TEXT
                } else {
                    FINAL_CONTINUATION
                },
                now,
            ));
            return (bytes, pings);
        }
        bytes.extend(frame(first, now));
        first = CONTINUATION;
        let ping = format!("ping {}", pings.len()).into_bytes();
        bytes.extend(frame(PING, &ping));
        pings.push(ping);
    }
    unreachable!("sizes are cycled until the message ends");
}

#[test]
fn messages_of_a_mebibyte_in_odd_fragments_arrive_whole() {
    let server = Server::start(&["--shards", "4"]);
    let mut bob = Client::connect(&server, "bob");
    bob.join("hall");
    let mut ada = RawClient::open(server.port(), "ada");
    ada.send(&json!({"type": "join", "room": "hall"}));
    ada.expect("joined");

    let cuts: [&[usize]; 5] = [
        &[SIZE * 2],
        &[65_535, 1, 65_536, 0, 65_537],
        &[125, 126, 127, 8191, 8192, 8193, 100_003],
        &[1, 2, 3, 50_021, 0],
        &[7919],
    ];
    for (seed, sizes) in cuts.into_iter().enumerate() {
        let content = long_text(seed);
        let message = json!({"type": "message", "room": "hall", "content": content}).to_string();
        let (bytes, pings) = fragments(message.as_bytes(), sizes);
        ada.send_bytes(&bytes);

        let received = bob.expect("message");
        assert!(
            received["content"] == content.as_str(),
            "cut at {sizes:?}: content differs"
        );
        // The publisher is a member too: it gets its pongs and its own message. A server may answer only the
        // last of several pings (RFC 6455, section 5.5.3), but in order.
        let mut pongs = Vec::new();
        let mut own = None;
        while own.is_none() || pongs.last() != pings.last() {
            let frame = ada
                .frame()
                .expect("the server goes on")
                .expect("no end yet");
            match frame.first {
                PONG => pongs.push(frame.payload),
                FINAL_TEXT => {
                    let object: Value = serde_json::from_slice(&frame.payload).unwrap();
                    assert_eq!(object["type"], "message");
                    own = Some(object);
                }
                other => panic!("an unexpected frame {other:#x}"),
            }
        }
        let mut sent = pings.iter();
        assert!(
            pongs.iter().all(|pong| sent.any(|ping| ping == pong)),
            "cut at {sizes:?}: pongs out of order"
        );
        assert!(own.is_some_and(|own| own["content"] == content.as_str()));
    }
}

#[test]
fn a_small_message_may_come_byte_by_byte() {
    let server = Server::start(&["--shards", "2"]);
    let mut ada = RawClient::open(server.port(), "ada");
    ada.send(&json!({"type": "join", "room": "hall"}));
    ada.expect("joined");
    let message = json!({"type": "message", "room": "hall", "content": "é😀"}).to_string();
    let (bytes, _) = fragments(message.as_bytes(), &[1]);
    for byte in bytes {
        ada.send_bytes(&[byte]);
    }
    assert_eq!(ada.expect("message")["content"], "é😀");
}
