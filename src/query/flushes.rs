//! What was written when, and why.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{QueryError, id, limit};
use crate::clock::Timestamp;
use crate::store::{FlushRecord, ReadConnection};

/// Flushes of an answer, unless asked otherwise.
const LIMIT_DEFAULT: u32 = 50;
/// Most flushes of an answer.
const LIMIT_MAX: u32 = 1_000;

/// `?limit=50&before=ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FlushQuery {
    /// How many; 50 unless given.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Only older ones than this; `next` of the answer before.
    #[param(pattern = "^[1-9][0-9]{0,17}$")]
    pub before: Option<String>,
}

/// `GET /api/v1/flushes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlushPage {
    /// Newest first.
    pub flushes: Vec<FlushDocument>,
    /// `before` of the next page; `null` at the end.
    pub next: Option<String>,
}

/// A batch that was committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlushDocument {
    /// Its number, in the order of commits.
    pub id: String,
    /// What was written: `events` or `history`.
    pub batch: String,
    /// `threshold`, `hourly`, `manual`, `drain`, `recovery` or `journal`.
    pub cause: String,
    /// The boundary that was kept; RFC 3339.
    pub boundary: Option<String>,
    /// Boundaries before it that passed unkept.
    pub skipped_boundaries: i32,
    /// First id; `null` where nothing was written.
    pub first_id: Option<String>,
    /// Last id.
    pub last_id: Option<String>,
    /// First time of receipt; RFC 3339.
    pub first_received: Option<String>,
    /// Last time of receipt.
    pub last_received: Option<String>,
    /// Rows written.
    pub rows: i64,
    /// Rows that were there before.
    pub skipped: i64,
    /// Rows that the database refused.
    pub quarantined: i64,
    /// Time in the transaction until this row was written, in microseconds. The commit itself comes after that: `flush_ms` of the
    /// stats is with it.
    pub duration_us: i64,
    /// When the batch was cut; RFC 3339.
    pub cut_at: String,
}

impl From<FlushRecord> for FlushDocument {
    fn from(flush: FlushRecord) -> Self {
        let time = |time: Option<i64>| time.map(|time| Timestamp(time).to_string());
        Self {
            id: flush.id.to_string(),
            batch: flush.batch,
            cause: flush.cause,
            boundary: time(flush.boundary),
            skipped_boundaries: flush.skipped_boundaries,
            first_id: flush.first_id.map(|id| id.to_string()),
            last_id: flush.last_id.map(|id| id.to_string()),
            first_received: time(flush.first_received),
            last_received: time(flush.last_received),
            rows: flush.rows,
            skipped: flush.skipped,
            quarantined: flush.quarantined,
            duration_us: flush.duration_us,
            cut_at: Timestamp(flush.cut_at).to_string(),
        }
    }
}

/// A page of flushes.
///
/// # Errors
/// [`QueryError`].
pub fn answer(reader: &mut ReadConnection, query: &FlushQuery) -> Result<FlushPage, QueryError> {
    let limit = limit(query.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let below = id("before", query.before.as_deref())?.unwrap_or(i64::MAX);
    let records = reader.flushes_before(below, limit)?;
    let next = (records.len() == limit as usize).then(|| records.last().map(|flush| flush.id.to_string())).flatten();
    Ok(FlushPage { flushes: records.into_iter().map(FlushDocument::from).collect(), next })
}
