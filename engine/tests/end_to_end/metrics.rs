//! What Prometheus is told: numbers that agree with what clients did, text that its own tool finds nothing wrong with, and a dashboard whose queries all
//! have an answer.

mod prometheus;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::{Backend, Reply, count};
use crate::client::{Client, PATIENCE, members};
use crate::http::Admin;
use crate::server::Server;
use prometheus::{Prometheus, promtool};

/// Samples by their names and labels.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn of(server: &Server) -> Self {
        Self::parse(&text(server))
    }

    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        Self(samples.collect())
    }

    /// The sum over all shards of the samples that bear a label.
    fn sum_where(&self, name: &str, label: &str) -> f64 {
        let of = |sample: &str| {
            let labels = sample.strip_prefix(name);
            labels.is_some_and(|rest| rest.starts_with('{') && rest.contains(label))
        };
        let found: Vec<f64> = self
            .0
            .iter()
            .filter(|(sample, _)| of(sample))
            .map(|(_, value)| *value)
            .collect();
        assert!(!found.is_empty(), "there is no {name} with {label}");
        found.iter().sum()
    }

    fn sum(&self, name: &str) -> f64 {
        self.sum_where(name, "shard=")
    }
}

/// What the server says of itself.
fn text(server: &Server) -> String {
    let answer = Admin::of(server).get("/metrics");
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.content_type, "text/plain; version=0.0.4");
    answer.text
}

/// Waits until a number is what it should be: levels are some 100 ms old, and what happened to a connection is known a little later than its client knows it.
fn await_sum(server: &Server, name: &str, expected: f64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sum = Scrape::of(server).sum(name);
        if sum == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{name} stays at {sum}, not {expected}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// A shard that has nothing else to do sleeps behind a delivery: what it slept is not the delivery's latency.
#[test]
fn a_delivery_is_counted_when_it_has_left_and_not_when_something_follows() {
    let server = Server::start(&["--shards", "1", "--admin", "127.0.0.1:0"]);
    let mut clients = members(&server, "tea", 3);
    clients[0].publish("tea", &json!("steep"));
    for client in &mut clients {
        client.expect_in("message", "tea");
    }
    await_sum(&server, "shardcast_delivery_latency_seconds_count", 3.0);
    let bucket = "shardcast_delivery_latency_seconds_bucket";
    assert_eq!(Scrape::of(&server).sum_where(bucket, "le=\"1\""), 3.0);
}

#[test]
fn numbers_agree_with_what_clients_did() {
    const MEMBERS: usize = 12;
    const ROUNDS: usize = 5;
    let server = Server::start(&[
        "--shards",
        "3",
        "--admin",
        "127.0.0.1:0",
        // Their pings would be deliveries too.
        "--heartbeat-ms",
        "3600000",
    ]);
    let mut clients = members(&server, "hall", MEMBERS);
    for round in 0..ROUNDS {
        for client in &mut clients {
            client.publish("hall", &json!(round));
        }
    }
    // Two connections of one user, who is not in the room.
    let mut pair = [0, 1].map(|_| Client::connect(&server, "ada"));
    clients[0].send(&json!({"type": "direct", "to": "ada", "content": "psst"}));
    clients[0].send(&json!({"type": "nonsense"}));
    clients[0].expect("error");
    for client in &mut clients {
        for _ in 0..ROUNDS * MEMBERS {
            client.expect("message");
        }
    }
    for client in &mut pair {
        client.expect("direct");
    }
    // Whatever else each was sent stands before the answer.
    for client in clients.iter_mut().chain(&mut pair) {
        client.heartbeat();
    }
    let scrape = Scrape::of(&server);
    let connections = (MEMBERS + 2) as f64;
    let delivered = (MEMBERS * MEMBERS * ROUNDS + 2) as f64;
    let received: usize = clients.iter().chain(&pair).map(Client::received).sum();
    let sent = MEMBERS + MEMBERS * ROUNDS + 2 + MEMBERS + 2;
    for (name, expected) in [
        ("shardcast_connections_accepted_total", connections),
        ("shardcast_connections", connections),
        ("shardcast_connections_closed_total", 0.0),
        ("shardcast_messages_received_total", sent as f64),
        ("shardcast_deliveries_total", received as f64),
        ("shardcast_delivery_latency_seconds_count", delivered),
        ("shardcast_panics_total", 0.0),
        ("shardcast_ring_overflows_total", 0.0),
    ] {
        assert_eq!(scrape.sum(name), expected, "{name}");
    }
    for (name, label, expected) in [
        (
            "shardcast_handshakes_total",
            r#"outcome="accepted""#,
            connections,
        ),
        (
            "shardcast_requests_refused_total",
            r#"reason="bad_request""#,
            1.0,
        ),
        (
            "shardcast_delivery_latency_seconds_bucket",
            r#"le="+Inf""#,
            delivered,
        ),
        ("shardcast_mailbox_depth", r#"lane="requests""#, 0.0),
    ] {
        assert_eq!(scrape.sum_where(name, label), expected, "{name} {label}");
    }
    assert!(scrape.sum("shardcast_pass_seconds_count") > 0.0);
    assert!(scrape.sum("shardcast_sent_bytes_total") > delivered * 10.0);
    await_sum(&server, "shardcast_members", connections);
    await_sum(&server, "shardcast_rooms", 1.0);
    await_sum(&server, "shardcast_outbox_bytes", 0.0);
    clients.truncate(MEMBERS - 5);
    await_sum(&server, "shardcast_connections_closed_total", 5.0);
    await_sum(&server, "shardcast_members", connections - 5.0);
    assert_eq!(
        Scrape::of(&server).sum("shardcast_connections"),
        connections - 5.0
    );
}

#[test]
fn what_other_threads_count_is_there_too() {
    let server = Server::start(&["--admin", "127.0.0.1:0"]);
    let admin = Admin::of(&server);
    let refused = || Scrape::of(&server).0["shardcast_admin_requests_refused_total"];
    assert_eq!(refused(), 0.0);
    let elsewhere = [("Origin", "http://elsewhere.example")];
    let answer = admin.post_with("/v1/messages", &json!({"messages": []}), &elsewhere);
    assert_eq!(answer.status, 403);
    assert_eq!(refused(), 1.0);
    let order = json!({"content": "hello"});
    admin.post("/v1/rooms/hall/messages", &order).ok();
    assert!(Scrape::of(&server).sum("shardcast_orders_total") >= 1.0);
}

#[test]
fn what_waits_for_a_slow_consumer_can_be_seen() {
    let server = slow_server();
    let mut members = members(&server, "hall", 3);
    let slow = Client::connect(&server, "slow");
    let mut slow = joined(slow);
    let filler = "x".repeat(8_000);
    let deadline = Instant::now() + PATIENCE;
    let waiting = loop {
        publish_and_hear(&mut members, &filler);
        let scrape = Scrape::of(&server);
        let dropped = scrape.sum_where("shardcast_messages_dropped_total", r#"reason="oldest""#);
        let waiting = scrape.sum("shardcast_outbox_bytes");
        if dropped > 0.0 && waiting > 0.0 {
            break waiting;
        }
        assert!(Instant::now() < deadline, "{dropped} dropped");
    };
    assert!(waiting <= 2.0 * 65_536.0, "{waiting} bytes");
    // It reads at last.
    slow.heartbeat();
    await_sum(&server, "shardcast_outbox_bytes", 0.0);
    await_sum(&server, "shardcast_outboxes", 0.0);
}

fn slow_server() -> Server {
    Server::start(&[
        "--shards",
        "3",
        "--admin",
        "127.0.0.1:0",
        "--slow-consumer",
        "drop_oldest",
        "--outbox-bytes-max",
        "65536",
        "--outbox-unread-bytes-max",
        "65536",
        "--socket-send-bytes",
        "16384",
        "--messages-per-second-max",
        "0",
        "--heartbeat-ms",
        "3600000",
    ])
}

fn joined(mut client: Client) -> Client {
    client.join("hall");
    client
}

fn publish_and_hear(members: &mut [Client], content: &str) {
    members[0].publish("hall", &json!(content));
    for member in members {
        member.expect("message");
        // What is not asked for would pile up.
        member.take_all();
    }
}

#[test]
fn promtool_finds_nothing_wrong() {
    let Some(promtool) = promtool() else { return };
    let server = Server::start(&["--shards", "2", "--admin", "127.0.0.1:0"]);
    let mut clients = members(&server, "hall", 4);
    publish_and_hear(&mut clients, "hello");
    promtool.check_metrics(&text(&server));
    promtool.check_config();
}

/// How long Prometheus may take until it has an answer to everything: it needs some scrapes.
const ANSWERS_PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn prometheus_answers_every_query_of_the_dashboard() {
    let server = slow_server();
    let Some(prometheus) = Prometheus::start(&Admin::of(&server).address) else {
        return;
    };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| keep_busy(&server, &is_over));
        let queries = queries();
        assert!(queries.len() > 50, "{} queries", queries.len());
        let deadline = Instant::now() + ANSWERS_PATIENCE;
        let unanswered = loop {
            let unanswered: Vec<&String> = queries
                .iter()
                .filter(|query| !prometheus.has_number(query))
                .collect();
            if unanswered.is_empty() || Instant::now() > deadline || traffic.is_finished() {
                break unanswered;
            }
            thread::sleep(Duration::from_millis(500));
        };
        is_over.store(true, Ordering::Relaxed);
        assert!(unanswered.is_empty(), "no number for {unanswered:#?}");
        let scraped = prometheus.number("sum(shardcast_connections_accepted_total)");
        let counted = Scrape::of(&server).sum("shardcast_connections_accepted_total");
        assert_eq!(scraped, Some(counted));
        assert_eq!(prometheus.number("up"), Some(1.0));
    });
}

/// Members on all shards who talk, one who does not read, and direct messages, until it is over.
fn keep_busy(server: &Server, is_over: &AtomicBool) {
    let mut members = members(server, "hall", 9);
    let _slow = joined(Client::connect(server, "slow"));
    let filler = "x".repeat(4_000);
    while !is_over.load(Ordering::Relaxed) {
        publish_and_hear(&mut members, &filler);
        let to_self = json!({"type": "direct", "to": "member-1", "content": 1});
        members[0].send(&to_self);
        members[1].expect("direct");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What the panels of the dashboard ask, with its variables filled in.
fn queries() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_str(include_str!("../../../scripts/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array());
    targets
        .flatten()
        .map(|target| {
            let query = target["expr"].as_str().unwrap();
            let query = query
                .replace("$__rate_interval", "5s")
                .replace("$instance", ".*")
                .replace("$shard", ".*");
            assert!(!query.contains('$'), "{query}");
            query
        })
        .collect()
}

#[test]
fn webhooks_are_counted() {
    let backend = Backend::start();
    backend.reply(|body| match body["user"] == "eve" {
        true => Reply::ok(json!({"allow": false})),
        false => Reply::ok(""),
    });
    let url = backend.url();
    let hooks = ["--webhook-url", &url];
    let server =
        Server::start(&[&["--shards", "2", "--admin", "127.0.0.1:0"], &hooks[..]].concat());
    for number in 0..5 {
        Client::connect(&server, &format!("user-{number}")).heartbeat();
    }
    Client::shake_hands(&server, "/ws?user=eve")
        .unwrap()
        .expect_end();
    let ends = |events: &[Value]| count(events, "disconnected") == 5;
    let events = backend.await_events("five ends", ends);
    let deadline = Instant::now() + PATIENCE;
    let told = loop {
        let scrape = Scrape::of(&server);
        let delivered = scrape.sum_where("shardcast_webhook_events_total", "\"delivered\"");
        // The server counts an answer when it has read it.
        if delivered == events.len() as f64 || Instant::now() >= deadline {
            break scrape;
        }
    };
    let of = |name: &str, outcome: &str| told.sum_where(name, &format!("outcome=\"{outcome}\""));
    assert_eq!(
        of("shardcast_webhook_events_total", "delivered"),
        events.len() as f64
    );
    assert_eq!(of("shardcast_webhook_events_total", "dropped"), 0.0);
    assert_eq!(of("shardcast_webhook_decisions_total", "allowed"), 5.0);
    assert_eq!(of("shardcast_webhook_decisions_total", "refused"), 1.0);
    assert_eq!(told.0["shardcast_webhook_queue_events"], 0.0);
}
