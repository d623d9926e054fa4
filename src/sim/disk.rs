//! The journal's disk as the simulation sees it: a [`MemoryDisk`] whose every call is seen, can fail, and can be the last.

use std::io;
use std::sync::Arc;

use super::observation::{Answer, Seen};
use super::shared::{Point, Shared};
use crate::event::Record;
use crate::journal::HEADER_BYTES;
use crate::journal::MemoryDisk;
use crate::journal::disk::{Disk, DiskFile};
use crate::journal::record::FRAME_HEADER_BYTES;
use crate::store::HistoryBatch;

/// See the module.
#[derive(Clone)]
pub struct SimDisk {
    disk: MemoryDisk,
    shared: Shared,
}

impl SimDisk {
    /// Over a disk.
    #[must_use]
    pub fn new(disk: MemoryDisk, shared: Shared) -> Self {
        Self { disk, shared }
    }

    /// Makes a call, or does not; `note` says what to see where it has an effect.
    fn call<T>(&self, call: impl FnOnce() -> io::Result<T>, note: impl FnOnce(Answer<()>) -> Option<Seen>) -> io::Result<T> {
        call_at(&self.shared, call, note)
    }
}

fn gone<T>() -> io::Result<T> {
    Err(io::Error::other("the process is gone"))
}

fn call_at<T>(
    shared: &Shared,
    call: impl FnOnce() -> io::Result<T>,
    note: impl FnOnce(Answer<()>) -> Option<Seen>,
) -> io::Result<T> {
    match shared.point(true) {
        Point::Never => {
            shared.die();
            gone()
        }
        Point::GoesUnseen => {
            let _ = call();
            if let Some(seen) = note(Answer::Unknown) {
                shared.see(seen);
            }
            shared.die();
            gone()
        }
        Point::Goes => {
            let result = call();
            // A failed write may have left something behind.
            let answer = if result.is_ok() { Answer::Acknowledged(()) } else { Answer::Unknown };
            if let Some(seen) = note(answer) {
                shared.see(seen);
            }
            result
        }
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.call(|| self.disk.list(), |_| None)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.call(|| self.disk.read(name), |_| None)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        // A file of which nobody knows whether it was made holds nothing that was promised.
        let made = |answer| (answer == Answer::Acknowledged(())).then(|| Seen::Created { file: Arc::from(name) });
        let file = self.call(|| self.disk.create(name), made)?;
        Ok(Box::new(SimFile { file, name: Arc::from(name), shared: Arc::clone(&self.shared) }))
    }

    fn open_append(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = self.call(|| self.disk.open_append(name), |_| None)?;
        Ok(Box::new(SimFile { file, name: Arc::from(name), shared: Arc::clone(&self.shared) }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(
            || self.disk.remove(name),
            |answer| (answer == Answer::Acknowledged(())).then(|| Seen::Removed { file: Arc::from(name) }),
        )
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(|| self.disk.rename(from, to), |_| None)
    }

    fn sync_directory(&self) -> io::Result<()> {
        let synced = |answer| (answer == Answer::Acknowledged(())).then_some(Seen::DirectorySynced);
        self.call(|| self.disk.sync_directory(), synced)
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        self.call(|| self.disk.free_bytes(), |_| None)
    }
}

struct SimFile {
    file: Box<dyn DiskFile>,
    name: Arc<str>,
    shared: Shared,
}

impl DiskFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { file, name, shared } = self;
        call_at(shared, || file.append(bytes), |answer| written(name, bytes, answer))
    }

    fn sync(&mut self) -> io::Result<()> {
        let Self { file, name, shared } = self;
        call_at(
            shared,
            || file.sync(),
            |answer| Some(Seen::Synced { file: Arc::clone(name), ok: answer == Answer::Acknowledged(()) }),
        )
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let Self { file, shared, .. } = self;
        call_at(shared, || file.truncate(length), |_| None)
    }
}

/// What an append wrote, if it is frames with records.
fn written(name: &Arc<str>, bytes: &[u8], answer: Answer<()>) -> Option<Seen> {
    let file = Arc::clone(name);
    if name.ends_with(".events") {
        let records: Vec<Record> = payloads(bytes).filter_map(|payload| postcard::from_bytes(payload).ok()).collect();
        (!records.is_empty()).then_some(Seen::Written { file, records, bytes: bytes.len(), answer })
    } else if name.ends_with(".history") {
        let batch: HistoryBatch = payloads(bytes).find_map(|payload| postcard::from_bytes(payload).ok())?;
        Some(Seen::HistoryWritten { file, batch: Box::new(batch), bytes: bytes.len(), answer })
    } else {
        None
    }
}

/// The payloads of the frames in an append, which may begin with the header of the file.
fn payloads(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = if bytes.starts_with(b"tidegate") { bytes.get(HEADER_BYTES..).unwrap_or_default() } else { bytes };
    std::iter::from_fn(move || {
        let length = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        if length == 0 {
            return None;
        }
        let end = FRAME_HEADER_BYTES.checked_add(length)?;
        let payload = rest.get(FRAME_HEADER_BYTES..end)?;
        rest = &rest[end..];
        Some(payload)
    })
}
