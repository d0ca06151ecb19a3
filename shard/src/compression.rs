//! permessage-deflate (RFC 7692) on one shard: what connections are offered, and whose window is whose.
//!
//! By default nobody has a window of its own: what a message may refer to ends with the message, so one inflater and one deflater
//! for each window size serve all connections of the shard, an idle compressed connection holds no zlib state, and a message to a
//! room is compressed once for all members who take the same window size. A dedicated window compresses
//! a stream of alike messages better, costs its memory for each connection, and has every message compressed for
//! every member by itself.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bytes::Bytes;

use crate::driver::Slot;
use crate::limits::Limits;
use crate::outbox::{Payload, Role};
use crate::ws::deflate::{Agreement, Deflater, Inflater, Policy, WINDOW_BITS_MAX};
use crate::ws::{MessageKind, frame};

/// What clients that offer permessage-deflate are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Nothing is compressed.
    Off,
    /// Messages are compressed each by itself, with windows that all connections of a shard share.
    #[default]
    Shared,
    /// Each connection keeps a window for each direction from message to message, if its client does not ask for less.
    /// Where slow consumers may lose messages, of whatever room, the server's window is shared all the same: a client cannot
    /// inflate what refers to a message that it was never sent.
    Dedicated,
}

/// The windows of one shard.
pub(crate) struct Windows {
    mode: Compression,
    /// Whether a dedicated window of the server's may be kept.
    server_takeover: bool,
    window_bits: u8,
    level: u8,
    compressed_bytes_min: usize,
    dedicated_max: usize,
    inflater: Inflater,
    /// By window size, from the first message that needed it.
    deflaters: Vec<(u8, Deflater)>,
    dedicated: HashMap<Slot, Dedicated>,
    /// Messages compressed since [`Windows::take_compressed_count`].
    compressed_count: u64,
}

/// The windows of one connection, each from its first message.
#[derive(Default)]
struct Dedicated {
    inflater: Option<Inflater>,
    deflater: Option<Deflater>,
}

impl Windows {
    /// `may_drop`: a message that was queued to a connection may be left out.
    pub(crate) fn new(mode: Compression, may_drop: bool, limits: &Limits) -> Self {
        Self {
            mode,
            server_takeover: !may_drop,
            // The rows of the table permit no more than a byte holds.
            window_bits: limits.compression_window_bits as u8,
            level: limits.compression_level as u8,
            compressed_bytes_min: limits.compressed_bytes_min as usize,
            dedicated_max: limits.dedicated_windows_max as usize,
            inflater: Inflater::shared(),
            deflaters: Vec::new(),
            dedicated: HashMap::new(),
            compressed_count: 0,
        }
    }

    /// What the next client may agree on.
    pub(crate) fn policy(&self) -> Option<Policy> {
        let dedicated =
            self.mode == Compression::Dedicated && self.dedicated.len() < self.dedicated_max;
        let policy = Policy {
            server_window_bits: self.window_bits,
            // Shared, one inflater reads what any client has written.
            client_window_bits: if dedicated {
                self.window_bits
            } else {
                WINDOW_BITS_MAX
            },
            server_takeover: dedicated && self.server_takeover,
            client_takeover: dedicated,
        };
        (self.mode != Compression::Off).then_some(policy)
    }

    /// The connection in this slot is answered with the agreement.
    pub(crate) fn open(&mut self, slot: Slot, agreement: Agreement) {
        if agreement.server_takeover || agreement.client_takeover {
            self.dedicated.insert(slot, Dedicated::default());
        }
    }

    /// The connection in this slot is gone.
    pub(crate) fn close(&mut self, slot: Slot) {
        if !self.dedicated.is_empty() {
            self.dedicated.remove(&slot);
        }
    }

    /// Connections with windows of their own.
    pub(crate) fn dedicated_count(&self) -> usize {
        self.dedicated.len()
    }

    /// Messages compressed since the last call.
    pub(crate) fn take_compressed_count(&mut self) -> u64 {
        std::mem::take(&mut self.compressed_count)
    }

    /// What inflates the messages of the connection in this slot.
    pub(crate) fn inflater(&mut self, slot: Slot, agreement: Option<Agreement>) -> &mut Inflater {
        match agreement {
            Some(agreement) if agreement.client_takeover => self
                .dedicated
                .entry(slot)
                .or_default()
                .inflater
                .get_or_insert_with(|| Inflater::dedicated(agreement.client_window_bits)),
            _ => &mut self.inflater,
        }
    }

    /// A message as the connection in this slot is sent it.
    pub(crate) fn frame(
        &mut self,
        message: &mut Outgoing,
        slot: Slot,
        agreement: Agreement,
    ) -> Rc<Payload> {
        if message.payload().len() < self.compressed_bytes_min {
            return message.plain();
        }
        if agreement.server_takeover {
            let level = self.level;
            let deflater = self
                .dedicated
                .entry(slot)
                .or_default()
                .deflater
                .get_or_insert_with(|| Deflater::new(level, agreement.server_window_bits, true));
            self.compressed_count += 1;
            return compress(deflater, message);
        }
        let bits = agreement.server_window_bits;
        if let Some((_, frame)) = message.compressed.iter().find(|(of, _)| *of == bits) {
            return Rc::clone(frame);
        }
        self.compressed_count += 1;
        let frame = compress(self.deflater(bits), message);
        message.compressed.push((bits, Rc::clone(&frame)));
        frame
    }

    fn deflater(&mut self, bits: u8) -> &mut Deflater {
        let index = self
            .deflaters
            .iter()
            .position(|(of, _)| *of == bits)
            .unwrap_or_else(|| {
                let deflater = Deflater::new(self.level, bits, false);
                self.deflaters.push((bits, deflater));
                self.deflaters.len() - 1
            });
        &mut self.deflaters[index].1
    }
}

/// The message as a compressed frame; as it is where compressing gains nothing, or fails.
fn compress(deflater: &mut Deflater, message: &Outgoing) -> Rc<Payload> {
    // A panic in there leaves no stream behind, and a new one is understood by whoever understood the old one.
    let frame = catch_unwind(AssertUnwindSafe(|| {
        deflater.frame(message.kind, message.payload())
    }));
    match frame.ok().flatten() {
        Some(bytes) => Rc::new(Payload {
            bytes,
            role: message.frame.role.clone(),
        }),
        None => message.plain(),
    }
}

/// One message on its way to any number of connections: as one frame, and as one compressed frame for each window size
/// that one of them takes.
pub(crate) struct Outgoing {
    kind: MessageKind,
    frame: Rc<Payload>,
    header_size: usize,
    /// By window size. Where compressing gains nothing, the plain frame.
    compressed: Vec<(u8, Rc<Payload>)>,
}

impl Outgoing {
    /// A message in the role that it has for whoever is too slow for it.
    pub(crate) fn new(kind: MessageKind, payload: &[u8], role: Role) -> Self {
        let mut bytes = Vec::with_capacity(payload.len() + frame::SERVER_HEADER_SIZE_MAX);
        frame::encode(kind.opcode(), payload, &mut bytes);
        Self {
            kind,
            header_size: bytes.len() - payload.len(),
            frame: Rc::new(Payload {
                bytes: Bytes::from(bytes),
                role,
            }),
            compressed: Vec::new(),
        }
    }

    /// The frame as it is.
    pub(crate) fn plain(&self) -> Rc<Payload> {
        Rc::clone(&self.frame)
    }

    fn payload(&self) -> &[u8] {
        &self.frame.bytes[self.header_size..]
    }
}
