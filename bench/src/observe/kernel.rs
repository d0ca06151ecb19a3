//! Where the memory goes that no process owns: sockets, page tables, stacks of threads.

use std::{cmp::Reverse, collections::HashMap, fs};

use procfs::{Current, Meminfo};
use serde::{Deserialize, Serialize};

use super::{ObserveError, clock};

/// How many slab caches a [`KernelGrowth`] names.
const CACHES_NAMED_MAX: usize = 12;

/// The kernel's memory at one moment, of the whole machine: it keeps no account by process.
///
/// The meanings are those of Documentation/filesystems/proc.rst, section "meminfo", in the kernel's sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelMemory {
    /// When it was read, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Usable memory of the machine, in bytes (`MemTotal`).
    pub total_bytes: u64,
    /// Memory that nothing uses, in bytes (`MemFree`).
    pub free_bytes: u64,
    /// What new applications could have without swapping, in bytes, as the kernel estimates it (`MemAvailable`).
    pub available_bytes: Option<u64>,
    /// All slabs, in bytes (`Slab`): the two below together.
    pub slab_bytes: u64,
    /// Slabs "that might be reclaimed", in bytes (`SReclaimable`). The inode and the directory entry of every open
    /// socket are among them, about 1 KB a socket, and cannot be reclaimed before it is closed.
    pub slab_reclaimable_bytes: Option<u64>,
    /// Slabs that cannot be reclaimed, in bytes (`SUnreclaim`): sockets, open files, requests of an io_uring.
    pub slab_unreclaimable_bytes: Option<u64>,
    /// Kernel stacks of all threads, in bytes (`KernelStack`).
    pub kernel_stack_bytes: Option<u64>,
    /// Page tables of all processes, in bytes (`PageTables`).
    pub page_table_bytes: Option<u64>,
    /// Memory of the per-CPU allocator, in bytes (`Percpu`).
    pub per_cpu_bytes: Option<u64>,
    /// Sockets and what waits in them. `None`: `/proc/net/sockstat` cannot be read.
    pub sockets: Option<SocketCounts>,
    /// The slab caches that hold anything. `None`: `/proc/slabinfo` cannot be read; it is root's.
    pub slab_caches: Option<Vec<SlabCache>>,
}

/// `/proc/net/sockstat` and `/proc/net/sockstat6`.
///
/// The counts in use and in time-wait are those of this process's network namespace, the rest is the whole machine's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketCounts {
    /// TCP sockets over IPv4 in use.
    pub tcp_in_use: u64,
    /// TCP sockets over IPv6 in use. `None`: the kernel has no IPv6.
    pub tcp6_in_use: Option<u64>,
    /// TCP sockets that no descriptor refers to any more and that are still closing.
    pub tcp_orphans: u64,
    /// Connections that have ended and keep their port for a while.
    pub tcp_time_wait: u64,
    /// TCP sockets allocated, in whatever state.
    pub tcp_allocated: u64,
    /// Memory charged to TCP sockets for what waits in them, in bytes. The kernel counts it in whole pages and lags by up
    /// to some hundred pages a core.
    pub tcp_buffer_bytes: u64,
}

/// One line of `/proc/slabinfo` (slabinfo(5)). The kernel merges caches of like shape, so that the name may be of one among several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlabCache {
    /// Its name: `TCP`, `sock_inode_cache`, `filp`, `io_kiocb`.
    pub name: String,
    /// Objects that there is memory for, in use or not.
    pub objects: u64,
    /// Size of an object, in bytes.
    pub object_bytes: u64,
    /// Memory of all its slabs, in bytes: pages times their size, what remains between objects included.
    pub bytes: u64,
}

/// What changed between two readings. Negative: it shrank.
///
/// `kernel_bytes` counts up what can be named, `total_bytes` starts from what the machine has lost. The truth of kernel memory
/// alone is `kernel_bytes` plus whatever was taken straight from the page allocator (payload waiting in sockets, rings).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelGrowth {
    /// Time between the readings, in nanoseconds.
    pub wall_ns: u64,
    /// Growth of the kernel's own memory, in bytes: `Slab` + `KernelStack` + `PageTables` + `Percpu`. `None` where
    /// one of them is missing.
    ///
    /// No page is in two of these: slabs come from the slab allocator, and stacks, page tables and per-CPU
    /// chunks come straight from the page allocator with counters of their own. All of `Slab` is taken, not only
    /// `SUnreclaim`, because a socket's inode and directory entry are accounted as reclaimable although they live as long
    /// as it does. What file systems cache in slabs is therefore in it too: let a run touch few files, and see
    /// [`largest_caches`](Self::largest_caches).
    ///
    /// TCP's buffer memory is not added. It is a charge, not an allocation: the heads of packets that it covers are in
    /// `Slab` already. Between idle connections it is nothing.
    pub kernel_bytes: Option<i64>,
    /// What all of the machine uses more, in bytes, processes included: the fall of `MemAvailable` plus the growth of
    /// `SReclaimable`.
    ///
    /// The fall of `MemAvailable` alone misses a quarter of a socket: the estimate takes `SReclaimable` for available
    /// (proc.rst: it is "calculated from MemFree, SReclaimable, the size of the file LRU lists, and the low
    /// watermarks in each zone"), and a socket's inode and directory entry are in there.
    pub total_bytes: Option<i64>,
    /// The plain fall of `MemAvailable`, in bytes.
    pub available_fall_bytes: Option<i64>,
    /// Growth of reclaimable slabs, in bytes.
    pub slab_reclaimable_bytes: Option<i64>,
    /// Growth of slabs that cannot be reclaimed, in bytes.
    pub slab_unreclaimable_bytes: Option<i64>,
    /// Growth of kernel stacks, in bytes.
    pub kernel_stack_bytes: Option<i64>,
    /// Growth of page tables, in bytes.
    pub page_table_bytes: Option<i64>,
    /// Growth of per-CPU memory, in bytes.
    pub per_cpu_bytes: Option<i64>,
    /// Growth of what is charged to TCP sockets for waiting bytes, in bytes.
    pub tcp_buffer_bytes: Option<i64>,
    /// Growth of the number of allocated TCP sockets.
    pub tcp_allocated: Option<i64>,
    /// The slab caches that grew most, most bytes first, at most 12. `None`: the caches cannot be read.
    pub largest_caches: Option<Vec<SlabGrowth>>,
}

/// How much a slab cache grew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlabGrowth {
    /// The cache's name.
    pub name: String,
    /// Objects more than before.
    pub objects: i64,
    /// Memory more than before, in bytes.
    pub bytes: i64,
}

impl KernelMemory {
    /// Reads the machine's memory now.
    ///
    /// # Errors
    /// `/proc/meminfo` cannot be read or understood. What else is missing is `None`.
    pub fn read() -> Result<Self, ObserveError> {
        let at_ns = clock::monotonic_ns();
        let meminfo = Meminfo::current().map_err(|error| ObserveError::Unreadable {
            file: "/proc/meminfo".to_owned(),
            reason: error.to_string(),
        })?;
        let page_bytes = procfs::page_size();
        let text = |path: &str| fs::read_to_string(path).ok();
        Ok(Self {
            at_ns,
            total_bytes: meminfo.mem_total,
            free_bytes: meminfo.mem_free,
            available_bytes: meminfo.mem_available,
            slab_bytes: meminfo.slab,
            slab_reclaimable_bytes: meminfo.s_reclaimable,
            slab_unreclaimable_bytes: meminfo.s_unreclaim,
            kernel_stack_bytes: meminfo.kernel_stack,
            page_table_bytes: meminfo.page_tables,
            per_cpu_bytes: meminfo.per_cpu,
            sockets: text("/proc/net/sockstat").and_then(|sockstat| {
                let sockstat6 = text("/proc/net/sockstat6");
                socket_counts(&sockstat, sockstat6.as_deref(), page_bytes)
            }),
            slab_caches: text("/proc/slabinfo").and_then(|text| slab_caches(&text, page_bytes)),
        })
    }

    /// What changed since an earlier reading on the same machine.
    pub fn since(&self, earlier: &Self) -> KernelGrowth {
        let slab = growth(Some(self.slab_bytes), Some(earlier.slab_bytes));
        let slab_reclaimable_bytes =
            growth(self.slab_reclaimable_bytes, earlier.slab_reclaimable_bytes);
        let kernel_stack_bytes = growth(self.kernel_stack_bytes, earlier.kernel_stack_bytes);
        let page_table_bytes = growth(self.page_table_bytes, earlier.page_table_bytes);
        let per_cpu_bytes = growth(self.per_cpu_bytes, earlier.per_cpu_bytes);
        let available_fall_bytes = growth(earlier.available_bytes, self.available_bytes);
        let sockets = self.sockets.as_ref().zip(earlier.sockets.as_ref());
        KernelGrowth {
            wall_ns: self.at_ns.saturating_sub(earlier.at_ns),
            kernel_bytes: sum([slab, kernel_stack_bytes, page_table_bytes, per_cpu_bytes]),
            total_bytes: sum([available_fall_bytes, slab_reclaimable_bytes]),
            available_fall_bytes,
            slab_reclaimable_bytes,
            slab_unreclaimable_bytes: growth(
                self.slab_unreclaimable_bytes,
                earlier.slab_unreclaimable_bytes,
            ),
            kernel_stack_bytes,
            page_table_bytes,
            per_cpu_bytes,
            tcp_buffer_bytes: sockets
                .map(|(now, then)| difference(now.tcp_buffer_bytes, then.tcp_buffer_bytes)),
            tcp_allocated: sockets
                .map(|(now, then)| difference(now.tcp_allocated, then.tcp_allocated)),
            largest_caches: self
                .slab_caches
                .as_ref()
                .zip(earlier.slab_caches.as_ref())
                .map(|(now, then)| largest_growth(now, then)),
        }
    }
}

fn difference(now: u64, then: u64) -> i64 {
    now.wrapping_sub(then).cast_signed()
}

fn growth(now: Option<u64>, then: Option<u64>) -> Option<i64> {
    now.zip(then).map(|(now, then)| difference(now, then))
}

/// The sum, if every part of it is known.
fn sum<const PARTS: usize>(parts: [Option<i64>; PARTS]) -> Option<i64> {
    parts.into_iter().sum()
}

/// The caches that grew, most bytes first. A cache that is missing before held nothing then: caches that do are all listed.
fn largest_growth(now: &[SlabCache], then: &[SlabCache]) -> Vec<SlabGrowth> {
    let before: HashMap<&str, &SlabCache> = then
        .iter()
        .map(|cache| (cache.name.as_str(), cache))
        .collect();
    let mut grown: Vec<SlabGrowth> = now
        .iter()
        .map(|cache| {
            let (objects, bytes) = before
                .get(cache.name.as_str())
                .map_or((0, 0), |before| (before.objects, before.bytes));
            SlabGrowth {
                name: cache.name.clone(),
                objects: difference(cache.objects, objects),
                bytes: difference(cache.bytes, bytes),
            }
        })
        .filter(|growth| growth.bytes > 0)
        .collect();
    grown.sort_by_key(|growth| Reverse(growth.bytes));
    grown.truncate(CACHES_NAMED_MAX);
    grown
}

/// What the two files say. `None`: the first is not what kernels write.
fn socket_counts(sockstat: &str, sockstat6: Option<&str>, page_bytes: u64) -> Option<SocketCounts> {
    let tcp = |key| protocol_count(sockstat, "TCP:", key);
    Some(SocketCounts {
        tcp_in_use: tcp("inuse")?,
        tcp6_in_use: sockstat6.and_then(|text| protocol_count(text, "TCP6:", "inuse")),
        tcp_orphans: tcp("orphan")?,
        tcp_time_wait: tcp("tw")?,
        tcp_allocated: tcp("alloc")?,
        tcp_buffer_bytes: tcp("mem")? * page_bytes,
    })
}

/// The number after a key in the line of a protocol: `TCP: inuse 1 orphan 0`.
fn protocol_count(sockstat: &str, protocol: &str, key: &str) -> Option<u64> {
    let line = sockstat
        .lines()
        .find_map(|line| line.strip_prefix(protocol))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == key)?;
    words.next()?.parse().ok()
}

/// The caches that hold anything. `None`: not version 2 of the format, which all kernels since 2.6.10 write.
fn slab_caches(slabinfo: &str, page_bytes: u64) -> Option<Vec<SlabCache>> {
    let mut lines = slabinfo.lines();
    lines.next()?.strip_prefix("slabinfo - version: 2")?;
    let caches = lines.filter_map(|line| slab_cache(line, page_bytes));
    Some(caches.filter(|cache| cache.bytes > 0).collect())
}

/// `name active_objs num_objs objsize objperslab pagesperslab : tunables … : slabdata active_slabs num_slabs sharedavail`.
fn slab_cache(line: &str, page_bytes: u64) -> Option<SlabCache> {
    let mut parts = line.split(" : ");
    let mut fields = parts.next()?.split_ascii_whitespace();
    let name = fields.next()?.to_owned();
    let mut numbers = fields.map(str::parse::<u64>);
    let mut number = || numbers.next()?.ok();
    let (_active, objects, object_bytes, _objects_a_slab, pages_a_slab) =
        (number()?, number()?, number()?, number()?, number()?);
    let slab_part = parts.find_map(|part| part.strip_prefix("slabdata"))?;
    let slabs: u64 = slab_part.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(SlabCache {
        name,
        objects,
        object_bytes,
        bytes: slabs * pages_a_slab * page_bytes,
    })
}

#[cfg(test)]
mod tests;
