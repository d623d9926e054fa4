//! What is known of each instance, and what an event changes in it. Everything that leaves is redacted.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::clock::Timestamp;
use crate::endpoint::ApiKey;
use crate::event::{EndpointId, Event, EventKind, InstanceConfig, InstanceId, Peer, Sample, Status, TunnelState};
use crate::id::EventId;
use crate::redact::{Redacted, Redactor};
use crate::wire::{ParseError, WireEvent, WireInstance, parse_time};

/// Instances of one master that are followed. Real masters have up to a few hundred; more than this is a fault of the
/// master, which must not cost our memory.
pub const INSTANCES_MAX: usize = 10_000;

/// Why an event was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It could not be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The master has more instances than are followed.
    #[error("the master has more than {INSTANCES_MAX} instances")]
    TooManyInstances,
}

impl Rejected {
    /// The word under which it is counted.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Parse(error) => error.word(),
            Self::TooManyInstances => "too_many_instances",
        }
    }
}

/// How `GET /instances` differs from what is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Known, but not in the answer.
    pub vanished: Vec<InstanceId>,
    /// In the answer, but not known or not as known.
    pub changed: Vec<InstanceId>,
}

/// The instances of one endpoint.
#[derive(Debug)]
pub struct Tracker {
    endpoint: EndpointId,
    known: BTreeMap<InstanceId, TunnelState>,
    /// A hash of each instance's configuration as the master sent it last. Nearly every event repeats it, and looking for secrets
    /// in it only to find it known would cost more than reading the event. The text itself is not kept: it holds a password.
    repeated: BTreeMap<InstanceId, u64>,
    redactor: Redactor,
    /// Whether `log` events are stored.
    pub log_events: bool,
}

impl Tracker {
    /// Begins with what the database and the journal say.
    #[must_use]
    pub fn new(endpoint: EndpointId, known: BTreeMap<InstanceId, TunnelState>, redactor: Redactor, log_events: bool) -> Self {
        Self { endpoint, known, repeated: BTreeMap::new(), redactor, log_events }
    }

    /// The instances as last seen.
    #[must_use]
    pub fn known(&self) -> &BTreeMap<InstanceId, TunnelState> {
        &self.known
    }

    /// Removes this key too from now on.
    pub fn learn_key(&mut self, key: &ApiKey) {
        self.repeated.clear();
        self.redactor.learn(key);
    }

    /// Other text of this master without its secrets.
    #[must_use]
    pub fn clean(&self, text: &str) -> Redacted {
        self.redactor.clean(text)
    }

    /// An instance is gone; its last state is returned.
    pub fn forget(&mut self, instance: &InstanceId) -> Option<TunnelState> {
        self.repeated.remove(instance);
        self.known.remove(instance)
    }

    /// Turns an event into what is handed on, and remembers what it says. Must not be given the key holder's.
    ///
    /// # Errors
    /// See [`Rejected`].
    pub fn apply(&mut self, wire: &WireEvent<'_>, id: EventId, received_at: Timestamp) -> Result<Event, Rejected> {
        let kind = EventKind::from(&*self.redactor.cleaned(&wire.kind));
        let logs = match (&kind, &wire.logs) {
            (EventKind::Log, line) => Some(self.redactor.clean(line.as_deref().unwrap_or_default())),
            (_, Some(line)) if !line.is_empty() => Some(self.redactor.clean(line)),
            _ => None,
        };
        let mut event = Event {
            id,
            endpoint: self.endpoint,
            received_at,
            event_time: wire.time.as_deref().and_then(parse_time),
            kind,
            instance: InstanceId::default(),
            sample: None,
            config: None,
            detail: None,
            logs,
            stored: true,
        };
        let changed = match &wire.instance {
            Some(instance) => self.apply_instance(instance, &mut event)?,
            None => true,
        };
        event.stored = match event.kind {
            EventKind::Initial => changed,
            EventKind::Log => self.log_events,
            _ => true,
        };
        Ok(event)
    }

    /// Returns whether anything differs from what was known.
    fn apply_instance(&mut self, wire: &WireInstance<'_>, event: &mut Event) -> Result<bool, Rejected> {
        if !self.redactor.is_clean(&wire.id) {
            return Err(ParseError::BadName { field: "id" }.into());
        }
        let sample = self.sample(wire);
        event.sample = Some(sample.clone());
        let Some((instance, state)) = self.known.get_key_value(&*wire.id) else {
            if self.known.len() >= INSTANCES_MAX && event.kind != EventKind::Delete {
                return Err(Rejected::TooManyInstances);
            }
            let (instance, config) = (InstanceId::from(&*wire.id), Arc::new(self.config(wire)));
            event.detail = changes(&InstanceConfig::default(), &config);
            event.config = Some(Arc::clone(&config));
            event.instance = instance.clone();
            if event.kind != EventKind::Delete {
                let state = TunnelState { config, sample, seen_at: event.received_at, last_event: event.id };
                self.known.insert(instance, state);
            }
            return Ok(true);
        };
        event.instance = instance.clone();
        let hash = configuration_hash(wire);
        if self.repeated.get(instance) != Some(&hash) {
            if !self.same_config(wire, &state.config) {
                let config = self.config(wire);
                if config != *state.config {
                    event.detail = changes(&state.config, &config);
                    event.config = Some(Arc::new(config));
                }
            }
            self.repeated.insert(instance.clone(), hash);
        }
        let changed = event.config.is_some() || state.sample != sample;
        if event.kind == EventKind::Delete {
            self.repeated.remove(&*wire.id);
            self.known.remove(&*wire.id);
        } else if let Some(state) = self.known.get_mut(&*wire.id) {
            state.sample = sample;
            state.seen_at = event.received_at;
            state.last_event = event.id;
            if let Some(config) = &event.config {
                state.config = Arc::clone(config);
            }
        }
        Ok(changed)
    }

    /// Compares the master's full list with what is known. The key holder is not part of either.
    #[must_use]
    pub fn compare(&self, listed: &[WireInstance<'_>]) -> Comparison {
        let listed: BTreeMap<&str, &WireInstance<'_>> =
            listed.iter().filter(|instance| !instance.is_key_holder()).map(|instance| (&*instance.id, instance)).collect();
        let vanished = self.known.keys().filter(|id| !listed.contains_key(id.as_str())).cloned().collect();
        let differs = |wire: &WireInstance<'_>| match self.known.get(&*wire.id) {
            None => self.redactor.is_clean(&wire.id),
            Some(state) => {
                state.sample != self.sample(wire)
                    || (!self.same_config(wire, &state.config) && self.config(wire) != *state.config)
            }
        };
        let changed = listed.values().filter(|wire| differs(wire)).map(|wire| InstanceId::from(&*wire.id)).collect();
        Comparison { vanished, changed }
    }

    fn sample(&self, wire: &WireInstance<'_>) -> Sample {
        Sample {
            status: Status::from(&*self.redactor.cleaned(&wire.status)),
            counters: wire.counters,
            ping: wire.ping,
            pool: wire.pool,
            tcps: wire.tcps,
            udps: wire.udps,
        }
    }

    fn config(&self, wire: &WireInstance<'_>) -> InstanceConfig {
        let clean = |text: &str| self.redactor.clean(text);
        // What serde_json cannot hold (nesting beyond 128 levels) is replaced by a word, so that its name stays visible.
        let unknown = wire.unknown.iter().map(|(name, raw)| {
            (name.to_string(), serde_json::from_str(raw.get()).unwrap_or_else(|_| Value::from("nested too deeply")))
        });
        InstanceConfig {
            alias: clean(&wire.alias),
            kind: clean(&wire.kind),
            url: clean(&wire.url),
            config: clean(&wire.config),
            restart: wire.restart,
            mode: wire.mode,
            peer: Peer { sid: clean(&wire.peer.sid), kind: clean(&wire.peer.kind), alias: clean(&wire.peer.alias) },
            tags: wire.tags.iter().map(|(name, value)| (clean(name), clean(value))).collect(),
            unknown: self.redactor.clean_json(unknown.collect()),
        }
    }

    /// True only if the configuration is the known one; false may also mean that it takes a closer look. This is what
    /// nearly every event passes, so it builds nothing.
    fn same_config(&self, wire: &WireInstance<'_>, known: &InstanceConfig) -> bool {
        let same = |text: &str, known: &Redacted| self.redactor.cleaned(text) == known.as_str();
        wire.restart == known.restart
            && wire.mode == known.mode
            && same(&wire.alias, &known.alias)
            && same(&wire.kind, &known.kind)
            && same(&wire.url, &known.url)
            && same(&wire.config, &known.config)
            && same(&wire.peer.sid, &known.peer.sid)
            && same(&wire.peer.kind, &known.peer.kind)
            && same(&wire.peer.alias, &known.peer.alias)
            && wire.tags.len() == known.tags.len()
            && wire
                .tags
                .iter()
                .all(|(name, value)| known.tags.get(&*self.redactor.cleaned(name)).is_some_and(|known| same(value, known)))
            && wire.unknown.is_empty()
            && known.unknown.as_str().is_empty()
    }
}

/// All that [`Tracker::config`] is made of. The hasher has fixed keys, so that nothing differs between two runs.
fn configuration_hash(wire: &WireInstance<'_>) -> u64 {
    let WireInstance { alias, kind, url, config, restart, mode, peer, tags, unknown, .. } = wire;
    let mut hasher = DefaultHasher::new();
    (alias, kind, url, config, restart, mode).hash(&mut hasher);
    (&peer.sid, &peer.kind, &peer.alias, tags).hash(&mut hasher);
    unknown.iter().for_each(|(name, raw)| (name, raw.get()).hash(&mut hasher));
    hasher.finish()
}

/// The fields that differ, as JSON for `endpoint_sse.detail`; `None` if there are none.
fn changes(before: &InstanceConfig, after: &InstanceConfig) -> Option<Box<str>> {
    let mut fields = Map::new();
    for (name, before, after) in [
        ("alias", &before.alias, &after.alias),
        ("type", &before.kind, &after.kind),
        ("url", &before.url, &after.url),
        ("config", &before.config, &after.config),
    ] {
        if before != after {
            fields.insert(name.to_owned(), after.as_str().into());
        }
    }
    if before.restart != after.restart {
        fields.insert("restart".to_owned(), json!(after.restart));
    }
    if before.mode != after.mode {
        fields.insert("mode".to_owned(), json!(after.mode));
    }
    if before.peer != after.peer {
        let peer = &after.peer;
        fields.insert(
            "peer".to_owned(),
            json!({"sid": peer.sid.as_str(), "type": peer.kind.as_str(), "alias": peer.alias.as_str()}),
        );
    }
    if before.tags != after.tags {
        let tags: Map<_, _> = after.tags.iter().map(|(name, value)| (name.to_string(), value.as_str().into())).collect();
        fields.insert("tags".to_owned(), tags.into());
    }
    if before.unknown != after.unknown {
        fields.insert("unknown".to_owned(), serde_json::from_str(after.unknown.as_str()).unwrap_or_default());
    }
    (!fields.is_empty()).then(|| Value::Object(fields).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse_event;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn tracker() -> Tracker {
        Tracker::new(EndpointId(1), BTreeMap::new(), Redactor::default(), true)
    }

    fn apply(tracker: &mut Tracker, id: i64, instance: &str) -> Event {
        let figures = r#"{"status":"running","tcprx":0,"tcptx":0,"udprx":0,"udptx":0,"#;
        let instance = instance.replacen('{', figures, 1);
        let data = format!(r#"{{"type":"update","time":"2026-11-23T12:00:00Z","instance":{instance}}}"#);
        let wire = parse_event(&data).expect("an event");
        tracker.apply(&wire, EventId(id), Timestamp(id)).expect("an instance")
    }

    #[test]
    fn each_field_of_a_configuration_is_noticed_when_it_changes_and_when_it_changes_back() {
        let first = r#"{"id":"9545ac3d","alias":"a","type":"server","url":"server://h:1","config":"c","restart":true}"#;
        let others = [
            first.replace(r#""alias":"a""#, r#""alias":"b""#),
            first.replace(r#""type":"server""#, r#""type":"client""#),
            first.replace("h:1", "h:2"),
            first.replace(r#""config":"c""#, r#""config":"d""#),
            first.replace("true", "false"),
            first.replace(r#""restart""#, r#""mode":1,"restart""#),
            first.replace(r#""restart""#, r#""meta":{"peer":{"sid":"x"}},"restart""#),
            first.replace(r#""restart""#, r#""meta":{"tags":{"k":"v"}},"restart""#),
            first.replace(r#""restart""#, r#""new":7,"restart""#),
        ];
        for other in others {
            let mut tracker = tracker();
            let noticed: Vec<bool> = [first, first, &other, &other, first, first]
                .iter()
                .zip(1..)
                .map(|(instance, id)| apply(&mut tracker, id, instance).config.is_some())
                .collect();
            assert_eq!(noticed, [true, false, true, false, true, false], "{other}");
        }
    }

    /// What is repeated is not looked through for secrets again, and which secrets there are may be learnt later.
    #[test]
    fn a_configuration_that_is_repeated_loses_a_key_that_was_learnt_meanwhile() {
        let mut tracker = tracker();
        let instance = format!(r#"{{"id":"9545ac3d","alias":"{KEY}","type":"server","url":"server://h:1"}}"#);
        for id in 1..=2 {
            apply(&mut tracker, id, &instance);
        }
        tracker.learn_key(&ApiKey::new(KEY));
        let config = apply(&mut tracker, 3, &instance).config.expect("a change");
        assert_eq!(config.alias.as_str(), "***");
    }
}
