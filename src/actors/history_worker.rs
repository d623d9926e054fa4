//! HistoryWorkerActor: turns samples into one row per tunnel and minute.
//!
//! Fed by the SseIngestActors, which send every event here too; feeds the BufferActor with closed windows: at the
//! boundary, when it is asked to, when 10,000 rows wait, and at the end. It keeps the open windows and the rows that
//! wait. It ends by [`Drain`], which hands over partial windows as well; after a kill they come back from the database and
//! the journal.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture};

use super::buffer::{AddWaitingHistory, HistoryScope, StoreHistory, WaitingHistory};
use super::sse_ingest::SharedIds;
use crate::clock::SharedClock;
use crate::event::{Bunch, EndpointId};
use crate::history::Histories;
use crate::id::EventId;
use crate::store::{FlushCause, FlushInfo};

/// Rows that wait before they are handed over ahead of the hour: what bounds the actor's memory (some 2 MB).
pub const ROWS_WAITING_MAX: usize = 10_000;
/// How often windows whose minute is over are looked for.
const CLOSE_INTERVAL: Duration = Duration::from_secs(10);

/// Samples to count, in the order of their ids.
///
/// Sent by the SseIngestActor for every bunch. The reply means counted. There is no failure.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Observe(pub Arc<Bunch>);

/// A master told its version, which says whether its resets last. Sent by the SseIngestActors after each connect, and after the
/// record of a restart if there was one. If it is lost, resets count as if they did not last: too low, never too high.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct LearnVersion {
    /// Whose.
    pub endpoint: EndpointId,
    /// As the master spells it.
    pub version: Box<str>,
}

/// Hand the closed windows to the BufferActor. Sent by the BufferActor at a boundary and when history alone keeps too
/// much of the journal. If it is lost, the next one makes up for it.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct CutWindows {
    /// Why.
    pub cause: FlushCause,
    /// Also the windows that are still open, as far as they are.
    pub open: bool,
}

/// Events are refused from now on, or accepted again. Sent by the BufferActor. What is refused is not counted: counters are
/// cumulative, so the last sample before it ends brings what was moved meanwhile.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Refusing(pub bool);

/// Close the windows of a removed endpoint and forget its counters. Sent by the EndpointsActor.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Forget(pub EndpointId);

/// Hand over everything, partial windows too. Sent by the pipeline when nothing more comes in. The reply means that the
/// BufferActor has it.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// What is not in the database yet? Sent by whoever answers people. The answer also contains what waits in the BufferActor.
#[derive(Clone, Debug, Message)]
#[rtype(result = "WaitingHistory")]
pub struct ReadWaiting(pub HistoryScope);

/// See the module.
pub struct HistoryWorkerActor {
    histories: Histories,
    clock: SharedClock,
    ids: SharedIds,
    buffer: Recipient<StoreHistory>,
    add_waiting: Recipient<AddWaitingHistory>,
    /// A replay: a live endpoint must not go on counting from where a capture ended.
    is_replay: bool,
    /// See [`Refusing`].
    refusing: bool,
}

impl HistoryWorkerActor {
    /// An actor that goes on from `histories`.
    #[must_use]
    pub fn new(
        histories: Histories,
        clock: SharedClock,
        ids: SharedIds,
        buffer: Recipient<StoreHistory>,
        add_waiting: Recipient<AddWaitingHistory>,
        is_replay: bool,
    ) -> Self {
        Self { histories, clock, ids, buffer, add_waiting, is_replay, refusing: false }
    }

    fn cut(&mut self, cause: FlushCause, open: bool) -> actix::dev::RecipientRequest<StoreHistory> {
        let now = self.clock.wall();
        self.histories.close_until(now);
        let through = self.histories.through();
        let id = self.ids.borrow_mut().next(now);
        let info = FlushInfo { cause, boundary: None, skipped_boundaries: 0, cut_at: now };
        // What a replay leaves open nobody would ever close.
        let mut batch = self.histories.cut(id, info, open || self.is_replay);
        if let Some(batch) = batch.as_mut().filter(|_| self.is_replay) {
            batch.states.clear();
            batch.through = EventId::ZERO;
        }
        self.buffer.send(StoreHistory { through, batch })
    }

    fn cut_if_many(&mut self, ctx: &mut Context<Self>) {
        if self.histories.waiting_rows() >= ROWS_WAITING_MAX {
            let handed_over = self.cut(FlushCause::Threshold, false);
            ctx.spawn(actix::fut::wrap_future(async {
                // Without the BufferActor the recorder is stopping; the rows are rebuilt from the journal.
                let _ = handed_over.await;
            }));
        }
    }
}

impl Actor for HistoryWorkerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(super::MAILBOX_MESSAGES);
        ctx.run_interval(CLOSE_INTERVAL, |actor, ctx| {
            actor.histories.close_until(actor.clock.wall());
            actor.cut_if_many(ctx);
        });
    }
}

impl Handler<Observe> for HistoryWorkerActor {
    type Result = ();

    fn handle(&mut self, Observe(bunch): Observe, ctx: &mut Self::Context) {
        for record in &bunch.records {
            if self.refusing { self.histories.skip(record) } else { self.histories.observe(record) }
        }
        self.cut_if_many(ctx);
    }
}

impl Handler<LearnVersion> for HistoryWorkerActor {
    type Result = ();

    fn handle(&mut self, LearnVersion { endpoint, version }: LearnVersion, _: &mut Self::Context) {
        self.histories.learn_version(endpoint, &version);
    }
}

impl Handler<CutWindows> for HistoryWorkerActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, CutWindows { cause, open }: CutWindows, _: &mut Self::Context) -> Self::Result {
        let handed_over = self.cut(cause, open);
        Box::pin(async {
            // As in `cut_if_many`.
            let _ = handed_over.await;
        })
    }
}

impl Handler<ReadWaiting> for HistoryWorkerActor {
    type Result = ResponseFuture<WaitingHistory>;

    fn handle(&mut self, ReadWaiting(scope): ReadWaiting, _: &mut Self::Context) -> Self::Result {
        let closed = self.histories.closed_rows().filter(|row| scope.contains(&row.tunnel)).cloned();
        let open = self.histories.open_rows().filter(|row| scope.contains(&row.tunnel));
        let counting = closed.chain(open).collect();
        let falls = self.histories.falls().filter(|fall| scope.contains(&fall.tunnel)).cloned().collect();
        let waiting = WaitingHistory { counting, falls, as_of: self.ids.borrow().last(), ..WaitingHistory::default() };
        let as_it_is = waiting.clone();
        let completed = self.add_waiting.send(AddWaitingHistory { scope, waiting });
        // Without the BufferActor the recorder is stopping.
        Box::pin(async { completed.await.unwrap_or(as_it_is) })
    }
}

impl Handler<Refusing> for HistoryWorkerActor {
    type Result = ();

    fn handle(&mut self, Refusing(refusing): Refusing, _: &mut Self::Context) -> Self::Result {
        self.refusing = refusing;
        if !refusing {
            self.histories.count_skipped();
        }
    }
}

impl Handler<Forget> for HistoryWorkerActor {
    type Result = ();

    fn handle(&mut self, Forget(endpoint): Forget, _: &mut Self::Context) {
        self.histories.forget(endpoint);
    }
}

impl Handler<Drain> for HistoryWorkerActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let handed_over = self.cut(FlushCause::Drain, true);
        Box::pin(async {
            // As in `cut_if_many`.
            let _ = handed_over.await;
        })
    }
}
