//! FlushActor: the only writer of a running recorder.
//!
//! Fed by the BufferActor (batches), the RealtimeActor (single records, settings), the CacheActor (changes of live state),
//! the EndpointsActor (definitions) and the AlertsActor (what people were told). One
//! write is in flight at a time, each a transaction of its own. A batch is tried until it is committed: after a failure
//! with exponential back-off, kept whole and first in line. Everything else is answered with the failure, since its
//! sender holds newer values by the time of the next try. Definitions go before live state and live state before
//! batches, so that a backlog does not make the `tunnels` table stale. A purge is made of many short transactions, one after
//! each batch. It keeps nothing when it ends: batches that are
//! not committed are in the journal.

mod batches;
mod definitions;
mod expiry;
mod modes;
mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, SpawnHandle, WrapFuture,
};
use log::{debug, info, warn};
use tokio::sync::{oneshot, watch};

use self::batches::Batch;
pub use self::batches::{CommitEvents, CommitHistory};
pub use self::definitions::{AddEndpoint, ChangeEndpoint, KeepAlerts, RemoveEndpoint};
use self::definitions::{Definition, Purging};
use self::modes::Spent;
pub use self::modes::{CommitSingle, Keep};
pub use self::state::FlushState;
use crate::backoff::Backoff;
use crate::blocking::Blocking;
use crate::clock::SharedClock;
use crate::config::RetentionConfig;
use crate::event::Record;
use crate::modes::usage::Purpose;
use crate::retention::{Expired, Expiry, Plan};
use crate::store::{Committed, LiveChanges, Settings, Store, StoreError, StoreErrorKind};
use tokio::time::Instant;

/// A write that takes longer is shown as an outage, though PostgreSQL gives a statement up only after 60 s and a hung disk never
/// answers. A healthy database takes milliseconds, a large batch on a slow disk a second or two.
const NO_ANSWER_AFTER: Duration = Duration::from_secs(10);
/// First wait after a failed write.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two tries: a database that is back is noticed within a minute.
const RETRY_CEILING: Duration = Duration::from_secs(60);

/// Store these changes of live state. Sent by the CacheActor. On failure nothing is stored; the sender keeps what changed
/// and sends it again with its next sync.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SyncLive(pub LiveChanges);

/// Someone waits: try now instead of when the back-off says so. Sent by the BufferActor for a manual flush and at shutdown.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct TryNow;

/// Finish the write in flight and stop. Sent by the pipeline at shutdown, when all senders are done. The reply means
/// that nothing is being written any more.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// See the module.
pub struct FlushActor {
    /// Away while a write is in flight.
    store: Option<Box<dyn Store>>,
    blocking: Blocking,
    clock: SharedClock,
    definitions: VecDeque<Definition>,
    live: VecDeque<(LiveChanges, oneshot::Sender<Result<(), StoreError>>)>,
    singles: VecDeque<(Record, oneshot::Sender<Result<(), StoreError>>)>,
    batches: VecDeque<Batch>,
    /// What is kept of mode and tuned keys; `None` for a replay, which keeps nothing and pays for nothing.
    settings: Option<Settings>,
    /// Rows per statement, to be told to the store.
    batch_size: Option<usize>,
    purges: VecDeque<Purging>,
    /// The last write was a batch: a purge or what expires, where there is any, has the next turn.
    turn_of_others: bool,
    plan: Plan,
    started: Instant,
    backoff: Backoff,
    /// Armed while a batch waits for its next try.
    retry: Option<SpawnHandle>,
    last_error: Option<StoreError>,
    /// The write that is in flight has not ended for so long that it counts as an outage.
    unanswered: bool,
    /// Nothing is begun any more.
    stopping: bool,
    stop_replies: Vec<oneshot::Sender<()>>,
    durations_ms: VecDeque<f64>,
    state: FlushState,
    publish: watch::Sender<FlushState>,
}

/// What came of a write, with what it was.
enum Outcome {
    Definition(Result<(), StoreError>),
    Kept(Result<(), StoreError>, Option<oneshot::Sender<Result<(), StoreError>>>),
    Live(Result<u64, StoreError>),
    /// One step of it is done.
    Purge(Purging),
    Single(Record, Result<bool, StoreError>, oneshot::Sender<Result<(), StoreError>>),
    Expiry(Expiry, Result<Expired, StoreError>, Duration),
    Batch(Batch, Result<Committed, StoreError>),
}

impl FlushActor {
    /// An actor that writes to `store` and publishes its state to `publish`. `rng` jitters the back-off.
    #[must_use]
    pub fn new(
        store: Box<dyn Store>,
        blocking: Blocking,
        clock: SharedClock,
        rng: fastrand::Rng,
        retention: RetentionConfig,
        publish: watch::Sender<FlushState>,
    ) -> Self {
        let started = clock.monotonic();
        let state = publish.borrow().clone();
        Self {
            store: Some(store),
            blocking,
            clock,
            definitions: VecDeque::new(),
            live: VecDeque::new(),
            singles: VecDeque::new(),
            batches: VecDeque::new(),
            settings: None,
            batch_size: None,
            purges: VecDeque::new(),
            turn_of_others: false,
            plan: Plan::new(retention),
            started,
            backoff: Backoff::new(RETRY_FIRST, RETRY_CEILING, rng),
            retry: None,
            last_error: None,
            unanswered: false,
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
                Outcome::Live(result.map(|()| changes.rows()))
            });
        } else if let Some((record, reply)) = self.singles.pop_front() {
            self.write(ctx, "single", move |store| {
                let result = store.commit_single(&record);
                Outcome::Single(record, result, reply)
            });
        } else if let Some(purging) =
            self.purges.pop_front_if(|_| self.turn_of_others || self.retry.is_some() || self.batches.is_empty())
        {
            self.turn_of_others = false;
            self.write(ctx, "purge", move |store| purging.step(store));
        } else if let Some(step) = self.next_expiry() {
            self.turn_of_others = false;
            self.expire(ctx, step);
        } else if self.retry.is_none()
            && let Some(mut batch) = self.batches.pop_front()
        {
            self.turn_of_others = true;
            if let Some(events) = batch.events_mut() {
                self.enter_usage(events);
            }
            self.write(ctx, "batch", move |store| {
                let result = match &batch {
                    Batch::Events(events, _) => store.commit_events(events),
                    Batch::History(history, _) => store.commit_history(history),
                };
                Outcome::Batch(batch, result)
            });
        }
    }

    /// Gives the database up, and its lock with it; then nothing is being written any more.
    fn close(&mut self, ctx: &mut Context<Self>) {
        let Some(mut store) = self.store.take() else { return };
        let blocking = self.blocking.clone();
        // Not where it would only wait for a database that does not work.
        let last_entry = self.settings.clone().filter(|_| self.last_error.is_none());
        let usage: Vec<_> = self.state.ledger.all(self.clock.monotonic()).into_iter().collect();
        let closed = async move {
            blocking
                .run("close", move || {
                    if let Some(settings) = last_entry
                        && let Err(error) = store.keep_settings(&settings, &usage)
                    {
                        warn!("database: {error}; what the mode cost since the last flush is not kept");
                    }
                    drop(store);
                })
                .await;
        };
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
        let (blocking, clock) = (self.blocking.clone(), self.clock.clone());
        let (batch_size, first) = (self.batch_size.take(), !self.state.ledger.knows_bytes());
        let watch = ctx.run_later(NO_ANSWER_AFTER, |actor, _| actor.no_answer());
        let written = async move {
            blocking
                .run(job, move || {
                    if let Some(rows) = batch_size {
                        store.set_batch_size(rows);
                    }
                    let bytes_before = if first { store.bytes_written() } else { None };
                    let started = clock.monotonic();
                    let outcome = work(store.as_mut());
                    let took = clock.monotonic() - started;
                    let bytes_after = if outcome.reads_bytes() { store.bytes_written() } else { None };
                    (store, outcome, Spent { bytes_before, bytes_after, took })
                })
                .await
        };
        ctx.spawn(written.into_actor(self).map(move |(store, outcome, spent), actor, ctx| {
            ctx.cancel_future(watch);
            actor.store = Some(store);
            actor.note_spent(spent);
            actor.settle(ctx, outcome, spent.took);
            actor.answered();
            actor.publish.send_replace(actor.state.clone());
            actor.write_next(ctx);
        }));
    }

    /// A write does not end: that is an outage too, and whoever waits for a flush is told.
    fn no_answer(&mut self) {
        let error = format!("no answer for {} s; see whether its disk or its host hangs", NO_ANSWER_AFTER.as_secs());
        if self.last_error.is_none() {
            warn!("database: {error}; events wait in the journal and are stored when it works again");
            self.state.since = Some(self.clock.wall());
            self.unanswered = true;
        }
        self.state.failures += 1;
        self.state.error = Some(error);
        self.publish.send_replace(self.state.clone());
    }

    /// The write ended after all. If it failed, the outage goes on with another reason.
    fn answered(&mut self) {
        if std::mem::take(&mut self.unanswered) && self.last_error.is_none() {
            self.works_again();
        }
    }

    fn works_again(&mut self) {
        let now = self.clock.wall();
        let down = self.state.since.map_or(Duration::ZERO, |since| now.since(since));
        info!("database works again after {}", humantime::format_duration(Duration::from_secs(down.as_secs())));
        self.state.since = Some(now);
        self.state.error = None;
    }

    fn settle(&mut self, ctx: &mut Context<Self>, outcome: Outcome, took: Duration) {
        match outcome {
            Outcome::Definition(Ok(())) => self.succeeded(ctx, Purpose::Other, 1),
            Outcome::Live(Ok(rows)) => self.succeeded(ctx, Purpose::Live, rows),
            Outcome::Kept(result, reply) => self.settle_kept(ctx, result, reply),
            Outcome::Single(record, result, reply) => self.settle_single(ctx, &record, result, reply),
            // The request was wrong and the database is well: a name that is taken, for example.
            Outcome::Definition(Err(error)) if error.kind == StoreErrorKind::Refused => {}
            Outcome::Definition(Err(error)) | Outcome::Live(Err(error)) => self.failed(ctx, error),
            Outcome::Purge(purging) => {
                if purging.is_done() {
                    self.definitions.push_back(purging.removal());
                } else {
                    self.purges.push_front(purging);
                }
                self.succeeded(ctx, Purpose::Other, 0);
            }
            Outcome::Expiry(step, result, took) => self.settle_expiry(ctx, &step, result, took),
            Outcome::Batch(batch, Ok(committed)) => {
                let purpose = self.count(&batch, committed, took);
                self.succeeded(ctx, purpose, committed.written);
                batch.reply(committed);
            }
            Outcome::Batch(mut batch, Err(error)) => {
                batch.maybe_stored(error.in_doubt);
                self.batches.push_front(batch);
                self.state.retries += 1;
                self.failed(ctx, error);
            }
        }
    }

    fn succeeded(&mut self, ctx: &mut Context<Self>, purpose: Purpose, rows: u64) {
        self.state.write_transactions += 1;
        self.state.ledger.current().count_transaction(purpose, rows);
        self.backoff.reset();
        self.cancel_retry(ctx);
        if self.last_error.take().is_some() {
            self.works_again();
        }
        if self.state.unkept.take().is_some() {
            self.keep(None);
        }
        self.state.since.get_or_insert(self.clock.wall());
    }

    fn failed(&mut self, ctx: &mut Context<Self>, error: StoreError) {
        self.state.failures += 1;
        if self.last_error.is_none() && !self.unanswered {
            warn!("database: {error}; events wait in the journal and are stored when it works again");
            self.state.since = Some(self.clock.wall());
        } else {
            // One line per outage, however the reason changes; the stats show the present one.
            debug!("database: {error}");
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

    /// While a retry is due, whatever can be answered with the failure is.
    fn down(&self) -> Option<StoreError> {
        self.retry.as_ref().and(self.last_error.clone())
    }
}

impl Actor for FlushActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(expiry::LOOK_INTERVAL, |actor, ctx| actor.look_at_expiry(ctx));
    }
}

/// Waits for a reply that the actor owes; it never comes if the actor is gone.
async fn owed<T>(reply: oneshot::Receiver<T>) -> T {
    match reply.await {
        Ok(value) => value,
        Err(_) => std::future::pending().await,
    }
}

/// Waits for an answer; without the actor it is that nothing was stored.
async fn answered<T>(reply: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    let message = "the recorder is stopping".to_owned();
    reply.await.unwrap_or(Err(StoreError { kind: StoreErrorKind::Unavailable, in_doubt: false, message }))
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
        Box::pin(answered(answer))
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
