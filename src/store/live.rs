//! Live state: `tunnel_config` (wide, written when an operator changes something) and `tunnel_state` (narrow, written every
//! few seconds), which the view `tunnels` shows as one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use diesel::query_dsl::methods::FilterDsl;
use diesel::upsert::excluded;
use diesel::{
    AsChangeset, BoolExpressionMethods, ExpressionMethods, Insertable, JoinOnDsl, QueryDsl, QueryResult, Queryable, RunQueryDsl,
};

use super::LiveChanges;
use super::connection::{Connection, on};
use super::endpoints;
use super::events::{bigint, text};
use super::schema::{endpoints as endpoints_table, tunnel_config, tunnel_state};
use super::upsert_state::UpsertState;
use crate::clock::Timestamp;
use crate::event::{Counters, EndpointId, InstanceConfig, Peer, Sample, TunnelKey, TunnelState};
use crate::id::EventId;
use crate::redact::Redacted;

/// Stores changes. What is older than the stored row is left out, and so is what belongs to an endpoint that was removed.
pub(super) fn sync(connection: &mut Connection, changes: &LiveChanges, batch_size: usize) -> QueryResult<()> {
    let known: Vec<i32> = on!(&mut *connection, c => endpoints_table::table.select(endpoints_table::id).load(c))?;
    let known: BTreeSet<EndpointId> = known.into_iter().map(EndpointId).collect();
    for (endpoint, health) in &changes.endpoints {
        endpoints::store_health(connection, *endpoint, health)?;
    }
    for (tunnel, _) in &changes.removed {
        let key = (tunnel.endpoint.0, text(tunnel.instance.as_str()));
        on!(&mut *connection, c => diesel::delete(tunnel_state::table.find(key.clone())).execute(c))?;
        on!(&mut *connection, c => diesel::delete(tunnel_config::table.find(key)).execute(c))?;
    }
    let configs = newest(changes.configs.iter().map(|change| (&change.0, change.2, change)), &known);
    let configs: Vec<ConfigRow> = configs.into_iter().map(|(key, config, id)| ConfigRow::new(key, config, *id)).collect();
    for chunk in configs.chunks(batch_size) {
        upsert_configs(connection, chunk)?;
    }
    let samples = newest(changes.samples.iter().map(|change| (&change.0, change.3, change)), &known);
    let samples: Vec<StateRow> = samples.into_iter().map(|(key, sample, at, id)| StateRow::new(key, sample, *at, *id)).collect();
    for chunk in samples.chunks(batch_size) {
        upsert_states(connection, chunk)?;
    }
    Ok(())
}

/// The newest change of each tunnel of a known endpoint: PostgreSQL refuses a statement that meets a key twice.
fn newest<'a, T>(changes: impl Iterator<Item = (&'a TunnelKey, EventId, &'a T)>, known: &BTreeSet<EndpointId>) -> Vec<&'a T> {
    let mut newest: BTreeMap<&TunnelKey, (EventId, &T)> = BTreeMap::new();
    for (key, id, change) in changes.filter(|(key, ..)| known.contains(&key.endpoint)) {
        let entry = newest.entry(key).or_insert((id, change));
        if id >= entry.0 {
            *entry = (id, change);
        }
    }
    newest.into_values().map(|(_, change)| change).collect()
}

fn upsert_configs(connection: &mut Connection, chunk: &[ConfigRow]) -> QueryResult<()> {
    use tunnel_config as t;
    let all_but_key = (
        t::name.eq(excluded(t::name)),
        t::type_.eq(excluded(t::type_)),
        t::url.eq(excluded(t::url)),
        t::config_line.eq(excluded(t::config_line)),
        t::restart.eq(excluded(t::restart)),
        t::mode.eq(excluded(t::mode)),
        t::peer_sid.eq(excluded(t::peer_sid)),
        t::peer_type.eq(excluded(t::peer_type)),
        t::peer_alias.eq(excluded(t::peer_alias)),
        t::tags.eq(excluded(t::tags)),
        t::unknown_fields.eq(excluded(t::unknown_fields)),
        t::last_event.eq(excluded(t::last_event)),
    );
    let key = (t::endpoint_id, t::instance_id);
    let newer = t::last_event.lt(excluded(t::last_event));
    let insert = diesel::insert_into(t::table);
    match connection {
        // For SQLite Diesel has no batch with a condition; there it costs little, since no network lies between.
        Connection::Sqlite(c) => chunk.iter().try_for_each(|row| {
            insert.values(row).on_conflict(key).do_update().set(all_but_key).filter(newer).execute(c).map(drop)
        }),
        Connection::Postgres(c) => {
            insert.values(chunk).on_conflict(key).do_update().set(all_but_key).filter(newer).execute(c).map(drop)
        }
    }
}

fn upsert_states(connection: &mut Connection, chunk: &[StateRow]) -> QueryResult<()> {
    use tunnel_state as t;
    let c = match connection {
        Connection::Sqlite(c) => return chunk.iter().try_for_each(|row| UpsertState(row).execute(c).map(drop)),
        Connection::Postgres(c) => c,
    };
    let all_but_key = (
        t::status.eq(excluded(t::status)),
        t::tcp_rx.eq(excluded(t::tcp_rx)),
        t::tcp_tx.eq(excluded(t::tcp_tx)),
        t::udp_rx.eq(excluded(t::udp_rx)),
        t::udp_tx.eq(excluded(t::udp_tx)),
        t::tcps.eq(excluded(t::tcps)),
        t::udps.eq(excluded(t::udps)),
        t::pool.eq(excluded(t::pool)),
        t::ping.eq(excluded(t::ping)),
        t::last_event_time.eq(excluded(t::last_event_time)),
        t::last_event.eq(excluded(t::last_event)),
    );
    let upsert = diesel::insert_into(t::table).values(chunk).on_conflict((t::endpoint_id, t::instance_id));
    upsert.do_update().set(all_but_key).filter(t::last_event.lt(excluded(t::last_event))).execute(c).map(drop)
}

/// All live tunnels.
pub(super) fn load(connection: &mut Connection) -> QueryResult<Vec<(TunnelKey, TunnelState)>> {
    let same_tunnel =
        tunnel_config::endpoint_id.eq(tunnel_state::endpoint_id).and(tunnel_config::instance_id.eq(tunnel_state::instance_id));
    let all = tunnel_state::table
        .inner_join(tunnel_config::table.on(same_tunnel))
        .order((tunnel_state::endpoint_id, tunnel_state::instance_id))
        .select((tunnel_state::all_columns, tunnel_config::all_columns));
    let rows: Vec<(StateRow, ConfigRow)> = on!(connection, c => all.load(c))?;
    Ok(rows
        .into_iter()
        .map(|(state, config)| {
            let key = TunnelKey { endpoint: EndpointId(state.endpoint_id), instance: state.instance_id.as_str().into() };
            let (seen_at, last_event) = (Timestamp(state.last_event_time), EventId(state.last_event.max(config.last_event)));
            let (config, sample) = (Arc::new(config.into_config()), state.into_sample());
            (key, TunnelState { config, sample, seen_at, last_event })
        })
        .collect())
}

/// The highest event id that live state stands for.
pub(super) fn highest_id(connection: &mut Connection) -> QueryResult<EventId> {
    use diesel::dsl::max;
    let state: Option<i64> = on!(&mut *connection, c => tunnel_state::table.select(max(tunnel_state::last_event)).first(c))?;
    let config: Option<i64> = on!(connection, c => tunnel_config::table.select(max(tunnel_config::last_event)).first(c))?;
    Ok(EventId(state.max(config).unwrap_or_default()))
}

#[derive(Debug, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = tunnel_config, treat_none_as_default_value = false, treat_none_as_null = true)]
#[diesel(primary_key(endpoint_id, instance_id))]
pub(super) struct ConfigRow {
    pub(super) endpoint_id: i32,
    pub(super) instance_id: String,
    name: String,
    type_: String,
    url: String,
    config_line: String,
    restart: Option<bool>,
    mode: Option<i32>,
    peer_sid: String,
    peer_type: String,
    peer_alias: String,
    tags: String,
    unknown_fields: String,
    pub(super) last_event: i64,
}

impl ConfigRow {
    pub(super) fn new(key: &TunnelKey, config: &InstanceConfig, last_event: EventId) -> Self {
        let owned = |value: &Redacted| text(value.as_str()).into_owned();
        Self {
            endpoint_id: key.endpoint.0,
            instance_id: text(key.instance.as_str()).into_owned(),
            name: owned(&config.alias),
            type_: owned(&config.kind),
            url: owned(&config.url),
            config_line: owned(&config.config),
            restart: config.restart,
            mode: config.mode,
            peer_sid: owned(&config.peer.sid),
            peer_type: owned(&config.peer.kind),
            peer_alias: owned(&config.peer.alias),
            // Maps of text to text always have a JSON form.
            tags: serde_json::to_string(&config.tags).unwrap_or_else(|_| "{}".to_owned()),
            unknown_fields: owned(&config.unknown),
            last_event: last_event.0,
        }
    }

    fn into_config(self) -> InstanceConfig {
        let stored = |value: &str| Redacted::from_store(value);
        InstanceConfig {
            alias: stored(&self.name),
            kind: stored(&self.type_),
            url: stored(&self.url),
            config: stored(&self.config_line),
            restart: self.restart,
            mode: self.mode,
            peer: Peer { sid: stored(&self.peer_sid), kind: stored(&self.peer_type), alias: stored(&self.peer_alias) },
            // Tags that someone edited into something else are forgotten until the master tells them again.
            tags: serde_json::from_str(&self.tags).unwrap_or_default(),
            unknown: stored(&self.unknown_fields),
        }
    }
}

#[derive(Debug, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = tunnel_state, treat_none_as_default_value = false, treat_none_as_null = true)]
#[diesel(primary_key(endpoint_id, instance_id))]
pub(super) struct StateRow {
    pub(super) endpoint_id: i32,
    pub(super) instance_id: String,
    pub(super) status: String,
    pub(super) tcp_rx: i64,
    pub(super) tcp_tx: i64,
    pub(super) udp_rx: i64,
    pub(super) udp_tx: i64,
    pub(super) tcps: Option<i32>,
    pub(super) udps: Option<i32>,
    pub(super) pool: Option<i32>,
    pub(super) ping: Option<i32>,
    pub(super) last_event_time: i64,
    pub(super) last_event: i64,
}

impl StateRow {
    pub(super) fn new(key: &TunnelKey, sample: &Sample, seen_at: Timestamp, last_event: EventId) -> Self {
        Self {
            endpoint_id: key.endpoint.0,
            instance_id: text(key.instance.as_str()).into_owned(),
            status: text(sample.status.as_str()).into_owned(),
            tcp_rx: bigint(sample.counters.tcp_rx),
            tcp_tx: bigint(sample.counters.tcp_tx),
            udp_rx: bigint(sample.counters.udp_rx),
            udp_tx: bigint(sample.counters.udp_tx),
            tcps: sample.tcps,
            udps: sample.udps,
            pool: sample.pool,
            ping: sample.ping,
            last_event_time: seen_at.0,
            last_event: last_event.0,
        }
    }

    fn into_sample(self) -> Sample {
        let counter = |stored: i64| u64::try_from(stored).unwrap_or_default();
        Sample {
            status: self.status.as_str().into(),
            counters: Counters {
                tcp_rx: counter(self.tcp_rx),
                tcp_tx: counter(self.tcp_tx),
                udp_rx: counter(self.udp_rx),
                udp_tx: counter(self.udp_tx),
            },
            ping: self.ping,
            pool: self.pool,
            tcps: self.tcps,
            udps: self.udps,
        }
    }
}
