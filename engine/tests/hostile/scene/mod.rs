//! One attack on one server: who takes part, in which turns, and what came of it.

pub(crate) mod machine;
mod members;
mod report;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use members::{MEMBERS, Members};
pub(crate) use members::{ROOM, frame_at};

use crate::server::Server;
use crate::system;

/// Held by the attack at hand: they are measured one after the other.
static STAGE: Mutex<()> = Mutex::new(());

/// The 99th percentile that no attack may bring members to, however busy the machine is.
const P99_MAX_US: f64 = 1_000_000.0;

/// Resident bytes that a server may grow by without any attack: receive buffers that were not touched before, the history of the members' room,
/// and what the allocator keeps to itself.
const GROWTH_OF_ITSELF: u64 = 24 << 20;

/// Bytes that each connection may take besides what the limits say of it: its entry, its timer, its inbox, an outbox, a welcome.
pub(crate) const CONNECTION_BYTES: u64 = 4 << 10;

/// How long the server may take to forget attackers who have gone.
const FORGET_PATIENCE: Duration = Duration::from_secs(60);

/// How long attackers may take to do what they are here for.
const DEED_PATIENCE: Duration = Duration::from_secs(20);

/// Open files that the largest attack needs.
const OPEN_FILES: u64 = 12_000;

/// Attacks rest between a turn under attack and the next.
const REST: Duration = Duration::from_millis(200);

/// An attack.
pub(crate) struct Attack<'a> {
    /// What the report calls it.
    pub(crate) name: &'a str,
    /// Who attacks, in words, for the report.
    pub(crate) attackers: &'a str,
    /// Options of the server besides those of every scene.
    pub(crate) arguments: &'a [&'a str],
    /// Threads that attack.
    pub(crate) threads: usize,
    /// What must have been counted once at least before the first turn under attack ends: a busy machine may need longer for it than a turn lasts.
    pub(crate) until: &'a str,
    /// Bytes that the limits permit all attackers to make the server hold at once.
    pub(crate) budget: u64,
}

/// What attackers see of the scene.
pub(crate) struct Arena {
    port: u16,
    stop: AtomicBool,
    tally: Mutex<BTreeMap<String, u64>>,
    names: AtomicU64,
}

impl Arena {
    /// Where the server listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether the turn goes on.
    pub(crate) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Counts what an attacker did or was answered.
    pub(crate) fn count(&self, what: impl Into<String>) {
        self.count_many(what, 1);
    }

    /// Counts the same several times.
    pub(crate) fn count_many(&self, what: impl Into<String>, times: u64) {
        let mut tally = self.tally.lock().expect("no holder panics");
        *tally.entry(what.into()).or_default() += times;
    }

    fn has_counted(&self, what: &str) -> bool {
        let tally = self.tally.lock().expect("no holder panics");
        tally.contains_key(what)
    }

    /// A number that no other attacker of the scene has.
    pub(crate) fn unique(&self) -> u64 {
        self.names.fetch_add(1, Ordering::Relaxed)
    }

    /// Sleeps, but not beyond the turn.
    pub(crate) fn pause(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while self.goes_on() && Instant::now() < until {
            std::thread::sleep(duration.min(Duration::from_millis(5)));
        }
    }
}

/// What came of an attack, after everything was checked that holds for all.
pub(crate) struct Outcome {
    tally: BTreeMap<String, u64>,
    /// The server, still running.
    pub(crate) server: Server,
    _stage: MutexGuard<'static, ()>,
}

impl Outcome {
    /// How often this was counted.
    pub(crate) fn counted(&self, what: &str) -> u64 {
        self.tally.get(what).copied().unwrap_or(0)
    }

    /// Checks that only these things were counted, and each of them.
    pub(crate) fn assert_only(&self, expected: &[&str]) {
        let counted: Vec<&str> = self.tally.keys().map(String::as_str).collect();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(counted, expected, "{:?}", self.tally);
    }
}

impl Attack<'_> {
    /// Plays the attack. `work` is run by every attacking thread, with its number, in every turn under attack; it ends when the arena says so, and
    /// what it holds is dropped then.
    pub(crate) fn play(&self, work: impl Fn(&Arena, usize) + Sync) -> Outcome {
        // An attack that failed leaves nothing behind that could disturb the next.
        let stage = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
        system::require_open_files(OPEN_FILES);
        machine::prefer_session();
        let server = self.start_server();
        let pace = report::Pace::from_environment();
        let members = Members::start(server.port(), 2 * pace.rounds);
        let arena = Arena {
            port: server.port(),
            stop: AtomicBool::new(false),
            tally: Mutex::default(),
            names: AtomicU64::new(0),
        };
        std::thread::sleep(REST);
        let before = system::resident_bytes(server.pid());
        let mut highest = before;
        for round in 0..pace.rounds {
            members.turn(2 * round + 1);
            std::thread::sleep(pace.quiet);
            members.turn(2 * round + 2);
            highest = highest.max(self.turn(&arena, pace.attack, server.pid(), &work));
            members.turn(0);
            forget(server.port(), MEMBERS);
            std::thread::sleep(REST);
        }
        let observed = members.finish();
        let verdict = report::Verdict::new(&observed.latencies, highest - before, self.budget());
        let tally = arena.tally.into_inner().expect("no holder panics");
        verdict.print(self, &tally);
        assert!(observed.complaints.is_empty(), "{:#?}", observed.complaints);
        assert!(
            verdict.attacked_us < P99_MAX_US,
            "under {} the members' p99 was {:.0} µs",
            self.name,
            verdict.attacked_us
        );
        assert!(
            verdict.growth <= verdict.budget,
            "{} made the server grow by {} bytes, and its limits permit {}",
            self.name,
            verdict.growth,
            verdict.budget
        );
        forget(server.port(), 0);
        Outcome {
            tally,
            server,
            _stage: stage,
        }
    }

    fn budget(&self) -> u64 {
        GROWTH_OF_ITSELF + self.budget
    }

    fn start_server(&self) -> Server {
        let mut arguments = vec!["--shards", "1"];
        let core = machine::SERVER_CORE.to_string();
        if machine::has_two_cores() {
            arguments.extend(["--cores", &core]);
        }
        arguments.extend(self.arguments);
        let server = Server::start(&arguments);
        machine::prefer(server.pid());
        server
    }

    /// One turn under attack; answers the most memory that was seen.
    fn turn(
        &self,
        arena: &Arena,
        duration: Duration,
        pid: u32,
        work: &(impl Fn(&Arena, usize) + Sync),
    ) -> u64 {
        arena.stop.store(false, Ordering::Relaxed);
        let mut highest = 0;
        std::thread::scope(|scope| {
            for thread in 0..self.threads {
                scope.spawn(move || {
                    machine::pin_to_client_core();
                    work(arena, thread);
                });
            }
            let start = Instant::now();
            let lasts = || {
                let passed = start.elapsed();
                passed < duration || (passed < DEED_PATIENCE && !arena.has_counted(self.until))
            };
            while lasts() {
                highest = highest.max(system::resident_bytes(pid));
                std::thread::sleep(Duration::from_millis(25));
            }
            arena.stop.store(true, Ordering::Relaxed);
        });
        highest
    }
}

/// Waits until the server holds no more than `connections`.
fn forget(port: u16, connections: usize) {
    let deadline = Instant::now() + FORGET_PATIENCE;
    loop {
        let held = machine::connections_of(port);
        if held <= connections {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{held} connections are left, and {connections} should be"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
