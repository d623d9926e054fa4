//! What the BufferActor has the journal do, and in which order: one job at a time, run through the
//! [`Blocking`](crate::blocking::Blocking) handle.
//!
//! A job takes everything that gathered while the one before it ran, so that writes are grouped by themselves: one write
//! per segment and job. It cuts batches exactly at their limits, splitting a bunch where it must.

use std::sync::Arc;

use log::error;

use crate::event::{Bunch, Record};
use crate::id::EventId;
use crate::journal::{Content, Frames, JournalError, Segment, SegmentKind, SegmentNo, Writer};
use crate::store::{FlushCause, FlushInfo, HistoryBatch};

use crate::actors::buffer::Refused;
use crate::clock::Timestamp;

/// When a batch is full, and what the journal may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `storage.max_buffer_size`: records of a batch.
    pub batch_events_max: usize,
    /// `storage.max_buffer_bytes`: journaled bytes of a batch.
    pub batch_bytes_max: u64,
    /// `journal.max_bytes`.
    pub journal_bytes_max: u64,
    /// `journal.min_free_bytes`.
    pub free_bytes_min: u64,
}

/// `journal.sync_interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before each reply.
    Always,
    /// At most this long after a write.
    Every(std::time::Duration),
    /// Never: a machine that loses power loses what it had not written back.
    Off,
}

/// The batch that is being filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Its segment, made with its first record; means nothing before that.
    pub no: SegmentNo,
    /// Records in it.
    pub events: usize,
    /// Their journaled bytes.
    pub bytes: u64,
}

/// Something to do, in order of arrival.
#[derive(Debug)]
pub enum Item {
    /// Journal a bunch.
    Append(Arc<Bunch>),
    /// Cut the open batch.
    Cut(FlushInfo),
    /// Journal a batch of history in a segment of its own.
    History(Box<HistoryBatch>),
    /// History is complete up to here without a batch: nothing changed since the last one.
    HistoryUnchanged(EventId),
    /// Read the payload of a batch that lives in its segment only.
    ReadBack(SegmentNo),
}

/// One run of the journal.
#[derive(Debug)]
pub struct Job {
    /// What to do.
    pub items: Vec<Item>,
    /// Segments whose batches are durable elsewhere; removed first, which makes room.
    pub remove: Vec<SegmentNo>,
    /// Sync what was written, by this job or before.
    pub sync_due: bool,
    /// When to sync beside that.
    pub policy: SyncPolicy,
    /// The open batch.
    pub open: Open,
    /// Limits.
    pub limits: Limits,
    /// Date of the batches that this job cuts.
    pub now: Timestamp,
}

/// What a job did, in order.
#[derive(Debug)]
pub enum Effect {
    /// These records are in the open batch now.
    Records(Vec<Record>),
    /// The open batch was cut.
    Cut {
        /// Its segment; `None` if it is empty.
        no: Option<SegmentNo>,
        /// Journaled bytes.
        bytes: u64,
        /// Why.
        info: FlushInfo,
    },
    /// The next bunch, in the order of the items: how many of its records were kept, and why not the rest.
    Appended {
        /// Records journaled.
        kept: usize,
        /// Why the rest was refused.
        refused: Option<Refused>,
    },
    /// A batch of history has a segment; or none, if the journal refused it: it waits in memory then.
    History {
        /// The segment.
        no: Option<SegmentNo>,
        /// The batch.
        batch: Box<HistoryBatch>,
    },
    /// See [`Item::HistoryUnchanged`].
    HistoryUnchanged(EventId),
    /// What was read back.
    ReadBack {
        /// The segment.
        no: SegmentNo,
        /// Its content.
        payload: Result<Payload, JournalError>,
    },
}

/// The content of a batch.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Records.
    Events(Arc<Vec<Record>>),
    /// History.
    History(Arc<HistoryBatch>),
}

impl From<Segment> for Payload {
    /// What can still be read of a batch. Damage while a recorder runs is reported here; the rest of the batch is stored.
    fn from(segment: Segment) -> Self {
        for damage in &segment.damage {
            error!("journal: {damage}, of a batch that was written whole; the disk may be failing");
        }
        match segment.content {
            Content::Events(records) => Self::Events(Arc::new(records)),
            Content::History(mut batches) => match batches.pop() {
                Some(batch) => Self::History(Arc::new(batch)),
                None => Self::Events(Arc::default()),
            },
        }
    }
}

/// What came of a job.
#[derive(Debug)]
pub struct Outcome {
    /// In order.
    pub effects: Vec<Effect>,
    /// The open batch after the job.
    pub open: Open,
    /// Segments that could not be removed; to be tried again.
    pub not_removed: Vec<SegmentNo>,
    /// True if everything written is synced.
    pub synced: bool,
    /// The first thing that failed.
    pub error: Option<JournalError>,
    /// Bytes of the journal.
    pub journal_bytes: u64,
}

impl Job {
    /// Does it. Blocks.
    #[must_use]
    pub fn run(self, writer: &mut Writer) -> Outcome {
        let Self { items, remove, sync_due, policy, open, limits, now } = self;
        let mut run =
            Run { writer, limits, now, open, effects: Vec::with_capacity(items.len() * 2), group: Group::default(), error: None };
        let not_removed = remove
            .into_iter()
            .filter(|no| match run.writer.remove(*no) {
                Ok(()) => false,
                Err(error) => {
                    run.note(error);
                    true
                }
            })
            .collect();
        let mut unsynced_history = false;
        for item in items {
            match item {
                Item::Append(bunch) => run.append(&bunch),
                Item::Cut(info) => {
                    run.write_group();
                    run.cut(info);
                }
                Item::History(batch) => {
                    unsynced_history = true;
                    run.history(batch);
                }
                Item::HistoryUnchanged(through) => run.effects.push(Effect::HistoryUnchanged(through)),
                Item::ReadBack(no) => {
                    run.write_group();
                    let payload = run.writer.read_back(no).map(Payload::from);
                    run.effects.push(Effect::ReadBack { no, payload });
                }
            }
        }
        run.write_group();
        let wanted = sync_due || unsynced_history || policy == SyncPolicy::Always;
        let synced = policy != SyncPolicy::Off && wanted && run.sync();
        if policy == SyncPolicy::Always && !synced {
            run.take_back_replies();
        }
        let Run { writer, open, effects, error, .. } = run;
        Outcome { effects, open, not_removed, synced, error, journal_bytes: writer.bytes() }
    }
}

/// Records of the open segment that are encoded and not written, and which bunches they are of.
struct Group {
    frames: Frames,
    records: Vec<Record>,
    /// Per bunch: records of it in this group, and whether its last record is among them.
    bunches: Vec<(usize, bool)>,
    /// Records of the first bunch that an earlier group holds already.
    kept_before: usize,
}

impl Default for Group {
    fn default() -> Self {
        Self { frames: Frames::new(SegmentKind::Events), records: Vec::new(), bunches: Vec::new(), kept_before: 0 }
    }
}

struct Run<'a> {
    writer: &'a mut Writer,
    limits: Limits,
    now: Timestamp,
    open: Open,
    effects: Vec<Effect>,
    group: Group,
    error: Option<JournalError>,
}

impl Run<'_> {
    fn append(&mut self, bunch: &Bunch) {
        let mut in_group = 0;
        for (index, record) in bunch.records.iter().enumerate() {
            self.group.frames.push(record).expect("the decoder refuses events of more than 1 MiB");
            self.group.records.push(record.clone());
            in_group += 1;
            let last = index + 1 == bunch.records.len();
            if self.open.events + self.group.records.len() >= self.limits.batch_events_max
                || self.open.bytes + self.group.frames.bytes() as u64 >= self.limits.batch_bytes_max
            {
                self.group.bunches.push((in_group, last));
                in_group = 0;
                if !self.write_group() {
                    if !last {
                        // The bunch was answered with the failure: the rest of it is refused with its beginning.
                        return;
                    }
                    continue;
                }
                self.cut(FlushInfo { cause: FlushCause::Threshold, boundary: None, skipped_boundaries: 0, cut_at: self.now });
            }
        }
        if in_group > 0 || bunch.records.is_empty() {
            self.group.bunches.push((in_group, true));
        }
    }

    /// Writes the group and answers its bunches. False if it was refused.
    fn write_group(&mut self) -> bool {
        let Group { mut frames, records, bunches, kept_before } = std::mem::take(&mut self.group);
        if bunches.is_empty() {
            return true;
        }
        let refused = if records.is_empty() { None } else { self.write_open(&mut frames).err() };
        let mut kept = kept_before;
        for (count, last) in bunches {
            kept += if refused.is_some() { 0 } else { count };
            if last || refused.is_some() {
                self.effects.push(Effect::Appended { kept, refused });
                kept = 0;
            }
        }
        self.group.kept_before = kept;
        if refused.is_none() && !records.is_empty() {
            self.open.events += records.len();
            self.open.bytes += frames.bytes() as u64;
            self.effects.push(Effect::Records(records));
        }
        refused.is_none()
    }

    fn write_open(&mut self, frames: &mut Frames) -> Result<(), Refused> {
        self.room_for(frames.bytes())?;
        match self.append_open(frames) {
            // The segment was given up after a failed sync. Its batch is stored from memory as it is, and a new one begins.
            Err(JournalError::Poisoned { .. }) => {
                self.cut(FlushInfo { cause: FlushCause::Journal, boundary: None, skipped_boundaries: 0, cut_at: self.now });
                self.append_open(frames)
            }
            other => other,
        }
        .map_err(|error| self.refuse(error))
    }

    /// Appends to the open segment, or begins it; it gets its number then.
    fn append_open(&mut self, frames: &mut Frames) -> Result<(), JournalError> {
        let no = if self.open.events == 0 { self.writer.next_no() } else { self.open.no };
        self.writer.append(no, frames)?;
        self.open.no = no;
        Ok(())
    }

    fn room_for(&mut self, bytes: usize) -> Result<(), Refused> {
        if self.writer.bytes() + bytes as u64 > self.limits.journal_bytes_max {
            return Err(Refused::JournalFull);
        }
        match self.writer.free_bytes() {
            Some(free) if free < self.limits.free_bytes_min.saturating_add(bytes as u64) => Err(Refused::DiskFull),
            _ => Ok(()),
        }
    }

    fn refuse(&mut self, error: JournalError) -> Refused {
        let refused = if error.is_disk_full() { Refused::DiskFull } else { Refused::JournalFailed };
        self.note(error);
        refused
    }

    fn note(&mut self, error: JournalError) {
        self.error.get_or_insert(error);
    }

    fn cut(&mut self, info: FlushInfo) {
        let bytes = self.open.bytes;
        let no = (self.open.events > 0).then_some(self.open.no);
        if let Some(no) = no {
            self.seal(no);
            self.open = Open { events: 0, bytes: 0, ..self.open };
        }
        self.effects.push(Effect::Cut { no, bytes, info });
    }

    fn history(&mut self, batch: Box<HistoryBatch>) {
        let no = self.writer.next_no();
        let no = match Frames::history(&batch) {
            Ok(mut frames) => match self.writer.append(no, &mut frames) {
                Ok(()) => {
                    self.seal(no);
                    Some(no)
                }
                Err(error) => {
                    self.note(error);
                    None
                }
            },
            Err(error) => {
                error!("journal: {error}; the batch of history waits in memory");
                None
            }
        };
        self.effects.push(Effect::History { no, batch });
    }

    /// Without its end mark a segment is read up to its last whole record, which is all of it.
    fn seal(&mut self, no: SegmentNo) {
        match self.writer.seal(no) {
            Ok(()) | Err(JournalError::Poisoned { .. }) => {}
            Err(error) => self.note(error),
        }
    }

    /// With `always` a reply means synced. What is written stays in its batch and is stored all the same: the refusal says
    /// that it could not be promised.
    fn take_back_replies(&mut self) {
        for effect in &mut self.effects {
            if let Effect::Appended { kept, refused: refused @ None } = effect {
                (*kept, *refused) = (0, Some(Refused::JournalFailed));
            }
        }
    }

    fn sync(&mut self) -> bool {
        match self.writer.sync() {
            Ok(()) => true,
            Err(error) => {
                self.note(error);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EndpointId, Gap, InstanceId};
    use crate::journal::{Call, Fault, Journal, MemoryDisk, Run as JournalRun};

    fn bunch(ids: std::ops::Range<i64>) -> Item {
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
        Item::Append(Arc::new(Bunch { endpoint: EndpointId(1), records: ids.map(gap).collect() }))
    }

    fn info() -> FlushInfo {
        FlushInfo { cause: FlushCause::Manual, boundary: None, skipped_boundaries: 0, cut_at: Timestamp(0) }
    }

    fn history(id: i64) -> Item {
        Item::History(Box::new(HistoryBatch {
            id: EventId(id),
            info: info(),
            through: EventId(id),
            rows: Vec::new(),
            counter_events: Vec::new(),
            states: Vec::new(),
        }))
    }

    fn start() -> (MemoryDisk, Writer) {
        let disk = MemoryDisk::new();
        let writer = Journal::open(Arc::new(disk.clone())).unwrap().into_writer(JournalRun(1)).unwrap().0;
        (disk, writer)
    }

    fn run(writer: &mut Writer, open: Open, items: Vec<Item>) -> Outcome {
        let limits = Limits { batch_events_max: 5, batch_bytes_max: 1 << 20, journal_bytes_max: 1 << 20, free_bytes_min: 0 };
        let job = Job { items, remove: Vec::new(), sync_due: true, policy: SyncPolicy::Off, open, limits, now: Timestamp(0) };
        job.run(writer)
    }

    fn cuts(outcome: &Outcome) -> Vec<Option<u64>> {
        let cut = |effect: &Effect| if let Effect::Cut { no, .. } = effect { Some(no.map(|no| no.0)) } else { None };
        outcome.effects.iter().filter_map(cut).collect()
    }

    fn answers(outcome: &Outcome) -> Vec<(usize, Option<Refused>)> {
        let answer =
            |effect: &Effect| if let Effect::Appended { kept, refused } = effect { Some((*kept, *refused)) } else { None };
        outcome.effects.iter().filter_map(answer).collect()
    }

    #[test]
    fn a_bunch_larger_than_a_batch_is_split_over_segments() {
        let (_, mut writer) = start();
        let outcome = run(&mut writer, Open::default(), vec![bunch(1..13)]);
        assert_eq!((cuts(&outcome), answers(&outcome)), (vec![Some(1), Some(2)], vec![(12, None)]));
        assert_eq!((outcome.open.no, outcome.open.events), (SegmentNo(3), 2));
    }

    #[test]
    fn history_gets_a_segment_before_and_while_events_fill_theirs() {
        let (_, mut writer) = start();
        let outcome =
            run(&mut writer, Open::default(), vec![history(1), bunch(2..4), history(4), bunch(5..6), Item::Cut(info())]);
        let numbers: Vec<_> = outcome
            .effects
            .iter()
            .filter_map(|effect| if let Effect::History { no, .. } = effect { no.map(|no| no.0) } else { None })
            .collect();
        assert_eq!(numbers.len(), 2);
        let events = cuts(&outcome)[0].unwrap();
        assert!(!numbers.contains(&events) && writer.segments().count() == 3);
    }

    #[test]
    fn a_batch_that_is_refused_on_a_full_disk_leaves_no_segment_and_the_next_one_is_taken() {
        let (disk, mut writer) = start();
        disk.set_capacity(Some(60));
        let outcome = run(&mut writer, Open::default(), vec![bunch(1..4)]);
        assert_eq!(answers(&outcome), [(0, Some(Refused::DiskFull))]);
        assert_eq!((writer.segments().count(), outcome.open.events), (0, 0));
        disk.set_capacity(None);
        assert_eq!(answers(&run(&mut writer, outcome.open, vec![bunch(4..6)])), [(2, None)]);
    }

    #[test]
    fn after_a_failed_sync_the_batch_is_cut_as_it_is_and_a_new_segment_begins() {
        let (disk, mut writer) = start();
        let first = run(&mut writer, Open::default(), vec![bunch(1..3)]);
        disk.fail(Call::Sync, Fault::BROKEN, 1);
        writer.sync().unwrap_err();
        let second = run(&mut writer, first.open, vec![bunch(3..4)]);
        assert_eq!((cuts(&second), answers(&second)), (vec![Some(1)], vec![(1, None)]));
        assert_eq!((second.open.no, second.open.events), (SegmentNo(2), 1));
    }

    #[test]
    fn a_batch_is_read_back_from_its_segment() {
        let (_, mut writer) = start();
        let outcome = run(&mut writer, Open::default(), vec![bunch(1..6), Item::ReadBack(SegmentNo(1))]);
        let Some(Effect::ReadBack { payload: Ok(Payload::Events(records)), .. }) = outcome.effects.last() else {
            panic!("{outcome:?}")
        };
        assert_eq!(records.len(), 5);
    }
}
