//! Tokens that nobody here made: PyJWT signs them, and writes the keys that check them.

use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

use crate::client::Client;
use crate::file::File;
use crate::off_the_shelf::python;
use crate::server::Server;

/// What the script of the issuer prints.
fn issued() -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/issuer.py");
    let output = Command::new(python()).arg(script).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let issued: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(issued.len(), 4);
    issued
}

fn text<'a>(one: &'a Value, name: &str) -> &'a str {
    one[name].as_str().unwrap()
}

#[test]
fn tokens_and_keys_of_another_library_count() {
    let issued = issued();
    for one in &issued {
        let key = File::new(text(one, "key"));
        let arguments = [
            "--shards",
            "1",
            "--auth-audience",
            "chat",
            "--auth-key",
            key.path(),
        ];
        let server = Server::start(&arguments);
        let mut ada = Client::connect_with_token(&server, text(one, "token"));
        assert_eq!(ada.welcome["user"], "ada", "{}", one["algorithm"]);
        ada.join("chat.one");
    }
    let keys: Vec<&Value> = issued.iter().map(|one| &one["jwk"]).collect();
    let set = File::new(json!({"keys": keys}).to_string());
    let server = Server::start(&["--shards", "1", "--auth-jwks", set.path()]);
    for one in &issued {
        let ada = Client::connect_with_token(&server, text(one, "token"));
        assert_eq!(ada.welcome["user"], "ada", "{}", one["algorithm"]);
    }
}
