//! Rooms: which there are, who is in them, what was said.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shardcast_shard::driver::ShardId;
use shardcast_shard::hub::event::Message;
use shardcast_shard::hub::{Name, Position, Target};
use shardcast_shard::orders::{ENTRIES_PER_ORDER_MAX, Order, Page, RoomMember, RoomState};
use utoipa::{IntoParams, ToSchema};

use super::super::node::Node;
use super::super::problem::Problem;
use super::super::query::{Asked, Named};
use super::{Missing, Problems};

/// Entries of an answer where the request does not say.
const LIMIT: usize = 100;

/// Orders that one request may cost: after so many the answer says where to go on, however little was found.
const ORDERS_MAX: usize = 64;

fn limit_default() -> usize {
    LIMIT
}

/// Where a list goes on: a shard, and a place on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    shard: u32,
    place: u32,
}

impl Cursor {
    /// Two numbers with a dot between them. What is too large is behind the end.
    fn parse(text: &str) -> Result<Self, Problem> {
        let number = |digits: &str| {
            let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            all_digits.then(|| digits.parse().unwrap_or(u32::MAX))
        };
        let parts = text.split_once('.');
        let parsed = parts.and_then(|(shard, place)| Some((number(shard)?, number(place)?)));
        let (shard, place) =
            parsed.ok_or_else(|| Problem::malformed("cursor", "the value of `next`"))?;
        Ok(Self { shard, place })
    }

    fn text(self) -> String {
        format!("{}.{}", self.shard, self.place)
    }
}

fn checked_limit(limit: usize) -> Result<usize, Problem> {
    match limit {
        1..=ENTRIES_PER_ORDER_MAX => Ok(limit),
        _ => Err(Problem::malformed(
            "limit",
            &format!("a number from 1 to {ENTRIES_PER_ORDER_MAX}"),
        )),
    }
}

/// A room.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Room {
    /// Its name.
    #[schema(example = "tea")]
    room: String,
    /// Distinct users in it.
    #[schema(example = 2)]
    users: u64,
    /// Connections in it.
    #[schema(example = 3)]
    connections: u64,
    /// Which run of numbers it counts in.
    epoch: u64,
    /// Number of its last message; 0 before the first.
    seq: u64,
    /// When that came, in milliseconds since 1970 (UTC).
    last_message_unix_ms: Option<u64>,
    /// Messages that are remembered.
    history_messages: u64,
    /// What that costs, in bytes.
    history_bytes: u64,
    /// The shard that orders it.
    home: ShardId,
}

impl Room {
    fn new(state: RoomState, home: ShardId) -> Self {
        Self {
            room: state.room.as_str().to_owned(),
            users: state.users,
            connections: state.connections,
            epoch: state.position.epoch,
            seq: state.position.seq,
            last_message_unix_ms: state.last_unix_ms,
            history_messages: state.history_messages,
            history_bytes: state.history_bytes,
            home,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RoomsQuery {
    /// Only rooms whose names begin so.
    prefix: Option<String>,
    /// Where to go on: `next` of the answer before.
    #[param(pattern = "^[0-9]+\\.[0-9]+$")]
    cursor: Option<String>,
    /// Rooms in one answer.
    #[serde(default = "limit_default")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
}

/// Some rooms.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rooms {
    /// In no particular order.
    rooms: Vec<Room>,
    /// Where to go on; `null` where these are the last. There may be more although there are none here: with a prefix, a request looks at a bounded number of rooms.
    next: Option<String>,
}

/// Lists rooms with how many are in them. Rooms that come and go meanwhile may be missing or stand twice.
#[utoipa::path(
    get,
    path = "/v1/rooms",
    tag = "rooms",
    operation_id = "list_rooms",
    params(RoomsQuery),
    responses((status = OK, description = "Some rooms, and where to go on", body = Rooms), Problems)
)]
pub(in super::super) async fn list(
    State(node): State<Arc<Node>>,
    Asked(query): Asked<RoomsQuery>,
) -> Result<Json<Rooms>, Problem> {
    let limit = checked_limit(query.limit)?;
    let mut cursor = match &query.cursor {
        Some(cursor) => Cursor::parse(cursor)?,
        None => Cursor { shard: 0, place: 0 },
    };
    let prefix = Name::from(query.prefix.unwrap_or_default());
    let shards = node.shards();
    let mut rooms = Vec::new();
    for _ in 0..ORDERS_MAX {
        let Some(shard) = ShardId::try_from(cursor.shard)
            .ok()
            .filter(|shard| *shard < shards.handle().shards())
        else {
            return Ok(Json(Rooms { rooms, next: None }));
        };
        let page: Page<RoomState> = shards
            .ask(shard, |reply| Order::Rooms {
                prefix: prefix.clone(),
                from: cursor.place,
                limit: limit - rooms.len(),
                reply,
            })
            .await?;
        rooms.extend(
            page.entries
                .into_iter()
                .map(|state| Room::new(state, shard)),
        );
        cursor = match page.next {
            Some(place) => Cursor { place, ..cursor },
            None => Cursor {
                shard: cursor.shard + 1,
                place: 0,
            },
        };
        if rooms.len() >= limit {
            break;
        }
    }
    let is_over = cursor.shard >= u32::from(shards.handle().shards());
    Ok(Json(Rooms {
        rooms,
        next: (!is_over).then(|| cursor.text()),
    }))
}

/// Tells how a room stands.
#[utoipa::path(
    get,
    path = "/v1/rooms/{room}",
    tag = "rooms",
    operation_id = "get_room",
    params(("room" = String, Path, description = "The room's name")),
    responses((status = OK, description = "The room", body = Room), Problems, Missing)
)]
pub(in super::super) async fn room(
    State(node): State<Arc<Node>>,
    room: Named,
) -> Result<Json<Room>, Problem> {
    let (room, home) = found_name(&node, room)?;
    let asked = room.clone();
    let state = node
        .shards()
        .ask(home, |reply| Order::Room { room: asked, reply })
        .await?;
    let state = state.ok_or_else(|| no_room(&room))?;
    Ok(Json(Room::new(state, home)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MembersQuery {
    /// Where to go on: `next` of the answer before.
    #[param(pattern = "^[0-9]+\\.[0-9]+$")]
    cursor: Option<String>,
    /// Members in one answer.
    #[serde(default = "limit_default")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
}

/// A user in a room, with the connections on one shard.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Member {
    /// Who.
    #[schema(example = "ada")]
    user: String,
    /// On which shard.
    shard: ShardId,
    /// So many of the user's connections there are in the room.
    connections: u32,
}

/// Some of a room's members.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Members {
    /// In no particular order. A user with connections on several shards stands once for each.
    members: Vec<Member>,
    /// Where to go on; `null` where these are the last.
    next: Option<String>,
}

/// Lists who is in a room, whatever the room tells its members of each other.
#[utoipa::path(
    get,
    path = "/v1/rooms/{room}/members",
    tag = "rooms",
    operation_id = "list_members",
    params(("room" = String, Path, description = "The room's name"), MembersQuery),
    responses((status = OK, description = "Some members, and where to go on", body = Members), Problems, Missing)
)]
pub(in super::super) async fn members(
    State(node): State<Arc<Node>>,
    room: Named,
    Asked(query): Asked<MembersQuery>,
) -> Result<Json<Members>, Problem> {
    let limit = checked_limit(query.limit)?;
    let from = match &query.cursor {
        Some(cursor) => Cursor::parse(cursor)?.place,
        None => 0,
    };
    let (room, home) = found_name(&node, room)?;
    let asked = room.clone();
    let page: Option<Page<RoomMember>> = node
        .shards()
        .ask(home, |reply| Order::Members {
            room: asked,
            from,
            limit,
            reply,
        })
        .await?;
    let page = page.ok_or_else(|| no_room(&room))?;
    let cursor = |place| Cursor {
        shard: u32::from(home),
        place,
    };
    Ok(Json(Members {
        members: page
            .entries
            .into_iter()
            .map(|member| Member {
                user: member.user.as_str().to_owned(),
                shard: member.shard,
                connections: member.connections,
            })
            .collect(),
        next: page.next.map(|place| cursor(place).text()),
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// After which place: epoch and number with a dot between them. Without it the newest are told.
    #[param(
        pattern = "^[0-9]{1,16}\\.[0-9]{1,16}$",
        example = "1800000000000000.41"
    )]
    since: Option<String>,
    /// Messages in one answer.
    #[serde(default = "limit_default")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
}

/// A message that was published.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PastMessage {
    /// Its number.
    seq: u64,
    /// In whose name.
    user: String,
    /// As it was published.
    #[schema(value_type = serde_json::Value)]
    content: Box<RawValue>,
    /// When, in milliseconds since 1970 (UTC).
    timestamp: u64,
}

/// What is remembered of a room.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct History {
    /// Which run of numbers the room counts in.
    epoch: u64,
    /// Number of its last message.
    seq: u64,
    /// Whether nothing is missing between the place asked for and the first message.
    complete: bool,
    /// Oldest first.
    messages: Vec<PastMessage>,
}

/// Tells what was said in a room.
#[utoipa::path(
    get,
    path = "/v1/rooms/{room}/history",
    tag = "rooms",
    operation_id = "get_history",
    params(("room" = String, Path, description = "The room's name"), HistoryQuery),
    responses((status = OK, description = "What is remembered", body = History), Problems, Missing)
)]
pub(in super::super) async fn history(
    State(node): State<Arc<Node>>,
    room: Named,
    Asked(query): Asked<HistoryQuery>,
) -> Result<Json<History>, Problem> {
    let limit = checked_limit(query.limit)? as u64;
    let since = query.since.as_deref().map(position).transpose()?;
    let (room, home) = found_name(&node, room)?;
    let asked = room.clone();
    let recalled = node
        .shards()
        .ask(home, |reply| Order::History {
            room: asked,
            since,
            limit,
            reply,
        })
        .await?
        .ok_or_else(|| no_room(&room))?;
    Ok(Json(History {
        epoch: recalled.position.epoch,
        seq: recalled.position.seq,
        complete: recalled.complete,
        messages: recalled
            .messages
            .iter()
            .filter_map(|message| past_message(message))
            .collect(),
    }))
}

/// `None` where the content is no JSON, which an application of one's own may have published.
fn past_message(message: &Message) -> Option<PastMessage> {
    let content = std::str::from_utf8(&message.content).ok()?;
    Some(PastMessage {
        seq: message.seq,
        user: message.user.as_str().to_owned(),
        content: RawValue::from_string(content.to_owned()).ok()?,
        timestamp: message.timestamp_ms,
    })
}

fn position(text: &str) -> Result<Position, Problem> {
    let number = |digits: &str| {
        let fits =
            (1..=16).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| digits.parse().ok()).flatten()
    };
    let parts = text.split_once('.');
    let parsed = parts.and_then(|(epoch, seq)| {
        Some(Position {
            epoch: number(epoch)?,
            seq: number(seq)?,
        })
    });
    parsed
        .ok_or_else(|| Problem::malformed("since", "an epoch and a number with a dot between them"))
}

fn found_name(node: &Node, room: Named) -> Result<(Name, ShardId), Problem> {
    let room = room.name("room", node.limits().room_name_size_max)?;
    let home = node.shards().handle().home_of(&Target::Room(room.clone()));
    Ok((room, home))
}

fn no_room(room: &str) -> Problem {
    Problem::not_found(format!(
        "no room is called `{room}`: nobody is in it and nothing of it is remembered"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = Cursor {
            shard: 3,
            place: 1000,
        };
        assert_eq!(Cursor::parse(&cursor.text()), Ok(cursor));
        assert_eq!(Cursor::parse("99999999999.1").unwrap().shard, u32::MAX);
        for text in ["", ".", "1", "1.", ".1", "1.x", "-1.0", "+1.0", "1.2.3"] {
            assert!(Cursor::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_place_is_two_numbers() {
        let told = position("1800000000000.17").unwrap();
        assert_eq!((told.epoch, told.seq), (1_800_000_000_000, 17));
        for text in ["", "1", "1.", ".1", "1.-1", "1.1.1", "12345678901234567.1"] {
            assert!(position(text).is_err(), "{text}");
        }
    }
}
