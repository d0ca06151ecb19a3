//! The control thread of the binary: it starts the engine, waits for signals, watches memory, and stops the engine.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::conformance::EchoRooms;
use crate::engine::{Engine, EngineError, Running};
use crate::rooms::{PATH, Rooms};

/// How often memory is compared with its bound.
const MEMORY_INTERVAL: Duration = Duration::from_millis(250);

/// The variable that lets clients cause faults; for tests.
const FAULTS_VARIABLE: &str = "SHARDCAST_FAULTS";

/// The variable that makes the server send every text back as it came; for suites of conformance.
const ECHO_VARIABLE: &str = "SHARDCAST_ECHO";

/// Why the server did not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The engine did not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The control thread could not be set up.
    #[error("cannot set up the control thread: {0}")]
    Control(#[from] io::Error),
}

/// Runs the room server until SIGTERM or Ctrl-C.
///
/// # Errors
/// It could not be started.
pub fn serve(config: Config) -> Result<ExitCode, ServeError> {
    let faults = is_on(FAULTS_VARIABLE);
    let origins = config.origins.clone();
    let rooms = move || Rooms::new(origins.clone()).with_faults(faults);
    let engine = Engine::with_config(config);
    let running = if is_on(ECHO_VARIABLE) {
        engine.start(move |_| EchoRooms::new(rooms()))?
    } else {
        engine.start(move |_| rooms())?
    };
    run_until_signalled(running, PATH)
}

fn is_on(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value == "1")
}

/// Prints where a running engine listens, waits for SIGTERM or Ctrl-C, and stops it. For servers that have nothing else to do on
/// their first thread.
///
/// # Errors
/// Signals cannot be waited for.
pub fn run_until_signalled(running: Running, path: &str) -> Result<ExitCode, ServeError> {
    running.leave_shard_cores();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let scheme = if running.is_tls() { "wss" } else { "ws" };
        say(&format!("{}listening on {scheme}://{}{path}\n", running.banner(), running.address()));
        let mut memory = tokio::time::interval(MEMORY_INTERVAL);
        loop {
            tokio::select! {
                () = signalled(&mut terminate, &mut interrupt) => break,
                _ = hangup.recv() => reload(&running),
                _ = memory.tick() => running.watch_memory(),
            }
        }
        say("stopping: connections are told to come back; a second signal ends at once\n");
        let stopped = tokio::task::spawn_blocking(move || running.stop());
        tokio::select! {
            summary = stopped => {
                let summary = summary.map_err(io::Error::other)?;
                say(&format!(
                    "stopped: {} connections served, {} messages received, {} deliveries, {} connections dropped at the end\n",
                    summary.connections, summary.messages, summary.deliveries, summary.dropped
                ));
                Ok(ExitCode::SUCCESS)
            }
            () = signalled(&mut terminate, &mut interrupt) => std::process::exit(130),
        }
    })
}

/// Reads again what may change while the engine runs.
fn reload(running: &Running) {
    match running.reload_certificate() {
        Ok(()) if running.is_tls() => {
            tracing::info!("connections get the certificate that was read again")
        }
        Ok(()) => tracing::info!("SIGHUP: there is nothing to read again"),
        Err(error) => tracing::error!(%error, "the certificate in use stays"),
    }
}

async fn signalled(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Tells whoever watches standard output. That nobody does is no failure.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _: io::Result<()> = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
