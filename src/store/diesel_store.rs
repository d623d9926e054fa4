//! [`DieselStore`]: the [`Store`] of production, over SQLite or PostgreSQL.
//!
//! It holds one connection, the lock on the database, and nothing else. Each call is a transaction that [`DieselStore::write`]
//! opens and ends; what happens in between is in the module of its tables. A connection that broke is given up, and the next
//! call makes a new one, takes the lock again and checks the schema before it writes.

use std::time::Duration;

use chrono_tz::Tz;
use diesel::connection::{AnsiTransactionManager, TransactionManager};
use diesel::result::Error;
use tokio::time::Instant;

use super::connection::{Connection, DatabaseUrl, Phase, STATEMENT_LIMIT, commit_in_doubt, on, query_error};
use super::endpoints::Failure;
use super::lock::{self, FileLock};
use super::purge::{self, Purge};
use super::{
    AlertChanges, Committed, EndpointChange, EventBatch, HistoryBatch, LiveChanges, NewEndpoint, Settings, Store, StoreError,
    StoreErrorKind, Stored,
};
use super::{alerts, endpoints, events, expire, flushes, history, live, migrate, modes, single, written_bytes, zones};
use crate::alerts::Active;
use crate::clock::{Clock, SharedClock, Timestamp};
use crate::event::{EndpointId, Record};
use crate::modes::StorageMode;
use crate::modes::usage::Usage;
use crate::retention::{Expired, Expiry};

/// Most rows of one statement: SQLite takes 32,766 values in one, an event has 16 and a minute of history 17.
pub const BATCH_SIZE_MAX: usize = 1_000;

/// What a transaction is given beside its connection and its batch.
pub(super) struct Writing<'a> {
    pub(super) batch_size: usize,
    pub(super) clock: &'a dyn Clock,
    started: Instant,
}

impl Writing<'_> {
    /// Time since the transaction began.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.monotonic().duration_since(self.started)
    }
}

/// The database as a recorder writes it. There is one in all processes: opening a second is refused.
pub struct DieselStore {
    url: DatabaseUrl,
    connection: Option<Connection>,
    /// SQLite's lock; PostgreSQL's belongs to the connection.
    _lock: Option<FileLock>,
    clock: SharedClock,
    batch_size: usize,
    /// Bytes that the calls so far wrote to files.
    file_bytes: Option<u64>,
}

impl DieselStore {
    /// Locks the database, connects, and brings the schema up to date. `batch_size` is the number of rows per statement,
    /// 1 to [`BATCH_SIZE_MAX`]; what is outside is taken as the nearest.
    ///
    /// # Errors
    /// [`Fatal`](super::StoreErrorKind::Fatal): wrong URL or password, no permission, a newer schema, in use by another
    /// process. [`Unavailable`](super::StoreErrorKind::Unavailable): not reachable or locked; try again.
    pub fn open(url: &DatabaseUrl, batch_size: usize, clock: SharedClock) -> Result<Self, StoreError> {
        let lock = url.sqlite_path().map(FileLock::acquire).transpose()?;
        let (connection, ran) = connect(url)?;
        if !ran.is_empty() {
            log::info!("database {url}: migrated to {}", ran.join(", "));
        }
        let batch_size = batch_size.clamp(1, BATCH_SIZE_MAX);
        Ok(Self {
            url: url.clone(),
            connection: Some(connection),
            _lock: lock,
            clock,
            batch_size,
            file_bytes: written_bytes::of_this_thread().map(|_| 0),
        })
    }

    /// The alerts that people were told of and that are not over. Read once, at the start, by who goes on watching.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn told_alerts(&mut self) -> Result<Vec<Active>, StoreError> {
        self.write(|connection, _| Ok(alerts::told(connection)?))
    }

    /// Runs `work` in a transaction and makes it durable, or leaves nothing of it.
    fn write<T>(&mut self, work: impl FnOnce(&mut Connection, &Writing<'_>) -> Result<T, Failure>) -> Result<T, StoreError> {
        let before = written_bytes::of_this_thread();
        let result = self.write_uncounted(work);
        if let Some((before, after)) = before.zip(written_bytes::of_this_thread()) {
            self.file_bytes = Some(self.file_bytes.unwrap_or_default() + after.saturating_sub(before));
        }
        result
    }

    fn write_uncounted<T>(
        &mut self,
        work: impl FnOnce(&mut Connection, &Writing<'_>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            // What would end a recorder at its start (our own old session still has the lock, the password is being
            // changed) is waited out by one that runs: it has events to store.
            None => connect(&self.url).map_err(|error| StoreError { kind: StoreErrorKind::Unavailable, ..error })?.0,
        };
        let result = transaction(&self.url, &mut connection, |connection| {
            let writing = Writing { batch_size: self.batch_size, clock: self.clock.as_ref(), started: self.clock.monotonic() };
            work(connection, &writing)
        });
        // After an error the connection may be half dead; a closed one is made anew by the next call.
        if result.is_ok() || connection.is_usable() {
            self.connection = Some(connection);
        }
        result
    }
}

/// A connection that may write: it has PostgreSQL's lock and the schema. Also returns the names of migrations that ran.
pub(super) fn connect(url: &DatabaseUrl) -> Result<(Connection, Vec<String>), StoreError> {
    let mut connection = Connection::open(url)?;
    if let Connection::Postgres(c) = &mut connection {
        lock::advisory(url, c)?;
    }
    let ran = migrate::run(url, &mut connection)?;
    connection.limit_statements(url, STATEMENT_LIMIT)?;
    Ok((connection, ran))
}

pub(super) fn transaction<T>(
    url: &DatabaseUrl,
    connection: &mut Connection,
    work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
) -> Result<T, StoreError> {
    let failed = |error: &Error| query_error(url, error, Phase::Running);
    match &mut *connection {
        // A transaction that begins as a reader cannot wait for another writer when it starts to write.
        Connection::Sqlite(c) => AnsiTransactionManager::begin_transaction_sql(c, "BEGIN IMMEDIATE"),
        Connection::Postgres(c) => AnsiTransactionManager::begin_transaction(c),
    }
    .map_err(|error| failed(&error))?;
    let work_error = match work(connection) {
        Ok(value) => match on!(&mut *connection, c => commit(c)) {
            Ok(()) => return Ok(value),
            Err(error) => {
                let error = match error {
                    Error::RollbackErrorOnCommit { commit_error, .. } => *commit_error,
                    error => error,
                };
                return Err(StoreError { in_doubt: commit_in_doubt(connection, &error), ..failed(&error) });
            }
        },
        Err(error) => error,
    };
    // A rollback that fails leaves a broken connection, which is noticed below; SQLite may have rolled back already.
    let _ = on!(&mut *connection, c => rollback(c));
    Err(match work_error {
        Failure::Refused(error) => error,
        Failure::Query(error) => failed(&error),
    })
}

fn commit<C: diesel::Connection<TransactionManager = AnsiTransactionManager>>(connection: &mut C) -> diesel::QueryResult<()> {
    AnsiTransactionManager::commit_transaction(connection)
}

fn rollback<C: diesel::Connection<TransactionManager = AnsiTransactionManager>>(connection: &mut C) -> diesel::QueryResult<()> {
    AnsiTransactionManager::rollback_transaction(connection)
}

impl Store for DieselStore {
    fn load(&mut self) -> Result<Stored, StoreError> {
        self.write(|connection, _| {
            let progress = flushes::progress(connection)?;
            let highest_id = progress.highest_id.max(events::highest_id(connection)?).max(live::highest_id(connection)?);
            Ok(Stored {
                endpoints: endpoints::load(connection)?,
                tunnels: live::load(connection)?,
                history_states: history::load_states(connection)?,
                history_through: progress.history_through,
                highest_id,
                last_boundary: progress.last_boundary,
                last_flush: progress.last_flush,
                settings: modes::settings(connection)?,
                usage: modes::usage(connection)?,
            })
        })
    }

    fn set_timezone(&mut self, zone: Tz, at: Timestamp) -> Result<(), StoreError> {
        self.write(|connection, _| Ok(zones::set(connection, zone, at)?))
    }

    fn commit_events(&mut self, batch: &EventBatch) -> Result<Committed, StoreError> {
        self.write(|connection, writing| Ok(events::commit(connection, batch, writing)?))
    }

    fn commit_single(&mut self, record: &Record) -> Result<bool, StoreError> {
        self.write(|connection, _| single::commit(connection, record))
    }

    fn keep_settings(&mut self, settings: &Settings, usage: &[(StorageMode, Usage)]) -> Result<(), StoreError> {
        self.write(|connection, _| {
            modes::store_settings(connection, settings)?;
            Ok(usage.iter().try_for_each(|(mode, usage)| modes::store_usage(connection, *mode, usage))?)
        })
    }

    fn keep_alerts(&mut self, changes: &AlertChanges) -> Result<(), StoreError> {
        self.write(|connection, _| Ok(alerts::keep(connection, changes)?))
    }

    fn bytes_written(&mut self) -> Option<u64> {
        match self.connection.as_mut() {
            Some(Connection::Postgres(c)) => written_bytes::of_postgres(c),
            Some(Connection::Sqlite(_)) | None => self.file_bytes,
        }
    }

    fn set_batch_size(&mut self, rows: usize) {
        self.batch_size = rows.clamp(1, BATCH_SIZE_MAX);
    }

    fn commit_history(&mut self, batch: &HistoryBatch) -> Result<Committed, StoreError> {
        self.write(|connection, writing| Ok(history::commit(connection, batch, writing)?))
    }

    fn sync_live(&mut self, changes: &LiveChanges) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.write(|connection, writing| Ok(live::sync(connection, changes, writing.batch_size)?))
    }

    fn add_endpoint(&mut self, endpoint: &NewEndpoint, at: Timestamp) -> Result<EndpointId, StoreError> {
        self.write(|connection, _| endpoints::add(connection, endpoint, at))
    }

    fn change_endpoint(&mut self, id: EndpointId, change: &EndpointChange, at: Timestamp) -> Result<(), StoreError> {
        self.write(|connection, _| endpoints::change(connection, id, change, at))
    }

    fn expire(&mut self, step: &Expiry) -> Result<Expired, StoreError> {
        self.write(|connection, _| Ok(expire::step(connection, step)?))
    }

    fn purge(&mut self, id: EndpointId, from: Purge) -> Result<Purge, StoreError> {
        self.write(|connection, _| Ok(purge::step(connection, id, from)?))
    }

    fn remove_endpoint(&mut self, id: EndpointId) -> Result<(), StoreError> {
        self.write(|connection, _| Ok(endpoints::remove(connection, id)?))
    }
}
