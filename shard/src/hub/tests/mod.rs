//! Several hubs with mail between them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cluster;
mod room_settings;
mod scenarios;
mod simulation;

use bytes::Bytes;

use super::Target;
use crate::orders::Publication;

/// A message of the server's own.
fn from_server(target: Target, content: Bytes) -> Publication {
    Publication {
        user: "server".into(),
        target,
        content,
        id: None,
    }
}
