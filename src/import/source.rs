//! A database of NodePassDash: recognised and read, never written to.
//!
//! An SQLite file is opened so that nothing beside it changes either, as far as SQLite allows it: without a write-ahead log as
//! immutable, with one through the index that the program which uses it keeps in shared memory, without taking note there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use diesel::connection::{DefaultLoadingMode, SimpleConnection};
use diesel::dsl::sql;
use diesel::pg::PgRowByRowLoadingMode;
use diesel::sql_types::{BigInt, Double, Nullable, Text};
use diesel::{Connection as _, PgConnection, QueryResult, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::times::Time;
use crate::endpoint::ApiKey;
use crate::store::{DatabaseUrl, beside};

/// What an SQLite file begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// The byte of the header that is 2 where there is a write-ahead log.
const READ_VERSION_OFFSET: usize = 19;
const READ_VERSION_WAL: u8 = 2;
/// Read-only for the whole session, as slow as it takes, and times in UTC.
const POSTGRES_SESSION: &str = "SET default_transaction_read_only = on; SET statement_timeout = 0; \
     SET client_encoding = 'UTF8'; SET client_min_messages = warning";

/// Why a source cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It is not what can be imported.
    #[error("{0}")]
    Unsuitable(String),
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

/// Where the source is: a file, or a server.
#[derive(Clone, Debug)]
pub struct Place(DatabaseUrl);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            DatabaseUrl::Sqlite(path) => path.display().fmt(f),
            url @ DatabaseUrl::Postgres(_) => url.fmt(f),
        }
    }
}

impl Place {
    /// A path, or a `postgres://` URL.
    ///
    /// # Errors
    /// [`SourceError::Unsuitable`] for a URL that is none.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let is_url = ["postgres:", "postgresql:", "sqlite:"].iter().any(|scheme| text.starts_with(scheme));
        if !is_url {
            return Ok(Self(DatabaseUrl::Sqlite(PathBuf::from(text))));
        }
        // The parser's words are about `database.url`, and the text may hold a password.
        let wrong = "not a usable source: give FILE.db or postgres://USER@HOST/DATABASE";
        text.parse().map(Self).map_err(|_| SourceError::Unsuitable(wrong.to_owned()))
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> SourceError {
        SourceError::Unreadable(format!("cannot read {self}: {}", self.0.scrub(&error.to_string())))
    }

    fn unsuitable(&self, why: &str) -> SourceError {
        SourceError::Unsuitable(format!("{self} {why}"))
    }
}

/// A master as NodePassDash has it.
#[derive(Clone, Debug)]
pub struct SourceEndpoint {
    /// Its number there.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// `scheme://host:port`.
    pub url: String,
    /// Prefix.
    pub api_path: String,
    /// Key.
    pub api_key: ApiKey,
}

/// A tunnel as NodePassDash has it. Has no `Debug`: it holds passwords.
pub struct SourceTunnel {
    /// Its endpoint's number there.
    pub endpoint: i64,
    /// Its id at the master; empty where NodePassDash never learnt it.
    pub instance: String,
    /// Alias.
    pub name: String,
    /// `server` or `client`.
    pub kind: String,
    /// Status.
    pub status: String,
    /// The command line as URL; may hold the password.
    pub command_line: String,
    /// The same with all defaults.
    pub config_line: String,
    /// The password, to be looked for in the texts; it is stored nowhere.
    pub password: ApiKey,
    /// Start with the master.
    pub restart: Option<bool>,
    /// Mode.
    pub mode: Option<i32>,
    /// JSON of the tags.
    pub tags: String,
    /// JSON of the peer.
    pub peer: String,
    /// Counters, cumulative.
    pub counters: [i64; 4],
    /// `tcps`, `udps`, `pool`, `ping`.
    pub gauges: [Option<i64>; 4],
    /// When it was last heard of.
    pub last_event: Option<Time>,
}

/// A row of `service_history`: what the last points of some sixty seconds said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinuteRow {
    /// Its id.
    pub id: i64,
    /// `record_time`; `None` where it cannot be read.
    pub time: Option<Time>,
    /// `delta_*`: the counters as they stood, not what was added.
    pub counters: [i64; 4],
    /// `avg_ping`; 0 where there was none.
    pub ping: f64,
    /// `avg_pool`, `avg_tcps`, `avg_udps`: last values.
    pub gauges: [i64; 3],
    /// `record_count`.
    pub records: i64,
}

/// A row of `traffic_hourly_summary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourRow {
    /// Its id.
    pub id: i64,
    /// `hour_time`; `None` where it cannot be read.
    pub time: Option<Time>,
    /// `*_total`: the counters as they stood at the end.
    pub totals: [i64; 4],
    /// `*_increment`, as NodePassDash reckoned it.
    pub increments: [i64; 4],
    /// `record_count`; 0 where the row was carried forward.
    pub records: i64,
}

/// All rows of one tunnel.
#[derive(Clone, Debug, PartialEq)]
pub struct Group<T> {
    /// Number of the endpoint.
    pub endpoint: i64,
    /// Instance there.
    pub instance: String,
    /// Its rows, in no order.
    pub rows: Vec<T>,
}

enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

macro_rules! on {
    ($connection:expr, $c:ident => $body:expr) => {
        match $connection {
            Connection::Sqlite($c) => $body,
            Connection::Postgres($c) => $body,
        }
    };
}

/// A source that was recognised.
pub struct Source {
    place: Place,
    connection: Connection,
    /// Columns by table.
    columns: BTreeMap<String, BTreeSet<String>>,
    stamp: Option<Stamp>,
}

/// What a file shows from outside of being written to.
type Stamp = (u64, Option<SystemTime>, bool);

impl Source {
    /// Opens it and sees what it is.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn open(place: &Place) -> Result<Self, SourceError> {
        let (connection, stamp) = match &place.0 {
            DatabaseUrl::Sqlite(path) => {
                let (connection, immutable) = open_file(place, path)?;
                (connection, immutable.then(|| stamp(path)))
            }
            DatabaseUrl::Postgres(text) => (open_server(place, text)?, None),
        };
        let mut source = Self { place: place.clone(), connection, columns: BTreeMap::new(), stamp };
        source.columns = source.read_columns().map_err(|error| place.unreadable(&error))?;
        source.recognise()?;
        Ok(source)
    }

    /// The schema that it has: of the first or of the last version that can be imported. NodePassDash adds columns at its start
    /// and drops none, so there is nothing between the two that matters.
    #[must_use]
    pub fn layout(&self) -> &'static str {
        if self.has("endpoints", "hostname") { "v4.0.5" } else { "v3.0.0-beta2" }
    }

    fn has(&self, table: &str, column: &str) -> bool {
        self.columns.get(table).is_some_and(|columns| columns.contains(column))
    }

    fn recognise(&self) -> Result<(), SourceError> {
        let table = |name: &str| self.columns.contains_key(name);
        if table("__diesel_schema_migrations") && table("endpoint_sse") {
            return Err(self.place.unsuitable("is a database of tidegate; `tidegate restore` takes back a backup"));
        }
        let needed = [
            ("endpoints", "api_path"),
            ("endpoints", "api_key"),
            ("tunnels", "endpoint_id"),
            ("tunnels", "instance_id"),
            ("service_history", "record_time"),
            ("service_history", "delta_tcp_in"),
        ];
        if needed.iter().all(|(table, column)| self.has(table, column)) {
            return Ok(());
        }
        let older = ["EndpointSSE", "Endpoint", "Tunnel"].iter().any(|name| table(name))
            || self.has("tunnels", "endpoint_id") && self.has("endpoints", "api_path");
        Err(self.place.unsuitable(if older {
            "is of a NodePassDash before v3.0.0-beta2 and is not imported; start NodePassDash v3 or v4 on a copy of it first, or add \
             the masters with `tidegate endpoint add`"
        } else {
            "is no database of NodePassDash (v3.0.0-beta2 to v4.0.5): it lacks the tables endpoints, tunnels and service_history"
        }))
    }

    fn read_columns(&mut self) -> QueryResult<BTreeMap<String, BTreeSet<String>>> {
        let query = match &self.connection {
            Connection::Sqlite(_) => {
                "SELECT m.name AS table_name, c.name AS column_name FROM sqlite_master m, pragma_table_info(m.name) c \
                 WHERE m.type = 'table'"
            }
            Connection::Postgres(_) => {
                "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = current_schema()"
            }
        };
        let rows: Vec<Column> = on!(&mut self.connection, c => sql_query(query).load(c))?;
        let mut columns = BTreeMap::<_, BTreeSet<_>>::new();
        for row in rows {
            columns.entry(row.table_name).or_default().insert(row.column_name);
        }
        Ok(columns)
    }

    /// Rows of a table; 0 where there is no such table.
    ///
    /// # Errors
    /// [`SourceError::Unreadable`].
    pub fn count(&mut self, table: &str) -> Result<u64, SourceError> {
        if !self.columns.contains_key(table) {
            return Ok(0);
        }
        let query = sql::<BigInt>(&format!("SELECT COUNT(*) FROM {table}"));
        let count: QueryResult<i64> = on!(&mut self.connection, c => query.get_result(c));
        count.map(|count| count.unsigned_abs()).map_err(|error| self.place.unreadable(&error))
    }

    /// All endpoints, by number.
    ///
    /// # Errors
    /// [`SourceError::Unreadable`].
    pub fn endpoints(&mut self) -> Result<Vec<SourceEndpoint>, SourceError> {
        let query = "SELECT CAST(id AS BIGINT), CAST(name AS TEXT), CAST(url AS TEXT), CAST(api_path AS TEXT), \
                     CAST(api_key AS TEXT) FROM endpoints ORDER BY id";
        type Row = (i64, Option<String>, Option<String>, Option<String>, Option<String>);
        let query = sql::<(BigInt, Nullable<Text>, Nullable<Text>, Nullable<Text>, Nullable<Text>)>(query);
        let rows: QueryResult<Vec<Row>> = on!(&mut self.connection, c => query.load(c));
        let rows = rows.map_err(|error| self.place.unreadable(&error))?;
        let endpoint = |(id, name, url, api_path, api_key): Row| SourceEndpoint {
            id,
            name: name.unwrap_or_default(),
            url: url.unwrap_or_default(),
            api_path: api_path.unwrap_or_default(),
            api_key: ApiKey::new(&api_key.unwrap_or_default()),
        };
        Ok(rows.into_iter().map(endpoint).collect())
    }

    /// All tunnels, by endpoint and instance.
    ///
    /// # Errors
    /// [`SourceError::Unreadable`].
    pub fn tunnels(&mut self) -> Result<Vec<SourceTunnel>, SourceError> {
        let text = |name: &str| match self.has("tunnels", name) {
            true => format!("COALESCE(CAST({name} AS TEXT), '')"),
            false => "''".to_owned(),
        };
        let texts =
            ["instance_id", "name", "type", "status", "command_line", "config_line", "password", "restart", "mode", "tags"]
                .map(text)
                .join(", ");
        let number = |name: &str| match self.has("tunnels", name) {
            true => format!("CAST({name} AS BIGINT)"),
            false => "CAST(NULL AS BIGINT)".to_owned(),
        };
        let numbers = ["tcp_rx", "tcp_tx", "udp_rx", "udp_tx", "tcps", "udps", "pool", "ping"].map(number).join(", ");
        let heard = [("tunnels", "last_event_time"), ("tunnels", "updated_at"), ("tunnels", "created_at")];
        let heard: Vec<String> =
            heard.iter().filter(|(table, column)| self.has(table, column)).map(|(_, column)| self.time(column)).collect();
        let heard = if heard.is_empty() { "''".to_owned() } else { format!("COALESCE({}, '')", heard.join(", ")) };
        let query = format!(
            "SELECT CAST(endpoint_id AS BIGINT), {texts}, {}, {numbers}, {heard} FROM tunnels ORDER BY endpoint_id, id",
            text("peer")
        );
        type Number = Nullable<BigInt>;
        type Types = (
            BigInt,
            (Text, Text, Text, Text, Text, Text, Text, Text, Text, Text, Text),
            (Number, Number, Number, Number, Number, Number, Number, Number),
            Text,
        );
        let query = sql::<Types>(&query);
        let rows: QueryResult<Vec<TunnelRow>> = on!(&mut self.connection, c => query.load(c));
        Ok(rows.map_err(|error| self.place.unreadable(&error))?.into_iter().map(tunnel).collect())
    }

    /// A time as text.
    fn time(&self, column: &str) -> String {
        match self.connection {
            Connection::Sqlite(_) => format!("CAST({column} AS TEXT)"),
            Connection::Postgres(_) => format!(r#"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#),
        }
    }

    /// Gives all rows of `service_history`, tunnel by tunnel in the order of their numbers and ids, until `sink` says no.
    ///
    /// # Errors
    /// [`SourceError::Unreadable`].
    pub fn minutes(&mut self, sink: &mut dyn FnMut(Group<MinuteRow>) -> bool) -> Result<(), SourceError> {
        let columns = ["delta_tcp_in", "delta_tcp_out", "delta_udp_in", "delta_udp_out", "avg_pool", "avg_tcps", "avg_udps"];
        let query = self.query("service_history", "record_time", &columns, "COALESCE(CAST(avg_ping AS DOUBLE PRECISION), 0)");
        type Types = (BigInt, BigInt, Text, Text, BigInt, (BigInt, BigInt, BigInt, BigInt), (BigInt, BigInt, BigInt), Double);
        type Row = (i64, i64, String, String, i64, (i64, i64, i64, i64), (i64, i64, i64), f64);
        let row = |(id, endpoint, instance, time, records, (a, b, c, d), (pool, tcps, udps), ping): Row| {
            let row =
                MinuteRow { id, time: Time::parse(&time), counters: [a, b, c, d], ping, gauges: [pool, tcps, udps], records };
            (endpoint, instance, row)
        };
        let query = sql::<Types>(&query);
        let read = match &mut self.connection {
            Connection::Sqlite(c) => query.load_iter::<Row, DefaultLoadingMode>(c).and_then(|rows| grouped(rows, row, sink)),
            Connection::Postgres(c) => query.load_iter::<Row, PgRowByRowLoadingMode>(c).and_then(|rows| grouped(rows, row, sink)),
        };
        read.map_err(|error| self.place.unreadable(&error))
    }

    /// Gives all rows of `traffic_hourly_summary`, likewise.
    ///
    /// # Errors
    /// [`SourceError::Unreadable`].
    pub fn hours(&mut self, sink: &mut dyn FnMut(Group<HourRow>) -> bool) -> Result<(), SourceError> {
        if !self.has("traffic_hourly_summary", "hour_time") {
            return Ok(());
        }
        let columns = [
            "tcp_rx_total",
            "tcp_tx_total",
            "udp_rx_total",
            "udp_tx_total",
            "tcp_rx_increment",
            "tcp_tx_increment",
            "udp_rx_increment",
            "udp_tx_increment",
        ];
        let query = self.query("traffic_hourly_summary", "hour_time", &columns, "0");
        type Four = (BigInt, BigInt, BigInt, BigInt);
        type Types = (BigInt, BigInt, Text, Text, BigInt, Four, Four);
        type Row = (i64, i64, String, String, i64, (i64, i64, i64, i64), (i64, i64, i64, i64));
        let row = |(id, endpoint, instance, time, records, (a, b, c, d), (e, f, g, h)): Row| {
            let row = HourRow { id, time: Time::parse(&time), totals: [a, b, c, d], increments: [e, f, g, h], records };
            (endpoint, instance, row)
        };
        let query = sql::<Types>(&query);
        let read = match &mut self.connection {
            Connection::Sqlite(c) => query.load_iter::<Row, DefaultLoadingMode>(c).and_then(|rows| grouped(rows, row, sink)),
            Connection::Postgres(c) => query.load_iter::<Row, PgRowByRowLoadingMode>(c).and_then(|rows| grouped(rows, row, sink)),
        };
        read.map_err(|error| self.place.unreadable(&error))
    }

    /// The query of a history table. Its rows are sorted by the server, or by SQLite in a file of its own: tunnels lie across the
    /// whole table, and an index would be followed from row to row over the disk.
    fn query(&self, table: &str, time: &str, columns: &[&str], last: &str) -> String {
        let numbers: Vec<String> =
            ["record_count"].iter().chain(columns).map(|column| format!("COALESCE(CAST({column} AS BIGINT), 0)")).collect();
        let (no_index, order) = match self.connection {
            Connection::Sqlite(_) => (" NOT INDEXED", "instance_id"),
            Connection::Postgres(_) => ("", "instance_id COLLATE \"C\""),
        };
        let last = if last == "0" { String::new() } else { format!(", {last}") };
        format!(
            "SELECT CAST(id AS BIGINT), COALESCE(CAST(endpoint_id AS BIGINT), 0), COALESCE(CAST(instance_id AS TEXT), ''), COALESCE({}, ''), {}{last} \
             FROM {table}{no_index} ORDER BY endpoint_id, {order}",
            self.time(time),
            numbers.join(", ")
        )
    }

    /// Whether the file was written to since it was opened, where that could have gone unnoticed.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        match (&self.place.0, &self.stamp) {
            (DatabaseUrl::Sqlite(path), Some(before)) => stamp(path) != *before,
            _ => false,
        }
    }
}

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
}

type TunnelRow = (
    i64,
    (String, String, String, String, String, String, String, String, String, String, String),
    (Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>),
    String,
);

fn tunnel((endpoint, texts, numbers, heard): TunnelRow) -> SourceTunnel {
    let (instance, name, kind, status, command_line, config_line, password, restart, mode, tags, peer) = texts;
    let (tcp_rx, tcp_tx, udp_rx, udp_tx, tcps, udps, pool, ping) = numbers;
    SourceTunnel {
        endpoint,
        instance,
        name,
        kind,
        status,
        command_line,
        config_line,
        password: ApiKey::new(&password),
        restart: match restart.as_str() {
            "1" | "true" | "t" => Some(true),
            "0" | "false" | "f" => Some(false),
            _ => None,
        },
        mode: mode.parse().ok(),
        tags,
        peer,
        counters: [tcp_rx, tcp_tx, udp_rx, udp_tx].map(Option::unwrap_or_default),
        gauges: [tcps, udps, pool, ping],
        last_event: Time::parse(&heard),
    }
}

/// Hands on the rows of each tunnel together.
fn grouped<Row, T>(
    rows: impl Iterator<Item = QueryResult<Row>>,
    parts: impl Fn(Row) -> (i64, String, T),
    sink: &mut dyn FnMut(Group<T>) -> bool,
) -> QueryResult<()> {
    let mut group: Option<Group<T>> = None;
    for row in rows {
        let (endpoint, instance, row) = parts(row?);
        match &mut group {
            Some(group) if group.endpoint == endpoint && group.instance == instance => group.rows.push(row),
            _ => {
                let new = Group { endpoint, instance, rows: vec![row] };
                if group.replace(new).is_some_and(|done| !sink(done)) {
                    return Ok(());
                }
            }
        }
    }
    if let Some(last) = group {
        sink(last);
    }
    Ok(())
}

/// The connection, and whether it takes the file for one that nobody writes to.
fn open_file(place: &Place, path: &Path) -> Result<(Connection, bool), SourceError> {
    let mut header = [0; 100];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Ok(()) if header.starts_with(MAGIC) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(place.unsuitable("does not exist")),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(place.unreadable(&error)),
        _ => return Err(place.unsuitable("is no SQLite database")),
    }
    let path = std::path::absolute(path).map_err(|error| place.unreadable(&error))?;
    let has_log = header[READ_VERSION_OFFSET] == READ_VERSION_WAL;
    let log_is_there = fs::metadata(beside(&path, "-wal")).is_ok_and(|log| log.len() > 0) || beside(&path, "-shm").exists();
    let ways: &[&str] = match (has_log, log_is_there) {
        (true, false) => &["mode=ro&immutable=1"],
        (true, true) => &["mode=ro&readonly_shm=1", "mode=ro"],
        (false, _) => &["mode=ro"],
    };
    let mut failed = String::new();
    for way in ways {
        match open_as(&path, way) {
            Ok(connection) => return Ok((Connection::Sqlite(connection), way.contains("immutable"))),
            Err(error) => failed = error,
        }
    }
    Err(place.unreadable(&failed))
}

fn open_as(path: &Path, way: &str) -> Result<SqliteConnection, String> {
    let uri = crate::store::sqlite_uri(path, way);
    let mut connection = SqliteConnection::establish(&uri).map_err(|error| error.to_string())?;
    let set_up = "PRAGMA busy_timeout = 5000; PRAGMA query_only = ON; PRAGMA cache_size = -65536";
    connection.batch_execute(set_up).map_err(|error| error.to_string())?;
    // The first read is what opens the log.
    connection.batch_execute("SELECT count(*) FROM sqlite_master").map_err(|error| error.to_string())?;
    Ok(connection)
}

fn open_server(place: &Place, text: &str) -> Result<Connection, SourceError> {
    let mut connection = PgConnection::establish(&place.0.libpq(text)).map_err(|error| place.unreadable(&error))?;
    connection.batch_execute(POSTGRES_SESSION).map_err(|error| place.unreadable(&error))?;
    Ok(Connection::Postgres(connection))
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok();
    let length = metadata.as_ref().map_or(0, fs::Metadata::len);
    let log = fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    (length, metadata.and_then(|metadata| metadata.modified().ok()), log)
}
