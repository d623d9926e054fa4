//! Batches on their way to the database, one at a time and in order, and what the journal may forget after them.

use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::BufferActor;
use crate::actors::flush::{CommitEvents, CommitHistory};
use crate::actors::history_worker::CutWindows;
use crate::buffering::{BatchNo, Next};
use crate::id::EventId;
use crate::journaling::{Item, Payload};
use crate::store::{Committed, EventBatch, FlushCause};

/// Journaled bytes that are kept only for history; beyond that the open windows are handed over early. In a small journal it
/// is [`HISTORY_PINNED_SHARE`] of it, else it would fill up and refuse events while the database works.
const HISTORY_PINNED_BYTES_MAX: u64 = 64 << 20;
/// One part in this many of `journal.max_bytes`.
const HISTORY_PINNED_SHARE: u64 = 4;

impl BufferActor {
    pub(super) fn commit_next(&mut self, ctx: &mut Context<Self>) {
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

    pub(super) fn let_go(&mut self) {
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
    pub(super) fn cut_windows(&self, cause: FlushCause, open: bool) {
        // A lost cut is made up for by the next one: the windows stay where they are.
        self.downstream.cut_windows.do_send(CutWindows { cause, open });
    }
}
