//! From what a stopped recorder left to a journal that can be appended to: read all, then repair, then write.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::journal::JournalError;
use crate::journal::aside::{Evidence, Kept};
use crate::journal::disk::Disk;
use crate::journal::reader::{self, Damage, DamageKind, Examined, Segment};
use crate::journal::record::{FRAME_HEADER_BYTES, end_mark};
use crate::journal::segment::{Aside, BadHeader, HEADER_BYTES, Header, Run, SegmentKind, SegmentName, SegmentNo};
use crate::journal::writer::{Phase, Tracked, Writer};

/// A file without content that a run leaves when a sync failed. It need not survive the machine: what was not written to the
/// disk does not either.
pub(super) const SYNC_FAILED: &str = "sync-failed";

/// Name of a segment's new file until it takes the old one's place.
const WRITTEN_ANEW: &str = "written-anew";

/// Where a journal begins.
#[derive(Debug)]
pub struct Journal;

impl Journal {
    /// Looks at what is there. Changes nothing.
    ///
    /// # Errors
    /// [`JournalError::Read`], [`JournalError::NewerFormat`].
    pub fn open(disk: Arc<dyn Disk>) -> Result<Reading, JournalError> {
        let found = Inventory::of(disk.as_ref())?;
        let settled_through = found.settled_through(disk.as_ref())?;
        let damage = found.damage(disk.as_ref(), settled_through);
        Ok(Reading { disk, found, settled_through, damage, position: 0, states: BTreeMap::new() })
    }
}

/// The files of a journal.
#[derive(Debug)]
pub(super) struct Inventory {
    /// Segments, by number.
    pub segments: Vec<SegmentName>,
    /// What was set aside, by name.
    pub aside: Vec<(String, SegmentName, Aside)>,
    /// Files with the number of a segment before them. No crash makes such a thing; someone put them there.
    pub strays: Vec<SegmentName>,
    /// [`SYNC_FAILED`] is there.
    pub sync_failed: bool,
}

impl Inventory {
    pub fn of(disk: &dyn Disk) -> Result<Self, JournalError> {
        let mut files = disk.list().map_err(|source| JournalError::Read { file: "the journal directory".into(), source })?;
        files.sort_unstable();
        let (mut segments, mut strays) = (Vec::<SegmentName>::new(), Vec::new());
        for name in files.iter().filter_map(|file| SegmentName::parse(file)) {
            let taken = segments.last().is_some_and(|last| last.no == name.no);
            if taken { strays.push(name) } else { segments.push(name) }
        }
        let sync_failed = files.iter().any(|file| file == SYNC_FAILED);
        let aside = files
            .into_iter()
            .filter_map(|file| SegmentName::parse_aside(&file).map(|(name, aside)| (file, name, aside)))
            .collect();
        Ok(Self { segments, aside, strays, sync_failed })
    }

    /// What the newest sound header says; it says the most, since the number never falls.
    pub fn settled_through(&self, disk: &dyn Disk) -> Result<SegmentNo, JournalError> {
        for name in self.segments.iter().rev() {
            let Ok(bytes) = disk.read(&name.to_string()) else { continue };
            match Header::decode(&bytes) {
                Ok(header) => return Ok(header.settled_through),
                Err(BadHeader::Version(version)) => {
                    return Err(JournalError::NewerFormat { file: name.to_string(), version });
                }
                Err(BadHeader::Short | BadHeader::Corrupt) => {}
            }
        }
        Ok(SegmentNo(0))
    }

    /// What is wrong with the files as a whole: numbers that are not there although one below and one above are, and
    /// numbers that are there twice.
    pub fn damage(&self, disk: &dyn Disk, settled_through: SegmentNo) -> Vec<Damage> {
        let whole_file = |file, kind| Damage { file, offset: 0, length: 0, kind };
        let mut damage: Vec<_> = self.strays.iter().map(|name| whole_file(name.to_string(), DamageKind::Stray)).collect();
        let mut expected = None;
        for name in &self.segments {
            // A name may be anything, so a hole may be as wide as the numbers go: it is one finding.
            if let Some(first) = expected.filter(|first| *first < name.no && !self.only_unreadable(*first, name.no)) {
                let (first, last) = (first.0, name.no.0 - 1);
                let file = if first == last { format!("{first:020}") } else { format!("{first:020} to {last:020}") };
                let lost = first <= settled_through.0 || follows_durable(disk, name);
                damage.push(whole_file(file, if lost { DamageKind::MissingSegment } else { DamageKind::NeverSynced }));
            }
            expected = Some(name.no.next());
        }
        damage
    }

    /// True if every number from `first` to before `end` was renamed since it could not be read.
    fn only_unreadable(&self, first: SegmentNo, end: SegmentNo) -> bool {
        let unreadable = |name: &SegmentName| (first..end).contains(&name.no);
        let count = self.aside.iter().filter(|(_, name, aside)| *aside == Aside::Unreadable && unreadable(name)).count();
        count as u64 == end.0 - first.0
    }
}

/// Whether the segment says that the file before it was there for good. One that cannot be read says nothing, nor does one under
/// another's name.
fn follows_durable(disk: &dyn Disk, name: &SegmentName) -> bool {
    let Ok(bytes) = disk.read(&name.to_string()) else { return false };
    Header::decode(&bytes).is_ok_and(|header| header.follows_durable && header.name == *name)
}

/// Read state: gives the segments one after the other, and knows then what is to be repaired.
pub struct Reading {
    disk: Arc<dyn Disk>,
    found: Inventory,
    settled_through: SegmentNo,
    damage: Vec<Damage>,
    position: usize,
    states: BTreeMap<SegmentNo, Found>,
}

/// A segment that was read, as far as its repair is concerned.
struct Found {
    name: SegmentName,
    bytes: u64,
    sound_bytes: u64,
    records: u32,
    sealed: bool,
    damage: Vec<Damage>,
}

impl Found {
    fn new(name: SegmentName, examined: &Examined) -> Self {
        let Examined { segment, sound_bytes, records, .. } = examined;
        Self {
            name,
            bytes: segment.bytes,
            sound_bytes: *sound_bytes,
            records: *records,
            sealed: segment.sealed,
            damage: segment.damage.clone(),
        }
    }

    fn has_only(&self, kind: DamageKind) -> bool {
        self.damage.iter().all(|damage| damage.kind == kind)
    }
}

impl Reading {
    /// How many segments there are.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.found.segments.len()
    }

    /// What is wrong with the files as a whole: segments that are missing, or there twice.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The next segment, oldest first, with all that could be read of it; `None` at the end. Only one is in memory.
    ///
    /// One that is [`DamageKind::Unreadable`] is not among the writer's segments afterwards.
    ///
    /// # Errors
    /// [`JournalError::Read`], [`JournalError::NewerFormat`].
    pub fn next_segment(&mut self) -> Result<Option<Segment>, JournalError> {
        let Some(name) = self.found.segments.get(self.position).copied() else { return Ok(None) };
        let segment = self.read_name(name)?;
        self.position += 1;
        Ok(Some(segment))
    }

    /// The numbers of all segments of a kind, oldest first, to be read in an order of one's own.
    #[must_use]
    pub fn segments_of(&self, kind: SegmentKind) -> Vec<SegmentNo> {
        self.found.segments.iter().filter(|name| name.kind == kind).map(|name| name.no).collect()
    }

    /// A segment with all that could be read of it.
    ///
    /// # Errors
    /// As [`Reading::next_segment`]; [`JournalError::NotOpen`] if there is none of that number.
    pub fn read(&mut self, no: SegmentNo) -> Result<Segment, JournalError> {
        let name = self.found.segments.iter().find(|name| name.no == no).copied().ok_or(JournalError::NotOpen { no })?;
        self.read_name(name)
    }

    fn read_name(&mut self, name: SegmentName) -> Result<Segment, JournalError> {
        let examined = reader::read(self.disk.as_ref(), &name, name.no <= self.settled_through)?;
        self.states.insert(name.no, Found::new(name, &examined));
        Ok(examined.segment)
    }

    /// Ends reading (what was not read yet is looked at now), repairs, and gives the writer. `run` marks what is written
    /// from now on.
    ///
    /// # Errors
    /// As [`Reading::next_segment`], before anything was changed; [`JournalError::Repair`]. Repairs that failed are in the
    /// report and no error.
    pub fn into_writer(mut self, run: Run) -> Result<(Writer, RepairReport), JournalError> {
        for name in self.found.segments.clone() {
            if !self.states.contains_key(&name.no) {
                self.read_name(name)?;
            }
        }
        let last = self.found.segments.last().map_or(SegmentNo(0), |name| name.no);
        let last_aside = self.found.aside.iter().map(|(_, name, _)| name.no).max().unwrap_or_default();
        let mut repair = Repair::new(self.disk.as_ref(), &self.found, self.settled_through);
        repair.report.damage.extend(self.damage);
        repair.set_aside_all(self.states.values());
        let mut segments = BTreeMap::new();
        for (no, found) in self.states {
            if let Some(tracked) = repair.mend(found) {
                segments.insert(no, tracked);
            }
        }
        let Repair { report, sync_failed, .. } = repair;
        self.disk.sync_directory().map_err(|source| JournalError::Repair { source })?;
        if sync_failed && report.failed.is_empty() {
            // If it stays, the next start does the same again.
            let _ = self.disk.remove(SYNC_FAILED);
        }
        let next = last.max(last_aside).max(self.settled_through).next();
        Ok((Writer::new(self.disk, run, next, segments, self.settled_through), report))
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("found", &self.found).field("position", &self.position).finish_non_exhaustive()
    }
}

/// What was found and done at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// All damage, also such as a crash leaves behind.
    pub damage: Vec<Damage>,
    /// Segments whose torn tail was cut off.
    pub tails_cut: usize,
    /// Files that hold damaged bytes since this start.
    pub set_aside: Vec<String>,
    /// Damaged bytes that were not kept because the bound on them is reached: move the files away.
    pub bytes_not_kept: u64,
    /// What could not be done and why; the journal works all the same.
    pub failed: Vec<String>,
}

/// The only code that changes what an earlier run wrote.
struct Repair<'a> {
    disk: &'a dyn Disk,
    evidence: Evidence<'a>,
    /// A sync of the run before failed: what was not settled may be in memory only.
    sync_failed: bool,
    /// Segments of which bytes could not be kept: no tail is cut there.
    evidence_open: BTreeSet<SegmentNo>,
    settled_through: SegmentNo,
    report: RepairReport,
}

impl<'a> Repair<'a> {
    fn new(disk: &'a dyn Disk, found: &Inventory, settled_through: SegmentNo) -> Self {
        Self {
            disk,
            evidence: Evidence::new(disk, &found.aside),
            sync_failed: found.sync_failed,
            evidence_open: BTreeSet::new(),
            settled_through,
            report: RepairReport::default(),
        }
    }

    /// Keeps a copy of all damaged bytes, durably.
    fn set_aside_all<'b>(&mut self, segments: impl Iterator<Item = &'b Found>) {
        let mut written = BTreeSet::new();
        for found in segments {
            self.report.damage.extend(found.damage.iter().cloned());
            let mut stretches = found.damage.iter().filter(|damage| damage.length > 0).peekable();
            if stretches.peek().is_none() {
                continue;
            }
            match self.disk.read(&found.name.to_string()) {
                Ok(content) => {
                    for damage in stretches {
                        match self.set_aside(found.name, damage, &content) {
                            Ok(new) => written.extend(new.then_some(found.name.no)),
                            Err(error) => self.not_kept(found, &error),
                        }
                    }
                }
                Err(error) => self.not_kept(found, &error),
            }
        }
        if !written.is_empty()
            && let Err(error) = self.disk.sync_directory()
        {
            self.report.failed.push(format!("copies of damaged bytes may not survive a crash: {error}"));
            self.evidence_open.extend(written);
        }
    }

    fn not_kept(&mut self, found: &Found, error: &io::Error) {
        self.report.failed.push(format!("damaged bytes of {} could not be set aside: {error}", found.name));
        self.evidence_open.insert(found.name.no);
    }

    /// Keeps a copy of one damaged stretch; false if it was kept at an earlier start or the bound is reached.
    fn set_aside(&mut self, name: SegmentName, damage: &Damage, content: &[u8]) -> io::Result<bool> {
        match self.evidence.keep(name, damage, content)? {
            Kept::Now(file) => self.report.set_aside.push(file),
            Kept::Before => return Ok(false),
            Kept::TooMany(bytes) => {
                self.report.bytes_not_kept += bytes;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Brings a segment into the state in which the writer keeps it; `None` if it is none any more.
    fn mend(&mut self, found: Found) -> Option<Tracked> {
        let file = found.name.to_string();
        if found.damage.iter().any(|damage| damage.kind == DamageKind::Unreadable) {
            match self.disk.rename(&file, &found.name.unreadable()) {
                Ok(()) => return None,
                Err(error) => self.report.failed.push(format!("{file} could not be renamed: {error}")),
            }
            return Some(tracked(&found, Phase::Poisoned));
        }
        let settled = found.sealed && found.name.no <= self.settled_through;
        let mended = if settled {
            Ok(())
        } else if self.sync_failed {
            self.write_anew(&found)
        } else if found.sealed || !found.has_only(DamageKind::TornTail) {
            self.disk.open_append(&file).and_then(|mut handle| handle.sync())
        } else {
            self.cut_and_seal(&found)
        };
        if let Err(error) = mended {
            self.report.failed.push(format!("{file} could not be repaired: {error}"));
            return Some(tracked(&found, Phase::Poisoned));
        }
        let whole = found.sealed || found.has_only(DamageKind::TornTail);
        Some(tracked(&found, if whole { Phase::Sealed } else { Phase::Poisoned }))
    }

    /// Writes what was read of a segment to a new file, durably, and puts that in its place: after a failed sync the system
    /// holds the old file's bytes for written, and another sync would do nothing.
    fn write_anew(&mut self, found: &Found) -> io::Result<()> {
        let file = found.name.to_string();
        let mut content = self.disk.read(&file)?;
        if !found.sealed && found.has_only(DamageKind::TornTail) {
            self.may_cut(found)?;
            content.truncate(usize::try_from(found.sound_bytes).unwrap_or(usize::MAX));
            content.extend(self.end_of(found));
        }
        // One that a start before this left behind.
        let _ = self.disk.remove(WRITTEN_ANEW);
        let mut handle = self.disk.create(WRITTEN_ANEW)?;
        handle.append(&content)?;
        handle.sync()?;
        self.disk.rename(WRITTEN_ANEW, &file)
    }

    /// Counts the cut of a torn tail, if there is one and its bytes are kept.
    fn may_cut(&mut self, found: &Found) -> io::Result<bool> {
        let torn = found.sound_bytes < found.bytes;
        if torn && self.evidence_open.contains(&found.name.no) {
            return Err(io::Error::other("its tail could not be kept, so it was not cut"));
        }
        self.report.tails_cut += usize::from(torn);
        Ok(torn)
    }

    /// What follows the sound bytes of a segment that is whole with them.
    fn end_of(&self, found: &Found) -> Vec<u8> {
        let mut end = Vec::with_capacity(HEADER_BYTES + FRAME_HEADER_BYTES);
        if found.sound_bytes == 0 {
            let header = Header { name: found.name, settled_through: self.settled_through, follows_durable: false };
            end.extend(header.encode());
        }
        end.extend(end_mark(&found.name, found.records));
        end
    }

    /// Cuts a torn tail off and gives the segment its end mark, durably; or leaves it as it is.
    fn cut_and_seal(&mut self, found: &Found) -> io::Result<()> {
        let torn = self.may_cut(found)?;
        let mut handle = self.disk.open_append(&found.name.to_string())?;
        if torn {
            handle.truncate(found.sound_bytes)?;
        }
        let end = self.end_of(found);
        // After a failed sync the mark would seem to be there and not be durable; the next start writes it anew.
        handle.append(&end).and_then(|()| handle.sync()).or_else(|error| {
            handle.truncate(found.sound_bytes)?;
            Err(error)
        })
    }
}

fn tracked(found: &Found, phase: Phase) -> Tracked {
    let mend = !found.sealed && phase == Phase::Sealed;
    let added = if !mend {
        0
    } else if found.sound_bytes == 0 {
        HEADER_BYTES + FRAME_HEADER_BYTES
    } else {
        FRAME_HEADER_BYTES
    };
    let bytes = if mend { found.sound_bytes } else { found.bytes } + added as u64;
    Tracked { name: found.name, bytes, records: found.records, phase, synced: true, entered: true, let_go: false, file: None }
}

#[cfg(test)]
mod tests;
