//! Storing a history batch: the six tables of the ladder, `counter_events`, `history_state` and `history_accounts`, in one
//! transaction.
//!
//! A batch adds: its rows to what is stored of their minutes, hours and days, its accounts to the accounts. It is the batch's own
//! marker in `flushes` that keeps it from being added twice.

use std::borrow::Cow;
use std::collections::BTreeMap;

use diesel::upsert::excluded;
use diesel::{ExpressionMethods, Insertable, QueryDsl, QueryResult, RunQueryDsl};

use super::connection::{Connection, on};
use super::events::{bigint, text};
use super::flushes::{self, Flush, Kind, Marker};
use super::schema::{counter_events, history_accounts, history_state};
use super::{Account, Committed, CounterEvent, HistoryBatch, HistoryRow, Writing, ladder, zones};
use crate::event::{Counters, EndpointId, TunnelKey};
use crate::history::calendar::Calendar;
use crate::history::ladder::{Level, add, place};
use crate::id::EventId;

/// Stores the batch and its `flushes` row.
pub(super) fn commit(connection: &mut Connection, batch: &HistoryBatch, writing: &Writing<'_>) -> QueryResult<Committed> {
    let marker = Marker { kind: Kind::History, first: batch.id, last: batch.id };
    if flushes::is_stored(connection, marker)? {
        return Ok(Committed { skipped: batch.rows.len() as u64, ..Committed::default() });
    }
    let calendar = zones::calendar(connection)?;
    for level in Level::ALL {
        add_to_level(connection, &batch.rows, level, &calendar)?;
    }
    let counter_rows: Vec<CounterEventRow<'_>> = batch.counter_events.iter().map(CounterEventRow::new).collect();
    for chunk in counter_rows.chunks(writing.batch_size) {
        let key = (counter_events::event_id, counter_events::kind);
        on!(&mut *connection, c => {
            diesel::insert_into(counter_events::table).values(chunk).on_conflict(key).do_nothing().execute(c)
        })?;
    }
    store_states(connection, &batch.states, writing.batch_size)?;
    store_accounts(connection, batch, writing.batch_size)?;
    let committed = Committed { written: batch.rows.len() as u64, ..Committed::default() };
    let flush = Flush {
        kind: Kind::History,
        info: batch.info,
        marker: Some(marker),
        through: Some(batch.through),
        received: None,
        committed,
        duration: writing.elapsed(),
    };
    flushes::insert(connection, &flush)?;
    Ok(committed)
}

fn add_to_level(connection: &mut Connection, rows: &[HistoryRow], level: Level, calendar: &Calendar) -> QueryResult<()> {
    let placed = place(rows, level, calendar);
    let keys = placed.iter().map(|placed| (&placed.row.tunnel, placed.start));
    let mut tunnels = ladder::load_tunnels(connection, level, keys)?;
    let keys = placed.iter().flat_map(|placed| placed.totals().map(|endpoint| (endpoint, placed.start)));
    let mut totals = ladder::load_totals(connection, level, keys)?;
    let (tunnels_before, totals_before) = (tunnels.clone(), totals.clone());
    add(&placed, &mut tunnels, &mut totals);
    // What was read and is as it was lies between two times of the batch.
    tunnels.retain(|key, row| tunnels_before.get(key) != Some(row));
    totals.retain(|key, row| totals_before.get(key) != Some(row));
    ladder::write_tunnels(connection, level, &tunnels)?;
    ladder::write_totals(connection, level, &totals)
}

/// A change of an account; several of one tunnel make one.
struct Change<'a> {
    risen: [i64; 4],
    last: &'a Account,
}

fn store_accounts(connection: &mut Connection, batch: &HistoryBatch, batch_size: usize) -> QueryResult<()> {
    use history_accounts as h;
    let mut changes: BTreeMap<&TunnelKey, Change<'_>> = BTreeMap::new();
    for account in &batch.accounts {
        let (from, to) = (four(account.from), four(account.to));
        let change = changes.entry(&account.tunnel).or_insert(Change { risen: [0; 4], last: account });
        change.risen = std::array::from_fn(|n| change.risen[n] + (to[n] - from[n]));
        change.last = account;
    }
    let rows: Vec<AccountRow<'_>> = changes.into_values().map(AccountRow::new).collect();
    let risen = (
        h::risen_tcp_rx.eq(h::risen_tcp_rx + excluded(h::risen_tcp_rx)),
        h::risen_tcp_tx.eq(h::risen_tcp_tx + excluded(h::risen_tcp_tx)),
        h::risen_udp_rx.eq(h::risen_udp_rx + excluded(h::risen_udp_rx)),
        h::risen_udp_tx.eq(h::risen_udp_tx + excluded(h::risen_udp_tx)),
    );
    let now = (
        h::closing_tcp_rx.eq(excluded(h::closing_tcp_rx)),
        h::closing_tcp_tx.eq(excluded(h::closing_tcp_tx)),
        h::closing_udp_rx.eq(excluded(h::closing_udp_rx)),
        h::closing_udp_tx.eq(excluded(h::closing_udp_tx)),
        h::open_tcp_rx.eq(excluded(h::open_tcp_rx)),
        h::open_tcp_tx.eq(excluded(h::open_tcp_tx)),
        h::open_udp_rx.eq(excluded(h::open_udp_rx)),
        h::open_udp_tx.eq(excluded(h::open_udp_tx)),
    );
    let key = (h::endpoint_id, h::instance_id);
    // A replay tells of other times: what a live tunnel's counters show now is not for it to say.
    let is_replay = batch.through == EventId::ZERO;
    for chunk in rows.chunks(batch_size) {
        on!(&mut *connection, c => {
            let insert = diesel::insert_into(h::table).values(chunk).on_conflict(key).do_update();
            if is_replay { insert.set(risen).execute(c) } else { insert.set((risen, now)).execute(c) }
        })?;
    }
    Ok(())
}

/// Adds bytes that were counted elsewhere to the account of a tunnel.
pub(super) fn add_account(connection: &mut Connection, tunnel: &TunnelKey, moved: Counters) -> QueryResult<()> {
    use history_accounts as h;
    let account = Account { tunnel: tunnel.clone(), from: Counters::default(), to: moved, open: Counters::default() };
    let row = AccountRow::new(Change { risen: four(moved), last: &account });
    let risen = (
        h::risen_tcp_rx.eq(h::risen_tcp_rx + excluded(h::risen_tcp_rx)),
        h::risen_tcp_tx.eq(h::risen_tcp_tx + excluded(h::risen_tcp_tx)),
        h::risen_udp_rx.eq(h::risen_udp_rx + excluded(h::risen_udp_rx)),
        h::risen_udp_tx.eq(h::risen_udp_tx + excluded(h::risen_udp_tx)),
    );
    let insert = diesel::insert_into(h::table).values(row).on_conflict((h::endpoint_id, h::instance_id));
    on!(connection, c => insert.do_update().set(risen).execute(c).map(drop))
}

fn four(counters: Counters) -> [i64; 4] {
    [bigint(counters.tcp_rx), bigint(counters.tcp_tx), bigint(counters.udp_rx), bigint(counters.udp_tx)]
}

#[derive(Insertable)]
#[diesel(table_name = history_accounts, treat_none_as_default_value = false)]
struct AccountRow<'a> {
    endpoint_id: i32,
    instance_id: Cow<'a, str>,
    risen_tcp_rx: i64,
    risen_tcp_tx: i64,
    risen_udp_rx: i64,
    risen_udp_tx: i64,
    closing_tcp_rx: i64,
    closing_tcp_tx: i64,
    closing_udp_rx: i64,
    closing_udp_tx: i64,
    open_tcp_rx: i64,
    open_tcp_tx: i64,
    open_udp_rx: i64,
    open_udp_tx: i64,
}

impl<'a> AccountRow<'a> {
    fn new(Change { risen, last }: Change<'a>) -> Self {
        let [risen_tcp_rx, risen_tcp_tx, risen_udp_rx, risen_udp_tx] = risen;
        let [closing_tcp_rx, closing_tcp_tx, closing_udp_rx, closing_udp_tx] = four(last.to);
        let [open_tcp_rx, open_tcp_tx, open_udp_rx, open_udp_tx] = four(last.open);
        Self {
            endpoint_id: last.tunnel.endpoint.0,
            instance_id: text(last.tunnel.instance.as_str()),
            risen_tcp_rx,
            risen_tcp_tx,
            risen_udp_rx,
            risen_udp_tx,
            closing_tcp_rx,
            closing_tcp_tx,
            closing_udp_rx,
            closing_udp_tx,
            open_tcp_rx,
            open_tcp_tx,
            open_udp_rx,
            open_udp_tx,
        }
    }
}

fn store_states(connection: &mut Connection, states: &[(TunnelKey, Option<Box<str>>)], batch_size: usize) -> QueryResult<()> {
    use history_state as s;
    // One row per key, the last one: PostgreSQL refuses a statement that meets a key twice.
    let latest: BTreeMap<&TunnelKey, Option<&str>> = states.iter().map(|(key, state)| (key, state.as_deref())).collect();
    let mut rows = Vec::new();
    for (tunnel, state) in latest {
        let instance = text(tunnel.instance.as_str());
        match state {
            Some(state) => {
                rows.push((s::endpoint_id.eq(tunnel.endpoint.0), s::instance_id.eq(instance), s::state.eq(text(state))));
            }
            None => {
                let gone = s::table.find((tunnel.endpoint.0, instance));
                on!(&mut *connection, c => diesel::delete(gone).execute(c))?;
            }
        }
    }
    for chunk in rows.chunks(batch_size) {
        let chunk = chunk.to_vec();
        on!(&mut *connection, c => {
            diesel::insert_into(s::table).values(chunk).on_conflict((s::endpoint_id, s::instance_id))
                .do_update().set(s::state.eq(excluded(s::state))).execute(c)
        })?;
    }
    Ok(())
}

/// All states of the history worker.
pub(super) fn load_states(connection: &mut Connection) -> QueryResult<Vec<(TunnelKey, Box<str>)>> {
    let all = history_state::table.order((history_state::endpoint_id, history_state::instance_id));
    let rows: Vec<(i32, String, String)> = on!(connection, c => all.load(c))?;
    let key = |endpoint, instance: String| TunnelKey { endpoint: EndpointId(endpoint), instance: instance.as_str().into() };
    Ok(rows.into_iter().map(|(endpoint, instance, state)| (key(endpoint, instance), state.into_boxed_str())).collect())
}

#[derive(Insertable)]
#[diesel(table_name = counter_events, treat_none_as_default_value = false)]
struct CounterEventRow<'a> {
    event_id: i64,
    kind: Cow<'a, str>,
    endpoint_id: i32,
    instance_id: Cow<'a, str>,
    time: i64,
    before_tcp_rx: i64,
    before_tcp_tx: i64,
    before_udp_rx: i64,
    before_udp_tx: i64,
    after_tcp_rx: i64,
    after_tcp_tx: i64,
    after_udp_rx: i64,
    after_udp_tx: i64,
    counted_tcp_rx: i64,
    counted_tcp_tx: i64,
    counted_udp_rx: i64,
    counted_udp_tx: i64,
}

impl<'a> CounterEventRow<'a> {
    fn new(event: &'a CounterEvent) -> Self {
        Self {
            event_id: event.event.0,
            kind: text(&event.kind),
            endpoint_id: event.tunnel.endpoint.0,
            instance_id: text(event.tunnel.instance.as_str()),
            time: event.at.0,
            before_tcp_rx: bigint(event.before.tcp_rx),
            before_tcp_tx: bigint(event.before.tcp_tx),
            before_udp_rx: bigint(event.before.udp_rx),
            before_udp_tx: bigint(event.before.udp_tx),
            after_tcp_rx: bigint(event.after.tcp_rx),
            after_tcp_tx: bigint(event.after.tcp_tx),
            after_udp_rx: bigint(event.after.udp_rx),
            after_udp_tx: bigint(event.after.udp_tx),
            counted_tcp_rx: bigint(event.counted.tcp_rx),
            counted_tcp_tx: bigint(event.counted.tcp_tx),
            counted_udp_rx: bigint(event.counted.udp_rx),
            counted_udp_tx: bigint(event.counted.udp_tx),
        }
    }
}
