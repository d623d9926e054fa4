//! One record in a transaction of its own, with its tunnel's state: how panels store, and what `realtime` and `dual` do.

use diesel::result::Error;
use diesel::{Connection as _, ExpressionMethods, QueryDsl, QueryResult, RunQueryDsl};

use super::StoreError;
use super::connection::{Connection, RowVerdict, on, refuses_row};
use super::endpoints::Failure;
use super::events::{EventRow, GapRow};
use super::insert_events::InsertEvents;
use super::live::{ConfigRow, StateRow};
use super::schema::{endpoint_sse, gaps, tunnel_config, tunnel_state};
use crate::event::{Event, EventKind, Record};

/// Stores it. True if it is new.
pub(super) fn commit(connection: &mut Connection, record: &Record) -> Result<bool, Failure> {
    let inserted = match record {
        Record::Event(event) => insert_event(connection, event),
        Record::Gap(gap) => {
            let row = GapRow::new(gap);
            on!(&mut *connection, c => diesel::insert_into(gaps::table).values(row).on_conflict(gaps::id).do_nothing().execute(c))
        }
    };
    let inserted = inserted.map_err(|error| judge(connection, record, error))?;
    if let Record::Event(event) = record {
        follow(connection, event)?;
    }
    Ok(inserted > 0)
}

/// In PostgreSQL in a savepoint, so that the connection is usable to judge the error.
fn insert_event(connection: &mut Connection, event: &Event) -> QueryResult<usize> {
    let row = EventRow::new(event);
    match connection {
        Connection::Sqlite(c) => InsertEvents::new(&[row], 1).execute(c),
        Connection::Postgres(_) if row.holds_nul() => {
            Err(Error::SerializationError("it holds a NUL character, which PostgreSQL's text cannot".into()))
        }
        Connection::Postgres(c) => c.transaction(|c| {
            diesel::insert_into(endpoint_sse::table).values(row).on_conflict(endpoint_sse::id).do_nothing().execute(c)
        }),
    }
}

/// A row that the database refuses for itself is its batch's to set aside.
fn judge(connection: &Connection, record: &Record, error: Error) -> Failure {
    match refuses_row(connection, &error) {
        RowVerdict::Refused | RowVerdict::Perhaps => {
            Failure::Refused(StoreError::refused(format!("event {}: {error}; its batch stores it or sets it aside", record.id())))
        }
        RowVerdict::Around => Failure::Query(error),
    }
}

/// Brings a tunnel that is there up to an event, unless it is newer already. The sync makes and removes tunnels: an event
/// that waited for its turn must not bring back one that has gone since.
fn follow(connection: &mut Connection, event: &Event) -> QueryResult<()> {
    let (Some(tunnel), Some(sample)) = (event.tunnel(), &event.sample) else { return Ok(()) };
    if event.kind == EventKind::Delete {
        return Ok(());
    }
    let state = StateRow::new(&tunnel, sample, event.received_at, event.id);
    let older = tunnel_state::table
        .filter(tunnel_state::endpoint_id.eq(state.endpoint_id))
        .filter(tunnel_state::instance_id.eq(&state.instance_id))
        .filter(tunnel_state::last_event.lt(state.last_event));
    on!(&mut *connection, c => diesel::update(older).set(&state).execute(c))?;
    if let Some(config) = &event.config {
        let config = ConfigRow::new(&tunnel, config, event.id);
        let older = tunnel_config::table
            .filter(tunnel_config::endpoint_id.eq(config.endpoint_id))
            .filter(tunnel_config::instance_id.eq(&config.instance_id))
            .filter(tunnel_config::last_event.lt(config.last_event));
        on!(connection, c => diesel::update(older).set(&config).execute(c))?;
    }
    Ok(())
}
