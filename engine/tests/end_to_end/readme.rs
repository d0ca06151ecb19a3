//! The commands of the README do what it says.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::client::Client;
use crate::http::Admin;
use crate::server::Server;

/// Where the README's commands expect the admin API.
const ADDRESS: &str = "127.0.0.1:9001";

/// The code of a section of the README, in one piece.
fn commands(heading: &str) -> String {
    let readme = include_str!("../../../README.md");
    let section = readme.split(&format!("\n## {heading}\n")).nth(1);
    let section = section.unwrap_or_else(|| panic!("there is no section {heading}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("\n```sh\n").skip(1);
    blocks
        .filter_map(|block| block.split("\n```").next())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn what_is_typed_at_a_terminal_works() {
    let server = Server::start(&["--shards", "2", "--admin", "127.0.0.1:0"]);
    let script = format!("set -euo pipefail\n{}", commands("From the terminal"));
    let binary = Path::new(env!("CARGO_BIN_EXE_shardcast"));
    let path = std::env::var("PATH").unwrap();
    let directory = binary.parent().unwrap().display();
    // Without a terminal: the chat ends with its input, and `top` prints one picture.
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("PATH", format!("{directory}:{path}"))
        .env("SHARDCAST_SERVER", server.url())
        .env(
            "SHARDCAST_API",
            format!("http://{}", Admin::of(&server).address),
        )
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (text, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{text}{error}");
    for part in ["The kettle is on", "Two minutes", "latency p50"] {
        assert!(text.contains(part), "{part}: {text}{error}");
    }
}

/// Every operation that the document describes, as method and path.
fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(|method| (method.clone(), path.clone()))
        })
        .collect()
}

/// Whether a command line calls an operation.
fn calls(line: &str, method: &str, path: &str) -> bool {
    if !line.starts_with("curl") || line.contains("--json") != (method == "post") {
        return false;
    }
    let target = line.split("$API").nth(1).unwrap_or_default();
    let target = target.split(['"', '?', ' ']).next().unwrap_or_default();
    let parts = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let (target, pattern) = (parts(target), parts(path));
    target.len() == pattern.len()
        && pattern
            .iter()
            .zip(&target)
            .all(|(pattern, part)| pattern.starts_with('{') || pattern == part)
}

#[test]
fn every_operation_of_the_admin_api_has_a_command_and_each_works() {
    let server = Server::start(&["--shards", "2", "--admin", "127.0.0.1:0"]);
    let admin = Admin::of(&server);
    let mut clients = [
        Client::connect(&server, "ada"),
        Client::connect(&server, "ada"),
        Client::connect(&server, "bob"),
    ];
    for client in &mut clients {
        client.join("tea");
    }
    let commands = commands("Drive it from a backend");
    let document = admin.get("/openapi.json").ok();
    let operations = operations(&document);
    assert!(operations.len() >= 16, "{operations:?}");
    for (method, path) in operations {
        assert!(
            commands.lines().any(|line| calls(line, &method, &path)),
            "the README has no command for {method} {path}"
        );
    }
    assert!(commands.contains(ADDRESS));
    let script = format!(
        "set -euo pipefail\n{}",
        commands.replace(ADDRESS, &admin.address)
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{error}");
    for part in [
        r#""duplicate":false"#,
        r#""published":2"#,
        r#""users":2"#,
        r#""phase":"draining""#,
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let [ada, ..] = &mut clients;
    assert_eq!(
        ada.expect_in("message", "tea")["content"]["text"],
        "The kettle is on"
    );
    let direct = ada.expect("direct");
    assert_eq!(
        (direct["from"].as_str(), direct["content"].as_str()),
        (Some("kitchen"), Some("Your cup is ready"))
    );
}
