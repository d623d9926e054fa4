//! A directory of the machine's file system.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::journal::JournalError;
use crate::journal::disk::{Disk, DiskFile};

/// Name of the file whose lock says that a process uses the directory; it holds that process's id.
const LOCK_FILE: &str = "lock";
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A directory that this process has for itself, or only reads.
///
/// Files and directories that it makes are the user's own: what masters send is private.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
    /// Held for as long as the disk lives; `None` if it was opened to be read.
    lock: Option<File>,
}

impl RealDisk {
    /// Opens a directory for this process alone; makes it, and makes that durable, if it is not there.
    ///
    /// # Errors
    /// [`JournalError::InUse`] if another process has it; [`JournalError::Directory`] if it cannot be made or written.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Directory { directory: directory.to_owned(), source };
        create_directory(directory).map_err(failed)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(directory.join(LOCK_FILE))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Without the number the message is poorer, and no less true.
                let _ = lock.read_to_string(&mut holder);
                return Err(JournalError::InUse { directory: directory.to_owned(), pid: holder.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // The number is for people; a full disk must not keep the recorder from starting.
        let _ = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self { directory: directory.to_owned(), lock: Some(lock) })
    }

    /// Opens a directory to read it, also while a recorder uses it. Calls that would change something fail.
    ///
    /// # Errors
    /// [`JournalError::Directory`] if it is not there or cannot be read.
    pub fn open_read_only(directory: &Path) -> Result<Self, JournalError> {
        std::fs::read_dir(directory).map_err(|source| JournalError::Directory { directory: directory.to_owned(), source })?;
        Ok(Self { directory: directory.to_owned(), lock: None })
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn writable(&self) -> io::Result<()> {
        if self.lock.is_some() {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "the journal was opened to be read only"))
        }
    }
}

/// Makes a directory with its parents, each entered durably in the one above it.
fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_directory(parent)?;
    match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            // A name that is not UTF-8 is not ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.directory.join(name))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.writable()?;
        let file = OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(self.directory.join(name))?;
        Ok(Box::new(RealFile(file)))
    }

    fn open_append(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.writable()?;
        Ok(Box::new(RealFile(OpenOptions::new().append(true).open(self.directory.join(name))?)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.writable()?;
        std::fs::remove_file(self.directory.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.writable()?;
        std::fs::rename(self.directory.join(from), self.directory.join(to))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        let stats = rustix::fs::statvfs(&self.directory)?;
        Ok(Some(stats.f_bavail.saturating_mul(stats.f_frsize)))
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        // The file's length is synced with its data; times of change are not needed.
        self.0.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_is_made_for_the_user_alone_and_files_in_it_too() {
        let temp = tempfile::tempdir().unwrap();
        let directory = temp.path().join("a").join("journal");
        let disk = RealDisk::open(&directory).unwrap();
        disk.create("file").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join("file")), mode(&directory.join(LOCK_FILE))), (0o700, 0o600, 0o600));
    }

    #[test]
    fn a_second_opener_is_refused_with_the_first_one_s_pid_until_that_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        let first = RealDisk::open(temp.path()).unwrap();
        match RealDisk::open(temp.path()) {
            Err(JournalError::InUse { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(first);
        RealDisk::open(temp.path()).unwrap();
    }

    #[test]
    fn a_reader_is_let_in_beside_a_recorder_and_can_change_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(temp.path()).unwrap();
        disk.create("file").unwrap().append(b"bytes").unwrap();
        let reader = RealDisk::open_read_only(temp.path()).unwrap();
        assert_eq!(reader.read("file").unwrap(), b"bytes");
        assert_eq!(reader.remove("file").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(reader.create("other").is_err() && reader.open_append("file").is_err() && reader.rename("file", "b").is_err());
        assert!(RealDisk::open_read_only(&temp.path().join("absent")).is_err());
    }

    #[test]
    fn files_are_appended_to_cut_listed_renamed_and_removed() {
        let temp = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(temp.path()).unwrap();
        let mut file = disk.create("one").unwrap();
        assert_eq!(disk.create("one").err().map(|error| error.kind()), Some(io::ErrorKind::AlreadyExists));
        file.append(b"12345").unwrap();
        file.truncate(3).unwrap();
        file.append(b"x").unwrap();
        file.sync().unwrap();
        disk.open_append("one").unwrap().append(b"y").unwrap();
        disk.sync_directory().unwrap();
        assert_eq!(disk.read("one").unwrap(), b"123xy");
        disk.rename("one", "two").unwrap();
        let mut names = disk.list().unwrap();
        names.sort();
        assert_eq!(names, [LOCK_FILE, "two"]);
        disk.remove("two").unwrap();
        assert!(disk.read("two").is_err());
        assert!(disk.free_bytes().unwrap().unwrap() > 0);
    }

    #[test]
    fn a_journal_on_it_outlives_its_writer() {
        use std::sync::Arc;

        use crate::journal::{Frames, Journal, Run, SegmentKind, samples};

        let temp = tempfile::tempdir().unwrap();
        for run in 1..=3 {
            let disk = Arc::new(RealDisk::open(temp.path()).unwrap());
            let mut reading = Journal::open(disk).unwrap();
            let mut read = 0;
            while let Some(segment) = reading.next_segment().unwrap() {
                assert_eq!(segment.damage, []);
                read += segment.content.len();
            }
            assert_eq!(read, (run as usize - 1) * 2);
            let (mut writer, _) = reading.into_writer(Run(run)).unwrap();
            let mut frames = Frames::new(SegmentKind::Events);
            for nth in 0..2 {
                frames.push(&samples::report(i64::from(run) * 2 + nth)).unwrap();
            }
            writer.append(writer.next_no(), &mut frames).unwrap();
            writer.sync().unwrap();
        }
    }
}
