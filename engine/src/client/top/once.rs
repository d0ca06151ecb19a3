//! One picture of the activity as text, for scripts and logs.

use super::activity::{Activity, Series, last, last_latency};
use crate::client::figures::{age, bytes, grouped, latency, short};
use crate::client::text::{fit, harmless};

/// Samples back in which a latency counts as the latest.
pub const LATENCY_SAMPLES_MAX: usize = 5;

/// Columns of a name.
const NAME_COLUMNS: usize = 40;

/// The picture, with a line feed at its end.
#[must_use]
pub fn text(activity: &Activity) -> String {
    let node = &activity.node;
    let mut text = format!(
        "shardcast {} {} {}, up {}\n",
        harmless(&node.version),
        harmless(&node.url),
        harmless(&node.phase),
        age(node.uptime_ms)
    );
    text.push_str(&totals(node.connections, &activity.samples.all));
    text.push_str(&shards(activity));
    if !activity.busiest_rooms.is_empty() {
        text.push_str("\nCONNECTIONS  MESSAGES/S  DELIVERIES/S  ROOM\n");
        for room in &activity.busiest_rooms {
            text.push_str(&format!(
                "{:>11}  {:>10}  {:>12}  {}\n",
                grouped(room.connections),
                short(room.messages_per_s),
                short(room.deliveries_per_s),
                fit(&harmless(&room.room), NAME_COLUMNS)
            ));
        }
    }
    if !activity.slow_consumers.is_empty() {
        text.push_str("\n     WAITS  SHARD  CONNECTION       SLOW CONSUMER\n");
        for consumer in &activity.slow_consumers {
            text.push_str(&format!(
                "{:>10}  {:>5}  {:<15}  {}\n",
                bytes(consumer.outbox_bytes as f64),
                consumer.shard,
                fit(&harmless(&consumer.id), 15),
                fit(&harmless(&consumer.user), NAME_COLUMNS)
            ));
        }
    }
    text
}

fn totals(connections: u64, all: &Series) -> String {
    let percentile =
        |latencies: &[Option<f64>]| latency(last_latency(latencies, LATENCY_SAMPLES_MAX));
    format!(
        "connections {}  accepts {}/s  messages {}/s  deliveries {}/s\n\
         latency p50 {}  p99 {}  p99.9 {}  busy {:.0}%\n\
         received {}/s  sent {}/s  dropped {}/s\n",
        grouped(connections),
        short(last(&all.accepts_per_s)),
        short(last(&all.messages_per_s)),
        short(last(&all.deliveries_per_s)),
        percentile(&all.p50_us),
        percentile(&all.p99_us),
        percentile(&all.p999_us),
        last(&all.busy) * 100.0,
        bytes(last(&all.received_bytes_per_s)),
        bytes(last(&all.sent_bytes_per_s)),
        short(last(&all.dropped_per_s)),
    )
}

fn shards(activity: &Activity) -> String {
    let mut text =
        "\nSHARD  CORE  BUSY  CONNECTIONS  ROOMS  OUTBOXES     WAITS  MAILBOX  RESTARTS\n"
            .to_owned();
    for (place, shard) in activity.shards.iter().enumerate() {
        let series = activity.samples.shards.get(place);
        let busy = series.map_or(0.0, |series| last(&series.busy));
        let core = shard
            .core
            .map_or_else(|| "–".to_owned(), |core| core.to_string());
        let silent = if shard.answers {
            ""
        } else {
            "  does not answer"
        };
        text.push_str(&format!(
            "{:>5}  {core:>4}  {:>3.0}%  {:>11}  {:>5}  {:>8}  {:>8}  {:>7}  {:>8}{silent}\n",
            shard.shard,
            busy * 100.0,
            grouped(shard.connections),
            short(shard.rooms as f64),
            grouped(shard.outboxes),
            bytes(shard.outbox_bytes as f64),
            grouped(shard.mailbox_depth),
            shard.restarts,
        ));
    }
    text
}
