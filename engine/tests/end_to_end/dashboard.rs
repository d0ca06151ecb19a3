//! The dashboard: a page that any browser may load, and that may load nothing of others.

use crate::file::File;
use crate::http::Admin;
use crate::server::Server;

/// The files that a page names, as it names them.
fn named_in(page: &str) -> Vec<String> {
    ["src=\"", "href=\""]
        .iter()
        .flat_map(|attribute| page.split(attribute).skip(1))
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

#[test]
fn the_page_and_all_that_it_names_are_served_with_what_keeps_them_apart_from_others() {
    let server = Server::start(&["--admin", "127.0.0.1:0"]);
    let admin = Admin::of(&server);
    let page = admin.get("/");
    assert_eq!(
        (page.status, page.content_type.as_str()),
        (200, "text/html; charset=utf-8")
    );
    let mut paths = vec!["/".to_owned()];
    for name in named_in(&page.text) {
        let path = name.strip_prefix('.').expect("a path from the page on");
        assert!(path.starts_with("/assets/"), "{name}");
        paths.push(path.to_owned());
    }
    for kind in [".js", ".css", ".svg"] {
        let is_named = paths.iter().any(|path| path.ends_with(kind));
        assert!(is_named, "the page names no {kind}: {paths:?}");
    }
    for path in &paths {
        let whole = admin.get(path);
        assert_eq!(whole.status, 200, "{path}");
        assert!(!whole.text.is_empty(), "{path}");
        let policy = whole.header("content-security-policy");
        assert!(policy.contains("default-src 'self'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(whole.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(whole.header("cache-control"), "no-cache", "{path}");

        let tag = whole.header("etag");
        let known = admin.get_with(path, &[("If-None-Match", tag)]);
        assert_eq!((known.status, known.text.as_str()), (304, ""), "{path}");
        assert_eq!(known.header("etag"), tag, "{path}");
        let other = admin.get_with(path, &[("If-None-Match", "\"another\"")]);
        assert_eq!((other.status, &other.text), (200, &whole.text), "{path}");

        let head = admin.head(path);
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        assert_eq!(
            head.header("content-length"),
            whole.text.len().to_string(),
            "{path}"
        );
    }
    assert_eq!(admin.get("/assets/nothing.js").status, 404);
}

#[test]
fn the_page_needs_no_token_and_a_host_that_no_page_made_up() {
    let file = File::new("a-token-of-many-bytes\n");
    let server = Server::start(&["--admin", "127.0.0.1:0", "--admin-token", file.path()]);
    let bare = Admin::of(&server);
    assert_eq!(bare.get("/").status, 200);
    assert_eq!(bare.get("/assets/app.js").status, 200);
    assert_eq!(bare.get("/v1/node").status, 401);
    assert_eq!(bare.get("/assets/").status, 401);

    let server = Server::start(&["--admin", "127.0.0.1:0"]);
    let open = Admin::of(&server);
    let rebound = [("Host", "evil.example")];
    assert_eq!(open.get_with("/", &rebound).status, 403);
}
