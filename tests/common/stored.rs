//! What load masters sent against what the database holds.
//!
//! A load master numbers its events: `tcp_rx` counts those of a connection from 1, `tcp_tx` is the connection's number.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, SqliteConnection};
use tidegate::clock::Timestamp;
use tidegate::demo::load::LoadServer;
use tidegate::id::EventId;

use crate::postgres::Around;

/// Opens a database around the recorder.
pub fn connect(url: &str) -> Around {
    match url.strip_prefix("sqlite:") {
        Some(path) => {
            let mut connection = SqliteConnection::establish(path).expect("the file can be opened");
            connection.batch_execute("PRAGMA busy_timeout = 5000").expect("a pragma");
            Around::Sqlite(connection)
        }
        None => Around::Postgres(PgConnection::establish(url).expect("the server answers")),
    }
}

/// The stored updates of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Name of the endpoint.
    pub endpoint: String,
    /// Number of the connection.
    pub connection: u64,
    /// Rows.
    pub rows: u64,
    /// Highest number.
    pub last: u64,
    /// Rows whose number is not the one after the row before, in the order of ids.
    pub jumps: u64,
    /// Rows whose number is not above that of the row before: stored twice, or out of order.
    pub repeats: u64,
}

/// The stored updates of all connections.
pub fn stored(database: &mut Around) -> Vec<Stored> {
    let sql = "SELECT e.name || ' ' || s.tcp_tx || ' ' || count(*) || ' ' || max(s.tcp_rx) \
                 || ' ' || sum(CASE WHEN s.step <> 1 THEN 1 ELSE 0 END) || ' ' || sum(CASE WHEN s.step < 1 THEN 1 ELSE 0 END) AS value \
               FROM (SELECT endpoint_id, tcp_tx, tcp_rx, \
                       tcp_rx - lag(tcp_rx, 1, 0) OVER (PARTITION BY endpoint_id, tcp_tx ORDER BY id) AS step \
                     FROM endpoint_sse WHERE event_type = 'update') s \
               JOIN endpoints e ON e.id = s.endpoint_id GROUP BY e.name, s.tcp_tx ORDER BY e.name, s.tcp_tx";
    let row = |text: &String| {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |nth: usize| words[nth].parse().expect("a number");
        let endpoint = words[0].to_owned();
        Stored { endpoint, connection: number(1), rows: number(2), last: number(3), jumps: number(4), repeats: number(5) }
    };
    database.texts(sql).iter().map(row).collect()
}

/// Asserts for each connection that what is stored is a gapless prefix of what was sent, in order and without repeats.
pub fn assert_prefixes(database: &mut Around, masters: &[LoadServer]) -> Vec<Stored> {
    let all = stored(database);
    for connection in &all {
        let Stored { rows, last, jumps, .. } = *connection;
        assert!(rows == last && jumps == 0, "not a gapless prefix: {connection:?}");
        assert!(last <= sent(masters, connection), "more than was sent: {connection:?}");
    }
    all
}

/// Asserts for each connection that what is stored is in order and without repeats.
pub fn assert_no_repeats(database: &mut Around, masters: &[LoadServer]) -> Vec<Stored> {
    let all = stored(database);
    for connection in &all {
        assert!(connection.repeats == 0 && connection.last <= sent(masters, connection), "{connection:?}");
    }
    all
}

/// What a master handed to the socket of a connection.
fn sent(masters: &[LoadServer], connection: &Stored) -> u64 {
    let master = connection.endpoint.strip_prefix("load").and_then(|nth| nth.parse::<usize>().ok());
    let master = &masters[master.expect("endpoints are named load1, load2 and so on") - 1];
    master.sent()[usize::try_from(connection.connection).expect("a small number") - 1]
}

/// Rows of an endpoint whose ids were given in a time: those of one run.
pub fn rows_received_between(database: &mut Around, endpoint: &str, from: Timestamp, to: Timestamp) -> u64 {
    let sql = format!(
        "SELECT count(*) AS value FROM endpoint_sse s JOIN endpoints e ON e.id = s.endpoint_id \
         WHERE e.name = '{endpoint}' AND s.id >= {} AND s.id < {}",
        first_id_at(from),
        first_id_at(to)
    );
    database.number(&sql).unsigned_abs()
}

/// The lowest id of a millisecond.
fn first_id_at(time: Timestamp) -> i64 {
    const MILLISECOND: i64 = 1 << 22;
    let epoch = EventId(0).id_clock().millis();
    assert_eq!(EventId(MILLISECOND).id_clock().millis(), epoch + 1, "the layout of ids has changed");
    (time.millis() - epoch) * MILLISECOND
}

/// All rows of events.
pub fn rows(database: &mut Around) -> u64 {
    database.number("SELECT count(*) AS value FROM endpoint_sse").unsigned_abs()
}
