//! Masking against a loop over single bytes, at every alignment, in one piece and in two.
#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use shardcast_shard::ws::mask;

/// A start within an allocation gives every alignment.
const STARTS: usize = 64;

struct Case {
    mask: [u8; 4],
    offset: usize,
    start: usize,
    cut: usize,
    payload: Vec<u8>,
}

fn read(input: &[u8]) -> Result<Case> {
    let mut input = Unstructured::new(input);
    let (mask, offset) = (input.arbitrary()?, input.arbitrary::<u32>()? as usize);
    let start = usize::from(input.arbitrary::<u8>()?) % STARTS;
    let cut = usize::from(input.arbitrary::<u16>()?);
    let repeats = usize::from(input.arbitrary::<u8>()? % 16) + 1;
    let payload = input.take_rest().repeat(repeats);
    Ok(Case {
        mask,
        offset,
        start,
        cut: cut % (payload.len() + 1),
        payload,
    })
}

fuzz_target!(|input: &[u8]| {
    let Ok(case) = read(input) else { return };
    let Case { mask, offset, .. } = case;
    let expected: Vec<u8> = case
        .payload
        .iter()
        .enumerate()
        .map(|(index, byte)| byte ^ mask[(offset + index) % 4])
        .collect();

    // What lies around the payload must stay as it is.
    let frame = [&[0xa5; STARTS][..case.start], &case.payload, &[0x5a; 8]].concat();
    let place = case.start..case.start + case.payload.len();
    let mut whole = frame.clone();
    mask::apply(&mut whole[place.clone()], mask, offset);
    assert_eq!(whole[place.clone()], expected);
    assert_eq!(whole[..place.start], frame[..place.start]);
    assert_eq!(whole[place.end..], frame[place.end..]);

    let mut pieces = frame.clone();
    let (first, second) = pieces[place.clone()].split_at_mut(case.cut);
    mask::apply(first, mask, offset);
    mask::apply(second, mask, offset + case.cut);
    assert_eq!(pieces, whole);

    mask::apply(&mut whole[place], mask, offset);
    assert_eq!(whole, frame);
});
