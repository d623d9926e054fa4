//! Live state: what the last events say of every endpoint and tunnel, and what of it the database does not know yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::endpoint::EndpointHealth;
use crate::event::{EndpointId, Event, EventKind, Gap, InstanceId, Record, TunnelKey, TunnelState};
use crate::id::EventId;
use crate::rates::{Meter, Rate};
use crate::store::LiveChanges;

/// The present state of all endpoints and tunnels.
#[derive(Debug, Default)]
pub struct LiveState {
    endpoints: BTreeMap<EndpointId, EndpointLive>,
    unsynced: Unsynced,
    through: EventId,
    version: u64,
}

#[derive(Debug, Default)]
struct EndpointLive {
    health: EndpointHealth,
    tunnels: BTreeMap<InstanceId, TunnelLive>,
    /// The version that any of its tunnels had when it changed last, or was removed.
    changed: u64,
    /// The version at which a tunnel was removed last.
    thinned: u64,
}

#[derive(Debug)]
struct TunnelLive {
    state: TunnelState,
    meter: Meter,
    /// The version at which it changed last.
    changed: u64,
}

/// What readers do not know: what changed after a version that they have seen. Making it takes no longer for more readers
/// if these share one; it takes a look at each endpoint, and at each tunnel of an endpoint that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The version of all this, to ask with the next time. Rises with each change; 0 is before the first.
    pub version: u64,
    /// All endpoints that have had tunnels: a reader forgets those of others.
    pub endpoints: Vec<EndpointId>,
    /// Endpoints that lost a tunnel, with all that they have now.
    pub thinned: Vec<(EndpointId, BTreeSet<InstanceId>)>,
    /// Tunnels that are new or have changed, with their rate.
    pub tunnels: Vec<(TunnelKey, TunnelState, Option<Rate>)>,
}

/// What differs from the database. Only names: the values are read when they are written, so that a failed sync needs no
/// merging with what came meanwhile.
#[derive(Debug, Default)]
struct Unsynced {
    health: BTreeSet<EndpointId>,
    configs: BTreeSet<TunnelKey>,
    samples: BTreeSet<TunnelKey>,
    removed: BTreeMap<TunnelKey, Timestamp>,
}

impl LiveState {
    /// Goes on from what the database knows.
    #[must_use]
    pub fn restore(
        endpoints: impl IntoIterator<Item = (EndpointId, EndpointHealth)>,
        tunnels: impl IntoIterator<Item = (TunnelKey, TunnelState)>,
    ) -> Self {
        let mut live = Self::default();
        for (id, health) in endpoints {
            live.endpoints.entry(id).or_default().health = health;
        }
        live.version = 1;
        for (tunnel, state) in tunnels {
            let mut meter = Meter::default();
            meter.observe(state.sample.counters, state.seen_at);
            let endpoint = live.endpoints.entry(tunnel.endpoint).or_default();
            endpoint.changed = 1;
            endpoint.tunnels.insert(tunnel.instance, TunnelLive { state, meter, changed: 1 });
        }
        live
    }

    /// Applies a record. One that is older than what is known of its tunnel changes nothing.
    pub fn apply(&mut self, record: &Record) {
        self.through = self.through.max(record.id());
        let endpoint = self.endpoints.entry(record.endpoint()).or_default();
        endpoint.health.last_heard = endpoint.health.last_heard.max(Some(record.received_at()));
        match record {
            Record::Event(event) => self.apply_event(event),
            Record::Gap(gap) if gap.reason.as_ref() == Gap::VANISHED => {
                self.remove(TunnelKey { endpoint: gap.endpoint, instance: gap.instance.clone() }, gap.id, gap.to);
            }
            Record::Gap(_) => {}
        }
    }

    fn apply_event(&mut self, event: &Event) {
        let Some(tunnel) = event.tunnel() else { return };
        if event.kind == EventKind::Delete {
            self.remove(tunnel, event.id, event.received_at);
            return;
        }
        let Some(sample) = &event.sample else { return };
        let EndpointLive { tunnels, changed, .. } = self.endpoints.entry(event.endpoint).or_default();
        let Some(TunnelLive { state: known, meter, changed: tunnel_changed }) = tunnels.get_mut(&event.instance) else {
            let config = event.config.clone().unwrap_or_default();
            let state = TunnelState { config, sample: sample.clone(), seen_at: event.received_at, last_event: event.id };
            let mut meter = Meter::default();
            meter.observe(sample.counters, event.received_at);
            self.version += 1;
            *changed = self.version;
            tunnels.insert(event.instance.clone(), TunnelLive { state, meter, changed: self.version });
            self.unsynced.removed.remove(&tunnel);
            self.unsynced.configs.insert(tunnel.clone());
            self.unsynced.samples.insert(tunnel);
            return;
        };
        if event.id <= known.last_event {
            return;
        }
        self.version += 1;
        (*changed, *tunnel_changed) = (self.version, self.version);
        // A line of the log repeats the counters of the last report: they say nothing of the time between.
        if event.kind != EventKind::Log {
            meter.observe(sample.counters, event.received_at);
        }
        known.seen_at = event.received_at;
        known.last_event = event.id;
        if known.sample != *sample {
            known.sample = sample.clone();
            self.unsynced.samples.insert(tunnel.clone());
        }
        if let Some(config) = &event.config
            && known.config != *config
        {
            known.config = Arc::clone(config);
            self.unsynced.configs.insert(tunnel);
        }
    }

    fn remove(&mut self, tunnel: TunnelKey, by: EventId, at: Timestamp) {
        let Some(endpoint) = self.endpoints.get_mut(&tunnel.endpoint) else { return };
        if endpoint.tunnels.get(&tunnel.instance).is_some_and(|known| known.state.last_event < by) {
            endpoint.tunnels.remove(&tunnel.instance);
            self.version += 1;
            (endpoint.changed, endpoint.thinned) = (self.version, self.version);
            self.unsynced.configs.remove(&tunnel);
            self.unsynced.samples.remove(&tunnel);
            self.unsynced.removed.insert(tunnel, at);
        }
    }

    /// Sets an endpoint's health; when it was last heard is kept.
    pub fn set_health(&mut self, endpoint: EndpointId, health: EndpointHealth) {
        let known = &mut self.endpoints.entry(endpoint).or_default().health;
        let last_heard = known.last_heard.max(health.last_heard);
        *known = EndpointHealth { last_heard, ..health };
        self.unsynced.health.insert(endpoint);
    }

    /// Forgets an endpoint that was removed, with its tunnels.
    pub fn forget(&mut self, endpoint: EndpointId) {
        self.endpoints.remove(&endpoint);
        self.version += 1;
        let Unsynced { health, configs, samples, removed } = &mut self.unsynced;
        health.remove(&endpoint);
        configs.retain(|tunnel| tunnel.endpoint != endpoint);
        samples.retain(|tunnel| tunnel.endpoint != endpoint);
        removed.retain(|tunnel, _| tunnel.endpoint != endpoint);
    }

    /// Marks when each endpoint was last heard as a change, so that the last sync of a recorder stores it.
    pub fn mark_last_heard(&mut self) {
        self.unsynced.health.extend(self.endpoints.keys());
    }

    /// What the database does not know; afterwards all counts as known. A failed write is undone by [`Self::put_back`].
    pub fn take_changes(&mut self) -> LiveChanges {
        let Unsynced { health, configs, samples, removed } = std::mem::take(&mut self.unsynced);
        let tunnel = |key: &TunnelKey| Some(&self.endpoints.get(&key.endpoint)?.tunnels.get(&key.instance)?.state);
        LiveChanges {
            through: self.through,
            endpoints: health.into_iter().filter_map(|id| Some((id, self.endpoints.get(&id)?.health.clone()))).collect(),
            configs: configs
                .into_iter()
                .filter_map(|key| {
                    tunnel(&key).map(|state| (Arc::clone(&state.config), state.last_event)).map(|(c, e)| (key, c, e))
                })
                .collect(),
            samples: samples
                .into_iter()
                .filter_map(|key| {
                    let state = tunnel(&key)?;
                    let (sample, seen_at, last_event) = (state.sample.clone(), state.seen_at, state.last_event);
                    Some((key, sample, seen_at, last_event))
                })
                .collect(),
            removed: removed.into_iter().collect(),
        }
    }

    /// Marks what could not be written as unknown to the database again.
    pub fn put_back(&mut self, changes: LiveChanges) {
        self.unsynced.health.extend(changes.endpoints.into_iter().map(|(id, _)| id));
        self.unsynced.configs.extend(changes.configs.into_iter().map(|(key, ..)| key));
        self.unsynced.samples.extend(changes.samples.into_iter().map(|(key, ..)| key));
        for (key, at) in changes.removed {
            let is_back = self.endpoints.get(&key.endpoint).is_some_and(|endpoint| endpoint.tunnels.contains_key(&key.instance));
            if !is_back {
                self.unsynced.removed.insert(key, at);
            }
        }
    }

    /// The last event that is contained.
    #[must_use]
    pub fn through(&self) -> EventId {
        self.through
    }

    /// All endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointId> {
        self.endpoints.keys().copied()
    }

    /// The health of one endpoint and the number of its tunnels.
    #[must_use]
    pub fn endpoint(&self, endpoint: EndpointId) -> Option<(&EndpointHealth, usize)> {
        self.endpoints.get(&endpoint).map(|endpoint| (&endpoint.health, endpoint.tunnels.len()))
    }

    /// Whether a tunnel exists.
    #[must_use]
    pub fn has(&self, tunnel: &TunnelKey) -> bool {
        self.endpoints.get(&tunnel.endpoint).is_some_and(|endpoint| endpoint.tunnels.contains_key(&tunnel.instance))
    }

    /// The tunnels of one endpoint.
    #[must_use]
    pub fn tunnels_of(&self, endpoint: EndpointId) -> BTreeMap<InstanceId, TunnelState> {
        let tunnels = self.endpoints.get(&endpoint).into_iter().flat_map(|endpoint| &endpoint.tunnels);
        tunnels.map(|(instance, tunnel)| (instance.clone(), tunnel.state.clone())).collect()
    }

    /// All tunnels.
    pub fn tunnels(&self) -> impl Iterator<Item = (TunnelKey, &TunnelState)> {
        self.endpoints.iter().flat_map(|(id, endpoint)| {
            let key = |instance: &InstanceId| TunnelKey { endpoint: *id, instance: instance.clone() };
            endpoint.tunnels.iter().map(move |(instance, tunnel)| (key(instance), &tunnel.state))
        })
    }

    /// What changed after `version`; all of it after 0.
    #[must_use]
    pub fn since(&self, version: u64) -> Delta {
        let changed = || self.endpoints.iter().filter(|(_, endpoint)| endpoint.changed > version);
        let tunnels = changed().flat_map(|(id, endpoint)| {
            let tunnels = endpoint.tunnels.iter().filter(|(_, tunnel)| tunnel.changed > version);
            tunnels.map(|(instance, tunnel)| {
                let key = TunnelKey { endpoint: *id, instance: instance.clone() };
                (key, tunnel.state.clone(), tunnel.meter.rate())
            })
        });
        let thinned = changed().filter(|(_, endpoint)| endpoint.thinned > version);
        Delta {
            version: self.version,
            endpoints: self.endpoints.keys().copied().collect(),
            thinned: thinned.map(|(id, endpoint)| (*id, endpoint.tunnels.keys().cloned().collect())).collect(),
            tunnels: tunnels.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{InstanceConfig, Sample, Status};

    fn config(alias: &str) -> Arc<InstanceConfig> {
        Arc::new(InstanceConfig { alias: crate::redact::Redacted::from_store(alias), ..InstanceConfig::default() })
    }

    fn event(id: i64, kind: EventKind, pool: i32, alias: Option<&str>) -> Record {
        Record::Event(Event {
            id: EventId(id),
            endpoint: EndpointId(1),
            received_at: Timestamp(id * 10),
            event_time: None,
            kind,
            instance: "9545ac3d".into(),
            sample: Some(Sample { status: Status::Running, pool: Some(pool), ..Sample::default() }),
            config: alias.map(config),
            detail: None,
            logs: None,
            stored: true,
        })
    }

    fn updated(live: &mut LiveState, id: i64, pool: i32) {
        live.apply(&event(id, EventKind::Update, pool, None));
    }

    #[test]
    fn only_what_changed_is_handed_over_and_a_later_time_alone_is_no_change() {
        let mut live = LiveState::default();
        live.apply(&event(1, EventKind::Create, 1, Some("a")));
        let first = live.take_changes();
        assert_eq!((first.configs.len(), first.samples.len()), (1, 1));
        updated(&mut live, 2, 1);
        let second = live.take_changes();
        assert!(second.is_empty(), "{second:?}");
        assert_eq!(second.through, EventId(2));
        updated(&mut live, 3, 7);
        let third = live.take_changes();
        assert_eq!((third.configs.len(), third.samples.len()), (0, 1));
        assert_eq!(third.samples[0].3, EventId(3));
    }

    #[test]
    fn an_event_that_is_older_than_the_state_does_not_overwrite_it() {
        let mut live = LiveState::default();
        live.apply(&event(5, EventKind::Create, 5, Some("new")));
        live.apply(&event(4, EventKind::Update, 4, Some("old")));
        live.apply(&event(3, EventKind::Delete, 3, None));
        let (_, state) = live.tunnels().next().unwrap();
        assert_eq!((state.sample.pool, state.config.alias.as_str()), (Some(5), "new"));
    }

    #[test]
    fn a_failed_sync_is_sent_again_with_the_values_of_then() {
        let mut live = LiveState::default();
        live.apply(&event(1, EventKind::Create, 1, Some("a")));
        let failed = live.take_changes();
        updated(&mut live, 2, 2);
        live.put_back(failed);
        let again = live.take_changes();
        assert_eq!((again.configs.len(), again.samples.len()), (1, 1));
        assert_eq!(again.samples[0].1.pool, Some(2));
    }

    #[test]
    fn a_removal_that_failed_to_sync_is_not_sent_for_a_tunnel_that_is_back() {
        let mut live = LiveState::default();
        live.apply(&event(1, EventKind::Create, 1, Some("a")));
        let _ = live.take_changes();
        live.apply(&event(2, EventKind::Delete, 1, None));
        let failed = live.take_changes();
        assert_eq!(failed.removed.len(), 1);
        live.apply(&event(3, EventKind::Create, 1, Some("a")));
        live.put_back(failed);
        let again = live.take_changes();
        assert_eq!((again.removed.len(), again.configs.len(), again.samples.len()), (0, 1, 1));
    }

    #[test]
    fn the_error_that_shows_first_in_a_log_event_is_the_state() {
        let mut live = LiveState::default();
        live.apply(&event(1, EventKind::Create, 1, Some("a")));
        let Record::Event(mut log) = event(2, EventKind::Log, 1, None) else { unreachable!() };
        log.sample.as_mut().unwrap().status = Status::Error;
        live.apply(&Record::Event(log));
        assert_eq!(live.tunnels().next().unwrap().1.sample.status, Status::Error);
        assert!(!live.take_changes().samples.is_empty());
    }

    #[test]
    fn a_forgotten_endpoint_leaves_nothing_to_write() {
        let mut live = LiveState::default();
        live.apply(&event(1, EventKind::Create, 1, Some("a")));
        live.set_health(EndpointId(1), EndpointHealth::default());
        live.forget(EndpointId(1));
        assert!(live.take_changes().is_empty());
        assert_eq!(live.tunnels().count(), 0);
    }

    #[test]
    fn readers_are_told_what_changed_after_what_they_know() {
        let mut live = LiveState::default();
        live.apply(&event(1, EventKind::Create, 1, Some("a")));
        let all = live.since(0);
        assert_eq!((all.endpoints.len(), all.tunnels.len(), all.thinned.len()), (1, 1, 0));
        let none = live.since(all.version);
        assert_eq!((none.version, none.tunnels.len()), (all.version, 0));
        updated(&mut live, 2, 2);
        let updated = live.since(all.version);
        assert_eq!(updated.tunnels[0].1.sample.pool, Some(2));
        live.apply(&event(3, EventKind::Delete, 1, None));
        let removed = live.since(updated.version);
        assert_eq!(removed.thinned, [(EndpointId(1), BTreeSet::new())]);
        live.forget(EndpointId(1));
        let forgotten = live.since(removed.version);
        assert!(forgotten.endpoints.is_empty() && forgotten.version > removed.version);
    }
}
