#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::settings::{Comparison, rows};
use super::*;
use crate::config::Steering;
use crate::topology::{Interface, Interrupt, Topology};

/// The connections that the machine of these tests is made for.
const CONNECTIONS: u64 = 1_000_000;

fn config() -> Config {
    Config {
        listen: "10.0.0.5:9000".parse().unwrap(),
        ..Config::for_topology(&Topology::new(vec![0, 1], 2, |_| None))
    }
}

/// A machine that lacks nothing.
fn host() -> Host {
    Host {
        kernel_release: "6.18.44".to_owned(),
        io_uring_disabled: Some(0),
        descriptors_soft: 1 << 20,
        descriptors_hard: 1 << 20,
        descriptors_most: Some(1 << 20),
        files_max: Some(8_000_000),
        lockable_bytes: 8 << 20,
        may_lock_without_bound: false,
        backlog_most: Some(65_535),
        memory_bytes: Some(64 << 30),
    }
}

/// What the rows of the table want, as the kernel would print it.
fn wanted_settings() -> BTreeMap<&'static str, String> {
    let mut settings: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for row in rows() {
        let values = settings.entry(row.name).or_default();
        let place = row.index.unwrap_or(0);
        values.resize(values.len().max(place + 1), "0".to_owned());
        values[place] = row.wanted(CONNECTIONS).to_string();
    }
    settings
        .into_iter()
        .map(|(name, values)| (name, values.join("\t")))
        .collect()
}

fn system() -> System {
    let mut settings = wanted_settings();
    for (name, value) in [
        ("net.ipv4.tcp_ehash_entries", "524288"),
        ("net.ipv4.ip_local_port_range", "32768\t60999"),
        ("net.netfilter.nf_conntrack_buckets", "1048576"),
        ("net.netfilter.nf_conntrack_count", "7"),
    ] {
        settings.insert(name, value.to_owned());
    }
    System {
        settings,
        ring: Ok(Vec::new()),
        seccomp: Some(0),
        inherited: Inherited {
            descriptors_soft: Some(1024),
            lockable_bytes_hard: Some(8 << 20),
        },
        cgroup: Cgroup::default(),
        interface: Some(Interface {
            name: "eth7".to_owned(),
            interrupts: vec![interrupt(24, &[0]), interrupt(25, &[1])],
            ..Interface::default()
        }),
        irqbalance: None,
        grace_periods: Some(GracePeriods {
            thread: 15,
            priority: 0,
        }),
        online: vec![0, 1, 2],
        cores: vec![core(0, "performance", 10), core(1, "performance", 10)],
        isolated: vec![0, 1],
        tickless: Vec::new(),
        clock: Clock {
            current: Some("tsc".to_owned()),
            available: ["tsc", "hpet"].map(str::to_owned).into(),
        },
        huge_pages: Some("madvise".to_owned()),
        memory: Memory {
            total_bytes: 64 << 30,
            available_bytes: 60 << 30,
            swapped_bytes: 0,
        },
        listeners: vec!["10.0.0.5:22".parse().unwrap()],
        sockets: Sockets::default(),
    }
}

fn interrupt(number: u32, cores: &[usize]) -> Interrupt {
    Interrupt {
        number,
        cores: cores.to_vec(),
    }
}

fn core(id: usize, governor: &str, latency_us: u64) -> Core {
    let state = |index, name: &str, latency_us| IdleState {
        index,
        name: name.to_owned(),
        latency_us,
    };
    Core {
        id,
        governor: Some(governor.to_owned()),
        idle_states: vec![state(0, "POLL", 0), state(1, "C6", latency_us)],
    }
}

fn bound(value: u64, file: &str) -> Option<Bound> {
    let file = Path::new("/sys/fs/cgroup/a.service").join(file);
    Some(Bound { value, file })
}

fn quota(quota_us: u64, file: &str) -> Option<Quota> {
    Some(Quota {
        quota_us,
        period_us: 100_000,
        file: Path::new("/sys/fs/cgroup/a.service").join(file),
    })
}

fn set(system: &mut System, name: &'static str, value: &str) {
    system.settings.insert(name, value.to_owned());
}

fn finding<'a>(diagnosis: &'a Diagnosis, what: &str) -> &'a Finding {
    let mut found = diagnosis.findings().filter(|found| found.what == what);
    let first = found.next();
    assert!(found.next().is_none(), "two findings about {what}");
    first.unwrap_or_else(|| panic!("nothing about {what}"))
}

#[test]
fn nothing_is_wrong_with_a_good_machine() {
    let diagnosis = Diagnosis::examine(&config(), &host(), &system(), Some(CONNECTIONS));
    for found in diagnosis.findings() {
        assert_eq!(found.severity, Severity::Ok, "{found:?}");
        assert_eq!(found.remedy, None);
    }
}

/// A deviation from the good machine or configuration, and what is to be found about it.
struct Case {
    change: fn(&mut Config, &mut Host, &mut System),
    what: &'static str,
    severity: Severity,
    /// A part of the value and a part of the remedy.
    value: &'static str,
    remedy: Option<&'static str>,
}

const CASES: &[Case] = &[
    // The preflight's, one bad value each: its own tests have the rest.
    Case {
        change: |_, host, _| host.kernel_release = "5.15.0".to_owned(),
        what: "kernel",
        severity: Severity::Fatal,
        value: "5.15.0",
        remedy: Some("install Linux 6.1"),
    },
    Case {
        change: |_, host, _| host.io_uring_disabled = Some(2),
        what: "io_uring",
        severity: Severity::Fatal,
        value: "forbidden",
        remedy: Some("sysctl -w kernel.io_uring_disabled=0"),
    },
    Case {
        change: |config, host, _| {
            config.shards = 64;
            host.descriptors_soft = 1024;
            host.descriptors_hard = 1024;
        },
        what: "descriptors",
        severity: Severity::Warning,
        value: "64 shards need about 2,176",
        remedy: Some("LimitNOFILE=2176"),
    },
    Case {
        change: |_, host, _| host.lockable_bytes = 64 << 10,
        what: "locked memory",
        severity: Severity::Fatal,
        value: "64 KiB",
        remedy: Some("LimitMEMLOCK=infinity"),
    },
    Case {
        change: |_, host, _| host.backlog_most = Some(128),
        what: "backlog",
        severity: Severity::Warning,
        value: "net.core.somaxconn = 128",
        remedy: Some("sysctl -w net.core.somaxconn=4096"),
    },
    Case {
        change: |_, host, _| {
            host.descriptors_soft = 70;
            host.descriptors_hard = 70;
        },
        what: "connections",
        severity: Severity::Fatal,
        value: "6 a shard",
        remedy: Some("ulimit -n"),
    },
    // A ring that is refused, with and without a filter to blame.
    Case {
        change: |_, _, system| system.ring = Err(refusal()),
        what: "io_uring",
        severity: Severity::Fatal,
        value: "io_uring_setup failed",
        remedy: Some("ask for it"),
    },
    Case {
        change: |_, _, system| system.ring = Err(refusal()),
        what: "seccomp",
        severity: Severity::Ok,
        value: "not filtered",
        remedy: None,
    },
    Case {
        change: |_, _, system| {
            system.ring = Err(refusal());
            system.seccomp = Some(2);
        },
        what: "seccomp",
        severity: Severity::Fatal,
        value: "io_uring is refused",
        remedy: Some("--security-opt seccomp=unconfined"),
    },
    Case {
        change: |_, _, system| system.seccomp = Some(2),
        what: "seccomp",
        severity: Severity::Ok,
        value: "io_uring is permitted",
        remedy: None,
    },
    // The process.
    Case {
        change: |_, host, _| host.descriptors_soft = 1024,
        what: "soft nofile",
        severity: Severity::Fatal,
        value: "1,024 descriptors of 1,048,576",
        remedy: Some("ulimit -Sn 1048576"),
    },
    Case {
        change: |_, _, system| system.inherited.descriptors_soft = Some(1 << 20),
        what: "soft nofile",
        severity: Severity::Ok,
        value: "1,048,576 descriptors, the hard limit",
        remedy: None,
    },
    Case {
        change: |_, host, _| host.lockable_bytes = 8 << 20,
        what: "soft memlock",
        severity: Severity::Ok,
        value: "soft limit 8 MiB, hard limit 8 MiB, room for the rings of 9 shards",
        remedy: None,
    },
    Case {
        change: |_, host, _| host.lockable_bytes = 1 << 20,
        what: "soft memlock",
        severity: Severity::Warning,
        value: "soft limit of 1 MiB below the hard one of 8 MiB",
        remedy: Some("ulimit -Sl 8192"),
    },
    Case {
        change: |_, host, system| {
            host.lockable_bytes = 1 << 20;
            system.inherited.lockable_bytes_hard = Some(u64::MAX);
        },
        what: "soft memlock",
        severity: Severity::Warning,
        value: "unlimited",
        remedy: Some("ulimit -Sl unlimited"),
    },
    Case {
        change: |_, _, system| system.cgroup.memory_high = bound(4 << 30, "memory.high"),
        what: "memory.high",
        severity: Severity::Warning,
        value: "4 GiB; 1,000,000 connections take 4.1 GiB",
        remedy: Some("echo 4500000000 > /sys/fs/cgroup/a.service/memory.high"),
    },
    Case {
        change: |_, _, system| system.cgroup.memory_high = bound(5 << 30, "memory.high"),
        what: "memory.high",
        severity: Severity::Ok,
        value: "5 GiB",
        remedy: None,
    },
    Case {
        change: |_, _, system| system.cgroup.threads_max = bound(7, "pids.max"),
        what: "pids.max",
        severity: Severity::Fatal,
        value: "7 threads; 2 shards start 8",
        remedy: Some("echo 16 > /sys/fs/cgroup/a.service/pids.max"),
    },
    Case {
        change: |_, _, system| system.cgroup.threads_max = bound(8, "pids.max"),
        what: "pids.max",
        severity: Severity::Warning,
        value: "up to 16",
        remedy: Some("TasksMax=16"),
    },
    Case {
        change: |_, _, system| system.cgroup.threads_max = bound(16, "pids.max"),
        what: "pids.max",
        severity: Severity::Ok,
        value: "16 threads",
        remedy: None,
    },
    Case {
        change: |_, _, system| system.cgroup.quota = quota(150_000, "cpu.max"),
        what: "cpu.max",
        severity: Severity::Warning,
        value: "1.50 cores; the shards have 2",
        remedy: Some("echo max > /sys/fs/cgroup/a.service/cpu.max"),
    },
    Case {
        change: |_, _, system| system.cgroup.quota = quota(150_000, "cpu.cfs_quota_us"),
        what: "cpu.max",
        severity: Severity::Warning,
        value: "1.50 cores",
        remedy: Some("echo -1 > /sys/fs/cgroup/a.service/cpu.cfs_quota_us"),
    },
    Case {
        change: |_, _, system| system.cgroup.quota = quota(200_000, "cpu.max"),
        what: "cpu.max",
        severity: Severity::Ok,
        value: "2.00 cores",
        remedy: None,
    },
    // The network.
    Case {
        change: |_, _, system| system.listeners.push("10.0.0.5:9000".parse().unwrap()),
        what: "listen",
        severity: Severity::Warning,
        value: "10.0.0.5:9000 is taken",
        remedy: Some("ss -ltnp 'sport = :9000'"),
    },
    Case {
        change: |_, _, system| system.listeners.push("[::]:9000".parse().unwrap()),
        what: "listen",
        severity: Severity::Warning,
        value: "is taken",
        remedy: Some("--listen"),
    },
    Case {
        change: |_, _, system| system.listeners.push("127.0.0.1:9001".parse().unwrap()),
        what: "admin",
        severity: Severity::Warning,
        value: "127.0.0.1:9001 is taken",
        remedy: Some("or --admin ADDR:PORT"),
    },
    Case {
        change: |config, _, _| config.admin.listen = None,
        what: "admin",
        severity: Severity::Ok,
        value: "no admin API is wanted",
        remedy: None,
    },
    Case {
        change: |_, _, system| system.listeners.push("10.0.0.6:9000".parse().unwrap()),
        what: "listen",
        severity: Severity::Ok,
        value: "is free",
        remedy: None,
    },
    Case {
        change: |config, _, _| config.listen.set_port(0),
        what: "listen",
        severity: Severity::Ok,
        value: "the kernel chooses",
        remedy: None,
    },
    Case {
        change: |_, _, system| set(system, "net.ipv4.tcp_ehash_entries", "262144"),
        what: "TCP hash",
        severity: Severity::Warning,
        value: "262,144 buckets for 1,000,000",
        remedy: Some("thash_entries=1048576"),
    },
    // As a network namespace prints the table that it shares.
    Case {
        change: |_, _, system| set(system, "net.ipv4.tcp_ehash_entries", "-524288"),
        what: "TCP hash",
        severity: Severity::Ok,
        value: "524,288 buckets",
        remedy: None,
    },
    Case {
        change: |_, _, system| set(system, "net.netfilter.nf_conntrack_buckets", "262144"),
        what: "conntrack hash",
        severity: Severity::Warning,
        value: "262,144 buckets for up to 1,065,536",
        remedy: Some("sysctl -w net.netfilter.nf_conntrack_buckets=2097152"),
    },
    Case {
        change: |_, _, system| {
            set(system, "net.netfilter.nf_conntrack_buckets", "262144");
            set(system, "net.netfilter.nf_conntrack_count", "0");
        },
        what: "conntrack hash",
        severity: Severity::Ok,
        value: "no connection is followed",
        remedy: None,
    },
    Case {
        change: |_, _, system| {
            system
                .settings
                .retain(|name, _| !name.starts_with("net.netfilter."));
        },
        what: "conntrack hash",
        severity: Severity::Ok,
        value: "not loaded",
        remedy: None,
    },
    Case {
        change: |_, _, system| card(system).interrupts = vec![interrupt(30, &[0, 1]); 2],
        what: "interrupts",
        severity: Severity::Warning,
        value: "eth7: 2 are not bound",
        remedy: Some("(set -- 0 1; for n in 30 30; do echo $1 > /proc/irq/$n/smp_affinity_list;"),
    },
    Case {
        change: |_, _, system| card(system).interrupts.truncate(1),
        what: "interrupts",
        severity: Severity::Warning,
        value: "eth7: 1 are not bound",
        remedy: Some("ethtool -L eth7 combined 2"),
    },
    Case {
        change: |_, _, system| card(system).interrupts.clear(),
        what: "interrupts",
        severity: Severity::Ok,
        value: "eth7 shows none",
        remedy: None,
    },
    Case {
        change: |config, _, system| {
            config.steering = Steering::Off;
            card(system).interrupts.truncate(1);
        },
        what: "interrupts",
        severity: Severity::Ok,
        value: "not steered",
        remedy: None,
    },
    Case {
        change: |_, _, system| system.interface = None,
        what: "interrupts",
        severity: Severity::Ok,
        value: "no card has 10.0.0.5",
        remedy: None,
    },
    Case {
        change: |_, _, system| system.irqbalance = Some(4321),
        what: "irqbalance",
        severity: Severity::Warning,
        value: "process 4321",
        remedy: Some("systemctl disable --now irqbalance"),
    },
    Case {
        change: |_, _, system| {
            system.irqbalance = Some(4321);
            system.interface = None;
        },
        what: "irqbalance",
        severity: Severity::Ok,
        value: "does not matter",
        remedy: None,
    },
    Case {
        change: |_, _, system| {
            set(system, "net.ipv4.tcp_max_orphans", "4000000");
            system.sockets.orphans = 3_000_000;
        },
        what: "orphans",
        severity: Severity::Warning,
        value: "3,000,000 of 4,000,000",
        remedy: Some("sysctl -w net.ipv4.tcp_max_orphans=8000000"),
    },
    Case {
        change: |_, _, system| {
            set(system, "net.ipv4.tcp_max_orphans", "4000000");
            system.sockets.orphans = 2_999_999;
        },
        what: "orphans",
        severity: Severity::Ok,
        value: "2,999,999 of 4,000,000",
        remedy: None,
    },
    Case {
        change: |_, _, system| {
            set(system, "net.ipv4.tcp_max_tw_buckets", "400000");
            system.sockets.time_wait = 400_000;
        },
        what: "TIME-WAIT",
        severity: Severity::Warning,
        value: "400,000 of 400,000",
        remedy: Some("sysctl -w net.ipv4.tcp_max_tw_buckets=800000"),
    },
    Case {
        change: |_, _, system| {
            set(system, "net.ipv4.tcp_mem", "1000\t2000\t3000");
            system.sockets.buffer_pages = 1500;
        },
        what: "TCP buffers",
        severity: Severity::Warning,
        value: "1,500 pages of 2,000",
        remedy: Some("sysctl -w net.ipv4.tcp_mem='1000 4000 6000'"),
    },
    Case {
        change: |_, _, system| {
            set(system, "net.ipv4.tcp_mem", "1000\t2000\t3000");
            system.sockets.buffer_pages = 1499;
        },
        what: "TCP buffers",
        severity: Severity::Ok,
        value: "1,499 pages of 2,000",
        remedy: None,
    },
    // For information.
    Case {
        change: |_, _, system| set(system, "net.ipv4.ip_local_port_range", "1024\t65535"),
        what: "local ports",
        severity: Severity::Ok,
        value: "1024 to 65535: a load generator opens 64,512",
        remedy: None,
    },
    Case {
        change: |_, _, system| {
            system.isolated.clear();
            system.tickless = vec![2, 3];
        },
        what: "isolated cores",
        severity: Severity::Ok,
        value: "none, without a tick 2-3; the shards have 0-1",
        remedy: None,
    },
    // The cores.
    Case {
        change: |_, _, system| system.online = vec![0, 1],
        what: "RCU thread",
        severity: Severity::Warning,
        value: "shards on every core",
        remedy: Some("chrt --fifo --pid 1 15"),
    },
    Case {
        change: |_, _, system| {
            system.online = vec![0, 1];
            system.grace_periods = Some(GracePeriods {
                thread: 15,
                priority: 1,
            });
        },
        what: "RCU thread",
        severity: Severity::Ok,
        value: "real-time priority 1",
        remedy: None,
    },
    Case {
        change: |_, _, system| {
            system.online = vec![0, 1];
            system.grace_periods = None;
        },
        what: "RCU thread",
        severity: Severity::Ok,
        value: "not to be seen",
        remedy: None,
    },
    Case {
        change: |_, _, system| system.clock.current = Some("hpet".to_owned()),
        what: "clock",
        severity: Severity::Warning,
        value: "hpet: each reading",
        remedy: Some("echo tsc > /sys/devices/system/clocksource"),
    },
    Case {
        change: |_, _, system| {
            system.clock.current = Some("acpi_pm".to_owned());
            system.clock.available = vec!["acpi_pm".to_owned()];
        },
        what: "clock",
        severity: Severity::Warning,
        value: "acpi_pm",
        remedy: Some("tsc=reliable"),
    },
    Case {
        change: |_, _, system| system.clock.current = Some("kvm-clock".to_owned()),
        what: "clock",
        severity: Severity::Ok,
        value: "kvm-clock",
        remedy: None,
    },
    Case {
        change: |_, _, system| system.cores[1] = core(1, "powersave", 10),
        what: "governor",
        severity: Severity::Warning,
        value: "performance, powersave",
        remedy: Some("echo performance | tee"),
    },
    Case {
        change: |_, _, system| system.cores = vec![Core::default()],
        what: "governor",
        severity: Severity::Ok,
        value: "the cores show none",
        remedy: None,
    },
    Case {
        change: |_, _, system| system.cores[1] = core(1, "performance", 133),
        what: "idle states",
        severity: Severity::Warning,
        value: "C6, 133 µs",
        remedy: Some("cpuidle/state[1]/disable"),
    },
    Case {
        change: |_, _, system| system.cores = vec![Core::default()],
        what: "idle states",
        severity: Severity::Ok,
        value: "the cores show none",
        remedy: None,
    },
    // Memory.
    Case {
        change: |_, _, system| system.huge_pages = Some("always".to_owned()),
        what: "huge pages",
        severity: Severity::Warning,
        value: "always",
        remedy: Some("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
    },
    Case {
        change: |_, _, system| system.huge_pages = None,
        what: "huge pages",
        severity: Severity::Ok,
        value: "none",
        remedy: None,
    },
    Case {
        change: |_, _, system| {
            system.memory.swapped_bytes = 1 << 30;
            system.memory.available_bytes = 6 << 30;
        },
        what: "swap",
        severity: Severity::Warning,
        value: "1 GiB in use, 6 GiB of memory available",
        remedy: Some("swapoff -a"),
    },
    Case {
        change: |_, _, system| system.memory.swapped_bytes = 1 << 30,
        what: "swap",
        severity: Severity::Ok,
        value: "1 GiB in use, 60 GiB",
        remedy: None,
    },
    // What bounds connections.
    Case {
        change: |config, _, _| config.limits.connections_max = 999_999,
        what: "connections_max",
        severity: Severity::Fatal,
        value: "999,999: of the whole process",
        remedy: Some("--connections-max 1000000"),
    },
    Case {
        change: |config, _, _| config.limits.shard_connections_max = 400_000,
        what: "shard_connections_max",
        severity: Severity::Fatal,
        value: "800,000: 400,000 for each of 2 shards",
        remedy: Some("--shard-connections-max 500000, or --shards 3"),
    },
    Case {
        change: |_, host, _| {
            host.descriptors_soft = 20_000;
            host.descriptors_hard = 20_000;
        },
        what: "direct descriptors",
        severity: Severity::Fatal,
        value: "39,872: 19,936 for each of 2 shards",
        remedy: Some(
            "LimitNOFILE=1000064 (systemd) or --ulimit nofile=1000064 (docker), or --shards 51",
        ),
    },
    Case {
        change: |config, host, _| {
            config.shards = 51;
            host.descriptors_soft = 20_000;
            host.descriptors_hard = 20_000;
        },
        what: "direct descriptors",
        severity: Severity::Ok,
        value: "1,016,736: 19,936 for each of 51 shards",
        remedy: None,
    },
    Case {
        change: |_, host, _| {
            host.descriptors_soft = 256;
            host.descriptors_hard = 256;
            host.descriptors_most = Some(4096);
        },
        what: "direct descriptors",
        severity: Severity::Fatal,
        value: "384: 192 for each of 2 shards",
        remedy: Some("sysctl -w fs.nr_open=1000064; then ulimit -n 1000064"),
    },
    Case {
        change: |config, _, _| config.table_size = Some(1064),
        what: "direct descriptors",
        severity: Severity::Fatal,
        value: "2,000: 1,000 for each of 2 shards",
        remedy: Some("leave table_size at 0, or --shards 1000"),
    },
    Case {
        change: |config, host, _| {
            config.table_size = Some(1064);
            host.descriptors_soft = 20_000;
            host.descriptors_hard = 20_000;
        },
        what: "direct descriptors",
        severity: Severity::Fatal,
        value: "1,000 for each of 2 shards",
        remedy: Some("leave table_size at 0; ulimit -n 1000064"),
    },
    // More shards as they are would be too many.
    Case {
        change: |_, host, _| {
            host.descriptors_soft = 256;
            host.descriptors_hard = 256;
        },
        what: "direct descriptors",
        severity: Severity::Fatal,
        value: "192 for each of 2 shards",
        remedy: Some("--ulimit nofile=1000064 (docker)"),
    },
    Case {
        change: |_, host, system| {
            host.files_max = Some(1_000_000);
            set(system, "fs.file-max", "1000000");
        },
        what: "open files",
        severity: Severity::Fatal,
        value: "999,808: fs.file-max = 1,000,000",
        remedy: Some("sysctl -w fs.file-max=1065536"),
    },
    Case {
        change: |_, host, _| host.files_max = Some(u64::MAX >> 1),
        what: "open files",
        severity: Severity::Ok,
        value: "no bound",
        remedy: None,
    },
    Case {
        change: |_, host, _| host.memory_bytes = Some(4 << 30),
        what: "memory",
        severity: Severity::Fatal,
        value: "954,437: 4 GiB of this machine, 4,500 bytes",
        remedy: Some("a machine with 4.1 GiB"),
    },
    Case {
        change: |config, host, _| {
            host.memory_bytes = Some(4 << 30);
            config.tls_cert = Some("chain.pem".into());
        },
        what: "memory",
        severity: Severity::Fatal,
        value: "530,242: 4 GiB of this machine, 8,100 bytes",
        remedy: Some("a machine with 7.5 GiB"),
    },
    Case {
        change: |config, _, _| {
            config.limits.memory_mib_max = 245;
            config.tls_cert = Some("chain.pem".into());
        },
        what: "memory_mib_max",
        severity: Severity::Fatal,
        value: "66,623: 245 MiB of the process, 3,856 bytes",
        remedy: Some("--memory-mib-max 3678"),
    },
    Case {
        change: |config, _, _| config.limits.memory_mib_max = 128,
        what: "memory_mib_max",
        severity: Severity::Fatal,
        value: "524,288: 128 MiB of the process",
        remedy: Some("--memory-mib-max 245"),
    },
    Case {
        change: |config, _, _| config.limits.memory_mib_max = 245,
        what: "memory_mib_max",
        severity: Severity::Ok,
        value: "1,003,520",
        remedy: None,
    },
    Case {
        change: |_, _, system| system.cgroup.memory_max = bound(4 << 30, "memory.max"),
        what: "control group",
        severity: Severity::Fatal,
        value: "954,437: 4 GiB by /sys/fs/cgroup/a.service/memory.max",
        remedy: Some("echo 4500000000 > /sys/fs/cgroup/a.service/memory.max"),
    },
    Case {
        change: |_, _, system| system.cgroup.memory_max = bound(5 << 30, "memory.max"),
        what: "control group",
        severity: Severity::Ok,
        value: "1,193,046",
        remedy: None,
    },
    Case {
        change: |_, _, system| set(system, "net.netfilter.nf_conntrack_max", "262144"),
        what: "conntrack",
        severity: Severity::Fatal,
        value: "262,144: net.netfilter.nf_conntrack_max",
        remedy: Some("sysctl -w net.netfilter.nf_conntrack_max=1065536"),
    },
];

fn refusal() -> Refusal {
    Refusal {
        error: "io_uring_setup failed with EPERM".to_owned(),
        remedy: "ask for it".to_owned(),
    }
}

fn card(system: &mut System) -> &mut Interface {
    system.interface.as_mut().unwrap()
}

#[test]
fn findings() {
    for (number, case) in CASES.iter().enumerate() {
        let (mut config, mut host, mut system) = (config(), host(), system());
        (case.change)(&mut config, &mut host, &mut system);
        let diagnosis = Diagnosis::examine(&config, &host, &system, Some(CONNECTIONS));
        let found = finding(&diagnosis, case.what);
        assert_eq!(found.severity, case.severity, "case {number}: {found:?}");
        assert!(found.value.contains(case.value), "case {number}: {found:?}");
        let remedy = found.remedy.as_deref();
        assert_eq!(
            remedy.is_some(),
            case.remedy.is_some(),
            "case {number}: {found:?}"
        );
        let part = case.remedy.unwrap_or_default();
        assert!(
            remedy.unwrap_or_default().contains(part),
            "case {number}: {found:?}"
        );
    }
}

/// What no value is bad for.
const INFORMATION: [&str; 3] = ["shards", "local ports", "isolated cores"];

#[test]
fn every_check_has_a_bad_case() {
    let bad: BTreeSet<&str> = CASES
        .iter()
        .filter(|case| case.severity > Severity::Ok)
        .map(|case| case.what)
        .chain(INFORMATION)
        .collect();
    let diagnosis = Diagnosis::examine(&config(), &host(), &system(), Some(CONNECTIONS));
    for group in &diagnosis.groups {
        for found in &group.findings {
            assert!(
                group.title == "settings" || bad.contains(found.what),
                "nothing is bad about {}",
                found.what
            );
        }
    }
}

/// The smallest deviation from what each row of the table wants, in the direction that it does not permit, and the smallest in the other.
#[test]
fn every_setting_of_the_table() {
    for row in rows() {
        let wanted = row.wanted(CONNECTIONS);
        let (bad, good) = match row.comparison {
            Comparison::AtLeast => (wanted - 1, wanted + 1),
            Comparison::AtMost => (wanted + 1, wanted - 1),
            Comparison::Exactly => (wanted + 1, wanted),
        };
        for (value, severity) in [(bad, Severity::Warning), (good, Severity::Ok)] {
            let mut system = system();
            let text = system.settings[row.name].clone();
            let mut values: Vec<&str> = text.split('\t').collect();
            let value = value.to_string();
            values[row.index.unwrap_or(0)] = &value;
            set(&mut system, row.name, &values.join("\t"));
            let diagnosis = Diagnosis::examine(&config(), &host(), &system, Some(CONNECTIONS));
            let found = finding(&diagnosis, row.label);
            assert_eq!(found.severity, severity, "{found:?}");
            // The command restores what the good machine has.
            let command = match text.contains('\t') {
                true => format!("sysctl -w {}='{}'", row.name, text.replace('\t', " ")),
                false => format!("sysctl -w {}={text}", row.name),
            };
            let expected = (severity > Severity::Ok).then_some(command);
            assert_eq!(found.remedy, expected);
        }
    }
}

#[test]
fn two_rows_of_one_setting_have_one_command() {
    let mut system = system();
    set(&mut system, "net.ipv4.tcp_mem", "287901\t383868\t575802");
    let diagnosis = Diagnosis::examine(&config(), &host(), &system, Some(CONNECTIONS));
    for what in ["net.ipv4.tcp_mem[1]", "net.ipv4.tcp_mem[2]"] {
        let command = "sysctl -w net.ipv4.tcp_mem='287901 1131072 2196608'";
        assert_eq!(
            finding(&diagnosis, what).remedy.as_deref(),
            Some(command),
            "{what}"
        );
    }
}

#[test]
fn a_setting_that_the_kernel_lacks_is_left_alone() {
    let mut system = system();
    system.settings.clear();
    let diagnosis = Diagnosis::examine(&config(), &host(), &system, Some(CONNECTIONS));
    for row in rows() {
        let found = finding(&diagnosis, row.label);
        assert_eq!(found.severity, Severity::Ok, "{found:?}");
    }
}

#[test]
fn one_refusal_has_one_line() {
    let (mut host, mut system) = (host(), system());
    host.io_uring_disabled = Some(2);
    system.ring = Err(refusal());
    let diagnosis = Diagnosis::examine(&config(), &host, &system, Some(1));
    let found = finding(&diagnosis, "io_uring");
    assert!(found.value.contains("kernel.io_uring_disabled = 2"));
}

#[test]
fn shards_that_are_as_large_as_they_can_be_become_more() {
    let (mut config, mut host) = (config(), host());
    config.limits.shard_connections_max = 1000;
    host.descriptors_soft = 256;
    host.descriptors_hard = 256;
    let diagnosis = Diagnosis::examine(&config, &host, &system(), Some(16_000_000));
    for (what, remedy) in [
        (
            "shard_connections_max",
            "--shard-connections-max 1048000 and --shards 16",
        ),
        (
            "direct descriptors",
            "ulimit -n 1048576 (as root), LimitNOFILE=1048576 (systemd) or --ulimit nofile=1048576 (docker) and --shards 16",
        ),
    ] {
        assert_eq!(
            finding(&diagnosis, what).remedy.as_deref(),
            Some(remedy),
            "{what}"
        );
    }
    config.limits.shard_connections_max = 1_000_000;
    let diagnosis = Diagnosis::examine(&config, &host, &system(), Some(16_000_000));
    let remedy = &finding(&diagnosis, "shard_connections_max").remedy;
    assert_eq!(remedy.as_deref(), Some("--shards 16"), "no larger ones");
}

#[test]
fn the_lowest_bound_is_the_one_that_is_named() {
    // A change, what bounds first, and how many that leaves.
    type Change = fn(&mut Config, &mut Host, &mut System);
    let cases: &[(Change, &str, u64)] = &[
        (|_, _, _| {}, "conntrack", 1_065_536),
        (
            |_, _, system| system.settings.clear(),
            "shard_connections_max",
            2_000_000,
        ),
        (
            |config, _, system| {
                system.settings.clear();
                config.shards = 64;
            },
            "connections_max",
            4_000_000,
        ),
        (
            |config, host, system| {
                system.settings.clear();
                config.shards = 64;
                host.descriptors_soft = 20_000;
                host.descriptors_hard = 20_000;
            },
            "direct descriptors",
            1_275_904,
        ),
        (
            |_, host, _| host.memory_bytes = Some(1 << 30),
            "memory",
            238_609,
        ),
        (
            |_, _, system| system.cgroup.memory_max = bound(450_000, "memory.max"),
            "control group",
            100,
        ),
        (|_, host, _| host.files_max = Some(1192), "open files", 1000),
    ];
    for (change, what, connections) in cases {
        let (mut config, mut host, mut system) = (config(), host(), system());
        change(&mut config, &mut host, &mut system);
        let diagnosis = Diagnosis::examine(&config, &host, &system, Some(CONNECTIONS));
        let lowest = diagnosis.capacity.lowest().unwrap();
        assert_eq!((lowest.what, lowest.connections), (*what, *connections));
        let text = diagnosis.print(Format::Text);
        let summary = text.lines().last().unwrap();
        let start = format!("holds {} connections", commas(*connections));
        assert!(summary.starts_with(&start), "{summary}");
        let cap = format!(", capped first by {what}, {} (", lowest.why);
        assert!(summary.contains(&cap), "{summary}");
    }
}

#[test]
fn without_a_number_it_is_that_of_the_configuration_or_what_can_be_held() {
    let of = |config: &Config| Diagnosis::examine(config, &host(), &system(), None).connections;
    let mut config = config();
    assert_eq!(of(&config), 1_065_536);
    config.limits.connections_max = 5_000_000;
    config.limits.shard_connections_max = 1_000_000;
    assert_eq!(of(&config), 2_000_000);
    config.limits.connections_max = 30_000;
    assert_eq!(of(&config), 30_000);
}

#[test]
fn a_machine_that_cannot_start_says_so_before_it_counts() {
    let mut host = host();
    host.kernel_release = "5.15.0".to_owned();
    let diagnosis = Diagnosis::examine(&config(), &host, &system(), Some(CONNECTIONS));
    assert_eq!(diagnosis.severity(), Severity::Fatal);
    let text = diagnosis.print(Format::Text);
    let summary = text.lines().last().unwrap();
    assert!(
        summary.starts_with("cannot start; would hold 1,065,536 connections"),
        "{summary}"
    );
    assert!(summary.ends_with("(fail: 1, warn: 0)"), "{summary}");
}

#[test]
fn a_line_holds_the_whole_finding() {
    let mut system = system();
    set(&mut system, "net.core.somaxconn", "4096");
    let diagnosis = Diagnosis::examine(&config(), &host(), &system, Some(CONNECTIONS));
    let text = diagnosis.print(Format::Text);
    let line = text
        .lines()
        .find(|line| line.contains("net.core.somaxconn"))
        .unwrap();
    assert!(
        line.starts_with("  warn  net.core.somaxconn  ")
            && line.ends_with(
                "4,096, should be at least 65,535  -> sysctl -w net.core.somaxconn=65535"
            ),
        "{line}"
    );
}

#[test]
fn json_has_every_finding() {
    let mut system = system();
    system.huge_pages = Some("always".to_owned());
    let diagnosis = Diagnosis::examine(&config(), &host(), &system, Some(2_000_000));
    let json: serde_json::Value = serde_json::from_str(&diagnosis.print(Format::Json)).unwrap();
    assert_eq!(json["connections"], 2_000_000);
    assert_eq!(json["capacity"], 1_065_536);
    assert_eq!(json["capped_by"], "conntrack");
    assert_eq!(json["sufficient"], false);
    let findings = json["findings"].as_array().unwrap();
    assert_eq!(findings.len(), diagnosis.findings().count());
    let of = |what: &str| findings.iter().find(|found| found["what"] == what).unwrap();
    assert_eq!(of("huge pages")["severity"], "warn");
    assert_eq!(of("huge pages")["group"], "memory");
    assert_eq!(of("conntrack")["severity"], "fail");
    assert_eq!(of("clock")["severity"], "ok");
    assert!(of("clock")["remedy"].is_null());
}
