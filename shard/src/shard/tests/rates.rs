//! How many bytes a connection may send, and how many connections a user may have.

use super::*;

fn is_closed_with(event: &SimEvent, expected: u16) -> bool {
    matches!(event, SimEvent::Close { code: Some(code), .. } if *code == expected)
}

#[test]
fn bytes_are_read_at_the_rate_and_none_is_lost() {
    const MESSAGES: u64 = 100;
    let mut rig = Rig::one(Limits {
        messages_per_second_max: 0,
        bytes_per_second_max: 100_000,
        bytes_burst_max: 50_000,
        ..Limits::default()
    });
    let mut flooder = rig.client();
    let mut other = rig.client();
    let text = format!("nothing {}", "x".repeat(10_000 - 8 - 8));
    for _ in 0..MESSAGES {
        flooder.send_text(&text);
    }
    let (mut passed_ms, mut told) = (0, Vec::new());
    while rig.stats[0].messages_received.value() < MESSAGES + passed_ms / 10 {
        rig.rest(0);
        told.extend(texts(flooder.step(usize::MAX)));
        // Somebody else is heard at once all the time.
        other.send_text("echo heard");
        other.step(usize::MAX);
        rig.rest(0);
        assert_eq!(texts(other.step(usize::MAX)), ["heard"]);
        rig.advance_ms(10);
        passed_ms += 10;
        assert!(passed_ms < 60_000, "it never got through");
    }
    // A million bytes less the burst, and less what one receive takes on credit.
    assert!((8_700..=9_700).contains(&passed_ms), "{passed_ms} ms");
    assert_eq!(rig.stats[0].rate_limited.value(), 1);
    assert!(
        told.len() == 1 && told[0].contains("100000 bytes a second"),
        "{told:?}"
    );
}

#[test]
fn many_small_messages_and_one_that_does_not_end_count_alike() {
    let mut rig = Rig::one(Limits {
        bytes_per_second_max: 10_000,
        bytes_burst_max: 10_000,
        messages_per_second_max: 0,
        ..Limits::default()
    });
    let mut client = rig.client();
    // Never whole, so it never counts as a message.
    client.send_frame(&SimFrame {
        fin: false,
        opcode: Opcode::Text,
        compressed: false,
        payload: vec![b'x'; 500_000],
    });
    for _ in 0..500 {
        client.step(usize::MAX);
        rig.rest(0);
        rig.advance_ms(10);
    }
    let received = rig.stats[0].bytes_received.value();
    // Five seconds, the burst, and what two receives bring at most.
    assert!((50_000..200_000).contains(&received), "{received}");
    assert_eq!(rig.stats[0].rate_limited.value(), 1);
}

#[test]
fn one_connection_too_many_of_a_user_is_told_so_and_nothing_else() {
    let mut rig = Rig::one(Limits {
        user_connections_max: 2,
        ..Limits::default()
    });
    let mut first = rig.client();
    let mut second = rig.client();
    let mut third = SimWebSocket::connect(&rig.network, 0, "/");
    third.step(usize::MAX);
    rig.rest(0);
    let events = third.step(usize::MAX);
    assert!(
        matches!(&events[..], [SimEvent::Upgraded(_), close] if is_closed_with(close, 4429)),
        "{events:?}"
    );
    assert_eq!(rig.stats[0].close_user_connections.value(), 1);
    for client in [&mut first, &mut second] {
        client.send_text("echo still here");
        client.step(usize::MAX);
        rig.rest(0);
        assert_eq!(texts(client.step(usize::MAX)), ["still here"]);
    }
    // Its close frame is answered, and its place was never taken.
    rig.rest(0);
    third.step(usize::MAX);
    rig.rest(0);
    let counts = rig.shards[0].counts();
    assert_eq!((counts.connections, counts.hub.members), (2, 2));
    second.client().close();
    rig.rest(0);
    let mut fourth = rig.client();
    fourth.send_text("echo in");
    fourth.step(usize::MAX);
    rig.rest(0);
    assert_eq!(texts(fourth.step(usize::MAX)), ["in"]);
}

#[test]
fn of_two_connections_at_the_same_time_one_comes_in() {
    let mut rig = Rig::one(Limits {
        user_connections_max: 1,
        ..Limits::default()
    });
    let mut clients = [0; 2].map(|shard| SimWebSocket::connect(&rig.network, shard, "/"));
    clients.iter_mut().for_each(|client| {
        client.step(usize::MAX);
    });
    rig.rest(0);
    let closed = clients.iter_mut().filter_map(|client| {
        let events = client.step(usize::MAX);
        events
            .iter()
            .find(|event| is_closed_with(event, 4429))
            .cloned()
    });
    assert_eq!(closed.count(), 1);
    assert_eq!(rig.shards[0].counts().hub.members, 1);
}
