//! Everything of Shardcast that runs on one core.
//!
//! A [`shard::Shard`] is one loop over a [`driver::Driver`]: it owns its connections and its part of every room, and
//! speaks to other shards by mail only. [`executor::run`] runs it on a core with the io_uring driver of [`ring`]; the
//! simulation runs the same loop with the driver of [`sim`]. An [`app::App`] says what happens on a connection.
//!
//! The protocol parts ([`ws`], [`wire`], [`hub`]) do no IO, read no clock and contain no `unsafe`.

pub mod admission;
pub mod app;
pub mod busiest;
mod byte_rate;
mod chunked;
pub mod close_reason;
pub mod compression;
mod connection;
pub mod connection_id;
pub mod driver;
pub mod error;
pub mod executor;
mod gathering;
pub mod hub;
pub mod limits;
pub mod mailbox;
pub mod orders;
pub mod outbox;
pub mod pattern;
pub mod post;
pub mod random;
pub mod rights;
pub mod ring;
pub mod room_settings;
pub mod shard;
pub mod sim;
pub mod stats;
pub mod timer;
pub mod tls;
pub mod verdict;
pub mod wire;
pub mod ws;
