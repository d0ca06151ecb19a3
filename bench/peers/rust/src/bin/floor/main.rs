//! The floor: what the kernel alone costs.
//!
//! One thread, `epoll`, and the plain protocol with the least work in user space that it can be spoken with. A broadcast
//! is turned from the received frame into the sent one in place, once, and then `send()` is called for each member in
//! a bare loop. So user time is next to nothing, and its CPU time per delivery is what one `send()` of a frame costs on
//! this machine. Each server is shown as a multiple of it. A server can get below it only by sending less often, which
//! means gathering several messages for one member into one `send()`.
//!
//! Bound of a connection: 4 MiB wait at most; with more it is dropped.
//!
//! It is a measuring stick and no server: messages in several frames are refused with code 1003, those over 1 MiB with
//! 1009, the text of `/echo` is not checked to be UTF-8, and a connection that never answers a close frame is kept.

mod connection;
mod frame;
mod handshake;
mod server;

use std::process::ExitCode;

use shardcast_peers::program;

fn main() -> ExitCode {
    program::run(|listener| server::Server::new(listener)?.run())
}
