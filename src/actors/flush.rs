//! FlushActor: the only writer of a running recorder.
//!
//! Fed by the BufferActor (batches), the CacheActor (changes of live state) and the EndpointsActor (definitions). One
//! write is in flight at a time, each a transaction of its own. A batch is tried until it is committed: after a failure
//! with exponential back-off, kept whole and first in line. Everything else is answered with the failure, since its
//! sender holds newer values by the time of the next try. Definitions go before live state and live state before
//! batches, so that a backlog does not make the `tunnels` table stale. It keeps nothing when it ends: batches that are
//! not committed are in the journal.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, SpawnHandle, WrapFuture,
};
use log::{error, info, warn};
use serde::Serialize;
use tokio::sync::{oneshot, watch};

use crate::backoff::Backoff;
use crate::blocking::Blocking;
use crate::clock::{SharedClock, Timestamp};
use crate::event::EndpointId;
use crate::store::{
    Committed, EndpointChange, EventBatch, FlushCause, HistoryBatch, LiveChanges, NewEndpoint, Store, StoreError, StoreErrorKind,
};

/// First wait after a failed write.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two tries: a database that is back is noticed within a minute.
const RETRY_CEILING: Duration = Duration::from_secs(60);
/// Durations that the mean and the 99th percentile are taken over.
const DURATIONS_KEPT: usize = 1_000;

/// Store this batch of records.
///
/// Sent by the BufferActor, one at a time. The reply means durably committed. There is no failure: it is tried until
/// it succeeds; a reply that never comes means that the recorder stopped, and the journal has the batch.
#[derive(Debug, Message)]
#[rtype(result = "Committed")]
pub struct CommitEvents(pub EventBatch);

/// Store this batch of history rows. As [`CommitEvents`].
#[derive(Debug, Message)]
#[rtype(result = "Committed")]
pub struct CommitHistory(pub HistoryBatch);

/// Store these changes of live state. Sent by the CacheActor. On failure nothing is stored; the sender keeps what changed
/// and sends it again with its next sync.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SyncLive(pub LiveChanges);

/// Make an endpoint. Sent by the EndpointsActor, which passes a failure on to who asked.
#[derive(Debug, Message)]
#[rtype(result = "Result<EndpointId, StoreError>")]
pub struct AddEndpoint(pub NewEndpoint);

/// Change an endpoint. As [`AddEndpoint`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct ChangeEndpoint {
    /// Which.
    pub id: EndpointId,
    /// What.
    pub change: EndpointChange,
}

/// Remove an endpoint. As [`AddEndpoint`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct RemoveEndpoint {
    /// Which.
    pub id: EndpointId,
    /// Delete its events and history too.
    pub purge: bool,
}

/// Someone waits: try now instead of when the back-off says so. Sent by the BufferActor for a manual flush and at shutdown.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct TryNow;

/// Finish the write in flight and stop. Sent by the pipeline at shutdown, when all senders are done. The reply means
/// that nothing is being written any more.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// What the FlushActor has done since the recorder started, and how the database is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FlushState {
    /// `None` while the last write succeeded, else what failed.
    pub error: Option<String>,
    /// Since when the database is as it is: its first success, or the first failure in a row.
    pub since: Option<Timestamp>,
    /// Committed batches of records by cause.
    pub flushes: BTreeMap<FlushCause, u64>,
    /// Cut time of the last committed batch of records.
    pub last_flush: Option<Timestamp>,
    /// Last boundary that was kept and committed.
    pub last_boundary: Option<Timestamp>,
    /// Rows of records written.
    pub rows_written: u64,
    /// Rows whose id was there before.
    pub rows_skipped: u64,
    /// Rows in `quarantine`.
    pub quarantined: u64,
    /// Rows of history written.
    pub history_rows_written: u64,
    /// Transactions committed, of all kinds.
    pub write_transactions: u64,
    /// Tries of a batch after a failed one.
    pub retries: u64,
    /// Failed writes of all kinds.
    pub failures: u64,
    /// Commits of records that the durations are taken from.
    pub measured: u64,
    /// Duration of the last commit of records, in milliseconds.
    pub last_ms: f64,
    /// Mean of the last 1,000 such durations.
    pub mean_ms: f64,
    /// 99th percentile of them.
    pub p99_ms: f64,
}

/// See the module.
pub struct FlushActor {
    /// Away while a write is in flight.
    store: Option<Box<dyn Store>>,
    blocking: Blocking,
    clock: SharedClock,
    definitions: VecDeque<Definition>,
    live: VecDeque<(LiveChanges, oneshot::Sender<Result<(), StoreError>>)>,
    batches: VecDeque<Batch>,
    backoff: Backoff,
    /// Armed while a batch waits for its next try.
    retry: Option<SpawnHandle>,
    last_error: Option<StoreError>,
    /// Nothing is begun any more.
    stopping: bool,
    stop_replies: Vec<oneshot::Sender<()>>,
    durations_ms: VecDeque<f64>,
    state: FlushState,
    publish: watch::Sender<FlushState>,
}

enum Definition {
    Add(NewEndpoint, oneshot::Sender<Result<EndpointId, StoreError>>),
    Change(ChangeEndpoint, oneshot::Sender<Result<(), StoreError>>),
    Remove(RemoveEndpoint, oneshot::Sender<Result<(), StoreError>>),
}

enum Batch {
    Events(EventBatch, oneshot::Sender<Committed>),
    History(HistoryBatch, oneshot::Sender<Committed>),
}

/// What came of a write, with what it was.
enum Outcome {
    Definition(Result<(), StoreError>),
    Live(Result<(), StoreError>),
    Batch(Batch, Result<Committed, StoreError>, Duration),
}

impl FlushActor {
    /// An actor that writes to `store` and publishes its state to `publish`. `rng` jitters the back-off.
    #[must_use]
    pub fn new(
        store: Box<dyn Store>,
        blocking: Blocking,
        clock: SharedClock,
        rng: fastrand::Rng,
        publish: watch::Sender<FlushState>,
    ) -> Self {
        let state = publish.borrow().clone();
        Self {
            store: Some(store),
            blocking,
            clock,
            definitions: VecDeque::new(),
            live: VecDeque::new(),
            batches: VecDeque::new(),
            backoff: Backoff::new(RETRY_FIRST, RETRY_CEILING, rng),
            retry: None,
            last_error: None,
            stopping: false,
            stop_replies: Vec::new(),
            durations_ms: VecDeque::new(),
            state,
            publish,
        }
    }

    /// Starts the next write, if none is in flight and none has to wait.
    fn write_next(&mut self, ctx: &mut Context<Self>) {
        if self.store.is_none() {
            return;
        }
        if self.stopping {
            self.close(ctx);
            return;
        }
        if let Some(definition) = self.definitions.pop_front() {
            let at = self.clock.wall();
            self.write(ctx, "definition", move |store| definition.write(store, at));
        } else if let Some((changes, reply)) = self.live.pop_front() {
            self.write(ctx, "live", move |store| {
                let result = store.sync_live(&changes);
                let _ = reply.send(result.clone());
                Outcome::Live(result)
            });
        } else if self.retry.is_none()
            && let Some(batch) = self.batches.pop_front()
        {
            let clock = self.clock.clone();
            self.write(ctx, "batch", move |store| {
                let started = clock.monotonic();
                let result = match &batch {
                    Batch::Events(events, _) => store.commit_events(events),
                    Batch::History(history, _) => store.commit_history(history),
                };
                Outcome::Batch(batch, result, clock.monotonic() - started)
            });
        }
    }

    /// Gives the database up, and its lock with it; then nothing is being written any more.
    fn close(&mut self, ctx: &mut Context<Self>) {
        let store = self.store.take();
        let blocking = self.blocking.clone();
        let closed = async move { blocking.run("close", move || drop(store)).await };
        ctx.spawn(closed.into_actor(self).map(|(), actor, ctx| {
            for waiting in actor.stop_replies.drain(..) {
                // Whoever asked may be gone after its deadline.
                let _ = waiting.send(());
            }
            ctx.stop();
        }));
    }

    fn write(
        &mut self,
        ctx: &mut Context<Self>,
        job: &'static str,
        work: impl FnOnce(&mut dyn Store) -> Outcome + Send + 'static,
    ) {
        let Some(mut store) = self.store.take() else { return };
        let blocking = self.blocking.clone();
        let written = async move {
            blocking
                .run(job, move || {
                    let outcome = work(store.as_mut());
                    (store, outcome)
                })
                .await
        };
        ctx.spawn(written.into_actor(self).map(|(store, outcome), actor, ctx| {
            actor.store = Some(store);
            actor.settle(ctx, outcome);
            actor.publish.send_replace(actor.state.clone());
            actor.write_next(ctx);
        }));
    }

    fn settle(&mut self, ctx: &mut Context<Self>, outcome: Outcome) {
        match outcome {
            Outcome::Definition(Ok(())) | Outcome::Live(Ok(())) => self.succeeded(ctx),
            // The request was wrong and the database is well: a name that is taken, for example.
            Outcome::Definition(Err(error)) if error.kind == StoreErrorKind::Refused => {}
            Outcome::Definition(Err(error)) | Outcome::Live(Err(error)) => self.failed(ctx, error),
            Outcome::Batch(batch, Ok(committed), took) => {
                self.count(&batch, committed, took);
                self.succeeded(ctx);
                batch.reply(committed);
            }
            Outcome::Batch(mut batch, Err(error), _) => {
                batch.maybe_stored(error.in_doubt);
                self.batches.push_front(batch);
                self.state.retries += 1;
                self.failed(ctx, error);
            }
        }
    }

    fn succeeded(&mut self, ctx: &mut Context<Self>) {
        self.state.write_transactions += 1;
        self.backoff.reset();
        self.cancel_retry(ctx);
        let now = self.clock.wall();
        if self.last_error.take().is_some() {
            let down = self.state.since.map_or(Duration::ZERO, |since| now.since(since));
            info!("database works again after {}", humantime::format_duration(Duration::from_secs(down.as_secs())));
            self.state.since = Some(now);
        }
        self.state.error = None;
        self.state.since.get_or_insert(now);
    }

    fn failed(&mut self, ctx: &mut Context<Self>, error: StoreError) {
        self.state.failures += 1;
        let first = self.last_error.is_none();
        if first || self.last_error.as_ref().is_some_and(|before| before.message != error.message) {
            warn!("database: {error}; events wait in the journal and are stored when it works again");
        }
        if first {
            self.state.since = Some(self.clock.wall());
        }
        self.state.error = Some(error.to_string());
        self.last_error = Some(error);
        self.cancel_retry(ctx);
        let wait = self.backoff.after_failure();
        self.retry = Some(ctx.run_later(wait, |actor, ctx| {
            actor.retry = None;
            actor.write_next(ctx);
        }));
    }

    fn cancel_retry(&mut self, ctx: &mut Context<Self>) {
        if let Some(retry) = self.retry.take() {
            ctx.cancel_future(retry);
        }
    }

    fn count(&mut self, batch: &Batch, committed: Committed, took: Duration) {
        match batch {
            Batch::Events(events, _) => {
                self.state.rows_written += committed.written;
                self.state.rows_skipped += committed.skipped;
                self.state.quarantined += committed.quarantined;
                *self.state.flushes.entry(events.info.cause).or_default() += 1;
                self.state.last_flush = self.state.last_flush.max(Some(events.info.cut_at));
                self.state.last_boundary = self.state.last_boundary.max(events.info.boundary);
                if committed.skipped > 0 && !events.maybe_stored {
                    error!(
                        "{} rows were in the database already though their batch was never sent before: check that no other \
                         recorder writes to it",
                        committed.skipped
                    );
                }
                if committed.quarantined > 0 {
                    error!(
                        "the database refused {} rows; they are in the table quarantine with the reason",
                        committed.quarantined
                    );
                }
                self.time(took);
            }
            Batch::History(..) => self.state.history_rows_written += committed.written,
        }
    }

    fn time(&mut self, took: Duration) {
        self.state.measured += 1;
        self.state.last_ms = took.as_secs_f64() * 1e3;
        if self.durations_ms.len() == DURATIONS_KEPT {
            self.durations_ms.pop_front();
        }
        self.durations_ms.push_back(self.state.last_ms);
        let mut sorted: Vec<f64> = self.durations_ms.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        self.state.mean_ms = sorted.iter().sum::<f64>() / sorted.len() as f64;
        self.state.p99_ms = sorted[(sorted.len() - 1) * 99 / 100];
    }

    /// While a retry is due, whatever can be answered with the failure is.
    fn down(&self) -> Option<StoreError> {
        self.retry.as_ref().and(self.last_error.clone())
    }
}

impl Definition {
    fn write(self, store: &mut dyn Store, at: Timestamp) -> Outcome {
        fn done<T>(result: Result<T, StoreError>, reply: oneshot::Sender<Result<T, StoreError>>) -> Outcome
        where
            T: Clone,
        {
            let _ = reply.send(result.clone());
            Outcome::Definition(result.map(|_| ()))
        }
        match self {
            Self::Add(new, reply) => done(store.add_endpoint(&new, at), reply),
            Self::Change(ChangeEndpoint { id, change }, reply) => done(store.change_endpoint(id, &change, at), reply),
            Self::Remove(RemoveEndpoint { id, purge }, reply) => done(store.remove_endpoint(id, purge, at), reply),
        }
    }
}

impl Batch {
    fn maybe_stored(&mut self, in_doubt: bool) {
        if let Self::Events(events, _) = self {
            events.maybe_stored |= in_doubt;
        }
    }

    /// The BufferActor may be gone after the deadline of a shutdown; the journal has the batch then.
    fn reply(self, committed: Committed) {
        let (Self::Events(_, reply) | Self::History(_, reply)) = self;
        let _ = reply.send(committed);
    }
}

impl Actor for FlushActor {
    type Context = Context<Self>;
}

/// Waits for a reply that the actor owes; it never comes if the actor is gone.
async fn owed<T>(reply: oneshot::Receiver<T>) -> T {
    match reply.await {
        Ok(value) => value,
        Err(_) => std::future::pending().await,
    }
}

impl Handler<CommitEvents> for FlushActor {
    type Result = ResponseFuture<Committed>;

    fn handle(&mut self, CommitEvents(batch): CommitEvents, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.batches.push_back(Batch::Events(batch, reply));
        self.write_next(ctx);
        Box::pin(owed(answer))
    }
}

impl Handler<CommitHistory> for FlushActor {
    type Result = ResponseFuture<Committed>;

    fn handle(&mut self, CommitHistory(batch): CommitHistory, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.batches.push_back(Batch::History(batch, reply));
        self.write_next(ctx);
        Box::pin(owed(answer))
    }
}

impl Handler<SyncLive> for FlushActor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, SyncLive(changes): SyncLive, ctx: &mut Self::Context) -> Self::Result {
        if let Some(error) = self.down() {
            return Box::pin(async { Err(error) });
        }
        let (reply, answer) = oneshot::channel();
        self.live.push_back((changes, reply));
        self.write_next(ctx);
        Box::pin(owed(answer))
    }
}

impl Handler<AddEndpoint> for FlushActor {
    type Result = ResponseFuture<Result<EndpointId, StoreError>>;

    fn handle(&mut self, AddEndpoint(new): AddEndpoint, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.definitions.push_back(Definition::Add(new, reply));
        self.write_next(ctx);
        Box::pin(owed(answer))
    }
}

impl Handler<ChangeEndpoint> for FlushActor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, change: ChangeEndpoint, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.definitions.push_back(Definition::Change(change, reply));
        self.write_next(ctx);
        Box::pin(owed(answer))
    }
}

impl Handler<RemoveEndpoint> for FlushActor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, remove: RemoveEndpoint, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.definitions.push_back(Definition::Remove(remove, reply));
        self.write_next(ctx);
        Box::pin(owed(answer))
    }
}

impl Handler<TryNow> for FlushActor {
    type Result = ();

    fn handle(&mut self, _: TryNow, ctx: &mut Self::Context) {
        self.cancel_retry(ctx);
        self.write_next(ctx);
    }
}

impl Handler<Stop> for FlushActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.stopping = true;
        self.stop_replies.push(reply);
        self.cancel_retry(ctx);
        self.write_next(ctx);
        Box::pin(owed(answer))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::{Clock, VirtualClock};
    use crate::event::{Gap, InstanceId, Record};
    use crate::id::EventId;
    use crate::store::FlushInfo;
    use crate::store::memory::{Fault, MemoryDatabase};

    struct Bench {
        database: MemoryDatabase,
        flush: actix::Addr<FlushActor>,
        state: watch::Receiver<FlushState>,
        clock: Arc<VirtualClock>,
    }

    fn bench() -> Bench {
        let database = MemoryDatabase::default();
        let clock = VirtualClock::starting_at(Timestamp(1_795_435_200_000_000));
        let (publish, state) = watch::channel(FlushState::default());
        let rng = fastrand::Rng::with_seed(1);
        let flush = FlushActor::new(Box::new(database.store()), Blocking::immediate(), clock.clone(), rng, publish).start();
        Bench { database, flush, state, clock }
    }

    /// A batch of the given ids.
    fn batch(ids: impl IntoIterator<Item = i64>) -> EventBatch {
        let gap = |id| {
            let (from, to) = (Timestamp(0), Timestamp(0));
            Record::Gap(Gap {
                id: EventId(id),
                endpoint: EndpointId(1),
                instance: InstanceId::default(),
                from,
                to,
                reason: "test".into(),
            })
        };
        let info = FlushInfo { cause: FlushCause::Threshold, boundary: None, skipped_boundaries: 0, cut_at: Timestamp(0) };
        EventBatch { info, records: Arc::new(ids.into_iter().map(gap).collect()), maybe_stored: false }
    }

    fn endpoint(name: &str) -> NewEndpoint {
        NewEndpoint {
            name: name.to_owned(),
            url: "http://127.0.0.1:1".parse().expect("a URL"),
            api_key: crate::endpoint::ApiKey::new("k"),
            tls: crate::endpoint::TlsPolicy::Verify,
            log_events: None,
        }
    }

    /// Runs a test on actix's System over paused time.
    fn on_paused_time<T>(test: impl Future<Output = T> + 'static) -> T
    where
        T: 'static,
    {
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        actix::System::with_tokio_rt(runtime).block_on(test)
    }

    #[test]
    fn a_failed_batch_is_tried_again_with_growing_waits_until_it_is_committed() {
        on_paused_time(async {
            let bench = bench();
            bench.database.fail_next([Fault::Unavailable; 3]);
            let before = bench.clock.monotonic();
            let committed = bench.flush.send(CommitEvents(batch(1..=10))).await.expect("an answer");
            assert_eq!(committed, Committed { written: 10, ..Committed::default() });
            let waited = bench.clock.monotonic() - before;
            assert!(waited >= Duration::from_secs(1 + 2 + 4) && waited < Duration::from_secs(10), "{waited:?}");
            let state = bench.state.borrow().clone();
            assert_eq!((state.failures, state.retries, state.write_transactions, state.error), (3, 3, 1, None));
        });
    }

    #[test]
    fn a_commit_in_doubt_is_repeated_without_storing_anything_twice() {
        on_paused_time(async {
            for (fault, skipped) in [(Fault::DoubtStored, 10), (Fault::DoubtLost, 0)] {
                let bench = bench();
                bench.database.fail_next([fault]);
                let committed = bench.flush.send(CommitEvents(batch(1..=10))).await.expect("an answer");
                assert_eq!(committed.skipped, skipped, "{fault:?}");
                bench.database.with_tables(|tables| assert_eq!((tables.records.len(), tables.flushes.len()), (10, 1)));
            }
        });
    }

    #[test]
    fn batches_are_committed_in_the_order_of_sending_also_after_a_failure() {
        on_paused_time(async {
            let bench = bench();
            bench.database.fail_next([Fault::Unavailable]);
            let first = bench.flush.send(CommitEvents(batch(1..=3)));
            let second = bench.flush.send(CommitEvents(batch(4..=6)));
            let _ = futures_util::future::join(first, second).await;
            let firsts: Vec<i64> =
                bench.database.with_tables(|tables| tables.flushes.iter().map(|flush| flush.first.0).collect());
            assert_eq!(firsts, [1, 4]);
        });
    }

    #[test]
    fn while_the_database_is_down_live_state_is_answered_with_the_failure_and_does_not_hammer_it() {
        on_paused_time(async {
            let bench = bench();
            bench.database.set_down(Some("no connection"));
            let waiting = bench.flush.send(CommitEvents(batch(1..=3)));
            tokio::time::sleep(Duration::from_millis(1)).await;
            let calls = bench.database.with_tables(|tables| tables.calls);
            for _ in 0..100 {
                let answer = bench.flush.send(SyncLive(LiveChanges::default())).await.expect("an answer");
                assert_eq!(answer.expect_err("down").message, "no connection");
            }
            assert_eq!(bench.database.with_tables(|tables| tables.calls), calls);
            bench.database.set_down(None);
            waiting.await.expect("an answer");
            assert!(bench.flush.send(SyncLive(LiveChanges::default())).await.expect("an answer").is_ok());
        });
    }

    #[test]
    fn someone_who_waits_makes_it_try_at_once() {
        on_paused_time(async {
            let bench = bench();
            bench.database.set_down(Some("no connection"));
            let waiting = bench.flush.send(CommitEvents(batch(1..=3)));
            tokio::time::sleep(Duration::from_secs(600)).await;
            bench.database.set_down(None);
            let before = bench.clock.monotonic();
            bench.flush.send(TryNow).await.expect("an answer");
            waiting.await.expect("an answer");
            assert_eq!(bench.clock.monotonic() - before, Duration::ZERO);
        });
    }

    #[test]
    fn a_definition_that_is_refused_is_answered_and_is_no_failure_of_the_database() {
        on_paused_time(async {
            let bench = bench();
            let add = || bench.flush.send(AddEndpoint(endpoint("tokyo")));
            assert!(add().await.expect("an answer").is_ok());
            assert_eq!(add().await.expect("an answer").expect_err("taken").kind, StoreErrorKind::Refused);
            assert_eq!(bench.state.borrow().failures, 0);
        });
    }

    #[test]
    fn stop_is_answered_when_nothing_is_being_written_any_more() {
        on_paused_time(async {
            let bench = bench();
            bench.database.set_down(Some("no connection"));
            let waiting = bench.flush.send(CommitEvents(batch(1..=3)));
            bench.flush.send(Stop).await.expect("an answer");
            let calls = bench.database.with_tables(|tables| tables.calls);
            let never = tokio::time::timeout(Duration::from_secs(3600), waiting).await;
            assert!(never.is_err());
            assert_eq!(bench.database.with_tables(|tables| tables.calls), calls);
        });
    }
}
