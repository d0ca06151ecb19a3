//! One connection of the harness: small, as there may be millions.

use std::collections::VecDeque;

use bytes::Bytes;
use shardcast_shard::driver::ConnectionKey;

use crate::incoming::Unfinished;
use crate::protocol::Position;

/// Messages that may wait for a connection whose last send has not ended. Beyond it a message of the schedule is not sent.
pub(super) const WAITING_MAX: usize = 1024;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not open, and its slot of the table is free.
    Free,
    /// The connect is under way.
    Connecting,
    /// TLS is being agreed on.
    Securing,
    /// The request has been sent.
    Handshake,
    /// The server has been asked to let it into its room.
    Joining,
    /// It takes part.
    Ready,
    /// A close frame has been sent; the server's is awaited.
    Leaving,
    /// Its operations are being ended, after which it is closed.
    Ending,
    /// The close of its descriptor is under way.
    Closing,
}

impl Phase {
    /// The server is to do something, for which it has so much time and no more.
    pub(super) const fn is_attempt(self) -> bool {
        matches!(
            self,
            Self::Connecting | Self::Securing | Self::Handshake | Self::Joining | Self::Leaving
        )
    }
}

/// What is on its way to the server.
pub(super) struct Outgoing {
    /// What the operation in flight has been given.
    pub(super) current: Bytes,
    /// What goes after it.
    pub(super) waiting: VecDeque<Bytes>,
}

/// Bytes of messages that leave in one send because the one before has not ended.
const GATHER_BYTES_MAX: usize = 64 << 10;

impl Outgoing {
    /// Takes what the next operation is given, out of what waits.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let first = self.waiting.pop_front()?;
        let mut bytes = first.len();
        let following = self.waiting.iter().take_while(|next| {
            bytes += next.len();
            bytes <= GATHER_BYTES_MAX
        });
        let count = following.count();
        if count == 0 {
            return Some(first);
        }
        let mut gathered = Vec::from(first);
        for next in self.waiting.drain(..count) {
            gathered.extend_from_slice(&next);
        }
        Some(Bytes::from(gathered))
    }
}

/// One connection.
pub(super) struct Client {
    /// Which use of the slot this is.
    pub(super) generation: u32,
    /// Its number in its group.
    pub(super) member: u32,
    /// The group's number on this thread.
    pub(super) group: u8,
    pub(super) phase: Phase,
    /// A receive is in flight.
    pub(super) receiving: bool,
    /// A shutdown is in flight.
    pub(super) shutting_down: bool,
    /// It does not read, as the workload demands.
    pub(super) stalled: bool,
    /// It has been a member before.
    pub(super) returned: bool,
    /// Failed attempts since it was last a member.
    pub(super) failures: u8,
    /// When its last attempt began: to become a member, or to leave.
    pub(super) began_ns: u64,
    /// When it was lost; 0 while it is not away and its first delivery after a return has come.
    pub(super) away_ns: u64,
    pub(super) outgoing: Option<Box<Outgoing>>,
    pub(super) unfinished: Option<Box<Unfinished>>,
    /// Where it stands in its room's history, where that is followed.
    pub(super) position: Option<Box<Position>>,
}

impl Client {
    pub(super) const fn new(group: u8, member: u32) -> Self {
        Self {
            generation: 0,
            member,
            group,
            phase: Phase::Free,
            receiving: false,
            shutting_down: false,
            stalled: false,
            returned: false,
            failures: 0,
            began_ns: 0,
            away_ns: 0,
            outgoing: None,
            unfinished: None,
            position: None,
        }
    }

    /// Whether an operation of the open connection is in flight: only when none is may it be closed. A shutdown counts, as
    /// it could otherwise meet the slot's next connection.
    pub(super) const fn has_operations(&self) -> bool {
        self.receiving || self.shutting_down || self.outgoing.is_some()
    }

    /// Its name on the ring. Its number on the thread is its slot.
    pub(super) const fn key(&self, index: u32) -> ConnectionKey {
        ConnectionKey::new(index, self.generation)
    }
}

/// At a million connections the harness must leave the machine's memory to the server.
const _: () = assert!(size_of::<Client>() <= 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_leaves_together_in_order_and_bounded() {
        let mut outgoing = Outgoing {
            current: Bytes::new(),
            waiting: VecDeque::new(),
        };
        assert_eq!(outgoing.next(), None);
        for message in ["one ", "two ", "three"] {
            outgoing.waiting.push_back(Bytes::from(message));
        }
        let large = Bytes::from(vec![b'x'; GATHER_BYTES_MAX]);
        outgoing.waiting.push_back(large.clone());
        outgoing.waiting.push_back(Bytes::from("last"));
        let mut next = || outgoing.next();
        assert_eq!(next(), Some(Bytes::from("one two three")));
        assert_eq!(next(), Some(large));
        assert_eq!(next(), Some(Bytes::from("last")));
        assert_eq!(next(), None);
    }
}
