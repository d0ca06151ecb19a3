//! One thread of the generator: a ring, its connections, and the loop over them.
//!
//! A pass obeys what it is told, begins connects and sends what is due, waits until the next thing is due or something
//! arrives, and then takes everything that has arrived at once: all of it has the time of that moment.

mod attempts;
mod opening;
mod publishing;
mod receiving;
mod tls;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use shardcast_shard::driver::{Completion, ConnectionKey, Driver, ReceiveEnd, Shutdown};
use shardcast_shard::error::FatalError;
use shardcast_shard::random::Random;
use shardcast_shard::ring::RingDriver;
use shardcast_shard::ws::frame::{self, Opcode};

use super::books::Books;
use super::client::{Client, Outgoing, Phase, WAITING_MAX};
use super::command::{Command, GroupOrder, Traffic};
use super::ledger::Ledger;
use super::{Settings, Shared, lock};
use crate::schedule::Schedule;

use attempts::Attempts;
use publishing::Publisher;
use tls::Sessions;

/// How long one attempt to connect and join, or to leave, may take.
const ATTEMPT_NS_MAX: u64 = 30_000_000_000;

/// The longest sleep: commands are looked for at least so often.
const SLEEP_NS_MAX: u64 = 20_000_000;

/// What is due sooner than this is waited for without sleeping, as waking up takes about as long.
const SPIN_NS: u64 = 30_000;

/// A group's part on this thread.
struct Local {
    order: Arc<GroupOrder>,
    /// The number on this thread of the slice's first member.
    first_client: u32,
    first_member: u32,
    count: u32,
    ledger: Ledger,
    traffic: Option<Traffic>,
    churn: Option<Churn>,
}

/// Connections that come and go.
struct Churn {
    interval_ns: u64,
    next_ns: u64,
    until_ns: u64,
    /// Which one goes next, counted from the slice's first.
    next: u32,
}

/// One thread.
pub(super) struct Worker {
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    driver: RingDriver,
    /// Connections of this thread are idle, and are to take as little of the kernel's memory as they can.
    quiet: bool,
    /// By slot.
    clients: Vec<Client>,
    /// Where connections are over TLS.
    tls: Option<Sessions>,
    groups: Vec<Local>,
    /// Clients to open, the earliest first.
    to_open: BinaryHeap<Reverse<(u64, u32)>>,
    attempts: Attempts,
    schedule: Schedule,
    publishers: Vec<Publisher>,
    /// When those connections were lost that are lost from now on; `None` for when that is noticed.
    fault_ns: Option<u64>,
    random: Random,
    scratch: Vec<u8>,
}

impl Worker {
    pub(super) fn new(
        settings: Arc<Settings>,
        shared: Arc<Shared>,
        commands: Receiver<Command>,
        driver: RingDriver,
        quiet: bool,
        seed: u64,
    ) -> Self {
        let tls = settings.tls.clone().map(Sessions::new);
        let attempts = Attempts::new(settings.attempts_in_flight_max, ATTEMPT_NS_MAX);
        Self {
            settings,
            shared,
            commands,
            driver,
            quiet,
            clients: Vec::new(),
            tls,
            groups: Vec::new(),
            to_open: BinaryHeap::new(),
            attempts,
            schedule: Schedule::default(),
            publishers: Vec::new(),
            fault_ns: None,
            random: Random::new(seed),
            scratch: Vec::new(),
        }
    }

    /// Runs until [`Command::Finish`].
    ///
    /// # Errors
    /// The ring is unusable.
    pub(super) fn run(mut self) -> Result<(), FatalError> {
        let mut completions = Vec::new();
        let shared = Arc::clone(&self.shared);
        loop {
            {
                let mut books = lock(&shared.books);
                while let Ok(command) = self.commands.try_recv() {
                    if matches!(command, Command::Finish) {
                        return Ok(());
                    }
                    self.obey(command, &mut books);
                }
                let now_ns = self.settings.now_ns();
                self.attempts_give_up(now_ns, &mut books);
                self.open_due(now_ns, &mut books);
                self.churn_due(now_ns, &mut books);
                self.publish_due(&mut books);
            }
            let sleep_ns = self.sleep_ns();
            if sleep_ns < SPIN_NS {
                self.driver.poll(&mut completions)?;
            } else {
                self.driver
                    .wait(&mut completions, Some(Duration::from_nanos(sleep_ns)))?;
            }
            if completions.is_empty() {
                continue;
            }
            let now_ns = self.settings.now_ns();
            let mut books = lock(&shared.books);
            for completion in completions.drain(..) {
                self.completed(completion, now_ns, &mut books);
            }
        }
    }

    /// How long nothing is due.
    fn sleep_ns(&self) -> u64 {
        let now_ns = self.settings.now_ns();
        let churn = self
            .groups
            .iter()
            .filter_map(|local| local.churn.as_ref())
            .map(|churn| churn.next_ns);
        let next_ns = churn
            .chain(self.schedule.next_ns())
            .chain(self.open_next_ns())
            .min()
            .unwrap_or(u64::MAX);
        next_ns.saturating_sub(now_ns).min(SLEEP_NS_MAX)
    }

    fn obey(&mut self, command: Command, books: &mut Books) {
        match command {
            Command::Open(order) => self.open_group(order),
            Command::Publish { group, traffic } => self.publish_start(group, traffic),
            Command::Drop { group } => {
                let now_ns = self.settings.now_ns();
                for index in self.clients_of(group) {
                    if self.clients[index as usize].phase == Phase::Ready {
                        books.tally.dropped += 1;
                        self.away(index, now_ns, books);
                        self.end(index);
                    }
                }
            }
            Command::Churn {
                group,
                interval_ns,
                until_ns,
            } => {
                let next_ns = self.settings.now_ns() + interval_ns;
                let local = &mut self.groups[usize::from(group)];
                // A thread that holds none of the group must not wake up for it.
                local.churn = (local.count > 0).then_some(Churn {
                    interval_ns,
                    next_ns,
                    until_ns,
                    next: 0,
                });
            }
            Command::Stall { group, stalled } => self.stall(group, stalled),
            Command::Say { group, text } => {
                let ready = |index: &u32| self.clients[*index as usize].phase == Phase::Ready;
                let speaker = self.clients_of(group).find(ready);
                if let Some(index) = speaker {
                    self.say(index, text.as_bytes());
                }
            }
            Command::Fault { at_ns } => self.fault_ns = Some(at_ns),
            Command::Finish => {}
        }
    }

    /// The numbers of a group's clients on this thread.
    fn clients_of(&self, group: u8) -> std::ops::Range<u32> {
        let local = &self.groups[usize::from(group)];
        local.first_client..local.first_client + local.count
    }

    fn local(&self, client: &Client) -> &Local {
        &self.groups[usize::from(client.group)]
    }

    /// The switch over what the kernel reports.
    fn completed(&mut self, completion: Completion, now_ns: u64, books: &mut Books) {
        match completion {
            Completion::Connected { key, result } => {
                if let Some(index) = self.index(key) {
                    self.connected(index, result, now_ns, books);
                }
            }
            Completion::Received {
                key,
                buffer,
                length,
            } => {
                if let Some(index) = self.index(key) {
                    self.received(index, buffer, length, now_ns, books);
                }
                self.driver.buffer_release(buffer);
            }
            Completion::ReceiveEnded { key, end } => {
                if let Some(index) = self.index(key) {
                    self.clients[index as usize].receiving = false;
                    self.receive_ended(index, end, now_ns, books);
                }
            }
            Completion::Sent { key, result } => {
                if let Some(index) = self.index(key) {
                    self.sent(index, result, now_ns, books);
                }
            }
            Completion::ShutDown { key } => {
                if let Some(index) = self.index(key) {
                    self.clients[index as usize].shutting_down = false;
                    self.end(index);
                }
            }
            Completion::Closed { key } => {
                if let Some(index) = self.index(key) {
                    self.closed(index, now_ns);
                }
            }
            // A ring without a listener accepts nothing; nobody wakes it, no deadline is set, and nothing is sent at once or not at all.
            Completion::Accepted { .. }
            | Completion::Unsent { .. }
            | Completion::AcceptEnded { .. }
            | Completion::Woken
            | Completion::DeadlinePassed => {}
        }
    }

    /// The number of the client that a key means; `None` for one that is gone.
    fn index(&self, key: ConnectionKey) -> Option<u32> {
        let client = self.clients.get(key.slot as usize)?;
        (client.key(key.slot) == key).then_some(key.slot)
    }

    fn receive_ended(&mut self, index: u32, end: ReceiveEnd, now_ns: u64, books: &mut Books) {
        let client = &self.clients[index as usize];
        if matches!(client.phase, Phase::Ending | Phase::Closing | Phase::Free) {
            self.end(index);
            return;
        }
        match end {
            ReceiveEnd::NoBuffers | ReceiveEnd::Stopped if client.stalled => {}
            ReceiveEnd::NoBuffers | ReceiveEnd::Stopped => self.receive(index),
            ReceiveEnd::EndOfStream => {
                self.gone(index, "the server ended the stream", now_ns, books)
            }
            ReceiveEnd::Failed(error) => {
                let what = format!("receiving: {}", std::io::Error::from_raw_os_error(error));
                self.gone(index, &what, now_ns, books);
            }
        }
    }

    /// Starts to receive unless that is under way.
    fn receive(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        if !client.receiving {
            client.receiving = true;
            let key = client.key(index);
            match self.quiet {
                true => self.driver.receive_quietly(key),
                false => self.driver.receive_start(key),
            }
        }
    }

    /// Sends a text message.
    fn say(&mut self, index: u32, text: &[u8]) -> bool {
        self.frame(index, Opcode::Text, text)
    }

    /// Sends a frame. `false` when too much waits for the connection already.
    fn frame(&mut self, index: u32, opcode: Opcode, payload: &[u8]) -> bool {
        let mask = (self.random.next() as u32).to_be_bytes();
        let mut bytes = Vec::with_capacity(payload.len() + frame::HEADER_SIZE_MAX);
        frame::encode_masked(opcode, true, mask, payload, &mut bytes);
        self.send(index, Bytes::from(bytes))
    }

    fn send(&mut self, index: u32, bytes: Bytes) -> bool {
        let client = &mut self.clients[index as usize];
        if let Some(outgoing) = &mut client.outgoing {
            if outgoing.waiting.len() >= WAITING_MAX {
                return false;
            }
            outgoing.waiting.push_back(bytes);
            return true;
        }
        let bytes = match &mut self.tls {
            Some(tls) => match tls.records(index, Some(bytes)) {
                Ok(Some(records)) => records,
                Ok(None) | Err(_) => return false,
            },
            None => bytes,
        };
        self.transmit(index, bytes);
        true
    }

    /// Hands the kernel what leaves next on a connection that is sending nothing.
    fn transmit(&mut self, index: u32, bytes: Bytes) {
        let client = &mut self.clients[index as usize];
        client.outgoing = Some(Box::new(Outgoing {
            current: bytes.clone(),
            waiting: VecDeque::new(),
        }));
        self.driver.send(client.key(index), bytes);
    }

    fn sent(&mut self, index: u32, result: Result<usize, i32>, now_ns: u64, books: &mut Books) {
        let client = &mut self.clients[index as usize];
        let key = client.key(index);
        let Some(outgoing) = &mut client.outgoing else {
            return;
        };
        let going = !matches!(client.phase, Phase::Ending | Phase::Closing);
        let next = match result {
            Ok(count) if going && count < outgoing.current.len() => {
                Ok(Some(outgoing.current.slice(count..)))
            }
            Ok(_) if going => match &mut self.tls {
                Some(tls) => tls
                    .records(index, outgoing.next())
                    .map_err(|error| error.to_string()),
                None => Ok(outgoing.next()),
            },
            Ok(_) => Ok(None),
            Err(error) => Err(std::io::Error::from_raw_os_error(error).to_string()),
        };
        if let Ok(Some(next)) = next {
            outgoing.current = next.clone();
            self.driver.send(key, next);
            return;
        }
        client.outgoing = None;
        match next {
            _ if !going => self.end(index),
            Ok(_) => {}
            Err(error) => self.gone(index, &format!("sending: {error}"), now_ns, books),
        }
    }

    /// Ends the connection: first what is in flight, then the descriptor. Called again by each completion until
    /// nothing is in flight.
    fn end(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        let key = client.key(index);
        let first = !matches!(client.phase, Phase::Ending | Phase::Closing);
        if client.phase == Phase::Closing {
            return;
        }
        if first {
            client.unfinished = None;
            if client.phase == Phase::Connecting {
                client.phase = Phase::Ending;
                self.driver.connect_stop(key);
                return;
            }
            client.phase = Phase::Ending;
            if client.outgoing.is_some() {
                client.shutting_down = true;
                self.driver.shutdown(key, Shutdown::Both);
            } else if client.receiving {
                self.driver.receive_stop(key);
            }
        }
        if !client.has_operations() {
            client.phase = Phase::Closing;
            self.driver.close(key);
        }
    }

    /// The slow members of a group stop reading, or read again.
    fn stall(&mut self, group: u8, stalled: bool) {
        for index in self.clients_of(group) {
            let client = &self.clients[index as usize];
            if client.phase != Phase::Ready
                || !self.local(client).order.group.is_slow(client.member)
            {
                continue;
            }
            let client = &mut self.clients[index as usize];
            client.stalled = stalled;
            if stalled && client.receiving {
                self.driver.receive_stop(client.key(index));
            } else if !stalled {
                self.receive(index);
            }
        }
    }

    /// Closes, in good order, the connection whose turn it is.
    fn churn_due(&mut self, now_ns: u64, books: &mut Books) {
        for number in 0..self.groups.len() {
            while let Some(index) = self.churn_next(number, now_ns) {
                if self.clients[index as usize].phase != Phase::Ready {
                    continue;
                }
                books.tally.dropped += 1;
                self.frame(index, Opcode::Close, &1000_u16.to_be_bytes());
                let client = &mut self.clients[index as usize];
                self.shared.ready_subtract(client.group);
                self.attempts.begin(client, index, Phase::Leaving, now_ns);
            }
        }
    }

    fn churn_next(&mut self, number: usize, now_ns: u64) -> Option<u32> {
        let local = self.groups.get_mut(number)?;
        let churn = local.churn.as_mut()?;
        if churn.next_ns >= churn.until_ns {
            local.churn = None;
            return None;
        }
        if churn.next_ns > now_ns {
            return None;
        }
        churn.next_ns += churn.interval_ns;
        let index = local.first_client + churn.next % local.count;
        churn.next = churn.next.wrapping_add(1);
        Some(index)
    }
}
