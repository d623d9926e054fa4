//! What the routes ask of a recorder. A trait, so that the routes are tested without one.

use actix_web::http::StatusCode;

use super::problem::Problem;
use crate::actors::alerts::{AlertsState, TestedChannels};
use crate::actors::buffer::{FlushAnswer, WaitingHistory};
use crate::actors::endpoints::{ChangeError, EndpointView};
use crate::event::EndpointId;
use crate::live::Delta;
use crate::query::Scope;
use crate::query::buffered::{Buffered, Wanted};
use crate::recorder::RecorderHandle;
use crate::status::snapshot::Stats;
use crate::store::{EndpointChange, NewEndpoint};

/// A recorder as the HTTP server sees it.
pub trait RecorderApi: Clone + Send + 'static {
    /// The document of `GET /api/v1/stats`.
    fn stats(&self) -> Stats;

    /// `Err` with the reason while something that matters does not work: database, journal, a flush that is overdue.
    ///
    /// # Errors
    /// The reason, for people.
    fn ready(&self) -> Result<(), String>;

    /// Flushes what is buffered; the answer comes when it is committed or failed.
    fn flush(&self) -> impl Future<Output = FlushAnswer>;

    /// All endpoints, by name. The problem is that they are not known yet.
    fn endpoints(&self) -> impl Future<Output = Result<Vec<EndpointView>, Problem>>;

    /// Makes an endpoint and follows it.
    fn add_endpoint(&self, new: NewEndpoint) -> impl Future<Output = Result<EndpointId, ChangeError>>;

    /// Changes an endpoint; it is in effect when the answer comes.
    fn change_endpoint(&self, name: &str, change: EndpointChange) -> impl Future<Output = Result<(), ChangeError>>;

    /// Drains and removes an endpoint; with `purge` its events and history too.
    fn remove_endpoint(&self, name: &str, purge: bool) -> impl Future<Output = Result<(), ChangeError>>;

    /// What changed in live state after a version; as [`RecorderApi::endpoints`]. For the [`mirror`](super::mirror), which asks
    /// for all readers together.
    fn live_since(&self, version: u64) -> impl Future<Output = Result<Delta, Problem>>;

    /// What is wrong, and how the channels do.
    fn alerts(&self) -> AlertsState;

    /// Sends a test message on every channel; none if no channel is configured.
    fn test_alerts(&self) -> impl Future<Output = Result<TestedChannels, Problem>>;

    /// What is received and not in the database yet.
    fn buffered(&self, _wanted: Wanted) -> impl Future<Output = Result<Buffered, Problem>> {
        async { Ok(Buffered::default()) }
    }

    /// History that is not in the database yet.
    fn waiting_history(&self, _scope: Scope) -> impl Future<Output = Result<WaitingHistory, Problem>> {
        async { Ok(WaitingHistory::default()) }
    }
}

impl RecorderApi for RecorderHandle {
    fn stats(&self) -> Stats {
        self.stats()
    }

    fn ready(&self) -> Result<(), String> {
        self.ready()
    }

    async fn flush(&self) -> FlushAnswer {
        self.flush().await
    }

    async fn endpoints(&self) -> Result<Vec<EndpointView>, Problem> {
        Ok(self.endpoints().await)
    }

    async fn add_endpoint(&self, new: NewEndpoint) -> Result<EndpointId, ChangeError> {
        self.add_endpoint(new).await
    }

    async fn change_endpoint(&self, name: &str, change: EndpointChange) -> Result<(), ChangeError> {
        self.change_endpoint(name, change).await
    }

    async fn remove_endpoint(&self, name: &str, purge: bool) -> Result<(), ChangeError> {
        self.remove_endpoint(name, purge).await
    }

    async fn live_since(&self, version: u64) -> Result<Delta, Problem> {
        let stopping = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the recorder is stopping");
        self.live_since(version).await.ok_or_else(stopping)
    }

    fn alerts(&self) -> AlertsState {
        self.alerts()
    }

    async fn test_alerts(&self) -> Result<TestedChannels, Problem> {
        let stopping = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the recorder is stopping");
        self.test_alerts().await.ok_or_else(stopping)
    }

    async fn buffered(&self, wanted: Wanted) -> Result<Buffered, Problem> {
        Ok(self.buffered(wanted).await)
    }

    async fn waiting_history(&self, scope: Scope) -> Result<WaitingHistory, Problem> {
        Ok(self.waiting_history(scope).await)
    }
}
