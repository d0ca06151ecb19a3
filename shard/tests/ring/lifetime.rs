//! Making a driver and dropping it.

use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use shardcast_shard::driver::Driver;
use shardcast_shard::error::FatalError;
use shardcast_shard::ring::{Capabilities, Peers, RingDriver, RingOptions, listen, table_size_max};

use crate::harness::{Harness, Setup, is_supported, small_limits};

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
            accept_with_addresses: false,
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
        accept_with_addresses: false,
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
            ..Setup::default()
        }) else {
            return;
        };
        harness.driver.accept_start();
        let (mut idle, key) = harness.connect();
        harness.driver.receive_start(key);
        let (mut stuck, key) = harness.connect();
        let payload = Bytes::from(vec![1; 64 << 20]);
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
            accept_with_addresses: false,
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
