//! Looks through a journal without changing it: what `tidegate check` prints of it.

use serde::Serialize;

use crate::id::EventId;
use crate::journal::JournalError;
use crate::journal::disk::Disk;
use crate::journal::reader::{self, Content, Damage, DamageKind};
use crate::journal::recovery::Inventory;
use crate::journal::segment::{SegmentKind, SegmentNo};

/// Whether a recorder writes the journal while it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorder {
    /// It may: segments can come and go, and the last record of one may be half there.
    Running,
    /// It does not.
    Stopped,
}

/// A segment, looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentReport {
    /// Number.
    pub no: SegmentNo,
    /// Kind.
    pub kind: SegmentKind,
    /// File.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Sound records.
    pub records: usize,
    /// Records that are known to be missing.
    pub records_missing: u32,
    /// Lowest id of a record; `None` without records.
    pub first_id: Option<EventId>,
    /// Highest id.
    pub last_id: Option<EventId>,
    /// Records whose id is not above the one before, in this segment or in an older one of its kind.
    pub out_of_order: usize,
    /// It has its end mark.
    pub sealed: bool,
}

/// A journal, looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// All that is wrong.
    pub damage: Vec<Damage>,
    /// Files that hold what was set aside at earlier starts.
    pub set_aside: Vec<String>,
}

impl CheckReport {
    /// Something is there that should not be. Torn tails count: they are harmless once a recorder has started on them.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damage.iter().any(|damage| damage.kind != DamageKind::NeverSynced) || self.out_of_order() > 0
    }

    /// Records out of order in all segments.
    #[must_use]
    pub fn out_of_order(&self) -> usize {
        self.segments.iter().map(|segment| segment.out_of_order).sum()
    }

    /// Records in all segments.
    #[must_use]
    pub fn records(&self) -> usize {
        self.segments.iter().map(|segment| segment.records).sum()
    }
}

/// Reads every segment, one at a time.
///
/// # Errors
/// [`JournalError::Read`] where access is missing, [`JournalError::NewerFormat`].
pub fn verify(disk: &dyn Disk, recorder: Recorder) -> Result<CheckReport, JournalError> {
    let found = Inventory::of(disk)?;
    let settled_through = found.settled_through(disk)?;
    let mut report = CheckReport {
        damage: found.damage(disk, settled_through),
        set_aside: found.aside.iter().map(|(file, ..)| file.clone()).collect(),
        ..CheckReport::default()
    };
    let (mut last_event, mut last_history) = (EventId::ZERO, EventId::ZERO);
    for name in &found.segments {
        let segment = match reader::read(disk, name, name.no <= settled_through) {
            Ok(examined) => examined.segment,
            // Its batch was committed between listing and reading.
            Err(JournalError::Read { source, .. })
                if recorder == Recorder::Running && source.kind() == std::io::ErrorKind::NotFound =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        let (ids, last): (Vec<_>, _) = match &segment.content {
            Content::Events(records) => (records.iter().map(crate::event::Record::id).collect(), &mut last_event),
            Content::History(batches) => (batches.iter().map(|batch| batch.id).collect(), &mut last_history),
        };
        let mut out_of_order = 0;
        for &id in &ids {
            out_of_order += usize::from(id <= *last);
            *last = id.max(*last);
        }
        let being_written = |damage: &Damage| recorder == Recorder::Running && damage.kind == DamageKind::TornTail;
        // A recorder that is killed as it begins a segment leaves an empty file: nothing was in it that could be damaged.
        let never_begun = |damage: &Damage| segment.bytes == 0 && damage.kind == DamageKind::TornTail;
        report.damage.extend(segment.damage.into_iter().filter(|damage| !being_written(damage) && !never_begun(damage)));
        report.segments.push(SegmentReport {
            no: segment.no,
            kind: segment.content.kind(),
            file: segment.file,
            bytes: segment.bytes,
            records: ids.len(),
            records_missing: segment.records_missing,
            first_id: ids.iter().min().copied(),
            last_id: ids.iter().max().copied(),
            out_of_order,
            sealed: segment.sealed,
        });
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::journal::memory_disk::{Call, MemoryDisk};
    use crate::journal::{Frames, Journal, Run, samples};

    /// A segment per list of ids; the last one is open.
    fn journal(segments: &[&[i64]]) -> MemoryDisk {
        let disk = MemoryDisk::new();
        let mut writer = Journal::open(Arc::new(disk.clone())).unwrap().into_writer(Run(1)).unwrap().0;
        for (nth, ids) in segments.iter().enumerate() {
            let mut frames = Frames::new(SegmentKind::Events);
            ids.iter().for_each(|id| frames.push(&samples::report(*id)).unwrap());
            let no = writer.next_no();
            writer.append(no, &mut frames).unwrap();
            if nth + 1 < segments.len() {
                writer.seal(no).unwrap();
            }
            writer.sync().unwrap();
        }
        disk
    }

    #[test]
    fn a_sound_journal_is_listed_with_its_id_ranges() {
        let report = verify(&journal(&[&[1, 2, 3], &[4, 5]]), Recorder::Stopped).unwrap();
        assert!(!report.is_damaged());
        let segments: Vec<_> = report.segments.iter().map(|one| (one.records, one.first_id, one.last_id, one.sealed)).collect();
        let id = |nth| Some(samples::id(nth));
        assert_eq!(segments, [(3, id(1), id(3), true), (2, id(4), id(5), false)]);
    }

    #[test]
    fn ids_out_of_order_within_a_segment_and_between_segments_are_counted() {
        let report = verify(&journal(&[&[1, 3, 2], &[3, 4]]), Recorder::Stopped).unwrap();
        assert!(report.is_damaged());
        assert_eq!(report.segments.iter().map(|one| one.out_of_order).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn a_segment_that_a_kill_left_empty_is_no_damage() {
        let disk = journal(&[&[1, 2], &[3]]);
        let file = disk.names().remove(1);
        disk.edit(&file, Vec::clear);
        let report = verify(&disk, Recorder::Stopped).unwrap();
        assert_eq!((report.is_damaged(), report.records(), report.segments.len()), (false, 2, 2), "{:?}", report.damage);
    }

    #[test]
    fn half_a_record_at_the_end_is_damage_only_if_nobody_is_writing_it() {
        let disk = journal(&[&[1, 2]]);
        let file = disk.names().remove(0);
        disk.edit(&file, |bytes| bytes.truncate(bytes.len() - 3));
        assert!(verify(&disk, Recorder::Stopped).unwrap().is_damaged());
        assert!(!verify(&disk, Recorder::Running).unwrap().is_damaged());
    }

    #[test]
    fn a_segment_that_goes_while_a_recorder_runs_is_no_damage() {
        let disk = journal(&[&[1], &[2], &[3]]);
        let gone = disk.names().remove(0);
        disk.set_hook(Some(Box::new(move |call, file| {
            if call == Call::Read && file == gone { Err(std::io::ErrorKind::NotFound.into()) } else { Ok(()) }
        })));
        let report = verify(&disk, Recorder::Running).unwrap();
        assert_eq!((report.records(), report.is_damaged()), (2, false));
        assert!(verify(&disk, Recorder::Stopped).is_err());
    }

    #[test]
    fn what_was_set_aside_is_listed() {
        let disk = journal(&[&[1, 2]]);
        let file = disk.names().remove(0);
        disk.edit(&file, |bytes| bytes.truncate(bytes.len() - 3));
        drop(Journal::open(Arc::new(disk.clone())).unwrap().into_writer(Run(2)).unwrap());
        let report = verify(&disk, Recorder::Stopped).unwrap();
        assert_eq!((report.set_aside.len(), report.is_damaged()), (1, false));
    }
}
