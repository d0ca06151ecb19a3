//! Streams of a client's frames: valid ones made up by proptest, and one for every way to break the protocol.

use proptest::prelude::*;

use super::*;
use crate::ws::frame::{Opcode, encode_masked};

/// A message in fragments, with control frames between them, or a control frame by itself.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Message {
        kind: MessageKind,
        payload: Vec<u8>,
        /// Where it is cut, ascending.
        cuts: Vec<usize>,
        /// After each fragment but the last, where there is one for it.
        between: Vec<(Opcode, Vec<u8>)>,
    },
    Control(Opcode, Vec<u8>),
}

impl Item {
    pub(super) fn encode(&self, mask: [u8; 4], out: &mut Vec<u8>) {
        match self {
            Self::Control(opcode, payload) => encode_masked(*opcode, true, mask, payload, out),
            Self::Message {
                kind,
                payload,
                cuts,
                between,
            } => {
                let mut between = between.iter();
                let (mut opcode, mut start) = (kind.opcode(), 0);
                for &cut in cuts {
                    encode_masked(opcode, false, mask, &payload[start..cut], out);
                    if let Some((opcode, payload)) = between.next() {
                        encode_masked(*opcode, true, mask, payload, out);
                    }
                    (opcode, start) = (Opcode::Continuation, cut);
                }
                encode_masked(opcode, true, mask, &payload[start..], out);
            }
        }
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
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        prop::collection::vec(control(), 0..3),
    )
        .prop_map(|((kind, payload), cuts, between)| {
            let mut cuts: Vec<_> = cuts
                .iter()
                .map(|cut| cut.index(payload.len() + 1))
                .collect();
            cuts.sort_unstable();
            Item::Message {
                kind,
                payload,
                cuts,
                between,
            }
        });
    prop_oneof![
        3 => message,
        1 => control().prop_map(|(opcode, payload)| Item::Control(opcode, payload)),
    ]
}

/// Items, the stream that they make, and the events expected.
pub(super) fn valid() -> impl Strategy<Value = (Vec<u8>, Vec<Event>)> {
    prop::collection::vec((item(), any::<[u8; 4]>()), 0..8).prop_map(|items| {
        let (mut stream, mut events) = (Vec::new(), Vec::new());
        for (item, mask) in items {
            item.encode(mask, &mut stream);
            events.extend(item.events());
        }
        (stream, events)
    })
}

/// The stream of [`valid`] with a few bytes changed.
pub(super) fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let change = prop_oneof![any::<u8>(), (0..8_u32).prop_map(|bit| 1 << bit)];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), change), 1..4);
    (valid(), changes).prop_map(|((mut stream, _), changes)| {
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
fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
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
