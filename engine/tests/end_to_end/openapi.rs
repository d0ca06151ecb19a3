//! The admin API is what its OpenAPI document says: schemathesis makes requests up from the document, good ones and bad ones, and checks the answers against it.

use std::path::Path;
use std::process::Command;

use crate::client::Client;
use crate::file::File;
use crate::http::Admin;
use crate::off_the_shelf::python;
use crate::server::Server;

const TOKEN: &str = "a-token-of-many-bytes";

/// Runs it on the operations that the arguments choose.
fn schemathesis(admin: &Admin, connection: &str, arguments: &[&str]) {
    let program = python().with_file_name("schemathesis");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/schemathesis.toml");
    let output = Command::new(program)
        .arg("--config-file")
        .arg(config)
        .arg("run")
        .arg(format!("http://{}/openapi.json", admin.address))
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        .args(arguments)
        .env("CONNECTION", connection)
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{report}");
    assert!(
        output.status.success(),
        "{report}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let cases = report
        .split("Test cases:\n")
        .nth(1)
        .and_then(|rest| rest.lines().next());
    let counts: Vec<u64> = cases
        .unwrap_or_default()
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect();
    assert!(
        counts[0] > 20 && counts[0] == counts[1],
        "{counts:?} generated and passed: {report}"
    );
}

#[test]
fn schemathesis_finds_nothing() {
    let token = File::new(TOKEN);
    let arguments = [
        "--shards",
        "2",
        "--admin",
        "127.0.0.1:0",
        "--admin-token",
        token.path(),
    ];
    let server = Server::start(&arguments);
    let admin = Admin::of(&server);
    let mut client = Client::connect(&server, "ada");
    client.join("tea");
    let known = Admin::of(&server).with_token(TOKEN);
    let told = known.get("/v1/users/ada/connections").ok();
    let connection = told["connections"][0]["id"].as_str().unwrap();
    schemathesis(&admin, connection, &["--exclude-path", "/v1/drain"]);
    // It has ended whatever it came to know of, this client too, and nothing else.
    client.expect_end();
    Client::connect(&server, "ada").heartbeat();
    // Last, as nothing comes after it.
    schemathesis(&admin, connection, &["--include-path", "/v1/drain"]);
}
