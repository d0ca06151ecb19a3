//! Output that waits while a shard does not come to rest.

use super::*;

const PASSES: usize = 300;

/// A client is answered `each` messages in every pass, and passes take 5 ms. Answers what it hears meanwhile, and the rig.
fn busy(limits: Limits, each: usize) -> (Vec<String>, SimWebSocket, Rig) {
    let mut rig = Rig::one(limits);
    let mut client = rig.client();
    let mut heard = Vec::new();
    for number in 0..PASSES * each {
        client.send_text(&format!("echo {number}"));
        if number % each == each - 1 {
            client.step(usize::MAX);
            rig.shards[0].tick().unwrap();
            rig.advance_ms(5);
            heard.extend(texts(client.step(usize::MAX)));
        }
    }
    (heard, client, rig)
}

fn limits() -> Limits {
    Limits {
        messages_per_second_max: 0,
        ..Limits::default()
    }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[test]
fn a_shard_out_of_breath_sends_more_at_once_and_loses_nothing() {
    for (coalesce_us_max, waits) in [(20_000, true), (0, false)] {
        let limits = Limits {
            coalesce_us_max,
            ..limits()
        };
        let (mut heard, mut client, mut rig) = busy(limits, 2);
        let (sends, coalesced) = (
            rig.stats[0].sends.value(),
            rig.stats[0].passes_coalesced.value(),
        );
        assert_eq!(coalesced > 0, waits);
        assert_eq!(
            sends < PASSES as u64 / 2,
            waits,
            "{sends} sends in {PASSES} passes"
        );
        // What still waits leaves in time, though nothing else happens.
        while let Some(until_us) = rig.rest(0)
            && rig.shards[0].counts().unsettled > 0
        {
            let now_us = rig.network.clock().monotonic_us;
            assert!(until_us <= now_us + coalesce_us_max, "{until_us}");
            rig.network.advance(until_us - now_us);
        }
        heard.extend(texts(client.step(usize::MAX)));
        assert_eq!(heard, numbers(2 * PASSES));
    }
}

#[test]
fn nobody_is_too_slow_because_output_waits() {
    let limits = Limits {
        coalesce_us_max: 1_000_000,
        outbox_messages_max: 16,
        ..limits()
    };
    let (_, _, rig) = busy(limits, 3);
    assert!(rig.stats[0].passes_coalesced.value() > 0);
    assert_eq!(rig.stats[0].close_slow_consumer.value(), 0);
}
