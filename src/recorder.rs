//! A running recorder as others see it: what it shows, and what it can be asked. Usable from any thread.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::{Addr, MailboxError};
use chrono::TimeZone;
use chrono_tz::Tz;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::actors::alerts::{self, AlertsActor, AlertsState, TestedChannels};
use crate::actors::buffer::{BufferActor, BufferState, FlushAnswer, FlushNow, HistoryScope, ReadBuffered, WaitingHistory};
use crate::actors::cache::{CacheActor, CacheState, ReadSince};
use crate::actors::endpoints::{Add, Change, ChangeError, EndpointView, EndpointsActor, EndpointsState, List, Remove};
use crate::actors::flush::{FlushActor, FlushState};
use crate::actors::history_worker::{CutWindows, HistoryWorkerActor, ReadWaiting};
use crate::actors::realtime::{RealtimeActor, RealtimeState, Switch};
use crate::clock::{SharedClock, Timestamp};
use crate::event::EndpointId;
use crate::http::problem::Problem;
use crate::live::Delta;
use crate::modes::report::{Facts, ModeReport, Running};
use crate::pipeline::{PipelineActor, Shutdown, ShutdownSummary};
use crate::query::buffered::{Buffered, Wanted};
use crate::status::snapshot::{
    DatabaseStats, EndpointStats, FlushMillis, Flushes, OptimizedStorage, ProcessStats, RealtimeStats, Stats, VERSION,
};
use crate::store::{EndpointChange, FlushCause, NewEndpoint};

/// The addresses of all actors.
#[derive(Clone)]
pub struct Actors {
    /// Orders the shutdown.
    pub pipeline: Addr<PipelineActor>,
    /// Batches and journal.
    pub buffer: Addr<BufferActor>,
    /// Live state.
    pub cache: Addr<CacheActor>,
    /// Windows.
    pub history: Addr<HistoryWorkerActor>,
    /// Endpoints.
    pub endpoints: Addr<EndpointsActor>,
    /// The database.
    pub flush: Addr<FlushActor>,
    /// The mode.
    pub realtime: Addr<RealtimeActor>,
}

/// The published state of all actors.
#[derive(Clone)]
pub struct States {
    /// BufferActor.
    pub buffer: watch::Receiver<BufferState>,
    /// CacheActor.
    pub cache: watch::Receiver<CacheState>,
    /// FlushActor.
    pub flush: watch::Receiver<FlushState>,
    /// SseIngestActors, by endpoint.
    pub endpoints: watch::Receiver<EndpointsState>,
    /// RealtimeActor.
    pub realtime: watch::Receiver<RealtimeState>,
}

/// What the shown figures depend on beside the states.
#[derive(Clone)]
pub struct Frame {
    /// For ages.
    pub clock: SharedClock,
    /// When the recorder started.
    pub started: Instant,
    /// `storage.timezone`.
    pub timezone: Tz,
}

/// A running recorder. Cheap to clone.
#[derive(Clone)]
pub struct RecorderHandle {
    /// Its actors, for who sends messages of their own.
    pub actors: Actors,
    /// What they publish.
    pub states: States,
    /// See [`Frame`].
    pub frame: Frame,
    /// Who tells people; in production only.
    pub alerts: Option<AlertsHandle>,
}

/// The AlertsActor and what it shows.
#[derive(Clone)]
pub struct AlertsHandle {
    /// The actor.
    pub actor: Addr<AlertsActor>,
    /// What it shows.
    pub state: watch::Receiver<AlertsState>,
}

fn stopped(_: MailboxError) -> ChangeError {
    ChangeError::Unavailable("the recorder is stopping".to_owned())
}

impl RecorderHandle {
    /// Flushes what is buffered. The answer comes when it is committed, or with the first failure.
    pub async fn flush(&self) -> FlushAnswer {
        let stopping = |error: MailboxError| FlushAnswer { error: Some(error.to_string()), ..FlushAnswer::default() };
        // History first, open windows too: its batch stands before the one that is cut now, and is committed before it.
        if let Err(error) = self.actors.history.send(CutWindows { cause: FlushCause::Manual, open: true }).await {
            return stopping(error);
        }
        self.actors.buffer.send(FlushNow).await.unwrap_or_else(stopping)
    }

    /// How events reach the database, what each mode cost, and whether it is safe to go on.
    #[must_use]
    pub fn mode_report(&self) -> ModeReport {
        let (realtime, flush) = (self.states.realtime.borrow().clone(), self.states.flush.borrow().clone());
        let buffer = self.states.buffer.borrow();
        let running = Running { database_error: flush.error, overdue: buffer.overdue, waiting_batches: buffer.waiting_batches };
        ModeReport::new(&Facts {
            mode: realtime.mode,
            since: Some(realtime.since),
            not_kept: flush.unkept,
            tuning: realtime.tuning,
            kept: realtime.settings,
            usage: flush.ledger.all(self.frame.clock.monotonic()),
            running: Some(running),
            now: self.frame.clock.wall(),
        })
    }

    /// Changes the mode, or keys that may change while the recorder runs; they are in effect when the answer comes. What could
    /// not be kept yet is in the report.
    ///
    /// # Errors
    /// A key or a value that is not allowed, or the recorder stops.
    pub async fn switch_mode(&self, switch: Switch) -> Result<(), Problem> {
        match self.actors.realtime.send(switch).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Problem::bad_request(error.to_string())),
            Err(_) => Err(stopped(MailboxError::Closed).into()),
        }
    }

    /// All endpoints, by name. None if the recorder is stopping.
    pub async fn endpoints(&self) -> Vec<EndpointView> {
        self.actors.endpoints.send(List).await.unwrap_or_default()
    }

    /// Makes an endpoint and follows it.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn add_endpoint(&self, new: NewEndpoint) -> Result<EndpointId, ChangeError> {
        self.actors.endpoints.send(Add(new)).await.map_err(stopped)?
    }

    /// Changes an endpoint; it is in effect when the answer comes.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn change_endpoint(&self, name: &str, change: EndpointChange) -> Result<(), ChangeError> {
        self.actors.endpoints.send(Change { name: name.to_owned(), change }).await.map_err(stopped)?
    }

    /// Drains and removes an endpoint; with `purge` its events and history too.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn remove_endpoint(&self, name: &str, purge: bool) -> Result<(), ChangeError> {
        self.actors.endpoints.send(Remove { name: name.to_owned(), purge }).await.map_err(stopped)?
    }

    /// What changed in live state after `version`, with the version it has now. `None` if the recorder is stopping.
    pub async fn live_since(&self, version: u64) -> Option<Delta> {
        self.actors.cache.send(ReadSince(version)).await.ok()
    }

    /// History that is not in the database yet: open windows as they stand, closed rows, and what waits to be committed.
    /// See [`WaitingHistory`] for how to put both together. Nothing if the recorder is stopping.
    pub async fn waiting_history(&self, scope: HistoryScope) -> WaitingHistory {
        self.actors.history.send(ReadWaiting(scope)).await.unwrap_or_default()
    }

    /// What is received and not in the database yet. Nothing if the recorder is stopping.
    pub async fn buffered(&self, wanted: Wanted) -> Buffered {
        let named =
            |name: &String| self.states.endpoints.borrow().iter().find(|(_, (known, _))| known == name).map(|(id, _)| *id);
        let endpoint = wanted.endpoint.as_ref().and_then(named);
        self.actors.buffer.send(ReadBuffered { wanted, endpoint }).await.unwrap_or_default()
    }

    /// What is wrong, and how the channels do.
    #[must_use]
    pub fn alerts(&self) -> AlertsState {
        self.alerts.as_ref().map(|alerts| alerts.state.borrow().clone()).unwrap_or_default()
    }

    /// Sends a test message on every channel. `None` if the recorder is stopping.
    pub async fn test_alerts(&self) -> Option<TestedChannels> {
        match &self.alerts {
            Some(alerts) => alerts.actor.send(alerts::Test).await.ok(),
            None => Some(Vec::new()),
        }
    }

    /// Stops in order.
    pub async fn shutdown(&self) -> ShutdownSummary {
        self.actors.pipeline.send(Shutdown).await.unwrap_or_default()
    }

    /// Whether everything that matters works.
    ///
    /// # Errors
    /// What does not, for people.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(error) = &self.states.flush.borrow().error {
            return Err(format!("database: {error}"));
        }
        let buffer = self.states.buffer.borrow();
        if let Some(error) = &buffer.journal_error {
            return Err(format!("journal: {error}"));
        }
        if let Some(refused) = buffer.refusing {
            return Err(format!("events are refused: {refused}; {}", refused.advice()));
        }
        if buffer.overdue {
            return Err("a boundary passed over a minute ago and its flush is not committed".to_owned());
        }
        Ok(())
    }

    /// The document of `GET /api/v1/stats`.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let flush = self.states.flush.borrow().clone();
        let buffer = self.states.buffer.borrow().clone();
        let (endpoints, events, dropped) = self.ingest_stats(&buffer);
        let updates = events.get("update").copied().unwrap_or_default();
        Stats {
            optimized_storage: self.storage_stats(&buffer, &flush, updates),
            dropped,
            events,
            endpoints,
            database: DatabaseStats {
                ok: flush.error.is_none() && flush.since.is_some(),
                since: flush.since.map(|since| since.to_string()),
                error: flush.error,
            },
            mode: self.states.realtime.borrow().mode.as_str().to_owned(),
            process: Some(self.process_stats()),
        }
    }

    fn storage_stats(&self, buffer: &BufferState, flush: &FlushState, updates: u64) -> OptimizedStorage {
        let Frame { clock, timezone, .. } = &self.frame;
        let realtime = self.states.realtime.borrow().clone();
        let batch_events_max = realtime.tuning.max_buffer_size;
        let local = |at: Timestamp| timezone.from_utc_datetime(&at.to_utc().naive_utc());
        let count = |cause| flush.flushes.get(&cause).copied().unwrap_or_default();
        let all: u64 = flush.flushes.values().sum();
        let measured = |millis| (flush.measured > 0).then_some(millis);
        let oldest = buffer.oldest_unflushed.map_or(Duration::ZERO, |oldest| clock.monotonic().saturating_duration_since(oldest));
        OptimizedStorage {
            buffer_size: buffer.buffer_size,
            max_buffer_size: batch_events_max as u64,
            last_flush_at: flush.last_flush,
            last_flush_time: flush.last_flush.map(|at| local(at).format("%Y-%m-%d %H:%M:%S").to_string()),
            buffer_usage_pct: buffer.buffer_size as f64 * 100.0 / batch_events_max as f64,
            flushes: Flushes {
                threshold: count(FlushCause::Threshold),
                hourly: count(FlushCause::Hourly),
                manual: count(FlushCause::Manual),
                drain: count(FlushCause::Drain),
                recovery: count(FlushCause::Recovery),
                journal: count(FlushCause::Journal),
            },
            threshold_share_pct: (all > 0).then(|| count(FlushCause::Threshold) as f64 * 100.0 / all as f64),
            flush_ms: FlushMillis { last: measured(flush.last_ms), mean: measured(flush.mean_ms), p99: measured(flush.p99_ms) },
            rows_written: flush.rows_written,
            rows_skipped: flush.rows_skipped,
            realtime: RealtimeStats {
                queue_events: realtime.queue_events,
                queue_bytes: realtime.queue_bytes,
                written: realtime.written,
                left_to_batch: realtime.left_to_batch,
            },
            retries: flush.retries,
            failures: flush.failures,
            quarantined: flush.quarantined,
            write_transactions: flush.write_transactions,
            updates_per_transaction: (flush.write_transactions > 0).then(|| updates as f64 / flush.write_transactions as f64),
            expiry_late: flush.expiry_late.iter().map(|table| (*table).to_owned()).collect(),
            waiting_batches: buffer.waiting_batches,
            buffer_bytes: buffer.buffer_bytes,
            oldest_unflushed_s: oldest.as_secs_f64(),
            journal_bytes: buffer.journal_bytes,
            next_boundary: Some(local(buffer.next_boundary).to_rfc3339()),
        }
    }

    /// Endpoints by name, events by kind, and what was dropped by reason.
    fn ingest_stats(&self, buffer: &BufferState) -> (Vec<EndpointStats>, BTreeMap<String, u64>, BTreeMap<String, u64>) {
        let cache = self.states.cache.borrow();
        let (mut events, mut dropped) = (BTreeMap::new(), BTreeMap::new());
        let mut endpoints: Vec<EndpointStats> = Vec::new();
        for (id, (name, state)) in self.states.endpoints.borrow().iter() {
            let state = state.borrow();
            for (kind, count) in &state.events {
                *events.entry(kind.clone()).or_default() += count;
            }
            for (reason, count) in &state.dropped {
                *dropped.entry((*reason).to_owned()).or_default() += count;
            }
            let (health, tunnels) = cache.endpoints.get(id).cloned().unwrap_or_default();
            endpoints.push(EndpointStats {
                name: name.clone(),
                status: health.status,
                reason: health.reason,
                since: health.since.to_string(),
                events_received: state.events_received,
                reports_missed: state.reports_missed,
                reconnects: state.reconnects,
                tunnels: tunnels as u64,
                dropped: state.dropped.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            });
        }
        for (reason, count) in &buffer.lost {
            *dropped.entry((*reason).to_owned()).or_default() += count;
        }
        endpoints.sort_by(|a, b| a.name.cmp(&b.name));
        (endpoints, events, dropped)
    }

    fn process_stats(&self) -> ProcessStats {
        ProcessStats {
            pid: std::process::id(),
            uptime_s: self.frame.clock.monotonic().saturating_duration_since(self.frame.started).as_secs_f64(),
            rss_bytes: memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem as u64),
            version: VERSION.to_owned(),
        }
    }
}
