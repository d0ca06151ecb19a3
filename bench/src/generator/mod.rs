//! The load generator: threads with a ring each, and the connections on them.
//!
//! ```text
//! workload ── Command ──▶ thread 0: ring, clients, schedule, ledgers ── Books ──▶ workload
//!          ── Command ──▶ thread 1: …                                ── Books ──▶
//! ```
//!
//! Threads share nothing while messages fly, except a room that lies on several of them (see `board`). What they count and record
//! is taken from them by the second.

mod board;
mod books;
mod client;
mod command;
mod ledger;
mod worker;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use core_affinity::CoreId;
use crossbeam_channel::{Receiver, Sender};
use shardcast_shard::limits::Limits;
use shardcast_shard::ring::{Peers, RingDriver, RingOptions, table_size_max};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use crate::layout::Group;
use crate::protocol::Protocol;
use crate::sources::Sources;
use crate::tls::TlsClient;

use board::Board;
use command::{Command, GroupOrder};
use worker::Worker;

pub use books::{Books, Metric, Recordings, Tally};
pub use command::{Mix, Traffic};

/// Groups of connections in one run: a step of `density` is one.
const GROUPS_MAX: usize = 64;

/// Attempts in flight on all threads together: fewer than the backlog of any server worth measuring.
const ATTEMPTS_IN_FLIGHT_MAX: u32 = 1024;

/// The slack of timers, in nanoseconds: messages are to leave when they should (prctl(2), PR_SET_TIMERSLACK).
const TIMER_SLACK_NS: &str = "1";

/// What the generator is started with.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// The server.
    pub target: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// How it is talked to over TLS; `None` for plain connections.
    pub tls: Option<Arc<TlsClient>>,
    /// The path of the handshake.
    pub path: String,
    /// The `Host` of the handshake.
    pub host: String,
    /// Where connections come from.
    pub sources: Sources,
    /// The cores to use, by their numbers; thread after thread is pinned to the next.
    pub cores: Vec<usize>,
    /// Threads. The first ones, as many as there are cores, have large buffers for traffic.
    pub threads: u32,
}

/// What stops a generator.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(#[from] io::Error),
    /// A ring could not be made, or broke.
    #[error("thread {thread}: {message}")]
    Ring {
        /// The thread's number.
        thread: u32,
        /// What the kernel refused and what to do.
        message: String,
    },
    /// A thread's table is too small for its connections.
    #[error(
        "{asked} connections on one thread are more than its ring's table of {table_size} direct descriptors holds: \
         use more threads (--threads) or raise the limit of open files (ulimit -n)"
    )]
    TooMany {
        /// Connections on the thread.
        asked: u64,
        /// What it holds.
        table_size: u32,
    },
    /// The run has no number left for one more group.
    #[error("a run has at most {GROUPS_MAX} groups of connections")]
    Groups,
}

/// What the threads know and never change.
struct Settings {
    target: SocketAddr,
    protocol: Protocol,
    tls: Option<Arc<TlsClient>>,
    path: String,
    host: String,
    sources: Sources,
    origin: Instant,
    /// For each thread.
    attempts_in_flight_max: u32,
}

impl Settings {
    /// Nanoseconds of the harness's clock: monotonic, from 1 on, the same on all threads.
    fn now_ns(&self) -> u64 {
        now_ns(self.origin)
    }
}

fn now_ns(origin: Instant) -> u64 {
    u64::try_from(origin.elapsed().as_nanos())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// What a thread shares with whoever commands it.
struct Shared {
    thread: u32,
    books: Mutex<Books>,
    /// Members of each group at this moment.
    ready: [AtomicU64; GROUPS_MAX],
    /// The kernel's number of the thread, 0 before it runs.
    task: AtomicU32,
    /// Messages of the schedule are still to be sent.
    publishing: AtomicBool,
    /// Why the thread ended, unless it was told to.
    failure: Mutex<Option<String>>,
}

impl Shared {
    fn ready_add(&self, group: u8) {
        self.ready[usize::from(group)].fetch_add(1, Ordering::Relaxed);
    }

    fn ready_subtract(&self, group: u8) {
        self.ready[usize::from(group)].fetch_sub(1, Ordering::Relaxed);
    }
}

/// One thread as its commander sees it.
struct Hand {
    shared: Arc<Shared>,
    commands: Sender<Command>,
    handle: Option<JoinHandle<()>>,
    core: usize,
    connections: u64,
}

/// A group of connections of a run.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    /// Who is where.
    pub group: Group,
    /// Members also have direct messages from one another.
    pub direct: bool,
    /// A connection that is lost comes back by itself.
    pub returns: bool,
    /// A member that returns asks for what it missed, where the protocol can.
    pub recovers: bool,
    /// Connects begun a second, over all threads; 0 for as fast as they succeed.
    pub ramp_per_s: u64,
}

/// The number of a group in its run.
pub type GroupId = u8;

/// The load generator.
pub struct Fleet {
    hands: Vec<Hand>,
    origin: Instant,
    /// The threads of each group.
    groups: Vec<Range<u32>>,
    connections: u32,
    cores: usize,
}

impl Fleet {
    /// The most connections that one thread holds: its ring's table is bounded by the limit of open files.
    #[must_use]
    pub fn thread_connections_max() -> u32 {
        table_size_max()
    }

    /// Starts the threads and their rings.
    ///
    /// # Errors
    /// A thread or its ring could not be had.
    pub fn start(options: FleetOptions) -> Result<Self, FleetError> {
        let threads = options.threads.max(1);
        let origin = Instant::now();
        let settings = Arc::new(Settings {
            target: options.target,
            protocol: options.protocol,
            tls: options.tls,
            path: options.path,
            host: options.host,
            sources: options.sources,
            origin,
            attempts_in_flight_max: (ATTEMPTS_IN_FLIGHT_MAX / threads).max(8),
        });
        let peers = Arc::new(Peers::new(threads as u16)?);
        let cores = options.cores.len().max(1);
        let mut fleet = Self {
            hands: Vec::new(),
            origin,
            groups: Vec::new(),
            connections: 0,
            cores,
        };
        let (started, starts) = crossbeam_channel::bounded(threads as usize);
        for thread in 0..threads {
            let core = options.cores.get(thread as usize % cores).copied();
            let shared = Arc::new(Shared {
                thread,
                books: Mutex::default(),
                ready: std::array::from_fn(|_| AtomicU64::new(0)),
                task: AtomicU32::new(0),
                publishing: AtomicBool::new(false),
                failure: Mutex::default(),
            });
            // Without a bound, as whoever commands must never wait for a thread that is stuck. A run has a few commands a step.
            let (sender, receiver) = crossbeam_channel::unbounded();
            let start = ThreadStart {
                settings: Arc::clone(&settings),
                shared: Arc::clone(&shared),
                peers: Arc::clone(&peers),
                core,
                busy: (thread as usize) < cores,
            };
            let started = started.clone();
            let handle = std::thread::Builder::new()
                .name(format!("bench-{thread}"))
                .spawn(move || start.run(receiver, started))?;
            fleet.hands.push(Hand {
                shared,
                commands: sender,
                handle: Some(handle),
                core: core.unwrap_or(0),
                connections: 0,
            });
        }
        drop(started);
        let mut failure = None;
        for (thread, result) in starts {
            if let Err(message) = result {
                failure.get_or_insert(FleetError::Ring { thread, message });
            }
        }
        failure.map_or(Ok(fleet), Err)
    }

    /// Nanoseconds of the harness's clock.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        now_ns(self.origin)
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> u32 {
        self.hands.len() as u32
    }

    /// How many of them have large buffers: one a core.
    #[must_use]
    pub fn busy_threads(&self) -> u32 {
        self.threads().min(self.cores as u32)
    }

    /// Begins to open a group. See [`Fleet::ready`] for how far it is.
    ///
    /// # Errors
    /// More connections than a thread holds, or too many groups.
    pub fn open(&mut self, plan: GroupPlan) -> Result<GroupId, FleetError> {
        let index = self.groups.len() as u8;
        if usize::from(index) >= GROUPS_MAX {
            return Err(FleetError::Groups);
        }
        let table_size = Self::thread_connections_max();
        for (thread, hand) in self.hands.iter_mut().enumerate() {
            hand.connections += plan.group.slice(thread as u32).len() as u64;
            if hand.connections > table_size.into() {
                return Err(FleetError::TooMany {
                    asked: hand.connections,
                    table_size,
                });
            }
        }
        let threads = plan.group.threads.clone();
        let threads_count = u64::from(threads.end - threads.start).max(1);
        let connections = plan.group.connections;
        let order = Arc::new(GroupOrder {
            group: Arc::new(plan.group),
            board: Arc::new(Board::default()),
            index,
            direct: plan.direct,
            returns: plan.returns,
            recovers: plan.recovers,
            first_connection: self.connections,
            connect_interval_ns: (threads_count * 1_000_000_000)
                .checked_div(plan.ramp_per_s)
                .unwrap_or(0),
        });
        self.groups.push(threads);
        self.connections += connections;
        self.tell_all(|| Command::Open(Arc::clone(&order)));
        Ok(index)
    }

    /// Members of a group at this moment.
    #[must_use]
    pub fn ready(&self, group: GroupId) -> u64 {
        let ready = |hand: &Hand| hand.shared.ready[usize::from(group)].load(Ordering::Relaxed);
        self.hands.iter().map(ready).sum()
    }

    /// Members of all groups at this moment.
    #[must_use]
    pub fn ready_all(&self) -> u64 {
        (0..self.groups.len() as u8)
            .map(|group| self.ready(group))
            .sum()
    }

    /// Lets the publishers of a group send. Replaces the traffic before it.
    pub fn publish(&self, group: GroupId, traffic: Traffic) {
        self.tell_all(|| Command::Publish { group, traffic });
    }

    /// Drops all connections of a group at once.
    pub fn drop_all(&self, group: GroupId) {
        self.tell_all(|| Command::Drop { group });
    }

    /// Closes and opens connections of a group in turn, `per_s` a second, until the time given.
    pub fn churn(&self, group: GroupId, per_s: f64, until_ns: u64) {
        let threads = self
            .groups
            .get(usize::from(group))
            .map_or(1, |threads| threads.len());
        let interval_ns = (threads as f64 * 1e9 / per_s) as u64;
        self.tell_all(|| Command::Churn {
            group,
            interval_ns: interval_ns.max(1),
            until_ns,
        });
    }

    /// The slow members of a group stop reading, or read again.
    pub fn stall(&self, group: GroupId, stalled: bool) {
        self.tell_all(|| Command::Stall { group, stalled });
    }

    /// Sends a text on one connection of a group.
    pub fn say(&self, group: GroupId, text: &str) {
        if let Some(hand) = self.hands.first() {
            let text = text.to_owned();
            tell(hand, Command::Say { group, text });
        }
    }

    /// Connections lost from now on, to the end of the run, count as lost at this time.
    pub fn fault(&self, at_ns: u64) {
        self.tell_all(|| Command::Fault { at_ns });
    }

    /// Takes what all threads have counted and recorded since the last time.
    #[must_use]
    pub fn take(&self) -> Books {
        let mut sum = Books::default();
        for hand in &self.hands {
            let books = std::mem::take(&mut *lock(&hand.shared.books));
            sum.add(books);
        }
        sum
    }

    /// CPU time of the threads by the core that they are pinned to, in nanoseconds; `None` where the kernel does not tell
    /// (proc_pid_schedstat(5)).
    #[must_use]
    pub fn core_ns(&self) -> Option<BTreeMap<usize, u64>> {
        let mut cores = BTreeMap::new();
        for hand in &self.hands {
            let task = hand.shared.task.load(Ordering::Relaxed);
            let text = fs::read_to_string(format!("/proc/self/task/{task}/schedstat")).ok()?;
            let on_cpu: u64 = text.split_whitespace().next()?.parse().ok()?;
            *cores.entry(hand.core).or_default() += on_cpu;
        }
        Some(cores)
    }

    /// Whether messages that were to be sent by now are not sent yet.
    #[must_use]
    pub fn is_publishing(&self) -> bool {
        let publishing = |hand: &Hand| hand.shared.publishing.load(Ordering::Acquire);
        self.hands.iter().any(publishing)
    }

    /// Why a thread has ended before its time; `None` while all run.
    #[must_use]
    pub fn failure(&self) -> Option<FleetError> {
        self.hands.iter().find_map(|hand| {
            let failure = lock(&hand.shared.failure).clone();
            // No thread ends by itself but with a failure, which it notes first.
            let panicked = || {
                let ended = hand.handle.as_ref().is_some_and(JoinHandle::is_finished);
                ended.then(|| "it panicked, and its message stands above".to_owned())
            };
            let thread = hand.shared.thread;
            failure
                .or_else(panicked)
                .map(|message| FleetError::Ring { thread, message })
        })
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for hand in &self.hands {
            tell(hand, command());
        }
    }
}

/// What a thread has ended without hearing is lost, and [`Fleet::failure`] says why it ended.
fn tell(hand: &Hand, command: Command) {
    hand.commands.send(command).ok();
}

/// What the lock guards is whole whatever happened to the thread that held it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Fleet {
    /// Closes all connections and waits for the threads.
    fn drop(&mut self) {
        self.tell_all(|| Command::Finish);
        for hand in &mut self.hands {
            if let Some(handle) = hand.handle.take() {
                // A panic has been printed by the thread; there is nobody left to tell.
                let _ = handle.join();
            }
        }
    }
}

/// What a thread begins with.
struct ThreadStart {
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    peers: Arc<Peers>,
    core: Option<usize>,
    busy: bool,
}

impl ThreadStart {
    fn run(self, commands: Receiver<Command>, started: Sender<(u32, Result<(), String>)>) {
        let thread = self.shared.thread;
        if let Some(id) = self.core {
            core_affinity::set_for_current(CoreId { id });
        }
        let task = task_id().unwrap_or(0);
        self.shared.task.store(task, Ordering::Relaxed);
        // Without the right to it messages leave some 50 µs later than they should; lateness shows it.
        let _ = fs::write(format!("/proc/{task}/timerslack_ns"), TIMER_SLACK_NS);
        if !self.busy {
            yield_to_others();
        }
        let limits = ring_limits(self.busy);
        let driver = RingDriver::new(RingOptions {
            listener: None,
            table_size: table_size_max(),
            shard: thread as u16,
            peers: self.peers,
            accept_one_by_one: false,
            limits: &limits,
        });
        let driver = match driver {
            Ok(driver) => driver,
            Err(error) => {
                let _ = started.send((thread, Err(error.to_string())));
                return;
            }
        };
        // The receiver waits for as many answers as there are threads.
        let _ = started.send((thread, Ok(())));
        // And until the last of them has let go.
        drop(started);
        let shared = Arc::clone(&self.shared);
        let worker = Worker::new(
            self.settings,
            self.shared,
            commands,
            driver,
            !self.busy,
            thread.into(),
        );
        if let Err(error) = worker.run() {
            *lock(&shared.failure) = Some(error.to_string());
        }
    }
}

/// The kernel's number of this thread (gettid(2)), which /proc/thread-self points to.
fn task_id() -> Option<u32> {
    let path = fs::read_link("/proc/thread-self").ok()?;
    path.file_name()?.to_str()?.parse().ok()
}

/// Makes this thread run only while the others leave it the time. Its connections stand for clients on machines of their own, which would take no
/// time from the server or from those that are measured: whoever wakes goes before it at once (`SCHED_IDLE`, sched(7)).
fn yield_to_others() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // A thread may always lower its own priority.
    let _: Result<(), thread_priority::Error> =
        set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
}

/// Sizes of a ring: large buffers where messages arrive, small ones where connections idle. Those submit little at a time, as most kernels take the core
/// from a thread only between two system calls.
fn ring_limits(busy: bool) -> Limits {
    let (receive_buffers_max, receive_buffer_bytes) = if busy { (2048, 8192) } else { (256, 1024) };
    Limits {
        submissions_max: if busy { 1024 } else { 32 },
        completions_max: if busy { 32_768 } else { 4096 },
        receive_buffers_max,
        receive_buffer_bytes,
        ..Limits::default()
    }
}
