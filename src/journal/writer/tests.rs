use super::*;
use crate::journal::memory_disk::{Call, Fault, MemoryDisk};
use crate::journal::{Content, Journal, samples};

/// A writer on an empty disk.
fn start() -> (MemoryDisk, Writer) {
    let disk = MemoryDisk::new();
    let writer = restart(&disk, 1);
    (disk, writer)
}

fn restart(disk: &MemoryDisk, run: u32) -> Writer {
    Journal::open(Arc::new(disk.clone())).unwrap().into_writer(Run(run)).unwrap().0
}

/// Frames of the reports `ids`.
fn frames(ids: impl IntoIterator<Item = i64>) -> Frames {
    let mut frames = Frames::new(SegmentKind::Events);
    for id in ids {
        frames.push(&samples::report(id)).unwrap();
    }
    frames
}

/// The records of a segment by their last three digits.
fn read(writer: &Writer, no: SegmentNo) -> Vec<i64> {
    match writer.read_back(no).unwrap().content {
        Content::Events(records) => records.iter().map(|record| record.id().0 - samples::id(0).0).collect(),
        Content::History(batches) => batches.iter().map(|batch| batch.id.0 - samples::id(0).0).collect(),
    }
}

fn phase(writer: &Writer, no: u64) -> Phase {
    writer.segment(SegmentNo(no)).unwrap().phase
}

const FIRST: SegmentNo = SegmentNo(1);

#[test]
fn records_are_read_back_from_an_open_and_from_a_sealed_segment_and_counted_in_bytes() {
    let (disk, mut writer) = start();
    assert_eq!(writer.next_no(), FIRST);
    writer.append(FIRST, &mut frames([1, 2])).unwrap();
    writer.append(FIRST, &mut frames([3])).unwrap();
    assert_eq!(read(&writer, FIRST), [1, 2, 3]);
    writer.seal(FIRST).unwrap();
    assert_eq!(read(&writer, FIRST), [1, 2, 3]);
    let status = writer.segment(FIRST).unwrap();
    assert_eq!((status.records, status.phase, status.durable), (3, Phase::Sealed, false));
    assert_eq!((writer.bytes(), status.bytes), (disk.used_bytes(), disk.used_bytes()));
}

#[test]
fn an_event_segment_is_filled_while_a_history_segment_is_written() {
    let (_, mut writer) = start();
    writer.append(FIRST, &mut frames([1])).unwrap();
    let history = writer.next_no();
    writer.append(history, &mut Frames::history(&samples::history(2)).unwrap()).unwrap();
    writer.seal(history).unwrap();
    writer.append(FIRST, &mut frames([3])).unwrap();
    assert_eq!((read(&writer, FIRST), read(&writer, history)), (vec![1, 3], vec![2]));
    assert!(matches!(
        writer.append(FIRST, &mut Frames::history(&samples::history(4)).unwrap()),
        Err(JournalError::NotOpen { .. })
    ));
}

#[test]
fn a_sealed_segment_and_an_unknown_one_take_no_records() {
    let (_, mut writer) = start();
    writer.append(FIRST, &mut frames([1])).unwrap();
    writer.seal(FIRST).unwrap();
    assert!(matches!(writer.append(FIRST, &mut frames([2])), Err(JournalError::NotOpen { no: FIRST })));
    assert!(matches!(writer.append(SegmentNo(7), &mut frames([2])), Err(JournalError::NotOpen { no: SegmentNo(7) })));
    assert!(matches!(writer.seal(FIRST), Err(JournalError::NotOpen { .. })));
    assert_eq!(read(&writer, FIRST), [1]);
}

/// A disk that is full in the middle of a write: nothing of the refused bunch may be read, then or after a restart.
#[test]
fn a_short_write_is_taken_back_and_the_segment_goes_on_when_there_is_room() {
    let (disk, mut writer) = start();
    writer.append(FIRST, &mut frames([1])).unwrap();
    for after_bytes in [0, 1, 50, frames([2]).bytes(), frames([2]).bytes() + 3] {
        disk.fail(Call::Append, Fault { after_bytes, ..Fault::FULL }, 1);
        let error = writer.append(FIRST, &mut frames([2, 3])).unwrap_err();
        assert!(error.is_disk_full(), "{error}");
        assert_eq!(disk.used_bytes(), writer.bytes(), "after {after_bytes} bytes");
    }
    writer.append(FIRST, &mut frames([4])).unwrap();
    assert_eq!(read(&writer, FIRST), [1, 4]);
    assert_eq!(read(&restart(&disk, 2), FIRST), [1, 4]);
}

#[test]
fn a_segment_that_cannot_be_cut_back_is_poisoned_and_the_next_one_goes_on() {
    let (disk, mut writer) = start();
    writer.append(FIRST, &mut frames([1])).unwrap();
    disk.fail(Call::Append, Fault { after_bytes: 30, ..Fault::BROKEN }, 1);
    disk.fail(Call::Truncate, Fault::BROKEN, 1);
    assert!(matches!(writer.append(FIRST, &mut frames([2])), Err(JournalError::Write { .. })));
    assert!(matches!(writer.append(FIRST, &mut frames([2])), Err(JournalError::Poisoned { no: FIRST })));
    assert!(matches!(writer.seal(FIRST), Err(JournalError::Poisoned { .. })));
    let next = writer.next_no();
    writer.append(next, &mut frames([2])).unwrap();
    writer.sync().unwrap();
    assert_eq!((read(&writer, FIRST), read(&writer, next)), (vec![1], vec![2]));
}

#[test]
fn a_failed_sync_poisons_its_segment_and_no_other() {
    let (disk, mut writer) = start();
    writer.append(FIRST, &mut frames([1])).unwrap();
    let second = writer.next_no();
    writer.append(second, &mut frames([2])).unwrap();
    disk.fail(Call::Sync, Fault::BROKEN, 1);
    match writer.sync() {
        Err(JournalError::SyncFailed { segments, .. }) => assert_eq!(segments, [FIRST]),
        other => panic!("{other:?}"),
    }
    assert_eq!((phase(&writer, 1), phase(&writer, 2)), (Phase::Poisoned, Phase::Open));
    assert!(matches!(writer.append(FIRST, &mut frames([3])), Err(JournalError::Poisoned { .. })));
    writer.append(second, &mut frames([3])).unwrap();
    writer.sync().unwrap();
    disk.crash(&mut fastrand::Rng::with_seed(0));
    assert_eq!(read(&restart(&disk, 2), second), [2, 3]);
}

#[test]
fn a_failed_directory_sync_poisons_the_segments_whose_entries_it_was_about() {
    let (disk, mut writer) = start();
    writer.append(FIRST, &mut frames([1])).unwrap();
    writer.sync().unwrap();
    let second = writer.next_no();
    writer.append(second, &mut frames([2])).unwrap();
    disk.fail(Call::SyncDirectory, Fault::BROKEN, 1);
    match writer.sync() {
        Err(JournalError::SyncFailed { segments, .. }) => assert_eq!(segments, [second]),
        other => panic!("{other:?}"),
    }
    assert_eq!((phase(&writer, 1), phase(&writer, 2)), (Phase::Open, Phase::Poisoned));
}

/// After a failed sync the next segment proves, before it takes a record, that the disk makes it durable.
#[test]
fn after_a_failed_sync_a_new_segment_must_be_durable_before_it_takes_records() {
    let (disk, mut writer) = start();
    writer.append(FIRST, &mut frames([1])).unwrap();
    disk.fail(Call::Sync, Fault::BROKEN, 2);
    writer.sync().unwrap_err();
    let second = writer.next_no();
    assert!(matches!(writer.append(second, &mut frames([2])), Err(JournalError::SyncFailed { .. })));
    assert_eq!(writer.next_no(), second, "the number is free again");
    disk.fail(Call::SyncDirectory, Fault::BROKEN, 1);
    assert!(matches!(writer.append(second, &mut frames([2])), Err(JournalError::SyncFailed { .. })));
    writer.append(second, &mut frames([2])).unwrap();
    assert!(disk.names().contains(&SegmentName { no: second, run: Run(1), kind: SegmentKind::Events }.to_string()));
}

#[test]
fn a_segment_begun_after_a_failed_sync_survives_every_crash() {
    for seed in 0..100 {
        let (disk, mut writer) = start();
        writer.append(FIRST, &mut frames([1])).unwrap();
        disk.fail(Call::Sync, Fault::BROKEN, 1);
        writer.sync().unwrap_err();
        let second = writer.next_no();
        writer.append(second, &mut frames([2])).unwrap();
        disk.crash(&mut fastrand::Rng::with_seed(seed));
        assert!(restart(&disk, 2).segment(second).is_some(), "seed {seed}");
    }
}

#[test]
fn a_segment_that_cannot_be_begun_leaves_no_file_and_its_number_free() {
    let (disk, mut writer) = start();
    disk.fail(Call::Create, Fault::FULL, 1);
    assert!(writer.append(FIRST, &mut frames([1])).unwrap_err().is_disk_full());
    disk.fail(Call::Append, Fault { after_bytes: 5, ..Fault::FULL }, 1);
    assert!(writer.append(FIRST, &mut frames([1])).unwrap_err().is_disk_full());
    assert_eq!((disk.names().len(), writer.next_no(), writer.bytes()), (0, FIRST, 0));
    writer.append(FIRST, &mut frames([1])).unwrap();
    assert_eq!(read(&writer, FIRST), [1]);
}

#[test]
fn a_begun_segment_that_cannot_be_taken_back_uses_up_its_number() {
    let (disk, mut writer) = start();
    disk.fail(Call::Append, Fault { after_bytes: 5, ..Fault::FULL }, 1);
    disk.fail(Call::Remove, Fault::BROKEN, 1);
    writer.append(FIRST, &mut frames([1])).unwrap_err();
    assert_eq!((writer.next_no(), phase(&writer, 1)), (SegmentNo(2), Phase::Poisoned));
    writer.append(SegmentNo(2), &mut frames([1])).unwrap();
    assert_eq!(read(&writer, SegmentNo(2)), [1]);
}

#[test]
fn segments_go_from_the_front_in_whatever_order_they_are_let_go() {
    let (disk, mut writer) = start();
    for nth in 1..=4 {
        writer.append(SegmentNo(nth), &mut frames([1])).unwrap();
        writer.seal(SegmentNo(nth)).unwrap();
    }
    writer.remove(SegmentNo(2)).unwrap();
    assert_eq!(disk.names().len(), 4, "the first is still needed");
    disk.fail(Call::Remove, Fault::BROKEN, 1);
    assert!(matches!(writer.remove(FIRST), Err(JournalError::Remove { .. })));
    assert_eq!(disk.names().len(), 4);
    writer.remove(FIRST).unwrap();
    writer.remove(FIRST).unwrap();
    assert_eq!(writer.segments().map(|segment| segment.no.0).collect::<Vec<_>>(), [3, 4]);
    assert_eq!((disk.names().len(), writer.bytes()), (2, disk.used_bytes()));
}

/// Else a segment would be left that its owner knows nothing of, and that holds up the removal of all after it.
#[test]
fn a_segment_whose_first_records_are_refused_is_not_begun() {
    let (disk, mut writer) = start();
    // The header is written, the records are not.
    disk.set_capacity(Some(50));
    assert!(writer.append(FIRST, &mut frames([1])).unwrap_err().is_disk_full());
    assert_eq!((disk.names().len(), writer.next_no(), writer.bytes(), writer.segments().count()), (0, FIRST, 0, 0));
    disk.fail(Call::Remove, Fault::BROKEN, 1);
    assert!(writer.append(FIRST, &mut frames([1])).is_err());
    assert_eq!((writer.next_no(), phase(&writer, 1)), (SegmentNo(2), Phase::Poisoned));
    disk.set_capacity(None);
    writer.append(SegmentNo(2), &mut frames([1])).unwrap();
    writer.remove(SegmentNo(2)).unwrap();
    assert_eq!(disk.names().len(), 0, "what could not be taken back goes when its turn comes");
}

/// Removals that a crash undoes in any combination would look like lost segments.
#[test]
fn a_removal_is_durable_before_the_next_one() {
    for seed in 0..200 {
        let (disk, mut writer) = start();
        for nth in 1..=4 {
            writer.append(SegmentNo(nth), &mut frames([i64::try_from(nth).unwrap()])).unwrap();
            writer.seal(SegmentNo(nth)).unwrap();
        }
        writer.sync().unwrap();
        for nth in 1..=3 {
            writer.remove(SegmentNo(nth)).unwrap();
        }
        disk.crash(&mut fastrand::Rng::with_seed(seed));
        let reading = Journal::open(Arc::new(disk.clone())).unwrap();
        assert_eq!(reading.damage(), [], "seed {seed}");
        assert!(reading.segments() <= 2, "seed {seed}");
    }
}

#[test]
fn a_sync_touches_only_what_was_written_since_the_last_one() {
    let (disk, mut writer) = start();
    writer.append(FIRST, &mut frames([1])).unwrap();
    writer.sync().unwrap();
    assert!(writer.is_synced());
    disk.fail(Call::Sync, Fault::BROKEN, 1);
    disk.fail(Call::SyncDirectory, Fault::BROKEN, 1);
    writer.sync().unwrap();
    disk.clear_faults();
    writer.append(FIRST, &mut frames([2])).unwrap();
    assert!(!writer.is_synced());
    disk.fail(Call::SyncDirectory, Fault::BROKEN, 1);
    writer.sync().unwrap();
}

/// With `journal.sync_interval = off` nobody syncs; the files that wait for it must not use up all handles.
#[test]
fn any_number_of_sealed_segments_may_wait_for_a_sync() {
    let (_, mut writer) = start();
    for nth in 1..=200 {
        writer.append(SegmentNo(nth), &mut frames([1])).unwrap();
        writer.seal(SegmentNo(nth)).unwrap();
    }
    assert_eq!(writer.segments.values().filter(|segment| segment.file.is_some()).count(), SEALED_OPEN_MAX);
    writer.sync().unwrap();
    assert!(writer.segments().all(|segment| segment.durable));
    assert!(writer.segments.values().all(|segment| segment.file.is_none()));
}

#[test]
fn headers_say_through_which_segment_all_is_sealed_and_durable() {
    let (disk, mut writer) = start();
    let settled = |writer: &Writer, no: u64| {
        let name = writer.segments[&SegmentNo(no)].name.to_string();
        Header::decode(&disk.read(&name).unwrap()).unwrap().settled_through.0
    };
    for nth in 1..=2 {
        writer.append(SegmentNo(nth), &mut frames([1])).unwrap();
        writer.seal(SegmentNo(nth)).unwrap();
    }
    writer.append(SegmentNo(3), &mut frames([1])).unwrap();
    assert_eq!(settled(&writer, 3), 0, "sealed and not synced");
    writer.sync().unwrap();
    writer.append(SegmentNo(4), &mut frames([1])).unwrap();
    assert_eq!(settled(&writer, 4), 2, "the third is open");
    writer.seal(SegmentNo(3)).unwrap();
    writer.seal(SegmentNo(4)).unwrap();
    writer.sync().unwrap();
    for nth in 1..=4 {
        writer.remove(SegmentNo(nth)).unwrap();
    }
    writer.append(SegmentNo(5), &mut frames([1])).unwrap();
    assert_eq!(settled(&writer, 5), 4);
}

#[test]
fn a_segment_that_was_removed_unsealed_is_not_settled_before_its_removal_is_durable() {
    let (disk, mut writer) = start();
    writer.append(FIRST, &mut frames([1])).unwrap();
    writer.sync().unwrap();
    writer.remove(FIRST).unwrap();
    writer.append(SegmentNo(2), &mut frames([2])).unwrap();
    let name = writer.segments[&SegmentNo(2)].name.to_string();
    assert_eq!(Header::decode(&disk.read(&name).unwrap()).unwrap().settled_through, SegmentNo(0));
}

#[test]
fn what_is_damaged_in_a_batch_that_is_read_back_is_kept_when_its_segment_goes() {
    let (disk, mut writer) = start();
    writer.append(FIRST, &mut frames([1, 2, 3])).unwrap();
    writer.seal(FIRST).unwrap();
    let file = disk.names().remove(0);
    disk.edit(&file, |bytes| bytes[150] ^= 1);
    let segment = writer.read_back(FIRST).unwrap();
    assert_eq!((segment.content.len(), segment.damage.len()), (2, 1));
    let damaged = disk.read(&file).unwrap();
    let (files, not_kept) = writer.set_aside(&segment).unwrap();
    let (offset, length) = (segment.damage[0].offset as usize, segment.damage[0].length as usize);
    assert_eq!((files.len(), not_kept), (1, 0));
    assert_eq!(disk.read(&files[0]).unwrap(), damaged[offset..offset + length]);
    assert_eq!(writer.set_aside(&segment).unwrap(), (Vec::new(), 0), "once is enough");
    writer.remove(FIRST).unwrap();
    disk.crash(&mut fastrand::Rng::with_seed(1));
    assert!(disk.names().contains(&files[0]), "the copy is durable");
}

#[test]
fn a_segment_that_the_disk_does_not_give_back_is_kept_whole() {
    let (disk, mut writer) = start();
    writer.append(FIRST, &mut frames([1])).unwrap();
    writer.seal(FIRST).unwrap();
    writer.append(SegmentNo(2), &mut frames([2])).unwrap();
    writer.sync().unwrap();
    disk.fail(Call::Read, Fault::BROKEN, 1);
    let segment = writer.read_back(FIRST).unwrap();
    let (files, _) = writer.set_aside(&segment).unwrap();
    assert_eq!((files.len(), writer.segment(FIRST)), (1, None));
    assert_eq!(writer.bytes(), writer.segment(SegmentNo(2)).unwrap().bytes);
    writer.remove(FIRST).unwrap();
    assert!(disk.names().contains(&files[0]));
    let (_, report) = Journal::open(Arc::new(disk.clone())).unwrap().into_writer(Run(2)).unwrap();
    assert_eq!(report.damage, [], "a file that was set aside is not a lost one");
}

#[test]
fn damage_that_cannot_be_kept_is_said_so() {
    let (disk, mut writer) = start();
    writer.append(FIRST, &mut frames([1, 2, 3])).unwrap();
    let file = disk.names().remove(0);
    disk.edit(&file, |bytes| bytes[150] ^= 1);
    let segment = writer.read_back(FIRST).unwrap();
    disk.fail(Call::Create, Fault::FULL, 1);
    assert!(matches!(writer.set_aside(&segment), Err(JournalError::SetAside { .. })));
}
