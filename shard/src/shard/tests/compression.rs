//! permessage-deflate in the loop: who is compressed, how often, and what it costs.

use super::*;
use crate::sim::EXTENSIONS;

const OFFER: (&str, &str) = (EXTENSIONS, "permessage-deflate; client_max_window_bits");

/// A message that compresses well and is above the threshold.
fn long(length: usize) -> String {
    "a message of many like it, ".repeat(length.div_ceil(27))[..length].to_owned()
}

fn hear(rig: &mut Rig, client: &mut SimWebSocket) -> Vec<String> {
    rig.rest(0);
    texts(client.step(usize::MAX))
}

fn rig(compression: Compression, slow_consumer: SlowConsumer, limits: Limits) -> Rig {
    Rig::compressing(1, 1, limits, slow_consumer, compression)
}

#[test]
fn whoever_offers_is_compressed_and_nobody_else() {
    let mut rig = Rig::one(Limits::default());
    let (mut offers, mut plain) = (rig.client_with(&[OFFER]), rig.client());
    assert!(offers.is_compressed() && !plain.is_compressed());
    let text = long(1000);
    for client in [&mut offers, &mut plain] {
        client.send_text(&format!("echo {text}"));
        client.step(usize::MAX);
        assert_eq!(hear(&mut rig, client), [text.as_str()]);
    }
    assert_eq!((offers.inflated(), plain.inflated()), (1, 0));
    let stats = &rig.stats[0];
    let counts = (
        stats.compression_agreed.value(),
        stats.messages_inflated.value(),
        stats.messages_compressed.value(),
    );
    assert_eq!(counts, (1, 1, 1));
}

#[test]
fn nothing_is_compressed_where_it_is_off() {
    let mut rig = rig(
        Compression::Off,
        SlowConsumer::Disconnect,
        Limits::default(),
    );
    assert!(!rig.client_with(&[OFFER]).is_compressed());
}

#[test]
fn a_message_below_the_threshold_goes_as_it_is() {
    let mut rig = Rig::one(Limits::default());
    let mut client = rig.client_with(&[OFFER]);
    let least = Limits::default().compressed_bytes_min as usize;
    for (length, inflated) in [(least - 1, 0), (least, 1)] {
        client.send_text(&format!("echo {}", long(length)));
        client.step(usize::MAX);
        assert_eq!(hear(&mut rig, &mut client), [long(length)]);
        assert_eq!(client.inflated(), inflated, "{length} bytes");
    }
}

#[test]
fn a_message_to_many_is_compressed_once_for_each_window_size() {
    let mut rig = Rig::one(Limits::default());
    let offer = |bits: u8| format!("permessage-deflate; server_max_window_bits={bits}");
    let mut clients: Vec<SimWebSocket> = [15, 15, 10, 10, 12]
        .into_iter()
        .map(|bits| rig.client_with(&[(EXTENSIONS, &offer(bits))]))
        .collect();
    clients.push(rig.client());
    clients[0].send_text(&format!("direct {}", long(5000)));
    clients[0].step(usize::MAX);
    rig.rest(0);
    let heard: Vec<Vec<String>> = clients
        .iter_mut()
        .map(|client| texts(client.step(usize::MAX)))
        .collect();
    assert_eq!(heard[0].len(), 1);
    assert!(heard[0][0].len() > 5000);
    assert!(heard.iter().all(|texts| *texts == heard[0]), "{heard:?}");
    let inflated: Vec<u64> = clients.iter().map(SimWebSocket::inflated).collect();
    assert_eq!(inflated, [1, 1, 1, 1, 1, 0]);
    assert_eq!(rig.stats[0].messages_compressed.value(), 3);
}

#[test]
fn dedicated_windows_are_bounded_and_given_back() {
    let limits = Limits {
        dedicated_windows_max: 2,
        ..Limits::default()
    };
    let mut rig = rig(Compression::Dedicated, SlowConsumer::Disconnect, limits);
    let mut clients: Vec<SimWebSocket> = (0..3).map(|_| rig.client_with(&[OFFER])).collect();
    assert_eq!(rig.shards[0].counts().dedicated_windows, 2);
    assert!(clients.iter().all(SimWebSocket::is_compressed));
    for round in 0..3 {
        for client in &mut clients {
            let text = format!("{round} {}", long(1000));
            client.send_text(&format!("echo {text}"));
            client.step(usize::MAX);
            assert_eq!(hear(&mut rig, client), [text]);
            assert_eq!(client.inflated(), round + 1);
        }
    }
    for client in &mut clients {
        client.send_close(Some(1000), "");
        client.step(usize::MAX);
        rig.rest(0);
        client.step(usize::MAX);
    }
    rig.rest(0);
    let counts = rig.shards[0].counts();
    assert_eq!((counts.connections, counts.dedicated_windows), (0, 0));
}

/// A client cannot inflate what refers to a message that it was never sent.
#[test]
fn where_messages_are_dropped_the_servers_window_is_shared() {
    let limits = Limits::default();
    let mut rig = rig(Compression::Dedicated, SlowConsumer::DropOldest, limits);
    let connection = rig.network.connect(0);
    let mut client = SimWebSocket::connect_with(connection, "/", &[OFFER]);
    client.step(usize::MAX);
    rig.rest(0);
    let events = client.step(usize::MAX);
    let [SimEvent::Upgraded(answer)] = &events[..] else {
        panic!("{events:?}");
    };
    let answer = answer.header(EXTENSIONS).unwrap();
    assert!(answer.contains("server_no_context_takeover"), "{answer}");
    assert!(!answer.contains("client_no_context_takeover"), "{answer}");
}

#[test]
fn a_message_that_inflates_beyond_the_bound_is_closed_1009() {
    let limits = Limits {
        message_size_max: 10_000,
        ..Limits::default()
    };
    let mut rig = Rig::one(limits);
    let (mut bomber, mut other) = (rig.client_with(&[OFFER]), rig.client_with(&[OFFER]));
    bomber.send_text(&format!("echo {}", long(10_000)));
    bomber.step(usize::MAX);
    rig.rest(0);
    let events = bomber.step(usize::MAX);
    assert!(
        matches!(
            events[..],
            [
                SimEvent::Close {
                    code: Some(1009),
                    ..
                },
                ..
            ]
        ),
        "{events:?}"
    );
    other.send_text(&format!("echo {}", long(9_000)));
    other.step(usize::MAX);
    assert_eq!(hear(&mut rig, &mut other), [long(9_000)]);
}

/// A few bytes a message can make a megabyte of work: that counts as what it is.
#[test]
fn a_message_that_inflates_far_uses_up_more_of_the_rate() {
    let limits = Limits {
        messages_per_second_max: 10,
        messages_burst_max: 20,
        ..Limits::default()
    };
    let mut rig = Rig::one(limits);
    let mut client = rig.client_with(&[OFFER]);
    for _ in 0..5 {
        client.send_text(&format!("ignored {}", long(160_000)));
    }
    client.step(usize::MAX);
    rig.rest(0);
    let received = || rig.stats[0].messages_received.value();
    assert_eq!(received(), 2, "ten each of a burst of twenty");
    assert_eq!(rig.stats[0].rate_limited.value(), 1);
}
