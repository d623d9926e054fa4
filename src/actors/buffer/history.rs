//! History that waits: rows that were handed over and are not in the database yet.

use actix::{Context, Handler, Message, MessageResult, ResponseFuture};
use tokio::sync::oneshot;

use super::BufferActor;
use crate::event::{EndpointId, TunnelKey};
use crate::id::EventId;
use crate::journaling::Item;
use crate::store::{CounterEvent, HistoryBatch, HistoryRow};

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

/// Whose history is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryScope {
    /// Of all tunnels.
    Fleet,
    /// Of the tunnels of an endpoint.
    Endpoint(EndpointId),
    /// Of one tunnel.
    Tunnel(TunnelKey),
}

impl HistoryScope {
    /// Whether a tunnel is asked for.
    #[must_use]
    pub fn contains(&self, tunnel: &TunnelKey) -> bool {
        match self {
            Self::Fleet => true,
            Self::Endpoint(endpoint) => tunnel.endpoint == *endpoint,
            Self::Tunnel(asked) => tunnel == asked,
        }
    }
}

/// Rows that are not in the database yet. Every row is a part that is *added* to what is stored of its minute; a minute may have
/// several.
///
/// Read it first and the database afterwards, in one snapshot: leave out what stands under a batch whose id is in
/// `flushes.first_id` of a history batch there, and ask anew if there is a history batch with an id above [`Self::as_of`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitingHistory {
    /// Rows of windows that are open, as they stand, and of windows that are closed and not handed over.
    pub counting: Vec<HistoryRow>,
    /// Rows that were handed over and wait to be committed, by the id of their batch.
    pub batches: Vec<(EventId, Vec<HistoryRow>)>,
    /// Falls of counters that were not committed when this was put together.
    pub falls: Vec<CounterEvent>,
    /// Rows that wait in the journal alone, of all tunnels, and are missing here: those beyond
    /// [`HISTORY_ROWS_IN_MEMORY_MAX`](crate::buffering::HISTORY_ROWS_IN_MEMORY_MAX).
    pub missing: u64,
    /// The last id that was given when this was put together.
    pub as_of: EventId,
}

/// Add the rows that wait here. Sent by the HistoryWorkerActor, in the step in which it adds its own: so nothing is in both and
/// nothing in neither.
#[derive(Clone, Debug, Message)]
#[rtype(result = "WaitingHistory")]
pub struct AddWaitingHistory {
    /// Whose.
    pub scope: HistoryScope,
    /// What the HistoryWorkerActor has.
    pub waiting: WaitingHistory,
}

impl BufferActor {
    pub(super) fn acknowledge_history(&mut self) {
        if let Some(reply) = self.history_acks.pop_front() {
            let _ = reply.send(());
        }
    }

    /// The journal has it now, or refused it: it stands in the buffer.
    pub(super) fn history_was_written(&mut self) {
        self.history_unwritten.pop_front();
    }
}

impl Handler<StoreHistory> for BufferActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, StoreHistory { through, batch }: StoreHistory, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.history_acks.push_back(reply);
        if let Some(batch) = &batch {
            // The batch itself is away while the journal writes it.
            self.history_unwritten.push_back((batch.id, batch.rows.clone(), batch.counter_events.clone()));
        }
        self.items.push(batch.map_or(Item::HistoryUnchanged(through), |batch| Item::History(Box::new(batch))));
        self.journal_soon(ctx);
        Box::pin(async {
            // The actor stopped: the windows are rebuilt from the journal.
            let _ = answer.await;
        })
    }
}

impl Handler<AddWaitingHistory> for BufferActor {
    type Result = MessageResult<AddWaitingHistory>;

    fn handle(&mut self, message: AddWaitingHistory, _: &mut Context<Self>) -> Self::Result {
        let AddWaitingHistory { scope, mut waiting } = message;
        let asked = |rows: &[HistoryRow]| rows.iter().filter(|row| scope.contains(&row.tunnel)).cloned().collect::<Vec<_>>();
        waiting.batches = self.buffer.waiting_history().map(|batch| (batch.id, asked(&batch.rows))).collect();
        waiting.batches.extend(self.history_unwritten.iter().map(|(id, rows, _)| (*id, asked(rows))));
        waiting.batches.retain(|(_, rows)| !rows.is_empty());
        let falls = self.buffer.waiting_history().flat_map(|batch| &batch.counter_events);
        let falls = falls.chain(self.history_unwritten.iter().flat_map(|(.., falls)| falls));
        waiting.falls.extend(falls.filter(|fall| scope.contains(&fall.tunnel)).cloned());
        waiting.missing = self.buffer.history_rows_in_journal_only();
        MessageResult(waiting)
    }
}
