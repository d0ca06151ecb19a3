//! What is in flight on one simulated driver, and the rules its caller keeps.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::driver::SimSetup;
use super::link::{Readable, SharedLink};
use super::random::Random;
use crate::driver::{BufferId, ConnectionKey, GENERATION_BITS, ShardId, Shutdown, Slot};

/// What a shard has not given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaks {
    /// Receive buffers that were lent and not released.
    pub buffers: usize,
    /// Slots that hold a connection.
    pub slots: usize,
    /// Operations of connections that were not answered yet. Accepting does not count.
    pub operations: usize,
}

/// What a shard holds at one moment, in numbers that are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Receive buffers that are lent.
    pub buffers: usize,
    /// Slots that hold a connection.
    pub slots: usize,
    /// Sends that were not answered yet, but for those that leave at once.
    pub sends: usize,
    /// The last poll has left something undone.
    pub is_behind: bool,
}

/// A multishot operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Multishot {
    Idle,
    Armed,
    /// Its end was asked for.
    Stopping,
}

/// The send of a connection.
#[derive(Debug)]
pub(super) enum Send {
    Idle,
    /// So many bytes of the payload have left.
    InFlight {
        payload: Bytes,
        sent: usize,
    },
    /// Leaves at once, as far as it does, when it is submitted.
    AtOnce {
        payload: Bytes,
    },
    /// Did not leave at once as a whole; reported at the same poll.
    Unsent {
        rest: Bytes,
        error: Option<i32>,
    },
    /// Ended; reported at the poll of this number or later.
    Ended {
        result: Result<usize, i32>,
        due: u64,
    },
}

/// A slot in use.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) link: SharedLink,
    /// Known from the first operation on.
    pub(super) generation: Option<u32>,
    pub(super) receive: Multishot,
    /// The receive ends after one buffer.
    pub(super) receive_ends_soon: bool,
    pub(super) send: Send,
    /// When each shutdown is reported. One that was not submitted yet has no time.
    pub(super) shutdowns: VecDeque<Option<u64>>,
    /// When the close is reported: asked for, then submitted.
    pub(super) close: Option<Option<u64>>,
}

impl Connection {
    pub(super) fn new(link: SharedLink) -> Self {
        Self {
            link,
            generation: None,
            receive: Multishot::Idle,
            receive_ends_soon: false,
            send: Send::Idle,
            shutdowns: VecDeque::new(),
            close: None,
        }
    }

    fn operations(&self) -> usize {
        usize::from(self.receive != Multishot::Idle)
            + usize::from(!matches!(self.send, Send::Idle))
            + self.shutdowns.len()
            + usize::from(self.close.is_some())
    }

    /// Whether the driver has nothing to do for it before its client acts.
    pub(super) fn is_quiet(&self) -> bool {
        let link = self.link.borrow();
        let receive = match self.receive {
            Multishot::Idle => true,
            Multishot::Armed => link.server_readable() == Readable::Nothing,
            Multishot::Stopping => false,
        };
        let send = match self.send {
            Send::Idle => true,
            Send::InFlight { .. } => !link.server_writable(),
            Send::AtOnce { .. } | Send::Unsent { .. } | Send::Ended { .. } => false,
        };
        receive && send && self.shutdowns.is_empty() && self.close.is_none()
    }
}

/// An operation that the next poll submits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Queued {
    Send(Slot),
    SendNow(Slot),
    Shutdown(Slot, Shutdown),
    Close(Slot),
    Wake(ShardId),
}

/// The books of one driver.
#[derive(Debug)]
pub(super) struct Ledger {
    shard: ShardId,
    seed: u64,
    pub(super) random: Random,
    /// Number of polls so far.
    pub(super) polls: u64,
    pub(super) accept: Multishot,
    pub(super) connections: BTreeMap<Slot, Connection>,
    /// Of all connections.
    sends: usize,
    pub(super) free_slots: BTreeSet<Slot>,
    pub(super) queued: VecDeque<Queued>,
    /// The last poll has not submitted all of it.
    pub(super) is_behind: bool,
    pub(super) free_buffers: VecDeque<BufferId>,
    /// Bytes in each buffer that is lent.
    lent_buffers: BTreeMap<BufferId, usize>,
    pub(super) deadline_us: Option<u64>,
    /// The generation of each slot's last use.
    generations: BTreeMap<Slot, u32>,
    /// The first rule that was broken.
    violation: Option<String>,
}

impl Ledger {
    pub(super) fn new(shard: ShardId, seed: u64, random: Random, setup: &SimSetup) -> Self {
        Self {
            shard,
            seed,
            random,
            polls: 0,
            accept: Multishot::Idle,
            connections: BTreeMap::new(),
            sends: 0,
            free_slots: (0..setup.slots).collect(),
            queued: VecDeque::new(),
            is_behind: false,
            free_buffers: (0..setup.buffers).collect(),
            lent_buffers: BTreeMap::new(),
            deadline_us: None,
            generations: BTreeMap::new(),
            violation: None,
        }
    }

    /// Panics where a rule was broken before, whoever caught that panic.
    pub(super) fn assert_rules_kept(&self) {
        if let Some(violation) = &self.violation {
            panic!("{violation}");
        }
    }

    pub(super) fn leaks(&self) -> Leaks {
        Leaks {
            buffers: self.lent_buffers.len(),
            slots: self.connections.len(),
            operations: self.connections.values().map(Connection::operations).sum(),
        }
    }

    pub(super) fn held(&self) -> Held {
        Held {
            buffers: self.lent_buffers.len(),
            slots: self.connections.len(),
            sends: self.sends,
            is_behind: self.is_behind(),
        }
    }

    pub(super) fn send_answered(&mut self) {
        self.sends -= 1;
    }

    /// Whether the last poll has left something undone. Then what was queued before it still is.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Whether the next poll reports nothing unless a client acts, time passes or a wake arrives.
    pub(super) fn is_quiet(&self, backlog: usize) -> bool {
        let accept = match self.accept {
            Multishot::Idle => true,
            Multishot::Armed => backlog == 0,
            Multishot::Stopping => false,
        };
        accept && self.queued.is_empty() && self.connections.values().all(Connection::is_quiet)
    }

    fn violated(&mut self, rule: String) -> ! {
        let violation = format!("shard {} (seed {}): {rule}", self.shard, self.seed);
        self.violation.get_or_insert_with(|| violation.clone());
        panic!("{violation}");
    }

    pub(super) fn poll_begin(&mut self) {
        self.assert_rules_kept();
        if !self.lent_buffers.is_empty() {
            let lent: Vec<_> = self.lent_buffers.keys().copied().collect();
            self.violated(format!("buffers {lent:?} were not released in their pass"));
        }
        self.polls += 1;
    }

    /// The connection that an operation names.
    fn connection(&mut self, key: ConnectionKey, operation: &str) -> &mut Connection {
        let (known, closing) = match self.connections.get(&key.slot) {
            None => self.violated(format!("{operation} on {key:?}, a slot that is not in use")),
            Some(connection) => (connection.generation, connection.close.is_some()),
        };
        match known {
            Some(generation) if generation != key.generation => self.violated(format!(
                "{operation} on {key:?}, but the slot is at generation {generation}"
            )),
            Some(_) => {}
            None => self.generation_learn(key, operation),
        }
        if closing {
            self.violated(format!("{operation} on {key:?} after close"));
        }
        match self.connections.get_mut(&key.slot) {
            Some(connection) => connection,
            None => unreachable!("the slot was found above"),
        }
    }

    fn generation_learn(&mut self, key: ConnectionKey, operation: &str) {
        if let Some(last) = self.generations.insert(key.slot, key.generation) {
            let step = key.generation.wrapping_sub(last) & ((1 << GENERATION_BITS) - 1);
            // Half of the circle counts as ahead.
            if step == 0 || step >= 1 << (GENERATION_BITS - 1) {
                self.violated(format!(
                    "{operation} on {key:?}, but the slot's last use had generation {last}"
                ));
            }
        }
        if let Some(connection) = self.connections.get_mut(&key.slot) {
            connection.generation = Some(key.generation);
        }
    }

    pub(super) fn accept_start(&mut self) {
        if self.accept != Multishot::Idle {
            self.violated("accept_start while accepting".to_owned());
        }
        self.accept = Multishot::Armed;
    }

    /// Without an effect where the end lies in the batch that the caller is still working on.
    pub(super) fn accept_stop(&mut self) {
        if self.accept == Multishot::Armed {
            self.accept = Multishot::Stopping;
        }
    }

    pub(super) fn receive_start(&mut self, key: ConnectionKey) {
        if self.connection(key, "receive_start").receive != Multishot::Idle {
            self.violated(format!("receive_start on {key:?} while receiving"));
        }
        let connection = self.connection(key, "receive_start");
        connection.receive = Multishot::Armed;
        connection.receive_ends_soon = false;
    }

    pub(super) fn receive_once(&mut self, key: ConnectionKey) {
        self.receive_start(key);
        self.connection(key, "receive_once").receive_ends_soon = true;
    }

    /// Without an effect where the end lies in the batch that the caller is still working on.
    pub(super) fn receive_stop(&mut self, key: ConnectionKey) {
        let connection = self.connection(key, "receive_stop");
        if connection.receive == Multishot::Armed {
            connection.receive = Multishot::Stopping;
        }
    }

    pub(super) fn send(&mut self, key: ConnectionKey, payload: Bytes) {
        self.send_check(key, &payload);
        self.connection(key, "send").send = Send::InFlight { payload, sent: 0 };
        self.sends += 1;
        self.queued.push_back(Queued::Send(key.slot));
    }

    pub(super) fn send_now(&mut self, key: ConnectionKey, payload: Bytes) {
        if self.is_behind {
            self.violated(format!("send_now on {key:?} while the driver is behind"));
        }
        self.send_check(key, &payload);
        self.connection(key, "send_now").send = Send::AtOnce { payload };
        self.queued.push_back(Queued::SendNow(key.slot));
    }

    fn send_check(&mut self, key: ConnectionKey, payload: &Bytes) {
        let connection = self.connection(key, "send");
        if !matches!(connection.send, Send::Idle) {
            self.violated(format!("send on {key:?} while another one is in flight"));
        }
        if payload.is_empty() {
            self.violated(format!("send of nothing on {key:?}"));
        }
    }

    pub(super) fn shutdown(&mut self, key: ConnectionKey, how: Shutdown) {
        self.connection(key, "shutdown").shutdowns.push_back(None);
        self.queued.push_back(Queued::Shutdown(key.slot, how));
    }

    pub(super) fn close(&mut self, key: ConnectionKey) {
        let connection = self.connection(key, "close");
        if connection.operations() > 0 {
            let state = format!(
                "receive {:?}, send {:?}, {} shutdowns",
                connection.receive,
                connection.send,
                connection.shutdowns.len()
            );
            self.violated(format!(
                "close on {key:?} with operations in flight: {state}"
            ));
        }
        connection.close = Some(None);
        self.queued.push_back(Queued::Close(key.slot));
    }

    pub(super) fn buffer_lend(&mut self, buffer: BufferId, length: usize) {
        self.lent_buffers.insert(buffer, length);
    }

    pub(super) fn buffer_look(&mut self, buffer: BufferId, length: usize) {
        match self.lent_buffers.get(&buffer) {
            None => self.violated(format!("buffer {buffer} is read but not lent")),
            Some(&held) if length > held => self.violated(format!(
                "{length} bytes of buffer {buffer} are read, but it holds {held}"
            )),
            Some(_) => {}
        }
    }

    pub(super) fn buffer_release(&mut self, buffer: BufferId) {
        if self.lent_buffers.remove(&buffer).is_none() {
            self.violated(format!("buffer {buffer} is released but not lent"));
        }
        self.free_buffers.push_back(buffer);
    }
}
