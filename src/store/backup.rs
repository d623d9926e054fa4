//! Copying an SQLite database into one file, and taking such a file back.
//!
//! A copy is made by `VACUUM INTO` on a connection that only reads: the database as it is at one instant, without free pages,
//! whole in itself (no write-ahead log beside it), while a recorder goes on writing. The copy holds a read snapshot until it is
//! done, so the recorder's write-ahead log grows meanwhile by what is written meanwhile. SQLite's backup API, which copies in
//! steps, begins anew whenever another process has written between two steps, that is every few seconds here.
//!
//! A file is written under another name, synced, verified, and renamed: under its own name it is whole or not there.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::check::integrity;
use super::connection::{Connection, FILE_MODE, Phase, on, query_error};
use super::lock::FileLock;
use super::{DatabaseUrl, StoreError, migrate};

/// Why a copy or its return did not come about.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is there that would be overwritten.
    #[error("{0}")]
    Exists(String),
    /// The directory of the copy does not exist.
    #[error("there is no directory {}; make it first", .0.display())]
    NoDirectory(PathBuf),
    /// What is to be taken back is something else.
    #[error("{} is no backup: it is no SQLite file, or its beginning is damaged", .0.display())]
    NotABackup(PathBuf),
    /// The copy, or the file that is to be taken back, is damaged.
    #[error("{0}")]
    Damaged(String),
    /// The database failed, or is in use.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn file_error(path: &Path, source: io::Error) -> BackupError {
    BackupError::File { path: path.to_owned(), source }
}

/// A copy that was written and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Length of the file.
    pub bytes: u64,
    /// Rows by table.
    pub rows: BTreeMap<String, i64>,
}

/// Copies the SQLite database at `database` into `file`, which only its owner may read. What stands under that name is
/// replaced with `force` only, and only by a copy that is whole.
///
/// # Errors
/// [`BackupError`]; `file` is as it was then.
pub fn back_up(database: &Path, file: &Path, force: bool) -> Result<Copied, BackupError> {
    if same_file(database, file) {
        return Err(BackupError::Exists(format!("{} is the database itself; give another file", file.display())));
    }
    if file.exists() && !force {
        return Err(BackupError::Exists(format!("{} exists; give another file, or --force to replace it", file.display())));
    }
    let directory = directory_of(file)?;
    if !directory.is_dir() {
        return Err(BackupError::NoDirectory(directory));
    }
    let url = DatabaseUrl::Sqlite(database.to_owned());
    let mut source = open(&url)?;
    migrate::check(&url, &mut source)?;
    let partial = Partial::begin(&beside(file, ".partial"))?;
    let copied = partial.fill(&url, &mut source)?;
    partial.rename_to(file)?;
    Ok(copied)
}

/// A backup that was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Rows by table.
    pub rows: BTreeMap<String, i64>,
    /// Where the database that was there is now.
    pub kept_aside: Option<PathBuf>,
    /// Migrations that the backup lacked.
    pub migrated: Vec<String>,
}

/// Which endpoints the backup and the database that it replaces know: number and time of making, in microseconds of UTC. The same
/// pair in both means that both come from one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// Of the backup.
    pub backup: BTreeMap<i32, i64>,
    /// Of the database that is there; empty where there is none or where it cannot be read.
    pub present: BTreeMap<i32, i64>,
}

/// Makes the backup `file` the database at `database`. A database with data that is there is kept beside it, with `suffix` to
/// its name, and only if `force` says so. `before` is called when the backup was found to be whole and the database's lock is
/// held, before anything is changed.
///
/// # Errors
/// [`BackupError`]; the database is as it was then, except where the error says otherwise.
pub fn restore(
    file: &Path,
    database: &Path,
    force: bool,
    suffix: &str,
    before: impl FnOnce(&Lineage) -> Result<(), BackupError>,
) -> Result<Restored, BackupError> {
    if same_file(database, file) {
        return Err(BackupError::Exists(format!("{} is the database itself; give the file of a backup", file.display())));
    }
    if !is_sqlite(file).map_err(|error| file_error(file, error))? {
        return Err(BackupError::NotABackup(file.to_owned()));
    }
    let backup = DatabaseUrl::Sqlite(file.to_owned());
    let mut source = open(&backup)?;
    migrate::refuse_foreign(&backup, &mut source)?;
    let _lock = FileLock::acquire(database)?;
    let present = holds_data(database)?;
    if present && !force {
        return Err(BackupError::Exists(format!(
            "{} holds data; with --force it is kept aside as {} and replaced",
            database.display(),
            beside(database, suffix).display()
        )));
    }
    let partial = Partial::begin(&beside(database, ".restoring"))?;
    let copied = partial.fill(&backup, &mut source)?;
    let origins = |url: &DatabaseUrl| open(url).ok().and_then(|mut connection| origins(&mut connection).ok()).unwrap_or_default();
    let present_url = DatabaseUrl::Sqlite(database.to_owned());
    before(&Lineage { backup: origins(&backup), present: if present { origins(&present_url) } else { BTreeMap::new() } })?;
    let kept_aside = if present { Some(keep_aside(database, suffix)?) } else { None };
    remove_log(database)?;
    partial.rename_to(database)?;
    let mut connection = Connection::open(&present_url)?;
    let migrated = migrate::run(&present_url, &mut connection)?;
    Ok(Restored { rows: copied.rows, kept_aside, migrated })
}

/// Whether a file begins as every SQLite database does.
fn is_sqlite(file: &Path) -> io::Result<bool> {
    const BEGINNING: &[u8] = b"SQLite format 3\0";
    let mut beginning = Vec::new();
    File::open(file)?.take(BEGINNING.len() as u64).read_to_end(&mut beginning)?;
    Ok(beginning == BEGINNING)
}

/// Opens for reading, in a way that lets `VACUUM INTO` write elsewhere.
fn open(url: &DatabaseUrl) -> Result<Connection, StoreError> {
    let mut connection = Connection::open_read_only(url)?;
    if let Connection::Sqlite(c) = &mut connection {
        c.batch_execute("PRAGMA query_only = OFF").map_err(|error| query_error(url, &error, Phase::Opening))?;
    }
    Ok(connection)
}

/// A file that is being written under another name. Removed when it is dropped before it was renamed; what a kill leaves is
/// written over the next time.
struct Partial {
    path: PathBuf,
    /// Locked, so that two of a name do not write into each other. Must stay open while SQLite writes the file: closing it
    /// would end SQLite's own locks.
    file: File,
    renamed: bool,
}

impl Partial {
    fn begin(path: &Path) -> Result<Self, BackupError> {
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(path);
        let file = open.map_err(|error| file_error(path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(BackupError::Exists(format!("another process is writing {}", path.display())));
            }
            Err(TryLockError::Error(error)) => return Err(file_error(path, error)),
        }
        file.set_len(0).map_err(|error| file_error(path, error))?;
        Ok(Self { path: path.to_owned(), file, renamed: false })
    }

    /// Copies, syncs and verifies.
    fn fill(&self, url: &DatabaseUrl, source: &mut Connection) -> Result<Copied, BackupError> {
        let Connection::Sqlite(source) = source else { unreachable!("only files are copied") };
        let failed = |error| BackupError::from(query_error(url, &error, Phase::Running));
        let version = data_version(source).map_err(failed)?;
        let before = rows(source).map_err(failed)?;
        let path = absolute(&self.path)?;
        sql_query("VACUUM INTO ?").bind::<Text, _>(path.to_string_lossy()).execute(source).map_err(failed)?;
        // VACUUM INTO does not.
        self.file.sync_all().map_err(|error| file_error(&self.path, error))?;
        let unchanged = data_version(source).map_err(failed)? == version;
        let copy_url = DatabaseUrl::Sqlite(self.path.clone());
        let mut copy = open(&copy_url)?;
        let look = |error| BackupError::from(query_error(&copy_url, &error, Phase::Running));
        let wrong = integrity(&mut copy).map_err(look)?;
        let Connection::Sqlite(copy) = &mut copy else { unreachable!("only files are copied") };
        let rows = rows(copy).map_err(look)?;
        if !wrong.is_empty() {
            return Err(BackupError::Damaged(format!("the copy of {url} is damaged: {}", wrong.join("; "))));
        }
        // Where somebody wrote meanwhile the rows may differ rightly.
        if unchanged && rows != before {
            return Err(BackupError::Damaged(format!("the copy of {url} has other numbers of rows: {rows:?}, not {before:?}")));
        }
        let bytes = self.file.metadata().map_err(|error| file_error(&self.path, error))?.len();
        Ok(Copied { bytes, rows })
    }

    fn rename_to(mut self, path: &Path) -> Result<(), BackupError> {
        fs::rename(&self.path, path).map_err(|error| file_error(path, error))?;
        self.renamed = true;
        sync_directory_of(path)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.renamed {
            // It is of no use to anyone, and the next attempt would write over it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Gives the database a second name, so that there is no moment without one under the first.
fn keep_aside(database: &Path, suffix: &str) -> Result<PathBuf, BackupError> {
    let aside = beside(database, suffix);
    let log = beside(database, "-wal");
    let folded = fold_log(database);
    fs::hard_link(database, &aside).map_err(|error| file_error(&aside, error))?;
    if !folded && log.exists() {
        // A damaged database: its log goes with it, as it is.
        fs::copy(&log, beside(&aside, "-wal")).map_err(|error| file_error(&log, error))?;
    }
    sync_directory_of(&aside)?;
    Ok(aside)
}

/// Copies what is in the write-ahead log into the database. False where that cannot be done.
fn fold_log(database: &Path) -> bool {
    let Ok(mut connection) = Connection::open(&DatabaseUrl::Sqlite(database.to_owned())) else { return false };
    let Connection::Sqlite(c) = &mut connection else { return false };
    c.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").is_ok()
}

/// Another database's log would be taken for the restored one's.
fn remove_log(database: &Path) -> Result<(), BackupError> {
    for suffix in ["-wal", "-shm", "-journal"] {
        let path = beside(database, suffix);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file_error(&path, error)),
        }
    }
    Ok(())
}

/// Whether there is something that somebody may miss. What cannot be read counts as such.
fn holds_data(database: &Path) -> Result<bool, BackupError> {
    match fs::metadata(database) {
        Ok(metadata) if metadata.len() == 0 => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(file_error(database, error)),
    }
    let Ok(Connection::Sqlite(mut c)) = open(&DatabaseUrl::Sqlite(database.to_owned())) else { return Ok(true) };
    let rows = rows(&mut c).unwrap_or_else(|_| BTreeMap::from([("unreadable".to_owned(), 1)]));
    Ok(rows.iter().any(|(table, rows)| table != migrate::TABLE && *rows > 0))
}

#[derive(QueryableByName)]
struct Origin {
    #[diesel(sql_type = Integer)]
    id: i32,
    #[diesel(sql_type = BigInt)]
    created_at: i64,
}

fn origins(connection: &mut Connection) -> diesel::QueryResult<BTreeMap<i32, i64>> {
    let query = sql_query("SELECT id, created_at FROM endpoints");
    let rows: Vec<Origin> = on!(connection, c => query.load(c))?;
    Ok(rows.into_iter().map(|row| (row.id, row.created_at)).collect())
}

#[derive(QueryableByName)]
struct DataVersion {
    #[diesel(sql_type = BigInt)]
    data_version: i64,
}

/// A number that changes when another connection has written.
fn data_version(connection: &mut SqliteConnection) -> diesel::QueryResult<i64> {
    sql_query("PRAGMA data_version").get_result::<DataVersion>(connection).map(|row| row.data_version)
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

/// Rows of every table.
fn rows(connection: &mut SqliteConnection) -> diesel::QueryResult<BTreeMap<String, i64>> {
    let tables = "SELECT name, 0 AS rows FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let tables: Vec<Counted> = sql_query(tables).load(connection)?;
    let count = |table: Counted| {
        let name = table.name.replace('"', "\"\"");
        let query = sql_query(format!("SELECT '' AS name, COUNT(*) AS rows FROM \"{name}\""));
        Ok((table.name, query.get_result::<Counted>(connection)?.rows))
    };
    tables.into_iter().map(count).collect()
}

/// `path` with `suffix` to its name.
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn directory_of(path: &Path) -> Result<PathBuf, BackupError> {
    Ok(absolute(path)?.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned))
}

fn absolute(path: &Path) -> Result<PathBuf, BackupError> {
    std::path::absolute(path).map_err(|error| file_error(path, error))
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn sync_directory_of(path: &Path) -> Result<(), BackupError> {
    let directory = directory_of(path)?;
    File::open(&directory).and_then(|opened| opened.sync_all()).map_err(|error| file_error(&directory, error))
}
