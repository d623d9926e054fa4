//! Deleting what an endpoint left behind, in steps: one transaction of millions of rows would hold the write lock for
//! minutes and grow the write-ahead log to the size of the table. Between two steps others write.

use diesel::dsl::max;
use diesel::sql_types::{BigInt, Integer};
use diesel::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl, sql_query};

use super::connection::{Connection, on};
use super::expire::raise_floor;
use super::ladder::Table;
use super::schema::{counter_events, endpoint_sse, flushes, gaps, history_accounts, history_imports, quarantine};
use crate::event::EndpointId;
use crate::id::EventId;

/// Rows that one step looks at: some tens of milliseconds.
const STEP_ROWS: i64 = 10_000;

/// How far a purge has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// Events up to this id are done.
    Events(i64),
    /// All events are, history is not.
    History,
    /// All is.
    Done,
}

impl Purge {
    /// Nothing is done.
    pub const START: Self = Self::Events(i64::MIN);
}

/// One step, inside a transaction of its own.
pub(super) fn step(connection: &mut Connection, id: EndpointId, progress: Purge) -> QueryResult<Purge> {
    match progress {
        Purge::Events(done) => events(connection, id, done),
        Purge::History => history(connection, id),
        Purge::Done => Ok(Purge::Done),
    }
}

/// `endpoint_sse` has no index by endpoint, so the step walks the key.
fn events(connection: &mut Connection, id: EndpointId, done: i64) -> QueryResult<Purge> {
    let ahead = endpoint_sse::table.filter(endpoint_sse::id.gt(done)).order(endpoint_sse::id).select(endpoint_sse::id);
    let last: Option<i64> = on!(&mut *connection, c => ahead.offset(STEP_ROWS - 1).first(c).optional())?;
    let range = endpoint_sse::table.filter(endpoint_sse::id.gt(done).and(endpoint_sse::id.le(last.unwrap_or(i64::MAX))));
    let deleted = on!(&mut *connection, c => diesel::delete(range.filter(endpoint_sse::endpoint_id.eq(id.0))).execute(c))?;
    if deleted > 0 {
        say_that_flushes_tell_more(connection)?;
    }
    Ok(last.map_or(Purge::History, Purge::Events))
}

/// What `flushes` say of batches until now is no longer what is there: `tidegate check` goes by the floor.
fn say_that_flushes_tell_more(connection: &mut Connection) -> QueryResult<()> {
    let newest: Option<i64> = on!(&mut *connection, c => flushes::table.select(max(flushes::last_id)).first(c))?;
    raise_floor(connection, "endpoint_sse", EventId(newest.unwrap_or_default()).id_clock())
}

/// The tables of the ladder one after the other, and the accounts with the last of their rows. The fleet's totals keep what
/// they counted.
fn history(connection: &mut Connection, id: EndpointId) -> QueryResult<Purge> {
    for table in Table::ALL {
        // Diesel has no rows of columns in `IN`. Both databases take `$1`.
        let (name, key) = (table.name, if table.totals { "record_time" } else { "instance_id, record_time" });
        let query = sql_query(format!(
            "DELETE FROM {name} WHERE endpoint_id = $1 AND ({key}) IN \
             (SELECT {key} FROM {name} WHERE endpoint_id = $1 ORDER BY {key} LIMIT $2)"
        ))
        .bind::<Integer, _>(id.0)
        .bind::<BigInt, _>(STEP_ROWS);
        if on!(&mut *connection, c => query.execute(c))? > 0 {
            return Ok(Purge::History);
        }
    }
    on!(&mut *connection, c => {
        diesel::delete(history_accounts::table.filter(history_accounts::endpoint_id.eq(id.0))).execute(c)?;
        diesel::delete(history_imports::table.filter(history_imports::endpoint_id.eq(id.0))).execute(c)?;
        diesel::delete(counter_events::table.filter(counter_events::endpoint_id.eq(id.0))).execute(c)?;
        diesel::delete(quarantine::table.filter(quarantine::endpoint_id.eq(id.0))).execute(c)?;
    });
    if on!(&mut *connection, c => diesel::delete(gaps::table.filter(gaps::endpoint_id.eq(id.0))).execute(c))? > 0 {
        say_that_flushes_tell_more(connection)?;
    }
    Ok(Purge::Done)
}
