//! The journal: the buffer's other half, on disk.
//!
//! # What it is for
//! A record that was received exists in memory and in the journal; it may wait there for an hour, or for as long as the
//! database is away. A killed process loses nothing of it, a killed machine what was written since the last sync. Only
//! the BufferActor writes here; the journal knows nothing of batches, bounds, causes or time.
//!
//! # Files
//! One directory holds, beside the lock file:
//! - *segments*, `00000000000000000042-1f3a9c20.events` or `.history`: number, run, kind ([`SegmentName`] alone builds
//!   and parses this). A segment is a batch: the events of one flush, or one batch of closed history windows. Numbers
//!   count up by one over both kinds. The run differs with each start of the program.
//! - what was *set aside*: `SEGMENT.at0000001234.damaged` (bytes from that offset) and `SEGMENT.unreadable`;
//! - `sync-failed`, empty, after a failed sync, and for moments `written-anew` at the start after that.
//!
//! A segment is a [`Header`] (36 bytes: version, name, *settled through*), frames, and an end mark. A frame is 14 bytes and
//! a record in postcard ([`record`] describes it). The end mark says how many records there are. *Settled through* is a
//! number: when the header was written, every segment up to it was sealed and synced, or gone. A flag in it says that the file with
//! the number before was there, and its entry synced.
//!
//! # States
//! ```text
//! Journal::open -> Reading -- next_segment() or read() --> into_writer() -> Writer
//!                  changes nothing                         repairs, once    appends to new segments only
//! ```
//! One may not append before all has been read (what the caller did not read, `into_writer` does), and not read on once one
//! appends: the types see to it. A segment of an
//! earlier run is never given another record; new ones go under numbers above all that were found.
//!
//! # What is assumed of a file system
//! - Bytes are durable once the file is synced, a file's entry once the directory is; nothing else is. What was not
//!   synced may be there after a crash, or not, or in part, blocks in any order, with zeros or noise for the rest; an
//!   entry (its making, its removal) likewise. Bytes that were synced stay as they are when later bytes are torn.
//! - What one process writes, another reads after the first one was killed. (A network file system that does not give that is
//!   not a place for a journal, nor for SQLite.)
//! - After a failed sync nothing is known of what it was to make durable, also if a later one succeeds: Linux drops the
//!   bytes and tells one caller, once. So the segment is *poisoned*: nothing is appended to it any more, and the next segment
//!   must be made durable with its entry before it takes records. The process that comes after this one sees the bytes in
//!   memory too, and a sync of its own would succeed without writing them. So a file `sync-failed` tells it, and it writes
//!   every segment that was not settled anew, to a new file, before it builds on it. What memory has dropped by then
//!   is damage like any other: it is seen, counted and reported.
//!
//! # What a crash leaves, and what repair does
//! Everything up to *settled through* was durable: what is wrong there was not done by a crash. Above it, in each
//! segment that was not synced when the machine stopped:
//! - *torn tail*: bytes behind the last sound frame, no end mark. They are set aside, cut off, and the segment gets its end mark.
//! - *no tail, no end mark*: the usual trace of a kill. The segment gets its end mark.
//! - *bytes that are no frame, with sound frames behind them*: corruption, or blocks written out of order. They are set
//!   aside, the sound frames around them are read, and the segment is left exactly as it is.
//! - *a number that is missing* between two that are there: corruption up to *settled through* and where the header behind it
//!   says that it was there for good, else a file whose entry was never synced. (Segments are removed from the front, in order, and a removal is synced before the next one: a
//!   removed segment is never mistaken for a lost one. A file missing at either end is not seen here; the ids in `flushes` are.)
//!
//! The end mark of a settled segment tells its loss (*cut off*) from a torn tail. A file that the disk refuses to give
//! back is renamed to `.unreadable` and left to a person; errors that concern access and not the medium end the start
//! instead, before anything was changed.
//!
//! Repair deletes nothing and guesses nothing: it copies, syncs the copy, then cuts. Where it cannot (the disk is full)
//! the segment stays as it is, since nothing will be appended to it anyway, and the report says so. What is set aside is
//! bounded ([`SET_ASIDE_FILES_MAX`], [`SET_ASIDE_BYTES_MAX`]): the first evidence is kept, further bytes are only
//! counted, until someone moves the files away. The same holds for damage that a running recorder meets when it reads a batch
//! back ([`Writer::set_aside`]): the segment goes when its batch is stored, what was damaged in it stays.
//!
//! # Writing
//! Frames that arrive together go out in one write. A write that fails or falls short is cut off again, so that a refused
//! record does not come back; where even that fails the segment is poisoned. A segment whose first records are refused is
//! not begun. (Only a crash of the machine can undo the undoing and bring refused records back: then the journal holds
//! more than it said, never less.) Reading never trusts a length, an
//! ordinal or a count that its checksum does not cover, and no bytes whatsoever make it panic.

use std::io;
use std::path::PathBuf;

mod aside;
mod check;
pub mod disk;
mod memory_disk;
mod reader;
mod real_disk;
pub mod record;
mod recovery;
#[cfg(test)]
pub(crate) mod samples;
mod scan;
mod segment;
mod writer;

pub use aside::{SET_ASIDE_BYTES_MAX, SET_ASIDE_FILES_MAX};
pub use check::{CheckReport, Recorder, SegmentReport, verify};
pub use disk::{Disk, DiskFile};
pub use memory_disk::{Call, Fault, Hook, MemoryDisk};
pub use reader::{Content, Damage, DamageKind, Segment};
pub use real_disk::RealDisk;
pub use record::{Frames, TooLarge};
pub use recovery::{Journal, Reading, RepairReport};
pub use segment::{Aside, BadHeader, FORMAT_VERSION, HEADER_BYTES, Header, Run, SegmentKind, SegmentName, SegmentNo};
pub use writer::{Phase, SegmentStatus, Writer};

/// The journal could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// At start: another recorder uses the directory. Nothing is lost; stop it, or give this one another directory.
    #[error("the journal in {} is in use{}; stop it first, or give another journal.dir", directory.display(), holder(*pid))]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The other process, if it can be told.
        pid: Option<u32>,
    },
    /// At start: the directory cannot be made, or not with the rights that this user has. Nothing was changed.
    #[error("the journal directory {} cannot be used: {source}; check journal.dir, its owner and its rights", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// At start: a newer version of the program wrote this. Nothing was changed; start that version, and let it drain.
    #[error("{file} has journal format {version}, this program knows {FORMAT_VERSION}; start the version that wrote it")]
    NewerFormat {
        /// The file.
        file: String,
        /// Its format.
        version: u16,
    },
    /// At start or when a batch is read back: no access, too many open files, or the file is gone. Nothing was changed.
    #[error("{file} cannot be read: {source}")]
    Read {
        /// The file, or the directory.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// At the end of the repair: the directory could not be synced, so nothing may be built on it. Start again.
    #[error("the journal could not be made durable after its repair: {source}")]
    Repair {
        /// Why.
        source: io::Error,
    },
    /// A new segment could not be begun: the disk is full or broken. The records of this call are not in the journal.
    #[error("{file} could not be begun: {source}")]
    Begin {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A write failed or fell short, and was taken back. The records of this call are not in the journal.
    #[error("{file} could not be written: {source}")]
    Write {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A sync failed. What the segments hold is in memory and may be on disk: a crash of the machine before it is in the
    /// database loses it. They are poisoned; a failing disk needs a person.
    #[error("the journal could not be synced ({} segments concerned): {source}; the disk may be failing", segments.len())]
    SyncFailed {
        /// The segments concerned; empty if it was about the directory or a new segment that was taken back.
        segments: Vec<SegmentNo>,
        /// Why.
        source: io::Error,
    },
    /// The segment failed before. The records of this call are not in the journal; begin a new segment.
    #[error("journal segment {no} takes no more records since it failed")]
    Poisoned {
        /// The segment.
        no: SegmentNo,
    },
    /// There is no open segment of that number and kind: a mistake of the caller.
    #[error("journal segment {no} is not open")]
    NotOpen {
        /// The segment.
        no: SegmentNo,
    },
    /// Damage of a batch that was read back could not be kept for a person to look at. The batch is stored without it.
    #[error("damaged bytes of {file} could not be set aside: {source}")]
    SetAside {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A segment that is done with could not be removed; it takes room, and its records are skipped when they come
    /// back after a restart. Try again.
    #[error("{file} could not be removed: {source}")]
    Remove {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
}

impl JournalError {
    /// The file system has no room left (or the user's share of it is used up).
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Begin { source, .. } | Self::Write { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by pid {pid}"))
}
