//! Whether the node works, and whether it should be sent connections.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shardcast_shard::admission::Fullness;
use shardcast_shard::orders::Order;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::node::{Node, Phase};

/// Time in which every shard must have shown that it runs.
const ALIVE_TIME_MAX: Duration = Duration::from_secs(1);

/// How the node is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// Whether all is well.
    ok: bool,
    /// Where the node stands.
    phase: Phase,
    /// What is not well.
    problems: Vec<String>,
}

impl Health {
    fn answer(node: &Node, problems: Vec<String>) -> Response {
        let ok = problems.is_empty();
        let status = match ok {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        let health = Self {
            ok,
            phase: node.phase(),
            problems,
        };
        (status, Json(health)).into_response()
    }
}

/// Whether every shard runs: each is asked for an answer within a second.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    security(()),
    responses(
        (status = OK, description = "Every shard answers, or the node was drained", body = Health),
        (status = SERVICE_UNAVAILABLE, description = "Some shard does not answer", body = Health),
    )
)]
pub(super) async fn healthz(State(node): State<Arc<Node>>) -> Response {
    if node.phase() == Phase::Drained {
        return Health::answer(&node, Vec::new());
    }
    let shards = node.shards();
    let answers = shards.ask_all(|reply| Order::Counts { reply });
    let problems = match timeout(ALIVE_TIME_MAX, answers).await {
        Ok(answers) => answers
            .into_iter()
            .filter_map(|answer| Some(answer.err()?.to_string()))
            .collect(),
        Err(_) => vec![format!(
            "not all of {} shards have answered within {} ms",
            shards.handle().shards(),
            ALIVE_TIME_MAX.as_millis()
        )],
    };
    // A node that was drained meanwhile has no shards that could answer.
    match node.phase() {
        Phase::Drained => Health::answer(&node, Vec::new()),
        Phase::Serving | Phase::Draining => Health::answer(&node, problems),
    }
}

/// Whether the node should be sent connections.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    security(()),
    responses(
        (status = OK, description = "The node takes connections", body = Health),
        (status = SERVICE_UNAVAILABLE, description = "The node is full, draining or drained", body = Health),
    )
)]
pub(super) async fn readyz(State(node): State<Arc<Node>>) -> Response {
    let mut problems = Vec::new();
    match node.phase() {
        Phase::Serving => {}
        Phase::Draining => problems.push("the node is being drained".to_owned()),
        Phase::Drained => problems.push("the node was drained".to_owned()),
    }
    match node.fullness() {
        None => {}
        Some(Fullness::Memory) => {
            problems.push("the memory of the process has reached memory_mib_max".to_owned());
        }
        Some(Fullness::Connections) => {
            problems.push("the node has connections_max connections".to_owned());
        }
    }
    Health::answer(&node, problems)
}
