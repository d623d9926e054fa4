//! The journal: the buffer's other half, on disk. STUB until the branch is merged.
#![allow(missing_docs, unused_variables)]
pub mod disk;
use crate::clock::Timestamp;
use crate::event::Record;
use crate::journaling::Payload;
use crate::store::HistoryBatch;
use std::sync::Arc;
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentNo(pub u64);
impl SegmentNo {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    Events,
    History,
}
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("poisoned")]
    Poisoned { no: u64 },
    #[error("io")]
    Io,
}
impl JournalError {
    pub fn is_disk_full(&self) -> bool {
        false
    }
}
pub struct Segment {
    pub payload: Option<Payload>,
    pub bytes: u64,
}
#[derive(Debug, thiserror::Error)]
#[error("damage")]
pub struct Damage;
pub struct Journal;
impl Journal {
    pub fn open(disk: Arc<dyn disk::Disk>, now: Timestamp) -> Result<Reading, JournalError> {
        todo!()
    }
}
pub struct Reading;
impl Reading {
    pub fn segments_of(&self, kind: SegmentKind) -> Vec<SegmentNo> {
        todo!()
    }
    pub fn read(&mut self, no: SegmentNo) -> Result<Segment, JournalError> {
        todo!()
    }
    pub fn damage(&self) -> &[Damage] {
        todo!()
    }
    pub fn into_writer(self) -> Result<(Writer, SegmentNo), JournalError> {
        todo!()
    }
}
pub struct Writer;
impl Writer {
    pub fn append(&mut self, no: SegmentNo, kind: SegmentKind, frames: &[u8], records: u32) -> Result<(), JournalError> {
        todo!()
    }
    pub fn seal(&mut self, no: SegmentNo) -> Result<(), JournalError> {
        todo!()
    }
    pub fn sync(&mut self) -> Result<(), JournalError> {
        todo!()
    }
    pub fn remove(&mut self, no: SegmentNo) -> Result<(), JournalError> {
        todo!()
    }
    pub fn bytes(&self) -> u64 {
        todo!()
    }
    pub fn free_bytes(&self) -> std::io::Result<Option<u64>> {
        todo!()
    }
    pub fn read_back(&self, no: SegmentNo) -> Result<Payload, JournalError> {
        todo!()
    }
}
pub fn frame(record: &Record, out: &mut Vec<u8>) {
    todo!()
}
pub fn frame_history(batch: &HistoryBatch, out: &mut Vec<u8>) {
    todo!()
}
