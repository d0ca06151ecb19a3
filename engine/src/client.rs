//! The commands that talk to a server: `chat`, `publish`, `rooms` and `top`.
//!
//! They know the public protocol and the admin API, and nothing of the engine: what they do, any other client can.

pub mod api;
pub mod chat;
pub mod figures;
mod help;
pub mod publish;
pub mod rooms;
pub mod terminal;
pub mod text;
pub mod top;

use std::io;
use std::process::ExitCode;

/// What a command is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Talk in rooms.
    Chat(chat::Options),
    /// Publish one message, or a line each.
    Publish(publish::Options),
    /// Show rooms.
    Rooms(rooms::Options),
    /// Watch a server.
    Top(top::Options),
}

/// Why a command has failed, for whoever typed it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The admin API was not reached, or refused.
    #[error(transparent)]
    Api(#[from] api::ApiError),
    /// The server was not reached, or refused.
    #[error(transparent)]
    Chat(#[from] chat::ChatError),
    /// The content cannot be published in the form that was asked for.
    #[error(transparent)]
    Content(#[from] publish::NotJson),
    /// The terminal, standard input or standard output.
    #[error("cannot use the terminal: {0}")]
    Terminal(#[from] io::Error),
}

impl ClientError {
    /// Whether the command line is to blame.
    #[must_use]
    pub const fn is_misuse(&self) -> bool {
        matches!(
            self,
            Self::Content(_)
                | Self::Api(api::ApiError::Token { .. })
                | Self::Chat(chat::ChatError::File { .. })
        )
    }
}

/// Does it.
///
/// # Errors
/// What happened, and what to do about it.
pub fn run(task: &Task) -> Result<ExitCode, ClientError> {
    let outcome = match task {
        Task::Chat(options) => chat::run(options),
        Task::Publish(options) => publish::run(options),
        Task::Rooms(options) => rooms::run(options),
        Task::Top(options) => top::run(options),
    };
    match outcome {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(ClientError::Terminal(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        outcome => outcome,
    }
}
