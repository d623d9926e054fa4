//! RealtimeActor: writes events one at a time in the modes `realtime` and `dual`, and knows which mode is in force.
//!
//! Fed by the BufferActor with what the journal has, and with the batches on their way to the FlushActor. It keeps a short queue
//! ([`SingleQueue`]); each record of it is tried once, in a transaction of its own, and whatever fails, does not fit or comes
//! too late is left to its batch. A batch waits here until the queue is past it, at most [`PATIENCE`], and goes on with the
//! ids that were written. In `batched` it passes batches on and does nothing else. Mode and tuned keys change by [`Switch`];
//! they take effect at once and are kept in the database as soon as that can be written. It ends with the recorder; after a
//! kill the journal has all events, and the database tells which of them are stored.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture, SpawnHandle, WrapFuture};
use log::{info, warn};
use tokio::sync::{oneshot, watch};

use super::flush::{CommitEvents, CommitSingle, Keep};
use crate::clock::{SharedClock, Timestamp};
use crate::config::{ConfigError, Origin, Tuning};
use crate::event::Record;
use crate::id::EventId;
use crate::modes::StorageMode;
use crate::modes::single_queue::{Ended, SingleQueue};
use crate::store::{Committed, EventBatch, Overlap, Settings, StoreError, StoreErrorKind};

/// How long a batch waits for those of its events that are still to be written one at a time. A queue that is full takes about
/// so long on an SSD; where it takes longer, the batch is the faster way, and the journal's segments must not pile up.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Records that the journal has, in the order of their ids. Sent by the BufferActor while events are written one at a time;
/// nobody waits for anything.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct StoreNow(pub Vec<Record>);

/// Change the mode, or keys that may change while the recorder runs. Sent by the HTTP API. It is in effect when the answer comes.
#[derive(Clone, Debug, Default, Message)]
#[rtype(result = "Result<Switched, ConfigError>")]
pub struct Switch {
    /// The mode from now on.
    pub mode: Option<StorageMode>,
    /// Keys and their values; an empty value goes back to the configuration.
    pub set: BTreeMap<String, String>,
}

impl Switch {
    /// Whether nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mode.is_none() && self.set.is_empty()
    }

    /// What is to be kept after it, given what is `kept` and what the configuration says.
    ///
    /// # Errors
    /// [`ConfigError`] for a key or a value that is not allowed.
    pub fn changed(&self, kept: &Settings, configured: Tuning) -> Result<Settings, ConfigError> {
        let mut settings = kept.clone();
        for (name, value) in &self.set {
            if value.is_empty() && Tuning::has(name) {
                settings.remove(name);
                continue;
            }
            let checked = configured.with(name, value, &Origin::Request)?;
            settings.insert(name.clone(), checked.text(name).unwrap_or_default());
        }
        if let Some(mode) = self.mode {
            settings.insert(StorageMode::KEY.to_owned(), mode.as_str().to_owned());
        }
        Ok(settings)
    }
}

/// What came of a [`Switch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switched {
    /// Why it is not kept across a restart yet: the database could not be written.
    pub not_kept: Option<StoreError>,
}

/// Work with these values from now on. Sent by the RealtimeActor to those whom they concern.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Tune(pub Tuning);

/// The mode and what is under way.
#[derive(Clone, Debug, Default)]
pub struct RealtimeState {
    /// The mode in force.
    pub mode: StorageMode,
    /// Since when, in this life of the recorder.
    pub since: Timestamp,
    /// The values in force.
    pub tuning: Tuning,
    /// Mode and tuned keys as they are kept, or are to be.
    pub settings: Settings,
    /// Records that wait to be written one at a time.
    pub queue_events: u64,
    /// Their bytes, roughly.
    pub queue_bytes: u64,
    /// Records written one at a time since the recorder started.
    pub written: u64,
    /// Records that were to be and were left to their batch.
    pub left_to_batch: u64,
}

/// What a RealtimeActor is given.
pub struct RealtimeSetup {
    /// The mode to begin with.
    pub mode: StorageMode,
    /// What the configuration says of the keys that may change.
    pub configured: Tuning,
    /// The values in force.
    pub tuning: Tuning,
    /// What the database knows.
    pub settings: Settings,
    /// A replay: batches pass untouched.
    pub is_replay: bool,
    /// Clock.
    pub clock: SharedClock,
    /// FlushActor: one record.
    pub single: Recipient<CommitSingle>,
    /// FlushActor: batches.
    pub batches: Recipient<CommitEvents>,
    /// FlushActor: mode and settings.
    pub keep: Recipient<Keep>,
    /// Whom tuned values concern.
    pub tuned: Vec<Recipient<Tune>>,
    /// Where state is published.
    pub publish: watch::Sender<RealtimeState>,
}

/// A batch that waits for the queue.
struct Held {
    batch: EventBatch,
    reply: oneshot::Sender<Committed>,
    patience: SpawnHandle,
}

/// See the module.
pub struct RealtimeActor {
    configured: Tuning,
    is_replay: bool,
    clock: SharedClock,
    single: Recipient<CommitSingle>,
    batches: Recipient<CommitEvents>,
    keep: Recipient<Keep>,
    tuned: Vec<Recipient<Tune>>,
    queue: SingleQueue,
    held: Option<Held>,
    /// Records are left to their batches: the log says so once.
    leaving: bool,
    state: RealtimeState,
    publish: watch::Sender<RealtimeState>,
}

impl RealtimeActor {
    /// An actor with the mode and the values that it is to begin with.
    #[must_use]
    pub fn new(setup: RealtimeSetup) -> Self {
        let RealtimeSetup { mode, configured, tuning, settings, is_replay, clock, single, batches, keep, tuned, publish } = setup;
        let state = RealtimeState { mode, since: clock.wall(), tuning, settings, ..RealtimeState::default() };
        publish.send_replace(state.clone());
        Self {
            configured,
            is_replay,
            clock,
            single,
            batches,
            keep,
            tuned,
            queue: SingleQueue::default(),
            held: None,
            leaving: false,
            state,
            publish,
        }
    }

    /// Writes the next record, if none is being written.
    fn write_next(&mut self, ctx: &mut Context<Self>) {
        let Some(record) = self.queue.take() else { return };
        let sent = self.single.send(CommitSingle(record));
        ctx.spawn(sent.into_actor(self).map(|answer, actor, ctx| {
            // Without the FlushActor nothing more is written; the journal has the record.
            let Ok(answer) = answer else { return };
            actor.written(answer);
            // The batch first: it waited for this record.
            actor.go_on(ctx);
            actor.write_next(ctx);
            actor.publish_state();
        }));
    }

    fn written(&mut self, answer: Result<(), StoreError>) {
        match answer {
            Ok(()) => {
                self.queue.ended(Ended::Written);
                self.leaving = false;
            }
            Err(error) => {
                self.queue.ended(if error.in_doubt { Ended::InDoubt } else { Ended::Failed });
                if error.kind == StoreErrorKind::Refused {
                    warn!("database: {error}");
                } else {
                    // It would fail for the others too, one after the other.
                    self.queue.leave_all();
                }
            }
        }
    }

    /// Passes the held batch on, if nothing of it waits any more.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        let last = |held: &Held| held.batch.records.last().map_or(EventId::ZERO, Record::id);
        let Some(held) = self.held.take_if(|held| self.queue.is_through(last(held))) else { return };
        ctx.cancel_future(held.patience);
        self.pass_on(held.batch, held.reply, ctx);
    }

    fn pass_on(&mut self, batch: EventBatch, reply: oneshot::Sender<Committed>, ctx: &mut Context<Self>) {
        let overlap = self.overlap(&batch);
        let sent = self.batches.send(CommitEvents(EventBatch { overlap, ..batch }));
        ctx.spawn(sent.into_actor(self).map(|committed, _, _| {
            if let Ok(committed) = committed {
                // The BufferActor may be gone after the deadline of a shutdown; the journal has the batch then.
                let _ = reply.send(committed);
            }
        }));
    }

    fn overlap(&mut self, batch: &EventBatch) -> Option<Overlap> {
        if self.is_replay {
            return None;
        }
        let compare = self.state.mode == StorageMode::Dual;
        let last = batch.records.last()?.id();
        if batch.maybe_stored {
            // Of a recorder before this one: what it wrote one at a time is not known.
            return Some(Overlap { doubtful: u64::MAX, compare, ..Overlap::default() });
        }
        self.queue.take_overlap(last, compare)
    }

    /// The values with these keys changed, and what is to be kept then.
    fn changed(&self, switch: &Switch) -> Result<(Tuning, Settings), ConfigError> {
        let settings = switch.changed(&self.state.settings, self.configured)?;
        Ok((self.configured.with_all(&settings)?, settings))
    }

    fn apply(&mut self, mode: StorageMode, tuning: Tuning, settings: Settings) {
        if mode != self.state.mode {
            info!("{} is {mode} now, after {}", StorageMode::KEY, self.state.mode);
            (self.state.mode, self.state.since) = (mode, self.clock.wall());
            if !mode.writes_singly() {
                self.queue.leave_all();
            }
        }
        for name in Tuning::KEYS {
            let (before, after) = (self.state.tuning.text(name), tuning.text(name));
            if before != after {
                info!("{name} is {} now, after {}", after.unwrap_or_default(), before.unwrap_or_default());
            }
        }
        (self.state.tuning, self.state.settings) = (tuning, settings);
        for concerned in &self.tuned {
            // One that is gone works no more.
            concerned.do_send(Tune(tuning));
        }
    }

    fn publish_state(&mut self) {
        self.state.queue_events = self.queue.len() as u64;
        self.state.queue_bytes = self.queue.bytes() as u64;
        self.state.written = self.queue.written_in_all();
        self.state.left_to_batch = self.queue.left_in_all();
        self.publish.send_replace(self.state.clone());
    }
}

impl Actor for RealtimeActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(super::MAILBOX_MESSAGES);
    }
}

impl Handler<StoreNow> for RealtimeActor {
    type Result = ();

    fn handle(&mut self, StoreNow(records): StoreNow, ctx: &mut Self::Context) {
        if !self.state.mode.writes_singly() {
            // Sent before the mode changed. Their batch has them.
            return;
        }
        let left_before = self.queue.left_in_all();
        self.queue.push(records);
        if self.queue.left_in_all() > left_before && !self.leaving {
            self.leaving = true;
            warn!("events are left to their batches: the database does not take them one at a time as fast as they come");
        }
        self.write_next(ctx);
        self.publish_state();
    }
}

impl Handler<CommitEvents> for RealtimeActor {
    type Result = ResponseFuture<Committed>;

    fn handle(&mut self, CommitEvents(batch): CommitEvents, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        let last = batch.records.last().map_or(EventId::ZERO, Record::id);
        if self.queue.is_through(last) {
            self.pass_on(batch, reply, ctx);
        } else {
            let patience = ctx.run_later(PATIENCE, move |actor, ctx| {
                actor.queue.leave_through(last);
                // The one that is being written keeps the FlushActor busy anyway.
                actor.go_on(ctx);
                actor.publish_state();
            });
            self.held = Some(Held { batch, reply, patience });
        }
        Box::pin(async move {
            match answer.await {
                Ok(committed) => committed,
                // The FlushActor is gone.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

impl Handler<Switch> for RealtimeActor {
    type Result = ResponseFuture<Result<Switched, ConfigError>>;

    fn handle(&mut self, switch: Switch, ctx: &mut Self::Context) -> Self::Result {
        let (tuning, settings) = match self.changed(&switch) {
            Ok(changed) => changed,
            Err(error) => return Box::pin(async { Err(error) }),
        };
        let mode = switch.mode.unwrap_or(self.state.mode);
        self.apply(mode, tuning, settings.clone());
        self.go_on(ctx);
        self.publish_state();
        let kept = self.keep.send(Keep { mode, settings });
        Box::pin(async move {
            let stopping = |_| {
                Err(StoreError {
                    kind: StoreErrorKind::Unavailable,
                    in_doubt: false,
                    message: "the recorder is stopping".to_owned(),
                })
            };
            Ok(Switched { not_kept: kept.await.unwrap_or_else(stopping).err() })
        })
    }
}

#[cfg(test)]
mod tests;
