//! The mesh between shards: how they send each other mail without a lock.
//!
//! Between every two shards lie two bounded channels in each direction: one for requests, one for
//! deliveries. Deliveries cause no mail, so a shard can always drain them, and full channels cannot hold each other
//! up in a circle. A third, the control channel, leads to each shard from ordinary threads.
//!
//! A channel has one sender and one receiver, so mail of one kind between two shards keeps its order. A
//! `doorbell` tells a receiver which channels hold mail: a pass without mail costs a few loads, however
//! many shards there are. A sleeping receiver is woken once a burst; the caller does that, with
//! what [`Mailbox::take_wakes`] names.
//!
//! Memory: a channel's places are allocated when the mesh is made. Box large payloads.

mod doorbell;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::Arc;
use std::sync::atomic::{self, AtomicBool, Ordering};

use crate::driver::ShardId;
use doorbell::{Doorbell, WORD_BITS};

/// Places of a channel: at least so many, that a burst between two of many shards does not stall at once.
const CHANNEL_MAILS_MIN: usize = 32;
/// Places of a channel: at most so many, whatever the number of shards.
const CHANNEL_MAILS_MAX: usize = 4096;
/// Places of a shard's control channel.
const CONTROL_MAILS_MAX: usize = 1024;

/// The channel has no place left; here is the mail again.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mailbox is full")]
pub struct Full<T>(pub T);

/// A bounded channel; the mesh holds both of its ends, so mail outlives a shard that is restarted.
#[derive(Debug)]
struct Channel<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
}

impl<T> Channel<T> {
    fn new(mails_max: usize) -> Self {
        let (sender, receiver) = bounded(mails_max);
        Self { sender, receiver }
    }

    fn send(&self, mail: T) -> Result<(), Full<T>> {
        self.sender.try_send(mail).map_err(|error| match error {
            // The receiver lives as long as this channel, so it is never disconnected.
            TrySendError::Full(mail) | TrySendError::Disconnected(mail) => Full(mail),
        })
    }

    fn receive(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

/// The channels of one lane between every two shards.
#[derive(Debug)]
struct Lane<T> {
    /// By sender, then by receiver; a shard has none to itself.
    channels: Box<[Channel<T>]>,
    shards: usize,
    /// First word of this lane's marks in a doorbell.
    first_word: usize,
}

impl<T> Lane<T> {
    fn new(shards: usize, mails_max: usize, first_word: usize) -> Self {
        let channels = shards * shards.saturating_sub(1);
        Self {
            channels: (0..channels).map(|_| Channel::new(mails_max)).collect(),
            shards,
            first_word,
        }
    }

    fn channel(&self, from: ShardId, to: ShardId) -> &Channel<T> {
        assert!(from != to, "shard {from} has no mailbox to itself");
        let (from, to) = (usize::from(from), usize::from(to));
        assert!(
            from < self.shards && to < self.shards,
            "no shard {} in this mesh",
            from.max(to)
        );
        &self.channels[from * (self.shards - 1) + to - usize::from(to > from)]
    }

    fn mark(&self, doorbell: &Doorbell, from: ShardId) {
        let from = usize::from(from);
        doorbell.mark(self.first_word + from / WORD_BITS, from % WORD_BITS);
    }
}

/// Places of one channel of a lane: a shard's bound, shared out over the shards that send to it.
fn channel_mails(shards: u16, mails_max_per_shard: usize) -> usize {
    (mails_max_per_shard / usize::from(shards).max(1)).clamp(CHANNEL_MAILS_MIN, CHANNEL_MAILS_MAX)
}

/// Every channel between the shards of a process, with the doorbells of the receivers.
///
/// `R` is a request, `D` a delivery, `C` what ordinary threads tell a shard.
#[derive(Debug)]
pub struct Mesh<R, D, C> {
    shards: u16,
    mails_max: usize,
    requests: Lane<R>,
    deliveries: Lane<D>,
    controls: Box<[Channel<C>]>,
    doorbells: Box<[Doorbell]>,
    /// By shard: whether it has had a mailbox before.
    started: Box<[AtomicBool]>,
    /// The word of a doorbell whose bit 0 marks control mail; the last one.
    control_word: usize,
}

impl<R, D, C> Mesh<R, D, C> {
    /// The mesh of `shards` shards. `mails_max_per_shard` bounds the requests, and likewise the
    /// deliveries, that wait for one shard; it is shared out evenly over the shards that send, with
    /// at least 32 and at most 4096 places each.
    #[must_use]
    pub fn new(shards: u16, mails_max_per_shard: usize) -> Arc<Self> {
        let count = usize::from(shards);
        let mails_max = channel_mails(shards, mails_max_per_shard);
        let words = count.div_ceil(WORD_BITS);
        Arc::new(Self {
            shards,
            mails_max,
            requests: Lane::new(count, mails_max, 0),
            deliveries: Lane::new(count, mails_max, words),
            controls: (0..count)
                .map(|_| Channel::new(CONTROL_MAILS_MAX))
                .collect(),
            doorbells: (0..count).map(|_| Doorbell::new(2 * words + 1)).collect(),
            started: (0..count).map(|_| AtomicBool::new(false)).collect(),
            control_word: 2 * words,
        })
    }

    /// How many shards the mesh joins.
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// How many mails one channel of a lane holds.
    #[must_use]
    pub const fn channel_mails_max(&self) -> usize {
        self.mails_max
    }

    /// The end of `shard`. A restarted shard takes a new one and finds the mail that came meanwhile,
    /// and its first [`Mailbox::take_wakes`] names every peer, for the wakes that the old one may have owed: also
    /// those that it has named, because nobody knows whether they were carried out.
    ///
    /// Only one mailbox of a shard may be in use at a time: two would share the mail out between
    /// them, and each would miss wakes meant for the other.
    ///
    /// # Panics
    /// The mesh has no such shard.
    #[must_use]
    pub fn mailbox(self: &Arc<Self>, shard: ShardId) -> Mailbox<R, D, C> {
        self.doorbells[usize::from(shard)].awake();
        Mailbox {
            request_turns: Turns::new(self.shards, shard),
            delivery_turns: Turns::new(self.shards, shard),
            control_marked: true,
            unrung: Bits::peers(self.shards, shard),
            // A shard's mailboxes come one after the other, whatever thread makes them.
            owes_wakes: self.started[usize::from(shard)].swap(true, Ordering::Relaxed),
            shard,
            mesh: Arc::clone(self),
        }
    }

    /// How much mail waits for `shard`. Looks at the channels of every sender, and writes nothing.
    fn depth(&self, shard: ShardId) -> Depth {
        let senders = || (0..self.shards).filter(|&from| from != shard);
        Depth {
            requests: senders()
                .map(|from| self.requests.channel(from, shard).receiver.len())
                .sum(),
            deliveries: senders()
                .map(|from| self.deliveries.channel(from, shard).receiver.len())
                .sum(),
            orders: self.controls[usize::from(shard)].receiver.len(),
        }
    }

    /// A sender of control mail to `shard`, for any thread.
    ///
    /// # Panics
    /// The mesh has no such shard.
    #[must_use]
    pub fn control(self: &Arc<Self>, shard: ShardId) -> ControlSender<R, D, C> {
        assert!(shard < self.shards, "no shard {shard} in this mesh");
        ControlSender {
            mesh: Arc::clone(self),
            shard,
        }
    }
}

/// Mail that waits for a shard, by lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// From slices to homes.
    pub requests: usize,
    /// From homes to slices.
    pub deliveries: usize,
    /// From ordinary threads.
    pub orders: usize,
}

/// Sends control mail to one shard from any thread.
#[derive(Debug)]
pub struct ControlSender<R, D, C> {
    mesh: Arc<Mesh<R, D, C>>,
    shard: ShardId,
}

impl<R, D, C> Clone for ControlSender<R, D, C> {
    fn clone(&self) -> Self {
        Self {
            mesh: Arc::clone(&self.mesh),
            shard: self.shard,
        }
    }
}

impl<R, D, C> ControlSender<R, D, C> {
    /// Sends `mail`. Returns whether the shard sleeps: then the caller must wake it.
    ///
    /// # Errors
    /// The control channel is full; the mail comes back.
    pub fn send(&self, mail: C) -> Result<bool, Full<C>> {
        let doorbell = &self.mesh.doorbells[usize::from(self.shard)];
        self.mesh.controls[usize::from(self.shard)].send(mail)?;
        doorbell.mark(self.mesh.control_word, 0);
        Ok(doorbell.ring())
    }

    /// How much mail waits for the shard at this moment, from whomever.
    #[must_use]
    pub fn depth(&self) -> Depth {
        self.mesh.depth(self.shard)
    }

    /// The shard that is told.
    #[must_use]
    pub const fn shard(&self) -> ShardId {
        self.shard
    }
}

/// A set of shards.
#[derive(Debug)]
struct Bits(Box<[u64]>);

impl Bits {
    /// Every shard but `shard`.
    fn peers(shards: u16, shard: ShardId) -> Self {
        let mut bits = Self(vec![0; usize::from(shards).div_ceil(WORD_BITS)].into_boxed_slice());
        (0..shards)
            .filter(|&peer| peer != shard)
            .for_each(|peer| bits.insert(peer));
        bits
    }

    fn insert(&mut self, shard: ShardId) {
        self.0[usize::from(shard) / WORD_BITS] |= 1 << (usize::from(shard) % WORD_BITS);
    }

    fn remove(&mut self, shard: ShardId) {
        self.0[usize::from(shard) / WORD_BITS] &= !(1 << (usize::from(shard) % WORD_BITS));
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// The smallest member that is not below `from`.
    fn first_from(&self, from: usize) -> Option<ShardId> {
        let mut mask = u64::MAX << (from % WORD_BITS);
        for word in from / WORD_BITS..self.0.len() {
            let found = self.0[word] & mask;
            if found != 0 {
                return Some((word * WORD_BITS + found.trailing_zeros() as usize) as ShardId);
            }
            mask = u64::MAX;
        }
        None
    }
}

/// The senders of a lane that have, or may have, mail for this shard, and whose turn it is.
#[derive(Debug)]
struct Turns {
    senders: Bits,
    turn: usize,
}

impl Turns {
    /// Every peer may have mail: marks that an earlier mailbox took are not set again.
    fn new(shards: u16, shard: ShardId) -> Self {
        Self {
            senders: Bits::peers(shards, shard),
            turn: 0,
        }
    }

    /// One mail of the next sender that has any. Marks are taken over once a round, so that a
    /// sender that is never empty does not keep the others out.
    fn receive<T>(
        &mut self,
        lane: &Lane<T>,
        to: ShardId,
        doorbell: &Doorbell,
    ) -> Option<(ShardId, T)> {
        loop {
            let Some(from) = self.senders.first_from(self.turn) else {
                for (word, senders) in self.senders.0.iter_mut().enumerate() {
                    *senders |= doorbell.take(lane.first_word + word);
                }
                if self.senders.is_empty() {
                    return None;
                }
                self.turn = 0;
                continue;
            };
            self.turn = usize::from(from) + 1;
            match lane.channel(from, to).receive() {
                Some(mail) => return Some((from, mail)),
                None => self.senders.remove(from),
            }
        }
    }
}

/// One shard's end of the [`Mesh`].
#[derive(Debug)]
pub struct Mailbox<R, D, C> {
    mesh: Arc<Mesh<R, D, C>>,
    shard: ShardId,
    request_turns: Turns,
    delivery_turns: Turns,
    /// Whether control mail may be waiting.
    control_marked: bool,
    /// Peers whose doorbell has not been rung since mail was sent to them.
    unrung: Bits,
    /// Whether wakes of an earlier mailbox of this shard may be owed.
    owes_wakes: bool,
}

impl<R, D, C> Mailbox<R, D, C> {
    /// The shard whose end this is.
    #[must_use]
    pub const fn shard(&self) -> ShardId {
        self.shard
    }

    /// Sends a request. [`Self::take_wakes`] must follow before this shard sleeps.
    ///
    /// # Errors
    /// The channel is full; the mail comes back.
    ///
    /// # Panics
    /// `to` is this shard or none of the mesh.
    pub fn send_request(&mut self, to: ShardId, request: R) -> Result<(), Full<R>> {
        let lane = &self.mesh.requests;
        lane.channel(self.shard, to).send(request)?;
        lane.mark(&self.mesh.doorbells[usize::from(to)], self.shard);
        self.unrung.insert(to);
        Ok(())
    }

    /// Sends a delivery. [`Self::take_wakes`] must follow before this shard sleeps.
    ///
    /// # Errors
    /// The channel is full; the mail comes back.
    ///
    /// # Panics
    /// `to` is this shard or none of the mesh.
    pub fn send_delivery(&mut self, to: ShardId, delivery: D) -> Result<(), Full<D>> {
        let lane = &self.mesh.deliveries;
        lane.channel(self.shard, to).send(delivery)?;
        lane.mark(&self.mesh.doorbells[usize::from(to)], self.shard);
        self.unrung.insert(to);
        Ok(())
    }

    /// Appends to `wakes` the shards that sleep over mail sent since the last call. The caller must wake each.
    ///
    /// An awake receiver sees the mail at once; a sleeping one only after this. Called once a pass, it costs one
    /// barrier for each receiver of a burst instead of one for each mail.
    pub fn take_wakes(&mut self, wakes: &mut Vec<ShardId>) {
        while let Some(to) = self.unrung.first_from(0) {
            self.unrung.remove(to);
            // Whoever the earlier mailbox has rung for no longer looks asleep, woken or not.
            if self.mesh.doorbells[usize::from(to)].ring() || self.owes_wakes {
                wakes.push(to);
            }
        }
        self.owes_wakes = false;
    }

    /// The next request with its sender. Senders take turns; the requests of one come in order.
    pub fn receive_request(&mut self) -> Option<(ShardId, R)> {
        let doorbell = &self.mesh.doorbells[usize::from(self.shard)];
        self.request_turns
            .receive(&self.mesh.requests, self.shard, doorbell)
    }

    /// The next delivery with its sender. Senders take turns; the deliveries of one come in order.
    pub fn receive_delivery(&mut self) -> Option<(ShardId, D)> {
        let doorbell = &self.mesh.doorbells[usize::from(self.shard)];
        self.delivery_turns
            .receive(&self.mesh.deliveries, self.shard, doorbell)
    }

    /// The next control mail.
    pub fn receive_control(&mut self) -> Option<C> {
        let doorbell = &self.mesh.doorbells[usize::from(self.shard)];
        let channel = &self.mesh.controls[usize::from(self.shard)];
        if !self.control_marked && doorbell.take(self.mesh.control_word) == 0 {
            return None;
        }
        let mail = channel.receive();
        self.control_marked = mail.is_some();
        mail
    }

    /// Announces that this shard goes to sleep. False when mail is waiting: then it must not sleep, but receive.
    ///
    /// After true, whoever sends wakes this shard, once. [`Self::awake`] must follow the sleep.
    #[must_use]
    pub fn announce_sleep(&self) -> bool {
        let undrained = self.control_marked
            || !self.request_turns.senders.is_empty()
            || !self.delivery_turns.senders.is_empty();
        !undrained && self.mesh.doorbells[usize::from(self.shard)].sleep()
    }

    /// Ends a sleep, whatever ended it. A sender that still saw this shard asleep may wake it once more.
    pub fn awake(&self) {
        self.mesh.doorbells[usize::from(self.shard)].awake();
    }
}

#[cfg(test)]
mod tests;
