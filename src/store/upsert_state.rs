//! The statement that keeps `tunnel_state` up to date in SQLite: one row, every few seconds for every tunnel that moved.
//!
//! Diesel does not keep upserts prepared, and parsing one takes several times as long as running it. This is the same statement
//! as a query fragment that Diesel keeps prepared, as in `insert_events.rs`.

use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, RunQueryDsl, SqliteConnection};

use super::live::StateRow;

/// Stores a row unless the stored one is as new.
pub(super) struct UpsertState<'a>(pub(super) &'a StateRow);

impl QueryId for UpsertState<'_> {
    type QueryId = ();
    // The text is the key of the prepared statement.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl RunQueryDsl<SqliteConnection> for UpsertState<'_> {}

impl QueryFragment<Sqlite> for UpsertState<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        let row = self.0;
        out.push_sql(
            "INSERT INTO tunnel_state (endpoint_id, instance_id, status, tcp_rx, tcp_tx, udp_rx, udp_tx, tcps, udps, pool, ping, \
             last_event_time, last_event) VALUES (",
        );
        out.push_bind_param::<Integer, _>(&row.endpoint_id)?;
        for text in [&row.instance_id, &row.status] {
            out.push_sql(", ");
            out.push_bind_param::<Text, _>(text)?;
        }
        for counter in [&row.tcp_rx, &row.tcp_tx, &row.udp_rx, &row.udp_tx] {
            out.push_sql(", ");
            out.push_bind_param::<BigInt, _>(counter)?;
        }
        for gauge in [&row.tcps, &row.udps, &row.pool, &row.ping] {
            out.push_sql(", ");
            out.push_bind_param::<Nullable<Integer>, _>(gauge)?;
        }
        for number in [&row.last_event_time, &row.last_event] {
            out.push_sql(", ");
            out.push_bind_param::<BigInt, _>(number)?;
        }
        out.push_sql(
            ") ON CONFLICT (endpoint_id, instance_id) DO UPDATE SET status = excluded.status, tcp_rx = excluded.tcp_rx, \
             tcp_tx = excluded.tcp_tx, udp_rx = excluded.udp_rx, udp_tx = excluded.udp_tx, tcps = excluded.tcps, \
             udps = excluded.udps, pool = excluded.pool, ping = excluded.ping, last_event_time = excluded.last_event_time, \
             last_event = excluded.last_event WHERE tunnel_state.last_event < excluded.last_event",
        );
        Ok(())
    }
}
