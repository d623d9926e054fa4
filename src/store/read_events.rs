//! Reading events newest first, without an index but the key.
//!
//! A filter is applied while scanning, so a page scans a bounded number of rows and then says how far it came. Time ranges go
//! through `flushes`, whose rows know when their events were received.

use diesel::dsl::{max, min};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, Queryable, RunQueryDsl};

use super::StoreError;
use super::connection::{Phase, on, query_error};
use super::flushes::Kind;
use super::read::ReadConnection;
use super::schema::{endpoint_sse, flushes};
use crate::clock::Timestamp;
use crate::id::EventId;
use crate::query::Scope;
use crate::query::range::Range;

/// Most rows that a filtered page looks at: some 4 MB of them, read in a few hundredths of a second.
pub const SCANNED_ROWS_MAX: i64 = 50_000;

/// A row of `endpoint_sse`. Times are microseconds of UTC.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct EventRecord {
    /// Event id.
    pub id: i64,
    /// Kind.
    pub event_type: String,
    /// The master's time.
    pub event_time: Option<i64>,
    /// Endpoint.
    pub endpoint_id: i32,
    /// Instance there, or empty.
    pub instance_id: String,
    /// Status.
    pub status: String,
    /// Counter.
    pub tcp_rx: i64,
    /// Counter.
    pub tcp_tx: i64,
    /// Counter.
    pub udp_rx: i64,
    /// Counter.
    pub udp_tx: i64,
    /// Gauge.
    pub tcps: Option<i32>,
    /// Gauge.
    pub udps: Option<i32>,
    /// Gauge.
    pub pool: Option<i32>,
    /// Milliseconds.
    pub ping: Option<i32>,
    /// A log event's line.
    pub logs: Option<String>,
    /// JSON of what changed.
    pub detail: Option<String>,
}

/// Which events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter {
    /// Of what.
    pub scope: Scope,
    /// Of this kind.
    pub kind: Option<String>,
    /// Lowest id.
    pub lowest: i64,
    /// The ids are below this one.
    pub below: i64,
}

/// Events, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventPage {
    /// The rows.
    pub events: Vec<EventRecord>,
    /// Where the next page goes on: its ids are below this one. `None` if there is nothing more.
    pub next_below: Option<i64>,
}

/// What a flush says about the ids in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushSpan {
    /// First and last id.
    pub ids: (i64, i64),
    /// First and last time of receipt.
    pub received: (Timestamp, Timestamp),
}

/// When an event was received. Its id's clock says so to the millisecond, except while it ran ahead of the wall clock; the
/// flush that the event came with knows between which times it was.
#[must_use]
pub fn received_at(id: EventId, spans: &[FlushSpan]) -> Timestamp {
    let span = spans.iter().find(|span| (span.ids.0..=span.ids.1).contains(&id.0));
    let clock = id.id_clock();
    span.map_or(clock, |span| clock.max(span.received.0).min(span.received.1))
}

impl ReadConnection {
    /// A page of at most `limit` events.
    ///
    /// # Errors
    /// [`Unavailable`](super::StoreErrorKind::Unavailable).
    pub fn events_before(&mut self, filter: &EventFilter, limit: u32, scan_max: i64) -> Result<EventPage, StoreError> {
        use endpoint_sse as s;
        let filtered = filter.kind.is_some() || filter.scope != Scope::Fleet;
        let deepest = s::table
            .select(s::id)
            .filter(s::id.lt(filter.below))
            .filter(s::id.ge(filter.lowest))
            .order(s::id.desc())
            .offset(scan_max);
        let floor: Option<i64> = if filtered {
            on!(&mut self.connection, c => deepest.first(c).optional()).map_err(|error| self.failed(&error))?
        } else {
            None
        };
        let lowest = floor.map_or(filter.lowest, |floor| floor + 1);
        let events: Vec<EventRecord> = on!(&mut self.connection, c => {
            let mut query = s::table.filter(s::id.lt(filter.below)).filter(s::id.ge(lowest)).into_boxed();
            match &filter.scope {
                Scope::Fleet => {}
                Scope::Endpoint(id) => query = query.filter(s::endpoint_id.eq(id.0)),
                Scope::Tunnel(tunnel) => {
                    query = query.filter(s::endpoint_id.eq(tunnel.endpoint.0)).filter(s::instance_id.eq(tunnel.instance.as_str()));
                }
            }
            if let Some(kind) = &filter.kind {
                query = query.filter(s::event_type.eq(kind));
            }
            query.order(s::id.desc()).limit(i64::from(limit)).load(c)
        })
        .map_err(|error| self.failed(&error))?;
        let full = events.len() as u64 == u64::from(limit);
        let next_below = if full { events.last().map(|event| event.id) } else { floor.map(|floor| floor + 1) };
        Ok(EventPage { events, next_below })
    }

    /// Lowest and highest id that events received in this range can have; `None` if no flush touches it.
    ///
    /// # Errors
    /// As above.
    pub fn event_ids_within(&mut self, range: Range) -> Result<Option<(i64, i64)>, StoreError> {
        use flushes as f;
        let of_events = f::table.filter(f::batch.eq(Kind::Events.as_str()));
        let touching = of_events.filter(f::last_received.ge(range.from.0)).filter(f::first_received.lt(range.until.0));
        let ids = touching.select((min(f::first_id), max(f::last_id)));
        let (first, last): (Option<i64>, Option<i64>) =
            on!(&mut self.connection, c => ids.first(c)).map_err(|error| self.failed(&error))?;
        Ok(first.zip(last))
    }

    /// The flushes that events with ids from `first` to `last` came with.
    ///
    /// # Errors
    /// As above.
    pub fn flush_spans(&mut self, first: i64, last: i64) -> Result<Vec<FlushSpan>, StoreError> {
        use flushes as f;
        type Row = (Option<i64>, Option<i64>, Option<i64>, Option<i64>);
        let before = f::table.filter(f::batch.eq(Kind::Events.as_str())).filter(f::first_id.le(first)).select(max(f::first_id));
        let start: Option<i64> = on!(&mut self.connection, c => before.first(c)).map_err(|error| self.failed(&error))?;
        let between = f::table
            .filter(f::batch.eq(Kind::Events.as_str()))
            .filter(f::first_id.ge(start.unwrap_or(first)))
            .filter(f::first_id.le(last))
            .order(f::first_id)
            .select((f::first_id, f::last_id, f::first_received, f::last_received));
        let rows: Vec<Row> = on!(&mut self.connection, c => between.load(c)).map_err(|error| self.failed(&error))?;
        let span =
            |(first, last, from, to): Row| Some(FlushSpan { ids: (first?, last?), received: (Timestamp(from?), Timestamp(to?)) });
        Ok(rows.into_iter().filter_map(span).collect())
    }

    pub(super) fn failed(&self, error: &diesel::result::Error) -> StoreError {
        query_error(&self.url, error, Phase::Running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_receipt_follows_the_id_but_never_leaves_its_flush() {
        let mut ids = crate::id::IdGenerator::new(0, EventId::ZERO);
        let noon = Timestamp(1_795_435_200_000_000);
        let id = ids.next(noon);
        let span = |from: i64, to: i64| FlushSpan {
            ids: (id.0, id.0 + 5),
            received: (Timestamp(noon.0 + from), Timestamp(noon.0 + to)),
        };
        assert_eq!(received_at(id, &[span(-5, 5)]), noon);
        assert_eq!(received_at(id, &[span(-50, -5)]).0, noon.0 - 5, "the id's clock was ahead");
        assert_eq!(received_at(id, &[span(5, 50)]).0, noon.0 + 5);
        assert_eq!(received_at(EventId(id.0 + 9), &[span(5, 50)]), noon, "of no flush that is known");
    }
}
