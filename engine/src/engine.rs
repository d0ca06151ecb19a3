//! The engine as a program embeds it: make an [`Engine`], start it with an application, and keep the [`Running`].

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use shardcast_shard::admission::Admission;
use shardcast_shard::app::App;
use shardcast_shard::driver::ShardId;
use shardcast_shard::error::FatalError;
use shardcast_shard::hub::event::ErrorCode;
use shardcast_shard::hub::{HomeChoice, Name, Target};
use shardcast_shard::mailbox::{Full, Mesh};
use shardcast_shard::orders::{Order, Publication, Published, Reply};
use shardcast_shard::post::ShardControl;
use shardcast_shard::ring::{Capabilities, Peers, bound_address, listen, steer_by_core};
use shardcast_shard::shard::{Control, StopPlan};
use shardcast_shard::stats::ShardStats;
use shardcast_shard::verdict::Verdict;

use crate::config::{Config, ConfigError, Steering};
use crate::memory;
use crate::metrics::Metrics;
use crate::preflight::{Host, Preflight, Severity, raise_descriptor_limit};
use crate::supervisor::{Shared, Supervisor, seed};
use crate::tls::{self, Certificate, CertificateError};
use crate::topology::{self, Topology, core_of_shard};

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The configuration contradicts itself or the machine.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The limits of this process could not be read.
    #[error("cannot read the limits of this process: {0}")]
    Limits(std::io::Error),
    /// The machine lacks what a shard cannot do without.
    #[error("this machine cannot run the engine:\n{0}")]
    Machine(String),
    /// The address could not be bound.
    #[error(
        "cannot listen on {address}: {source}; choose another with --listen ADDR:PORT, or end what uses it"
    )]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The table of eventfds could not be made.
    #[error(
        "cannot make the eventfds of the shards: {0}; raise the limit of open files (ulimit -n)"
    )]
    Descriptors(std::io::Error),
    /// A shard did not start.
    #[error("cannot start the shards: {0}")]
    Shard(#[from] FatalError),
}

/// An engine that has not started.
#[derive(Clone, Debug)]
pub struct Engine {
    config: Config,
}

impl Default for Engine {
    /// The same as [`Engine::new`].
    fn default() -> Self {
        Self::new()
    }
}

impl Engine {
    /// An engine with the default configuration of a program that embeds it: 127.0.0.1:9000, one shard a physical core, no admin API ([`Engine::admin`]).
    #[must_use]
    pub fn new() -> Self {
        let mut config = Config::default();
        config.admin.listen = None;
        Self { config }
    }

    /// An engine with the configuration given.
    #[must_use]
    pub fn with_config(config: Config) -> Self {
        Self { config }
    }

    /// Changes the address. Port 0 lets the kernel choose; [`Running::address`] says which it was.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.config.listen = address;
        self
    }

    /// Has [`run_until_signalled`](crate::run_until_signalled) serve the admin API at this address; beyond loopback it wants a token ([`Config::admin`]). Who runs the engine otherwise has the same through
    /// [`Handle::order`] and [`Running::metrics`].
    #[must_use]
    pub fn admin(mut self, address: SocketAddr) -> Self {
        self.config.admin.listen = Some(address);
        self
    }

    /// Changes the number of shards.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.config.shards = shards;
        self
    }

    /// Changes anything else.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts the shards. `app` is called once for each shard, on its thread, and again whenever a shard is started again.
    ///
    /// # Errors
    /// The configuration is not permitted, the machine lacks something, or the address is taken.
    pub fn start<A: App>(
        self,
        app: impl Fn(ShardId) -> A + Send + Sync + 'static,
    ) -> Result<Running, EngineError> {
        let config = self.config;
        let topology = Topology::detect();
        config.check(&topology)?;
        let certificate = Certificate::of(&config)?.map(Arc::new);
        let preflight = preflight(&config)?;
        let (address, listeners) = listen_all(&config)?;
        let cores: Vec<usize> = (0..config.shards)
            .filter_map(|shard| core_of_shard(&config.cores, shard))
            .collect();
        if is_steered(&config, &topology) {
            steer(&listeners, &cores);
        }
        let control_cores = topology.control_cores(&cores);
        let stopping = Arc::new(AtomicBool::new(false));
        let shards = config.shards as u16;
        let limits = Arc::new(config.limits.clone());
        let admission = Arc::new(Admission::new(&limits));
        let stats: Vec<Arc<ShardStats>> = (0..shards)
            .map(|_| Arc::new(ShardStats::default()))
            .collect();
        let peers = Arc::new(Peers::new(shards).map_err(EngineError::Descriptors)?);
        let mesh = Mesh::new(shards, limits.mailbox_mails_max as usize);
        let controls: Vec<ShardControl> = (0..shards).map(|shard| mesh.control(shard)).collect();
        let metrics = Metrics::new(stats.clone(), controls.clone(), Arc::clone(&limits));
        let hash_seed = seed();
        let homes = HomeChoice::new(shards, hash_seed);
        let shared = Arc::new(Shared {
            app: Box::new(app),
            limits,
            slow_consumer: config.slow_consumer,
            rooms: config.rooms.clone().into(),
            compression: config.compression,
            tls: certificate.as_ref().map(tls::server_config),
            table_size: preflight.table_size,
            hash_seed,
            origin: Arc::default(),
            mesh,
            peers: Arc::clone(&peers),
            admission: Arc::clone(&admission),
            cores,
            control_cores: control_cores.clone(),
            listeners: listeners.iter().map(Arc::clone).collect(),
            stats: stats.clone(),
            stopping: Arc::clone(&stopping),
        });
        let supervisor = Supervisor::start(shared)?;
        let handle = Handle {
            controls,
            peers,
            homes,
        };
        Ok(Running {
            config,
            preflight,
            control_cores,
            address,
            handle,
            listeners,
            admission,
            certificate,
            metrics,
            stats,
            stopping,
            supervisor,
        })
    }
}

/// Raises the limits that the process may raise itself, and looks at the rest.
fn preflight(config: &Config) -> Result<Preflight, EngineError> {
    raise_descriptor_limit().map_err(EngineError::Limits)?;
    let host = Host::read().map_err(EngineError::Limits)?;
    let capabilities = match Capabilities::probe() {
        Ok(capabilities) => capabilities.table(),
        // Without a ring there is nothing to list; the first shard says why.
        Err(error) => return Err(EngineError::Shard(error)),
    };
    let preflight = Preflight::examine(config, &host, &capabilities);
    if preflight.severity() == Severity::Fatal {
        return Err(EngineError::Machine(preflight.banner(config)));
    }
    Ok(preflight)
}

/// Whether connections go to the shard on the core that they come in on.
fn is_steered(config: &Config, topology: &Topology) -> bool {
    match config.steering {
        Steering::On => true,
        Steering::Off => false,
        Steering::Auto => topology
            .interface(config.listen.ip())
            .is_some_and(|interface| interface.is_spread_over(&config.cores)),
    }
}

/// The hash of the kernel serves as well where it cannot be done.
fn steer(listeners: &[Arc<OwnedFd>], cores: &[usize]) {
    let Some(first) = listeners.first() else {
        return;
    };
    match steer_by_core(first, cores) {
        Ok(()) => tracing::info!("connections go to the shard on the core that they come in on"),
        Err(error) => {
            tracing::warn!(%error, "connections cannot be steered to cores; a hash spreads them over the shards")
        }
    }
}

/// One listener a shard, all on the same port.
fn listen_all(config: &Config) -> Result<(SocketAddr, Vec<Arc<OwnedFd>>), EngineError> {
    let mut address = config.listen;
    if address.port() != 0 {
        // The shards' listeners share their port, and so would those of a second server: clients would meet on one or the other.
        // A listener that shares nothing finds out.
        let alone = TcpListener::bind(address);
        alone.map_err(|source| EngineError::Listen { address, source })?;
    }
    let mut listeners = Vec::with_capacity(config.shards);
    for _ in 0..config.shards {
        let failed = |source| EngineError::Listen { address, source };
        let listener = listen(address, &config.limits).map_err(failed)?;
        address = bound_address(&listener).map_err(failed)?;
        listeners.push(Arc::new(listener));
    }
    Ok((address, listeners))
}

/// An engine that runs. It goes on until [`Running::stop`]; dropping this does not end it.
pub struct Running {
    config: Config,
    preflight: Preflight,
    control_cores: Vec<usize>,
    address: SocketAddr,
    handle: Handle,
    listeners: Vec<Arc<OwnedFd>>,
    admission: Arc<Admission>,
    certificate: Option<Arc<Certificate>>,
    stats: Vec<Arc<ShardStats>>,
    metrics: Metrics,
    stopping: Arc<AtomicBool>,
    supervisor: Supervisor,
}

/// A way to speak to a running engine from any thread.
#[derive(Clone)]
pub struct Handle {
    controls: Vec<ShardControl>,
    peers: Arc<Peers>,
    homes: HomeChoice,
}

/// The shard takes no more orders now: too many wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many orders wait for the shard; try again shortly")]
pub struct Busy;

impl Handle {
    /// Publishes the text of one JSON value in the name of `user`.
    ///
    /// # Errors
    /// Too many orders wait; nothing was published.
    pub fn publish(&self, user: &str, target: Target, content: Bytes) -> Result<(), Busy> {
        let home = self.home_of(&target);
        let publication = Publication {
            user: Name::from(user),
            target,
            content,
            id: None,
        };
        self.send(home, publication.into())
    }

    /// Publishes, and has `then` called with what became of it: on the thread of a shard, where it must not wait.
    ///
    /// # Errors
    /// Too many orders wait; nothing was published, and `then` is not called.
    pub fn publish_then(
        &self,
        publication: Publication,
        then: impl FnOnce(Result<Published, ErrorCode>) + Send + 'static,
    ) -> Result<(), Busy> {
        let home = self.home_of(&publication.target);
        let reply = Some(Reply::new(then));
        self.order(home, Order::Publish { publication, reply })
    }

    /// Gives an order to a shard.
    ///
    /// # Errors
    /// Too many wait; this one was not taken.
    pub fn order(&self, shard: ShardId, order: Order) -> Result<(), Busy> {
        self.send(shard, Control::Order(Box::new(order)))
    }

    /// How many shards there are; they are numbered from 0.
    #[must_use]
    pub fn shards(&self) -> ShardId {
        // There are 1024 at the most.
        self.controls.len() as ShardId
    }

    /// The shard that is home to a room or an inbox.
    #[must_use]
    pub fn home_of(&self, target: &Target) -> ShardId {
        self.homes.target(target)
    }

    /// Has a shard hear what was decided about something that it has asked.
    ///
    /// # Errors
    /// Too many orders wait; the shard has not heard of it.
    pub fn decide(&self, shard: ShardId, verdict: Verdict) -> Result<(), Busy> {
        self.order(shard, Order::Verdict(verdict))
    }

    fn send(&self, shard: ShardId, control: Control) -> Result<(), Busy> {
        let sent = self.controls[usize::from(shard)].send(control);
        if sent.map_err(|Full(_)| Busy)? {
            self.peers.wake_from_thread(shard);
        }
        Ok(())
    }
}

/// What an engine did, told at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Connections accepted since the start.
    pub connections: u64,
    /// Messages received from clients.
    pub messages: u64,
    /// Payloads queued to clients.
    pub deliveries: u64,
    /// Connections that the end found still open.
    pub dropped: u64,
}

/// How long an order to stop is tried again when a shard's orders are full.
const ORDER_RETRY: Duration = Duration::from_millis(5);

impl Running {
    /// Where the engine listens, with the port that the kernel chose where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as clients name it, with the path that they connect to.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.is_tls() { "wss" } else { "ws" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// What was found when the engine started, as a few lines for people.
    #[must_use]
    pub fn banner(&self) -> String {
        let mut config = self.config.clone();
        config.listen = self.address;
        self.preflight.banner(&config)
    }

    /// A way to speak to the engine from other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Reads the certificate and its key again, for connections that come from now on. Those that are open keep what they have, and so do all when this fails.
    ///
    /// # Errors
    /// What is in the files cannot be used.
    pub fn reload_certificate(&self) -> Result<(), CertificateError> {
        match &self.certificate {
            Some(certificate) => certificate.reload(),
            None => Ok(()),
        }
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.certificate.is_some()
    }

    /// Moves the calling thread off the cores of the shards, where there are others: for threads that serve the engine without being in a hurry.
    pub fn leave_shard_cores(&self) {
        topology::move_to(&self.control_cores);
    }

    /// The bounds on connections over all shards, and how many there are.
    #[must_use]
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// The configuration that it runs with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The counters of each shard.
    #[must_use]
    pub fn stats(&self) -> &[Arc<ShardStats>] {
        &self.stats
    }

    /// What Prometheus is told, for any thread.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Compares the memory of the process with `memory_mib_max`: above it new connections are turned away. To be called a few times a second.
    pub fn watch_memory(&self) {
        let max_bytes = self.config.limits.memory_mib_max.saturating_mul(1 << 20);
        if max_bytes == 0 {
            return;
        }
        match memory::resident_bytes() {
            Ok(bytes) => self.admission.set_memory_exhausted(bytes > max_bytes),
            Err(error) => tracing::warn!(%error, "the memory of the process could not be read"),
        }
    }

    /// Stops accepting, tells every connection when to come back, waits until what is queued has left, within the configured bound, and
    /// ends the shards.
    #[must_use = "the summary says what was dropped"]
    pub fn stop(self) -> Summary {
        let plan = self.stop_plan();
        self.stop_as(plan)
    }

    /// How the configuration says that the engine stops.
    #[must_use]
    pub fn stop_plan(&self) -> StopPlan {
        StopPlan {
            window_ms: self.config.shutdown_window.as_millis() as u64,
            stop_ms_max: self.config.shutdown_max.as_millis() as u64,
            reconnect_after_ms: self.config.reconnect_after.as_millis() as u64,
        }
    }

    /// The same as [`Running::stop`], over another time than the configured one.
    #[must_use = "the summary says what was dropped"]
    pub fn stop_as(self, plan: StopPlan) -> Summary {
        self.stopping.store(true, Ordering::Release);
        let mut untold: Vec<ShardId> = (0..self.handle.shards()).collect();
        loop {
            untold.retain(|&shard| self.handle.send(shard, Control::Stop(plan)).is_err());
            // A shard that is down and has its orders full is not started again, and takes none any more.
            if untold.is_empty() || self.supervisor.has_ended() {
                break;
            }
            thread::sleep(ORDER_RETRY);
        }
        for listener in &self.listeners {
            refuse_connections(listener);
        }
        self.supervisor.wait();
        let sum = |row: fn(&ShardStats) -> u64| self.stats.iter().map(|stats| row(stats)).sum();
        Summary {
            connections: sum(|stats| stats.connections_accepted.value()),
            messages: sum(|stats| stats.messages_received.value()),
            deliveries: sum(|stats| stats.deliveries_sent.value()),
            dropped: sum(|stats| stats.stop_dropped.value()),
        }
    }
}

/// Ends a listener although shards still hold it: who connects from now on is refused at once instead of waiting
/// for an answer that does not come.
fn refuse_connections(listener: &OwnedFd) {
    let ended = listener
        .try_clone()
        .and_then(|listener| TcpStream::from(listener).shutdown(Shutdown::Both));
    if let Err(error) = ended {
        tracing::warn!(%error, "a listener could not be ended before its shard");
    }
}
