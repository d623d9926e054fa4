//! How large the database is, table by table.
//!
//! In SQLite this reads every page once (`dbstat`): a second per gigabyte that is cached, so whoever asks often keeps the
//! answer. PostgreSQL keeps sizes itself, and estimates the numbers of rows.

use diesel::dsl::min;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{OptionalExtension, QueryDsl, QueryResult, QueryableByName, RunQueryDsl, sql_query};

use super::StoreError;
use super::connection::{Connection, on};
use super::ladder::Table;
use super::read::ReadConnection;
use super::read_events::received_at;
use super::schema::{endpoint_sse, flushes};
use crate::clock::Timestamp;
use crate::history::ladder::FLEET;
use crate::id::EventId;

/// A database's size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageRecord {
    /// Bytes of the file, or of the database at the server.
    pub database_bytes: u64,
    /// Bytes of it that hold nothing and will be used again; `None` where the database does not tell.
    pub free_bytes: Option<u64>,
    /// Bytes of SQLite's write-ahead log.
    pub log_bytes: Option<u64>,
    /// Our tables, by name.
    pub tables: Vec<TableRecord>,
}

/// A table's size, with its indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableRecord {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// Rows; of PostgreSQL an estimate, `None` until it has made one.
    pub rows: Option<u64>,
    /// The time of the oldest row, where it is quickly found.
    pub oldest: Option<Timestamp>,
}

#[derive(QueryableByName)]
struct Size {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    row_count: Option<i64>,
}

#[derive(QueryableByName)]
struct Whole {
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    free: Option<i64>,
}

#[derive(QueryableByName)]
struct Oldest {
    #[diesel(sql_type = Nullable<BigInt>)]
    oldest: Option<i64>,
}

/// A row stands in a leaf; in a table WITHOUT ROWID also in the pages above.
const SQLITE_TABLES: &str = "SELECT m.tbl_name AS name, SUM(s.pgsize) AS bytes, SUM(CASE WHEN m.type = 'table' AND \
     (s.pagetype = 'leaf' OR (s.pagetype = 'internal' AND m.sql LIKE '%WITHOUT ROWID')) THEN s.ncell ELSE 0 END) AS row_count \
     FROM dbstat s JOIN sqlite_master m ON m.name = s.name GROUP BY m.tbl_name ORDER BY m.tbl_name";
const SQLITE_WHOLE: &str = "SELECT page_count * page_size AS bytes, freelist_count * page_size AS free \
     FROM pragma_page_count, pragma_page_size, pragma_freelist_count";
const POSTGRES_TABLES: &str = "SELECT c.relname::text AS name, pg_total_relation_size(c.oid) AS bytes, \
     CASE WHEN c.reltuples < 0 THEN NULL ELSE c.reltuples::bigint END AS row_count \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind = 'r' AND n.nspname = current_schema() ORDER BY c.relname";
const POSTGRES_WHOLE: &str = "SELECT pg_database_size(current_database()) AS bytes, NULL::bigint AS free";

impl ReadConnection {
    /// Measures the database.
    ///
    /// # Errors
    /// [`Unavailable`](super::StoreErrorKind::Unavailable).
    pub fn storage(&mut self) -> Result<StorageRecord, StoreError> {
        let (whole, tables) = sizes(&mut self.connection).map_err(|error| self.failed(&error))?;
        let mut tables: Vec<TableRecord> = tables
            .into_iter()
            .filter(|table| !table.name.starts_with("__") && !table.name.starts_with("sqlite_"))
            .map(|table| TableRecord {
                name: table.name,
                bytes: table.bytes.max(0).cast_unsigned(),
                rows: table.row_count.map(|rows| rows.max(0).cast_unsigned()),
                oldest: None,
            })
            .collect();
        for table in &mut tables {
            table.oldest = self.oldest(&table.name)?;
        }
        let log = self.url.sqlite_path().map(|path| {
            let mut name = path.as_os_str().to_owned();
            name.push("-wal");
            std::fs::metadata(name).map_or(0, |file| file.len())
        });
        Ok(StorageRecord {
            database_bytes: whole.bytes.max(0).cast_unsigned(),
            free_bytes: whole.free.map(|free| free.max(0).cast_unsigned()),
            log_bytes: log,
            tables,
        })
    }

    /// The time of a table's oldest row, where its key finds it.
    fn oldest(&mut self, table: &str) -> Result<Option<Timestamp>, StoreError> {
        match table {
            "endpoint_sse" => {
                let lowest = endpoint_sse::table.select(min(endpoint_sse::id));
                let lowest: Option<i64> = on!(&mut self.connection, c => lowest.first(c)).map_err(|error| self.failed(&error))?;
                let Some(lowest) = lowest else { return Ok(None) };
                let spans = self.flush_spans(lowest, lowest)?;
                Ok(Some(received_at(EventId(lowest), &spans)))
            }
            "flushes" => {
                use diesel::ExpressionMethods;
                let first = flushes::table.order(flushes::id.asc()).select(flushes::cut_at);
                let first: Option<i64> =
                    on!(&mut self.connection, c => first.first(c).optional()).map_err(|error| self.failed(&error))?;
                Ok(first.map(Timestamp))
            }
            table => {
                let Some(level) = Table::ALL.into_iter().find(|known| known.name == table).map(|known| known.level) else {
                    return Ok(None);
                };
                // The key of the totals finds the first of the fleet; the tunnels' rows of the level are as old.
                let totals = Table::of(level, true).name;
                let query = sql_query(format!("SELECT MIN(record_time) AS oldest FROM {totals} WHERE endpoint_id = {}", FLEET.0));
                let found: Oldest = on!(&mut self.connection, c => query.get_result(c)).map_err(|error| self.failed(&error))?;
                Ok(found.oldest.map(Timestamp))
            }
        }
    }
}

fn sizes(connection: &mut Connection) -> QueryResult<(Whole, Vec<Size>)> {
    match connection {
        Connection::Sqlite(c) => Ok((sql_query(SQLITE_WHOLE).get_result(c)?, sql_query(SQLITE_TABLES).load(c)?)),
        Connection::Postgres(c) => Ok((sql_query(POSTGRES_WHOLE).get_result(c)?, sql_query(POSTGRES_TABLES).load(c)?)),
    }
}
