//! The driver: carries out what was queued and reports what has completed, in a random order.

use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::faults::Faults;
use super::ledger::{Connection, Ledger, Multishot, Queued, Send};
use super::link::Readable;
use super::network::{Listener, SimNetwork, World};
use crate::driver::{
    BufferId, Clock, Completion, ConnectionKey, Driver, ReceiveEnd, ShardId, Shutdown, Slot,
};
use crate::error::FatalError;

/// What a simulated driver has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimSetup {
    /// Slots of its table of connections.
    pub slots: u32,
    /// Its receive buffers.
    pub buffers: u16,
    /// Bytes of a receive buffer.
    pub buffer_bytes: usize,
    /// Whether `Accepted` names the peer's address.
    pub addresses: bool,
}

impl Default for SimSetup {
    fn default() -> Self {
        Self {
            slots: 64,
            buffers: 8,
            buffer_bytes: 2048,
            addresses: false,
        }
    }
}

/// A shard's access to a [`SimNetwork`].
///
/// It listens from its making on. Dropping it is the end of the shard's ring: connections, also those that wait
/// to be accepted, are reset, and a new driver of the same shard may be made.
#[derive(Debug)]
pub struct SimDriver {
    network: SimNetwork,
    shard: ShardId,
    ledger: Rc<RefCell<Ledger>>,
    buffers: Vec<Box<[u8]>>,
    addresses: bool,
    clock: Clock,
}

impl SimDriver {
    /// The driver of a shard.
    ///
    /// # Panics
    /// The shard has a driver already, or the set-up has no slots, no buffers or empty buffers.
    #[must_use]
    pub fn new(network: &SimNetwork, shard: ShardId, setup: SimSetup) -> Self {
        assert!(
            setup.slots > 0 && setup.buffers > 0 && setup.buffer_bytes > 0,
            "a driver needs slots and buffers: {setup:?}"
        );
        let mut world = network.world_mut();
        assert!(
            !world.listeners.contains_key(&shard),
            "shard {shard} has a driver already"
        );
        let random = world.random.fork();
        let ledger = Ledger::new(shard, world.seed, random, &setup);
        let ledger = Rc::new(RefCell::new(ledger));
        // A wake of the shard's former ring went down with it.
        world.woken.remove(&shard);
        world.listeners.insert(
            shard,
            Listener {
                backlog: VecDeque::new(),
                ledger: Rc::clone(&ledger),
            },
        );
        Self {
            network: network.clone(),
            shard,
            ledger,
            buffers: vec![vec![0; setup.buffer_bytes].into_boxed_slice(); setup.buffers.into()],
            addresses: setup.addresses,
            clock: world.clock,
        }
    }
}

impl Driver for SimDriver {
    fn clock(&self) -> Clock {
        self.clock
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) -> Result<(), FatalError> {
        let world = &mut *self.network.world_mut();
        let ledger = &mut *self.ledger.borrow_mut();
        ledger.poll_begin();
        self.clock = world.clock;
        let reported_before = completions.len();
        let mut poll = Poll {
            shard: self.shard,
            addresses: self.addresses,
            faults: world.faults.clone(),
            queue_end: usize::MAX,
            world,
            ledger,
            buffers: &mut self.buffers,
            completions,
        };
        poll.submit();
        poll.reap();
        for completion in &completions[reported_before..] {
            world.trace.shown(completion);
        }
        Ok(())
    }

    fn accept_start(&mut self) {
        self.ledger.borrow_mut().accept_start();
    }

    fn accept_stop(&mut self) {
        self.ledger.borrow_mut().accept_stop();
    }

    fn receive_start(&mut self, key: ConnectionKey) {
        self.ledger.borrow_mut().receive_start(key);
    }

    fn receive_once(&mut self, key: ConnectionKey) {
        self.ledger.borrow_mut().receive_once(key);
    }

    fn receive_stop(&mut self, key: ConnectionKey) {
        self.ledger.borrow_mut().receive_stop(key);
    }

    fn send(&mut self, key: ConnectionKey, payload: Bytes) {
        self.ledger.borrow_mut().send(key, payload);
    }

    fn send_now(&mut self, key: ConnectionKey, payload: Bytes) {
        self.ledger.borrow_mut().send_now(key, payload);
    }

    fn is_behind(&self) -> bool {
        self.ledger.borrow().is_behind()
    }

    fn shutdown(&mut self, key: ConnectionKey, how: Shutdown) {
        self.ledger.borrow_mut().shutdown(key, how);
    }

    fn close(&mut self, key: ConnectionKey) {
        self.ledger.borrow_mut().close(key);
    }

    fn buffer(&mut self, buffer: BufferId, length: usize) -> &mut [u8] {
        self.ledger.borrow_mut().buffer_look(buffer, length);
        &mut self.buffers[usize::from(buffer)][..length]
    }

    fn buffer_release(&mut self, buffer: BufferId) {
        self.ledger.borrow_mut().buffer_release(buffer);
    }

    fn wake(&mut self, shard: ShardId) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.queued.push_back(Queued::Wake(shard));
    }

    fn wake_at(&mut self, monotonic_us: u64) {
        self.ledger.borrow_mut().deadline_us = Some(monotonic_us);
    }
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        let world = &mut *self.network.world_mut();
        let ledger = &mut *self.ledger.borrow_mut();
        let accepted = std::mem::take(&mut ledger.connections);
        let waiting = world.listeners.remove(&self.shard);
        let links = accepted
            .into_values()
            .map(|connection| connection.link)
            .chain(waiting.into_iter().flat_map(|listener| listener.backlog));
        for link in links {
            let mut link = link.borrow_mut();
            link.server_vanish(&mut world.random, &world.faults);
        }
    }
}

/// Completions that must stay in order among themselves. Those of different lanes mix at random.
#[derive(Clone, Copy, Debug)]
enum Lane {
    Accept,
    /// At most so many pieces in this poll.
    Receive(Slot, u64),
    Send(Slot),
    Unsent(Slot),
    Shutdown(Slot),
    Close(Slot),
    Woken,
    Deadline,
}

/// One poll at work.
struct Poll<'a> {
    shard: ShardId,
    addresses: bool,
    faults: Faults,
    /// Completions beyond which the queue is full.
    queue_end: usize,
    world: &'a mut World,
    ledger: &'a mut Ledger,
    buffers: &'a mut [Box<[u8]>],
    completions: &'a mut Vec<Completion>,
}

impl Poll<'_> {
    /// Carries out what was queued, in its order: a shutdown comes after the send before it.
    fn submit(&mut self) {
        let mut left = usize::MAX;
        let cut_short_per_mille = self.faults.cut_short_per_mille;
        if cut_short_per_mille > 0 && self.ledger.random.chance(cut_short_per_mille) {
            left = self.ledger.random.index(self.ledger.queued.len() + 1);
        }
        while left > 0
            && let Some(queued) = self.ledger.queued.pop_front()
        {
            left -= 1;
            let due = self.due();
            match queued {
                Queued::Send(slot) => self.send_on(slot),
                Queued::SendNow(slot) => self.send_now(slot),
                Queued::Shutdown(slot, how) => {
                    let random = &mut self.ledger.random;
                    let connection = in_use(&mut self.ledger.connections, slot);
                    connection.link.borrow_mut().server_shutdown(how, random);
                    // Shutdowns of one connection are reported in their order.
                    let last = connection.shutdowns.iter().flatten().last().copied();
                    let unsubmitted = connection.shutdowns.iter_mut().find(|at| at.is_none());
                    if let Some(at) = unsubmitted {
                        *at = last.max(Some(due));
                    }
                }
                Queued::Close(slot) => {
                    let random = &mut self.ledger.random;
                    let connection = in_use(&mut self.ledger.connections, slot);
                    let mut link = connection.link.borrow_mut();
                    link.server_close(random, &self.faults);
                    connection.close = Some(Some(due));
                }
                Queued::Wake(shard) => {
                    if self.world.listeners.contains_key(&shard) {
                        self.world.woken.insert(shard);
                    }
                }
            }
        }
        self.ledger.is_behind = !self.ledger.queued.is_empty();
        self.world.struck.cut_short_polls += u64::from(self.ledger.is_behind);
    }

    /// Reports what has completed, each time the next of a random lane.
    fn reap(&mut self) {
        let mut lanes = self.lanes();
        let queue_full_per_mille = self.faults.queue_full_per_mille;
        if queue_full_per_mille > 0 && self.ledger.random.chance(queue_full_per_mille) {
            self.queue_end = self.completions.len() + self.ledger.random.index(8);
        }
        while !lanes.is_empty() {
            let index = self.ledger.random.index(lanes.len());
            match self.step(lanes[index]) {
                Some(lane) => lanes[index] = lane,
                None => {
                    lanes.swap_remove(index);
                }
            }
        }
    }

    fn lanes(&mut self) -> Vec<Lane> {
        let mut lanes = Vec::new();
        for (&slot, connection) in &self.ledger.connections {
            // The caller counts on hearing of it in the poll that tried it.
            if matches!(connection.send, Send::Unsent { .. }) {
                lanes.push(Lane::Unsent(slot));
            }
            if self.ledger.random.chance(self.faults.delay_per_mille) {
                self.world.struck.late_completions += u64::from(!connection.is_quiet());
                continue;
            }
            if connection.receive != Multishot::Idle {
                let pieces_max = 1 + self.ledger.random.below(8);
                lanes.push(Lane::Receive(slot, pieces_max));
            }
            if matches!(connection.send, Send::InFlight { .. } | Send::Ended { .. }) {
                lanes.push(Lane::Send(slot));
            }
            if !connection.shutdowns.is_empty() {
                lanes.push(Lane::Shutdown(slot));
            }
            if connection.close.is_some() {
                lanes.push(Lane::Close(slot));
            }
        }
        let deadline_passed = self
            .ledger
            .deadline_us
            .is_some_and(|deadline| deadline <= self.world.clock.monotonic_us);
        let shared = [
            (Lane::Accept, self.ledger.accept != Multishot::Idle),
            (Lane::Woken, self.world.woken.contains(&self.shard)),
            (Lane::Deadline, deadline_passed),
        ];
        for (lane, is_ready) in shared {
            if is_ready && !self.ledger.random.chance(self.faults.delay_per_mille) {
                lanes.push(lane);
            }
        }
        lanes
    }

    /// Reports at most one completion of a lane. Returns the lane where more may follow.
    fn step(&mut self, lane: Lane) -> Option<Lane> {
        match lane {
            Lane::Accept => self.accept_step(),
            Lane::Receive(slot, pieces_max) => self.receive_step(slot, pieces_max),
            Lane::Send(slot) => self.send_step(slot),
            Lane::Unsent(slot) => self.unsent_step(slot),
            Lane::Shutdown(slot) => self.shutdown_step(slot),
            Lane::Close(slot) => self.close_step(slot),
            Lane::Woken => {
                self.world.woken.remove(&self.shard);
                self.completions.push(Completion::Woken);
                None
            }
            Lane::Deadline => {
                self.ledger.deadline_us = None;
                self.completions.push(Completion::DeadlinePassed);
                None
            }
        }
    }

    fn accept_step(&mut self) -> Option<Lane> {
        let stopping = self.ledger.accept == Multishot::Stopping;
        let listener = self.world.listeners.get_mut(&self.shard)?;
        let Some(link) = listener.backlog.front().cloned() else {
            return self.accept_end_if(stopping, None);
        };
        if stopping && self.ledger.random.coin() {
            return self.accept_end_if(true, None);
        }
        if self
            .ledger
            .random
            .chance(self.faults.accept_error_per_mille)
        {
            self.world.struck.accept_errors += 1;
            let error = match self.ledger.random.coin() {
                true => libc::EMFILE,
                false => libc::ECONNABORTED,
            };
            return self.accept_end_if(true, Some(error));
        }
        listener.backlog.pop_front();
        let Some(slot) = self.ledger.free_slots.pop_first() else {
            // As in Linux, the connection was accepted before the table turned out to be full, and is dropped.
            let random = &mut self.ledger.random;
            link.borrow_mut().server_close(random, &self.faults);
            self.world.struck.full_tables += 1;
            return self.accept_end_if(true, Some(libc::ENFILE));
        };
        let peer = self.addresses.then(|| link.borrow().peer());
        let connection = Connection::new(link);
        self.ledger.connections.insert(slot, connection);
        self.completions.push(Completion::Accepted { slot, peer });
        if self.is_queue_full() {
            return self.accept_end_if(true, None);
        }
        Some(Lane::Accept)
    }

    fn accept_end_if(&mut self, ended: bool, error: Option<i32>) -> Option<Lane> {
        if ended {
            self.ledger.accept = Multishot::Idle;
            self.completions.push(Completion::AcceptEnded { error });
        }
        None
    }

    /// A multishot that reports now has no room to say that it goes on.
    fn is_queue_full(&mut self) -> bool {
        let is_full = self.completions.len() > self.queue_end;
        self.world.struck.full_queues += u64::from(is_full);
        is_full
    }

    fn receive_step(&mut self, slot: Slot, pieces_max: u64) -> Option<Lane> {
        let random = &mut self.ledger.random;
        let faults = &self.faults;
        let connection = in_use(&mut self.ledger.connections, slot);
        let mut link = connection.link.borrow_mut();
        if link.server_readable() != Readable::Nothing && random.chance(faults.reset_per_mille) {
            self.world.struck.broken_connections += 1;
            self.world.struck.lost_bytes += link.break_off(random, faults);
        }
        let stopping = connection.receive == Multishot::Stopping;
        let end = match link.server_readable() {
            _ if stopping && random.coin() => Some(ReceiveEnd::Stopped),
            Readable::Nothing if stopping => Some(ReceiveEnd::Stopped),
            Readable::Nothing => return None,
            Readable::End => Some(ReceiveEnd::EndOfStream),
            Readable::Error(error) => {
                link.server_error_take();
                Some(ReceiveEnd::Failed(error))
            }
            Readable::Bytes(_) if random.chance(faults.receive_end_per_mille) => {
                self.world.struck.ended_receives += 1;
                Some(ReceiveEnd::Stopped)
            }
            Readable::Bytes(_) if random.chance(faults.no_buffers_per_mille) => {
                self.world.struck.buffers_withheld += 1;
                Some(ReceiveEnd::NoBuffers)
            }
            Readable::Bytes(_) if self.ledger.free_buffers.is_empty() => {
                self.world.struck.buffers_used_up += 1;
                Some(ReceiveEnd::NoBuffers)
            }
            Readable::Bytes(_) if pieces_max == 0 => return None,
            Readable::Bytes(_) => None,
        };
        let key = key(slot, connection);
        if let Some(end) = end {
            connection.receive = Multishot::Idle;
            drop(link);
            self.completions.push(Completion::ReceiveEnded { key, end });
            return None;
        }
        let Some(buffer) = self.ledger.free_buffers.pop_front() else {
            unreachable!("an empty pool was met above");
        };
        let place = &mut self.buffers[usize::from(buffer)];
        let length_max = match random.chance(faults.split_per_mille) {
            true => random.magnitude_between(1, place.len()),
            false => place.len(),
        };
        if let Readable::Bytes(readable) = link.server_readable() {
            let is_split = length_max < place.len().min(readable);
            self.world.struck.split_receives += u64::from(is_split);
        }
        let length = link.server_read(&mut place[..length_max]);
        drop(link);
        let ends = connection.receive_ends_soon;
        self.ledger.buffer_lend(buffer, length);
        let received = Completion::Received {
            key,
            buffer,
            length,
        };
        self.completions.push(received);
        if self.is_queue_full() || ends {
            in_use(&mut self.ledger.connections, slot).receive = Multishot::Idle;
            let end = ReceiveEnd::Stopped;
            self.completions.push(Completion::ReceiveEnded { key, end });
            return None;
        }
        Some(Lane::Receive(slot, pieces_max - 1))
    }

    /// Moves a send's bytes as far as there is room for them.
    fn send_on(&mut self, slot: Slot) {
        let due = self.due();
        let random = &mut self.ledger.random;
        let faults = &self.faults;
        let connection = in_use(&mut self.ledger.connections, slot);
        let Send::InFlight { payload, sent } = &mut connection.send else {
            return;
        };
        let mut link = connection.link.borrow_mut();
        if !link.server_writable() {
            return;
        }
        let struck = &mut self.world.struck;
        if random.chance(faults.reset_per_mille) {
            struck.broken_connections += 1;
            struck.lost_bytes += link.break_off(random, faults);
        }
        let rest = payload.len() - *sent;
        let is_short = rest > 1 && random.chance(faults.short_send_per_mille);
        let length = match is_short {
            true => random.between(1, rest - 1),
            false => rest,
        };
        let written = match random.chance(faults.send_error_per_mille) {
            true => {
                struck.failed_sends += 1;
                struck.lost_bytes += link.break_off(random, faults);
                let errors = [libc::ECONNRESET, libc::EPIPE, libc::ETIMEDOUT];
                if random.coin() {
                    link.server_error_take();
                }
                Err(errors[random.index(errors.len())])
            }
            false => link.server_write(&payload[*sent..*sent + length], random, faults),
        };
        let result = match written {
            Ok(length) => {
                *sent += length;
                if *sent < payload.len() && !is_short {
                    struck.full_sockets += 1;
                    return;
                }
                struck.short_sends += u64::from(is_short);
                Ok(*sent)
            }
            // As with MSG_WAITALL in Linux: what has left counts for more than the error after it.
            Err(_) if *sent > 0 => Ok(*sent),
            Err(error) => Err(error),
        };
        drop(link);
        connection.send = Send::Ended { result, due };
    }

    /// Moves what leaves at once of a send.
    fn send_now(&mut self, slot: Slot) {
        let connection = in_use(&mut self.ledger.connections, slot);
        let Send::AtOnce { payload } = std::mem::replace(&mut connection.send, Send::Idle) else {
            return;
        };
        connection.send = Send::InFlight {
            payload: payload.clone(),
            sent: 0,
        };
        self.send_on(slot);
        let connection = in_use(&mut self.ledger.connections, slot);
        let (sent, error) = match connection.send {
            Send::InFlight { sent, .. } => (sent, None),
            Send::Ended {
                result: Ok(sent), ..
            } => (sent, None),
            Send::Ended {
                result: Err(error), ..
            } => (0, Some(error)),
            _ => (0, None),
        };
        connection.send = match payload.slice(sent..) {
            rest if rest.is_empty() => Send::Idle,
            rest => {
                self.world.struck.unfinished_sends += 1;
                Send::Unsent { rest, error }
            }
        };
    }

    fn unsent_step(&mut self, slot: Slot) -> Option<Lane> {
        let connection = in_use(&mut self.ledger.connections, slot);
        let key = key(slot, connection);
        if let Send::Unsent { rest, error } = std::mem::replace(&mut connection.send, Send::Idle) {
            self.completions
                .push(Completion::Unsent { key, rest, error });
        }
        None
    }

    fn send_step(&mut self, slot: Slot) -> Option<Lane> {
        self.send_on(slot);
        let connection = in_use(&mut self.ledger.connections, slot);
        if let Send::Ended { result, due } = connection.send
            && due <= self.ledger.polls
        {
            connection.send = Send::Idle;
            let key = key(slot, connection);
            self.ledger.send_answered();
            self.completions.push(Completion::Sent { key, result });
        }
        None
    }

    fn shutdown_step(&mut self, slot: Slot) -> Option<Lane> {
        let connection = in_use(&mut self.ledger.connections, slot);
        let due = connection.shutdowns.front().copied().flatten()?;
        if due > self.ledger.polls {
            return None;
        }
        connection.shutdowns.pop_front();
        let key = key(slot, connection);
        self.completions.push(Completion::ShutDown { key });
        Some(Lane::Shutdown(slot))
    }

    fn close_step(&mut self, slot: Slot) -> Option<Lane> {
        let connection = in_use(&mut self.ledger.connections, slot);
        let due = connection.close.flatten()?;
        if due <= self.ledger.polls {
            let key = key(slot, connection);
            self.ledger.connections.remove(&slot);
            self.ledger.free_slots.insert(slot);
            self.completions.push(Completion::Closed { key });
        }
        None
    }

    /// The poll at which something that happens now is reported.
    fn due(&mut self) -> u64 {
        let random = &mut self.ledger.random;
        let late = match random.chance(self.faults.delay_per_mille) {
            true => 1 + random.below(self.faults.delay_polls_max),
            false => 0,
        };
        self.world.struck.late_completions += u64::from(late > 0);
        self.ledger.polls + late
    }
}

fn in_use(connections: &mut BTreeMap<Slot, Connection>, slot: Slot) -> &mut Connection {
    match connections.get_mut(&slot) {
        Some(connection) => connection,
        None => unreachable!("slot {slot} has an operation, so it is not closed"),
    }
}

/// The key that the caller gave to the operation now answered.
fn key(slot: Slot, connection: &Connection) -> ConnectionKey {
    match connection.generation {
        Some(generation) => ConnectionKey::new(slot, generation),
        None => unreachable!("slot {slot} has an operation, so its generation is known"),
    }
}
