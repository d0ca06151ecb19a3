//! Several hubs with mail between them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cluster;
mod room_settings;
mod scenarios;
mod simulation;
