//! Sending and shutting down.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use shardcast_shard::driver::{Completion, ConnectionKey, Driver, Shutdown};
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

/// Room for what waits in the buffers of both ends, with nobody reading.
fn fill(harness: &mut Harness, key: ConnectionKey) -> usize {
    let mut taken = 0;
    let chunk = 50_000;
    for _ in 0..1000 {
        harness.driver.send_now(key, Bytes::from(vec![7; chunk]));
        let mut completions = Vec::new();
        harness.driver.poll(&mut completions).unwrap();
        match completions.pop() {
            None => taken += chunk,
            Some(Completion::Unsent { rest, error, .. }) => {
                assert_eq!(error, None);
                return taken + chunk - rest.len();
            }
            Some(other) => panic!("{other:?}"),
        }
    }
    panic!("the buffers are never full");
}

#[test]
fn what_leaves_at_once_is_not_reported_and_its_payload_is_let_go() {
    let Some(mut harness) = accepting() else {
        return;
    };
    let (mut client, key) = harness.connect();
    for round in 1..=100 {
        let payload = Bytes::from(pattern(round * 10));
        harness.driver.send_now(key, payload.clone());
        assert!(harness.driver.is_behind() && !payload.is_unique());
        let mut completions = Vec::new();
        harness.driver.poll(&mut completions).unwrap();
        assert_eq!(completions, []);
        assert!(!harness.driver.is_behind() && payload.is_unique());
        let mut bytes = vec![0; round * 10];
        client.read_exact(&mut bytes).unwrap();
        assert!(bytes == payload);
    }
    harness.settle();
    assert_eq!(harness.reported, []);
    assert_eq!(harness.driver.counters().stale, 0);
}

#[test]
fn what_does_not_leave_at_once_is_given_back_and_nothing_is_lost_or_doubled() {
    let Some(mut harness) = Harness::new(&small_send_buffers()) else {
        return;
    };
    harness.driver.accept_start();
    let (mut client, key) = harness.connect();
    // Far more than the kernel takes, so that a part is left.
    let all = pattern(4 << 20);
    let payload = Bytes::from(all.clone());
    harness.driver.send_now(key, payload.clone());
    let rest = harness.until("the rest", |completion| match completion {
        Completion::Unsent { rest, error, .. } => {
            assert_eq!(*error, None);
            Some(rest.clone())
        }
        _ => None,
    });
    assert!((1..all.len()).contains(&rest.len()), "{}", rest.len());
    // No room at all: not a byte leaves.
    harness.driver.send_now(key, rest.clone());
    let again = harness.until("all of it", |completion| match completion {
        Completion::Unsent { rest, .. } => Some(rest.clone()),
        _ => None,
    });
    assert!(again.len() <= rest.len() && all.ends_with(&again));
    let reader = thread::spawn(move || {
        let mut bytes = vec![0; 4 << 20];
        client.read_exact(&mut bytes).unwrap();
        bytes
    });
    let mut rest = again;
    while !rest.is_empty() {
        harness.driver.send(key, rest.clone());
        let sent = harness.sent(key).unwrap();
        rest = rest.slice(sent..);
    }
    assert!(reader.join().unwrap() == all);
}

#[test]
fn a_peer_that_has_gone_is_an_error_also_of_what_should_leave_at_once() {
    let Some(mut harness) = Harness::new(&small_send_buffers()) else {
        return;
    };
    harness.driver.accept_start();
    let (client, key) = harness.connect();
    assert!(fill(&mut harness, key) > 1000);
    // With unread bytes: a reset.
    drop(client);
    // It is known as soon as the reset has come, which is at once on loopback.
    harness.settle();
    harness.driver.send_now(key, Bytes::from_static(b"x"));
    let error = harness.until("an error", |completion| match completion {
        Completion::Unsent { error, rest, .. } => {
            assert_eq!(rest, "x");
            *error
        }
        _ => None,
    });
    assert!([libc::ECONNRESET, libc::EPIPE].contains(&error), "{error}");
    harness.close(key);
}

#[test]
fn more_at_once_than_the_queue_holds_leaves_in_order_of_connections() {
    let Some(mut harness) = accepting() else {
        return;
    };
    // Twice the submission queue: it is submitted in the middle of a pass.
    let mut clients: Vec<_> = (0..128).map(|_| harness.connect()).collect();
    for round in 0..20_u8 {
        for (_, key) in &clients {
            harness.driver.send_now(*key, Bytes::from(vec![round; 10]));
        }
        let mut completions = Vec::new();
        harness.driver.poll(&mut completions).unwrap();
        assert_eq!(completions, []);
        assert!(!harness.driver.is_behind());
    }
    for (client, _) in &mut clients {
        let mut bytes = vec![0; 200];
        client.read_exact(&mut bytes).unwrap();
        assert!(bytes.is_sorted() && bytes[199] == 19);
    }
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
