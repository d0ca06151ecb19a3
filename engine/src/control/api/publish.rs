//! Publishing: to a room, to a user, and many at once.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shardcast_shard::hub::Target;
use shardcast_shard::hub::event::ErrorCode;
use shardcast_shard::orders::{Order, Publication, Published};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::super::node::Node;
use super::super::problem::Problem;
use super::super::query::{Body, Named, field_name, objects};
use super::super::shards::Pending;
use super::{BodyProblems, Missing, Problems};

/// In whose name is published where the request does not say.
const USER: &str = "server";

/// Messages of a bulk request that are on their way to the shards at one time.
const UNDER_WAY_MAX: usize = 64;

/// The header that makes a repeated request harmless.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage {
    /// Any JSON value; members get it as it is written here.
    #[schema(value_type = serde_json::Value, example = json!({"text": "hello"}))]
    content: Box<RawValue>,
    /// In whose name.
    #[serde(default = "server")]
    #[schema(default = "server", example = "server", min_length = 1)]
    user: String,
    /// Makes a repeat of the message harmless: one with the same `id` and `user` is not published again for as long as ids are kept (`ids_age_ms_max`). In
    /// its place counts the header `Idempotency-Key`.
    #[schema(example = "order-17", min_length = 1)]
    id: Option<String>,
}

fn server() -> String {
    USER.to_owned()
}

/// What became of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Receipt {
    /// Which run of the room's numbers.
    #[schema(example = 1_800_000_000_000_000_u64)]
    epoch: u64,
    /// The message's number.
    #[schema(example = 42)]
    seq: u64,
    /// Whether it had been published before: then this is the place of the first, and nobody was told again.
    duplicate: bool,
}

impl From<Published> for Receipt {
    fn from(published: Published) -> Self {
        Self {
            epoch: published.position.epoch,
            seq: published.position.seq,
            duplicate: published.duplicate,
        }
    }
}

/// Publishes to a room, whether anybody is in it or not.
#[utoipa::path(
    post,
    path = "/v1/rooms/{room}/messages",
    tag = "publish",
    operation_id = "publish_to_room",
    params(
        ("room" = String, Path, description = "The room's name"),
        ("Idempotency-Key" = Option<String>, Header, description = "Counts as the message's `id` where it has none", min_length = 1, max_length = 64, pattern = "^[!-~]+$"),
    ),
    request_body = NewMessage,
    responses(
        (status = OK, description = "The message has its place in the room's order", body = Receipt),
        Problems, Missing, BodyProblems,
    )
)]
pub(in super::super) async fn to_room(
    State(node): State<Arc<Node>>,
    room: Named,
    headers: HeaderMap,
    Body(message): Body<NewMessage>,
) -> Result<Json<Receipt>, Problem> {
    let room = room.name("room", node.limits().room_name_size_max)?;
    publish(&node, Target::Room(room), message, &headers).await
}

/// Publishes to every connection of a user, on whichever shard.
#[utoipa::path(
    post,
    path = "/v1/users/{user}/messages",
    tag = "publish",
    operation_id = "publish_to_user",
    params(
        ("user" = String, Path, description = "The user's name"),
        ("Idempotency-Key" = Option<String>, Header, description = "Counts as the message's `id` where it has none", min_length = 1, max_length = 64, pattern = "^[!-~]+$"),
    ),
    request_body = NewMessage,
    responses(
        (status = OK, description = "The message has its place in the order of the user's inbox", body = Receipt),
        Problems, Missing, BodyProblems,
    )
)]
pub(in super::super) async fn to_user(
    State(node): State<Arc<Node>>,
    user: Named,
    headers: HeaderMap,
    Body(message): Body<NewMessage>,
) -> Result<Json<Receipt>, Problem> {
    let user = user.name("user", node.limits().user_name_size_max)?;
    publish(&node, Target::Inbox(user), message, &headers).await
}

async fn publish(
    node: &Node,
    target: Target,
    message: NewMessage,
    headers: &HeaderMap,
) -> Result<Json<Receipt>, Problem> {
    let key = idempotency_key(headers)?;
    let id = message.id.as_deref().or(key);
    let publication = publication(node, target, &message.user, &message.content, id)?;
    let (pending, deadline) = (send(node, publication), node.shards().deadline());
    Ok(Json(receipt(node, pending, deadline).await?))
}

/// One of many messages, to a room or to a user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Addressed {
    /// The room that it goes to; either this or `to`.
    #[schema(example = "tea")]
    room: Option<String>,
    /// The user whom it goes to; either this or `room`.
    to: Option<String>,
    /// Any JSON value.
    #[schema(value_type = serde_json::Value, example = json!("the kettle is on"))]
    content: Box<RawValue>,
    /// In whose name.
    #[serde(default = "server")]
    #[schema(default = "server")]
    user: String,
    /// Makes a repeat of the message harmless. Where it is missing and the request has a header `Idempotency-Key`, the id is that key, a slash and the
    /// message's place in the list.
    id: Option<String>,
}

/// Many messages.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Bulk {
    /// In the order in which they are published, as far as they go to the same room or user. At most `admin_messages_max`.
    #[serde(deserialize_with = "objects")]
    #[schema(max_items = 1000)]
    messages: Vec<Addressed>,
}

/// What became of one of many messages.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Outcome {
    /// It was published.
    Published(Receipt),
    /// It was not. The others are not concerned.
    Refused(Problem),
}

/// What became of many messages.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outcomes {
    /// How many were published.
    published: usize,
    /// How many were not.
    refused: usize,
    /// Of each message what became of it, in their order.
    results: Vec<Outcome>,
}

/// Publishes many messages, to rooms and users. Each stands for itself: some may be refused. Repeated with the same `Idempotency-Key` it publishes only what was not.
#[utoipa::path(
    post,
    path = "/v1/messages",
    tag = "publish",
    operation_id = "publish_many",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat of the request harmless", min_length = 1, max_length = 64, pattern = "^[!-~]+$"),
    ),
    request_body = Bulk,
    responses(
        (status = OK, description = "What became of each", body = Outcomes),
        Problems, BodyProblems,
    )
)]
pub(in super::super) async fn bulk(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
    Body(Bulk { messages }): Body<Bulk>,
) -> Result<Json<Outcomes>, Problem> {
    let messages_max = node.config().admin.messages_max;
    if messages.len() > messages_max {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "{} messages are more than {messages_max} (admin_messages_max); send them in parts",
                messages.len()
            ),
        ));
    }
    let key = idempotency_key(&headers)?;
    let deadline = node.shards().deadline();
    let mut results = Vec::with_capacity(messages.len());
    let mut under_way: VecDeque<Result<Sent, Problem>> = VecDeque::new();
    for (place, message) in messages.into_iter().enumerate() {
        if under_way.len() >= UNDER_WAY_MAX
            && let Some(oldest) = under_way.pop_front()
        {
            results.push(outcome(&node, oldest, deadline).await);
        }
        under_way.push_back(addressed(&node, &message, key, place).map(|one| send(&node, one)));
    }
    for one in under_way {
        results.push(outcome(&node, one, deadline).await);
    }
    let published = results
        .iter()
        .filter(|result| matches!(result, Outcome::Published(_)))
        .count();
    Ok(Json(Outcomes {
        published,
        refused: results.len() - published,
        results,
    }))
}

/// A publication whose answer is under way.
type Sent = Pending<Result<Published, ErrorCode>>;

fn send(node: &Node, publication: Publication) -> Sent {
    let shards = node.shards();
    let home = shards.handle().home_of(&publication.target);
    shards.send(home, |reply| Order::Publish {
        publication,
        reply: Some(reply),
    })
}

async fn receipt(node: &Node, sent: Sent, deadline: Instant) -> Result<Receipt, Problem> {
    match node.shards().answer(sent, deadline).await? {
        Ok(published) => Ok(published.into()),
        Err(ErrorCode::TooLarge) => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the content is larger than the room permits (message_size_max)",
        )),
        Err(ErrorCode::TooManyRooms) => Err(Problem::unavailable(
            "the shard that would order this message holds as many rooms as it may (rooms_max)",
        )),
        Err(code) => Err(Problem::unavailable(code.as_str())),
    }
}

async fn outcome(node: &Node, sent: Result<Sent, Problem>, deadline: Instant) -> Outcome {
    let receipt = match sent {
        Ok(sent) => receipt(node, sent, deadline).await,
        Err(problem) => Err(problem),
    };
    match receipt {
        Ok(receipt) => Outcome::Published(receipt),
        Err(problem) => Outcome::Refused(problem),
    }
}

fn addressed(
    node: &Node,
    message: &Addressed,
    key: Option<&str>,
    place: usize,
) -> Result<Publication, Problem> {
    let limits = node.limits();
    let target = match (&message.room, &message.to) {
        (Some(room), None) => Target::Room(field_name("room", room, limits.room_name_size_max)?),
        (None, Some(user)) => Target::Inbox(field_name("to", user, limits.user_name_size_max)?),
        _ => {
            return Err(Problem::unprocessable(
                "a message goes either to a `room` or `to` a user",
            ));
        }
    };
    let of_place = key.map(|key| format!("{key}/{place}"));
    let id = message.id.as_deref().or(of_place.as_deref());
    publication(node, target, &message.user, &message.content, id)
}

fn publication(
    node: &Node,
    target: Target,
    user: &str,
    content: &RawValue,
    id: Option<&str>,
) -> Result<Publication, Problem> {
    let limits = node.limits();
    let content = content.get();
    if content.len() as u64 > limits.message_size_max {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "the content has {} bytes, more than {} (message_size_max)",
                content.len(),
                limits.message_size_max
            ),
        ));
    }
    Ok(Publication {
        user: field_name("user", user, limits.user_name_size_max)?,
        target,
        content: Bytes::copy_from_slice(content.as_bytes()),
        id: id
            .map(|id| field_name("id", id, limits.id_size_max))
            .transpose()?,
    })
}

/// The key that makes a request harmless to repeat: visible ASCII.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    const KEY_SIZE_MAX: usize = 64;
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    let fits = (1..=KEY_SIZE_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    match value.to_str() {
        Ok(key) if fits => Ok(Some(key)),
        _ => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("Idempotency-Key must be 1 to {KEY_SIZE_MAX} characters of visible ASCII"),
        )),
    }
}
