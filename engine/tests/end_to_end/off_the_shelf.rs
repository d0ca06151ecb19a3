//! Clients that nobody here wrote: Python's `websockets` and npm's `ws`, each in a process of its own.
//!
//! The scripts under `tests/clients` assert by themselves and end with an error where something is wrong.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::Server;

/// How long one script may take.
const SCRIPT_PATIENCE: Duration = Duration::from_secs(120);

/// A script prints this when it wants the server to be shut down.
const SHUTDOWN_REQUEST: &str = "please shut the server down";

/// A client in another language, with what it needs installed.
#[derive(Clone, Copy)]
enum Script {
    Python,
    Node,
}

impl Script {
    fn command(self) -> Command {
        let engine = Path::new(env!("CARGO_MANIFEST_DIR"));
        let clients = engine.join("tests/clients");
        let (interpreter, script) = match self {
            Self::Python => (python(), clients.join("client.py")),
            Self::Node => {
                installed(&clients.join("node_modules/ws/package.json"));
                (PathBuf::from("node"), clients.join("client.mjs"))
            }
        };
        let mut command = Command::new(interpreter);
        command.arg(script);
        command
    }
}

/// The Python that has what the scripts import.
pub(crate) fn python() -> PathBuf {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = engine.parent().expect("the crate lies in the workspace");
    installed(&workspace.join(".check/venv/bin/python"))
}

/// The path itself, if it is there.
fn installed(path: &Path) -> PathBuf {
    assert!(
        path.exists(),
        "{} is missing: run scripts/check.sh, which installs what these tests need",
        path.display()
    );
    path.to_owned()
}

/// Runs a scenario of a script to its end, and prints what it printed.
fn run(script: Script, scenario: &str, server: &Server) {
    let mut child = script
        .command()
        .args([scenario, &server.url()])
        .envs(trust(server))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Its messages are for whoever reads the output of a failed test.
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("cannot start the script ({error}): run scripts/check.sh, which installs what these tests need")
        });
    let pid = child.id();
    let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for line in lines.map_while(Result::ok) {
                println!("{line}");
                if line == SHUTDOWN_REQUEST {
                    server.terminate();
                }
            }
        });
        let deadline = Instant::now() + SCRIPT_PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child is ours") {
                break status;
            }
            if Instant::now() > deadline {
                // The reader above ends with the script's output.
                child.kill().expect("the child is ours");
                child.wait().expect("the child is ours");
                panic!("`{scenario}` (process {pid}) did not end within {SCRIPT_PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "`{scenario}` failed: {status}");
    });
}

/// The variables that have a script trust the server's certificate, where it has one: Python's and Node.js's.
fn trust(server: &Server) -> Vec<(&'static str, PathBuf)> {
    let Some(certificate) = &server.certificate else {
        return Vec::new();
    };
    ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"]
        .map(|variable| (variable, certificate.path().to_owned()))
        .into()
}

fn engine(script: Script, start: fn(&[&str]) -> Server) {
    let mut server = start(&[
        "--shards",
        "4",
        "--reconnect-after-ms",
        "700",
        // Both clients offer compression: with this, whatever they are sent is compressed.
        "--compressed-bytes-min",
        "1",
    ]);
    run(script, "engine", &server);
    let status = server.wait_exit(Duration::from_secs(30));
    assert_eq!(status.code(), Some(0), "the shutdown was clean");
}

#[test]
fn python_websockets_speaks_the_whole_protocol() {
    engine(Script::Python, Server::start);
}

#[test]
fn npm_ws_speaks_the_whole_protocol() {
    engine(Script::Node, Server::start);
}

#[test]
fn python_websockets_speaks_the_whole_protocol_over_tls() {
    engine(Script::Python, Server::start_tls);
}

#[test]
fn npm_ws_speaks_the_whole_protocol_over_tls() {
    engine(Script::Node, Server::start_tls);
}

#[test]
fn compression_is_agreed_on_in_every_mode() {
    for mode in ["shared", "dedicated"] {
        let server = Server::start(&[
            "--shards",
            "2",
            "--compression",
            mode,
            "--compressed-bytes-min",
            "1",
        ]);
        run(Script::Python, "compression", &server);
        run(Script::Node, "compression", &server);
    }
}

#[test]
fn the_echo_example_answers_whatever_it_is_sent() {
    let server = Server::example("echo", &["--shards", "2"]);
    run(Script::Python, "echo", &server);
    run(Script::Node, "echo", &server);
}

#[test]
fn the_ticker_example_sends_unasked() {
    let server = Server::example("ticker", &["--shards", "2"]);
    run(Script::Python, "ticker", &server);
    run(Script::Node, "ticker", &server);
}
