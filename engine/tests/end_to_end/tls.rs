//! Connections over TLS, with rustls under tungstenite, a browser and a scanner: what they see, and what becomes of them when the certificate changes.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use serde_json::json;

use crate::certificate::tls_over;
use crate::client::{Client, PATIENCE};
use crate::server::Server;

fn tcp(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits until the server has printed a line with this text so many times.
fn await_line(server: &Server, text: &str, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    let printed = || {
        let output = server.output();
        output.iter().filter(|line| line.contains(text)).count()
    };
    while printed() < count {
        assert!(
            Instant::now() < deadline,
            "no {text}: {:#?}",
            server.output()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn members_of_all_shards_hear_each_other() {
    let server = Server::start_tls(&["--shards", "3"]);
    let mut members: Vec<Client> = (0..12)
        .map(|number| Client::connect(&server, &format!("u{number}")))
        .collect();
    for member in &mut members {
        member.join("r");
    }
    for (number, member) in members.iter_mut().enumerate() {
        let content = "x".repeat(number * 3000);
        member.send(&json!({"type": "message", "room": "r", "content": content}));
    }
    for member in &mut members {
        let mut lengths: Vec<usize> = (0..12)
            .map(|_| member.expect("message")["content"].as_str().unwrap().len())
            .collect();
        lengths.sort_unstable();
        assert!(
            lengths.iter().eq((0..12)
                .map(|number| number * 3000)
                .collect::<Vec<_>>()
                .iter())
        );
    }
}

#[test]
fn a_second_connection_resumes_on_whichever_shard() {
    let server = Server::start_tls(&["--shards", "4"]);
    let config = server.certificate.as_ref().unwrap().client_config();
    let kinds: Vec<HandshakeKind> = (0..8)
        .map(|_| {
            let mut stream = tls_over(config.clone(), tcp(&server));
            // The tickets come in front of the answer.
            stream
                .write_all(b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
            stream.conn.handshake_kind().unwrap()
        })
        .collect();
    assert_eq!(kinds[0], HandshakeKind::Full);
    assert!(
        kinds[1..]
            .iter()
            .all(|kind| *kind == HandshakeKind::Resumed),
        "{kinds:?}"
    );
}

#[test]
fn whoever_takes_ws_for_wss_is_told_so() {
    let server = Server::start_tls(&[]);
    let mut stream = tcp(&server);
    stream
        .write_all(b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("connect with wss://"), "{answer}");
}

#[test]
fn a_reload_under_load_drops_nobody_and_new_connections_see_the_new_certificate() {
    const RELOADS: usize = 5;
    let server = Server::start_tls(&["--shards", "2", "--messages-per-second-max", "0"]);
    let certificate = server.certificate.as_ref().unwrap();
    let mut members: Vec<Client> = (0..8)
        .map(|number| Client::connect(&server, &format!("u{number}")))
        .collect();
    for member in &mut members {
        member.join("r");
    }
    let stop = &AtomicBool::new(false);
    let (sent, come) = std::thread::scope(|scope| {
        // One speaks without rest, and others come and go.
        let mut speaker = members.pop().unwrap();
        let speaking = scope.spawn(move || {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                sent += 1;
                let id = sent.to_string();
                speaker.send(&json!({"type": "message", "room": "r", "content": sent, "id": id}));
                speaker.expect("ack");
            }
            sent
        });
        let coming = scope.spawn(|| {
            let mut come = 0;
            while !stop.load(Ordering::Relaxed) {
                // Between the two files of a certificate there is a moment without a reload, in which the client trusts what is not yet shown.
                come += u32::from(Client::try_connect(&server, "guest").is_ok());
            }
            come
        });
        let mut shown = Vec::new();
        for reload in 1..=RELOADS {
            certificate.renew();
            server.hang_up();
            await_line(&server, "the certificate that was read again", reload);
            let mut stream = certificate.connect(tcp(&server));
            stream.write_all(b"GET /ws HTTP/1.1\r\n\r\n").unwrap();
            let chain = stream.conn.peer_certificates().unwrap();
            assert_eq!(chain, [certificate.der()]);
            shown.push(certificate.der());
            std::thread::sleep(Duration::from_millis(100));
        }
        shown.dedup();
        assert_eq!(shown.len(), RELOADS);
        stop.store(true, Ordering::Relaxed);
        (speaking.join().unwrap(), coming.join().unwrap())
    });
    assert!(
        sent > RELOADS as u64 && come > 0,
        "{sent} sent, {come} came"
    );
    for member in &mut members {
        for number in 1..=sent {
            assert_eq!(member.expect("message")["content"], number);
        }
    }
}

#[test]
fn a_certificate_that_cannot_be_used_leaves_the_old_one() {
    let server = Server::start_tls(&[]);
    let certificate = server.certificate.as_ref().unwrap();
    let (config, before) = (certificate.client_config(), certificate.der());
    certificate.spoil();
    server.hang_up();
    await_line(&server, "the certificate in use stays", 1);
    let mut stream = tls_over(config, tcp(&server));
    stream.write_all(b"GET /ws HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(stream.conn.peer_certificates().unwrap(), [before]);
}

#[test]
fn the_start_stops_where_the_certificate_cannot_be_used() {
    // Arguments, parts of the message.
    let cases: [(&[&str], &[&str]); 2] = [
        (
            &[
                "--tls-cert",
                "/nowhere/cert.pem",
                "--tls-key",
                "/nowhere/key.pem",
            ],
            &[
                "tls_cert = /nowhere/cert.pem",
                "cannot be read",
                "--tls-cert",
            ],
        ),
        (
            &["--tls-cert", "/nowhere/cert.pem"],
            &["tls_key is not", "set both", "flag --tls-cert"],
        ),
    ];
    for (arguments, parts) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_shardcast"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "off"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success());
        let message = String::from_utf8(output.stderr).unwrap();
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

/// Whether a program is there; says so where it is not.
fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        println!("SKIPPED: {program} is not installed");
    }
    there
}

#[test]
fn a_scanner_finds_nothing_weak() {
    if !is_there("sslscan") {
        return;
    }
    let server = Server::start_tls(&[]);
    let output = Command::new("sslscan")
        .args(["--no-colour", "--no-cipher-details"])
        .arg(format!("127.0.0.1:{}", server.port()))
        .output()
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    println!("{report}");
    for old in ["SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"] {
        assert!(report.contains(&format!("{old:<10}disabled")), "{old}");
    }
    for version in ["TLSv1.2", "TLSv1.3"] {
        assert!(
            report.contains(&format!("{version:<10}enabled")),
            "{version}"
        );
        assert!(report.contains(&format!("{version} not vulnerable to heartbleed")));
    }
    assert!(report.contains("Session renegotiation not supported"));
    let suites: Vec<&str> = report
        .lines()
        .filter(|line| line.starts_with("Preferred") || line.starts_with("Accepted"))
        .collect();
    assert_eq!(suites.len(), 6, "{suites:?}");
    for suite in suites {
        let modern = suite.contains("GCM") || suite.contains("CHACHA20");
        let forward_secret = suite.contains("ECDHE-") || suite.contains(" TLS_");
        assert!(modern && forward_secret, "{suite}");
    }
}

/// What a page does: it joins a room, says something, says that it has heard it, and leaves.
const PAGE: &str = r#"<!doctype html><script>
const socket = new WebSocket("URL?user=chromium");
const say = (content) => socket.send(JSON.stringify({ type: "message", room: "page", content }));
socket.onmessage = ({ data }) => {
    const { type, content } = JSON.parse(data);
    if (type === "welcome") socket.send(JSON.stringify({ type: "join", room: "page" }));
    if (type === "joined") say("from a browser");
    if (type === "message" && content === "from a browser") say("heard");
    if (type === "message" && content === "heard") socket.close(1000);
};
</script>"#;

/// A browser on a page, and the directory of both.
struct Browser {
    child: Child,
    directory: PathBuf,
}

impl Browser {
    fn open(page: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("shardcast-browser-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("page.html");
        fs::write(&path, page).unwrap();
        let child = Command::new("chromium")
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--ignore-certificate-errors",
            ])
            .arg(format!(
                "--user-data-dir={}",
                directory.join("profile").display()
            ))
            .arg(format!("file://{}", path.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, directory }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both fail only where the child has ended already; what is left lies in the directory of temporary files.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.directory));
    }
}

#[test]
fn a_browser_speaks_over_tls() {
    if !is_there("chromium") {
        return;
    }
    let server = Server::start_tls(&[]);
    let mut member = Client::connect(&server, "member");
    member.join("page");
    let _browser = Browser::open(&PAGE.replace("URL", &server.url()));
    for content in ["from a browser", "heard"] {
        let heard = member.expect("message");
        assert_eq!(heard["user"], "chromium");
        assert_eq!(heard["content"], content);
    }
    assert_eq!(member.expect("user_left")["user"], "chromium");
}
