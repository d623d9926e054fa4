//! How the program ends.

use crate::config::ConfigError;
use crate::store::StoreError;

/// Exit codes; they are a public interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Done = 0,
    /// A check, comparison or invariant failed.
    Failed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Recorder or master not reachable.
    Unreachable = 3,
    /// Database.
    Database = 4,
    /// A second signal.
    Interrupted = 130,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// A command failed: what is printed, and how the program ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How the program ends.
    pub code: ExitCode,
    /// What happened and what to do.
    pub message: String,
}

impl Failure {
    /// Wrong usage or configuration.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: ExitCode::Usage, message: message.into() }
    }

    /// The recorder is not reachable.
    #[must_use]
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { code: ExitCode::Unreachable, message: message.into() }
    }

    /// The database cannot do it.
    #[must_use]
    pub fn database(message: impl Into<String>) -> Self {
        Self { code: ExitCode::Database, message: message.into() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::database(error.to_string())
    }
}
