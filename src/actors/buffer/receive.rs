//! What comes in: records and closed windows, and the replies that are owed for them.

use std::sync::Arc;

use actix::{Handler, Message, ResponseFuture};
use serde::Serialize;
use tokio::sync::oneshot;

use super::BufferActor;
use crate::actors::history_worker::Refusing;
use crate::event::Bunch;
use crate::journaling::Item;

/// Memory of the records that wait for a journal write which does not end; beyond that records are refused. Some 100,000 reports.
pub const STALLED_BYTES_MAX: usize = 32 << 20;

/// Records as they were received.
///
/// Sent by the SseIngestActor for every bunch that has stored records, in the order of their ids. The reply means: written
/// to the journal (with `journal.sync_interval = always`: synced); it is then that they count as received. On refusal
/// the sender counts the rest of them as dropped, by endpoint and reason, and records a gap; it does not try again.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Append(pub Arc<Bunch>);

/// A bunch, or the end of one, was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} after {kept} records")]
pub struct Refusal {
    /// Records from the beginning of the bunch that were kept all the same: a batch became full in its middle.
    pub kept: usize,
    /// Why not the rest.
    pub reason: Refused,
}

/// Why records were not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// The journal holds `journal.max_bytes`.
    #[error("journal_full")]
    JournalFull,
    /// The journal's file system has less than `journal.min_free_bytes` left, or said that it is full.
    #[error("disk_full")]
    DiskFull,
    /// More than the bound waits for a journal write that does not end.
    #[error("journal_stalled")]
    JournalStalled,
    /// The journal could not be written or synced for another reason.
    #[error("journal_failed")]
    JournalFailed,
    /// The recorder is stopping.
    #[error("stopping")]
    Stopping,
}

impl Refused {
    /// The word under which it is counted.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JournalFull => "journal_full",
            Self::DiskFull => "disk_full",
            Self::JournalStalled => "journal_stalled",
            Self::JournalFailed => "journal_failed",
            Self::Stopping => "stopping",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::JournalFull => "let the database work again, or raise journal.max_bytes",
            Self::DiskFull => "make room on the disk of journal.dir, or lower journal.min_free_bytes",
            Self::JournalStalled => "see whether the disk of journal.dir hangs",
            Self::JournalFailed => "see `journal_error` in the stats and the disk of journal.dir",
            Self::Stopping => "start the recorder again",
        }
    }
}

/// A bunch that is in the items or in the running job.
pub(super) struct Unanswered {
    count: usize,
    bytes: usize,
    reply: oneshot::Sender<Result<(), Refusal>>,
}

impl BufferActor {
    /// What is refused was not received: history does not count it either, and so does not grow while there is no room for it.
    pub(super) fn tell_whether_refusing(&mut self, refused: Option<Refused>) {
        if self.state.refusing.is_some() != refused.is_some() {
            // Without the HistoryWorkerActor the recorder is stopping.
            self.downstream.refusing.do_send(Refusing(refused.is_some()));
        }
        self.state.refusing = refused;
    }

    pub(super) fn acknowledge(&mut self, kept: usize, refused: Option<Refused>) {
        let Some(Unanswered { count, bytes, reply }) = self.acks.pop_front() else { return };
        self.unwritten_events -= count;
        self.unwritten_bytes -= bytes;
        let answer = match refused {
            None => Ok(()),
            Some(reason) => Err(Refusal { kept, reason }),
        };
        // An SseIngestActor that stopped meanwhile needs no reply; the records are kept or counted all the same.
        let _ = reply.send(answer);
    }
}

impl Handler<Append> for BufferActor {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, Append(bunch): Append, ctx: &mut Self::Context) -> Self::Result {
        let (count, bytes) = (bunch.records.len(), bunch.memory_bytes());
        let refused = if self.draining {
            Some(Refused::Stopping)
        } else {
            (self.unwritten_bytes + bytes > STALLED_BYTES_MAX).then_some(Refused::JournalStalled)
        };
        if let Some(reason) = refused {
            self.tell_whether_refusing(refused.filter(|reason| *reason != Refused::Stopping));
            self.publish_state();
            return Box::pin(async move { Err(Refusal { kept: 0, reason }) });
        }
        let (reply, answer) = oneshot::channel();
        self.unwritten_events += count;
        self.unwritten_bytes += bytes;
        self.acks.push_back(Unanswered { count, bytes, reply });
        self.items.push(Item::Append(bunch));
        self.journal_soon(ctx);
        Box::pin(async { answer.await.unwrap_or(Err(Refusal { kept: 0, reason: Refused::Stopping })) })
    }
}
