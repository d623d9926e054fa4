//! Each kind of damage to a journal: what survives is counted, ten more records are appended, and all is read back.

use std::ops::Range;
use std::sync::Arc;

use tidegate::clock::Timestamp;
use tidegate::event::{EndpointId, Gap, InstanceId, Record};
use tidegate::id::EventId;
use tidegate::journal::{
    Content, DamageKind, Disk, Frames, HEADER_BYTES, Journal, MemoryDisk, Recorder, RepairReport, Run, SegmentKind, SegmentName,
    SegmentNo, Writer, verify,
};

const END_MARK_BYTES: usize = 14;
const RECORDS: usize = 5;
/// The first segment is sealed, synced, and two segments older than the last: a crash has no part in its damage.
const SETTLED: u64 = 1;
/// The last segment was being written when the recorder was killed.
const OPEN: u64 = 3;

fn record(id: i64) -> Record {
    Record::Gap(Gap {
        id: EventId(id),
        endpoint: EndpointId(1),
        instance: InstanceId::default(),
        from: Timestamp(id * 7),
        to: Timestamp(id * 7 + 1),
        reason: "x".repeat(usize::try_from(id % 5).unwrap()).into(),
    })
}

fn frames(ids: Range<i64>) -> Frames {
    let mut frames = Frames::new(SegmentKind::Events);
    ids.for_each(|id| frames.push(&record(id)).unwrap());
    frames
}

fn file(no: u64) -> String {
    SegmentName { no: SegmentNo(no), run: Run(1), kind: SegmentKind::Events }.to_string()
}

fn open(disk: &MemoryDisk, run: u32) -> (Vec<i64>, Writer, RepairReport) {
    let mut reading = Journal::open(Arc::new(disk.clone())).unwrap();
    let mut ids = Vec::new();
    while let Some(segment) = reading.next_segment().unwrap() {
        let Content::Events(records) = segment.content else { panic!("{}: not events", segment.file) };
        for read in records {
            assert_eq!(read, record(read.id().0), "what is read is what was written");
            ids.push(read.id().0);
        }
    }
    let (writer, report) = reading.into_writer(Run(run)).unwrap();
    (ids, writer, report)
}

/// Three segments: ids 1 to 5, 6 to 10, and 11 to 15, of which the last is open.
fn journal() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (_, mut writer, _) = open(&disk, 1);
    for no in 1..=3_i64 {
        let segment = writer.next_no();
        writer.append(segment, &mut frames((no - 1) * 5 + 1..no * 5 + 1)).unwrap();
        if no < 3 {
            writer.seal(segment).unwrap();
        }
        writer.sync().unwrap();
    }
    disk.kill();
    disk
}

/// Where the frames of a segment stand.
fn frame_ranges(no: u64) -> Vec<Range<usize>> {
    let first = i64::try_from(no - 1).unwrap() * 5 + 1;
    let mut start = HEADER_BYTES;
    (first..first + 5)
        .map(|id| {
            let range = start..start + frames(id..id + 1).bytes();
            start = range.end;
            range
        })
        .collect()
}

/// Ids 1 to 15 without those at these places of the segment.
fn all_but(no: u64, lost: &[usize]) -> Vec<i64> {
    let first = i64::try_from(no - 1).unwrap() * 5 + 1;
    (1..=15).filter(|id| !lost.iter().any(|&nth| first + i64::try_from(nth).unwrap() == *id)).collect()
}

/// Damages one segment, and checks that it is noticed, that the `expected` records are read, and that the journal
/// then goes on as if nothing had been: ten more records, a crash, all there; another start, the same.
fn check(no: u64, damage: impl FnOnce(&mut Vec<u8>), expected: &[i64], kinds: &[DamageKind], context: &str) {
    let disk = journal();
    disk.edit(&file(no), damage);
    check_disk(&disk, expected, kinds, context);
}

fn check_disk(disk: &MemoryDisk, expected: &[i64], kinds: &[DamageKind], context: &str) {
    let report = verify(disk, Recorder::Stopped).unwrap();
    let found: Vec<_> = report.damage.iter().map(|damage| damage.kind).collect();
    // A kill leaves an open segment empty too, and no start has been there yet: nothing in it is damaged.
    let is_empty = disk.read(&file(OPEN)).is_ok_and(|bytes| bytes.is_empty());
    assert_eq!(found, if is_empty { &[] } else { kinds }, "{context}: {:?}", report.damage);
    assert_eq!(report.records(), expected.len(), "{context}");
    let (survivors, mut writer, repair) = open(disk, 2);
    assert_eq!(survivors, expected, "{context}");
    assert_eq!(repair.failed, Vec::<String>::new(), "{context}");
    let repaired: Vec<_> = repair.damage.iter().map(|damage| damage.kind).collect();
    assert_eq!(repaired, kinds, "{context}");

    let no = writer.next_no();
    writer.append(no, &mut frames(101..111)).unwrap();
    writer.sync().unwrap();
    drop(writer);
    let all: Vec<_> = expected.iter().copied().chain(101..111).collect();
    for run in 3..5 {
        disk.crash(&mut fastrand::Rng::with_seed(u64::from(run)));
        let (ids, _, repair) = open(disk, run);
        assert_eq!(ids, all, "{context}, run {run}");
        assert!(repair.damage.iter().all(|damage| !damage.kind.is_trace_of_a_crash()), "{context}: torn tails are repaired once");
        assert!(repair.set_aside.is_empty(), "{context}: damage is set aside once");
    }
}

#[test]
fn an_undamaged_journal_is_sound() {
    check(OPEN, |_| {}, &all_but(OPEN, &[]), &[], "no damage");
}

/// The usual trace of a crash: each length at which the last segment can end.
#[test]
fn an_open_segment_truncated_at_any_byte_keeps_the_records_before_it() {
    let ranges = frame_ranges(OPEN);
    for length in 0..=ranges[RECORDS - 1].end {
        let kept = ranges.iter().filter(|range| range.end <= length).count();
        let lost: Vec<_> = (kept..RECORDS).collect();
        let clean = length == HEADER_BYTES || ranges.iter().any(|range| range.end == length);
        let kinds: &[_] = if clean { &[] } else { &[DamageKind::TornTail] };
        check(OPEN, |bytes| bytes.truncate(length), &all_but(OPEN, &lost), kinds, &format!("{length} bytes left"));
    }
}

/// No crash does this: the loss is reported even where the segment ends between two records.
#[test]
fn a_settled_segment_truncated_at_any_byte_is_reported_as_cut_off() {
    let ranges = frame_ranges(SETTLED);
    for length in 0..ranges[RECORDS - 1].end + END_MARK_BYTES {
        let kept = ranges.iter().filter(|range| range.end <= length).count();
        let lost: Vec<_> = (kept..RECORDS).collect();
        let context = format!("{length} bytes left");
        check(SETTLED, |bytes| bytes.truncate(length), &all_but(SETTLED, &lost), &[DamageKind::CutOff], &context);
    }
}

#[test]
fn a_flipped_bit_in_a_settled_segment_costs_the_record_it_hits_and_no_other() {
    let ranges = frame_ranges(SETTLED);
    let end = ranges[RECORDS - 1].end;
    for bit in 0..(end + END_MARK_BYTES) * 8 {
        let byte = bit / 8;
        let lost: Vec<_> = ranges.iter().position(|range| range.contains(&byte)).into_iter().collect();
        let kind = if byte < end { DamageKind::Corrupt } else { DamageKind::CutOff };
        let context = format!("bit {bit} (byte {byte})");
        check(SETTLED, |bytes| bytes[byte] ^= 1 << (bit % 8), &all_but(SETTLED, &lost), &[kind], &context);
    }
}

#[test]
fn a_flipped_bit_in_an_open_segment_costs_the_record_it_hits_and_no_other() {
    let ranges = frame_ranges(OPEN);
    for byte in 0..ranges[RECORDS - 1].end {
        let lost: Vec<_> = ranges.iter().position(|range| range.contains(&byte)).into_iter().collect();
        let kind = if lost == [RECORDS - 1] { DamageKind::TornTail } else { DamageKind::Corrupt };
        check(OPEN, |bytes| bytes[byte] ^= 0x40, &all_but(OPEN, &lost), &[kind], &format!("byte {byte}"));
    }
}

#[test]
fn a_zeroed_stretch_costs_at_most_the_records_it_touches_and_is_reported_if_it_costs_one() {
    let ranges = frame_ranges(SETTLED);
    let end = ranges[RECORDS - 1].end;
    for start in HEADER_BYTES..end {
        for length in [1, 5, 20, 60] {
            let stretch = start..(start + length).min(end);
            let touched: Vec<_> =
                (0..RECORDS).filter(|&nth| ranges[nth].start < stretch.end && stretch.start < ranges[nth].end).collect();
            let disk = journal();
            disk.edit(&file(SETTLED), |bytes| bytes[stretch.clone()].fill(0));
            // Zeros over zeros are no damage, so a record that is touched may be whole.
            let (survivors, _, repair) = open(&disk, 2);
            assert!(all_but(SETTLED, &touched).iter().all(|id| survivors.contains(id)), "{stretch:?}");
            assert_eq!(survivors.len() < 15, !repair.damage.is_empty(), "{stretch:?}");
        }
    }
}

#[test]
fn a_zeroed_tail_and_zeros_after_the_last_record_are_torn_tails() {
    let tail = frame_ranges(OPEN)[3].start + 5;
    check(OPEN, |bytes| bytes[tail..].fill(0), &all_but(OPEN, &[3, 4]), &[DamageKind::TornTail], "a zeroed tail");
    check(OPEN, |bytes| bytes.extend([0; 5_000]), &all_but(OPEN, &[]), &[DamageKind::TornTail], "zeros behind");
}

#[test]
fn garbage_appended_to_an_open_segment_is_a_torn_tail_and_to_a_sealed_one_is_reported() {
    let garbage: Vec<u8> = (0..4_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    check(OPEN, |bytes| bytes.extend(&garbage), &all_but(OPEN, &[]), &[DamageKind::TornTail], "open");
    check(SETTLED, |bytes| bytes.extend(&garbage), &all_but(SETTLED, &[]), &[DamageKind::AfterEnd], "sealed");
}

#[test]
fn duplicated_records_are_read_once() {
    for no in [SETTLED, OPEN] {
        let ranges = frame_ranges(no);
        for (nth, range) in ranges.iter().enumerate() {
            let copy = |bytes: &mut Vec<u8>| {
                let frame = bytes[range.clone()].to_vec();
                bytes.splice(range.end..range.end, frame);
            };
            check(no, copy, &all_but(no, &[]), &[DamageKind::Duplicate], &format!("segment {no}, record {nth}"));
        }
    }
}

#[test]
fn a_few_duplicated_bytes_cost_at_most_the_record_they_stand_in() {
    let ranges = frame_ranges(SETTLED);
    for at in ranges[1].start + 1..ranges[1].end {
        let disk = journal();
        disk.edit(&file(SETTLED), |bytes| {
            let part = bytes[at - 1..at + 3].to_vec();
            bytes.splice(at..at, part);
        });
        let (survivors, _, repair) = open(&disk, 2);
        assert!(all_but(SETTLED, &[1]).iter().all(|id| survivors.contains(id)), "byte {at}: {survivors:?}");
        assert!(!repair.damage.is_empty(), "byte {at}");
    }
}

#[test]
fn bytes_deleted_from_the_middle_cost_the_records_they_were_of() {
    let ranges = frame_ranges(SETTLED);
    for start in ranges[1].start..ranges[2].end - 1 {
        let lost: Vec<_> = (0..RECORDS).filter(|&nth| ranges[nth].start < start + 2 && start < ranges[nth].end).collect();
        let delete = |bytes: &mut Vec<u8>| drop(bytes.drain(start..start + 2));
        check(SETTLED, delete, &all_but(SETTLED, &lost), &[DamageKind::Corrupt], &format!("from byte {start}"));
    }
}

#[test]
fn records_deleted_whole_from_the_middle_are_missed() {
    for no in [SETTLED, OPEN] {
        let ranges = frame_ranges(no);
        let delete = |bytes: &mut Vec<u8>| drop(bytes.drain(ranges[1].start..ranges[2].end));
        check(no, delete, &all_but(no, &[1, 2]), &[DamageKind::Corrupt], &format!("segment {no}"));
    }
}

#[test]
fn a_broken_header_costs_no_record() {
    for no in [SETTLED, OPEN] {
        let zero = |bytes: &mut Vec<u8>| bytes[..HEADER_BYTES].fill(0);
        check(no, zero, &all_but(no, &[]), &[DamageKind::Corrupt], &format!("segment {no}"));
    }
}

#[test]
fn a_file_of_nothing_but_its_header_is_an_empty_segment_if_it_was_being_written_and_a_loss_if_it_was_settled() {
    let lost = [0, 1, 2, 3, 4];
    check(OPEN, |bytes| bytes.truncate(HEADER_BYTES), &all_but(OPEN, &lost), &[], "open");
    check(SETTLED, |bytes| bytes.truncate(HEADER_BYTES), &all_but(SETTLED, &lost), &[DamageKind::CutOff], "settled");
    check(OPEN, Vec::clear, &all_but(OPEN, &lost), &[DamageKind::TornTail], "open and empty");
}

#[test]
fn a_deleted_segment_is_missed() {
    let disk = journal();
    disk.remove(&file(2)).unwrap();
    disk.sync_directory().unwrap();
    // The third segment was begun when the second was sealed and synced, and says so.
    check_disk(&disk, &all_but(2, &[0, 1, 2, 3, 4]), &[DamageKind::MissingSegment], "second segment");
}

/// The second segment is cut and the third begun before the next sync, as a recorder does it: the second is not settled then, and
/// its entry is durable all the same.
#[test]
fn a_deleted_segment_that_was_not_settled_is_missed_too() {
    for second_synced in [true, false] {
        let disk = MemoryDisk::new();
        let (_, mut writer, _) = open(&disk, 1);
        for no in 1..=3_i64 {
            let segment = writer.next_no();
            writer.append(segment, &mut frames((no - 1) * 5 + 1..no * 5 + 1)).unwrap();
            if no == 1 || no == 2 && second_synced {
                writer.sync().unwrap();
            }
            if no < 3 {
                writer.seal(segment).unwrap();
            }
        }
        writer.sync().unwrap();
        disk.kill();
        disk.remove(&file(2)).unwrap();
        disk.sync_directory().unwrap();
        let kind = if second_synced { DamageKind::MissingSegment } else { DamageKind::NeverSynced };
        let found = verify(&disk, Recorder::Stopped).unwrap();
        assert_eq!(found.damage.iter().map(|damage| damage.kind).collect::<Vec<_>>(), [kind]);
        assert_eq!(found.is_damaged(), second_synced);
    }
}

#[test]
fn the_set_aside_bytes_are_those_that_were_damaged() {
    let disk = journal();
    let range = frame_ranges(SETTLED)[2].clone();
    disk.edit(&file(SETTLED), |bytes| bytes[range.start + 3] ^= 1);
    let before = disk.read(&file(SETTLED)).unwrap();
    let (.., report) = open(&disk, 2);
    assert_eq!(report.damage[0].file, file(SETTLED));
    assert_eq!((report.damage[0].offset, report.damage[0].length), (range.start as u64, range.len() as u64));
    assert_eq!(disk.read(&report.set_aside[0]).unwrap(), before[range]);
}
