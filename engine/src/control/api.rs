//! The routes, and the document that describes them.

mod activity;
mod connections;
mod node;
mod publish;
mod rooms;

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoResponses, Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::health;
use super::node::Node;
use super::problem::Problem;

/// What every request may be answered instead.
#[derive(IntoResponses)]
#[expect(
    dead_code,
    reason = "described, and answered by the guard and the extractors"
)]
pub(super) enum Problems {
    /// A parameter is not what the document says
    #[response(status = BAD_REQUEST, content_type = "application/problem+json")]
    Malformed(#[to_schema] Problem),
    /// The token is missing or wrong
    #[response(status = UNAUTHORIZED, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] Problem),
    /// Sent by a page of another origin, or to a host by a name though no token is configured
    #[response(status = FORBIDDEN, content_type = "application/problem+json")]
    Forbidden(#[to_schema] Problem),
    /// The request took too long to come
    #[response(status = REQUEST_TIMEOUT, content_type = "application/problem+json")]
    Slow(#[to_schema] Problem),
    /// The shards are busy, or the node was drained; `Retry-After` says when to try again
    #[response(status = SERVICE_UNAVAILABLE, content_type = "application/problem+json")]
    Unavailable(#[to_schema] Problem),
}

/// What a request with a body may be answered besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "described, and answered by the extractors")]
pub(super) enum BodyProblems {
    /// The body is larger than `admin_request_size_max`, or its content than the room permits
    #[response(status = PAYLOAD_TOO_LARGE, content_type = "application/problem+json")]
    TooLarge(#[to_schema] Problem),
    /// The body is not said to be `application/json`
    #[response(status = UNSUPPORTED_MEDIA_TYPE, content_type = "application/problem+json")]
    NotJson(#[to_schema] Problem),
    /// The body is not what the document says, or a value breaks a rule that the document cannot express
    #[response(status = UNPROCESSABLE_ENTITY, content_type = "application/problem+json")]
    Unprocessable(#[to_schema] Problem),
}

/// There is no such thing.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "described, and answered by the handlers")]
pub(super) enum Missing {
    /// There is no such thing
    #[response(status = NOT_FOUND, content_type = "application/problem+json")]
    NotFound(#[to_schema] Problem),
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Shardcast admin API",
        description = "Drives one node: publishing, rooms, connections, health. Answers that are no success are problem documents (RFC 9457).",
        license(name = "MIT", identifier = "MIT"),
    ),
    tags(
        (name = "publish", description = "Messages to rooms and users"),
        (name = "rooms", description = "Who is in rooms, and what was said there"),
        (name = "connections", description = "Whose connections there are, and their end"),
        (name = "node", description = "The node itself"),
        (name = "health", description = "For whoever watches over processes"),
    ),
    modifiers(&Bearer),
    security(("bearer" = []))
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "The token of `admin_token`; none is needed where that is not set.",
            ))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

fn routes() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(publish::to_room))
        .routes(routes!(publish::to_user))
        .routes(routes!(publish::bulk))
        .routes(routes!(rooms::list))
        .routes(routes!(rooms::room))
        .routes(routes!(rooms::members))
        .routes(routes!(rooms::history))
        .routes(routes!(connections::of_user))
        .routes(routes!(connections::connection))
        .routes(routes!(connections::disconnect_user))
        .routes(routes!(connections::disconnect))
        .routes(routes!(node::state))
        .routes(routes!(node::config))
        .routes(routes!(node::drain))
        .routes(routes!(node::metrics))
        .routes(routes!(activity::activity))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
}

/// The document as it is served, written when it is first asked for.
static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| routes().into_openapi().to_pretty_json().unwrap_or_default());

/// All routes, with that of the document that describes them.
pub(super) fn router() -> Router<Arc<Node>> {
    let router: Router<Arc<Node>> = routes().into();
    router.route("/openapi.json", get(document))
}

async fn document() -> impl IntoResponse {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, DOCUMENT.as_str())
}
