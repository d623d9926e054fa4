//! Storing a batch of records: `endpoint_sse`, `gaps`, and `quarantine` for what the database refuses.
//!
//! All runs inside the transaction that the caller opened. The usual batch is new: SQLite takes it in statements of
//! `batch_size` rows, PostgreSQL through COPY. Where that fails because of a row, the batch goes in smaller and smaller
//! pieces, each in a savepoint, until the row stands alone.

use std::borrow::Cow;

use diesel::result::{DatabaseErrorKind, Error};
use diesel::{Connection as _, ExecuteCopyFromDsl, ExpressionMethods, Insertable, PgConnection, QueryResult, RunQueryDsl};
use serde::Serialize;

use super::connection::{Connection, RowVerdict, on, refuses_row};
use super::flushes::{self, Flush, Kind, Marker};
use super::insert_events::InsertEvents;
use super::schema::{endpoint_sse, gaps, quarantine};
use super::{Committed, EventBatch, Overlap, Writing, compare, modes};
use crate::clock::Timestamp;
use crate::event::{Event, Gap, Record};
use crate::id::EventId;
use crate::modes::usage::Comparison;

/// A row of `endpoint_sse`.
#[derive(Clone, Debug, PartialEq, Eq, Insertable, Serialize)]
#[diesel(table_name = endpoint_sse, treat_none_as_default_value = false)]
pub(super) struct EventRow<'a> {
    pub(super) id: i64,
    pub(super) event_type: &'a str,
    pub(super) event_time: Option<i64>,
    pub(super) endpoint_id: i32,
    pub(super) instance_id: &'a str,
    pub(super) status: &'a str,
    pub(super) tcp_rx: i64,
    pub(super) tcp_tx: i64,
    pub(super) udp_rx: i64,
    pub(super) udp_tx: i64,
    pub(super) tcps: Option<i32>,
    pub(super) udps: Option<i32>,
    pub(super) pool: Option<i32>,
    pub(super) ping: Option<i32>,
    pub(super) logs: Option<&'a str>,
    pub(super) detail: Option<&'a str>,
}

impl<'a> EventRow<'a> {
    pub(super) fn new(event: &'a Event) -> Self {
        let sample = event.sample.as_ref();
        let counter = |get: fn(&crate::event::Counters) -> u64| sample.map_or(0, |sample| bigint(get(&sample.counters)));
        Self {
            id: event.id.0,
            event_type: event.kind.as_str(),
            event_time: event.event_time.map(|time| time.0),
            endpoint_id: event.endpoint.0,
            instance_id: event.instance.as_str(),
            status: sample.map_or("", |sample| sample.status.as_str()),
            tcp_rx: counter(|counters| counters.tcp_rx),
            tcp_tx: counter(|counters| counters.tcp_tx),
            udp_rx: counter(|counters| counters.udp_rx),
            udp_tx: counter(|counters| counters.udp_tx),
            tcps: sample.and_then(|sample| sample.tcps),
            udps: sample.and_then(|sample| sample.udps),
            pool: sample.and_then(|sample| sample.pool),
            ping: sample.and_then(|sample| sample.ping),
            logs: event.logs.as_ref().map(|line| line.as_str()),
            detail: event.detail.as_deref(),
        }
    }

    pub(super) fn holds_nul(&self) -> bool {
        [Some(self.event_type), Some(self.instance_id), Some(self.status), self.logs, self.detail]
            .into_iter()
            .flatten()
            .any(|text| text.contains('\0'))
    }
}

/// A counter as BIGINT. Above 2^63-1 (9.2 EB) it stays there, which a delta reads as no movement: too low, never too high.
pub(super) fn bigint(counter: u64) -> i64 {
    i64::try_from(counter).unwrap_or(i64::MAX)
}

/// Text as both databases can hold it: PostgreSQL's text has no NUL. Events that hold one are set aside instead, so that
/// what is stored is what was received.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// A row that the database refused.
struct Refusal<'a> {
    row: EventRow<'a>,
    reason: String,
    /// The error where it may lie around the row and not in it.
    doubt: Option<Error>,
}

/// Stores the batch and its `flushes` row.
pub(super) fn commit(connection: &mut Connection, batch: &EventBatch, writing: &Writing<'_>) -> QueryResult<Committed> {
    let records = batch.records.as_slice();
    let marker = marker(records);
    if let (true, Some(marker)) = (batch.maybe_stored, marker)
        && flushes::is_stored(connection, marker)?
    {
        return Ok(Committed { skipped: records.len() as u64, ..Committed::default() });
    }
    let mut comparison = match &batch.overlap {
        Some(Overlap { compare: true, written, .. }) => compare::with_batch(connection, records, written)?,
        Some(_) | None => Comparison::default(),
    };
    let events: Vec<EventRow<'_>> = records.iter().filter_map(as_event).map(EventRow::new).collect();
    let mut inserter = Inserter { batch_size: writing.batch_size, inserted: 0, refused: Vec::new() };
    inserter.insert(connection, events.clone(), batch.maybe_stored || batch.overlap.is_some())?;
    let Inserter { mut inserted, refused, .. } = inserter;
    if refused.len() == events.len()
        && let Some(doubt) = refused.iter().position(|refusal| refusal.doubt.is_some())
    {
        // Not one row went through: it may well be the table or the server, and quarantine is no place for every event.
        return Err(refused.into_iter().nth(doubt).and_then(|refusal| refusal.doubt).unwrap_or(Error::NotFound));
    }
    inserted += insert_gaps(connection, records.iter().filter_map(as_gap), writing.batch_size)?;
    set_aside(connection, &refused, writing.clock.wall())?;
    let quarantined = refused.len() as u64;
    let there = (records.len() as u64).saturating_sub(inserted + quarantined);
    let (single, missing) = batch.overlap.as_ref().map_or((0, 0), |overlap| overlap.judge(there));
    comparison.missing_in_realtime = comparison.missing_in_realtime.max(missing);
    let committed = Committed { written: inserted, skipped: there - single, quarantined, single, comparison };
    let flush = Flush {
        kind: Kind::Events,
        info: batch.info,
        marker,
        through: None,
        received: records.iter().map(Record::received_at).min().zip(records.iter().map(Record::received_at).max()),
        committed,
        duration: writing.elapsed(),
    };
    flushes::insert(connection, &flush)?;
    if let Some((mode, mut usage)) = batch.usage.as_deref().copied() {
        usage.comparison.add(&committed.comparison);
        usage.events += committed.written;
        usage.rows += committed.written;
        modes::store_usage(connection, mode, &usage)?;
    }
    Ok(committed)
}

impl Overlap {
    /// Of the rows of a batch that were `there`: how many may be so because they were written one at a time. And how many of
    /// those that were reported as written are missing at least.
    pub(super) fn judge(&self, there: u64) -> (u64, u64) {
        let written = self.written.len() as u64;
        (there.min(written.saturating_add(self.doubtful)), written.saturating_sub(there))
    }
}

fn marker(records: &[Record]) -> Option<Marker> {
    let (first, last) = records.first().zip(records.last())?;
    Some(Marker { kind: Kind::Events, first: first.id(), last: last.id() })
}

fn as_event(record: &Record) -> Option<&Event> {
    match record {
        Record::Event(event) => Some(event),
        Record::Gap(_) => None,
    }
}

fn as_gap(record: &Record) -> Option<&Gap> {
    match record {
        Record::Gap(gap) => Some(gap),
        Record::Event(_) => None,
    }
}

/// Inserts rows and keeps count.
struct Inserter<'a> {
    batch_size: usize,
    inserted: u64,
    refused: Vec<Refusal<'a>>,
}

impl<'a> Inserter<'a> {
    fn insert(&mut self, connection: &mut Connection, rows: Vec<EventRow<'a>>, maybe_stored: bool) -> QueryResult<()> {
        let rows = match connection {
            Connection::Sqlite(_) => rows,
            Connection::Postgres(c) => {
                let rows = self.without_nul(rows);
                if !maybe_stored && let Some(inserted) = copy(c, &rows)? {
                    self.inserted += inserted;
                    return Ok(());
                }
                rows
            }
        };
        rows.chunks(self.batch_size).try_for_each(|chunk| self.insert_chunk(connection, chunk))
    }

    fn without_nul(&mut self, rows: Vec<EventRow<'a>>) -> Vec<EventRow<'a>> {
        let (refused, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(EventRow::holds_nul);
        let reason = "it holds a NUL character, which PostgreSQL's text cannot";
        self.refused.extend(refused.into_iter().map(|row| Refusal { row, reason: reason.to_owned(), doubt: None }));
        rows
    }

    /// One statement; where a row is refused, half of it at a time.
    fn insert_chunk(&mut self, connection: &mut Connection, chunk: &[EventRow<'a>]) -> QueryResult<()> {
        let error = match statement(connection, chunk, self.batch_size) {
            Ok(inserted) => {
                self.inserted += inserted as u64;
                return Ok(());
            }
            Err(error) => error,
        };
        let verdict = refuses_row(connection, &error);
        match (verdict, chunk) {
            (RowVerdict::Around, _) | (_, []) => Err(error),
            (_, [row]) => {
                let reason = error.to_string();
                let doubt = (verdict == RowVerdict::Perhaps).then_some(error);
                self.refused.push(Refusal { row: row.clone(), reason, doubt });
                Ok(())
            }
            (_, _) => {
                let (left, right) = chunk.split_at(chunk.len() / 2);
                self.insert_chunk(connection, left)?;
                self.insert_chunk(connection, right)
            }
        }
    }
}

/// `INSERT ... ON CONFLICT(id) DO NOTHING` in a savepoint; the number of rows that are new.
fn statement(connection: &mut Connection, chunk: &[EventRow<'_>], full: usize) -> QueryResult<usize> {
    match connection {
        // A failed statement leaves no trace in SQLite, so it needs no savepoint.
        Connection::Sqlite(c) => InsertEvents::new(chunk, full).execute(c),
        Connection::Postgres(c) => c.transaction(|c| {
            diesel::insert_into(endpoint_sse::table).values(chunk).on_conflict(endpoint_sse::id).do_nothing().execute(c)
        }),
    }
}

/// COPY in a savepoint. `None` if a row was refused: COPY does not say which.
fn copy(connection: &mut PgConnection, rows: &[EventRow<'_>]) -> QueryResult<Option<u64>> {
    if rows.is_empty() {
        return Ok(Some(0));
    }
    let copied = connection.transaction(|c| diesel::copy_from(endpoint_sse::table).from_insertable(rows).execute(c));
    match copied {
        Ok(inserted) => Ok(Some(inserted as u64)),
        Err(error @ Error::DatabaseError(DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand, _)) => {
            Err(error)
        }
        // Whatever it is, inserting row by row will meet it again and judge it.
        Err(Error::DatabaseError(..) | Error::SerializationError(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn insert_gaps<'a>(connection: &mut Connection, all: impl Iterator<Item = &'a Gap>, batch_size: usize) -> QueryResult<u64> {
    let rows: Vec<GapRow<'_>> = all.map(GapRow::new).collect();
    let mut inserted = 0;
    for chunk in rows.chunks(batch_size) {
        inserted += on!(&mut *connection, c => {
            diesel::insert_into(gaps::table).values(chunk).on_conflict(gaps::id).do_nothing().execute(c)
        })? as u64;
    }
    Ok(inserted)
}

#[derive(PartialEq, Eq, Insertable)]
#[diesel(table_name = gaps, treat_none_as_default_value = false)]
pub(super) struct GapRow<'a> {
    pub(super) id: i64,
    pub(super) endpoint_id: i32,
    pub(super) instance_id: Cow<'a, str>,
    pub(super) from_time: i64,
    pub(super) to_time: i64,
    pub(super) reason: Cow<'a, str>,
}

impl<'a> GapRow<'a> {
    pub(super) fn new(gap: &'a Gap) -> Self {
        Self {
            id: gap.id.0,
            endpoint_id: gap.endpoint.0,
            instance_id: text(gap.instance.as_str()),
            from_time: gap.from.0,
            to_time: gap.to.0,
            reason: text(&gap.reason),
        }
    }
}

fn set_aside(connection: &mut Connection, refused: &[Refusal<'_>], at: Timestamp) -> QueryResult<()> {
    for Refusal { row, reason, .. } in refused {
        let json = serde_json::to_string(row).map_err(|error| Error::SerializationError(error.into()))?;
        let values = (
            quarantine::event_id.eq(row.id),
            quarantine::endpoint_id.eq(row.endpoint_id),
            quarantine::row.eq(json),
            quarantine::reason.eq(text(reason)),
            quarantine::time.eq(at.0),
        );
        on!(&mut *connection, c => diesel::insert_into(quarantine::table).values(&values).execute(c))?;
    }
    Ok(())
}

/// The highest id among events, gaps and counter events.
pub(super) fn highest_id(connection: &mut Connection) -> QueryResult<EventId> {
    use super::schema::counter_events;
    use diesel::QueryDsl;
    use diesel::dsl::max;
    let event: Option<i64> = on!(&mut *connection, c => endpoint_sse::table.select(max(endpoint_sse::id)).first(c))?;
    let gap: Option<i64> = on!(&mut *connection, c => gaps::table.select(max(gaps::id)).first(c))?;
    let counter: Option<i64> = on!(connection, c => counter_events::table.select(max(counter_events::event_id)).first(c))?;
    Ok(EventId(event.max(gap).max(counter).unwrap_or_default()))
}
