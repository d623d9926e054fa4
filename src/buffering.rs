//! What the buffer holds: the batch that is being filled, the batches that wait, and when each may be let go.
//!
//! A batch is cut once, committed once and let go once, in this order. Between cut and commit its payload is in memory or,
//! beyond the memory bound, in its journal segment only. Between commit and letting go only the segment is left: live
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

#[derive(Debug)]
struct Waiting {
    no: BatchNo,
    /// `None` for a boundary with nothing to write, and for history that the journal refused.
    segment: Option<SegmentNo>,
    /// `None` while it lives in its segment only, and after the commit.
    payload: Option<Payload>,
    info: FlushInfo,
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
            info,
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
            let RecoveredBatch { segment, info, events, history_rows, last, bytes, empty } = batch;
            let waiting =
                Waiting { events, history_rows, bytes, last, maybe_stored: true, committed: empty, ..Waiting::new(info, now) };
            buffer.push(Waiting { segment: Some(segment), ..waiting });
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
    /// With `keep` its records stay in memory whatever the bound says, since the segment may not have them all.
    pub fn cut(&mut self, segment: Option<SegmentNo>, bytes: u64, info: FlushInfo, keep: bool, now: Instant) {
        let since = self.filling_since.take().unwrap_or(now);
        let records = std::mem::take(&mut self.filling);
        if records.is_empty() && info.boundary.is_none() {
            return;
        }
        let last = records.last().map_or(EventId::ZERO, Record::id);
        let events = records.len() as u64;
        let in_memory = self.in_memory_events() + records.len();
        let payload = (keep
            || in_memory <= self.memory_events_max
            || segment.is_none()
            || self.waiting.iter().all(|batch| batch.committed))
        .then(|| Payload::Events(Arc::new(records)));
        self.push(Waiting { segment, payload, events, bytes, last, since, ..Waiting::new(info, now) });
    }

    /// Adds a segment that holds nothing, to be let go in its turn.
    pub fn push_orphan(&mut self, segment: SegmentNo, info: FlushInfo, now: Instant) {
        self.push(Waiting { segment: Some(segment), committed: true, ..Waiting::new(info, now) });
    }

    /// Adds a batch of history. `segment` is `None` if the journal refused it.
    pub fn push_history(&mut self, segment: Option<SegmentNo>, batch: Box<HistoryBatch>, now: Instant) {
        let (info, last) = (batch.info, batch.through);
        let history_rows = batch.rows.len() as u64;
        let in_memory: usize = self.waiting_history().map(|batch| batch.rows.len()).sum();
        let fits = in_memory + batch.rows.len() <= HISTORY_ROWS_IN_MEMORY_MAX;
        let payload = (segment.is_none() || fits).then(|| Payload::History(Arc::new(*batch)));
        self.push(Waiting { segment, payload, history_rows, last, ..Waiting::new(info, now) });
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

    /// Gives a batch its content back. Returns how many of its records are missing.
    pub fn read_back(&mut self, segment: SegmentNo, payload: Payload) -> u64 {
        let batch = self.waiting.iter_mut().find(|batch| batch.segment == Some(segment) && !batch.committed);
        let Some(batch) = batch else { return 0 };
        let there = if let Payload::Events(records) = &payload { records.len() as u64 } else { batch.events };
        let missing = batch.events.saturating_sub(there);
        batch.events = there;
        batch.payload = Some(payload);
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
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::event::{EndpointId, Gap, InstanceId};
    use crate::store::FlushCause;

    fn info(boundary: Option<Timestamp>) -> FlushInfo {
        FlushInfo { cause: FlushCause::Threshold, boundary, skipped_boundaries: 0, cut_at: Timestamp(0) }
    }

    fn records(from: i64, count: i64) -> Vec<Record> {
        let gap = |id| {
            Record::Gap(Gap {
                id: EventId(id),
                endpoint: EndpointId(1),
                instance: InstanceId::default(),
                from: Timestamp(0),
                to: Timestamp(0),
                reason: "test".into(),
            })
        };
        (from..from + count).map(gap).collect()
    }

    fn start() -> Instant {
        crate::clock::Clock::monotonic(&crate::clock::SystemClock)
    }

    /// A buffer with `batches` batches of ten records in segments 1, 2, ...
    fn filled(memory_events_max: usize, batches: i64) -> Buffer {
        let mut buffer = Buffer::new(memory_events_max, [], start());
        for batch in 0..batches {
            buffer.fill(records(1 + batch * 10, 10), start());
            buffer.cut(Some(SegmentNo(batch as u64 + 1)), 1000, info(None), false, start());
        }
        buffer
    }

    #[test]
    fn nothing_is_let_go_before_its_commit_and_before_live_state_and_history_are_durable() {
        let mut buffer = filled(100, 2);
        assert!(buffer.let_go(EventId(99), EventId(99), None).is_empty());
        buffer.committed(BatchNo(1));
        assert!(buffer.let_go(EventId(9), EventId(99), None).is_empty());
        assert!(buffer.let_go(EventId(99), EventId(9), None).is_empty());
        assert_eq!(buffer.let_go(EventId(10), EventId(10), None), [SegmentNo(1)]);
    }

    #[test]
    fn batches_are_let_go_from_the_front_only() {
        let mut buffer = filled(100, 2);
        buffer.committed(BatchNo(2));
        assert!(buffer.let_go(EventId(99), EventId(99), None).is_empty());
        buffer.committed(BatchNo(1));
        assert_eq!(buffer.let_go(EventId(99), EventId(99), None), [SegmentNo(1), SegmentNo(2)]);
    }

    #[test]
    fn history_that_got_its_segment_while_an_older_one_was_being_filled_goes_after_it() {
        let mut buffer = Buffer::new(100, [], start());
        let history = HistoryBatch {
            id: EventId(5),
            info: info(None),
            through: EventId(4),
            rows: Vec::new(),
            counter_events: Vec::new(),
            states: Vec::new(),
            accounts: Vec::new(),
        };
        buffer.push_history(Some(SegmentNo(2)), Box::new(history), start());
        buffer.committed(BatchNo(1));
        assert!(buffer.let_go(EventId(99), EventId(99), Some(SegmentNo(1))).is_empty());
        buffer.fill(records(1, 10), start());
        buffer.cut(Some(SegmentNo(1)), 1000, info(None), false, start());
        buffer.committed(BatchNo(2));
        assert_eq!(buffer.let_go(EventId(99), EventId(99), Some(SegmentNo(3))), [SegmentNo(1), SegmentNo(2)]);
    }

    #[test]
    fn beyond_the_memory_bound_a_batch_lives_in_its_segment_and_is_read_back_in_its_turn() {
        let mut buffer = filled(25, 4);
        assert_eq!(buffer.in_memory_events(), 20);
        assert_eq!(buffer.events(), 40);
        buffer.committed(BatchNo(1));
        buffer.committed(BatchNo(2));
        let Some(Next::ReadBack(SegmentNo(3))) = buffer.next() else { panic!("{:?}", buffer.next()) };
        buffer.read_back(SegmentNo(3), Payload::Events(Arc::new(records(21, 10))));
        assert!(matches!(buffer.next(), Some(Next::Commit { no: BatchNo(3), .. })));
    }

    #[test]
    fn an_empty_cut_makes_a_batch_only_for_a_boundary() {
        let mut buffer = Buffer::new(100, [], start());
        buffer.cut(None, 0, info(None), false, start());
        assert_eq!(buffer.waiting_batches(), 0);
        buffer.cut(None, 0, info(Some(Timestamp(3_600_000_000))), false, start());
        assert_eq!(buffer.waiting_batches(), 1);
        buffer.committed(BatchNo(1));
        assert!(buffer.let_go(EventId::ZERO, EventId::ZERO, None).is_empty());
        assert_eq!(buffer.waiting_batches(), 0);
    }

    #[test]
    fn what_is_not_committed_is_counted_and_what_is_committed_is_not() {
        let mut buffer = filled(100, 3);
        buffer.fill(records(31, 4), start());
        assert_eq!((buffer.events(), buffer.waiting_batches(), buffer.waiting_bytes()), (34, 3, 3000));
        buffer.committed(BatchNo(1));
        assert_eq!((buffer.events(), buffer.committed_events()), (24, 10));
        assert_eq!((buffer.pinned_bytes(EventId(9)), buffer.pinned_bytes(EventId(10))), (1000, 0));
        assert!(buffer.is_committed_until(BatchNo(1)) && !buffer.is_committed_until(BatchNo(2)));
    }

    #[test]
    fn what_is_not_committed_is_read_newest_first_and_what_is_in_the_journal_alone_is_counted() {
        let mut buffer = Buffer::new(5, [], start());
        for (segment, first) in [(1, 1), (2, 11), (3, 21)] {
            buffer.fill(records(first, 10), start());
            buffer.cut(Some(SegmentNo(segment)), 100, info(None), false, start());
        }
        buffer.fill(records(31, 2), start());
        let ids = |buffer: &Buffer| {
            let (newest, elsewhere) = buffer.newest();
            (newest.map(|record| record.id().0).collect::<Vec<_>>(), elsewhere)
        };
        // The first batch is always in memory, for it is committed next; the others are beyond the bound.
        let expected: Vec<i64> = [32, 31].into_iter().chain((1..=10).rev()).collect();
        assert_eq!(ids(&buffer), (expected, 20));
        buffer.committed(BatchNo(1));
        assert_eq!(ids(&buffer), (vec![32, 31], 20));
    }

    #[test]
    fn a_batch_from_the_journal_of_a_recorder_before_may_be_stored_already() {
        let recovered = RecoveredBatch {
            segment: SegmentNo(7),
            info: info(None),
            events: 10,
            history_rows: 0,
            last: EventId(10),
            bytes: 1000,
            empty: false,
        };
        let mut buffer = Buffer::new(100, [recovered], start());
        assert!(matches!(buffer.next(), Some(Next::ReadBack(SegmentNo(7)))));
        buffer.read_back(SegmentNo(7), Payload::Events(Arc::new(records(1, 10))));
        assert!(matches!(buffer.next(), Some(Next::Commit { maybe_stored: true, .. })));
    }
}
