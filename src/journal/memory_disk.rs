//! A disk in memory that crashes, fails and fills up on demand: for tests and the simulation.
//!
//! What it holds it to, in the way of `turmoil-fs`: a file's bytes are *pending* until [`DiskFile::sync`], its entry in
//! the directory until [`Disk::sync_directory`]; the process sees both at once. [`MemoryDisk::crash`] decides by the given
//! random numbers what of the pending becomes real: per file nothing, all, a part that ends at any byte, or blocks out of
//! order with zeros, old bytes and noise between them; per entry whether its change took place, in any combination. Bytes
//! that were synced are never touched. A sync that fails loses the pending bytes for good, as on Linux: the process goes
//! on seeing them until the system needs the memory ([`MemoryDisk::forget`]), a later sync succeeds, and the crash brings zeros. The same calls with the same numbers give the same disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::journal::disk::{Disk, DiskFile};
use inode::Inode;

mod inode;

/// A call of [`Disk`] or [`DiskFile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// [`Disk::list`].
    List,
    /// [`Disk::read`].
    Read,
    /// [`Disk::create`].
    Create,
    /// [`Disk::open_append`].
    OpenAppend,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::sync_directory`].
    SyncDirectory,
    /// [`Disk::free_bytes`].
    FreeBytes,
    /// [`DiskFile::append`].
    Append,
    /// [`DiskFile::sync`].
    Sync,
    /// [`DiskFile::truncate`].
    Truncate,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The system's number of the error.
    pub errno: i32,
    /// How many bytes an append writes before it fails; at most all of them.
    pub after_bytes: usize,
}

impl Fault {
    /// No space left on the device.
    pub const FULL: Self = Self { errno: 28, after_bytes: 0 };
    /// Input/output error.
    pub const BROKEN: Self = Self { errno: 5, after_bytes: 0 };

    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

/// Is told every call and the file's name (empty for calls about the directory) before it is carried out; an error
/// that it returns is the call's. It may crash the disk.
pub type Hook = Box<dyn FnMut(Call, &str) -> io::Result<()> + Send>;

/// The disk; clones are the same one.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<u64, Inode>,
    files_made: u64,
    /// As the process sees the directory.
    entries: BTreeMap<String, u64>,
    entries_synced: BTreeMap<String, u64>,
    entries_pending: Vec<EntryChange>,
    faults: BTreeMap<Call, VecDeque<Fault>>,
    capacity_bytes: Option<u64>,
    /// Files opened before the last crash are dead.
    crashes: u64,
}

#[derive(Clone)]
enum EntryChange {
    Create(String, u64),
    Remove(String),
    Rename(String, String),
}

impl MemoryDisk {
    /// An empty disk without a bound.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Power is lost and comes back: what was not synced is kept or lost as `random` says, open files are dead,
    /// injected faults that were not met are gone.
    pub fn crash(&self, random: &mut fastrand::Rng) {
        let mut state = self.state();
        let pending = std::mem::take(&mut state.entries_pending);
        let mut entries = std::mem::take(&mut state.entries_synced);
        let keep_until = match random.u8(..3) {
            0 => pending.len(),
            1 => random.usize(..=pending.len()),
            _ => usize::MAX,
        };
        for (nth, change) in pending.iter().enumerate() {
            let keep = if keep_until == usize::MAX { random.bool() } else { nth < keep_until };
            if keep {
                change.apply(&mut entries);
            }
        }
        state.restart_with(entries, |inode| inode.after_crash(random));
    }

    /// The process dies and the machine does not: nothing is lost, open files are dead, injected faults are gone. What was
    /// not synced can still be lost by a later crash.
    pub fn kill(&self) {
        let mut state = self.state();
        state.crashes += 1;
        state.faults.clear();
    }

    /// The system drops from memory what it holds for clean: where a sync failed, processes see zeros from now on. True if a file's
    /// bytes changed.
    pub fn forget(&self) -> bool {
        self.state().files.values_mut().map(Inode::forget).filter(|changed| *changed).count() > 0
    }

    /// Makes the next `times` calls of a kind fail.
    pub fn fail(&self, call: Call, fault: Fault, times: usize) {
        self.state().faults.entry(call).or_default().extend(std::iter::repeat_n(fault, times));
    }

    /// Forgets the faults that were not met yet.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Bounds the bytes of all files; `None` takes the bound away.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity_bytes = bytes;
    }

    /// Calls `hook` before each call from now on; `None` ends that.
    pub fn set_hook(&self, hook: Option<Hook>) {
        *self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// Changes a file's bytes behind everybody's back, durably: decay, or another hand. Makes the file if need be.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let number = state.entries.get(name).copied().unwrap_or_else(|| {
            let number = state.make_file(name);
            state.entries_synced.insert(name.to_owned(), number);
            state.entries_pending.pop();
            number
        });
        if let Some(inode) = state.files.get_mut(&number) {
            change(&mut inode.content);
            *inode = Inode::settled(std::mem::take(&mut inode.content));
        }
    }

    /// Names of all files, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.state().entries.keys().cloned().collect()
    }

    /// Bytes in all files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks hook and faults; the fault of an append is returned, since it may write something first.
    fn before(&self, call: Call, name: &str) -> io::Result<Option<Fault>> {
        if let Some(hook) = self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            hook(call, name)?;
        }
        let fault = self.state().faults.get_mut(&call).and_then(VecDeque::pop_front);
        match fault {
            Some(fault) if call != Call::Append && call != Call::Sync => Err(fault.error()),
            fault => Ok(fault),
        }
    }

    fn file(&self, name: &str, number: u64, crashes: u64) -> Box<dyn DiskFile> {
        Box::new(MemoryFile { disk: self.clone(), name: name.to_owned(), number, crashes })
    }
}

impl State {
    fn make_file(&mut self, name: &str) -> u64 {
        self.files_made += 1;
        let number = self.files_made;
        self.files.insert(number, Inode::default());
        self.change_entry(EntryChange::Create(name.to_owned(), number));
        number
    }

    fn change_entry(&mut self, change: EntryChange) {
        change.apply(&mut self.entries);
        self.entries_pending.push(change);
    }

    fn restart_with(&mut self, entries: BTreeMap<String, u64>, mut file: impl FnMut(&Inode) -> Vec<u8>) {
        self.files =
            entries.values().filter_map(|number| Some((*number, Inode::settled(file(self.files.get(number)?))))).collect();
        self.entries_synced.clone_from(&entries);
        self.entries = entries;
        self.faults.clear();
        self.crashes += 1;
    }

    fn used_bytes(&self) -> u64 {
        self.entries.values().filter_map(|number| self.files.get(number)).map(|inode| inode.content.len() as u64).sum()
    }

    fn number(&self, name: &str) -> io::Result<u64> {
        self.entries.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl EntryChange {
    fn apply(&self, entries: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create(name, number) => {
                entries.insert(name.clone(), *number);
            }
            Self::Remove(name) => {
                entries.remove(name);
            }
            Self::Rename(from, to) => {
                if let Some(number) = entries.remove(from) {
                    entries.insert(to.clone(), number);
                }
            }
        }
    }
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.before(Call::List, "")?;
        Ok(self.names())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.before(Call::Read, name)?;
        let state = self.state();
        let number = state.number(name)?;
        Ok(state.files[&number].content.clone())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.before(Call::Create, name)?;
        let mut state = self.state();
        if state.entries.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = state.make_file(name);
        Ok(self.file(name, number, state.crashes))
    }

    fn open_append(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.before(Call::OpenAppend, name)?;
        let state = self.state();
        Ok(self.file(name, state.number(name)?, state.crashes))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.before(Call::Remove, name)?;
        let mut state = self.state();
        state.number(name)?;
        state.change_entry(EntryChange::Remove(name.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.before(Call::Rename, from)?;
        let mut state = self.state();
        state.number(from)?;
        state.change_entry(EntryChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.before(Call::SyncDirectory, "")?;
        let state = &mut *self.state();
        state.entries_synced.clone_from(&state.entries);
        state.entries_pending.clear();
        let used: BTreeSet<u64> = state.entries.values().copied().collect();
        state.files.retain(|number, _| used.contains(number));
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        self.before(Call::FreeBytes, "")?;
        let state = self.state();
        Ok(state.capacity_bytes.map(|capacity| capacity.saturating_sub(state.used_bytes())))
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    name: String,
    number: u64,
    crashes: u64,
}

impl MemoryFile {
    fn with_inode<T>(&self, state: &mut State, work: impl FnOnce(&mut Inode) -> T) -> io::Result<T> {
        if self.crashes != state.crashes {
            return Err(io::Error::other("the file was opened before the crash"));
        }
        let inode = state.files.get_mut(&self.number).ok_or(io::ErrorKind::NotFound)?;
        Ok(work(inode))
    }
}

impl DiskFile for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fault = self.disk.before(Call::Append, &self.name)?;
        let mut state = self.disk.state();
        let room = state.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used_bytes()));
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let (length, fault) = match fault {
            Some(fault) => (fault.after_bytes.min(bytes.len()).min(room), Some(fault)),
            None if room < bytes.len() => (room, Some(Fault::FULL)),
            None => (bytes.len(), None),
        };
        self.with_inode(&mut state, |inode| inode.append(&bytes[..length]))?;
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn sync(&mut self) -> io::Result<()> {
        let fault = self.disk.before(Call::Sync, &self.name)?;
        let mut state = self.disk.state();
        match fault {
            None => self.with_inode(&mut state, Inode::sync),
            Some(fault) => {
                self.with_inode(&mut state, Inode::fail_sync)?;
                Err(fault.error())
            }
        }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.disk.before(Call::Truncate, &self.name)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.with_inode(&mut self.disk.state(), |inode| inode.truncate(length))
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let files = state.entries.iter().map(|(name, number)| (name, state.files[number].content.len()));
        f.debug_map().entries(files).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file is after a crash, for 200 seeds; `None` where it is gone.
    fn outcomes(prepare: impl Fn(&MemoryDisk)) -> Vec<Option<Vec<u8>>> {
        (0..200)
            .map(|seed| {
                let disk = MemoryDisk::new();
                prepare(&disk);
                disk.crash(&mut fastrand::Rng::with_seed(seed));
                disk.read("file").ok()
            })
            .collect()
    }

    #[test]
    fn what_was_synced_with_its_entry_survives_every_crash() {
        let all = outcomes(|disk| {
            let mut file = disk.create("file").unwrap();
            file.append(b"synced").unwrap();
            file.sync().unwrap();
            disk.sync_directory().unwrap();
            file.append(&[b'x'; 2_000]).unwrap();
        });
        assert!(all.iter().all(|bytes| bytes.as_ref().is_some_and(|bytes| bytes.starts_with(b"synced"))));
        let lengths: std::collections::BTreeSet<_> = all.iter().flatten().map(Vec::len).collect();
        assert!(lengths.len() > 50 && lengths.contains(&6) && lengths.contains(&2_006), "{lengths:?}");
    }

    #[test]
    fn an_entry_that_was_not_synced_is_sometimes_lost_although_the_file_was_synced() {
        let all = outcomes(|disk| {
            let mut file = disk.create("file").unwrap();
            file.append(b"synced").unwrap();
            file.sync().unwrap();
        });
        assert!(all.contains(&None) && all.contains(&Some(b"synced".to_vec())));
    }

    #[test]
    fn a_removal_that_was_not_synced_is_sometimes_undone() {
        let all = outcomes(|disk| {
            disk.edit("file", |bytes| bytes.push(1));
            disk.remove("file").unwrap();
        });
        assert!(all.contains(&None) && all.contains(&Some(vec![1])));
    }

    #[test]
    fn bytes_of_a_failed_sync_are_seen_by_the_process_and_never_after_a_crash_even_if_a_later_sync_succeeds() {
        let disk = MemoryDisk::new();
        let mut file = disk.create("file").unwrap();
        disk.sync_directory().unwrap();
        file.append(b"lost").unwrap();
        disk.fail(Call::Sync, Fault::BROKEN, 1);
        assert!(file.sync().is_err());
        file.append(b"kept").unwrap();
        file.sync().unwrap();
        assert_eq!(disk.read("file").unwrap(), b"lostkept");
        disk.crash(&mut fastrand::Rng::with_seed(1));
        assert_eq!(disk.read("file").unwrap(), b"\0\0\0\0kept");
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_reports_it() {
        let disk = MemoryDisk::new();
        disk.set_capacity(Some(10));
        let mut file = disk.create("file").unwrap();
        file.append(b"1234567").unwrap();
        assert_eq!(file.append(b"abcdef").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!((disk.read("file").unwrap(), disk.free_bytes().unwrap()), (b"1234567abc".to_vec(), Some(0)));
    }

    #[test]
    fn the_hook_sees_each_call_and_can_fail_it_and_a_dead_file_stays_dead() {
        let disk = MemoryDisk::new();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&calls);
        disk.set_hook(Some(Box::new(move |call, name| {
            seen.lock().unwrap().push((call, name.to_owned()));
            if call == Call::Remove { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
        })));
        let mut file = disk.create("file").unwrap();
        assert!(disk.remove("file").is_err());
        disk.kill();
        assert!(file.append(b"late").is_err());
        assert_eq!(calls.lock().unwrap()[..2], [(Call::Create, "file".to_owned()), (Call::Remove, "file".to_owned())]);
    }

    #[test]
    fn the_same_seed_gives_the_same_disk() {
        let crash =
            |seed: u8| outcomes(|disk| disk.create("file").unwrap().append(&[7; 5_000]).unwrap())[usize::from(seed)].clone();
        assert_eq!(crash(3), crash(3));
    }
}
