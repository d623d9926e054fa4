//! The statement that SQLite spends its day on.
//!
//! Diesel does not cache batch inserts, so each would be parsed and planned anew: half the speed (docs/performance.md).
//! This is the same statement as a query fragment whose text depends on the number of rows alone and which Diesel keeps
//! prepared.

use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, RunQueryDsl, SqliteConnection};

use super::events::EventRow;

/// `INSERT INTO endpoint_sse ... ON CONFLICT(id) DO NOTHING` of some rows.
pub(super) struct InsertEvents<'a> {
    rows: &'a [EventRow<'a>],
    /// Kept prepared. Only statements of the usual size and of one row are: every other size is a statement of its own, and
    /// a hundred of them would take megabytes.
    prepared: bool,
}

impl<'a> InsertEvents<'a> {
    /// `full` is the usual number of rows.
    pub(super) fn new(rows: &'a [EventRow<'a>], full: usize) -> Self {
        Self { rows, prepared: rows.len() == full || rows.len() == 1 }
    }
}

impl QueryId for InsertEvents<'_> {
    type QueryId = ();
    // The text is the key of the prepared statement.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl RunQueryDsl<SqliteConnection> for InsertEvents<'_> {}

impl QueryFragment<Sqlite> for InsertEvents<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        if !self.prepared {
            out.unsafe_to_cache_prepared();
        }
        out.push_sql(
            "INSERT INTO endpoint_sse (id, event_type, event_time, endpoint_id, instance_id, status, tcp_rx, tcp_tx, udp_rx, udp_tx, \
             tcps, udps, pool, ping, logs, detail) VALUES ",
        );
        for (index, row) in self.rows.iter().enumerate() {
            out.push_sql(if index == 0 { "(" } else { ", (" });
            out.push_bind_param::<BigInt, _>(&row.id)?;
            out.push_sql(", ");
            out.push_bind_param::<Text, _>(row.event_type)?;
            out.push_sql(", ");
            out.push_bind_param::<Nullable<BigInt>, _>(&row.event_time)?;
            out.push_sql(", ");
            out.push_bind_param::<Integer, _>(&row.endpoint_id)?;
            for text in [row.instance_id, row.status] {
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
            for text in [&row.logs, &row.detail] {
                out.push_sql(", ");
                out.push_bind_param::<Nullable<Text>, _>(text)?;
            }
            out.push_sql(")");
        }
        out.push_sql(" ON CONFLICT (id) DO NOTHING");
        Ok(())
    }
}
