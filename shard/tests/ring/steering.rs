//! Connections that go to the listener of the core that they come in on.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;

use shardcast_shard::ring::{bound_address, listen, steer_by_core};

use crate::harness::small_limits;

/// Binds this thread to a core; false where it may not use it.
fn run_on(core: usize) -> bool {
    // SAFETY: a set of cores is a plain array of bits, and the call reads as many bytes as it is told.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set) == 0
    }
}

/// Connections that wait at a listener.
fn waiting(listener: &TcpListener) -> usize {
    std::iter::from_fn(|| listener.accept().ok()).count()
}

#[test]
fn a_connection_goes_to_the_listener_of_its_core() {
    const EACH: usize = 50;
    let may_run_on = |core: &usize| {
        let core = *core;
        thread::spawn(move || run_on(core)).join().unwrap()
    };
    let cores: Vec<usize> = (0..2).filter(may_run_on).collect();
    if cores.len() < 2 {
        println!("skipped: cores 0 and 1 are needed, and {cores:?} may be used");
        return;
    }
    // Two listeners a core, the cores in turn, as shards are placed.
    let places = [cores[0], cores[1], cores[0], cores[1]];
    let mut address = "127.0.0.1:0".parse().unwrap();
    let listeners: Vec<OwnedFd> = places
        .iter()
        .map(|_| {
            let listener = listen(address, &small_limits()).unwrap();
            address = bound_address(&listener).unwrap();
            listener
        })
        .collect();
    steer_by_core(&listeners[0], &places).unwrap();
    let listeners: Vec<TcpListener> = listeners.into_iter().map(TcpListener::from).collect();
    for listener in &listeners {
        listener.set_nonblocking(true).unwrap();
    }
    for core in cores {
        // On loopback a connection comes in on the core of whoever connects.
        let clients = thread::spawn(move || {
            assert!(run_on(core));
            (0..EACH)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect::<Vec<_>>()
        });
        let clients = clients.join().unwrap();
        let found: Vec<usize> = listeners.iter().map(waiting).collect();
        for (count, place) in found.iter().zip(places) {
            // A random half each: that one of them gets none of 50 does not happen.
            assert_eq!(*count > 0, place == core, "{found:?} on core {core}");
        }
        assert_eq!(found.iter().sum::<usize>(), EACH);
        drop(clients);
    }
}
