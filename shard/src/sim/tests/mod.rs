//! Tests of the simulation itself.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod operations;
mod streams;
mod websocket;

use super::{Faults, SimClient, SimDriver, SimNetwork, SimSetup};
use crate::driver::{Completion, ConnectionKey, Driver};

const KEY: ConnectionKey = ConnectionKey::new(0, 1);

fn poll(driver: &mut SimDriver) -> Vec<Completion> {
    let mut completions = Vec::new();
    driver.poll(&mut completions).unwrap();
    completions
}

/// A driver with one connection in slot 0, on a perfect network with pipes of so many bytes.
fn connected(pipe_bytes: usize, setup: SimSetup) -> (SimNetwork, SimDriver, SimClient) {
    let faults = Faults {
        pipe_bytes_min: pipe_bytes,
        pipe_bytes_max: pipe_bytes,
        ..Faults::none()
    };
    let network = SimNetwork::new(1, faults);
    let mut driver = SimDriver::new(&network, 0, setup);
    let client = network.connect(0);
    driver.accept_start();
    let accepted = Completion::Accepted {
        slot: 0,
        peer: setup.addresses.then(|| [127, 0, 0, 1].into()),
    };
    assert_eq!(poll(&mut driver), [accepted]);
    (network, driver, client)
}
