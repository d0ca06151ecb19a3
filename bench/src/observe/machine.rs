//! What the numbers were measured on: kernel, processor, limits and settings that change results.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use procfs::{
    CpuInfo, Current, Meminfo,
    process::{LimitValue, Process},
};
use serde::{Deserialize, Serialize};

const CORES: &str = "/sys/devices/system/cpu";

/// The sysctls that change what a harness of sockets measures.
const SETTINGS: [&str; 15] = [
    "fs.file-max",
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "net.core.busy_poll",
    "net.core.default_qdisc",
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
    "vm.overcommit_memory",
];

/// The machine, as far as it tells, and the limits of this process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Release of the kernel, as `uname -r` prints it.
    pub kernel_release: Option<String>,
    /// Instruction set that this program was built for: `x86_64`, `aarch64`.
    pub architecture: String,
    /// Name of the processor, as it calls itself.
    pub cpu_model: Option<String>,
    /// Cores that run threads, hyperthreads counted singly.
    pub logical_cores: Option<u32>,
    /// Cores, the hyperthreads of one counted once. Hypervisors often do not tell the truth here.
    pub physical_cores: Option<u32>,
    /// Whether cores run more than one thread at a time (`/sys/devices/system/cpu/smt/active`).
    pub hyperthreading: Option<bool>,
    /// Whether there is a hypervisor, as the processor says. `None`: this kind of processor does not say.
    pub virtualised: Option<bool>,
    /// Maker and product of the machine, or the hypervisor, by its firmware tables: `Amazon EC2 m7g.large`.
    pub product: Option<String>,
    /// Memory of the machine, in bytes.
    pub memory_bytes: Option<u64>,
    /// Whether anonymous memory may be of huge pages: `always`, `madvise` or `never`.
    pub transparent_huge_pages: Option<String>,
    /// The clock behind `CLOCK_MONOTONIC`: `tsc`, `kvm-clock`. Others are slow to read.
    pub clock_source: Option<String>,
    /// Governors of the cores' frequencies, each kind once. Empty: the machine shows none, as most virtual ones.
    pub frequency_governors: Vec<String>,
    /// Cores on which this process may run, by number.
    pub cores_allowed: Option<Vec<u32>>,
    /// Limits of this process's control group and of those above it. `None`: no hierarchy of version 2 with these
    /// controllers is visible; limits of version 1 are not read.
    pub cgroup: Option<CgroupLimits>,
    /// `RLIMIT_NOFILE` of this process: open descriptors.
    pub descriptor_limit: Option<ResourceLimit>,
    /// `RLIMIT_MEMLOCK` of this process: bytes that it may lock.
    pub lockable_bytes: Option<ResourceLimit>,
    /// Settings of the kernel (sysctl) by name, as the kernel prints them. What this kernel does not have is absent.
    ///
    /// Those under `net` are of this process's network namespace.
    pub settings: BTreeMap<String, String>,
}

/// A limit of a process (getrlimit(2)). `None`: there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// What applies.
    pub soft: Option<u64>,
    /// How far the process may raise it.
    pub hard: Option<u64>,
}

/// The tightest limits of a control group and of all above it that are visible. Version 2 only.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CgroupLimits {
    /// Processor time, in cores (`cpu.max`). `None`: there is no limit.
    pub cpu_cores: Option<f64>,
    /// Memory, in bytes, the kernel's on behalf of the group included (`memory.max`). `None`: there is no limit.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// Reads what the machine tells. Nothing that is missing is an error.
    pub fn read() -> Self {
        let cpu = CpuInfo::current().ok();
        let process = Process::myself().ok();
        let status = process.as_ref().and_then(|process| process.status().ok());
        let limits = process.as_ref().and_then(|process| process.limits().ok());
        let online = trimmed(format!("{CORES}/online")).and_then(|text| core_list(&text));
        Self {
            kernel_release: trimmed("/proc/sys/kernel/osrelease"),
            architecture: std::env::consts::ARCH.to_owned(),
            cpu_model: cpu
                .as_ref()
                .and_then(|cpu| cpu.model_name(0))
                .map(str::to_owned),
            logical_cores: online.as_ref().and_then(|cores| count(cores.len())),
            physical_cores: online.as_ref().and_then(|cores| physical_cores(cores)),
            hyperthreading: trimmed(format!("{CORES}/smt/active")).map(|text| text == "1"),
            virtualised: cpu
                .as_ref()
                .and_then(|cpu| cpu.flags(0))
                .map(|flags| flags.contains(&"hypervisor")),
            product: product(),
            memory_bytes: Meminfo::current().ok().map(|meminfo| meminfo.mem_total),
            transparent_huge_pages: trimmed("/sys/kernel/mm/transparent_hugepage/enabled")
                .and_then(|text| chosen(&text)),
            clock_source: trimmed(
                "/sys/devices/system/clocksource/clocksource0/current_clocksource",
            ),
            frequency_governors: frequency_governors(online.as_deref().unwrap_or_default()),
            cores_allowed: status
                .and_then(|status| status.cpus_allowed_list)
                .map(|ranges| {
                    ranges
                        .into_iter()
                        .flat_map(|(from, to)| from..=to)
                        .collect()
                }),
            cgroup: process.as_ref().and_then(cgroup_limits),
            descriptor_limit: limits.as_ref().map(|limits| ResourceLimit {
                soft: limit(&limits.max_open_files.soft_limit),
                hard: limit(&limits.max_open_files.hard_limit),
            }),
            lockable_bytes: limits.as_ref().map(|limits| ResourceLimit {
                soft: limit(&limits.max_locked_memory.soft_limit),
                hard: limit(&limits.max_locked_memory.hard_limit),
            }),
            settings: SETTINGS
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), setting(name)?)))
                .collect(),
        }
    }
}

/// The text of a file without the white space around it. `None`: it cannot be read, or is empty.
fn trimmed(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A sysctl by its dotted name, its fields separated by single spaces.
fn setting(name: &str) -> Option<String> {
    let text = trimmed(format!("/proc/sys/{}", name.replace('.', "/")))?;
    Some(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
}

fn count(length: usize) -> Option<u32> {
    u32::try_from(length).ok()
}

fn limit(value: &LimitValue) -> Option<u64> {
    match value {
        LimitValue::Unlimited => None,
        LimitValue::Value(value) => Some(*value),
    }
}

/// Distinct sets of hyperthreads among the cores that are online.
fn physical_cores(online: &[u32]) -> Option<u32> {
    let siblings: Option<BTreeSet<String>> = online
        .iter()
        .map(|core| trimmed(format!("{CORES}/cpu{core}/topology/thread_siblings_list")))
        .collect();
    siblings.and_then(|siblings| count(siblings.len()))
}

fn frequency_governors(online: &[u32]) -> Vec<String> {
    let governors: BTreeSet<String> = online
        .iter()
        .filter_map(|core| trimmed(format!("{CORES}/cpu{core}/cpufreq/scaling_governor")))
        .collect();
    governors.into_iter().collect()
}

/// What Xen says of itself, or the firmware's tables, or the device tree of machines that have no such tables.
fn product() -> Option<String> {
    let tables = || {
        let words: Vec<String> = ["sys_vendor", "product_name"]
            .iter()
            .filter_map(|name| trimmed(format!("/sys/class/dmi/id/{name}")))
            .collect();
        (!words.is_empty()).then(|| words.join(" "))
    };
    let device_tree =
        || trimmed("/proc/device-tree/model").map(|model| model.trim_end_matches('\0').to_owned());
    trimmed("/sys/hypervisor/type")
        .or_else(tables)
        .or_else(device_tree)
}

/// The tightest limits on the way from the process's group up to the root that is mounted here.
fn cgroup_limits(process: &Process) -> Option<CgroupLimits> {
    let groups = process.cgroups().ok()?;
    let group = groups.into_iter().find(|group| group.hierarchy == 0)?;
    let mount = process
        .mountinfo()
        .ok()?
        .into_iter()
        .find(|mount| mount.fs_type == "cgroup2")?;
    let controllers = trimmed(mount.mount_point.join("cgroup.controllers"))?;
    if !limits_here(&controllers) {
        return None;
    }
    let directory = group_directory(&mount.mount_point, &mount.root, &group.pathname)?;
    let mut limits = CgroupLimits {
        cpu_cores: None,
        memory_bytes: None,
    };
    for level in directory.ancestors() {
        if !level.starts_with(&mount.mount_point) {
            break;
        }
        let cores = trimmed(level.join("cpu.max")).and_then(|text| cpu_max_cores(&text));
        let bytes = trimmed(level.join("memory.max")).and_then(|text| text.parse().ok());
        limits.cpu_cores = tighter(limits.cpu_cores, cores);
        limits.memory_bytes = tighter(limits.memory_bytes, bytes);
    }
    Some(limits)
}

/// Whether the hierarchy limits processor time or memory. Beside one of version 1 it often has neither controller.
fn limits_here(controllers: &str) -> bool {
    controllers
        .split_ascii_whitespace()
        .any(|controller| matches!(controller, "cpu" | "memory"))
}

/// Where the group of a path is to be found, given which group is mounted where. `None`: it is outside what is mounted.
fn group_directory(mount_point: &Path, mounted: &str, group: &str) -> Option<PathBuf> {
    let below = Path::new(group).strip_prefix(mounted).ok()?;
    Some(mount_point.join(below))
}

/// The smaller of two limits, of which each may be absent.
fn tighter<T: PartialOrd>(first: Option<T>, second: Option<T>) -> Option<T> {
    match (first, second) {
        (Some(first), Some(second)) => Some(if second < first { second } else { first }),
        (first, second) => first.or(second),
    }
}

/// `QUOTA PERIOD` of `cpu.max`, both in microseconds, as cores. `None`: `max`, no limit.
fn cpu_max_cores(cpu_max: &str) -> Option<f64> {
    let (quota, period) = cpu_max.split_once(' ')?;
    let quota_us: f64 = quota.parse().ok()?;
    let period_us: f64 = period.parse().ok()?;
    (period_us > 0.0).then(|| quota_us / period_us)
}

/// The word in brackets of a choice as `/sys` writes it: `always [madvise] never`.
fn chosen(choice: &str) -> Option<String> {
    let (_, rest) = choice.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(word.to_owned())
}

/// A list of cores as `/sys` writes it: `0-3,6`.
fn core_list(list: &str) -> Option<Vec<u32>> {
    let mut cores = Vec::new();
    for range in list.split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        cores.extend(from.parse::<u32>().ok()?..=to.parse::<u32>().ok()?);
    }
    Some(cores)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores() {
        let cases = [
            ("0", Some(vec![0])),
            ("0-1", Some(vec![0, 1])),
            ("0-2,5,7-8", Some(vec![0, 1, 2, 5, 7, 8])),
            ("", None),
            ("0-", None),
            ("zero", None),
        ];
        for (list, cores) in cases {
            assert_eq!(core_list(list), cores, "{list:?}");
        }
    }

    #[test]
    fn quotas_of_processor_time() {
        let cases = [
            ("max 100000", None),
            ("150000 100000", Some(1.5)),
            ("100000 0", None),
            ("100000", None),
            ("", None),
        ];
        for (cpu_max, cores) in cases {
            assert_eq!(cpu_max_cores(cpu_max), cores, "{cpu_max:?}");
        }
    }

    #[test]
    fn the_choice_in_brackets() {
        let cases = [
            ("always [madvise] never", Some("madvise")),
            ("[always] madvise never", Some("always")),
            ("always", None),
            ("always [madvise", None),
        ];
        for (text, word) in cases {
            assert_eq!(chosen(text).as_deref(), word, "{text:?}");
        }
    }

    #[test]
    fn the_directory_of_a_control_group() {
        let cases = [
            (
                "/",
                "/system.slice/a.service",
                Some("/cgroup/system.slice/a.service"),
            ),
            ("/", "/", Some("/cgroup")),
            ("/docker/x", "/docker/x/y", Some("/cgroup/y")),
            ("/docker/x", "/docker/other", None),
        ];
        for (mounted, group, directory) in cases {
            assert_eq!(
                group_directory(Path::new("/cgroup"), mounted, group),
                directory.map(PathBuf::from),
                "{mounted} {group}"
            );
        }
    }

    #[test]
    fn hierarchies_that_limit() {
        let cases = [
            ("cpuset cpu io memory pids", true),
            ("memory", true),
            ("cpuset hugetlb", false),
            ("", false),
        ];
        for (controllers, limits) in cases {
            assert_eq!(limits_here(controllers), limits, "{controllers:?}");
        }
    }

    #[test]
    fn the_tighter_limit() {
        assert_eq!(tighter::<u64>(None, None), None);
        assert_eq!(tighter(Some(2), None), Some(2));
        assert_eq!(tighter(None, Some(3)), Some(3));
        assert_eq!(tighter(Some(2), Some(3)), Some(2));
        assert_eq!(tighter(Some(3.5), Some(1.5)), Some(1.5));
    }

    #[test]
    fn this_machine() {
        let machine = Machine::read();
        assert!(machine.kernel_release.as_ref().unwrap().contains('.'));
        assert!(machine.memory_bytes.unwrap() > 0);
        let logical = machine.logical_cores.unwrap();
        let allowed = machine.cores_allowed.as_ref().unwrap();
        assert!(!allowed.is_empty() && allowed.len() <= logical as usize);
        assert!(
            machine
                .physical_cores
                .is_none_or(|physical| physical <= logical)
        );
        let descriptors = machine.descriptor_limit.unwrap();
        assert!(descriptors.soft.unwrap_or(u64::MAX) <= descriptors.hard.unwrap_or(u64::MAX));
        assert!(machine.settings["net.ipv4.tcp_rmem"].split(' ').count() == 3);
        let json = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Machine>(&json).unwrap(), machine);
    }
}
