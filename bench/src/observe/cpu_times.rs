//! What the processor cores did: busy, idle, or taken away by the hypervisor.

use std::fs;

use serde::{Deserialize, Serialize};

use super::{ObserveError, clock};

const FILE: &str = "/proc/stat";

/// Times of all cores since the machine started (`/proc/stat`, proc_stat(5)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTimes {
    /// When they were read, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Each core that is online, by number.
    pub cores: Vec<CoreTimes>,
}

/// Times of one core since the machine started, in nanoseconds, each rounded to a tick of 10 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreTimes {
    /// Number of the core.
    pub core: u32,
    /// In user space, at any priority, guests included.
    pub user_ns: u64,
    /// In the kernel, interrupts excluded.
    pub system_ns: u64,
    /// In interrupts and softirqs: on loopback, much of receiving.
    pub interrupt_ns: u64,
    /// Idle, waiting for a disk included.
    pub idle_ns: u64,
    /// Ready to run while the hypervisor ran something else. Stays 0 under a hypervisor that does not say.
    pub steal_ns: u64,
}

/// What a core, or all of them, did between two readings. The three shares add up to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CpuShares {
    /// Share of the time with work of this machine, 0 to 1.
    pub busy: f64,
    /// Share that the hypervisor gave to others although there was work here, 0 to 1. Above a hundredth or so,
    /// latencies are the neighbours'.
    pub steal: f64,
    /// Share without work, 0 to 1.
    pub idle: f64,
}

/// What one core did between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CoreShares {
    /// Number of the core.
    pub core: u32,
    /// Its shares.
    pub shares: CpuShares,
}

/// What the machine did between two readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineUse {
    /// Time between the readings, in nanoseconds.
    pub wall_ns: u64,
    /// All cores together. `None`: not one tick passed.
    pub machine: Option<CpuShares>,
    /// Each core that was online at both readings and of which a tick passed.
    pub cores: Vec<CoreShares>,
}

impl CpuTimes {
    /// Reads the times of all cores.
    ///
    /// # Errors
    /// `/proc/stat` cannot be read or understood.
    pub fn read() -> Result<Self, ObserveError> {
        let at_ns = clock::monotonic_ns();
        let unreadable = |reason: String| ObserveError::Unreadable {
            file: FILE.to_owned(),
            reason,
        };
        let stat = fs::read_to_string(FILE).map_err(|error| unreadable(error.to_string()))?;
        let tick_ns = 1_000_000_000 / procfs::ticks_per_second();
        let cores = core_times(&stat, tick_ns)
            .ok_or_else(|| unreadable("it has no line of times for a core".to_owned()))?;
        Ok(Self { at_ns, cores })
    }

    /// What the cores did since an earlier reading.
    pub fn since(&self, earlier: &Self) -> MachineUse {
        let passed: Vec<CoreTimes> = self
            .cores
            .iter()
            .filter_map(|now| {
                let then = earlier.cores.iter().find(|then| then.core == now.core)?;
                Some(now.since(then))
            })
            .collect();
        let machine = passed.iter().copied().reduce(CoreTimes::plus);
        MachineUse {
            wall_ns: self.at_ns.saturating_sub(earlier.at_ns),
            machine: machine.as_ref().and_then(CoreTimes::shares),
            cores: passed
                .iter()
                .filter_map(|times| {
                    Some(CoreShares {
                        core: times.core,
                        shares: times.shares()?,
                    })
                })
                .collect(),
        }
    }
}

impl CoreTimes {
    /// The time that passed. The kernel's idle times may step back a little, which counts as none passed.
    fn since(&self, earlier: &Self) -> Self {
        Self {
            core: self.core,
            user_ns: self.user_ns.saturating_sub(earlier.user_ns),
            system_ns: self.system_ns.saturating_sub(earlier.system_ns),
            interrupt_ns: self.interrupt_ns.saturating_sub(earlier.interrupt_ns),
            idle_ns: self.idle_ns.saturating_sub(earlier.idle_ns),
            steal_ns: self.steal_ns.saturating_sub(earlier.steal_ns),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            core: self.core,
            user_ns: self.user_ns + other.user_ns,
            system_ns: self.system_ns + other.system_ns,
            interrupt_ns: self.interrupt_ns + other.interrupt_ns,
            idle_ns: self.idle_ns + other.idle_ns,
            steal_ns: self.steal_ns + other.steal_ns,
        }
    }

    fn shares(&self) -> Option<CpuShares> {
        let busy_ns = self.user_ns + self.system_ns + self.interrupt_ns;
        let all_ns = busy_ns + self.idle_ns + self.steal_ns;
        let share = |part_ns: u64| part_ns as f64 / all_ns as f64;
        (all_ns > 0).then(|| CpuShares {
            busy: share(busy_ns),
            steal: share(self.steal_ns),
            idle: share(self.idle_ns),
        })
    }
}

/// The lines `cpu0`, `cpu1` and so on, by the numbers that they carry. `None`: there is none.
///
/// Cores that are offline have no line, so a core's number is not the place of its line; `procfs` does not keep it.
fn core_times(stat: &str, tick_ns: u64) -> Option<Vec<CoreTimes>> {
    let cores: Vec<CoreTimes> = stat
        .lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("cpu")?.split(' ');
            // The line `cpu` without a number is the sum.
            let core = words.next()?.parse().ok()?;
            let mut times = words.map(|word| word.parse::<u64>().map(|ticks| ticks * tick_ns));
            let mut time_ns = || times.next()?.ok();
            let (user, nice, system) = (time_ns()?, time_ns()?, time_ns()?);
            let (idle, disk_wait) = (time_ns()?, time_ns()?);
            let (interrupt, softirq, steal) = (time_ns()?, time_ns()?, time_ns()?);
            Some(CoreTimes {
                core,
                user_ns: user + nice,
                system_ns: system,
                interrupt_ns: interrupt + softirq,
                idle_ns: idle + disk_wait,
                steal_ns: steal,
            })
        })
        .collect();
    (!cores.is_empty()).then_some(cores)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    const TICK_NS: u64 = 10_000_000;

    #[test]
    fn a_core_keeps_its_number_when_another_is_offline() {
        let stat = "cpu  30 3 6 100 8 2 4 6 0 0\ncpu0 10 1 2 50 4 1 2 3 0 0\ncpu2 20 2 4 50 4 1 2 3 7 0\nintr 5 0\n";
        let cores = core_times(stat, TICK_NS).unwrap();
        assert_eq!(cores.len(), 2);
        assert_eq!(
            cores[1],
            CoreTimes {
                core: 2,
                user_ns: 22 * TICK_NS,
                system_ns: 4 * TICK_NS,
                interrupt_ns: 3 * TICK_NS,
                idle_ns: 54 * TICK_NS,
                steal_ns: 3 * TICK_NS,
            }
        );
    }

    #[test]
    fn texts_without_times_of_cores() {
        for stat in [
            "",
            "cpu  1 2 3 4 5 6 7 8 0 0\n",
            "cpu0 1 2 3\n",
            "cpu0 1 2 3 4 5 6 seven 8\n",
        ] {
            assert_eq!(core_times(stat, TICK_NS), None, "{stat:?}");
        }
    }

    fn times(core: u32, user: u64, idle: u64, steal: u64) -> CoreTimes {
        CoreTimes {
            core,
            user_ns: user,
            system_ns: 0,
            interrupt_ns: 0,
            idle_ns: idle,
            steal_ns: steal,
        }
    }

    #[test]
    fn shares_of_the_time_that_passed() {
        let earlier = CpuTimes {
            at_ns: 5,
            cores: vec![times(0, 1000, 1000, 0), times(1, 0, 0, 0)],
        };
        let later = CpuTimes {
            at_ns: 105,
            cores: vec![
                times(0, 1060, 1020, 20),
                times(1, 0, 100, 0),
                times(2, 9, 9, 9),
            ],
        };
        let used = later.since(&earlier);
        assert_eq!(used.wall_ns, 100);
        // Core 2 was offline before: its time since the start of the machine is not of this interval.
        assert_eq!(used.cores.len(), 2);
        let first = used.cores[0].shares;
        assert!((first.busy - 0.6).abs() < 1e-9 && (first.steal - 0.2).abs() < 1e-9);
        let machine = used.machine.unwrap();
        assert!((machine.busy - 0.3).abs() < 1e-9 && (machine.steal - 0.1).abs() < 1e-9);
        assert!((machine.idle - 0.6).abs() < 1e-9);
    }

    #[test]
    fn no_time_has_no_shares() {
        let reading = CpuTimes {
            at_ns: 5,
            cores: vec![times(0, 1, 1, 1)],
        };
        let used = reading.since(&reading);
        assert_eq!(used.machine, None);
        assert!(used.cores.is_empty());
    }

    #[test]
    fn this_machine_has_cores_that_did_something() {
        let times = CpuTimes::read().unwrap();
        assert!(!times.cores.is_empty());
        assert!(
            times
                .cores
                .iter()
                .all(|core| core.user_ns + core.idle_ns > 0)
        );
        let json = serde_json::to_string(&times).unwrap();
        assert_eq!(serde_json::from_str::<CpuTimes>(&json).unwrap(), times);
    }
}
