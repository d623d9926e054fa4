//! The pipeline: builds the actors from the last to the first, and orders the shutdown. The one place that knows them all.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture};
use chrono_tz::Tz;
use log::{info, warn};
use serde::Serialize;
use tokio::sync::watch;

use crate::actors::buffer::{self, BufferActor, BufferSetup, BufferState, Close, FlushAnswer};
use crate::actors::cache::{CacheActor, CacheState, SyncNow};
use crate::actors::endpoints::{EndpointsActor, EndpointsSetup, EndpointsState, IngestDownstream, StopAll};
use crate::actors::flush::{FlushActor, FlushState, Stop};
use crate::actors::history_worker::{self, HistoryWorkerActor};
use crate::actors::realtime::{RealtimeActor, RealtimeSetup, RealtimeState, Switch};
use crate::actors::sse_ingest::SharedIds;
use crate::backoff::Backoff;
use crate::blocking::Blocking;
use crate::boundary::Boundaries;
use crate::clock::{SharedClock, Timestamp};
use crate::config::{RetentionConfig, Tuning};
use crate::id::IdGenerator;
use crate::journal::JournalError;
use crate::journal::disk::Disk;
use crate::journaling::{Limits, SyncPolicy};
use crate::modes::StorageMode;
use crate::modes::ledger::Ledger;
use crate::recorder::{Actors, Frame, RecorderHandle, States};
use crate::recovery;
use crate::store::{self, Store, StoreError, StoreErrorKind, Stored};
use crate::transport::SharedTransport;

/// First and longest wait between tries to read the database at start.
const START_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

const DAY: Duration = Duration::from_secs(86_400);

/// What the configuration decides for the actors.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `storage.mode`, for a database that knows none; `None` leaves it at `batched` without keeping that.
    pub mode: Option<StorageMode>,
    /// Limits of batches and journal.
    pub limits: Limits,
    /// `storage.batch_size`.
    pub batch_size: usize,
    /// `storage.flush_interval`.
    pub flush_interval: Duration,
    /// `storage.timezone`.
    pub timezone: Tz,
    /// `storage.memory_max_events`.
    pub memory_events_max: usize,
    /// `storage.log_events`.
    pub log_events: bool,
    /// `cache.sync_interval`.
    pub cache_sync_interval: Duration,
    /// `journal.sync_interval`.
    pub journal_sync: SyncPolicy,
    /// `retention.*`.
    pub retention: RetentionConfig,
    /// `shutdown.deadline`.
    pub shutdown_deadline: Duration,
    /// Number of this node in event ids.
    pub node: u16,
}

impl Default for Settings {
    /// The defaults of the configuration.
    fn default() -> Self {
        Self {
            mode: None,
            batch_size: 100,
            limits: Limits {
                batch_events_max: 1_000,
                batch_bytes_max: 4 << 20,
                journal_bytes_max: 1 << 30,
                free_bytes_min: 64 << 20,
            },
            flush_interval: Duration::from_secs(3600),
            timezone: Tz::UTC,
            memory_events_max: 100_000,
            log_events: true,
            cache_sync_interval: Duration::from_secs(5),
            journal_sync: SyncPolicy::Every(Duration::from_secs(1)),
            retention: RetentionConfig {
                events: DAY,
                minutes: 7 * DAY,
                hours: 90 * DAY,
                days: Some(5 * 365 * DAY + DAY + DAY / 4),
            },
            shutdown_deadline: Duration::from_secs(30),
            node: 0,
        }
    }
}

impl Settings {
    /// What of it may change while the recorder runs.
    fn tuning(&self) -> Tuning {
        Tuning {
            max_buffer_size: self.limits.batch_events_max,
            batch_size: self.batch_size,
            flush_interval: self.flush_interval,
            sync_interval: self.cache_sync_interval,
        }
    }

    /// With other values for what may change.
    fn tuned(self, tuning: &Tuning) -> Self {
        let Tuning { max_buffer_size, batch_size, flush_interval, sync_interval } = *tuning;
        let limits = Limits { batch_events_max: max_buffer_size, ..self.limits };
        Self { limits, batch_size, flush_interval, cache_sync_interval: sync_interval, ..self }
    }
}

/// The outside world, as the actors see it. Production and simulation differ in these and in nothing else.
pub struct Parts {
    /// Time.
    pub clock: SharedClock,
    /// Where blocking work runs.
    pub blocking: Blocking,
    /// How masters are reached.
    pub transport: SharedTransport,
    /// The database, open and migrated.
    pub store: Box<dyn Store>,
    /// The journal's directory.
    pub disk: Arc<dyn Disk>,
    /// Root of all randomness.
    pub rng: fastrand::Rng,
}

/// A recorder did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be used as it is.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal cannot be used as it is.
    #[error("journal: {0}")]
    Journal(#[from] JournalError),
}

/// Waits for the database, rebuilds what was known, and starts the actors. While the database cannot be reached nothing is
/// received: `waiting` says why, for `/readyz`.
///
/// # Errors
/// [`StartError`] for what waiting does not mend.
pub async fn start(
    parts: Parts,
    settings: Settings,
    waiting: &watch::Sender<Option<String>>,
) -> Result<RecorderHandle, StartError> {
    let Parts { clock, blocking, transport, store, disk, mut rng } = parts;
    let (store, stored) = load(store, &blocking, rng.fork(), waiting, settings.timezone, clock.wall()).await?;
    let parts = Parts { clock, blocking, transport, store, disk, rng };
    let recorder = build(parts, settings, stored, None).await?;
    waiting.send_replace(None);
    Ok(recorder)
}

/// Starts the actors for a replay: with what is `stored` as the caller wants it seen, with the caller's ids, and without
/// keeping what a master tells of itself.
///
/// # Errors
/// [`StartError::Journal`].
pub async fn start_replay(
    parts: Parts,
    settings: Settings,
    stored: Stored,
    ids: SharedIds,
) -> Result<RecorderHandle, StartError> {
    build(parts, settings, stored, Some(ids)).await
}

async fn build(
    parts: Parts,
    settings: Settings,
    stored: Stored,
    replay: Option<SharedIds>,
) -> Result<RecorderHandle, StartError> {
    let Parts { clock, blocking, transport, store, disk, mut rng } = parts;
    let now = clock.wall();
    let (stored, recovered) = blocking
        .run("recover", move || {
            let recovered = recovery::recover(&stored, disk, now);
            (stored, recovered)
        })
        .await;
    let recovered = recovered?;
    let is_replay = replay.is_some();
    let begin = Begin::new(&settings, &stored, is_replay);
    let settings = settings.tuned(&begin.tuning);
    let ids = replay.unwrap_or_else(|| Rc::new(RefCell::new(IdGenerator::new(settings.node, recovered.highest_id))));

    let (flush_publish, flush_state) = watch::channel(FlushState {
        last_flush: stored.last_flush,
        last_boundary: stored.last_boundary,
        ..FlushState::default()
    });
    let (buffer_publish, buffer_state) = watch::channel(BufferState::default());
    let (cache_publish, cache_state) = watch::channel(CacheState::default());
    let (endpoints_publish, endpoints_state) = watch::channel(EndpointsState::new());

    let mut flush =
        FlushActor::new(store, blocking.clone(), clock.clone(), rng.fork(), settings.retention.clone(), flush_publish);
    if !is_replay {
        flush = flush.with_ledger(Ledger::new(begin.mode, stored.usage.clone(), clock.monotonic()), begin.kept.clone());
    }
    let flush = flush.start();
    let (realtime_publish, realtime_state) = watch::channel(RealtimeState { mode: begin.mode, ..RealtimeState::default() });
    let realtime_context = Context::<RealtimeActor>::new();
    let realtime = realtime_context.address();

    // The BufferActor and the HistoryWorkerActor know each other: the mailbox is made before its actor.
    let buffer_context = Context::<BufferActor>::new();
    let buffer = buffer_context.address();
    let history = HistoryWorkerActor::new(
        recovered.histories,
        clock.clone(),
        ids.clone(),
        buffer.clone().recipient(),
        buffer.clone().recipient(),
        is_replay,
    )
    .start();
    let boundaries = Boundaries::new(settings.timezone, settings.flush_interval);
    buffer_context.run(BufferActor::new(BufferSetup {
        limits: settings.limits,
        flush_interval: settings.flush_interval,
        memory_events_max: settings.memory_events_max,
        sync: settings.journal_sync,
        schedule: recovery::schedule(boundaries, &stored, now),
        clock: clock.clone(),
        blocking,
        writer: recovered.writer,
        recovered: recovered.batches,
        events_lost: recovered.events_lost,
        maybe_stored: is_replay,
        history_durable: recovered.history_durable,
        downstream: buffer::Downstream {
            events: realtime.clone().recipient(),
            store_now: realtime.clone().recipient(),
            history: flush.clone().recipient(),
            try_now: flush.clone().recipient(),
            cut_windows: history.clone().recipient(),
            refusing: history.clone().recipient(),
        },
        flush_state: flush_state.clone(),
        cache_state: cache_state.clone(),
        realtime_state: realtime_state.clone(),
        publish: buffer_publish,
    }));

    let cache =
        CacheActor::new(recovered.live, settings.cache_sync_interval, clock.clone(), flush.clone().recipient(), cache_publish)
            .start();
    realtime_context.run(RealtimeActor::new(RealtimeSetup {
        mode: begin.mode,
        configured: begin.configured,
        tuning: begin.tuning,
        settings: begin.kept,
        is_replay,
        clock: clock.clone(),
        single: flush.clone().recipient(),
        batches: flush.clone().recipient(),
        keep: flush.clone().recipient(),
        tuned: vec![buffer.clone().recipient(), cache.clone().recipient(), flush.clone().recipient()],
        publish: realtime_publish,
    }));
    if begin.is_new {
        // Its answer says whether it is kept; what is not is kept later.
        realtime.do_send(Switch { mode: Some(begin.mode), ..Switch::default() });
    }
    let endpoints = EndpointsActor::new(EndpointsSetup {
        endpoints: stored.endpoints.into_iter().map(|(endpoint, _)| endpoint).collect(),
        log_events: settings.log_events,
        keep_what_masters_tell: !is_replay,
        ids,
        clock: clock.clone(),
        transport,
        rng,
        ingest: IngestDownstream {
            cache: cache.clone().recipient(),
            health: cache.clone().recipient(),
            history: history.clone().recipient(),
            version: history.clone().recipient(),
            buffer: buffer.clone().recipient(),
        },
        add: flush.clone().recipient(),
        change: flush.clone().recipient(),
        remove: flush.clone().recipient(),
        forget: cache.clone().recipient(),
        read_tunnels: cache.clone().recipient(),
        forget_history: history.clone().recipient(),
        cut_windows: history.clone().recipient(),
        flush_now: buffer.clone().recipient(),
        cache_state: cache_state.clone(),
        publish: endpoints_publish,
    })
    .start();
    let frame = Frame { started: clock.monotonic(), clock: clock.clone(), timezone: settings.timezone };
    let pipeline = PipelineActor {
        endpoints: endpoints.clone(),
        history: history.clone(),
        cache: cache.clone(),
        buffer: buffer.clone(),
        flush: flush.clone(),
        buffer_state: buffer_state.clone(),
        clock,
        deadline: settings.shutdown_deadline,
    }
    .start();
    let states = States {
        buffer: buffer_state,
        cache: cache_state,
        flush: flush_state,
        endpoints: endpoints_state,
        realtime: realtime_state,
    };
    Ok(RecorderHandle {
        actors: Actors { pipeline, buffer, cache, history, endpoints, flush, realtime },
        states,
        frame,
        alerts: None,
    })
}

/// The mode and the values that a recorder begins with.
struct Begin {
    mode: StorageMode,
    /// What the configuration says.
    configured: Tuning,
    /// What holds.
    tuning: Tuning,
    /// What the database knows.
    kept: store::Settings,
    /// The mode is the configuration's, and the database is to know it.
    is_new: bool,
}

impl Begin {
    /// What the database knows wins over the configuration. A replay goes by the configuration, and in batches.
    fn new(settings: &Settings, stored: &Stored, is_replay: bool) -> Self {
        let configured = settings.tuning();
        let kept = if is_replay { store::Settings::new() } else { stored.settings.clone() };
        let tuning = configured.with_all(&kept).unwrap_or_else(|error| {
            warn!("{error}; the configuration holds for all of these keys");
            configured
        });
        let known = kept.get(StorageMode::KEY).and_then(|name| StorageMode::from_name(name));
        let asked = settings.mode.filter(|_| !is_replay);
        if let (Some(known), Some(asked)) = (known, asked)
            && known != asked
        {
            warn!(
                "{} is {known} in the database and {asked} in the configuration; the database wins, `tidegate mode {asked}` changes it",
                StorageMode::KEY
            );
        }
        for name in Tuning::KEYS.into_iter().filter(|name| kept.contains_key(*name)) {
            info!("{name} is {}, as it was set with `tidegate mode`", tuning.text(name).unwrap_or_default());
        }
        Self { mode: known.or(asked).unwrap_or_default(), configured, tuning, kept, is_new: known.is_none() && asked.is_some() }
    }
}

/// Reads what is stored, for as long as it takes.
async fn load(
    mut store: Box<dyn Store>,
    blocking: &Blocking,
    rng: fastrand::Rng,
    waiting: &watch::Sender<Option<String>>,
    timezone: Tz,
    now: Timestamp,
) -> Result<(Box<dyn Store>, Stored), StoreError> {
    let mut backoff = Backoff::new(START_RETRY.0, START_RETRY.1, rng);
    loop {
        let (back, loaded) = blocking
            .run("load", move || {
                let loaded = store.set_timezone(timezone, now).and_then(|()| store.load());
                (store, loaded)
            })
            .await;
        store = back;
        match loaded {
            Ok(stored) => return Ok((store, stored)),
            Err(error) if error.kind == StoreErrorKind::Unavailable => {
                let first = waiting.borrow().is_none();
                if first {
                    warn!("database: {error}; nothing is received until the endpoints are known, it is tried again");
                }
                waiting.send_replace(Some(error.to_string()));
                tokio::time::sleep(backoff.after_failure()).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Stop in order: streams, windows, live state, buffer, database. The reply comes when all is done or the deadline is
/// over.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "ShutdownSummary")]
pub struct Shutdown;

/// What came of a shutdown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShutdownSummary {
    /// Records written by the last flush.
    pub flushed: u64,
    /// Records that wait in the journal for the next start.
    pub left_in_journal: u64,
    /// Why they wait.
    pub error: Option<String>,
    /// Who had not finished at the deadline.
    pub late: Vec<&'static str>,
}

impl std::fmt::Display for ShutdownSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stopped: flushed={} left_in_journal={}", self.flushed, self.left_in_journal)?;
        if let Some(error) = &self.error {
            write!(f, " error=\"{error}\"")?;
        }
        if !self.late.is_empty() {
            write!(f, " late={}", self.late.join(","))?;
        }
        Ok(())
    }
}

/// Knows all actors and stops them in order.
pub struct PipelineActor {
    endpoints: Addr<EndpointsActor>,
    history: Addr<HistoryWorkerActor>,
    cache: Addr<CacheActor>,
    buffer: Addr<BufferActor>,
    flush: Addr<FlushActor>,
    buffer_state: watch::Receiver<BufferState>,
    clock: SharedClock,
    deadline: Duration,
}

impl Actor for PipelineActor {
    type Context = Context<Self>;
}

impl Handler<Shutdown> for PipelineActor {
    type Result = ResponseActFuture<Self, ShutdownSummary>;

    fn handle(&mut self, _: Shutdown, _: &mut Self::Context) -> Self::Result {
        let stages = Stages { until: self.clock.monotonic() + self.deadline, late: Vec::new() };
        let (endpoints, history, cache) = (self.endpoints.clone(), self.history.clone(), self.cache.clone());
        let (buffer, flush, buffer_state) = (self.buffer.clone(), self.flush.clone(), self.buffer_state.clone());
        let drained = async move {
            let mut stages = stages;
            stages.wait("SseIngestActor", endpoints.send(StopAll)).await;
            stages.wait("HistoryWorkerActor", history.send(history_worker::Drain)).await;
            let answer = stages.wait("BufferActor", buffer.send(buffer::Drain)).await;
            // After the buffer, whose try tells whether the database works. What is not written now comes back from the
            // journal.
            let _ = stages.wait("CacheActor", cache.send(SyncNow)).await;
            stages.wait("BufferActor", buffer.send(Close)).await;
            stages.wait("FlushActor", flush.send(Stop)).await;
            // A BufferActor that is late cannot say what waits; what it published last does.
            let waiting = buffer_state.borrow().buffer_size;
            let late = || FlushAnswer { committed: 0, waiting, error: Some("the deadline is over".to_owned()) };
            let FlushAnswer { committed, waiting, error } = answer.unwrap_or_else(late);
            ShutdownSummary { flushed: committed, left_in_journal: waiting, error, late: stages.late }
        };
        Box::pin(drained.into_actor(self).map(|summary, _, ctx| {
            info!("{summary}");
            ctx.stop();
            summary
        }))
    }
}

struct Stages {
    until: tokio::time::Instant,
    late: Vec<&'static str>,
}

impl Stages {
    /// Waits for a stage until the deadline. A stage that is late is named; the ones after it are still asked.
    async fn wait<T>(&mut self, stage: &'static str, reply: impl Future<Output = Result<T, actix::MailboxError>>) -> Option<T> {
        match tokio::time::timeout_at(self.until, reply).await {
            Ok(reply) => reply.ok(),
            Err(_) => {
                if !self.late.contains(&stage) {
                    self.late.push(stage);
                }
                None
            }
        }
    }
}
