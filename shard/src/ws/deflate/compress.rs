//! From a message to a compressed frame (RFC 7692 §7.2.1).

use std::fmt;

use bytes::Bytes;
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

use super::TAIL;
use super::negotiation::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use crate::ws::frame::{self, SERVER_HEADER_SIZE_MAX};
use crate::ws::session::MessageKind;

/// An empty message: the header of an empty stored block (RFC 7692 §7.2.3.6).
const EMPTY: u8 = 0x00;

/// Compresses messages into frames, one at a time.
pub struct Deflater {
    /// Made at the first message.
    stream: Option<Deflate>,
    level: u8,
    window_bits: u8,
    takeover: bool,
    /// Where frames are made, all of it zeroed once: room for a header, then what comes out.
    output: Vec<u8>,
}

impl Deflater {
    /// Bytes of output that a compressor without takeover keeps from message to message, at most. With takeover it keeps none.
    pub const SPARE_BYTES_MAX: usize = 64 * 1024;

    /// A compressor of this level, 1 (fast) to 9 (small), whose peer has a window of `window_bits`, 8 to 15; values outside count as
    /// the nearest within. It owns no heap before its first message.
    ///
    /// With `takeover` it serves one connection: each message is compressed with the window that the one before it left.
    /// Without, it serves any number of connections.
    #[must_use]
    pub const fn new(level: u8, window_bits: u8, takeover: bool) -> Self {
        Self {
            stream: None,
            level,
            window_bits,
            takeover,
            output: Vec::new(),
        }
    }

    /// Bytes of heap, at most, that a compressor for this window holds once it has compressed anything, without its output.
    #[must_use]
    pub const fn stream_bytes(window_bits: u8) -> usize {
        let window_bits = own_window_bits(window_bits);
        let windows = 4 << window_bits;
        let hashes = 128 * 1024;
        let symbols = 7 << (memory_level(window_bits) + 6);
        let rest = 4 * 1024;
        windows + hashes + symbols + rest
    }

    /// Bytes of heap that it holds now.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let stream = self.stream.as_ref();
        stream.map_or(0, |_| Self::stream_bytes(self.window_bits)) + self.output.capacity()
    }

    /// One whole server frame with the message compressed.
    ///
    /// `None` where it would not become smaller: the caller sends it as it is. With takeover that never happens, as
    /// the peer's window must see everything that this one has seen.
    pub fn frame(&mut self, kind: MessageKind, payload: &[u8]) -> Option<Bytes> {
        self.make_room(bound(payload.len()));
        let size = if self.takeover && payload.is_empty() {
            self.output[SERVER_HEADER_SIZE_MAX] = EMPTY;
            Some(1)
        } else {
            self.compress(payload)
        };
        let frame = size
            .filter(|size| self.takeover || *size < payload.len())
            .map(|size| {
                let (header, header_size) = frame::compressed_header(kind.opcode(), size);
                let start = SERVER_HEADER_SIZE_MAX - header_size;
                self.output[start..SERVER_HEADER_SIZE_MAX].copy_from_slice(&header[..header_size]);
                Bytes::copy_from_slice(&self.output[start..SERVER_HEADER_SIZE_MAX + size])
            });
        let keep = if self.takeover {
            0
        } else {
            Self::SPARE_BYTES_MAX
        };
        self.output.truncate(keep);
        self.output.shrink_to(keep);
        frame
    }

    /// Compresses into the room behind that for the header; answers how many bytes of it are to be sent.
    fn compress(&mut self, payload: &[u8]) -> Option<usize> {
        // Taken out, so that a panic leaves none behind. A new one is understood as well: it refers to nothing that was before it.
        let mut stream = match self.stream.take() {
            Some(mut stream) => {
                if !self.takeover {
                    stream.reset();
                }
                stream
            }
            None => open_stream(self.level, self.window_bits),
        };
        let (taken, made) = (stream.total_in(), stream.total_out());
        let room = &mut self.output[SERVER_HEADER_SIZE_MAX..];
        let room_size = room.len();
        let result = stream.compress(payload, room, DeflateFlush::SyncFlush);
        let is_taken = stream.total_in() - taken == payload.len() as u64;
        // Never more than the room, so it is a size.
        let size = (stream.total_out() - made) as usize;
        // A flush is complete when it left room.
        let is_complete = result.is_ok() && is_taken && size < room_size;
        if is_complete {
            // Only then: zlib-rs 0.6 that is reset with output pending panics later.
            self.stream = Some(stream);
        }
        is_complete.then(|| size.saturating_sub(TAIL.len()))
    }

    fn make_room(&mut self, room: usize) {
        let size = SERVER_HEADER_SIZE_MAX + room;
        if self.output.len() < size {
            self.output.reserve_exact(size - self.output.len());
            self.output.resize(size, 0);
        }
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Deflater")
            .field("level", &self.level)
            .field("window_bits", &self.window_bits)
            .field("takeover", &self.takeover)
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}

fn open_stream(level: u8, window_bits: u8) -> Deflate {
    let window_bits = own_window_bits(window_bits);
    Deflate::new_with_config(DeflateConfig {
        level: i32::from(level.clamp(1, 9)),
        // Below zero: without the header and checksum of zlib.
        window_bits: -i32::from(window_bits),
        mem_level: i32::from(memory_level(window_bits)),
        ..DeflateConfig::default()
    })
}

/// The window to compress with. zlib has none of 8 bits, but its matches begin at least 262 bytes before the
/// end of the window, so that with 9 bits they reach back at most 250 bytes: a peer with 8 bits understands it.
const fn own_window_bits(window_bits: u8) -> u8 {
    if window_bits <= WINDOW_BITS_MIN {
        WINDOW_BITS_MIN + 1
    } else if window_bits > WINDOW_BITS_MAX {
        WINDOW_BITS_MAX
    } else {
        window_bits
    }
}

/// zlib's measure of what it gathers before it writes a block, in step with the window: 8, its default, at 15 bits.
const fn memory_level(window_bits: u8) -> u8 {
    window_bits - 7
}

/// No payload of this length becomes larger than this, the tail included, with room to spare: zlib's own
/// conservative bound (`deflateBound`) is below it.
const fn bound(length: usize) -> usize {
    length + length / 4 + 64
}
