//! From a compressed message to its contents (RFC 7692 §7.2.2).

use std::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::TAIL;
use super::negotiation::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use crate::ws::close::Violation;

/// The least that is reserved for what comes out, in bytes.
const OUTPUT_SIZE_MIN: usize = 4 * 1024;

/// The tail, and a byte more that must be left over: a stream that takes it is in the middle of a block.
const TAIL_AND_PROBE: [u8; TAIL.len() + 1] = [TAIL[0], TAIL[1], TAIL[2], TAIL[3], 0x00];

/// Inflates messages, one at a time.
pub struct Inflater {
    /// Made at the first message.
    stream: Option<Inflate>,
    kind: Kind,
    output: Output,
}

/// Whose messages they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of many connections: each message is compressed by itself.
    Shared,
    /// Of one connection that takes the window over from message to message.
    Dedicated { window_bits: u8 },
}

impl Inflater {
    /// Bytes of heap that an inflater holds once it has inflated anything, without its output. zlib-rs takes the largest window,
    /// 32 KiB, whatever was agreed.
    pub const MEMORY_BYTES: usize = 48 * 1024;

    /// Bytes of output that a shared inflater keeps from message to message, at most: the pages of a large message cost several times
    /// what inflating into them does, and whoever sends one sends more.
    pub const SPARE_BYTES_MAX: usize = 1024 * 1024 + 1;

    /// For any number of connections whose peers compress every message by itself. It owns no heap before its first message.
    #[must_use]
    pub const fn shared() -> Self {
        Self::new(Kind::Shared)
    }

    /// For one connection whose peer takes its window over from message to message. It owns no heap before its first message, and
    /// of the output nothing after each.
    ///
    /// `window_bits` is what was agreed for the client, 8 to 15. Today it makes no difference: see [`Inflater::MEMORY_BYTES`].
    #[must_use]
    pub const fn dedicated(window_bits: u8) -> Self {
        Self::new(Kind::Dedicated { window_bits })
    }

    const fn new(kind: Kind) -> Self {
        Self {
            stream: None,
            kind,
            output: Output {
                bytes: Vec::new(),
                filled: 0,
            },
        }
    }

    /// Bytes of heap that it holds now.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let stream = self.stream.as_ref().map_or(0, |_| Self::MEMORY_BYTES);
        stream + self.output.bytes.capacity()
    }

    /// Frees of the output what is not to be kept. What was lent is done with.
    pub(in crate::ws) fn release(&mut self) {
        let keep = match self.kind {
            Kind::Shared => Self::SPARE_BYTES_MAX,
            Kind::Dedicated { .. } => 0,
        };
        self.output.shrink(keep);
    }

    /// Inflates a whole message: the payloads of its frames, unmasked.
    ///
    /// # Errors
    /// It is not valid DEFLATE, or more than `size_max` bytes come out. A dedicated inflater cannot go on after either.
    pub(in crate::ws) fn message(
        &mut self,
        compressed: &[u8],
        size_max: usize,
    ) -> Result<&mut [u8], Violation> {
        let window_bits = match self.kind {
            Kind::Shared => WINDOW_BITS_MAX,
            // Compressors that cannot make a window of 8 bits take 9, and it is not on us to find out which.
            Kind::Dedicated { window_bits } => {
                window_bits.clamp(WINDOW_BITS_MIN + 1, WINDOW_BITS_MAX)
            }
        };
        // Taken out, so that a panic leaves nothing half done behind for the next connection.
        let mut stream = match self.stream.take() {
            Some(mut stream) => {
                if self.kind == Kind::Shared {
                    stream.reset(false);
                }
                stream
            }
            None => Inflate::new(false, window_bits),
        };
        self.output.filled = 0;
        let mut inflation = Inflation {
            stream: &mut stream,
            output: &mut self.output,
            size_max,
        };
        let result = inflation.message(compressed);
        self.stream = Some(stream);
        result?;
        Ok(self.output.filled())
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Inflater")
            .field("kind", &self.kind)
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}

/// What has come out of the message at hand, with room for more.
struct Output {
    /// All of it was zeroed once, which is what lending it to the decompressor takes.
    bytes: Vec<u8>,
    filled: usize,
}

impl Output {
    /// Room for at least one more byte and for at most one above `size_max`, which tells a message that is too large.
    fn room(&mut self, size_max: usize) -> &mut [u8] {
        let size_limit = size_max.saturating_add(1);
        if self.filled == self.bytes.len() {
            let size = (2 * self.filled).max(OUTPUT_SIZE_MIN).min(size_limit);
            self.bytes.reserve_exact(size - self.bytes.len());
            self.bytes.resize(size, 0);
        }
        let end = self.bytes.len().min(size_limit);
        &mut self.bytes[self.filled..end]
    }

    fn filled(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.filled]
    }

    fn shrink(&mut self, keep: usize) {
        if self.bytes.capacity() > keep {
            self.filled = 0;
            self.bytes.truncate(keep);
            self.bytes.shrink_to(keep);
        }
    }
}

/// Where a payload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    WithinStream,
    /// With a block that said it was the last one.
    WithStream,
}

/// A message being inflated.
struct Inflation<'a> {
    stream: &'a mut Inflate,
    output: &'a mut Output,
    size_max: usize,
}

impl Inflation<'_> {
    fn message(&mut self, compressed: &[u8]) -> Result<(), Violation> {
        match self.payload(compressed)? {
            Ended::WithinStream => self.tail(),
            // The sender ended its stream (§7.2.3.4) and left out what would begin the next.
            Ended::WithStream => Ok(()),
        }
    }

    /// Inflates everything that was sent of the message.
    fn payload(&mut self, mut rest: &[u8]) -> Result<Ended, Violation> {
        loop {
            let (status, consumed) = self.run(rest, InflateFlush::NoFlush)?;
            rest = &rest[consumed..];
            let is_full = self.output.filled == self.output.bytes.len();
            if status == Status::StreamEnd {
                // What follows a last block is a stream of its own (§7.2.3.5), here with an empty window.
                self.stream.reset(false);
                if rest.is_empty() {
                    return Ok(Ended::WithStream);
                }
            } else if !is_full {
                // With room to spare it stops only where there is nothing left to take.
                return if rest.is_empty() {
                    Ok(Ended::WithinStream)
                } else {
                    Err(Violation::InvalidDeflate)
                };
            }
        }
    }

    /// Adds what the sender took away. That it fits to the byte shows that the message ended where a block does.
    fn tail(&mut self) -> Result<(), Violation> {
        let filled = self.output.filled;
        match self.run(&TAIL_AND_PROBE, InflateFlush::Block) {
            Ok((Status::Ok, consumed))
                if consumed == TAIL.len() && self.output.filled == filled =>
            {
                Ok(())
            }
            _ => Err(Violation::InvalidDeflate),
        }
    }

    /// Inflates until the input is used up, the room is, or a stream has ended; answers how much input that took.
    fn run(&mut self, input: &[u8], flush: InflateFlush) -> Result<(Status, usize), Violation> {
        let (taken, made) = (self.stream.total_in(), self.stream.total_out());
        let room = self.output.room(self.size_max);
        let result = self.stream.decompress(input, room, flush);
        // Neither is more than what was given, so both are sizes.
        let consumed = (self.stream.total_in() - taken) as usize;
        self.output.filled += (self.stream.total_out() - made) as usize;
        if self.output.filled > self.size_max {
            // Also where something broken follows: what came first counts.
            return Err(Violation::MessageTooLarge);
        }
        match result {
            Ok(status) => Ok((status, consumed)),
            Err(_) => Err(Violation::InvalidDeflate),
        }
    }
}
