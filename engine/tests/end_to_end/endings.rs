//! What the log says of connections that ended.

use std::thread;
use std::time::Duration;

use crate::backend::await_line;
use crate::client::Client;
use crate::server::Server;

/// How long something must stay away for a test to believe that it does.
const QUIET: Duration = Duration::from_millis(400);

#[test]
fn ends_that_nobody_wanted_are_logged_and_not_without_bound() {
    let server = Server::start(&["--shards", "1", "--user-connections-max", "1"]);
    let mut ada = Client::connect(&server, "ada");
    ada.send_text("nonsense");
    ada.expect_end();
    let bob = Client::connect(&server, "bob");
    bob.close();
    drop(Client::connect(&server, "eve"));
    await_line(
        &server,
        &[
            "a connection has ended",
            "connection=0-",
            "user=\"eve\"",
            "reason=stream_ended",
        ],
    );
    let output = server.output();
    let of = |user: &str| {
        let named = format!("user=\"{user}\"");
        output.iter().filter(|line| line.contains(&named)).count()
    };
    assert_eq!((of("ada"), of("bob"), of("eve")), (1, 0, 1));
    let crowd: Vec<Client> = (0..300)
        .map(|index| Client::connect(&server, &format!("crowd-{index}")))
        .collect();
    drop(crowd);
    await_line(
        &server,
        &[
            "more connections have ended than are logged one by one",
            "left_out=",
        ],
    );
    thread::sleep(QUIET);
    let output = server.output();
    let logged = output
        .iter()
        .filter(|line| line.contains("user=\"crowd-"))
        .count() as u64;
    let left_out: u64 = output
        .iter()
        .filter_map(|line| {
            line.split_once("left_out=")?
                .1
                .split(' ')
                .next()?
                .parse::<u64>()
                .ok()
        })
        .sum();
    assert!((40..200).contains(&logged), "{logged} lines");
    assert!(logged + left_out >= 300 - 60, "{logged} and {left_out}");
}
