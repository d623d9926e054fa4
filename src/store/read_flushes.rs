//! Reading what was flushed, what is not known, and who is followed.

use diesel::{ExpressionMethods, QueryDsl, Queryable, RunQueryDsl};

use super::StoreError;
use super::connection::on;
use super::read::ReadConnection;
use super::schema::{endpoints, flushes, gaps};
use crate::event::EndpointId;
use crate::query::Scope;

/// A row of `flushes`. Times are microseconds of UTC.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct FlushRecord {
    /// Its number, in the order of commits.
    pub id: i64,
    /// What was written: `events` or `history`.
    pub batch: String,
    /// Why.
    pub cause: String,
    /// The boundary that was kept.
    pub boundary: Option<i64>,
    /// Boundaries before it that were not.
    pub skipped_boundaries: i32,
    /// First id.
    pub first_id: Option<i64>,
    /// Last id.
    pub last_id: Option<i64>,
    /// First time of receipt.
    pub first_received: Option<i64>,
    /// Last time of receipt.
    pub last_received: Option<i64>,
    /// Rows that were written.
    pub rows: i64,
    /// Rows that were there.
    pub skipped: i64,
    /// Rows that were refused.
    pub quarantined: i64,
    /// Time in the transaction.
    pub duration_us: i64,
    /// When the batch was cut.
    pub cut_at: i64,
}

/// A row of `gaps`. Times are microseconds of UTC.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct GapRecord {
    /// Id, from the events' sequence.
    pub id: i64,
    /// Endpoint.
    pub endpoint_id: i32,
    /// Instance there; empty where it concerns the whole endpoint.
    pub instance_id: String,
    /// From when.
    pub from_time: i64,
    /// Until when.
    pub to_time: i64,
    /// Why.
    pub reason: String,
}

impl ReadConnection {
    /// At most `limit` flushes with an id below `below`, newest first.
    ///
    /// # Errors
    /// [`Unavailable`](super::StoreErrorKind::Unavailable).
    pub fn flushes_before(&mut self, below: i64, limit: u32) -> Result<Vec<FlushRecord>, StoreError> {
        use flushes as f;
        let page = f::table.filter(f::id.lt(below)).order(f::id.desc()).limit(i64::from(limit)).select((
            f::id,
            f::batch,
            f::cause,
            f::boundary,
            f::skipped_boundaries,
            f::first_id,
            f::last_id,
            f::first_received,
            f::last_received,
            f::rows,
            f::skipped,
            f::quarantined,
            f::duration_us,
            f::cut_at,
        ));
        on!(&mut self.connection, c => page.load(c)).map_err(|error| self.failed(&error))
    }

    /// At most `limit` gaps with an id below `below`, newest first. A tunnel's are also those of its whole endpoint.
    ///
    /// # Errors
    /// As above.
    pub fn gaps_before(&mut self, scope: &Scope, below: i64, limit: u32) -> Result<Vec<GapRecord>, StoreError> {
        use gaps as g;
        let rows = on!(&mut self.connection, c => {
            let mut query = g::table.filter(g::id.lt(below)).into_boxed();
            match scope {
                Scope::Fleet => {}
                Scope::Endpoint(id) => query = query.filter(g::endpoint_id.eq(id.0)),
                Scope::Tunnel(tunnel) => {
                    query = query
                        .filter(g::endpoint_id.eq(tunnel.endpoint.0))
                        .filter(g::instance_id.eq_any([tunnel.instance.as_str(), ""]));
                }
            }
            query.order(g::id.desc()).limit(i64::from(limit)).load(c)
        });
        rows.map_err(|error| self.failed(&error))
    }

    /// Ids and names of all endpoints.
    ///
    /// # Errors
    /// As above.
    pub fn endpoint_names(&mut self) -> Result<Vec<(EndpointId, String)>, StoreError> {
        let query = endpoints::table.order(endpoints::id).select((endpoints::id, endpoints::name));
        let rows: Vec<(i32, String)> = on!(&mut self.connection, c => query.load(c)).map_err(|error| self.failed(&error))?;
        Ok(rows.into_iter().map(|(id, name)| (EndpointId(id), name)).collect())
    }
}
