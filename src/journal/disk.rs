//! The only way to disk: a trait, so that a test or the simulation can lose, tear and refuse what was not synced.

use std::io;

/// A directory of flat files, as much of one as the journal needs. Names are file names without a path.
///
/// What a file system promises, and what the journal relies on: bytes are durable after [`DiskFile::sync`], a file's
/// being there (or gone) after [`Disk::sync_directory`]; before that a crash may keep or lose either, and may keep any part of
/// the bytes that were written.
pub trait Disk: Send + Sync + 'static {
    /// Names of all files, in any order.
    ///
    /// # Errors
    /// As the system gives them; so do all other calls.
    fn list(&self) -> io::Result<Vec<String>>;
    /// The whole content of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Makes a new file, open for appending.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if it is there.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for appending.
    fn open_append(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Gives a file another name, replacing a file of that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes creations, removals and renamings durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Bytes that can still be written to the file system by this user; `None` where that cannot be known.
    fn free_bytes(&self) -> io::Result<Option<u64>>;
}

/// A file open for appending.
pub trait DiskFile: Send {
    /// Appends all of `bytes`, or some of them and an error.
    ///
    /// # Errors
    /// As the system gives them; so do all other calls.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was appended durable. After an error nothing is known of what was appended since the last sync.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `length` bytes.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}
