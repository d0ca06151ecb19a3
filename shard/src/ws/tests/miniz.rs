//! Another implementation of DEFLATE: the client that compresses, the client that inflates, and what a message should inflate to.

use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use miniz_oxide::{MZFlush, deflate};

use super::*;

/// What ends each compressed message and is not sent.
const TAIL: &[u8] = &[0x00, 0x00, 0xff, 0xff];
/// A last block with nothing in it, at the start of a byte.
const END: &[u8] = &[0x01, 0x00, 0x00, 0xff, 0xff];
/// Window of raw deflate in zlib's terms.
const RAW: i32 = -15;

/// A client's compressor.
pub(super) struct Compressor {
    state: Box<CompressorOxide>,
    takeover: bool,
}

impl Compressor {
    pub(super) fn new(takeover: bool) -> Self {
        let flags = create_comp_flags_from_zip_params(6, RAW, 0);
        let state = Box::new(CompressorOxide::new(flags));
        Self { state, takeover }
    }

    /// The payload of a compressed message (RFC 7692 §7.2.1).
    pub(super) fn message(&mut self, payload: &[u8]) -> Vec<u8> {
        if !self.takeover {
            self.state.reset();
        }
        let mut out = vec![0; payload.len() * 2 + 64];
        let result = deflate::stream::deflate(&mut self.state, payload, &mut out, MZFlush::Sync);
        assert_eq!(result.bytes_consumed, payload.len());
        out.truncate(result.bytes_written);
        match out.strip_suffix(TAIL) {
            Some(message) => message.to_vec(),
            // A flush with nothing new writes nothing (§7.2.3.6).
            None => vec![0x00],
        }
    }
}

/// The payload of a message in one block that says it is the last one, or more if it is long (RFC 7692 §7.2.3.4),
/// without the byte that begins the next stream.
pub(super) fn finished(payload: &[u8]) -> Vec<u8> {
    deflate::compress_to_vec(payload, 6)
}

/// A client's inflater with a window of just so many bits: what reaches back further comes out wrong.
pub(super) struct Decompressor {
    state: DecompressorOxide,
    window: Vec<u8>,
    position: usize,
}

impl Decompressor {
    pub(super) fn new(window_bits: u8) -> Self {
        Self {
            state: DecompressorOxide::new(),
            window: vec![0; 1 << window_bits],
            position: 0,
        }
    }

    /// The contents of a compressed message.
    pub(super) fn message(&mut self, payload: &[u8]) -> Result<Vec<u8>, TINFLStatus> {
        let input = [payload, TAIL].concat();
        let (mut rest, mut out) = (&input[..], Vec::new());
        loop {
            let (status, consumed, produced) = decompress(
                &mut self.state,
                rest,
                &mut self.window,
                self.position,
                inflate_flags::TINFL_FLAG_HAS_MORE_INPUT,
            );
            rest = &rest[consumed..];
            let end = self.position + produced;
            out.extend_from_slice(&self.window[self.position..end]);
            self.position = end % self.window.len();
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if rest.is_empty() => return Ok(out),
                status => return Err(status),
            }
        }
    }
}

/// What a message that is compressed by itself inflates to, as this implementation sees it.
pub(super) fn inflate(payload: &[u8], size_max: usize) -> Result<Vec<u8>, Violation> {
    let (mut stream, mut rest) = (DecompressorOxide::new(), payload);
    let mut out = Vec::new();
    loop {
        let status = inflate_more(&mut stream, &mut rest, &mut out, size_max)?;
        match status {
            TINFLStatus::Done if rest.is_empty() => return Ok(out),
            TINFLStatus::Done => stream = DecompressorOxide::new(),
            TINFLStatus::NeedsMoreInput => break,
            _ => return Err(Violation::InvalidDeflate),
        }
    }
    // What the sender took away adds nothing, and a block may begin behind it.
    let size = out.len();
    for mut added in [TAIL, END] {
        let Ok(status) = inflate_more(&mut stream, &mut added, &mut out, size_max) else {
            return Err(Violation::InvalidDeflate);
        };
        match status {
            _ if !added.is_empty() || out.len() > size => return Err(Violation::InvalidDeflate),
            TINFLStatus::Done => return Ok(out),
            TINFLStatus::NeedsMoreInput => {}
            _ => return Err(Violation::InvalidDeflate),
        }
    }
    Err(Violation::InvalidDeflate)
}

/// Inflates what is there, up to one byte above the size.
fn inflate_more(
    stream: &mut DecompressorOxide,
    rest: &mut &[u8],
    out: &mut Vec<u8>,
    size_max: usize,
) -> Result<TINFLStatus, Violation> {
    let size = out.len();
    out.resize(size_max + 1, 0);
    let (status, consumed, produced) = decompress(
        stream,
        rest,
        out,
        size,
        inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF
            | inflate_flags::TINFL_FLAG_HAS_MORE_INPUT,
    );
    out.truncate(size + produced);
    *rest = &rest[consumed..];
    if out.len() > size_max {
        return Err(Violation::MessageTooLarge);
    }
    Ok(status)
}
