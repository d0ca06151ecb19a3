//! A session as its caller sees it: rules by table, splits and an oracle by property.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod compressing;
mod frames;
mod handshakes;
mod inflating;
mod memory;
mod miniz;
mod negotiation;
mod oracle;
mod splits;
mod streams;

use super::oracle::{Event, LIMITS, begun_bytes, events_of, feed, feed_with};
use super::*;
use crate::ws::deflate::{Agreement, Deflater, Inflater, Policy};

/// A connection that may be sent compressed messages.
struct Agreed {
    session: Session,
    inflater: Inflater,
    /// Another connection that the inflater serves too, where it is shared.
    neighbour: Option<Session>,
}

impl Agreed {
    /// With `takeover` the client compresses with the window of earlier messages; without, the inflater is shared.
    fn new(takeover: bool) -> Self {
        let agreement = Agreement {
            server_window_bits: 15,
            client_window_bits: 15,
            server_takeover: takeover,
            client_takeover: takeover,
            server_window_named: false,
        };
        let mut session = Session::opened();
        assert_eq!(session.agreement(), None);
        session.agree(agreement);
        assert_eq!(session.agreement(), Some(agreement));
        let mut neighbour = Session::opened();
        neighbour.agree(agreement);
        Self {
            session,
            inflater: if takeover {
                Inflater::dedicated(15)
            } else {
                Inflater::shared()
            },
            neighbour: (!takeover).then_some(neighbour),
        }
    }

    fn feed(&mut self, piece: &[u8], events: &mut Vec<Event>) {
        feed_with(&mut self.inflater, &mut self.session, piece, events);
        if let Some(neighbour) = &mut self.neighbour {
            let mut heard = Vec::new();
            let hello = streams::raw(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
            feed_with(&mut self.inflater, neighbour, &hello, &mut heard);
            assert_eq!(heard, [Event::text("Hello")]);
        }
    }

    /// The events of a stream that is cut into pieces at the positions in `cuts`, which ascend.
    fn events_of(mut self, stream: &[u8], cuts: &[usize]) -> Vec<Event> {
        let (mut events, mut start) = (Vec::new(), 0);
        for &cut in cuts.iter().chain([&stream.len()]) {
            self.feed(&stream[start..cut], &mut events);
            start = cut;
        }
        events
    }
}
