//! Connections: whose there are, and their end.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use shardcast_shard::connection_id::ConnectionId;
use shardcast_shard::driver::ShardId;
use shardcast_shard::hub::Name;
use shardcast_shard::orders::{
    Closed, ConnectionState, ENTRIES_PER_ORDER_MAX, Order, UserConnections, Whose,
};
use shardcast_shard::ws::close;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::super::node::Node;
use super::super::problem::Problem;
use super::super::query::{Body, Named};
use super::{BodyProblems, Missing, Problems};

/// Connections of a user that one answer tells of, on each shard.
const CONNECTIONS_MAX: usize = 100;
const _: () = assert!(CONNECTIONS_MAX <= ENTRIES_PER_ORDER_MAX);

/// What a connection is told where the request does not say.
const REASON: &str = "disconnected by the operator";

/// Bytes that the reason in a close frame may have (RFC 6455 §5.5).
const REASON_SIZE_MAX: usize = 123;

/// A connection.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Connection {
    /// Its id: shard, slot, and which use of the slot.
    #[schema(example = "0-17-3")]
    id: String,
    /// Whose it is.
    #[schema(example = "ada")]
    user: String,
    /// The shard that it is on.
    shard: ShardId,
    /// Rooms that it has joined or asked for; of very many connections not all.
    rooms: Vec<String>,
    /// Bytes that wait to be sent to it.
    outbox_bytes: u64,
}

impl Connection {
    fn new(shard: ShardId, state: ConnectionState) -> Self {
        Self {
            id: ConnectionId::new(shard, state.key).to_string(),
            user: state.user.as_str().to_owned(),
            shard,
            rooms: state
                .rooms
                .iter()
                .map(|room| room.as_str().to_owned())
                .collect(),
            outbox_bytes: state.outbox_bytes,
        }
    }
}

/// A user's connections.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Connections {
    /// Whose.
    user: String,
    /// How many there are.
    count: u64,
    /// Some of them: at most 100 a shard.
    connections: Vec<Connection>,
}

/// Tells which connections a user has.
#[utoipa::path(
    get,
    path = "/v1/users/{user}/connections",
    tag = "connections",
    operation_id = "list_user_connections",
    params(("user" = String, Path, description = "The user's name")),
    responses((status = OK, description = "The connections; none where the user is not here", body = Connections), Problems, Missing)
)]
pub(in super::super) async fn of_user(
    State(node): State<Arc<Node>>,
    user: Named,
) -> Result<Json<Connections>, Problem> {
    let user = user.name("user", node.limits().user_name_size_max)?;
    let answers: Vec<Result<UserConnections, _>> = node
        .shards()
        .ask_all(|reply| Order::Connections {
            whose: Whose::User(user.clone()),
            limit: CONNECTIONS_MAX,
            reply,
        })
        .await;
    let (mut count, mut connections) = (0, Vec::new());
    for (shard, answer) in answers.into_iter().enumerate() {
        let answer = answer?;
        count += answer.count;
        // There are as many as shards.
        let shard = shard as ShardId;
        let states = answer.connections.into_iter();
        connections.extend(states.map(|state| Connection::new(shard, state)));
    }
    Ok(Json(Connections {
        user: user.as_str().to_owned(),
        count,
        connections,
    }))
}

/// Tells of one connection.
#[utoipa::path(
    get,
    path = "/v1/connections/{id}",
    tag = "connections",
    operation_id = "get_connection",
    params(("id" = String, Path, description = "The connection's id")),
    responses((status = OK, description = "The connection", body = Connection), Problems, Missing)
)]
pub(in super::super) async fn connection(
    State(node): State<Arc<Node>>,
    id: Named,
) -> Result<Json<Connection>, Problem> {
    let id = found_id(&node, &id)?;
    let answer: UserConnections = node
        .shards()
        .ask(id.shard, |reply| Order::Connections {
            whose: Whose::Connection(id.key),
            limit: 1,
            reply,
        })
        .await?;
    let state = answer.connections.into_iter().next();
    let state = state.ok_or_else(|| no_connection(&id.to_string()))?;
    Ok(Json(Connection::new(id.shard, state)))
}

/// How connections are ended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Disconnect {
    /// The code of the close frame (RFC 6455 §7.4).
    #[serde(default = "code_default")]
    #[schema(minimum = 4000, maximum = 4999, default = 4403, example = 4403)]
    code: u16,
    /// Why; at most 123 bytes.
    #[serde(default = "reason_default")]
    #[schema(default = "disconnected by the operator", max_length = 123)]
    reason: String,
}

fn code_default() -> u16 {
    close::FORBIDDEN
}

fn reason_default() -> String {
    REASON.to_owned()
}

impl Disconnect {
    fn check(self) -> Result<(u16, Name), Problem> {
        let Self { code, reason } = self;
        if !(4000..=4999).contains(&code) {
            return Err(Problem::unprocessable(format!(
                "`code` is {code} and must be from 4000 to 4999, those that are left to applications"
            )));
        }
        if reason.len() > REASON_SIZE_MAX {
            return Err(Problem::unprocessable(format!(
                "`reason` has {} bytes and may have {REASON_SIZE_MAX}",
                reason.len()
            )));
        }
        Ok((code, reason.into()))
    }
}

/// How many connections were ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Disconnected {
    /// So many were told to close.
    closed: u64,
    /// So many of the user's are left: they came meanwhile, or were still in their handshake.
    left: u64,
}

/// Closes every connection of a user. It does not hinder the user from connecting again.
#[utoipa::path(
    post,
    path = "/v1/users/{user}/disconnect",
    tag = "connections",
    operation_id = "disconnect_user",
    params(("user" = String, Path, description = "The user's name")),
    request_body = Disconnect,
    responses((status = OK, description = "How many were closed; 0 where the user is not here", body = Disconnected), Problems, Missing, BodyProblems)
)]
pub(in super::super) async fn disconnect_user(
    State(node): State<Arc<Node>>,
    user: Named,
    Body(how): Body<Disconnect>,
) -> Result<Json<Disconnected>, Problem> {
    let user = user.name("user", node.limits().user_name_size_max)?;
    let (code, reason) = how.check()?;
    let shards = node.shards();
    let deadline = shards.deadline();
    let mut total = Disconnected { closed: 0, left: 0 };
    for shard in 0..shards.handle().shards() {
        // An order closes some. Whatever is left for a reason does not become fewer by another order.
        loop {
            let closed: Closed = shards
                .ask(shard, |reply| Order::Close {
                    whose: Whose::User(user.clone()),
                    code,
                    reason: reason.clone(),
                    reply,
                })
                .await?;
            total.closed += closed.closed;
            if closed.closed == 0 || closed.left == 0 || Instant::now() >= deadline {
                total.left += closed.left;
                break;
            }
        }
    }
    Ok(Json(total))
}

/// Closes one connection.
#[utoipa::path(
    post,
    path = "/v1/connections/{id}/disconnect",
    tag = "connections",
    operation_id = "disconnect",
    params(("id" = String, Path, description = "The connection's id")),
    request_body = Disconnect,
    responses((status = OK, description = "It was told to close", body = Disconnected), Problems, Missing, BodyProblems)
)]
pub(in super::super) async fn disconnect(
    State(node): State<Arc<Node>>,
    id: Named,
    Body(how): Body<Disconnect>,
) -> Result<Json<Disconnected>, Problem> {
    let id = found_id(&node, &id)?;
    let (code, reason) = how.check()?;
    let closed: Closed = node
        .shards()
        .ask(id.shard, |reply| Order::Close {
            whose: Whose::Connection(id.key),
            code,
            reason,
            reply,
        })
        .await?;
    match closed.closed {
        0 => Err(no_connection(&id.to_string())),
        closed => Ok(Json(Disconnected { closed, left: 0 })),
    }
}

fn found_id(node: &Node, Named(text): &Named) -> Result<ConnectionId, Problem> {
    let shards = node.shards().handle().shards();
    let id = text.parse().ok();
    id.filter(|id: &ConnectionId| id.shard < shards)
        .ok_or_else(|| no_connection(text))
}

fn no_connection(id: &str) -> Problem {
    Problem::not_found(format!("no open connection has the id `{id}`"))
}
