//! Reading the ladder: charts of a tunnel, an endpoint or the fleet, and what was moved since a time.
//!
//! Every question here follows the key of its table, so its cost depends on what is asked for and not on what is stored. The
//! tunnels of a table are found by going from key to key.

use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, QueryableByName, RunQueryDsl, sql_query};

use super::StoreError;
use super::connection::{Connection, on};
use super::flushes::Kind;
use super::ladder::{Row, Table};
use super::read::ReadConnection;
use super::schema::{flushes, tunnel_config};
use crate::clock::Timestamp;
use crate::event::{Counters, EndpointId, TunnelKey};
use crate::history::figures::Totals;
use crate::history::ladder::{FLEET, Level};
use crate::id::EventId;
use crate::query::Scope;
use crate::query::range::Range;

/// A stretch of a level as it is stored. Of a tunnel `tunnels` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its start.
    pub start: Timestamp,
    /// What was counted in it.
    pub totals: Totals,
    /// Of a day: `storage.timezone` was changed in it.
    pub zone_changed: bool,
}

/// What was moved in a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayTraffic {
    /// Whose; with an empty instance it is the endpoint's or, under [`FLEET`], the fleet's total.
    pub tunnel: TunnelKey,
    /// Start of the day.
    pub start: Timestamp,
    /// Bytes.
    pub delta: Counters,
}

/// Which of the history that waited in memory is in the database already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredBatches {
    /// Batches among those asked for.
    pub stored: Vec<EventId>,
    /// One was committed that is newer than what is known of: the rows that were being counted may be in it.
    pub newer: bool,
}

#[derive(QueryableByName)]
struct DayRow {
    #[diesel(sql_type = Integer)]
    endpoint_id: i32,
    #[diesel(sql_type = Text)]
    instance_id: String,
    #[diesel(sql_type = BigInt)]
    record_time: i64,
    #[diesel(sql_type = BigInt)]
    delta_tcp_in: i64,
    #[diesel(sql_type = BigInt)]
    delta_tcp_out: i64,
    #[diesel(sql_type = BigInt)]
    delta_udp_in: i64,
    #[diesel(sql_type = BigInt)]
    delta_udp_out: i64,
}

impl From<DayRow> for DayTraffic {
    fn from(row: DayRow) -> Self {
        let bytes = |value: i64| u64::try_from(value).unwrap_or(0);
        Self {
            tunnel: TunnelKey { endpoint: EndpointId(row.endpoint_id), instance: row.instance_id.as_str().into() },
            start: Timestamp(row.record_time),
            delta: Counters {
                tcp_rx: bytes(row.delta_tcp_in),
                tcp_tx: bytes(row.delta_tcp_out),
                udp_rx: bytes(row.delta_udp_in),
                udp_tx: bytes(row.delta_udp_out),
            },
        }
    }
}

const DELTAS: &str = "d.record_time, d.delta_tcp_in, d.delta_tcp_out, d.delta_udp_in, d.delta_udp_out";
/// From endpoint to endpoint by the key, and the days of each.
const ENDPOINT_DAYS: &str = "WITH RECURSIVE e(id) AS (SELECT MIN(endpoint_id) FROM history_day_totals WHERE endpoint_id > 0 \
     UNION ALL SELECT (SELECT MIN(n.endpoint_id) FROM history_day_totals n WHERE n.endpoint_id > e.id) FROM e \
     WHERE e.id IS NOT NULL) SELECT d.endpoint_id, '' AS instance_id, ";
/// From endpoint to endpoint and in each from tunnel to tunnel by the key, and the days of each. `$1` and `$2` bound the
/// endpoints. A comparison of both columns at once would be shorter, and SQLite would read all rows of the endpoint for it.
const TUNNEL_DAYS: &str = "WITH RECURSIVE e(id) AS (SELECT MIN(endpoint_id) FROM history_days WHERE endpoint_id >= $1 \
     UNION ALL SELECT (SELECT MIN(n.endpoint_id) FROM history_days n WHERE n.endpoint_id > e.id) FROM e WHERE e.id < $2), \
     t(e, i) AS (SELECT e.id, (SELECT n.instance_id FROM history_days n WHERE n.endpoint_id = e.id \
     ORDER BY n.instance_id LIMIT 1) FROM e WHERE e.id <= $2 UNION ALL \
     SELECT t.e, (SELECT n.instance_id FROM history_days n WHERE n.endpoint_id = t.e AND n.instance_id > t.i \
     ORDER BY n.instance_id LIMIT 1) FROM t WHERE t.i IS NOT NULL) \
     SELECT d.endpoint_id, d.instance_id, ";

impl ReadConnection {
    /// Runs several reads on one state of the database.
    ///
    /// # Errors
    /// What `work` gives; [`Unavailable`](super::StoreErrorKind::Unavailable).
    pub fn in_snapshot<T, E: From<StoreError>>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        let begin = match &self.connection {
            Connection::Sqlite(_) => "BEGIN",
            Connection::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        self.batch(begin)?;
        let answer = work(self);
        // After an error of a statement nothing else is possible in PostgreSQL; nothing was written either way.
        let ended = self.batch("ROLLBACK");
        let answer = answer?;
        ended?;
        Ok(answer)
    }

    fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        use diesel::connection::SimpleConnection;
        on!(&mut self.connection, c => c.batch_execute(sql)).map_err(|error| self.failed(&error))
    }

    /// The stretches of a level that begin from `from` to before `until`, oldest first.
    ///
    /// # Errors
    /// [`Unavailable`](super::StoreErrorKind::Unavailable).
    pub fn stretches(
        &mut self,
        level: Level,
        scope: &Scope,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Stretch>, StoreError> {
        stretches(&mut self.connection, level, scope, from, until).map_err(|error| self.failed(&error))
    }

    /// Whether anything of a tunnel is stored on any level, or it exists.
    ///
    /// # Errors
    /// As above.
    pub fn has_history(&mut self, tunnel: &TunnelKey) -> Result<bool, StoreError> {
        for level in Level::ALL {
            let query = format!(
                "SELECT COUNT(*) AS count FROM (SELECT 1 FROM {} WHERE endpoint_id = $1 AND instance_id = $2 LIMIT 1) AS one",
                Table::of(level, false).name
            );
            let query = sql_query(query).bind::<Integer, _>(tunnel.endpoint.0).bind::<Text, _>(tunnel.instance.as_str());
            let found: Count = on!(&mut self.connection, c => query.get_result(c)).map_err(|error| self.failed(&error))?;
            if found.count > 0 {
                return Ok(true);
            }
        }
        self.has_tunnel(tunnel)
    }

    /// What the fleet moved, by day, of the days that begin within a range.
    ///
    /// # Errors
    /// As above.
    pub fn fleet_days(&mut self, Range { from, until }: Range) -> Result<Vec<DayTraffic>, StoreError> {
        let sql = format!(
            "SELECT d.endpoint_id, '' AS instance_id, {DELTAS} FROM history_day_totals d \
             WHERE d.endpoint_id = $1 AND d.record_time >= $2 AND d.record_time < $3"
        );
        let query = sql_query(sql).bind::<Integer, _>(FLEET.0).bind::<BigInt, _>(from.0).bind::<BigInt, _>(until.0);
        let rows = on!(&mut self.connection, c => query.load(c));
        self.days(rows)
    }

    /// What each endpoint moved, by day, of the days that begin within a range.
    ///
    /// # Errors
    /// As above.
    pub fn endpoint_days(&mut self, Range { from, until }: Range) -> Result<Vec<DayTraffic>, StoreError> {
        let sql = format!(
            "{ENDPOINT_DAYS}{DELTAS} FROM e JOIN history_day_totals d ON d.endpoint_id = e.id \
             AND d.record_time >= $1 AND d.record_time < $2"
        );
        let query = sql_query(sql).bind::<BigInt, _>(from.0).bind::<BigInt, _>(until.0);
        let rows = on!(&mut self.connection, c => query.load(c));
        self.days(rows)
    }

    /// What each tunnel, or each of an endpoint, moved, by day, of the days that begin within a range.
    ///
    /// # Errors
    /// As above.
    pub fn tunnel_days(
        &mut self,
        endpoint: Option<EndpointId>,
        Range { from, until }: Range,
    ) -> Result<Vec<DayTraffic>, StoreError> {
        let sql = format!(
            "{TUNNEL_DAYS}{DELTAS} FROM t JOIN history_days d ON d.endpoint_id = t.e AND d.instance_id = t.i \
             AND d.record_time >= $3 AND d.record_time < $4"
        );
        let (first, last) = endpoint.map_or((0, i32::MAX), |endpoint| (endpoint.0, endpoint.0));
        let query = sql_query(sql).bind::<Integer, _>(first).bind::<Integer, _>(last);
        let query = query.bind::<BigInt, _>(from.0).bind::<BigInt, _>(until.0);
        let rows = on!(&mut self.connection, c => query.load(c));
        self.days(rows)
    }

    /// The aliases of tunnels, of one endpoint or of all; empty where a tunnel has none.
    ///
    /// # Errors
    /// As above.
    pub fn aliases(&mut self, endpoint: Option<EndpointId>) -> Result<Vec<(TunnelKey, String)>, StoreError> {
        use tunnel_config as t;
        let rows: Vec<(i32, String, String)> = on!(&mut self.connection, c => {
            let mut query = t::table.select((t::endpoint_id, t::instance_id, t::name)).into_boxed();
            if let Some(endpoint) = endpoint {
                query = query.filter(t::endpoint_id.eq(endpoint.0));
            }
            query.load(c)
        })
        .map_err(|error| self.failed(&error))?;
        let named = |(endpoint, instance, name): (i32, String, String)| {
            (TunnelKey { endpoint: EndpointId(endpoint), instance: instance.as_str().into() }, name)
        };
        Ok(rows.into_iter().map(named).collect())
    }

    fn days(&self, rows: QueryResult<Vec<DayRow>>) -> Result<Vec<DayTraffic>, StoreError> {
        Ok(rows.map_err(|error| self.failed(&error))?.into_iter().map(DayTraffic::from).collect())
    }

    /// Which of these history batches are stored, and whether one above `as_of` is.
    ///
    /// # Errors
    /// As above.
    pub fn stored_batches(&mut self, asked: &[EventId], as_of: EventId) -> Result<StoredBatches, StoreError> {
        use flushes as f;
        let of_history = || f::table.filter(f::batch.eq(Kind::History.as_str())).select(f::first_id);
        let among = of_history().filter(f::first_id.eq_any(asked.iter().map(|id| id.0).collect::<Vec<_>>()));
        let newer = of_history().filter(f::first_id.gt(as_of.0)).limit(1);
        let stored: Vec<Option<i64>> = if asked.is_empty() {
            Vec::new()
        } else {
            on!(&mut self.connection, c => among.load(c)).map_err(|error| self.failed(&error))?
        };
        let newer: Vec<Option<i64>> = on!(&mut self.connection, c => newer.load(c)).map_err(|error| self.failed(&error))?;
        Ok(StoredBatches { stored: stored.into_iter().flatten().map(EventId).collect(), newer: !newer.is_empty() })
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn stretches(
    connection: &mut Connection,
    level: Level,
    scope: &Scope,
    from: Timestamp,
    until: Timestamp,
) -> QueryResult<Vec<Stretch>> {
    let rows: Vec<Row> = match scope {
        Scope::Tunnel(tunnel) => {
            let select = Table::of(level, false).select();
            let query = sql_query(format!(
                "{select} WHERE endpoint_id = $1 AND instance_id = $2 AND record_time >= $3 AND record_time < $4 ORDER BY record_time"
            ));
            let query = query
                .bind::<Integer, _>(tunnel.endpoint.0)
                .bind::<Text, _>(tunnel.instance.as_str())
                .bind::<BigInt, _>(from.0)
                .bind::<BigInt, _>(until.0);
            on!(connection, c => query.load(c))?
        }
        Scope::Endpoint(_) | Scope::Fleet => {
            let id = if let Scope::Endpoint(id) = scope { *id } else { FLEET };
            let select = Table::of(level, true).select();
            let query = sql_query(format!(
                "{select} WHERE endpoint_id = $1 AND record_time >= $2 AND record_time < $3 ORDER BY record_time"
            ));
            let query = query.bind::<Integer, _>(id.0).bind::<BigInt, _>(from.0).bind::<BigInt, _>(until.0);
            on!(connection, c => query.load(c))?
        }
    };
    Ok(rows.iter().map(Row::stretch).collect())
}
