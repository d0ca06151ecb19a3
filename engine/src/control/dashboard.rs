//! The dashboard: a page that asks the admin API what it shows, and the files that it is made of.
//!
//! Its source is `engine/dashboard/`. What is built from that is committed, so that the engine needs no tools for pages to be built.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use super::node::Node;

/// What the page may do: run its own files, and talk to the admin API and to WebSockets. The latter on any host, as nobody knows by which name clients reach the engine.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page.
struct File {
    path: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const FILES: [File; 4] = [
    File {
        path: "/",
        kind: "text/html; charset=utf-8",
        content: include_bytes!("../../dashboard/dist/index.html"),
    },
    File {
        path: "/assets/app.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("../../dashboard/dist/assets/app.js"),
    },
    File {
        path: "/assets/app.css",
        kind: "text/css; charset=utf-8",
        content: include_bytes!("../../dashboard/dist/assets/app.css"),
    },
    File {
        path: "/assets/icon.svg",
        kind: "image/svg+xml",
        content: include_bytes!("../../dashboard/dist/assets/icon.svg"),
    },
];

/// What tells one version of each file from another: `"…"`, of the content. Made when a file is first asked for.
static TAGS: LazyLock<[String; FILES.len()]> = LazyLock::new(|| {
    FILES.map(|file| {
        let hash = digest(&SHA256, file.content);
        format!("\"{}\"", URL_SAFE_NO_PAD.encode(hash))
    })
});

/// Whether a file of the page is at a path. They are the same for everybody and tell nothing of the node, so they need no token: the page asks for it.
pub(super) fn is_at(path: &str) -> bool {
    FILES.iter().any(|file| file.path == path)
}

/// A route for each file.
pub(super) fn router() -> Router<Arc<Node>> {
    let places = 0..FILES.len();
    places.fold(Router::new(), |router, place| {
        let handler = move |headers: HeaderMap| async move { answer(place, &headers) };
        router.route(FILES[place].path, get(handler))
    })
}

fn answer(place: usize, headers: &HeaderMap) -> Response {
    let (file, tag) = (&FILES[place], TAGS[place].as_str());
    // Browsers keep the files and ask each time whether they still hold, so a new version of the engine never meets an old page.
    let common: [(HeaderName, &str); 5] = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    match is_known(headers, tag) {
        true => (StatusCode::NOT_MODIFIED, common).into_response(),
        false => {
            let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(file.kind))];
            (kind, common, file.content).into_response()
        }
    }
}

/// Whether the client has this version already. Tags are compared weakly (RFC 9110, 13.1.2).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let lists = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut tags = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_a_client_has_is_found_in_its_list() {
        for (list, expected) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", W/\"a\"", true),
            ("*", true),
            ("a", false),
            ("\"b\"", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, list.parse().unwrap());
            assert_eq!(is_known(&headers, "\"a\""), expected, "{list}");
        }
        assert!(!is_known(&HeaderMap::new(), "\"a\""));
    }

    #[test]
    fn the_files_are_small_and_have_versions_of_their_own() {
        let bytes: usize = FILES.iter().map(|file| file.content.len()).sum();
        assert!(bytes < 150 * 1024, "{bytes} bytes in the binary");
        let mut tags = TAGS.to_vec();
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), FILES.len());
    }
}
