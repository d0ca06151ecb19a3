//! Who sends much waits for who sends little, and everything that is sent counts.

use super::super::input::FIRST_MESSAGES;
use super::*;

fn raw(fin: bool, opcode: Opcode) -> SimFrame {
    SimFrame {
        fin,
        opcode,
        compressed: false,
        payload: Vec::new(),
    }
}

/// Runs the shard until the rate has let everything through, and answers how many milliseconds that took.
fn passed_ms(
    rig: &mut Rig,
    client: &mut SimWebSocket,
    is_done: impl Fn(&ShardStats) -> bool,
) -> u64 {
    let mut passed_ms = 0;
    loop {
        rig.rest(0);
        client.step(usize::MAX);
        if is_done(&rig.stats[0]) {
            return passed_ms;
        }
        assert!(passed_ms < 60_000, "it never got through");
        rig.advance_ms(10);
        passed_ms += 10;
    }
}

#[test]
fn control_frames_count_against_the_rate() {
    for opcode in [Opcode::Ping, Opcode::Pong] {
        let mut rig = Rig::one(Limits {
            messages_per_second_max: 100,
            messages_burst_max: 50,
            ..Limits::default()
        });
        let mut client = rig.client();
        for _ in 0..250 {
            client.send_frame(&raw(true, opcode));
        }
        client.send_text("after them");
        client.step(usize::MAX);
        let took_ms = passed_ms(&mut rig, &mut client, |stats| {
            stats.messages_received.value() == 1
        });
        assert!(
            (1_900..2_200).contains(&took_ms),
            "{opcode:?}: {took_ms} ms"
        );
        assert_eq!(rig.stats[0].rate_limited.value(), 1);
    }
}

#[test]
fn fragments_count_against_the_rate() {
    let mut rig = Rig::one(Limits {
        messages_per_second_max: 100,
        messages_burst_max: 50,
        ..Limits::default()
    });
    let mut client = rig.client();
    client.send_frame(&raw(false, Opcode::Text));
    // Sixteen of them count like a message, and the first belongs to one that is counted when it is whole.
    for _ in 0..250 * 16 {
        client.send_frame(&raw(false, Opcode::Continuation));
    }
    client.send_frame(&raw(true, Opcode::Continuation));
    client.step(usize::MAX);
    let took_ms = passed_ms(&mut rig, &mut client, |stats| {
        stats.messages_received.value() == 1
    });
    assert!((1_900..2_200).contains(&took_ms), "{took_ms} ms");
    assert_eq!(rig.stats[0].rate_limited.value(), 1);
}

#[test]
fn large_messages_count_for_several() {
    let mut rig = Rig::one(Limits {
        messages_per_second_max: 100,
        messages_burst_max: 50,
        ..Limits::default()
    });
    let mut client = rig.client();
    let large = "x".repeat(16 * 16 * 1024);
    for _ in 0..10 {
        client.send_text(&large);
    }
    let took_ms = passed_ms(&mut rig, &mut client, |stats| {
        stats.messages_received.value() == 10
    });
    // Ten times sixteen, less the burst and the last one, which is taken before it is paid for.
    assert!((900..1_200).contains(&took_ms), "{took_ms} ms");
}

#[test]
fn a_pass_is_no_longer_than_its_bound_and_hears_everybody() {
    const FLOODERS: u64 = 20;
    let mut rig = Rig::one(Limits::default());
    let mut flooders: Vec<SimWebSocket> = (0..FLOODERS).map(|_| rig.client()).collect();
    let mut quiet = rig.client();
    for flooder in &mut flooders {
        for _ in 0..60 {
            flooder.send_text("nothing");
        }
        flooder.step(usize::MAX);
    }
    quiet.send_text("echo heard");
    quiet.step(usize::MAX);
    let bound = Limits::default().queued_messages_per_pass_max;
    // What arrived is decoded in the first pass after the one that started to receive it.
    while rig.stats[0].messages_received.value() == 0 {
        rig.shards[0].tick().unwrap();
    }
    let first = rig.stats[0].messages_received.value();
    assert!(
        first <= bound + FIRST_MESSAGES * (FLOODERS + 1),
        "{first} messages in one pass"
    );
    // One more pass reports what the first one sent.
    rig.shards[0].tick().unwrap();
    assert_eq!(texts(quiet.step(usize::MAX)), ["heard"]);
    rig.rest(0);
    assert_eq!(rig.stats[0].messages_received.value(), 60 * FLOODERS + 1);
}

#[test]
fn who_is_behind_its_rate_comes_after_the_others() {
    const SHARE: u64 = 16;
    let mut rig = Rig::one(Limits {
        messages_per_pass_max: SHARE,
        queued_messages_per_pass_max: 1,
        ..Limits::default()
    });
    let mut heavy: Vec<SimWebSocket> = (0..5).map(|_| rig.client()).collect();
    let mut light = rig.client();
    for messages in [60, 40] {
        rig.rest(0);
        for client in &mut heavy {
            for _ in 0..messages {
                client.send_text("nothing");
            }
            client.step(usize::MAX);
        }
    }
    for _ in 0..10 {
        light.send_text("echo light");
    }
    light.step(usize::MAX);
    let before = rig.stats[0].messages_received.value();
    let mut heard = 0;
    while heard < 10 {
        rig.shards[0].tick().unwrap();
        heard += texts(light.step(usize::MAX)).len();
    }
    let taken = rig.stats[0].messages_received.value() - before;
    // The rest of its own pass goes to the others, and the whole of the one that sends its answers.
    assert!(taken <= 10 + 2 * SHARE, "{taken} messages");
    rig.rest(0);
    assert_eq!(rig.stats[0].messages_received.value(), before + 5 * 40 + 10);
}

#[test]
fn who_is_behind_its_rate_is_received_from_one_buffer_at_a_time() {
    let mut rig = Rig::one(Limits {
        messages_per_second_max: 1000,
        messages_burst_max: 200,
        ..Limits::default()
    });
    let buffer_bytes = SimSetup::default().buffer_bytes;
    let mut flooder = rig.client();
    // Whoever is quiet is received from one buffer at a time anyway.
    for _ in 0..5 {
        flooder.send_ping(b"busy");
        flooder.step(usize::MAX);
        rig.rest(0);
    }
    let (mut most_at_first, mut most) = (0, 0);
    for round in 0..200 {
        for _ in 0..100 {
            flooder.send_ping(&[b'x'; 125]);
        }
        flooder.step(usize::MAX);
        rig.shards[0].tick().unwrap();
        rig.advance_ms(1);
        let core = &mut rig.shards[0].core;
        let key = core.table.connections.key_at(0).unwrap();
        let stashed = core.table.stashed_bytes(key);
        // By then all of what was received before it was known has been decoded.
        if round < 100 {
            most_at_first = most_at_first.max(stashed);
        } else {
            most = most.max(stashed);
        }
    }
    assert!(most_at_first > buffer_bytes, "{most_at_first} bytes");
    assert!((1..=buffer_bytes).contains(&most), "{most} bytes");
}

#[test]
fn large_answers_count_for_several() {
    let mut rig = Rig::one(Limits {
        messages_per_second_max: 100,
        messages_burst_max: 20,
        ..Limits::default()
    });
    let (mut author, mut reader) = (rig.client(), rig.client());
    author.send_text(&format!("fill {}", "x".repeat(160_000)));
    passed_ms(&mut rig, &mut author, |stats| {
        stats.messages_received.value() == 1
    });
    for _ in 0..10 {
        reader.send_text("recall");
    }
    reader.step(usize::MAX);
    let took_ms = passed_ms(&mut rig, &mut reader, |stats| {
        stats.messages_received.value() == 1 + 10
    });
    // Ten times ten, less the burst and the last one, which is taken before it is paid for.
    assert!((600..1_000).contains(&took_ms), "{took_ms} ms");
}

#[test]
fn a_pass_inflates_a_bounded_number_of_bytes() {
    use crate::sim::EXTENSIONS;

    const FLOODERS: u64 = 20;
    let limits = Limits::default();
    let mut rig = Rig::one(limits.clone());
    let offer = (EXTENSIONS, "permessage-deflate");
    let mut flooders: Vec<SimWebSocket> =
        (0..FLOODERS).map(|_| rig.client_with(&[offer])).collect();
    // Sixteen of 256 bytes each, after which the first in the line has had its share.
    let text = format!("nothing {}", "x".repeat(4000));
    for flooder in &mut flooders {
        for _ in 0..60 {
            flooder.send_text(&text);
        }
        flooder.step(usize::MAX);
    }
    let mut before = 0;
    while before < 60 * FLOODERS {
        rig.shards[0].tick().unwrap();
        let now = rig.stats[0].messages_received.value();
        let bytes = (now - before) * 4008;
        let share = limits.messages_per_pass_max * 256;
        let most = limits.queued_messages_per_pass_max * 256 + share + 4008;
        assert!(bytes <= most, "{bytes} bytes in one pass");
        before = now;
    }
}
