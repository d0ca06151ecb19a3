//! The program under test.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shardcast_bench::result::{NamedLatency, RunResult};

/// How long a run may take before the test gives it up: it tells a hang from a slow machine.
const RUN_MAX: Duration = Duration::from_secs(100);

/// A command line of the harness.
pub(crate) struct Bench(Vec<String>);

impl Bench {
    /// Words separated by spaces, the workload first.
    pub(crate) fn new(words: &str) -> Self {
        Self(words.split_whitespace().map(str::to_owned).collect())
    }

    /// The same for a server: adds `--target` and `--protocol`.
    pub(crate) fn against(address: &str, protocol: &str, words: &str) -> Self {
        Self::new(words)
            .with("--target", address)
            .with("--protocol", protocol)
    }

    /// Adds an option whose value may hold spaces.
    pub(crate) fn with(mut self, option: &str, value: &str) -> Self {
        self.0.extend([option.to_owned(), value.to_owned()]);
        self
    }

    /// Runs it with its result on standard output.
    pub(crate) fn run(self) -> Outcome {
        self.with("--json", "-").run_as_it_is()
    }

    /// Runs it with no more options than given.
    pub(crate) fn run_as_it_is(self) -> Outcome {
        let mut child = Command::new(env!("CARGO_BIN_EXE_shardcast-bench"))
            .args(&self.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let code = wait(&mut child);
        Outcome {
            command: self.0.join(" "),
            code,
            stdout: stdout.join().unwrap(),
            stderr: stderr.join().unwrap(),
        }
    }

    /// Runs it, and it passes.
    pub(crate) fn passes(self) -> RunResult {
        let outcome = self.run();
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        let result = outcome.result();
        assert!(result.failures.is_empty(), "{:?}", result.failures);
        result
    }

    /// Runs it, and it fails for what the server did.
    pub(crate) fn fails(self) -> RunResult {
        let outcome = self.run();
        assert_eq!(outcome.code, Some(1), "{outcome:#?}");
        let result = outcome.result();
        assert!(!result.failures.is_empty());
        result
    }

    /// Runs it, and it cannot: what it says of that.
    pub(crate) fn refusal(self) -> String {
        let outcome = self.run();
        assert_eq!(outcome.code, Some(2), "{outcome:#?}");
        assert_eq!(outcome.stdout, "", "nothing was measured");
        outcome.stderr
    }
}

/// What became of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    #[expect(dead_code, reason = "for messages of failed assertions")]
    command: String,
    /// The exit code; `None` when it was given up.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The one JSON document on standard output.
    pub(crate) fn result(&self) -> RunResult {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in the result: {self:#?}"))
    }
}

/// The latency of this name.
pub(crate) fn latency<'a>(result: &'a RunResult, name: &str) -> &'a NamedLatency {
    let names = result.latencies.iter().map(|latency| latency.name.as_str());
    let mut searched = names.clone();
    let found = searched.position(|found| found == name);
    let index =
        found.unwrap_or_else(|| panic!("no latency {name:?} in {:?}", names.collect::<Vec<_>>()));
    &result.latencies[index]
}

fn wait(child: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    while begun.elapsed() < RUN_MAX {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    })
}
