//! BufferActor: holds records until there is a cause to flush.

use std::sync::Arc;

use actix::Message;

use crate::event::Bunch;

/// Records as they were received.
///
/// Sent by the SseIngestActor for every bunch that has stored records, in the order of their ids. The reply means: written
/// to the journal (with `journal.sync_interval = always`: synced); it is then that they count as received. On refusal
/// the sender counts them as dropped by endpoint and reason and opens a gap; it does not try again.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Refused>")]
pub struct Append(pub Arc<Bunch>);

/// Why records were not accepted. Nothing of the bunch is kept then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
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
    /// The word under which refused events are counted, for each endpoint.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::JournalFull => "journal_full",
            Self::DiskFull => "disk_full",
            Self::JournalStalled => "journal_stalled",
            Self::JournalFailed => "journal_failed",
            Self::Stopping => "stopping",
        }
    }
}
