//! Compressed messages that go out (RFC 7692 §7.2.1): another implementation inflates them, within the window that was agreed.

use allocation_counter::measure;
use proptest::prelude::*;

use super::miniz::Decompressor;
use super::*;
use crate::ws::frame::{Header, Opcode, parse_header};

/// The payload of a server's frame, which must be a whole compressed message of this kind.
fn payload_of(frame: &[u8], kind: MessageKind) -> &[u8] {
    let (header, size) = parse_header(frame).unwrap().unwrap();
    let expected = Header {
        fin: true,
        reserved: Header::COMPRESSED,
        opcode: kind.opcode(),
        mask: None,
        length: (frame.len() - size) as u64,
    };
    assert_eq!(header, expected);
    &frame[size..]
}

/// Numbers that look random and are the same each time.
fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    *state >> 33
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7;
    (0..length).map(|_| random(&mut state) as u8).collect()
}

/// Messages that repeat themselves at every distance up to beyond the window: what tempts a compressor to reach back too far.
fn tempting(window_bits: u8) -> Vec<Vec<u8>> {
    let window = 1 << window_bits;
    let mut state = u64::from(window_bits);
    let mut messages = Vec::new();
    // One piece, again after exactly so many other bytes.
    let nearest = usize::max(window, 300) - 300;
    for distance in (nearest..window + 300).step_by(if window_bits <= 9 { 1 } else { 37 }) {
        let piece = noise(20 + distance % 250);
        let gap = distance.saturating_sub(piece.len());
        let between: Vec<u8> = (0..gap).map(|_| random(&mut state) as u8).collect();
        messages.push([&piece[..], &between, &piece, &piece[..9], &between].concat());
    }
    // A walk over old pieces of any length at any distance.
    let mut walk = noise(3 * window);
    while walk.len() < 12 * window {
        let length = 3 + random(&mut state) as usize % 300;
        let start = walk.len() - 1 - random(&mut state) as usize % (2 * window);
        for index in start..start + length {
            walk.push(walk[index.min(walk.len() - 1)]);
        }
        if random(&mut state).is_multiple_of(4) {
            walk.push(random(&mut state) as u8);
        }
    }
    messages.extend(walk.chunks(window / 2 + 77).map(<[u8]>::to_vec));
    messages.push(walk);
    messages
}

#[test]
fn no_match_reaches_back_further_than_the_window() {
    // Of 8 bits too: zlib has no such window, and what it makes with the next larger one must do.
    for window_bits in [8, 9, 10, 12] {
        let messages = tempting(window_bits);
        for level in 1..=9 {
            for takeover in [false, true] {
                let mut deflater = Deflater::new(level, window_bits, takeover);
                let mut client = Decompressor::new(window_bits);
                for message in &messages {
                    let Some(frame) = deflater.frame(MessageKind::Binary, message) else {
                        assert!(!takeover);
                        continue;
                    };
                    if !takeover {
                        client = Decompressor::new(window_bits);
                    }
                    let payload = payload_of(&frame, MessageKind::Binary);
                    // Not with assert_eq: it would print some hundred kilobytes.
                    let is_same = client.message(payload).as_ref() == Ok(message);
                    assert!(is_same, "{window_bits} bits, level {level}, {takeover}");
                }
            }
        }
    }
}

/// Shows that the test above would notice.
#[test]
fn a_match_that_reaches_back_further_comes_out_wrong() {
    for (window_bits, level) in [(8, 1), (8, 6), (8, 9), (9, 1), (9, 9), (12, 6)] {
        let mut deflater = Deflater::new(level, u8::max(window_bits, 9) + 1, false);
        let wrong = tempting(window_bits).iter().any(|message| {
            let Some(frame) = deflater.frame(MessageKind::Binary, message) else {
                return false;
            };
            let payload = payload_of(&frame, MessageKind::Binary);
            Decompressor::new(window_bits).message(payload).as_ref() != Ok(message)
        });
        assert!(wrong, "{window_bits} bits, level {level}");
    }
}

#[test]
fn what_does_not_become_smaller_is_not_compressed() {
    let mut deflater = Deflater::new(6, 15, false);
    for payload in [&b""[..], b"a", b"Hello", &noise(100), &noise(70_000)] {
        assert!(deflater.frame(MessageKind::Binary, payload).is_none());
        // The next message is not touched by that.
        let frame = deflater.frame(MessageKind::Text, &[b'x'; 100]).unwrap();
        let payload = payload_of(&frame, MessageKind::Text);
        assert!(payload.len() < 10);
        let inflated = Decompressor::new(15).message(payload);
        assert_eq!(inflated, Ok(vec![b'x'; 100]));
    }
    // Seven bytes, six once compressed; six would stay six.
    assert!(deflater.frame(MessageKind::Text, b"aaaaaaa").is_some());
    for length in 0..40 {
        let text = "ab".repeat(length);
        if let Some(frame) = deflater.frame(MessageKind::Text, text.as_bytes()) {
            assert!(payload_of(&frame, MessageKind::Text).len() < text.len());
        }
    }
}

#[test]
fn with_takeover_everything_is_compressed() {
    let mut deflater = Deflater::new(6, 15, true);
    let mut client = Decompressor::new(15);
    let noise = noise(70_000);
    for payload in [
        &b""[..],
        b"",
        b"a",
        b"",
        &noise,
        &noise[50_000..],
        b"",
        &noise[69_000..],
    ] {
        let frame = deflater.frame(MessageKind::Binary, payload).unwrap();
        let sent = payload_of(&frame, MessageKind::Binary);
        assert!(client.message(sent).as_deref() == Ok(payload));
        assert!(sent.len() <= payload.len() + payload.len() / 1000 + 20);
    }
    // RFC 7692 §7.2.3.6.
    let frame = deflater.frame(MessageKind::Text, b"").unwrap();
    assert_eq!(frame[..], b"\xc1\x01\x00"[..]);
    // The second time it is a match.
    let frame = deflater
        .frame(MessageKind::Binary, &noise[69_000..])
        .unwrap();
    assert!(frame.len() < 40);
}

#[test]
fn the_example_of_the_rfc() {
    // §7.2.3.1, and with takeover §7.2.3.2 where zlib's choice is the same as the RFC's.
    let mut deflater = Deflater::new(9, 15, true);
    let first = deflater.frame(MessageKind::Text, b"Hello").unwrap();
    assert_eq!(first[..], b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"[..]);
}

#[test]
fn frames_of_every_length_of_header() {
    let mut deflater = Deflater::new(1, 15, true);
    for (size, header_size) in [(100, 2), (1000, 4), (50_000, 4), (66_000, 10)] {
        let payload = noise(size);
        let frame = deflater.frame(MessageKind::Binary, &payload).unwrap();
        assert_eq!(frame[0], 0xc0 | Opcode::Binary as u8);
        let sent = payload_of(&frame, MessageKind::Binary);
        assert_eq!(frame.len() - sent.len(), header_size);
    }
}

#[test]
fn a_compressor_holds_what_it_says() {
    for window_bits in 8..=15 {
        for level in [1, 6, 9] {
            let mut deflater = Deflater::new(level, window_bits, true);
            assert_eq!(deflater.memory_bytes(), 0);
            let info = measure(|| {
                drop(deflater.frame(MessageKind::Text, b"Hello"));
            });
            let (held, said) = (info.bytes_current as usize, deflater.memory_bytes());
            assert!(
                (said * 9 / 10..=said).contains(&held),
                "{held} of {deflater:?}"
            );
            assert_eq!(said, Deflater::stream_bytes(window_bits));
        }
    }
}

#[test]
fn output_is_freed_after_a_large_message() {
    for takeover in [false, true] {
        let mut deflater = Deflater::new(1, 15, takeover);
        let text = [noise(100_000), vec![0; 100_000]].concat();
        let frame = deflater.frame(MessageKind::Binary, &text).unwrap();
        assert!(frame.len() > 90_000);
        let spare = if takeover {
            0
        } else {
            Deflater::SPARE_BYTES_MAX
        };
        let held = deflater.memory_bytes();
        assert!(held <= Deflater::stream_bytes(15) + spare, "{held}");
        // Also where nothing came of it.
        let frame = deflater.frame(MessageKind::Binary, &noise(500_000));
        assert_eq!(frame.is_some(), takeover);
        let held = deflater.memory_bytes();
        assert!(held <= Deflater::stream_bytes(15) + spare, "{held}");
    }
}

proptest! {
    #[test]
    fn what_is_compressed_inflates_to_the_same(
        level in 0_u8..12,
        window_bits in 7_u8..17,
        takeover: bool,
        messages in prop::collection::vec(
            prop_oneof![
                "([a-f ]{1,9}(the|and|room|\\{\"type\":\"message\",)){0,90}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..300),
                (any::<u8>(), 0..3000_usize).prop_map(|(byte, length)| vec![byte; length]),
            ],
            1..8,
        ),
    ) {
        let mut deflater = Deflater::new(level, window_bits, takeover);
        let mut client = Decompressor::new(window_bits.clamp(8, 15));
        for message in messages {
            let Some(frame) = deflater.frame(MessageKind::Binary, &message) else {
                prop_assert!(!takeover);
                continue;
            };
            if !takeover {
                client = Decompressor::new(window_bits.clamp(8, 15));
            }
            let payload = payload_of(&frame, MessageKind::Binary);
            prop_assert!(takeover || payload.len() < message.len());
            prop_assert_eq!(client.message(payload), Ok(message));
        }
    }
}
