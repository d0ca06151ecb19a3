//! Each operation on a perfect network, and callers that break the rules.

use bytes::Bytes;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{KEY, connected, poll};
use crate::driver::{Completion, ConnectionKey, Driver, ReceiveEnd, Shutdown};
use crate::sim::{Faults, SimClient, SimDriver, SimNetwork, SimSetup};

#[test]
fn a_full_table_drops_the_connection_and_ends_accepting() {
    let setup = SimSetup {
        slots: 1,
        addresses: true,
        ..SimSetup::default()
    };
    let (network, mut driver, _first) = connected(100, setup);
    let second = network.connect(0);
    let ended = Completion::AcceptEnded {
        error: Some(libc::ENFILE),
    };
    assert_eq!(poll(&mut driver), [ended]);
    assert!(second.is_closed());

    // The slot is used again as soon as it is free.
    let _third = network.connect(0);
    driver.close(KEY);
    driver.accept_start();
    let mut completions = poll(&mut driver);
    if completions.last()
        == Some(&Completion::AcceptEnded {
            error: Some(libc::ENFILE),
        })
    {
        let _fourth = network.connect(0);
        driver.accept_start();
        completions.extend(poll(&mut driver));
    }
    let closed = completions
        .iter()
        .position(|completion| *completion == Completion::Closed { key: KEY });
    let is_accepted =
        |completion: &Completion| matches!(completion, Completion::Accepted { slot: 0, .. });
    assert!(
        closed < completions.iter().position(is_accepted),
        "{completions:?}"
    );
}

#[test]
fn a_send_waits_for_room_and_goes_on_as_the_client_reads() {
    let (network, mut driver, client) = connected(10, SimSetup::default());
    driver.send(KEY, Bytes::from_static(b"0123456789abcdefghijklmno"));
    assert_eq!(poll(&mut driver), []);
    assert!(network.is_quiet());
    assert_eq!(client.read(100), b"0123456789");
    assert!(!network.is_quiet());
    assert_eq!(poll(&mut driver), []);
    assert_eq!(client.read(100), b"abcdefghij");
    let sent = Completion::Sent {
        key: KEY,
        result: Ok(25),
    };
    assert_eq!(poll(&mut driver), [sent]);
    driver.shutdown(KEY, Shutdown::Write);
    assert_eq!(poll(&mut driver), [Completion::ShutDown { key: KEY }]);
    assert!(!client.is_end_of_stream());
    assert_eq!(client.read(100), b"klmno");
    assert!(client.is_end_of_stream());
}

#[test]
fn what_does_not_leave_at_once_is_given_back() {
    let (network, mut driver, client) = connected(10, SimSetup::default());
    driver.send_now(KEY, Bytes::from_static(b"0123"));
    assert_eq!(poll(&mut driver), [], "all has left");
    network.assert_quiescent(1);
    driver.send_now(KEY, Bytes::from_static(b"456789abc"));
    let rest = Bytes::from_static(b"abc");
    let unsent = |rest| Completion::Unsent {
        key: KEY,
        rest,
        error: None,
    };
    assert_eq!(poll(&mut driver), [unsent(rest.clone())]);
    driver.send_now(KEY, rest.clone());
    assert_eq!(poll(&mut driver), [unsent(rest)], "there is no room at all");
    assert_eq!(client.read(100), b"0123456789");
    client.reset();
    driver.send_now(KEY, Bytes::from_static(b"x"));
    let completions = poll(&mut driver);
    assert!(
        matches!(completions[..], [Completion::Unsent { error: Some(_), .. }]),
        "{completions:?}"
    );
}

#[test]
fn what_is_tried_after_a_poll_that_was_cut_short_waits() {
    let (network, mut driver, client) = connected(1000, SimSetup::default());
    network.set_faults(Faults {
        cut_short_per_mille: 1000,
        ..Faults::none()
    });
    let mut behind = 0;
    for round in 0..100_u8 {
        driver.send_now(KEY, Bytes::from(vec![round; 3]));
        while {
            assert_eq!(poll(&mut driver), []);
            driver.is_behind()
        } {
            behind += 1;
        }
        assert_eq!(client.read(100), [round; 3]);
    }
    assert!(behind > 10, "{behind}");
}

#[test]
fn shutdown_completes_what_is_in_flight() {
    for partly in [false, true] {
        let (network, mut driver, client) = connected(10, SimSetup::default());
        if !partly {
            driver.send(KEY, Bytes::from_static(b"0123456789"));
            poll(&mut driver);
        }
        driver.receive_start(KEY);
        driver.send(KEY, Bytes::from_static(b"0123456789abc"));
        assert_eq!(poll(&mut driver), []);
        driver.shutdown(KEY, Shutdown::Both);
        let completions = poll(&mut driver);
        let result = match partly {
            true => Ok(10),
            false => Err(libc::EPIPE),
        };
        let expected = [
            Completion::Sent { key: KEY, result },
            Completion::ReceiveEnded {
                key: KEY,
                end: ReceiveEnd::EndOfStream,
            },
            Completion::ShutDown { key: KEY },
        ];
        assert_eq!(completions.len(), expected.len());
        for completion in &expected {
            assert!(completions.contains(completion), "{completions:?}");
        }
        assert_eq!(client.read(100).len(), 10);
        assert!(client.is_end_of_stream());
        // Nobody reads what the client sends now.
        assert_eq!(client.write(b"lost"), 4);
        driver.close(KEY);
        assert_eq!(poll(&mut driver), [Completion::Closed { key: KEY }]);
        network.assert_quiescent(0);
    }
}

#[test]
fn a_reset_is_told_once() {
    let (_network, mut driver, client) = connected(10, SimSetup::default());
    driver.receive_start(KEY);
    client.write(b"ab");
    client.reset();
    assert!(client.is_reset());
    let completions = poll(&mut driver);
    let [
        Completion::Received {
            buffer, length: 2, ..
        },
        ended,
    ] = &completions[..]
    else {
        panic!("{completions:?}");
    };
    assert_eq!(driver.buffer(*buffer, 2), b"ab");
    driver.buffer_release(*buffer);
    let end = ReceiveEnd::Failed(libc::ECONNRESET);
    assert_eq!(*ended, Completion::ReceiveEnded { key: KEY, end });
    driver.receive_start(KEY);
    driver.send(KEY, Bytes::from_static(b"x"));
    let completions = poll(&mut driver);
    let end = ReceiveEnd::EndOfStream;
    let result = Err(libc::EPIPE);
    assert!(completions.contains(&Completion::ReceiveEnded { key: KEY, end }));
    assert!(completions.contains(&Completion::Sent { key: KEY, result }));
}

#[test]
fn no_buffer_is_lent_twice() {
    let setup = SimSetup {
        buffers: 2,
        buffer_bytes: 3,
        ..SimSetup::default()
    };
    let (_network, mut driver, client) = connected(100, setup);
    driver.receive_start(KEY);
    client.write(b"abcdefgh");
    let mut received = Vec::new();
    for _ in 0..100 {
        for completion in poll(&mut driver) {
            match completion {
                Completion::Received { buffer, length, .. } => {
                    received.extend_from_slice(driver.buffer(buffer, length));
                    driver.buffer_release(buffer);
                }
                Completion::ReceiveEnded { end, .. } => {
                    assert_eq!(end, ReceiveEnd::NoBuffers);
                    driver.receive_start(KEY);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(received, b"abcdefgh");
}

#[test]
fn time_passes_only_when_told_and_wakes_arrive_once() {
    let network = SimNetwork::new(3, Faults::none());
    let mut drivers = [0, 1].map(|shard| SimDriver::new(&network, shard, SimSetup::default()));
    let start = network.clock();
    drivers[0].wake(1);
    drivers[0].wake(1);
    drivers[1].wake_at(start.monotonic_us + 1500);
    assert_eq!(poll(&mut drivers[0]), []);
    assert_eq!(poll(&mut drivers[1]), [Completion::Woken]);
    assert_eq!(poll(&mut drivers[1]), []);
    assert!(network.is_quiet());
    assert_eq!(network.deadline_us(), Some(start.monotonic_us + 1500));
    network.advance(1499);
    assert_eq!(poll(&mut drivers[1]), []);
    network.advance(1);
    assert!(!network.is_quiet());
    assert_eq!(drivers[1].clock().monotonic_us, start.monotonic_us + 1499);
    assert_eq!(poll(&mut drivers[1]), [Completion::DeadlinePassed]);
    assert_eq!(drivers[1].clock().monotonic_us, start.monotonic_us + 1500);
    assert_eq!(network.deadline_us(), None);
    let elapsed_ms = network.clock().monotonic_ms() - start.monotonic_ms();
    assert_eq!(network.clock().unix_ms, start.unix_ms + elapsed_ms);
}

#[test]
fn a_driver_that_is_dropped_resets_its_connections() {
    let (network, driver, accepted) = connected(100, SimSetup::default());
    let waiting = network.connect(0);
    drop(driver);
    let refused = network.connect(0);
    assert!([accepted, waiting, refused].iter().all(SimClient::is_reset));
    let _next = SimDriver::new(&network, 0, SimSetup::default());
    assert!(!network.connect(0).is_closed());
}

#[test]
fn broken_rules_are_remembered() {
    type Breach = fn(&mut SimDriver);
    let stale = ConnectionKey::new(0, 0);
    assert_ne!(stale, KEY);
    let cases: [(&str, Breach); 12] = [
        ("accept_start while accepting", |driver| {
            driver.accept_start()
        }),
        ("receive_start on", |driver| driver.receive_start(KEY)),
        ("while another one is in flight", |driver| {
            driver.send(KEY, Bytes::from_static(b"a"));
            driver.send(KEY, Bytes::from_static(b"b"));
        }),
        ("send of nothing", |driver| driver.send(KEY, Bytes::new())),
        ("close on", |driver| driver.close(KEY)),
        ("generation 1", |driver| {
            driver.receive_stop(ConnectionKey::new(0, 2));
        }),
        ("not in use", |driver| {
            driver.shutdown(ConnectionKey::new(5, 1), Shutdown::Both);
        }),
        ("after close", |driver| {
            closing(driver);
            driver.send(KEY, Bytes::from_static(b"a"));
        }),
        ("not in use", |driver| {
            closing(driver);
            poll(driver);
            driver.receive_start(KEY);
        }),
        ("released but not lent", |driver| driver.buffer_release(0)),
        ("read but not lent", |driver| {
            driver.buffer(0, 1);
        }),
        ("not released in their pass", |driver| {
            let completions = poll(driver);
            assert!(matches!(completions[..], [Completion::Received { .. }]));
            poll(driver);
        }),
    ];
    for (rule, breach) in cases {
        let (network, mut driver, client) = connected(100, SimSetup::default());
        driver.receive_start(KEY);
        client.write(b"a");
        let breached = catch_unwind(AssertUnwindSafe(|| breach(&mut driver)));
        let panic = breached.expect_err(rule);
        let message = panic.downcast_ref::<String>().expect("a message");
        assert!(message.contains(rule), "{rule}: {message}");
        assert!(message.contains("seed 1"), "{message}");
        let polled = catch_unwind(AssertUnwindSafe(|| poll(&mut driver)));
        assert!(polled.is_err(), "{rule}: forgotten at the next poll");
        let asserted = catch_unwind(AssertUnwindSafe(|| network.assert_rules_kept()));
        assert!(asserted.is_err(), "{rule}: forgotten by the network");
    }
}

/// Ends the connection's receive and asks for its close.
fn closing(driver: &mut SimDriver) {
    driver.receive_stop(KEY);
    loop {
        for completion in poll(driver) {
            match completion {
                Completion::Received { buffer, .. } => driver.buffer_release(buffer),
                Completion::ReceiveEnded { .. } => return driver.close(KEY),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_slot_used_again_needs_a_new_generation() {
    let (network, mut driver, _client) = connected(100, SimSetup::default());
    driver.close(KEY);
    poll(&mut driver);
    let _next = network.connect(0);
    poll(&mut driver);
    let stale = catch_unwind(AssertUnwindSafe(|| driver.receive_start(KEY)));
    assert!(stale.is_err());
}
