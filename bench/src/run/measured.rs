//! One measured span: what was counted and recorded in it, and what server and harness used.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Run;
use crate::generator::{Books, Metric};
use crate::latency::Latency;
use crate::observe::{CpuTimes, ProcessUsage};
use crate::result::Deliveries;

/// Above this share of a core the harness may have been the limit.
const CORE_SHARE_MAX: f64 = 0.9;

/// Messages that leave later than this share of the p99 latency, or than [`LATENESS_US_MAX`], are a fault of the harness.
const LATENESS_SHARE_MAX: f64 = 0.25;

/// A lateness that no latency makes up for.
const LATENESS_US_MAX: f64 = 1000.0;

/// One measured span.
pub struct Measured {
    /// What was counted and recorded in it.
    pub books: Books,
    /// Its length.
    pub span: Duration,
    /// What the server used, with `--pid`.
    pub server: Option<Used>,
    /// The busiest of the harness's cores: its share of the span, 0 to 1.
    pub busiest_core: Option<f64>,
    /// CPU time of all threads of the harness over the span.
    pub cores: Option<f64>,
    /// Share of the machine's time that the hypervisor gave to others.
    pub steal: Option<f64>,
    /// The harness had not sent its whole schedule when it gave up waiting for itself.
    pub behind: bool,
}

/// What the server used in a span.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// CPU time in user mode.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// The two together, exact where the kernel divides them by sampling only.
    pub total: Duration,
    /// CPU time over wall time.
    pub cores: f64,
    /// Deliveries of any kind in the same time.
    pub deliveries: u64,
}

impl Used {
    /// CPU time for each delivery, in microseconds.
    #[must_use]
    pub fn per_delivery_us(&self) -> Option<f64> {
        per(self.total, self.deliveries)
    }

    /// The user-mode part of it; absent where there was too little of both kinds for the kernel's ticks of 10 ms to
    /// divide it.
    #[must_use]
    pub fn user_per_delivery_us(&self) -> Option<f64> {
        let divisible = self.user + self.system >= DIVISIBLE;
        per(self.user, self.deliveries).filter(|_| divisible)
    }
}

/// CPU time from which on its division into user mode and kernel means something: fifty ticks.
const DIVISIBLE: Duration = Duration::from_millis(500);

fn per(time: Duration, count: u64) -> Option<f64> {
    (count > 0).then(|| time.as_secs_f64() * 1e6 / count as f64)
}

impl Measured {
    /// The summary of a metric.
    #[must_use]
    pub fn latency(&self, metric: Metric) -> Option<Latency> {
        self.books.recordings.of(metric).and_then(Latency::of)
    }

    /// What was sent and what of it arrived.
    #[must_use]
    pub const fn deliveries(&self) -> Deliveries {
        let tally = &self.books.tally;
        Deliveries {
            published: tally.published,
            unsent: tally.unsent,
            expected: tally.expected,
            received: tally.received,
            missing: tally.expected.saturating_sub(tally.received),
            repeated: tally.repeated,
            out_of_order: tally.out_of_order,
            astray: tally.astray,
        }
    }

    /// Why the harness, not the server, was the limit; `None` when it was not.
    #[must_use]
    pub fn limit(&self) -> Option<String> {
        if let Some(share) = self.busiest_core.filter(|share| *share > CORE_SHARE_MAX) {
            return Some(format!(
                "a core of the harness was busy for {:.0}% of the time: latencies hold its own queue. Give it more \
                 cores (--cores) or ask for less",
                share * 100.0
            ));
        }
        if self.behind {
            return Some(
                "it had not sent all that was due when it stopped waiting for deliveries (--drain). Ask for less"
                    .to_owned(),
            );
        }
        let lateness = self.latency(Metric::Lateness)?.quantiles.p99_us;
        let delivery = self.latency(Metric::Delivery)?.quantiles.p99_us;
        (lateness > LATENESS_US_MAX && lateness > LATENESS_SHARE_MAX * delivery).then(|| {
            format!(
                "messages left late: p99 of lateness is {lateness:.0} µs, p99 of latency {delivery:.0} µs. The harness \
                 lacks CPU time; latencies count from the intended time and hold it"
            )
        })
    }
}

/// What is read at both ends of a measured span.
pub(super) struct Reading {
    pub(super) usage: Option<ProcessUsage>,
    cores: Option<BTreeMap<usize, u64>>,
    machine: Option<CpuTimes>,
    at: Instant,
}

impl Reading {
    pub(super) fn take(run: &Run) -> Self {
        Self {
            usage: run.server_usage_light(),
            cores: run.fleet.core_ns(),
            machine: CpuTimes::read().ok(),
            at: Instant::now(),
        }
    }

    pub(super) fn fill(&self, begin: &Self, deliveries: u64, measured: &mut Measured) {
        let wall_ns = self.at.duration_since(begin.at).as_nanos() as f64;
        if let (Some(end), Some(begin)) = (&self.usage, &begin.usage) {
            let used = end.since(begin);
            measured.server = Some(Used {
                user: Duration::from_nanos(used.user_ns),
                system: Duration::from_nanos(used.system_ns),
                total: Duration::from_nanos(
                    used.on_cpu_ns.unwrap_or(used.user_ns + used.system_ns),
                ),
                cores: used.cores,
                deliveries,
            });
        }
        if let (Some(end), Some(begin)) = (&self.cores, &begin.cores) {
            let share = |(core, end): (&usize, &u64)| {
                end.saturating_sub(begin.get(core).copied().unwrap_or(0)) as f64 / wall_ns
            };
            measured.busiest_core = end.iter().map(share).reduce(f64::max);
            measured.cores = Some(end.iter().map(share).sum());
        }
        if let (Some(end), Some(begin)) = (&self.machine, &begin.machine) {
            measured.steal = end.since(begin).machine.map(|shares| shares.steal);
        }
    }
}
