//! Sends what shards report and ask, on the control thread. Every wait in here has an end, and none of them keeps the thread's other work from going on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use crossbeam_channel::Receiver;
use shardcast_shard::random::Random;
use shardcast_shard::verdict::{Ruling, Verdict};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::Instrument as _;

use super::answer;
use super::attempts::Attempts;
use super::backend::Backend;
use super::budget::Budget;
use super::counters::Counters;
use super::report::{Inquiry, Report, Written, written_as_json};
use super::reporter::undecided;
use super::signature::Signer;
use crate::config::{OnFailure, WebhookConfig};
use crate::engine::Handle;
use crate::supervisor::seed;

/// How often it is looked whether events wait. They wake nobody: a shard's wake of another thread is a system call.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long the end of the server waits for events to be told.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// The longest pause between two attempts while the server ends.
const FINISH_PAUSE_MAX: Duration = Duration::from_millis(250);

/// Bytes of the answer to a request with events, which is not looked at.
const ANSWER_SIZE_MAX: usize = 64 << 10;

/// How often a verdict is offered to a shard that takes no more orders.
const ORDER_RETRY: Duration = Duration::from_millis(5);

/// The webhooks at work.
pub(crate) struct Courier {
    end: watch::Sender<Option<Instant>>,
    teller: JoinHandle<u64>,
    decider: JoinHandle<()>,
    signer: Arc<ArcSwap<Signer>>,
    secret_file: Option<PathBuf>,
    counters: Arc<Counters>,
}

impl Courier {
    pub(super) fn start(
        teller: Teller,
        decider: Decider,
        signer: Arc<ArcSwap<Signer>>,
        secret_file: Option<PathBuf>,
        counters: Arc<Counters>,
    ) -> Self {
        let (end, ends) = watch::channel(None);
        Self {
            end,
            teller: tokio::spawn(teller.run(ends)),
            decider: tokio::spawn(decider.run()),
            signer,
            secret_file,
            counters,
        }
    }

    /// Reads the secrets again. Where that fails they stay as they are, and the log says why.
    pub(crate) fn reload(&self) {
        match Signer::of(self.secret_file.as_deref()) {
            Ok(signer) => self.signer.store(Arc::new(signer)),
            Err(error) => {
                let path = self.secret_file.clone().unwrap_or_default();
                tracing::error!(
                    "webhook_secret: the file {} {error}; the secrets stay as they were",
                    path.display()
                );
            }
        }
    }

    /// The shards have ended: what waits is told within [`FINISH_MAX`], and the rest is given up.
    pub(crate) async fn finish(self) {
        let deadline = Instant::now() + FINISH_MAX;
        self.decider.abort();
        // Where it has ended there is nobody to tell, and nothing to wait for.
        let _: Result<(), _> = self.end.send(Some(deadline));
        match timeout_at(deadline + FINISH_PAUSE_MAX, self.teller).await {
            Ok(Ok(0)) => {}
            Ok(Ok(left)) => {
                tracing::warn!(
                    events = left,
                    "the backend of the webhooks was not told of everything before the server ended"
                );
            }
            Ok(Err(_)) | Err(_) => tracing::error!("the webhooks did not end in time"),
        }
        tracing::info!(
            delivered = self.counters.events_delivered.value(),
            dropped = self.counters.events_dropped.value(),
            given_up = self.counters.events_given_up.value(),
            "webhooks have ended"
        );
    }
}

/// Says once that the backend fails, and once that it does so no longer.
#[derive(Debug, Default)]
struct Health {
    is_failing: AtomicBool,
}

impl Health {
    fn failed(&self, what: &'static str, error: &dyn std::fmt::Display) {
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the backend of the webhooks fails {what}");
        }
    }

    fn succeeded(&self, what: &'static str) {
        if self.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the backend of the webhooks works again {what}");
        }
    }
}

/// Tells the backend what happens: in order, one request at a time, each until it has arrived or is given up.
pub(super) struct Teller {
    backend: Arc<Backend>,
    reports: Receiver<Report>,
    queue: Arc<Budget>,
    batch_events_max: usize,
    retry_max: Duration,
    counters: Arc<Counters>,
    random: Random,
    /// Events that were given up, which the next request says.
    given_up: u64,
    health: Health,
}

/// Events in one request.
struct Batch {
    id: String,
    body: Bytes,
    /// Reports, and bytes that they took while they waited.
    reports: u64,
    bytes: u64,
    /// Events that it stands for.
    events: u64,
    /// Of those, events that were given up before.
    given_up: u64,
}

impl Teller {
    pub(super) fn new(
        backend: Arc<Backend>,
        reports: Receiver<Report>,
        queue: Arc<Budget>,
        config: &WebhookConfig,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            backend,
            reports,
            queue,
            batch_events_max: config.batch_events_max as usize,
            retry_max: config.retry_max,
            counters,
            random: Random::new(seed()),
            given_up: 0,
            health: Health::default(),
        }
    }

    /// Goes on until it is told when to end at the latest; answers how many events were given up then.
    async fn run(mut self, mut end: watch::Receiver<Option<Instant>>) -> u64 {
        loop {
            let batch = self.next_batch();
            let is_full = batch
                .as_ref()
                .is_some_and(|batch| batch.reports == self.batch_events_max as u64);
            match batch {
                Some(batch) => {
                    let span = tracing::info_span!("webhook", id = batch.id, events = batch.events);
                    self.settle(&batch, &mut end).instrument(span).await;
                }
                None if end_of(&end).is_some() => return 0,
                None => {}
            }
            if is_over(&end) {
                return self.give_up();
            }
            if !is_full && end_of(&end).is_none() {
                tokio::select! {
                    () = sleep(LOOK_INTERVAL) => {}
                    _ = end.changed() => {}
                }
            }
        }
    }

    /// Sends a request until it has arrived or is given up.
    async fn settle(&mut self, batch: &Batch, end: &mut watch::Receiver<Option<Instant>>) {
        if self.deliver(batch, end).await {
            self.counters.events_delivered.add(batch.events);
        } else {
            self.counters.events_given_up.add(batch.events);
            self.given_up = batch.given_up + batch.events;
        }
        self.queue.give_back(batch.reports, batch.bytes);
        self.note_queue();
    }

    /// The server ends, and what waits is told nobody.
    fn give_up(&mut self) -> u64 {
        let left: u64 = self.reports.try_iter().map(|report| report.events()).sum();
        self.counters.events_given_up.add(left);
        left + self.given_up
    }

    fn note_queue(&self) {
        self.counters.queue_events.set(self.queue.things());
        self.counters.queue_bytes.set(self.queue.bytes());
    }

    fn next_batch(&mut self) -> Option<Batch> {
        self.note_queue();
        let taken: Vec<Report> = self
            .reports
            .try_iter()
            .take(self.batch_events_max)
            .collect();
        if taken.is_empty() && self.given_up == 0 {
            return None;
        }
        let gap = (self.given_up > 0)
            .then(|| Written::given_up(self.given_up, unix_ms(), self.backend.next_id()));
        let events = taken
            .iter()
            .map(|report| Written::event(report, self.backend.next_id()));
        let written: Vec<Written<'_>> = gap.into_iter().chain(events).collect();
        Some(Batch {
            id: self.backend.next_id(),
            body: written_as_json(&written).into(),
            reports: taken.len() as u64,
            bytes: taken.iter().map(Report::bytes).sum(),
            events: taken.iter().map(Report::events).sum(),
            given_up: std::mem::take(&mut self.given_up),
        })
    }

    /// Sends a request until it has arrived. False where it is given up.
    async fn deliver(&mut self, batch: &Batch, end: &mut watch::Receiver<Option<Instant>>) -> bool {
        let begun = Instant::now();
        let mut attempts = Attempts::new(self.retry_max);
        loop {
            let now = Instant::now();
            let until =
                (now + self.backend.timeout).min(end_of(end).unwrap_or(now + self.backend.timeout));
            let sent = self
                .backend
                .post(&batch.id, batch.body.clone(), ANSWER_SIZE_MAX, until)
                .await;
            let error = match sent {
                Ok(_) => {
                    self.health.succeeded("to take events");
                    return true;
                }
                Err(error) => error,
            };
            self.health.failed("to take events", &error);
            let Some(pause) = attempts.failed(begun.elapsed(), &mut self.random) else {
                // What says that events were given up is none itself.
                if batch.events > 0 {
                    let attempts = attempts.failures();
                    tracing::warn!(%error, events = batch.events, attempts, "events for the backend of the webhooks are given up");
                }
                return false;
            };
            let pause = match end_of(end) {
                None => pause,
                Some(deadline) if Instant::now() >= deadline => return false,
                Some(_) => pause.min(FINISH_PAUSE_MAX),
            };
            tokio::select! {
                () = sleep(pause) => {}
                _ = end.changed() => {}
            }
            self.counters.retries.add(1);
            self.note_queue();
        }
    }
}

fn end_of(end: &watch::Receiver<Option<Instant>>) -> Option<Instant> {
    *end.borrow()
}

fn is_over(end: &watch::Receiver<Option<Instant>>) -> bool {
    end_of(end).is_some_and(|deadline| Instant::now() >= deadline)
}

fn unix_ms() -> u64 {
    // Before 1970 nothing is valid anyway.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as u64
}

/// Asks the backend what shards wait for, many things at the same time and each once.
pub(super) struct Decider {
    pub(super) backend: Arc<Backend>,
    pub(super) questions: mpsc::Receiver<Inquiry>,
    pub(super) contents: Arc<Budget>,
    pub(super) handle: Handle,
    pub(super) on_failure: OnFailure,
    pub(super) decisions_max: usize,
    pub(super) decision_ms_max: u64,
    pub(super) message_size_max: u64,
    pub(super) counters: Arc<Counters>,
}

/// What asking takes, for all questions.
struct Asking {
    backend: Arc<Backend>,
    contents: Arc<Budget>,
    handle: Handle,
    on_failure: OnFailure,
    decision_ms_max: u64,
    answer_max: usize,
    counters: Arc<Counters>,
    health: Health,
}

impl Decider {
    async fn run(self) {
        let Self {
            mut questions,
            decisions_max,
            ..
        } = self;
        let asking = Arc::new(Asking {
            backend: self.backend,
            contents: self.contents,
            handle: self.handle,
            on_failure: self.on_failure,
            decision_ms_max: self.decision_ms_max,
            answer_max: (self.message_size_max as usize).saturating_add(ANSWER_SIZE_MAX),
            counters: self.counters,
            health: Health::default(),
        });
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                inquiry = questions.recv(), if under_way.len() < decisions_max => {
                    let Some(inquiry) = inquiry else { break };
                    let question = if inquiry.publish.is_some() { "publish" } else { "connect" };
                    let span = tracing::info_span!("webhook", question, connection = %inquiry.connection);
                    under_way.spawn(Arc::clone(&asking).ask(inquiry).instrument(span));
                }
                Some(_) = under_way.join_next() => {}
            }
        }
    }
}

impl Asking {
    async fn ask(self: Arc<Self>, inquiry: Inquiry) {
        let is_publish = inquiry.publish.is_some();
        let asked = Instant::from_std(inquiry.asked);
        let ruling = match self.answer(&inquiry, asked + self.backend.timeout).await {
            Ok(ruling) => {
                self.health.succeeded("to decide");
                self.count(&ruling);
                ruling
            }
            Err(error) => {
                self.health.failed("to decide", &error);
                undecided(self.on_failure, is_publish, &self.counters)
            }
        };
        self.contents.give_back(1, inquiry.bytes());
        let shard = inquiry.connection.shard;
        let verdict = Verdict {
            question: inquiry.question,
            ruling,
        };
        let deadline = asked + Duration::from_millis(self.decision_ms_max);
        while self.handle.decide(shard, verdict.clone()).is_err() {
            if Instant::now() >= deadline {
                self.counters.verdicts_lost.add(1);
                return;
            }
            sleep(ORDER_RETRY).await;
        }
    }

    async fn answer(&self, inquiry: &Inquiry, until: Instant) -> Result<Ruling, String> {
        let id = self.backend.next_id();
        let body = Bytes::from(inquiry.body(&id));
        let answer = self.backend.post(&id, body, self.answer_max, until).await;
        let answer = answer.map_err(|failure| failure.to_string())?;
        answer::ruling(&answer, inquiry.publish.is_some()).map_err(|error| {
            self.counters.requests_failed_answer.add(1);
            error.to_string()
        })
    }

    fn count(&self, ruling: &Ruling) {
        let counters = &self.counters;
        match ruling {
            Ruling::Allow => counters.decisions_allowed.add(1),
            Ruling::Rewrite(_) => {
                counters.decisions_allowed.add(1);
                counters.decisions_rewritten.add(1);
            }
            Ruling::Dismiss(_) | Ruling::Refuse { .. } => counters.decisions_refused.add(1),
        }
    }
}
