//! Servers that lose, repeat, reorder and misdirect: the run fails, and says exactly what went wrong.

use shardcast_bench::result::{Deliveries, RunResult};

use crate::bench::{Bench, latency};
use crate::server::{Fate, Server};

/// Two rooms of ten for one second without a warm-up: 100 messages and 1,000 deliveries, give or take a message of each publisher.
const ROOMS: &str =
    "rooms --connections 20 --room-size 10 --rate 50 --warmup 0 --duration 1 --drain 3 --quiet";

/// The first delivery that something happens to: in the middle of the run.
const CHOSEN: u64 = 500;

fn rooms(server: &Server) -> Bench {
    Bench::against(&server.address(), "plain", ROOMS)
}

/// A server at which one delivery in the middle has this fate.
fn one(fate: Fate) -> Server {
    Server::with_fates(move |delivery| {
        if delivery.number == CHOSEN {
            fate
        } else {
            Fate::Deliver
        }
    })
}

/// What went wrong: missing, repeated, out of order, astray.
fn wrong(deliveries: &Deliveries) -> [u64; 4] {
    [
        deliveries.missing,
        deliveries.repeated,
        deliveries.out_of_order,
        deliveries.astray,
    ]
}

#[track_caller]
fn assert_failed(server: &Server, result: &RunResult, expected: [u64; 4], sentences: &[&str]) {
    let deliveries = result.deliveries.as_ref().unwrap();
    assert_eq!(wrong(deliveries), expected, "{result:#?}");
    assert_eq!(deliveries.expected, server.deliveries());
    assert_eq!(deliveries.received, deliveries.expected - expected[0]);
    assert_eq!(result.failures, sentences);
}

#[test]
fn a_correct_server_passes() {
    let server = Server::correct();
    let result = rooms(&server).passes();
    let deliveries = result.deliveries.unwrap();
    assert_eq!(wrong(&deliveries), [0; 4]);
    assert!((98..=102).contains(&deliveries.published), "{deliveries:?}");
    assert_eq!(deliveries.expected, 10 * deliveries.published);
    assert_eq!(deliveries.received, deliveries.expected);
    assert_eq!(deliveries.expected, server.deliveries());
    assert_eq!((result.connections.open, result.connections.lost), (20, 0));
}

#[test]
fn a_correct_server_passes_with_direct_messages() {
    let server = Server::correct();
    let words = "mixed --connections 20 --room-size 10 --rate 10 --warmup 0 --duration 1 --quiet";
    let result = Bench::against(&server.address(), "plain", words).passes();
    let count = |name| latency(&result, name).latency.count;
    let recorded = count("delivery") + count("direct message");
    let deliveries = result.deliveries.unwrap();
    assert_eq!(wrong(&deliveries), [0; 4]);
    assert_eq!(deliveries.received, server.deliveries());
    assert_eq!(recorded, deliveries.received);
}

/// One delivery in a hundred is lost, and no other is touched.
#[test]
fn lost_deliveries_are_missing() {
    let server = Server::with_fates(|delivery| {
        if delivery.number % 100 == 7 {
            Fate::Drop
        } else {
            Fate::Deliver
        }
    });
    let result = rooms(&server).fails();
    let lost = (0..server.deliveries())
        .filter(|number| number % 100 == 7)
        .count() as u64;
    assert!(lost >= 9);
    let sentence = format!("{lost} of {} deliveries are missing.", server.deliveries());
    assert_failed(&server, &result, [lost, 0, 0, 0], &[&sentence]);
}

#[test]
fn a_delivery_that_comes_twice_is_repeated() {
    let server = one(Fate::Repeat);
    let result = rooms(&server).fails();
    let sentence = "1 deliveries came more than once.";
    assert_failed(&server, &result, [0, 1, 0, 0], &[sentence]);
}

#[test]
fn two_deliveries_that_change_places_are_out_of_order() {
    let server = one(Fate::AfterNext);
    let result = rooms(&server).fails();
    let sentence = "1 deliveries came out of order.";
    assert_failed(&server, &result, [0, 0, 1, 0], &[sentence]);
}

#[test]
fn a_delivery_to_another_room_is_astray() {
    let server = one(Fate::AlsoElsewhere);
    let result = rooms(&server).fails();
    let sentence = "1 deliveries came to connections that they were not meant for.";
    assert_failed(&server, &result, [0, 0, 0, 1], &[sentence]);
}

/// What another has had instead is not taken for the receiver's own.
#[test]
fn a_delivery_to_another_instead_is_missing_and_astray() {
    let server = one(Fate::Elsewhere);
    let result = rooms(&server).fails();
    let missing = format!("1 of {} deliveries are missing.", server.deliveries());
    let astray = "1 deliveries came to connections that they were not meant for.";
    assert_failed(&server, &result, [1, 0, 0, 1], &[&missing, astray]);
}

#[test]
fn a_direct_message_to_another_is_astray() {
    let mut direct = 0;
    let server = Server::with_fates(move |delivery| {
        direct += u64::from(delivery.direct);
        if delivery.direct && direct == 30 {
            Fate::AlsoElsewhere
        } else {
            Fate::Deliver
        }
    });
    let words = "mixed --connections 20 --room-size 10 --rate 10 --warmup 0 --duration 1 --quiet";
    let result = Bench::against(&server.address(), "plain", words).fails();
    let deliveries = result.deliveries.as_ref().unwrap();
    assert_eq!(wrong(deliveries), [0, 0, 0, 1], "{:?}", result.failures);
}
