//! Every workload against Shardcast itself, shortly: each passes and reports what it is for.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use shardcast_bench::latency::Latency;
use shardcast_bench::result::RunResult;

use crate::bench::{Bench, latency};

/// What the program prints when it is ready, before its address.
const READY: &str = "listening on ws";

/// Where its program is: beside the harness's own. Built unless it is there, as the run of one package's tests does not.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let directory = Path::new(env!("CARGO_BIN_EXE_shardcast-bench"))
            .parent()
            .unwrap();
        let program = directory.join("shardcast");
        if !program.exists() {
            let mut build = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
            build.args([
                "build",
                "--package",
                "shardcast",
                "--bin",
                "shardcast",
                "--target-dir",
            ]);
            build.arg(directory.parent().unwrap());
            if directory.ends_with("release") {
                build.arg("--release");
            }
            let status = build
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status()
                .unwrap();
            assert!(status.success() && program.exists(), "{build:?}: {status}");
        }
        program
    })
}

fn serve(listen: &str) -> Vec<String> {
    let program = program().to_str().unwrap();
    let options = "--admin off --shards 2 --messages-per-second-max 0 --log error";
    format!("{program} serve --listen {listen} {options}")
        .split(' ')
        .map(str::to_owned)
        .collect()
}

/// A process that ends with the guard, whatever happens to the test.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // Fails where the test has ended it already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A server on a port of its own.
pub(crate) struct Server {
    process: Guarded,
    address: String,
    /// Kept open, as the server may print more.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// One with more options.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let words = serve("127.0.0.1:0");
        let child = Command::new(&words[0])
            .args(&words[1..])
            .args(options)
            .env("SHARDCAST_FAULTS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut process = Guarded(child);
        let mut stdout = BufReader::new(process.0.stdout.take().unwrap());
        let mut lines = stdout.by_ref().lines().map(Result::unwrap);
        let url = lines.find_map(|line| line.strip_prefix(READY).map(str::to_owned));
        let url = url.expect("the server ended before it was ready");
        let (_, url) = url.split_once("://").unwrap();
        Self {
            process,
            address: url.trim_end_matches("/ws").to_owned(),
            _stdout: stdout,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    fn bench(&self, words: &str) -> Bench {
        Bench::against(&self.address, "shardcast", words).with("--pid", &self.pid().to_string())
    }
}

#[track_caller]
fn assert_whole(latency: &Latency) {
    let points = latency.quantiles;
    let rising = [
        points.p50_us,
        points.p90_us,
        points.p99_us,
        points.p999_us,
        points.max_us,
    ];
    assert!(
        latency.count > 0 && points.p50_us > 0.0 && rising.is_sorted(),
        "{latency:?}"
    );
}

/// What every run with traffic reports.
#[track_caller]
pub(crate) fn assert_measured(result: &RunResult, names: &[&str]) {
    for name in names {
        assert_whole(&latency(result, name).latency);
    }
    let deliveries = result.deliveries.as_ref().unwrap();
    assert!(
        deliveries.expected > 0 && deliveries.received == deliveries.expected,
        "{deliveries:?}"
    );
    let server = result.server_use.as_ref().unwrap();
    assert!(
        server.cpu_per_delivery_us.unwrap() > 0.0 && server.resident_bytes > 1 << 20,
        "{server:?}"
    );
    assert!(!result.seconds.is_empty());
    assert!(
        result
            .seconds
            .iter()
            .all(|second| second.server_resident_bytes.is_some())
    );
    assert!(result.generator.lateness.is_some() && result.generator.threads > 0);
    assert_eq!(result.connections.asked, result.connections.open);
    for fact in ["kernel", "logical cores", "harness"] {
        assert!(
            result.machine.iter().any(|known| known.name == fact),
            "{:?}",
            result.machine
        );
    }
}

#[test]
fn rooms() {
    let server = Server::start();
    let words =
        "rooms --connections 200 --room-size 50 --rate 20 --publishers 2 --warmup 0.2 --duration 1";
    let result = server.bench(words).passes();
    assert_measured(&result, &["delivery", "last receiver", "handshake", "join"]);
    let deliveries = result.deliveries.as_ref().unwrap();
    assert_eq!(deliveries.expected, 50 * deliveries.published);
    assert_eq!(
        latency(&result, "last receiver").latency.count,
        deliveries.published
    );
}

#[test]
fn mixed() {
    let server = Server::start();
    let words = "mixed --connections 60 --room-size 20 --rate 10 --warmup 0.2 --duration 1";
    let result = server.bench(words).passes();
    assert_measured(&result, &["delivery", "direct message", "last receiver"]);
}

#[test]
fn echo() {
    let server = Server::start();
    let words = "echo --connections 50 --rate 20 --warmup 0.2 --duration 1";
    let result = server.bench(words).passes();
    assert_measured(&result, &["delivery"]);
    assert!(
        result
            .notes
            .iter()
            .any(|note| note.contains("a room of its own")),
        "{:?}",
        result.notes
    );
}

#[test]
fn churn() {
    let server = Server::start();
    let words = "churn --connections 100 --room-size 50 --rate 10 --churning 100 --churn-rate 100 \
                 --warmup 0.2 --duration 1";
    let result = server.bench(words).passes();
    let busy = "delivery, with connections that come and go";
    assert_measured(&result, &["delivery, quiet", busy, "handshake"]);
    // The handshakes of those that came again are among them.
    assert!(latency(&result, "handshake").latency.count > 250);
    assert_eq!(result.connections.lost, 0);
}

#[test]
fn storm() {
    let server = Server::start();
    let words =
        "storm --connections 100 --room-size 50 --rate 10 --dropped 500 --warmup 0.2 --duration 1";
    let result = server.bench(words).passes();
    assert_measured(&result, &["delivery, quiet", "delivery, storm"]);
    let recovery = result.recovery.unwrap();
    assert_eq!((recovery.dropped, recovery.recovered), (500, 500));
    assert_eq!(recovery.times.unwrap().count, 500);
    assert!(recovery.first_s.unwrap() > 0.0 && recovery.first_s <= recovery.last_s);
}

#[test]
fn slow() {
    let server = Server::start();
    let words =
        "slow --connections 100 --room-size 50 --rate 20 --slow 5 --warmup 0.2 --duration 1";
    let result = server.bench(words).passes();
    assert_measured(
        &result,
        &["delivery, all read", "delivery, some do not read"],
    );
    let deliveries = result.deliveries.as_ref().unwrap();
    assert_eq!(
        deliveries.expected,
        45 * deliveries.published,
        "slow members are not measured"
    );
}

#[test]
fn capacity() {
    let server = Server::start();
    // The steps go up to what no server delivers in time here; they are short, so this is over soon.
    let words = "capacity --connections 100 --room-size 100 --start-rate 2000 --factor 8 --refine 0 \
                 --p99-max-ms 100 --warmup 0.1 --duration 0.5 --drain 2";
    let result = server.bench(words).passes();
    assert!(result.capacity.len() >= 2, "{:#?}", result.capacity);
    let (last, lower) = result.capacity.split_last().unwrap();
    assert!(!last.passed && lower.iter().all(|step| step.passed));
    assert!(last.reason.is_some());
    for step in &result.capacity {
        assert_whole(step.latency.as_ref().unwrap());
        assert!(step.cpu_per_delivery_us.unwrap() > 0.0 && step.server_cores.unwrap() > 0.0);
    }
    assert_measured(&result, &["delivery", "last receiver"]);
}

#[test]
fn density() {
    let server = Server::start();
    let words = "density --connections 500 --room-size 50 --first 40 --steps 2 --hold 1 --probe-rooms 2 --probe-room-size 20 \
                 --probe-rate 20 --warmup 0.2 --duration 1";
    let result = server.bench(words).passes();
    let connections: Vec<u64> = result.density.iter().map(|row| row.connections).collect();
    assert_eq!(connections, [80, 310, 540, 540], "40 of them probe");
    for row in &result.density {
        assert!(row.server_bytes.unwrap() > 0);
        assert!(row.server_bytes_per_connection.unwrap() > 0.0, "{row:?}");
        assert!(row.generator_bytes_per_connection.is_some());
        assert!(row.server_cores.is_some());
        assert_whole(row.probe.as_ref().unwrap());
    }
    assert_measured(&result, &["delivery, beside 540 connections", "join"]);
}

/// What both faults have in common.
#[track_caller]
fn assert_recovered(result: &RunResult) {
    let recovery = result.recovery.as_ref().unwrap();
    assert!(
        recovery.dropped > 0 && recovery.recovered >= recovery.dropped,
        "{recovery:?}"
    );
    assert!(
        recovery.first_s.unwrap() > 0.0 && recovery.first_s <= recovery.last_s,
        "{recovery:?}"
    );
    assert_eq!(recovery.times.as_ref().unwrap().count, recovery.recovered);
    assert!(recovery.messages_recovered.is_some());
    assert_whole(&latency(result, "delivery, before the fault").latency);
    assert_whole(&latency(result, "delivery, fault").latency);
}

#[test]
fn a_crashed_shard() {
    let server = Server::start();
    let words = "fault --crash-shard --connections 100 --room-size 50 --rate 20 --warmup 0.2 --duration 9 --drain 1";
    let result = server.bench(words).passes();
    assert_recovered(&result);
    let dropped = result.recovery.unwrap().dropped;
    assert!(
        dropped < 100,
        "the other shard's connections stay: {dropped} were lost"
    );
    assert!(result.server_use.is_some());
}

#[test]
fn a_killed_server() {
    let server = Server::start();
    let pid_file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("harness-restored.pid");
    drop(fs::remove_file(&pid_file));
    // The port is free only when the kernel has undone the rings of the killed server, some moments after the kill: no
    // listening socket of it is left in /proc/net/tcp. Then the shell becomes the server, with the number it wrote down. It
    // outlives the harness, so it must not hold the harness's standard error open, which is read to its end.
    let port: u16 = server.address.rsplit(':').next().unwrap().parse().unwrap();
    let restore = format!(
        "echo $$ > '{}'; while grep -q ':{port:04X} 00000000:0000 0A' /proc/net/tcp; do sleep 0.05; done; exec {} 2> /dev/null",
        pid_file.display(),
        serve(&server.address).join(" ")
    );
    let words =
        "fault --connections 100 --room-size 50 --rate 20 --warmup 0.2 --duration 6 --drain 1";
    let outcome = server
        .bench(words)
        .with("--break", &format!("kill -9 {}", server.pid()))
        .with("--restore", &restore)
        .run();
    if let Ok(pid) = fs::read_to_string(&pid_file) {
        kill(pid.trim());
    }
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    let result = outcome.result();
    assert_recovered(&result);
    assert_eq!(result.recovery.as_ref().unwrap().dropped, 100);
    let before = result.server_use.as_ref().unwrap();
    assert!(
        before.cpu_per_delivery_us.unwrap() > 0.0,
        "what it used before the fault"
    );
}

/// Ends the server that the run has started, and waits until it has ended.
fn kill(pid: &str) {
    // Fails where it did not even start; the run says so.
    drop(Command::new("kill").args(["-9", pid]).status());
    let begun = Instant::now();
    let stat = || fs::read_to_string(format!("/proc/{pid}/stat"));
    // One that has ended is a zombie until whoever inherited it collects it.
    while stat().is_ok_and(|stat| !stat.contains(") Z")) {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{pid} still runs"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
