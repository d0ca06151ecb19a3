//! Streams of a client's frames: valid ones made up by proptest, and one for every way to break the protocol.

use proptest::prelude::*;

use super::miniz::Compressor;
use super::*;
use crate::ws::frame::{Opcode, encode_masked};

/// The bit of a compressed message's first frame.
const RSV1: u8 = 0x40;

/// A message in fragments, with control frames between them, or a control frame by itself.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Message {
        kind: MessageKind,
        payload: Vec<u8>,
        /// Whether it is compressed, where that has been agreed.
        compressed: bool,
        /// Where what is sent is cut.
        cuts: Vec<prop::sample::Index>,
        /// After each fragment but the last, where there is one for it.
        between: Vec<(Opcode, Vec<u8>)>,
    },
    Control(Opcode, Vec<u8>),
}

impl Item {
    fn encode(&self, mask: [u8; 4], compressor: Option<&mut Compressor>, out: &mut Vec<u8>) {
        let (kind, payload, compressed, cuts, between) = match self {
            Self::Control(opcode, payload) => {
                return encode_masked(*opcode, true, mask, payload, out);
            }
            Self::Message {
                kind,
                payload,
                compressed,
                cuts,
                between,
            } => (kind, payload, *compressed, cuts, between),
        };
        let (sent, reserved) = match compressor {
            Some(compressor) if compressed => (compressor.message(payload), RSV1),
            _ => (payload.clone(), 0),
        };
        let (first, mut between) = (out.len(), between.iter());
        let (mut opcode, mut start) = (kind.opcode(), 0);
        for cut in cuts_within(&sent, cuts) {
            encode_masked(opcode, false, mask, &sent[start..cut], out);
            if let Some((opcode, payload)) = between.next() {
                encode_masked(*opcode, true, mask, payload, out);
            }
            (opcode, start) = (Opcode::Continuation, cut);
        }
        encode_masked(opcode, true, mask, &sent[start..], out);
        out[first] |= reserved;
    }

    /// The events that the item is, in order: control frames overtake the message that they interrupt.
    pub(super) fn events(&self) -> Vec<Event> {
        let control = |opcode: Opcode, payload: &Vec<u8>| match opcode {
            Opcode::Ping => Event::Ping(payload.clone()),
            _ => Event::Pong(payload.clone()),
        };
        match self {
            Self::Control(opcode, payload) => vec![control(*opcode, payload)],
            Self::Message {
                kind,
                payload,
                cuts,
                between,
                ..
            } => between
                .iter()
                .take(cuts.len())
                .map(|(opcode, payload)| control(*opcode, payload))
                .chain([Event::Message(*kind, payload.clone())])
                .collect(),
        }
    }
}

fn control() -> impl Strategy<Value = (Opcode, Vec<u8>)> {
    let opcode = prop_oneof![Just(Opcode::Ping), Just(Opcode::Pong)];
    let payload = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..8),
        1 => prop::collection::vec(any::<u8>(), 120..=125),
    ];
    (opcode, payload)
}

fn content() -> impl Strategy<Value = (MessageKind, Vec<u8>)> {
    let text = prop_oneof![
        4 => "\\PC{0,12}",
        1 => "\\PC{40,60}",
        1 => "[a-zé€𝄞]{120,140}",
    ];
    prop_oneof![
        text.prop_map(|text: String| (MessageKind::Text, text.into_bytes())),
        prop::collection::vec(any::<u8>(), 0..150).prop_map(|bytes| (MessageKind::Binary, bytes)),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let message = (
        content(),
        any::<bool>(),
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        prop::collection::vec(control(), 0..3),
    )
        .prop_map(
            |((kind, payload), compressed, cuts, between)| Item::Message {
                kind,
                payload,
                compressed,
                cuts,
                between,
            },
        );
    prop_oneof![
        3 => message,
        1 => control().prop_map(|(opcode, payload)| Item::Control(opcode, payload)),
    ]
}

/// A stream without compressed messages, and the events expected.
pub(super) fn valid() -> impl Strategy<Value = (Vec<u8>, Vec<Event>)> {
    prop::collection::vec((item(), any::<[u8; 4]>()), 0..8).prop_map(|items| made_of(items, None))
}

/// Whether the client takes its window over, a stream in which some messages are compressed, and the events expected.
pub(super) fn valid_compressed() -> impl Strategy<Value = (bool, Vec<u8>, Vec<Event>)> {
    let items = prop::collection::vec((item(), any::<[u8; 4]>()), 0..8);
    (any::<bool>(), items).prop_map(|(takeover, items)| {
        let (stream, events) = made_of(items, Some(Compressor::new(takeover)));
        (takeover, stream, events)
    })
}

fn made_of(
    items: Vec<(Item, [u8; 4])>,
    mut compressor: Option<Compressor>,
) -> (Vec<u8>, Vec<Event>) {
    let (mut stream, mut events) = (Vec::new(), Vec::new());
    for (item, mask) in items {
        item.encode(mask, compressor.as_mut(), &mut stream);
        events.extend(item.events());
    }
    (stream, events)
}

/// The stream of [`valid`] with a few bytes changed.
pub(super) fn damaged() -> impl Strategy<Value = Vec<u8>> {
    damage(valid().prop_map(|(stream, _)| stream))
}

/// The stream of [`valid_compressed`] with a few bytes changed, and whether the client takes its window over.
pub(super) fn damaged_compressed() -> impl Strategy<Value = (bool, Vec<u8>)> {
    valid_compressed().prop_flat_map(|(takeover, stream, _)| (Just(takeover), damage(Just(stream))))
}

fn damage(stream: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let change = prop_oneof![any::<u8>(), (0..8_u32).prop_map(|bit| 1 << bit)];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), change), 1..4);
    (stream, changes).prop_map(|(mut stream, changes)| {
        for (index, bits) in changes {
            if !stream.is_empty() {
                let index = index.index(stream.len());
                stream[index] ^= bits;
            }
        }
        stream
    })
}

/// Positions within a stream, ascending.
pub(super) fn cuts_within(stream: &[u8], cuts: &[prop::sample::Index]) -> Vec<usize> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.sort_unstable();
    cuts
}

/// A frame by its first byte, masked.
pub(super) fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_masked(
        Opcode::Text,
        true,
        [0xa1, 0xb2, 0xc3, 0xd4],
        payload,
        &mut out,
    );
    out[0] = first;
    out
}

/// One stream for every way to break the protocol, and how it is named. All frames are whole.
pub(super) fn faults() -> Vec<(Vec<u8>, Violation)> {
    let large = vec![b'x'; LIMITS.message_size_max + 1];
    let mut unmasked_text = Vec::new();
    frame::encode(Opcode::Text, b"abc", &mut unmasked_text);
    vec![
        (raw(0xc1, b"rsv1"), Violation::ReservedBits),
        (raw(0xa2, b"rsv2"), Violation::ReservedBits),
        (raw(0x99, b"rsv3"), Violation::ReservedBits),
        (raw(0x83, b""), Violation::ReservedOpcode(3)),
        (raw(0x8b, b""), Violation::ReservedOpcode(11)),
        (unmasked_text, Violation::Unmasked),
        (b"\x89\x00".to_vec(), Violation::Unmasked),
        (raw(0x09, b""), Violation::ControlFragmented),
        (raw(0x08, b""), Violation::ControlFragmented),
        (raw(0x89, &[0; 126]), Violation::ControlTooLarge),
        (raw(0x88, &[0; 126]), Violation::ControlTooLarge),
        (raw(0x80, b"x"), Violation::UnexpectedContinuation),
        (raw(0x00, b"x"), Violation::UnexpectedContinuation),
        (
            [raw(0x81, b"done"), raw(0x80, b"x")].concat(),
            Violation::UnexpectedContinuation,
        ),
        (
            [raw(0x01, b"a"), raw(0x81, b"b")].concat(),
            Violation::MessageInterrupted,
        ),
        (
            [raw(0x02, b""), raw(0x01, b"")].concat(),
            Violation::MessageInterrupted,
        ),
        (raw(0x88, b"\x03"), Violation::CloseTruncated),
        (raw(0x88, b"\x03\xe7"), Violation::CloseCode(999)),
        (raw(0x88, b"\x03\xedreason"), Violation::CloseCode(1005)),
        (raw(0x88, b"\x0b\xb7"), Violation::CloseCode(2999)),
        (raw(0x88, b"\x13\x88"), Violation::CloseCode(5000)),
        (raw(0x88, b"\x03\xe8\xff"), Violation::InvalidText),
        (raw(0x81, b"ok\xc3\x28"), Violation::InvalidText),
        (raw(0x81, b"cut \xe2\x82"), Violation::InvalidText),
        (
            [raw(0x01, b"\xce"), raw(0x80, b"a")].concat(),
            Violation::InvalidText,
        ),
        (
            [raw(0x01, b"\xce"), raw(0x80, b"")].concat(),
            Violation::InvalidText,
        ),
        (
            [raw(0x01, b"\xff"), raw(0x80, b"a")].concat(),
            Violation::InvalidText,
        ),
        (raw(0x82, &large), Violation::MessageTooLarge),
        (raw(0x01, &large), Violation::MessageTooLarge),
        (
            [raw(0x02, &large[..600]), raw(0x80, &large[600..])].concat(),
            Violation::MessageTooLarge,
        ),
    ]
}

/// The same for a connection that may be sent compressed messages: what can go wrong with them.
pub(super) fn compressed_faults() -> Vec<(Vec<u8>, Violation)> {
    let mut compressor = Compressor::new(false);
    let mut compressed = |payload: &[u8]| compressor.message(payload);
    let noise: Vec<u8> = (0..=LIMITS.message_size_max as u32)
        .map(|index| (index.wrapping_mul(0x9e37_79b9) >> 24) as u8)
        .collect();
    let hello = compressed(b"Hello");
    let large = compressed(&[0; LIMITS.message_size_max + 1]);
    vec![
        // Bits that are reserved still, and frames that do not begin a message.
        (raw(0xa1, b""), Violation::ReservedBits),
        (raw(0x91, b""), Violation::ReservedBits),
        (raw(0xe1, &hello), Violation::ReservedBits),
        (raw(0xd2, &hello), Violation::ReservedBits),
        (raw(0xc8, b""), Violation::ReservedBits),
        (raw(0xc9, b"ping"), Violation::ReservedBits),
        (raw(0xca, &hello), Violation::ReservedBits),
        (raw(0xc0, &hello), Violation::ReservedBits),
        (
            [raw(0x41, &hello[..3]), raw(0xc0, &hello[3..])].concat(),
            Violation::ReservedBits,
        ),
        (
            [raw(0x01, b"a"), raw(0xc0, &hello)].concat(),
            Violation::ReservedBits,
        ),
        (
            [raw(0x41, &hello[..3]), raw(0xc1, &hello)].concat(),
            Violation::MessageInterrupted,
        ),
        // What is not DEFLATE, or not all of it.
        (raw(0xc1, b""), Violation::InvalidDeflate),
        (raw(0xc2, b"\x06"), Violation::InvalidDeflate),
        (raw(0xc2, &hello[..3]), Violation::InvalidDeflate),
        (
            [raw(0x41, &hello[..3]), raw(0x80, b"")].concat(),
            Violation::InvalidDeflate,
        ),
        (raw(0xc1, b"plain text"), Violation::InvalidDeflate),
        // A match that reaches back to before the first byte.
        (
            raw(0xc1, b"\xf2\x00\x11\x00\x00"),
            Violation::InvalidDeflate,
        ),
        // What it inflates to.
        (raw(0xc1, &compressed(b"\xff")), Violation::InvalidText),
        (
            raw(0xc1, &compressed(b"cut \xe2\x82")),
            Violation::InvalidText,
        ),
        (raw(0xc1, &large), Violation::MessageTooLarge),
        (raw(0xc2, &compressed(&noise)), Violation::MessageTooLarge),
        (
            [raw(0x42, &large[..4]), raw(0x80, &large[4..])].concat(),
            Violation::MessageTooLarge,
        ),
        // What comes first counts: the rest of this one is broken.
        (
            raw(0xc2, &[&large[..large.len() - 1], b"\x06"].concat()),
            Violation::MessageTooLarge,
        ),
    ]
}
