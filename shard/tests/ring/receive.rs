//! Receiving: ends, stops, exhausted buffers and full queues, and never a byte lost.

use std::io::Write;
use std::net::{Shutdown as Direction, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use shardcast_shard::driver::{Completion, ConnectionKey, Driver, ReceiveEnd};
use shardcast_shard::limits::Limits;
use shardcast_shard::ring::RingDriver;

use crate::harness::{Harness, PATIENCE, Setup, client, pattern, small_limits};

fn connected(setup: &Setup) -> Option<(Harness, TcpStream, ConnectionKey)> {
    let mut harness = Harness::new(setup)?;
    harness.driver.accept_start();
    let (client, key) = harness.connect();
    Some((harness, client, key))
}

#[test]
fn one_start_receives_again_and_again_until_the_peer_ends() {
    let Some((mut harness, mut client, key)) = connected(&Setup::default()) else {
        return;
    };
    harness.driver.receive_start(key);
    for text in ["first", "second", "third"] {
        client.write_all(text.as_bytes()).unwrap();
        assert_eq!(harness.read(key, text.len()), text.as_bytes());
    }
    client.shutdown(Direction::Write).unwrap();
    assert_eq!(harness.receive_ended(key), ReceiveEnd::EndOfStream);
    harness.settle();
    assert_eq!(harness.reported, []);
    assert_eq!(harness.driver.counters().stale, 0);
}

#[test]
fn a_quiet_receive_takes_one_buffer_and_ends() {
    let Some((mut harness, mut client, key)) = connected(&Setup::default()) else {
        return;
    };
    harness.driver.receive_quietly(key);
    harness.settle();
    assert_eq!(harness.reported, [], "nothing has come");
    for text in ["first", "second"] {
        client.write_all(text.as_bytes()).unwrap();
        assert_eq!(harness.read(key, text.len()), text.as_bytes());
        assert_eq!(harness.receive_ended(key), ReceiveEnd::Stopped);
        harness.driver.receive_quietly(key);
    }
    client.shutdown(Direction::Write).unwrap();
    assert_eq!(harness.receive_ended(key), ReceiveEnd::EndOfStream);
    harness.close(key);
    harness.settle();
    assert_eq!(harness.reported, []);
    assert_eq!(harness.driver.counters().stale, 0);
}

#[test]
fn a_quiet_receive_loses_nothing_of_a_long_stream() {
    let Some((mut harness, mut client, key)) = connected(&Setup::default()) else {
        return;
    };
    let expected = pattern(1 << 20);
    let bytes = expected.clone();
    let writer = thread::spawn(move || client.write_all(&bytes).map(|()| client));
    let mut read = Vec::new();
    while read.len() < expected.len() {
        harness.driver.receive_quietly(key);
        let (buffer, length) = harness.received(key);
        harness.take(buffer, length, &mut read);
        assert_eq!(harness.receive_ended(key), ReceiveEnd::Stopped);
    }
    assert!(read == expected);
    drop(writer.join().unwrap());
}

#[test]
fn a_quiet_receive_ends_when_it_is_asked_to() {
    let Some((mut harness, mut client, key)) = connected(&Setup::default()) else {
        return;
    };
    for _ in 0..10 {
        harness.driver.receive_quietly(key);
        harness.settle();
        harness.driver.receive_stop(key);
        assert_eq!(harness.receive_ended(key), ReceiveEnd::Stopped);
    }
    // What arrives in between is not lost, whichever is first.
    for round in 0..50_u8 {
        harness.driver.receive_quietly(key);
        harness.pass(Duration::ZERO);
        client.write_all(&[round]).unwrap();
        harness.driver.receive_stop(key);
        assert_eq!(harness.receive_ended(key), ReceiveEnd::Stopped);
        let is_byte = |completion: &Completion| matches!(completion, Completion::Received { .. });
        let was_late = !harness.reported.iter().any(is_byte);
        if was_late {
            harness.driver.receive_quietly(key);
        }
        assert_eq!(harness.read(key, 1), [round]);
        if was_late {
            assert_eq!(harness.receive_ended(key), ReceiveEnd::Stopped);
        }
        assert_eq!(harness.reported, []);
    }
}

#[test]
fn bytes_that_came_before_the_start_are_received() {
    let Some((mut harness, mut client, key)) = connected(&Setup::default()) else {
        return;
    };
    client.write_all(b"early").unwrap();
    client.shutdown(Direction::Write).unwrap();
    harness.settle();
    harness.driver.receive_start(key);
    assert_eq!(harness.read(key, 5), b"early");
    assert_eq!(harness.receive_ended(key), ReceiveEnd::EndOfStream);
}

#[test]
fn a_reset_is_an_error() {
    for start in [RingDriver::receive_start, RingDriver::receive_quietly] {
        let Some((mut harness, client, key)) = connected(&Setup::default()) else {
            return;
        };
        start(&mut harness.driver, key);
        harness.driver.send(key, b"never read"[..].into());
        assert_eq!(harness.sent(key), Ok(10));
        // Closed with bytes unread, a socket resets its connection.
        drop(client);
        assert_eq!(
            harness.receive_ended(key),
            ReceiveEnd::Failed(libc::ECONNRESET)
        );
        harness.close(key);
    }
}

/// What waits of a connection that floods is what one receive has taken: 64 KiB, and what the last buffer held beyond it. Kernels before 6.17 take as
/// much as there are buffers for.
#[test]
fn one_start_takes_no_more_than_so_many_bytes() {
    const BYTES_MAX: usize = 64 << 10;
    const BUFFER_BYTES: usize = 4096;
    let setup = Setup {
        limits: Limits {
            receive_buffers_max: 64,
            receive_buffer_bytes: BUFFER_BYTES as u64,
            ..Limits::default()
        },
        ..Setup::default()
    };
    let Some((mut harness, mut client, key)) = connected(&setup) else {
        return;
    };
    if !harness.driver.receives_bounded() {
        println!("skipped: this kernel does not bound a receive");
        return;
    }
    let writer = thread::spawn(move || {
        client.write_all(&pattern(4 * BYTES_MAX)).unwrap();
        client
    });
    let mut bytes = Vec::new();
    let mut ends = 0;
    while bytes.len() < 4 * BYTES_MAX {
        let before = bytes.len();
        harness.driver.receive_start(key);
        let mut has_ended = false;
        while !has_ended && bytes.len() < 4 * BYTES_MAX {
            harness.pass(Duration::from_millis(5));
            while let Some(completion) = harness.reported.pop_front() {
                match completion {
                    Completion::Received { buffer, length, .. } => {
                        harness.take(buffer, length, &mut bytes);
                    }
                    Completion::ReceiveEnded { end, .. } => {
                        assert_eq!(end, ReceiveEnd::Stopped);
                        has_ended = true;
                        ends += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(bytes.len() - before < BYTES_MAX + BUFFER_BYTES);
    }
    assert!(ends >= 3, "{ends}");
    assert_eq!(bytes, pattern(4 * BYTES_MAX));
    drop(writer.join().unwrap());
}

#[test]
fn a_buffer_may_be_written_to_while_it_is_lent() {
    let Some((mut harness, mut client, key)) = connected(&Setup::default()) else {
        return;
    };
    harness.driver.receive_start(key);
    client.write_all(b"masked").unwrap();
    let (buffer, length) = harness.received(key);
    let bytes = harness.driver.buffer(buffer, length);
    bytes.iter_mut().for_each(|byte| *byte ^= 0x20);
    assert_eq!(bytes, b"MASKED");
    harness.driver.buffer_release(buffer);
}

#[test]
fn stopping_and_starting_loses_nothing_and_ends_once_each() {
    let Some((mut harness, mut client, key)) = connected(&Setup::default()) else {
        return;
    };
    let expected = pattern(1 << 20);
    let writer = thread::spawn({
        let expected = expected.clone();
        move || {
            for chunk in expected.chunks(3_001) {
                client.write_all(chunk).unwrap();
            }
            client
        }
    });
    let (mut starts, mut ends) = (0, 0);
    let mut bytes = Vec::new();
    let end = Instant::now() + PATIENCE;
    let mut running = false;
    let mut stopped = false;
    while bytes.len() < expected.len() {
        assert!(Instant::now() < end, "{} bytes came", bytes.len());
        if !running {
            harness.driver.receive_start(key);
            (running, stopped) = (true, false);
            starts += 1;
        }
        harness.pass(Duration::from_millis(5));
        while let Some(completion) = harness.reported.pop_front() {
            match completion {
                Completion::Received { buffer, length, .. } => {
                    harness.take(buffer, length, &mut bytes);
                    if !stopped {
                        harness.driver.receive_stop(key);
                        stopped = true;
                    }
                }
                Completion::ReceiveEnded { end, .. } => {
                    assert!(matches!(end, ReceiveEnd::Stopped | ReceiveEnd::NoBuffers));
                    ends += 1;
                    running = false;
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    assert!(bytes == expected, "the stream arrived whole and in order");
    let _client = writer.join().unwrap();
    if running {
        harness.driver.receive_stop(key);
        assert_eq!(harness.receive_ended(key), ReceiveEnd::Stopped);
        ends += 1;
    }
    harness.settle();
    assert_eq!(harness.reported, []);
    assert_eq!(starts, ends);
    assert!(starts > 3, "it was stopped {starts} times");
}

#[test]
fn a_stop_that_comes_too_late_changes_nothing() {
    let Some((mut harness, client, key)) = connected(&Setup::default()) else {
        return;
    };
    harness.driver.receive_start(key);
    harness.settle();
    client.shutdown(Direction::Write).unwrap();
    thread::sleep(Duration::from_millis(20));
    // The end is on its way and has not been reported yet.
    harness.driver.receive_stop(key);
    assert!(matches!(
        harness.receive_ended(key),
        ReceiveEnd::EndOfStream | ReceiveEnd::Stopped
    ));
    harness.settle();
    assert_eq!(harness.reported, []);
    assert_eq!(harness.driver.counters().stale, 0);
}

#[test]
fn exhausted_buffers_end_receiving_and_it_recovers_without_loss() {
    let setup = Setup {
        limits: Limits {
            receive_buffers_max: 8,
            receive_buffer_bytes: 512,
            ..small_limits()
        },
        ..Setup::default()
    };
    let Some((mut harness, mut client, key)) = connected(&setup) else {
        return;
    };
    let expected = pattern(64 << 10);
    client.write_all(&expected).unwrap();
    let mut bytes = Vec::new();
    let mut exhausted = 0;
    while bytes.len() < expected.len() {
        harness.driver.receive_start(key);
        let end = harness.receive_ended_or_whole(key, expected.len() - bytes.len());
        // All are held until here, so the kernel ran out.
        while let Some(completion) = harness.reported.pop_front() {
            let Completion::Received { buffer, length, .. } = completion else {
                panic!("unexpected {completion:?}");
            };
            harness.take(buffer, length, &mut bytes);
        }
        match end {
            Some(ReceiveEnd::NoBuffers) => exhausted += 1,
            Some(end) => panic!("unexpected {end:?}"),
            None => break,
        }
    }
    assert!(bytes == expected, "the stream arrived whole and in order");
    assert!(exhausted >= 15, "64 KiB through 4 KiB: {exhausted} times");
    assert_eq!(harness.driver.counters().no_buffers, exhausted);
}

impl Harness {
    /// Holds every buffer until receiving ends, or until `count` bytes are there.
    fn receive_ended_or_whole(&mut self, key: ConnectionKey, count: usize) -> Option<ReceiveEnd> {
        let end = Instant::now() + PATIENCE;
        loop {
            let ended = self.reported.iter().position(
                |completion| matches!(completion, Completion::ReceiveEnded { key: of, .. } if *of == key),
            );
            if let Some(index) = ended {
                let Some(Completion::ReceiveEnded { end, .. }) = self.reported.remove(index) else {
                    unreachable!("that is what was found");
                };
                return Some(end);
            }
            let held: usize = self
                .reported
                .iter()
                .map(|completion| match completion {
                    Completion::Received { length, .. } => *length,
                    _ => 0,
                })
                .sum();
            if held >= count {
                return None;
            }
            assert!(Instant::now() < end, "{held} of {count} bytes came");
            self.pass(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_silent_connection_is_not_ended_by_exhausted_buffers() {
    let setup = Setup {
        limits: Limits {
            receive_buffers_max: 8,
            receive_buffer_bytes: 512,
            ..small_limits()
        },
        ..Setup::default()
    };
    let Some((mut harness, mut talker, talking)) = connected(&setup) else {
        return;
    };
    let (mut silent, quiet) = harness.connect();
    harness.driver.receive_start(talking);
    talker.write_all(&pattern(16 << 10)).unwrap();
    assert_eq!(harness.receive_ended(talking), ReceiveEnd::NoBuffers);
    harness.driver.receive_start(quiet);
    harness.settle();
    let held: Vec<_> = harness.reported.drain(..).collect();
    assert_eq!(held.len(), 8, "no more than the buffers: {held:?}");
    for completion in held {
        let Completion::Received { key, buffer, .. } = completion else {
            panic!("unexpected {completion:?}");
        };
        assert_eq!(key, talking);
        harness.driver.buffer_release(buffer);
    }
    silent.write_all(b"at last").unwrap();
    assert_eq!(harness.read(quiet, 7), b"at last");
}

#[test]
fn a_full_completion_queue_loses_nothing() {
    const CLIENTS: usize = 150;
    const ROUNDS: usize = 20;
    let setup = Setup {
        limits: Limits {
            submissions_max: 16,
            completions_max: 64,
            receive_buffers_max: 1024,
            receive_buffer_bytes: 512,
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
    keys.iter()
        .for_each(|key| harness.driver.receive_start(*key));
    harness.settle();
    let mut counts = vec![0; 256];
    for round in 0..ROUNDS {
        for client in &mut clients {
            client.write_all(&[round as u8; 100]).unwrap();
        }
        let end = Instant::now() + PATIENCE;
        while keys
            .iter()
            .any(|key| counts[key.slot as usize] < (round + 1) * 100)
        {
            assert!(Instant::now() < end, "{:?}", harness.driver.counters());
            harness.pass(Duration::from_millis(5));
            while let Some(completion) = harness.reported.pop_front() {
                match completion {
                    Completion::Received {
                        key,
                        buffer,
                        length,
                    } => {
                        let bytes = harness.driver.buffer(buffer, length);
                        assert!(bytes.iter().all(|byte| *byte == round as u8));
                        harness.driver.buffer_release(buffer);
                        counts[key.slot as usize] += length;
                    }
                    Completion::ReceiveEnded { key, end } => {
                        assert!(matches!(end, ReceiveEnd::Stopped | ReceiveEnd::NoBuffers));
                        harness.driver.receive_start(key);
                    }
                    other => panic!("unexpected {other:?}"),
                }
            }
        }
    }
    assert!(
        keys.iter()
            .all(|key| counts[key.slot as usize] == ROUNDS * 100)
    );
    let counters = harness.driver.counters();
    assert_eq!(counters.stale, 0);
    println!("{counters:?}");
}
