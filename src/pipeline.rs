//! Stand-in for the pipeline, so that this branch compiles: the signatures that the HTTP layer and the commands build on.

#![allow(clippy::unused_async, clippy::missing_errors_doc)]

use std::fmt;

use serde::Serialize;
use tokio::sync::watch;

use crate::actors::sse_ingest::IngestState;
use crate::config::Config;
use crate::endpoint::{Endpoint, EndpointHealth};
use crate::event::{EndpointId, TunnelKey, TunnelState};
use crate::replay::Capture;
use crate::status::snapshot::Stats;
use crate::store::{EndpointChange, NewEndpoint};

/// A running recorder.
#[derive(Clone)]
pub struct RecorderHandle {}

/// What came of a flush on request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlushAnswer {
    /// Records committed since the request.
    pub committed: u64,
    /// Records that wait.
    pub waiting: u64,
    /// Why they wait; `None` if all is done.
    pub error: Option<String>,
}

/// An endpoint as it is shown. `endpoint.api_key` must not leave the process.
#[derive(Clone, Debug)]
pub struct EndpointView {
    /// Definition.
    pub endpoint: Endpoint,
    /// Health.
    pub health: EndpointHealth,
    /// Counters of this run.
    pub state: IngestState,
    /// Number of its tunnels.
    pub tunnels: usize,
}

/// A tunnel as it is shown.
#[derive(Clone, Debug)]
pub struct TunnelView {
    /// Which.
    pub key: TunnelKey,
    /// Live state.
    pub state: TunnelState,
    /// Name of its endpoint.
    pub endpoint_name: String,
}

/// A change of endpoints was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such endpoint.
    #[error("there is no endpoint named `{0}`; see `tidegate endpoint list`")]
    NotFound(String),
    /// What is there forbids it.
    #[error("{0}")]
    Conflict(String),
    /// The database cannot take it now.
    #[error("not stored: {0}; try again when the database works")]
    Unavailable(String),
}

/// What came of a shutdown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownSummary {}

impl fmt::Display for ShutdownSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped")
    }
}

/// A recorder did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This build has no recorder.
    #[error("this build has no recorder yet")]
    Missing,
}

impl RecorderHandle {
    /// The document of `GET /api/v1/stats`.
    #[must_use]
    pub fn stats(&self) -> Stats {
        todo!()
    }

    /// Why the recorder is not ready, if it is not.
    pub fn ready(&self) -> Result<(), String> {
        todo!()
    }

    /// Flushes what is buffered.
    pub async fn flush(&self) -> FlushAnswer {
        todo!()
    }

    /// All endpoints, by name.
    pub async fn endpoints(&self) -> Vec<EndpointView> {
        todo!()
    }

    /// Makes an endpoint and follows it.
    pub async fn add_endpoint(&self, new: NewEndpoint) -> Result<EndpointId, ChangeError> {
        todo!("{}", new.name)
    }

    /// Changes an endpoint.
    pub async fn change_endpoint(&self, name: &str, change: EndpointChange) -> Result<(), ChangeError> {
        todo!("{name} {change:?}")
    }

    /// Drains and removes an endpoint.
    pub async fn remove_endpoint(&self, name: &str, purge: bool) -> Result<(), ChangeError> {
        todo!("{name} {purge}")
    }

    /// All tunnels.
    pub async fn tunnels(&self) -> Vec<TunnelView> {
        todo!()
    }

    /// Stops in order.
    pub async fn shutdown(&self) -> ShutdownSummary {
        todo!()
    }
}

/// Starts the recorder; `waiting` says what is waited for meanwhile, if anything is.
pub async fn start(_config: &Config, _waiting: &watch::Sender<Option<String>>) -> Result<RecorderHandle, StartError> {
    Err(StartError::Missing)
}

/// A capture, and the endpoint that it is counted to.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Name of the endpoint; made paused and without a key if it is not there.
    pub endpoint: String,
    /// What was recorded.
    pub capture: Capture,
}

/// What came of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplaySummary {
    /// Rows that are new.
    pub written: u64,
    /// Rows that were there.
    pub skipped: u64,
}

/// Feeds captures through the actors, one after the other, and drains.
pub async fn replay(_config: &Config, _jobs: Vec<Replay>) -> Result<ReplaySummary, StartError> {
    Err(StartError::Missing)
}
