//! One run: a server started anew, one workload against it by a generator process, and what came of it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::catalogue::Contestant;
use super::child::ConfinedChild;
use super::comparison::Run;
use super::plan::Workload;
use super::server::{POLL, RunningServer, StartError, log_end};
use crate::cores::CoreList;
use crate::result::{Deliveries, RunResult};

/// A run may take this many times as long as expected, and `RUN_SPARE` more, before it is given up.
const RUN_FACTOR: f64 = 2.0;
const RUN_SPARE: Duration = Duration::from_secs(20);

/// What every run of a comparison shares.
#[derive(Debug)]
pub(super) struct Laboratory<'a> {
    /// The program whose subcommands are the workloads.
    pub(super) runner: &'a Path,
    pub(super) server_cores: &'a CoreList,
    pub(super) generator_cores: &'a CoreList,
    /// Where logs and results are written.
    pub(super) directory: &'a Path,
    /// Whether the user has had enough.
    pub(super) interrupted: &'a AtomicBool,
}

/// Somebody ended the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interrupted;

impl Laboratory<'_> {
    /// Starts the server, runs the workload, kills the server. Whatever goes wrong with either becomes the run's failure.
    pub(super) fn run(
        &self,
        contestant: &Contestant,
        workload: &Workload,
        round: u32,
    ) -> Result<Run, Interrupted> {
        let mut run = Run {
            round,
            workload: workload.name.to_owned(),
            server: contestant.name.clone(),
            failure: None,
            result: None,
        };
        let started = RunningServer::start(
            contestant,
            self.server_cores,
            self.directory,
            self.interrupted,
        );
        let mut server = match started {
            Ok(server) => server,
            Err(StartError::Interrupted) => return Err(Interrupted),
            Err(error) => {
                run.failure = Some(format!("the server {error}"));
                return Ok(run);
            }
        };
        match self.generate(contestant, workload, &server) {
            Ok(result) => {
                run.failure = failure_of(&result);
                run.result = Some(result);
            }
            Err(GenerateError::Interrupted) => return Err(Interrupted),
            Err(error) => run.failure = Some(error.to_string()),
        }
        // The cause says more than what the generator saw of it.
        run.failure = server.ended().or(run.failure);
        Ok(run)
    }

    fn generate(
        &self,
        contestant: &Contestant,
        workload: &Workload,
        server: &RunningServer,
    ) -> Result<RunResult, GenerateError> {
        let json = self.directory.join("result.json");
        let log = self.directory.join("generator.log");
        match fs::remove_file(&json) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut command = Command::new(self.runner);
        command
            .arg(workload.subcommand)
            .args(["--target", &server.address().to_string()])
            .args(["--protocol", contestant.protocol(workload.discipline)])
            .args(["--label", &contestant.name])
            .args(["--pid", &server.pid().to_string()])
            .args(["--cores", &self.generator_cores.to_string()])
            .arg("--json")
            .arg(&json)
            .arg("--quiet")
            .args(workload.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let mut generator = ConfinedChild::spawn(&mut command, self.generator_cores)?;
        let time_max = Duration::from_secs_f64(workload.expected_s * RUN_FACTOR) + RUN_SPARE;
        let status = self.wait(&mut generator, time_max)?;
        read_result(&json).map_err(|reason| GenerateError::NoResult {
            status,
            reason,
            log: log_end(&log),
        })
    }

    fn wait(
        &self,
        generator: &mut ConfinedChild,
        time_max: Duration,
    ) -> Result<ExitStatus, GenerateError> {
        let begun = Instant::now();
        loop {
            if let Some(status) = generator.try_wait()? {
                return Ok(status);
            }
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(GenerateError::Interrupted);
            }
            if begun.elapsed() > time_max {
                return Err(GenerateError::Endless {
                    seconds: time_max.as_secs(),
                });
            }
            // Rarely, as this thread may sit on the server's core.
            std::thread::sleep(POLL * 5);
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum GenerateError {
    #[error("the generator cannot be run: {0}")]
    System(#[from] io::Error),
    #[error("given up after {seconds} s")]
    Endless { seconds: u64 },
    #[error("the generator left no result ({status}, {reason}){log}")]
    NoResult {
        status: ExitStatus,
        reason: String,
        log: String,
    },
    #[error("interrupted")]
    Interrupted,
}

fn read_result(json: &PathBuf) -> Result<RunResult, String> {
    let text = fs::read(json).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

/// Why a run failed, as short as a table needs it; `None` where it passed.
fn failure_of(result: &RunResult) -> Option<String> {
    let first = result.failures.first()?;
    let counts = result
        .deliveries
        .as_ref()
        .map(counts_of)
        .unwrap_or_default();
    Some(if counts.is_empty() {
        first.clone()
    } else {
        counts.join(", ")
    })
}

fn counts_of(deliveries: &Deliveries) -> Vec<String> {
    [
        (deliveries.missing, "missing"),
        (deliveries.repeated, "repeated"),
        (deliveries.out_of_order, "out of order"),
        (deliveries.astray, "at the wrong connection"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_said_by_its_counts_where_there_are_any() {
        let mut result = RunResult {
            deliveries: Some(Deliveries {
                missing: 12,
                out_of_order: 1,
                ..Deliveries::default()
            }),
            ..RunResult::default()
        };
        assert_eq!(failure_of(&result), None);
        result.failures = vec!["12 deliveries never arrived.".to_owned()];
        assert_eq!(
            failure_of(&result).as_deref(),
            Some("12 missing, 1 out of order")
        );
        result.deliveries = None;
        assert_eq!(
            failure_of(&result).as_deref(),
            Some("12 deliveries never arrived.")
        );
    }
}
