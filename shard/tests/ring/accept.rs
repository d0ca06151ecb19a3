//! Accepting, by multishot and one by one; the table of descriptors and its end.

use std::collections::HashSet;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};

use shardcast_shard::driver::{Completion, ConnectionKey, Driver};

use crate::harness::{Harness, Setup, client};

/// Both ways of accepting obey the same contract.
fn both_ways(check: impl Fn(Harness)) {
    for with_addresses in [false, true] {
        if let Some(harness) = Harness::new(&Setup {
            with_addresses,
            ..Setup::default()
        }) {
            check(harness);
        }
    }
}

#[test]
fn many_connections_get_slots_of_their_own() {
    both_ways(|mut harness| {
        harness.driver.accept_start();
        let clients: Vec<_> = (0..50).map(|_| client(harness.address)).collect();
        let slots: HashSet<_> = clients.iter().map(|_| harness.accepted().slot).collect();
        assert_eq!(slots.len(), 50);
        assert!(slots.iter().all(|slot| *slot < 256));
        assert_eq!(harness.driver.counters().stale, 0);
    });
}

#[test]
fn one_shots_report_the_peers_address() {
    let setup = Setup {
        with_addresses: true,
        ..Setup::default()
    };
    let Some(mut harness) = Harness::new(&setup) else {
        return;
    };
    harness.driver.accept_start();
    for _ in 0..40 {
        let _client = client(harness.address);
        let peer = harness.until("accept", |completion| match completion {
            Completion::Accepted { peer, .. } => Some(*peer),
            _ => None,
        });
        assert_eq!(peer, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}

#[test]
fn stopping_is_answered_once_and_the_next_start_goes_on() {
    both_ways(|mut harness| {
        harness.driver.accept_start();
        let (_first, _) = harness.connect();
        harness.driver.accept_stop();
        harness.driver.accept_stop();
        assert_eq!(harness.accept_ended(), None);
        // Waits in the listener's backlog.
        let _second = client(harness.address);
        harness.settle();
        assert_eq!(harness.reported, []);
        harness.driver.accept_start();
        harness.accepted();
    });
}

#[test]
fn a_stop_right_after_a_start_is_answered() {
    both_ways(|mut harness| {
        for _ in 0..20 {
            harness.driver.accept_start();
            harness.driver.accept_stop();
            assert_eq!(harness.accept_ended(), None);
        }
        harness.settle();
        assert_eq!(harness.reported, []);
    });
}

#[test]
fn a_full_table_ends_accepting_and_a_close_makes_room() {
    for with_addresses in [false, true] {
        let setup = Setup {
            table_size: 2,
            with_addresses,
            ..Setup::default()
        };
        let Some(mut harness) = Harness::new(&setup) else {
            return;
        };
        harness.driver.accept_start();
        let (_first, first) = harness.connect();
        let (_second, second) = harness.connect();
        let mut third = client(harness.address);
        assert_eq!(harness.accept_ended(), Some(libc::ENFILE));
        // The kernel had taken it from the backlog and had nowhere to put it.
        assert!(matches!(third.read(&mut [0; 1]), Ok(0) | Err(_)));
        harness.settle();
        assert_eq!(harness.reported, [], "the end comes once");

        harness.close(first);
        harness.driver.accept_start();
        let (_fourth, fourth) = harness.connect();
        assert_eq!(fourth.slot, first.slot);
        assert_ne!(fourth.slot, second.slot);
    }
}

#[test]
fn a_closed_slot_comes_back_and_serves_another_client() {
    let setup = Setup {
        table_size: 1,
        ..Setup::default()
    };
    let Some(mut harness) = Harness::new(&setup) else {
        return;
    };
    harness.driver.accept_start();
    let mut key = ConnectionKey::new(0, 0);
    for round in 0..20_u8 {
        let (mut stream, accepted) = harness.connect();
        assert_eq!(accepted.slot, 0);
        key = key.next();
        harness.driver.send(key, vec![round].into());
        assert_eq!(harness.sent(key), Ok(1));
        harness.close(key);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [round]);
    }
    assert_eq!(harness.driver.counters().stale, 0);
}
