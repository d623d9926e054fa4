//! Storing a history batch: `service_history`, `counter_events` and `history_state`.
//!
//! A minute's row is written whole, so that writing it again changes nothing. The exception is a row marked `merge`: the
//! wall clock was set back over its minute, which has two parts then. It is the batch's own marker in `flushes` that keeps
//! such a part from being added twice.

use std::borrow::Cow;
use std::collections::BTreeMap;

use diesel::upsert::excluded;
use diesel::{ExpressionMethods, Identifiable, Insertable, OptionalExtension, QueryDsl, QueryResult, Queryable, RunQueryDsl};

use super::connection::{Connection, on};
use super::events::{bigint, text};
use super::flushes::{self, Flush, Kind, Marker};
use super::schema::{counter_events, history_state, service_history};
use super::{Committed, CounterEvent, HistoryBatch, HistoryRow, Writing};
use crate::event::{EndpointId, TunnelKey};

/// A row of `service_history`.
#[derive(Clone, Debug, PartialEq, Queryable, Insertable, Identifiable)]
#[diesel(table_name = service_history, treat_none_as_default_value = false)]
#[diesel(primary_key(endpoint_id, instance_id, record_time))]
struct MinuteRow {
    endpoint_id: i32,
    instance_id: String,
    record_time: i64,
    delta_tcp_in: i64,
    delta_tcp_out: i64,
    delta_udp_in: i64,
    delta_udp_out: i64,
    avg_ping: Option<f64>,
    min_ping: Option<i32>,
    max_ping: Option<i32>,
    avg_pool: Option<i32>,
    avg_tcps: Option<i32>,
    avg_udps: Option<i32>,
    avg_speed_in: Option<f64>,
    avg_speed_out: Option<f64>,
    record_count: i32,
    expected_count: i32,
}

impl MinuteRow {
    fn new(row: &HistoryRow) -> Self {
        Self {
            endpoint_id: row.tunnel.endpoint.0,
            instance_id: text(row.tunnel.instance.as_str()).into_owned(),
            record_time: row.minute.0,
            delta_tcp_in: bigint(row.delta.tcp_rx),
            delta_tcp_out: bigint(row.delta.tcp_tx),
            delta_udp_in: bigint(row.delta.udp_rx),
            delta_udp_out: bigint(row.delta.udp_tx),
            avg_ping: row.ping.map(|ping| ping.mean),
            min_ping: row.ping.map(|ping| ping.min),
            max_ping: row.ping.map(|ping| ping.max),
            avg_pool: row.pool,
            avg_tcps: row.tcps,
            avg_udps: row.udps,
            // Whole bytes per second: SQLite stores a whole number in a few bytes and any other in eight.
            avg_speed_in: row.speed_in.map(f64::round),
            avg_speed_out: row.speed_out.map(f64::round),
            record_count: row.record_count,
            expected_count: row.expected_count,
        }
    }

    /// This part and a later one of the same minute as one row. Means are weighted by the number of samples.
    fn plus(self, later: &Self) -> Self {
        let mean = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => {
                let (n, m) = (f64::from(self.record_count.max(0)), f64::from(later.record_count.max(0)));
                Some(if n + m > 0.0 { (a * n + b * m) / (n + m) } else { b })
            }
            (a, b) => a.or(b),
        };
        Self {
            delta_tcp_in: self.delta_tcp_in.saturating_add(later.delta_tcp_in),
            delta_tcp_out: self.delta_tcp_out.saturating_add(later.delta_tcp_out),
            delta_udp_in: self.delta_udp_in.saturating_add(later.delta_udp_in),
            delta_udp_out: self.delta_udp_out.saturating_add(later.delta_udp_out),
            avg_ping: mean(self.avg_ping, later.avg_ping),
            min_ping: self.min_ping.into_iter().chain(later.min_ping).min(),
            max_ping: self.max_ping.into_iter().chain(later.max_ping).max(),
            avg_pool: later.avg_pool.or(self.avg_pool),
            avg_tcps: later.avg_tcps.or(self.avg_tcps),
            avg_udps: later.avg_udps.or(self.avg_udps),
            avg_speed_in: mean(self.avg_speed_in, later.avg_speed_in).map(f64::round),
            avg_speed_out: mean(self.avg_speed_out, later.avg_speed_out).map(f64::round),
            record_count: self.record_count.saturating_add(later.record_count),
            expected_count: self.expected_count.max(later.expected_count),
            ..self
        }
    }
}

/// Stores the batch and its `flushes` row.
pub(super) fn commit(connection: &mut Connection, batch: &HistoryBatch, writing: &Writing<'_>) -> QueryResult<Committed> {
    let marker = Marker { kind: Kind::History, first: batch.id, last: batch.id };
    if flushes::is_stored(connection, marker)? {
        return Ok(Committed { skipped: batch.rows.len() as u64, ..Committed::default() });
    }
    let rows = merged(connection, &batch.rows)?;
    for chunk in rows.chunks(writing.batch_size) {
        upsert_minutes(connection, chunk)?;
    }
    let counter_rows: Vec<CounterEventRow<'_>> = batch.counter_events.iter().map(CounterEventRow::new).collect();
    for chunk in counter_rows.chunks(writing.batch_size) {
        let key = (counter_events::event_id, counter_events::kind);
        on!(&mut *connection, c => {
            diesel::insert_into(counter_events::table).values(chunk).on_conflict(key).do_nothing().execute(c)
        })?;
    }
    store_states(connection, &batch.states, writing.batch_size)?;
    let committed = Committed { written: rows.len() as u64, ..Committed::default() };
    let flush = Flush {
        kind: Kind::History,
        info: batch.info,
        marker: Some(marker),
        through: Some(batch.through),
        received: None,
        committed,
        duration: writing.elapsed(),
    };
    flushes::insert(connection, &flush)?;
    Ok(committed)
}

/// The batch's rows, one for each tunnel and minute, with what is stored already where a row is only a part.
fn merged(connection: &mut Connection, rows: &[HistoryRow]) -> QueryResult<Vec<MinuteRow>> {
    let mut merged: BTreeMap<(i32, String, i64), MinuteRow> = BTreeMap::new();
    for row in rows {
        let new = MinuteRow::new(row);
        let key = (new.endpoint_id, new.instance_id.clone(), new.record_time);
        let earlier = match merged.remove(&key) {
            _ if !row.merge => None,
            Some(earlier) => Some(earlier),
            None => {
                let query = service_history::table.find(key.clone());
                on!(&mut *connection, c => query.first(c).optional())?
            }
        };
        merged.insert(key, earlier.map_or_else(|| new.clone(), |earlier: MinuteRow| earlier.plus(&new)));
    }
    Ok(merged.into_values().collect())
}

fn upsert_minutes(connection: &mut Connection, chunk: &[MinuteRow]) -> QueryResult<()> {
    use service_history as h;
    let key = (h::endpoint_id, h::instance_id, h::record_time);
    let all_but_key = (
        h::delta_tcp_in.eq(excluded(h::delta_tcp_in)),
        h::delta_tcp_out.eq(excluded(h::delta_tcp_out)),
        h::delta_udp_in.eq(excluded(h::delta_udp_in)),
        h::delta_udp_out.eq(excluded(h::delta_udp_out)),
        h::avg_ping.eq(excluded(h::avg_ping)),
        h::min_ping.eq(excluded(h::min_ping)),
        h::max_ping.eq(excluded(h::max_ping)),
        h::avg_pool.eq(excluded(h::avg_pool)),
        h::avg_tcps.eq(excluded(h::avg_tcps)),
        h::avg_udps.eq(excluded(h::avg_udps)),
        h::avg_speed_in.eq(excluded(h::avg_speed_in)),
        h::avg_speed_out.eq(excluded(h::avg_speed_out)),
        h::record_count.eq(excluded(h::record_count)),
        h::expected_count.eq(excluded(h::expected_count)),
    );
    on!(connection, c => diesel::insert_into(h::table).values(chunk).on_conflict(key).do_update().set(all_but_key).execute(c))?;
    Ok(())
}

fn store_states(connection: &mut Connection, states: &[(TunnelKey, Option<Box<str>>)], batch_size: usize) -> QueryResult<()> {
    use history_state as s;
    // One row per key, the last one: PostgreSQL refuses a statement that meets a key twice.
    let latest: BTreeMap<&TunnelKey, Option<&str>> = states.iter().map(|(key, state)| (key, state.as_deref())).collect();
    let mut rows = Vec::new();
    for (tunnel, state) in latest {
        let instance = text(tunnel.instance.as_str());
        match state {
            Some(state) => {
                rows.push((s::endpoint_id.eq(tunnel.endpoint.0), s::instance_id.eq(instance), s::state.eq(text(state))));
            }
            None => {
                let gone = s::table.find((tunnel.endpoint.0, instance));
                on!(&mut *connection, c => diesel::delete(gone).execute(c))?;
            }
        }
    }
    for chunk in rows.chunks(batch_size) {
        let chunk = chunk.to_vec();
        on!(&mut *connection, c => {
            diesel::insert_into(s::table).values(chunk).on_conflict((s::endpoint_id, s::instance_id))
                .do_update().set(s::state.eq(excluded(s::state))).execute(c)
        })?;
    }
    Ok(())
}

/// All states of the history worker.
pub(super) fn load_states(connection: &mut Connection) -> QueryResult<Vec<(TunnelKey, Box<str>)>> {
    let all = history_state::table.order((history_state::endpoint_id, history_state::instance_id));
    let rows: Vec<(i32, String, String)> = on!(connection, c => all.load(c))?;
    let key = |endpoint, instance: String| TunnelKey { endpoint: EndpointId(endpoint), instance: instance.as_str().into() };
    Ok(rows.into_iter().map(|(endpoint, instance, state)| (key(endpoint, instance), state.into_boxed_str())).collect())
}

#[derive(Insertable)]
#[diesel(table_name = counter_events, treat_none_as_default_value = false)]
struct CounterEventRow<'a> {
    event_id: i64,
    kind: Cow<'a, str>,
    endpoint_id: i32,
    instance_id: Cow<'a, str>,
    time: i64,
    before_tcp_rx: i64,
    before_tcp_tx: i64,
    before_udp_rx: i64,
    before_udp_tx: i64,
    after_tcp_rx: i64,
    after_tcp_tx: i64,
    after_udp_rx: i64,
    after_udp_tx: i64,
}

impl<'a> CounterEventRow<'a> {
    fn new(event: &'a CounterEvent) -> Self {
        Self {
            event_id: event.event.0,
            kind: text(&event.kind),
            endpoint_id: event.tunnel.endpoint.0,
            instance_id: text(event.tunnel.instance.as_str()),
            time: event.at.0,
            before_tcp_rx: bigint(event.before.tcp_rx),
            before_tcp_tx: bigint(event.before.tcp_tx),
            before_udp_rx: bigint(event.before.udp_rx),
            before_udp_tx: bigint(event.before.udp_tx),
            after_tcp_rx: bigint(event.after.tcp_rx),
            after_tcp_tx: bigint(event.after.tcp_tx),
            after_udp_rx: bigint(event.after.udp_rx),
            after_udp_tx: bigint(event.after.udp_tx),
        }
    }
}
