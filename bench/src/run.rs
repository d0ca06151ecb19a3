//! One run: the generator, the server's process beside it, and the result that both fill.

mod facts;
mod measured;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::generator::{
    Books, Fleet, FleetError, FleetOptions, GroupId, GroupPlan, Metric, Mix, Tally, Traffic,
};
use crate::latency::{self, Latency, Recording};
use crate::layout::Group;
use crate::observe::{Machine, ObserveError, ProcessTree, ProcessUsage};
use crate::options::Common;
use crate::report::progress::{Progress, Tick};
use crate::result::{
    Connections, Deliveries, ErrorCount, Fact, Generator, NamedLatency, RESULT_VERSION, RunResult,
    Second, ServerUse,
};
use crate::tls::{TlsClient, TlsSetupError};

use facts::{command_line, machine_facts, unix_ms};
use measured::Reading;

pub use measured::{Measured, Used};

/// How long there may be no progress while not a single connection is open: most likely nothing listens there.
const PATIENCE_NONE_OPEN: Duration = Duration::from_secs(15);

/// The same from the first connection on.
const PATIENCE: Duration = Duration::from_secs(60);

/// Without a delivery for so long, none is on its way.
const SILENCE: Duration = Duration::from_millis(300);

const SECOND_NS: u64 = 1_000_000_000;

/// How long before the first message the threads are told of it: longer than they sleep.
const NOTICE_NS: u64 = 100_000_000;

/// The machine's time that the hypervisor gave to others, above which numbers are doubtful.
const STEAL_SHARE_MAX: f64 = 0.02;

/// Part of a table of descriptors that is planned for: what the groups' slices round up must fit, too.
const TABLE_SHARE: f64 = 0.97;

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The generator.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The server's process, or the machine.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// Connections do not open.
    #[error(
        "{ready} of {asked} connections are open and for {seconds} s none was added; see --target, --protocol and --path, and \
         what the server itself says (or wait longer with --patience). What was met on the way: {errors}"
    )]
    Stuck {
        /// How many are open.
        ready: u64,
        /// How many are to be.
        asked: u64,
        /// For how long nothing has changed.
        seconds: u64,
        /// What went wrong, and how often.
        errors: String,
    },
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// A command of the workload failed.
    #[error("`{command}`: {reason}")]
    Command {
        /// The command, as the user wrote it.
        command: String,
        /// What happened.
        reason: String,
    },
}

/// What is to be sent in a measured span.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Messages a second of one publisher.
    pub rate: f64,
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// Which messages.
    pub mix: Mix,
    /// A publisher waits for its last message to come back.
    pub closed_loop: bool,
    /// Traffic before the measured span.
    pub warmup: Duration,
    /// The measured span.
    pub duration: Duration,
}

/// The deliveries of about a second.
pub struct Interval {
    /// When it began, since the run did.
    pub start: Duration,
    /// How long it was.
    pub length: Duration,
    /// Latencies of the deliveries in it.
    pub recording: Recording,
}

/// A run that is over.
pub struct Finished {
    /// What it found.
    pub result: RunResult,
    /// Deliveries second by second, where an HdrHistogram log is to be written.
    pub intervals: Vec<Interval>,
}

/// A run under way.
pub struct Run {
    /// The generator.
    pub fleet: Fleet,
    /// What is known so far.
    pub result: RunResult,
    common: Common,
    tls: Option<Arc<TlsClient>>,
    server: Option<ProcessTree>,
    progress: Progress,
    /// A recording of deliveries a second, where an HdrHistogram log is to be written.
    intervals: Vec<Interval>,
    /// Until when, since the run began, deliveries have been taken into `intervals`.
    intervals_until: Duration,
    /// Everything counted outside of measured spans, and in them.
    totals: Books,
    started: Instant,
}

impl Run {
    /// Starts the generator. `connections` is how many there will be in all.
    ///
    /// # Errors
    /// Threads, rings or the server's process cannot be had.
    pub fn start(
        workload: &str,
        common: &Common,
        connections: u64,
        facts: Vec<Fact>,
    ) -> Result<Self, RunError> {
        let cores = common.cores();
        let needed = connections.div_ceil(u64::from(Fleet::thread_connections_max())) as u32;
        let threads = common
            .threads
            .unwrap_or_else(|| needed.max(cores.len() as u32));
        Self::start_with(workload, common, threads, facts)
    }

    /// As [`Run::start`], with threads more for so many connections beside those that are measured.
    ///
    /// # Errors
    /// As [`Run::start`].
    pub fn start_beside(
        workload: &str,
        common: &Common,
        connections: u32,
        facts: Vec<Fact>,
    ) -> Result<Self, RunError> {
        let threads = common.threads.unwrap_or_else(|| {
            let table = (f64::from(Fleet::thread_connections_max()) * TABLE_SHARE) as u32;
            common.cores().len().max(1) as u32 + connections.div_ceil(table.max(1))
        });
        Self::start_with(workload, common, threads, facts)
    }

    /// As [`Run::start`], with a number of threads.
    ///
    /// # Errors
    /// As [`Run::start`].
    fn start_with(
        workload: &str,
        common: &Common,
        threads: u32,
        facts: Vec<Fact>,
    ) -> Result<Self, RunError> {
        let tls = tls_client(common)?;
        let server = common.pid.map(ProcessTree::of).transpose()?;
        let fleet = Fleet::start(FleetOptions {
            target: common.target.address,
            protocol: common.protocol,
            tls: tls.clone(),
            path: common.path().to_owned(),
            host: common.target.host.clone(),
            sources: common.sources(),
            cores: common.cores(),
            threads,
        })?;
        let mut options = common.facts();
        options.extend(facts);
        let result = RunResult {
            version: RESULT_VERSION,
            workload: workload.to_owned(),
            server: common.server(),
            command: command_line(),
            started_unix_ms: unix_ms(),
            options,
            machine: machine_facts(&Machine::read()),
            generator: Generator {
                threads: fleet.threads().into(),
                ..Generator::default()
            },
            ..RunResult::default()
        };
        Ok(Self {
            progress: Progress::new(workload, common.quiet),
            common: common.clone(),
            tls,
            server,
            intervals: Vec::new(),
            intervals_until: Duration::ZERO,
            totals: Books::default(),
            started: Instant::now(),
            fleet,
            result,
        })
    }

    /// What the server uses now, `None` without `--pid`.
    ///
    /// # Errors
    /// The process has ended.
    pub fn server_usage(&self) -> Result<Option<ProcessUsage>, RunError> {
        Ok(self.server.as_ref().map(ProcessTree::usage).transpose()?)
    }

    /// What the server has used by now as far as it is quick to read; `None` without `--pid`, and when the process has
    /// ended: what its end does to the connections is what the run is to report.
    fn server_usage_light(&self) -> Option<ProcessUsage> {
        self.server.as_ref()?.usage_light().ok()
    }

    /// A group of rooms on all threads with large buffers, or on all where those do not suffice.
    #[must_use]
    pub fn rooms(&self, name: &str, connections: u32, room_size: u32, publishers: u32) -> Group {
        let busy = self.fleet.busy_threads();
        let room_for = u64::from(busy) * u64::from(Fleet::thread_connections_max()) / 2;
        let threads = if u64::from(connections) <= room_for {
            busy
        } else {
            self.fleet.threads()
        };
        Group {
            name: format!("{name}{:x}", self.result.started_unix_ms & 0xff_ffff),
            connections,
            room_size: room_size.max(1),
            publishers,
            slow: 0,
            threads: 0..threads,
        }
    }

    /// The threads of the connections beside those that are measured: they run when the others leave them the time. All, where there are no more.
    #[must_use]
    pub fn threads_beside(&self) -> Range<u32> {
        let (busy, all) = (self.fleet.busy_threads(), self.fleet.threads());
        if all > busy { busy..all } else { 0..busy }
    }

    /// Opens a group and waits until all of it has joined.
    ///
    /// # Errors
    /// The server takes no more connections.
    pub fn open(&mut self, plan: GroupPlan, phase: &str) -> Result<GroupId, RunError> {
        let asked = u64::from(plan.group.connections);
        let started = Instant::now();
        let group = self.fleet.open(plan)?;
        self.await_ready(group, asked, phase)?;
        let ramp_s = started.elapsed().as_secs_f64();
        let connections = &mut self.result.connections;
        connections.asked += asked;
        connections.open = self.fleet.ready_all();
        connections.ramp_s = Some(connections.ramp_s.unwrap_or(0.0) + ramp_s);
        Ok(group)
    }

    /// Waits until so many of a group have joined.
    ///
    /// # Errors
    /// None has joined for as long as `--patience` says.
    pub fn await_ready(&mut self, group: GroupId, asked: u64, phase: &str) -> Result<(), RunError> {
        self.progress.phase(phase);
        let mut last = (self.fleet.ready(group), Instant::now());
        loop {
            let ready = self.fleet.ready(group);
            if ready >= asked {
                return Ok(());
            }
            if ready != last.0 {
                last = (ready, Instant::now());
            }
            let stuck = last.1.elapsed();
            let patience = if self.fleet.ready_all() == 0 {
                PATIENCE_NONE_OPEN
            } else {
                PATIENCE
            };
            if stuck > self.common.patience.unwrap_or(patience) {
                self.collect();
                return Err(RunError::Stuck {
                    ready,
                    asked,
                    seconds: stuck.as_secs(),
                    errors: errors_text(&self.totals.errors),
                });
            }
            self.pause(Duration::from_millis(20))?;
            self.tick(None, None);
        }
    }

    /// Sleeps, and looks whether the generator still runs.
    ///
    /// # Errors
    /// A thread of the generator has ended.
    pub fn pause(&self, time: Duration) -> Result<(), RunError> {
        std::thread::sleep(time);
        self.fleet
            .failure()
            .map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Takes what has been counted since the last time into the totals.
    pub fn collect(&mut self) {
        let books = self.fleet.take();
        self.totals.add(books);
    }

    /// What has been counted in the whole run so far.
    #[must_use]
    pub const fn totals(&self) -> &Books {
        &self.totals
    }

    /// Lets a group publish, and measures. `at_start` is called when the measured span begins.
    ///
    /// # Errors
    /// The generator or the server's process has ended.
    pub fn measure(
        &mut self,
        group: GroupId,
        load: Load,
        phase: &str,
        at_start: impl FnOnce(&mut Self) -> Result<(), RunError>,
    ) -> Result<Measured, RunError> {
        self.progress.phase(phase);
        self.collect();
        let traffic = self.publish(group, load);
        self.sleep_until(traffic.measured_from_ns)?;
        self.intervals_until = self.started.elapsed();
        // What these hold of the warm-up is counted apart by the threads.
        let mut measured = self.fleet.take();
        self.interval(&measured);
        at_start(self)?;
        let begin = Reading::take(self);
        let mut of_second = self.fleet.take();
        let before_reading = of_second.tally.deliveries + measured.tally.deliveries;
        let mut usage = begin.usage.clone();
        let mut end = None;
        while end.is_none() {
            let passed_ns = self.fleet.now_ns().saturating_sub(traffic.measured_from_ns);
            let end_of_second_ns =
                traffic.measured_from_ns + (passed_ns / SECOND_NS + 1) * SECOND_NS;
            self.sleep_until(end_of_second_ns.min(traffic.until_ns))?;
            if self.fleet.now_ns() >= traffic.until_ns {
                end = Some(Reading::take(self));
            }
            of_second.add(self.fleet.take());
            let at_s = self.fleet.now_ns().saturating_sub(traffic.measured_from_ns) as f64 / 1e9;
            self.second(at_s, &of_second, &mut usage);
            measured.add(std::mem::take(&mut of_second));
            let left_s = traffic.until_ns.saturating_sub(self.fleet.now_ns()) as f64 / 1e9;
            self.tick(self.result.seconds.last().cloned().as_ref(), Some(left_s));
        }
        let in_span = measured.tally.deliveries - before_reading;
        let (late, behind) = self.drain(&measured.tally)?;
        self.interval(&late);
        measured.add(late);
        let span = Duration::from_nanos(traffic.until_ns - traffic.measured_from_ns);
        let mut result = Measured {
            books: measured,
            span,
            server: None,
            busiest_core: None,
            cores: None,
            steal: None,
            behind,
        };
        if let Some(end) = end {
            end.fill(&begin, in_span, &mut result);
        }
        Ok(result)
    }

    fn publish(&self, group: GroupId, load: Load) -> Traffic {
        let start_ns = self.fleet.now_ns() + NOTICE_NS;
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let measured_from_ns = start_ns + nanoseconds(load.warmup);
        let traffic = Traffic {
            interval_ns: ((1e9 / load.rate) as u64).max(1),
            payload_bytes: load.payload_bytes,
            mix: load.mix,
            start_ns,
            measured_from_ns,
            until_ns: measured_from_ns + nanoseconds(load.duration),
            closed_loop: load.closed_loop,
        };
        self.fleet.publish(group, traffic);
        traffic
    }

    fn sleep_until(&self, at_ns: u64) -> Result<(), RunError> {
        self.pause(Duration::from_nanos(
            at_ns.saturating_sub(self.fleet.now_ns()),
        ))
    }

    /// Notes a second of the measured span.
    fn second(&mut self, at_s: f64, books: &Books, usage: &mut Option<ProcessUsage>) {
        let now = self.server_usage_light();
        let cores = match (&now, &*usage) {
            (Some(now), Some(before)) => Some(now.since(before).cores),
            _ => None,
        };
        let recording = books.recordings.of(Metric::Delivery);
        self.interval(books);
        self.result.seconds.push(Second {
            at_s: self.result.measured_s + at_s,
            connections: self.fleet.ready_all(),
            published: books.tally.messages,
            received: books.tally.deliveries,
            latency: recording.and_then(latency::quantiles),
            server_cores: cores,
            server_resident_bytes: now.as_ref().map(|usage| usage.resident_bytes),
        });
        *usage = now;
    }

    /// Notes the deliveries since the last time for the HdrHistogram log, where one is to be written.
    fn interval(&mut self, books: &Books) {
        let end = self.started.elapsed();
        let start = std::mem::replace(&mut self.intervals_until, end);
        let recording = books.recordings.of(Metric::Delivery);
        if let (Some(_), Some(recording)) = (&self.common.hdr_log, recording) {
            self.intervals.push(Interval {
                start,
                length: end - start,
                recording: recording.clone(),
            });
        }
    }

    /// Waits for what is late: the harness's own messages, and deliveries on their way. What has been counted before is in
    /// `tally`. Tells what came, and whether the harness is still behind.
    fn drain(&self, tally: &Tally) -> Result<(Books, bool), RunError> {
        let started = Instant::now();
        let mut late = Books::default();
        let behind = loop {
            // Asked first: only when all has been sent is all that is expected in the books.
            let behind = self.fleet.is_publishing();
            late.add(self.fleet.take());
            let expected = tally.expected + late.tally.expected;
            let done = !behind && tally.received + late.tally.received >= expected;
            if done || started.elapsed() >= self.common.drain {
                break behind;
            }
            self.pause(Duration::from_millis(20))?;
        };
        // What comes twice comes now.
        self.pause(Duration::from_millis(50))?;
        late.add(self.fleet.take());
        Ok((late, behind))
    }

    fn tick(&mut self, second: Option<&Second>, left_s: Option<f64>) {
        let connections = self.fleet.ready_all();
        self.progress.tick(&Tick {
            connections,
            messages_per_s: second.map(|second| second.published as f64),
            deliveries_per_s: second.map(|second| second.received as f64),
            p99_us: second
                .and_then(|second| second.latency)
                .map(|latency| latency.p99_us),
            left_s,
        });
    }

    /// Prints a line above the progress.
    pub fn note(&mut self, text: &str) {
        self.progress.note(text);
    }

    /// Takes a span into the totals alone: one that the result does not tell of.
    pub fn pass_over(&mut self, measured: Measured) {
        self.totals.add(measured.books);
    }

    /// Waits until nothing arrives any more: what an overloaded server still holds is not the next span's.
    ///
    /// # Errors
    /// A thread of the generator has ended.
    pub fn await_silence(&mut self) -> Result<(), RunError> {
        let started = Instant::now();
        loop {
            self.pause(SILENCE)?;
            let books = self.fleet.take();
            let silent = books.tally.deliveries == 0;
            self.totals.add(books);
            if silent || started.elapsed() > self.common.drain {
                return Ok(());
            }
        }
    }

    /// Takes a span into the result: its latencies (with a word after each name, where one is given), deliveries and use of
    /// the machine. Deliveries that went wrong fail the run.
    pub fn report(&mut self, measured: Measured, word: &str) {
        let name = |metric: Metric| match word {
            "" => metric.name().to_owned(),
            word => format!("{}, {word}", metric.name()),
        };
        for metric in [Metric::Delivery, Metric::Direct, Metric::LastReceiver] {
            if let Some(latency) = measured.latency(metric) {
                self.result.latencies.push(NamedLatency {
                    name: name(metric),
                    meaning: metric.meaning().to_owned(),
                    latency,
                });
            }
        }
        let deliveries = measured.deliveries();
        self.failures(&deliveries, word);
        let sum = self.result.deliveries.get_or_insert_default();
        sum.published += deliveries.published;
        sum.unsent += deliveries.unsent;
        sum.expected += deliveries.expected;
        sum.received += deliveries.received;
        sum.missing += deliveries.missing;
        sum.repeated += deliveries.repeated;
        sum.out_of_order += deliveries.out_of_order;
        sum.astray += deliveries.astray;
        self.result.measured_s += measured.span.as_secs_f64();
        let generator = &mut self.result.generator;
        generator.cores = measured.cores.unwrap_or(generator.cores);
        generator.busiest_core = measured
            .busiest_core
            .unwrap_or(0.0)
            .max(generator.busiest_core);
        generator.limit = generator.limit.take().or_else(|| measured.limit());
        generator.lateness = measured
            .latency(Metric::Lateness)
            .or(generator.lateness.take());
        if let Some(steal) = measured.steal.filter(|steal| *steal > STEAL_SHARE_MAX) {
            self.result.notes.push(format!(
                "The hypervisor gave {:.0}% of this machine's time to others while it was measured{}.",
                steal * 100.0,
                if word.is_empty() { String::new() } else { format!(" ({word})") }
            ));
        }
        // A server that has ended since is told of by the connections that it has lost.
        let usage = self.server.as_ref().and_then(|server| server.usage().ok());
        if let (Some(used), Some(usage)) = (measured.server, usage) {
            self.result.server_use = Some(ServerUse {
                pid: self.common.pid.unwrap_or(0),
                user_s: used.user.as_secs_f64(),
                system_s: used.system.as_secs_f64(),
                cores: used.cores,
                cpu_per_delivery_us: used.per_delivery_us(),
                user_per_delivery_us: used.user_per_delivery_us(),
                resident_bytes: usage.resident_bytes,
                private_bytes: usage.private_bytes,
            });
        }
        self.totals.add(measured.books);
    }

    fn failures(&mut self, deliveries: &Deliveries, word: &str) {
        let when = if word.is_empty() {
            String::new()
        } else {
            format!(" ({word})")
        };
        let Deliveries {
            published,
            unsent,
            expected,
            missing,
            repeated,
            out_of_order,
            astray,
            ..
        } = *deliveries;
        let failures = &mut self.result.failures;
        if missing > 0 {
            failures.push(format!(
                "{missing} of {expected} deliveries are missing{when}."
            ));
        }
        if repeated > 0 {
            failures.push(format!("{repeated} deliveries came more than once{when}."));
        }
        if out_of_order > 0 {
            failures.push(format!(
                "{out_of_order} deliveries came out of order{when}."
            ));
        }
        if astray > 0 {
            failures.push(format!(
                "{astray} deliveries came to connections that they were not meant for{when}."
            ));
        }
        if unsent > 0 {
            failures.push(format!(
                "{unsent} of {} messages could not be sent as the server took none from their connections{when}.",
                published + unsent
            ));
        }
        if published == 0 {
            failures.push(format!(
                "Nothing was sent in the measured span{when}: it is too short for the rate."
            ));
        }
    }

    /// Ends the run: the latencies of connecting, what went wrong on the way, and the totals.
    #[must_use]
    pub fn finish(mut self) -> Finished {
        self.collect();
        for metric in [Metric::Handshake, Metric::Join] {
            if let Some(latency) = self.totals.recordings.of(metric).and_then(Latency::of) {
                self.result.latencies.push(NamedLatency {
                    name: metric.name().to_owned(),
                    meaning: metric.meaning().to_owned(),
                    latency,
                });
            }
        }
        let tally = self.totals.tally;
        let mut errors: Vec<ErrorCount> = std::mem::take(&mut self.totals.errors)
            .into_iter()
            .map(|(what, count)| ErrorCount { what, count })
            .collect();
        errors.sort_by_key(|error| std::cmp::Reverse(error.count));
        let known = std::mem::take(&mut self.result.connections);
        self.result.connections = Connections {
            attempts: tally.attempts,
            failed: tally.failed,
            refused: tally.refused,
            lost: tally.lost,
            errors,
            ..known
        };
        self.result
            .notes
            .extend(self.tls.as_ref().and_then(|tls| tls.note()));
        if tally.errors > 0 {
            self.result
                .failures
                .push(format!("The server refused {} requests.", tally.errors));
        }
        self.progress.finish();
        Finished {
            result: self.result,
            intervals: self.intervals,
        }
    }

    /// Connections that the workload did not mean to lose fail the run.
    pub fn fail_on_lost(&mut self) {
        self.collect();
        let lost = self.totals.tally.lost;
        if lost > 0 {
            let errors = errors_text(&self.totals.errors);
            self.result
                .failures
                .push(format!("{lost} connections were lost: {errors}."));
        }
    }

    /// Seconds since the run began.
    #[must_use]
    pub fn elapsed_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// The options of all workloads.
    #[must_use]
    pub const fn common(&self) -> &Common {
        &self.common
    }
}

/// What connections are secured with, if they are to be.
fn tls_client(common: &Common) -> Result<Option<Arc<TlsClient>>, RunError> {
    let target = &common.target;
    match (target.tls, common.tls.given()) {
        (true, _) => Ok(Some(Arc::new(TlsClient::new(&common.tls, target.name())?))),
        (false, None) => Ok(None),
        (false, Some(option)) => Err(RunError::Options(format!(
            "{option} is about TLS, and {target} is without it: give the server as --target wss://{target}"
        ))),
    }
}

fn errors_text(errors: &BTreeMap<String, u64>) -> String {
    if errors.is_empty() {
        return "no answer yet".to_owned();
    }
    let mut errors: Vec<_> = errors.iter().collect();
    errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let texts: Vec<String> = errors
        .iter()
        .take(5)
        .map(|(what, count)| format!("{what} ({count})"))
        .collect();
    texts.join(", ")
}
