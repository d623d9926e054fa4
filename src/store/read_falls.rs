//! Reading counters that fell.

use diesel::{ExpressionMethods, QueryDsl, Queryable, RunQueryDsl};

use super::connection::on;
use super::read::ReadConnection;
use super::schema::counter_events;
use super::{CounterEvent, StoreError};
use crate::clock::Timestamp;
use crate::event::{Counters, EndpointId, TunnelKey};
use crate::id::EventId;
use crate::query::Scope;

/// Which falls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallFilter {
    /// Whose.
    pub scope: Scope,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Not before then.
    pub from: Timestamp,
    /// Before then.
    pub until: Timestamp,
}

impl FallFilter {
    /// Whether it is asked for.
    #[must_use]
    pub fn takes(&self, fall: &CounterEvent) -> bool {
        self.scope.contains(&fall.tunnel)
            && self.kind.as_deref().is_none_or(|kind| kind == &*fall.kind)
            && (self.from..self.until).contains(&fall.at)
    }
}

#[derive(Queryable)]
struct Row {
    event_id: i64,
    kind: String,
    endpoint_id: i32,
    instance_id: String,
    time: i64,
    before: (i64, i64, i64, i64),
    after: (i64, i64, i64, i64),
    counted: (i64, i64, i64, i64),
}

impl ReadConnection {
    /// At most `limit` falls of events with an id below `below`, newest first.
    ///
    /// # Errors
    /// [`Unavailable`](super::StoreErrorKind::Unavailable).
    pub fn falls_before(&mut self, filter: &FallFilter, below: i64, limit: u32) -> Result<Vec<CounterEvent>, StoreError> {
        use counter_events as e;
        let rows = on!(&mut self.connection, c => {
            let mut query = e::table
                .filter(e::event_id.lt(below))
                .filter(e::time.ge(filter.from.0))
                .filter(e::time.lt(filter.until.0))
                .into_boxed();
            match &filter.scope {
                Scope::Fleet => {}
                Scope::Endpoint(id) => query = query.filter(e::endpoint_id.eq(id.0)),
                Scope::Tunnel(tunnel) => {
                    query = query
                        .filter(e::endpoint_id.eq(tunnel.endpoint.0))
                        .filter(e::instance_id.eq(tunnel.instance.as_str()));
                }
            }
            if let Some(kind) = &filter.kind {
                query = query.filter(e::kind.eq(kind));
            }
            query
                .order(e::event_id.desc())
                .limit(i64::from(limit))
                .select((
                    e::event_id,
                    e::kind,
                    e::endpoint_id,
                    e::instance_id,
                    e::time,
                    (e::before_tcp_rx, e::before_tcp_tx, e::before_udp_rx, e::before_udp_tx),
                    (e::after_tcp_rx, e::after_tcp_tx, e::after_udp_rx, e::after_udp_tx),
                    (e::counted_tcp_rx, e::counted_tcp_tx, e::counted_udp_rx, e::counted_udp_tx),
                ))
                .load::<Row>(c)
        });
        let fall = |row: Row| CounterEvent {
            event: EventId(row.event_id),
            tunnel: TunnelKey { endpoint: EndpointId(row.endpoint_id), instance: row.instance_id.as_str().into() },
            at: Timestamp(row.time),
            kind: row.kind.into(),
            before: counters(row.before),
            after: counters(row.after),
            counted: counters(row.counted),
        };
        Ok(rows.map_err(|error| self.failed(&error))?.into_iter().map(fall).collect())
    }
}

fn counters((tcp_rx, tcp_tx, udp_rx, udp_tx): (i64, i64, i64, i64)) -> Counters {
    // Never negative: they are stored so.
    let bytes = |value: i64| u64::try_from(value).unwrap_or_default();
    Counters { tcp_rx: bytes(tcp_rx), tcp_tx: bytes(tcp_tx), udp_rx: bytes(udp_rx), udp_tx: bytes(udp_tx) }
}
