//! What is published.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::modes::ledger::Ledger;
use crate::store::FlushCause;

/// What the FlushActor has done since the recorder started, and how the database is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FlushState {
    /// What each mode cost.
    #[serde(skip)]
    pub ledger: Ledger,
    /// Why mode and settings are not kept in the database yet; `None` if they are.
    pub unkept: Option<String>,
    /// `None` while the last write succeeded, else what failed.
    pub error: Option<String>,
    /// Since when the database is as it is: its first success, or the first failure in a row.
    pub since: Option<Timestamp>,
    /// Committed batches of records by cause.
    pub flushes: BTreeMap<FlushCause, u64>,
    /// Cut time of the last committed batch of records.
    pub last_flush: Option<Timestamp>,
    /// Last boundary that was kept and committed.
    pub last_boundary: Option<Timestamp>,
    /// Rows of records written.
    pub rows_written: u64,
    /// Rows whose id was there before.
    pub rows_skipped: u64,
    /// Rows in `quarantine`.
    pub quarantined: u64,
    /// Rows of history written.
    pub history_rows_written: u64,
    /// Rows deleted because they expired, and pages given back.
    pub rows_expired: u64,
    /// Tables that hold rows which should have expired more than an hour ago.
    pub expiry_late: Vec<&'static str>,
    /// Transactions committed, of all kinds.
    pub write_transactions: u64,
    /// Tries of a batch after a failed one.
    pub retries: u64,
    /// Failed writes of all kinds.
    pub failures: u64,
    /// Commits of records that the durations are taken from.
    pub measured: u64,
    /// Duration of the last commit of records, in milliseconds.
    pub last_ms: f64,
    /// Mean of the last 1,000 such durations.
    pub mean_ms: f64,
    /// 99th percentile of them.
    pub p99_ms: f64,
}
