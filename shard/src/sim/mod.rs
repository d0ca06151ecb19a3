//! The simulated driver: a network that exists only in memory, drawn from a seed.
//!
//! A [`SimNetwork`] holds virtual time and the connections between [`SimClient`]s and shards. Each
//! shard runs on a [`SimDriver`], which implements [`Driver`](crate::driver::Driver) as a kernel would on a bad day: it
//! splits what it receives, sends less than asked for, ends multishots, runs out of buffers, reports late
//! and in another order, and breaks connections. How often it does each is up to [`Faults`].
//!
//! Everything happens in one thread and follows from the seed and the calls made: no clock, no thread, no
//! random state of a hash map. The same seed gives the same run, and [`SimNetwork::trace_hash`] proves it.
//!
//! The driver also holds its caller to the rules of the [`Driver`](crate::driver::Driver) contract. Whoever breaks one gets a panic that
//! names the rule, the shard and the seed. Because a shard catches panics of a single connection, the driver
//! remembers it and panics again at each later poll and at [`SimNetwork::assert_quiescent`].
//!
//! Faults strike only where something moves: a network in which nobody does anything becomes quiet
//! ([`SimNetwork::is_quiet`]) whatever the faults.

mod client;
mod deflate;
mod driver;
mod faults;
mod frame;
mod ledger;
mod link;
mod network;
mod random;
mod websocket;

#[cfg(test)]
mod tests;

pub use client::SimClient;
pub use driver::{SimDriver, SimSetup};
pub use faults::{Faults, Struck};
pub use frame::{Opcode, SimFrame};
pub use ledger::{Held, Leaks};
pub use link::Toward;
pub use network::SimNetwork;
pub use random::Random;
pub use websocket::{EXTENSIONS, SimEvent, SimResponse, SimWebSocket};
