//! End-to-end tests: the real binary as a process of its own, driven over real sockets.
//!
//! Each module is one property. `server` starts and ends the binary, `client` is a WebSocket client made
//! from tungstenite, and `raw` writes bytes that no well-behaved client would send. Deadlines are generous: they
//! tell a hang from an answer, never a fast machine from a slow one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod activity;
mod backend;
mod certificate;
mod client;
mod file;
mod http;
mod program;
mod raw;
mod server;
#[path = "../signer/mod.rs"]
mod signer;
mod system;
mod tmux;

mod acks;
mod admin;
mod bad_input;
mod bad_messages;
mod chat;
mod commands;
mod conformance;
mod dashboard;
mod direct;
mod doctor;
mod endings;
mod faults;
mod fragments;
mod history;
mod issuers;
mod key_sets;
mod load;
mod memory;
mod metrics;
mod off_the_shelf;
mod openapi;
mod order;
mod outage;
mod presence;
mod readme;
mod rights;
mod room_settings;
mod rooms;
mod shutdown;
mod slow;
mod starts;
mod stops;
mod tls;
mod tokens;
mod webhook_events;
mod webhooks;
