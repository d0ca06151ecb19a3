//! Over TLS: against Shardcast, and against servers that nobody should take for it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use shardcast_bench::result::RunResult;

use crate::bench::{Bench, latency};
use crate::refusals::assert_says;
use crate::shardcast::{Server, assert_measured};

const ROOMS: &str = "rooms --connections 60 --room-size 20 --rate 20 --warmup 0.2 --duration 1";

/// A run that gives up soon.
const ROOMS_IN_VAIN: &str =
    "rooms --connections 5 --room-size 5 --warmup 0 --duration 1 --patience 1";

/// Files of a test, which its name keeps apart from those of others.
fn file(name: &str, content: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("harness-tls-{name}.pem"));
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A server with a certificate that signs itself, and the file of it.
struct Secure {
    server: Server,
    certificate: String,
}

impl Secure {
    /// `is_ca` decides what the certificate says of itself.
    fn start(test: &str, is_ca: IsCa) -> Self {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = is_ca;
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self::with(test, &certificate, &key)
    }

    fn with(test: &str, certificate: &str, key: &KeyPair) -> Self {
        let certificate = file(&format!("{test}-certificate"), certificate);
        let key = file(&format!("{test}-key"), &key.serialize_pem());
        let server = Server::start_with(&["--tls-cert", &certificate, "--tls-key", &key]);
        Self {
            server,
            certificate,
        }
    }

    fn bench(&self, words: &str) -> Bench {
        Bench::new(words)
            .with("--url", &format!("wss://{}/ws", self.server.address()))
            .with("--pid", &self.server.pid().to_string())
    }

    fn trusted_bench(&self, words: &str) -> Bench {
        self.bench(words).with("--tls-ca", &self.certificate)
    }
}

#[track_caller]
fn assert_noted(result: &RunResult, phrase: &str) {
    let noted = result.notes.iter().any(|note| note.contains(phrase));
    assert!(noted, "no {phrase:?} in {:?}", result.notes);
}

#[test]
fn rooms_over_tls() {
    let secure = Secure::start("rooms", IsCa::NoCa);
    let result = secure.trusted_bench(ROOMS).passes();
    assert_measured(&result, &["delivery", "last receiver", "handshake", "join"]);
    let deliveries = result.deliveries.as_ref().unwrap();
    assert_eq!(deliveries.expected, 20 * deliveries.published);
    assert_eq!(result.connections.open, 60);
    assert_noted(&result, "over TLS 1.3 with TLS13_");
    assert_noted(&result, "the certificate was verified");
    assert!(result.server.contains("wss://"), "{}", result.server);
}

#[test]
fn the_older_version() {
    let secure = Secure::start("older", IsCa::NoCa);
    let bench = secure.trusted_bench(ROOMS).with("--tls-version", "1.2");
    let result = bench.passes();
    assert_measured(&result, &["delivery", "last receiver", "handshake", "join"]);
    assert_noted(&result, "over TLS 1.2 with TLS_ECDHE_");
}

/// Messages of several records, whose bytes arrive in many receives.
#[test]
fn large_messages_over_tls() {
    let secure = Secure::start("large", IsCa::NoCa);
    let words =
        "rooms --connections 4 --room-size 2 --rate 200 --payload 40000 --warmup 0.2 --duration 1";
    assert_measured(&secure.trusted_bench(words).passes(), &["delivery"]);
}

#[test]
fn echo_over_tls() {
    let secure = Secure::start("echo", IsCa::NoCa);
    let words = "echo --connections 20 --rate 20 --warmup 0.2 --duration 1";
    let result = secure.trusted_bench(words).passes();
    assert_measured(&result, &["delivery", "handshake"]);
    assert_eq!(result.deliveries.unwrap().missing, 0);
}

#[test]
fn idle_connections_over_tls() {
    let secure = Secure::start("density", IsCa::NoCa);
    let words = "density --connections 100 --room-size 50 --first 20 --steps 1 --hold 1 --probe-rooms 1 --probe-room-size 20 \
                 --probe-rate 20 --warmup 0.2 --duration 1";
    let result = secure.trusted_bench(words).passes();
    assert_measured(&result, &["join"]);
    let last = result.density.last().unwrap();
    assert_eq!(last.connections, 120);
}

/// Both ends close in good order and open again: a session for each use of a slot.
#[test]
fn connections_come_and_go_over_tls() {
    let secure = Secure::start("churn", IsCa::NoCa);
    let words = "churn --connections 40 --room-size 20 --rate 10 --churning 20 --churn-rate 50 --warmup 0.2 --duration 1";
    let result = secure.trusted_bench(words).passes();
    assert!(latency(&result, "handshake").latency.count > 80);
    assert_eq!((result.connections.lost, result.connections.failed), (0, 0));
}

/// Most tools write into a certificate that signs itself that it is an authority.
#[test]
fn a_certificate_that_says_it_is_an_authority_is_trusted_as_the_servers_own() {
    let is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let secure = Secure::start("own", is_ca);
    secure.trusted_bench(ROOMS).passes();
}

#[test]
fn an_authority_vouches_for_a_server() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let secure = Secure::with("vouched", &certificate.pem(), &key);
    let authority = file("vouched-authority", &authority);
    secure.bench(ROOMS).with("--tls-ca", &authority).passes();
}

#[test]
fn a_certificate_of_somebody_else_is_refused_unless_any_will_do() {
    let secure = Secure::start("else", IsCa::NoCa);
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let other = file("else-other", &other.cert.pem());
    let message = secure
        .bench(ROOMS_IN_VAIN)
        .with("--tls-ca", &other)
        .refusal();
    assert_says(
        &message,
        &[
            "0 of 5 connections",
            "TLS handshake: the server's certificate is refused: ",
            "name it, or that of who vouches for it, with --tls-ca",
        ],
    );
    let result = secure.bench(&format!("{ROOMS} --tls-insecure")).passes();
    assert_noted(&result, "the certificate was not verified");
}

#[test]
fn a_certificate_of_another_name_is_refused() {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["example.org".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let secure = Secure::with("name", &certificate, &key);
    let message = secure.trusted_bench(ROOMS_IN_VAIN).refusal();
    assert_says(
        &message,
        &["the server's certificate is refused: ", "127.0.0.1"],
    );
}

/// What a server without TLS may do with the first bytes of a handshake.
#[track_caller]
fn assert_cannot_secure(answer: &'static [u8], phrase: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // All of the hello, as what is unread would turn the end of the stream into a reset.
            drop(stream.read(&mut [0; 4096]));
            drop(stream.write_all(answer));
        }
    });
    let message = Bench::new(&format!("{ROOMS_IN_VAIN} --tls-insecure"))
        .with("--target", &format!("wss://{address}"))
        .refusal();
    assert_says(&message, &["0 of 5 connections", phrase]);
}

#[test]
fn a_server_that_fails_the_handshake_is_a_failed_connection() {
    assert_cannot_secure(b"", "TLS handshake: the server ended the stream (");
    assert_cannot_secure(
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        "TLS handshake: the server answered without TLS; give its URL as ws:// instead of wss:// (",
    );
    // A fatal alert: handshake_failure (RFC 8446 §6).
    assert_cannot_secure(
        &[21, 3, 3, 0, 2, 2, 40],
        "TLS handshake: received fatal alert: ",
    );
}

#[test]
fn a_server_with_tls_refuses_requests_without() {
    let secure = Secure::start("plain", IsCa::NoCa);
    let message = Bench::against(secure.server.address(), "shardcast", ROOMS_IN_VAIN).refusal();
    assert_says(
        &message,
        &["handshake: the server answered with status 400"],
    );
}
