//! A database in memory that can be told to fail: for tests and for simulations that do not measure a real one.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono_tz::Tz;

use super::{
    AlertChanges, Committed, CounterEvent, EndpointChange, EventBatch, FlushInfo, HistoryBatch, LiveChanges, NewEndpoint, Purge,
    Settings, Store, StoreError, StoreErrorKind, Stored,
};
use crate::alerts::{Active, Condition};
use crate::clock::Timestamp;
use crate::endpoint::{Endpoint, EndpointHealth};
use crate::event::{EndpointId, EventKind, InstanceConfig, Record, Sample, TunnelKey, TunnelState};
use crate::history::audit::{StoredAccount, adjustment};
use crate::history::calendar::Calendar;
use crate::history::ladder::{Level, TotalRows, TunnelRows, add, place};
use crate::id::EventId;
use crate::modes::StorageMode;
use crate::modes::usage::{Comparison, Usage};
use crate::retention::{Expired, Expiring, Expiry};

/// Records that one step of a purge looks at.
const PURGE_STEP: usize = 100;

/// What a call meets instead of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is stored.
    Unavailable,
    /// The answer to COMMIT is lost, and nothing is stored.
    DoubtLost,
    /// The answer to COMMIT is lost, and all of it is stored.
    DoubtStored,
}

/// A flush as it stands in `flushes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// Why and when it was cut.
    pub info: FlushInfo,
    /// First id; zero for an empty batch.
    pub first: EventId,
    /// Last id; zero for an empty batch.
    pub last: EventId,
    /// When the first and the last of its records to arrive were received.
    pub received: Option<(Timestamp, Timestamp)>,
    /// What it did.
    pub committed: Committed,
}

/// The content of the database.
#[derive(Debug, Default)]
pub struct Tables {
    /// `endpoint_sse` and `gaps`.
    pub records: BTreeMap<EventId, Record>,
    /// `flushes` of records, in order of commit.
    pub flushes: Vec<Flush>,
    /// Ids of the batches of history that are stored.
    pub history_batches: Vec<EventId>,
    /// `service_history`, `history_hours` and `history_days`, in the order of [`Level::ALL`].
    pub history: [TunnelRows; 3],
    /// Totals, likewise.
    pub history_totals: [TotalRows; 3],
    /// `history_zones`.
    pub zones: Vec<(Timestamp, Tz)>,
    /// `retention_floors` of the levels.
    pub floors: [Timestamp; 3],
    /// `history_accounts`.
    pub accounts: BTreeMap<TunnelKey, StoredAccount>,
    /// `counter_events`.
    pub counter_events: BTreeMap<(EventId, Box<str>), CounterEvent>,
    /// `history_state`.
    pub history_states: BTreeMap<TunnelKey, Box<str>>,
    /// Highest `through` of stored history.
    pub history_through: EventId,
    /// `endpoints`.
    pub endpoints: BTreeMap<EndpointId, (Endpoint, EndpointHealth)>,
    /// `tunnel_config`.
    pub configs: BTreeMap<TunnelKey, (Arc<InstanceConfig>, EventId)>,
    /// `tunnel_state`.
    pub samples: BTreeMap<TunnelKey, (Sample, Timestamp, EventId)>,
    /// `settings`.
    pub settings: Settings,
    /// `mode_usage`.
    pub usage: BTreeMap<StorageMode, Usage>,
    /// `alerts`.
    pub alerts: BTreeMap<Condition, Active>,
    /// Records that were stored one at a time.
    pub singles: u64,
    /// Transactions committed.
    pub transactions: u64,
    /// Calls, also those that failed.
    pub calls: u64,
}

impl Tables {
    fn expire(&mut self, step: &Expiry) -> u64 {
        fn old<K: Ord, V>(rows: &mut BTreeMap<K, V>, is_old: impl Fn(&K, &V) -> bool) -> u64 {
            let there = rows.len();
            rows.retain(|key, row| !is_old(key, row));
            (there - rows.len()) as u64
        }
        let Expiry { what, before, now, .. } = *step;
        let level = match what {
            Expiring::Minutes | Expiring::MinuteTotals => 0,
            Expiring::Hours | Expiring::HourTotals => 1,
            _ => 2,
        };
        match what {
            Expiring::Minutes | Expiring::Hours | Expiring::Days => {
                self.floors[level] = self.floors[level].max(before);
                if what == Expiring::Days {
                    for ((tunnel, start), day) in &self.history[2] {
                        if let Some(account) = self.accounts.get_mut(tunnel).filter(|_| *start < before) {
                            account.expire(day.row.delta);
                        }
                    }
                }
                old(&mut self.history[level], |(_, start), _| *start < before)
            }
            Expiring::MinuteTotals | Expiring::HourTotals | Expiring::DayTotals => {
                old(&mut self.history_totals[level], |(_, start), _| *start < before)
            }
            Expiring::CounterEvents => {
                for event in self.counter_events.values().filter(|event| event.at < before) {
                    if let Some(account) = self.accounts.get_mut(&event.tunnel) {
                        account.explain(adjustment(event.before, event.after, event.counted));
                    }
                }
                old(&mut self.counter_events, |_, event| event.at < before)
            }
            Expiring::Events => {
                let bound = self.expires_before(before, now);
                old(&mut self.records, |id, record| *id < bound && matches!(record, Record::Event(_)))
            }
            Expiring::Gaps => {
                old(&mut self.records, |_, record| matches!(record, Record::Gap(_)) && record.received_at() < before)
            }
            Expiring::Quarantine | Expiring::Flushes | Expiring::Space => 0,
        }
    }

    /// The id before which all events expire, by the rule of a real database.
    fn expires_before(&self, before: Timestamp, now: Timestamp) -> EventId {
        let mut flushes: Vec<_> =
            self.flushes.iter().filter_map(|flush| Some((flush.first, flush.last, flush.received?))).collect();
        flushes.sort_unstable_by_key(|(first, ..)| *first);
        let young = flushes.iter().position(|(.., (_, received))| *received >= before && *received <= now);
        if let Some((first, last, (received, _))) = young.map(|place| flushes[place]) {
            let within = EventId::first_of(before).min(EventId(last.0 + 1));
            if first.id_clock().millis() >= received.millis() && within > first {
                return within;
            }
        }
        let earlier = &flushes[..young.unwrap_or(flushes.len())];
        let old = earlier.iter().filter(|(.., (_, received))| *received < before).map(|(_, last, _)| EventId(last.0 + 1));
        old.max().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Inner {
    tables: Tables,
    down: Option<String>,
    faults: VecDeque<Fault>,
    next_endpoint: i32,
}

/// Shared by all [`MemoryStore`]s over it, and by the test that looks at it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDatabase(Arc<Mutex<Inner>>);

impl MemoryDatabase {
    /// A store over this database.
    #[must_use]
    pub fn store(&self) -> MemoryStore {
        MemoryStore(self.clone())
    }

    /// Looks at the content, or changes it.
    pub fn with_tables<T>(&self, look: impl FnOnce(&mut Tables) -> T) -> T {
        look(&mut self.lock().tables)
    }

    /// From now on every call fails with this message; `None` ends it.
    pub fn set_down(&self, reason: Option<&str>) {
        self.lock().down = reason.map(str::to_owned);
    }

    /// The next calls meet these faults, one each.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere fails its test; the tables themselves are changed in one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
#[derive(Debug)]
pub struct MemoryStore(MemoryDatabase);

impl MemoryStore {
    /// One transaction, with what happens to it.
    fn transaction<T>(&self, work: impl FnOnce(&mut Inner) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut inner = self.0.lock();
        inner.tables.calls += 1;
        if let Some(reason) = inner.down.clone() {
            return Err(unavailable(&reason, false));
        }
        match inner.faults.pop_front() {
            Some(Fault::Unavailable) => return Err(unavailable("injected", false)),
            Some(Fault::DoubtLost) => return Err(unavailable("the answer to COMMIT was lost", true)),
            Some(Fault::DoubtStored) => {
                work(&mut inner)?;
                inner.tables.transactions += 1;
                return Err(unavailable("the answer to COMMIT was lost", true));
            }
            None => {}
        }
        let done = work(&mut inner)?;
        inner.tables.transactions += 1;
        Ok(done)
    }
}

fn unavailable(message: &str, in_doubt: bool) -> StoreError {
    StoreError { kind: StoreErrorKind::Unavailable, in_doubt, message: message.to_owned() }
}

fn refused(message: String) -> StoreError {
    StoreError { kind: StoreErrorKind::Refused, in_doubt: false, message }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Stored, StoreError> {
        self.transaction(|inner| {
            let tables = &inner.tables;
            let state = |(key, (sample, seen_at, last_event)): (&TunnelKey, &(Sample, Timestamp, EventId))| {
                let (config, _) = tables.configs.get(key)?;
                let state =
                    TunnelState { config: config.clone(), sample: sample.clone(), seen_at: *seen_at, last_event: *last_event };
                Some((key.clone(), state))
            };
            let tunnels: Vec<_> = tables.samples.iter().filter_map(state).collect();
            let highest_live = tunnels.iter().map(|(_, state)| state.last_event).max();
            Ok(Stored {
                endpoints: tables.endpoints.values().cloned().collect(),
                history_states: tables.history_states.iter().map(|(key, state)| (key.clone(), state.clone())).collect(),
                history_through: tables.history_through,
                highest_id: tables.records.last_key_value().map(|(id, _)| *id).max(highest_live).unwrap_or_default(),
                last_boundary: tables.flushes.iter().filter_map(|flush| flush.info.boundary).max(),
                last_flush: tables.flushes.iter().map(|flush| flush.info.cut_at).max(),
                settings: tables.settings.clone(),
                usage: tables.usage.clone(),
                tunnels,
            })
        })
    }

    fn set_timezone(&mut self, zone: Tz, at: Timestamp) -> Result<(), StoreError> {
        self.transaction(|inner| {
            let zones = &mut inner.tables.zones;
            if zones.last().is_none_or(|(_, known)| *known != zone) {
                let from = if zones.is_empty() { Timestamp(0) } else { Timestamp(at.minute().0 + Timestamp::MINUTE) };
                zones.retain(|(known, _)| *known < from);
                zones.push((from, zone));
            }
            Ok(())
        })
    }

    fn commit_events(&mut self, batch: &EventBatch) -> Result<Committed, StoreError> {
        self.transaction(|inner| {
            let tables = &mut inner.tables;
            let first = batch.records.first().map(Record::id).unwrap_or_default();
            let last = batch.records.last().map(Record::id).unwrap_or_default();
            let count = batch.records.len() as u64;
            if batch.maybe_stored && count > 0 && tables.flushes.iter().any(|flush| (flush.first, flush.last) == (first, last)) {
                return Ok(Committed { skipped: count, ..Committed::default() });
            }
            let mut committed = Committed::default();
            let mut there = 0;
            for record in batch.records.iter() {
                match tables.records.entry(record.id()) {
                    Entry::Vacant(place) => {
                        place.insert(record.clone());
                        committed.written += 1;
                    }
                    Entry::Occupied(stored) => {
                        there += 1;
                        let same = stored.get() == record;
                        *(if same { &mut committed.comparison.identical } else { &mut committed.comparison.different }) += 1;
                    }
                }
            }
            let (single, missing) = batch.overlap.as_ref().map_or((0, 0), |overlap| overlap.judge(there));
            if !batch.overlap.as_ref().is_some_and(|overlap| overlap.compare) {
                committed.comparison = Comparison::default();
            }
            (committed.single, committed.skipped) = (single, there - single);
            committed.comparison.missing_in_realtime = missing;
            if let Some((mode, usage)) = batch.usage.as_deref().copied() {
                tables.usage.insert(mode, usage);
            }
            let received = batch.records.iter().map(Record::received_at);
            let received = received.clone().min().zip(received.max());
            tables.flushes.push(Flush { info: batch.info, first, last, received, committed });
            Ok(committed)
        })
    }

    fn commit_single(&mut self, record: &Record) -> Result<bool, StoreError> {
        self.transaction(|inner| {
            let tables = &mut inner.tables;
            tables.singles += 1;
            if let Record::Event(event) = record
                && event.kind != EventKind::Delete
                && let (Some(tunnel), Some(sample)) = (event.tunnel(), &event.sample)
            {
                if let Some(known) = tables.samples.get_mut(&tunnel).filter(|known| known.2 < event.id) {
                    *known = (sample.clone(), event.received_at, event.id);
                }
                if let Some(config) = &event.config
                    && let Some(known) = tables.configs.get_mut(&tunnel).filter(|known| known.1 < event.id)
                {
                    *known = (config.clone(), event.id);
                }
            }
            Ok(match tables.records.entry(record.id()) {
                Entry::Vacant(place) => {
                    place.insert(record.clone());
                    true
                }
                Entry::Occupied(_) => false,
            })
        })
    }

    fn keep_settings(&mut self, settings: &Settings, usage: &[(StorageMode, Usage)]) -> Result<(), StoreError> {
        self.transaction(|inner| {
            inner.tables.settings = settings.clone();
            inner.tables.usage.extend(usage.iter().copied());
            Ok(())
        })
    }

    fn keep_alerts(&mut self, changes: &AlertChanges) -> Result<(), StoreError> {
        self.transaction(|inner| {
            let alerts = &mut inner.tables.alerts;
            changes.over.iter().for_each(|condition| drop(alerts.remove(condition)));
            alerts.extend(changes.told.iter().map(|alert| (alert.condition.clone(), alert.clone())));
            Ok(())
        })
    }

    fn bytes_written(&mut self) -> Option<u64> {
        None
    }

    fn set_batch_size(&mut self, _: usize) {}

    fn commit_history(&mut self, batch: &HistoryBatch) -> Result<Committed, StoreError> {
        self.transaction(|inner| {
            let tables = &mut inner.tables;
            let count = batch.rows.len() as u64;
            if tables.history_batches.contains(&batch.id) {
                return Ok(Committed { skipped: count, ..Committed::default() });
            }
            let calendar = Calendar::new(tables.zones.iter().copied());
            let levels = tables.history.iter_mut().zip(&mut tables.history_totals);
            for (level, (tunnels, totals)) in Level::ALL.into_iter().zip(levels) {
                add(&place(&batch.rows, level, &calendar), tunnels, totals);
            }
            for account in &batch.accounts {
                tables.accounts.entry(account.tunnel.clone()).or_default().add(account);
            }
            for event in &batch.counter_events {
                tables.counter_events.insert((event.event, event.kind.clone()), event.clone());
            }
            for (tunnel, state) in &batch.states {
                match state {
                    Some(state) => tables.history_states.insert(tunnel.clone(), state.clone()),
                    None => tables.history_states.remove(tunnel),
                };
            }
            tables.history_through = tables.history_through.max(batch.through);
            tables.history_batches.push(batch.id);
            Ok(Committed { written: count, ..Committed::default() })
        })
    }

    fn sync_live(&mut self, changes: &LiveChanges) -> Result<(), StoreError> {
        self.transaction(|inner| {
            let tables = &mut inner.tables;
            for (tunnel, _) in &changes.removed {
                tables.configs.remove(tunnel);
                tables.samples.remove(tunnel);
            }
            for (endpoint, health) in &changes.endpoints {
                if let Some((_, known)) = tables.endpoints.get_mut(endpoint) {
                    *known = health.clone();
                }
            }
            for (tunnel, config, event) in &changes.configs {
                let known = tables.configs.entry(tunnel.clone()).or_insert_with(|| (config.clone(), *event));
                if *event > known.1 {
                    *known = (config.clone(), *event);
                }
            }
            for (tunnel, sample, seen_at, event) in &changes.samples {
                let known = tables.samples.entry(tunnel.clone()).or_insert_with(|| (sample.clone(), *seen_at, *event));
                if *event > known.2 {
                    *known = (sample.clone(), *seen_at, *event);
                }
            }
            Ok(())
        })
    }

    fn add_endpoint(&mut self, new: &NewEndpoint, _: Timestamp) -> Result<EndpointId, StoreError> {
        self.transaction(|inner| {
            if inner.tables.endpoints.values().any(|(endpoint, _)| endpoint.name == new.name) {
                return Err(refused(format!("an endpoint named `{}` exists already", new.name)));
            }
            inner.next_endpoint += 1;
            let id = EndpointId(inner.next_endpoint);
            let NewEndpoint { name, url, api_key, tls, log_events } = new.clone();
            let endpoint = Endpoint { id, name, url, api_key, tls, paused: false, log_events, master_id: None };
            inner.tables.endpoints.insert(id, (endpoint, EndpointHealth::default()));
            Ok(id)
        })
    }

    fn change_endpoint(&mut self, id: EndpointId, change: &EndpointChange, _: Timestamp) -> Result<(), StoreError> {
        self.transaction(|inner| {
            let Some((endpoint, _)) = inner.tables.endpoints.get_mut(&id) else {
                return Err(refused(format!("there is no endpoint {id}")));
            };
            let EndpointChange { url, api_key, tls, paused, log_events, master_id } = change.clone();
            endpoint.url = url.unwrap_or_else(|| endpoint.url.clone());
            endpoint.api_key = api_key.unwrap_or_else(|| endpoint.api_key.clone());
            endpoint.tls = tls.unwrap_or_else(|| endpoint.tls.clone());
            endpoint.paused = paused.unwrap_or(endpoint.paused);
            endpoint.log_events = log_events.unwrap_or(endpoint.log_events);
            endpoint.master_id = master_id.or_else(|| endpoint.master_id.clone());
            Ok(())
        })
    }

    /// All of a table in one step: what it does to the sums is the same.
    fn expire(&mut self, step: &Expiry) -> Result<Expired, StoreError> {
        self.transaction(|inner| {
            let rows = inner.tables.expire(step);
            if rows == 0 {
                // As in a real database, a transaction that changed nothing wrote nothing.
                inner.tables.transactions = inner.tables.transactions.saturating_sub(1);
            }
            Ok(Expired { rows, next: None })
        })
    }

    fn purge(&mut self, id: EndpointId, from: Purge) -> Result<Purge, StoreError> {
        self.transaction(|inner| {
            let tables = &mut inner.tables;
            if let Purge::Events(done) = from {
                let ahead = tables.records.range((Bound::Excluded(EventId(done)), Bound::Unbounded));
                let step: Vec<EventId> = ahead.map(|(id, _)| *id).take(PURGE_STEP).collect();
                if let Some(last) = step.last() {
                    tables.records.retain(|at, record| at.0 <= done || at > last || record.endpoint() != id);
                    return Ok(Purge::Events(last.0));
                }
            }
            for rows in &mut tables.history {
                rows.retain(|(tunnel, _), _| tunnel.endpoint != id);
            }
            for rows in &mut tables.history_totals {
                rows.retain(|(endpoint, _), _| *endpoint != id);
            }
            tables.accounts.retain(|tunnel, _| tunnel.endpoint != id);
            tables.counter_events.retain(|_, event| event.tunnel.endpoint != id);
            Ok(Purge::Done)
        })
    }

    fn remove_endpoint(&mut self, id: EndpointId) -> Result<(), StoreError> {
        self.transaction(|inner| {
            let tables = &mut inner.tables;
            tables.endpoints.remove(&id);
            tables.configs.retain(|tunnel, _| tunnel.endpoint != id);
            tables.samples.retain(|tunnel, _| tunnel.endpoint != id);
            tables.history_states.retain(|tunnel, _| tunnel.endpoint != id);
            Ok(())
        })
    }
}
