//! The control thread of the binary: it starts the engine, waits for signals, watches memory, and stops the engine.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::auth::{Access, KeyKeeper};
use crate::config::{ConfigError, EffectiveConfig};
use crate::conformance::EchoRooms;
use crate::engine::{Engine, EngineError, Running};
use crate::rooms::{PATH, Rooms};

/// How often memory is compared with its bound, and keys are looked after.
const TICK_INTERVAL: Duration = Duration::from_millis(250);

/// The variable that lets clients cause faults; for tests.
const FAULTS_VARIABLE: &str = "SHARDCAST_FAULTS";

/// The variable that makes the server send every text back as it came; for suites of conformance.
const ECHO_VARIABLE: &str = "SHARDCAST_ECHO";

/// Why the server did not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nobody could connect, or not with the keys that are configured.
    #[error(transparent)]
    Config(#[from] ConfigError),
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
pub fn serve(effective: EffectiveConfig) -> Result<ExitCode, ServeError> {
    let faults = is_on(FAULTS_VARIABLE);
    let (access, keeper) = Access::prepare(&effective)?;
    let config = effective.config().clone();
    let origins = config.origins.clone();
    let rooms = move || {
        Rooms::new(origins.clone())
            .with_access(access.clone())
            .with_faults(faults)
    };
    let engine = Engine::with_config(config);
    let started = if is_on(ECHO_VARIABLE) {
        engine.start(move |_| EchoRooms::new(rooms()))
    } else {
        engine.start(move |_| rooms())
    };
    let running = started.map_err(|error| match error {
        EngineError::Certificate(error) => ServeError::Config(ConfigError::Certificate {
            source_of_path: effective.source(error.setting),
            error: Box::new(error),
        }),
        error => ServeError::Engine(error),
    })?;
    control(running, PATH, keeper)
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
    control(running, path, None)
}

fn control(
    running: Running,
    path: &str,
    mut keeper: Option<KeyKeeper>,
) -> Result<ExitCode, ServeError> {
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
        let mut tick = tokio::time::interval(TICK_INTERVAL);
        loop {
            tokio::select! {
                () = signalled(&mut terminate, &mut interrupt) => break,
                _ = hangup.recv() => {
                    tracing::info!("SIGHUP: what can be read again is");
                    reload_certificate(&running);
                    if let Some(keeper) = &mut keeper {
                        keeper.reload();
                    }
                }
                _ = tick.tick() => {
                    running.watch_memory();
                    if let Some(keeper) = &mut keeper {
                        keeper.poll();
                    }
                }
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

fn reload_certificate(running: &Running) {
    match running.reload_certificate() {
        Ok(()) if running.is_tls() => {
            tracing::info!("connections get the certificate that was read again");
        }
        Ok(()) => {}
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
