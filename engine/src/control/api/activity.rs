//! What the node has been doing, for pages and terminals that show it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use shardcast_shard::driver::ShardId;
use utoipa::{IntoParams, ToSchema};

use super::super::node::Node;
use super::super::problem::Problem;
use super::super::query::Asked;
use super::Problems;
use super::node::NodeState;
use crate::activity::{INTERVAL, Look, SAMPLES_MAX, Sample, unix_ms_now};
use crate::topology::core_of_shard;

/// The latest time that can be asked for: what JavaScript counts exactly.
const AFTER_MAX: u64 = (1 << 53) - 1;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct ActivityQuery {
    /// Only samples that were taken after this, in milliseconds since 1970 (UTC).
    #[serde(default)]
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    after: u64,
}

/// Numbers of consecutive samples, each list as long as that of their times.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Series {
    /// Connections there were.
    connections: Vec<f32>,
    /// Connections accepted a second.
    accepts_per_s: Vec<f32>,
    /// Messages received from clients a second.
    messages_per_s: Vec<f32>,
    /// Payloads queued to connections a second.
    deliveries_per_s: Vec<f32>,
    /// Bytes received a second.
    received_bytes_per_s: Vec<f32>,
    /// Bytes sent a second.
    sent_bytes_per_s: Vec<f32>,
    /// Messages left out for slow consumers a second.
    dropped_per_s: Vec<f32>,
    /// The share of the time in which there was something to do, 0 to 1.
    busy: Vec<f32>,
    /// The latency within the server that half of the deliveries did not exceed, in microseconds; null where there was no delivery.
    p50_us: Vec<Option<f32>>,
    /// The same for 99 of 100.
    p99_us: Vec<Option<f32>>,
    /// The same for 999 of 1000.
    p999_us: Vec<Option<f32>>,
}

impl Series {
    fn new<'a>(samples: impl Iterator<Item = &'a Sample> + Clone) -> Self {
        let rates = |field: fn(&Sample) -> f32| {
            let values = samples.clone();
            values.map(move |one| tenths(field(one)))
        };
        let latencies = |field: fn(&Sample) -> f32| {
            let values = rates(field);
            values.map(|us| (!us.is_nan()).then_some(us)).collect()
        };
        Self {
            connections: rates(|sample| sample.connections).collect(),
            accepts_per_s: rates(|sample| sample.accepts_per_s).collect(),
            messages_per_s: rates(|sample| sample.messages_per_s).collect(),
            deliveries_per_s: rates(|sample| sample.deliveries_per_s).collect(),
            received_bytes_per_s: rates(|sample| sample.received_bytes_per_s).collect(),
            sent_bytes_per_s: rates(|sample| sample.sent_bytes_per_s).collect(),
            dropped_per_s: rates(|sample| sample.dropped_per_s).collect(),
            busy: samples
                .clone()
                .map(|sample| (sample.busy * 1e3).round() / 1e3)
                .collect(),
            p50_us: latencies(|sample| sample.p50_us),
            p99_us: latencies(|sample| sample.p99_us),
            p999_us: latencies(|sample| sample.p999_us),
        }
    }
}

/// No more digits than mean something.
fn tenths(value: f32) -> f32 {
    (value * 10.0).round() / 10.0
}

/// Samples, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SampleSeries {
    /// When each was taken, in milliseconds since 1970 (UTC).
    unix_ms: Vec<u64>,
    /// Of the whole node.
    all: Series,
    /// Of each shard.
    shards: Vec<Series>,
}

/// A shard as it is now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShardState {
    /// Its number.
    shard: ShardId,
    /// The core that it is pinned to, where it is.
    core: Option<usize>,
    /// Whether it answered when it was asked for this.
    answers: bool,
    /// Times that it was started again.
    restarts: u64,
    /// Connections that it has.
    connections: u64,
    /// Rooms whose home it is.
    rooms: u64,
    /// Connections that output waits for, or is being sent to.
    outboxes: u64,
    /// Bytes of that output.
    outbox_bytes: u64,
    /// Mails and orders that wait for it.
    mailbox_depth: usize,
    /// Bytes of the histories whose home it is.
    history_bytes: u64,
}

/// A room that is busy.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BusyRoom {
    /// Its name.
    #[schema(example = "tea")]
    room: String,
    /// Connections that its last message went to.
    connections: u64,
    /// Messages a second, at the least.
    messages_per_s: f64,
    /// Deliveries a second, at the least.
    deliveries_per_s: f64,
}

/// A connection that does not read as fast as it is sent to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SlowConnection {
    /// Its id.
    #[schema(example = "0-17-3")]
    id: String,
    /// Whose it is.
    #[schema(example = "ada")]
    user: String,
    /// The shard that it is on.
    shard: ShardId,
    /// Bytes that wait to be sent to it, or are being sent.
    outbox_bytes: u64,
}

/// What the node has been doing.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ActivityState {
    /// When this was told, in milliseconds since 1970 (UTC).
    now_unix_ms: u64,
    /// Milliseconds from one sample to the next.
    interval_ms: u64,
    /// Samples that are kept.
    samples_max: usize,
    /// The node.
    node: NodeState,
    /// The shards as they are now.
    shards: Vec<ShardState>,
    /// What they did.
    samples: SampleSeries,
    /// The rooms with the most deliveries, the busiest first; 20 at the most. Rooms are counted while this is asked for, and not where nobody has for ten seconds: the first answer tells
    /// of none. Rates are those of the last five answers.
    busiest_rooms: Vec<BusyRoom>,
    /// Those that the most waits for, the slowest first; 20 at the most.
    slow_consumers: Vec<SlowConnection>,
}

/// Tells what the node has been doing: samples of the last five minutes, one a second, its shards, its busiest rooms, its slowest consumers. To be asked once a second.
#[utoipa::path(
    get,
    path = "/v1/activity",
    tag = "node",
    operation_id = "get_activity",
    params(ActivityQuery),
    responses((status = OK, description = "What the node has been doing", body = ActivityState), Problems)
)]
pub(in super::super) async fn activity(
    State(node): State<Arc<Node>>,
    Asked(query): Asked<ActivityQuery>,
) -> Result<Json<ActivityState>, Problem> {
    if query.after > AFTER_MAX {
        let expected = format!("a number from 0 to {AFTER_MAX}");
        return Err(Problem::malformed("after", &expected));
    }
    let look = node.activity().look(node.shards()).await;
    let samples = node.activity().samples();
    let samples = SampleSeries {
        unix_ms: samples.times_after(query.after),
        all: Series::new(samples.all_after(query.after)),
        shards: samples.shards_after(query.after).map(Series::new).collect(),
    };
    Ok(Json(ActivityState {
        now_unix_ms: unix_ms_now(),
        interval_ms: INTERVAL.as_millis() as u64,
        samples_max: SAMPLES_MAX,
        node: NodeState::new(&node),
        shards: shards(&node, &look),
        samples,
        busiest_rooms: busiest_rooms(&look),
        slow_consumers: slow_consumers(&look),
    }))
}

fn shards(node: &Node, look: &Look) -> Vec<ShardState> {
    let metrics = node.activity().metrics();
    let shards = metrics.stats().iter().zip(metrics.controls());
    shards
        .enumerate()
        .map(|(place, (stats, control))| {
            let depth = control.depth();
            ShardState {
                shard: control.shard(),
                core: core_of_shard(&node.config().cores, place),
                answers: look.answers.get(place) == Some(&true),
                restarts: stats.restarts.value(),
                connections: stats.connections_open.value(),
                rooms: stats.rooms.value(),
                outboxes: stats.outboxes.value(),
                outbox_bytes: stats.outbox_bytes.value(),
                mailbox_depth: depth.requests + depth.deliveries + depth.orders,
                history_bytes: stats.history_bytes.value(),
            }
        })
        .collect()
}

fn busiest_rooms(look: &Look) -> Vec<BusyRoom> {
    let rooms = look.busiest_rooms.iter().map(|room| BusyRoom {
        room: room.room.as_str().to_owned(),
        connections: room.connections,
        messages_per_s: (room.messages_per_s * 10.0).round() / 10.0,
        deliveries_per_s: (room.deliveries_per_s * 10.0).round() / 10.0,
    });
    rooms.collect()
}

fn slow_consumers(look: &Look) -> Vec<SlowConnection> {
    let consumers = look.slow_consumers.iter().map(|slow| SlowConnection {
        id: slow.id.to_string(),
        user: slow.user.as_str().to_owned(),
        shard: slow.id.shard,
        outbox_bytes: slow.outbox_bytes,
    });
    consumers.collect()
}
