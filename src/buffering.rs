//! What the buffer holds: the batch that is being filled, the batches that wait, and when each may be let go.
//!
//! A batch is cut once, committed once and let go once, in this order. Between cut and commit its payload is in memory or,
//! beyond the memory bound and once its segment is durable, in its journal segment only. Between commit and letting go only the segment is left: live
//! state and history must be able to come back from it until they are durable themselves.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use crate::event::Record;
use crate::id::EventId;
use crate::journal::SegmentNo;
use crate::journaling::Payload;
use crate::store::{FlushInfo, HistoryBatch};

/// Rows of history that wait in memory, some 20 MB; batches beyond that live in the journal alone, and answers to people lack
/// them until they are stored.
pub const HISTORY_ROWS_IN_MEMORY_MAX: usize = 100_000;

/// Number of a batch in the order of cutting, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchNo(pub u64);

/// A batch that a recorder before this one left in the journal.
#[derive(Clone, Copy, Debug)]
pub struct RecoveredBatch {
    /// Its segment.
    pub segment: SegmentNo,
    /// How it will stand in `flushes`.
    pub info: FlushInfo,
    /// It is one of history.
    pub is_history: bool,
    /// Records in it; 0 for history.
    pub events: u64,
    /// Rows of history in it; 0 for records.
    pub history_rows: u64,
    /// Highest id in it.
    pub last: EventId,
    /// Bytes in the journal.
    pub bytes: u64,
    /// There is nothing in it to store.
    pub empty: bool,
}

/// What is to be done so that the oldest batch is committed.
#[derive(Debug)]
pub enum Next {
    /// Commit this.
    Commit {
        /// Which.
        no: BatchNo,
        /// Its content.
        payload: Payload,
        /// Why it was cut.
        info: FlushInfo,
        /// It may be stored already.
        maybe_stored: bool,
    },
    /// Read it from its segment first.
    ReadBack(SegmentNo),
}

/// What a segment did not give back of its batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Records.
    pub events: u64,
    /// Rows of history.
    pub history_rows: u64,
    /// A batch of history as a whole: what it said of counters is gone as well, however few rows it had.
    pub history_batch: bool,
}

#[derive(Debug)]
struct Waiting {
    no: BatchNo,
    /// `None` for a boundary with nothing to write, and for history that the journal refused.
    segment: Option<SegmentNo>,
    /// `None` while it lives in its segment only, and after the commit.
    payload: Option<Payload>,
    /// It is beyond the memory bound: see [`Buffer::spill`].
    beyond: bool,
    info: FlushInfo,
    is_history: bool,
    events: u64,
    history_rows: u64,
    bytes: u64,
    last: EventId,
    /// When its first record was accepted.
    since: Instant,
    cut: Instant,
    maybe_stored: bool,
    committed: bool,
}

impl Waiting {
    fn new(info: FlushInfo, now: Instant) -> Self {
        Self {
            no: BatchNo(0),
            segment: None,
            payload: None,
            beyond: false,
            info,
            is_history: false,
            events: 0,
            history_rows: 0,
            bytes: 0,
            last: EventId::ZERO,
            since: now,
            cut: now,
            maybe_stored: false,
            committed: false,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Buffer {
    memory_events_max: usize,
    filling: Vec<Record>,
    filling_since: Option<Instant>,
    waiting: VecDeque<Waiting>,
    last_no: BatchNo,
    committed_events: u64,
}

impl Buffer {
    /// A buffer that keeps at most `memory_events_max` records in memory beside the batch that is being filled and the one
    /// that is being committed.
    #[must_use]
    pub fn new(memory_events_max: usize, recovered: impl IntoIterator<Item = RecoveredBatch>, now: Instant) -> Self {
        let mut buffer = Self {
            memory_events_max,
            filling: Vec::new(),
            filling_since: None,
            waiting: VecDeque::new(),
            last_no: BatchNo(0),
            committed_events: 0,
        };
        for batch in recovered {
            let RecoveredBatch { segment, info, is_history, events, history_rows, last, bytes, empty } = batch;
            let waiting = Waiting { segment: Some(segment), is_history, events, history_rows, bytes, ..Waiting::new(info, now) };
            buffer.push(Waiting { last, maybe_stored: true, committed: empty, ..waiting });
        }
        buffer
    }

    /// Adds records that the journal has.
    pub fn fill(&mut self, records: Vec<Record>, now: Instant) {
        self.filling_since.get_or_insert(now);
        if self.filling.is_empty() {
            self.filling = records;
        } else {
            self.filling.extend(records);
        }
    }

    /// Cuts the batch that is being filled. Without records only a boundary makes a batch, an empty one.
    /// With `keep` its records stay in memory whatever the bound says, since the segment does not have them all.
    pub fn cut(&mut self, segment: Option<SegmentNo>, bytes: u64, info: FlushInfo, keep: bool, now: Instant) {
        let since = self.filling_since.take().unwrap_or(now);
        let records = std::mem::take(&mut self.filling);
        if records.is_empty() && info.boundary.is_none() {
            return;
        }
        let last = records.last().map_or(EventId::ZERO, Record::id);
        let events = records.len() as u64;
        let within: usize = self.within_bound().map(|batch| batch.events as usize).sum();
        let beyond = !keep && within + records.len() > self.memory_events_max;
        let payload = Some(Payload::Events(Arc::new(records)));
        self.push(Waiting { segment, payload, beyond, events, bytes, last, since, ..Waiting::new(info, now) });
    }

    /// Adds a segment that holds nothing, to be let go in its turn.
    pub fn push_orphan(&mut self, segment: SegmentNo, info: FlushInfo, now: Instant) {
        self.push(Waiting { segment: Some(segment), committed: true, ..Waiting::new(info, now) });
    }

    /// Adds a batch of history. `segment` is `None` if the journal refused it.
    pub fn push_history(&mut self, segment: Option<SegmentNo>, batch: HistoryBatch, now: Instant) {
        let (info, last) = (batch.info, batch.through);
        let history_rows = batch.rows.len() as u64;
        let within: u64 = self.within_bound().map(|batch| batch.history_rows).sum();
        let beyond = within + history_rows > HISTORY_ROWS_IN_MEMORY_MAX as u64;
        let payload = Some(Payload::History(Arc::new(batch)));
        self.push(Waiting { segment, payload, beyond, is_history: true, history_rows, last, ..Waiting::new(info, now) });
    }

    /// Takes the batches beyond the memory bound from memory, as soon as their segments are durable: one whose sync fails may be
    /// dropped by the system at any moment, and then nobody else has it. The batch that is next stays where it is.
    pub fn spill(&mut self, is_durable: impl Fn(SegmentNo) -> bool) {
        let Some(next) = self.waiting.iter().position(|batch| !batch.committed) else { return };
        // Those that are gone already are behind the ones that came last.
        for batch in self.waiting.range_mut(next + 1..).rev().take_while(|batch| batch.payload.is_some()) {
            if batch.beyond && batch.segment.is_some_and(&is_durable) {
                batch.payload = None;
            }
        }
    }

    fn within_bound(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter().filter(|batch| batch.payload.is_some() && !batch.beyond)
    }

    /// Batches stand in the order of their segments, in which these are removed: a batch of history may get its segment
    /// while an older one is still being filled.
    fn push(&mut self, batch: Waiting) {
        self.last_no = BatchNo(self.last_no.0 + 1);
        let after = |other: &Waiting| other.segment.is_some_and(|other| batch.segment.is_some_and(|segment| other > segment));
        let later = self.waiting.iter().rev().take_while(|other| after(other)).count();
        let position = self.waiting.len() - later;
        self.waiting.insert(position, Waiting { no: self.last_no, ..batch });
    }

    /// What to do for the oldest batch that is not committed.
    #[must_use]
    pub fn next(&self) -> Option<Next> {
        let batch = self.waiting.iter().find(|batch| !batch.committed)?;
        match (&batch.payload, batch.segment) {
            (Some(payload), _) => {
                Some(Next::Commit { no: batch.no, payload: payload.clone(), info: batch.info, maybe_stored: batch.maybe_stored })
            }
            (None, Some(segment)) => Some(Next::ReadBack(segment)),
            (None, None) => None,
        }
    }

    /// Gives a batch its content back: `None` where the segment has nothing of it any more. Returns what of it is missing.
    pub fn read_back(&mut self, segment: SegmentNo, payload: Option<Payload>) -> Missing {
        let batch = self.waiting.iter_mut().find(|batch| batch.segment == Some(segment) && !batch.committed);
        let Some(batch) = batch else { return Missing::default() };
        let (events, history_rows) = match &payload {
            Some(Payload::Events(records)) => (records.len() as u64, 0),
            Some(Payload::History(history)) => (0, history.rows.len() as u64),
            None => (0, 0),
        };
        let missing = Missing {
            events: batch.events.saturating_sub(events),
            history_rows: batch.history_rows.saturating_sub(history_rows),
            history_batch: batch.is_history && payload.is_none(),
        };
        (batch.events, batch.history_rows) = (events, history_rows);
        if missing.history_batch {
            // There is nothing to commit; those behind it must not wait for it.
            batch.committed = true;
        } else {
            batch.payload = Some(payload.unwrap_or_else(|| Payload::Events(Arc::default())));
        }
        missing
    }

    /// The batch is durable in the database.
    pub fn committed(&mut self, no: BatchNo) {
        if let Some(batch) = self.waiting.iter_mut().find(|batch| batch.no == no) {
            batch.committed = true;
            batch.payload = None;
            self.committed_events += batch.events;
        }
    }

    /// Takes the batches that nothing needs any more, from the front on, and returns their segments. `history` and `live`
    /// are the ids through which history and live state are durable; `filling` is the segment of the batch that is being
    /// filled, before which nothing later may go.
    pub fn let_go(&mut self, history: EventId, live: EventId, filling: Option<SegmentNo>) -> Vec<SegmentNo> {
        let durable = history.min(live);
        let in_order = |segment: Option<SegmentNo>| filling.is_none_or(|filling| segment.is_none_or(|segment| segment < filling));
        let done =
            |batch: &mut Waiting| in_order(batch.segment) && batch.committed && (batch.events == 0 || batch.last <= durable);
        let mut segments = Vec::new();
        while let Some(batch) = self.waiting.pop_front_if(done) {
            segments.extend(batch.segment);
        }
        segments
    }

    /// Journaled bytes of batches that are committed and kept because history is durable only through this id.
    #[must_use]
    pub fn pinned_bytes(&self, history: EventId) -> u64 {
        self.waiting.iter().filter(|batch| batch.committed && batch.last > history).map(|batch| batch.bytes).sum()
    }

    /// True if history waits that neither the journal nor the database has.
    #[must_use]
    pub fn has_history_in_memory_only(&self) -> bool {
        self.uncommitted().any(|batch| batch.segment.is_none() && matches!(batch.payload, Some(Payload::History(_))))
    }

    /// Records of batches that no segment has, and that are not committed.
    pub fn events_without_segment(&self) -> usize {
        let batches = self.uncommitted().filter(|batch| batch.segment.is_none() && !batch.is_history);
        batches.map(|batch| batch.events as usize).sum()
    }

    /// Batches of history in memory that are not committed.
    pub fn waiting_history(&self) -> impl Iterator<Item = &HistoryBatch> {
        self.uncommitted().filter_map(|batch| match &batch.payload {
            Some(Payload::History(history)) => Some(history.as_ref()),
            _ => None,
        })
    }

    /// Rows of history that are not committed and not in memory.
    #[must_use]
    pub fn history_rows_in_journal_only(&self) -> u64 {
        self.uncommitted().filter(|batch| batch.payload.is_none()).map(|batch| batch.history_rows).sum()
    }

    /// Records that are not committed, newest first, and how many of those live in their segments alone.
    pub fn newest(&self) -> (impl Iterator<Item = &Record>, u64) {
        let in_memory = self.uncommitted().rev().filter_map(|batch| match &batch.payload {
            Some(Payload::Events(records)) => Some(records.iter().rev()),
            _ => None,
        });
        let elsewhere = self.uncommitted().filter(|batch| batch.payload.is_none()).map(|batch| batch.events).sum();
        (self.filling.iter().rev().chain(in_memory.flatten()), elsewhere)
    }

    /// Number of the last batch that was cut.
    #[must_use]
    pub fn last_no(&self) -> BatchNo {
        self.last_no
    }

    /// True if every batch up to `no` is committed.
    #[must_use]
    pub fn is_committed_until(&self, no: BatchNo) -> bool {
        self.waiting.iter().all(|batch| batch.committed || batch.no > no)
    }

    /// Records committed since the start.
    #[must_use]
    pub fn committed_events(&self) -> u64 {
        self.committed_events
    }

    /// Records accepted and not committed.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.filling.len() as u64 + self.uncommitted().map(|batch| batch.events).sum::<u64>()
    }

    /// Records in memory: of the batch that is being filled and of the batches that wait.
    #[must_use]
    pub fn memory_events(&self) -> u64 {
        (self.filling.len() + self.in_memory_events()) as u64
    }

    /// Records of batches in memory, without the one that is being filled.
    #[must_use]
    pub fn in_memory_events(&self) -> usize {
        self.waiting.iter().filter(|batch| batch.payload.is_some()).map(|batch| batch.events as usize).sum()
    }

    /// Journaled bytes of batches cut and not committed.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.uncommitted().map(|batch| batch.bytes).sum()
    }

    /// Batches cut and not committed.
    #[must_use]
    pub fn waiting_batches(&self) -> u64 {
        self.uncommitted().count() as u64
    }

    /// When the oldest record that is not committed was accepted.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.uncommitted().find(|batch| batch.events > 0).map(|batch| batch.since).or(self.filling_since)
    }

    /// When the first record of the batch that is being filled was accepted.
    #[must_use]
    pub fn filling_since(&self) -> Option<Instant> {
        self.filling_since
    }

    /// When the oldest batch that is not committed was cut.
    #[must_use]
    pub fn oldest_cut(&self) -> Option<Instant> {
        self.uncommitted().next().map(|batch| batch.cut)
    }

    fn uncommitted(&self) -> impl DoubleEndedIterator<Item = &Waiting> {
        self.waiting.iter().filter(|batch| !batch.committed)
    }
}

#[cfg(test)]
mod tests;
