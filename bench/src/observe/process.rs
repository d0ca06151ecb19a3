//! Processor time and memory of the server under test: one process and all its descendants.

use std::{collections::HashMap, fs, io, path::PathBuf};

use procfs::{
    ProcError,
    process::{Process, Stat, all_processes},
};
use serde::{Deserialize, Serialize};

use super::{ObserveError, clock};

/// How often a reading starts again because a process of the tree ended while it was being read.
const ATTEMPTS_MAX: usize = 5;

/// A process, which is observed together with its descendants.
///
/// The descendants are found anew at each reading, by the parent that every process of the machine names.
///
/// # What is counted once
///
/// The processor time of a tree is, over every process that can still be seen in it, the process's own time plus what
/// it has inherited from children that it has waited for (`cutime` and `cstime` of proc_pid_stat(5), which hold their
/// descendants' times too). The kernel moves a child's time into its parent's in the moment in which the child
/// disappears, so no time is in both. As a reading is not one moment, parents are read before their children: a child that
/// disappears in between is then in neither, never in both, and such a reading is taken again.
///
/// Two kinds of time escape: that of a child whose parent ignores SIGCHLD (the kernel drops it), and that of a descendant
/// whose parent ended before it, because it then belongs to another process.
#[derive(Debug, Clone)]
pub struct ProcessTree {
    pid: u32,
    /// When the process started, in ticks since boot: together with the number it names one process for ever.
    started_ticks: u64,
}

/// What a process tree has used so far and what it holds now. Sums over all its processes.
///
/// Kernel memory (socket buffers, the sockets themselves) is not in it: see [`KernelMemory`](super::KernelMemory).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// When the processor times were read, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Processor time in user space, in nanoseconds, of the living and of the descendants that have been waited for.
    /// Each process's part is rounded down to a tick of 10 ms.
    ///
    /// Where the kernel accounts by sampling, which is usual, it knows the total well but divides it between user and
    /// system by what it met at timer ticks.
    pub user_ns: u64,
    /// Processor time in the kernel, in nanoseconds, likewise. Softirq work on behalf of the process that runs
    /// elsewhere is not in it, and work that an interrupt does on its time may be.
    pub system_ns: u64,
    /// The same total as user and system together, but exact for living processes, threads that have ended included
    /// (clock_getcpuclockid(3)). At most one timer tick of each thread that is running just now is missing.
    pub on_cpu_ns: Option<u64>,
    /// Resident memory in bytes (`VmRSS`), pages shared between processes counted once for each of them. Some
    /// kernels let it lag by some pages a core.
    pub resident_bytes: u64,
    /// Resident memory that nothing else maps, in bytes: `Private_Clean`, `Private_Dirty` and `Private_Hugetlb` of
    /// `/proc/PID/smaps_rollup`. `None`: a process belongs to another user, or this is a light reading.
    pub private_bytes: Option<u64>,
    /// Resident memory with each shared page divided by the number of those that map it, in bytes (`Pss`). `None` as above.
    pub proportional_bytes: Option<u64>,
    /// Resident anonymous memory, in bytes (`RssAnon`): heap and stacks, no files.
    pub anonymous_bytes: Option<u64>,
    /// Memory locked with mlock(2), in bytes (`VmLck`).
    pub locked_bytes: Option<u64>,
    /// Memory that the kernel has pinned for the process, in bytes (`VmPin`): what is registered with io_uring.
    pub pinned_bytes: Option<u64>,
    /// Living processes of the tree.
    pub processes: u64,
    /// Their threads.
    pub threads: u64,
    /// How often their present threads gave up the processor by themselves. `None` in a light reading.
    pub voluntary_switches: Option<u64>,
    /// How often they were made to. `None` in a light reading.
    pub involuntary_switches: Option<u64>,
    /// Open descriptors. Direct descriptors of an io_uring are not among them. `None`: a process belongs to another user.
    pub open_descriptors: Option<u64>,
}

/// Processor time used between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CpuUse {
    /// Time that passed, in nanoseconds.
    pub wall_ns: u64,
    /// Processor time in user space, in nanoseconds.
    pub user_ns: u64,
    /// Processor time in the kernel, in nanoseconds.
    pub system_ns: u64,
    /// Both together, exact. `None` where a reading lacks it.
    pub on_cpu_ns: Option<u64>,
    /// Cores kept busy on average: processor time, exact where known, over the time that passed.
    pub cores: f64,
}

/// How much a reading looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Light,
    Full,
}

impl ProcessTree {
    /// The tree under the process with this number.
    ///
    /// # Errors
    /// There is no such process, it has ended and only waits to be collected, or `/proc` cannot be read.
    pub fn of(pid: u32) -> Result<Self, ObserveError> {
        let absent = ObserveError::NoSuchProcess { pid };
        let Ok(signed) = i32::try_from(pid) else {
            return Err(absent);
        };
        match Process::new(signed).and_then(|process| process.stat()) {
            Ok(stat) if has_ended(&stat) => Err(ObserveError::Ended { pid }),
            Ok(stat) => Ok(Self {
                pid,
                started_ticks: stat.starttime,
            }),
            Err(error) if is_gone(&error) => Err(absent),
            Err(error) => Err(unreadable(format!("/proc/{pid}/stat"), &error)),
        }
    }

    /// Number of the process at the root.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Reads everything.
    ///
    /// The kernel walks all page tables of the process for this, and the process may have to wait before it can change
    /// its memory map: 22 to 48 ms were measured for 1.9 GB in pages of 4 KiB and 200 threads. Read it between
    /// measurements, and [`Self::usage_light`] during them.
    ///
    /// # Errors
    /// The process has ended, or `/proc` cannot be read.
    pub fn usage(&self) -> Result<ProcessUsage, ObserveError> {
        self.read(Depth::Full)
    }

    /// Reads all but private and proportional memory and context switches: 1.5 ms where the above was measured,
    /// with 90 processes on the machine to find the children among. Cheap enough for every second.
    ///
    /// # Errors
    /// The process has ended, or `/proc` cannot be read.
    pub fn usage_light(&self) -> Result<ProcessUsage, ObserveError> {
        self.read(Depth::Light)
    }

    fn read(&self, depth: Depth) -> Result<ProcessUsage, ObserveError> {
        let mut attempt = 1;
        let (processes, times) = loop {
            let processes = self.members()?;
            let times = CpuSums::read(&processes);
            // A tree that never rests is read as it is: what is missed now is in the parent at the next reading.
            if times.complete || attempt == ATTEMPTS_MAX {
                break (processes, times);
            }
            attempt += 1;
        };
        let mut usage = times.usage(depth);
        for process in &processes {
            usage.add_held(process, depth);
        }
        if usage.processes == 0 {
            return Err(ObserveError::Ended { pid: self.pid });
        }
        Ok(usage)
    }

    /// Every process of the tree that can be seen, each after its parent.
    fn members(&self) -> Result<Vec<Process>, ObserveError> {
        let listed = all_processes().map_err(|error| unreadable("/proc".to_owned(), &error))?;
        let mut root = None;
        let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
        for process in listed.flatten() {
            let Ok(stat) = process.stat() else {
                continue;
            };
            if i64::from(stat.pid) == i64::from(self.pid) {
                if stat.starttime == self.started_ticks && !has_ended(&stat) {
                    root = Some(process);
                }
            } else {
                children.entry(stat.ppid).or_default().push(process);
            }
        }
        let root = root.ok_or(ObserveError::Ended { pid: self.pid })?;
        let mut members = vec![root];
        let mut next = 0;
        while let Some(parent) = members.get(next) {
            if let Some(found) = children.remove(&parent.pid()) {
                members.extend(found);
            }
            next += 1;
        }
        Ok(members)
    }
}

impl ProcessUsage {
    /// The processor time that was used since an earlier reading of the same tree.
    ///
    /// Time that a tree loses, because a descendant now belongs to another parent, counts as none used.
    pub fn since(&self, earlier: &Self) -> CpuUse {
        let wall_ns = self.at_ns.saturating_sub(earlier.at_ns);
        let user_ns = self.user_ns.saturating_sub(earlier.user_ns);
        let system_ns = self.system_ns.saturating_sub(earlier.system_ns);
        let on_cpu_ns = match (self.on_cpu_ns, earlier.on_cpu_ns) {
            (Some(now), Some(then)) => Some(now.saturating_sub(then)),
            _ => None,
        };
        let used_ns = on_cpu_ns.unwrap_or(user_ns + system_ns);
        let cores = if wall_ns == 0 {
            0.0
        } else {
            used_ns as f64 / wall_ns as f64
        };
        CpuUse {
            wall_ns,
            user_ns,
            system_ns,
            on_cpu_ns,
            cores,
        }
    }

    /// Adds what a process holds now: nothing, if it has ended since the times were read.
    fn add_held(&mut self, process: &Process, depth: Depth) {
        let Ok(status) = process.status() else {
            return;
        };
        if status.state.starts_with(['Z', 'X']) {
            return;
        }
        self.processes += 1;
        self.threads += status.threads;
        add(&mut self.open_descriptors, open_descriptors(process.pid()));
        if depth == Depth::Full {
            let (voluntary, involuntary) = switches(process.pid()).unzip();
            add(&mut self.voluntary_switches, voluntary);
            add(&mut self.involuntary_switches, involuntary);
        }
        // A process that is on its way out has no memory left, and its status no such lines.
        if let Some(resident_kib) = status.vmrss {
            self.resident_bytes += resident_kib * 1024;
            add(&mut self.anonymous_bytes, kib(status.rssanon));
            add(&mut self.locked_bytes, kib(status.vmlck));
            add(&mut self.pinned_bytes, kib(status.vmpin));
            if depth == Depth::Full {
                let (private, proportional) = mapped_bytes(process).unzip();
                add(&mut self.private_bytes, private);
                add(&mut self.proportional_bytes, proportional);
            }
        }
    }
}

/// Processor times of a tree, added up.
struct CpuSums {
    at_ns: u64,
    user_ns: u64,
    system_ns: u64,
    on_cpu_ns: Option<u64>,
    /// Whether no process went away while it was being read.
    complete: bool,
}

impl CpuSums {
    /// Reads the processes in the order given, in which parents stand before their children.
    fn read(processes: &[Process]) -> Self {
        let tick_ns = 1_000_000_000 / procfs::ticks_per_second();
        let mut sums = Self {
            at_ns: clock::monotonic_ns(),
            user_ns: 0,
            system_ns: 0,
            on_cpu_ns: Some(0),
            complete: true,
        };
        for process in processes {
            let Ok(stat) = process.stat() else {
                sums.complete = false;
                continue;
            };
            let inherited_user_ns = stat.cutime.unsigned_abs() * tick_ns;
            let inherited_system_ns = stat.cstime.unsigned_abs() * tick_ns;
            sums.user_ns += stat.utime * tick_ns + inherited_user_ns;
            sums.system_ns += stat.stime * tick_ns + inherited_system_ns;
            let own_ns = clock::process_cpu_ns(process.pid());
            sums.complete &= own_ns.is_some();
            add(
                &mut sums.on_cpu_ns,
                own_ns.map(|own_ns| own_ns + inherited_user_ns + inherited_system_ns),
            );
        }
        sums
    }

    /// A usage with these times that holds nothing yet. What the depth leaves out is `None` and stays so.
    fn usage(&self, depth: Depth) -> ProcessUsage {
        let full = (depth == Depth::Full).then_some(0);
        ProcessUsage {
            at_ns: self.at_ns,
            user_ns: self.user_ns,
            system_ns: self.system_ns,
            on_cpu_ns: self.on_cpu_ns,
            resident_bytes: 0,
            private_bytes: full,
            proportional_bytes: full,
            anonymous_bytes: Some(0),
            locked_bytes: Some(0),
            pinned_bytes: Some(0),
            processes: 0,
            threads: 0,
            voluntary_switches: full,
            involuntary_switches: full,
            open_descriptors: Some(0),
        }
    }
}

/// Adds to a sum, which is unknown from then on if the summand is.
fn add(sum: &mut Option<u64>, summand: Option<u64>) {
    *sum = sum.zip(summand).map(|(sum, summand)| sum + summand);
}

fn kib(kibibytes: Option<u64>) -> Option<u64> {
    kibibytes.map(|kibibytes| kibibytes * 1024)
}

/// Whether the process has ended and only waits for its parent to collect it.
fn has_ended(stat: &Stat) -> bool {
    matches!(stat.state, 'Z' | 'X')
}

/// Whether the error says that the process is not there (any more).
fn is_gone(error: &ProcError) -> bool {
    match error {
        ProcError::NotFound(_) => true,
        ProcError::Io(error, _) => error.raw_os_error() == Some(libc::ESRCH),
        _ => false,
    }
}

fn unreadable(file: String, error: &ProcError) -> ObserveError {
    ObserveError::Unreadable {
        file,
        reason: error.to_string(),
    }
}

/// Private and proportional memory of a process in bytes.
fn mapped_bytes(process: &Process) -> Option<(u64, u64)> {
    let rollup = process.smaps_rollup().ok()?;
    let amounts = &rollup.memory_map_rollup.0.first()?.extension.map;
    let private = amounts.get("Private_Clean")? + amounts.get("Private_Dirty")?;
    let private_huge = amounts.get("Private_Hugetlb").copied().unwrap_or(0);
    Some((private + private_huge, *amounts.get("Pss")?))
}

/// Open descriptors of a process. Since Linux 6.2 the directory's size says it, to anyone; before, they are counted, and only
/// the owner may.
fn open_descriptors(pid: i32) -> Option<u64> {
    let directory = format!("/proc/{pid}/fd");
    match fs::metadata(&directory).ok()?.len() {
        0 => u64::try_from(fs::read_dir(&directory).ok()?.count()).ok(),
        open => Some(open),
    }
}

/// Voluntary and involuntary switches of all present threads of a process.
fn switches(pid: i32) -> Option<(u64, u64)> {
    let mut sums = (0, 0);
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let path: PathBuf = thread.ok()?.path().join("status");
        match fs::read_to_string(path) {
            Ok(status) => {
                let (voluntary, involuntary) = switches_in(&status)?;
                sums.0 += voluntary;
                sums.1 += involuntary;
            }
            // The thread has ended since it was listed.
            Err(error) if is_absence(&error) => {}
            Err(_) => return None,
        }
    }
    Some(sums)
}

fn is_absence(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// The two counters of a thread's `status` (proc_pid_status(5)), which are its last lines.
///
/// `procfs` parses the whole file, which for hundreds of threads costs more than the kernel takes to write it.
fn switches_in(status: &str) -> Option<(u64, u64)> {
    let value = |name: &str| -> Option<u64> {
        let line = status
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    Some((
        value("voluntary_ctxt_switches:")?,
        value("nonvoluntary_ctxt_switches:")?,
    ))
}

#[cfg(test)]
mod tests;
