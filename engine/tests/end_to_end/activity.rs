//! What the node says that it has been doing, against what clients have it do.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, members, number};
use crate::http::Admin;
use crate::server::Server;

/// How long something that the server does by itself may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn start(arguments: &[&str]) -> (Server, Admin) {
    let server = Server::start(&[&["--admin", "127.0.0.1:0"], arguments].concat());
    let admin = Admin::of(&server);
    (server, admin)
}

/// Asks once a second or so until the answer is as expected, doing something before each time.
fn await_activity(
    admin: &Admin,
    mut meanwhile: impl FnMut(),
    holds: impl Fn(&Value) -> bool,
) -> Value {
    let begun = Instant::now();
    loop {
        meanwhile();
        let activity = admin.get("/v1/activity").ok();
        if holds(&activity) {
            return activity;
        }
        assert!(begun.elapsed() < PATIENCE, "it is still {activity:#}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn rows<'a>(activity: &'a Value, field: &str) -> &'a [Value] {
    activity[field].as_array().unwrap()
}

#[test]
fn samples_tell_of_connections_and_messages() {
    let (server, admin) = start(&["--shards", "2"]);
    let _clients = members(&server, "tea", 3);
    let publish = || {
        let body = json!({"content": "steep"});
        admin.post("/v1/rooms/tea/messages", &body).ok();
    };
    let activity = await_activity(&admin, publish, |activity| {
        let all = &activity["samples"]["all"];
        let last = |field: &str| all[field].as_array().unwrap().last().cloned();
        last("connections") == Some(json!(3.0))
            && last("deliveries_per_s").is_some_and(|rate| rate.as_f64() > Some(0.0))
            && last("p99_us").is_some_and(|us| us.is_number())
    });
    let samples = &activity["samples"];
    let times = rows(samples, "unix_ms");
    assert!(times.is_sorted_by_key(|time| time.as_u64()));
    assert_eq!(rows(samples, "shards").len(), 2);
    for series in rows(samples, "shards").iter().chain([&samples["all"]]) {
        let series = series.as_object().unwrap();
        assert_eq!(series.len(), 11);
        for (field, values) in series {
            assert_eq!(values.as_array().unwrap().len(), times.len(), "{field}");
        }
    }
    let newest = times.last().unwrap();
    let later = admin.get(&format!("/v1/activity?after={newest}")).ok();
    let of_later = rows(&later["samples"], "unix_ms");
    assert!(of_later.iter().all(|time| time.as_u64() > newest.as_u64()));
    let shards = rows(&activity, "shards");
    let of_shards = |field: &str| shards.iter().map(|shard| number(shard, field)).sum::<u64>();
    assert_eq!((shards.len(), of_shards("connections")), (2, 3));
    assert_eq!((of_shards("rooms"), of_shards("restarts")), (1, 0));
    assert!(shards.iter().all(|shard| shard["answers"] == true));
    let url = activity["node"]["url"].as_str().unwrap();
    assert_eq!(url, server.url());
}

#[test]
fn the_busiest_room_comes_first() {
    let (server, admin) = start(&["--shards", "2"]);
    let mut tea = members(&server, "tea", 4);
    tea[0].join("milk");
    let publish = || {
        let rooms = ["tea", "milk"];
        let messages = rooms.map(|room| json!({"room": room, "content": 1}));
        admin
            .post("/v1/messages", &json!({"messages": messages}))
            .ok();
    };
    let activity = await_activity(&admin, publish, |activity| {
        rows(activity, "busiest_rooms").len() == 2
    });
    let busiest = rows(&activity, "busiest_rooms");
    assert_eq!(
        (&busiest[0]["room"], &busiest[0]["connections"]),
        (&json!("tea"), &json!(4))
    );
    assert_eq!(
        (&busiest[1]["room"], &busiest[1]["connections"]),
        (&json!("milk"), &json!(1))
    );
    let rate = |row: &Value, field: &str| row[field].as_f64().unwrap();
    assert!(rate(&busiest[0], "messages_per_s") > 0.0);
    assert!(rate(&busiest[0], "deliveries_per_s") > rate(&busiest[1], "deliveries_per_s"));
}

#[test]
fn a_consumer_that_does_not_read_is_named() {
    let (server, admin) = start(&["--shards", "1", "--slow-consumer", "drop_oldest"]);
    let mut reader = Client::connect(&server, "reader");
    let mut sleeper = Client::connect(&server, "sleeper");
    for client in [&mut reader, &mut sleeper] {
        client.join("tea");
    }
    let content = "x".repeat(60_000);
    let publish = || {
        for _ in 0..20 {
            let body = json!({"content": content});
            admin.post("/v1/rooms/tea/messages", &body).ok();
            reader.expect_in("message", "tea");
        }
    };
    let activity = await_activity(&admin, publish, |activity| {
        !rows(activity, "slow_consumers").is_empty()
    });
    let slow = rows(&activity, "slow_consumers");
    assert_eq!((slow.len(), &slow[0]["user"]), (1, &json!("sleeper")));
    assert!(number(&slow[0], "outbox_bytes") > 0);
    let id = slow[0]["id"].as_str().unwrap();
    let state = admin.get(&format!("/v1/connections/{id}")).ok();
    assert_eq!(state["user"], "sleeper");
}
