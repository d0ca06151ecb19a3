//! A whole comparison of servers that are shell scripts, by a generator that copies a result prepared for each run.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use shardcast_bench::compare::{
    self, CompareError, CompareOptions, Comparison, Metric, Row, WorkloadComparison,
};
use shardcast_bench::latency::Latency;
use shardcast_bench::result::{Deliveries, NamedLatency, Quantiles, RunResult, ServerUse};

/// The signal of one test would end the comparison of another: they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Prints the line, and has a child that would outlive it.
const SERVER: &str =
    "sleep 60 &\necho \"$$ $!\" >> PLACE/pids\necho \"listening on ws://$2\"\nwait\n";
const DEAD_SERVER: &str = "echo 'no such library' >&2\nexit 3\n";
/// Copies `LABEL-N.json`, where N counts the runs of that server, and says who was visited.
const RUNNER: &str = r#"while [ $# -gt 0 ]; do
    case "$1" in
    --json) json=$2 ;;
    --label) label=$2 ;;
    esac
    shift
done
echo "$label" >> PLACE/visits
cp "PLACE/$label-$(grep -c "^$label$" PLACE/visits).json" "$json"
"#;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    options: CompareOptions,
}

/// A directory with fake servers and a fake generator, removed in the end.
struct Stage {
    place: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    fn new(name: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("compare-{name}"));
        drop(fs::remove_dir_all(&place));
        fs::create_dir_all(place.join("peers")).unwrap();
        let stage = Self { place, _turn: turn };
        stage.script("runner", RUNNER);
        stage
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.place.join(name);
        let text = text.replace("PLACE", &self.place.display().to_string());
        fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A server, and the results of its runs: CPU a delivery in microseconds, or nothing for a run with 12 missing deliveries.
    fn server(&self, name: &str, runs: &[Option<f64>]) {
        self.script(&format!("peers/{name}"), SERVER);
        for (index, cpu_us) in runs.iter().enumerate() {
            let path = self.place.join(format!("{name}-{}.json", index + 1));
            fs::write(path, serde_json::to_vec(&result(*cpu_us)).unwrap()).unwrap();
        }
    }

    fn compare(&self, arguments: &[&str]) -> Result<Comparison, CompareError> {
        let place = self.place.display();
        let own = [
            "compare".to_owned(),
            "--quiet".to_owned(),
            "--workloads=rooms-100".to_owned(),
            format!("--peers={place}/peers"),
            format!("--executables={place}"),
            format!("--runner={place}/runner"),
        ];
        let given = arguments.iter().map(|argument| (*argument).to_owned());
        let line = CommandLine::try_parse_from(own.into_iter().chain(given)).unwrap();
        compare::run(line.options)
    }

    fn assert_nothing_is_left(&self) {
        let pids = fs::read_to_string(self.place.join("pids")).unwrap();
        assert!(pids.split_whitespace().count() >= 2);
        let begun = Instant::now();
        for pid in pids.split_whitespace() {
            // A zombie has ended: whoever inherited it may be slow to collect it.
            let stat = || fs::read_to_string(format!("/proc/{pid}/stat"));
            while stat().is_ok_and(|stat| !stat.contains(") Z")) {
                assert!(begun.elapsed() < Duration::from_secs(5), "{pid} still runs");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.place));
    }
}

fn result(cpu_us: Option<f64>) -> RunResult {
    let latency = Latency {
        quantiles: Quantiles {
            p50_us: 100.0,
            p99_us: 200.0,
            ..Quantiles::default()
        },
        curve: vec![(0.5, 100.0)],
        ..Latency::default()
    };
    RunResult {
        latencies: vec![NamedLatency {
            name: "delivery".to_owned(),
            meaning: String::new(),
            latency,
        }],
        server_use: Some(ServerUse {
            cpu_per_delivery_us: Some(cpu_us.unwrap_or(1.0)),
            ..ServerUse::default()
        }),
        deliveries: Some(Deliveries {
            missing: if cpu_us.is_none() { 12 } else { 0 },
            ..Deliveries::default()
        }),
        failures: match cpu_us {
            Some(_) => Vec::new(),
            None => vec!["12 deliveries never arrived.".to_owned()],
        },
        ..RunResult::default()
    }
}

fn row<'a>(workload: &'a WorkloadComparison, server: &str) -> &'a Row {
    workload
        .rows
        .iter()
        .find(|row| row.server == server)
        .unwrap()
}

/// A comparison needs two cores. Says so where there is one, and skips what needs them.
fn has_cores() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        eprintln!("skipped: one core");
    }
    cores >= 2
}

#[test]
fn ratios_are_made_round_by_round_and_failed_runs_are_shown_apart() {
    if !has_cores() {
        return;
    }
    let stage = Stage::new("ratios");
    // The machine was twice as slow in the second round: the ratio is the same.
    stage.server("alpha", &[Some(10.0), Some(20.0), Some(10.0)]);
    stage.server("beta", &[Some(8.0), Some(16.0), Some(9.0)]);
    stage.server("gamma", &[Some(30.0), None, Some(33.0)]);
    stage.script("peers/delta", DEAD_SERVER);
    let markdown = stage.place.join("table.md");
    let json = stage.place.join("all.json");
    let comparison = stage
        .compare(&[
            "--servers=alpha,beta,gamma,delta,epsilon",
            "--baseline=alpha",
            "--rounds=3",
            &format!("--markdown={}", markdown.display()),
            &format!("--json={}", json.display()),
        ])
        .unwrap();

    let workload = &comparison.workloads[0];
    let names: Vec<&str> = workload.rows.iter().map(|row| &*row.server).collect();
    assert_eq!(names, ["beta", "alpha", "gamma", "delta"], "the best first");
    let beta = row(workload, "beta")
        .figure(Metric::CpuPerDelivery)
        .unwrap();
    assert_eq!(
        (beta.value.median, beta.value.min, beta.value.max),
        (9.0, 8.0, 16.0)
    );
    let ratio = beta.to_baseline.unwrap();
    assert_eq!((ratio.median, ratio.min, ratio.max), (0.8, 0.8, 0.9));
    assert_eq!(beta.to_floor, None);

    let gamma = row(workload, "gamma");
    assert_eq!(gamma.failures, ["12 missing"]);
    let ratio = gamma
        .figure(Metric::CpuPerDelivery)
        .unwrap()
        .to_baseline
        .unwrap();
    assert_eq!((ratio.min, ratio.max, ratio.count), (3.0, 3.3, 2));

    let delta = row(workload, "delta");
    assert!(delta.figures.is_empty());
    assert_eq!(delta.failures.len(), 3);
    assert!(
        delta.failures[0].contains("exit status: 3")
            && delta.failures[0].contains("no such library"),
        "{}",
        delta.failures[0]
    );
    assert!(comparison.missing[0].starts_with("epsilon is left out"));

    let markdown = fs::read_to_string(markdown).unwrap();
    assert!(markdown.contains("failed 1 of 3: 12 missing"), "{markdown}");
    assert!(
        markdown.contains("* rooms-100, CPU a delivery: beta 0.80× (0.80–0.90)"),
        "{markdown}"
    );
    let json: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(json["runs"].as_array().unwrap().len(), 12);
    assert!(
        !json.to_string().contains("\"curve\":[["),
        "curves are left out"
    );
    assert_eq!(comparison.representatives().len(), 3);
    stage.assert_nothing_is_left();
}

#[test]
fn every_round_visits_the_servers_in_another_order_and_the_floor_is_the_measure() {
    if !has_cores() {
        return;
    }
    let stage = Stage::new("orders");
    stage.server("alpha", &[Some(10.0); 4]);
    stage.server("beta", &[Some(10.0); 4]);
    stage.server("floor", &[Some(5.0); 4]);
    let comparison = stage
        .compare(&[
            "--servers=alpha,beta,floor",
            "--baseline=alpha",
            "--rounds=4",
        ])
        .unwrap();
    let orders: BTreeSet<&Vec<String>> = comparison.orders.iter().collect();
    assert_eq!(orders.len(), 4, "{:?}", comparison.orders);
    let visits = fs::read_to_string(stage.place.join("visits")).unwrap();
    let visited: Vec<&str> = visits.lines().collect();
    assert_eq!(visited, comparison.orders.concat());

    let alpha = row(&comparison.workloads[0], "alpha");
    let figure = alpha.figure(Metric::CpuPerDelivery).unwrap();
    assert_eq!(figure.to_floor.unwrap().median, 2.0);
    assert!(comparison.terminal().contains("2.00× (2.00–2.00)"));
    assert!(
        comparison.ahead_of_baseline().is_empty(),
        "the floor is no peer"
    );
    stage.assert_nothing_is_left();
}

#[test]
fn a_signal_ends_the_comparison_and_everything_it_started() {
    if !has_cores() {
        return;
    }
    let stage = Stage::new("signal");
    stage.server("alpha", &[]);
    stage.script(
        "runner",
        "kill -INT $PPID\nsleep 60 &\necho $! >> PLACE/pids\nwait\n",
    );
    let begun = Instant::now();
    let outcome = stage.compare(&["--servers=alpha", "--baseline=alpha"]);
    assert!(
        matches!(outcome, Err(CompareError::Interrupted)),
        "{outcome:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
    stage.assert_nothing_is_left();
}

#[test]
fn a_server_that_dies_under_load_and_a_generator_without_a_result_are_reported() {
    if !has_cores() {
        return;
    }
    let stage = Stage::new("dying");
    stage.server("alpha", &[Some(1.0)]);
    stage.script(
        "peers/beta",
        "echo \"listening on ws://$2\"\nsleep 0.2\necho 'out of memory' >&2\nexit 9\n",
    );
    stage.script("runner", "sleep 0.5\necho 'cannot bind' >&2\nexit 2\n");
    let comparison = stage
        .compare(&["--servers=alpha,beta", "--baseline=alpha", "--rounds=1"])
        .unwrap();
    let workload = &comparison.workloads[0];
    let beta = &row(workload, "beta").failures[0];
    assert!(
        beta.contains("the server ended (exit status: 9): out of memory"),
        "{beta}"
    );
    let alpha = &row(workload, "alpha").failures[0];
    assert!(
        alpha.contains("left no result") && alpha.contains("cannot bind"),
        "{alpha}"
    );
    assert!(comparison.markdown().contains("rooms-100: not compared"));
    stage.assert_nothing_is_left();
}

#[test]
fn what_cannot_be_compared_is_said_before_anything_starts() {
    if !has_cores() {
        return;
    }
    let stage = Stage::new("refused");
    stage.server("alpha", &[]);
    let outcome = stage.compare(&["--servers=alpha,shardcast"]);
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains("baseline shardcast") && message.contains("cargo build --release"));

    let readme = stage.place.join("README.md");
    fs::write(&readme, "no markers").unwrap();
    let update = format!("--update-readme={}", readme.display());
    let outcome = stage.compare(&["--servers=alpha", "--baseline=alpha", &update]);
    assert!(
        matches!(outcome, Err(CompareError::Markers { .. })),
        "{outcome:?}"
    );
    assert!(!stage.place.join("visits").exists());
}
