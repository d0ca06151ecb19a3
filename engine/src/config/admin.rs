//! The admin API, as it is configured.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::Contradiction;

/// Where the admin API listens, who may use it, and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Address and port; `None`: there is none. Port 0 lets the kernel choose.
    pub listen: Option<SocketAddr>,
    /// File with the bearer token (RFC 6750) that every request must bring; without it whoever reaches the address may do everything.
    pub token_file: Option<PathBuf>,
    /// Connections at one time. Others wait to be accepted.
    pub connections_max: usize,
    /// Bytes of a request's body; above it: 413.
    pub request_size_max: usize,
    /// Messages of one bulk request; above it: 413.
    pub messages_max: usize,
    /// Time in which the shards must have answered; after it: 503.
    pub wait_max: Duration,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9001))),
            token_file: None,
            connections_max: 64,
            request_size_max: 1 << 20,
            messages_max: 1000,
            wait_max: Duration::from_secs(5),
        }
    }
}

impl AdminConfig {
    /// What contradicts itself: the message, and the names of the settings in it.
    pub(super) fn contradiction(&self) -> Contradiction {
        let listen = self.listen?;
        if listen.ip().to_canonical().is_loopback() || self.token_file.is_some() {
            return None;
        }
        let message = format!(
            "admin = {listen} is reached from other hosts, and whoever reaches it could do everything; set --admin-token FILE, --admin 127.0.0.1:{} or --admin off",
            listen.port()
        );
        Some((message, &["admin", "admin_token"]))
    }
}
