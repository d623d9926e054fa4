//! `flushes`: one row for each batch that was committed, written in the batch's own transaction.
//!
//! It is both the record that people read (cause, boundary, times, rows) and the marker that makes a batch be stored once:
//! a batch whose row is there is not stored again. There is no other high-water mark.

use diesel::dsl::max;
use diesel::{ExpressionMethods, Insertable, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl};

use super::connection::{Connection, on};
use super::schema::flushes;
use super::{Committed, FlushInfo};
use crate::clock::Timestamp;
use crate::id::EventId;

/// `flushes.batch`: what was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Events,
    History,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::History => "history",
        }
    }
}

/// What tells a batch from all others: its kind, its first and its last id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) kind: Kind,
    pub(super) first: EventId,
    pub(super) last: EventId,
}

/// Whether the batch was committed before.
pub(super) fn is_stored(connection: &mut Connection, marker: Marker) -> QueryResult<bool> {
    let query = flushes::table
        .filter(flushes::first_id.eq(marker.first.0))
        .filter(flushes::last_id.eq(marker.last.0))
        .filter(flushes::batch.eq(marker.kind.as_str()))
        .select(flushes::id);
    let found: Option<i64> = on!(connection, c => query.first(c).optional())?;
    Ok(found.is_some())
}

/// A row to be.
pub(super) struct Flush {
    pub(super) kind: Kind,
    pub(super) info: FlushInfo,
    /// `None` for a batch without records.
    pub(super) marker: Option<Marker>,
    /// Events contained in history so far.
    pub(super) through: Option<EventId>,
    /// First and last time of receipt.
    pub(super) received: Option<(Timestamp, Timestamp)>,
    pub(super) committed: Committed,
    /// Time in the transaction up to here; the commit's own time is in the statistics of the FlushActor.
    pub(super) duration: std::time::Duration,
}

/// Writes the row.
pub(super) fn insert(connection: &mut Connection, flush: &Flush) -> QueryResult<()> {
    let row = Row {
        batch: flush.kind.as_str(),
        cause: flush.info.cause.as_str(),
        boundary: flush.info.boundary.map(|time| time.0),
        skipped_boundaries: i32::try_from(flush.info.skipped_boundaries).unwrap_or(i32::MAX),
        first_id: flush.marker.map(|marker| marker.first.0),
        last_id: flush.marker.map(|marker| marker.last.0),
        through_id: flush.through.map(|id| id.0),
        first_received: flush.received.map(|(first, _)| first.0),
        last_received: flush.received.map(|(_, last)| last.0),
        // What stands in the tables because of this batch, whether its rows were written with it or before.
        rows: count(flush.committed.written + flush.committed.single),
        skipped: count(flush.committed.skipped),
        quarantined: count(flush.committed.quarantined),
        duration_us: i64::try_from(flush.duration.as_micros()).unwrap_or(i64::MAX),
        cut_at: flush.info.cut_at.0,
    };
    on!(connection, c => diesel::insert_into(flushes::table).values(&row).execute(c))?;
    Ok(())
}

fn count(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// What the rows say of how far earlier runs came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) history_through: EventId,
    pub(super) highest_id: EventId,
    pub(super) last_boundary: Option<Timestamp>,
    pub(super) last_flush: Option<Timestamp>,
}

/// Reads [`Progress`]; scans the table, once at start.
pub(super) fn progress(connection: &mut Connection) -> QueryResult<Progress> {
    let maxima = flushes::table.select((max(flushes::last_id), max(flushes::through_id), max(flushes::boundary)));
    let (last_id, through, boundary): (Option<i64>, Option<i64>, Option<i64>) = on!(&mut *connection, c => maxima.first(c))?;
    let newest =
        flushes::table.filter(flushes::batch.eq(Kind::Events.as_str())).order(flushes::id.desc()).select(flushes::cut_at);
    let last_flush: Option<i64> = on!(connection, c => newest.first(c).optional())?;
    Ok(Progress {
        history_through: EventId(through.unwrap_or_default()),
        highest_id: EventId(last_id.max(through).unwrap_or_default()),
        last_boundary: boundary.map(Timestamp),
        last_flush: last_flush.map(Timestamp),
    })
}

#[derive(Insertable)]
#[diesel(table_name = flushes, treat_none_as_default_value = false)]
struct Row<'a> {
    batch: &'a str,
    cause: &'a str,
    boundary: Option<i64>,
    skipped_boundaries: i32,
    first_id: Option<i64>,
    last_id: Option<i64>,
    through_id: Option<i64>,
    first_received: Option<i64>,
    last_received: Option<i64>,
    rows: i64,
    skipped: i64,
    quarantined: i64,
    duration_us: i64,
    cut_at: i64,
}
