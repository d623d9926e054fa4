//! Whether history adds up, read from a live database. See [`crate::history::audit`] for what is proved.

use std::collections::BTreeSet;

use diesel::sql_types::{Integer, Nullable, Text};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use serde::Serialize;

use super::connection::{Connection, Phase, on, query_error};
use super::expire::counters;
use super::ladder::{Row, Table};
use super::read_export::next_tunnel;
use super::schema::{counter_events, history_accounts, retention_floors};
use super::{ReadConnection, StoreError, zones};
use crate::clock::Timestamp;
use crate::event::{EndpointId, TunnelKey};
use crate::history::audit::{Floors, Levels, StoredAccount, TunnelHistory, adjustment, check_levels, check_tunnel};
use crate::history::ladder::{FLEET, Level};
use crate::query::Scope;

/// Problems that are told one by one; of more it is said how many there are.
const PROBLEMS_MAX: usize = 100;

/// What was proved, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HistoryReport {
    /// Tunnels looked at.
    pub tunnels: u64,
    /// Endpoints whose totals were looked at, and the fleet.
    pub totals: u64,
    /// Rows of minutes, hours and days read.
    pub rows: u64,
    /// What is wrong, the first hundred.
    pub problems: Vec<String>,
    /// How many more there are.
    pub further_problems: u64,
}

impl HistoryReport {
    fn add(&mut self, problems: Vec<String>) {
        for problem in problems {
            if self.problems.len() < PROBLEMS_MAX {
                self.problems.push(problem);
            } else {
                self.further_problems += 1;
            }
        }
    }
}

#[derive(QueryableByName)]
struct Lowest {
    #[diesel(sql_type = Nullable<Integer>)]
    id: Option<i32>,
}

impl ReadConnection {
    /// Proves for each tunnel that what is stored is what its counters did, and for each level that it is the sum of the one below.
    /// Reads tunnel by tunnel, each in a snapshot of its own, and holds up nobody.
    ///
    /// # Errors
    /// [`Unavailable`](super::StoreErrorKind::Unavailable).
    pub fn check_history(&mut self) -> Result<HistoryReport, StoreError> {
        let url = self.url.clone();
        check(&mut self.connection).map_err(|error| query_error(&url, &error, Phase::Running))
    }
}

fn check(connection: &mut Connection) -> QueryResult<HistoryReport> {
    let mut report = HistoryReport::default();
    for tunnel in tunnels(connection)? {
        let (history, calendar, floors) = snapshot(connection, |connection| {
            Ok((tunnel_history(connection, &tunnel)?, zones::calendar(connection)?, floors(connection, false)?))
        })?;
        report.tunnels += 1;
        report.rows += history.levels.iter().map(|level| level.len() as u64).sum::<u64>();
        report.add(check_tunnel(&tunnel, &history, &calendar, floors));
    }
    for EndpointId(endpoint_id) in totals(connection)? {
        let (levels, calendar, floors) = snapshot(connection, |connection| {
            Ok((levels(connection, true, endpoint_id, "")?, zones::calendar(connection)?, floors(connection, true)?))
        })?;
        let name = if endpoint_id == FLEET.0 { "the fleet".to_owned() } else { format!("endpoint {endpoint_id}") };
        report.totals += 1;
        report.rows += levels.iter().map(|level| level.len() as u64).sum::<u64>();
        report.add(check_levels(&name, &levels, &calendar, floors));
    }
    Ok(report)
}

/// The tunnels of which anything is there: what is missing on one level is told by another.
fn tunnels(connection: &mut Connection) -> QueryResult<BTreeSet<TunnelKey>> {
    use history_accounts as h;
    let accounts = h::table.select((h::endpoint_id, h::instance_id));
    let accounts: Vec<(i32, String)> = on!(&mut *connection, c => accounts.load(c))?;
    let key =
        |(endpoint, instance): (i32, String)| TunnelKey { endpoint: EndpointId(endpoint), instance: instance.as_str().into() };
    let mut tunnels: BTreeSet<TunnelKey> = accounts.into_iter().map(key).collect();
    for level in Level::ALL {
        let mut last = TunnelKey::default();
        while let Some(next) = next_tunnel(connection, level, &Scope::Fleet, &last)? {
            tunnels.insert(next.clone());
            last = next;
        }
    }
    Ok(tunnels)
}

/// The endpoints, and the fleet, of which there are totals, likewise.
fn totals(connection: &mut Connection) -> QueryResult<BTreeSet<EndpointId>> {
    let mut endpoints = BTreeSet::new();
    for level in Level::ALL {
        let next = format!("SELECT MIN(endpoint_id) AS id FROM {} WHERE endpoint_id > $1", Table::of(level, true).name);
        let mut last = FLEET.0 - 1;
        loop {
            let next = sql_query(next.as_str()).bind::<Integer, _>(last);
            let Lowest { id: Some(id) } = on!(&mut *connection, c => next.get_result(c))? else { break };
            endpoints.insert(EndpointId(id));
            last = id;
        }
    }
    Ok(endpoints)
}

/// Reads in one snapshot: what a batch or an expiry changes together is seen together.
fn snapshot<T>(connection: &mut Connection, read: impl FnOnce(&mut Connection) -> QueryResult<T>) -> QueryResult<T> {
    let begin = match connection {
        Connection::Sqlite(_) => "BEGIN DEFERRED",
        Connection::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    };
    on!(&mut *connection, c => sql_query(begin).execute(c))?;
    let result = read(connection);
    // Nothing was written: there is nothing to lose.
    let _ = on!(connection, c => sql_query("ROLLBACK").execute(c));
    result
}

fn levels(connection: &mut Connection, totals: bool, endpoint: i32, instance: &str) -> QueryResult<Levels> {
    let mut levels = Levels::default();
    for (level, rows) in Level::ALL.into_iter().zip(&mut levels) {
        let table = Table::of(level, totals);
        let query = format!("{} WHERE endpoint_id = $1{}", table.select(), if totals { "" } else { " AND instance_id = $2" });
        let query = sql_query(query).bind::<Integer, _>(endpoint);
        let found: Vec<Row> = if totals {
            on!(&mut *connection, c => query.load(c))?
        } else {
            let query = query.bind::<Text, _>(instance);
            on!(&mut *connection, c => query.load(c))?
        };
        *rows = found.iter().map(|row| (Timestamp(row.record_time), row.figures())).collect();
    }
    Ok(levels)
}

fn tunnel_history(connection: &mut Connection, tunnel: &TunnelKey) -> QueryResult<TunnelHistory> {
    use counter_events as e;
    use history_accounts as h;
    type Four = (i64, i64, i64, i64);
    let (endpoint, instance) = (tunnel.endpoint.0, tunnel.instance.as_str());
    let account = h::table.find((endpoint, instance)).select((
        (h::risen_tcp_rx, h::risen_tcp_tx, h::risen_udp_rx, h::risen_udp_tx),
        (h::closing_tcp_rx, h::closing_tcp_tx, h::closing_udp_rx, h::closing_udp_tx),
        (h::open_tcp_rx, h::open_tcp_tx, h::open_udp_rx, h::open_udp_tx),
    ));
    let account: Option<(Four, Four, Four)> = on!(&mut *connection, c => account.first(c).optional())?;
    let events = e::table.filter(e::endpoint_id.eq(endpoint)).filter(e::instance_id.eq(instance)).select((
        (e::before_tcp_rx, e::before_tcp_tx, e::before_udp_rx, e::before_udp_tx),
        (e::after_tcp_rx, e::after_tcp_tx, e::after_udp_rx, e::after_udp_tx),
        (e::counted_tcp_rx, e::counted_tcp_tx, e::counted_udp_rx, e::counted_udp_tx),
    ));
    let events: Vec<(Four, Four, Four)> = on!(&mut *connection, c => events.load(c))?;
    let adjusted = events.into_iter().fold([0_i128; 4], |sum, (before, after, counted)| {
        let change = adjustment(counters(before), counters(after), counters(counted));
        std::array::from_fn(|n| sum[n] + i128::from(change[n]))
    });
    Ok(TunnelHistory {
        account: account.map(|(risen, closing, open)| StoredAccount {
            risen: risen.into(),
            closing: counters(closing),
            open: counters(open),
        }),
        adjusted,
        levels: levels(connection, false, endpoint, instance)?,
    })
}

fn floors(connection: &mut Connection, totals: bool) -> QueryResult<Floors> {
    use retention_floors as f;
    let rows: Vec<(String, i64)> = on!(connection, c => f::table.select((f::table_name, f::floor)).load(c))?;
    let floor = |level| {
        let name = Table::of(level, totals).name;
        Timestamp(rows.iter().find(|(table, _)| table == name).map_or(i64::MIN, |(_, floor)| *floor))
    };
    Ok(Level::ALL.map(floor))
}
