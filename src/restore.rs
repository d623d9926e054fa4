//! Taking a backup back: `tidegate restore`. What becomes of the journal that lies beside the database is decided here.
//!
//! The journal holds events that the database which is replaced may have or not, and that the backup may have or not. Their ids
//! are keys, so a journal that stays is stored by the next start where it is missing, and nothing twice: that is what one wants of
//! a backup of the same recorder. A journal's records name endpoints by number, however, and a number of another database is
//! another master. So it stays only if the backup knows every endpoint of its records, and none as another one; else it is kept
//! aside, like the database.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::clock::Timestamp;
use crate::event::{EndpointId, Record};
use crate::journal::{Content, Journal, JournalError, RealDisk, SegmentKind};
use crate::store::{self, BackupError, Lineage, Restored, beside};

/// What was done with the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JournalFate {
    /// Its directory.
    pub directory: PathBuf,
    /// Events in it.
    pub events: usize,
    /// Where it is now; `None` where it stayed, and the next start stores its events.
    pub kept_aside: Option<PathBuf>,
}

/// Why a backup was not taken back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The files or the database.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The journal beside the database cannot be read. Nothing was changed.
    #[error("the journal of the present database: {0}; move {1} away to restore without it")]
    Journal(JournalError, PathBuf),
}

/// The end of the names under which something is kept aside: `.before-restore-20261125T183000Z`.
#[must_use]
pub fn suffix(now: Timestamp) -> String {
    now.to_utc().format(".before-restore-%Y%m%dT%H%M%SZ").to_string()
}

/// The suffix with which none of these has a file beside it yet: a second restore within a second gets a number.
fn free_suffix(now: Timestamp, paths: &[&Path]) -> String {
    let first = suffix(now);
    let numbered = (2_u64..).map(|nth| format!("{first}-{nth}"));
    let is_free = |suffix: &String| paths.iter().all(|path| !beside(path, suffix).exists());
    std::iter::once(first.clone()).chain(numbered).find(is_free).unwrap_or(first)
}

/// Makes the backup `file` the database at `database`; see [`store::restore`].
///
/// # Errors
/// [`RestoreError`].
pub fn run(
    file: &Path,
    database: &Path,
    journal: &Path,
    force: bool,
    now: Timestamp,
) -> Result<(Restored, Option<JournalFate>), RestoreError> {
    let suffix = free_suffix(now, &[database, journal]);
    let held = Held::read(journal).map_err(|error| RestoreError::Journal(error, journal.to_owned()))?;
    let mut fate = None;
    let restored = store::restore(file, database, force, &suffix, |lineage| {
        let Some(held) = held else { return Ok(()) };
        let kept_aside = if belongs(&held.endpoints, lineage) {
            None
        } else {
            let aside = beside(journal, &suffix);
            fs::rename(journal, &aside).map_err(|source| BackupError::File { path: journal.to_owned(), source })?;
            Some(aside)
        };
        fate = Some(JournalFate { directory: journal.to_owned(), events: held.events, kept_aside });
        Ok(())
    })?;
    Ok((restored, fate))
}

/// What a journal holds.
struct Held {
    events: usize,
    endpoints: BTreeSet<EndpointId>,
}

impl Held {
    /// `None` if there is no journal, or an empty one.
    fn read(directory: &Path) -> Result<Option<Self>, JournalError> {
        if !directory.exists() {
            return Ok(None);
        }
        let disk = RealDisk::open_read_only(directory)?;
        let mut reading = Journal::open(std::sync::Arc::new(disk))?;
        let mut held = Self { events: 0, endpoints: BTreeSet::new() };
        let mut empty = true;
        for kind in [SegmentKind::Events, SegmentKind::History] {
            for no in reading.segments_of(kind) {
                empty = false;
                match reading.read(no)?.content {
                    Content::Events(records) => {
                        held.events += records.len();
                        held.endpoints.extend(records.iter().map(Record::endpoint));
                    }
                    Content::History(batches) => {
                        let tunnels = batches.iter().flat_map(|batch| batch.rows.iter().map(|row| row.tunnel.endpoint));
                        held.endpoints.extend(tunnels);
                    }
                }
            }
        }
        Ok((!empty).then_some(held))
    }
}

/// Whether the numbers of these endpoints mean in the backup what they meant in the database that is replaced.
fn belongs(endpoints: &BTreeSet<EndpointId>, lineage: &Lineage) -> bool {
    endpoints.iter().all(|endpoint| match (lineage.backup.get(&endpoint.0), lineage.present.get(&endpoint.0)) {
        (Some(backup), Some(present)) => backup == present,
        // Removed since, or the database is lost.
        (Some(_), None) => true,
        (None, _) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_stays_only_where_its_endpoints_are_the_backups() {
        let of = |endpoints: &[i32], backup: &[(i32, i64)], present: &[(i32, i64)]| {
            let endpoints = endpoints.iter().copied().map(EndpointId).collect();
            belongs(&endpoints, &Lineage { backup: backup.iter().copied().collect(), present: present.iter().copied().collect() })
        };
        assert!(of(&[], &[], &[]));
        assert!(of(&[1], &[(1, 10)], &[(1, 10), (2, 20)]), "a backup of the same database");
        assert!(of(&[1], &[(1, 10)], &[]), "the database is lost");
        assert!(!of(&[1, 2], &[(1, 10)], &[(1, 10), (2, 20)]), "an endpoint that was added since");
        assert!(!of(&[1], &[(1, 10)], &[(1, 11)]), "another database's endpoint of that number");
    }

    #[test]
    fn a_second_restore_within_a_second_keeps_aside_under_another_name() {
        let directory = tempfile::tempdir().unwrap();
        let (database, journal) = (directory.path().join("t.db"), directory.path().join("t.db.journal"));
        let free = || free_suffix(Timestamp(0), &[&database, &journal]);
        let first = free();
        assert_eq!(first, suffix(Timestamp(0)));
        fs::write(beside(&database, &first), "").unwrap();
        let second = free();
        assert_eq!(second, format!("{first}-2"));
        fs::create_dir(beside(&journal, &second)).unwrap();
        assert_eq!(free(), format!("{first}-3"));
    }

    #[test]
    fn what_is_kept_aside_is_named_after_the_instant() {
        assert_eq!(suffix(Timestamp(1_795_631_400_000_000)), ".before-restore-20261125T183000Z");
    }
}
