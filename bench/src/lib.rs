//! The latency and density harness of Shardcast: an open-loop load generator for WebSocket servers that records the latency
//! of every receiver.
//!
//! The binary `shardcast-bench` is the product; this library is its parts, for its tests and for whoever builds a workload of
//! their own. A workload ([`workload`]) starts a [`run::Run`], opens groups of connections, lets them publish and takes what
//! was measured into a [`result::RunResult`], which [`report`] turns into a table, a page and a log.
//!
//! # How to read the numbers
//!
//! * **Latency** counts from the time at which the schedule intended a message, until one receiver has it; there is one
//!   value for each receiver. A server that stalls for a second delays all that was due in that second, and all of it shows. A
//!   closed loop (`echo --closed-loop`) sends nothing while it waits, so it records one delay instead of hundreds
//!   ("coordinated omission", Gil Tene).
//! * **Last receiver** counts until the last member of the room has the message: what a user sees as "everyone has it".
//! * **CPU per delivery** is the server's CPU time, in user mode and in the kernel on its behalf, over deliveries in the same
//!   span. It needs `--pid`. On loopback it holds the receiving half of TCP as well: the sender's system call runs it.
//! * **Memory a connection** is the growth since before the first connection, so the server must be fresh. The server's is what no
//!   other process shares; the kernel's and the total hold both ends of each connection when both run on one machine.
//! * **Over TLS** (`--target wss://…`) the time of a handshake holds that of TLS, which is a full one for each connection.
//! * **Lateness** is the harness's own: how long after its time a message left. When it, or a busy core of the harness, explains
//!   the latencies, the report says that the harness was the limit.
//!
//! # What loopback distorts
//!
//! There is no network card, no interrupt, no wire and no loss. Sending does the receiver's work, segments are as large as they like, and both
//! ends share caches, memory bandwidth and, without `--cores`, CPUs. Compare servers with each other on one machine, not with
//! figures from elsewhere; for absolute ones run the harness on another host.

pub mod cli;
pub mod compare;
pub mod cores;
pub mod generator;
pub mod incoming;
pub mod latency;
pub mod layout;
pub mod observe;
pub mod options;
pub mod protocol;
pub mod report;
pub mod result;
pub mod run;
pub mod schedule;
pub mod sources;
pub mod stamp;
pub mod tls;
pub mod window;
pub mod workload;
