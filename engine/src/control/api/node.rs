//! The node itself: how it stands, how it is configured, and its draining.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use shardcast_shard::shard::StopPlan;
use utoipa::ToSchema;

use super::super::node::{Node, Phase};
use super::super::problem::Problem;
use super::super::query::Body;
use super::{BodyProblems, Problems};
use crate::metrics;

/// The longest time that a draining may take: a day.
const DRAIN_MS_MAX: u64 = 86_400_000;

/// How a node stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodeState {
    /// The version of the server.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// Where it stands.
    phase: Phase,
    /// Where it takes WebSockets.
    #[schema(example = "127.0.0.1:9000")]
    listen: String,
    /// The same as clients name it; a host of `0.0.0.0` or `[::]` stands for any name of this one.
    #[schema(example = "ws://127.0.0.1:9000/ws")]
    url: String,
    /// How many shards it has.
    shards: u16,
    /// How many connections it has.
    connections: u64,
    /// When it started, in milliseconds since 1970 (UTC).
    started_unix_ms: u64,
    /// For how long it has run.
    uptime_ms: u64,
}

impl NodeState {
    pub(super) fn new(node: &Node) -> Self {
        let (begun, started) = node.started();
        let started = started.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            phase: node.phase(),
            listen: node.address().to_string(),
            url: node.url().to_owned(),
            shards: node.shards().handle().shards(),
            connections: node.connections(),
            started_unix_ms: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
            uptime_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Tells how the node stands.
#[utoipa::path(
    get,
    path = "/v1/node",
    tag = "node",
    operation_id = "get_node",
    responses((status = OK, description = "The node", body = NodeState), Problems)
)]
pub(in super::super) async fn state(State(node): State<Arc<Node>>) -> Json<NodeState> {
    Json(NodeState::new(&node))
}

/// Tells Prometheus how the node does.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "node",
    operation_id = "get_metrics",
    responses(
        (status = OK, description = "All metrics in the text format of Prometheus", content_type = "text/plain", body = String),
        Problems,
    )
)]
pub(in super::super) async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
    (kind, node.metrics().render())
}

/// A setting and where its value comes from.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SettingState {
    /// Its name; of an entry about rooms with its place.
    #[schema(example = "shards")]
    name: String,
    /// Its value, as a flag would be given it.
    #[schema(example = "2")]
    value: String,
    /// Where that comes from: the default, a line of a file, a variable, a flag.
    #[schema(example = "flag --shards")]
    source: String,
}

/// The configuration in force.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConfigState {
    /// Every setting. Secrets are none of them: those stand in files, whose names are told.
    settings: Vec<SettingState>,
}

/// Tells the configuration in force, and where each value comes from.
#[utoipa::path(
    get,
    path = "/v1/config",
    tag = "node",
    operation_id = "get_config",
    responses((status = OK, description = "The configuration", body = ConfigState), Problems)
)]
pub(in super::super) async fn config(State(node): State<Arc<Node>>) -> Json<ConfigState> {
    let rows = node.effective().rows().into_iter();
    Json(ConfigState {
        settings: rows
            .map(|(name, value, source)| SettingState {
                name,
                value,
                source: source.to_string(),
            })
            .collect(),
    })
}

/// Over which time a node is drained. What is not said is as configured.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Drain {
    /// Milliseconds over which the connections are told to come back elsewhere, so that they do not all come there at once.
    #[schema(minimum = 0, maximum = 86_400_000_u64, example = 30_000)]
    window_ms: Option<u64>,
    /// Milliseconds after which whatever is left is dropped.
    #[schema(minimum = 0, maximum = 86_400_000_u64, example = 60_000)]
    drain_ms_max: Option<u64>,
}

/// Drains the node: it takes no more connections, tells those that it has to come back elsewhere, waits for what is queued to leave, and then stands idle, with this
/// API, until it is ended by a signal. It cannot be taken back. Where it is being drained already nothing changes.
#[utoipa::path(
    post,
    path = "/v1/drain",
    tag = "node",
    operation_id = "drain",
    request_body = Drain,
    responses((status = ACCEPTED, description = "It is being drained; GET /v1/node tells when it is done", body = NodeState), Problems, BodyProblems)
)]
pub(in super::super) async fn drain(
    State(node): State<Arc<Node>>,
    Body(Drain {
        window_ms,
        drain_ms_max,
    }): Body<Drain>,
) -> Result<(StatusCode, Json<NodeState>), Problem> {
    for (field, value) in [("window_ms", window_ms), ("drain_ms_max", drain_ms_max)] {
        if value.is_some_and(|value| value > DRAIN_MS_MAX) {
            return Err(Problem::unprocessable(format!(
                "`{field}` may be {DRAIN_MS_MAX} at the most"
            )));
        }
    }
    let configured = node.stop_plan();
    let window_ms = window_ms.unwrap_or(configured.window_ms);
    node.drain(StopPlan {
        window_ms,
        // Who is told last needs time to go.
        stop_ms_max: drain_ms_max.unwrap_or(configured.stop_ms_max.max(2 * window_ms)),
        reconnect_after_ms: configured.reconnect_after_ms,
    });
    Ok((StatusCode::ACCEPTED, Json(NodeState::new(&node))))
}
