//! While some connections send as much as they can, every other one has its turn within a bounded number of passes: what it asks is
//! answered, and what it is sent leaves.

use shardcast_shard::driver::ShardId;
use shardcast_shard::limits::Limits;
use shardcast_shard::sim::{Faults, Opcode, Random, SimEvent, SimFrame, SimWebSocket};

use super::cluster::{Cluster, ClusterOptions};
use super::seeds::{Met, Run, for_each};

/// Passes of its shard after which a connection has its answer, from the moment at which its request was written: one receives,
/// decodes and queues, and the next one submits. One more for each direction where the completion comes after the poll.
const PASSES_MAX: u64 = 4;

/// Messages of a connection that are handled where they arrive, before those that stand in line.
const FIRST_MESSAGES: u64 = 4;

/// Requests that a patient connection writes at once.
const BURST_MAX: usize = 64;

const STEPS: usize = 500;

const SHARD: ShardId = 0;

const HEARTBEAT: &str = r#"{"type":"heartbeat"}"#;

/// What a connection has to wait for once it stands in line.
#[derive(Clone, Copy)]
struct Line {
    /// Messages of one connection that are handled in one turn.
    share: u64,
    /// Passes until everybody has had a turn.
    round_passes: u64,
}

impl Line {
    fn new(limits: &Limits, connections: u64) -> Self {
        let share = limits.messages_per_pass_max;
        let arriving = FIRST_MESSAGES * connections;
        // However much arrives, a pass has one turn at least.
        let pass = limits.queued_messages_per_pass_max.saturating_sub(arriving);
        Self {
            share,
            round_passes: (connections * share).div_ceil(pass.max(share)),
        }
    }

    /// Passes after which so many requests, written at once, are answered. One turn more, as they may arrive in two parts.
    fn passes_max(self, requests: u64) -> u64 {
        PASSES_MAX + (requests.div_ceil(self.share) + 1) * self.round_passes
    }
}

/// A connection that asks for something small now and then.
struct Patient {
    socket: SimWebSocket,
    room: String,
    is_open: bool,
    /// The pass at which it asked, and the answers that it waits for.
    asked: Option<(u64, Wait)>,
    answers: u64,
    longest: u64,
}

#[derive(Clone, Copy)]
struct Wait {
    answers: u64,
    passes_max: u64,
}

impl Patient {
    /// Reads everything that has come; answers how many answers there were.
    fn listen(&mut self) -> u64 {
        let mut answers = 0;
        for event in self.socket.step(usize::MAX) {
            match event {
                SimEvent::Text(text) if text.contains(r#""type":"welcome""#) => self.is_open = true,
                SimEvent::Text(text) => {
                    let is_answer =
                        text.contains("heartbeat") || text.contains(r#""type":"joined""#);
                    answers += u64::from(is_answer);
                }
                SimEvent::Upgraded(_) | SimEvent::Ping(_) | SimEvent::Pong(_) => {}
                other => panic!("a patient connection was ended: {other:?}"),
            }
        }
        answers
    }

    /// Listens, checks how long it has waited, and asks again at times.
    fn act(&mut self, passes: u64, line: Line, random: &mut Random) {
        let answers = self.listen();
        self.answers += answers;
        if let Some((asked, wait)) = &mut self.asked {
            let waited = passes - *asked;
            self.longest = self.longest.max(waited);
            wait.answers -= answers;
            let is_answered = wait.answers == 0;
            assert!(
                is_answered || waited < wait.passes_max,
                "a connection has waited for {waited} passes while others flood, and misses {} answers",
                wait.answers
            );
            if is_answered {
                self.asked = None;
            }
        } else if self.is_open && random.chance(200) {
            let count = random.magnitude_between(1, BURST_MAX) as u64;
            let wait = Wait {
                answers: count,
                passes_max: line.passes_max(count),
            };
            self.asked = Some((passes, wait));
            let join = format!(r#"{{"type":"join","room":"{}"}}"#, self.room);
            for _ in 0..count {
                let text = if random.coin() { HEARTBEAT } else { &join };
                self.socket.send_text(text);
            }
            // What is written now is there for the next poll.
            assert_eq!(self.listen(), 0);
        }
    }
}

/// A connection that keeps its socket full.
struct Flood {
    socket: SimWebSocket,
    unit: Vec<u8>,
    is_open: bool,
    reads: bool,
    sent: u64,
}

impl Flood {
    fn new(socket: SimWebSocket, room: &str, random: &mut Random) -> Self {
        let publish = format!(r#"{{"type":"message","room":"{room}","content":0}}"#);
        let text = |text: &str| SimFrame::whole(Opcode::Text, text.as_bytes());
        let frame = match random.below(5) {
            0 => text(HEARTBEAT),
            1 => text(&publish),
            2 => text("{}"),
            3 => SimFrame::whole(Opcode::Ping, b"x"),
            _ => SimFrame::whole(Opcode::Pong, b""),
        };
        Self {
            socket,
            unit: frame.encode([7; 4]),
            is_open: false,
            reads: random.chance(800),
            sent: 0,
        }
    }

    fn act(&mut self, room: &str) {
        if !self.is_open || self.reads {
            for event in self.socket.step(usize::MAX) {
                if let SimEvent::Text(text) = event
                    && text.contains("welcome")
                {
                    self.is_open = true;
                    let join = format!(r#"{{"type":"join","room":"{room}"}}"#);
                    self.socket.send_text(&join);
                }
            }
        } else {
            self.socket.step(0);
        }
        // Whole frames only: what does not fit is written behind the first bytes at the next step.
        while self.is_open && self.socket.unsent() == 0 {
            self.socket.send_raw(&self.unit.repeat(64));
            self.sent += 64;
        }
    }
}

/// A room whose home is the shard: no mailbox can slow its publishers down.
fn room_at_home(cluster: &Cluster) -> String {
    let mut names = (0..).map(|number| format!("room {number}"));
    names
        .find(|room| cluster.home_of(room) == SHARD)
        .expect("every shard is home to some rooms")
}

fn options(run: Run, random: &mut Random) -> ClusterOptions {
    let mut faults = Faults::none();
    faults.split_per_mille = [0, 300][random.index(2)];
    // What one pass says to a room fits into one send and into a socket: a connection that cannot take more is too slow, not starved.
    (faults.pipe_bytes_min, faults.pipe_bytes_max) = (131_072, 131_072);
    let mut options = ClusterOptions::new(run.seed, faults);
    options.shards = random.between(1, 3) as u16;
    options.setup.buffers = 2048;
    options.limits.messages_per_second_max = 0;
    options.limits.messages_per_pass_max = random.magnitude_between(1, 64) as u64;
    options.limits.queued_messages_per_pass_max = random.magnitude_between(16, 256) as u64;
    options
}

fn starvation(run: Run) -> Met {
    let mut random = Random::new(run.seed).fork();
    let options = options(run, &mut random);
    let limits = options.limits.clone();
    let mut cluster = Cluster::new(options);
    let room = room_at_home(&cluster);
    let network = cluster.network.clone();
    let connect = |user: String| {
        let client = network.connect(SHARD);
        SimWebSocket::connect_with(client, &format!("/ws?user={user}"), &[])
    };
    let mut patients: Vec<Patient> = (0..random.between(5, 20))
        .map(|index| Patient {
            socket: connect(format!("patient-{index}")),
            room: room.clone(),
            is_open: false,
            asked: None,
            answers: 0,
            longest: 0,
        })
        .collect();
    while !patients.iter().all(|patient| patient.is_open) {
        cluster.turn();
        patients.iter_mut().for_each(|patient| {
            patient.listen();
        });
    }
    let mut floods: Vec<Flood> = (0..random.between(1, 8))
        .map(|index| Flood::new(connect(format!("flood-{index}")), &room, &mut random))
        .collect();
    let line = Line::new(&limits, (patients.len() + floods.len()) as u64);
    for _ in 0..STEPS {
        floods.iter_mut().for_each(|flood| flood.act(&room));
        cluster.turn();
        let passes = cluster.passes(SHARD);
        for patient in &mut patients {
            patient.act(passes, line, &mut random);
        }
    }
    let mut met = Met::default();
    met.add("steps", cluster.steps());
    met.add(
        "messages of floods",
        floods.iter().map(|flood| flood.sent).sum(),
    );
    met.add(
        "answers",
        patients.iter().map(|patient| patient.answers).sum(),
    );
    let longest = patients.iter().map(|patient| patient.longest).max();
    met.add("passes waited", longest.unwrap_or_default());
    let reading_paused = cluster.count(|stats| stats.reading_paused.value());
    met.add("floods held up", reading_paused);
    met
}

#[test]
fn floods_starve_nobody() {
    let must_meet = [
        "messages of floods",
        "answers",
        "passes waited",
        "floods held up",
    ];
    for_each("floods_starve_nobody", 0..30, &must_meet, starvation);
}
