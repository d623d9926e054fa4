//! What the BufferActor has the journal do, and in which order: one job at a time, run through the
//! [`Blocking`](crate::blocking::Blocking) handle.
//!
//! A job takes everything that gathered while the one before it ran, so that writes are grouped by themselves: one write
//! per segment and job. It cuts batches exactly at their limits, splitting a bunch where it must.

use std::sync::Arc;

use crate::event::{Bunch, Record};
use crate::id::EventId;
use crate::journal::{Content, Frames, JournalError, Phase, Segment, SegmentKind, SegmentNo, Writer};
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

/// What has to be free again before a full disk is written to again; a journal at its bound waits for a twentieth of that.
/// Without this, small bunches would be accepted and large ones refused in turn.
const ROOM_AGAIN_BYTES: u64 = 64 << 10;

/// One part in this many of `journal.max_bytes` is kept for history and for gaps: what was received can be handed over and let
/// go, and what is refused is recorded, when no event is accepted any more.
const RESERVE_SHARE: u64 = 16;

/// Gaps that wait in memory because the journal takes none: several for each of 500 endpoints, some megabytes. They show in `memory_events`.
const GAPS_IN_MEMORY_MAX: usize = 10_000;

/// Bytes of a segment that are no records: its header and its end mark.
const SEGMENT_BYTES: u64 = 50;

/// What is to be journaled, which decides what room it may take.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    Events,
    History,
    /// Bunches of nothing but gaps: some hundred bytes per endpoint and outage.
    Gaps,
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
    /// Its segment; `None` before its first record.
    pub no: Option<SegmentNo>,
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
    /// History waits in memory only: what follows it must not be journaled, or a restart would skip it.
    pub history_in_memory: bool,
    /// Records of batches that have no segment and are not committed.
    pub without_segment: usize,
    /// Records were refused for want of room, and none were accepted since.
    pub full: Option<Refused>,
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
        /// Its segment lacks a record: the batch stays in memory until it is stored.
        keep: bool,
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
        /// Its content; `None` where nothing of it is left.
        payload: Result<Option<Payload>, JournalError>,
    },
    /// A segment that could not be begun left a file behind, without records.
    Orphan(SegmentNo),
}

/// The content of a batch.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Records.
    Events(Arc<Vec<Record>>),
    /// History.
    History(Arc<HistoryBatch>),
}

/// What came of a job.
#[derive(Debug)]
pub struct Outcome {
    /// In order.
    pub effects: Vec<Effect>,
    /// The open batch after the job.
    pub open: Open,
    /// As in [`Job::full`], after the job.
    pub full: Option<Refused>,
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
        let Self { items, remove, sync_due, policy, open, history_in_memory, without_segment, full, limits, now } = self;
        let mut run = Run {
            writer,
            limits,
            now,
            open,
            effects: Vec::with_capacity(items.len() * 2),
            group: Group::default(),
            error: None,
            keep: false,
            history_in_memory,
            in_memory: without_segment + if open.no.is_none() { open.events } else { 0 },
            full,
            gaps_only: false,
        };
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
                Item::Append(bunch) if is_of_gaps(&bunch) => {
                    run.write_group();
                    run.gaps_only = true;
                    run.append(&bunch);
                    run.write_group();
                    run.gaps_only = false;
                }
                Item::Append(bunch) => run.append(&bunch),
                Item::Cut(info) => {
                    run.write_group();
                    run.cut(info);
                }
                Item::History(batch) => {
                    unsynced_history = true;
                    run.history(batch);
                }
                Item::HistoryUnchanged(through) => {
                    unsynced_history = true;
                    run.effects.push(Effect::HistoryUnchanged(through));
                }
                Item::ReadBack(no) => {
                    run.write_group();
                    let effect = run.read_back(no);
                    run.effects.push(effect);
                }
            }
        }
        run.write_group();
        let wanted = sync_due || unsynced_history || policy == SyncPolicy::Always;
        let synced = policy != SyncPolicy::Off && wanted && run.sync();
        if policy == SyncPolicy::Always && !synced {
            run.take_back_replies();
        }
        if run.open.no.and_then(|no| run.writer.segment(no)).is_some_and(|segment| segment.phase == Phase::Poisoned) {
            // What is in it is nowhere for certain but in memory, and does not wait for the next event or the boundary.
            run.cut(FlushInfo { cause: FlushCause::Journal, boundary: None, skipped_boundaries: 0, cut_at: now });
        }
        let Run { writer, open, full, effects, error, .. } = run;
        Outcome { effects, open, full, not_removed, synced, error, journal_bytes: writer.bytes() }
    }
}

/// A bunch of nothing but gaps.
fn is_of_gaps(bunch: &Bunch) -> bool {
    !bunch.records.is_empty() && bunch.records.iter().all(|record| matches!(record, Record::Gap(_)))
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
    /// The open batch holds a record that is in memory only.
    keep: bool,
    history_in_memory: bool,
    /// Records that no segment has.
    in_memory: usize,
    full: Option<Refused>,
    /// The group holds nothing but gaps, which go in though no events do.
    gaps_only: bool,
}

impl Run<'_> {
    fn append(&mut self, bunch: &Bunch) {
        let mut in_group = 0;
        for (index, record) in bunch.records.iter().enumerate() {
            if let Err(error) = self.group.frames.push(record) {
                // The decoder lets nothing through that is so long. It is stored with its batch, unless this process dies first.
                self.keep = true;
                log::error!("event {} is in memory only: {error}", record.id());
            }
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
        let mut refused = if records.is_empty() { None } else { self.write_open(&mut frames).err() };
        if self.gaps_only && refused.is_some() && self.in_memory + records.len() <= GAPS_IN_MEMORY_MAX {
            // What says that something was lost must not be lost for the same reason: it waits in memory with its batch.
            refused = None;
            self.in_memory += records.len();
            self.keep = true;
            frames = Frames::new(SegmentKind::Events);
        }
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
        let written = self.write_open_if_room(frames);
        if self.gaps_only {
            // They say nothing about whether there is room for events.
            return written;
        }
        self.full = written.err().filter(|refused| matches!(refused, Refused::JournalFull | Refused::DiskFull));
        written
    }

    fn write_open_if_room(&mut self, frames: &mut Frames) -> Result<(), Refused> {
        self.room_for(if self.gaps_only { Claim::Gaps } else { Claim::Events }, frames.bytes())?;
        match self.append_to_open(frames) {
            // The segment was given up after a failed sync. Its batch is stored from memory as it is, and a new one begins.
            Err(JournalError::Poisoned { .. }) if self.open.no.is_some() => {
                self.cut(FlushInfo { cause: FlushCause::Journal, boundary: None, skipped_boundaries: 0, cut_at: self.now });
                self.append_to_open(frames)
            }
            written => written,
        }
        .map_err(|error| {
            let refused = if error.is_disk_full() { Refused::DiskFull } else { Refused::JournalFailed };
            self.note(error);
            refused
        })
    }

    fn append_to_open(&mut self, frames: &mut Frames) -> Result<(), JournalError> {
        match self.open.no {
            Some(no) => self.writer.append(no, frames)?,
            None => self.open.no = Some(self.append_to_new(frames)?),
        }
        Ok(())
    }

    fn append_to_new(&mut self, frames: &mut Frames) -> Result<SegmentNo, JournalError> {
        let no = self.writer.next_no();
        let written = self.writer.append(no, frames);
        if written.is_err() && self.writer.segment(no).is_some() {
            self.effects.push(Effect::Orphan(no));
        }
        written.map(|()| no)
    }

    fn room_for(&self, claim: Claim, bytes: usize) -> Result<(), Refused> {
        let Limits { journal_bytes_max, free_bytes_min, .. } = self.limits;
        let bytes = bytes as u64 + SEGMENT_BYTES;
        let reserve = journal_bytes_max / RESERVE_SHARE;
        let (journal_margin, free_bytes_min) = match (claim, self.full) {
            (Claim::Events, Some(Refused::JournalFull)) => (reserve + journal_bytes_max / 20, free_bytes_min),
            (Claim::Events, Some(_)) => (reserve, free_bytes_min + ROOM_AGAIN_BYTES),
            (Claim::Events, None) => (reserve, free_bytes_min),
            (Claim::History, _) => (0, free_bytes_min),
            (Claim::Gaps, _) => (0, 0),
        };
        if self.writer.bytes() + bytes + journal_margin > journal_bytes_max {
            return Err(Refused::JournalFull);
        }
        match self.writer.free_bytes() {
            Some(free) if free < free_bytes_min.saturating_add(bytes) => Err(Refused::DiskFull),
            _ => Ok(()),
        }
    }

    fn note(&mut self, error: JournalError) {
        self.error.get_or_insert(error);
    }

    fn cut(&mut self, info: FlushInfo) {
        let Open { no, bytes, .. } = std::mem::take(&mut self.open);
        let keep = std::mem::take(&mut self.keep);
        if let Some(no) = no
            && self.writer.segment(no).is_some_and(|segment| segment.phase == Phase::Open)
            // Without its end mark the segment is read up to its last whole record, which is all of it.
            && let Err(error) = self.writer.seal(no)
        {
            self.note(error);
        }
        self.effects.push(Effect::Cut { no, bytes, info, keep });
    }

    fn history(&mut self, batch: Box<HistoryBatch>) {
        let no = match Frames::history(&batch) {
            _ if self.history_in_memory => None,
            // It waits in memory, and no more of it comes while events are refused.
            Ok(frames) if self.room_for(Claim::History, frames.bytes()).is_err() => None,
            Ok(mut frames) => self.append_to_new(&mut frames).map_err(|error| self.note(error)).ok(),
            Err(error) => {
                log::error!("a batch of history is in memory only: {error}");
                None
            }
        };
        if let Some(no) = no
            && let Err(error) = self.writer.seal(no)
        {
            self.note(error);
        }
        self.history_in_memory |= no.is_none();
        self.effects.push(Effect::History { no, batch });
    }

    /// What is left of a batch. One of which nothing is left must not stop those behind it.
    fn read_back(&mut self, no: SegmentNo) -> Effect {
        let payload = match self.writer.read_back(no) {
            Ok(segment) => {
                self.keep_damage(&segment);
                Ok(match segment.content {
                    Content::Events(records) => Some(Payload::Events(Arc::new(records))),
                    Content::History(batches) => batches.into_iter().next().map(|batch| Payload::History(Arc::new(batch))),
                })
            }
            Err(JournalError::NotOpen { .. }) => Ok(None),
            Err(JournalError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        Effect::ReadBack { no, payload }
    }

    /// The segment goes with its batch; what is damaged in it is for a person.
    fn keep_damage(&mut self, segment: &Segment) {
        if segment.damage.is_empty() {
            return;
        }
        for damage in &segment.damage {
            log::error!("journal: {damage}, of a batch that waits; the disk may be failing");
        }
        match self.writer.set_aside(segment) {
            Ok((files, not_kept)) => {
                for file in files {
                    log::error!("journal: set aside as {file}");
                }
                if not_kept > 0 {
                    log::warn!("journal: {not_kept} damaged bytes were not kept; move the files ending in .damaged away");
                }
            }
            Err(error) => log::error!("journal: {error}"),
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
