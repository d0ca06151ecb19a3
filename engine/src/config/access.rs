//! Who may connect, as it is configured.

use std::path::PathBuf;
use std::time::Duration;

use super::Contradiction;

/// Whether connections without a token are let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// Where the server listens on a loopback address and no keys are configured.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Who may connect, and which tokens count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessConfig {
    /// Whether connections without a token are let in.
    pub anonymous: Anonymous,
    /// File with the key of tokens: a secret, or a public key in PEM.
    pub key_file: Option<PathBuf>,
    /// File or URL of a JWK set (RFC 7517).
    pub key_set: Option<String>,
    /// What the claim `iss` of a token must be.
    pub issuer: Option<String>,
    /// What the claim `aud` of a token must be or contain.
    pub audience: Option<String>,
    /// How far the issuer's clock and this one may be apart.
    pub leeway: Duration,
    /// How often a set is fetched from its URL.
    pub refresh: Duration,
    /// Least time between two fetches.
    pub refresh_min: Duration,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            anonymous: Anonymous::default(),
            key_file: None,
            key_set: None,
            issuer: None,
            audience: None,
            leeway: Duration::from_secs(10),
            refresh: Duration::from_secs(300),
            refresh_min: Duration::from_secs(10),
        }
    }
}

impl AccessConfig {
    /// Whether tokens are checked.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.key_file.is_some() || self.key_set.is_some()
    }

    /// What contradicts itself: the message, and the names of the settings in it.
    pub(super) fn contradiction(&self) -> Contradiction {
        for (name, value) in [
            ("auth_issuer", &self.issuer),
            ("auth_audience", &self.audience),
        ] {
            if value.is_some() && !self.has_keys() {
                let message = format!(
                    "{name} is set, but tokens are not checked without a key; set auth_key or auth_jwks too, or remove it"
                );
                let names: &[&str] = match name {
                    "auth_issuer" => &["auth_issuer"],
                    _ => &["auth_audience"],
                };
                return Some((message, names));
            }
        }
        if self.refresh_min > self.refresh {
            let message = format!(
                "auth_jwks_refresh_ms_min = {} must not exceed auth_jwks_refresh_ms = {}; lower the first or raise the second",
                self.refresh_min.as_millis(),
                self.refresh.as_millis()
            );
            return Some((
                message,
                &["auth_jwks_refresh_ms_min", "auth_jwks_refresh_ms"],
            ));
        }
        None
    }
}

/// Whether a key set is fetched and not read.
#[must_use]
pub fn is_url(key_set: &str) -> bool {
    key_set.contains("://")
}
