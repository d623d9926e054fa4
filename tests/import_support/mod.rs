//! Databases of NodePassDash made by hand, with the schema of its first and of its last version that is imported, in SQLite and in
//! PostgreSQL.

use std::path::PathBuf;

use crate::postgres::{Around, TestDatabase};
use crate::stored;

/// Which version's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// v3.0.0-beta2 (f12c206).
    First,
    /// v4.0.5 (f91223e).
    Last,
}

/// A database of NodePassDash.
pub struct Dash {
    pub database: TestDatabase,
    pub around: Around,
    next_id: i64,
}

const ENDPOINTS: &str = "id pk, name text UNIQUE NOT NULL, url text UNIQUE NOT NULL, api_path text NOT NULL, api_key text NOT NULL, \
    status text DEFAULT 'OFFLINE', os text, arch text, ver text, log text, tls text, crt text, tunnel_count int DEFAULT 0, key_path text, \
    uptime int, last_check time, created_at time, updated_at time";
const TUNNELS: &str = "id pk, name text NOT NULL, endpoint_id int NOT NULL, type text NOT NULL, status text DEFAULT 'stopped', \
    tunnel_address text NOT NULL, tunnel_port text NOT NULL, target_address text NOT NULL, target_port text NOT NULL, tls_mode text, \
    cert_path text, key_path text, log_level text DEFAULT 'inherit', command_line text NOT NULL, password text, instance_id text, \
    restart bool, read text, enable_log_store bool DEFAULT true, tcp_rx int DEFAULT 0, tcp_tx int DEFAULT 0, udp_rx int DEFAULT 0, \
    udp_tx int DEFAULT 0, tcps int, udps int, pool int, ping int, min int, max int, slot int, created_at time, updated_at time, \
    last_event_time time";
const TUNNELS_FIRST: &str = "mode text, rate text";
const TUNNELS_LAST: &str = "mode int, rate int, listen_type text, extend_target_address text, proxy_protocol bool, tags text, \
    config_line text, peer text, dial text, pool_type int, dns text, sni text, block int, lbs int, sorts int DEFAULT 0, service_sid text, \
    CONSTRAINT idx_tunnel_unique UNIQUE (endpoint_id, instance_id)";
const SERVICE_HISTORY: &str = "id pk, endpoint_id int NOT NULL, instance_id text NOT NULL, delta_tcp_in int DEFAULT 0, \
    delta_tcp_out int DEFAULT 0, delta_udp_in int DEFAULT 0, delta_udp_out int DEFAULT 0, avg_ping real DEFAULT 0, avg_pool int DEFAULT 0, \
    avg_tcps int DEFAULT 0, avg_udps int DEFAULT 0, avg_speed_in real DEFAULT 0, avg_speed_out real DEFAULT 0, record_count int DEFAULT 0, \
    up_count int DEFAULT 0, record_time time NOT NULL, created_at time";
const HOURLY: &str = "id pk, hour_time time, instance_id text, endpoint_id int, tcp_rx_total int DEFAULT 0, tcp_tx_total int DEFAULT 0, \
    udp_rx_total int DEFAULT 0, udp_tx_total int DEFAULT 0, tcp_rx_increment int DEFAULT 0, tcp_tx_increment int DEFAULT 0, \
    udp_rx_increment int DEFAULT 0, udp_tx_increment int DEFAULT 0, record_count int DEFAULT 0, created_at time, updated_at time";

impl Dash {
    /// An empty one in SQLite.
    pub fn sqlite(version: Version) -> Self {
        Self::new(TestDatabase::sqlite(), version)
    }

    /// An empty one in PostgreSQL.
    pub fn postgres(version: Version) -> Self {
        Self::new(TestDatabase::postgres(), version)
    }

    fn new(database: TestDatabase, version: Version) -> Self {
        let around = stored::connect(&database.url_text());
        let mut dash = Self { database, around, next_id: 0 };
        let (endpoints, tunnels) = match version {
            Version::First => ("ip text, color text DEFAULT 'default'", TUNNELS_FIRST),
            Version::Last => ("hostname text", TUNNELS_LAST),
        };
        dash.table("endpoints", &format!("{ENDPOINTS}, {endpoints}"));
        dash.table("tunnels", &format!("{TUNNELS}, {tunnels}"));
        dash.table("service_history", SERVICE_HISTORY);
        dash.table("traffic_hourly_summary", HOURLY);
        dash.execute("CREATE INDEX idx_service_history_instance_id ON service_history (instance_id)");
        if version == Version::Last {
            dash.execute(
                "CREATE INDEX idx_service_history_endpoint_instance_time ON service_history (endpoint_id, instance_id, record_time)",
            );
        }
        dash
    }

    fn table(&mut self, name: &str, columns: &str) {
        let sqlite = matches!(self.around, Around::Sqlite(_));
        let typed = |column: &str| {
            let words = column.split(' ').map(|word| match (word, sqlite) {
                ("pk", true) => "integer PRIMARY KEY AUTOINCREMENT",
                ("pk", false) => "bigserial PRIMARY KEY",
                ("int", true) => "integer",
                ("int", false) => "bigint",
                ("real", false) => "decimal",
                ("time", true) => "datetime",
                ("time", false) => "timestamptz",
                ("bool", true) => "numeric",
                ("bool", false) => "boolean",
                (word, _) => word,
            });
            words.collect::<Vec<_>>().join(" ")
        };
        let columns: Vec<String> = columns.split(", ").map(|column| typed(column.trim())).collect();
        self.execute(&format!("CREATE TABLE {name} ({})", columns.join(", ")));
    }

    pub fn execute(&mut self, sql: &str) {
        self.around.execute(sql);
    }

    /// As the command takes it.
    pub fn source(&self) -> String {
        match &self.database {
            TestDatabase::Sqlite(_) => self.path().display().to_string(),
            TestDatabase::Postgres(_) => self.database.url_text(),
        }
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(self.database.url_text().strip_prefix("sqlite:").expect("an SQLite database"))
    }

    pub fn endpoint(&mut self, id: i64, name: &str, url: &str) {
        self.execute(&format!(
            "INSERT INTO endpoints (id, name, url, api_path, api_key) VALUES ({id}, '{name}', '{url}', '/api', 'canary-key-{id}')"
        ));
    }

    pub fn tunnel(&mut self, endpoint: i64, instance: &str, name: &str) {
        self.execute(&format!(
            "INSERT INTO tunnels (name, endpoint_id, type, status, tunnel_address, tunnel_port, target_address, target_port, command_line, \
             password, instance_id, restart, mode, tcp_rx, tcp_tx, tcps, last_event_time) VALUES ('{name}', {endpoint}, 'client', \
             'running', '10.0.0.5', '101', '127.0.0.1', '80', 'client://canary-password@10.0.0.5:101/127.0.0.1:80?log=info', \
             'canary-password', '{instance}', {}, '2', 700, 70, 3, '2026-11-20 10:00:00+00:00')",
            if matches!(self.around, Around::Sqlite(_)) { "1" } else { "true" }
        ));
    }

    /// A row of `service_history`; `rx` and half of it stand for the counters.
    pub fn minute(&mut self, endpoint: i64, instance: &str, time: &str, rx: i64) {
        self.next_id += 1;
        self.execute(&format!(
            "INSERT INTO service_history (id, endpoint_id, instance_id, delta_tcp_in, delta_tcp_out, avg_ping, avg_pool, avg_tcps, \
             record_count, up_count, record_time) VALUES ({}, {endpoint}, '{instance}', {rx}, {}, 12.5, 4, 3, 12, 12, '{time}')",
            self.next_id,
            rx / 2
        ));
    }

    /// A row of `traffic_hourly_summary`.
    pub fn hour(&mut self, endpoint: i64, instance: &str, time: &str, rx: i64, increment: i64, records: i64) {
        self.next_id += 1;
        self.execute(&format!(
            "INSERT INTO traffic_hourly_summary (id, hour_time, instance_id, endpoint_id, tcp_rx_total, tcp_tx_total, tcp_rx_increment, \
             tcp_tx_increment, record_count) VALUES ({}, '{time}', '{instance}', {endpoint}, {rx}, {}, {increment}, {}, {records})",
            self.next_id,
            rx / 2,
            increment / 2
        ));
    }
}
