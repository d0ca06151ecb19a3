//! Connecting: what is asked for, what is refused, and many at once.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shardcast_shard::driver::{Completion, ConnectionKey, Driver, ReceiveEnd};
use shardcast_shard::limits::Limits;
use shardcast_shard::ring::{ConnectOptions, bound_address, listen};

use crate::harness::{Harness, PATIENCE, Setup, small_limits};

const KEY: ConnectionKey = ConnectionKey::new(3, 1);

/// A listener of the standard library, and a driver that will connect to it.
fn pair() -> Option<(TcpListener, Harness)> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    Some((listener, Harness::connecting(target, &Setup::default())?))
}

fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let (stream, peer) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    (stream, peer)
}

#[test]
fn a_connection_carries_bytes_both_ways() {
    let Some((listener, mut harness)) = pair() else {
        return;
    };
    let options = ConnectOptions::new(harness.address);
    harness.driver.connect(KEY, &options).unwrap();
    assert_eq!(harness.connected(KEY), Ok(()));
    let (mut peer, _) = accept(&listener);

    harness.driver.receive_start(KEY);
    harness.driver.send(KEY, Bytes::from_static(b"hello"));
    assert_eq!(harness.sent(KEY), Ok(5));
    let mut bytes = [0; 5];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    peer.write_all(b"world").unwrap();
    assert_eq!(harness.read(KEY, 5), b"world");
    drop(peer);
    assert_eq!(harness.receive_ended(KEY), ReceiveEnd::EndOfStream);
    harness.close(KEY);
    assert_eq!(harness.reported, []);
    assert_eq!(harness.driver.counters().stale, 0);
}

#[test]
fn source_addresses_are_those_asked_for() {
    let Some((listener, mut harness)) = pair() else {
        return;
    };
    for number in 2..=9 {
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, number));
        let key = ConnectionKey::new(u32::from(number), 1);
        let options = ConnectOptions {
            source: Some(source),
            ..ConnectOptions::new(harness.address)
        };
        harness.driver.connect(key, &options).unwrap();
        assert_eq!(harness.connected(key), Ok(()));
        assert_eq!(accept(&listener).1.ip(), source);
    }
}

#[test]
fn a_refused_connect_leaves_the_slot_to_close_and_to_use_again() {
    let Some((listener, mut harness)) = pair() else {
        return;
    };
    drop(listener);
    let options = ConnectOptions::new(harness.address);
    harness.driver.connect(KEY, &options).unwrap();
    assert_eq!(harness.connected(KEY), Err(libc::ECONNREFUSED));
    harness.close(KEY);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = ConnectOptions::new(listener.local_addr().unwrap());
    harness.driver.connect(KEY.next(), &options).unwrap();
    assert_eq!(harness.connected(KEY.next()), Ok(()));
    harness
        .driver
        .send(KEY.next(), Bytes::from_static(b"again"));
    assert_eq!(harness.sent(KEY.next()), Ok(5));
    let mut bytes = [0; 5];
    accept(&listener).0.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"again");
}

/// Connects to a listener that has no room: its backlog is full, so the kernel lets further connects wait for minutes.
/// The key of the first of them, and the listener.
fn waiting(harness: &mut Harness) -> (ConnectionKey, OwnedFd) {
    let limits = Limits {
        backlog_max: 1,
        ..small_limits()
    };
    let listener = listen("127.0.0.1:0".parse().unwrap(), &limits).unwrap();
    let options = ConnectOptions::new(bound_address(&listener).unwrap());
    for slot in 0..8 {
        let key = ConnectionKey::new(slot, 1);
        harness.driver.connect(key, &options).unwrap();
        harness.settle();
        let answered = harness.reported.iter().any(
            |completion| matches!(completion, Completion::Connected { key: of, .. } if *of == key),
        );
        if !answered {
            return (key, listener);
        }
        assert_eq!(harness.connected(key), Ok(()));
    }
    panic!("a backlog of one took everything");
}

#[test]
fn a_connect_in_flight_can_be_stopped() {
    let Some((_, mut harness)) = pair() else {
        return;
    };
    let (key, _listener) = waiting(&mut harness);
    harness.driver.connect_stop(key);
    assert_eq!(harness.connected(key), Err(libc::ECANCELED));
    harness.close(key);
    // Both connects that have ended and slots without any: nothing to stop, nothing to say.
    harness.driver.connect_stop(ConnectionKey::new(0, 1));
    harness.driver.connect_stop(key);
    harness.settle();
    assert_eq!(harness.reported, []);
    assert_eq!(harness.driver.counters().stale, 0);
}

#[test]
fn a_stop_right_after_a_connect_is_answered_once() {
    let Some((listener, mut harness)) = pair() else {
        return;
    };
    let options = ConnectOptions::new(harness.address);
    let mut key = KEY;
    for _ in 0..20 {
        harness.driver.connect(key, &options).unwrap();
        harness.driver.connect_stop(key);
        assert!(matches!(
            harness.connected(key),
            Ok(()) | Err(libc::ECANCELED)
        ));
        harness.close(key);
        key = key.next();
    }
    drop(listener);
    harness.settle();
    assert_eq!(harness.reported, []);
}

#[test]
fn a_driver_can_be_dropped_while_it_connects() {
    let Some((_, mut harness)) = pair() else {
        return;
    };
    let (_, _listener) = waiting(&mut harness);
    let started = Instant::now();
    drop(harness.driver);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_close_resets_only_where_that_was_asked_for() {
    let Some((listener, mut harness)) = pair() else {
        return;
    };
    let mut key = KEY;
    for reset_on_close in [false, true] {
        let options = ConnectOptions {
            reset_on_close,
            ..ConnectOptions::new(harness.address)
        };
        harness.driver.connect(key, &options).unwrap();
        assert_eq!(harness.connected(key), Ok(()));
        let (mut peer, _) = accept(&listener);
        harness.close(key);
        match peer.read(&mut [0; 1]) {
            Ok(0) => assert!(!reset_on_close),
            Err(error) => {
                assert!(reset_on_close, "{error}");
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            }
            Ok(_) => panic!("bytes that nobody sent"),
        }
        key = key.next();
    }
}

#[test]
fn a_ring_with_a_listener_does_not_connect() {
    let Some(mut harness) = Harness::new(&Setup::default()) else {
        return;
    };
    let options = ConnectOptions::new(harness.address);
    let error = harness.driver.connect(KEY, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    harness.driver.accept_start();
    harness.connect();
}

#[test]
fn a_ring_without_a_listener_does_not_accept() {
    for with_addresses in [false, true] {
        let setup = Setup {
            with_addresses,
            ..Setup::default()
        };
        let target = "127.0.0.1:9".parse().unwrap();
        let Some(mut harness) = Harness::connecting(target, &setup) else {
            return;
        };
        for _ in 0..2 {
            harness.driver.accept_start();
            assert_eq!(harness.accept_ended(), Some(libc::EBADF));
        }
        harness.settle();
        assert_eq!(harness.reported, []);
    }
}

#[test]
fn what_cannot_be_tried_is_an_error_at_once() {
    let Some((listener, mut harness)) = pair() else {
        return;
    };
    let target = harness.address;
    let from = |source: &str| ConnectOptions {
        source: Some(source.parse().unwrap()),
        ..ConnectOptions::new(target)
    };
    let beyond = ConnectionKey::new(Setup::default().table_size, 1);
    let cases = [
        (beyond, ConnectOptions::new(target), ErrorKind::InvalidInput),
        (KEY, from("::1"), ErrorKind::InvalidInput),
        // An address for documentation (RFC 5737), which no machine has.
        (KEY, from("192.0.2.1"), ErrorKind::AddrNotAvailable),
    ];
    for (key, options, expected) in cases {
        let error = harness.driver.connect(key, &options).unwrap_err();
        assert_eq!(error.kind(), expected, "{options:?}: {error}");
    }
    harness.settle();
    assert_eq!(harness.reported, []);
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    // The slot was never taken.
    let options = ConnectOptions::new(target);
    harness.driver.connect(KEY, &options).unwrap();
    assert_eq!(harness.connected(KEY), Ok(()));
}

/// The accepting side of many connections: takes each, and closes it when its peer is gone.
struct Server {
    harness: Harness,
    /// How often each slot was used.
    generations: Vec<u32>,
    accepted: usize,
    reset: usize,
    closed: usize,
}

impl Server {
    fn pass(&mut self) {
        self.harness.pass(Duration::ZERO);
        while let Some(completion) = self.harness.reported.pop_front() {
            match completion {
                Completion::Accepted { slot, .. } => {
                    self.accepted += 1;
                    let generation = &mut self.generations[slot as usize];
                    *generation += 1;
                    let key = ConnectionKey::new(slot, *generation);
                    self.harness.driver.receive_start(key);
                }
                Completion::ReceiveEnded { key, end } => {
                    assert_eq!(end, ReceiveEnd::Failed(libc::ECONNRESET));
                    self.reset += 1;
                    self.harness.driver.close(key);
                }
                Completion::Closed { .. } => self.closed += 1,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn five_thousand_connections_come_and_go_on_the_same_slots() {
    const COUNT: usize = 5000;
    const BATCH: usize = 250;
    let setup = Setup {
        table_size: COUNT as u32,
        ..Setup::default()
    };
    let Some(harness) = Harness::new(&setup) else {
        return;
    };
    let mut server = Server {
        harness,
        generations: vec![0; COUNT],
        accepted: 0,
        reset: 0,
        closed: 0,
    };
    server.harness.driver.accept_start();
    let mut clients = Harness::connecting(server.harness.address, &setup).unwrap();
    let options = ConnectOptions {
        source: Some(Ipv4Addr::new(127, 0, 0, 77).into()),
        reset_on_close: true,
        ..ConnectOptions::new(clients.address)
    };
    for round in 1..=3 {
        let keys: Vec<_> = (0..COUNT as u32)
            .map(|slot| ConnectionKey::new(slot, round))
            .collect();
        let end = Instant::now() + PATIENCE;
        for batch in keys.chunks(BATCH) {
            for key in batch {
                clients.driver.connect(*key, &options).unwrap();
            }
            let mut connected = 0;
            while connected < batch.len() {
                assert!(Instant::now() < end, "{connected} of {BATCH}");
                server.pass();
                clients.pass(Duration::ZERO);
                for completion in clients.reported.drain(..) {
                    match completion {
                        Completion::Connected { key, result } => {
                            assert_eq!(result, Ok(()));
                            assert!(batch.contains(&key));
                            connected += 1;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        let total = COUNT * round as usize;
        while server.accepted < total {
            assert!(Instant::now() < end, "{} accepted", server.accepted);
            server.pass();
        }
        for key in &keys {
            clients.driver.close(*key);
        }
        let mut closed = 0;
        while closed < COUNT || server.closed < total {
            assert!(Instant::now() < end, "{closed}, {} closed", server.closed);
            server.pass();
            clients.pass(Duration::ZERO);
            for completion in clients.reported.drain(..) {
                assert!(
                    matches!(completion, Completion::Closed { key } if key.generation == round)
                );
                closed += 1;
            }
        }
    }
    assert_eq!(server.reset, 3 * COUNT);
    assert_eq!(clients.driver.counters().stale, 0);
    assert_eq!(server.harness.driver.counters().stale, 0);
}
