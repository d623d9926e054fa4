//! Batches: of records and of history. Each is tried until it is committed.

use std::time::Duration;

use actix::{Handler, Message, ResponseFuture};
use log::error;
use tokio::sync::oneshot;

use super::{FlushActor, owed};
use crate::modes::usage::Purpose;
use crate::store::{Committed, EventBatch, HistoryBatch};

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

pub(super) enum Batch {
    Events(EventBatch, oneshot::Sender<Committed>),
    History(HistoryBatch, oneshot::Sender<Committed>),
}

impl Batch {
    pub(super) fn maybe_stored(&mut self, in_doubt: bool) {
        if let Self::Events(events, _) = self {
            events.maybe_stored |= in_doubt;
        }
    }

    /// The BufferActor may be gone after the deadline of a shutdown; the journal has the batch then.
    pub(super) fn reply(self, committed: Committed) {
        let (Self::Events(_, reply) | Self::History(_, reply)) = self;
        let _ = reply.send(committed);
    }
}

impl FlushActor {
    /// Counts a committed batch and says what kind it is.
    pub(super) fn count(&mut self, batch: &Batch, committed: Committed, took: Duration) -> Purpose {
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
                self.count_batch(events, &committed);
                self.time(took);
                Purpose::Batch
            }
            Batch::History(..) => {
                self.state.history_rows_written += committed.written;
                Purpose::Other
            }
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
        self.state.p99_ms = percentile_99(&sorted);
    }
}

/// The 99th percentile by nearest rank: the smallest value that 99 of 100 do not exceed. Of fewer than a hundred that is the
/// largest, and so never less than their mean. There must be one, and they must be sorted.
fn percentile_99(sorted: &[f64]) -> f64 {
    sorted[(sorted.len() * 99).div_ceil(100) - 1]
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

#[cfg(test)]
mod tests {
    use super::percentile_99;

    #[test]
    fn the_99th_percentile_of_few_is_the_largest() {
        assert_eq!(percentile_99(&[1.0]), 1.0);
        assert_eq!(percentile_99(&[1.0, 9.0]), 9.0, "not below the mean");
        let rising = |count: u32| (1..=count).map(f64::from).collect::<Vec<_>>();
        assert_eq!([99, 100, 101, 200, 1_000].map(|count| percentile_99(&rising(count))), [99.0, 99.0, 100.0, 198.0, 990.0]);
    }
}
