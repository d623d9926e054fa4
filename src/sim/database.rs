//! The databases that a simulation can write to: how they are opened for each life, and how they are read at the end.

use std::collections::BTreeMap;
use std::path::PathBuf;

use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::invariants::holds_secret;
use super::observation::{Audit, StoredTunnel};
use super::options::Database;
use crate::clock::{SharedClock, Timestamp};
use crate::event::{Counters, EndpointId, Record, TunnelKey};
use crate::history::audit::{Levels, TunnelHistory, adjustment, check_levels, check_tunnel};
use crate::history::calendar::Calendar;
use crate::history::figures::sum;
use crate::id::EventId;
use crate::store::memory::{MemoryDatabase, Tables};
use crate::store::{DatabaseUrl, DieselStore, ReadConnection, Store, StoreError, StoreErrorKind};

/// Where files go that need not survive the machine: syncs cost nothing there.
const MEMORY_DIRECTORY: &str = "/dev/shm";

/// A database that outlives recorders.
pub enum World {
    /// Maps.
    Memory(MemoryDatabase),
    /// A real one.
    Real {
        /// Which.
        url: DatabaseUrl,
        /// Made for the run; removed with it.
        directory: Option<Directory>,
    },
}

/// Takes the name of a temporary directory out of texts.
pub struct Anonymous(String);

impl Anonymous {
    /// The text without it.
    #[must_use]
    pub fn replace(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&self.0, "DIRECTORY") }
    }
}

/// A directory that is removed with its content.
pub struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left in a directory for temporary files harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl World {
    /// Makes it.
    ///
    /// # Errors
    /// If there is no place for the file.
    pub fn new(database: &Database, seed: u64) -> Result<Self, StoreError> {
        Ok(match database {
            Database::Memory => Self::Memory(MemoryDatabase::default()),
            Database::Url(url) => Self::Real { url: url.clone(), directory: None },
            Database::Sqlite => {
                let in_memory = PathBuf::from(MEMORY_DIRECTORY);
                let parent = if in_memory.is_dir() { in_memory } else { std::env::temp_dir() };
                let thread = format!("{:?}", std::thread::current().id());
                let number: String = thread.chars().filter(char::is_ascii_digit).collect();
                let path = parent.join(format!("tidegate-simulate-{}-{number}-{seed}", std::process::id()));
                let _ = std::fs::remove_dir_all(&path);
                std::fs::create_dir_all(&path).map_err(|error| StoreError {
                    kind: StoreErrorKind::Fatal,
                    in_doubt: false,
                    message: format!("cannot make {}: {error}", path.display()),
                })?;
                Self::Real { url: DatabaseUrl::Sqlite(path.join("simulated.db")), directory: Some(Directory(path)) }
            }
        })
    }

    /// Opens it as a recorder does.
    ///
    /// # Errors
    /// As [`DieselStore::open`].
    pub fn open(&self, batch_size: usize, clock: SharedClock) -> Result<Box<dyn Store>, StoreError> {
        Ok(match self {
            Self::Memory(database) => Box::new(database.store()),
            Self::Real { url, .. } => Box::new(DieselStore::open(url, batch_size, clock)?),
        })
    }

    /// Whether there is nothing in it that a simulation could mix with its own or delete.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        let failed = |message: String| StoreError { kind: StoreErrorKind::Fatal, in_doubt: false, message };
        match self {
            Self::Memory(_) => Ok(true),
            Self::Real { url: DatabaseUrl::Sqlite(path), .. } => {
                let connection = SqliteConnection::establish(&path.display().to_string());
                holds_nothing(&mut connection.map_err(|error| failed(error.to_string()))?).map_err(failed)
            }
            Self::Real { url: DatabaseUrl::Postgres(url), .. } => {
                // As in `audit`.
                let connection =
                    PgConnection::establish(url).map_err(|_| failed("cannot connect to read the database".to_owned()));
                holds_nothing(&mut connection?).map_err(failed)
            }
        }
    }

    /// What differs between machines in texts, to be left out of a trace.
    #[must_use]
    pub fn anonymous_prefix(&self) -> Anonymous {
        match self {
            Self::Real { directory: Some(Directory(path)), .. } => Anonymous(path.display().to_string()),
            _ => Anonymous(String::new()),
        }
    }

    /// Reads all that the invariants ask for at the end.
    ///
    /// # Errors
    /// In words, if it cannot be read.
    pub fn audit(&self) -> Result<Audit, String> {
        match self {
            Self::Memory(database) => Ok(audit_memory(database)),
            Self::Real { url: DatabaseUrl::Sqlite(path), .. } => {
                let connection = SqliteConnection::establish(&path.display().to_string());
                let audit = audit_sql(&mut connection.map_err(|error| error.to_string())?)?;
                with_history(audit, &DatabaseUrl::Sqlite(path.clone()))
            }
            Self::Real { url: DatabaseUrl::Postgres(url), .. } => {
                // The driver's words may repeat the URL with its password.
                let connection = PgConnection::establish(url).map_err(|_| "cannot connect to read the database".to_owned());
                with_history(audit_sql(&mut connection?)?, &DatabaseUrl::Postgres(url.clone()))
            }
        }
    }
}

fn with_history(audit: Audit, url: &DatabaseUrl) -> Result<Audit, String> {
    let report = ReadConnection::open(url).and_then(|mut connection| connection.check_history());
    Ok(Audit { history_problems: report.map_err(|error| error.to_string())?.problems, ..audit })
}

/// As the check of a real database does it.
fn history_problems(tables: &Tables) -> Vec<String> {
    let calendar = Calendar::new(tables.zones.iter().copied());
    let mut tunnels: BTreeMap<&TunnelKey, TunnelHistory> = BTreeMap::new();
    for (tunnel, account) in &tables.accounts {
        tunnels.entry(tunnel).or_default().account = Some(*account);
    }
    for event in tables.counter_events.values() {
        let adjusted = &mut tunnels.entry(&event.tunnel).or_default().adjusted;
        let change = adjustment(event.before, event.after, event.counted);
        *adjusted = std::array::from_fn(|n| adjusted[n] + i128::from(change[n]));
    }
    let mut totals: BTreeMap<EndpointId, Levels> = BTreeMap::new();
    for level in 0..3 {
        for ((tunnel, start), row) in &tables.history[level] {
            tunnels.entry(tunnel).or_default().levels[level].insert(*start, row.row);
        }
        for ((endpoint, start), row) in &tables.history_totals[level] {
            totals.entry(*endpoint).or_default()[level].insert(*start, row.row.figures);
        }
    }
    let of_tunnels = tunnels.iter().flat_map(|(tunnel, history)| check_tunnel(tunnel, history, &calendar, tables.floors));
    let of_totals = totals
        .iter()
        .flat_map(|(endpoint, levels)| check_levels(&format!("endpoint {endpoint}"), levels, &calendar, tables.floors));
    of_tunnels.chain(of_totals).collect()
}

fn audit_memory(database: &MemoryDatabase) -> Audit {
    database.with_tables(|tables| {
        let mut audit = Audit { records: tables.records.keys().copied().collect(), ..Audit::default() };
        for ((tunnel, _), day) in &tables.history[2] {
            let (delta, reports) = (day.row.delta, u64::try_from(day.row.record_count).unwrap_or_default());
            match audit.reports.last_mut() {
                Some((last, counted)) if last == tunnel => *counted += reports,
                _ => audit.reports.push((tunnel.clone(), reports)),
            }
            match audit.moved.last_mut() {
                Some((last, moved)) if last == tunnel => *moved = sum(*moved, delta),
                _ => audit.moved.push((tunnel.clone(), delta)),
            }
        }
        let oldest = |level: usize| tables.history[level].keys().map(|(_, start)| *start).min();
        audit.oldest = [oldest(0), oldest(1), oldest(2)];
        audit.tunnels = tables
            .samples
            .iter()
            .map(|(tunnel, (sample, ..))| StoredTunnel {
                tunnel: tunnel.clone(),
                status: sample.status.as_str().to_owned(),
                counters: sample.counters,
            })
            .collect();
        audit.history_states = tables.history_states.len();
        audit.history_problems = history_problems(tables);
        let leaks = tables.records.values().any(|record| match record {
            Record::Event(event) => event.logs.as_ref().is_some_and(|logs| holds_secret(logs.as_str())),
            Record::Gap(_) => false,
        });
        audit.leaks.extend(leaks.then(|| "endpoint_sse.logs".to_owned()));
        audit
    })
}

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

#[derive(QueryableByName)]
struct CountersRow {
    #[diesel(sql_type = Integer)]
    endpoint_id: i32,
    #[diesel(sql_type = Text)]
    instance_id: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    tcp_rx: i64,
    #[diesel(sql_type = BigInt)]
    tcp_tx: i64,
    #[diesel(sql_type = BigInt)]
    udp_rx: i64,
    #[diesel(sql_type = BigInt)]
    udp_tx: i64,
}

impl CountersRow {
    fn tunnel(&self) -> TunnelKey {
        TunnelKey { endpoint: EndpointId(self.endpoint_id), instance: self.instance_id.as_str().into() }
    }

    fn counters(&self) -> Counters {
        let positive = |value: i64| u64::try_from(value).unwrap_or_default();
        Counters {
            tcp_rx: positive(self.tcp_rx),
            tcp_tx: positive(self.tcp_tx),
            udp_rx: positive(self.udp_rx),
            udp_tx: positive(self.udp_tx),
        }
    }
}

/// Tables that hold what was received or entered, and what was made of it.
const TABLES: [&str; 13] = [
    "endpoints",
    "tunnel_config",
    "tunnel_state",
    "endpoint_sse",
    "gaps",
    "quarantine",
    "flushes",
    "service_history",
    "history_hours",
    "history_days",
    "history_state",
    "history_accounts",
    "counter_events",
];

fn holds_nothing<C>(connection: &mut C) -> Result<bool, String>
where
    C: Connection,
    diesel::query_builder::SqlQuery: for<'a> diesel::query_dsl::LoadQuery<'a, C, IdRow>,
{
    for table in TABLES {
        let query = format!("SELECT CAST(1 AS BIGINT) AS id FROM {table} LIMIT 1");
        let rows: Vec<IdRow> = sql_query(query).load(connection).map_err(|error| format!("cannot read the database: {error}"))?;
        if !rows.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Text columns in which a canary would be a leak.
const TEXT_COLUMNS: [(&str, &str); 9] = [
    ("endpoint_sse", "logs"),
    ("endpoint_sse", "detail"),
    ("tunnel_config", "url"),
    ("tunnel_config", "config_line"),
    ("tunnel_config", "name"),
    ("tunnel_config", "unknown_fields"),
    ("quarantine", "row"),
    ("endpoints", "reason"),
    ("gaps", "reason"),
];

fn audit_sql<C>(connection: &mut C) -> Result<Audit, String>
where
    C: Connection,
    diesel::query_builder::SqlQuery: diesel::query_dsl::methods::ExecuteDsl<C>
        + for<'a> diesel::query_dsl::LoadQuery<'a, C, IdRow>
        + for<'a> diesel::query_dsl::LoadQuery<'a, C, CountersRow>,
{
    let failed = |error: diesel::result::Error| format!("cannot read the database: {error}");
    let ids = "SELECT id FROM endpoint_sse UNION ALL SELECT id FROM gaps ORDER BY id";
    let records: Vec<IdRow> = sql_query(ids).load(connection).map_err(failed)?;
    let moved = "SELECT endpoint_id, instance_id, '' AS status, CAST(SUM(delta_tcp_in) AS BIGINT) AS tcp_rx, \
                 CAST(SUM(delta_tcp_out) AS BIGINT) AS tcp_tx, CAST(SUM(delta_udp_in) AS BIGINT) AS udp_rx, \
                 CAST(SUM(delta_udp_out) AS BIGINT) AS udp_tx FROM history_days GROUP BY endpoint_id, instance_id ORDER BY endpoint_id, instance_id";
    let moved: Vec<CountersRow> = sql_query(moved).load(connection).map_err(failed)?;
    let reports = "SELECT endpoint_id, instance_id, '' AS status, CAST(SUM(record_count) AS BIGINT) AS tcp_rx, CAST(0 AS BIGINT) AS tcp_tx, \
                   CAST(0 AS BIGINT) AS udp_rx, CAST(0 AS BIGINT) AS udp_tx FROM history_days GROUP BY endpoint_id, instance_id ORDER BY endpoint_id, instance_id";
    let reports: Vec<CountersRow> = sql_query(reports).load(connection).map_err(failed)?;
    let tunnels = "SELECT endpoint_id, instance_id, status, tcp_rx, tcp_tx, udp_rx, udp_tx FROM tunnels";
    let tunnels: Vec<CountersRow> = sql_query(tunnels).load(connection).map_err(failed)?;
    // A table without rows has no oldest one.
    let mut oldest = |table: &str| -> Result<Option<Timestamp>, String> {
        let query = format!("SELECT record_time AS id FROM {table} ORDER BY record_time LIMIT 1");
        let rows: Vec<IdRow> = sql_query(query).load(connection).map_err(failed)?;
        Ok(rows.first().map(|row| Timestamp(row.id)))
    };
    let oldest = [oldest("service_history")?, oldest("history_hours")?, oldest("history_days")?];
    let mut count = |query: String| -> Result<usize, String> {
        let rows: Vec<IdRow> = sql_query(query).load(connection).map_err(failed)?;
        Ok(rows.first().and_then(|row| usize::try_from(row.id).ok()).unwrap_or_default())
    };
    let history_states = count("SELECT COUNT(*) AS id FROM history_state".to_owned())?;
    let quarantined = count("SELECT COUNT(*) AS id FROM quarantine".to_owned())?;
    let mut leaks = Vec::new();
    for (table, column) in TEXT_COLUMNS {
        let (key, password) = (super::master::KEY_CANARY, super::master::TUNNEL_PASSWORD);
        let column_sql = if column == "row" { "\"row\"" } else { column };
        let query =
            format!("SELECT COUNT(*) AS id FROM {table} WHERE {column_sql} LIKE '%{key}%' OR {column_sql} LIKE '%{password}%'");
        if count(query)? > 0 {
            leaks.push(format!("{table}.{column}"));
        }
    }
    Ok(Audit {
        records: records.into_iter().map(|row| EventId(row.id)).collect(),
        moved: moved.iter().map(|row| (row.tunnel(), row.counters())).collect(),
        reports: reports.iter().map(|row| (row.tunnel(), row.counters().tcp_rx)).collect(),
        tunnels: tunnels
            .into_iter()
            .map(|row| StoredTunnel { tunnel: row.tunnel(), counters: row.counters(), status: row.status })
            .collect(),
        oldest,
        history_problems: Vec::new(),
        history_states,
        quarantined,
        leaks,
    })
}
