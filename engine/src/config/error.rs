//! What can be wrong with a configuration. Each message is whole: it says where, what, and what is permitted.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::Source;
use crate::auth::KeyError;
use crate::tls::CertificateError;
use crate::topology::TopologyError;
use crate::webhooks::{AuthorityError, SecretError};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was named cannot be read.
    #[error("cannot read the configuration file {path} ({named_by}): {error}", path = path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// Who named it.
        named_by: Source,
        /// The system's answer.
        error: io::Error,
    },
    /// The file is not TOML.
    #[error("{path}:{line}:{column}: {message}", path = path.display())]
    FileSyntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
        /// What the TOML parser says.
        message: String,
    },
    /// A key of the file is not the name of a setting, or stands in the wrong table.
    #[error("{path}:{line}: unknown key `{key}`; {advice}", path = path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key, with its table.
        key: String,
        /// The nearest known name, or where the names are listed.
        advice: String,
    },
    /// A value is of the wrong kind or out of its range.
    #[error(
        "{given} is not permitted: it must be {permitted}. Correct it, or remove it for the default ({default})"
    )]
    Value {
        /// The name and the value, the way their source spells them, with file and line where there is one.
        given: String,
        /// What would be permitted.
        permitted: String,
        /// The default.
        default: String,
    },
    /// An entry `[[rooms]]` that cannot be used.
    #[error("{place}: {message}")]
    Rooms {
        /// File and line of the entry, or its place in the program's list.
        place: String,
        /// The value and the remedy.
        message: String,
    },
    /// Cores that may not be used.
    #[error("cores ({source_of_cores}): {error}")]
    Cores {
        /// Who asked for them.
        source_of_cores: Source,
        /// Which, and which may be used.
        error: TopologyError,
    },
    /// A file holds no key that tokens can be checked with.
    #[error("{name} ({source_of_path}): the file {path} {error}", path = path.display())]
    Key {
        /// The setting.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// Who named it.
        source_of_path: Source,
        /// What is wrong with it, and the remedy.
        error: KeyError,
    },
    /// The file with the secrets of webhooks cannot be used.
    #[error("webhook_secret ({source_of_path}): the file {path} {error}", path = path.display())]
    WebhookSecret {
        /// The file.
        path: PathBuf,
        /// Who named it.
        source_of_path: Source,
        /// What is wrong with it, and the remedy.
        error: SecretError,
    },
    /// The file with the authorities for a backend cannot be used.
    #[error("webhook_ca ({source_of_path}): the file {path} {error}", path = path.display())]
    WebhookAuthorities {
        /// The file.
        path: PathBuf,
        /// Who named it.
        source_of_path: Source,
        /// What is wrong with it, and the remedy.
        error: AuthorityError,
    },
    /// The certificate or its key cannot be used.
    #[error("{error} ({source_of_path})")]
    Certificate {
        /// Which file, what is wrong with it, and the remedy.
        error: Box<CertificateError>,
        /// Who named the file.
        source_of_path: Source,
    },
    /// Neither guests nor bearers of tokens are let in.
    #[error(
        "nobody could connect to {listen}: no key for tokens is configured, and connections without a token are let in only with --anonymous on, or, \
         where that is not set, on a loopback address; set --auth-key FILE, --auth-jwks FILE-OR-URL or --anonymous on \
         (listen: {source_of_listen}, anonymous: {source_of_anonymous})"
    )]
    NobodyMayConnect {
        /// Where the server would listen.
        listen: SocketAddr,
        /// Who said so.
        source_of_listen: Source,
        /// Who said whether guests are let in.
        source_of_anonymous: Source,
    },
    /// Values that are permitted singly and not together.
    #[error("{message} ({})", list(sources))]
    Contradiction {
        /// The values and the remedy.
        message: String,
        /// Where each of the values comes from.
        sources: Vec<(&'static str, Source)>,
    },
}

fn list(sources: &[(&'static str, Source)]) -> String {
    let parts: Vec<String> = sources
        .iter()
        .map(|(name, source)| format!("{name}: {source}"))
        .collect();
    parts.join(", ")
}
