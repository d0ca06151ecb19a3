//! What can be wrong with a configuration. Each message is whole: it says where, what, and what is permitted.

use std::io;
use std::path::PathBuf;

use super::Source;
use crate::topology::TopologyError;

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
    /// Cores that may not be used.
    #[error("cores ({source_of_cores}): {error}")]
    Cores {
        /// Who asked for them.
        source_of_cores: Source,
        /// Which, and which may be used.
        error: TopologyError,
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
