//! The io_uring driver against the real kernel, over the loopback interface.
#![allow(
    unsafe_code,
    reason = "poll(2) is the only way to see whether an eventfd is readable without blocking on it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

mod accept;
mod connect;
mod harness;
mod lifetime;
mod receive;
mod send;
mod wake;
