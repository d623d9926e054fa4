//! Reading what is buffered, for those who ask what was received.

use actix::{Context, Handler, Message};

use super::BufferActor;
use crate::event::EndpointId;
use crate::query::buffered::{Buffered, Wanted};

/// The newest records that are not committed. Sent by the HTTP API. If there is no answer the recorder is stopping, and what
/// waits is stored or in the journal.
///
/// Looks at what is in memory, at most `storage.memory_max_events` and a batch: a millisecond or two on the reactor.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Buffered")]
pub struct ReadBuffered {
    /// Which.
    pub wanted: Wanted,
    /// The id behind the endpoint's name, `None` where there is no such endpoint or no name was given.
    pub endpoint: Option<EndpointId>,
}

impl Handler<ReadBuffered> for BufferActor {
    type Result = actix::MessageResult<ReadBuffered>;

    fn handle(&mut self, ReadBuffered { wanted, endpoint }: ReadBuffered, _: &mut Context<Self>) -> Self::Result {
        let (records, in_journal_only) = self.buffer.newest();
        let records = records.filter(|record| wanted.takes(record, endpoint)).take(wanted.limit).cloned().collect();
        actix::MessageResult(Buffered { records, in_journal_only })
    }
}
