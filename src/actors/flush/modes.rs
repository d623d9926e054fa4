//! What the modes ask of the only writer: records one at a time, settings, and an account of what each mode costs.

use std::time::Duration;

use actix::{Context, Handler, Message, ResponseFuture};
use tokio::sync::oneshot;

use super::batches::Batch;
use super::definitions::Definition;
use super::{FlushActor, Outcome, owed};
use crate::actors::realtime::Tune;
use crate::event::Record;
use crate::modes::StorageMode;
use crate::modes::ledger::Ledger;
use crate::modes::usage::Purpose;
use crate::store::{Committed, EventBatch, Settings, StoreError, StoreErrorKind};

/// Store this record by itself. Sent by the RealtimeActor, one at a time. It is tried once: what fails is left to its batch.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct CommitSingle(pub Record);

/// This mode is in force, and these settings are to be kept. Sent by the RealtimeActor. From now on the mode pays for what is
/// written. The reply says whether the settings are kept; if not, they will be with the next write that succeeds.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct Keep {
    /// The mode.
    pub mode: StorageMode,
    /// All settings.
    pub settings: Settings,
}

/// What a write took beside its outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// The database's count of bytes before the first write.
    pub(super) bytes_before: Option<u64>,
    /// The same after this one, where it was asked.
    pub(super) bytes_after: Option<u64>,
    /// Time in the database.
    pub(super) took: Duration,
}

impl FlushActor {
    /// Keeps an account of what each mode costs, and the settings.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Ledger, settings: Settings) -> Self {
        self.state.ledger = ledger;
        self.settings = Some(settings);
        self
    }

    /// What the mode in force cost, to be kept with a batch of records.
    pub(super) fn enter_usage(&self, batch: &mut EventBatch) {
        batch.usage = self.settings.is_some().then(|| {
            let (mode, mut usage) = self.state.ledger.of_current(self.clock.monotonic());
            usage.batch_transactions += 1;
            usage.left_to_batch += batch.overlap.as_ref().map_or(0, |overlap| overlap.left);
            Box::new((mode, usage))
        });
    }

    /// Has settings and usage kept, with an answer or without.
    pub(super) fn keep(&mut self, reply: Option<oneshot::Sender<Result<(), StoreError>>>) {
        let Some(settings) = self.settings.clone() else { return };
        let usage = self.state.ledger.all(self.clock.monotonic()).into_iter().collect();
        self.definitions.push_back(Definition::Keep(settings, usage, reply));
    }

    pub(super) fn note_spent(&mut self, spent: Spent) {
        self.state.ledger.note_bytes(spent.bytes_before);
        self.state.ledger.note_bytes(spent.bytes_after);
        self.state.ledger.current().count_time(spent.took);
    }

    pub(super) fn settle_kept(
        &mut self,
        ctx: &mut Context<Self>,
        result: Result<(), StoreError>,
        reply: Option<oneshot::Sender<Result<(), StoreError>>>,
    ) {
        self.state.unkept = result.as_ref().err().map(ToString::to_string);
        match &result {
            Ok(()) => self.succeeded(ctx, Purpose::Other, 0),
            Err(error) => self.failed(ctx, error.clone()),
        }
        // Before the reply: who has it reads here whether the mode is kept.
        self.publish.send_replace(self.state.clone());
        if let Some(reply) = reply {
            // Whoever asked may be gone.
            let _ = reply.send(result);
        }
    }

    pub(super) fn settle_single(
        &mut self,
        ctx: &mut Context<Self>,
        record: &Record,
        result: Result<bool, StoreError>,
        reply: oneshot::Sender<Result<(), StoreError>>,
    ) {
        match &result {
            Ok(new) => {
                self.count_single(record, *new);
                self.succeeded(ctx, Purpose::Single, u64::from(*new));
            }
            // The record is at fault and the database is well.
            Err(error) if error.kind == StoreErrorKind::Refused => {}
            Err(error) => self.failed(ctx, error.clone()),
        }
        // The RealtimeActor may be gone.
        let _ = reply.send(result.map(drop));
    }

    fn count_single(&mut self, record: &Record, new: bool) {
        let now = self.clock.wall();
        let usage = self.state.ledger.current();
        if new {
            usage.count_events([record.received_at()], now);
            self.state.rows_written += 1;
        }
    }

    /// Counts a batch of records for the mode: those of its rows that are new, by their times of receipt.
    pub(super) fn count_batch(&mut self, batch: &EventBatch, committed: &Committed) {
        let now = self.clock.wall();
        let usage = self.state.ledger.current();
        let written = batch.overlap.as_ref().map_or(&[][..], |overlap| &overlap.written);
        let new = batch.records.iter().filter(|record| written.binary_search(&record.id()).is_err());
        let new = new.take(usize::try_from(committed.written).unwrap_or(usize::MAX));
        usage.count_events(new.map(Record::received_at), now);
        usage.left_to_batch += batch.overlap.as_ref().map_or(0, |overlap| overlap.left);
        usage.comparison.add(&committed.comparison);
    }
}

impl Batch {
    /// The records of a batch of records.
    pub(super) fn events_mut(&mut self) -> Option<&mut EventBatch> {
        match self {
            Self::Events(events, _) => Some(events),
            Self::History(..) => None,
        }
    }
}

impl Handler<CommitSingle> for FlushActor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, CommitSingle(record): CommitSingle, ctx: &mut Context<Self>) -> Self::Result {
        if let Some(error) = self.down() {
            return Box::pin(async { Err(error) });
        }
        let (reply, answer) = oneshot::channel();
        self.singles.push_back((record, reply));
        self.write_next(ctx);
        Box::pin(owed(answer))
    }
}

impl Handler<Keep> for FlushActor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, Keep { mode, settings }: Keep, ctx: &mut Context<Self>) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.state.ledger.switch(mode, self.clock.monotonic(), self.clock.wall());
        self.settings = Some(settings);
        self.keep(Some(reply));
        self.write_next(ctx);
        self.publish.send_replace(self.state.clone());
        Box::pin(owed(answer))
    }
}

impl Handler<Tune> for FlushActor {
    type Result = ();

    fn handle(&mut self, Tune(tuning): Tune, _: &mut Context<Self>) {
        self.batch_size = Some(tuning.batch_size);
    }
}

impl Outcome {
    /// Whether the database's count of bytes is read after it: often enough to know the cost of a mode, seldom enough to cost
    /// nothing itself.
    pub(super) fn reads_bytes(&self) -> bool {
        matches!(self, Self::Batch(..) | Self::Kept(..))
    }
}
