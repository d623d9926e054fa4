//! What is set aside: copies of damaged bytes, bounded, for a person to look at.

use std::io;

use crate::journal::disk::Disk;
use crate::journal::reader::Damage;
use crate::journal::segment::{Aside, SegmentName};

/// Most files of damaged bytes that are kept.
pub const SET_ASIDE_FILES_MAX: usize = 64;

/// Most damaged bytes that are kept.
pub const SET_ASIDE_BYTES_MAX: u64 = 64 << 20;

/// What became of damaged bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// In this file since now; durable once the directory is synced.
    Now(String),
    /// They were kept before.
    Before,
    /// The bound is reached: this many are only counted.
    TooMany(u64),
}

/// The evidence that is kept already, and room for more.
pub(super) struct Evidence<'a> {
    disk: &'a dyn Disk,
    files: usize,
    bytes: u64,
}

impl<'a> Evidence<'a> {
    /// `aside` are the files that are there.
    pub fn new(disk: &'a dyn Disk, aside: &[(String, SegmentName, Aside)]) -> Self {
        let damaged = aside.iter().filter(|(.., aside)| *aside == Aside::Damaged);
        let bytes = damaged.map(|(file, ..)| disk.read(file).map_or(0, |bytes| bytes.len() as u64)).sum();
        Self { disk, files: aside.len(), bytes }
    }

    /// Keeps a copy of one damaged stretch of a segment with this content.
    ///
    /// # Errors
    /// The disk's, of the copy, or of looking for a name that is free.
    pub fn keep(&mut self, name: SegmentName, damage: &Damage, content: &[u8]) -> io::Result<Kept> {
        let Some(bytes) = slice(content, damage) else { return Ok(Kept::Before) };
        let mut free = None;
        let mut unread = None;
        // One name more than there can be files. A disk that fails whatever it is asked has no end of them.
        for file in (0..=SET_ASIDE_FILES_MAX).map(|copy| name.set_aside(damage.offset, copy)) {
            match self.disk.read(&file) {
                Ok(kept) if kept == bytes => return Ok(Kept::Before),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    free = Some(file);
                    break;
                }
                Err(error) => unread = Some(error),
            }
        }
        let Some(file) = free else { return unread.map_or(Ok(Kept::TooMany(damage.length)), Err) };
        if self.files >= SET_ASIDE_FILES_MAX || self.bytes + damage.length > SET_ASIDE_BYTES_MAX {
            return Ok(Kept::TooMany(damage.length));
        }
        let mut handle = self.disk.create(&file)?;
        if let Err(error) = handle.append(bytes).and_then(|()| handle.sync()) {
            // Half a copy proves nothing; what it was taken from stays as it is.
            let _ = self.disk.remove(&file);
            return Err(error);
        }
        self.files += 1;
        self.bytes += damage.length;
        Ok(Kept::Now(file))
    }
}

fn slice<'b>(content: &'b [u8], damage: &Damage) -> Option<&'b [u8]> {
    let start = usize::try_from(damage.offset).ok()?;
    content.get(start..start + usize::try_from(damage.length).ok()?)
}
