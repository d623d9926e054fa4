//! Recorded streams through the same actors: `tidegate replay`.
//!
//! Each capture gets a pipeline of its own, with a wall clock that shows its times of receipt and ids that depend on the
//! file alone. The journal is in memory, since a replay that was interrupted is simply repeated. What a capture tells of
//! its master (a key, an id) is not kept: it is history, and the key in it may be somebody's.

pub mod capture;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::Notify;

use crate::actors::cache::SetHealth;
use crate::actors::sse_ingest::SharedIds;
use crate::blocking::Blocking;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::Config;
use crate::endpoint::{Endpoint, EndpointHealth, EndpointStatus};
use crate::id::IdGenerator;
use crate::journal::MemoryDisk;
use crate::pipeline::{self, Parts, Settings, StartError};
use crate::store::{DieselStore, EndpointChange, Store, StoreError, StoreErrorKind, Stored};
use crate::transport::{OpenStream, Target, Transport, TransportError};
pub use capture::{Capture, REPLAY_NODE_FIRST, ReplayClock, ReplayError};

/// A capture and the endpoint that it is counted to.
#[derive(Clone, Debug)]
pub struct Job {
    /// Name of the endpoint; it is made, paused, if it is not there.
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

/// Feeds captures through the actors, one after the other.
///
/// # Errors
/// [`StartError`] if the database cannot be used or another process has it.
pub async fn run(config: &Config, jobs: Vec<Job>) -> Result<ReplaySummary, StartError> {
    let (url, batch_size) = (config.database.clone(), config.storage.batch_size);
    let mut store: Box<dyn Store> = Box::new(DieselStore::open(&url, batch_size, Arc::new(SystemClock))?);
    let mut summary = ReplaySummary::default();
    for job in jobs {
        let endpoint = endpoint_for(store.as_mut(), &job.endpoint)?;
        // The pipeline keeps its store to the end; the lock goes with it, and the next one takes it again.
        let (written, skipped) = replay_one(config, store, endpoint, job.capture).await?;
        summary.written += written;
        summary.skipped += skipped;
        store = Box::new(DieselStore::open(&url, batch_size, Arc::new(SystemClock))?);
    }
    Ok(summary)
}

/// The endpoint of that name; a new one is paused, so that no recorder tries to connect to it.
fn endpoint_for(store: &mut dyn Store, name: &str) -> Result<(Endpoint, Stored), StoreError> {
    let find =
        |stored: &Stored| stored.endpoints.iter().map(|(endpoint, _)| endpoint).find(|endpoint| endpoint.name == name).cloned();
    let stored = store.load()?;
    if let Some(endpoint) = find(&stored) {
        return Ok((endpoint, stored));
    }
    let refused = |message: String| StoreError { kind: StoreErrorKind::Refused, in_doubt: false, message };
    let new = capture::endpoint(name).map_err(|error| refused(error.to_string()))?;
    let id = store.add_endpoint(&new, SystemClock.wall())?;
    let paused = EndpointChange { paused: Some(true), ..EndpointChange::default() };
    store.change_endpoint(id, &paused, SystemClock.wall())?;
    let stored = store.load()?;
    let endpoint = find(&stored).ok_or_else(|| refused(format!("endpoint {name} is not there after it was made")))?;
    Ok((endpoint, stored))
}

async fn replay_one(
    config: &Config,
    store: Box<dyn Store>,
    (endpoint, stored): (Endpoint, Stored),
    capture: Capture,
) -> Result<(u64, u64), StartError> {
    let clock = Arc::new(ReplayClock::default());
    let ids: SharedIds = Rc::new(RefCell::new(IdGenerator::replaying()));
    let transport = Rc::new(ReplayTransport { capture, clock: clock.clone(), ids: ids.clone(), ended: Rc::new(Notify::new()) });
    transport.begin();
    let ended = transport.ended.clone();
    let parts = Parts {
        clock: clock.clone(),
        blocking: Blocking::Threads,
        transport,
        store,
        disk: Arc::new(MemoryDisk::new()),
        rng: fastrand::Rng::with_seed(0),
    };
    let settings = Settings { flush_interval: Duration::from_secs(86_400), log_events: true, ..Settings::of(config) };
    let (id, health) = (endpoint.id, health_of(&stored, &endpoint));
    let followed = Endpoint { paused: false, ..endpoint };
    // Nothing is known from before, neither tunnels nor windows: what is stored depends on the file alone, and is the same
    // every time.
    let stored = Stored { endpoints: vec![(followed, EndpointHealth::default())], ..Stored::default() };
    let recorder = pipeline::start_replay(parts, settings, stored, ids).await?;
    ended.notified().await;
    // The CacheActor runs until the shutdown below.
    let _ = recorder.actors.cache.send(SetHealth { endpoint: id, health }).await;
    recorder.shutdown().await;
    let flush = recorder.states.flush.borrow();
    if let Some(error) = &flush.error {
        let message = error.clone();
        return Err(StoreError { kind: StoreErrorKind::Unavailable, in_doubt: false, message }.into());
    }
    Ok((flush.rows_written, flush.rows_skipped))
}

fn health_of(stored: &Stored, endpoint: &Endpoint) -> EndpointHealth {
    let health = stored.endpoints.iter().find(|(other, _)| other.id == endpoint.id).map(|(_, health)| health.clone());
    EndpointHealth {
        status: EndpointStatus::Disconnect,
        reason: "replayed from a capture".to_owned(),
        ..health.unwrap_or_default()
    }
}

/// A master that sends a capture once and is silent then.
struct ReplayTransport {
    capture: Capture,
    clock: Arc<ReplayClock>,
    ids: SharedIds,
    /// Told when the last piece was taken and dealt with.
    ended: Rc<Notify>,
}

impl ReplayTransport {
    /// Sets the clock to the time of the first piece.
    fn begin(&self) {
        let first = self.capture.chunks().next();
        self.clock.set(first.map_or(Timestamp(0), |chunk| chunk.received_at));
    }
}

impl Transport for ReplayTransport {
    fn events(&self, _: &Target) -> LocalBoxFuture<'static, Result<OpenStream, TransportError>> {
        let (clock, ids, ended) = (self.clock.clone(), self.ids.clone(), self.ended.clone());
        let chunks: Vec<capture::Chunk> = self.capture.chunks().collect();
        let pieces = stream::iter(chunks).then(move |chunk| {
            let (clock, ids) = (clock.clone(), ids.clone());
            async move {
                // Gives the actors time between two pieces, so that each is dealt with under its own time and id.
                tokio::task::yield_now().await;
                clock.set(chunk.received_at);
                ids.borrow_mut().give_next(chunk.id);
                Ok::<Bytes, TransportError>(chunk.bytes)
            }
        });
        let silence = stream::once(async move {
            ended.notify_one();
            std::future::pending::<Result<Bytes, TransportError>>().await
        });
        async move { Ok(OpenStream { body: pieces.chain(silence).boxed_local(), certificate: None }) }.boxed_local()
    }

    fn get(&self, _: &Target, _: &'static str) -> LocalBoxFuture<'static, Result<Bytes, TransportError>> {
        // A capture has no answers. The question is still open when the replay ends.
        std::future::pending().boxed_local()
    }
}
