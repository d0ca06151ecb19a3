//! Starts the shards, each on a thread and a core of its own, and starts those again that die.
//!
//! What a shard needs to come back outlives it and is kept here: its listener, so that connections wait for the
//! successor instead of being refused; its mailboxes, with the mail that came meanwhile; its place in the table of
//! rings; its counters.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rustls::ServerConfig;
use shardcast_shard::admission::Admission;
use shardcast_shard::app::App;
use shardcast_shard::compression::Compression;
use shardcast_shard::driver::{Clock, ShardId};
use shardcast_shard::error::FatalError;
use shardcast_shard::executor;
use shardcast_shard::limits::Limits;
use shardcast_shard::outbox::SlowConsumer;
use shardcast_shard::post::ShardMesh;
use shardcast_shard::ring::{Peers, RingDriver, RingOptions};
use shardcast_shard::room_settings::RoomSettings;
use shardcast_shard::shard::{Control, Shard, ShardOptions, StopPlan};
use shardcast_shard::stats::ShardStats;

use crate::topology;

/// Everything that outlives a shard.
pub(crate) struct Shared<A> {
    /// Makes the application of a shard.
    pub(crate) app: Box<dyn Fn(ShardId) -> A + Send + Sync>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) slow_consumer: SlowConsumer,
    pub(crate) rooms: Arc<[RoomSettings]>,
    pub(crate) compression: Compression,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) table_size: u32,
    pub(crate) hash_seed: u64,
    /// When the first shard started.
    pub(crate) origin: Arc<OnceLock<Clock>>,
    pub(crate) mesh: Arc<ShardMesh>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) admission: Arc<Admission>,
    /// One of each of these a shard.
    pub(crate) cores: Vec<usize>,
    /// Where threads run that are no shards.
    pub(crate) control_cores: Vec<usize>,
    pub(crate) listeners: Vec<Arc<OwnedFd>>,
    pub(crate) stats: Vec<Arc<ShardStats>>,
    /// Shards that end are not started again.
    pub(crate) stopping: Arc<AtomicBool>,
}

enum ShardEvent {
    Started,
    Ended(ShardId, Result<(), FatalError>),
}

/// A shard that dies this often within [`CRASH_WINDOW`] is started again after [`RESTART_PAUSE`] only.
const CRASHES_MAX: usize = 5;
const CRASH_WINDOW: Duration = Duration::from_secs(10);
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// A number that differs from start to start.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The thread that watches the shards.
pub(crate) struct Supervisor {
    thread: JoinHandle<()>,
}

impl Supervisor {
    /// Starts every shard and returns when all of them accept.
    ///
    /// # Errors
    /// A shard could not be started. Those that were have ended again.
    pub(crate) fn start<A: App>(shared: Arc<Shared<A>>) -> Result<Self, FatalError> {
        let (sender, events) = crossbeam_channel::unbounded();
        let mut running = 0;
        let started = start_all(&shared, &sender, &events, &mut running).and_then(|()| {
            let watch = Watch::new(Arc::clone(&shared), sender.clone());
            let events = events.clone();
            thread::Builder::new()
                .name("supervisor".to_owned())
                .spawn(move || {
                    topology::move_to(&watch.shared.control_cores);
                    watch.run(&events);
                })
                .map_err(|source| thread_error(&source))
        });
        match started {
            Ok(thread) => Ok(Self { thread }),
            Err(error) => {
                end_all(&shared, &events, running);
                Err(error)
            }
        }
    }

    /// Whether every shard has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until every shard has ended.
    pub(crate) fn wait(self) {
        if self.thread.join().is_err() {
            tracing::error!("the supervisor panicked");
        }
    }
}

/// Starts every shard, and counts the threads that have not ended in `running`.
fn start_all<A: App>(
    shared: &Arc<Shared<A>>,
    sender: &Sender<ShardEvent>,
    events: &Receiver<ShardEvent>,
    running: &mut usize,
) -> Result<(), FatalError> {
    let shards = shared.cores.len();
    for shard in 0..shards {
        spawn(shared, shard as ShardId, sender)?;
        *running += 1;
    }
    for _ in 0..shards {
        match events.recv() {
            Ok(ShardEvent::Started) => {}
            Ok(ShardEvent::Ended(_, ended)) => {
                *running -= 1;
                let silent = FatalError::Panic("a shard ended before it had begun".to_owned());
                return Err(ended.err().unwrap_or(silent));
            }
            Err(_) => return Err(FatalError::Panic("no shard has begun".to_owned())),
        }
    }
    Ok(())
}

/// Ends the shards of an engine that did not start: they hold its address, and would serve what comes there.
fn end_all<A: App>(shared: &Shared<A>, events: &Receiver<ShardEvent>, mut running: usize) {
    let plan = StopPlan {
        window_ms: 0,
        stop_ms_max: 0,
        reconnect_after_ms: 0,
    };
    for shard in 0..shared.cores.len() as ShardId {
        // Nobody has a handle yet, so this is the first order of each shard, also of one that has not begun.
        let order = shared.mesh.control(shard).send(Control::Stop(plan));
        debug_assert!(order.is_ok(), "an empty channel has room");
        shared.peers.wake_from_thread(shard);
    }
    while running > 0 {
        match events.recv() {
            Ok(ShardEvent::Started) => {}
            Ok(ShardEvent::Ended(..)) => running -= 1,
            Err(_) => break,
        }
    }
}

fn thread_error(source: &io::Error) -> FatalError {
    FatalError::Panic(format!(
        "cannot start a thread: {source}; raise the limit of processes (ulimit -u)"
    ))
}

fn spawn<A: App>(
    shared: &Arc<Shared<A>>,
    shard: ShardId,
    events: &Sender<ShardEvent>,
) -> Result<(), FatalError> {
    let (shared, events) = (Arc::clone(shared), events.clone());
    let spawned = thread::Builder::new()
        .name(format!("shard-{shard}"))
        .spawn(move || {
            let core = shared.cores[usize::from(shard)];
            let started = events.clone();
            let make = || make_shard(&shared, shard);
            let ended = executor::run(core, make, move || {
                // The supervisor lives as long as any shard.
                let _: Result<(), _> = started.send(ShardEvent::Started);
            });
            // Whoever hears of the end may count on the listener being closed.
            drop(shared);
            let _: Result<(), _> = events.send(ShardEvent::Ended(shard, ended));
        });
    // Not joined: a shard's last act is to say that it has ended.
    spawned.map(drop).map_err(|source| thread_error(&source))
}

fn make_shard<A: App>(
    shared: &Shared<A>,
    shard: ShardId,
) -> Result<Shard<RingDriver, A>, FatalError> {
    let driver = RingDriver::new(RingOptions {
        listener: Some(Arc::clone(&shared.listeners[usize::from(shard)])),
        table_size: shared.table_size,
        shard,
        peers: Arc::clone(&shared.peers),
        accept_one_by_one: shared.admission.needs_addresses()
            || shared.limits.accept_pace(shared.tls.is_some()) > 0,
        limits: &shared.limits,
    })?;
    let options = ShardOptions {
        id: shard,
        shards: shared.cores.len() as u16,
        limits: Arc::clone(&shared.limits),
        slow_consumer: shared.slow_consumer,
        rooms: Arc::clone(&shared.rooms),
        compression: shared.compression,
        tls: shared.tls.clone(),
        table_size: shared.table_size,
        hash_seed: shared.hash_seed,
        random_seed: seed(),
        origin: Arc::clone(&shared.origin),
        admission: Arc::clone(&shared.admission),
        stats: Arc::clone(&shared.stats[usize::from(shard)]),
        mesh: Arc::clone(&shared.mesh),
    };
    Ok(Shard::new(driver, (shared.app)(shard), options))
}

/// The supervisor's own state.
struct Watch<A> {
    shared: Arc<Shared<A>>,
    sender: Sender<ShardEvent>,
    running: usize,
    /// When each shard died lately.
    crashes: Vec<Vec<Instant>>,
    /// Shards that rest before they are started again.
    resting: Vec<(Instant, ShardId)>,
}

impl<A: App> Watch<A> {
    fn new(shared: Arc<Shared<A>>, sender: Sender<ShardEvent>) -> Self {
        let running = shared.cores.len();
        Self {
            shared,
            sender,
            running,
            crashes: vec![Vec::new(); running],
            resting: Vec::new(),
        }
    }

    fn run(mut self, events: &Receiver<ShardEvent>) {
        while self.running > 0 {
            match events.recv_timeout(RESTART_PAUSE / 10) {
                Ok(ShardEvent::Started) => {}
                Ok(ShardEvent::Ended(_, Ok(()))) => self.running -= 1,
                Ok(ShardEvent::Ended(shard, Err(error))) => self.died(shard, &error),
                Err(RecvTimeoutError::Timeout) => self.restart_rested(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    fn died(&mut self, shard: ShardId, error: &FatalError) {
        tracing::error!(shard, %error, "a shard died; its connections are gone, the other shards go on");
        let now = Instant::now();
        let crashes = &mut self.crashes[usize::from(shard)];
        crashes.retain(|&crash| now.duration_since(crash) < CRASH_WINDOW);
        crashes.push(now);
        if crashes.len() > CRASHES_MAX {
            self.resting.push((now + RESTART_PAUSE, shard));
        } else {
            self.restart(shard);
        }
    }

    fn restart(&mut self, shard: ShardId) {
        if self.shared.stopping.load(Ordering::Acquire) {
            self.running -= 1;
            return;
        }
        self.shared.stats[usize::from(shard)].restarts.add(1);
        match spawn(&self.shared, shard, &self.sender) {
            Ok(()) => tracing::warn!(shard, "the shard is started again"),
            Err(error) => {
                tracing::error!(shard, %error, "the shard could not be started again; it is tried later");
                self.resting.push((Instant::now() + RESTART_PAUSE, shard));
            }
        }
    }

    fn restart_rested(&mut self) {
        let now = Instant::now();
        let (rested, resting) = self.resting.drain(..).partition(|&(until, _)| until <= now);
        self.resting = resting;
        let rested: Vec<(Instant, ShardId)> = rested;
        for (_, shard) in rested {
            self.restart(shard);
        }
    }
}
