//! What is answered instead of what was asked for (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Seconds after which a request may be tried again that found the shards busy.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A request that was not carried out, as RFC 9457 has it told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The HTTP status once more.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16, example = 404)]
    pub(crate) status: StatusCode,
    /// The name of the status.
    #[schema(example = "Not Found")]
    title: &'static str,
    /// What happened, with which value, and what to do.
    #[schema(example = "no room is called `tea`: nobody is in it and nothing of it is remembered")]
    pub(crate) detail: String,
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            title: status.canonical_reason().unwrap_or_default(),
            detail: detail.into(),
        }
    }

    /// A parameter that is not what the document says.
    pub(crate) fn malformed(parameter: &str, expected: &str) -> Self {
        let detail = format!("`{parameter}` must be {expected}");
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// There is no such thing.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// A value that the form permits and a rule does not.
    pub(crate) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// Not now.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The answer to a path without a route.
pub(super) async fn nothing_here(uri: Uri) -> Problem {
    Problem::not_found(format!(
        "nothing is at {}; GET /openapi.json tells what there is",
        uri.path()
    ))
}
