//! Sending and shutting down.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use shardcast_shard::driver::{ConnectionKey, Driver, Shutdown};
use shardcast_shard::limits::Limits;

use crate::harness::{Harness, STUCK, Setup, client, pattern, small_limits, small_send_buffers};

fn accepting() -> Option<Harness> {
    let mut harness = Harness::new(&Setup::default())?;
    harness.driver.accept_start();
    Some(harness)
}

#[test]
fn a_megabyte_reaches_a_slow_reader_whole() {
    let Some(mut harness) = accepting() else {
        return;
    };
    let (mut client, key) = harness.connect();
    let expected = pattern(1 << 20);
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut chunk = [0; 16 << 10];
        while bytes.len() < 1 << 20 {
            let length = client.read(&mut chunk).unwrap();
            assert_ne!(length, 0);
            bytes.extend_from_slice(&chunk[..length]);
            thread::sleep(Duration::from_micros(200));
        }
        bytes
    });
    let mut rest = Bytes::from(expected.clone());
    while !rest.is_empty() {
        harness.driver.send(key, rest.clone());
        assert_eq!(harness.sent(key), Ok(256 << 10), "a send is bounded");
        rest = rest.slice(256 << 10..);
    }
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn a_payload_is_let_go_with_its_completion() {
    let Some(mut harness) = accepting() else {
        return;
    };
    let payload = Bytes::from(pattern(1000));
    let (_client, key) = harness.connect();
    harness.driver.send(key, payload.clone());
    assert!(!payload.is_unique());
    assert_eq!(harness.sent(key), Ok(1000));
    assert!(payload.is_unique());
}

#[test]
fn shutting_down_frees_a_stuck_send() {
    let Some(mut harness) = Harness::new(&small_send_buffers()) else {
        return;
    };
    harness.driver.accept_start();
    let (_client, key) = harness.connect();
    harness.driver.receive_start(key);
    harness.driver.send(key, Bytes::from(vec![0; STUCK]));
    harness.settle();
    assert_eq!(harness.reported, [], "nobody reads, so the send is stuck");
    harness.driver.shutdown(key, Shutdown::Both);
    harness.shut_down(key);
    // The kernel reports what had left if anything had, and the error otherwise.
    match harness.sent(key) {
        Ok(sent) => assert!(sent < STUCK),
        Err(error) => assert_eq!(error, libc::EPIPE),
    }
    harness.receive_ended(key);
    harness.close(key);
    harness.settle();
    assert_eq!(harness.reported, []);
}

#[test]
fn shutting_down_one_direction_leaves_the_other_open() {
    let Some(mut harness) = accepting() else {
        return;
    };
    let (mut client, key) = harness.connect();
    harness.driver.receive_start(key);
    harness.driver.shutdown(key, Shutdown::Write);
    harness.shut_down(key);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    client.write_all(b"still heard").unwrap();
    assert_eq!(harness.read(key, 11), b"still heard");
    harness.driver.send(key, Bytes::from_static(b"too late"));
    assert_eq!(harness.sent(key), Err(libc::EPIPE));
}

#[test]
fn a_slot_without_a_connection_answers_too() {
    let Some(mut harness) = accepting() else {
        return;
    };
    let key = ConnectionKey::new(9, 4);
    harness.driver.send(key, Bytes::from_static(b"nobody"));
    assert_eq!(harness.sent(key), Err(libc::EBADF));
    harness.driver.shutdown(key, Shutdown::Both);
    harness.shut_down(key);
    harness.close(key);
}

#[test]
fn more_operations_than_the_queue_holds_are_all_carried_out() {
    const CLIENTS: usize = 100;
    let setup = Setup {
        limits: Limits {
            submissions_max: 16,
            receive_buffers_max: 128,
            ..small_limits()
        },
        ..Setup::default()
    };
    let Some(mut harness) = Harness::new(&setup) else {
        return;
    };
    harness.driver.accept_start();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| client(harness.address)).collect();
    let keys: Vec<_> = clients.iter().map(|_| harness.accepted()).collect();
    for key in &keys {
        harness.driver.receive_start(*key);
        harness.driver.send(*key, vec![7; 10].into());
    }
    for key in &keys {
        assert_eq!(harness.sent(*key), Ok(10));
    }
    for client in &mut clients {
        let mut bytes = [0; 10];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [7; 10]);
        client.write_all(b"ok").unwrap();
    }
    for key in &keys {
        assert_eq!(harness.read(*key, 2), b"ok");
    }
}
