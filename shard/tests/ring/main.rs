//! The io_uring driver against the real kernel, over the loopback interface.
#![allow(
    unsafe_code,
    reason = "a socket with a small receive buffer is made by hand, and threads are bound to cores"
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
mod steering;
mod wake;
