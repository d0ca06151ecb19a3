//! What every request passes: who may ask, for how long it may take, and what is told of it in the log.
//!
//! Where no token is configured the admin API trusts whoever reaches its address, which is a loopback one. A browser on this host reaches it too, in the
//! name of any page that is open in it. So a request must name the host by an address or as `localhost` (a page that has its own name resolved to this host cannot),
//! and one that changes something must not come from another origin.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument as _;

use super::dashboard;
use super::node::Node;
use super::problem::Problem;

/// Paths that tell nothing but whether the server works: who watches over processes brings no token.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Time beyond that for the shards in which a request must be done with: its body may come slowly.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// Lets a request pass, or says why not.
pub(super) async fn check(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    if let Err(problem) = permit(&node, &request) {
        node.metrics().counts().admin_refused.add(1);
        return problem.into_response();
    }
    let time_max = node.config().admin.wait_max + BODY_TIME_MAX;
    match tokio::time::timeout(time_max, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the request took longer than {} ms", time_max.as_millis()),
        )
        .into_response(),
    }
}

fn permit(node: &Node, request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    if changes(request.method()) && !is_same_origin(headers) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "the request comes from a page of another origin; the admin API takes orders from pages of its own and from programs",
        ));
    }
    match node.token() {
        Some(token) => {
            let path = request.uri().path();
            let authorization = headers.get(header::AUTHORIZATION);
            let is_bearer = authorization.is_some_and(|value| token.is_in(value.as_bytes()));
            match is_bearer || OPEN_PATHS.contains(&path) || dashboard::is_at(path) {
                true => Ok(()),
                false => Err(Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "bring the token of admin_token: Authorization: Bearer TOKEN",
                )),
            }
        }
        None if is_local(headers) => Ok(()),
        None => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "without admin_token the host must be named by an address or as localhost",
        )),
    }
}

fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The host that a request names.
fn host_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// Whether no page sent the request, or one that came from here.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
    origin.is_some_and(|(_, origin)| host_of(headers) == Some(origin))
}

/// Whether the host is named by an address or as `localhost`. Requests without a host are older than browsers.
fn is_local(headers: &HeaderMap) -> bool {
    if !headers.contains_key(header::HOST) {
        return true;
    }
    let Some(host) = host_of(headers) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    name.is_some_and(|name| {
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
    })
}

/// Puts a request into a span of its own, and notes what became of it: for everybody to see where it changes something, unless it publishes, of which there may be many.
pub(super) async fn trace(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    // The route and not the path: names of rooms and users are none of the log's business.
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "none".to_owned(), |route| route.as_str().to_owned());
    let span = tracing::info_span!("admin", %method, route);
    let is_noted = changes(&method) && !route.ends_with("/messages");
    let begun = Instant::now();
    async move {
        let response = next.run(request).await;
        let (status, took_us) = (response.status().as_u16(), begun.elapsed().as_micros());
        match is_noted {
            true => tracing::info!(status, took_us, "answered"),
            false => tracing::debug!(status, took_us, "answered"),
        }
        response
    }
    .instrument(span)
    .await
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn headers(list: &[(header::HeaderName, &str)]) -> HeaderMap {
        let pairs = list.iter();
        pairs
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn hosts_that_a_page_could_have_made_up_are_told_from_addresses() {
        for (host, expected) in [
            ("127.0.0.1:9001", true),
            ("[::1]:9001", true),
            ("localhost", true),
            ("LOCALHOST:1", true),
            ("evil.example:9001", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example:9001", false),
            ("", false),
        ] {
            assert_eq!(
                is_local(&headers(&[(header::HOST, host)])),
                expected,
                "{host}"
            );
        }
        assert!(is_local(&HeaderMap::new()));
    }

    #[test]
    fn pages_of_other_origins_are_told_from_ours() {
        for (origin, expected) in [
            ("http://127.0.0.1:9001", true),
            ("https://127.0.0.1:9001", true),
            ("http://127.0.0.1:9000", false),
            ("http://evil.example", false),
            ("null", false),
        ] {
            let headers = headers(&[(header::HOST, "127.0.0.1:9001"), (header::ORIGIN, origin)]);
            assert_eq!(is_same_origin(&headers), expected, "{origin}");
        }
        assert!(is_same_origin(&headers(&[(
            header::HOST,
            "127.0.0.1:9001"
        )])));
    }
}
