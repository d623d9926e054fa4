//! One writer for one database, whichever process it is: recorder, import, restore or migration.
//!
//! SQLite: a file beside the database, `PATH.lock`, locked by the operating system and so released however its holder ends.
//! The file stays; it holds the pid of who locked it last. PostgreSQL: an advisory lock of the session. It goes with the
//! session, so that whoever reconnects has to take it again before writing ([`advisory`]).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use diesel::sql_types::{Bool, Text};
use diesel::{OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query};

use super::StoreError;
use super::connection::{DatabaseUrl, Phase, query_error};

/// Key of the advisory lock: `tidegate` in ASCII. It is PostgreSQL's per database, so two databases of one server do not
/// exclude each other.
const ADVISORY_KEY: i64 = i64::from_be_bytes(*b"tidegate");

/// The lock on an SQLite database. Released when dropped and when the process ends.
#[derive(Debug)]
pub struct FileLock {
    /// Locked as long as it is open.
    _file: File,
}

impl FileLock {
    /// Locks the database at `database`, which need not exist yet.
    ///
    /// # Errors
    /// [`Fatal`](super::StoreErrorKind::Fatal) if it is in use (the message names the pid), or if the lock file cannot be
    /// made for a reason that a person must mend.
    pub fn acquire(database: &Path) -> Result<Self, StoreError> {
        let path = lock_path(database);
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open().map_err(|error| io_error(&path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let holder = match file.read_to_string(&mut pid) {
                    Ok(_) if !pid.trim().is_empty() => format!("pid {}", pid.trim()),
                    _ => "another process".to_owned(),
                };
                return Err(in_use(&database.display().to_string(), &holder));
            }
            Err(TryLockError::Error(error)) => return Err(io_error(&path, &error)),
        }
        write_pid(&mut file).map_err(|error| io_error(&path, &error))?;
        Ok(Self { _file: file })
    }
}

/// `PATH.lock`, the same for every way of writing the path of a database that exists.
fn lock_path(database: &Path) -> PathBuf {
    let mut path = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned()).into_os_string();
    path.push(".lock");
    path.into()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn io_error(path: &Path, error: &io::Error) -> StoreError {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => StoreError::fatal(format!("cannot make {path}: the directory does not exist; make it")),
        ErrorKind::PermissionDenied => {
            StoreError::fatal(format!("cannot write {path}: permission denied; let this user write to the directory"))
        }
        ErrorKind::Unsupported | ErrorKind::IsADirectory | ErrorKind::NotADirectory => {
            StoreError::fatal(format!("cannot lock {path}: {error}; put the database on a local disk"))
        }
        _ => StoreError::unavailable(format!("cannot lock {path}: {error}")),
    }
}

fn in_use(database: &str, holder: &str) -> StoreError {
    StoreError::fatal(format!("the database {database} is in use by {holder}; stop it first, or use another database"))
}

/// Takes the advisory lock for this session.
///
/// # Errors
/// [`Fatal`](super::StoreErrorKind::Fatal) if another session has it, naming it.
pub(super) fn advisory(url: &DatabaseUrl, connection: &mut PgConnection) -> Result<(), StoreError> {
    let failed = |error| query_error(url, &error, Phase::Opening);
    let taken: Taken =
        sql_query(format!("SELECT pg_try_advisory_lock({ADVISORY_KEY}) AS taken")).get_result(connection).map_err(failed)?;
    if taken.taken {
        return Ok(());
    }
    let holder: Option<Holder> = sql_query(format!(
        "SELECT COALESCE(NULLIF(a.application_name, ''), 'another program') || COALESCE(' on ' || host(a.client_addr), '') AS holder \
         FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid::bigint = {} AND l.objid::bigint = {} \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        ADVISORY_KEY >> 32,
        ADVISORY_KEY & 0xffff_ffff
    ))
    .get_result(connection)
    .optional()
    .map_err(failed)?;
    Err(in_use(&url.to_string(), holder.as_ref().map_or("another session", |holder| holder.holder.as_str())))
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = Bool)]
    taken: bool,
}

#[derive(QueryableByName)]
struct Holder {
    #[diesel(sql_type = Text)]
    holder: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreErrorKind;

    #[test]
    fn a_second_lock_is_refused_with_the_holders_pid_and_works_once_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("tide.db");
        let first = FileLock::acquire(&database).unwrap();
        let error = FileLock::acquire(&database).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Fatal);
        assert!(error.message.contains(&format!("in use by pid {}", std::process::id())), "{error}");
        drop(first);
        assert!(FileLock::acquire(&database).is_ok());
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = FileLock::acquire(Path::new("/nonexistent/tide.db")).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Fatal);
        assert!(error.message.contains("/nonexistent/tide.db.lock") && error.message.contains("does not exist"), "{error}");
    }
}
