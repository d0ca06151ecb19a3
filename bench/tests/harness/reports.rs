//! What a run writes: the table, JSON, the page, the HdrHistogram log.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use shardcast_bench::latency::{self, Recording};
use shardcast_bench::result::{RESULT_VERSION, RunResult};

use crate::bench::{Bench, latency};
use crate::server::{Fate, Server};

const ROOMS: &str =
    "rooms --connections 20 --room-size 10 --rate 50 --warmup 0.2 --duration 2 --label quick";

/// A file of one test's run, absent before it.
fn file(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("harness-{name}"));
    drop(fs::remove_file(&path));
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The sum of all intervals of a log, and how many there are.
fn read_log(path: &Path) -> (Recording, usize) {
    let log = fs::read(path).unwrap();
    let (mut sum, mut intervals) = (latency::recording(), 0);
    let mut end = Duration::ZERO;
    for entry in IntervalLogIterator::new(&log) {
        let LogEntry::Interval(interval) = entry.unwrap() else {
            continue;
        };
        assert!(
            interval.start_timestamp() + Duration::from_millis(1) >= end,
            "they overlap"
        );
        end = interval.start_timestamp() + interval.duration();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(interval.encoded_histogram())
            .unwrap();
        let recording: Recording = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .unwrap();
        sum.add(&recording).unwrap();
        intervals += 1;
    }
    (sum, intervals)
}

#[test]
fn every_report_holds_the_run() {
    let server = Server::correct();
    let (html, log) = (file("page.html"), file("log.hlog"));
    let result = Bench::against(&server.address(), "plain", ROOMS)
        .with("--html", text(&html))
        .with("--hdr-log", text(&log))
        .passes();
    let deliveries = result.deliveries.as_ref().unwrap();
    assert_eq!(result.version, RESULT_VERSION);
    assert_eq!(
        (result.workload.as_str(), result.server.as_str()),
        ("rooms", "quick")
    );
    assert!(
        result
            .command
            .starts_with("shardcast-bench rooms --connections 20"),
        "{}",
        result.command
    );
    assert!((result.measured_s - 2.0).abs() < 1e-9);
    assert_eq!(result.seconds.len(), 2);
    assert_eq!(result.server_use, None, "nothing is known without --pid");
    assert_eq!(
        latency(&result, "delivery").latency.count,
        deliveries.received
    );
    assert_eq!(
        latency(&result, "last receiver").latency.count,
        deliveries.published
    );
    assert_eq!(latency(&result, "join").latency.count, 20);

    let (sum, intervals) = read_log(&log);
    assert!(
        (2..=4).contains(&intervals),
        "one a second, and what came just before and after: {intervals}"
    );
    assert_eq!(sum.len(), deliveries.received);
    let logged_us = sum.value_at_quantile(0.99) as f64 / 1000.0;
    let reported_us = latency(&result, "delivery").latency.quantiles.p99_us;
    assert!(
        (logged_us / reported_us - 1.0).abs() < 0.002,
        "{logged_us} {reported_us}"
    );
    let head = fs::read_to_string(&log).unwrap();
    assert!(
        head.starts_with("#shardcast-bench rooms"),
        "the command stands first"
    );

    let page = fs::read_to_string(&html).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<svg"));
    for outside in ["<script src", "<link", "<img"] {
        assert!(!page.contains(outside), "the page needs nothing else");
    }
    let received = grouped(deliveries.received);
    for number in [
        "quick",
        "rooms",
        "delivery",
        "last receiver",
        &received,
        &server.address(),
    ] {
        assert!(page.contains(number), "no {number:?} on the page");
    }
}

/// Deliveries that come after the measured part are in the log too: a stall at its end must not be lost.
#[test]
fn the_log_holds_what_came_late() {
    let mut deliveries = 0;
    let server = Server::with_fates(move |_| {
        deliveries += 1;
        if deliveries == 900 {
            std::thread::sleep(Duration::from_millis(1500));
        }
        Fate::Deliver
    });
    let log = file("late.hlog");
    let words = "rooms --connections 10 --room-size 10 --rate 100 --warmup 0 --duration 1";
    let result = Bench::against(&server.address(), "plain", words)
        .with("--hdr-log", text(&log))
        .passes();
    let (sum, _) = read_log(&log);
    assert_eq!(sum.len(), result.deliveries.unwrap().received);
    assert!(sum.max() > 1_000_000_000, "{}", sum.max());
}

#[test]
fn json_goes_to_a_file_and_the_table_to_the_terminal() {
    let server = Server::correct();
    let json = file("result.json");
    let words = "echo --connections 2 --rate 50 --warmup 0 --duration 1";
    let outcome = Bench::against(&server.address(), "echo", words)
        .with("--json", text(&json))
        .run_as_it_is();
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    let result: RunResult = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(result.workload, "echo");
    for part in ["Deliveries", "delivery", "p99", &result.server] {
        assert!(
            outcome.stdout.contains(part),
            "no {part:?} in {}",
            outcome.stdout
        );
    }
}

#[test]
fn a_report_that_cannot_be_written_is_said() {
    let server = Server::correct();
    let words = "echo --connections 1 --rate 50 --warmup 0 --duration 0.2";
    for option in ["--json", "--html", "--hdr-log"] {
        let outcome = Bench::against(&server.address(), "echo", words)
            .with(option, "/nonexistent/report")
            .run_as_it_is();
        assert_eq!(outcome.code, Some(2), "{outcome:#?}");
        assert!(
            outcome.stderr.contains("cannot write /nonexistent/report"),
            "{outcome:#?}"
        );
    }
}

/// A number as people read it: groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
