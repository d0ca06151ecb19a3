//! What requests carry, taken apart: bodies, queries, paths and names, each refused with a [`Problem`].

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use shardcast_shard::hub::Name;
use shardcast_shard::wire::check_name;

use super::node::Node;
use super::problem::Problem;

/// Bytes of a body that is too large which are read all the same: who is still sending hears no answer.
const UNREAD_SIZE_MAX: usize = 1 << 20;

/// A body of JSON.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Node>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, node: &Arc<Node>) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let size_max = node.config().admin.request_size_max;
        let bytes = read(request.into_body(), size_max).await?;
        if !is_json {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body must be JSON, and say so: Content-Type: application/json",
            ));
        }
        // A list would be taken for the fields of an object in their order.
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            return Err(Problem::unprocessable("the body must be an object"));
        }
        let Json(body) = Json::from_bytes(&bytes).map_err(|refused: JsonRejection| {
            Problem::new(refused.status(), refused.body_text())
        })?;
        Ok(Self(body))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok());
    let kind = value.and_then(|value| value.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Reads a whole body of at most so many bytes.
async fn read(mut body: axum::body::Body, size_max: usize) -> Result<Vec<u8>, Problem> {
    let (mut bytes, mut size) = (Vec::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                format!("the body broke off: {error}"),
            )
        })?;
        let Ok(part) = frame.into_data() else {
            continue;
        };
        size += part.len();
        if size <= size_max {
            bytes.extend_from_slice(&part);
        } else {
            bytes = Vec::new();
        }
        if size > size_max + UNREAD_SIZE_MAX {
            break;
        }
    }
    match size > size_max {
        true => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {size_max} bytes (admin_request_size_max)"),
        )),
        false => Ok(bytes),
    }
}

/// A list of objects, none of which is written as a list.
pub(super) fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let texts: Vec<&'de RawValue> = Vec::deserialize(deserializer)?;
    let object = |text: &'de RawValue| {
        if text.get().starts_with('[') {
            return Err(D::Error::custom("an entry must be an object"));
        }
        serde_json::from_str(text.get()).map_err(D::Error::custom)
    };
    texts.into_iter().map(object).collect()
}

/// The query of an address.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(query) =
            Query::from_request_parts(parts, state)
                .await
                .map_err(|refused: QueryRejection| {
                    Problem::new(refused.status(), refused.body_text())
                })?;
        Ok(Self(query))
    }
}

/// The one variable part of a path.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(name) =
            Path::from_request_parts(parts, state)
                .await
                .map_err(|refused: PathRejection| {
                    Problem::not_found(format!("no such name: {}", refused.body_text()))
                })?;
        Ok(Self(name))
    }
}

impl Named {
    /// The name of a room or of a user, `kind`. What cannot be one is nowhere.
    pub(super) fn name(self, kind: &str, size_max: u64) -> Result<Name, Problem> {
        check_name(&self.0, size_max)
            .map_err(|error| Problem::not_found(format!("no {kind} has this name: it {error}")))?;
        Ok(Name::from(self.0))
    }
}

/// The name in a field of a body.
pub(super) fn field_name(field: &str, name: &str, size_max: u64) -> Result<Name, Problem> {
    check_name(name, size_max)
        .map_err(|error| Problem::unprocessable(format!("`{field}` {error}")))?;
    Ok(Name::from(name))
}
