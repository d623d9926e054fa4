//! Flushes on request, and who waits for them.

use actix::{AsyncContext, Context, Handler, Message, ResponseFuture, StreamHandler};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::oneshot;

use super::BufferActor;
use crate::actors::flush::TryNow;
use crate::buffering::BatchNo;
use crate::store::{FlushCause, FlushInfo};

/// Flush now. Sent by the HTTP API and by tests.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "FlushAnswer")]
pub struct FlushNow;

/// Flush what is left and accept nothing more. Sent by the pipeline when all senders are done. The reply says what was
/// written and what is left in the journal: after a failed write it does not wait for the next try.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "FlushAnswer")]
pub struct Drain;

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

/// Someone who waits for a flush.
pub(super) struct Waiter {
    /// Batches up to this one; unknown until the cut that was asked for is made.
    until: Option<BatchNo>,
    committed_before: u64,
    reply: oneshot::Sender<FlushAnswer>,
}

/// The FlushActor's count of failures, whenever its state changes.
pub(super) struct WriteFailures {
    failures: u64,
    error: Option<String>,
}

impl BufferActor {
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

    pub(super) fn answer_waiters(&mut self) {
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
    pub(super) fn fail_waiters(&mut self, error: &str) {
        let (committed, waiting) = (self.buffer.committed_events(), self.buffer.events() + self.unwritten_events as u64);
        for waiter in self.waiters.drain(..) {
            let answer = FlushAnswer { committed: committed - waiter.committed_before, waiting, error: Some(error.to_owned()) };
            let _ = waiter.reply.send(answer);
        }
    }

    /// The cut that a waiter asked for is made: it waits for all batches up to that one.
    pub(super) fn cut_made(&mut self, info: FlushInfo) {
        let until = self.buffer.last_no();
        if matches!(info.cause, FlushCause::Manual | FlushCause::Drain) {
            for waiter in &mut self.waiters {
                waiter.until.get_or_insert(until);
            }
        }
    }

    /// Has the FlushActor's failures told to who waits.
    pub(super) fn watch_for_failures(&self, ctx: &mut Context<Self>) {
        let failures = stream::unfold(self.flush_state.clone(), |mut state| async move {
            state.changed().await.ok()?;
            let (failures, error) = {
                let now = state.borrow_and_update();
                (now.failures, now.error.clone())
            };
            Some((WriteFailures { failures, error }, state))
        });
        ctx.add_stream(failures);
    }
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
