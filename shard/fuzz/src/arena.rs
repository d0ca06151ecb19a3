//! Whole shards on the simulated driver, run as their executors run them, with the application of the binary.

use std::sync::{Arc, OnceLock};

use shardcast::Rooms;
use shardcast_shard::admission::Admission;
use shardcast_shard::compression::Compression;
use shardcast_shard::driver::{Clock, Driver, ShardId};
use shardcast_shard::hub::HubCounts;
use shardcast_shard::limits::Limits;
use shardcast_shard::mailbox::Mesh;
use shardcast_shard::outbox::SlowConsumer;
use shardcast_shard::post::ShardMesh;
use shardcast_shard::shard::{Control, Progress, Shard, ShardCounts, ShardOptions};
use shardcast_shard::sim::{Faults, SimDriver, SimNetwork, SimSetup};
use shardcast_shard::stats::ShardStats;

/// Passes without an end to them that are taken for a shard that spins.
const STEPS_MAX: u32 = 200_000;

/// How long it takes to start a shard again, in microseconds.
const RESTART_US: u64 = 2000;

/// What an arena is made from.
pub struct ArenaOptions {
    /// Drives the network's faults, and the hashes and random numbers of the shards.
    pub seed: u64,
    /// How many shards there are.
    pub shards: ShardId,
    /// Their bounds.
    pub limits: Limits,
    /// What happens to a consumer that is too slow.
    pub slow_consumer: SlowConsumer,
    /// What goes wrong.
    pub faults: Faults,
    /// What the drivers have.
    pub setup: SimSetup,
}

/// Where a shard stands in its executor's loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Awake,
    /// It had nothing to do and is about to announce its sleep. Others may act in between.
    Drowsy {
        until_us: Option<u64>,
    },
    Asleep,
    Dead {
        restart_us: u64,
    },
}

struct Node {
    shard: Option<Shard<SimDriver, Rooms>>,
    stage: Stage,
    stats: Arc<ShardStats>,
}

/// See the module.
pub struct Arena {
    /// Where clients connect.
    pub network: SimNetwork,
    options: ArenaOptions,
    limits: Arc<Limits>,
    nodes: Vec<Node>,
    mesh: Arc<ShardMesh>,
    admission: Arc<Admission>,
    /// When the first shard started.
    origin: Arc<OnceLock<Clock>>,
    steps: u32,
}

impl Arena {
    /// Starts the shards.
    ///
    /// # Panics
    /// The limits contradict each other.
    #[must_use]
    pub fn new(options: ArenaOptions) -> Self {
        options.limits.check().expect("the limits fit together");
        let limits = Arc::new(options.limits.clone());
        let node = |_| Node {
            shard: None,
            stage: Stage::Awake,
            stats: Arc::default(),
        };
        let mut arena = Self {
            network: SimNetwork::new(options.seed, options.faults.clone()),
            nodes: (0..options.shards).map(node).collect(),
            mesh: Mesh::new(options.shards, options.limits.mailbox_mails_max as usize),
            admission: Arc::new(Admission::new(&limits)),
            origin: Arc::default(),
            limits,
            options,
            steps: 0,
        };
        (0..arena.options.shards).for_each(|id| arena.start(id));
        arena
    }

    fn start(&mut self, id: ShardId) {
        let options = ShardOptions {
            id,
            shards: self.options.shards,
            limits: Arc::clone(&self.limits),
            slow_consumer: self.options.slow_consumer,
            rooms: Arc::default(),
            compression: Compression::default(),
            tls: None,
            table_size: self.options.setup.slots,
            hash_seed: self.options.seed,
            random_seed: self.options.seed,
            origin: Arc::clone(&self.origin),
            admission: Arc::clone(&self.admission),
            stats: Arc::clone(&self.nodes[usize::from(id)].stats),
            mesh: Arc::clone(&self.mesh),
        };
        let driver = SimDriver::new(&self.network, id, self.options.setup);
        let node = &mut self.nodes[usize::from(id)];
        node.shard = Some(Shard::new(driver, Rooms::new(Vec::new()), options));
        node.stage = Stage::Awake;
        self.step(id);
    }

    /// The shard and its driver are gone at once, in between two passes. It starts again by itself.
    pub fn crash(&mut self, id: ShardId) {
        let restart_us = self.now_us() + RESTART_US;
        let node = &mut self.nodes[usize::from(id)];
        node.shard = None;
        node.stage = Stage::Dead { restart_us };
    }

    /// Gives a shard an order, as the control thread does. It is dropped where too many wait.
    pub fn order(&mut self, id: ShardId, order: Control) {
        let sent = self.mesh.control(id).send(order);
        // The control thread wakes a sleeper through its ring.
        let node = &mut self.nodes[usize::from(id)];
        if matches!(sent, Ok(true)) && node.stage == Stage::Asleep {
            self.step(id);
        }
    }

    /// Time now, in microseconds of the monotonic clock.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.network.clock().monotonic_us
    }

    fn can_act(&self, id: ShardId) -> bool {
        match self.nodes[usize::from(id)].stage {
            Stage::Awake | Stage::Drowsy { .. } => true,
            Stage::Asleep => !self.network.is_shard_quiet(id),
            Stage::Dead { restart_us } => restart_us <= self.now_us(),
        }
    }

    /// Lets a shard take the next step of its executor's loop. False where there is none to take.
    ///
    /// # Panics
    /// The shards never come to rest, or break the rules of a driver.
    pub fn turn(&mut self, id: ShardId) -> bool {
        if !self.can_act(id) {
            return false;
        }
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "the shards never come to rest");
        match self.nodes[usize::from(id)].stage {
            Stage::Dead { .. } => self.start(id),
            _ => self.step(id),
        }
        self.network.assert_rules_kept();
        true
    }

    fn step(&mut self, id: ShardId) {
        let node = &mut self.nodes[usize::from(id)];
        let Some(shard) = &mut node.shard else { return };
        node.stage = match node.stage {
            Stage::Awake => match shard.tick().expect("the simulated ring never fails") {
                Progress::Busy => Stage::Awake,
                Progress::Stopped => panic!("shard {id} stopped, but nobody told it to"),
                Progress::Idle { until_us } => {
                    let now_us = shard.driver().clock().monotonic_us;
                    assert!(
                        until_us.is_none_or(|until_us| until_us > now_us),
                        "shard {id} would spin"
                    );
                    Stage::Drowsy { until_us }
                }
            },
            Stage::Drowsy { until_us } => {
                let asleep = shard.fall_asleep(until_us);
                match asleep.expect("the simulated ring never fails") {
                    true => Stage::Asleep,
                    false => {
                        shard.awake();
                        Stage::Awake
                    }
                }
            }
            Stage::Asleep | Stage::Dead { .. } => {
                shard.awake();
                Stage::Awake
            }
        };
    }

    /// Lets every shard take its next step; false where none has one.
    pub fn turn_all(&mut self) -> bool {
        let turned = (0..self.options.shards).map(|id| u32::from(self.turn(id)));
        let any = turned.sum::<u32>() > 0;
        if !any {
            self.steps = 0;
        }
        any
    }

    /// When a shard acts again though nobody else does.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        let restarts = self.nodes.iter().filter_map(|node| match node.stage {
            Stage::Dead { restart_us } => Some(restart_us),
            _ => None,
        });
        restarts.chain(self.network.deadline_us()).min()
    }

    /// Lets time pass up to the next thing that is due; false where nothing is.
    pub fn pass_time(&mut self) -> bool {
        let Some(next_us) = self.deadline_us() else {
            return false;
        };
        self.steps = 0;
        self.network.advance(next_us.saturating_sub(self.now_us()));
        true
    }

    /// Asserts that nothing is left, where every client is gone and everything that is kept for a time has expired.
    ///
    /// # Panics
    /// Something is left.
    pub fn assert_nothing_is_left(&self) {
        for (id, node) in self.nodes.iter().enumerate() {
            let counts = node.shard.as_ref().map(Shard::counts).unwrap_or_default();
            // These two are not held: they count since the start.
            let nothing = ShardCounts {
                hub: HubCounts {
                    stale_replies: counts.hub.stale_replies,
                    ignored_mails: counts.hub.ignored_mails,
                    ..HubCounts::default()
                },
                ..ShardCounts::default()
            };
            assert_eq!(counts, nothing, "shard {id} still holds something");
            self.network.assert_quiescent(id as ShardId);
            let stats = &node.stats;
            let panics = stats.panics.value() + stats.close_panic.value();
            assert_eq!(panics, 0, "something panicked");
            assert_eq!(stats.connections_open.value(), 0);
            assert_eq!(
                stats.stale_completions.value(),
                0,
                "a completion for a connection that is gone"
            );
        }
        assert_eq!(
            self.admission.connections(),
            0,
            "connections that were let in and never left"
        );
    }
}
