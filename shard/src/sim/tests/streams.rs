//! A server of a few lines and its clients under every fault, for a thousand seeds.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

use crate::driver::{Completion, ConnectionKey, Driver, ReceiveEnd, Shutdown, Slot};
use crate::sim::{Faults, Random, SimClient, SimDriver, SimNetwork, SimSetup};

/// A connection of the test server.
#[derive(Default)]
struct Served {
    generation: u32,
    received: Vec<u8>,
    /// What is still to be sent.
    rest: Bytes,
    receiving: bool,
    sending: bool,
    shutting: bool,
    closing: bool,
    peer_finished: bool,
    failed: bool,
    finished: bool,
}

/// A server that greets each connection with the same bytes and collects what it is sent.
struct Server {
    driver: SimDriver,
    greeting: Bytes,
    served: BTreeMap<Slot, Served>,
    generations: BTreeMap<Slot, u32>,
    accepting: bool,
    /// What each connection that has ended was sent, and whether it ended well.
    ended: Vec<(Vec<u8>, bool)>,
    batch: Vec<Completion>,
    /// What went wrong.
    met: BTreeSet<&'static str>,
}

impl Server {
    fn new(network: &SimNetwork, setup: SimSetup, greeting: &[u8]) -> Self {
        Self {
            driver: SimDriver::new(network, 0, setup),
            greeting: Bytes::copy_from_slice(greeting),
            served: BTreeMap::new(),
            generations: BTreeMap::new(),
            accepting: false,
            ended: Vec::new(),
            batch: Vec::new(),
            met: BTreeSet::new(),
        }
    }

    /// One pass: poll, handle, go on with each connection. Returns how much was reported.
    fn pass(&mut self) -> usize {
        if !self.accepting {
            self.driver.accept_start();
            self.accepting = true;
        }
        let mut batch = std::mem::take(&mut self.batch);
        self.driver.poll(&mut batch).unwrap();
        let reported = batch.len();
        for completion in batch.drain(..) {
            self.handle(completion);
        }
        self.batch = batch;
        for (&slot, served) in &mut self.served {
            go_on(&mut self.driver, slot, served);
        }
        reported
    }

    fn served(&mut self, key: ConnectionKey) -> &mut Served {
        let served = self.served.get_mut(&key.slot).unwrap();
        assert_eq!(served.generation, key.generation);
        served
    }

    fn note(&mut self, completion: &Completion) {
        let fault = match *completion {
            Completion::AcceptEnded {
                error: Some(libc::EMFILE),
            } => "EMFILE",
            Completion::AcceptEnded {
                error: Some(libc::ECONNABORTED),
            } => "ECONNABORTED",
            Completion::Received { length: 1, .. } => "a piece of 1 byte",
            Completion::ReceiveEnded { end, .. } => match end {
                ReceiveEnd::NoBuffers => "NoBuffers",
                ReceiveEnd::Stopped => "Stopped",
                ReceiveEnd::Failed(_) => "a receive error",
                ReceiveEnd::EndOfStream => return,
            },
            Completion::Sent {
                key,
                result: Ok(length),
            } if length < self.served(key).rest.len() => "a short send",
            Completion::Sent { result: Err(_), .. } => "a send error",
            Completion::Unsent { error: Some(_), .. } => "a send error",
            Completion::Unsent { .. } => "a send that did not leave at once",
            _ => return,
        };
        self.met.insert(fault);
    }

    fn handle(&mut self, completion: Completion) {
        self.note(&completion);
        match completion {
            Completion::Accepted { slot, .. } => {
                let generation = self.generations.entry(slot).or_default();
                *generation += 1;
                let served = Served {
                    generation: *generation,
                    rest: self.greeting.clone(),
                    ..Served::default()
                };
                assert!(self.served.insert(slot, served).is_none());
            }
            Completion::AcceptEnded { .. } => self.accepting = false,
            Completion::Received {
                key,
                buffer,
                length,
            } => {
                assert!(length > 0);
                let bytes = self.driver.buffer(buffer, length).to_vec();
                self.driver.buffer_release(buffer);
                let served = self.served(key);
                assert!(served.receiving);
                served.received.extend(bytes);
            }
            Completion::ReceiveEnded { key, end } => {
                let served = self.served(key);
                assert!(std::mem::take(&mut served.receiving));
                match end {
                    ReceiveEnd::EndOfStream => served.peer_finished = true,
                    ReceiveEnd::Failed(_) => served.failed = true,
                    ReceiveEnd::NoBuffers | ReceiveEnd::Stopped => {}
                }
            }
            Completion::Sent { key, result } => {
                let served = self.served(key);
                assert!(std::mem::take(&mut served.sending));
                match result {
                    Ok(length) => served.rest = served.rest.slice(length..),
                    Err(_) => served.failed = true,
                }
            }
            // All of it has left, as far as is known when it is asked for.
            Completion::Unsent { key, rest, error } => {
                let served = self.served(key);
                served.rest = rest;
                served.failed |= error.is_some();
            }
            Completion::ShutDown { key } => {
                let served = self.served(key);
                assert!(std::mem::take(&mut served.shutting));
            }
            Completion::Closed { key } => {
                assert!(self.served(key).closing);
                let served = self.served.remove(&key.slot).unwrap();
                self.ended.push((served.received, !served.failed));
            }
            Completion::Woken | Completion::DeadlinePassed | Completion::Connected { .. } => {
                panic!("nobody asked: {completion:?}")
            }
        }
    }
}

fn go_on(driver: &mut SimDriver, slot: Slot, served: &mut Served) {
    let key = ConnectionKey::new(slot, served.generation);
    // What should have left at once may not have been tried.
    if served.closing || driver.is_behind() {
        return;
    }
    let is_over = served.failed || served.peer_finished;
    if !served.receiving && !is_over {
        driver.receive_start(key);
        served.receiving = true;
    }
    if !served.sending && !served.failed && !served.rest.is_empty() {
        // Pieces of both kinds in turn, or there would be nothing to do but wait after one that did not leave at once.
        if served.rest.len().is_multiple_of(2) {
            driver.send_now(key, std::mem::take(&mut served.rest));
            // What has not left is heard of before the next round.
            return;
        }
        driver.send(key, served.rest.clone());
        served.sending = true;
    }
    let all_sent = !served.sending && served.rest.is_empty();
    if (served.failed || all_sent) && !served.finished {
        let how = match served.failed {
            true => Shutdown::Both,
            false => Shutdown::Write,
        };
        driver.shutdown(key, how);
        served.shutting = true;
        served.finished = true;
    }
    let in_flight = served.receiving || served.sending || served.shutting;
    if served.finished && is_over && !in_flight {
        driver.close(key);
        served.closing = true;
    }
}

/// A client that sends its bytes, reads slowly and ends its stream after both.
struct Caller {
    client: SimClient,
    bytes: Vec<u8>,
    written: usize,
    read: Vec<u8>,
    finished: bool,
}

impl Caller {
    fn act(&mut self, random: &mut Random) {
        let rest = &self.bytes[self.written..];
        let length = random.between(0, rest.len());
        self.written += self.client.write(&rest[..length]);
        self.read.extend(self.client.read(random.between(0, 3000)));
        if self.written == self.bytes.len() && !self.finished {
            self.client.close();
            self.finished = true;
        }
    }
}

fn random_bytes(random: &mut Random, length_max: usize) -> Vec<u8> {
    let length = random.magnitude_between(1, length_max);
    (0..length).map(|_| random.next_u64() as u8).collect()
}

/// How a run ended.
struct Run {
    callers: Vec<Caller>,
    greeting: Vec<u8>,
    ended: Vec<(Vec<u8>, bool)>,
    trace_hash: u64,
    met: BTreeSet<&'static str>,
}

/// Some clients talk to a server until nothing moves any more.
fn run(seed: u64, faults: Faults) -> Run {
    let network = SimNetwork::new(seed, faults);
    let mut random = Random::new(!seed);
    let greeting = random_bytes(&mut random, 5000);
    let setup = SimSetup {
        slots: 4,
        buffers: random.between(1, 4) as u16,
        buffer_bytes: random.magnitude_between(1, 2048),
        addresses: random.coin(),
    };
    let mut server = Server::new(&network, setup, &greeting);
    let mut callers: Vec<_> = (0..random.between(1, 4))
        .map(|_| Caller {
            client: network.connect(0),
            bytes: random_bytes(&mut random, 5000),
            written: 0,
            read: Vec::new(),
            finished: false,
        })
        .collect();
    for pass in 0.. {
        assert!(pass < 100_000, "seed {seed} does not come to an end");
        server.pass();
        for caller in &mut callers {
            if random.coin() {
                caller.act(&mut random);
            }
        }
        let closed = callers.iter().all(|caller| caller.client.is_closed());
        if closed && server.served.is_empty() && network.is_quiet() {
            break;
        }
        // A client may be gone before it could send everything.
        for caller in callers
            .iter_mut()
            .filter(|caller| caller.client.is_closed())
        {
            if caller.client.is_reset() {
                caller.written = caller.bytes.len();
            }
        }
    }
    network.assert_quiescent(0);
    Run {
        callers,
        greeting,
        ended: std::mem::take(&mut server.ended),
        met: std::mem::take(&mut server.met),
        trace_hash: network.trace_hash(),
    }
}

#[test]
fn streams_arrive_whole_and_in_order() {
    let mut met = BTreeSet::new();
    for seed in 0..1000 {
        let run = run(seed, Faults::from_seed(seed).without_resets());
        let mut sent: Vec<_> = run.callers.iter().map(|caller| &caller.bytes).collect();
        let mut received: Vec<_> = run.ended.iter().map(|(bytes, _)| bytes).collect();
        sent.sort();
        received.sort();
        assert!(sent == received, "seed {seed}: the server misses something");
        for caller in &run.callers {
            assert!(caller.client.is_end_of_stream(), "seed {seed}");
            assert!(caller.read == run.greeting, "seed {seed}");
        }
        assert!(run.ended.iter().all(|(_, well)| *well), "seed {seed}");
        met.extend(run.met);
    }
    let expected = [
        "ECONNABORTED",
        "EMFILE",
        "NoBuffers",
        "Stopped",
        "a piece of 1 byte",
        "a send that did not leave at once",
        "a short send",
    ];
    assert!(met.iter().eq(&expected), "{met:?}");
}

#[test]
fn streams_that_break_arrive_in_part_and_leak_nothing() {
    let mut broken = 0;
    let mut met = BTreeSet::new();
    for seed in 0..1000 {
        let faults = Faults {
            reset_per_mille: 20,
            send_error_per_mille: 20,
            ..Faults::from_seed(seed)
        };
        let run = run(seed, faults);
        for (received, _) in &run.ended {
            let is_prefix = |caller: &Caller| caller.bytes.starts_with(received);
            assert!(run.callers.iter().any(is_prefix), "seed {seed}");
        }
        for caller in &run.callers {
            assert!(run.greeting.starts_with(&caller.read), "seed {seed}");
        }
        broken += run.ended.iter().filter(|(_, well)| !well).count();
        met.extend(run.met);
    }
    assert!(
        met.contains("a receive error") && met.contains("a send error"),
        "{met:?}"
    );
    assert!(broken > 200, "only {broken} connections met an error");
}

#[test]
fn a_seed_gives_the_same_trace() {
    let hashes: Vec<_> = (0..50)
        .map(|seed| run(seed, Faults::from_seed(seed)).trace_hash)
        .collect();
    for (seed, hash) in (0..).zip(&hashes) {
        let again = run(seed, Faults::from_seed(seed)).trace_hash;
        assert_eq!(again, *hash, "seed {seed}");
    }
    let mut distinct = hashes;
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 50);
}
