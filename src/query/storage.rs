//! How large everything is, and what it would be without batches.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::config::RetentionConfig;
use crate::store::StorageRecord;

/// `GET /api/v1/storage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Storage {
    /// Bytes of the database.
    pub database_bytes: u64,
    /// Bytes of it that hold nothing and will be used again; `null` where the database does not tell.
    pub free_bytes: Option<u64>,
    /// Bytes of SQLite's write-ahead log; `null` for PostgreSQL.
    pub log_bytes: Option<u64>,
    /// By name.
    pub tables: Vec<TableDocument>,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// `journal.max_bytes`.
    pub journal_max_bytes: u64,
    /// Transactions that a recorder which writes each event by itself had needed since the start of this one.
    pub per_event_transactions: u64,
    /// Transactions that this one needed.
    pub write_transactions: u64,
    /// When the database was measured; RFC 3339. An answer is kept for a while.
    pub measured_at: String,
}

/// A table, with its indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableDocument {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// Rows; of PostgreSQL an estimate, `null` until it has made one.
    pub rows: Option<u64>,
    /// Time of the oldest row, where it is quickly found; RFC 3339.
    pub oldest: Option<String>,
    /// How long rows are kept, in seconds; `null` where no setting says so, or for ever.
    pub retention_s: Option<u64>,
}

impl Storage {
    /// The document for a database that was measured at that time; the recorder's figures are left zero.
    #[must_use]
    pub fn new(record: StorageRecord, retention: &RetentionConfig, journal_max_bytes: u64, measured_at: Timestamp) -> Self {
        let table = |table: crate::store::TableRecord| TableDocument {
            retention_s: retention_of(&table.name, retention).map(|time| time.as_secs()),
            name: table.name,
            bytes: table.bytes,
            rows: table.rows,
            oldest: table.oldest.map(|oldest| oldest.to_string()),
        };
        Self {
            database_bytes: record.database_bytes,
            free_bytes: record.free_bytes,
            log_bytes: record.log_bytes,
            tables: record.tables.into_iter().map(table).collect(),
            journal_max_bytes,
            measured_at: measured_at.to_string(),
            ..Self::default()
        }
    }
}

/// How long the rows of a table are kept, where a key says so.
fn retention_of(table: &str, retention: &RetentionConfig) -> Option<Duration> {
    match table {
        "endpoint_sse" => Some(retention.events),
        "service_history" | "history_minute_totals" => Some(retention.minutes),
        "history_hours" | "history_hour_totals" => Some(retention.hours),
        "history_days" | "history_day_totals" => retention.days,
        _ => None,
    }
}
