//! permessage-deflate against another implementation: what is compressed inflates there to the same, with a window of just the
//! size agreed; what arrives inflates to what comes out there, up to the bound; what is agreed lies within what was offered.
#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use shardcast_fuzz::{Cuts, offers, short_bytes};
use shardcast_shard::ws::deflate::{Agreement, Deflater, Inflater, Policy};
use shardcast_shard::ws::frame::{Opcode, encode_masked, parse_header};
use shardcast_shard::ws::oracle::{Event, LIMITS, feed_with};
use shardcast_shard::ws::{Incoming, Input, MessageKind, Session, Violation, handshake};

// The unit tests' own, so that both compare with the same.
#[path = "../../src/ws/tests/miniz.rs"]
mod miniz;

/// Messages of one connection, at most.
const MESSAGES_MAX: usize = 16;

type Inflated = std::result::Result<Vec<u8>, Violation>;

fuzz_target!(|input: &[u8]| {
    let mut input = Unstructured::new(input);
    let _ = match input.arbitrary::<u8>().unwrap_or_default() % 8 {
        0..=2 => compress(&mut input),
        3..=5 => inflate(&mut input),
        _ => negotiate(&mut input),
    };
});

/// Something that is worth compressing, or not.
fn content(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let times: u8 = input.arbitrary()?;
    let unit = short_bytes(input)?;
    Ok(match times {
        0..=0x7f => unit.to_vec(),
        // Longer than any window, now and then.
        _ => unit.repeat(usize::from(times - 0x7f)),
    })
}

/// A server's messages, inflated by a client of exactly the window that was agreed.
fn compress(input: &mut Unstructured<'_>) -> Result<()> {
    let (level, bits, takeover): (u8, u8, bool) = input.arbitrary()?;
    // Values outside count as the nearest within.
    let window_bits = bits.clamp(8, 15);
    let mut deflater = Deflater::new(level, bits, takeover);
    let mut client = miniz::Decompressor::new(window_bits);
    assert_eq!(deflater.memory_bytes(), 0);
    for _ in 0..MESSAGES_MAX {
        let kind = match input.arbitrary()? {
            true => MessageKind::Text,
            false => MessageKind::Binary,
        };
        let message = content(input)?;
        match deflater.frame(kind, &message) {
            Some(frame) => {
                let (header, size) = parse_header(&frame).expect("valid").expect("whole");
                assert_eq!(header.length, (frame.len() - size) as u64);
                // RSV1 alone: one compressed message in one frame.
                assert_eq!((header.fin, header.reserved, header.mask), (true, 4, None));
                assert_eq!(header.opcode, kind.opcode());
                if !takeover {
                    assert!(frame.len() - size < message.len(), "it became no smaller");
                    client = miniz::Decompressor::new(window_bits);
                }
                assert_eq!(client.message(&frame[size..]).as_deref(), Ok(&message[..]));
            }
            None => assert!(!takeover, "the client would not keep step"),
        }
        let held_max = Deflater::stream_bytes(bits) + Deflater::SPARE_BYTES_MAX;
        assert!(deflater.memory_bytes() <= held_max);
    }
    Ok(())
}

/// A client's messages: compressed by another implementation, perhaps damaged, or no compression at all.
fn inflate(input: &mut Unstructured<'_>) -> Result<()> {
    let takeover: bool = input.arbitrary()?;
    let cuts = Cuts::read(input)?;
    let mut compressor = miniz::Compressor::new(takeover);
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    let mut is_known = true;
    for _ in 0..MESSAGES_MAX {
        let Ok((payload, contents)) = message(input, &mut compressor) else {
            break;
        };
        let opcode = match input.arbitrary().unwrap_or(false) {
            true => Opcode::Text,
            false => Opcode::Binary,
        };
        let start = stream.len();
        encode_masked(opcode, true, [9, 8, 7, 6], &payload, &mut stream);
        stream[start] |= 0x40;
        let outcome = match takeover {
            // What comes out of a window that was taken over is known where nobody has damaged anything.
            true => contents.map(within),
            false => Some(miniz::inflate(&payload, LIMITS.message_size_max)),
        };
        is_known &= outcome.is_some();
        if let Some(outcome) = outcome.filter(|_| is_known) {
            let event = judge(opcode, payload.len(), outcome);
            let is_last = event.is_last();
            expected.push(event);
            if is_last {
                break;
            }
        }
    }
    let whole = events_of(takeover, &stream, &[]);
    let cut = events_of(takeover, &stream, &cuts.within(stream.len()));
    assert_eq!(cut, whole, "{stream:x?}");
    if is_known {
        assert_eq!(whole, expected, "{stream:x?}");
    } else {
        assert!(whole.starts_with(&expected), "{whole:?} {expected:?}");
    }
    Ok(())
}

/// The payload of a compressed message, and its contents where it is as its compressor made it.
fn message(
    input: &mut Unstructured<'_>,
    compressor: &mut miniz::Compressor,
) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let shape: u8 = input.arbitrary()?;
    if shape & 3 == 3 {
        return Ok((short_bytes(input)?.to_vec(), None));
    }
    let contents = content(input)?;
    let mut payload = match shape & 0x10 {
        0 => compressor.message(&contents),
        _ => miniz::finished(&contents),
    };
    if shape & 3 == 2 {
        for _ in 0..=shape >> 6 {
            let (place, bits): (u16, u8) = input.arbitrary()?;
            let place = usize::from(place) % payload.len();
            payload[place] ^= bits;
        }
        payload.extend_from_slice(short_bytes(input)?);
        return Ok((payload, None));
    }
    // Whoever ends a stream begins the next with an empty window, and this compressor does not know.
    let is_plain = shape & 0x10 == 0;
    Ok((payload, is_plain.then_some(contents)))
}

fn within(contents: Vec<u8>) -> Inflated {
    match contents.len() <= LIMITS.message_size_max {
        true => Ok(contents),
        false => Err(Violation::MessageTooLarge),
    }
}

/// What a session must say to a message whose payload has this length and inflates to this.
fn judge(opcode: Opcode, length: usize, contents: Inflated) -> Event {
    if length > LIMITS.message_size_max {
        return Event::Violation(Violation::MessageTooLarge);
    }
    match contents {
        Err(violation) => Event::Violation(violation),
        Ok(contents) if opcode == Opcode::Binary => Event::Message(MessageKind::Binary, contents),
        Ok(contents) => match std::str::from_utf8(&contents) {
            Ok(text) => Event::text(text),
            Err(_) => Event::Violation(Violation::InvalidText),
        },
    }
}

/// The events of a connection on which compression was agreed.
fn events_of(takeover: bool, stream: &[u8], cuts: &[usize]) -> Vec<Event> {
    let agreement = Agreement {
        server_window_bits: 15,
        client_window_bits: 15,
        server_takeover: takeover,
        client_takeover: takeover,
        server_window_named: false,
    };
    let (mut session, mut inflater) = match takeover {
        true => (Session::opened(), Inflater::dedicated(15)),
        false => (Session::opened(), Inflater::shared()),
    };
    session.agree(agreement);
    let held_max = Inflater::MEMORY_BYTES + Inflater::SPARE_BYTES_MAX.max(LIMITS.message_size_max);
    let (mut events, mut start) = (Vec::new(), 0);
    for &cut in cuts.iter().chain([&stream.len()]) {
        feed_with(
            &mut inflater,
            &mut session,
            &stream[start..cut],
            &mut events,
        );
        assert!(inflater.memory_bytes() <= held_max);
        start = cut;
    }
    events
}

/// Offers of a client, against what it offered as a plain reading has it.
fn negotiate(input: &mut Unstructured<'_>) -> Result<()> {
    let (server_window_bits, client_window_bits, takeovers): (u8, u8, u8) = input.arbitrary()?;
    let policy = Policy {
        server_window_bits,
        client_window_bits,
        server_takeover: takeovers & 1 != 0,
        client_takeover: takeovers & 2 != 0,
    };
    let mut request = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        .to_vec();
    // Anything may stand there, also what is no header.
    request.extend_from_slice(b"Sec-WebSocket-Extensions: ");
    request.extend_from_slice(input.bytes(input.len())?);
    request.extend_from_slice(b"\r\n\r\n");
    let mut received = request.clone();
    let (mut session, mut inflater) = (Session::new(), Inflater::shared());
    let mut bytes = Input::new(&mut received);
    let Some(Incoming::Upgrade(request)) = session.next(&mut bytes, &LIMITS, &mut inflater) else {
        return Ok(());
    };
    let members: Vec<&str> = request.extensions().collect();
    let offered: Vec<offers::Offer> = members
        .iter()
        .filter_map(|member| offers::read(member))
        .collect();
    let agreement = policy.negotiate(&request);
    let Some(agreement) = agreement else {
        let declined = offered.iter().all(|offer| !offer.permits(&policy));
        assert!(declined, "{policy:?} declines {members:?}");
        return Ok(());
    };
    let answer = agreement.to_string();
    let taken = offered.iter().find(|offer| offer.permits(&policy));
    let taken = taken.unwrap_or_else(|| panic!("{answer} was never offered: {members:?}"));
    taken.assert_answered(&answer, &agreement, &policy);
    let response = handshake::response(&request, None, Some(&agreement));
    let line = format!("\r\nSec-WebSocket-Extensions: {answer}\r\n");
    let text = std::str::from_utf8(&response).expect("an answer is text");
    assert_eq!(text.matches(&line).count(), 1);
    Ok(())
}
