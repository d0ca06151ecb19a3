//! What requests carry, taken apart: bodies, queries, paths and names, each refused with a [`Problem`].

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use shardcast_shard::hub::Name;
use shardcast_shard::wire::check_name;

use super::problem::Problem;

/// A body of JSON.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let Json(body) =
            Json::from_request(request, state)
                .await
                .map_err(|refused: JsonRejection| {
                    Problem::new(refused.status(), refused.body_text())
                })?;
        Ok(Self(body))
    }
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
