//! Starts that are refused because of who could connect: one message that says what to do.

use std::process::{Command, Stdio};

use crate::client::Client;
use crate::file::File;
use crate::server::Server;
use crate::signer::Signer;

/// What the server says when it does not start because it was told what cannot be.
pub(crate) fn refusal(arguments: &[&str]) -> String {
    failure(arguments, 2)
}

/// What the server says when it does not start, with this exit code.
pub(crate) fn failure(arguments: &[&str], code: i32) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_shardcast"))
        .args(["serve", "--shards", "1"])
        .args(arguments)
        .env("SHARDCAST_ADMIN", "off")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[test]
fn a_server_that_nobody_could_connect_to() {
    for arguments in [
        &["--listen", "0.0.0.0:0"] as &[&str],
        &["--listen", "[::]:0"],
        &["--listen", "127.0.0.1:0", "--anonymous", "off"],
    ] {
        let message = refusal(arguments);
        for part in [
            "--auth-key",
            "--auth-jwks",
            "--anonymous on",
            "flag --listen",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    let server = Server::start(&["--shards", "1"]);
    Client::connect(&server, "ada").heartbeat();
}

#[test]
fn a_key_that_is_none() {
    let short = File::new("hunter2");
    let private = File::new(Signer::ed25519().private_pem());
    let html = File::new("<html>");
    let file = |line: &str| File::new(format!("# keys\n{line}\n"));
    let cases = [
        (
            "--auth-key",
            short.path(),
            "a secret of 7 bytes, and at least 32",
        ),
        ("--auth-key", private.path(), "holds a private key"),
        ("--auth-key", "/nowhere/key", "cannot be read: No such file"),
        ("--auth-jwks", html.path(), "is not a JWK set"),
        (
            "--auth-jwks",
            "/nowhere/set",
            "cannot be read: No such file",
        ),
    ];
    for (flag, path, reason) in cases {
        let message = refusal(&["--listen", "127.0.0.1:0", flag, path]);
        for part in [path, reason, &format!("flag {flag}")] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(!message.contains("hunter2"), "a secret: {message}");

        let setting = flag.trim_start_matches('-').replace('-', "_");
        let config = file(&format!("{setting} = '{path}'"));
        let message = refusal(&["--listen", "127.0.0.1:0", "--config", config.path()]);
        let place = format!("{}:2", config.path());
        assert!(
            message.contains(&place) && message.contains(reason),
            "{message}"
        );
    }
}

#[test]
fn settings_that_contradict_each_other() {
    for (arguments, parts) in [
        (
            &["--auth-issuer", "https://id.example"] as &[&str],
            ["auth_issuer is set", "set auth_key or auth_jwks"],
        ),
        (
            &["--auth-audience", "chat"],
            ["auth_audience is set", "set auth_key or auth_jwks"],
        ),
        (
            &[
                "--auth-jwks",
                "http://127.0.0.1:1/",
                "--auth-jwks-refresh-ms",
                "200",
                "--auth-jwks-refresh-ms-min",
                "300",
            ],
            [
                "auth_jwks_refresh_ms_min = 300",
                "flag --auth-jwks-refresh-ms",
            ],
        ),
        (
            &["--anonymous", "maybe"],
            ["--anonymous maybe", "`auto`, `on` or `off`"],
        ),
        (
            &["--origins", "https://chat.example/app"],
            ["--origins https://chat.example/app", "without a path"],
        ),
    ] {
        let message = refusal(arguments);
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}

#[test]
fn a_password_in_a_url_is_refused_and_not_repeated() {
    let message = refusal(&["--auth-jwks", "https://me:hunter2@id.example/keys"]);
    assert!(
        message.contains("without a user's name or password"),
        "{message}"
    );
    assert!(message.contains("https://…@id.example/keys"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}
