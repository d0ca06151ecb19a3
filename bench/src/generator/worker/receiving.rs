//! What the server sends to members.

use bytes::Bytes;
use shardcast_shard::driver::{BufferId, Driver};
use shardcast_shard::ws::frame::Opcode;

use super::super::books::{Books, Metric};
use super::super::client::{Client, Phase};
use super::{Local, Worker};
use crate::incoming::{self, Piece};
use crate::protocol::{Meaning, Protocol};

/// What one batch of bytes asks for.
#[derive(Default)]
struct Reaction {
    joined: bool,
    pongs: Vec<Bytes>,
    closed: Option<Option<u16>>,
    /// Deliveries that were the answer to the connection's own message.
    answered: bool,
}

impl Worker {
    /// Bytes have arrived in a buffer, which the caller gives back.
    pub(super) fn received(
        &mut self,
        index: u32,
        buffer: BufferId,
        length: usize,
        now_ns: u64,
        books: &mut Books,
    ) {
        if self.tls.is_none() {
            self.read(index, buffer, length, now_ns, books);
            return;
        }
        let ended = self.decrypt(index, buffer, length);
        self.read(index, buffer, length, now_ns, books);
        if let Some(what) = ended {
            self.gone(index, &what, now_ns, books);
        }
    }

    /// Reads what has arrived: in the buffer, or decrypted from it.
    fn read(
        &mut self,
        index: u32,
        buffer: BufferId,
        length: usize,
        now_ns: u64,
        books: &mut Books,
    ) {
        let arrived: &[u8] = match &self.tls {
            Some(tls) => tls.plain(),
            None => self.driver.buffer(buffer, length),
        };
        let rest;
        let received = match self.clients[index as usize].phase {
            Phase::Handshake => {
                let received = arrived.to_vec();
                if !self.answered(index, &received, now_ns, books) {
                    return;
                }
                let client = &mut self.clients[index as usize];
                // Frames may have come with the answer: they are read as if they came now.
                rest = client
                    .unfinished
                    .take()
                    .map_or_else(Vec::new, |kept| kept.bytes().to_vec());
                &rest
            }
            Phase::Joining | Phase::Ready | Phase::Leaving => arrived,
            Phase::Free | Phase::Connecting | Phase::Securing | Phase::Ending | Phase::Closing => {
                return;
            }
        };
        let mut reaction = Reaction::default();
        let client = &mut self.clients[index as usize];
        let local = &mut self.groups[usize::from(client.group)];
        let mut unfinished = client.unfinished.take();
        let protocol = self.settings.protocol;
        let result = incoming::split(&mut unfinished, received, |piece| {
            piece_received(piece, protocol, client, local, now_ns, &mut reaction, books);
        });
        client.unfinished = unfinished;
        if reaction.joined {
            self.joined(index, now_ns, books);
        }
        for payload in reaction.pongs {
            self.frame(index, Opcode::Pong, &payload);
        }
        if reaction.answered {
            self.publish_next(index, now_ns);
        }
        if let Some(code) = reaction.closed {
            let what = match code {
                Some(code) => format!("the server closed with code {code}"),
                None => "the server closed without a code".to_owned(),
            };
            self.gone(index, &what, now_ns, books);
        } else if let Err(violation) = result {
            let what = format!("the server broke the protocol: {violation}");
            self.gone(index, &what, now_ns, books);
        }
    }
}

fn piece_received(
    piece: Piece<'_>,
    protocol: Protocol,
    client: &mut Client,
    local: &mut Local,
    now_ns: u64,
    reaction: &mut Reaction,
    books: &mut Books,
) {
    let message = match piece {
        Piece::Message(message) => message,
        Piece::Ping(payload) => {
            reaction.pongs.push(Bytes::copy_from_slice(payload));
            return;
        }
        Piece::Close(code) => {
            reaction.closed = Some(code);
            return;
        }
    };
    if local.order.recovers {
        let mut position = client.position.as_deref().copied();
        protocol.follow(message, &mut position);
        if let Some(position) = position {
            // The box is that of the last message: one allocation a connection, not one a delivery.
            **client.position.get_or_insert_with(|| Box::new(position)) = position;
        }
    }
    match protocol.meaning(message) {
        Meaning::Delivery(stamp) => {
            if stamp.intended_ns < client.began_ns {
                books.tally.caught_up += 1;
            }
            if client.away_ns > 0 {
                books
                    .recordings
                    .record(Metric::Restored, now_ns.saturating_sub(client.away_ns));
                client.away_ns = 0;
            }
            if local.order.group.is_slow(client.member) {
                books.tally.deliveries += 1;
                return;
            }
            let measured = local
                .traffic
                .is_some_and(|traffic| traffic.measures(stamp.intended_ns));
            local
                .ledger
                .delivered(client.member, stamp, now_ns, measured, books);
            reaction.answered |= local.traffic.is_some_and(|traffic| traffic.closed_loop);
        }
        Meaning::Joined => reaction.joined = true,
        Meaning::Error => {
            books.tally.errors += 1;
            books.error(format!(
                "the server answered: {}",
                String::from_utf8_lossy(message)
            ));
        }
        Meaning::Other => {}
    }
}
