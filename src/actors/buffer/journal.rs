//! Journal jobs: one at a time, each with what gathered since the last.

use std::time::Duration;

use actix::{ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use log::{error, info, warn};
use tokio::sync::oneshot;

use super::{BufferActor, HISTORY_DAMAGED, JOURNAL_DAMAGED, Refused, WATCH_INTERVAL};
use crate::actors::realtime::StoreNow;
use crate::buffering::Missing;
use crate::id::EventId;
use crate::journal::{JournalError, SegmentNo};
use crate::journaling::{Effect, Item, Job, Outcome, Payload, SyncPolicy};
use crate::store::{FlushCause, FlushInfo};

/// Time between the starts of two journal writes: what arrives meanwhile is written together.
const WRITE_SPACING: Duration = Duration::from_millis(5);
/// Segments that one journal job removes at most. Each removal is synced (some milliseconds), and events that arrive meanwhile
/// wait for the job's end: a thousand segments at once would stall them for seconds.
const REMOVALS_PER_JOB: usize = 8;

/// Sync the journal, remove what is durable elsewhere, and stop. Sent by the pipeline when nothing is written any more.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Close;

impl BufferActor {
    /// Has the journal do what gathered: at once if the last write is a while ago, else when the spacing is over.
    pub(super) fn journal_soon(&mut self, ctx: &mut Context<Self>) {
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
            without_segment: self.buffer.events_without_segment(),
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
            actor.spill();
            actor.let_go();
            actor.commit_next(ctx);
            actor.answer_waiters();
            actor.publish_state();
            actor.journal_soon(ctx);
        }));
    }

    /// Without syncs (`off`) nothing is ever known to be durable, and what was written has to do.
    fn spill(&mut self) {
        let Self { buffer, writer: Some(writer), sync, .. } = self else { return };
        buffer.spill(|no| *sync == SyncPolicy::Off || writer.segment(no).is_some_and(|segment| segment.durable));
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
        let wrote = effects.iter().any(|effect| matches!(effect, Effect::Records(_) | Effect::History { no: Some(_), .. }));
        let mut history_written = EventId::ZERO;
        for effect in effects {
            match effect {
                Effect::Records(records) => {
                    if self.realtime_state.borrow().mode.writes_singly() {
                        // One that is gone writes nothing more; the batch has them.
                        self.downstream.store_now.do_send(StoreNow(records.clone()));
                    }
                    self.buffer.fill(records, now);
                }
                Effect::Cut { no, bytes, info, keep } => {
                    self.buffer.cut(no, bytes, info, keep, now);
                    self.cut_made(info);
                }
                Effect::Appended { kept, refused } => {
                    self.short_of_room = matches!(refused, Some(Refused::JournalFull | Refused::DiskFull));
                    self.tell_whether_refusing(refused);
                    self.acknowledge(kept, refused);
                }
                Effect::History { no, batch } => {
                    self.windows_asked = false;
                    if no.is_some() {
                        history_written = history_written.max(batch.through);
                    }
                    self.history_was_written();
                    self.buffer.push_history(no, *batch, now);
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
        // A job that had nothing to write shows nothing.
        if error.is_some() || wrote {
            self.note_journal_error(error.map(|error| error.to_string()));
        }
        self.warn_of_journal_level();
    }

    fn read_back(&mut self, ctx: &mut Context<Self>, no: SegmentNo, payload: Result<Option<Payload>, JournalError>) {
        self.reading_back = false;
        match payload {
            Ok(payload) => {
                let missing = self.buffer.read_back(no, payload);
                self.count_missing(no, missing);
            }
            Err(error) => {
                if self.unreadable.replace(no) != Some(no) {
                    let seconds = WATCH_INTERVAL.as_secs();
                    error!("a waiting batch cannot be read back from the journal: {error}; it is tried again every {seconds} s");
                }
                self.fail_waiters(&error.to_string());
                self.reading_back = true;
                ctx.run_later(WATCH_INTERVAL, |actor, ctx| {
                    actor.reading_back = false;
                    actor.commit_next(ctx);
                });
            }
        }
    }

    fn count_missing(&mut self, no: SegmentNo, Missing { events, history_rows, history_batch }: Missing) {
        if events > 0 {
            error!("journal segment {no} is damaged: {events} events of it are lost; the disk may be failing");
            *self.state.lost.entry(JOURNAL_DAMAGED).or_default() += events;
        }
        if history_batch {
            error!(
                "journal segment {no} is damaged: {history_rows} rows of history are lost, and totals are too low by them; the \
                 disk may be failing"
            );
            // A batch without rows says what became of counters; its loss is told as one.
            *self.state.lost.entry(HISTORY_DAMAGED).or_default() += history_rows.max(1);
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
