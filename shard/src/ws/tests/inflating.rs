//! Compressed messages that come in (RFC 7692 §7.2.2): every form that they take, what is wrong with others, and what they may cost.

use allocation_counter::measure;
use proptest::prelude::*;

use super::miniz::{self, Compressor, finished};
use super::streams::raw;
use super::*;

/// "Hello" in other forms than the shortest one: RFC 7692 §7.2.3.1 and §7.2.3.3 to §7.2.3.5.
const HELLOS: &[&[u8]] = &[
    b"\xf2\x48\xcd\xc9\xc9\x07\x00",
    b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
    b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
    b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
];

/// Limits under which a message may have so many bytes.
fn limits(message_size_max: usize) -> SessionLimits {
    SessionLimits {
        message_size_max,
        ..LIMITS
    }
}

/// What becomes of one message, a binary one.
fn inflate(
    agreed: &mut Agreed,
    payload: &[u8],
    limits: &SessionLimits,
) -> Result<Vec<u8>, Violation> {
    let mut frame = raw(0xc2, payload);
    let mut input = Input::new(&mut frame);
    match agreed
        .session
        .next(&mut input, limits, &mut agreed.inflater)
    {
        Some(Incoming::Message(message)) => {
            assert!(message.compressed_size.is_some());
            Ok(message.payload.to_vec())
        }
        Some(Incoming::Violation(violation)) => Err(violation),
        other => panic!("{other:?}"),
    }
}

/// Bytes that DEFLATE makes little of.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let step = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(step).collect()
}

#[test]
fn the_examples_of_the_rfc() {
    for payload in HELLOS {
        for takeover in [false, true] {
            let events = Agreed::new(takeover).events_of(&raw(0xc1, payload), &[]);
            assert_eq!(events, [Event::text("Hello")], "{payload:x?}");
        }
    }
    // §7.2.3.1 in fragments.
    let stream = [raw(0x41, b"\xf2\x48\xcd"), raw(0x80, b"\xc9\xc9\x07\x00")].concat();
    let events = Agreed::new(false).events_of(&stream, &[]);
    assert_eq!(events, [Event::text("Hello")]);
    // §7.2.3.2: the second message is a match into the first.
    let stream = [raw(0xc1, HELLOS[0]), raw(0xc1, b"\xf2\x00\x11\x00\x00")].concat();
    let events = Agreed::new(true).events_of(&stream, &[]);
    assert_eq!(events, [Event::text("Hello"), Event::text("Hello")]);
    let events = Agreed::new(false).events_of(&stream, &[]);
    let broken = Event::Violation(Violation::InvalidDeflate);
    assert_eq!(events, [Event::text("Hello"), broken]);
}

#[test]
fn a_message_tells_whether_it_came_compressed() {
    let mut stream = [raw(0x81, b"plain"), raw(0xc1, HELLOS[0])].concat();
    let mut agreed = Agreed::new(false);
    let mut input = Input::new(&mut stream);
    for expected in [(&b"plain"[..], false), (b"Hello", true)] {
        match agreed
            .session
            .next(&mut input, &LIMITS, &mut agreed.inflater)
        {
            Some(Incoming::Message(message)) => {
                let is_compressed = message.compressed_size.is_some();
                assert_eq!((&*message.payload, is_compressed), expected);
                // Parsers that work in place write to it.
                message.payload.fill(0);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn blocks_that_say_they_are_the_last_one() {
    let (one, two) = (finished(b"one "), finished(b"two "));
    let three = Compressor::new(false).message(b"three");
    let cases: &[(&[&[u8]], &[u8])] = &[
        // As the RFC writes it, without what begins the next stream, and finished by a stored block of which the tail was taken away.
        (&[&one, b"\x00"], b"one "),
        (&[&one], b"one "),
        (&[b"\x01"], b""),
        (&[&three, b"\x00\x00\xff\xff\x01"], b"three"),
        // More behind it, in a stream of its own.
        (&[&one, &three], b"one three"),
        (&[&one, &two, &three], b"one two three"),
        (&[&one, &two], b"one two "),
        (&[&three, b"\x00\x00\xff\xff", &one, b"\x00"], b"threeone "),
        (&[b"\x03\x00", b"\x03\x00", b"\x03\x00", b"\x00"], b""),
    ];
    for (parts, expected) in cases {
        let payload = parts.concat();
        for takeover in [false, true] {
            let mut agreed = Agreed::new(takeover);
            let mut client = Compressor::new(takeover);
            let before = client.message(b"before three");
            assert_eq!(
                inflate(&mut agreed, &before, &LIMITS).unwrap(),
                b"before three"
            );
            let inflated = inflate(&mut agreed, &payload, &LIMITS);
            assert_eq!(inflated.as_deref(), Ok(*expected), "{payload:x?}");
            // Whoever ends a stream begins the next with an empty window.
            let mut client = Compressor::new(takeover);
            for text in [&b"after three"[..], b"after", b"", b"", b"after three"] {
                let inflated = inflate(&mut agreed, &client.message(text), &LIMITS);
                assert_eq!(inflated.as_deref(), Ok(text), "{payload:x?}");
            }
        }
    }
}

#[test]
fn a_message_cut_short_is_not_taken_for_a_whole_one() {
    let text = "to be, or not to be: that is the question. ".repeat(9) + &"x".repeat(300);
    let mut payloads: Vec<_> = HELLOS.iter().map(|payload| payload.to_vec()).collect();
    payloads.push(Compressor::new(false).message(text.as_bytes()));
    payloads.push(Compressor::new(false).message(&noise(500)));
    let step = if cfg!(miri) { 41 } else { 1 };
    for payload in payloads {
        for length in (0..payload.len()).step_by(step) {
            let cut = &payload[..length];
            let result = inflate(&mut Agreed::new(false), cut, &LIMITS);
            // A cut behind a block is a message too.
            let expected = miniz::inflate(cut, LIMITS.message_size_max);
            assert_eq!(result, expected, "{length} of {payload:x?}");
            let dedicated = inflate(&mut Agreed::new(true), cut, &LIMITS);
            assert_eq!(dedicated, expected, "{length} of {payload:x?}");
        }
    }
}

#[test]
fn a_message_may_inflate_to_the_limit_and_no_further() {
    for size_max in [0, 1, 5, 999, 4095, 4096, 4097, 65_536, 100_000] {
        for takeover in [false, true] {
            let mut client = Compressor::new(takeover);
            let mut agreed = Agreed::new(takeover);
            // Room for what is sent, so that it is what comes out that counts.
            let contents = vec![b'x'; size_max];
            let payload = client.message(&contents);
            if payload.len() <= size_max {
                let inflated = inflate(&mut agreed, &payload, &limits(size_max));
                assert_eq!(inflated, Ok(contents));
            }
            let payload = Compressor::new(takeover).message(&vec![b'x'; size_max + 1]);
            let inflated = inflate(&mut Agreed::new(takeover), &payload, &limits(size_max));
            assert_eq!(inflated, Err(Violation::MessageTooLarge));
        }
    }
}

/// Messages that are small and would become large.
fn bombs() -> Vec<Vec<u8>> {
    let zeros = Compressor::new(false).message(&vec![0; 20_000_000]);
    assert!(zeros.len() < 21_000);
    // The same, each part a stream of its own, and with blocks between in which nothing is.
    let part = [finished(&vec![0; 50_000]), b"\x03\x00".repeat(50)].concat();
    let parts = [part.repeat(100), b"\x00".to_vec()].concat();
    let blocks = [b"\x00\x00\x00\xff\xff".repeat(200), zeros.clone()].concat();
    vec![zeros, parts, blocks]
}

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    for bomb in bombs() {
        for takeover in [false, true] {
            let size_max = 100_000;
            let mut agreed = Agreed::new(takeover);
            let mut frame = raw(0xc1, &bomb);
            let mut input = Input::new(&mut frame);
            let info = measure(|| {
                let limits = limits(size_max);
                match agreed
                    .session
                    .next(&mut input, &limits, &mut agreed.inflater)
                {
                    Some(Incoming::Violation(Violation::MessageTooLarge)) => {}
                    other => panic!("{other:?}"),
                }
            });
            // While output grows there are two of it.
            let bound = Inflater::MEMORY_BYTES + 2 * size_max;
            assert!(info.bytes_max as usize <= bound, "{info:?}");
            assert!(agreed.inflater.memory_bytes() <= Inflater::MEMORY_BYTES + size_max + 1);
        }
    }
}

#[test]
fn blocks_without_contents_end() {
    let units: &[&[u8]] = &[
        b"\x00\x00\x00\xff\xff",
        b"\x03\x00",
        b"\x01\x00\x00\xff\xff",
    ];
    for unit in units {
        let payload = [unit.repeat(100_000), b"\x00".to_vec()].concat();
        for takeover in [false, true] {
            let mut agreed = Agreed::new(takeover);
            let inflated = inflate(&mut agreed, &payload, &limits(1_000_000));
            assert_eq!(inflated, Ok(Vec::new()));
            let held = agreed.inflater.memory_bytes();
            assert!(held <= Inflater::MEMORY_BYTES + 4096, "{held}");
        }
    }
}

#[test]
fn output_follows_what_comes_out() {
    for takeover in [false, true] {
        let mut client = Compressor::new(takeover);
        let mut agreed = Agreed::new(takeover);
        for size in [0, 1, 100, 4096, 5000, 30_000, 65_536] {
            let payload = client.message(&vec![b'x'; size]);
            assert_eq!(
                inflate(&mut agreed, &payload, &limits(1 << 30)).map(|bytes| bytes.len()),
                Ok(size)
            );
            let output = agreed.inflater.memory_bytes() - Inflater::MEMORY_BYTES;
            assert!(output <= (2 * size).max(4096), "{output} for {size}");
        }
    }
}

/// Calls the session once more, with nothing new.
fn call_again(agreed: &mut Agreed) {
    let mut input = Input::new(&mut []);
    let incoming = agreed
        .session
        .next(&mut input, &LIMITS, &mut agreed.inflater);
    assert!(incoming.is_none());
}

#[test]
fn output_is_freed_after_it_was_lent() {
    let contents = noise(3 * Inflater::SPARE_BYTES_MAX / 2);
    for takeover in [false, true] {
        let mut agreed = Agreed::new(takeover);
        let spare = if takeover {
            0
        } else {
            Inflater::SPARE_BYTES_MAX
        };
        let mut client = Compressor::new(takeover);
        assert_eq!(agreed.inflater.memory_bytes(), 0);
        for _ in 0..2 {
            let inflated = inflate(&mut agreed, &client.message(&contents), &limits(1 << 21));
            assert!(inflated.is_ok_and(|inflated| inflated == contents));
            assert!(agreed.inflater.memory_bytes() > contents.len());
            call_again(&mut agreed);
            let held = agreed.inflater.memory_bytes();
            assert!(held <= Inflater::MEMORY_BYTES + spare, "{held}");
        }
    }
}

#[test]
fn an_agreed_session_owns_nothing_when_idle() {
    let mut client = Compressor::new(false);
    let payload = client.message("grüße ".repeat(100).as_bytes());
    let mut stream = [
        raw(0x41, &payload[..5]),
        raw(0x89, b"p"),
        raw(0x80, &payload[5..]),
        raw(0xc1, &payload),
    ]
    .concat();
    let mut agreed = Agreed::new(false);
    // The inflater is the shard's.
    agreed.feed(b"", &mut Vec::new());
    let inflater = &mut agreed.inflater;
    let session = &mut agreed.session;
    for size in [stream.len(), 1, 2, 7] {
        let info = measure(|| {
            let mut count = 0;
            for piece in stream.clone().chunks_mut(size) {
                let mut input = Input::new(piece);
                while session.next(&mut input, &LIMITS, inflater).is_some() {
                    count += 1;
                }
            }
            assert_eq!(count, 3);
        });
        assert_eq!(session.buffered_bytes(), 0);
        assert!(info.bytes_current <= 4096, "{info:?}");
    }
    // Not even while a message is lent that lay whole in its input.
    let mut input = Input::new(&mut stream);
    while session.next(&mut input, &LIMITS, inflater).is_some() {}
    assert_eq!(session.buffered_bytes(), 0);
}

#[test]
fn an_inflater_holds_what_it_says() {
    for mut inflater in [
        Inflater::shared(),
        Inflater::dedicated(15),
        Inflater::dedicated(8),
    ] {
        let mut agreed = Agreed::new(false);
        let mut frame = raw(0xc1, HELLOS[0]);
        let mut input = Input::new(&mut frame);
        let info = measure(|| {
            let incoming = agreed.session.next(&mut input, &LIMITS, &mut inflater);
            assert!(matches!(incoming, Some(Incoming::Message(_))));
        });
        let (held, said) = (info.bytes_current as usize, inflater.memory_bytes());
        assert!(
            (said * 9 / 10..=said).contains(&held),
            "{held} of {inflater:?}"
        );
        let after = measure(|| drop(inflater));
        assert_eq!(after.bytes_current, -info.bytes_current);
    }
}

/// A few kinds of contents, of which some are worth compressing.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "([a-f ]{1,9}(the|and|room|\\{\"type\":\"message\",)){0,40}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..300),
        (any::<u8>(), 0..1500_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

proptest! {
    #[test]
    fn damaged_messages_are_judged_as_miniz_does(
        contents in contents(),
        is_finished: bool,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
        more in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let mut payload = if is_finished {
            finished(&contents)
        } else {
            Compressor::new(false).message(&contents)
        };
        for (index, byte) in damage {
            let index = index.index(payload.len());
            payload[index] ^= byte;
        }
        payload.extend(more);
        if let Some(cut) = cut {
            payload.truncate(cut.index(payload.len()));
        }
        let limits = limits(2000);
        let expected = miniz::inflate(&payload, limits.message_size_max);
        for takeover in [false, true] {
            let result = inflate(&mut Agreed::new(takeover), &payload, &limits);
            prop_assert_eq!(&result, &expected, "{:x?}", payload);
        }
    }

    #[test]
    fn what_one_client_takes_over_is_its_own(
        messages in prop::collection::vec((0..3_usize, contents()), 1..12),
    ) {
        let mut clients: Vec<_> = (0..3).map(|_| (Compressor::new(true), Agreed::new(true))).collect();
        for (client, contents) in messages {
            let (compressor, agreed) = &mut clients[client];
            let inflated = inflate(agreed, &compressor.message(&contents), &limits(2000));
            prop_assert_eq!(inflated, Ok(contents));
        }
    }
}
