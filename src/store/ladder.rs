//! The tables of the ladder, all with the same columns: reading rows by key and writing them whole.

use std::collections::BTreeMap;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, Text};
use diesel::sqlite::Sqlite;
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::connection::{Connection, on};
use super::events::{bigint, text};
use super::read_ladder::Stretch;
use crate::clock::Timestamp;
use crate::event::{Counters, EndpointId, TunnelKey};
use crate::history::figures::{Figures, Ping, Totals};
use crate::history::ladder::{LeftOut, Level, Marked, TotalRows, TunnelRows};

/// Times of one key that are this far apart are read with two queries and not with one over all between them.
const APART_MAX: i64 = 86_400 * Timestamp::SECOND;
/// Most rows of one statement; what is left over goes in smaller ones of a few fixed sizes, so that few statements are kept
/// prepared. SQLite takes 32,766 values in one, a row has 21.
const ROWS_PER_STATEMENT: [usize; 3] = [100, 10, 1];

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) level: Level,
    /// Rows of endpoints and of the fleet, and not of tunnels.
    pub(super) totals: bool,
}

impl Table {
    /// All tables of the ladder.
    pub(super) const ALL: [Self; 6] = [
        Self { name: "service_history", level: Level::Minutes, totals: false },
        Self { name: "history_hours", level: Level::Hours, totals: false },
        Self { name: "history_days", level: Level::Days, totals: false },
        Self { name: "history_minute_totals", level: Level::Minutes, totals: true },
        Self { name: "history_hour_totals", level: Level::Hours, totals: true },
        Self { name: "history_day_totals", level: Level::Days, totals: true },
    ];

    /// The table of a level.
    pub(super) fn of(level: Level, totals: bool) -> Self {
        // Every level has both.
        Self::ALL.into_iter().find(|table| table.level == level && table.totals == totals).unwrap_or(Self::ALL[0])
    }

    /// Columns that not all tables have: what stands for them where they are missing.
    fn optional(self) -> [(&'static str, bool, &'static str); 4] {
        [
            ("instance_id", !self.totals, "''"),
            ("tunnels", self.totals, "0"),
            ("zone_changed", self.level == Level::Days, "FALSE"),
            ("left_out", !self.totals, "0"),
        ]
    }

    fn key(self) -> &'static str {
        if self.totals { "endpoint_id, record_time" } else { "endpoint_id, instance_id, record_time" }
    }

    pub(super) fn select(self) -> String {
        let optional =
            self.optional().map(|(name, there, other)| if there { name.to_owned() } else { format!("{other} AS {name}") });
        format!("SELECT {}, {} FROM {}", COLUMNS.join(", "), optional.join(", "), self.name)
    }
}

/// Columns that all tables have.
const COLUMNS: [&str; 18] = [
    "endpoint_id",
    "record_time",
    "delta_tcp_in",
    "delta_tcp_out",
    "delta_udp_in",
    "delta_udp_out",
    "avg_ping",
    "min_ping",
    "max_ping",
    "avg_pool",
    "avg_tcps",
    "avg_udps",
    "avg_speed_in",
    "avg_speed_out",
    "record_count",
    "expected_count",
    "ping_count",
    "covered_ms",
];

/// A row of any of the tables.
#[derive(Clone, Debug, PartialEq, QueryableByName)]
pub(super) struct Row {
    #[diesel(sql_type = Integer)]
    pub(super) endpoint_id: i32,
    #[diesel(sql_type = Text)]
    pub(super) instance_id: String,
    #[diesel(sql_type = BigInt)]
    pub(super) record_time: i64,
    #[diesel(sql_type = BigInt)]
    delta_tcp_in: i64,
    #[diesel(sql_type = BigInt)]
    delta_tcp_out: i64,
    #[diesel(sql_type = BigInt)]
    delta_udp_in: i64,
    #[diesel(sql_type = BigInt)]
    delta_udp_out: i64,
    #[diesel(sql_type = Nullable<Double>)]
    avg_ping: Option<f64>,
    #[diesel(sql_type = Nullable<Integer>)]
    min_ping: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    max_ping: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    avg_pool: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    avg_tcps: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    avg_udps: Option<i32>,
    #[diesel(sql_type = Nullable<Double>)]
    avg_speed_in: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    avg_speed_out: Option<f64>,
    #[diesel(sql_type = Integer)]
    record_count: i32,
    #[diesel(sql_type = Integer)]
    expected_count: i32,
    #[diesel(sql_type = Integer)]
    ping_count: i32,
    #[diesel(sql_type = BigInt)]
    covered_ms: i64,
    #[diesel(sql_type = Integer)]
    tunnels: i32,
    #[diesel(sql_type = Bool)]
    zone_changed: bool,
    #[diesel(sql_type = Integer)]
    left_out: i32,
}

impl Row {
    fn new(endpoint: EndpointId, instance: &str, start: Timestamp, figures: &Figures) -> Self {
        Self {
            endpoint_id: endpoint.0,
            instance_id: text(instance).into_owned(),
            record_time: start.0,
            delta_tcp_in: bigint(figures.delta.tcp_rx),
            delta_tcp_out: bigint(figures.delta.tcp_tx),
            delta_udp_in: bigint(figures.delta.udp_rx),
            delta_udp_out: bigint(figures.delta.udp_tx),
            avg_ping: figures.ping.map(|ping| ping.mean()),
            min_ping: figures.ping.map(|ping| ping.min),
            max_ping: figures.ping.map(|ping| ping.max),
            avg_pool: figures.pool,
            avg_tcps: figures.tcps,
            avg_udps: figures.udps,
            avg_speed_in: figures.speed_in().map(|speed| speed as f64),
            avg_speed_out: figures.speed_out().map(|speed| speed as f64),
            record_count: figures.record_count,
            expected_count: figures.expected_count,
            ping_count: figures.ping.map_or(0, |ping| ping.count),
            covered_ms: figures.covered_ms,
            tunnels: 0,
            zone_changed: false,
            left_out: 0,
        }
    }

    fn of_tunnel(tunnel: &TunnelKey, start: Timestamp, marked: &Marked<Figures>) -> Self {
        let row = Self::new(tunnel.endpoint, tunnel.instance.as_str(), start, &marked.row);
        Self { zone_changed: marked.zone_changed, left_out: marked.left_out.number(), ..row }
    }

    fn of_totals(endpoint: EndpointId, start: Timestamp, marked: &Marked<Totals>) -> Self {
        let Totals { figures, speed_in, speed_out, tunnels } = &marked.row;
        Self {
            avg_speed_in: speed_in.map(|speed| speed as f64),
            avg_speed_out: speed_out.map(|speed| speed as f64),
            tunnels: *tunnels,
            zone_changed: marked.zone_changed,
            ..Self::new(endpoint, "", start, figures)
        }
    }

    pub(super) fn figures(&self) -> Figures {
        let bytes = |value: i64| u64::try_from(value).unwrap_or(0);
        let ping = |mean: f64| Ping {
            // The sum was a whole number.
            sum: (mean * f64::from(self.ping_count)).round() as i64,
            count: self.ping_count,
            min: self.min_ping.unwrap_or_default(),
            max: self.max_ping.unwrap_or_default(),
        };
        Figures {
            delta: Counters {
                tcp_rx: bytes(self.delta_tcp_in),
                tcp_tx: bytes(self.delta_tcp_out),
                udp_rx: bytes(self.delta_udp_in),
                udp_tx: bytes(self.delta_udp_out),
            },
            covered_ms: self.covered_ms,
            ping: self.avg_ping.filter(|_| self.ping_count > 0).map(ping),
            pool: self.avg_pool,
            tcps: self.avg_tcps,
            udps: self.avg_udps,
            record_count: self.record_count,
            expected_count: self.expected_count,
        }
    }

    /// As answers to people take it.
    pub(super) fn stretch(&self) -> Stretch {
        Stretch { start: Timestamp(self.record_time), totals: self.totals(), zone_changed: self.zone_changed }
    }

    fn marked_totals(&self) -> Marked<Totals> {
        Marked { row: self.totals(), zone_changed: self.zone_changed, left_out: LeftOut::default() }
    }

    fn totals(&self) -> Totals {
        let whole = |speed: f64| speed.round() as i64;
        Totals {
            figures: self.figures(),
            speed_in: self.avg_speed_in.map(whole),
            speed_out: self.avg_speed_out.map(whole),
            tunnels: self.tunnels,
        }
    }
}

/// Reads what is stored under these keys of one level.
pub(super) fn load_tunnels<'a>(
    connection: &mut Connection,
    level: Level,
    keys: impl Iterator<Item = (&'a TunnelKey, Timestamp)>,
) -> QueryResult<TunnelRows> {
    let table = Table::of(level, false);
    let query = format!("{} WHERE endpoint_id = $1 AND instance_id = $2 AND record_time BETWEEN $3 AND $4", table.select());
    let mut found = TunnelRows::new();
    for (tunnel, from, until) in ranges(keys) {
        let instance = text(tunnel.instance.as_str());
        let query = sql_query(query.as_str())
            .bind::<Integer, _>(tunnel.endpoint.0)
            .bind::<Text, _>(instance.as_ref())
            .bind::<BigInt, _>(from.0)
            .bind::<BigInt, _>(until.0);
        let rows: Vec<Row> = on!(&mut *connection, c => query.load(c))?;
        found.extend(rows.into_iter().map(|row| {
            let left_out = LeftOut::from_number(row.left_out);
            let marked = Marked { row: row.figures(), zone_changed: row.zone_changed, left_out };
            ((tunnel.clone(), Timestamp(row.record_time)), marked)
        }));
    }
    Ok(found)
}

/// Reads what is stored under these keys of one level's totals.
pub(super) fn load_totals(
    connection: &mut Connection,
    level: Level,
    keys: impl Iterator<Item = (EndpointId, Timestamp)>,
) -> QueryResult<TotalRows> {
    let table = Table::of(level, true);
    let query = format!("{} WHERE endpoint_id = $1 AND record_time BETWEEN $2 AND $3", table.select());
    let mut found = TotalRows::new();
    for (endpoint, from, until) in ranges(keys) {
        let query = sql_query(query.as_str()).bind::<Integer, _>(endpoint.0).bind::<BigInt, _>(from.0).bind::<BigInt, _>(until.0);
        let rows: Vec<Row> = on!(&mut *connection, c => query.load(c))?;
        found.extend(rows.into_iter().map(|row| {
            let marked = row.marked_totals();
            ((endpoint, Timestamp(row.record_time)), marked)
        }));
    }
    Ok(found)
}

/// Reads all totals of one endpoint, or of the fleet, from a time on.
pub(super) fn load_totals_from(
    connection: &mut Connection,
    level: Level,
    endpoint: EndpointId,
    from: Timestamp,
) -> QueryResult<TotalRows> {
    let query = format!("{} WHERE endpoint_id = $1 AND record_time >= $2", Table::of(level, true).select());
    let query = sql_query(query).bind::<Integer, _>(endpoint.0).bind::<BigInt, _>(from.0);
    let rows: Vec<Row> = on!(connection, c => query.load(c))?;
    Ok(rows.iter().map(|row| ((endpoint, Timestamp(row.record_time)), row.marked_totals())).collect())
}

/// The keys as ranges of times that are close together.
fn ranges<K: Ord + Clone>(keys: impl Iterator<Item = (K, Timestamp)>) -> Vec<(K, Timestamp, Timestamp)> {
    let mut times: BTreeMap<K, Vec<Timestamp>> = BTreeMap::new();
    for (key, time) in keys {
        times.entry(key).or_default().push(time);
    }
    let mut ranges = Vec::new();
    for (key, mut times) in times {
        times.sort_unstable();
        let close = |a: &Timestamp, b: &Timestamp| b.0 - a.0 <= APART_MAX;
        for run in times.chunk_by(close) {
            ranges.push((key.clone(), run[0], run[run.len() - 1]));
        }
    }
    ranges
}

/// Writes rows of tunnels, in place of those with the same keys.
pub(super) fn write_tunnels(connection: &mut Connection, level: Level, rows: &TunnelRows) -> QueryResult<()> {
    let rows: Vec<Row> = rows.iter().map(|((tunnel, start), marked)| Row::of_tunnel(tunnel, *start, marked)).collect();
    write(connection, Table::of(level, false), &rows)
}

/// Writes rows of totals, in place of those with the same keys.
pub(super) fn write_totals(connection: &mut Connection, level: Level, rows: &TotalRows) -> QueryResult<()> {
    let rows: Vec<Row> = rows.iter().map(|((endpoint, start), marked)| Row::of_totals(*endpoint, *start, marked)).collect();
    write(connection, Table::of(level, true), &rows)
}

fn write(connection: &mut Connection, table: Table, mut rows: &[Row]) -> QueryResult<()> {
    for size in ROWS_PER_STATEMENT {
        while let Some((chunk, rest)) = rows.split_at_checked(size) {
            on!(&mut *connection, c => WriteRows { table, rows: chunk }.execute(c))?;
            rows = rest;
        }
    }
    Ok(())
}

/// The statement, which Diesel keeps prepared, as in `insert_events.rs`.
struct WriteRows<'a> {
    table: Table,
    rows: &'a [Row],
}

impl QueryId for WriteRows<'_> {
    type QueryId = ();
    // The text is the key of the prepared statement.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl RunQueryDsl<SqliteConnection> for WriteRows<'_> {}
impl RunQueryDsl<PgConnection> for WriteRows<'_> {}

macro_rules! walk {
    ($($database:ty),*) => {$(
        impl QueryFragment<$database> for WriteRows<'_> {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, $database>) -> QueryResult<()> {
                let Self { table, rows } = *self;
                let [instance, tunnels, zone_changed, left_out] = table.optional();
                let mut columns = COLUMNS.to_vec();
                columns.extend([instance, tunnels, zone_changed, left_out].iter().filter(|column| column.1).map(|column| column.0));
                out.push_sql(&format!("INSERT INTO {} ({}) VALUES ", table.name, columns.join(", ")));
                for (index, row) in rows.iter().enumerate() {
                    out.push_sql(if index == 0 { "(" } else { ", (" });
                    out.push_bind_param::<Integer, _>(&row.endpoint_id)?;
                    let deltas = [&row.delta_tcp_in, &row.delta_tcp_out, &row.delta_udp_in, &row.delta_udp_out];
                    for number in [&row.record_time].into_iter().chain(deltas) {
                        out.push_sql(", ");
                        out.push_bind_param::<BigInt, _>(number)?;
                    }
                    out.push_sql(", ");
                    out.push_bind_param::<Nullable<Double>, _>(&row.avg_ping)?;
                    for number in [&row.min_ping, &row.max_ping, &row.avg_pool, &row.avg_tcps, &row.avg_udps] {
                        out.push_sql(", ");
                        out.push_bind_param::<Nullable<Integer>, _>(number)?;
                    }
                    for speed in [&row.avg_speed_in, &row.avg_speed_out] {
                        out.push_sql(", ");
                        out.push_bind_param::<Nullable<Double>, _>(speed)?;
                    }
                    for count in [&row.record_count, &row.expected_count, &row.ping_count] {
                        out.push_sql(", ");
                        out.push_bind_param::<Integer, _>(count)?;
                    }
                    out.push_sql(", ");
                    out.push_bind_param::<BigInt, _>(&row.covered_ms)?;
                    if instance.1 {
                        out.push_sql(", ");
                        out.push_bind_param::<Text, _>(&row.instance_id)?;
                    }
                    if tunnels.1 {
                        out.push_sql(", ");
                        out.push_bind_param::<Integer, _>(&row.tunnels)?;
                    }
                    if zone_changed.1 {
                        out.push_sql(", ");
                        out.push_bind_param::<Bool, _>(&row.zone_changed)?;
                    }
                    if left_out.1 {
                        out.push_sql(", ");
                        out.push_bind_param::<Integer, _>(&row.left_out)?;
                    }
                    out.push_sql(")");
                }
                out.push_sql(&format!(" ON CONFLICT ({}) DO UPDATE SET ", table.key()));
                let values: Vec<&&str> = columns.iter().filter(|column| !table.key().contains(**column)).collect();
                let set: Vec<String> = values.iter().map(|column| format!("{column} = excluded.{column}")).collect();
                out.push_sql(&set.join(", "));
                Ok(())
            }
        }
    )*};
}

walk!(Sqlite, Pg);
