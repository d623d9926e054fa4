//! Questions about what is stored, and the documents that answer them.
//!
//! A question comes as text, from a URL or from the command line, and is checked here; its answer is made from what a
//! [`ReadConnection`] holds and what the recorder has in memory. Routes and commands share
//! these functions, so that both answer alike. No clock is read here: the time is an argument.

pub mod buffered;
pub mod calendar;
pub mod events;
pub mod export;
pub mod falls;
pub mod flushes;
pub mod gaps;
pub mod heard;
pub mod history;
pub mod range;
pub mod storage;
pub mod traffic;

pub use crate::actors::buffer::HistoryScope as Scope;
use crate::event::{EndpointId, InstanceId, TunnelKey};
use crate::store::{ReadConnection, StoreError};

/// A question that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It asks for something that does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be asked so.
    #[error("{0}")]
    Invalid(String),
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many ask at once, or the answer takes too long.
    #[error("{0}")]
    Busy(String),
}

/// Names of endpoints by id. An endpoint that was removed has none any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Vec<(EndpointId, String)>);

impl Names {
    /// Reads them.
    ///
    /// # Errors
    /// As the database gives them.
    pub fn read(reader: &mut ReadConnection) -> Result<Self, StoreError> {
        Ok(Self(reader.endpoint_names()?))
    }

    /// The name of an endpoint.
    #[must_use]
    pub fn of(&self, id: EndpointId) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == id).map(|(_, name)| name.as_str())
    }

    /// The endpoint with that name.
    ///
    /// # Errors
    /// [`QueryError::NotFound`].
    pub fn find(&self, name: &str) -> Result<EndpointId, QueryError> {
        let found = self.0.iter().find(|(_, known)| known == name).map(|(id, _)| *id);
        found.ok_or_else(|| QueryError::NotFound(format!("there is no endpoint named `{}`", name.escape_debug())))
    }

    /// The tunnel that `ENDPOINT/INSTANCE_ID` names; whether there is one is not looked at.
    ///
    /// # Errors
    /// [`QueryError`] where it is no such text or the endpoint does not exist.
    pub fn tunnel(&self, address: &str) -> Result<TunnelKey, QueryError> {
        match address.split_once('/') {
            Some((endpoint, instance)) if !instance.is_empty() && instance.len() <= INSTANCE_ID_BYTES_MAX => {
                Ok(TunnelKey { endpoint: self.find(endpoint)?, instance: InstanceId::from(instance) })
            }
            _ => Err(QueryError::Invalid(format!(
                "`{}` is no tunnel: give ENDPOINT/INSTANCE_ID",
                address.chars().take(INSTANCE_ID_BYTES_MAX).collect::<String>().escape_debug()
            ))),
        }
    }

    /// What `endpoint` and `tunnel` restrict a question to.
    ///
    /// # Errors
    /// [`QueryError`] where they do not exist or contradict each other.
    pub fn scope(&self, endpoint: Option<&str>, tunnel: Option<&str>) -> Result<Scope, QueryError> {
        match (endpoint, tunnel) {
            (None, None) => Ok(Scope::Fleet),
            (Some(name), None) => Ok(Scope::Endpoint(self.find(name)?)),
            (None, Some(address)) => Ok(Scope::Tunnel(self.tunnel(address)?)),
            (Some(_), Some(_)) => Err(QueryError::Invalid("give `endpoint` or `tunnel`, not both".to_owned())),
        }
    }
}

/// Longest instance id that is looked for. A master's have 8 digits.
const INSTANCE_ID_BYTES_MAX: usize = 256;

/// A positive whole number from 1 to `max`.
fn limit(given: Option<u32>, default: u32, max: u32) -> Result<u32, QueryError> {
    match given {
        None => Ok(default),
        Some(limit) if (1..=max).contains(&limit) => Ok(limit),
        Some(limit) => Err(QueryError::Invalid(format!("limit={limit}: give 1 to {max}"))),
    }
}

/// An id as JSON carries it: a text of digits.
fn id(name: &str, text: Option<&str>) -> Result<Option<i64>, QueryError> {
    let wrong = || QueryError::Invalid(format!("`{name}` is no id: give what `next` of an earlier answer was"));
    text.map(|text| text.parse::<i64>().ok().filter(|id| *id > 0).ok_or_else(wrong)).transpose()
}
