//! A recorder that may still be waiting for its database. The server is up from the first moment, so that `/readyz` can say
//! what is waited for.

use actix_web::http::StatusCode;
use tokio::sync::watch;

use super::problem::Problem;
use super::recorder::RecorderApi;
use crate::actors::alerts::{AlertsState, TestedChannels};
use crate::actors::buffer::{FlushAnswer, WaitingHistory};
use crate::actors::endpoints::{ChangeError, EndpointView};
use crate::event::EndpointId;
use crate::live::Delta;
use crate::query::Scope;
use crate::query::buffered::{Buffered, Wanted};
use crate::status::snapshot::{DatabaseStats, Stats};
use crate::store::{EndpointChange, NewEndpoint};

/// The recorder once it is there, and until then the reason why it is not.
#[derive(Clone, Debug)]
pub struct Starting<R> {
    recorder: watch::Receiver<Option<R>>,
    waiting: watch::Receiver<Option<String>>,
}

impl<R: RecorderApi + Sync> Starting<R> {
    /// `recorder` is set when it has started; `waiting` says what is waited for, if anything is.
    #[must_use]
    pub fn new(recorder: watch::Receiver<Option<R>>, waiting: watch::Receiver<Option<String>>) -> Self {
        Self { recorder, waiting }
    }

    fn get(&self) -> Result<R, String> {
        self.recorder.borrow().clone().ok_or_else(|| match &*self.waiting.borrow() {
            Some(reason) => format!("nothing is received until the endpoints are known: {reason}"),
            None => "the recorder is starting: nothing is received until the endpoints are known".to_owned(),
        })
    }

    fn or_problem(&self) -> Result<R, Problem> {
        self.get().map_err(|reason| Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason))
    }

    fn or_unavailable(&self) -> Result<R, ChangeError> {
        self.get().map_err(ChangeError::Unavailable)
    }
}

impl<R: RecorderApi + Sync> RecorderApi for Starting<R> {
    fn stats(&self) -> Stats {
        match self.get() {
            Ok(recorder) => recorder.stats(),
            Err(reason) => Stats { database: DatabaseStats { ok: false, since: None, error: Some(reason) }, ..Stats::default() },
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.get()?.ready()
    }

    async fn flush(&self) -> FlushAnswer {
        match self.get() {
            Ok(recorder) => recorder.flush().await,
            Err(reason) => FlushAnswer { error: Some(reason), ..FlushAnswer::default() },
        }
    }

    async fn endpoints(&self) -> Result<Vec<EndpointView>, Problem> {
        self.or_problem()?.endpoints().await
    }

    async fn add_endpoint(&self, new: NewEndpoint) -> Result<EndpointId, ChangeError> {
        self.or_unavailable()?.add_endpoint(new).await
    }

    async fn change_endpoint(&self, name: &str, change: EndpointChange) -> Result<(), ChangeError> {
        self.or_unavailable()?.change_endpoint(name, change).await
    }

    async fn remove_endpoint(&self, name: &str, purge: bool) -> Result<(), ChangeError> {
        self.or_unavailable()?.remove_endpoint(name, purge).await
    }

    async fn live_since(&self, version: u64) -> Result<Delta, Problem> {
        self.or_problem()?.live_since(version).await
    }

    fn alerts(&self) -> AlertsState {
        self.get().map_or_else(|_| AlertsState::default(), |recorder| recorder.alerts())
    }

    async fn test_alerts(&self) -> Result<TestedChannels, Problem> {
        self.or_problem()?.test_alerts().await
    }

    async fn buffered(&self, wanted: Wanted) -> Result<Buffered, Problem> {
        self.or_problem()?.buffered(wanted).await
    }

    async fn waiting_history(&self, scope: Scope) -> Result<WaitingHistory, Problem> {
        self.or_problem()?.waiting_history(scope).await
    }
}
