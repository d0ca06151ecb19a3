//! The checks that are no row of the table and no bound on connections: one function and one finding each.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::capacity::is_tracked;
use super::{Exam, settings};
use crate::config::Steering;
use crate::preflight::{
    Finding, Preflight, Severity, bytes, commas, connection_bytes, shard_locked_bytes,
};
use crate::topology::{Interface, format_cpu_list};

/// The settings of the kernel that the checks read, beside those of the table.
pub(super) const SETTINGS: &[&str] = &[
    "net.ipv4.tcp_ehash_entries",
    "net.ipv4.ip_local_port_range",
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_count",
];

/// What a preflight says of these, the bounds on connections say for the number asked for.
const BOUNDS: [&str; 3] = ["connections", "memory", "open files"];

/// Threads of a shard from the start on: its own, and one of its executor for calls that block.
const SHARD_THREADS: u64 = 2;

/// Threads that the kernel adds to a shard at most, for sends that block (`BLOCKED_WORKERS_MAX` of `shard/src/ring/setup.rs`).
const SHARD_WORKERS_MAX: u64 = 4;

/// Threads of the rest of the process.
const PROCESS_THREADS: u64 = 4;

/// Connections for each bucket of a hash table above which finding one takes time: at 8 the search had 8 % of the samples of a server's CPU time.
const BUCKET_CONNECTIONS_MAX: u64 = 2;

/// Microseconds of waking from an idle state above which a message waits for the core rather than for the engine.
const IDLE_LATENCY_US_MAX: u64 = 50;

/// Clocks that are no memory of the process: reading them takes a system call and a slow device.
const SLOW_CLOCKS: [&str; 5] = ["hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"];

type Check = fn(&Exam<'_>) -> Finding;

fn all(checks: &[Check], exam: &Exam<'_>) -> Vec<Finding> {
    checks.iter().map(|check| check(exam)).collect()
}

/// The preflight's findings, and whether there is a ring at all.
pub(super) fn engine(exam: &Exam<'_>) -> Vec<Finding> {
    let capabilities = exam.system.ring.as_deref().unwrap_or_default();
    let preflight = Preflight::examine(exam.config, exam.host, capabilities);
    let mut findings: Vec<Finding> = preflight
        .findings
        .into_iter()
        // One that is fatal is about the configuration itself.
        .filter(|found| !BOUNDS.contains(&found.what) || found.severity == Severity::Fatal)
        .collect();
    if let Err(refusal) = &exam.system.ring {
        let is_explained = findings
            .iter()
            .any(|found| found.what == "io_uring" && found.severity == Severity::Fatal);
        if !is_explained {
            findings.retain(|found| found.what != "io_uring" || found.severity != Severity::Ok);
            findings.push(Finding::fatal(
                "io_uring",
                refusal.error.clone(),
                refusal.remedy.clone(),
            ));
        }
    }
    findings.push(seccomp(exam));
    findings
}

fn seccomp(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "seccomp";
    match (exam.system.seccomp, exam.system.ring.is_err()) {
        (Some(1 | 2), true) => Finding::fatal(
            WHAT,
            "system calls are filtered, and io_uring is refused".to_owned(),
            "--security-opt seccomp=unconfined, or a profile that permits io_uring_setup, io_uring_enter and io_uring_register (docker); \
             SystemCallFilter=io_uring_setup io_uring_enter io_uring_register (systemd)"
                .to_owned(),
        ),
        (Some(1 | 2), false) => Finding::ok(
            WHAT,
            "system calls are filtered, io_uring is permitted".to_owned(),
        ),
        (Some(_), _) => Finding::ok(WHAT, "system calls are not filtered".to_owned()),
        (None, _) => Finding::ok(WHAT, "unknown".to_owned()),
    }
}

/// The limits of the process and of its control groups.
pub(super) fn process(exam: &Exam<'_>) -> Vec<Finding> {
    let checks: &[Check] = &[
        soft_descriptors,
        soft_locked_memory,
        memory_high,
        threads,
        quota,
    ];
    all(checks, exam)
}

fn soft_descriptors(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "soft nofile";
    let (soft, hard) = (exam.host.descriptors_soft, exam.host.descriptors_hard);
    if soft < hard {
        return Finding::fatal(
            WHAT,
            format!(
                "{} descriptors of {}, and the engine may not raise it",
                commas(soft),
                commas(hard)
            ),
            format!("ulimit -Sn {hard}"),
        );
    }
    let value = match exam.system.inherited.descriptors_soft {
        Some(inherited) if inherited < hard => format!(
            "{} descriptors, which the engine raises to the hard limit of {}",
            commas(inherited),
            commas(hard)
        ),
        _ => format!("{} descriptors, the hard limit", commas(hard)),
    };
    Finding::ok(WHAT, value)
}

/// The engine does not raise this one itself: it is enough on most machines.
fn soft_locked_memory(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "soft memlock";
    let soft = exam.host.lockable_bytes;
    let Some(hard) = exam.system.inherited.lockable_bytes_hard else {
        return Finding::ok(WHAT, "unknown".to_owned());
    };
    let a_shard = shard_locked_bytes(&exam.config.limits);
    let needed = a_shard.saturating_mul(exam.config.shards as u64);
    if soft < needed && soft < hard {
        let limit = match hard {
            u64::MAX => "unlimited".to_owned(),
            hard => (hard / 1024).to_string(),
        };
        return Finding::warning(
            WHAT,
            format!(
                "soft limit of {} below the hard one of {}",
                bytes(soft),
                bytes(hard)
            ),
            format!("ulimit -Sl {limit}"),
        );
    }
    let room = match soft {
        u64::MAX => String::new(),
        soft => format!(", room for the rings of {} shards", soft / a_shard.max(1)),
    };
    Finding::ok(
        WHAT,
        format!(
            "soft limit {}, hard limit {}{room}",
            bytes(soft),
            bytes(hard)
        ),
    )
}

fn memory_high(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "memory.high";
    let needed = exam
        .connections
        .saturating_mul(connection_bytes(exam.config));
    match &exam.system.cgroup.memory_high {
        None => Finding::ok(WHAT, "no bound of a control group".to_owned()),
        Some(bound) if bound.value < needed => Finding::warning(
            WHAT,
            format!(
                "{}; {} connections take {}, and beyond it every allocation waits",
                bytes(bound.value),
                commas(exam.connections),
                bytes(needed)
            ),
            format!(
                "echo {needed} > {} (as root), MemoryHigh={needed} (systemd)",
                bound.file.display()
            ),
        ),
        Some(bound) => Finding::ok(WHAT, bytes(bound.value)),
    }
}

fn threads(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "pids.max";
    let shards = exam.config.shards as u64;
    let least = shards * SHARD_THREADS + PROCESS_THREADS;
    let most = least + shards * SHARD_WORKERS_MAX;
    let Some(bound) = &exam.system.cgroup.threads_max else {
        return Finding::ok(WHAT, "no bound of a control group".to_owned());
    };
    let value = format!(
        "{} threads; {shards} shards start {}, and up to {} where peers hinder them",
        commas(bound.value),
        commas(least),
        commas(most)
    );
    let remedy = || {
        format!(
            "echo {most} > {} (as root), TasksMax={most} (systemd) or --pids-limit {most} (docker)",
            bound.file.display()
        )
    };
    if bound.value < least {
        Finding::fatal(WHAT, value, remedy())
    } else if bound.value < most {
        Finding::warning(WHAT, value, remedy())
    } else {
        Finding::ok(WHAT, format!("{} threads", commas(bound.value)))
    }
}

fn quota(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "cpu.max";
    let Some(quota) = &exam.system.cgroup.quota else {
        return Finding::ok(WHAT, "no bound of a control group".to_owned());
    };
    let cores = exam.config.cores.len().min(exam.config.shards) as u64;
    let hundredths = quota.quota_us.saturating_mul(100) / quota.period_us.max(1);
    let value = format!(
        "the time of {}.{:02} cores",
        hundredths / 100,
        hundredths % 100
    );
    if hundredths >= cores * 100 {
        return Finding::ok(WHAT, value);
    }
    // Version 2 says `max`, version 1 says -1.
    let unbounded = match quota.file.ends_with("cpu.max") {
        true => "max",
        false => "-1",
    };
    Finding::warning(
        WHAT,
        format!("{value}; the shards have {cores}, and all of them stand still when it is used up"),
        format!(
            "echo {unbounded} > {} (as root), CPUQuota= (systemd) or --cpus {cores} (docker)",
            quota.file.display()
        ),
    )
}

/// The way that connections come, beside what the table of settings says.
pub(super) fn network(exam: &Exam<'_>) -> Vec<Finding> {
    let checks: &[Check] = &[
        listen,
        admin,
        established_hash,
        tracking_hash,
        interrupts,
        balancer,
        orphans,
        time_wait,
        buffers,
        local_ports,
    ];
    all(checks, exam)
}

/// Whether a listener has what another wants: the port, and an address that is the same or stands for all.
fn collide(one: &SocketAddr, other: &SocketAddr) -> bool {
    let (first, second) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port()
        && (first == second || first.is_unspecified() || second.is_unspecified())
}

fn listen(exam: &Exam<'_>) -> Finding {
    address("listen", exam.config.listen, exam)
}

fn admin(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "admin";
    match exam.config.admin.listen {
        Some(listen) => address(WHAT, listen, exam),
        None => Finding::ok(WHAT, "no admin API is wanted".to_owned()),
    }
}

/// Whether an address is free that the setting of this name says.
fn address(setting: &'static str, address: SocketAddr, exam: &Exam<'_>) -> Finding {
    if address.port() == 0 {
        return Finding::ok(setting, "the kernel chooses the port".to_owned());
    }
    let taken = exam
        .system
        .listeners
        .iter()
        .any(|listener| collide(listener, &address));
    if !taken {
        return Finding::ok(setting, format!("{address} is free"));
    }
    Finding::warning(
        setting,
        format!("{address} is taken, by this engine or by another program"),
        format!(
            "end what has it (ss -ltnp 'sport = :{}' names it), or --{setting} ADDR:PORT",
            address.port()
        ),
    )
}

fn established_hash(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "TCP hash";
    // A network namespace that shares the first one's table has the number negative.
    let entries = exam
        .system
        .settings
        .get("net.ipv4.tcp_ehash_entries")
        .and_then(|text| text.trim_start_matches('-').parse::<u64>().ok());
    let Some(entries) = entries else {
        return Finding::ok(WHAT, "unknown".to_owned());
    };
    let value = format!("{} buckets", commas(entries));
    if exam.connections <= entries.saturating_mul(BUCKET_CONNECTIONS_MAX) {
        return Finding::ok(WHAT, value);
    }
    let wanted = power_of_two(exam.connections);
    Finding::warning(
        WHAT,
        format!(
            "{value} for {} connections: each packet searches a list",
            commas(exam.connections)
        ),
        format!(
            "boot with thash_entries={wanted} (GRUB_CMDLINE_LINUX of /etc/default/grub, then update-grub and reboot)"
        ),
    )
}

/// Tables of the kernel have a size that is a power of two.
fn power_of_two(least: u64) -> u64 {
    least.checked_next_power_of_two().unwrap_or(least)
}

fn tracking_hash(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "conntrack hash";
    const BUCKETS: &str = "net.netfilter.nf_conntrack_buckets";
    let most = exam.system.number("net.netfilter.nf_conntrack_max");
    let (Some(buckets), Some(most)) = (exam.system.number(BUCKETS), most) else {
        return Finding::ok(WHAT, "conntrack is not loaded".to_owned());
    };
    let value = format!("{} buckets", commas(buckets));
    if !is_tracked(exam.system) {
        return Finding::ok(WHAT, format!("{value}, and no connection is followed here"));
    }
    // What is followed once conntrack has the room that the table of settings wants.
    let followed = settings::rows()
        .filter(|row| row.name == "net.netfilter.nf_conntrack_max")
        .map(|row| row.wanted(exam.connections))
        .fold(most, u64::max);
    if followed <= buckets.saturating_mul(BUCKET_CONNECTIONS_MAX) {
        return Finding::ok(WHAT, value);
    }
    Finding::warning(
        WHAT,
        format!(
            "{value} for up to {} connections: each packet searches a list",
            commas(followed)
        ),
        format!("sysctl -w {BUCKETS}={}", power_of_two(followed)),
    )
}

/// The interface that interrupts come from, where it matters on which core.
fn steered<'a>(exam: &Exam<'a>) -> Option<&'a Interface> {
    match exam.config.steering {
        Steering::Off => None,
        Steering::Auto | Steering::On => exam.system.interface.as_ref(),
    }
}

fn interrupts(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "interrupts";
    let cores = &exam.config.cores;
    let interface = match steered(exam) {
        Some(interface) => interface,
        None if exam.config.steering == Steering::Off => {
            return Finding::ok(WHAT, "connections are not steered".to_owned());
        }
        None => {
            return Finding::ok(WHAT, format!("no card has {}", exam.config.listen.ip()));
        }
    };
    let Interface {
        name, interrupts, ..
    } = interface;
    if interrupts.is_empty() {
        return Finding::ok(WHAT, format!("{name} shows none of its own"));
    }
    let of_shards = format_cpu_list(cores);
    if interface.is_spread_over(cores) {
        return Finding::ok(
            WHAT,
            format!("{name}: each goes to one core of {of_shards}"),
        );
    }
    let numbers: Vec<String> = interrupts
        .iter()
        .map(|interrupt| interrupt.number.to_string())
        .collect();
    let queues = match interrupts.len() < cores.len() {
        true => format!(
            "ethtool -L {name} combined {}, then with its new numbers ",
            cores.len()
        ),
        false => String::new(),
    };
    let turn = cores.iter().map(usize::to_string).collect::<Vec<_>>();
    Finding::warning(
        WHAT,
        format!(
            "{name}: {} are not bound to one core of {of_shards} each, so connections come to any shard",
            interrupts.len()
        ),
        // The cores take turns.
        format!(
            "{queues}(set -- {}; for n in {}; do echo $1 > /proc/irq/$n/smp_affinity_list; set -- \"$@\" $1; shift; done)",
            turn.join(" "),
            numbers.join(" ")
        ),
    )
}

fn balancer(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "irqbalance";
    match (exam.system.irqbalance, steered(exam)) {
        (None, _) => Finding::ok(WHAT, "does not run".to_owned()),
        (Some(_), None) => Finding::ok(WHAT, "runs, which does not matter here".to_owned()),
        (Some(pid), Some(_)) => Finding::warning(
            WHAT,
            format!("runs as process {pid} and moves interrupts from the shards' cores"),
            "systemctl disable --now irqbalance".to_owned(),
        ),
    }
}

/// Whether a count is within a quarter of its limit.
fn is_near(count: u64, limit: u64) -> bool {
    count >= limit - limit / 4
}

/// A count of the kernel against a setting that bounds it.
fn count_below(
    exam: &Exam<'_>,
    what: &'static str,
    count: u64,
    name: &'static str,
    beyond: &str,
) -> Finding {
    match exam.system.number(name) {
        Some(limit) if is_near(count, limit) => Finding::warning(
            what,
            format!("{} of {}: {beyond}", commas(count), commas(limit)),
            format!("sysctl -w {name}={}", limit.saturating_mul(2)),
        ),
        Some(limit) => Finding::ok(what, format!("{} of {}", commas(count), commas(limit))),
        None => Finding::ok(what, commas(count)),
    }
}

fn orphans(exam: &Exam<'_>) -> Finding {
    count_below(
        exam,
        "orphans",
        exam.system.sockets.orphans,
        "net.ipv4.tcp_max_orphans",
        "above it closed connections are reset before the peer has all",
    )
}

fn time_wait(exam: &Exam<'_>) -> Finding {
    count_below(
        exam,
        "TIME-WAIT",
        exam.system.sockets.time_wait,
        "net.ipv4.tcp_max_tw_buckets",
        "above it connections end without TIME-WAIT",
    )
}

fn buffers(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "TCP buffers";
    const NAME: &str = "net.ipv4.tcp_mem";
    let pages = exam.system.sockets.buffer_pages;
    let limits: Vec<u64> = exam
        .system
        .settings
        .get(NAME)
        .map(|text| text.split_whitespace().flat_map(str::parse).collect())
        .unwrap_or_default();
    match limits[..] {
        [low, pressure, most] if is_near(pages, pressure) => Finding::warning(
            WHAT,
            format!(
                "{} pages of {}: above it the kernel saves, and drops beyond {}",
                commas(pages),
                commas(pressure),
                commas(most)
            ),
            format!(
                "sysctl -w {NAME}='{low} {} {}'",
                pressure.saturating_mul(2),
                most.saturating_mul(2)
            ),
        ),
        [_, pressure, _] => Finding::ok(
            WHAT,
            format!("{} pages of {}", commas(pages), commas(pressure)),
        ),
        _ => Finding::ok(WHAT, format!("{} pages", commas(pages))),
    }
}

/// A server does not need them; whoever tries it out from one address does.
fn local_ports(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "local ports";
    let range: Vec<u64> = exam
        .system
        .settings
        .get("net.ipv4.ip_local_port_range")
        .map(|text| text.split_whitespace().flat_map(str::parse).collect())
        .unwrap_or_default();
    match range[..] {
        [first, last] if first <= last => Finding::ok(
            WHAT,
            format!(
                "{first} to {last}: a load generator opens {} connections from each of its addresses",
                commas(last - first + 1)
            ),
        ),
        _ => Finding::ok(WHAT, "unknown".to_owned()),
    }
}

/// The cores of the shards, and the clock that all read.
pub(super) fn cores(exam: &Exam<'_>) -> Vec<Finding> {
    all(
        &[clock, governor, idle_states, grace_periods, isolation],
        exam,
    )
}

fn clock(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "clock";
    let clock = &exam.system.clock;
    let is_slow = |name: &str| SLOW_CLOCKS.contains(&name);
    match &clock.current {
        None => Finding::ok(WHAT, "unknown".to_owned()),
        Some(name) if is_slow(name) => {
            let faster = clock.available.iter().find(|name| !is_slow(name));
            let remedy = faster.map_or_else(
                || "boot with tsc=reliable, where the processor's time-stamp counters agree (dmesg | grep -i tsc)".to_owned(),
                |faster| format!("echo {faster} > /sys/devices/system/clocksource/clocksource0/current_clocksource"),
            );
            Finding::warning(
                WHAT,
                format!("{name}: each reading is a slow system call"),
                remedy,
            )
        }
        Some(name) => Finding::ok(WHAT, name.clone()),
    }
}

fn governor(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "governor";
    const WANTED: &str = "performance";
    let governors: BTreeSet<&str> = exam
        .system
        .cores
        .iter()
        .filter_map(|core| core.governor.as_deref())
        .collect();
    let names = governors.iter().copied().collect::<Vec<_>>().join(", ");
    if governors.is_empty() {
        return Finding::ok(WHAT, "the cores show none".to_owned());
    }
    if governors.iter().all(|name| *name == WANTED) {
        return Finding::ok(WHAT, names);
    }
    Finding::warning(
        WHAT,
        format!("{names}: a core that was idle begins slowly"),
        format!("echo {WANTED} | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"),
    )
}

fn idle_states(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "idle states";
    let states = || exam.system.cores.iter().flat_map(|core| &core.idle_states);
    let Some(deepest) = states().max_by_key(|state| state.latency_us) else {
        return Finding::ok(WHAT, "the cores show none".to_owned());
    };
    let value = format!(
        "{}, {} µs to wake from it",
        deepest.name, deepest.latency_us
    );
    if deepest.latency_us <= IDLE_LATENCY_US_MAX {
        return Finding::ok(WHAT, value);
    }
    let deep: BTreeSet<String> = states()
        .filter(|state| state.latency_us > IDLE_LATENCY_US_MAX)
        .map(|state| state.index.to_string())
        .collect();
    // The kernel has ten states at most, so an index is one digit.
    let deep: String = deep.into_iter().collect();
    Finding::warning(
        WHAT,
        format!("{value}, for which a message waits"),
        format!("echo 1 | tee /sys/devices/system/cpu/cpu*/cpuidle/state[{deep}]/disable"),
    )
}

/// Shards on every core can leave the kernel's own threads no time; then closed sockets are freed late, and all at once.
fn grace_periods(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "RCU thread";
    let Some(found) = exam.system.grace_periods else {
        return Finding::ok(WHAT, "not to be seen from here".to_owned());
    };
    let is_left = |core: &usize| !exam.config.cores.contains(core);
    if found.priority > 0 {
        return Finding::ok(WHAT, format!("real-time priority {}", found.priority));
    }
    if exam.system.online.iter().any(is_left) {
        let value = "no real-time priority, and cores without shards to run on";
        return Finding::ok(WHAT, value.to_owned());
    }
    Finding::warning(
        WHAT,
        "no real-time priority, and shards on every core: while many connections close, rooms wait for what those leave to be freed at once".to_owned(),
        format!(
            "chrt --fifo --pid 1 {}, or boot with rcutree.kthread_prio=1",
            found.thread
        ),
    )
}

/// For information: both are of use where a shard has its core to itself.
fn isolation(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "isolated cores";
    let list = |cores: &[usize]| match cores.is_empty() {
        true => "none".to_owned(),
        false => format_cpu_list(cores),
    };
    Finding::ok(
        WHAT,
        format!(
            "{}, without a tick {}; the shards have {}",
            list(&exam.system.isolated),
            list(&exam.system.tickless),
            format_cpu_list(&exam.config.cores)
        ),
    )
}

/// How memory is handed out.
pub(super) fn memory(exam: &Exam<'_>) -> Vec<Finding> {
    all(&[huge_pages, swap], exam)
}

fn huge_pages(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "huge pages";
    match exam.system.huge_pages.as_deref() {
        Some("always") => Finding::warning(
            WHAT,
            "always: tables that are half empty become resident as a whole".to_owned(),
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled".to_owned(),
        ),
        Some(mode) => Finding::ok(WHAT, mode.to_owned()),
        None => Finding::ok(WHAT, "this kernel has none".to_owned()),
    }
}

fn swap(exam: &Exam<'_>) -> Finding {
    const WHAT: &str = "swap";
    let memory = &exam.system.memory;
    let value = format!(
        "{} in use, {} of memory available",
        bytes(memory.swapped_bytes),
        bytes(memory.available_bytes)
    );
    if memory.swapped_bytes > 0 && memory.available_bytes < memory.total_bytes / 10 {
        return Finding::warning(
            WHAT,
            format!("{value}: a shard that waits for a page keeps all of its connections waiting"),
            "end what else takes memory (ps -eo rss,pid,comm --sort=-rss | head names it), then swapoff -a && swapon -a"
                .to_owned(),
        );
    }
    Finding::ok(WHAT, value)
}
