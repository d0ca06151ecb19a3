//! What a backend is asked and told over HTTP, as it is configured.

use std::path::PathBuf;
use std::time::Duration;

use shardcast_shard::limits::Limits;

use super::Contradiction;

/// What becomes of whoever waits for a decision that the backend does not give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Connections are refused, and messages are not published.
    #[default]
    Refuse,
    /// Connections come in, and messages are published as they are.
    Allow,
}

/// The words of `webhook_events`.
pub const WEBHOOK_EVENTS: [&str; 6] = [
    "connect",
    "connected",
    "disconnected",
    "room_occupied",
    "room_vacated",
    "publish",
];

/// What a backend is asked and told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Where the requests go; without it there are none.
    pub url: Option<String>,
    /// Which, each one of [`WEBHOOK_EVENTS`].
    pub events: Vec<String>,
    /// Patterns of the rooms whose messages are asked about. Empty: all of them, and direct messages.
    pub publish_rooms: Vec<String>,
    /// File with the secrets that requests are signed with.
    pub secret_file: Option<PathBuf>,
    /// File with the certificates of those who vouch for a backend on `https`; without it public authorities do.
    pub ca_file: Option<PathBuf>,
    /// What happens where no decision comes.
    pub on_failure: OnFailure,
    /// Time for an answer.
    pub timeout: Duration,
    /// How long a notification is tried.
    pub retry_max: Duration,
    /// Notifications that wait at most.
    pub queue_events_max: u64,
    /// Bytes that they take at most.
    pub queue_bytes_max: u64,
    /// Notifications in one request at most.
    pub batch_events_max: u64,
    /// Decisions that are asked for at the same time at most.
    pub decisions_max: u64,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        let events = WEBHOOK_EVENTS.iter().filter(|event| **event != "publish");
        Self {
            url: None,
            events: events.map(|event| (*event).to_owned()).collect(),
            publish_rooms: Vec::new(),
            secret_file: None,
            ca_file: None,
            on_failure: OnFailure::default(),
            timeout: Duration::from_secs(3),
            retry_max: Duration::from_secs(3600),
            queue_events_max: 100_000,
            queue_bytes_max: 32 << 20,
            batch_events_max: 200,
            decisions_max: 256,
        }
    }
}

impl WebhookConfig {
    /// Whether the events include this one.
    #[must_use]
    pub fn includes(&self, event: &str) -> bool {
        self.events.iter().any(|other| other == event)
    }

    /// Whether requests leave this machine neither by their scheme's protection nor at all: to a loopback address they may go unsigned.
    fn stays_here(url: &str) -> bool {
        let host = url.parse::<ureq::http::Uri>().ok();
        let host = host.as_ref().and_then(ureq::http::Uri::host);
        host.is_some_and(|host| {
            let address = host.trim_start_matches('[').trim_end_matches(']');
            let address = address.parse::<std::net::IpAddr>();
            host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
        })
    }

    /// What contradicts itself: the message, and the names of the settings in it.
    pub(super) fn contradiction(&self, limits: &Limits) -> Contradiction {
        let Some(url) = &self.url else {
            return self.secret_file.is_some().then(|| {
                let message = "webhook_secret is set, but there are no webhooks without webhook_url; set it too, or remove webhook_secret";
                (message.to_owned(), &["webhook_secret", "webhook_url"][..])
            });
        };
        if self.secret_file.is_none() && !Self::stays_here(url) {
            let message = "webhook_url names another machine and webhook_secret is not set, so the backend could not tell requests of this server from those of anybody \
                           else; set webhook_secret";
            return Some((message.to_owned(), &["webhook_url", "webhook_secret"]));
        }
        if self.ca_file.is_some() && !url.starts_with("https://") {
            let message = "webhook_ca is set, but webhook_url does not begin with https://, so no certificate is asked for; change the URL, or remove webhook_ca";
            return Some((message.to_owned(), &["webhook_ca", "webhook_url"]));
        }
        if self.events.is_empty() {
            let message = "webhook_url is set and webhook_events is empty, so nothing would be asked or told; name events, or remove webhook_url";
            return Some((message.to_owned(), &["webhook_url", "webhook_events"]));
        }
        if !self.publish_rooms.is_empty() && !self.includes("publish") {
            let message = "webhook_publish_rooms is set, but webhook_events does not include publish; add it, or remove webhook_publish_rooms";
            return Some((
                message.to_owned(),
                &["webhook_publish_rooms", "webhook_events"],
            ));
        }
        let decision_ms_max = u128::from(limits.decision_ms_max);
        if self.timeout.as_millis() >= decision_ms_max {
            let message = format!(
                "webhook_timeout_ms = {} must be less than decision_ms_max = {decision_ms_max}, after which nobody waits for the answer; lower the first or raise the second",
                self.timeout.as_millis()
            );
            return Some((message, &["webhook_timeout_ms", "decision_ms_max"]));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_on_this_machine() {
        for url in [
            "http://localhost:80/x",
            "http://127.0.0.1",
            "https://127.8.9.1:8443/hook",
            "http://[::1]:9/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(WebhookConfig::stays_here(url), "{url}");
        }
        for url in [
            "http://localhost.example.org/",
            "http://10.0.0.1/",
            "https://127.0.0.1.example.org/",
            "http://[::2]/",
            "nonsense",
        ] {
            assert!(!WebhookConfig::stays_here(url), "{url}");
        }
    }
}
