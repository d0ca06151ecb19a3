//! What the process logs: one line an event on standard error, for people or as JSON.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter cannot be read.
    #[error("cannot read the log filter `{filter}`: {source}")]
    Filter {
        /// The filter.
        filter: String,
        /// Why not.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process logs already.
    #[error("cannot set up logging: {0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends the events that `filter` lets through (`info`, `warn,shardcast_shard=debug`) to standard error.
///
/// The setting is the process's, so it belongs to a program, not to an embedded engine.
///
/// # Errors
/// The filter cannot be read, or the process has set up logging before.
pub fn init(filter: &str, format: LogFormat) -> Result<(), LoggingError> {
    use tracing_subscriber::util::SubscriberInitExt as _;

    let lines = tracing_subscriber::fmt()
        .with_env_filter(parse_filter(filter)?)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => lines
            .with_ansi(io::stderr().is_terminal())
            .finish()
            .try_init()?,
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

/// Reads a filter in the syntax of `tracing_subscriber`'s `EnvFilter`.
///
/// # Errors
/// A directive is not `level`, `target` or `target=level`.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(filter).map_err(|source| LoggingError::Filter {
        filter: filter.to_owned(),
        source,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for filter in ["info", "warn,shardcast_shard=debug", "off"] {
            assert!(parse_filter(filter).is_ok(), "{filter}");
        }
        for filter in ["shardcast=loud", "info,=", "a=b=c"] {
            assert!(parse_filter(filter).is_err(), "{filter}");
        }
    }

    #[test]
    fn logging_is_set_up_once() {
        assert!(init("off", LogFormat::Json).is_ok());
        assert!(matches!(
            init("off", LogFormat::Text),
            Err(LoggingError::Taken(_))
        ));
    }
}
