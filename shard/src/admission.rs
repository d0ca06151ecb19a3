//! Who may come in: the bounds that count over all shards of the process.
//!
//! Touched once when a connection is accepted and once when it is gone, never by a message. The
//! bound by address is off by default, because it needs a lock (one of many, chosen by the address).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::limits::Limits;

/// Why a new connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `connections_max` or `memory_mib_max` is reached: 503.
    Full,
    /// `address_connections_max` is reached for this address: 429.
    Address,
}

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fullness {
    /// `memory_mib_max` is reached.
    Memory,
    /// `connections_max` is reached.
    Connections,
}

const STRIPES: usize = 64;

/// Counts of connections, shared by all shards.
#[derive(Debug)]
pub struct Admission {
    connections_max: u64,
    address_connections_max: u64,
    connections: AtomicU64,
    memory_exhausted: AtomicBool,
    addresses: Vec<Mutex<HashMap<IpAddr, u64>>>,
}

impl Admission {
    /// Nobody is in yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            connections_max: limits.connections_max,
            address_connections_max: limits.address_connections_max,
            connections: AtomicU64::new(0),
            memory_exhausted: AtomicBool::new(false),
            addresses: (0..STRIPES).map(|_| Mutex::new(HashMap::new())).collect(),
        }
    }

    /// The bound by address is on: connections must be accepted with their peers' addresses.
    #[must_use]
    pub fn needs_addresses(&self) -> bool {
        self.address_connections_max > 0
    }

    /// Connections let in and not gone yet.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Says whether the process has used up `memory_mib_max`. Whoever measures memory calls this.
    pub fn set_memory_exhausted(&self, exhausted: bool) {
        self.memory_exhausted.store(exhausted, Ordering::Relaxed);
    }

    /// Why nobody would be let in now, whatever the address.
    #[must_use]
    pub fn is_full(&self) -> Option<Fullness> {
        if self.memory_exhausted.load(Ordering::Relaxed) {
            return Some(Fullness::Memory);
        }
        (self.connections() >= self.connections_max).then_some(Fullness::Connections)
    }

    /// Lets a connection in. [`Admission::leave`] must follow when it is gone.
    ///
    /// # Errors
    /// A bound is reached; nothing is counted.
    pub fn enter(&self, peer: Option<IpAddr>) -> Result<(), Refused> {
        if self.memory_exhausted.load(Ordering::Relaxed) {
            return Err(Refused::Full);
        }
        if self.connections.fetch_add(1, Ordering::Relaxed) >= self.connections_max {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused::Full);
        }
        let Some(peer) = peer.filter(|_| self.needs_addresses()) else {
            return Ok(());
        };
        let mut addresses = self
            .stripe(peer)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(peer).or_insert(0);
        if *count >= self.address_connections_max {
            drop(addresses);
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused::Address);
        }
        *count += 1;
        Ok(())
    }

    /// A connection that was let in is gone.
    pub fn leave(&self, peer: Option<IpAddr>) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        let Some(peer) = peer.filter(|_| self.needs_addresses()) else {
            return;
        };
        let mut addresses = self
            .stripe(peer)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&peer);
            }
        }
    }

    fn stripe(&self, peer: IpAddr) -> &Mutex<HashMap<IpAddr, u64>> {
        let bits = match peer {
            IpAddr::V4(address) => u64::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address) as u64 ^ (u128::from(address) >> 64) as u64,
        };
        let spread = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.addresses[spread as usize % STRIPES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([127, 0, 0, last]))
    }

    #[test]
    fn the_total_is_bounded_and_places_come_back() {
        let admission = Admission::new(&Limits {
            connections_max: 2,
            ..Limits::default()
        });
        assert_eq!(admission.enter(None), Ok(()));
        assert_eq!(admission.enter(None), Ok(()));
        assert_eq!(admission.enter(None), Err(Refused::Full));
        admission.leave(None);
        assert_eq!(
            (admission.enter(None), admission.connections()),
            (Ok(()), 2)
        );
    }

    #[test]
    fn an_address_is_bounded_by_itself() {
        let admission = Admission::new(&Limits {
            address_connections_max: 1,
            ..Limits::default()
        });
        assert_eq!(admission.enter(address(1)), Ok(()));
        assert_eq!(admission.enter(address(1)), Err(Refused::Address));
        assert_eq!(admission.enter(address(2)), Ok(()));
        assert_eq!(admission.connections(), 2, "a refused one is not counted");
        admission.leave(address(1));
        assert_eq!(admission.enter(address(1)), Ok(()));
    }

    #[test]
    fn without_memory_nobody_comes_in() {
        let admission = Admission::new(&Limits::default());
        admission.set_memory_exhausted(true);
        assert_eq!(admission.enter(None), Err(Refused::Full));
        admission.set_memory_exhausted(false);
        assert_eq!(admission.enter(None), Ok(()));
    }
}
