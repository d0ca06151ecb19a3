//! What the doctor knows of the machine and of its own process beyond the preflight's [`Host`](crate::preflight::Host). This is the only part
//! of it that reads anything.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shardcast_shard::error::FatalError;
use shardcast_shard::ring::{Capabilities, Capability};

use super::{checks, settings};
use crate::config::Config;
use crate::topology::{Interface, Topology, parse_cpu_list};

mod cgroup;

pub use cgroup::{Bound, Cgroup, Quota};

/// Where the kernel shows the cores.
const CORES: &str = "/sys/devices/system/cpu";

/// Where the kernel shows the clock behind `CLOCK_MONOTONIC`.
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";

/// The state of a socket that listens, as `/proc/net/tcp` writes it.
const LISTENS: &str = "0A";

/// The machine and this process. What the kernel does not tell is absent or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// Settings of the kernel (sysctl) by name, as the kernel prints them. Those under `net` are of this process's network namespace.
    pub settings: BTreeMap<&'static str, String>,
    /// What io_uring offers, or why it cannot be used.
    pub ring: Result<Vec<Capability>, Refusal>,
    /// How this process's system calls are filtered (proc_pid_status(5)): 0 not at all, 1 strictly, 2 by a program.
    pub seccomp: Option<u64>,
    /// The limits that this process was started with.
    pub inherited: Inherited,
    /// The limits of its control groups.
    pub cgroup: Cgroup,
    /// The interface by which connections to `listen` come.
    pub interface: Option<Interface>,
    /// The number of a process `irqbalance`.
    pub irqbalance: Option<u32>,
    /// The kernel's thread that ends grace periods of RCU; none where a namespace hides it.
    pub grace_periods: Option<GracePeriods>,
    /// The cores that this machine has.
    pub online: Vec<usize>,
    /// The cores of the shards.
    pub cores: Vec<Core>,
    /// Cores without the scheduler's balancing (`isolcpus`).
    pub isolated: Vec<usize>,
    /// Cores without a tick while one thread runs alone on them (`nohz_full`).
    pub tickless: Vec<usize>,
    /// The clock behind `CLOCK_MONOTONIC`.
    pub clock: Clock,
    /// Whether anonymous memory may be of huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// Memory that is free, and swap.
    pub memory: Memory,
    /// What listens for TCP connections in this network namespace.
    pub listeners: Vec<SocketAddr>,
    /// Sockets that nobody owns any more.
    pub sockets: Sockets,
}

/// Why there is no ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the kernel said.
    pub error: String,
    /// What to do about it.
    pub remedy: String,
}

impl From<FatalError> for Refusal {
    fn from(error: FatalError) -> Self {
        match error {
            FatalError::RingSetup {
                step,
                source,
                remedy,
            } => Self {
                error: format!("{step} failed with {source}"),
                remedy,
            },
            other => Self {
                error: other.to_string(),
                remedy: "install Linux 6.1 or newer".to_owned(),
            },
        }
    }
}

/// Limits of a process (getrlimit(2)) before it has changed any. `u64::MAX`: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// The soft `RLIMIT_NOFILE`.
    pub descriptors_soft: Option<u64>,
    /// The hard `RLIMIT_MEMLOCK`, in bytes.
    pub lockable_bytes_hard: Option<u64>,
}

/// A thread of the kernel's, after each of whose turns it frees what closed sockets have left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GracePeriods {
    /// Its number.
    pub thread: u32,
    /// Its real-time priority (sched(7)); 0 for none.
    pub priority: u64,
}

/// How a core saves power.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Core {
    /// Its number.
    pub id: usize,
    /// What chooses its frequency.
    pub governor: Option<String>,
    /// The states in which it may idle, the lightest first.
    pub idle_states: Vec<IdleState>,
}

/// A state in which a core may idle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdleState {
    /// Its place among the states of its core.
    pub index: usize,
    /// What the processor's maker calls it, such as `C6`.
    pub name: String,
    /// Microseconds that waking from it takes.
    pub latency_us: u64,
}

/// A source of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The one in use.
    pub current: Option<String>,
    /// Those that could be used.
    pub available: Vec<String>,
}

/// Bytes of memory, from `/proc/meminfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total_bytes: u64,
    /// What could be had without swapping.
    pub available_bytes: u64,
    /// Swap in use.
    pub swapped_bytes: u64,
}

/// What `/proc/net/sockstat` says of TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// Closed connections that the peer has not acknowledged.
    pub orphans: u64,
    /// Connections in TIME-WAIT.
    pub time_wait: u64,
    /// Pages of all TCP buffers.
    pub buffer_pages: u64,
}

impl System {
    /// Reads all of it.
    #[must_use]
    pub fn read(config: &Config) -> Self {
        let names = settings::rows()
            .map(|row| row.name)
            .chain(checks::SETTINGS.iter().copied());
        Self {
            settings: names
                .filter_map(|name| {
                    let path = format!("/proc/sys/{}", name.replace('.', "/"));
                    Some((name, trimmed(&path)?))
                })
                .collect(),
            ring: Capabilities::probe()
                .map(|capabilities| capabilities.table().into())
                .map_err(Refusal::from),
            seccomp: trimmed("/proc/self/status").and_then(|status| field(&status, "Seccomp:")),
            inherited: trimmed("/proc/self/limits")
                .map(|limits| inherited(&limits))
                .unwrap_or_default(),
            cgroup: Cgroup::read(),
            interface: Topology::detect().interface(config.listen.ip()).cloned(),
            irqbalance: find_process("irqbalance"),
            grace_periods: find_process("rcu_preempt")
                .or_else(|| find_process("rcu_sched"))
                .and_then(grace_periods),
            online: cores(&format!("{CORES}/online")),
            cores: config.cores.iter().copied().map(core).collect(),
            isolated: cores(&format!("{CORES}/isolated")),
            tickless: cores(&format!("{CORES}/nohz_full")),
            clock: Clock {
                current: trimmed(&format!("{CLOCK}/current_clocksource")),
                available: trimmed(&format!("{CLOCK}/available_clocksource"))
                    .map(|names| names.split_whitespace().map(str::to_owned).collect())
                    .unwrap_or_default(),
            },
            huge_pages: trimmed("/sys/kernel/mm/transparent_hugepage/enabled")
                .and_then(|choice| chosen(&choice)),
            memory: trimmed("/proc/meminfo")
                .map(|meminfo| memory(&meminfo))
                .unwrap_or_default(),
            listeners: ["/proc/net/tcp", "/proc/net/tcp6"]
                .into_iter()
                .flat_map(listeners)
                .collect(),
            sockets: trimmed("/proc/net/sockstat")
                .map(|sockstat| sockets(&sockstat))
                .unwrap_or_default(),
        }
    }

    /// The value of a setting that is one number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.settings.get(name)?.parse().ok()
    }
}

/// The text of a file without the white space around it; none where it cannot be read or is empty.
fn trimmed(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The number after a line's first word.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The list of cores in a file; none where it holds none.
fn cores(path: &str) -> Vec<usize> {
    trimmed(path)
        .and_then(|list| parse_cpu_list(&list).ok())
        .unwrap_or_default()
}

/// Two limits of `/proc/self/limits`, where each line has a name of several words, the soft and the hard limit.
fn inherited(limits: &str) -> Inherited {
    let limit = |name: &str, column: usize| {
        let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
        match rest.split_whitespace().nth(column)? {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        }
    };
    Inherited {
        descriptors_soft: limit("Max open files", 0),
        lockable_bytes_hard: limit("Max locked memory", 1),
    }
}

/// The process that calls itself by this name.
fn find_process(name: &str) -> Option<u32> {
    fs::read_dir("/proc").ok()?.find_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        (trimmed(&format!("/proc/{pid}/comm"))? == name).then_some(pid)
    })
}

fn grace_periods(thread: u32) -> Option<GracePeriods> {
    let priority = real_time_priority(&trimmed(&format!("/proc/{thread}/stat"))?)?;
    Some(GracePeriods { thread, priority })
}

/// The 40th field of `/proc/PID/stat` (proc_pid_stat(5)). The second is a name in parentheses, which may hold spaces.
fn real_time_priority(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(40 - 3)?.parse().ok()
}

fn core(id: usize) -> Core {
    let state = |index: usize| {
        let directory = format!("{CORES}/cpu{id}/cpuidle/state{index}");
        Some((
            trimmed(&format!("{directory}/disable"))? == "0",
            IdleState {
                index,
                name: trimmed(&format!("{directory}/name"))?,
                latency_us: trimmed(&format!("{directory}/latency"))?.parse().ok()?,
            },
        ))
    };
    Core {
        id,
        governor: trimmed(&format!("{CORES}/cpu{id}/cpufreq/scaling_governor")),
        idle_states: (0..)
            .map_while(state)
            .filter_map(|(is_enabled, state)| is_enabled.then_some(state))
            .collect(),
    }
}

/// The word in brackets of a choice as `/sys` writes it: `always [madvise] never`.
fn chosen(choice: &str) -> Option<String> {
    let (_, rest) = choice.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(word.to_owned())
}

/// `/proc/meminfo` is in KiB.
fn memory(meminfo: &str) -> Memory {
    let bytes = |name| field(meminfo, name).unwrap_or(0).saturating_mul(1024);
    Memory {
        total_bytes: bytes("MemTotal:"),
        available_bytes: bytes("MemAvailable:"),
        swapped_bytes: bytes("SwapTotal:").saturating_sub(bytes("SwapFree:")),
    }
}

/// The addresses that are listened on. The kernel lists them before all others, of which there may be millions: reading ends there.
fn listeners(path: &str) -> Vec<SocketAddr> {
    let Ok(file) = File::open(path) else {
        return Vec::new();
    };
    BufReader::new(file)
        .lines()
        .skip(1)
        .map_while(|line| listener(&line.ok()?))
        .collect()
}

/// The address of a line of `/proc/net/tcp` or `tcp6`, if it is a listener's: number, own address, peer's address, state, and more.
fn listener(line: &str) -> Option<SocketAddr> {
    let mut fields = line.split_whitespace();
    let address = fields.nth(1)?;
    (fields.nth(1)? == LISTENS).then_some(())?;
    let (ip, port) = address.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of 32 bits, each printed as a number although its bytes are in the order of the network.
    let word = |at: usize| {
        let digits = ip.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut octets = [0; 16];
            octets.copy_from_slice(words.as_flattened());
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// `TCP: inuse 5 orphan 0 tw 2 alloc 7 mem 1`.
fn sockets(sockstat: &str) -> Sockets {
    let count = |name: &str| {
        let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"));
        let mut words = line.unwrap_or_default().split_whitespace();
        words
            .find(|word| *word == name)
            .and_then(|_| words.next()?.parse().ok())
            .unwrap_or(0)
    };
    Sockets {
        orphans: count("orphan"),
        time_wait: count("tw"),
        buffer_pages: count("mem"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_real_time_priority_is_the_40th_field() {
        let stat = "15 (a) (b) I 2 0 0 0 -1 2129984 0 0 0 0 0 7 0 0 -2 0 1 0 21 0 0 18446744073709551615 0 0 0 0 0 0 0 2147483647 0 0 0 0 17 1 1 1 0 0 0";
        assert_eq!(real_time_priority(stat), Some(1));
        assert_eq!(real_time_priority("15 (a) I 2"), None);
    }

    #[test]
    fn limits_of_a_process() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
            Max open files            1024                 20000                files\n\
            Max locked memory         8388608              unlimited            bytes\n";
        let read = inherited(limits);
        assert_eq!(read.descriptors_soft, Some(1024));
        assert_eq!(read.lockable_bytes_hard, Some(u64::MAX));
        assert_eq!(inherited(""), Inherited::default());
    }

    #[test]
    fn fields_of_status_and_meminfo() {
        let status = "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(field(status, "Seccomp:"), Some(2));
        assert_eq!(field(status, "NoNewPrivs:"), None);
        let meminfo = "MemTotal: 100 kB\nMemAvailable:  60 kB\nSwapTotal: 10 kB\nSwapFree: 4 kB\n";
        let read = memory(meminfo);
        assert_eq!(read.total_bytes, 100 << 10);
        assert_eq!(read.available_bytes, 60 << 10);
        assert_eq!(read.swapped_bytes, 6 << 10);
        assert_eq!(memory(""), Memory::default());
    }

    #[test]
    fn choices() {
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(chosen("always"), None);
    }

    #[test]
    fn counts_of_sockets() {
        let sockstat = "sockets: used 9\nTCP: inuse 5 orphan 3 tw 2 alloc 7 mem 11\nUDP: inuse 1\n";
        let expected = Sockets {
            orphans: 3,
            time_wait: 2,
            buffer_pages: 11,
        };
        assert_eq!(sockets(sockstat), expected);
        assert_eq!(sockets("UDP: inuse 1 mem 4"), Sockets::default());
    }

    #[test]
    fn lines_of_listeners() {
        // As a machine whose bytes are in ascending order prints them.
        let cases = [
            ("0100007F:2328", "0A", Some("127.0.0.1:9000")),
            ("00000000:0050", "0A", Some("0.0.0.0:80")),
            (
                "00000000000000000000000001000000:2328",
                "0A",
                Some("[::1]:9000"),
            ),
            ("0100007F:2328", "01", None),
            ("0100007F", "0A", None),
            ("01:2328", "0A", None),
        ];
        for (address, state, expected) in cases {
            let line = format!("   0: {address} 00000000:0000 {state} 00000000:00000000 00:0");
            let expected = expected.map(|text| text.parse::<SocketAddr>().unwrap());
            if cfg!(target_endian = "little") {
                assert_eq!(listener(&line), expected, "{line}");
            }
        }
        assert_eq!(listener(""), None);
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        for (path, address) in [
            ("/proc/net/tcp", "127.0.0.1:0"),
            ("/proc/net/tcp6", "[::1]:0"),
        ] {
            // A machine without IPv6 has nothing to find.
            let Ok(socket) = TcpListener::bind(address) else {
                continue;
            };
            let address = socket.local_addr().unwrap();
            assert!(listeners(path).contains(&address), "{address}");
        }
    }

    #[test]
    fn this_process_is_found_by_its_name() {
        let own = trimmed("/proc/self/comm").unwrap();
        assert!(find_process(&own).is_some(), "{own}");
        assert_eq!(find_process("no process is called so"), None);
    }

    #[test]
    fn this_machine_has_settings_and_memory() {
        let config = Config::default();
        let system = System::read(&config);
        assert!(system.number("fs.file-max").unwrap() > 0);
        assert!(system.memory.total_bytes >= system.memory.available_bytes);
        assert_eq!(system.cores.len(), config.cores.len());
        assert!(system.inherited.descriptors_soft.unwrap() > 0);
    }
}
