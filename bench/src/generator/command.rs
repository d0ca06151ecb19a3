//! What the threads of the generator are told to do.

use std::sync::Arc;

use super::board::Board;
use crate::layout::Group;

/// A group as the threads are given it.
#[derive(Clone, Debug)]
pub(super) struct GroupOrder {
    pub(super) group: Arc<Group>,
    pub(super) board: Arc<Board>,
    /// Its number, the same on all threads.
    pub(super) index: u8,
    /// Members also have direct messages from one another.
    pub(super) direct: bool,
    /// A connection that is lost comes back by itself.
    pub(super) returns: bool,
    /// Follows the place in the room's history and asks for what was missed on a return.
    pub(super) recovers: bool,
    /// The first number of the group's connections among all of the run, for source addresses.
    pub(super) first_connection: u32,
    /// Nanoseconds between the begins of two connects on this thread; 0 for as fast as the bound on attempts in flight permits.
    pub(super) connect_interval_ns: u64,
}

/// What publishers send, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Nanoseconds between two messages of one publisher.
    pub interval_ns: u64,
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// Which messages are sent.
    pub mix: Mix,
    /// The first intended time is this or up to one interval later.
    pub start_ns: u64,
    /// From when on intended times belong to the measured span.
    pub measured_from_ns: u64,
    /// No message is intended for this time or later, and the measured span ends.
    pub until_ns: u64,
    /// A publisher sends only when its last message has come back to it, as tools do that hide stalls.
    pub closed_loop: bool,
}

impl Traffic {
    /// Whether a message belongs to the measured span.
    pub(super) const fn measures(&self, intended_ns: u64) -> bool {
        self.measured_from_ns <= intended_ns && intended_ns < self.until_ns
    }
}

/// Which messages publishers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// To the room.
    Broadcasts,
    /// In turn to the room and to one partner.
    Half,
}

/// What a thread is told.
pub(super) enum Command {
    /// Opens the thread's part of a group.
    Open(Arc<GroupOrder>),
    /// Lets the publishers of a group send.
    Publish { group: u8, traffic: Traffic },
    /// Drops all connections of a group at once, without a close handshake; they come back by themselves.
    Drop { group: u8 },
    /// Closes one connection of a group after another, in good order, and opens it again. `interval_ns` is the time
    /// between two on this thread.
    Churn {
        group: u8,
        interval_ns: u64,
        until_ns: u64,
    },
    /// The slow members of a group stop reading, or read again.
    Stall { group: u8, stalled: bool },
    /// Sends a text on one connection of a group.
    Say { group: u8, text: String },
    /// Connections that are lost from now on, to the end of the run, count as lost at this time.
    Fault { at_ns: u64 },
    /// Closes everything and ends the thread.
    Finish,
}
