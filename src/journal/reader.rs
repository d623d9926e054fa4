//! Reads one segment, whatever state it is in. Changes nothing.

use std::fmt;
use std::io;
use std::ops::Range;

use serde::Serialize;

use crate::event::Record;
use crate::journal::JournalError;
use crate::journal::disk::Disk;
use crate::journal::record::{decode_history, decode_record};
use crate::journal::scan::{Bad, BadKind, scan};
use crate::journal::segment::{BadHeader, HEADER_BYTES, Header, SegmentKind, SegmentName, SegmentNo};
use crate::store::HistoryBatch;

/// What could be read of a segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Number.
    pub no: SegmentNo,
    /// Its file.
    pub file: String,
    /// The sound records, in the order in which they were written.
    pub content: Content,
    /// It has its end mark: nothing was to be added to it.
    pub sealed: bool,
    /// What is wrong with it, by offset.
    pub damage: Vec<Damage>,
    /// Records known to be missing; a torn tail may hide more.
    pub records_missing: u32,
    /// Length of the file.
    pub bytes: u64,
}

/// Records of a segment.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Of an event segment.
    Events(Vec<Record>),
    /// Of a history segment: one batch, or none where it is damaged.
    History(Vec<HistoryBatch>),
}

impl Content {
    fn new(kind: SegmentKind) -> Self {
        match kind {
            SegmentKind::Events => Self::Events(Vec::new()),
            SegmentKind::History => Self::History(Vec::new()),
        }
    }

    /// What kind of segment it is.
    #[must_use]
    pub fn kind(&self) -> SegmentKind {
        match self {
            Self::Events(_) => SegmentKind::Events,
            Self::History(_) => SegmentKind::History,
        }
    }

    /// How many records.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Events(records) => records.len(),
            Self::History(batches) => batches.len(),
        }
    }

    /// True without records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the record that the payload is; false if it is none.
    fn push(&mut self, payload: &[u8]) -> bool {
        match self {
            Self::Events(records) => decode_record(payload).map(|record| records.push(record)).is_some(),
            Self::History(batches) => decode_history(payload).map(|batch| batches.push(batch)).is_some(),
        }
    }
}

/// Something in the journal that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// How many bytes; 0 where something is missing.
    pub length: u64,
    /// What it is.
    pub kind: DamageKind,
}

/// Kinds of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DamageKind {
    /// The end of a segment that was being written when the machine stopped: bytes that were never synced. Repaired
    /// at the next start.
    TornTail,
    /// Bytes that are no record, with sound ones behind them; or a broken header. Set aside at the next start, the
    /// other records are read.
    Corrupt,
    /// A record that is there a second time; it is read once.
    Duplicate,
    /// Something follows the end mark.
    AfterEnd,
    /// The end of a segment that was sealed and synced is gone: records are lost.
    CutOff,
    /// The disk does not give the file back.
    Unreadable,
    /// There is no such file, although it was synced: a batch is lost.
    MissingSegment,
    /// Another file has this number. It is not read and not touched: whoever put it there knows which one is right.
    Stray,
    /// There is no such file, and its entry had not been synced: the machine stopped. Nothing that was promised is lost.
    NeverSynced,
}

impl DamageKind {
    /// A crash of the machine leaves this behind without anybody's fault, and nothing synced is lost by it.
    #[must_use]
    pub fn is_trace_of_a_crash(self) -> bool {
        matches!(self, Self::TornTail | Self::NeverSynced)
    }
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TornTail => "torn tail",
            Self::Corrupt => "corrupt",
            Self::Duplicate => "duplicate record",
            Self::AfterEnd => "bytes after the end mark",
            Self::CutOff => "cut off, the end mark is missing",
            Self::Unreadable => "unreadable",
            Self::MissingSegment => "segment missing",
            Self::Stray => "not read, another file has its number",
            Self::NeverSynced => "segment missing, it was never synced",
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.file, self.offset, self.kind)?;
        if self.length > 0 { write!(f, ", {} bytes", self.length) } else { Ok(()) }
    }
}

/// A segment and what its repair needs to know.
pub(super) struct Examined {
    pub segment: Segment,
    /// Where the sound part of a segment with nothing but a torn tail ends; 0 if that leaves no header.
    pub sound_bytes: u64,
    /// The ordinal that an end mark at `sound_bytes` would carry.
    pub records: u32,
}

/// Reads a file as the segment that its name says. `settled` says that it was sealed and synced once.
///
/// # Errors
/// [`JournalError::NewerFormat`]; [`JournalError::Read`] where trying again later may help. What the disk itself cannot
/// read any more is damage.
pub(super) fn read(disk: &dyn Disk, name: &SegmentName, settled: bool) -> Result<Examined, JournalError> {
    let file = name.to_string();
    match disk.read(&file) {
        Ok(content) => examine(name, &content, settled),
        Err(error) if is_medium_error(&error) => {
            let damage = Damage { file: file.clone(), offset: 0, length: 0, kind: DamageKind::Unreadable };
            let segment = Segment {
                no: name.no,
                file,
                content: Content::new(name.kind),
                sealed: false,
                damage: vec![damage],
                records_missing: 0,
                bytes: 0,
            };
            Ok(Examined { segment, sound_bytes: 0, records: 0 })
        }
        Err(source) => Err(JournalError::Read { file, source }),
    }
}

/// Errors that say that the bytes are gone (EIO, EBADMSG, EUCLEAN), not that they could not be got at.
fn is_medium_error(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::IO, Errno::BADMSG, Errno::UCLEAN].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Reads a file's bytes. Any bytes will do; it never panics.
pub(super) fn examine(name: &SegmentName, bytes: &[u8], settled: bool) -> Result<Examined, JournalError> {
    let file = name.to_string();
    let header = Header::decode(bytes);
    if let Err(BadHeader::Version(version)) = header {
        return Err(JournalError::NewerFormat { file, version });
    }
    // A file under another segment's name is read as what it says it is.
    let own = header.map_or(*name, |header| header.name);
    let mut found = scan(bytes, HEADER_BYTES, own.checksum_seed());
    let mut sound_bytes = bytes.len();
    if header.is_err() || own != *name {
        let nothing_behind = found.payloads.is_empty() && !found.sealed;
        if header.is_err() && nothing_behind {
            found.bad = vec![Bad { range: 0..bytes.len(), kind: BadKind::Tail }];
        } else {
            match found.bad.first_mut() {
                Some(first) if first.range.start == HEADER_BYTES && first.kind == BadKind::Middle => first.range.start = 0,
                _ => found.bad.insert(0, Bad { range: 0..HEADER_BYTES, kind: BadKind::Middle }),
            }
        }
    }
    if let Some(Bad { range, kind: BadKind::Tail }) = found.bad.last() {
        sound_bytes = range.start;
    }
    let mut content = Content::new(own.kind);
    for payload in found.payloads {
        if !content.push(&bytes[payload.clone()]) {
            // Its checksum is right, so it was written like that: by another version that had the same number.
            found.bad.push(Bad { range: payload, kind: BadKind::Middle });
            found.records_missing += 1;
        }
    }
    let mut damage: Vec<_> = found.bad.iter().map(|bad| damage_of(&file, bad, settled)).collect();
    damage.sort();
    if settled && !found.sealed && !damage.iter().any(|damage| damage.kind == DamageKind::CutOff) {
        damage.push(Damage { file: file.clone(), offset: bytes.len() as u64, length: 0, kind: DamageKind::CutOff });
    }
    let segment = Segment {
        no: name.no,
        file,
        content,
        sealed: found.sealed,
        damage,
        records_missing: found.records_missing,
        bytes: bytes.len() as u64,
    };
    Ok(Examined { segment, sound_bytes: sound_bytes as u64, records: found.next_ordinal })
}

fn damage_of(file: &str, Bad { range, kind }: &Bad, settled: bool) -> Damage {
    let Range { start, end } = *range;
    let kind = match kind {
        BadKind::Middle => DamageKind::Corrupt,
        BadKind::Tail if settled => DamageKind::CutOff,
        BadKind::Tail => DamageKind::TornTail,
        BadKind::Duplicate => DamageKind::Duplicate,
        BadKind::AfterEnd => DamageKind::AfterEnd,
    };
    Damage { file: file.to_owned(), offset: start as u64, length: (end - start) as u64, kind }
}
