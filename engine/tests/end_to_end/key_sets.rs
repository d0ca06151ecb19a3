//! JWK sets: from a file that is read again on SIGHUP, and from a server of keys that changes them and is not always there.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::client::{Client, PATIENCE};
use crate::file::File;
use crate::raw::{RawClient, Response, upgrade_request};
use crate::server::Server;
use crate::signer::Signer;
use crate::tokens::claims;

/// The text of a set.
fn set(keys: &[(&Signer, &str)]) -> String {
    let keys: Vec<Value> = keys.iter().map(|(signer, kid)| signer.jwk(kid)).collect();
    json!({"keys": keys}).to_string()
}

fn answer(server: &Server, token: &str) -> Response {
    let mut client = RawClient::connect(server.port());
    client.send_bytes(upgrade_request(&format!("/ws?token={token}"), "").as_bytes());
    client.response()
}

/// Waits until a handshake with the token is answered like this.
fn await_status(server: &Server, token: &str, status: u16) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = answer(server, token).status;
        if found == status {
            return;
        }
        assert!(Instant::now() < deadline, "still {found}, not {status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the server has printed a line with all of this.
fn await_line(server: &Server, parts: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    let fits = |line: &String| parts.iter().all(|part| line.contains(part));
    while !server.output().iter().any(fits) {
        assert!(Instant::now() < deadline, "no line with {parts:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A server of keys.
struct KeyServer {
    port: u16,
    /// What it answers; `None`: 500.
    set: Arc<Mutex<Option<String>>>,
    requests: Arc<AtomicUsize>,
}

impl KeyServer {
    fn start(set: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            set: Arc::new(Mutex::new(set)),
            requests: Arc::default(),
        };
        let (set, requests) = (Arc::clone(&server.set), Arc::clone(&server.requests));
        // It ends with the process: nothing tells it to.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                requests.fetch_add(1, Ordering::Relaxed);
                let set = set.lock().unwrap().clone();
                // A client that has gone is not this server's concern.
                drop(Self::answer(stream, set));
            }
        });
        server
    }

    fn answer(mut stream: TcpStream, set: Option<String>) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        while lines
            .next()
            .transpose()?
            .is_some_and(|line| !line.is_empty())
        {}
        let (status, body) = match set {
            Some(set) => ("200 OK", set),
            None => ("500 Internal Server Error", String::new()),
        };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    }

    fn publish(&self, set: Option<String>) {
        *self.set.lock().unwrap() = set;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/keys", self.port)
    }
}

fn server(set: &str, more: &[&str]) -> Server {
    Server::start(&[&["--shards", "2", "--auth-jwks", set], more].concat())
}

#[test]
fn a_file_is_read_again_on_sighup() {
    let (old, new) = (Signer::ed25519(), Signer::p256());
    let (of_old, of_new) = (
        old.token_named("old", &claims("ada")),
        new.token_named("new", &claims("ada")),
    );
    let file = File::new(set(&[(&old, "old")]));
    let server = server(file.path(), &[]);
    let mut ada = Client::connect_with_token(&server, &of_old);
    assert_eq!(answer(&server, &of_new).status, 401);

    file.write(set(&[(&new, "new"), (&Signer::secret(), "own")]));
    assert_eq!(
        answer(&server, &of_new).status,
        401,
        "nobody asked for it yet"
    );
    server.hang_up();
    await_status(&server, &of_new, 101);
    assert_eq!(answer(&server, &of_old).status, 401);
    // Who is in stays in.
    ada.heartbeat();

    file.write("{");
    server.hang_up();
    await_line(
        &server,
        &[
            "auth_jwks",
            file.path(),
            "is not a JWK set",
            "the keys stay as they were",
        ],
    );
    assert_eq!(answer(&server, &of_new).status, 101);
}

#[test]
fn a_key_file_is_read_again_on_sighup() {
    let (old, new) = (Signer::secret(), Signer::ed25519());
    let file = File::new(old.public_file());
    let server = Server::start(&["--shards", "2", "--auth-key", file.path()]);
    let (of_old, of_new) = (old.token(&claims("ada")), new.token(&claims("ada")));
    assert_eq!(answer(&server, &of_old).status, 101);
    assert_eq!(answer(&server, &of_new).status, 401);
    file.write(new.public_file());
    server.hang_up();
    await_status(&server, &of_new, 101);
    assert_eq!(answer(&server, &of_old).status, 401);
}

#[test]
fn a_new_key_is_fetched_when_a_token_names_it_but_not_for_every_token() {
    let (old, new) = (Signer::rsa(2048), Signer::ed25519());
    let keys = KeyServer::start(Some(set(&[(&old, "old")])));
    let server = server(&keys.url(), &["--auth-jwks-refresh-ms-min", "1000"]);
    let of_old = old.token_named("old", &claims("ada"));
    let of_new = new.token_named("new", &claims("ada"));
    // The set is there when the server says that it listens.
    assert_eq!(answer(&server, &of_old).status, 101);
    assert_eq!(keys.requests(), 1);

    keys.publish(Some(set(&[(&old, "old"), (&new, "new")])));
    let begun = Instant::now();
    await_status(&server, &of_new, 101);
    assert_eq!(answer(&server, &of_old).status, 101);

    let unknown = new.token_named("unknown", &claims("ada"));
    while begun.elapsed() < Duration::from_secs(4) {
        assert_eq!(answer(&server, &unknown).status, 401);
        std::thread::sleep(Duration::from_millis(5));
    }
    let seconds = begun.elapsed().as_secs() as usize;
    let requests = keys.requests();
    assert!(
        (3..=seconds + 2).contains(&requests),
        "{requests} fetches in {seconds} s"
    );
}

#[test]
fn a_set_is_fetched_every_now_and_then() {
    let (old, new) = (Signer::ed25519(), Signer::ed25519());
    let keys = KeyServer::start(Some(set(&[(&old, "old")])));
    let refresh = [
        "--auth-jwks-refresh-ms",
        "300",
        "--auth-jwks-refresh-ms-min",
        "100",
    ];
    let server = server(&keys.url(), &refresh);
    let of_old = old.token_named("old", &claims("ada"));
    assert_eq!(answer(&server, &of_old).status, 101);
    // A key that was withdrawn counts no longer, though no token asks for another.
    keys.publish(Some(set(&[(&new, "new")])));
    await_status(&server, &of_old, 401);
    assert_eq!(
        answer(&server, &new.token_named("new", &claims("ada"))).status,
        101
    );
}

#[test]
fn an_outage_of_the_server_of_keys() {
    let signer = Signer::ed25519();
    let keys = KeyServer::start(None);
    let refresh = [
        "--auth-jwks-refresh-ms",
        "500",
        "--auth-jwks-refresh-ms-min",
        "100",
    ];
    let server = server(&keys.url(), &refresh);
    let token = signer.token_named("one", &claims("ada"));
    // The server starts all the same, and says when to try again.
    let response = answer(&server, &token);
    assert_eq!(response.status, 503, "{response:?}");
    let seconds = response.header("Retry-After").map(str::parse::<u64>);
    assert!(matches!(seconds, Some(Ok(1..))), "{response:?}");
    await_line(
        &server,
        &[
            "WARN",
            "the keys for tokens could not be fetched",
            &keys.url(),
        ],
    );

    keys.publish(Some(set(&[(&signer, "one")])));
    await_status(&server, &token, 101);

    // What is no set, and nothing at all, leave the keys as they are.
    for outage in [Some("<html>".to_owned()), Some(set(&[])), None] {
        keys.publish(outage);
        let before = keys.requests();
        let deadline = Instant::now() + PATIENCE;
        while keys.requests() < before + 2 {
            assert!(Instant::now() < deadline, "no further fetch");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(answer(&server, &token).status, 101);
    }
    let renewed = signer.token_named("one", &claims("ada"));
    let mut ada = Client::connect_with_token(&server, &token);
    ada.send(&json!({"type": "auth", "token": renewed}));
    ada.expect("authenticated");
}

#[test]
fn a_server_of_keys_that_does_not_answer_does_not_hold_up_the_end() {
    // It accepts, as the kernel does that for it, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/keys", silent.local_addr().unwrap());
    let mut server = server(&url, &[]);
    let token = Signer::ed25519().token_named("one", &claims("ada"));
    assert_eq!(answer(&server, &token).status, 503);
    server.terminate();
    assert!(server.wait_exit(PATIENCE).success());
}
