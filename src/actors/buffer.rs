//! BufferActor: holds records until there is a cause to flush.
//!
//! Fed by the SseIngestActors (records) and the HistoryWorkerActor (closed windows); feeds the FlushActor, one batch at a
//! time and in order. It keeps the batch that is being filled, the batches that wait, and the journal that holds both.
//! A batch is cut when it is full, at the boundary, on request and at the end, whether or not a flush is in flight; it is
//! let go when its commit is durable, live state is synced through its last id and history is durable through it. Beyond
//! `storage.memory_max_events` a waiting batch lives in its segment only, once that is durable. It ends by [`Drain`]; a kill loses nothing that
//! the journal has.

mod boundary;
mod commits;
mod history;
mod journal;
mod read;
mod receive;
mod requests;
mod tune;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Recipient, SpawnHandle};
use log::warn;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

pub use self::history::{AddWaitingHistory, HistoryScope, StoreHistory, WaitingHistory};
pub use self::journal::Close;
pub use self::read::ReadBuffered;
use self::receive::Unanswered;
pub use self::receive::{Append, Refusal, Refused, STALLED_BYTES_MAX};
use self::requests::Waiter;
pub use self::requests::{Drain, FlushAnswer, FlushNow};
use super::cache::CacheState;
use super::flush::{CommitEvents, CommitHistory, FlushState, TryNow};
use super::history_worker::{CutWindows, Refusing};
use super::realtime::{RealtimeState, StoreNow};
use crate::blocking::Blocking;
use crate::boundary::Schedule;
use crate::buffering::{Buffer, RecoveredBatch};
use crate::clock::{SharedClock, Timestamp};
use crate::delays::{Delays, Seen};
use crate::id::EventId;
use crate::journal::{SegmentNo, Writer};
use crate::journaling::{Item, Limits, Open, SyncPolicy};
use crate::store::{CounterEvent, FlushCause, FlushInfo, HistoryRow};

/// The wall clock is compared with the monotonic one this often: a step is noticed within this time.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// The word under which records are counted that were received and that a damaged journal does not give back.
const JOURNAL_DAMAGED: &str = "journal_damaged";
/// The same for rows of history.
const HISTORY_DAMAGED: &str = "history_damaged";

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
    /// Why events are refused; `None` while they are accepted.
    pub refusing: Option<Refused>,
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
    /// Records that the journal is known to have lost before this start.
    pub events_lost: u64,
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
    /// The mode in force.
    pub realtime_state: watch::Receiver<RealtimeState>,
    /// Where state is published.
    pub publish: watch::Sender<BufferState>,
}

/// Whom the BufferActor tells what.
#[derive(Clone)]
pub struct Downstream {
    /// RealtimeActor: batches of records, on their way to the FlushActor.
    pub events: Recipient<CommitEvents>,
    /// RealtimeActor: what was journaled, while events are written one at a time.
    pub store_now: Recipient<StoreNow>,
    /// FlushActor: batches of history.
    pub history: Recipient<CommitHistory>,
    /// FlushActor: someone waits.
    pub try_now: Recipient<TryNow>,
    /// HistoryWorkerActor: hand over what is closed.
    pub cut_windows: Recipient<CutWindows>,
    /// HistoryWorkerActor: events are refused, or accepted again.
    pub refusing: Recipient<Refusing>,
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
    realtime_state: watch::Receiver<RealtimeState>,
    publish: watch::Sender<BufferState>,
    buffer: Buffer,
    /// Away while a job runs.
    writer: Option<Writer>,
    items: Vec<Item>,
    /// Records in `items` and in the running job.
    unwritten_events: usize,
    /// Their memory.
    unwritten_bytes: usize,
    /// Replies owed for bunches, in the order of their items.
    acks: VecDeque<Unanswered>,
    history_acks: VecDeque<oneshot::Sender<()>>,
    /// Rows and falls of batches that the journal has not written yet, in order.
    history_unwritten: VecDeque<(EventId, Vec<HistoryRow>, Vec<CounterEvent>)>,
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
    /// Could not be read back last; it was said.
    unreadable: Option<SegmentNo>,
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
            events_lost,
            maybe_stored,
            history_durable,
            downstream,
            flush_state,
            cache_state,
            realtime_state,
            publish,
        } = setup;
        let now = clock.monotonic();
        let lost = (events_lost > 0).then_some((JOURNAL_DAMAGED, events_lost)).into_iter().collect();
        let state = BufferState { journal_bytes: writer.bytes(), lost, ..BufferState::default() };
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
            realtime_state,
            publish,
            buffer: Buffer::new(memory_events_max, recovered, now),
            writer: Some(writer),
            items: Vec::new(),
            unwritten_events: 0,
            unwritten_bytes: 0,
            acks: VecDeque::new(),
            history_acks: VecDeque::new(),
            history_unwritten: VecDeque::new(),
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
            unreadable: None,
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

    fn cut(&mut self, ctx: &mut Context<Self>, cause: FlushCause, boundary: Option<Timestamp>, skipped_boundaries: u32) {
        self.items.push(Item::Cut(FlushInfo { cause, boundary, skipped_boundaries, cut_at: self.clock.wall() }));
        self.journal_soon(ctx);
    }

    /// What has to be looked at from time to time: the clocks, the age of the oldest record, and what is overdue.
    fn watch(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.monotonic();
        self.notice_a_clock_step(ctx);
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
        self.watch_for_failures(ctx);
        self.commit_next(ctx);
        self.publish_state();
    }
}
