//! Virtual time and the connections of all simulated shards.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use super::client::SimClient;
use super::faults::{Faults, Struck};
use super::ledger::{Held, Leaks, Ledger};
use super::link::{Link, SharedLink};
use super::random::Random;
use crate::driver::{Clock, ShardId};

/// A network in memory: the clock, one listener a shard, the connections. A handle; clones name the same network.
///
/// One thread drives all of it: the test calls each shard's pass, lets its clients act and advances the
/// clock, in an order of its choice.
#[derive(Clone, Debug)]
pub struct SimNetwork {
    world: Rc<RefCell<World>>,
}

/// What all drivers and clients share.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) clock: Clock,
    pub(super) faults: Faults,
    pub(super) random: Random,
    pub(super) listeners: BTreeMap<ShardId, Listener>,
    /// Shards whose next poll reports `Woken`.
    pub(super) woken: BTreeSet<ShardId>,
    pub(super) trace: Trace,
    pub(super) struck: Struck,
}

impl World {
    fn is_quiet(&self, shard: ShardId, listener: &Listener) -> bool {
        let ledger = listener.ledger.borrow();
        let now_us = self.clock.monotonic_us;
        let due = ledger
            .deadline_us
            .is_some_and(|deadline| deadline <= now_us);
        !due && !self.woken.contains(&shard) && ledger.is_quiet(listener.backlog.len())
    }
}

/// A shard's listener.
#[derive(Debug)]
pub(super) struct Listener {
    /// Connections that wait to be accepted.
    pub(super) backlog: VecDeque<SharedLink>,
    pub(super) ledger: Rc<RefCell<Ledger>>,
}

/// A hash (FNV-1a) of everything that a run has shown: completions and bytes read by clients.
#[derive(Debug)]
pub(super) struct Trace(u64);

impl Trace {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }

    pub(super) fn shown(&mut self, value: &impl fmt::Debug) {
        // Writing to a hash cannot fail.
        let written = write!(self, "{value:?}");
        debug_assert!(written.is_ok());
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}

impl SimNetwork {
    /// A network without listeners. Its clock starts at a time that follows from the seed.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random::new(seed);
        let clock = Clock {
            monotonic_us: random.below(1 << 40),
            unix_ms: 1_600_000_000_000 + random.below(1 << 38),
        };
        Self {
            world: Rc::new(RefCell::new(World {
                seed,
                clock,
                faults,
                random,
                listeners: BTreeMap::new(),
                woken: BTreeSet::new(),
                trace: Trace(0xCBF2_9CE4_8422_2325),
                struck: Struck::default(),
            })),
        }
    }

    /// The seed, for messages.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.world.borrow().seed
    }

    /// The time now. Drivers see it from their next poll on.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.world.borrow().clock
    }

    /// Lets time pass, in microseconds. Nothing else does. The UTC clock follows in whole milliseconds.
    pub fn advance(&self, microseconds: u64) {
        let mut world = self.world.borrow_mut();
        let before_ms = world.clock.monotonic_ms();
        world.clock.monotonic_us += microseconds;
        world.clock.unix_ms += world.clock.monotonic_ms() - before_ms;
    }

    /// Sets the UTC clock, as an operator may, also back. In milliseconds since 1970.
    pub fn set_unix_ms(&self, unix_ms: u64) {
        self.world.borrow_mut().clock.unix_ms = unix_ms;
    }

    /// Changes what goes wrong from now on. Buffers of open connections keep their sizes.
    pub fn set_faults(&self, faults: Faults) {
        self.world.borrow_mut().faults = faults;
    }

    /// What has gone wrong so far.
    #[must_use]
    pub fn struck(&self) -> Struck {
        self.world.borrow().struck
    }

    /// Connects a client from 127.0.0.1. See [`SimNetwork::connect_from`].
    #[must_use]
    pub fn connect(&self, shard: ShardId) -> SimClient {
        self.connect_from(shard, IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Connects a client of this address to a shard's listener. It may write before it is accepted. Where no
    /// driver of the shard exists, the client finds itself reset.
    #[must_use]
    pub fn connect_from(&self, shard: ShardId, address: IpAddr) -> SimClient {
        let mut world = self.world.borrow_mut();
        let world = &mut *world;
        let link = match world.listeners.get_mut(&shard) {
            None => Link::refused(address, &mut world.random, &world.faults).shared(),
            Some(listener) => {
                let link = Link::new(address, &mut world.random, &world.faults).shared();
                listener.backlog.push_back(Rc::clone(&link));
                link
            }
        };
        SimClient::new(self.clone(), link)
    }

    /// The earliest deadline that a shard has asked for (`wake_at`), in microseconds of the monotonic clock.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        let world = self.world.borrow();
        let deadline = |listener: &Listener| listener.ledger.borrow().deadline_us;
        world.listeners.values().filter_map(deadline).min()
    }

    /// Whether no driver has anything to report unless a client acts or time passes.
    ///
    /// A shard whose driver is quiet can still have work of its own.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let world = self.world.borrow();
        let mut listeners = world.listeners.iter();
        listeners.all(|(&shard, listener)| world.is_quiet(shard, listener))
    }

    /// Whether one shard's driver has nothing to report unless a client acts, time passes or another shard wakes
    /// it. A shard that sleeps meanwhile must not be called. True where the shard has no driver.
    #[must_use]
    pub fn is_shard_quiet(&self, shard: ShardId) -> bool {
        let world = self.world.borrow();
        let listener = world.listeners.get(&shard);
        listener.is_none_or(|listener| world.is_quiet(shard, listener))
    }

    /// What a shard holds of its driver at this moment; all zero where the shard has no driver.
    #[must_use]
    pub fn leaks(&self, shard: ShardId) -> Leaks {
        match self.ledger(shard) {
            Some(ledger) => ledger.borrow().leaks(),
            None => Leaks::default(),
        }
    }

    /// What a shard holds of its driver, as far as that is known without looking at each connection; all zero where the shard has
    /// no driver.
    #[must_use]
    pub fn held(&self, shard: ShardId) -> Held {
        match self.ledger(shard) {
            Some(ledger) => ledger.borrow().held(),
            None => Held::default(),
        }
    }

    /// Asserts that a shard has broken no rule and given everything back.
    ///
    /// # Panics
    /// It has not; the message says what and names the seed.
    pub fn assert_quiescent(&self, shard: ShardId) {
        self.assert_rules_kept();
        let leaks = self.leaks(shard);
        let seed = self.seed();
        assert!(
            leaks == Leaks::default(),
            "shard {shard} (seed {seed}) leaks: {leaks:?}"
        );
    }

    /// Asserts that no shard has broken a rule, also where its panic was caught.
    ///
    /// # Panics
    /// One has; the message is that of the first panic.
    pub fn assert_rules_kept(&self) {
        for listener in self.world.borrow().listeners.values() {
            listener.ledger.borrow().assert_rules_kept();
        }
    }

    /// A hash of every completion reported and every byte read by a client so far. Equal runs have equal hashes.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.world.borrow().trace.0
    }

    fn ledger(&self, shard: ShardId) -> Option<Rc<RefCell<Ledger>>> {
        let world = self.world.borrow();
        let listener = world.listeners.get(&shard)?;
        Some(Rc::clone(&listener.ledger))
    }

    pub(super) fn world_mut(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }
}
