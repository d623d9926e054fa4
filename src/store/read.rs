//! Reading for people: a connection of its own, read-only, so that a query neither waits for a flush nor delays one.

use std::time::Duration;

use diesel::{ExpressionMethods, QueryDsl, Queryable, RunQueryDsl};
use serde::Serialize;

use super::StoreError;
use super::connection::{Connection, DatabaseUrl, Phase, STATEMENT_LIMIT, on, query_error};
use super::migrate;
use super::schema::endpoints;

diesel::table! {
    /// The view over `tunnel_config` and `tunnel_state`. Not in schema.rs: `diesel print-schema` leaves views out.
    tunnels (endpoint_id, instance_id) {
        /// Endpoint.
        endpoint_id -> Integer,
        /// Instance there.
        instance_id -> Text,
        /// Alias.
        name -> Text,
        /// `server` or `client`.
        #[sql_name = "type"]
        type_ -> Text,
        /// Status.
        status -> Text,
        /// Counter.
        tcp_rx -> BigInt,
        /// Counter.
        tcp_tx -> BigInt,
        /// Counter.
        udp_rx -> BigInt,
        /// Counter.
        udp_tx -> BigInt,
        /// Gauge.
        tcps -> Nullable<Integer>,
        /// Gauge.
        udps -> Nullable<Integer>,
        /// Gauge.
        pool -> Nullable<Integer>,
        /// Gauge.
        ping -> Nullable<Integer>,
        /// Time of receipt of the last event that changed something.
        last_event_time -> BigInt,
        /// The command line as URL, without user-info.
        url -> Text,
        /// The same under its other name.
        command_line -> Text,
        /// The URL with all defaults.
        config_line -> Text,
        /// Start with the master.
        restart -> Nullable<Bool>,
        /// Mode.
        mode -> Nullable<Integer>,
        /// Peer.
        peer_sid -> Text,
        /// Peer.
        peer_type -> Text,
        /// Peer.
        peer_alias -> Text,
        /// JSON object.
        tags -> Text,
    }
}

diesel::allow_tables_to_appear_in_same_query!(tunnels, endpoints);

/// An endpoint as it is stored, without its key. Times are microseconds of UTC.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Serialize)]
pub struct EndpointRecord {
    /// Its number.
    pub id: i32,
    /// Unique name.
    pub name: String,
    /// `scheme://host:port`.
    pub url: String,
    /// The master's prefix.
    pub api_path: String,
    /// `ONLINE`, `OFFLINE`, `FAIL` or `DISCONNECT`.
    pub status: String,
    /// Why, and what to do; empty while all is well.
    pub reason: String,
    /// Since when.
    pub since: i64,
    /// When something was last heard of it.
    pub last_check: Option<i64>,
    /// The master's version.
    pub version: Option<String>,
    /// `verify`, `verify:PATH`, `pin`, `pin:HEX` or `insecure`.
    pub tls: String,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether its `log` events are stored; `None` follows `storage.log_events`.
    pub log_events: Option<bool>,
    /// The master's own id.
    pub master_id: Option<String>,
}

/// A tunnel as it is stored: the view `tunnels` with the endpoint's name. Times are microseconds of UTC.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Serialize)]
pub struct TunnelRecord {
    /// Name of its endpoint.
    pub endpoint: String,
    /// Its id there.
    pub instance_id: String,
    /// Alias, which need not be unique.
    pub name: String,
    /// `server` or `client`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Status.
    pub status: String,
    /// TCP bytes received.
    pub tcp_rx: i64,
    /// TCP bytes sent.
    pub tcp_tx: i64,
    /// UDP bytes received.
    pub udp_rx: i64,
    /// UDP bytes sent.
    pub udp_tx: i64,
    /// Open TCP connections.
    pub tcps: Option<i32>,
    /// Open UDP sessions.
    pub udps: Option<i32>,
    /// Idle pooled connections.
    pub pool: Option<i32>,
    /// Round trip in milliseconds.
    pub ping: Option<i32>,
    /// When the last stored event was received.
    pub last_event_time: i64,
    /// The command line as URL, without user-info.
    pub url: String,
}

/// Which tunnels; what is `None` does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelFilter {
    /// Of the endpoint with this name.
    pub endpoint: Option<String>,
    /// With this instance id.
    pub instance: Option<String>,
    /// With this alias.
    pub alias: Option<String>,
}

/// A read-only connection to a database with this program's schema.
pub struct ReadConnection {
    pub(super) url: DatabaseUrl,
    pub(super) connection: Connection,
}

impl ReadConnection {
    /// Opens it.
    ///
    /// # Errors
    /// [`Fatal`](super::StoreErrorKind::Fatal) if there is no such database, or one with another schema;
    /// [`Unavailable`](super::StoreErrorKind::Unavailable) if it cannot be reached.
    pub fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let mut connection = Connection::open_read_only(url)?;
        connection.limit_statements(url, STATEMENT_LIMIT)?;
        migrate::check(url, &mut connection)?;
        Ok(Self { url: url.clone(), connection })
    }

    /// Lets no statement take longer than this from now on; in SQLite it is the questions that are bounded.
    pub(super) fn limit_statements(&mut self, limit: Duration) -> Result<(), StoreError> {
        self.connection.limit_statements(&self.url, limit)
    }

    /// True if the connection is not broken.
    pub(super) fn is_usable(&mut self) -> bool {
        self.connection.is_usable()
    }

    /// All endpoints, by name.
    ///
    /// # Errors
    /// [`Unavailable`](super::StoreErrorKind::Unavailable).
    pub fn endpoints(&mut self) -> Result<Vec<EndpointRecord>, StoreError> {
        use endpoints as e;
        let query = e::table.order(e::name).select((
            e::id,
            e::name,
            e::url,
            e::api_path,
            e::status,
            e::reason,
            e::since,
            e::last_check,
            e::version,
            e::tls,
            e::paused,
            e::log_events,
            e::master_id,
        ));
        let rows = on!(&mut self.connection, c => query.load(c));
        rows.map_err(|error| query_error(&self.url, &error, Phase::Running))
    }

    /// Tunnels, by endpoint and instance.
    ///
    /// # Errors
    /// [`Unavailable`](super::StoreErrorKind::Unavailable).
    pub fn tunnels(&mut self, filter: &TunnelFilter) -> Result<Vec<TunnelRecord>, StoreError> {
        let rows = on!(&mut self.connection, c => {
            use diesel::JoinOnDsl;
            use tunnels as t;
            let mut query = t::table
                .inner_join(endpoints::table.on(endpoints::id.eq(t::endpoint_id)))
                .order((endpoints::name, t::instance_id))
                .select((
                    endpoints::name, t::instance_id, t::name, t::type_, t::status, t::tcp_rx, t::tcp_tx, t::udp_rx, t::udp_tx,
                    t::tcps, t::udps, t::pool, t::ping, t::last_event_time, t::url,
                ))
                .into_boxed();
            if let Some(endpoint) = &filter.endpoint {
                query = query.filter(endpoints::name.eq(endpoint));
            }
            if let Some(instance) = &filter.instance {
                query = query.filter(t::instance_id.eq(instance));
            }
            if let Some(alias) = &filter.alias {
                query = query.filter(t::name.eq(alias));
            }
            query.load::<TunnelRecord>(c)
        });
        rows.map_err(|error| query_error(&self.url, &error, Phase::Running))
    }
}
