//! A recorder in a map, for the tests of the routes and of the commands that ask them. The crate's own tests have it too, where
//! the crate goes by the name that it has here.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tidegate::actors::alerts::{AlertsState, TestedChannels};
use tidegate::actors::buffer::{FlushAnswer, WaitingHistory};
use tidegate::actors::endpoints::{ChangeError, EndpointView};
use tidegate::actors::realtime::Switch;
use tidegate::actors::sse_ingest::IngestState;
use tidegate::alerts::{Active, Channel, ChannelState, Condition};
use tidegate::clock::Timestamp;
use tidegate::config::{Origin, Tuning};
use tidegate::endpoint::{Endpoint, EndpointHealth};
use tidegate::event::{EndpointId, InstanceId, Record, Sample, TunnelKey, TunnelState};
use tidegate::http::problem::Problem;
use tidegate::http::recorder::RecorderApi;
use tidegate::id::EventId;
use tidegate::live::Delta;
use tidegate::modes::StorageMode;
use tidegate::modes::report::{Facts, ModeReport};
use tidegate::query::Scope;
use tidegate::query::buffered::{Buffered, Wanted};
use tidegate::rates::Rate;
use tidegate::status::snapshot::{ProcessStats, Stats};
use tidegate::store::{EndpointChange, NewEndpoint};

/// A recorder that keeps endpoints in a map and is as well as it is told.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<State>>);

/// What it holds.
pub struct State {
    /// Instances of each endpoint.
    pub instances: Vec<&'static str>,
    /// What is told of every tunnel.
    pub tunnel: TunnelState,
    /// How often live state was asked for.
    pub asked: u64,
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Why it does not work.
    pub broken: Option<String>,
    pub purged: Vec<String>,
    pub mode: StorageMode,
    pub tuning: Tuning,
    /// One alert, and two channels.
    pub alerts: AlertsState,
    /// Received and not stored, newest first.
    pub buffered: Vec<Record>,
    /// History that waits, answer by answer from the last one; the first stays.
    pub waiting: Vec<WaitingHistory>,
    /// Whether the next question for its alerts panics.
    pub panics: bool,
    /// Tables with rows that should be gone.
    pub expiry_late: Vec<String>,
}

impl Default for State {
    fn default() -> Self {
        let tunnel =
            TunnelState { config: Arc::default(), sample: Sample::default(), seen_at: Timestamp(0), last_event: EventId(1) };
        let alert = Active {
            condition: Condition::EndpointOffline { endpoint: "tokyo".to_owned() },
            since: Timestamp(0),
            text: "connection refused".to_owned(),
        };
        let alerts = AlertsState {
            active: vec![alert],
            channels: [Channel::Webhook, Channel::Telegram].map(|channel| (channel, ChannelState::default())).to_vec(),
        };
        Self {
            instances: vec!["9c3209de"],
            tunnel,
            asked: 0,
            endpoints: BTreeMap::new(),
            broken: None,
            purged: Vec::new(),
            mode: StorageMode::default(),
            tuning: Tuning::default(),
            alerts,
            buffered: Vec::new(),
            waiting: Vec::new(),
            panics: false,
            expiry_late: Vec::new(),
        }
    }
}

impl Fake {
    /// What it holds, to look at and to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl RecorderApi for Fake {
    fn stats(&self) -> Stats {
        let process = ProcessStats { pid: 4711, uptime_s: 3.0, rss_bytes: 1 << 20, version: "0.1.0 (test)".to_owned() };
        let mut stats = Stats { mode: "batched".to_owned(), process: Some(process), ..Stats::default() };
        stats.optimized_storage.expiry_late.clone_from(&self.state().expiry_late);
        stats
    }

    fn ready(&self) -> Result<(), String> {
        self.state().broken.clone().map_or(Ok(()), Err)
    }

    async fn flush(&self) -> FlushAnswer {
        match self.state().broken.clone() {
            None => FlushAnswer { committed: 7, ..FlushAnswer::default() },
            error => FlushAnswer { waiting: 7, error, ..FlushAnswer::default() },
        }
    }

    fn mode_report(&self) -> Result<ModeReport, Problem> {
        let state = self.state();
        Ok(ModeReport::new(&Facts { mode: state.mode, tuning: state.tuning, ..Facts::default() }))
    }

    async fn switch_mode(&self, switch: Switch) -> Result<(), Problem> {
        let mut state = self.state();
        for (name, value) in &switch.set {
            let tuned = state.tuning.with(name, value, &Origin::Request);
            state.tuning = tuned.map_err(|error| Problem::bad_request(error.to_string()))?;
        }
        state.mode = switch.mode.unwrap_or(state.mode);
        Ok(())
    }

    async fn endpoints(&self) -> Result<Vec<EndpointView>, Problem> {
        let state = self.state();
        let view = |endpoint: &Endpoint| EndpointView {
            endpoint: endpoint.clone(),
            health: EndpointHealth::default(),
            state: IngestState::default(),
            tunnels: state.instances.len(),
        };
        Ok(state.endpoints.values().map(view).collect())
    }

    async fn add_endpoint(&self, new: NewEndpoint) -> Result<EndpointId, ChangeError> {
        let mut state = self.state();
        if let Some(reason) = &state.broken {
            return Err(ChangeError::Unavailable(reason.clone()));
        }
        if state.endpoints.contains_key(&new.name) {
            return Err(ChangeError::Conflict(format!("the name `{}` is taken", new.name)));
        }
        let NewEndpoint { name, url, api_key, tls, log_events } = new;
        let id = EndpointId(state.endpoints.values().map(|endpoint| endpoint.id.0).max().unwrap_or_default() + 1);
        let endpoint = Endpoint { id, name: name.clone(), url, api_key, tls, paused: false, log_events, master_id: None };
        state.endpoints.insert(name, endpoint);
        Ok(id)
    }

    async fn change_endpoint(&self, name: &str, change: EndpointChange) -> Result<(), ChangeError> {
        let mut state = self.state();
        let endpoint = state.endpoints.get_mut(name).ok_or_else(|| ChangeError::NotFound(name.to_owned()))?;
        endpoint.url = change.url.unwrap_or(endpoint.url.clone());
        endpoint.api_key = change.api_key.unwrap_or(endpoint.api_key.clone());
        endpoint.tls = change.tls.unwrap_or(endpoint.tls.clone());
        endpoint.paused = change.paused.unwrap_or(endpoint.paused);
        endpoint.log_events = change.log_events.unwrap_or(endpoint.log_events);
        Ok(())
    }

    async fn remove_endpoint(&self, name: &str, purge: bool) -> Result<(), ChangeError> {
        let mut state = self.state();
        state.endpoints.remove(name).ok_or_else(|| ChangeError::NotFound(name.to_owned()))?;
        if purge {
            state.purged.push(name.to_owned());
        }
        Ok(())
    }

    /// All of it each time, as if it had changed.
    async fn live_since(&self, version: u64) -> Result<Delta, Problem> {
        let mut state = self.state();
        state.asked += 1;
        let state = &*state;
        let rate = Rate { bytes_in: 20, bytes_out: 3, until: Timestamp(i64::MAX) };
        let tunnels = state.endpoints.values().flat_map(|endpoint| {
            let key = |instance: &str| TunnelKey { endpoint: endpoint.id, instance: InstanceId::from(instance) };
            state.instances.iter().map(move |instance| (key(instance), state.tunnel.clone(), Some(rate)))
        });
        Ok(Delta {
            version: version + 1,
            endpoints: state.endpoints.values().map(|endpoint| endpoint.id).collect(),
            thinned: Vec::new(),
            tunnels: tunnels.collect(),
        })
    }

    fn alerts(&self) -> AlertsState {
        let panics = std::mem::take(&mut self.state().panics);
        assert!(!panics, "as it was told");
        self.state().alerts.clone()
    }

    async fn test_alerts(&self) -> Result<TestedChannels, Problem> {
        let sent = |channel| (channel, if channel == Channel::Webhook { Ok(()) } else { Err("it answered 401".to_owned()) });
        Ok(self.state().alerts.channels.iter().map(|(channel, _)| sent(*channel)).collect())
    }

    async fn buffered(&self, wanted: Wanted) -> Result<Buffered, Problem> {
        let state = self.state();
        let endpoint = wanted.endpoint.as_ref().and_then(|name| state.endpoints.get(name)).map(|endpoint| endpoint.id);
        let records = state.buffered.iter().filter(|record| wanted.takes(record, endpoint)).take(wanted.limit);
        Ok(Buffered { records: records.cloned().collect(), in_journal_only: 0 })
    }

    async fn waiting_history(&self, scope: Scope) -> Result<WaitingHistory, Problem> {
        let mut state = self.state();
        let mut waiting = match state.waiting.as_slice() {
            [] => WaitingHistory::default(),
            [one] => one.clone(),
            [.., _] => state.waiting.pop().unwrap(),
        };
        waiting.falls.retain(|fall| scope.contains(&fall.tunnel));
        waiting.counting.retain(|row| scope.contains(&row.tunnel));
        waiting.batches.iter_mut().for_each(|(_, rows)| rows.retain(|row| scope.contains(&row.tunnel)));
        Ok(waiting)
    }
}
