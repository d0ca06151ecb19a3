//! What the kernel says of this process, under the names that Prometheus's own libraries give it.

use procfs::process::{LimitValue, Process};
use procfs::{ProcResult, boot_time_secs, ticks_per_second};
use std::sync::OnceLock;

use prometheus::proto::{MetricFamily, MetricType};

use super::{counter, family, single};
use crate::memory;

/// What could not be read is absent.
pub(super) fn families() -> Vec<MetricFamily> {
    let mut families = Vec::new();
    if let Ok(bytes) = memory::resident_bytes() {
        families.push(single(
            "process_resident_memory_bytes",
            "Resident memory of the process, in bytes. What the kernel needs for sockets is not in it.",
            bytes as f64,
        ));
    }
    match of_proc() {
        Ok(more) => families.extend(more),
        Err(error) => tracing::warn!(%error, "/proc could not be read for the metrics"),
    }
    families
}

fn of_proc() -> ProcResult<Vec<MetricFamily>> {
    /// When the process started. Never changes, and the kernel sums up a lot for who asks for the time of the boot.
    static STARTED_SECONDS: OnceLock<f64> = OnceLock::new();
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = ticks_per_second() as f64;
    let started_seconds = match STARTED_SECONDS.get() {
        Some(seconds) => *seconds,
        None => {
            let seconds = boot_time_secs()? as f64 + stat.starttime as f64 / ticks;
            *STARTED_SECONDS.get_or_init(|| seconds)
        }
    };
    let cpu_seconds = (stat.utime + stat.stime) as f64 / ticks;
    let mut families = vec![
        family(
            "process_cpu_seconds_total",
            "CPU time of the process in user and system mode, in seconds.",
            MetricType::COUNTER,
            vec![counter(Vec::new(), cpu_seconds)],
        ),
        single(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970 (UTC).",
            started_seconds,
        ),
        single(
            "process_virtual_memory_bytes",
            "Virtual memory of the process, in bytes.",
            stat.vsize as f64,
        ),
        single(
            "process_threads",
            "Threads of the process.",
            stat.num_threads as f64,
        ),
        single(
            "process_open_fds",
            "Open file descriptors. Connections have none of their own: they are direct descriptors of the rings.",
            process.fd_count()? as f64,
        ),
    ];
    if let LimitValue::Value(most) = process.limits()?.max_open_files.soft_limit {
        families.push(single(
            "process_max_fds",
            "File descriptors that the process may have open.",
            most as f64,
        ));
    }
    Ok(families)
}
