//! Making a driver and dropping it.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use shardcast_shard::driver::Driver;
use shardcast_shard::error::FatalError;
use shardcast_shard::limits::Limits;
use shardcast_shard::ring::{Capabilities, Peers, RingDriver, RingOptions, listen, table_size_max};

use crate::harness::{
    Harness, STUCK, Setup, client_with_tiny_window, is_supported, small_limits, small_send_buffers,
};

#[test]
fn the_probe_knows_this_kernel() {
    match Capabilities::probe() {
        Ok(capabilities) => {
            println!("{capabilities}");
            assert!(!capabilities.kernel.is_empty());
            assert_eq!(capabilities.table_size_max, table_size_max());
        }
        Err(FatalError::RingSetup { remedy, .. }) => assert!(!remedy.is_empty()),
        Err(error) => panic!("unexpected {error}"),
    }
}

#[test]
fn a_table_beyond_the_limit_is_refused_with_a_remedy() {
    if !is_supported() {
        return;
    }
    let limits = small_limits();
    let peers = Arc::new(Peers::new(1).unwrap());
    let listener = Arc::new(listen("127.0.0.1:0".parse().unwrap(), &limits).unwrap());
    for table_size in [table_size_max() + 1, 0, u32::MAX] {
        let options = RingOptions {
            listener: Some(Arc::clone(&listener)),
            table_size,
            shard: 0,
            peers: Arc::clone(&peers),
            accept_one_by_one: false,
            limits: &limits,
        };
        match RingDriver::new(options) {
            Err(FatalError::RingSetup { remedy, .. }) => {
                assert!(remedy.contains(&table_size.to_string()), "{remedy}");
            }
            Err(error) => panic!("unexpected {error}"),
            Ok(_) => panic!("a table of {table_size} was made"),
        }
    }
    assert!(!peers.is_up(0), "a driver that failed leaves no trace");
}

#[test]
fn one_driver_runs_for_a_shard_at_a_time() {
    let Some(harness) = Harness::new(&Setup::default()) else {
        return;
    };
    let limits = small_limits();
    let listener = Arc::new(listen("127.0.0.1:0".parse().unwrap(), &limits).unwrap());
    let options = |shard| RingOptions {
        listener: Some(Arc::clone(&listener)),
        table_size: 4,
        shard,
        peers: Arc::clone(&harness.peers),
        accept_one_by_one: false,
        limits: &limits,
    };
    assert!(RingDriver::new(options(0)).is_err());
    assert!(RingDriver::new(options(7)).is_err(), "no such shard");
    assert!(RingDriver::new(options(1)).is_ok());
    assert!(harness.peers.is_up(0));
    assert!(!harness.peers.is_up(1));
}

#[test]
fn a_dropped_driver_closes_its_sockets_and_lets_its_payloads_go() {
    for with_addresses in [false, true] {
        let Some(mut harness) = Harness::new(&Setup {
            with_addresses,
            ..small_send_buffers()
        }) else {
            return;
        };
        harness.driver.accept_start();
        let (mut idle, key) = harness.connect();
        harness.driver.receive_start(key);
        let (mut stuck, key) = harness.connect();
        let payload = Bytes::from(vec![1; STUCK]);
        harness.driver.receive_start(key);
        harness.driver.send(key, payload.clone());
        let (mut untouched, _) = harness.connect();
        harness.settle();
        assert_eq!(harness.reported, []);

        drop(harness.driver);
        assert!(payload.is_unique());
        assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(untouched.read(&mut [0; 1]).unwrap(), 0);
        let mut bytes = Vec::new();
        // What the kernel had taken still arrives, and then the end; an error if it was reset instead.
        let read = stuck.read_to_end(&mut bytes);
        assert!(read.is_err() || bytes.len() < payload.len());
    }
}

#[test]
fn a_driver_made_again_on_the_same_listener_serves_on() {
    if !is_supported() {
        return;
    }
    let limits = small_limits();
    let peers = Arc::new(Peers::new(1).unwrap());
    let listener = Arc::new(listen("127.0.0.1:0".parse().unwrap(), &limits).unwrap());
    let address = shardcast_shard::ring::bound_address(&listener).unwrap();
    for _ in 0..5 {
        let driver = RingDriver::new(RingOptions {
            listener: Some(Arc::clone(&listener)),
            table_size: 4,
            shard: 0,
            peers: Arc::clone(&peers),
            accept_one_by_one: false,
            limits: &limits,
        })
        .unwrap();
        let mut harness = Harness {
            driver,
            address,
            peers: Arc::clone(&peers),
            reported: [].into(),
        };
        harness.driver.accept_start();
        let (mut client, key) = harness.connect();
        harness.driver.receive_start(key);
        client.write_all(b"hello").unwrap();
        assert_eq!(harness.read(key, 5), b"hello");
    }
}

/// What a payload consists of while it may be sent, and what it is overwritten with when it is let go.
const KEPT: u8 = 0x11;
const LET_GO: u8 = 0xee;

/// Bytes that show whether somebody reads them after they were let go.
struct Telltale(Vec<u8>);

impl AsRef<[u8]> for Telltale {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Telltale {
    fn drop(&mut self) {
        self.0.fill(LET_GO);
        std::hint::black_box(&self.0);
    }
}

/// A driver whose sockets have a tiny send buffer, and accepts.
fn cramped() -> Option<Harness> {
    let setup = Setup {
        limits: Limits {
            socket_send_bytes: 2048,
            ..small_limits()
        },
        ..Setup::default()
    };
    let mut harness = Harness::new(&setup)?;
    harness.driver.accept_start();
    Some(harness)
}

/// Sends to a peer with a tiny window, which reads until a worker thread of the kernel has taken the send over: after 128 attempts
/// (`APOLL_MAX_RETRY` of io_uring/poll.c). Bytes arrive then though the driver is not entered. `None`, with the reason printed, if the send
/// gets done before, or there is no such thread to be had.
fn taken_over(harness: &mut Harness) -> Option<TcpStream> {
    let mut client = client_with_tiny_window(harness.address);
    let key = harness.accepted();
    let payload = Bytes::from_owner(Telltale(vec![KEPT; 256 << 10]));
    harness.driver.send(key, payload);
    client
        .set_read_timeout(Some(Duration::from_millis(5)))
        .unwrap();
    let (mut chunk, mut read) = ([0; 512], 0);
    // Nothing may have come in a round: then the next pass sends. A send that waits for a worker gets nowhere.
    let mut rounds_in_vain = 0;
    while read < 176 << 10 && rounds_in_vain < 150 {
        harness.pass(Duration::from_millis(1));
        let length = client.read(&mut chunk).unwrap_or(0);
        rounds_in_vain = if length == 0 { rounds_in_vain + 1 } else { 0 };
        read += length;
    }
    client
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let taken_over = client.read_exact(&mut [0; 32 << 10]).is_ok();
    if !taken_over {
        println!("no worker of the kernel has taken the send over");
    }
    taken_over.then_some(client)
}

/// Not only the thread of the ring sends: what a driver lets go must be nobody's business any more, also while a worker
/// of the kernel is in the middle of it.
#[test]
fn a_payload_that_a_worker_of_the_kernel_sends_is_kept_until_it_is_done() {
    let Some(mut harness) = cramped() else {
        return;
    };
    let Some(mut client) = taken_over(&mut harness) else {
        return;
    };
    let reader = thread::spawn(move || {
        let mut rest = Vec::new();
        // It ends with a reset where bytes had not been sent yet.
        let _: io::Result<usize> = client.read_to_end(&mut rest);
        rest
    });
    drop(harness.driver);
    let rest = reader.join().unwrap();
    assert!(rest.iter().all(|byte| *byte == KEPT), "sent after let go");
}

#[test]
fn peers_that_hinder_their_connection_do_not_cost_a_thread_each() {
    // BLOCKED_WORKERS_MAX of ring/setup.rs.
    const WORKERS_MAX: usize = 4;
    let Some(mut harness) = cramped() else {
        return;
    };
    let mut clients = Vec::new();
    for _ in 0..WORKERS_MAX {
        let Some(client) = taken_over(&mut harness) else {
            return;
        };
        clients.push(client);
    }
    assert_eq!(kernel_workers(), WORKERS_MAX);
    // Nobody is left to take this one over.
    assert!(taken_over(&mut harness).is_none());
    assert_eq!(kernel_workers(), WORKERS_MAX);
}

/// How many threads of the kernel work for the rings of this thread.
fn kernel_workers() -> usize {
    let this = fs::read_link("/proc/thread-self").unwrap();
    let name = format!("iou-wrk-{}", this.file_name().unwrap().display());
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|comm| comm.trim_end() == name)
        .count()
}
