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
        damage: found.damage(settled_through),
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
        report.damage.extend(segment.damage.into_iter().filter(|damage| !being_written(damage)));
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
