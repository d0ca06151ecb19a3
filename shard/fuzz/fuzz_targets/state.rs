//! Whole shards with clients, driven by operations: connect, join, publish, stall, reset, send rubbish, let time pass, let a shard
//! die. Members of a room hear the same in the same order without a gap or a repeat, nothing panics, nothing is
//! left at the end, and the same input gives the same run.
#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use shardcast_fuzz::play::Play;

fuzz_target!(|input: &[u8]| {
    let run = || {
        let mut input = Unstructured::new(input);
        let play = Play::new(&mut input).ok()?;
        Some(play.run(&mut input))
    };
    let seen = run();
    // Some are enough to find what does not follow from the input.
    if input.len().is_multiple_of(16) {
        assert_eq!(run(), seen, "a second run differs");
    }
});
