//! BufferActor: holds records until there is a cause to flush.
//!
//! Fed by the SseIngestActors (records) and the HistoryWorkerActor (closed windows); feeds the FlushActor, one batch at a
//! time and in order. It keeps the batch that is being filled, the batches that wait, and the journal that holds both.
//! A batch is cut when it is full, at the boundary, on request and at the end, whether or not a flush is in flight; it is
//! let go when its commit is durable, live state is synced through its last id and history is durable through it. Beyond
//! `storage.memory_max_events` a waiting batch lives in its segment only. It ends by [`Drain`]; a kill loses nothing that
//! the journal has.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture, SpawnHandle,
    StreamHandler, WrapFuture,
};
use futures_util::stream;
use log::{error, info, warn};
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::cache::CacheState;
use super::flush::{CommitEvents, CommitHistory, FlushState, TryNow};
use super::history_worker::CutWindows;
use crate::blocking::Blocking;
use crate::boundary::Schedule;
use crate::buffering::{BatchNo, Buffer, Next, RecoveredBatch};
use crate::clock::{SharedClock, Timestamp};
use crate::delays::{Delays, Seen};
use crate::event::Bunch;
use crate::id::EventId;
use crate::journal::{JournalError, SegmentNo, Writer};
use crate::journaling::{Effect, Item, Job, Limits, Open, Outcome, Payload, SyncPolicy};
use crate::store::{Committed, EventBatch, FlushCause, FlushInfo, HistoryBatch};

/// Time between the starts of two journal writes: what arrives meanwhile is written together.
const WRITE_SPACING: Duration = Duration::from_millis(5);
/// Records that wait for a journal write which does not end; beyond that records are refused. Some 32 MiB in memory.
pub const STALLED_EVENTS_MAX: usize = 100_000;
/// Segments that one journal job removes at most. Each removal is synced (some milliseconds), and events that arrive meanwhile
/// wait for the job's end: a thousand segments at once would stall them for seconds.
const REMOVALS_PER_JOB: usize = 8;
/// The wall clock is compared with the monotonic one this often: a step is noticed within this time.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// Journaled bytes that are kept only for history; beyond that the open windows are handed over early. In a small journal it
/// is [`HISTORY_PINNED_SHARE`] of it, else it would fill up and refuse events while the database works.
const HISTORY_PINNED_BYTES_MAX: u64 = 64 << 20;
/// One part in this many of `journal.max_bytes`.
const HISTORY_PINNED_SHARE: u64 = 4;
/// Records as they were received.
///
/// Sent by the SseIngestActor for every bunch that has stored records, in the order of their ids. The reply means: written
/// to the journal (with `journal.sync_interval = always`: synced); it is then that they count as received. On refusal
/// the sender counts the rest of them as dropped, by endpoint and reason, and records a gap; it does not try again.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Append(pub Arc<Bunch>);

/// A bunch, or the end of one, was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} after {kept} records")]
pub struct Refusal {
    /// Records from the beginning of the bunch that were kept all the same: a batch became full in its middle.
    pub kept: usize,
    /// Why not the rest.
    pub reason: Refused,
}

/// Why records were not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// The journal holds `journal.max_bytes`.
    #[error("journal_full")]
    JournalFull,
    /// The journal's file system has less than `journal.min_free_bytes` left, or said that it is full.
    #[error("disk_full")]
    DiskFull,
    /// More than the bound waits for a journal write that does not end.
    #[error("journal_stalled")]
    JournalStalled,
    /// The journal could not be written or synced for another reason.
    #[error("journal_failed")]
    JournalFailed,
    /// The recorder is stopping.
    #[error("stopping")]
    Stopping,
}

impl Refused {
    /// The word under which it is counted.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JournalFull => "journal_full",
            Self::DiskFull => "disk_full",
            Self::JournalStalled => "journal_stalled",
            Self::JournalFailed => "journal_failed",
            Self::Stopping => "stopping",
        }
    }
}

/// Closed windows, to be stored after what is in the buffer already.
///
/// Sent by the HistoryWorkerActor. The reply means that the journal has them, or that they wait in memory because it
/// refused them. There is no failure.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct StoreHistory {
    /// Every event up to here is contained in this batch or in earlier ones.
    pub through: EventId,
    /// What there is to store.
    pub batch: Option<HistoryBatch>,
}

/// Flush now. Sent by the HTTP API and by tests.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "FlushAnswer")]
pub struct FlushNow;

/// Flush what is left and accept nothing more. Sent by the pipeline when all senders are done. The reply says what was
/// written and what is left in the journal: after a failed write it does not wait for the next try.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "FlushAnswer")]
pub struct Drain;

/// Sync the journal, remove what is durable elsewhere, and stop. Sent by the pipeline when nothing is written any more.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Close;

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

/// What waits and what the journal holds.
#[derive(Clone, Debug, Default)]
pub struct BufferState {
    /// Records accepted and not committed.
    pub buffer_size: u64,
    /// Those of them that are in memory; the others live in the journal alone.
    pub memory_events: u64,
    /// Journaled bytes of them, of batches that are cut.
    pub buffer_bytes: u64,
    /// Batches cut and not committed.
    pub waiting_batches: u64,
    /// When the oldest record that is not committed was accepted, by the monotonic clock.
    pub oldest_unflushed: Option<Instant>,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// The next boundary.
    pub next_boundary: Timestamp,
    /// What failed last in the journal; `None` while the last job succeeded.
    pub journal_error: Option<String>,
    /// A boundary passed more than a minute ago and its flush is not committed.
    pub overdue: bool,
    /// Records that were received and cannot be read back from a damaged journal, and the like, by reason.
    pub lost: BTreeMap<&'static str, u64>,
}

/// What a BufferActor is given.
pub struct BufferSetup {
    /// Limits of batches and journal.
    pub limits: Limits,
    /// `storage.flush_interval`.
    pub flush_interval: Duration,
    /// `storage.memory_max_events`.
    pub memory_events_max: usize,
    /// `journal.sync_interval`.
    pub sync: SyncPolicy,
    /// Boundaries to keep.
    pub schedule: Schedule,
    /// Clock.
    pub clock: SharedClock,
    /// For journal work.
    pub blocking: Blocking,
    /// The journal, open for appending.
    pub writer: Writer,
    /// Batches found in the journal, oldest first.
    pub recovered: Vec<RecoveredBatch>,
    /// Every batch may be stored already: a replay.
    pub maybe_stored: bool,
    /// History is durable through here.
    pub history_durable: EventId,
    /// Where batches go.
    pub downstream: Downstream,
    /// How the database is.
    pub flush_state: watch::Receiver<FlushState>,
    /// How far live state is synced.
    pub cache_state: watch::Receiver<CacheState>,
    /// Where state is published.
    pub publish: watch::Sender<BufferState>,
}

/// Whom the BufferActor tells what.
#[derive(Clone)]
pub struct Downstream {
    /// FlushActor: batches of records.
    pub events: Recipient<CommitEvents>,
    /// FlushActor: batches of history.
    pub history: Recipient<CommitHistory>,
    /// FlushActor: someone waits.
    pub try_now: Recipient<TryNow>,
    /// HistoryWorkerActor: hand over what is closed.
    pub cut_windows: Recipient<CutWindows>,
}

/// Someone who waits for a flush.
struct Waiter {
    /// Batches up to this one; unknown until the cut that was asked for is made.
    until: Option<BatchNo>,
    committed_before: u64,
    reply: oneshot::Sender<FlushAnswer>,
}

/// See the module.
pub struct BufferActor {
    limits: Limits,
    flush_interval: Duration,
    sync: SyncPolicy,
    schedule: Schedule,
    clock: SharedClock,
    blocking: Blocking,
    downstream: Downstream,
    flush_state: watch::Receiver<FlushState>,
    cache_state: watch::Receiver<CacheState>,
    publish: watch::Sender<BufferState>,
    buffer: Buffer,
    /// Away while a job runs.
    writer: Option<Writer>,
    items: Vec<Item>,
    /// Records in `items` and in the running job.
    unwritten_events: usize,
    /// Replies owed for bunches, in the order of their items.
    acks: VecDeque<(usize, oneshot::Sender<Result<(), Refusal>>)>,
    history_acks: VecDeque<oneshot::Sender<()>>,
    remove: Vec<SegmentNo>,
    /// Could not be removed; tried again with the next look around.
    remove_later: Vec<SegmentNo>,
    open: Open,
    /// Records are refused for want of room.
    full: Option<Refused>,
    last_job: Option<Instant>,
    job_timer: Option<SpawnHandle>,
    sync_timer: Option<SpawnHandle>,
    sync_due: bool,
    committing: bool,
    reading_back: bool,
    maybe_stored: bool,
    history_durable: EventId,
    /// The windows were asked for because they keep too much of the journal, and have not come yet.
    windows_asked: bool,
    /// The last records were refused for want of room.
    short_of_room: bool,
    boundary_timer: Option<SpawnHandle>,
    /// What the wall clock will show if nobody steps it: wall time minus monotonic time, in microseconds.
    clock_offset: i64,
    started: Instant,
    waiters: Vec<Waiter>,
    draining: bool,
    failures_seen: u64,
    /// The boundary whose flush is not committed, and since when that is so.
    boundary_pending: Option<(Timestamp, Instant)>,
    delays: Delays,
    journal_is_high: bool,
    state: BufferState,
}

impl BufferActor {
    /// An actor over an open journal.
    #[must_use]
    pub fn new(setup: BufferSetup) -> Self {
        let BufferSetup {
            limits,
            flush_interval,
            memory_events_max,
            sync,
            schedule,
            clock,
            blocking,
            writer,
            recovered,
            maybe_stored,
            history_durable,
            downstream,
            flush_state,
            cache_state,
            publish,
        } = setup;
        let now = clock.monotonic();
        let state = BufferState { journal_bytes: writer.bytes(), ..BufferState::default() };
        let failures_seen = flush_state.borrow().failures;
        Self {
            limits,
            flush_interval,
            sync,
            schedule,
            clock,
            blocking,
            downstream,
            flush_state,
            cache_state,
            publish,
            buffer: Buffer::new(memory_events_max, recovered, now),
            writer: Some(writer),
            items: Vec::new(),
            unwritten_events: 0,
            acks: VecDeque::new(),
            history_acks: VecDeque::new(),
            remove: Vec::new(),
            remove_later: Vec::new(),
            open: Open::default(),
            full: None,
            last_job: None,
            job_timer: None,
            sync_timer: None,
            sync_due: false,
            committing: false,
            reading_back: false,
            maybe_stored,
            history_durable,
            windows_asked: false,
            short_of_room: false,
            boundary_timer: None,
            clock_offset: 0,
            started: now,
            waiters: Vec::new(),
            draining: false,
            failures_seen,
            boundary_pending: None,
            delays: Delays::default(),
            journal_is_high: false,
            state,
        }
    }

    // --- journal ---

    /// Has the journal do what gathered: at once if the last write is a while ago, else when the spacing is over.
    fn journal_soon(&mut self, ctx: &mut Context<Self>) {
        if self.writer.is_none() || self.job_timer.is_some() {
            return;
        }
        let idle = self.last_job.map_or(WRITE_SPACING, |last| self.clock.monotonic() - last);
        if idle >= WRITE_SPACING {
            self.journal(ctx);
        } else {
            self.job_timer = Some(ctx.run_later(WRITE_SPACING - idle, |actor, ctx| {
                actor.job_timer = None;
                actor.journal(ctx);
            }));
        }
    }

    fn journal(&mut self, ctx: &mut Context<Self>) {
        let work = !self.items.is_empty() || !self.remove.is_empty() || self.sync_due;
        let Some(mut writer) = self.writer.take_if(|_| work) else { return };
        self.last_job = Some(self.clock.monotonic());
        let wrote = self.items.iter().any(|item| matches!(item, Item::Append(_)));
        let removals = self.remove.len().min(REMOVALS_PER_JOB);
        let job = Job {
            items: std::mem::take(&mut self.items),
            remove: self.remove.drain(..removals).collect(),
            sync_due: self.sync_due,
            policy: self.sync,
            open: self.open,
            history_in_memory: self.buffer.has_history_in_memory_only(),
            full: self.full,
            limits: self.limits,
            now: self.clock.wall(),
        };
        self.sync_due = false;
        self.arm_sync(ctx, wrote);
        let blocking = self.blocking.clone();
        let ran = async move {
            blocking
                .run("journal", move || {
                    let outcome = job.run(&mut writer);
                    (writer, outcome)
                })
                .await
        };
        ctx.spawn(ran.into_actor(self).map(|(writer, outcome), actor, ctx| {
            actor.writer = Some(writer);
            actor.apply(ctx, outcome);
            actor.let_go();
            actor.commit_next(ctx);
            actor.answer_waiters();
            actor.publish_state();
            actor.journal_soon(ctx);
        }));
    }

    fn arm_sync(&mut self, ctx: &mut Context<Self>, wrote: bool) {
        if let (SyncPolicy::Every(interval), true, None) = (self.sync, wrote, &self.sync_timer) {
            self.sync_timer = Some(ctx.run_later(interval, |actor, ctx| {
                actor.sync_timer = None;
                actor.sync_due = true;
                actor.journal(ctx);
            }));
        }
    }

    fn apply(&mut self, ctx: &mut Context<Self>, outcome: Outcome) {
        let now = self.clock.monotonic();
        let Outcome { effects, open, full, not_removed, synced, error, journal_bytes } = outcome;
        let mut history_written = EventId::ZERO;
        for effect in effects {
            match effect {
                Effect::Records(records) => self.buffer.fill(records, now),
                Effect::Cut { no, bytes, info, keep } => {
                    self.buffer.cut(no, bytes, info, keep, now);
                    self.cut_made(info);
                }
                Effect::Appended { kept, refused } => {
                    self.short_of_room = matches!(refused, Some(Refused::JournalFull | Refused::DiskFull));
                    self.acknowledge(kept, refused);
                }
                Effect::History { no, batch } => {
                    self.windows_asked = false;
                    if no.is_some() {
                        history_written = history_written.max(batch.through);
                    }
                    self.buffer.push_history(no, batch, now);
                    self.acknowledge_history();
                }
                Effect::HistoryUnchanged(through) => {
                    self.windows_asked = false;
                    history_written = history_written.max(through);
                    self.acknowledge_history();
                }
                Effect::ReadBack { no, payload } => self.read_back(ctx, no, payload),
                Effect::Orphan(no) => {
                    let info = FlushInfo {
                        cause: FlushCause::Journal,
                        boundary: None,
                        skipped_boundaries: 0,
                        cut_at: self.clock.wall(),
                    };
                    self.buffer.push_orphan(no, info, now);
                }
            }
        }
        self.open = open;
        self.full = full;
        // They are the oldest, and segments go in order.
        self.remove_later.extend(not_removed);
        self.state.journal_bytes = journal_bytes;
        if (synced || self.sync == SyncPolicy::Off) && !self.buffer.has_history_in_memory_only() {
            self.history_durable = self.history_durable.max(history_written);
        }
        self.note_journal_error(error.map(|error| error.to_string()));
        self.warn_of_journal_level();
    }

    fn acknowledge(&mut self, kept: usize, refused: Option<Refused>) {
        let Some((count, reply)) = self.acks.pop_front() else { return };
        self.unwritten_events -= count;
        let answer = match refused {
            None => Ok(()),
            Some(reason) => Err(Refusal { kept, reason }),
        };
        // An SseIngestActor that stopped meanwhile needs no reply; the records are kept or counted all the same.
        let _ = reply.send(answer);
    }

    fn acknowledge_history(&mut self) {
        if let Some(reply) = self.history_acks.pop_front() {
            let _ = reply.send(());
        }
    }

    fn read_back(&mut self, ctx: &mut Context<Self>, no: SegmentNo, payload: Result<Payload, JournalError>) {
        self.reading_back = false;
        match payload {
            Ok(payload) => {
                let missing = self.buffer.read_back(no, payload);
                if missing > 0 {
                    error!("journal segment {no} is damaged: {missing} events of it are lost; the disk may be failing");
                    *self.state.lost.entry("journal_damaged").or_default() += missing;
                }
            }
            Err(error) => {
                let seconds = WATCH_INTERVAL.as_secs();
                error!("a waiting batch cannot be read back from the journal: {error}; it is tried again in {seconds} s");
                self.fail_waiters(&error.to_string());
                self.reading_back = true;
                ctx.run_later(WATCH_INTERVAL, |actor, ctx| {
                    actor.reading_back = false;
                    actor.commit_next(ctx);
                });
            }
        }
    }

    fn note_journal_error(&mut self, error: Option<String>) {
        match (&self.state.journal_error, &error) {
            (None, Some(error)) => error!("journal: {error}"),
            (Some(_), None) => info!("the journal works again"),
            _ => {}
        }
        self.state.journal_error = error;
    }

    fn warn_of_journal_level(&mut self) {
        let high = self.state.journal_bytes > self.limits.journal_bytes_max / 5 * 4;
        if high && !self.journal_is_high {
            warn!(
                "the journal holds {} of {} bytes (journal.max_bytes); when it is full new events are refused",
                self.state.journal_bytes, self.limits.journal_bytes_max
            );
        }
        self.journal_is_high = high;
    }

    // --- commits ---

    fn commit_next(&mut self, ctx: &mut Context<Self>) {
        if self.committing || self.reading_back {
            return;
        }
        match self.buffer.next() {
            None => {}
            Some(Next::ReadBack(no)) => {
                self.reading_back = true;
                self.items.push(Item::ReadBack(no));
                self.journal_soon(ctx);
            }
            Some(Next::Commit { no, payload, info, maybe_stored }) => {
                self.committing = true;
                match payload {
                    Payload::Events(records) => {
                        let maybe_stored = maybe_stored || self.maybe_stored;
                        let batch = EventBatch { maybe_stored, ..EventBatch::new(info, records) };
                        self.await_commit(ctx, no, EventId::ZERO, self.downstream.events.send(CommitEvents(batch)));
                    }
                    Payload::History(batch) => {
                        let batch = Arc::unwrap_or_clone(batch);
                        self.await_commit(ctx, no, batch.through, self.downstream.history.send(CommitHistory(batch)));
                    }
                }
            }
        }
    }

    fn await_commit(
        &mut self,
        ctx: &mut Context<Self>,
        no: BatchNo,
        history_through: EventId,
        reply: impl Future<Output = Result<Committed, actix::MailboxError>> + 'static,
    ) {
        ctx.spawn(reply.into_actor(self).map(move |committed, actor, ctx| {
            // Without the FlushActor nothing more is committed; the journal has the batch.
            if committed.is_err() {
                return;
            }
            actor.committing = false;
            actor.history_durable = actor.history_durable.max(history_through);
            actor.committed(no);
            actor.let_go();
            actor.commit_next(ctx);
            actor.answer_waiters();
            actor.publish_state();
            actor.journal_soon(ctx);
        }));
    }

    fn committed(&mut self, no: BatchNo) {
        self.buffer.committed(no);
        if self.boundary_pending.is_some_and(|(boundary, _)| self.flush_state.borrow().last_boundary >= Some(boundary)) {
            self.boundary_pending = None;
        }
    }

    fn let_go(&mut self) {
        let live = self.cache_state.borrow().synced_through;
        self.remove.extend(self.buffer.let_go(self.history_durable, live, self.open.no));
        // Where room is short, nothing is kept for history that could go. One batch of it in memory has to be enough.
        let pinned_max = if self.short_of_room {
            0
        } else {
            HISTORY_PINNED_BYTES_MAX.min(self.limits.journal_bytes_max / HISTORY_PINNED_SHARE)
        };
        let waits = self.windows_asked || self.buffer.has_history_in_memory_only();
        if !waits && self.buffer.pinned_bytes(self.history_durable) > pinned_max {
            self.windows_asked = true;
            self.cut_windows(FlushCause::Threshold, true);
        }
    }

    /// Has the HistoryWorkerActor hand over its closed windows. It answers with a [`StoreHistory`].
    fn cut_windows(&self, cause: FlushCause, open: bool) {
        // A lost cut is made up for by the next one: the windows stay where they are.
        self.downstream.cut_windows.do_send(CutWindows { cause, open });
    }

    // --- causes to flush ---

    fn cut(&mut self, ctx: &mut Context<Self>, cause: FlushCause, boundary: Option<Timestamp>, skipped_boundaries: u32) {
        self.items.push(Item::Cut(FlushInfo { cause, boundary, skipped_boundaries, cut_at: self.clock.wall() }));
        self.journal_soon(ctx);
    }

    /// The cut that a waiter asked for is made: it waits for all batches up to that one.
    fn cut_made(&mut self, info: FlushInfo) {
        let until = self.buffer.last_no();
        if matches!(info.cause, FlushCause::Manual | FlushCause::Drain) {
            for waiter in &mut self.waiters {
                waiter.until.get_or_insert(until);
            }
        }
    }

    fn keep_boundary(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.wall();
        if let Some(kept) = self.schedule.take_due(now) {
            if kept.skipped > 0 {
                warn!("{} boundaries passed without a flush (the clock was set forward, or the machine slept)", kept.skipped);
            }
            self.boundary_pending = Some((kept.boundary, self.clock.monotonic()));
            self.cut(ctx, FlushCause::Hourly, Some(kept.boundary), kept.skipped);
            self.cut_windows(FlushCause::Hourly, false);
        }
        self.align(ctx);
    }

    /// Arms the boundary timer: once to the next boundary, from there at the flush interval. Where the next boundary is
    /// not one interval away (the clock was stepped, daylight saving) the interval is aligned anew.
    fn align(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.boundary_timer.take() {
            ctx.cancel_future(timer);
        }
        let now = self.clock.wall();
        let wait = self.schedule.next(now).since(now);
        self.boundary_timer = Some(ctx.run_later(wait, |actor, ctx| {
            let interval = actor.flush_interval;
            actor.boundary_timer = Some(ctx.run_interval(interval, |actor, ctx| actor.on_boundary(ctx)));
            actor.on_boundary(ctx);
        }));
    }

    fn on_boundary(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.wall();
        if self.schedule.next(now) > now {
            // The timer came early: its clock and the wall clock drift apart by microseconds.
            self.align(ctx);
            return;
        }
        let armed = self.boundary_timer.take();
        let boundary = self.schedule.next(now);
        self.keep_boundary(ctx);
        let on_time = now.since(boundary) < Duration::from_millis(100);
        if on_time
            && self.schedule.next(now).since(boundary) == self.flush_interval
            && let Some(armed) = armed
        {
            // The interval that runs already comes at the next boundary.
            if let Some(timer) = self.boundary_timer.replace(armed) {
                ctx.cancel_future(timer);
            }
        } else if let Some(armed) = armed {
            ctx.cancel_future(armed);
        }
        self.publish_state();
    }

    /// What has to be looked at from time to time: the clocks, the age of the oldest record, and what is overdue.
    fn watch(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.monotonic();
        let offset = self.clock_offset_now();
        if (offset - self.clock_offset).abs() > Timestamp::SECOND / 2 {
            warn!(
                "the wall clock was stepped by {} s; the hourly flush is aligned anew",
                (offset - self.clock_offset) / Timestamp::SECOND
            );
            self.keep_boundary(ctx);
        }
        self.clock_offset = offset;
        if self.buffer.filling_since().is_some_and(|since| now - since >= self.flush_interval) {
            self.cut(ctx, FlushCause::Hourly, None, 0);
        }
        self.warn_of_delays(now);
        self.remove.append(&mut self.remove_later);
        self.let_go();
        self.commit_next(ctx);
        self.journal_soon(ctx);
        self.publish_state();
    }

    fn clock_offset_now(&self) -> i64 {
        let monotonic = i64::try_from((self.clock.monotonic() - self.started).as_micros()).unwrap_or(i64::MAX);
        self.clock.wall().0 - monotonic
    }

    fn warn_of_delays(&mut self, now: Instant) {
        let warnings = self.delays.look(Seen {
            now,
            oldest_cut: self.buffer.oldest_cut(),
            events: self.buffer.events(),
            full: self.limits.batch_events_max as u64,
            boundary: self.boundary_pending,
            id_ahead: self.cache_state.borrow().synced_through.id_clock().since(self.clock.wall()),
        });
        for warning in warnings {
            warn!("{warning}");
        }
        self.state.overdue = self.delays.overdue();
    }

    // --- requests ---

    fn wait_for_flush(&mut self, ctx: &mut Context<Self>, cause: FlushCause) -> ResponseFuture<FlushAnswer> {
        let (reply, answer) = oneshot::channel();
        self.waiters.push(Waiter { until: None, committed_before: self.buffer.committed_events(), reply });
        self.failures_seen = self.flush_state.borrow().failures;
        self.cut(ctx, cause, None, 0);
        // If the FlushActor does not get it, it tries when its back-off says so.
        self.downstream.try_now.do_send(TryNow);
        let waiting = self.buffer.events() + self.unwritten_events as u64;
        let stopping = move |_| FlushAnswer { committed: 0, waiting, error: Some("the recorder is stopping".to_owned()) };
        Box::pin(async move { answer.await.unwrap_or_else(stopping) })
    }

    fn answer_waiters(&mut self) {
        let (buffer, committed) = (&self.buffer, self.buffer.committed_events());
        let (done, waiting) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition::<Vec<_>, _>(|waiter| waiter.until.is_some_and(|until| buffer.is_committed_until(until)));
        self.waiters = waiting;
        for waiter in done {
            let answer = FlushAnswer { committed: committed - waiter.committed_before, waiting: 0, error: None };
            let _ = waiter.reply.send(answer);
        }
    }

    /// A try failed: whoever waits is told, and what waits stays in the journal.
    fn fail_waiters(&mut self, error: &str) {
        let (committed, waiting) = (self.buffer.committed_events(), self.buffer.events() + self.unwritten_events as u64);
        for waiter in self.waiters.drain(..) {
            let answer = FlushAnswer { committed: committed - waiter.committed_before, waiting, error: Some(error.to_owned()) };
            let _ = waiter.reply.send(answer);
        }
    }

    fn publish_state(&mut self) {
        self.state.buffer_size = self.buffer.events();
        self.state.memory_events = self.buffer.memory_events() + self.unwritten_events as u64;
        self.state.buffer_bytes = self.buffer.waiting_bytes() + self.open.bytes;
        self.state.waiting_batches = self.buffer.waiting_batches();
        self.state.oldest_unflushed = self.buffer.oldest();
        self.state.next_boundary = self.schedule.next(self.clock.wall());
        let state = &self.state;
        self.publish.send_modify(|published| published.clone_from(state));
    }
}

impl Actor for BufferActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Bunches of every endpoint may be under way at once; see MAILBOX_MESSAGES.
        ctx.set_mailbox_capacity(super::MAILBOX_MESSAGES);
        self.clock_offset = self.clock_offset_now();
        self.keep_boundary(ctx);
        ctx.run_interval(WATCH_INTERVAL, |actor, ctx| actor.watch(ctx));
        let failures = stream::unfold(self.flush_state.clone(), |mut state| async move {
            state.changed().await.ok()?;
            let (failures, error) = {
                let now = state.borrow_and_update();
                (now.failures, now.error.clone())
            };
            Some((WriteFailures { failures, error }, state))
        });
        ctx.add_stream(failures);
        self.commit_next(ctx);
        self.publish_state();
    }
}

/// The FlushActor's count of failures, whenever its state changes.
struct WriteFailures {
    failures: u64,
    error: Option<String>,
}

impl StreamHandler<WriteFailures> for BufferActor {
    fn handle(&mut self, WriteFailures { failures, error }: WriteFailures, _: &mut Self::Context) {
        if failures > self.failures_seen
            && let Some(error) = error
        {
            self.failures_seen = failures;
            self.fail_waiters(&error);
        }
    }

    /// The FlushActor is gone; the pipeline stops this actor next.
    fn finished(&mut self, _: &mut Self::Context) {}
}

impl Handler<Append> for BufferActor {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, Append(bunch): Append, ctx: &mut Self::Context) -> Self::Result {
        let count = bunch.records.len();
        let refused = if self.draining {
            Some(Refused::Stopping)
        } else {
            (self.unwritten_events + count > STALLED_EVENTS_MAX).then_some(Refused::JournalStalled)
        };
        if let Some(reason) = refused {
            return Box::pin(async move { Err(Refusal { kept: 0, reason }) });
        }
        let (reply, answer) = oneshot::channel();
        self.unwritten_events += count;
        self.acks.push_back((count, reply));
        self.items.push(Item::Append(bunch));
        self.journal_soon(ctx);
        Box::pin(async { answer.await.unwrap_or(Err(Refusal { kept: 0, reason: Refused::Stopping })) })
    }
}

impl Handler<StoreHistory> for BufferActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, StoreHistory { through, batch }: StoreHistory, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.history_acks.push_back(reply);
        self.items.push(batch.map_or(Item::HistoryUnchanged(through), |batch| Item::History(Box::new(batch))));
        self.journal_soon(ctx);
        Box::pin(async {
            // The actor stopped: the windows are rebuilt from the journal.
            let _ = answer.await;
        })
    }
}

impl Handler<FlushNow> for BufferActor {
    type Result = ResponseFuture<FlushAnswer>;

    fn handle(&mut self, _: FlushNow, ctx: &mut Self::Context) -> Self::Result {
        self.wait_for_flush(ctx, FlushCause::Manual)
    }
}

impl Handler<Drain> for BufferActor {
    type Result = ResponseFuture<FlushAnswer>;

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        self.draining = true;
        self.wait_for_flush(ctx, FlushCause::Drain)
    }
}

impl Handler<Close> for BufferActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) -> Self::Result {
        self.let_go();
        let (reply, answer) = oneshot::channel();
        self.sync_due = self.sync != SyncPolicy::Off;
        self.close(ctx, reply);
        Box::pin(async {
            // The actor is gone and with it what it had to do.
            let _ = answer.await;
        })
    }
}

impl BufferActor {
    /// Lets the journal finish, job by job, then stops.
    fn close(&mut self, ctx: &mut Context<Self>, reply: oneshot::Sender<()>) {
        self.journal(ctx);
        if self.writer.is_some() {
            let _ = reply.send(());
            ctx.stop();
        } else {
            ctx.run_later(WRITE_SPACING, |actor, ctx| actor.close(ctx, reply));
        }
    }
}
