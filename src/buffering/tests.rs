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
    buffer.push_history(Some(SegmentNo(2)), history, start());
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
    buffer.spill(|_| true);
    assert_eq!(buffer.in_memory_events(), 20);
    assert_eq!(buffer.events(), 40);
    buffer.committed(BatchNo(1));
    buffer.committed(BatchNo(2));
    let Some(Next::ReadBack(SegmentNo(3))) = buffer.next() else { panic!("{:?}", buffer.next()) };
    buffer.read_back(SegmentNo(3), Some(Payload::Events(Arc::new(records(21, 10)))));
    assert!(matches!(buffer.next(), Some(Next::Commit { no: BatchNo(3), .. })));
}

/// The system may forget at any moment what a failed sync was to write.
#[test]
fn a_batch_whose_segment_is_not_durable_stays_in_memory_whatever_the_bound_says() {
    let mut buffer = filled(10, 4);
    buffer.spill(|segment| segment == SegmentNo(2));
    assert_eq!((buffer.in_memory_events(), buffer.newest().1), (30, 10));
    buffer.spill(|segment| segment != SegmentNo(3));
    assert_eq!((buffer.in_memory_events(), buffer.newest().1), (20, 20));
    buffer.committed(BatchNo(1));
    buffer.committed(BatchNo(2));
    assert!(matches!(buffer.next(), Some(Next::Commit { no: BatchNo(3), .. })));
}

#[test]
fn a_batch_of_which_the_journal_lacks_a_record_stays_in_memory() {
    let mut buffer = filled(10, 1);
    buffer.fill(records(11, 10), start());
    buffer.cut(Some(SegmentNo(2)), 1000, info(None), true, start());
    buffer.spill(|_| true);
    assert_eq!(buffer.in_memory_events(), 20);
}

/// A batch of history that a recorder before left in segment 1, and one of ten records behind it.
fn recovered_history(history_rows: u64) -> Buffer {
    let of = |segment, is_history, events, history_rows| RecoveredBatch {
        segment: SegmentNo(segment),
        info: info(None),
        is_history,
        events,
        history_rows,
        last: EventId(10),
        bytes: 1000,
        empty: false,
    };
    Buffer::new(100, [of(1, true, 0, history_rows), of(2, false, 10, 0)], start())
}

#[test]
fn history_that_its_segment_does_not_give_back_is_counted_and_holds_up_nothing() {
    for rows in [0, 7] {
        let mut buffer = recovered_history(rows);
        assert!(matches!(buffer.next(), Some(Next::ReadBack(SegmentNo(1)))));
        let missing = buffer.read_back(SegmentNo(1), None);
        assert_eq!(missing, Missing { events: 0, history_rows: rows, history_batch: true });
        assert_eq!((buffer.waiting_batches(), buffer.history_rows_in_journal_only()), (1, 0));
        assert!(matches!(buffer.next(), Some(Next::ReadBack(SegmentNo(2)))));
    }
}

#[test]
fn records_that_their_segment_does_not_give_back_are_counted_and_the_batch_is_kept_for_its_flush() {
    let mut buffer = recovered_history(1);
    buffer.read_back(SegmentNo(1), None);
    assert_eq!(buffer.read_back(SegmentNo(2), None).events, 10);
    let Some(Next::Commit { payload: Payload::Events(records), .. }) = buffer.next() else { panic!("no batch") };
    assert!(records.is_empty());
    assert_eq!(buffer.events(), 0);
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
    buffer.spill(|_| true);
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
        is_history: false,
        events: 10,
        history_rows: 0,
        last: EventId(10),
        bytes: 1000,
        empty: false,
    };
    let mut buffer = Buffer::new(100, [recovered], start());
    assert!(matches!(buffer.next(), Some(Next::ReadBack(SegmentNo(7)))));
    buffer.read_back(SegmentNo(7), Some(Payload::Events(Arc::new(records(1, 10)))));
    assert!(matches!(buffer.next(), Some(Next::Commit { maybe_stored: true, .. })));
}
