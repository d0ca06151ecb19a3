//! Prometheus itself, as Debian packages it: its server, and the tool that judges what it is told.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};
use serde_json::Value;

use crate::client::PATIENCE;

/// The example of a configuration.
const CONFIG: &str = include_str!("../../../../scripts/prometheus.yml");

/// A program of the package: where `scripts/check.sh` has unpacked it, or among those that are installed. Says so where it is neither.
fn find(program: &str) -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../.check/prometheus/usr/bin")
        .join(program);
    let found = [unpacked, PathBuf::from(program)]
        .into_iter()
        .find(|path| Command::new(path).arg("--version").output().is_ok());
    if found.is_none() {
        println!("SKIPPED: {program} is not installed");
    }
    found
}

/// The tool.
pub(super) struct Promtool(PathBuf);

pub(super) fn promtool() -> Option<Promtool> {
    find("promtool").map(Promtool)
}

impl Promtool {
    /// Asserts that it has nothing to say against a text.
    pub(super) fn check_metrics(&self, text: &str) {
        let mut child = Command::new(&self.0)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It reads to the end before it says anything.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        assert_silent(&child.wait_with_output().unwrap());
    }

    /// Asserts that the example of a configuration is one.
    pub(super) fn check_config(&self) {
        let directory = Directory::new("promtool");
        let config = directory.write("prometheus.yml", CONFIG);
        let output = Command::new(&self.0)
            .args(["check", "config"])
            .arg(config)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

fn assert_silent(output: &Output) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "promtool {}: {said}",
        output.status
    );
}

/// A directory that is gone when the test ends.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left behind in the build directory does no harm.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A server that scrapes one target every second.
pub(super) struct Prometheus {
    child: Child,
    port: u16,
    directory: Directory,
}

impl Prometheus {
    /// Starts it with the example of a configuration; `None` where there is none.
    pub(super) fn start(target: &str) -> Option<Self> {
        let program = find("prometheus")?;
        let directory = Directory::new("prometheus");
        let config = replaced(CONFIG, "127.0.0.1:9001", target);
        let config = replaced(&config, "scrape_interval: 10s", "scrape_interval: 1s");
        let log = fs::File::create(directory.0.join("log")).unwrap();
        let child = Command::new(program)
            .arg(format!(
                "--config.file={}",
                directory.write("prometheus.yml", &config).display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.0.join("data").display()
            ))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut prometheus = Self {
            child,
            port: 0,
            directory,
        };
        prometheus.port = prometheus.await_port();
        Some(prometheus)
    }

    /// It does not say which port the kernel has chosen, so the kernel is asked.
    fn await_port(&mut self) -> u16 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(port) = listening_port(self.child.id()) {
                return port;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "Prometheus does not listen: {}",
                fs::read_to_string(self.directory.0.join("log")).unwrap()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a query finds now.
    fn query(&self, query: &str) -> Vec<f64> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let answer = ureq::get(url).query("query", query).call();
        let Ok(mut answer) = answer else {
            // It has just begun to listen.
            return Vec::new();
        };
        let body = answer.body_mut().read_to_string().unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["status"], "success", "{query}: {body}");
        let found = body["data"]["result"].as_array().unwrap();
        found
            .iter()
            .map(|series| series["value"][1].as_str().unwrap().parse().unwrap())
            .collect()
    }

    /// Whether it finds at least one number.
    pub(super) fn has_number(&self, query: &str) -> bool {
        self.query(query).iter().any(|value| value.is_finite())
    }

    /// The number of the only series that a query finds.
    pub(super) fn number(&self, query: &str) -> Option<f64> {
        match self.query(query)[..] {
            [value] => Some(value),
            _ => None,
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Both fail only where the child has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from} in:\n{text}");
    text.replace(from, to)
}

/// The port that a process listens on.
fn listening_port(pid: u32) -> Option<u16> {
    let process = Process::new(i32::try_from(pid).unwrap()).ok()?;
    let sockets: Vec<u64> = process
        .fd()
        .ok()?
        .filter_map(|descriptor| match descriptor.ok()?.target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        })
        .collect();
    let listening = procfs::net::tcp()
        .ok()?
        .into_iter()
        .find(|entry| entry.state == TcpState::Listen && sockets.contains(&entry.inode));
    listening.map(|entry| entry.local_address.port())
}
