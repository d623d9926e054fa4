//! Text from a master without its secrets. [`Redacted`] can only be made by removing them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Text that went through the redactor: no API key, no user-info in any URL.
///
/// It is deserialised as it stands, from the journal and the database only: what is there was redacted before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Redacted(Arc<str>);

impl Redacted {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Text out of our own database, which was redacted before it got there.
    #[must_use]
    pub fn from_store(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl Default for Redacted {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
