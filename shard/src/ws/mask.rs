//! The masking of payloads (RFC 6455 §5.3).

/// Bytes that are masked at once. A loop over an array of this length is what the compiler turns into vector instructions.
const BLOCK_BYTES: usize = 64;

/// Masks or unmasks `payload` in place: byte `i` is combined with byte `(offset + i) % 4` of the mask.
///
/// `offset` is the position of `payload` within the payload of its frame, so that a frame can be
/// unmasked piece by piece. Masking twice restores the bytes.
pub fn apply(payload: &mut [u8], mask: [u8; 4], offset: usize) {
    let mut rotated = mask;
    rotated.rotate_left(offset % mask.len());
    let (blocks, rest) = payload.as_chunks_mut::<BLOCK_BYTES>();
    if !blocks.is_empty() {
        let mut keys = [0; BLOCK_BYTES];
        for key in keys.as_chunks_mut().0 {
            *key = rotated;
        }
        for block in blocks {
            for (byte, key) in block.iter_mut().zip(&keys) {
                *byte ^= key;
            }
        }
    }
    // A block is a multiple of the mask, so the rest starts where the mask does.
    let (words, tail) = rest.as_chunks_mut::<4>();
    let word_mask = u32::from_ne_bytes(rotated);
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ word_mask).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(rotated) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply_naive(payload: &mut [u8], mask: [u8; 4], offset: usize) {
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[(offset + index) % 4];
        }
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 6455 §5.7: "a single-frame masked text message".
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply(&mut payload, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&payload, b"Hello");
    }

    proptest! {
        #[test]
        fn equals_the_naive_loop(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            mask: [u8; 4],
            start in 0_usize..70,
            offset in 0_usize..9,
        ) {
            // A start within the allocation gives every alignment.
            let start = start.min(bytes.len());
            let (mut fast, mut naive) = (bytes.clone(), bytes);
            apply(&mut fast[start..], mask, offset);
            apply_naive(&mut naive[start..], mask, offset);
            prop_assert_eq!(fast, naive);
        }
    }
}
