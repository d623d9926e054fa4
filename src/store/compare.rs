//! What stands in the database next to what a batch holds, field by field.
//!
//! Both sides are in one process, so the fields themselves are compared and not digests of them.

use std::collections::BTreeMap;

use diesel::{ExpressionMethods, QueryDsl, QueryResult, Queryable, RunQueryDsl};

use super::connection::{Connection, on};
use super::events::{EventRow, GapRow};
use super::schema::{endpoint_sse, gaps};
use crate::event::Record;
use crate::id::EventId;
use crate::modes::usage::Comparison;

/// Compares the rows between the first and the last id of a batch, of the node that gave these, with its records. A record
/// without a row is missing only if it is among the `written`.
pub(super) fn with_batch(connection: &mut Connection, records: &[Record], written: &[EventId]) -> QueryResult<Comparison> {
    let Some((first, last)) = records.first().zip(records.last()).map(|(first, last)| (first.id(), last.id())) else {
        return Ok(Comparison::default());
    };
    let events = endpoint_sse::table.filter(endpoint_sse::id.between(first.0, last.0));
    let events: Vec<StoredEvent> = on!(&mut *connection, c => events.load(c))?;
    let gaps_between = gaps::table.filter(gaps::id.between(first.0, last.0));
    let stored_gaps: Vec<StoredGap> = on!(connection, c => gaps_between.load(c))?;
    let mut rows: BTreeMap<i64, Stored> = events.into_iter().map(|row| (row.id, Stored::Event(row))).collect();
    rows.extend(stored_gaps.into_iter().map(|row| (row.id, Stored::Gap(row))));
    let mut comparison = Comparison::default();
    for record in records {
        match rows.remove(&record.id().0) {
            Some(row) if row.equals(record) => comparison.identical += 1,
            Some(_) => {
                log::error!("event {} stands in the database with other fields than were received", record.id());
                comparison.different += 1;
            }
            None if written.binary_search(&record.id()).is_ok() => {
                log::error!("event {} was written, and does not stand in the database; its batch stores it", record.id());
                comparison.missing_in_realtime += 1;
            }
            None => {}
        }
    }
    let ours = |id: &&i64| EventId(**id).node() == first.node();
    for id in rows.keys().filter(ours) {
        log::error!("event {id} stands in the database and not in the batch that should hold it");
        comparison.missing_in_batch += 1;
    }
    Ok(comparison)
}

enum Stored {
    Event(StoredEvent),
    Gap(StoredGap),
}

impl Stored {
    fn equals(&self, record: &Record) -> bool {
        match (self, record) {
            (Self::Event(row), Record::Event(event)) => row.as_row() == EventRow::new(event),
            (Self::Gap(row), Record::Gap(gap)) => row.as_row() == GapRow::new(gap),
            _ => false,
        }
    }
}

#[derive(Queryable)]
struct StoredEvent {
    id: i64,
    event_type: String,
    event_time: Option<i64>,
    endpoint_id: i32,
    instance_id: String,
    status: String,
    tcp_rx: i64,
    tcp_tx: i64,
    udp_rx: i64,
    udp_tx: i64,
    tcps: Option<i32>,
    udps: Option<i32>,
    pool: Option<i32>,
    ping: Option<i32>,
    logs: Option<String>,
    detail: Option<String>,
}

impl StoredEvent {
    fn as_row(&self) -> EventRow<'_> {
        EventRow {
            id: self.id,
            event_type: &self.event_type,
            event_time: self.event_time,
            endpoint_id: self.endpoint_id,
            instance_id: &self.instance_id,
            status: &self.status,
            tcp_rx: self.tcp_rx,
            tcp_tx: self.tcp_tx,
            udp_rx: self.udp_rx,
            udp_tx: self.udp_tx,
            tcps: self.tcps,
            udps: self.udps,
            pool: self.pool,
            ping: self.ping,
            logs: self.logs.as_deref(),
            detail: self.detail.as_deref(),
        }
    }
}

#[derive(Queryable)]
struct StoredGap {
    id: i64,
    endpoint_id: i32,
    instance_id: String,
    from_time: i64,
    to_time: i64,
    reason: String,
}

impl StoredGap {
    fn as_row(&self) -> GapRow<'_> {
        GapRow {
            id: self.id,
            endpoint_id: self.endpoint_id,
            instance_id: self.instance_id.as_str().into(),
            from_time: self.from_time,
            to_time: self.to_time,
            reason: self.reason.as_str().into(),
        }
    }
}
