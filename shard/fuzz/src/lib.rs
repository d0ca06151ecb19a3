//! What the fuzz targets share: how an input becomes a stream of bytes and the places where it is cut.
//!
//! Inputs are read front to back in small units, so that a byte changed by the fuzzer changes one thing.

pub mod arena;
pub mod client;
pub mod offers;
pub mod play;

use arbitrary::{Result, Unstructured};

/// Pieces of a stream that a client sends, at most.
const PIECES_MAX: usize = 64;

/// Cuts of a stream, at most.
const CUTS_MAX: u8 = 12;

/// Where the input wants a stream to be cut. It is read before the stream, whose length is not known yet.
#[derive(Clone, Debug)]
pub struct Cuts(Vec<u16>);

impl Cuts {
    /// Reads them.
    ///
    /// # Errors
    /// The input is used up.
    pub fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        let count = input.arbitrary::<u8>()? % (CUTS_MAX + 1);
        (0..count)
            .map(|_| input.arbitrary())
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Positions within a stream of this length, ascending.
    #[must_use]
    pub fn within(&self, length: usize) -> Vec<usize> {
        let mut cuts: Vec<usize> = self
            .0
            .iter()
            .map(|&cut| usize::from(cut) % (length + 1))
            .collect();
        cuts.sort_unstable();
        cuts
    }
}

/// So many bytes of the input as one byte of it says.
///
/// # Errors
/// The input is used up.
pub fn short_bytes<'a>(input: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let size = usize::from(input.arbitrary::<u8>()?);
    input.bytes(size.min(input.len()))
}

/// The rest of the input as frames of a client: most of them well formed, with headers that the input chooses, and
/// between them bytes that need not be frames.
#[must_use]
pub fn frames(input: &mut Unstructured<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..PIECES_MAX {
        if input.is_empty() || piece(input, &mut stream).is_err() {
            break;
        }
    }
    stream
}

/// Appends one frame, or bytes that need not be one.
fn piece(input: &mut Unstructured<'_>, stream: &mut Vec<u8>) -> Result<()> {
    let shape: u8 = input.arbitrary()?;
    if shape >= 0xf0 {
        stream.extend_from_slice(short_bytes(input)?);
        return Ok(());
    }
    // FIN, the reserved bits and the opcode as they will stand there.
    let first: u8 = input.arbitrary()?;
    // A payload several times over is longer than inputs get.
    let times = if shape & 0x10 == 0 { 1 } else { 5 };
    let payload = short_bytes(input)?;
    // Most texts should get past the first check.
    let payload = match shape & 0x20 {
        0 => payload.repeat(times),
        _ => String::from_utf8_lossy(payload).repeat(times).into_bytes(),
    };
    let announced = match shape & 0x40 {
        0 => payload.len() as u64,
        _ => payload.len() as u64 + u64::from(input.arbitrary::<u16>()?),
    };
    let is_masked = shape & 0x80 == 0 || shape & 1 == 0;
    stream.push(first);
    length(announced, shape & 0x0e, is_masked, stream);
    let mask: [u8; 4] = if is_masked {
        input.arbitrary()?
    } else {
        [0; 4]
    };
    if is_masked {
        stream.extend_from_slice(&mask);
    }
    let masked = payload.iter().zip(mask.iter().cycle());
    stream.extend(masked.map(|(byte, mask)| byte ^ mask));
    Ok(())
}

/// Appends a payload length: mostly in its shortest form, sometimes in a longer one.
fn length(length: u64, form: u8, is_masked: bool, stream: &mut Vec<u8>) {
    let mask_bit = if is_masked { 0x80 } else { 0 };
    let least = match length {
        0..=125 => 0,
        126..=0xffff => 2,
        _ => 8,
    };
    let size = match form {
        0x0c => least.max(2),
        0x0e => 8,
        _ => least,
    };
    let bytes = length.to_be_bytes();
    stream.push(
        mask_bit
            | match size {
                0 => bytes[7],
                2 => 126,
                _ => 127,
            },
    );
    stream.extend_from_slice(&bytes[bytes.len() - size..]);
}
