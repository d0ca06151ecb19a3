//! The load generator as people use it: the binary as a process, against servers that go wrong in known ways, and
//! against Shardcast itself.
//!
//! Servers of these tests run in the test's own process, on a thread for each connection (`server.rs`). What they do wrong
//! they do at numbered deliveries, so the harness must find exactly that.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bench;
mod capacity;
mod refusals;
mod reports;
mod server;
mod shardcast;
mod stall;
mod tls;
mod wrong_deliveries;
