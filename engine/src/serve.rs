//! The control thread of the binary: it starts the engine, serves the admin API, waits for signals, watches memory, and stops the engine.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use shardcast_shard::shard::StopPlan;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::auth::{Access, KeyKeeper};
use crate::config::{ConfigError, EffectiveConfig};
use crate::conformance::EchoRooms;
use crate::control::{AdminError, Front, Node, Phase};
use crate::engine::{Engine, EngineError, Running, Summary};
use crate::rooms::{PATH, Rooms};
use crate::webhooks::{Courier, Webhooks};

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
    /// The admin API could not be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
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
    let (reporter, webhooks) = Webhooks::prepare(&effective)?.unzip();
    let config = effective.config().clone();
    let origins = config.origins.clone();
    let rooms = move || {
        Rooms::new(origins.clone())
            .with_access(access.clone())
            .with_webhooks(reporter.clone())
            .with_faults(faults)
    };
    // Before the engine, so that nobody is served where this fails.
    let front = Front::open(&config)?;
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
    control(running, PATH, effective, front, keeper, webhooks)
}

fn is_on(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value == "1")
}

/// Prints where a running engine listens, serves its admin API, waits for SIGTERM or Ctrl-C, and stops it. For servers that have nothing else to do on
/// their first thread.
///
/// # Errors
/// Signals cannot be waited for, or the admin API cannot be served.
pub fn run_until_signalled(running: Running, path: &str) -> Result<ExitCode, ServeError> {
    let effective = EffectiveConfig::of_program(running.config().clone());
    let front = Front::open(effective.config())?;
    control(running, path, effective, front, None, None)
}

fn control(
    running: Running,
    path: &str,
    effective: EffectiveConfig,
    front: Front,
    keeper: Option<KeyKeeper>,
    webhooks: Option<Webhooks>,
) -> Result<ExitCode, ServeError> {
    running.leave_shard_cores();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let signals = Signals::new()?;
        let counters = webhooks.as_ref().map(Webhooks::counters);
        let metrics = running.metrics().with_webhooks(counters);
        let (node, drains) = Node::new(&running, effective, front.token.clone(), metrics, path);
        let admin = match front.serve(&node)? {
            Some(address) => format!("admin API on http://{address}\n"),
            None => String::new(),
        };
        say(&format!(
            "{}{admin}listening on {}\n",
            running.banner(),
            running.url(path)
        ));
        let courier = webhooks.map(|webhooks| webhooks.start(running.handle()));
        let thread = ControlThread {
            running,
            node,
            drains,
            signals,
            keeper,
            courier,
        };
        thread.run().await
    })
}

/// The signals that end the server, and the one that has it read again what can be.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for any of them; answers whether the server is to end.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => true,
            _ = self.hangup.recv() => false,
        }
    }

    /// Waits until the server is to end.
    async fn end(&mut self) {
        while !self.next().await {}
    }
}

/// Why an engine stops.
enum Ending {
    /// By a signal: the process ends.
    Signal,
    /// By the admin API: the process stays.
    Drain(StopPlan),
}

/// The control thread, while the engine runs.
struct ControlThread {
    running: Running,
    node: Arc<Node>,
    drains: mpsc::Receiver<StopPlan>,
    signals: Signals,
    keeper: Option<KeyKeeper>,
    courier: Option<Courier>,
}

impl ControlThread {
    async fn run(mut self) -> Result<ExitCode, ServeError> {
        let ending = self.watch().await;
        let Self {
            running,
            node,
            mut signals,
            courier,
            ..
        } = self;
        node.set_phase(Phase::Draining);
        let (plan, is_drained) = match ending {
            Ending::Signal => (running.stop_plan(), false),
            Ending::Drain(plan) => (plan, true),
        };
        say(match is_drained {
            true => "draining: connections are told to come back elsewhere\n",
            false => "stopping: connections are told to come back; a second signal ends at once\n",
        });
        let stopped = tokio::task::spawn_blocking(move || running.stop_as(plan));
        let stopped = async {
            let summary = stopped.await;
            // What the last connections gave rise to is told, too.
            if let Some(courier) = courier {
                courier.finish().await;
            }
            summary
        };
        tokio::pin!(stopped);
        if is_drained {
            tokio::select! {
                summary = &mut stopped => {
                    node.set_phase(Phase::Drained);
                    tell_stopped(&summary.map_err(io::Error::other)?);
                    signals.end().await;
                    return Ok(ExitCode::SUCCESS);
                }
                () = signals.end() => say("stopping when the draining is done; a second signal ends at once\n"),
            }
        }
        tokio::select! {
            summary = &mut stopped => {
                tell_stopped(&summary.map_err(io::Error::other)?);
                Ok(ExitCode::SUCCESS)
            }
            () = signals.end() => std::process::exit(130),
        }
    }

    /// Looks after what runs, until it is to end.
    async fn watch(&mut self) -> Ending {
        let mut tick = tokio::time::interval(TICK_INTERVAL);
        loop {
            tokio::select! {
                ends = self.signals.next() => match ends {
                    true => return Ending::Signal,
                    false => self.reload(),
                },
                Some(plan) = self.drains.recv() => return Ending::Drain(plan),
                _ = tick.tick() => {
                    self.running.watch_memory();
                    if let Some(keeper) = &mut self.keeper {
                        keeper.poll();
                    }
                }
            }
        }
    }

    fn reload(&mut self) {
        tracing::info!("SIGHUP: what can be read again is");
        reload_certificate(&self.running);
        if let Err(error) = self.node.reload_token() {
            tracing::error!(%error, "the token in force stays");
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.reload();
        }
        if let Some(courier) = &self.courier {
            courier.reload();
        }
    }
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

fn tell_stopped(summary: &Summary) {
    say(&format!(
        "stopped: {} connections served, {} messages received, {} deliveries, {} connections dropped at the end\n",
        summary.connections, summary.messages, summary.deliveries, summary.dropped
    ));
}

/// Tells whoever watches standard output. That nobody does is no failure.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _: io::Result<()> = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
