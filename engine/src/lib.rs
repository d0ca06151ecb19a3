//! Shardcast as a library: an engine for WebSocket servers on pinned io_uring shards.
//!
//! An [`App`] says what happens on a connection; an [`Engine`] runs it on every core. The smallest server echoes
//! what it is sent:
//!
//! ```no_run
#![doc = include_str!("../examples/echo.rs")]
//! ```
//!
//! And this one publishes from a timer to rooms that clients join with the JSON protocol:
//!
//! ```no_run
#![doc = include_str!("../examples/ticker.rs")]
//! ```

mod activity;
pub mod auth;
pub mod cli;
pub mod client;
pub mod config;
mod conformance;
pub mod control;
mod counter;
pub mod doctor;
pub mod engine;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod preflight;
pub mod rooms;
pub mod serve;
mod supervisor;
pub mod tls;
pub mod topology;
pub mod webhooks;

pub use config::Config;
pub use engine::{Engine, Handle, Running};
pub use rooms::Rooms;
pub use serve::{run_until_signalled, serve};
pub use shardcast_shard::app::{Admission, App, Context, Dismissal};
pub use shardcast_shard::close_reason::CloseReason;
pub use shardcast_shard::connection_id::ConnectionId;
pub use shardcast_shard::driver::ConnectionKey;
pub use shardcast_shard::hub::{Event, Name, Target};
pub use shardcast_shard::pattern::Pattern;
pub use shardcast_shard::rights::{Grant, Identity, Rights, RoomRule, Rules};
pub use shardcast_shard::verdict::{Hooks, Occupancy, Question, Ruling, Standing, Verdict};
pub use shardcast_shard::ws::{Message, MessageKind, Refusal, UpgradeRequest};
