//! The two kinds of failure on a shard: one ends a connection, the other ends the shard.

/// The shard cannot go on. The supervisor starts a new one on the same core and port.
#[derive(Debug, thiserror::Error)]
pub enum FatalError {
    /// A part of the ring could not be set up.
    #[error("cannot set up io_uring: {step} failed with {source}. {remedy}")]
    RingSetup {
        /// What was being done.
        step: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
        /// What the operator can do.
        remedy: String,
    },
    /// The ring refused to go on.
    #[error("io_uring failed during {step}: {source}")]
    Ring {
        /// What was being done.
        step: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The executor could not be started on its core.
    #[error("cannot start the executor on core {core}: {message}")]
    Executor {
        /// The core it was to be pinned to.
        core: usize,
        /// What glommio said.
        message: String,
    },
    /// The shard's own code panicked.
    #[error("the shard panicked: {0}")]
    Panic(String),
}
