//! Stops: a thread may be taken off its core at any moment and for any time, by a busy machine as by a signal. No shard may stay asleep
//! after it.

use serde_json::json;
use std::time::Duration;

use crate::client::{Client, members};
use crate::server::Server;

/// More than most machines have cores, so that shards also wait for one another's.
const SHARDS: &str = "16";

/// One for each shard, more or less: the kernel spreads the connections.
const MEMBERS: usize = 16;

/// Each a stop at another moment. A shard is lost in about one of eight where the executor's preemption timer has its default.
const ROUNDS: usize = 64;

/// Longer than that timer of 100 ms, which is over while the server stands still.
const STOP: Duration = Duration::from_millis(115);

/// Every member publishes, and in the midst of it the server stands still for a while.
fn publish_around_a_stop(server: &Server, members: &mut [Client], round: usize) {
    let stop_after = round % members.len();
    for (index, member) in members.iter_mut().enumerate() {
        member.publish("hall", &json!(round));
        if index == stop_after {
            server.stop();
            std::thread::sleep(STOP);
            server.proceed();
        }
    }
}

/// A further stop would wake a shard that sleeps over its work, so everyone is asked after each.
#[test]
fn a_server_that_stood_still_serves_every_connection_again() {
    let server = Server::start(&["--shards", SHARDS, "--messages-per-second-max", "0"]);
    let mut members = members(&server, "hall", MEMBERS);
    for round in 0..ROUNDS {
        publish_around_a_stop(&server, &mut members, round);
        for member in &mut members {
            for _ in 0..MEMBERS {
                let message = member.expect("message");
                assert_eq!(message["content"], round, "{message}");
            }
        }
    }
}
