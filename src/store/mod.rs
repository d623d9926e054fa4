//! What is written to the database, by whom, and what comes of it.
//!
//! [`Store`] is the only way in. A running recorder has one, held by the FlushActor, which calls it through the
//! [`Blocking`](crate::blocking::Blocking) handle. Reads for people use connections of their own ([`ReadConnection`]).
//!
//! [`DieselStore`] is the one store there is: SQLite or PostgreSQL, one schema, one file per group of tables.

mod alerts;
mod backup;
mod check;
mod check_history;
mod compare;
mod connection;
mod diesel_store;
mod endpoints;
mod events;
mod expire;
mod flushes;
mod history;
mod import;
mod insert_events;
mod ladder;
mod live;
mod lock;
mod migrate;
mod modes;
pub mod pool;
mod purge;
mod read;
mod read_events;
mod read_export;
mod read_falls;
mod read_flushes;
mod read_heard;
mod read_ladder;
mod read_storage;
mod schema;
mod single;
mod upsert_state;
mod written_bytes;
mod zones;

pub mod memory;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::endpoint::{ApiKey, Endpoint, EndpointHealth};
use crate::event::{Counters, EndpointId, InstanceConfig, Record, Sample, TunnelKey, TunnelState};
use crate::history::InTotals;
use crate::history::figures::Figures;
use crate::id::EventId;
use crate::modes::StorageMode;
use crate::modes::usage::{Comparison, Usage};
use crate::retention::{Expired, Expiry};

pub use alerts::AlertChanges;
pub use backup::{BackupError, Copied, Lineage, Restored, back_up, beside, restore};
pub use check::{DatabaseReport, check_database};
pub use check_history::HistoryReport;
#[cfg(test)]
pub(crate) use connection::advices as database_advices;
pub(crate) use connection::sqlite_uri;
pub use connection::{DatabaseUrl, postgres_parts};
use diesel_store::Writing;
pub use diesel_store::{BATCH_SIZE_MAX, DieselStore};
pub use import::{Import, Imported, Kept, import};
pub use lock::FileLock;
pub use migrate::migrate;
pub use purge::Purge;
pub use read::{EndpointRecord, ReadConnection, TunnelFilter, TunnelRecord};
pub use read_events::{EventFilter, EventPage, EventRecord, FlushSpan, SCANNED_ROWS_MAX, received_at};
pub use read_export::{HistoryPage, HistoryPlace};
pub use read_falls::FallFilter;
pub use read_flushes::{FlushRecord, GapRecord};
pub use read_ladder::{DayTraffic, StoredBatches, Stretch};
pub use read_storage::{StorageRecord, TableRecord};

/// Why a batch was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlushCause {
    /// It was full: events or bytes.
    Threshold,
    /// A boundary was reached, or an event had waited for `storage.flush_interval`.
    Hourly,
    /// Someone asked.
    Manual,
    /// The recorder stops.
    Drain,
    /// It was found in the journal at start.
    Recovery,
    /// Its journal segment was given up after a failed write or sync.
    Journal,
}

impl FlushCause {
    /// As in `flushes.cause` and in the stats.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Threshold => "threshold",
            Self::Hourly => "hourly",
            Self::Manual => "manual",
            Self::Drain => "drain",
            Self::Recovery => "recovery",
            Self::Journal => "journal",
        }
    }
}

/// What a row of `flushes` says of a batch beside its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlushInfo {
    /// Cause.
    pub cause: FlushCause,
    /// The boundary that was kept, with cause `Hourly` where there was one.
    pub boundary: Option<Timestamp>,
    /// Boundaries that passed unkept before that one (the machine slept, the clock stepped).
    pub skipped_boundaries: u32,
    /// When the batch was cut.
    pub cut_at: Timestamp,
}

/// Records that are stored in one transaction, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    /// Why and when it was cut.
    pub info: FlushInfo,
    /// The records; empty where a boundary was kept with nothing to write.
    pub records: Arc<Vec<Record>>,
    /// True if the batch may be stored already: read from the journal at start, or after a commit in doubt.
    pub maybe_stored: bool,
    /// What of it was written one record at a time; `None` where nothing was.
    pub overlap: Option<Overlap>,
    /// What the mode in force cost so far, to be kept with the batch.
    pub usage: Option<Box<(StorageMode, Usage)>>,
}

impl EventBatch {
    /// A batch that is new as a whole.
    #[must_use]
    pub fn new(info: FlushInfo, records: Arc<Vec<Record>>) -> Self {
        Self { info, records, maybe_stored: false, overlap: None, usage: None }
    }
}

/// What of a batch was written before it was cut, one record at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Ids of it that were written so, rising.
    pub written: Vec<EventId>,
    /// How many more may be there: writes of unknown outcome, and after a restart everything.
    pub doubtful: u64,
    /// Records of it that could have been written so and were left to the batch.
    pub left: u64,
    /// What is there is compared with the batch.
    pub compare: bool,
}

/// A minute of one tunnel, or a part of one: it is added to what is stored of that minute, in `service_history` and on each
/// level above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// Tunnel.
    pub tunnel: TunnelKey,
    /// Start of the minute, by time of receipt.
    pub minute: Timestamp,
    /// What was counted in it.
    pub figures: Figures,
    /// Whose totals it is a part of.
    pub in_totals: InTotals,
}

/// What the counters of a tunnel did since the batch before. Added to `history_accounts`, from which it is proved that history
/// adds up (see [`crate::history::audit`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Tunnel.
    pub tunnel: TunnelKey,
    /// Counters as of the batch before, or as they were first seen.
    pub from: Counters,
    /// Counters as of the last sample that the batch contains.
    pub to: Counters,
    /// What was counted and is not in any row yet: the open window's part.
    pub open: Counters,
}

/// Something about a counter that is not plain growth: a row of `counter_events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterEvent {
    /// The event that showed it.
    pub event: EventId,
    /// Tunnel.
    pub tunnel: TunnelKey,
    /// When.
    pub at: Timestamp,
    /// `reset`, `fall_back`, `reset_undone`, `fall_unknown`.
    pub kind: Box<str>,
    /// Counters before.
    pub before: Counters,
    /// Counters after.
    pub after: Counters,
    /// What the step counted.
    pub counted: Counters,
}

/// What the HistoryWorkerActor hands over: rows, and the state that makes it able to go on after `through`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryBatch {
    /// From the events' sequence: unique, and the key of this batch in `flushes`.
    pub id: EventId,
    /// Why and when it was cut.
    pub info: FlushInfo,
    /// Every event up to this id is contained in the rows and states, of this batch or of earlier ones.
    pub through: EventId,
    /// Rows, sorted by tunnel and minute.
    pub rows: Vec<HistoryRow>,
    /// What is new about counters.
    pub counter_events: Vec<CounterEvent>,
    /// For each tunnel that changed since the batch before, the worker's state as JSON; `None` where it is gone.
    pub states: Vec<(TunnelKey, Option<Box<str>>)>,
    /// What the counters did, in order: of tunnels that are gone, then of those that changed.
    pub accounts: Vec<Account>,
}

/// What changed in live state since the last sync; only that.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveChanges {
    /// Every event up to this id is contained in the database once this is stored.
    pub through: EventId,
    /// Health of endpoints that changed.
    pub endpoints: Vec<(EndpointId, EndpointHealth)>,
    /// New or changed configuration.
    pub configs: Vec<(TunnelKey, Arc<InstanceConfig>, EventId)>,
    /// New or changed state. The time and the id stand for the last event, the sample for what it said.
    pub samples: Vec<(TunnelKey, Sample, Timestamp, EventId)>,
    /// Tunnels that are gone, and when.
    pub removed: Vec<(TunnelKey, Timestamp)>,
}

impl LiveChanges {
    /// True if there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Rows that change.
    #[must_use]
    pub fn rows(&self) -> u64 {
        (self.endpoints.len() + self.configs.len() + self.samples.len() + self.removed.len()) as u64
    }
}

/// What a committed batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Committed {
    /// Rows that are new.
    pub written: u64,
    /// Rows whose id was there before.
    pub skipped: u64,
    /// Rows that the database refused for themselves and that are in `quarantine` now.
    pub quarantined: u64,
    /// Rows that were there because they had been written one at a time.
    pub single: u64,
    /// What the comparison found, where there was one; in `realtime` only what was missing.
    pub comparison: Comparison,
}

/// A change of an endpoint's definition. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointChange {
    /// New URL.
    pub url: Option<crate::endpoint::MasterUrl>,
    /// New key.
    pub api_key: Option<ApiKey>,
    /// New judgement of certificates.
    pub tls: Option<crate::endpoint::TlsPolicy>,
    /// Pause or resume.
    pub paused: Option<bool>,
    /// Store `log` events, or not; `Some(None)` goes back to following `storage.log_events`.
    pub log_events: Option<Option<bool>>,
    /// The master's id was seen.
    pub master_id: Option<String>,
}

/// An endpoint that is to be made: everything but the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEndpoint {
    /// Unique name.
    pub name: String,
    /// Where its API is.
    pub url: crate::endpoint::MasterUrl,
    /// Its key.
    pub api_key: ApiKey,
    /// How its certificate is judged.
    pub tls: crate::endpoint::TlsPolicy,
    /// Whether its `log` events are stored.
    pub log_events: Option<bool>,
}

/// What the database knew when the recorder started.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Endpoints with the health last stored.
    pub endpoints: Vec<(Endpoint, EndpointHealth)>,
    /// Live tunnels.
    pub tunnels: Vec<(TunnelKey, TunnelState)>,
    /// The HistoryWorkerActor's states.
    pub history_states: Vec<(TunnelKey, Box<str>)>,
    /// Highest `through` of the history batches that are stored.
    pub history_through: EventId,
    /// Highest id anywhere in the database.
    pub highest_id: EventId,
    /// The last boundary that was kept.
    pub last_boundary: Option<Timestamp>,
    /// When the last flush was cut.
    pub last_flush: Option<Timestamp>,
    /// Mode and tuned keys, as far as they were set.
    pub settings: Settings,
    /// What each mode cost so far.
    pub usage: BTreeMap<StorageMode, Usage>,
}

/// Keys of the configuration that the database knows, as text. They win over the configuration.
pub type Settings = BTreeMap<String, String>;

/// The database as the recorder writes it. Calls block; one at a time.
///
/// Each call is one transaction: all of it is stored or nothing, except where the error is in doubt
/// ([`StoreError::in_doubt`]). Committed means durable: a machine that loses power keeps it.
pub trait Store: Send + 'static {
    /// Reads what a recorder needs to go on.
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn load(&mut self) -> Result<Stored, StoreError>;

    /// Cuts hours and days in this time zone from the next full minute after `at` on. The first zone that a database gets
    /// applies to all that is in it.
    ///
    /// # Errors
    /// As [`Store::commit_events`].
    fn set_timezone(&mut self, zone: Tz, at: Timestamp) -> Result<(), StoreError>;

    /// Stores records and their `flushes` row. Ids that are there already are skipped and counted. A row that the
    /// database refuses for itself goes to `quarantine` and the others are stored.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the batch is stored then, except where it is in doubt.
    fn commit_events(&mut self, batch: &EventBatch) -> Result<Committed, StoreError>;

    /// Stores one record, and its tunnel's state and configuration where the tunnel is there and they are newer. True if
    /// the record is new.
    ///
    /// Tunnels are made and removed by [`Store::sync_live`] only: a record that waited must not bring one back.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`] if the database refuses the record for itself: its batch sets it aside. Else as
    /// [`Store::commit_events`].
    fn commit_single(&mut self, record: &Record) -> Result<bool, StoreError>;

    /// Makes `settings` the only ones, and keeps what the mode cost so far.
    ///
    /// # Errors
    /// As [`Store::commit_events`].
    fn keep_settings(&mut self, settings: &Settings, usage: &[(StorageMode, Usage)]) -> Result<(), StoreError>;

    /// Stores what changed about the alerts that people were told of.
    ///
    /// # Errors
    /// As [`Store::commit_events`].
    fn keep_alerts(&mut self, changes: &AlertChanges) -> Result<(), StoreError>;

    /// Bytes that the database has written, counted from anywhere; `None` where that cannot be told. SQLite: by this
    /// recorder's calls, log and checkpoints included. PostgreSQL: of its log, by everyone.
    fn bytes_written(&mut self) -> Option<u64>;

    /// Changes the number of rows per statement from the next call on.
    fn set_batch_size(&mut self, rows: usize);

    /// Adds history rows on every level, and stores counter events, states, accounts and their `flushes` row. A batch whose
    /// id is in `flushes` already is not stored again: its rows count as skipped.
    ///
    /// # Errors
    /// As [`Store::commit_events`].
    fn commit_history(&mut self, batch: &HistoryBatch) -> Result<Committed, StoreError>;

    /// Stores changes of live state. A sample or configuration with an event id not above the stored one is left out.
    ///
    /// # Errors
    /// As [`Store::commit_events`].
    fn sync_live(&mut self, changes: &LiveChanges) -> Result<(), StoreError>;

    /// Makes an endpoint.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`] if the name or the master id is taken, else as above.
    fn add_endpoint(&mut self, endpoint: &NewEndpoint, at: Timestamp) -> Result<EndpointId, StoreError>;

    /// Changes an endpoint.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`] if there is no such endpoint or the master id is taken, else as above.
    fn change_endpoint(&mut self, id: EndpointId, change: &EndpointChange, at: Timestamp) -> Result<(), StoreError>;

    /// Takes one step of deleting what has expired.
    ///
    /// # Errors
    /// As [`Store::commit_events`].
    fn expire(&mut self, step: &Expiry) -> Result<Expired, StoreError>;

    /// Deletes a part of what an endpoint left behind (events, history, gaps, counter events, quarantine) and says how far it
    /// came. Called again until [`Purge::Done`], with what it returned last; others can write in between.
    ///
    /// # Errors
    /// As [`Store::commit_events`].
    fn purge(&mut self, id: EndpointId, from: Purge) -> Result<Purge, StoreError>;

    /// Removes an endpoint and its live tunnels. Its events, history and gaps stay until they expire.
    ///
    /// # Errors
    /// As [`Store::commit_events`].
    fn remove_endpoint(&mut self, id: EndpointId) -> Result<(), StoreError>;
}

/// What kind of failure a call met, which decides what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// No connection, locked by another process, out of space, read-only: the same call may go through later.
    Unavailable,
    /// The request itself cannot be carried out; trying again does not help.
    Refused,
    /// Wrong URL, wrong password, newer schema, no permission: a person must mend it.
    Fatal,
}

/// A database call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct StoreError {
    /// What to make of it.
    pub kind: StoreErrorKind,
    /// The transaction may have been committed all the same: the answer to COMMIT was lost.
    pub in_doubt: bool,
    /// What happened and what to do; holds no password.
    pub message: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.in_doubt {
            return write!(f, "{} (whether the transaction was committed is not known)", self.message);
        }
        f.write_str(&self.message)
    }
}
