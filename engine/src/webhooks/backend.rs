//! The HTTP client: one request at a time and what came of it. Follows no redirects, reads no proxy from the environment, and waits for nothing longer than it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout_at};

use super::counters::Counters;
use super::signature::Signer;
use crate::supervisor::seed;

/// How long a connection to the backend is kept for the next request.
const IDLE_MAX: Duration = Duration::from_secs(60);

const NAME: &str = concat!("shardcast/", env!("CARGO_PKG_VERSION"));

/// TLS to a backend that one of these vouches for.
fn client_config(authorities: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    match ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions() {
        Ok(builder) => builder
            .with_root_certificates(authorities)
            .with_no_client_auth(),
        // The provider has what the versions need: the server's own TLS is made of it.
        Err(error) => unreachable!("no version of TLS: {error}"),
    }
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer in time")]
    Timeout,
    #[error("status {0}")]
    Status(StatusCode),
    #[error("{0}")]
    Transport(String),
}

/// What a client is made from.
pub(super) struct BackendOptions<'a> {
    pub(super) url: &'a str,
    pub(super) signer: Arc<ArcSwap<Signer>>,
    /// Who vouches for it, where it speaks TLS.
    pub(super) authorities: RootCertStore,
    pub(super) timeout: Duration,
    pub(super) connections_max: usize,
    pub(super) counters: Arc<Counters>,
}

/// The backend, as far as it is reached.
pub(super) struct Backend {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
    signer: Arc<ArcSwap<Signer>>,
    pub(super) timeout: Duration,
    counters: Arc<Counters>,
    /// Tells the ids of this process from those of others.
    start: u64,
    number: AtomicU64,
}

impl Backend {
    pub(super) fn new(options: BackendOptions<'_>) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(options.timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(client_config(options.authorities))
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(options.connections_max)
            .build(connector);
        Self {
            client,
            // The setting permits URLs alone.
            url: options.url.parse().unwrap_or_default(),
            signer: options.signer,
            timeout: options.timeout,
            counters: options.counters,
            start: seed(),
            number: AtomicU64::new(0),
        }
    }

    /// An id that no other request or event has.
    pub(super) fn next_id(&self) -> String {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{number}", self.start)
    }

    /// Sends a request until a time at the latest, and answers the body of at most `answer_max` bytes.
    ///
    /// # Errors
    /// What went wrong. It is counted.
    pub(super) async fn post(
        &self,
        id: &str,
        body: Bytes,
        answer_max: usize,
        until: Instant,
    ) -> Result<Bytes, Failure> {
        let exchange = self.exchange(id, body, answer_max);
        let outcome = timeout_at(until, exchange).await;
        let outcome = outcome.unwrap_or(Err(Failure::Timeout));
        let counter = match &outcome {
            Ok(_) => &self.counters.requests_succeeded,
            Err(Failure::Timeout) => &self.counters.requests_failed_timeout,
            Err(Failure::Status(_)) => &self.counters.requests_failed_status,
            Err(Failure::Transport(_)) => &self.counters.requests_failed_transport,
        };
        counter.add(1);
        outcome
    }

    async fn exchange(&self, id: &str, body: Bytes, answer_max: usize) -> Result<Bytes, Failure> {
        let request = self.request(id, body).map_err(transport)?;
        let response = self.client.request(request).await.map_err(transport)?;
        let status = response.status();
        // Also what is of no interest: a connection whose answer was read is used again.
        let body = Limited::new(response.into_body(), answer_max)
            .collect()
            .await;
        if !status.is_success() {
            return Err(Failure::Status(status));
        }
        let body = body.map_err(|error| Failure::Transport(error.to_string()))?;
        Ok(body.to_bytes())
    }

    fn request(&self, id: &str, body: Bytes) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        // Before 1970 nothing is valid anyway.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_seconds = now.unwrap_or_default().as_secs();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(USER_AGENT, HeaderValue::from_static(NAME))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("webhook-id", id)
            .header("webhook-timestamp", unix_seconds);
        if let Some(signature) = self.signer.load().header(id, unix_seconds, &body) {
            request = request.header("webhook-signature", signature);
        }
        request.body(Full::new(body))
    }
}

/// An error with what it comes from, which alone says what happened.
fn transport(error: impl std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    Failure::Transport(text)
}
