//! Append state: writes new segments, syncs, seals and removes them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::journal::JournalError;
use crate::journal::aside::{Evidence, Kept};
use crate::journal::disk::{Disk, DiskFile};
use crate::journal::reader::{self, DamageKind, Segment};
use crate::journal::record::{Frames, end_mark};
use crate::journal::recovery::{Inventory, SYNC_FAILED};
use crate::journal::segment::{Header, Run, SegmentKind, SegmentName, SegmentNo};

/// Files that stay open after their segment was sealed, until they are synced. Only with `journal.sync_interval = off`
/// do more of them wait; those are opened again when a sync is asked for after all.
const SEALED_OPEN_MAX: usize = 64;

/// Writes the journal. Calls block and go one at a time; its owner moves it to where blocking is allowed.
///
/// Several segments can be open at once. A segment begins with the first [`Writer::append`] under the number
/// [`Writer::next_no`], and ends with [`Writer::seal`].
pub struct Writer {
    disk: Arc<dyn Disk>,
    run: Run,
    next: SegmentNo,
    segments: BTreeMap<SegmentNo, Tracked>,
    bytes: u64,
    settled_through: SegmentNo,
    /// Files appeared or went since the directory was synced.
    directory_changed: bool,
    /// The removal that is not synced. Never more than one: after a crash a number that is missing between two that
    /// are there is then a lost file, and not one that was removed.
    removal_pending: Option<Removed>,
    /// A sync failed: before anything is accepted again, a new segment has to be made durable.
    suspicious: bool,
}

#[derive(Clone, Copy, Debug)]
struct Removed {
    no: SegmentNo,
    /// It may come back without its end mark.
    was_settled: bool,
}

/// A segment that exists.
pub(super) struct Tracked {
    pub name: SegmentName,
    /// Length up to which it is whole frames.
    pub bytes: u64,
    pub records: u32,
    pub phase: Phase,
    /// All of its bytes are durable.
    pub synced: bool,
    /// Its entry in the directory is durable.
    pub entered: bool,
    /// Nobody needs it; it goes when those before it are gone.
    pub let_go: bool,
    /// Open as long as there is something to append or to sync.
    pub file: Option<Box<dyn DiskFile>>,
}

/// What may be done with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Records can be appended.
    Open,
    /// It is whole; only reading and removing is left.
    Sealed,
    /// Nothing is known of its end, since writing or syncing it failed, or since it was found damaged at start. It is
    /// read and removed like a sealed one, but it was never marked whole.
    Poisoned,
}

/// A segment as the writer knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentStatus {
    /// Number.
    pub no: SegmentNo,
    /// Kind.
    pub kind: SegmentKind,
    /// Bytes of its file.
    pub bytes: u64,
    /// Records in it.
    pub records: u32,
    /// What may be done with it.
    pub phase: Phase,
    /// A crash of the machine would not change it.
    pub durable: bool,
}

impl Writer {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        run: Run,
        next: SegmentNo,
        segments: BTreeMap<SegmentNo, Tracked>,
        settled_through: SegmentNo,
    ) -> Self {
        let bytes = segments.values().map(|segment| segment.bytes).sum();
        let mut writer = Self {
            disk,
            run,
            next,
            segments,
            bytes,
            settled_through,
            directory_changed: false,
            removal_pending: None,
            suspicious: false,
        };
        writer.settle();
        writer
    }

    /// The number that the next new segment gets.
    #[must_use]
    pub fn next_no(&self) -> SegmentNo {
        self.next
    }

    /// Appends frames to a segment, in one write. Begins the segment if `no` is [`Writer::next_no`].
    ///
    /// When it returns, the records survive the process; after the next [`Writer::sync`] also the machine.
    ///
    /// # Errors
    /// [`JournalError::Write`], [`JournalError::Begin`] or [`JournalError::SyncFailed`] (a new segment after a failed
    /// sync is made durable first): none of the records is in the journal, the call can be repeated. If cutting back what
    /// had been written failed too, the segment is poisoned. [`JournalError::Poisoned`]: go on in a new segment.
    /// [`JournalError::NotOpen`]: a mistake of the caller.
    pub fn append(&mut self, no: SegmentNo, frames: &mut Frames) -> Result<(), JournalError> {
        if frames.is_empty() {
            return Ok(());
        }
        let is_new = no == self.next;
        if is_new {
            self.begin(frames.kind())?;
        }
        let segment = self.segments.get_mut(&no).filter(|segment| segment.name.kind == frames.kind());
        let (segment, file) = open_segment(no, segment)?;
        let bytes = frames.bind(segment.name.checksum_seed(), segment.records);
        if let Err(error) = write_or_cut_back(segment, file, bytes) {
            if is_new {
                self.take_back(no);
            }
            return Err(error);
        }
        segment.records += frames.records();
        self.bytes += frames.bytes() as u64;
        Ok(())
    }

    /// Marks a segment as whole. With the next [`Writer::sync`] that is durable.
    ///
    /// # Errors
    /// As [`Writer::append`]. After [`JournalError::Write`] the segment is as before; leaving it open loses nothing.
    pub fn seal(&mut self, no: SegmentNo) -> Result<(), JournalError> {
        let (segment, file) = open_segment(no, self.segments.get_mut(&no))?;
        let mark = end_mark(&segment.name, segment.records);
        write_or_cut_back(segment, file, &mark)?;
        segment.phase = Phase::Sealed;
        self.bytes += mark.len() as u64;
        self.limit_open_files();
        Ok(())
    }

    /// Makes all that was written durable: each file, then the directory if files appeared or went.
    ///
    /// # Errors
    /// [`JournalError::SyncFailed`] names the segments of which nothing is known any more. They are poisoned: the system
    /// may have dropped their bytes, and would not say so again. The other segments are durable.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        let mut failed = Failed::default();
        for segment in self.segments.values_mut().filter(|segment| !segment.synced && segment.phase != Phase::Poisoned) {
            match sync_segment(self.disk.as_ref(), segment) {
                Ok(()) => segment.synced = true,
                Err(source) => {
                    segment.poison();
                    failed.add(segment.name.no, source);
                }
            }
            if segment.phase == Phase::Sealed {
                segment.file = None;
            }
        }
        if self.directory_changed
            && let Err(source) = self.sync_directory()
        {
            for segment in self.segments.values_mut().filter(|segment| !segment.entered && segment.phase != Phase::Poisoned) {
                segment.poison();
                failed.segments.push(segment.name.no);
            }
            failed.source.get_or_insert(source);
        }
        self.settle();
        match failed.source {
            None => Ok(()),
            Some(source) => {
                self.suspicious = true;
                // For the next process. If it cannot be made, that one trusts what it reads, as it would without it.
                let _ = self.disk.create(SYNC_FAILED);
                Err(JournalError::SyncFailed { segments: failed.segments, source })
            }
        }
    }

    /// True if nothing waits for a sync.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        !self.directory_changed && self.segments.values().all(|segment| segment.synced || segment.phase == Phase::Poisoned)
    }

    /// Lets a segment go, whose records the caller has made durable elsewhere. Its file is removed when it is the oldest;
    /// a caller need not know the order. Nothing happens if there is no such segment.
    ///
    /// # Errors
    /// [`JournalError::Remove`] or [`JournalError::SyncFailed`] (of the removal before): a file that was let go is still
    /// there; this call or any later one tries again.
    pub fn remove(&mut self, no: SegmentNo) -> Result<(), JournalError> {
        if let Some(segment) = self.segments.get_mut(&no) {
            segment.let_go = true;
        }
        while let Some(oldest) = self.segments.values().next().filter(|oldest| oldest.let_go).map(|oldest| oldest.name) {
            self.remove_oldest(oldest)?;
        }
        Ok(())
    }

    fn remove_oldest(&mut self, name: SegmentName) -> Result<(), JournalError> {
        if self.removal_pending.is_some() {
            self.sync_directory().map_err(|source| JournalError::SyncFailed { segments: Vec::new(), source })?;
        }
        let file = name.to_string();
        match self.disk.remove(&file) {
            Ok(()) => {}
            // Someone else removed it; what matters is that it is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(JournalError::Remove { file, source }),
        }
        if let Some(removed) = self.segments.remove(&name.no) {
            self.bytes -= removed.bytes;
            self.removal_pending = Some(Removed { no: name.no, was_settled: removed.is_settled() });
        }
        self.directory_changed = true;
        self.settle();
        Ok(())
    }

    /// Reads a segment back, also one that is open.
    ///
    /// # Errors
    /// [`JournalError::NotOpen`] if there is no such segment; [`JournalError::Read`]. Look at [`Segment::damage`] too.
    pub fn read_back(&self, no: SegmentNo) -> Result<Segment, JournalError> {
        let segment = self.segments.get(&no).ok_or(JournalError::NotOpen { no })?;
        Ok(reader::read(self.disk.as_ref(), &segment.name, false)?.segment)
    }

    /// Keeps what is damaged in a segment that was read back, before it is removed: copies of the bytes, or all of a file that
    /// the disk does not give back. Returns the files that are new, and how many bytes the bound on them left out.
    ///
    /// # Errors
    /// [`JournalError::SetAside`]: not all of it could be kept.
    pub fn set_aside(&mut self, segment: &Segment) -> Result<(Vec<String>, u64), JournalError> {
        let Some(name) = self.segments.get(&segment.no).map(|tracked| tracked.name) else { return Ok((Vec::new(), 0)) };
        let failed = |source| JournalError::SetAside { file: segment.file.clone(), source };
        let (mut files, mut not_kept) = (Vec::new(), 0);
        if segment.damage.iter().any(|damage| damage.kind == DamageKind::Unreadable) {
            self.disk.rename(&segment.file, &name.unreadable()).map_err(failed)?;
            if let Some(gone) = self.segments.remove(&name.no) {
                self.bytes -= gone.bytes;
            }
            files.push(name.unreadable());
        }
        let stretches: Vec<_> = segment.damage.iter().filter(|damage| damage.length > 0).collect();
        if !stretches.is_empty() {
            let content = self.disk.read(&segment.file).map_err(failed)?;
            let mut evidence = Evidence::new(self.disk.as_ref(), &Inventory::of(self.disk.as_ref())?.aside);
            for damage in stretches {
                match evidence.keep(name, damage, &content).map_err(failed)? {
                    Kept::Now(file) => files.push(file),
                    Kept::Before => {}
                    Kept::TooMany(bytes) => not_kept += bytes,
                }
            }
        }
        if !files.is_empty() {
            self.sync_directory().map_err(failed)?;
        }
        Ok((files, not_kept))
    }

    /// The segments that exist, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = SegmentStatus> + '_ {
        self.segments.values().map(Tracked::status)
    }

    /// A segment; `None` if there is none of that number.
    #[must_use]
    pub fn segment(&self, no: SegmentNo) -> Option<SegmentStatus> {
        self.segments.get(&no).map(Tracked::status)
    }

    /// Bytes in all segments. What was set aside is not counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that the file system has left; `None` if it does not say.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        self.disk.free_bytes().ok().flatten()
    }

    /// Makes the file of the next segment with its header; durable at once if a sync failed before.
    fn begin(&mut self, kind: SegmentKind) -> Result<(), JournalError> {
        let name = SegmentName { no: self.next, run: self.run, kind };
        let file = name.to_string();
        let handle = self.disk.create(&file).map_err(|source| JournalError::Begin { file: file.clone(), source })?;
        self.directory_changed = true;
        let segment = Tracked {
            name,
            bytes: 0,
            records: 0,
            phase: Phase::Open,
            synced: false,
            entered: false,
            let_go: false,
            file: Some(handle),
        };
        self.next = name.no.next();
        let before = self.segments.last_key_value().map(|(_, before)| before);
        let follows_durable = before.is_some_and(|before| before.entered && before.name.no.next() == name.no);
        let segment = self.segments.entry(name.no).insert_entry(segment).into_mut();
        let header = Header { name, settled_through: self.settled_through, follows_durable }.encode();
        match write_header(segment, &header, self.suspicious) {
            Ok(()) => self.bytes += segment.bytes,
            Err(error) => {
                self.take_back(name.no);
                return Err(error);
            }
        }
        if self.suspicious {
            if let Err(source) = self.sync_directory() {
                self.take_back(name.no);
                return Err(JournalError::SyncFailed { segments: Vec::new(), source });
            }
            self.suspicious = false;
        }
        Ok(())
    }

    /// Undoes the beginning of the newest segment, which holds no record: as if it had never been. Where that fails its
    /// number is used up, and its file goes when its turn comes.
    fn take_back(&mut self, no: SegmentNo) {
        let Some(segment) = self.segments.get_mut(&no) else { return };
        if self.disk.remove(&segment.name.to_string()).is_ok() {
            self.directory_changed = true;
            self.bytes -= segment.bytes;
            self.segments.remove(&no);
            self.next = no;
        } else {
            segment.poison();
            segment.let_go = true;
        }
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.disk.sync_directory()?;
        self.directory_changed = false;
        self.removal_pending = None;
        for segment in self.segments.values_mut() {
            segment.entered = true;
        }
        Ok(())
    }

    /// Moves the mark up to which every segment is sealed and durable, or gone for good. It stops before a number that
    /// a crash left out: the next start must not take that for a loss as long as a segment below it is there.
    fn settle(&mut self) {
        let mut expected = match self.removal_pending {
            Some(removed) if !removed.was_settled => return,
            // It may come back.
            Some(removed) => removed.no.next(),
            None => self.segments.keys().next().copied().unwrap_or(self.next),
        };
        for segment in self.segments.values() {
            if segment.name.no != expected || !segment.is_settled() {
                break;
            }
            expected = expected.next();
        }
        self.settled_through = self.settled_through.max(SegmentNo(expected.0.saturating_sub(1)));
    }

    fn limit_open_files(&mut self) {
        let sealed = || self.segments.values().filter(|segment| segment.phase == Phase::Sealed && segment.file.is_some());
        if sealed().count() > SEALED_OPEN_MAX
            && let Some(no) = sealed().next().map(|segment| segment.name.no)
            && let Some(oldest) = self.segments.get_mut(&no)
        {
            oldest.file = None;
        }
    }
}

#[derive(Default)]
struct Failed {
    segments: Vec<SegmentNo>,
    source: Option<io::Error>,
}

impl Failed {
    fn add(&mut self, no: SegmentNo, source: io::Error) {
        self.segments.push(no);
        self.source.get_or_insert(source);
    }
}

impl Tracked {
    fn poison(&mut self) {
        self.phase = Phase::Poisoned;
        self.file = None;
    }

    fn is_settled(&self) -> bool {
        self.phase == Phase::Sealed && self.synced && self.entered
    }

    fn status(&self) -> SegmentStatus {
        SegmentStatus {
            no: self.name.no,
            kind: self.name.kind,
            bytes: self.bytes,
            records: self.records,
            phase: self.phase,
            durable: self.synced && self.entered && self.phase != Phase::Poisoned,
        }
    }
}

fn write_header(segment: &mut Tracked, header: &[u8], durably: bool) -> Result<(), JournalError> {
    let Some(file) = segment.file.as_mut() else { return Err(JournalError::NotOpen { no: segment.name.no }) };
    file.append(header).map_err(|source| JournalError::Begin { file: segment.name.to_string(), source })?;
    if durably {
        file.sync().map_err(|source| JournalError::SyncFailed { segments: Vec::new(), source })?;
        segment.synced = true;
    }
    segment.bytes = header.len() as u64;
    Ok(())
}

/// The segment with its file, if records can be appended to it.
fn open_segment(no: SegmentNo, segment: Option<&mut Tracked>) -> Result<(&mut Tracked, Box<dyn DiskFile>), JournalError> {
    let segment = segment.ok_or(JournalError::NotOpen { no })?;
    match (segment.phase, segment.file.take()) {
        (Phase::Open, Some(file)) => Ok((segment, file)),
        (Phase::Poisoned, _) => Err(JournalError::Poisoned { no }),
        (Phase::Open | Phase::Sealed, file) => {
            segment.file = file;
            Err(JournalError::NotOpen { no })
        }
    }
}

/// Appends, or leaves the file as it was; where neither can be had, the segment is poisoned.
fn write_or_cut_back(segment: &mut Tracked, mut file: Box<dyn DiskFile>, bytes: &[u8]) -> Result<(), JournalError> {
    // Whatever comes of it, the file may differ from what is durable.
    segment.synced = false;
    match file.append(bytes) {
        Ok(()) => segment.bytes += bytes.len() as u64,
        Err(source) => {
            if file.truncate(segment.bytes).is_ok() {
                segment.file = Some(file);
            } else {
                segment.poison();
            }
            return Err(JournalError::Write { file: segment.name.to_string(), source });
        }
    }
    segment.file = Some(file);
    Ok(())
}

fn sync_segment(disk: &dyn Disk, segment: &mut Tracked) -> io::Result<()> {
    match segment.file.as_mut() {
        Some(file) => file.sync(),
        None => disk.open_append(&segment.name.to_string())?.sync(),
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("next", &self.next)
            .field("segments", &self.segments.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
