//! What the engine is told: by flags, by `SHARDCAST_…` variables, by a TOML file, or by a program that embeds it.
//!
//! Every setting is declared once, in [`settings`]. The flags, the variables, the keys of the file, the help and the
//! tables of the documentation are derived from that declaration. A flag outranks a variable, a variable
//! outranks the file, and the file outranks the default.

mod access;
mod admin;
mod error;
mod file;
mod print;
mod rooms;
mod setting;
mod webhooks;

pub use access::{AccessConfig, Anonymous, is_url};
pub use admin::AdminConfig;
pub use error::ConfigError;
pub use print::Format;
pub(crate) use print::grouped;
pub use rooms::{RoomKey, room_keys};
pub use setting::{Section, Setting, Shape, settings};
pub use webhooks::{OnFailure, WEBHOOK_EVENTS, WebhookConfig};

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use shardcast_shard::compression::Compression;
use shardcast_shard::limits::Limits;
pub use shardcast_shard::outbox::SlowConsumer;
pub use shardcast_shard::room_settings::{PresenceMode, Publishers, RoomSettings};

use crate::topology::Topology;

/// Variable that names the configuration file, as `--config` does.
pub const FILE_VARIABLE: &str = "SHARDCAST_CONFIG";

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// Whether a connection goes to the shard on the core that it came in on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Steering {
    /// Where the card's interrupts are spread over exactly the cores of the shards.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never: the kernel chooses a shard by a hash of the addresses.
    Off,
}

/// Everything that the engine is told before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address and port of every shard's listener. Port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Number of shards, 1 to 1024. More shards than cores are permitted.
    pub shards: usize,
    /// Cores of the shards, in turn: shard `i` runs on `cores[i % cores.len()]`. Never empty.
    pub cores: Vec<usize>,
    /// Whether shards may take second hardware threads of physical cores, where nobody names the cores.
    pub smt: bool,
    /// Which shard gets a connection.
    pub steering: Steering,
    /// The bounds of a shard and of its connections.
    pub limits: Limits,
    /// What happens to a consumer whose outbox is full.
    pub slow_consumer: SlowConsumer,
    /// What is special in rooms of some names; the first entry whose pattern fits a room counts. At most
    /// [`ROOM_SETTINGS_MAX`](shardcast_shard::room_settings::ROOM_SETTINGS_MAX).
    pub rooms: Vec<RoomSettings>,
    /// What clients that offer compression are answered.
    pub compression: Compression,
    /// Time over which the close frames of a shutdown are spread.
    pub shutdown_window: Duration,
    /// Time that a shutdown waits for queued output to leave.
    pub shutdown_max: Duration,
    /// Least time that a client is told to wait before it connects again after a shutdown.
    pub reconnect_after: Duration,
    /// Certificate chain that clients are shown, as a PEM file; without it connections are not encrypted.
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, as a PEM file.
    pub tls_key: Option<PathBuf>,
    /// Values of `Origin` that a handshake may carry, in lower case. Empty: every handshake is taken.
    pub origins: Vec<String>,
    /// Who may connect, and which tokens count.
    pub access: AccessConfig,
    /// The admin API.
    pub admin: AdminConfig,
    /// What a backend is asked and told over HTTP.
    pub webhooks: WebhookConfig,
    /// Entries of a shard's table of direct descriptors; `None` leaves it to [`crate::preflight`].
    pub table_size: Option<u32>,
    /// Which events are logged, in the syntax of `tracing_subscriber`'s `EnvFilter`.
    pub log: String,
    /// How a line of the log looks.
    pub log_format: LogFormat,
}

impl Default for Config {
    /// The defaults on this machine: one shard for each physical core that the process may use.
    fn default() -> Self {
        Self::for_topology(&Topology::detect())
    }
}

impl Config {
    /// The defaults on the cores given.
    #[must_use]
    pub fn for_topology(topology: &Topology) -> Self {
        let cores = topology.shard_cores(None, false);
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9000)),
            shards: topology.shards_default(&cores),
            cores,
            smt: false,
            steering: Steering::default(),
            limits: Limits::default(),
            slow_consumer: SlowConsumer::default(),
            rooms: Vec::new(),
            compression: Compression::default(),
            shutdown_window: Duration::from_secs(1),
            shutdown_max: Duration::from_secs(10),
            reconnect_after: Duration::from_secs(1),
            tls_cert: None,
            tls_key: None,
            origins: Vec::new(),
            access: AccessConfig::default(),
            admin: AdminConfig::default(),
            webhooks: WebhookConfig::default(),
            table_size: None,
            log: "info".to_owned(),
            log_format: LogFormat::default(),
        }
    }

    /// The configuration that the sources add up to.
    ///
    /// # Errors
    /// The same as those of [`EffectiveConfig::from_sources`].
    pub fn from_sources(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        EffectiveConfig::from_sources(sources).map(EffectiveConfig::into_config)
    }

    /// Checks a configuration that a program made: each setting alone, the limits together, and the cores.
    ///
    /// # Errors
    /// The first setting found that is not permitted.
    pub fn check(&self, topology: &Topology) -> Result<(), ConfigError> {
        let mut copy = self.clone();
        for setting in settings() {
            assign(&mut copy, setting, &setting.text(self), &Source::Program)?;
        }
        topology
            .check(&self.cores)
            .map_err(|error| ConfigError::Cores {
                source_of_cores: Source::Program,
                error,
            })?;
        check_tls(self, &|_| Source::Program)?;
        check_limits(&self.limits, &|_| Source::Program)?;
        check_together(&self.access.contradiction(), &|_| Source::Program)?;
        check_together(&self.admin.contradiction(), &|_| Source::Program)?;
        check_together(&self.webhooks.contradiction(&self.limits), &|_| {
            Source::Program
        })?;
        rooms::check(self, &|_, _| Source::Program, &|_| Source::Program)
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A line of the configuration file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// The environment variable of this name.
    Variable(String),
    /// The flag of this name, dashes included.
    Flag(String),
    /// The program that embeds the engine.
    Program,
}

impl Source {
    /// A value the way this source spells it.
    fn given(&self, setting: &Setting, text: &str) -> String {
        let text = &without_userinfo(text);
        match self {
            Self::Flag(name) => format!("{name} {text}"),
            Self::Variable(name) => format!("{name}={text}"),
            Self::File { .. } => {
                let value = setting.toml_value(text);
                format!("{self}: {} = {value}", setting.name)
            }
            Self::Default | Self::Program => format!("{} = {text}", setting.name),
        }
    }
}

/// A text without the name and the password that may stand in a URL: messages are logged.
fn without_userinfo(text: &str) -> Cow<'_, str> {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(end)) if scheme < end => {
            Cow::Owned(format!("{}://…{}", &text[..scheme], &text[end..]))
        }
        _ => Cow::Borrowed(text),
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Program => f.write_str("program"),
        }
    }
}

/// What the command line says: the text of each flag that was given, by the name of its setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Every other flag.
    pub values: BTreeMap<&'static str, String>,
}

/// Everything that a configuration is made from.
///
/// The environment and the file system are given as functions, so that nothing here depends on the process.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The command line.
    pub flags: &'a Flags,
    /// The value of an environment variable. An empty value counts as not set.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The text of the file that a flag or a variable named.
    pub file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// The cores that may be used.
    pub topology: &'a Topology,
}

/// A configuration that knows where each of its values comes from.
#[derive(Clone, Debug)]
pub struct EffectiveConfig {
    config: Config,
    /// By the name of the setting; a setting that is not here has its default.
    sources: BTreeMap<&'static str, Source>,
    /// For each of the entries about rooms, where its keys come from.
    room_sources: Vec<BTreeMap<&'static str, Source>>,
}

impl EffectiveConfig {
    /// Reads every source, the weakest first. A value that a stronger source replaces must be permitted all the same.
    ///
    /// # Errors
    /// The file cannot be read; a name is unknown; a value is of the wrong kind, out of its range or contradicts
    /// another; a core may not be used.
    pub fn from_sources(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        let mut effective = Self {
            config: Config::for_topology(sources.topology),
            sources: BTreeMap::new(),
            room_sources: Vec::new(),
        };
        let variable = |name: &str| (sources.variable)(name).filter(|text| !text.is_empty());
        let named_file = match &sources.flags.file {
            Some(path) => Some((path.clone(), Source::Flag("--config".to_owned()))),
            None => variable(FILE_VARIABLE).map(|path| {
                let source = Source::Variable(FILE_VARIABLE.to_owned());
                (PathBuf::from(path), source)
            }),
        };
        if let Some((path, source)) = named_file {
            effective.read_file(&path, source, sources.file)?;
        }
        for setting in settings() {
            if let Some(text) = variable(&setting.variable()) {
                effective.set(setting, &text, Source::Variable(setting.variable()))?;
            }
            if let Some(text) = sources.flags.values.get(setting.name) {
                effective.set(setting, text, Source::Flag(setting.flag()))?;
            }
        }
        effective.finish(sources.topology)
    }

    /// A configuration that a program made.
    #[must_use]
    pub fn of_program(config: Config) -> Self {
        let names = settings().iter().map(|setting| setting.name);
        Self {
            config,
            sources: names.map(|name| (name, Source::Program)).collect(),
            room_sources: Vec::new(),
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The configuration without the sources.
    #[must_use]
    pub fn into_config(self) -> Config {
        self.config
    }

    /// Where the value of the setting called `name` comes from.
    #[must_use]
    pub fn source(&self, name: &str) -> Source {
        self.sources.get(name).cloned().unwrap_or(Source::Default)
    }

    /// Where the value of a key of an entry about rooms comes from; of the last entries where there are fewer.
    #[must_use]
    pub fn room_source(&self, entry: usize, key: &str) -> Source {
        let entry = entry.min(self.room_sources.len().saturating_sub(1));
        let sources = self.room_sources.get(entry);
        let found = sources.and_then(|sources| sources.get(key));
        found.cloned().unwrap_or(Source::Default)
    }

    fn read_file(
        &mut self,
        path: &Path,
        named_by: Source,
        read: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<(), ConfigError> {
        let text = read(path).map_err(|error| ConfigError::FileUnreadable {
            path: path.to_path_buf(),
            named_by,
            error,
        })?;
        let parsed = file::parse(path, &text)?;
        let at = |line: usize| Source::File {
            path: path.to_path_buf(),
            line,
        };
        for entry in parsed.entries {
            self.set(entry.setting, &entry.text, at(entry.line))?;
        }
        for entry in parsed.rooms {
            let lines = entry.lines.into_iter();
            self.room_sources
                .push(lines.map(|(key, line)| (key, at(line))).collect());
            self.config.rooms.push(entry.settings);
        }
        Ok(())
    }

    fn set(
        &mut self,
        setting: &'static Setting,
        text: &str,
        source: Source,
    ) -> Result<(), ConfigError> {
        assign(&mut self.config, setting, text, &source)?;
        self.sources.insert(setting.name, source);
        Ok(())
    }

    /// What only the whole configuration can decide: defaults that follow from other values, and contradictions.
    fn finish(mut self, topology: &Topology) -> Result<Self, ConfigError> {
        let config = &mut self.config;
        let is_set = |name: &str| self.sources.contains_key(name);
        if !is_set("cores") {
            let interface = topology.interface(config.listen.ip());
            config.cores = topology.shard_cores(interface, config.smt);
        }
        if !is_set("shards") {
            config.shards = match is_set("cores") {
                true => config.cores.len(),
                false => topology.shards_default(&config.cores),
            };
        }
        topology
            .check(&self.config.cores)
            .map_err(|error| ConfigError::Cores {
                source_of_cores: self.source("cores"),
                error,
            })?;
        check_tls(&self.config, &|name| self.source(name))?;
        check_limits(&self.config.limits, &|name| self.source(name))?;
        let source_of = |name: &str| self.source(name);
        check_together(&self.config.access.contradiction(), &source_of)?;
        check_together(&self.config.admin.contradiction(), &source_of)?;
        let webhooks = &self.config.webhooks;
        check_together(&webhooks.contradiction(&self.config.limits), &source_of)?;
        let room_source = |entry, key: &str| self.room_source(entry, key);
        rooms::check(&self.config, &room_source, &|name| self.source(name))?;
        Ok(self)
    }
}

/// Sets one value, or says which source asked for a value that is not permitted.
fn assign(
    config: &mut Config,
    setting: &'static Setting,
    text: &str,
    source: &Source,
) -> Result<(), ConfigError> {
    setting
        .assign(config, text)
        .map_err(|_| ConfigError::Value {
            given: source.given(setting, text),
            permitted: setting.permitted.clone(),
            default: setting.default.clone(),
        })
}

/// A certificate is nothing without its key, and the other way round.
fn check_tls(config: &Config, source_of: &dyn Fn(&str) -> Source) -> Result<(), ConfigError> {
    let (given, missing) = match (&config.tls_cert, &config.tls_key) {
        (Some(_), None) => ("tls_cert", "tls_key"),
        (None, Some(_)) => ("tls_key", "tls_cert"),
        _ => return Ok(()),
    };
    Err(ConfigError::Contradiction {
        message: format!(
            "{given} is set and {missing} is not; set both, or neither for connections without TLS"
        ),
        sources: vec![(given, source_of(given)), (missing, source_of(missing))],
    })
}

/// What a group of settings says together: the message, and the names of the settings in it; `None` where it fits.
type Contradiction = Option<(String, &'static [&'static str])>;

/// Tells where each of the values in a contradiction comes from.
fn check_together(
    contradiction: &Contradiction,
    source_of: &dyn Fn(&str) -> Source,
) -> Result<(), ConfigError> {
    match contradiction {
        None => Ok(()),
        Some((message, names)) => Err(ConfigError::Contradiction {
            message: message.clone(),
            sources: names.iter().map(|&name| (name, source_of(name))).collect(),
        }),
    }
}

/// Checks the relations between limits; a contradiction tells where each of the values in it comes from.
fn check_limits(limits: &Limits, source_of: &dyn Fn(&str) -> Source) -> Result<(), ConfigError> {
    limits.check().map_err(|error| {
        let message = error.to_string();
        let sources = Limits::FIELDS
            .iter()
            .filter(|field| message.split_whitespace().any(|word| word == field.name))
            .map(|field| (field.name, source_of(field.name)))
            .collect();
        ConfigError::Contradiction { message, sources }
    })
}
