//! Before the first shard starts: does this machine carry the configuration, and what to do where it does not?
//!
//! [`Preflight::examine`] is a pure function of a [`Config`], the numbers of a [`Host`] and the ring's
//! [`Capability`] list. Its findings are the lines that a start prints.

mod host;

pub use host::{Host, raise_descriptor_limit};

use std::fmt;

use shardcast_shard::limits::{Limits, SLOT_BITS};
use shardcast_shard::ring::Capability;
use shardcast_shard::shard;

use crate::config::{Config, grouped};
use crate::topology::format_cpu_list;

/// The oldest kernel that the engine runs on.
const KERNEL_FLOOR: (u64, u64) = (6, 1);

/// Direct descriptors of a shard that are no open connections: those being refused or closed.
pub(crate) const TABLE_RESERVE: u64 = shard::TABLE_RESERVE as u64;

/// Connections of a shard below which its table is called small although nobody asked for more.
const TABLE_SMALL: u64 = 65_536;

/// Fewest direct descriptors that a shard can work with.
const TABLE_LEAST: u64 = TABLE_RESERVE + 16;

/// Ordinary descriptors of a shard: its rings, its executor's rings, listeners, events, and some to spare.
pub(crate) const SHARD_DESCRIPTORS: u64 = 32;

/// Ordinary descriptors of the rest of the process, without those of the admin API.
const PROCESS_DESCRIPTORS: u64 = 64;

/// Ordinary descriptors of everything that is no shard.
pub(crate) fn process_descriptors(config: &Config) -> u64 {
    let admin = &config.admin;
    let connections = admin.listen.map_or(0, |_| admin.connections_max as u64);
    PROCESS_DESCRIPTORS + connections
}

/// Memory that the executor of a shard locks; it does not start where the limit is lower.
const EXECUTOR_LOCKED_BYTES: u64 = 512 * 1024;

/// Memory of the machine for an idle connection: about 4.0 KB for the kernel's socket, 0.3 KB for the poll that waits for its bytes, 0.2 KB of
/// the engine's own (ARCHITECTURE.md, "What an idle connection costs").
const CONNECTION_BYTES: u64 = 4500;

/// What one over TLS takes besides: its keys (README.md, "TLS").
const TLS_BYTES: u64 = 3600;

/// Memory of the process alone for what an idle connection is encrypted with, where it is.
pub(crate) fn tls_bytes(config: &Config) -> u64 {
    match config.tls_cert {
        Some(_) => TLS_BYTES,
        None => 0,
    }
}

/// Memory of the machine for an idle connection.
pub(crate) fn connection_bytes(config: &Config) -> u64 {
    CONNECTION_BYTES + tls_bytes(config)
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// The engine runs, with less than was asked for.
    Warning,
    /// The engine cannot run.
    Fatal,
}

/// One line of the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at, in a word or two.
    pub what: &'static str,
    /// What was found.
    pub value: String,
    /// What to do about it, with the exact command.
    pub remedy: Option<String>,
}

/// What was found, and the size of a shard's table that follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// Entries of each shard's table of direct descriptors.
    pub table_size: u32,
    /// In the order of printing.
    pub findings: Vec<Finding>,
}

impl Preflight {
    /// Compares a configuration with what the machine permits.
    #[must_use]
    pub fn examine(config: &Config, host: &Host, capabilities: &[Capability]) -> Self {
        let table_size = table_size(config, host);
        let mut findings = vec![shards(config), kernel(host)];
        findings.extend(io_uring(host, capabilities));
        findings.push(connections(config, host, table_size));
        findings.push(descriptors(config, host));
        findings.extend(open_files(config, host, table_size));
        findings.push(memory(config, host));
        findings.push(locked_memory(config, host));
        findings.push(backlog(config, host));
        Self {
            // At most 1 << SLOT_BITS, so the conversion keeps the value.
            table_size: u32::try_from(table_size).unwrap_or(1 << SLOT_BITS),
            findings,
        }
    }

    /// The worst of the findings.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.findings
            .iter()
            .map(|finding| finding.severity)
            .max()
            .unwrap_or(Severity::Ok)
    }

    /// The start as a few aligned lines, each with a line feed.
    #[must_use]
    pub fn banner(&self, config: &Config) -> String {
        let title = format!(
            "shardcast {} on {}\n",
            env!("CARGO_PKG_VERSION"),
            config.listen
        );
        self.findings.iter().fold(title, |mut banner, finding| {
            banner.push_str(&finding.to_string());
            banner.push('\n');
            banner
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.severity {
            Severity::Ok => "ok",
            Severity::Warning => "low",
            Severity::Fatal => "FAIL",
        };
        write!(f, "  {mark:<4} {:<13} {}", self.what, self.value)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n{:21}-> {remedy}", ""),
            None => Ok(()),
        }
    }
}

impl Finding {
    pub(crate) fn ok(what: &'static str, value: String) -> Self {
        Self {
            severity: Severity::Ok,
            what,
            value,
            remedy: None,
        }
    }

    pub(crate) fn warning(what: &'static str, value: String, remedy: String) -> Self {
        Self {
            severity: Severity::Warning,
            what,
            value,
            remedy: Some(remedy),
        }
    }

    pub(crate) fn fatal(what: &'static str, value: String, remedy: String) -> Self {
        Self {
            severity: Severity::Fatal,
            what,
            value,
            remedy: Some(remedy),
        }
    }
}

/// Entries that a shard's table needs for all the connections it may hold.
fn table_wanted(limits: &Limits) -> u64 {
    let connections = limits.shard_connections_max.min(limits.connections_max);
    (connections + TABLE_RESERVE).clamp(TABLE_LEAST, 1 << SLOT_BITS)
}

/// Entries of a shard's table: what was asked for, or what the limits need as far as the process may have it.
fn table_size(config: &Config, host: &Host) -> u64 {
    match config.table_size {
        Some(size) => u64::from(size).min(1 << SLOT_BITS),
        None => table_wanted(&config.limits).min(host.descriptors_soft),
    }
}

/// Connections that a table holds.
fn shard_capacity(limits: &Limits, table_size: u64) -> u64 {
    table_size
        .saturating_sub(TABLE_RESERVE)
        .min(limits.shard_connections_max)
}

/// Connections that the whole process holds.
fn capacity(config: &Config, table_size: u64) -> u64 {
    let shards = config.shards as u64;
    shards
        .saturating_mul(shard_capacity(&config.limits, table_size))
        .min(config.limits.connections_max)
}

/// A number for people, its digits in groups.
pub(crate) fn commas(number: u64) -> String {
    grouped(number, ',')
}

/// Bytes for people, in the largest unit that leaves a number of 1 or more.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    if number == u64::MAX {
        return "unlimited".to_owned();
    }
    for (size, unit) in UNITS {
        if number >= size {
            let tenths = u128::from(number) * 10 / u128::from(size);
            return match tenths % 10 {
                0 => format!("{} {unit}", tenths / 10),
                tenth => format!("{}.{tenth} {unit}", tenths / 10),
            };
        }
    }
    format!("{number} B")
}

fn shards(config: &Config) -> Finding {
    let cores = format_cpu_list(&config.cores);
    let several = |count: usize, one: &'static str, more: &'static str| {
        if count == 1 { one } else { more }
    };
    Finding::ok(
        "shards",
        format!(
            "{} {} on {} {cores}",
            config.shards,
            several(config.shards, "shard", "shards"),
            several(config.cores.len(), "core", "cores"),
        ),
    )
}

/// Major and minor number of a release such as `6.18.44-generic`.
fn kernel_version(release: &str) -> Option<(u64, u64)> {
    let mut numbers = release
        .split(|character: char| !character.is_ascii_digit())
        .map(str::parse);
    let major = numbers.next()?.ok()?;
    let minor = numbers.next()?.ok()?;
    Some((major, minor))
}

fn kernel(host: &Host) -> Finding {
    let release = host.kernel_release.clone();
    let (major, minor) = KERNEL_FLOOR;
    match kernel_version(&release) {
        Some(version) if version < KERNEL_FLOOR => Finding::fatal(
            "kernel",
            format!("Linux {release}"),
            format!("install Linux {major}.{minor} or newer"),
        ),
        _ => Finding::ok("kernel", format!("Linux {release}")),
    }
}

fn io_uring(host: &Host, capabilities: &[Capability]) -> Vec<Finding> {
    const WHAT: &str = "io_uring";
    const REMEDY: &str = "sysctl -w kernel.io_uring_disabled=0";
    match host.io_uring_disabled {
        Some(2) => {
            return vec![Finding::fatal(
                WHAT,
                "kernel.io_uring_disabled = 2: forbidden to all".to_owned(),
                REMEDY.to_owned(),
            )];
        }
        Some(1) => {
            return vec![Finding::warning(
                WHAT,
                "kernel.io_uring_disabled = 1: only for kernel.io_uring_group and the privileged"
                    .to_owned(),
                format!(
                    "where the shards cannot start: {REMEDY}, or add the user to kernel.io_uring_group"
                ),
            )];
        }
        _ => {}
    }
    let missing: Vec<Finding> = capabilities
        .iter()
        .filter(|capability| !capability.present)
        .map(|capability| {
            let value = format!("no {}", capability.name);
            let remedy = format!("install Linux {} or newer", capability.since);
            if capability.required {
                Finding::fatal(WHAT, value, remedy)
            } else {
                Finding::warning(WHAT, format!("{value}: slower without"), remedy)
            }
        })
        .collect();
    if missing.is_empty() {
        let names: Vec<&str> = capabilities
            .iter()
            .map(|capability| capability.name)
            .collect();
        let value = if names.is_empty() {
            "permitted".to_owned()
        } else {
            names.join(", ")
        };
        return vec![Finding::ok(WHAT, value)];
    }
    missing
}

/// How to raise the hard limit of descriptors.
pub(crate) fn raise_descriptors(wanted: u64, host: &Host) -> String {
    let first = match host.descriptors_most {
        Some(most) if most < wanted => format!("sysctl -w fs.nr_open={wanted}; then "),
        _ => String::new(),
    };
    format!(
        "{first}ulimit -n {wanted} (as root), LimitNOFILE={wanted} (systemd) or --ulimit nofile={wanted} (docker)"
    )
}

/// Whether the limits on connections are other than the defaults: then somebody counts on them.
pub(crate) fn connections_asked_for(limits: &Limits) -> bool {
    let default = Limits::default();
    limits.connections_max != default.connections_max
        || limits.shard_connections_max != default.shard_connections_max
}

fn connections(config: &Config, host: &Host, table_size: u64) -> Finding {
    const WHAT: &str = "connections";
    let limits = &config.limits;
    let a_shard = shard_capacity(limits, table_size);
    let all = capacity(config, table_size);
    let value = format!("up to {}; {} a shard", commas(all), commas(a_shard));
    if config.table_size.is_some() && table_size > host.descriptors_soft {
        return Finding::fatal(
            WHAT,
            format!(
                "table_size = {table_size} exceeds the {} descriptors that this process may have",
                commas(host.descriptors_soft)
            ),
            format!(
                "{}; or leave table_size at 0",
                raise_descriptors(table_size, host)
            ),
        );
    }
    let wanted = table_wanted(limits);
    let remedy = || {
        let shards = limits.connections_max.div_ceil(a_shard.max(1));
        let more_shards =
            connections_asked_for(limits) && shards > config.shards as u64 && shards <= 1024;
        let raise = match config.table_size {
            Some(_) => "leave table_size at 0".to_owned(),
            None => raise_descriptors(wanted, host),
        };
        if more_shards {
            format!("{raise}; or --shards {shards}")
        } else {
            raise
        }
    };
    if table_size < TABLE_LEAST {
        return Finding::fatal(WHAT, value, remedy());
    }
    let asked = limits
        .connections_max
        .min((config.shards as u64).saturating_mul(limits.shard_connections_max));
    let short = all < asked && connections_asked_for(limits);
    // A table that was asked for is as large as it should be.
    let small = a_shard < TABLE_SMALL && config.table_size.is_none();
    if table_size < wanted && (short || small) {
        return Finding::warning(WHAT, value, remedy());
    }
    Finding::ok(WHAT, value)
}

fn descriptors(config: &Config, host: &Host) -> Finding {
    const WHAT: &str = "descriptors";
    let needed = config.shards as u64 * SHARD_DESCRIPTORS + process_descriptors(config);
    let value = match host.descriptors_soft {
        u64::MAX => "unlimited".to_owned(),
        soft => format!("{} for the process and for each ring", commas(soft)),
    };
    if host.descriptors_soft < needed {
        return Finding::warning(
            WHAT,
            format!(
                "{value}; {} shards need about {}",
                config.shards,
                commas(needed)
            ),
            raise_descriptors(needed, host),
        );
    }
    Finding::ok(WHAT, value)
}

/// The system's own bound on open files, which is worth a line only where it is too low.
fn open_files(config: &Config, host: &Host, table_size: u64) -> Option<Finding> {
    let files = host.files_max?;
    let needed = capacity(config, table_size)
        .saturating_add(config.shards as u64 * SHARD_DESCRIPTORS + process_descriptors(config));
    (files < needed).then(|| {
        Finding::warning(
            "open files",
            format!("fs.file-max = {}", commas(files)),
            format!("sysctl -w fs.file-max={}", needed.saturating_mul(2)),
        )
    })
}

fn memory(config: &Config, host: &Host) -> Finding {
    const WHAT: &str = "memory";
    let Some(total) = host.memory_bytes else {
        return Finding::ok(WHAT, "unknown".to_owned());
    };
    let each = connection_bytes(config);
    let room = total / each;
    let value = format!(
        "{}, room for about {} idle connections",
        bytes(total),
        commas(room - room % 1000)
    );
    let asked = config.limits.connections_max;
    if asked != Limits::default().connections_max && asked > room {
        return Finding::warning(
            WHAT,
            value,
            format!(
                "--connections-max {room}, or a machine with {}",
                bytes(asked.saturating_mul(each))
            ),
        );
    }
    Finding::ok(WHAT, value)
}

/// Memory that a shard's rings lock: queue entries of 64 and 16 bytes, buffer descriptors of 16, and the executor's.
pub(crate) fn shard_locked_bytes(limits: &Limits) -> u64 {
    let submissions = limits.submissions_max * (64 + 4);
    let completions = limits.completions_max * 16;
    let buffers = limits.receive_buffers_max * 16;
    submissions + completions + buffers + EXECUTOR_LOCKED_BYTES
}

fn locked_memory(config: &Config, host: &Host) -> Finding {
    const WHAT: &str = "locked memory";
    let shard = shard_locked_bytes(&config.limits);
    let needed = shard.saturating_mul(config.shards as u64);
    let value = bytes(host.lockable_bytes);
    let kibibytes = needed.div_ceil(1024);
    let remedy = format!(
        "ulimit -l {kibibytes} (as root), LimitMEMLOCK=infinity (systemd) or --ulimit memlock=-1 (docker)"
    );
    // The executor compares its need with the limit whether or not the kernel applies it.
    if host.lockable_bytes < EXECUTOR_LOCKED_BYTES {
        return Finding::fatal(
            WHAT,
            format!("{value}; a shard needs {}", bytes(shard)),
            remedy,
        );
    }
    if host.lockable_bytes >= needed {
        return Finding::ok(WHAT, value);
    }
    if host.may_lock_without_bound {
        return Finding::ok(
            WHAT,
            format!("{value}, which does not bound this process (CAP_IPC_LOCK)"),
        );
    }
    Finding::warning(
        WHAT,
        format!(
            "{value}; {} shards may need {}",
            config.shards,
            bytes(needed)
        ),
        remedy,
    )
}

fn backlog(config: &Config, host: &Host) -> Finding {
    const WHAT: &str = "backlog";
    let asked = config.limits.backlog_max;
    match host.backlog_most {
        Some(most) if most < asked => Finding::warning(
            WHAT,
            format!("net.core.somaxconn = {} cuts it short", commas(most)),
            format!("sysctl -w net.core.somaxconn={asked}"),
        ),
        _ => Finding::ok(
            WHAT,
            format!("{} pending connections a shard", commas(asked)),
        ),
    }
}

#[cfg(test)]
#[path = "preflight/tests.rs"]
mod tests;
