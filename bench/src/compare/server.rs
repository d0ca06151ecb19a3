//! Starting and stopping a server under test.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::catalogue::Contestant;
use super::child::ConfinedChild;
use crate::cores::CoreList;

/// What a server prints on standard output once it accepts connections.
const READY: &str = "listening on ws://";
/// How long a server may take until then.
const READY_MAX: Duration = Duration::from_secs(15);
/// How often the output and the processes are looked at.
pub(super) const POLL: Duration = Duration::from_millis(10);
/// How many of the last lines of a log an error message repeats.
const LOG_LINES: usize = 3;

/// A server that accepts connections. It and its descendants are killed when the value goes.
#[derive(Debug)]
pub(super) struct RunningServer {
    child: ConfinedChild,
    address: SocketAddr,
    log: PathBuf,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("cannot be started: {0}")]
    Spawn(#[source] io::Error),
    #[error("no port or no log file: {0}")]
    Surroundings(#[source] io::Error),
    #[error("ended before it listened ({status}){log}")]
    Ended { status: ExitStatus, log: String },
    #[error("did not print \"{READY}…\" within {} s{log}", READY_MAX.as_secs())]
    Silent { log: String },
    #[error("interrupted")]
    Interrupted,
}

impl RunningServer {
    /// Starts a server on `cores` and a free port of 127.0.0.1, and waits until it listens. What it prints goes to files in `directory`.
    pub(super) fn start(
        contestant: &Contestant,
        cores: &CoreList,
        directory: &Path,
        interrupted: &AtomicBool,
    ) -> Result<Self, StartError> {
        let address = free_address().map_err(StartError::Surroundings)?;
        let output = directory.join("server.out");
        let log = directory.join("server.log");
        let file = |path: &Path| File::create(path).map_err(StartError::Surroundings);
        let mut command = Command::new(&contestant.executable);
        command
            .args(&contestant.arguments)
            .args(["--listen", &address.to_string()])
            .stdin(Stdio::null())
            .stdout(file(&output)?)
            .stderr(file(&log)?);
        // Shardcast reads its options from these as well: none but those shown here may count.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SHARDCAST_") {
                command.env_remove(name);
            }
        }
        let child = ConfinedChild::spawn(&mut command, cores).map_err(StartError::Spawn)?;
        let mut server = Self {
            child,
            address,
            log,
        };
        server.wait_until_ready(&output, interrupted)?;
        Ok(server)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// How it ended, with the end of its log, where it has ended although nobody told it to.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("the server ended ({status}){}", log_end(&self.log)))
    }

    fn wait_until_ready(
        &mut self,
        output: &Path,
        interrupted: &AtomicBool,
    ) -> Result<(), StartError> {
        let begun = Instant::now();
        loop {
            let printed = fs::read(output).map_err(StartError::Surroundings)?;
            if is_ready(&String::from_utf8_lossy(&printed)) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().map_err(StartError::Spawn)? {
                let log = log_end(&self.log);
                return Err(StartError::Ended { status, log });
            }
            if begun.elapsed() > READY_MAX {
                let log = log_end(&self.log);
                return Err(StartError::Silent { log });
            }
            if interrupted.load(Ordering::Relaxed) {
                return Err(StartError::Interrupted);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The last lines of a log as the end of a sentence; empty where it has none.
pub(super) fn log_end(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    if last.is_empty() {
        return String::new();
    }
    format!(": {}", last.join(" / "))
}

fn is_ready(printed: &str) -> bool {
    printed
        .split_inclusive('\n')
        .any(|line| line.ends_with('\n') && line.starts_with(READY))
}

/// An address whose port nobody has at the moment.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_when_the_whole_line_is_there() {
        assert!(is_ready("starting\nlistening on ws://127.0.0.1:9000/ws\n"));
        assert!(!is_ready("starting\nlistening on ws://127.0.0"));
        assert!(!is_ready("not listening on ws://127.0.0.1:9000\n"));
    }

    #[test]
    fn a_missing_or_empty_log_adds_nothing() {
        assert_eq!(log_end(Path::new("/nonexistent")), "");
    }
}
