//! Reading since when something is recorded, until when it was heard, and what interrupted it. Every question follows a key.

use diesel::dsl::max;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName, RunQueryDsl, sql_query};

use super::StoreError;
use super::connection::on;
use super::ladder::Table;
use super::read::ReadConnection;
use super::schema::{endpoints, gaps, history_imports, tunnel_state};
use super::zones;
use crate::clock::Timestamp;
use crate::event::{EndpointId, Gap, TunnelKey};
use crate::history::calendar::Calendar;
use crate::history::ladder::{FLEET, Level};
use crate::id::EventId;
use crate::query::Scope;

#[derive(QueryableByName)]
struct Extent {
    #[diesel(sql_type = Nullable<BigInt>)]
    first: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last: Option<i64>,
}

impl ReadConnection {
    /// The zones that hours and days were cut in.
    ///
    /// # Errors
    /// [`Unavailable`](super::StoreErrorKind::Unavailable).
    pub fn calendar(&mut self) -> Result<Calendar, StoreError> {
        zones::calendar(&mut self.connection).map_err(|error| self.failed(&error))
    }

    /// Starts of the first and of the last stretch of a level after `after`; `None` if there is none.
    ///
    /// # Errors
    /// As above.
    pub fn extent(
        &mut self,
        level: Level,
        scope: &Scope,
        after: Timestamp,
    ) -> Result<Option<(Timestamp, Timestamp)>, StoreError> {
        let table = Table::of(level, !matches!(scope, Scope::Tunnel(_))).name;
        let (endpoint, instance) = match scope {
            Scope::Fleet => (FLEET, ""),
            Scope::Endpoint(id) => (*id, ""),
            Scope::Tunnel(tunnel) => (tunnel.endpoint, tunnel.instance.as_str()),
        };
        // Each by itself goes along the key; both in one statement would read all rows between.
        let of_tunnel = if matches!(scope, Scope::Tunnel(_)) { "instance_id = $3" } else { "$3 = ''" };
        let at = |end: &str| {
            format!(
                "(SELECT record_time FROM {table} WHERE endpoint_id = $1 AND record_time > $2 AND {of_tunnel} \
                 ORDER BY record_time {end} LIMIT 1)"
            )
        };
        let query = sql_query(format!("SELECT {} AS first, {} AS last", at("ASC"), at("DESC")))
            .bind::<Integer, _>(endpoint.0)
            .bind::<BigInt, _>(after.0)
            .bind::<Text, _>(instance);
        let Extent { first, last } = on!(&mut self.connection, c => query.get_result(c)).map_err(|error| self.failed(&error))?;
        Ok(first.zip(last).map(|(first, last)| (Timestamp(first), Timestamp(last))))
    }

    /// From when to when nothing is known, at most `limit` gaps with ids from `since` on, newest first. A tunnel's are also those of its
    /// whole endpoint; an endpoint's are not those of its tunnels.
    ///
    /// # Errors
    /// As above.
    pub fn gaps_since(&mut self, scope: &Scope, since: EventId, limit: u32) -> Result<Vec<(Timestamp, Timestamp)>, StoreError> {
        use gaps as g;
        let rows = on!(&mut self.connection, c => {
            let mut query = g::table.filter(g::id.ge(since.0)).filter(g::reason.ne(Gap::MASTER_RESTARTED)).into_boxed();
            match scope {
                Scope::Fleet => query = query.filter(g::instance_id.eq("")),
                Scope::Endpoint(id) => query = query.filter(g::endpoint_id.eq(id.0)).filter(g::instance_id.eq("")),
                Scope::Tunnel(tunnel) => {
                    query = query
                        .filter(g::endpoint_id.eq(tunnel.endpoint.0))
                        .filter(g::instance_id.eq_any([tunnel.instance.as_str(), ""]));
                }
            }
            query.order(g::id.desc()).limit(i64::from(limit)).select((g::from_time, g::to_time)).load::<(i64, i64)>(c)
        });
        let rows = rows.map_err(|error| self.failed(&error))?;
        Ok(rows.into_iter().map(|(from, to)| (Timestamp(from), Timestamp(to))).collect())
    }

    /// When each endpoint was last heard, as far as that is stored. Without those that are paused.
    ///
    /// # Errors
    /// As above.
    pub fn last_heard(&mut self) -> Result<Vec<(EndpointId, Timestamp)>, StoreError> {
        use endpoints as e;
        let query = e::table.filter(e::paused.eq(false)).select((e::id, e::last_check));
        let rows: Vec<(i32, Option<i64>)> = on!(&mut self.connection, c => query.load(c)).map_err(|error| self.failed(&error))?;
        Ok(rows.into_iter().map(|(id, at)| (EndpointId(id), Timestamp(at.unwrap_or_default()))).collect())
    }

    /// Whether a tunnel exists.
    ///
    /// # Errors
    /// As above.
    pub fn has_tunnel(&mut self, tunnel: &TunnelKey) -> Result<bool, StoreError> {
        use tunnel_state as s;
        let known = s::table.find((tunnel.endpoint.0, tunnel.instance.as_str())).select(s::endpoint_id);
        let known: Option<i32> =
            on!(&mut self.connection, c => known.first(c).optional()).map_err(|error| self.failed(&error))?;
        Ok(known.is_some())
    }

    /// The last minute that another program recorded and this one imported; `None` if nothing was.
    ///
    /// # Errors
    /// As above.
    pub fn imported_through(&mut self, scope: &Scope) -> Result<Option<Timestamp>, StoreError> {
        use history_imports as i;
        let last = on!(&mut self.connection, c => {
            let mut query = i::table.select(max(i::through)).into_boxed();
            match scope {
                Scope::Fleet => {}
                Scope::Endpoint(id) => query = query.filter(i::endpoint_id.eq(id.0)),
                Scope::Tunnel(tunnel) => {
                    query = query
                        .filter(i::endpoint_id.eq(tunnel.endpoint.0))
                        .filter(i::instance_id.eq(tunnel.instance.as_str()));
                }
            }
            query.first::<Option<i64>>(c)
        });
        Ok(last.map_err(|error| self.failed(&error))?.map(Timestamp))
    }
}
