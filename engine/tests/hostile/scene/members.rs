//! The innocent: members of one room who publish on a schedule fixed ahead, and measure how long each delivery takes.
//!
//! One thread plays them all. A message carries the time at which it was to leave and the turn that this time belongs to, so a server
//! that stalls is charged for everything that should have been sent meanwhile.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use super::machine;
use crate::raw::{CLOSE, FINAL_TEXT, PING, PONG, frame, upgrade_request};

/// Members of the room: enough that one message is some work for a shard.
pub(crate) const MEMBERS: usize = 100;

/// Messages that they publish a second, together.
pub(crate) const RATE: u64 = 50;

/// Their room.
pub(crate) const ROOM: &str = "the-innocent";

/// Where members connect from: not where attackers do.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// How long members wait for what is still to come when the schedule has ended.
const LAST_PATIENCE: Duration = Duration::from_secs(20);

/// The largest latency that a histogram tells apart, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

/// Members at work.
pub(crate) struct Members {
    shared: Arc<Shared>,
    thread: JoinHandle<Observed>,
}

struct Shared {
    /// The number of the turn at hand; 0 between turns.
    turn: AtomicUsize,
    stop: AtomicBool,
}

/// What members have seen.
pub(crate) struct Observed {
    /// Latencies by turn, in microseconds; the first entry is for what belongs to none.
    pub(crate) latencies: Vec<Histogram<u64>>,
    /// What went wrong, a sentence each.
    pub(crate) complaints: Vec<String>,
}

impl Members {
    /// Opens the connections, joins, and begins to publish. `turns` is how many there will be.
    pub(crate) fn start(port: u16, turns: usize) -> Self {
        let shared = Arc::new(Shared {
            turn: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let members: Vec<Member> = (0..MEMBERS)
            .map(|index| Member::join(port, index))
            .collect();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            machine::pin_to_client_core();
            machine::run_before_others();
            Play::new(members, turns).run(&of_thread)
        });
        Self { shared, thread }
    }

    /// Says that a turn has begun; 0 says that none is at hand.
    pub(crate) fn turn(&self, number: usize) {
        self.shared.turn.store(number, Ordering::Relaxed);
    }

    /// Ends the schedule, waits for what is under way, and tells what was seen.
    pub(crate) fn finish(self) -> Observed {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("members do not panic")
    }
}

/// One member of the room.
struct Member {
    stream: TcpStream,
    received: Vec<u8>,
    /// Messages delivered to it.
    deliveries: u64,
    ended: Option<String>,
}

impl Member {
    fn join(port: u16, index: usize) -> Self {
        let stream = machine::connect_from(SOURCE, port).expect("the server listens");
        stream.set_nodelay(true).expect("an open socket");
        stream
            .set_read_timeout(Some(LAST_PATIENCE))
            .expect("an open socket");
        let mut member = Self {
            stream,
            received: Vec::new(),
            deliveries: 0,
            ended: None,
        };
        let request = upgrade_request(&format!("/ws?user=innocent-{index}"), "");
        member.send(request.as_bytes());
        member.await_text("\r\n\r\n");
        let join = json!({"type": "join", "room": ROOM}).to_string();
        member.send(&frame(FINAL_TEXT, join.as_bytes()));
        member.await_text("\"joined\"");
        member.stream.set_nonblocking(true).expect("an open socket");
        member.received.clear();
        member
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            self.ended = Some(format!("cannot send: {error}"));
        }
    }

    /// Reads on, before the schedule begins, until the text has come.
    fn await_text(&mut self, text: &str) {
        let mut chunk = [0; 4096];
        while position(&self.received, text.as_bytes()).is_none() {
            let count = self.stream.read(&mut chunk).expect("an answer comes");
            assert_ne!(count, 0, "the server closed the connection");
            self.received.extend_from_slice(&chunk[..count]);
        }
    }

    /// Reads what there is and hands each message of the room on.
    fn read(&mut self, chunk: &mut [u8], mut delivered: impl FnMut(&[u8])) {
        match self.stream.read(chunk) {
            Ok(0) => self.ended = Some("the stream ended".to_owned()),
            Ok(count) => self.received.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.ended = Some(format!("cannot read: {error}")),
        }
        let mut taken = 0;
        while let Some((first, header, length)) = frame_at(&self.received[taken..]) {
            let start = taken + header;
            taken = start + length;
            let payload = &self.received[start..taken];
            match first {
                FINAL_TEXT => {
                    if let Some(at) = position(payload, CONTENT) {
                        self.deliveries += 1;
                        delivered(&payload[at + CONTENT.len()..]);
                    }
                }
                PING => {
                    let pong = frame(PONG, payload);
                    self.send(&pong);
                }
                CLOSE => {
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                    self.ended = Some(format!("closed by the server: {reason}"));
                }
                _ => {}
            }
        }
        self.received.drain(..taken);
    }
}

/// What stands before the stamp of a delivered message.
const CONTENT: &[u8] = b"\"content\":\"";

/// The first whole frame from a server: its first byte, and the lengths of its header and payload.
pub(crate) fn frame_at(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (header, length) = match second {
        126 => (
            4,
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => (
            10,
            usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?,
        ),
        short => (2, usize::from(short)),
    };
    (bytes.len() >= header + length).then_some((first, header, length))
}

fn position(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}

/// The schedule and its books.
struct Play {
    members: Vec<Member>,
    started: Instant,
    published: u64,
    latencies: Vec<Histogram<u64>>,
}

impl Play {
    fn new(members: Vec<Member>, turns: usize) -> Self {
        let histogram =
            Histogram::new_with_max(LATENCY_MAX_US, 3).expect("the bounds are in order");
        Self {
            members,
            started: Instant::now(),
            published: 0,
            latencies: vec![histogram; turns + 1],
        }
    }

    fn run(mut self, shared: &Shared) -> Observed {
        let interval_ns = 1_000_000_000 / RATE;
        let mut next_ns = 0;
        let mut last = None;
        loop {
            let now_ns = self.now_ns();
            let stopping = shared.stop.load(Ordering::Relaxed);
            if stopping {
                let deadline = *last.get_or_insert_with(|| Instant::now() + LAST_PATIENCE);
                if self.all_delivered() || Instant::now() > deadline {
                    break;
                }
            } else if now_ns >= next_ns {
                self.publish(next_ns, shared.turn.load(Ordering::Relaxed));
                next_ns += interval_ns;
                continue;
            }
            // While it stops, nothing is scheduled any more.
            let wait_ns = if stopping {
                interval_ns
            } else {
                next_ns - now_ns
            };
            self.read(wait_ns);
        }
        self.observed()
    }

    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn publish(&mut self, intended_ns: u64, turn: usize) {
        let content = format!("{turn} {intended_ns} {:0>80}", self.published);
        let message = json!({"type": "message", "room": ROOM, "content": content}).to_string();
        let publisher = self.published as usize % self.members.len();
        self.members[publisher].send(&frame(FINAL_TEXT, message.as_bytes()));
        self.published += 1;
    }

    fn read(&mut self, wait_ns: u64) {
        let mut descriptors: Vec<libc::pollfd> = self
            .members
            .iter()
            .map(|member| libc::pollfd {
                // A negative descriptor is passed over.
                fd: if member.ended.is_some() {
                    -1
                } else {
                    member.stream.as_raw_fd()
                },
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        machine::wait_readable(&mut descriptors, wait_ns);
        let mut chunk = [0; 16384];
        let Self {
            members,
            started,
            latencies,
            ..
        } = self;
        for (member, descriptor) in members.iter_mut().zip(&descriptors) {
            if descriptor.revents == 0 {
                continue;
            }
            member.read(&mut chunk, |stamp| {
                let now_ns = started.elapsed().as_nanos() as u64;
                let mut words = stamp.split(|byte| *byte == b' ').map(number);
                if let (Some(Some(turn)), Some(Some(intended_ns))) = (words.next(), words.next()) {
                    let latency_us = now_ns.saturating_sub(intended_ns) / 1000;
                    latencies[turn as usize].saturating_record(latency_us);
                }
            });
        }
    }

    fn all_delivered(&self) -> bool {
        self.members
            .iter()
            .all(|member| member.ended.is_some() || member.deliveries >= self.published)
    }

    fn observed(self) -> Observed {
        let complaint = |(index, member): (usize, &Member)| {
            let Member {
                deliveries, ended, ..
            } = member;
            if let Some(end) = ended {
                return Some(format!("member {index} lost its connection: {end}"));
            }
            let published = self.published;
            (*deliveries != published)
                .then(|| format!("member {index} got {deliveries} of {published} messages"))
        };
        Observed {
            complaints: self
                .members
                .iter()
                .enumerate()
                .filter_map(complaint)
                .collect(),
            latencies: self.latencies,
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
