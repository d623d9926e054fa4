//! The document of `GET /api/v1/stats`: shape, names and order are a public interface.
//!
//! Counters run since the recorder started. Times are RFC 3339 except `last_flush_time`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::endpoint::EndpointStatus;

/// Version and commit of this program: `0.1.0 (941f302a1b2c)`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUILD_COMMIT"), ")");

/// The whole document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// Buffer, flushes and journal.
    pub optimized_storage: OptimizedStorage,
    /// Events that were not kept, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Events by kind, also those that get no row.
    pub events: BTreeMap<String, u64>,
    /// Endpoints, by name.
    pub endpoints: Vec<EndpointStats>,
    /// The database, as the last write found it.
    pub database: DatabaseStats,
    /// `storage.mode`.
    pub mode: String,
    /// The process; `None` where the database was asked because no recorder runs.
    pub process: Option<ProcessStats>,
}

/// Buffer, flushes and journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OptimizedStorage {
    /// Events accepted and not committed.
    pub buffer_size: u64,
    /// `storage.max_buffer_size`, in events.
    pub max_buffer_size: u64,
    /// When the last flush was cut: `YYYY-MM-DD HH:MM:SS` in `storage.timezone`; `None` before the first.
    pub last_flush_time: Option<String>,
    /// The same instant for `/metrics`; the document has it as text alone.
    #[serde(skip)]
    #[schema(ignore)]
    pub last_flush_at: Option<Timestamp>,
    /// `buffer_size` in percent of `max_buffer_size`; passes 100 while the database is down.
    pub buffer_usage_pct: f64,
    /// Flushes by cause.
    pub flushes: Flushes,
    /// Flushes for the threshold, in percent of all; `None` before the first.
    pub threshold_share_pct: Option<f64>,
    /// How long commits of events took.
    pub flush_ms: FlushMillis,
    /// Rows of events written.
    pub rows_written: u64,
    /// Rows whose id was there before: replays and commits in doubt.
    pub rows_skipped: u64,
    /// Tries after a failed one.
    pub retries: u64,
    /// Failed writes.
    pub failures: u64,
    /// Rows that the database refused for themselves.
    pub quarantined: u64,
    /// Transactions committed, of all kinds.
    pub write_transactions: u64,
    /// `update` events per transaction; `None` before the first transaction.
    pub updates_per_transaction: Option<f64>,
    /// Tables that hold rows which should have expired more than an hour ago; empty in the recorder's first hour.
    #[serde(default)]
    pub expiry_late: Vec<String>,
    /// Batches cut and not committed.
    pub waiting_batches: u64,
    /// Bytes of the events that are not committed.
    pub buffer_bytes: u64,
    /// Seconds since the oldest event that is not committed was accepted; 0 where there is none.
    pub oldest_unflushed_s: f64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// The next boundary, with the offset of `storage.timezone`; `None` where no recorder runs.
    pub next_boundary: Option<String>,
    /// Events that are written one at a time, in the modes `realtime` and `dual`.
    pub realtime: RealtimeStats,
}

/// Events that are written one at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RealtimeStats {
    /// Events that wait for it.
    pub queue_events: u64,
    /// Their bytes, roughly.
    pub queue_bytes: u64,
    /// Events that were.
    pub written: u64,
    /// Events that were to be and were left to their batch: the queue was full, the write failed, or the batch came first.
    pub left_to_batch: u64,
}

/// Flushes by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flushes {
    /// A batch was full.
    pub threshold: u64,
    /// The hour.
    pub hourly: u64,
    /// On request.
    pub manual: u64,
    /// At shutdown.
    pub drain: u64,
    /// Found in the journal at start.
    pub recovery: u64,
    /// Its journal segment was given up.
    pub journal: u64,
}

/// Durations of whole flushes of events, from the first statement until the commit is durable, in milliseconds; `None` before the
/// first. `duration_us` of `/api/v1/flushes` is without the commit, which is not over when it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FlushMillis {
    /// The last one.
    pub last: Option<f64>,
    /// Mean of the last 1,000.
    pub mean: Option<f64>,
    /// 99th percentile of the last 1,000.
    pub p99: Option<f64>,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointStats {
    /// Name.
    pub name: String,
    /// Status.
    pub status: EndpointStatus,
    /// Why, and what to do; empty while all is well.
    pub reason: String,
    /// Since when.
    pub since: String,
    /// Stored events that the journal has.
    pub events_received: u64,
    /// Reports that did not come when they were due.
    pub reports_missed: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Tunnels.
    pub tunnels: u64,
    /// What was not kept of it, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// The database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatabaseStats {
    /// Whether the last write succeeded.
    pub ok: bool,
    /// Since when it is so; `None` before the first write.
    pub since: Option<String>,
    /// What failed.
    pub error: Option<String>,
}

/// The process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProcessStats {
    /// Its id.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime_s: f64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Version and commit.
    pub version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names and their order are what others parse: compares them with the text of the interface.
    #[test]
    fn the_document_has_the_names_and_the_order_of_the_interface() {
        let stats =
            Stats { endpoints: vec![EndpointStats::default()], process: Some(ProcessStats::default()), ..Stats::default() };
        let text = serde_json::to_string(&stats).unwrap();
        let mut names = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("\":") {
            names.push(before.rsplit('"').next().unwrap());
            rest = after;
        }
        let expected = "optimized_storage buffer_size max_buffer_size last_flush_time buffer_usage_pct flushes threshold hourly \
             manual drain recovery journal threshold_share_pct flush_ms last mean p99 rows_written rows_skipped retries failures \
             quarantined write_transactions updates_per_transaction expiry_late waiting_batches buffer_bytes oldest_unflushed_s \
             journal_bytes next_boundary realtime queue_events queue_bytes written left_to_batch dropped events endpoints name status reason since events_received reports_missed \
             reconnects tunnels dropped database ok since error mode process pid uptime_s rss_bytes version";
        assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
    }
}
