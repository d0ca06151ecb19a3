//! How many connections a configuration could hold on a machine: each bound by itself, and the lowest of them.

use shardcast_shard::limits::{Limits, SLOT_BITS};

use super::system::{Bound, System};
use super::{Exam, UNLIMITED, settings};
use crate::preflight::{
    Finding, SHARD_DESCRIPTORS, TABLE_RESERVE, bytes, commas, connection_bytes,
    process_descriptors, raise_descriptors, tls_bytes,
};

/// Most shards of an engine.
const SHARDS_MOST: u64 = 1024;

/// The engine's own memory for an idle connection, which `memory_mib_max` counts; `engine/tests/end_to_end/memory.rs` fails above it.
const ENGINE_BYTES: u64 = 256;

/// One bound on connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cap {
    /// What bounds them.
    pub what: &'static str,
    /// How many it leaves, with the connections spread evenly over the shards.
    pub connections: u64,
    /// How that comes about.
    pub why: String,
    /// How to raise it to the connections asked for.
    pub remedy: String,
}

/// All bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// In the order of printing.
    pub caps: Vec<Cap>,
}

impl Capacity {
    /// Works out each bound.
    pub(super) fn of(exam: &Exam<'_>) -> Self {
        let caps = [
            Some(connections_max(exam)),
            Some(shard_connections_max(exam)),
            Some(direct_descriptors(exam)),
            open_files(exam),
            memory(exam),
            memory_mib_max(exam),
            control_group(exam),
            connection_tracking(exam),
        ];
        Self {
            caps: caps.into_iter().flatten().collect(),
        }
    }

    /// The bound that is met first.
    #[must_use]
    pub fn lowest(&self) -> Option<&Cap> {
        self.caps.iter().min_by_key(|cap| cap.connections)
    }

    /// Connections that all bounds leave.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.lowest().map_or(0, |cap| cap.connections)
    }

    /// Each bound compared with a number of connections.
    pub(super) fn findings(&self, connections: u64) -> Vec<Finding> {
        let finding = |cap: &Cap| {
            let value = match cap.connections {
                UNLIMITED.. => "no bound".to_owned(),
                number => format!("{}: {}", commas(number), cap.why),
            };
            match cap.connections < connections {
                true => Finding::fatal(cap.what, value, cap.remedy.clone()),
                false => Finding::ok(cap.what, value),
            }
        };
        self.caps.iter().map(finding).collect()
    }
}

fn connections_max(exam: &Exam<'_>) -> Cap {
    Cap {
        what: "connections_max",
        connections: exam.config.limits.connections_max,
        why: "of the whole process".to_owned(),
        remedy: format!("--connections-max {}", exam.connections),
    }
}

/// `19,936 for each of 64 shards`.
fn for_each_shard(exam: &Exam<'_>, connections: u64) -> String {
    match exam.config.shards {
        1 => format!("{} for the one shard", commas(connections)),
        shards => format!("{} for each of {shards} shards", commas(connections)),
    }
}

/// The most that `shard_connections_max` may be. A table of direct descriptors holds a few more.
fn shard_connections_most() -> u64 {
    Limits::field("shard_connections_max").map_or(1, |field| field.most)
}

/// What makes room for the connections asked for, given what makes each shard as large as needed and how many one holds now: the former, with
/// more shards where the largest are not enough, or more shards as they are, where they would not be too many.
fn more_room(exam: &Exam<'_>, larger_shards: String, a_shard: u64) -> String {
    let shards = |each: u64| exam.connections.div_ceil(each.max(1));
    let (least, as_they_are) = (shards(shard_connections_most()), shards(a_shard));
    if least > exam.config.shards as u64 && least == as_they_are {
        return format!("--shards {least}");
    }
    let mut remedy = larger_shards;
    if least > exam.config.shards as u64 {
        remedy.push_str(&format!(" and --shards {least}"));
    }
    if as_they_are <= SHARDS_MOST {
        remedy.push_str(&format!(", or --shards {as_they_are}"));
    }
    remedy
}

fn shard_connections_max(exam: &Exam<'_>) -> Cap {
    let a_shard = exam.config.limits.shard_connections_max;
    let shards = exam.config.shards as u64;
    let wanted = exam
        .connections
        .div_ceil(shards.max(1))
        .min(shard_connections_most());
    let larger = format!("--shard-connections-max {wanted}");
    Cap {
        what: "shard_connections_max",
        connections: shards.saturating_mul(a_shard),
        why: for_each_shard(exam, a_shard),
        remedy: more_room(exam, larger, a_shard),
    }
}

/// What the tables of the rings hold. It does not follow the limits of the configuration, which are bounds of their own.
fn direct_descriptors(exam: &Exam<'_>) -> Cap {
    let Exam { config, host, .. } = exam;
    let permitted = host.descriptors_soft.min(1 << SLOT_BITS);
    let table = config
        .table_size
        .map_or(permitted, |size| permitted.min(u64::from(size)));
    let a_shard = table.saturating_sub(TABLE_RESERVE);
    let shards = config.shards as u64;
    // A table for all of them: nothing says that they spread evenly.
    let wanted = (exam.connections + TABLE_RESERVE).min(1 << SLOT_BITS);
    let raise = || raise_descriptors(wanted, host);
    let larger = match config.table_size {
        None => raise(),
        Some(_) if permitted >= wanted => "leave table_size at 0".to_owned(),
        Some(_) => format!("leave table_size at 0; {}", raise()),
    };
    Cap {
        what: "direct descriptors",
        connections: shards.saturating_mul(a_shard),
        why: for_each_shard(exam, a_shard),
        remedy: more_room(exam, larger, a_shard),
    }
}

/// Sockets in direct descriptors are open files of the system.
fn open_files(exam: &Exam<'_>) -> Option<Cap> {
    let files = exam.host.files_max?;
    let others = (exam.config.shards as u64 * SHARD_DESCRIPTORS)
        .saturating_add(process_descriptors(exam.config));
    Some(Cap {
        what: "open files",
        connections: files.saturating_sub(others),
        why: format!("fs.file-max = {}", commas(files)),
        remedy: settings::remedy(exam.system, "fs.file-max", exam.connections),
    })
}

fn memory(exam: &Exam<'_>) -> Option<Cap> {
    let total = exam.host.memory_bytes?;
    let each = connection_bytes(exam.config);
    let wanted = exam.connections.saturating_mul(each);
    Some(Cap {
        what: "memory",
        connections: total / each,
        why: of_memory(total, "of this machine", each),
        remedy: format!("a machine with {}", bytes(wanted)),
    })
}

/// `8 GiB of this machine, 4,500 bytes for an idle connection`.
fn of_memory(total: u64, of: &str, each: u64) -> String {
    format!(
        "{} {of}, {} bytes for an idle connection",
        bytes(total),
        commas(each)
    )
}

fn memory_mib_max(exam: &Exam<'_>) -> Option<Cap> {
    let mebibytes = exam.config.limits.memory_mib_max;
    let each = ENGINE_BYTES + tls_bytes(exam.config);
    let wanted = exam.connections.saturating_mul(each);
    (mebibytes > 0).then(|| Cap {
        what: "memory_mib_max",
        connections: (mebibytes << 20) / each,
        why: format!(
            "{mebibytes} MiB of the process, {} bytes for an idle connection",
            commas(each)
        ),
        remedy: format!("--memory-mib-max {}", wanted.div_ceil(1 << 20)),
    })
}

/// The group counts the kernel's memory for a socket as well.
fn control_group(exam: &Exam<'_>) -> Option<Cap> {
    let Bound { value, file } = exam.system.cgroup.memory_max.as_ref()?;
    let each = connection_bytes(exam.config);
    let wanted = exam.connections.saturating_mul(each);
    Some(Cap {
        what: "control group",
        connections: value / each,
        why: of_memory(*value, &format!("by {}", file.display()), each),
        remedy: format!(
            "echo {wanted} > {} (as root), MemoryMax={wanted} (systemd) or --memory {wanted} (docker)",
            file.display()
        ),
    })
}

/// Whether connections are followed: nothing is counted where no rule of the firewall needs it.
pub(super) fn is_tracked(system: &System) -> bool {
    system
        .number("net.netfilter.nf_conntrack_count")
        .is_some_and(|count| count > 0)
}

fn connection_tracking(exam: &Exam<'_>) -> Option<Cap> {
    const MAX: &str = "net.netfilter.nf_conntrack_max";
    let most = exam.system.number(MAX)?;
    is_tracked(exam.system).then(|| Cap {
        what: "conntrack",
        connections: most,
        why: format!("{MAX} = {}", commas(most)),
        remedy: settings::remedy(exam.system, MAX, exam.connections),
    })
}
