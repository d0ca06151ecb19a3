//! Webhooks: a backend is asked over HTTP whether connections may come in and messages be published, and told what happens.
//!
//! Shards speak to the control thread alone, through a [`Reporter`] each, and never wait for it: what does not fit is dropped, counted and said so. The control thread has
//! a courier that sends what it is given: *questions* (`connect`, `publish`) one by one, many at once, and each once; *events* (`connected`, `disconnected`, `room_occupied`, …) in order, many in one request,
//! one request at a time, and each until it has arrived or is given up.
//!
//! `report` is what shards say, `reporter` how; `backend` is the HTTP client, `authorities` says whom it believes, `signature` what requests are signed with, `answer` reads what comes back; `courier` sends, and
//! `attempts` says when the same request is sent again.

mod answer;
mod attempts;
mod authorities;
mod backend;
mod budget;
mod counters;
mod courier;
mod report;
mod reporter;
mod signature;

pub use authorities::AuthorityError;
pub use counters::Counters;
pub(crate) use courier::Courier;
pub use reporter::Reporter;
pub use signature::SecretError;

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use tokio::sync::mpsc;

use crate::config::{ConfigError, EffectiveConfig, WebhookConfig};
use crate::engine::Handle;
use backend::{Backend, BackendOptions};
use budget::Budget;
use courier::{Decider, Teller};
use report::{Inquiry, Report};
use reporter::ReporterOptions;
use signature::Signer;

/// The control thread's end of the webhooks, before anything is sent.
pub struct Webhooks {
    config: WebhookConfig,
    /// Bytes of content that a message may have.
    message_size_max: u64,
    decision_ms_max: u64,
    signer: Arc<ArcSwap<Signer>>,
    authorities: RootCertStore,
    counters: Arc<Counters>,
    reports: crossbeam_channel::Receiver<Report>,
    queue: Arc<Budget>,
    questions: mpsc::Receiver<Inquiry>,
    contents: Arc<Budget>,
}

impl Webhooks {
    /// What a configuration says, and what the shards report through; `None` where there is no backend.
    ///
    /// # Errors
    /// The file with the secrets cannot be used.
    pub fn prepare(effective: &EffectiveConfig) -> Result<Option<(Reporter, Self)>, ConfigError> {
        let config = &effective.config().webhooks;
        if config.url.is_none() {
            return Ok(None);
        }
        let limits = &effective.config().limits;
        let signer = Signer::of(config.secret_file.as_deref()).map_err(|error| {
            ConfigError::WebhookSecret {
                path: config.secret_file.clone().unwrap_or_default(),
                source_of_path: effective.source("webhook_secret"),
                error,
            }
        })?;
        let authorities = authorities::configured(config.ca_file.as_deref()).map_err(|error| {
            ConfigError::WebhookAuthorities {
                path: config.ca_file.clone().unwrap_or_default(),
                source_of_path: effective.source("webhook_ca"),
                error,
            }
        })?;
        let counters = Arc::new(Counters::default());
        let queue = Arc::new(Budget::new(config.queue_events_max, config.queue_bytes_max));
        let contents = Arc::new(Budget::new(u64::MAX, config.queue_bytes_max));
        // Bounded by the budget, which counts what the courier has taken out, too: a channel with as many places would take their memory at the start.
        let (report_sender, reports) = crossbeam_channel::unbounded();
        let (question_sender, questions) = mpsc::channel(config.decisions_max as usize);
        let reporter = Reporter::new(ReporterOptions {
            config,
            reports: report_sender,
            queue: Arc::clone(&queue),
            questions: question_sender,
            contents: Arc::clone(&contents),
            counters: Arc::clone(&counters),
        });
        let webhooks = Self {
            config: config.clone(),
            message_size_max: limits.message_size_max,
            decision_ms_max: limits.decision_ms_max,
            signer: Arc::new(ArcSwap::from_pointee(signer)),
            authorities,
            counters,
            reports,
            queue,
            questions,
            contents,
        };
        Ok(Some((reporter, webhooks)))
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Starts to send, on the runtime of the calling thread. Verdicts go through `handle`.
    pub(crate) fn start(self, handle: Handle) -> Courier {
        let backend = Arc::new(Backend::new(BackendOptions {
            url: self.config.url.as_deref().unwrap_or_default(),
            signer: Arc::clone(&self.signer),
            authorities: self.authorities,
            timeout: self.config.timeout,
            connections_max: self.config.decisions_max as usize + 1,
            counters: Arc::clone(&self.counters),
        }));
        let teller = Teller::new(
            Arc::clone(&backend),
            self.reports,
            self.queue,
            &self.config,
            Arc::clone(&self.counters),
        );
        let decider = Decider {
            backend,
            questions: self.questions,
            contents: self.contents,
            handle,
            on_failure: self.config.on_failure,
            decisions_max: self.config.decisions_max as usize,
            decision_ms_max: self.decision_ms_max,
            message_size_max: self.message_size_max,
            counters: Arc::clone(&self.counters),
        };
        Courier::start(
            teller,
            decider,
            self.signer,
            self.config.secret_file,
            self.counters,
        )
    }
}
