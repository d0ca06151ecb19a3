//! Hostile clients against the real binary: what each kind of them costs everybody else.
//!
//! Every test is one attack. A [`scene`] starts the binary, fills a room with members who publish on a fixed schedule, and measures how
//! long each delivery takes, in turns without the attack and under it. What must hold is the same for all: no member loses a
//! message or its connection, memory stays within what the limits permit, the attackers get the answers that README.md states, and when
//! they are gone so is everything of theirs. How much slower the members may become is asserted generously here, because a test shares its
//! machine with others; `scripts/hostile.sh` repeats the turns, compares their medians and judges the ratio.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../end_to_end/certificate.rs"]
#[allow(
    dead_code,
    reason = "the end-to-end tests use more of it than this binary"
)]
mod certificate;
#[path = "../end_to_end/client.rs"]
#[allow(
    dead_code,
    reason = "the end-to-end tests use more of it than this binary"
)]
mod client;
#[path = "../end_to_end/raw.rs"]
#[allow(
    dead_code,
    reason = "the end-to-end tests use more of it than this binary"
)]
mod raw;
#[path = "../end_to_end/server.rs"]
#[allow(
    dead_code,
    reason = "the end-to-end tests use more of it than this binary"
)]
mod server;
#[path = "../end_to_end/system.rs"]
#[allow(
    dead_code,
    reason = "the end-to-end tests use more of it than this binary"
)]
mod system;

mod attacker;
mod scene;

mod broken;
mod compressed;
mod floods;
mod nesting;
mod reader;
mod rooms;
mod silent;
mod storms;
mod trickle;
mod unicode;
