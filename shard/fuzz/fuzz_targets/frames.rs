//! Frames of a client in pieces of the input's choice: every split gives the same events, tungstenite sees the same, and
//! no more is held than what has arrived.
#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use shardcast_fuzz::{Cuts, frames};
use shardcast_shard::ws::Session;
use shardcast_shard::ws::oracle::{assert_agreement, events_of};

/// Streams up to this length are also given byte by byte.
const BYTEWISE_MAX: usize = 512;

fuzz_target!(|input: &[u8]| {
    let mut input = Unstructured::new(input);
    let Ok(cuts) = Cuts::read(&mut input) else {
        return;
    };
    let stream = frames(&mut input);
    let cuts = cuts.within(stream.len());
    let whole = events_of(Session::opened(), &stream, &[]);
    assert_eq!(events_of(Session::opened(), &stream, &cuts), whole);
    if stream.len() <= BYTEWISE_MAX {
        let every: Vec<usize> = (0..stream.len()).collect();
        assert_eq!(events_of(Session::opened(), &stream, &every), whole);
    }
    assert_agreement(&stream, &cuts);
});
