//! The settings: one declaration each.

mod access;
mod admin;
mod webhooks;

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use shardcast_shard::limits::{Field, Limits};

use super::{Compression, Config, LogFormat, SlowConsumer, Steering, grouped};
use crate::logging::parse_filter;
use crate::topology::{format_cpu_list, parse_cpu_list};

/// The table of the configuration file that a setting stands in, and its heading in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// At the top of the file, above every table.
    Server,
    /// In the table `[limits]`.
    Limits,
}

/// The kind of value that the configuration file holds for a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A whole number.
    Number,
    /// A string.
    Text,
    /// An array of strings; flags and variables separate them by commas.
    List,
}

/// One setting: its name, its documentation and its place in a [`Config`].
///
/// A value has a text form, the one that flags and variables use; every source is read through it.
#[derive(Debug)]
pub struct Setting {
    /// The key in the file. The flag and the variable are derived from it.
    pub name: &'static str,
    /// Which table of the file it stands in.
    pub section: Section,
    /// What stands for the value in the help.
    pub placeholder: &'static str,
    /// The sentences of its documentation.
    pub help: String,
    /// The default, for people.
    pub default: String,
    /// The values permitted; completes the sentence "it must be".
    pub permitted: String,
    access: Access,
}

/// How a value gets into a [`Config`] and out of it.
#[derive(Debug)]
enum Access {
    Number {
        least: u64,
        most: u64,
        read: fn(&Config) -> u64,
        write: fn(&mut Config, u64),
    },
    Text {
        read: fn(&Config) -> String,
        write: fn(&mut Config, &str) -> Result<(), NotPermitted>,
    },
    List {
        read: fn(&Config) -> &[String],
        write: fn(&mut Config, Vec<String>) -> Result<(), NotPermitted>,
    },
    Path {
        read: fn(&Config) -> Option<&PathBuf>,
        write: fn(&mut Config, Option<PathBuf>),
    },
    Limit(&'static Field),
}

/// The text is not one of the values that [`Setting::permitted`] describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPermitted;

/// Every setting: those of the server first, then the limits, each in the order of the documentation.
#[must_use]
pub fn settings() -> &'static [Setting] {
    static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
        let mut settings = server_settings();
        settings.extend(Limits::FIELDS.iter().map(limit));
        settings
    });
    &SETTINGS
}

impl Setting {
    /// The flag, dashes included: `--kebab-case`.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    /// The environment variable: `SHARDCAST_UPPER_SNAKE`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("SHARDCAST_{}", self.name.to_ascii_uppercase())
    }

    /// The kind of value that the file holds for it.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self.access {
            Access::Number { .. } | Access::Limit(_) => Shape::Number,
            Access::Text { .. } | Access::Path { .. } => Shape::Text,
            Access::List { .. } => Shape::List,
        }
    }

    /// The value of a configuration in text form.
    #[must_use]
    pub fn text(&self, config: &Config) -> String {
        match &self.access {
            Access::Number { read, .. } => read(config).to_string(),
            Access::Text { read, .. } => read(config),
            Access::List { read, .. } => read(config).join(","),
            Access::Path { read, .. } => {
                read(config).map_or_else(String::new, |path| path.display().to_string())
            }
            Access::Limit(field) => config
                .limits
                .value(field.name)
                .unwrap_or(field.default)
                .to_string(),
        }
    }

    /// Sets the value from its text form.
    ///
    /// # Errors
    /// The value is not permitted; the configuration is unchanged.
    pub fn assign(&self, config: &mut Config, text: &str) -> Result<(), NotPermitted> {
        let text = text.trim();
        match &self.access {
            Access::Number {
                least, most, write, ..
            } => {
                let number = parse_number(text)?;
                if !(*least..=*most).contains(&number) {
                    return Err(NotPermitted);
                }
                write(config, number);
                Ok(())
            }
            Access::Text { write, .. } => write(config, text),
            Access::List { write, .. } => {
                let items = text.split(',').map(str::trim);
                write(
                    config,
                    items
                        .filter(|item| !item.is_empty())
                        .map(str::to_owned)
                        .collect(),
                )
            }
            Access::Path { write, .. } => {
                write(config, (!text.is_empty()).then(|| PathBuf::from(text)));
                Ok(())
            }
            Access::Limit(field) => config
                .limits
                .set(field.name, parse_number(text)?)
                .map_err(|_| NotPermitted),
        }
    }

    /// A text form as the configuration file writes it.
    pub(super) fn toml_value(&self, text: &str) -> String {
        match self.shape() {
            // What is not a number stands here only in a message about it.
            Shape::Number if parse_number(text).is_ok() => text.to_owned(),
            Shape::Number | Shape::Text => toml::Value::from(text).to_string(),
            Shape::List => {
                let items: Vec<&str> = text.split(',').filter(|item| !item.is_empty()).collect();
                toml::Value::from(items).to_string()
            }
        }
    }
}

/// A whole number; underscores may group its digits, as in TOML.
pub(super) fn parse_number(text: &str) -> Result<u64, NotPermitted> {
    text.replace('_', "").parse().map_err(|_| NotPermitted)
}

/// The setting of a row of the limits.
fn limit(field: &'static Field) -> Setting {
    Setting {
        name: field.name,
        section: Section::Limits,
        placeholder: "N",
        // The table keeps the lines and the indentation of its source.
        help: field
            .help
            .split_whitespace()
            .collect::<Vec<&str>>()
            .join(" "),
        default: grouped(field.default, '_'),
        permitted: number_between(field.least, field.most),
        access: Access::Limit(field),
    }
}

pub(super) fn number_between(least: u64, most: u64) -> String {
    format!(
        "a whole number from {} to {}",
        grouped(least, '_'),
        grouped(most, '_')
    )
}

/// A setting of the server that is a number.
struct Number {
    name: &'static str,
    help: &'static str,
    default: &'static str,
    range: std::ops::RangeInclusive<u64>,
    read: fn(&Config) -> u64,
    write: fn(&mut Config, u64),
}

impl From<Number> for Setting {
    fn from(number: Number) -> Self {
        let (least, most) = number.range.into_inner();
        Self {
            name: number.name,
            section: Section::Server,
            placeholder: "N",
            help: number.help.to_owned(),
            default: number.default.to_owned(),
            permitted: number_between(least, most),
            access: Access::Number {
                least,
                most,
                read: number.read,
                write: number.write,
            },
        }
    }
}

/// A setting of the server that is a string.
struct Text {
    name: &'static str,
    help: &'static str,
    placeholder: &'static str,
    default: &'static str,
    permitted: &'static str,
    read: fn(&Config) -> String,
    write: fn(&mut Config, &str) -> Result<(), NotPermitted>,
}

impl From<Text> for Setting {
    fn from(text: Text) -> Self {
        Self {
            name: text.name,
            section: Section::Server,
            placeholder: text.placeholder,
            help: text.help.to_owned(),
            default: text.default.to_owned(),
            permitted: text.permitted.to_owned(),
            access: Access::Text {
                read: text.read,
                write: text.write,
            },
        }
    }
}

/// A setting of the server that is the path of a file; an empty text is none.
struct Path {
    name: &'static str,
    help: &'static str,
    read: fn(&Config) -> Option<&PathBuf>,
    write: fn(&mut Config, Option<PathBuf>),
}

impl From<Path> for Setting {
    fn from(path: Path) -> Self {
        Self {
            name: path.name,
            section: Section::Server,
            placeholder: "FILE",
            help: path.help.to_owned(),
            default: "empty".to_owned(),
            permitted: "the path of a file".to_owned(),
            access: Access::Path {
                read: path.read,
                write: path.write,
            },
        }
    }
}

/// Milliseconds of a duration, as far as 64 bits reach.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn server_settings() -> Vec<Setting> {
    let mut settings = placement_settings();
    settings.extend(tls_settings());
    settings.extend(connection_settings());
    settings.extend(access::access_settings());
    settings.extend(admin::admin_settings());
    settings.extend(webhooks::webhook_settings());
    settings.extend(shutdown_settings());
    settings.extend(log_settings());
    settings
}

/// Where the shards listen and run.
fn placement_settings() -> Vec<Setting> {
    vec![
        Text {
            name: "listen",
            help: "Address and port to listen on, the same for every shard.",
            placeholder: "ADDR:PORT",
            default: "127.0.0.1:9000",
            permitted: "an IP address and a port, such as 0.0.0.0:9000 or [::]:9000",
            read: |config| config.listen.to_string(),
            write: |config, text| {
                config.listen = text.parse().map_err(|_| NotPermitted)?;
                Ok(())
            },
        }
        .into(),
        Number {
            name: "shards",
            help: "Number of shards, each a thread pinned to a core. More shards than cores are permitted.",
            default: "one per core in `cores`, or per physical core allowed",
            range: 1..=1024,
            read: |config| config.shards as u64,
            write: |config, shards| config.shards = usize::try_from(shards).unwrap_or(usize::MAX),
        }
        .into(),
        Text {
            name: "cores",
            help: "Cores that the shards run on, in turn.",
            placeholder: "LIST",
            default: "one hardware thread of each physical core allowed, those of the card's NUMA node first",
            permitted: "a list of cores without repeats, such as \"0-3,8\"",
            read: |config| format_cpu_list(&config.cores),
            write: |config, text| {
                config.cores = parse_cpu_list(text).map_err(|_| NotPermitted)?;
                Ok(())
            },
        }
        .into(),
        Text {
            name: "smt",
            help: "Whether shards also run on the second hardware threads of physical cores, after the first ones. Has no effect where `cores` names them.",
            placeholder: "MODE",
            default: "off",
            permitted: "`off` or `on`",
            read: |config| if config.smt { "on" } else { "off" }.to_owned(),
            write: |config, text| {
                config.smt = match text {
                    "off" => false,
                    "on" => true,
                    _ => return Err(NotPermitted),
                };
                Ok(())
            },
        }
        .into(),
        Text {
            name: "steering",
            help: "Which shard gets a connection: `on`, the one on the core that it came in on; `off`, one by a hash of its addresses; `auto` is `on` where the \
                   network card's interrupts are bound to exactly the cores of the shards, and never on loopback.",
            placeholder: "MODE",
            default: "auto",
            permitted: "`auto`, `on` or `off`",
            read: |config| {
                match config.steering {
                    Steering::Auto => "auto",
                    Steering::On => "on",
                    Steering::Off => "off",
                }
                .to_owned()
            },
            write: |config, text| {
                config.steering = match text {
                    "auto" => Steering::Auto,
                    "on" => Steering::On,
                    "off" => Steering::Off,
                    _ => return Err(NotPermitted),
                };
                Ok(())
            },
        }
        .into(),
        Number {
            name: "table_size",
            help: "Direct descriptors of a shard, a few more than the connections it can hold; 0 fits it to the limits of the process.",
            default: "0",
            range: 0..=1 << shardcast_shard::limits::SLOT_BITS,
            read: |config| config.table_size.map_or(0, u64::from),
            write: |config, size| {
                config.table_size = u32::try_from(size).ok().filter(|size| *size > 0);
            },
        }
        .into(),
    ]
}

/// What connections are encrypted with.
fn tls_settings() -> Vec<Setting> {
    vec![
        Path {
            name: "tls_cert",
            help: "Certificate and those that vouch for it, in this order, as a PEM file: clients connect with wss://. Read again on SIGHUP.",
            read: |config| config.tls_cert.as_ref(),
            write: |config, path| config.tls_cert = path,
        }
        .into(),
        Path {
            name: "tls_key",
            help: "Private key of the certificate, as a PEM file. Read again on SIGHUP.",
            read: |config| config.tls_key.as_ref(),
            write: |config, path| config.tls_key = path,
        }
        .into(),
    ]
}

/// Who may connect, and who may stay.
fn connection_settings() -> Vec<Setting> {
    vec![
        Setting {
            name: "origins",
            section: Section::Server,
            placeholder: "LIST",
            help: "Origins whose pages may connect; a handshake from any other gets 403. Empty: all may, and so may clients that are no browsers.".to_owned(),
            default: "empty".to_owned(),
            permitted: "a list of origins, each a scheme, a host and perhaps a port without a path, such as https://example.org".to_owned(),
            access: Access::List {
                read: |config| &config.origins,
                write: |config, origins| {
                    if !origins.iter().all(|origin| is_origin(origin)) {
                        return Err(NotPermitted);
                    }
                    // Browsers send the scheme and the host in lower case (RFC 6454, section 6.1).
                    config.origins = origins.iter().map(|origin| origin.to_ascii_lowercase()).collect();
                    Ok(())
                },
            },
        },
        Text {
            name: "slow_consumer",
            help: "What happens to a consumer that is too slow: `disconnect` closes it with 1013 when its outbox is full; `drop_oldest` drops whole messages then and tells it \
                   which; `conflate` has only the latest message of each room wait for it, and tells it which it missed. Rooms may differ (`[[rooms]]`).",
            placeholder: "POLICY",
            default: "disconnect",
            permitted: "`disconnect`, `drop_oldest` or `conflate`",
            read: |config| config.slow_consumer.to_string(),
            write: |config, text| {
                config.slow_consumer = SlowConsumer::from_word(text).ok_or(NotPermitted)?;
                Ok(())
            },
        }
        .into(),
        Text {
            name: "compression",
            help: "Whether clients that offer permessage-deflate (RFC 7692) are compressed: `off`; `shared`, each message by itself, with windows that a shard's \
                   connections share; `dedicated`, with windows of a connection's own, at up to 430 KB a connection that uses both.",
            placeholder: "MODE",
            default: "shared",
            permitted: "`off`, `shared` or `dedicated`",
            read: |config| {
                match config.compression {
                    Compression::Off => "off",
                    Compression::Shared => "shared",
                    Compression::Dedicated => "dedicated",
                }
                .to_owned()
            },
            write: |config, text| {
                config.compression = match text {
                    "off" => Compression::Off,
                    "shared" => Compression::Shared,
                    "dedicated" => Compression::Dedicated,
                    _ => return Err(NotPermitted),
                };
                Ok(())
            },
        }
        .into(),
    ]
}

/// How a shutdown goes.
fn shutdown_settings() -> Vec<Setting> {
    vec![
        Number {
            name: "shutdown_window_ms",
            help: "Milliseconds over which a shutdown spreads its close frames, so that the clients do not all come back at once.",
            default: "1_000",
            range: 0..=3_600_000,
            read: |config| milliseconds(config.shutdown_window),
            write: |config, ms| config.shutdown_window = Duration::from_millis(ms),
        }
        .into(),
        Number {
            name: "shutdown_ms_max",
            help: "Milliseconds that a shutdown waits for queued output to leave. After it the connections are dropped.",
            default: "10_000",
            range: 0..=3_600_000,
            read: |config| milliseconds(config.shutdown_max),
            write: |config, ms| config.shutdown_max = Duration::from_millis(ms),
        }
        .into(),
        Number {
            name: "reconnect_after_ms",
            help: "Milliseconds that a client is told, in the reason of its close frame, to wait at least before it connects again.",
            default: "1_000",
            range: 0..=3_600_000,
            read: |config| milliseconds(config.reconnect_after),
            write: |config, ms| config.reconnect_after = Duration::from_millis(ms),
        }
        .into(),
    ]
}

/// What is logged.
fn log_settings() -> Vec<Setting> {
    vec![
        Text {
            name: "log",
            help: "Which events are logged on standard error: a level, or levels by module.",
            placeholder: "FILTER",
            default: "info",
            permitted: "a filter such as `warn` or `info,shardcast_shard=debug`",
            read: |config| config.log.clone(),
            write: |config, text| {
                parse_filter(text).map_err(|_| NotPermitted)?;
                config.log = text.to_owned();
                Ok(())
            },
        }
        .into(),
        Text {
            name: "log_format",
            help: "How a line of the log looks: `text` for people, `json` for one object an event.",
            placeholder: "FORMAT",
            default: "text",
            permitted: "`text` or `json`",
            read: |config| {
                match config.log_format {
                    LogFormat::Text => "text",
                    LogFormat::Json => "json",
                }
                .to_owned()
            },
            write: |config, text| {
                config.log_format = match text {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => return Err(NotPermitted),
                };
                Ok(())
            },
        }
        .into(),
    ]
}

/// Whether the text is the serialisation of an origin: `scheme://host[:port]`, or `null` (RFC 6454, section 6.2).
fn is_origin(text: &str) -> bool {
    let scheme_and_host = text.split_once("://").is_some_and(|(scheme, host)| {
        let scheme_fits = scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let host_fits = host
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"/?#@*".contains(&byte));
        !scheme.is_empty() && !host.is_empty() && scheme_fits && host_fits
    });
    scheme_and_host || text == "null"
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
