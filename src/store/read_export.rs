//! Reading tables from one end to the other, page by page along their keys: each page is a short read of its own, so that no
//! snapshot keeps the database from cleaning up behind itself.

use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, QueryableByName, RunQueryDsl, sql_query};

use super::StoreError;
use super::connection::{Connection, on};
use super::ladder::{Row, Table};
use super::read::ReadConnection;
use super::read_events::EventRecord;
use super::read_ladder::Stretch;
use super::schema::endpoint_sse;
use crate::clock::Timestamp;
use crate::event::{EndpointId, TunnelKey};
use crate::history::ladder::Level;
use crate::query::Scope;

/// Tunnels without a row in the range that a page passes at most.
const TUNNELS_PASSED_MAX: u32 = 1_000;

/// Where a page of history begins: behind this row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPlace {
    /// Its tunnel.
    pub tunnel: TunnelKey,
    /// Its time.
    pub time: Timestamp,
}

/// A page of history: rows of tunnels in the order of the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// The rows.
    pub rows: Vec<(TunnelKey, Stretch)>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<HistoryPlace>,
}

#[derive(QueryableByName)]
struct Key {
    #[diesel(sql_type = Integer)]
    endpoint_id: i32,
    #[diesel(sql_type = Text)]
    instance_id: String,
}

impl ReadConnection {
    /// At most `limit` events with ids above `above` up to `last`, oldest first, and the id behind which the next page begins;
    /// `None` at the end. With a scope at most `scan_max` rows are looked at.
    ///
    /// # Errors
    /// [`Unavailable`](super::StoreErrorKind::Unavailable).
    pub fn events_after(
        &mut self,
        scope: &Scope,
        above: i64,
        last: i64,
        limit: u32,
        scan_max: i64,
    ) -> Result<(Vec<EventRecord>, Option<i64>), StoreError> {
        use endpoint_sse as s;
        let ceiling: Option<i64> = if *scope == Scope::Fleet {
            None
        } else {
            let farthest =
                s::table.select(s::id).filter(s::id.gt(above)).filter(s::id.le(last)).order(s::id).offset(scan_max - 1);
            on!(&mut self.connection, c => farthest.first(c).optional()).map_err(|error| self.failed(&error))?
        };
        let events: Vec<EventRecord> = on!(&mut self.connection, c => {
            let mut query = s::table.filter(s::id.gt(above)).filter(s::id.le(ceiling.unwrap_or(last))).into_boxed();
            match scope {
                Scope::Fleet => {}
                Scope::Endpoint(id) => query = query.filter(s::endpoint_id.eq(id.0)),
                Scope::Tunnel(tunnel) => {
                    query = query.filter(s::endpoint_id.eq(tunnel.endpoint.0)).filter(s::instance_id.eq(tunnel.instance.as_str()));
                }
            }
            query.order(s::id).limit(i64::from(limit)).load(c)
        })
        .map_err(|error| self.failed(&error))?;
        let full = events.len() as u64 == u64::from(limit);
        let next = if full { events.last().map(|event| event.id) } else { ceiling };
        Ok((events, next))
    }

    /// At most about `limit` rows of tunnels on a level with times from `from` to before `until`, behind `after`.
    ///
    /// # Errors
    /// As above.
    pub fn history_after(
        &mut self,
        level: Level,
        scope: &Scope,
        (from, until): (Timestamp, Timestamp),
        after: Option<&HistoryPlace>,
        limit: u32,
    ) -> Result<HistoryPage, StoreError> {
        history_after(&mut self.connection, level, scope, (from, until), after, limit).map_err(|error| self.failed(&error))
    }
}

fn history_after(
    connection: &mut Connection,
    level: Level,
    scope: &Scope,
    (from, until): (Timestamp, Timestamp),
    after: Option<&HistoryPlace>,
    limit: u32,
) -> QueryResult<HistoryPage> {
    let mut page = HistoryPage::default();
    let mut place = match after {
        Some(after) => Some((after.tunnel.clone(), after.time)),
        None => first_tunnel(connection, level, scope)?.map(|tunnel| (tunnel, Timestamp(from.0 - 1))),
    };
    for _ in 0..TUNNELS_PASSED_MAX {
        let Some((tunnel, time)) = place else { return Ok(page) };
        let wanted = i64::from(limit) - i64::try_from(page.rows.len()).unwrap_or(i64::MAX);
        let rows = of_tunnel(connection, level, &tunnel, (time, until), wanted)?;
        let full = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= wanted;
        let last = rows.last().map_or(time, |stretch| stretch.start);
        page.rows.extend(rows.into_iter().map(|stretch| (tunnel.clone(), stretch)));
        if full {
            page.next = Some(HistoryPlace { tunnel, time: last });
            return Ok(page);
        }
        place = next_tunnel(connection, level, scope, &tunnel)?.map(|tunnel| (tunnel, Timestamp(from.0 - 1)));
    }
    page.next = place.map(|(tunnel, time)| HistoryPlace { tunnel, time });
    Ok(page)
}

fn of_tunnel(
    connection: &mut Connection,
    level: Level,
    tunnel: &TunnelKey,
    (above, until): (Timestamp, Timestamp),
    limit: i64,
) -> QueryResult<Vec<Stretch>> {
    let select = Table::of(level, false).select();
    let query = sql_query(format!(
        "{select} WHERE endpoint_id = $1 AND instance_id = $2 AND record_time > $3 AND record_time < $4 ORDER BY record_time LIMIT $5"
    ));
    let query = query
        .bind::<Integer, _>(tunnel.endpoint.0)
        .bind::<Text, _>(tunnel.instance.as_str())
        .bind::<BigInt, _>(above.0)
        .bind::<BigInt, _>(until.0)
        .bind::<BigInt, _>(limit);
    let rows: Vec<Row> = on!(connection, c => query.load(c))?;
    Ok(rows.iter().map(Row::stretch).collect())
}

fn first_tunnel(connection: &mut Connection, level: Level, scope: &Scope) -> QueryResult<Option<TunnelKey>> {
    match scope {
        Scope::Tunnel(tunnel) => Ok(Some(tunnel.clone())),
        // No instance of a row is empty, so this stands before all of the endpoint.
        Scope::Endpoint(id) => next_tunnel(connection, level, scope, &TunnelKey { endpoint: *id, ..TunnelKey::default() }),
        Scope::Fleet => next_tunnel(connection, level, scope, &TunnelKey::default()),
    }
}

/// The tunnel behind this one in the order of the key: of the same endpoint, else the first of the next. A comparison of both
/// columns at once would have SQLite read all rows of the endpoint.
pub(super) fn next_tunnel(
    connection: &mut Connection,
    level: Level,
    scope: &Scope,
    after: &TunnelKey,
) -> QueryResult<Option<TunnelKey>> {
    let last = match scope {
        Scope::Tunnel(_) => return Ok(None),
        Scope::Endpoint(id) => *id,
        Scope::Fleet => EndpointId(i32::MAX),
    };
    let table = Table::of(level, false).name;
    let here = sql_query(format!(
        "SELECT endpoint_id, instance_id FROM {table} WHERE endpoint_id = $1 AND instance_id > $2 ORDER BY instance_id LIMIT 1"
    ));
    let here = here.bind::<Integer, _>(after.endpoint.0).bind::<Text, _>(after.instance.as_str());
    let found: Option<Key> = on!(&mut *connection, c => here.get_result(c).optional())?;
    let found = if found.is_some() {
        found
    } else {
        let next = sql_query(format!(
            "SELECT endpoint_id, instance_id FROM {table} WHERE endpoint_id > $1 AND endpoint_id <= $2 \
             ORDER BY endpoint_id, instance_id LIMIT 1"
        ));
        let next = next.bind::<Integer, _>(after.endpoint.0).bind::<Integer, _>(last.0);
        on!(connection, c => next.get_result(c).optional())?
    };
    Ok(found.map(|key| TunnelKey { endpoint: EndpointId(key.endpoint_id), instance: key.instance_id.as_str().into() }))
}
