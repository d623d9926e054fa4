//! The database as the commands use it while no recorder runs. The one place where they meet `store`.

use super::exit::Failure;
use crate::config::{Config, DatabaseUrl};
use crate::http::document::{EndpointDocument, TunnelDocument};
use crate::store::{Store, StoreError, StoreErrorKind};

/// A connection that reads and takes no lock.
pub trait Reader {
    /// All endpoints, by name.
    ///
    /// # Errors
    /// As the database gives them.
    fn endpoints(&mut self) -> Result<Vec<EndpointDocument>, StoreError>;

    /// All tunnels, by endpoint and instance.
    ///
    /// # Errors
    /// As the database gives them.
    fn tunnels(&mut self) -> Result<Vec<TunnelDocument>, StoreError>;
}

/// Opens the database for reading.
///
/// # Errors
/// As the database gives them; there may be none yet.
pub fn reader(database: &DatabaseUrl) -> Result<Box<dyn Reader>, StoreError> {
    Err(missing(database))
}

/// Opens the database for writing: locked, made if it is not there, migrated.
///
/// # Errors
/// [`OpenError::InUse`] while a recorder has it.
pub fn writer(config: &Config) -> Result<Box<dyn Store>, OpenError> {
    Err(OpenError::of(missing(&config.database)))
}

/// Brings the schema up to date and names the migrations that ran.
///
/// # Errors
/// [`OpenError::InUse`] while a recorder has the database.
pub fn migrate(database: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
    Err(OpenError::of(missing(database)))
}

fn missing(database: &DatabaseUrl) -> StoreError {
    let message = format!("cannot open {database}: this build has no store yet");
    StoreError { kind: StoreErrorKind::Fatal, in_doubt: false, message }
}

/// Why the database could not be had for writing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it; the text names its pid.
    #[error("{0}")]
    InUse(String),
    /// Anything else.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// Tells the two apart by the store's words: its lock has no error kind of its own.
    #[must_use]
    pub fn of(error: StoreError) -> Self {
        if error.kind == StoreErrorKind::Fatal && error.message.contains("in use by") {
            Self::InUse(error.message)
        } else {
            Self::Store(error)
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::database(error.to_string())
    }
}
