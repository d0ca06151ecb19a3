//! The shards of a process, driven as the executor and the supervisor drive them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use shardcast_shard::admission::Admission;
use shardcast_shard::compression::Compression;
use shardcast_shard::driver::{Clock, Driver, ShardId};
use shardcast_shard::hub::{Hub, HubCounts, Target};
use shardcast_shard::limits::Limits;
use shardcast_shard::mailbox::Mesh;
use shardcast_shard::outbox::SlowConsumer;
use shardcast_shard::post::ShardMesh;
use shardcast_shard::room_settings::{self, RoomSettings};
use shardcast_shard::shard::{Progress, Shard, ShardCounts, ShardOptions};
use shardcast_shard::sim::{Faults, Random, SimDriver, SimNetwork, SimSetup};
use shardcast_shard::stats::ShardStats;

use super::deciding::Decider;
use super::granting::Granting;
use super::invariants::Passed;

/// Passes of all shards together after which a run is taken for one that never ends.
const STEPS_MAX: u64 = 5_000_000;

/// How long a shard may sleep at most over mail that waits for a full mailbox, in microseconds.
const RETRY_US_MAX: u64 = 1000;

/// Where a shard has more outboxes than this, only one of so many passes looks into all of them.
const BACKLOG_EVERY: usize = 64;

/// What a cluster is made from.
pub(crate) struct ClusterOptions {
    pub(crate) seed: u64,
    pub(crate) shards: u16,
    pub(crate) limits: Limits,
    pub(crate) slow_consumer: SlowConsumer,
    pub(crate) rooms: Vec<RoomSettings>,
    pub(crate) compression: Compression,
    pub(crate) faults: Faults,
    pub(crate) setup: SimSetup,
    /// Of 1000 connections and messages so many wait until somebody outside has decided about them.
    pub(crate) held_per_mille: u16,
}

impl ClusterOptions {
    /// Four shards with the default bounds and room for 64 connections each. The seed chooses how those of their clients that offer
    /// compression are answered.
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let limits = Limits {
            compressed_bytes_min: 64,
            dedicated_windows_max: 8,
            // Most runs are to begin at once.
            accepts_per_second_max: 0,
            ..Limits::default()
        };
        let setup = SimSetup {
            slots: 128,
            ..SimSetup::default()
        };
        Self {
            seed,
            shards: 4,
            limits,
            slow_consumer: SlowConsumer::Disconnect,
            rooms: Vec::new(),
            compression: match seed % 3 {
                0 => Compression::Dedicated,
                _ => Compression::Shared,
            },
            faults,
            setup,
            held_per_mille: 0,
        }
    }
}

/// Where a shard stands in the executor's loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its next pass is due.
    Awake,
    /// It had nothing to do and is about to announce its sleep. Others may act in between.
    Drowsy { until_us: Option<u64> },
    /// It waits for a completion of its driver, and for nothing else.
    Asleep,
    /// It has died; the supervisor starts it again at this time.
    Dead { restart_us: u64 },
}

struct Node {
    shard: Option<Shard<SimDriver, Granting>>,
    stage: Stage,
    stats: Arc<ShardStats>,
}

/// See the module.
pub(crate) struct Cluster {
    pub(crate) network: SimNetwork,
    pub(crate) random: Random,
    pub(crate) limits: Arc<Limits>,
    /// A shard that is passed over in so many of 1000 cases.
    pub(crate) tardy: Option<(ShardId, u16)>,
    /// A shard that dies as soon as it has woken others so many times, before its driver carries the last wake out.
    pub(crate) doomed: Option<(ShardId, u64)>,
    nodes: Vec<Node>,
    /// Knows the homes of rooms, and nothing else.
    compass: Hub,
    mesh: Arc<ShardMesh>,
    decider: Decider,
    /// Verdicts given.
    pub(crate) verdicts: u64,
    admission: Arc<Admission>,
    /// When the first shard started.
    origin: Arc<OnceLock<Clock>>,
    options: ClusterOptions,
    steps: u64,
    /// Jumps of the clocks so far.
    pub(crate) jumps: u64,
    /// Time that passed in leaps of the clock.
    pub(crate) leapt_us: u64,
    /// Whether the books of mail still agree: a shard that panics in the middle of a pass has not counted its mail.
    mail_is_counted: bool,
    /// Mails that were counted as sent and died with their sender.
    mails_lost: u64,
    /// Shards that have died, in order.
    pub(crate) crashed: Vec<ShardId>,
}

impl Cluster {
    pub(crate) fn new(options: ClusterOptions) -> Self {
        options.limits.check().expect("the limits fit together");
        room_settings::check(&options.rooms, &options.limits).expect("so do the rooms");
        let limits = Arc::new(options.limits.clone());
        let network = SimNetwork::new(options.seed, options.faults.clone());
        let node = || Node {
            shard: None,
            stage: Stage::Awake,
            stats: Arc::default(),
        };
        let mut cluster = Self {
            network,
            // Not the numbers that the network of the same seed draws.
            random: Random::new(!options.seed),
            tardy: None,
            doomed: None,
            nodes: (0..options.shards).map(|_| node()).collect(),
            compass: Hub::new(0, options.shards, &limits, options.seed),
            mesh: Mesh::new(options.shards, options.limits.mailbox_mails_max as usize),
            decider: Decider::new(options.seed, options.held_per_mille),
            verdicts: 0,
            admission: Arc::new(Admission::new(&limits)),
            origin: Arc::default(),
            limits,
            steps: 0,
            jumps: 0,
            leapt_us: 0,
            mail_is_counted: true,
            mails_lost: 0,
            crashed: Vec::new(),
            options,
        };
        (0..cluster.shards()).for_each(|shard| cluster.start(shard));
        cluster
    }

    pub(crate) fn shards(&self) -> ShardId {
        self.options.shards
    }

    pub(crate) fn any_shard(&mut self) -> ShardId {
        self.random.below(u64::from(self.options.shards)) as ShardId
    }

    /// The shard that orders a room.
    pub(crate) fn home_of(&self, room: &str) -> ShardId {
        self.compass.home_of(&Target::Room(room.into()))
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.network.clock().monotonic_us
    }

    /// Makes a shard and lets it have its first pass, as the executor does before it says that the shard has started.
    fn start(&mut self, id: ShardId) {
        let driver = SimDriver::new(&self.network, id, self.options.setup);
        let options = ShardOptions {
            id,
            shards: self.options.shards,
            limits: Arc::clone(&self.limits),
            slow_consumer: self.options.slow_consumer,
            rooms: self.options.rooms.clone().into(),
            compression: self.options.compression,
            tls: None,
            table_size: self.options.setup.slots,
            hash_seed: self.options.seed,
            random_seed: self.random.next_u64(),
            origin: Arc::clone(&self.origin),
            admission: Arc::clone(&self.admission),
            stats: Arc::clone(&self.nodes[usize::from(id)].stats),
            mesh: Arc::clone(&self.mesh),
        };
        let node = &mut self.nodes[usize::from(id)];
        node.shard = Some(Shard::new(
            driver,
            Granting::new(self.decider.clone()),
            options,
        ));
        node.stage = Stage::Awake;
        self.step(id);
    }

    /// The shard and its driver are gone at once, in between two passes.
    pub(crate) fn crash(&mut self, id: ShardId) {
        let node = &mut self.nodes[usize::from(id)];
        let shard = node.shard.take();
        // What it could not send yet is lost with it.
        self.mails_lost += shard.map_or(0, |shard| shard.counts().mails_waiting) as u64;
        // Starting a thread and setting up a ring takes its time: never less than a millisecond.
        let restart_us = self.network.clock().monotonic_us + 1000 + self.random.below(20_000);
        node.stage = Stage::Dead { restart_us };
        self.crashed.push(id);
    }

    /// The panic of a shard in the middle of a pass: the executor catches it and the supervisor is told.
    fn died(&mut self, id: ShardId) {
        self.mail_is_counted = false;
        self.crash(id);
    }

    pub(crate) fn is_alive(&self, id: ShardId) -> bool {
        self.nodes[usize::from(id)].shard.is_some()
    }

    fn can_act(&self, id: ShardId) -> bool {
        match self.nodes[usize::from(id)].stage {
            Stage::Awake | Stage::Drowsy { .. } => true,
            Stage::Asleep => !self.network.is_shard_quiet(id),
            Stage::Dead { restart_us } => restart_us <= self.now_us(),
        }
    }

    /// Lets a random one of the shards that can act do so. False where none can.
    pub(crate) fn turn(&mut self) -> bool {
        let able: Vec<ShardId> = (0..self.shards()).filter(|&id| self.can_act(id)).collect();
        if self.decider.has_open() && (able.is_empty() || self.random.chance(100)) {
            self.decide();
            return true;
        }
        if able.is_empty() {
            return false;
        }
        let id = able[self.random.index(able.len())];
        if let Some((tardy, per_mille)) = self.tardy
            && tardy == id
            && self.random.chance(per_mille)
        {
            return true;
        }
        self.steps += 1;
        assert!(
            self.steps < STEPS_MAX,
            "the shards never come to rest: {:?}",
            self.stages()
        );
        match self.nodes[usize::from(id)].stage {
            Stage::Dead { .. } => self.start(id),
            _ => self.step(id),
        }
        self.network.assert_rules_kept();
        assert!(
            self.admission.connections() <= self.count(|stats| stats.connections_open.value()),
            "more connections are counted in than there are"
        );
        let stats = &self.nodes[usize::from(id)].stats;
        if let Some((doomed, wakes)) = self.doomed
            && doomed == id
            && stats.wakes.value() >= wakes
            && self.is_alive(id)
        {
            self.doomed = None;
            self.crash(id);
        }
        true
    }

    /// Somebody outside answers one of the questions.
    fn decide(&mut self) {
        let Some((shard, verdict)) = self.decider.answer() else {
            return;
        };
        self.verdicts += 1;
        let asleep = self
            .mesh
            .control(shard)
            .send(verdict.into())
            .expect("few orders wait");
        let node = &mut self.nodes[usize::from(shard)];
        if asleep && node.stage == Stage::Asleep {
            self.step(shard);
        }
    }

    /// One step of the executor's loop.
    fn step(&mut self, id: ShardId) {
        let node = &mut self.nodes[usize::from(id)];
        let shard = node.shard.as_mut().expect("only a living shard acts");
        match node.stage {
            Stage::Awake => {
                let Ok(passed) = catch_unwind(AssertUnwindSafe(|| shard.tick())) else {
                    self.network.assert_rules_kept();
                    return self.died(id);
                };
                let progress = passed.expect("the simulated ring never fails");
                let counts = shard.counts();
                let looks = counts.outboxes <= BACKLOG_EVERY
                    || self.steps.is_multiple_of(BACKLOG_EVERY as u64);
                let passed = Passed {
                    shard: id,
                    counts,
                    backlog: looks.then(|| shard.largest_backlog()),
                    held: self.network.held(id),
                    stats: &node.stats,
                    limits: &self.limits,
                };
                passed.assert_sound();
                match progress {
                    Progress::Busy => {}
                    Progress::Stopped => panic!("shard {id} stopped, but nobody told it to"),
                    Progress::Idle { until_us } => {
                        let now_us = shard.driver().clock().monotonic_us;
                        assert!(
                            until_us.is_none_or(|until_us| until_us > now_us),
                            "shard {id} would spin: it has nothing to do until {until_us:?} and it is {now_us}"
                        );
                        assert!(
                            counts.unsettled == 0
                                || until_us.is_some_and(|until_us| {
                                    until_us <= now_us + self.limits.coalesce_us_max
                                }),
                            "shard {id} sleeps until {until_us:?} over output, and it is {now_us}"
                        );
                        node.stage = Stage::Drowsy { until_us };
                    }
                }
            }
            Stage::Drowsy { until_us } => {
                let asleep = shard
                    .fall_asleep(until_us)
                    .expect("the simulated ring never fails");
                if asleep {
                    node.stage = Stage::Asleep;
                } else {
                    shard.awake();
                    node.stage = Stage::Awake;
                }
            }
            Stage::Asleep => {
                shard.awake();
                node.stage = Stage::Awake;
            }
            Stage::Dead { .. } => panic!("shard {id} is dead"),
        }
    }

    /// Whether every shard sleeps (or is dead) and no driver has anything to report.
    pub(crate) fn is_at_rest(&self) -> bool {
        (0..self.shards()).all(|id| !self.can_act(id)) && !self.decider.has_open()
    }

    /// When a shard acts again though nobody else does.
    pub(crate) fn deadline_us(&self) -> Option<u64> {
        let restarts = self.nodes.iter().filter_map(|node| match node.stage {
            Stage::Dead { restart_us } => Some(restart_us),
            _ => None,
        });
        restarts.chain(self.network.deadline_us()).min()
    }

    /// Mails that were sent and not received, as far as they are counted.
    pub(crate) fn mails_waiting(&self) -> u64 {
        let all_alive = self.nodes.iter().all(|node| node.shard.is_some());
        if !self.mail_is_counted || !all_alive {
            return 0;
        }
        self.count(|stats| stats.mails_sent.value())
            - self.count(|stats| stats.mails_received.value())
            - self.mails_lost
    }

    /// Connections whose output waits for more.
    pub(crate) fn unsettled(&self) -> usize {
        self.counts().iter().map(|counts| counts.unsettled).sum()
    }

    /// Asserts that no shard sleeps over mail, where all are at rest.
    ///
    /// # Panics
    /// Mail waits, and no shard looks for it soon: a wake was lost.
    pub(crate) fn assert_no_mail_waits(&self) {
        self.network.assert_rules_kept();
        let waiting = self.mails_waiting();
        // A shard whose mail did not fit into a mailbox tries again soon.
        let soon = |deadline_us: u64| deadline_us <= self.now_us() + RETRY_US_MAX;
        assert!(
            waiting == 0 || self.deadline_us().is_some_and(soon),
            "every shard sleeps, but {waiting} mails wait: a wake was lost. {:?}",
            self.stages()
        );
    }

    /// Steps of all shards so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Passes of one shard so far.
    pub(crate) fn passes(&self, id: ShardId) -> u64 {
        self.nodes[usize::from(id)].stats.passes.value()
    }

    /// The sum of a counter over all shards.
    pub(crate) fn count(&self, counter: impl Fn(&ShardStats) -> u64) -> u64 {
        self.nodes.iter().map(|node| counter(&node.stats)).sum()
    }

    fn stages(&self) -> Vec<Stage> {
        self.nodes.iter().map(|node| node.stage).collect()
    }

    pub(crate) fn counts(&self) -> Vec<ShardCounts> {
        self.nodes
            .iter()
            .filter_map(|node| Some(node.shard.as_ref()?.counts()))
            .collect()
    }

    /// Asserts that nothing is left, where every client is gone and everything that is kept for a time has expired.
    pub(crate) fn assert_nothing_is_left(&self) {
        for (id, counts) in self.counts().into_iter().enumerate() {
            let HubCounts {
                stale_replies,
                ignored_mails,
                ..
            } = counts.hub;
            // These two are not held: they count since the start.
            let hub = HubCounts {
                stale_replies,
                ignored_mails,
                ..HubCounts::default()
            };
            let nothing = ShardCounts {
                hub,
                ..ShardCounts::default()
            };
            assert_eq!(counts, nothing, "shard {id} still holds something");
            self.network.assert_quiescent(id as ShardId);
        }
        assert_eq!(
            self.admission.connections(),
            0,
            "connections that were let in and never left"
        );
        assert_eq!(self.count(|stats| stats.connections_open.value()), 0);
        assert_eq!(
            self.count(|stats| stats.panics.value() + stats.close_panic.value()),
            0,
            "something panicked"
        );
        assert_eq!(
            self.count(|stats| stats.stale_completions.value()),
            0,
            "a completion for a connection that is gone"
        );
    }
}
