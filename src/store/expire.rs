//! Deleting what has expired, one small step per transaction.

use std::collections::BTreeMap;

use diesel::connection::SimpleConnection;
use diesel::dsl::max;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, NullableExpressionMethods, OptionalExtension, QueryDsl, QueryResult,
    QueryableByName, RunQueryDsl, sql_query,
};

use super::connection::{Connection, on};
use super::flushes::Kind;
use super::schema::{counter_events, endpoint_sse, flushes, history_accounts, history_state, retention_floors};
use crate::clock::Timestamp;
use crate::event::Counters;
use crate::history::audit::adjustment;
use crate::id::EventId;
use crate::retention::{Cursor, Expired, Expiring, Expiry};

/// Newest rows of `flushes` that stay however old they are: they say how far earlier runs came.
const FLUSHES_KEPT: i64 = 1_000;
/// Looking at a tunnel that has nothing to delete counts as this many rows of a step.
const TUNNEL_ROWS: u32 = 5;
/// Free pages that stay in a SQLite file (4 MiB), so that it does not shrink and grow with every sweep.
const FREE_PAGES_KEPT: i64 = 1_000;

/// One step.
pub(super) fn step(connection: &mut Connection, step: &Expiry) -> QueryResult<Expired> {
    let expired = delete(connection, step)?;
    if expired.rows > 0 && step.what != Expiring::Space {
        raise_floor(connection, step.what.table(), step.before)?;
    }
    Ok(expired)
}

fn delete(connection: &mut Connection, step: &Expiry) -> QueryResult<Expired> {
    match step.what {
        Expiring::Events => events(connection, step),
        Expiring::Minutes | Expiring::Hours | Expiring::Days => tunnels(connection, step),
        Expiring::MinuteTotals | Expiring::HourTotals | Expiring::DayTotals => totals(connection, step),
        Expiring::CounterEvents => counter_rows(connection, step),
        Expiring::Gaps => by_id(connection, "gaps", "to_time < $1", step),
        Expiring::Quarantine => by_id(connection, "quarantine", "time < $1", step),
        Expiring::Flushes => {
            let old = format!("cut_at < $1 AND id <= (SELECT MAX(id) FROM flushes) - {FLUSHES_KEPT}");
            by_id(connection, "flushes", &old, step)
        }
        Expiring::Space => give_back(connection, step.rows),
    }
}

/// What a step of `step.rows` rows that deleted so many leaves to do.
fn expired(deleted: usize, step: &Expiry) -> Expired {
    let next = (deleted >= step.rows as usize).then_some(None);
    Expired { rows: deleted as u64, next }
}

/// Says from when on the rows of a table are all there, in the transaction in which an older one goes. A step that finds nothing
/// writes nothing.
pub(super) fn raise_floor(connection: &mut Connection, table: &str, floor: Timestamp) -> QueryResult<()> {
    use retention_floors as f;
    let known: Option<i64> = on!(&mut *connection, c => f::table.find(table).select(f::floor).first(c).optional())?;
    if known.is_some_and(|known| known >= floor.0) {
        return Ok(());
    }
    let row = (f::table_name.eq(table), f::floor.eq(floor.0));
    on!(connection, c => {
        diesel::insert_into(f::table).values(row).on_conflict(f::table_name).do_update().set(f::floor.eq(floor.0)).execute(c)
    })?;
    Ok(())
}

/// Events expire by what `flushes` say of when they were received: through the last old batch before the first young one. A batch that
/// a clock ahead dated after now is neither: it goes with the next old one, so that it does not stay, and hold all that follow, until
/// its date has come and gone. Within the batch that is young and old at once the ids decide, whose clock is never behind the time of
/// receipt; ids of another making, of messages that somebody injects, say nothing of time.
fn events(connection: &mut Connection, step: &Expiry) -> QueryResult<Expired> {
    let bound = bound(connection, step)?;
    let old = endpoint_sse::table.filter(endpoint_sse::id.lt(bound)).order(endpoint_sse::id).select(endpoint_sse::id);
    let rows = i64::from(step.rows);
    let last: Option<i64> = on!(&mut *connection, c => old.offset(rows - 1).first(c).optional())?;
    let until = last.unwrap_or(bound - 1);
    let deleted = on!(connection, c => diesel::delete(endpoint_sse::table.filter(endpoint_sse::id.le(until))).execute(c))?;
    Ok(expired(deleted, step))
}

/// The id before which all events expire.
fn bound(connection: &mut Connection, step: &Expiry) -> QueryResult<i64> {
    let of_events = flushes::table.filter(flushes::batch.eq(Kind::Events.as_str()).and(flushes::first_id.is_not_null()));
    let young = flushes::last_received.ge(step.before.0).and(flushes::last_received.le(step.now.0));
    let young = of_events.filter(young).order(flushes::first_id).select((
        flushes::first_id.assume_not_null(),
        flushes::last_id.assume_not_null(),
        flushes::first_received,
    ));
    let young: Option<(i64, i64, Option<i64>)> = on!(&mut *connection, c => young.first(c).optional())?;
    if let Some((first, last, received)) = young {
        let dates = received.is_some_and(|received| EventId(first).id_clock().millis() >= Timestamp(received).millis());
        let within = EventId::first_of(step.before).0.min(last.saturating_add(1));
        if dates && within > first {
            return Ok(within);
        }
    }
    let before_young = young.map_or(i64::MAX, |(first, ..)| first);
    let old = flushes::last_received.lt(step.before.0).and(flushes::first_id.lt(before_young));
    let last: Option<i64> = on!(connection, c => of_events.filter(old).select(max(flushes::last_id)).first(c))?;
    Ok(last.map_or(0, |last| last.saturating_add(1)))
}

fn by_id(connection: &mut Connection, table: &str, old: &str, step: &Expiry) -> QueryResult<Expired> {
    let query = format!("DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {old} ORDER BY id LIMIT $2)");
    let query = sql_query(query).bind::<BigInt, _>(step.before.0).bind::<BigInt, _>(i64::from(step.rows));
    let deleted = on!(connection, c => query.execute(c))?;
    Ok(expired(deleted, step))
}

fn totals(connection: &mut Connection, step: &Expiry) -> QueryResult<Expired> {
    let table = step.what.table();
    let query = format!(
        "DELETE FROM {table} WHERE (endpoint_id, record_time) IN \
         (SELECT endpoint_id, record_time FROM {table} WHERE record_time < $1 ORDER BY endpoint_id, record_time LIMIT $2)"
    );
    let query = sql_query(query).bind::<BigInt, _>(step.before.0).bind::<BigInt, _>(i64::from(step.rows));
    let deleted = on!(connection, c => query.execute(c))?;
    Ok(expired(deleted, step))
}

#[derive(QueryableByName)]
struct Key {
    #[diesel(sql_type = Integer)]
    endpoint_id: i32,
    #[diesel(sql_type = Text)]
    instance_id: String,
}

#[derive(QueryableByName)]
struct Oldest {
    #[diesel(sql_type = BigInt)]
    record_time: i64,
}

#[derive(QueryableByName)]
struct Sums {
    #[diesel(sql_type = Nullable<BigInt>)]
    tcp_rx: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    tcp_tx: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    udp_rx: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    udp_tx: Option<i64>,
}

/// The key is by tunnel, so the step walks from tunnel to tunnel.
fn tunnels(connection: &mut Connection, step: &Expiry) -> QueryResult<Expired> {
    let table = step.what.table();
    let (mut left, mut deleted, mut after): (u32, u64, Cursor) = (step.rows, 0, step.after.clone());
    while left > 0 {
        let Some(tunnel) = next_tunnel(connection, table, after.as_ref())? else {
            return Ok(Expired { rows: deleted, next: None });
        };
        let here = delete_of(connection, step, &tunnel, left)?;
        deleted += here;
        let here = u32::try_from(here).unwrap_or(u32::MAX);
        if here >= left {
            // There may be more of this one.
            return Ok(Expired { rows: deleted, next: Some(after) });
        }
        left = left.saturating_sub(here.max(TUNNEL_ROWS));
        after = Some((tunnel.endpoint_id, tunnel.instance_id));
    }
    Ok(Expired { rows: deleted, next: Some(after) })
}

fn next_tunnel(connection: &mut Connection, table: &str, after: Option<&(i32, String)>) -> QueryResult<Option<Key>> {
    let order = "ORDER BY endpoint_id, instance_id LIMIT 1";
    let found: Vec<Key> = match after {
        None => {
            let query = sql_query(format!("SELECT endpoint_id, instance_id FROM {table} {order}"));
            on!(connection, c => query.load(c))?
        }
        Some((endpoint, instance)) => {
            let query = sql_query(format!(
                "SELECT endpoint_id, instance_id FROM {table} WHERE (endpoint_id, instance_id) > ($1, $2) {order}"
            ))
            .bind::<Integer, _>(*endpoint)
            .bind::<Text, _>(instance);
            on!(connection, c => query.load(c))?
        }
    };
    Ok(found.into_iter().next())
}

fn delete_of(connection: &mut Connection, step: &Expiry, tunnel: &Key, rows: u32) -> QueryResult<u64> {
    let table = step.what.table();
    let old = format!(
        "SELECT record_time FROM {table} WHERE endpoint_id = $1 AND instance_id = $2 AND record_time < $3 \
         ORDER BY record_time LIMIT $4"
    );
    let query = sql_query(old)
        .bind::<Integer, _>(tunnel.endpoint_id)
        .bind::<Text, _>(&tunnel.instance_id)
        .bind::<BigInt, _>(step.before.0)
        .bind::<BigInt, _>(i64::from(rows));
    let times: Vec<Oldest> = on!(&mut *connection, c => query.load(c))?;
    let Some(last) = times.last() else { return Ok(0) };
    let these = "endpoint_id = $1 AND instance_id = $2 AND record_time <= $3";
    if step.what == Expiring::Days {
        let sums = "SELECT CAST(SUM(delta_tcp_in) AS BIGINT) AS tcp_rx, CAST(SUM(delta_tcp_out) AS BIGINT) AS tcp_tx, \
                    CAST(SUM(delta_udp_in) AS BIGINT) AS udp_rx, CAST(SUM(delta_udp_out) AS BIGINT) AS udp_tx";
        let query = sql_query(format!("{sums} FROM {table} WHERE {these}"))
            .bind::<Integer, _>(tunnel.endpoint_id)
            .bind::<Text, _>(&tunnel.instance_id)
            .bind::<BigInt, _>(last.record_time);
        let sums: Vec<Sums> = on!(&mut *connection, c => query.load(c))?;
        for Sums { tcp_rx, tcp_tx, udp_rx, udp_tx } in sums {
            let gone = [tcp_rx, tcp_tx, udp_rx, udp_tx].map(|sum| -sum.unwrap_or(0));
            change_account(connection, tunnel.endpoint_id, &tunnel.instance_id, gone)?;
        }
    }
    let query = sql_query(format!("DELETE FROM {table} WHERE {these}"))
        .bind::<Integer, _>(tunnel.endpoint_id)
        .bind::<Text, _>(&tunnel.instance_id)
        .bind::<BigInt, _>(last.record_time);
    let deleted = on!(&mut *connection, c => query.execute(c))?;
    if step.what == Expiring::Days {
        close_account(connection, tunnel)?;
    }
    Ok(deleted as u64)
}

/// Takes what expired out of an account, so that what is left still proves itself.
fn change_account(connection: &mut Connection, endpoint: i32, instance: &str, change: [i64; 4]) -> QueryResult<()> {
    use history_accounts as h;
    let [tcp_rx, tcp_tx, udp_rx, udp_tx] = change;
    let changed = (
        h::risen_tcp_rx.eq(h::risen_tcp_rx + tcp_rx),
        h::risen_tcp_tx.eq(h::risen_tcp_tx + tcp_tx),
        h::risen_udp_rx.eq(h::risen_udp_rx + udp_rx),
        h::risen_udp_tx.eq(h::risen_udp_tx + udp_tx),
    );
    on!(connection, c => diesel::update(h::table.find((endpoint, instance))).set(changed).execute(c))?;
    Ok(())
}

/// A tunnel that is gone leaves nothing when its last day has expired.
fn close_account(connection: &mut Connection, tunnel: &Key) -> QueryResult<()> {
    let key = (tunnel.endpoint_id, tunnel.instance_id.as_str());
    let alive: i64 = on!(&mut *connection, c => history_state::table.find(key).count().get_result(c))?;
    let left = next_tunnel_is(connection, tunnel)?;
    if alive == 0 && !left {
        on!(connection, c => diesel::delete(history_accounts::table.find(key)).execute(c))?;
    }
    Ok(())
}

fn next_tunnel_is(connection: &mut Connection, tunnel: &Key) -> QueryResult<bool> {
    use super::schema::history_days as d;
    let rows = d::table.filter(d::endpoint_id.eq(tunnel.endpoint_id)).filter(d::instance_id.eq(&tunnel.instance_id));
    let left: Option<i64> = on!(connection, c => rows.select(d::record_time).first(c).optional())?;
    Ok(left.is_some())
}

/// What such rows said is moved into the accounts.
fn counter_rows(connection: &mut Connection, step: &Expiry) -> QueryResult<Expired> {
    use counter_events as e;
    type Four = (i64, i64, i64, i64);
    let old = e::table.filter(e::time.lt(step.before.0)).order((e::event_id, e::kind)).limit(i64::from(step.rows)).select((
        e::event_id,
        e::kind,
        e::endpoint_id,
        e::instance_id,
        (e::before_tcp_rx, e::before_tcp_tx, e::before_udp_rx, e::before_udp_tx),
        (e::after_tcp_rx, e::after_tcp_tx, e::after_udp_rx, e::after_udp_tx),
        (e::counted_tcp_rx, e::counted_tcp_tx, e::counted_udp_rx, e::counted_udp_tx),
    ));
    let rows: Vec<(i64, String, i32, String, Four, Four, Four)> = on!(&mut *connection, c => old.load(c))?;
    let mut changes: BTreeMap<(i32, String), [i64; 4]> = BTreeMap::new();
    for (id, kind, endpoint, instance, before, after, counted) in &rows {
        let change = adjustment(counters(*before), counters(*after), counters(*counted));
        let sum = changes.entry((*endpoint, instance.clone())).or_default();
        *sum = std::array::from_fn(|n| sum[n] + change[n]);
        on!(&mut *connection, c => diesel::delete(e::table.find((*id, kind))).execute(c))?;
    }
    for ((endpoint, instance), change) in changes {
        change_account(connection, endpoint, &instance, change)?;
    }
    Ok(expired(rows.len(), step))
}

pub(super) fn counters((tcp_rx, tcp_tx, udp_rx, udp_tx): (i64, i64, i64, i64)) -> Counters {
    let [tcp_rx, tcp_tx, udp_rx, udp_tx] = [tcp_rx, tcp_tx, udp_rx, udp_tx].map(|value| u64::try_from(value).unwrap_or(0));
    Counters { tcp_rx, tcp_tx, udp_rx, udp_tx }
}

#[derive(QueryableByName)]
struct Free {
    #[diesel(sql_type = BigInt)]
    free: i64,
}

/// PostgreSQL's own vacuum makes room for the rows to come.
fn give_back(connection: &mut Connection, pages: u32) -> QueryResult<Expired> {
    let Connection::Sqlite(sqlite) = connection else { return Ok(Expired { rows: 0, next: None }) };
    let query =
        "SELECT CASE WHEN auto_vacuum = 2 THEN freelist_count ELSE 0 END AS free FROM pragma_freelist_count, pragma_auto_vacuum";
    let free: Vec<Free> = sql_query(query).load(sqlite)?;
    let surplus = free.first().map_or(0, |row| row.free) - FREE_PAGES_KEPT;
    let pages = surplus.min(i64::from(pages));
    if pages <= 0 {
        return Ok(Expired { rows: 0, next: None });
    }
    sqlite.batch_execute(&format!("PRAGMA incremental_vacuum({pages})"))?;
    Ok(Expired { rows: pages.unsigned_abs(), next: (pages < surplus).then_some(None) })
}
