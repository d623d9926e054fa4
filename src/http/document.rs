//! The JSON documents of the API. The server writes them and the commands read them; without a recorder the commands make
//! the same documents from the database. None of them can hold an API key.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::actors::endpoints::EndpointView;
use crate::clock::Timestamp;
use crate::config::tls_policy;
use crate::endpoint::{ApiKey, EndpointStatus, TlsPolicy, valid_name};
use crate::event::{InstanceId, TunnelState};
use crate::store::{EndpointChange, NewEndpoint};
use crate::transport::Target;
use crate::transport::probe::Step;

/// `GET /api/v1/endpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Endpoints {
    /// By name.
    pub endpoints: Vec<EndpointDocument>,
    /// `cursor` of the next part, `null` at the end; absent where no part was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointDocument {
    /// Unique name.
    pub name: String,
    /// Address with prefix: `http://10.0.0.5:9090/api`.
    pub url: String,
    /// How the certificate is judged.
    #[serde(flatten)]
    pub tls: TlsDocument,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether its `log` events are stored; `null` follows `storage.log_events`.
    pub log_events: Option<bool>,
    /// The master's own id, once it was seen.
    pub master_id: Option<String>,
    /// The master's version, where known.
    pub version: Option<String>,
    /// Status.
    pub status: EndpointStatus,
    /// Why, and what to do; empty while all is well.
    pub reason: String,
    /// Since when; RFC 3339.
    pub since: String,
    /// When something was last heard of it; RFC 3339.
    pub last_heard: Option<String>,
    /// Number of its tunnels.
    pub tunnels: u64,
    /// How many of them are in which status.
    #[serde(default)]
    pub tunnel_statuses: TunnelStatuses,
    /// Bytes per second received on the non-tunnel sides of its tunnels now; `null` if it is known of none of them.
    pub rate_in: Option<u64>,
    /// Bytes per second sent there.
    pub rate_out: Option<u64>,
}

/// Tunnels by status, as their master told last. While a master is away nobody knows better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TunnelStatuses {
    /// `running`.
    pub running: u64,
    /// `stopped`.
    pub stopped: u64,
    /// `error`.
    pub error: u64,
    /// Any other status: a newer master's, or none.
    pub other: u64,
}

impl TunnelStatuses {
    /// Counts one more, by its status' name.
    pub fn count(&mut self, status: &str) {
        *match status {
            "running" => &mut self.running,
            "stopped" => &mut self.stopped,
            "error" => &mut self.error,
            _ => &mut self.other,
        } += 1;
    }
}

/// How a certificate is judged: `{"tls": "pin", "pin": "ab12..."}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TlsDocument {
    /// `verify`, `pin` or `insecure`.
    pub tls: String,
    /// The fingerprint, with `pin`; `null` until the first certificate is seen.
    pub pin: Option<String>,
    /// The file with roots, with `verify`.
    pub ca: Option<String>,
}

impl From<&TlsPolicy> for TlsDocument {
    fn from(policy: &TlsPolicy) -> Self {
        let (tls, pin, ca) = match policy {
            TlsPolicy::Verify => ("verify", None, None),
            TlsPolicy::VerifyWith(path) => ("verify", None, Some(path.display().to_string())),
            TlsPolicy::Pin(fingerprint) => ("pin", fingerprint.map(|fingerprint| fingerprint.to_string()), None),
            TlsPolicy::Insecure => ("insecure", None, None),
        };
        Self { tls: tls.to_owned(), pin, ca }
    }
}

impl EndpointDocument {
    /// An endpoint with the statuses of its tunnels and the sum of their rates, received and sent.
    #[must_use]
    pub fn new(view: &EndpointView, tunnel_statuses: TunnelStatuses, rates: Option<(u64, u64)>) -> Self {
        let EndpointView { endpoint, health, tunnels, .. } = view;
        Self {
            name: endpoint.name.clone(),
            url: endpoint.url.to_string(),
            tls: (&endpoint.tls).into(),
            paused: endpoint.paused,
            log_events: endpoint.log_events,
            master_id: endpoint.master_id.clone(),
            version: health.version.clone(),
            status: health.status,
            reason: health.reason.clone(),
            since: health.since.to_string(),
            last_heard: health.last_heard.as_ref().map(Timestamp::to_string),
            tunnels: *tunnels as u64,
            tunnel_statuses,
            rate_in: rates.map(|rates| rates.0),
            rate_out: rates.map(|rates| rates.1),
        }
    }
}

/// `GET /api/v1/tunnels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tunnels {
    /// By endpoint and instance.
    pub tunnels: Vec<TunnelDocument>,
    /// `cursor` of the next part, `null` at the end; absent where no part was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A tunnel. Counters are bytes, seen from the instance's non-tunnel side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TunnelDocument {
    /// Name of its endpoint.
    pub endpoint: String,
    /// Its id there.
    pub instance_id: String,
    /// Alias; may be empty, need not be unique.
    pub alias: String,
    /// `server` or `client`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `running`, `stopped`, `error`, or what a newer master says.
    pub status: String,
    /// TCP bytes received.
    pub tcp_rx: u64,
    /// TCP bytes sent.
    pub tcp_tx: u64,
    /// UDP bytes received.
    pub udp_rx: u64,
    /// UDP bytes sent.
    pub udp_tx: u64,
    /// Open TCP connections, where the master tells.
    pub tcps: Option<i32>,
    /// Open UDP sessions, likewise.
    pub udps: Option<i32>,
    /// Idle pooled connections, likewise.
    pub pool: Option<i32>,
    /// Round trip in milliseconds, likewise.
    pub ping: Option<i32>,
    /// Bytes per second received now, TCP and UDP: from the last two samples. `null` while it is not known: before the second
    /// sample, after a counter fell, and when reports stopped.
    pub rate_in: Option<u64>,
    /// Bytes per second sent now, likewise.
    pub rate_out: Option<u64>,
    /// When the last event was received; RFC 3339.
    pub last_event_time: String,
    /// The command line as URL, without user-info.
    pub url: String,
}

impl TunnelDocument {
    /// A tunnel of the endpoint of that name, with its rates, received and sent.
    #[must_use]
    pub fn new(endpoint: &str, instance: &InstanceId, state: &TunnelState, rates: Option<(u64, u64)>) -> Self {
        let (config, sample) = (&state.config, &state.sample);
        Self {
            endpoint: endpoint.to_owned(),
            instance_id: instance.to_string(),
            alias: config.alias.to_string(),
            kind: config.kind.to_string(),
            status: sample.status.as_str().to_owned(),
            tcp_rx: sample.counters.tcp_rx,
            tcp_tx: sample.counters.tcp_tx,
            udp_rx: sample.counters.udp_rx,
            udp_tx: sample.counters.udp_tx,
            tcps: sample.tcps,
            udps: sample.udps,
            pool: sample.pool,
            ping: sample.ping,
            rate_in: rates.map(|rates| rates.0),
            rate_out: rates.map(|rates| rates.1),
            last_event_time: state.seen_at.to_string(),
            url: config.url.to_string(),
        }
    }
}

/// `POST /api/v1/flush`. With an error the status is 503.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flushed {
    /// Records committed since the request.
    pub committed: u64,
    /// Records that wait.
    pub waiting: u64,
    /// Why they wait; `null` if all is done.
    pub error: Option<String>,
}

/// `GET /healthz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// Version and commit.
    pub version: String,
}

/// `GET /readyz`, if all is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// `ready`.
    pub status: String,
}

/// Body of `POST /api/v1/endpoints`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddEndpoint {
    /// Unique name.
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    /// Address with prefix.
    #[schema(pattern = "^https?://[^/]")]
    pub url: String,
    /// The master's key; absent or empty where it asks for none.
    #[serde(default, deserialize_with = "api_key")]
    #[schema(value_type = Option<String>, write_only)]
    pub api_key: Option<ApiKey>,
    /// `verify`, `pin` or `insecure`.
    #[schema(pattern = "^(verify|pin|insecure)$")]
    pub tls: Option<String>,
    /// Fingerprint, with `pin`.
    pub pin: Option<String>,
    /// File with roots on the recorder's machine, with `verify`.
    pub ca: Option<String>,
    /// Whether its `log` events are stored; absent follows `storage.log_events`.
    pub log_events: Option<bool>,
}

impl AddEndpoint {
    /// What is to be made.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn check(self) -> Result<NewEndpoint, String> {
        valid_name(&self.name).map_err(|error| error.to_string())?;
        Ok(NewEndpoint {
            url: self.url.parse().map_err(|error: crate::endpoint::EndpointError| error.to_string())?,
            api_key: self.api_key.unwrap_or_else(|| ApiKey::new("")),
            tls: tls_policy(self.tls.as_deref(), self.pin.as_deref(), self.ca.as_deref())?.unwrap_or_default(),
            log_events: self.log_events,
            name: self.name,
        })
    }
}

/// Body of `PATCH /api/v1/endpoints/{name}`: what is absent stays.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeEndpoint {
    /// New address.
    #[schema(pattern = "^https?://[^/]")]
    pub url: Option<String>,
    /// New key.
    #[serde(default, deserialize_with = "api_key")]
    #[schema(value_type = Option<String>, write_only)]
    pub api_key: Option<ApiKey>,
    /// `verify`, `pin` or `insecure`.
    #[schema(pattern = "^(verify|pin|insecure)$")]
    pub tls: Option<String>,
    /// Fingerprint, with `pin`.
    pub pin: Option<String>,
    /// File with roots on the recorder's machine, with `verify`.
    pub ca: Option<String>,
    /// Pause or resume.
    pub paused: Option<bool>,
    /// Store `log` events or not; `null` goes back to following `storage.log_events`.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<bool>)]
    pub log_events: Option<Option<bool>>,
}

impl ChangeEndpoint {
    /// What is to be changed.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn check(self) -> Result<EndpointChange, String> {
        Ok(EndpointChange {
            url: match self.url {
                Some(url) => Some(url.parse().map_err(|error: crate::endpoint::EndpointError| error.to_string())?),
                None => None,
            },
            tls: tls_policy(self.tls.as_deref(), self.pin.as_deref(), self.ca.as_deref())?,
            api_key: self.api_key,
            paused: self.paused,
            log_events: self.log_events,
            master_id: None,
        })
    }
}

/// `ApiKey` cannot be deserialised by itself, so that it is taken from nowhere by accident. `null` is as good as absent.
fn api_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ApiKey>, D::Error> {
    // serde's own error would repeat a key that was given as a number.
    let text = Option::<String>::deserialize(deserializer).map_err(|_| serde::de::Error::custom("`api_key` is a text"))?;
    Ok(text.map(|text| ApiKey::new(&text)))
}

/// Tells `null` from absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<bool>>, D::Error> {
    Option::<bool>::deserialize(deserializer).map(Some)
}

/// Answer of a probe: `POST /api/v1/probe`, `POST /api/v1/endpoints/{name}/probe`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Probed {
    /// The steps in order, up to the first that failed.
    pub steps: Vec<ProbeStep>,
    /// Whether all went well.
    pub ok: bool,
}

/// One step of a probe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProbeStep {
    /// `name`, `tcp`, `tls` (https only), `head`, `key`, `path`, `version` or `event`.
    pub step: String,
    /// Whether it went well.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub ms: f64,
    /// What was found.
    pub detail: String,
    /// What to do; empty if it went well.
    pub advice: String,
}

impl From<&[Step]> for Probed {
    fn from(steps: &[Step]) -> Self {
        let step = |step: &Step| ProbeStep {
            step: step.name.as_str().to_owned(),
            ok: step.ok,
            ms: (step.took.as_secs_f64() * 1e6).round() / 1e3,
            detail: step.detail.clone(),
            advice: step.advice.clone(),
        };
        Self { ok: steps.iter().all(|step| step.ok), steps: steps.iter().map(step).collect() }
    }
}

/// Body of `POST /api/v1/probe`: an endpoint that need not exist.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeRequest {
    /// Address with prefix.
    #[schema(pattern = "^https?://[^/]")]
    pub url: String,
    /// The master's key; absent or empty where it asks for none.
    #[serde(default, deserialize_with = "api_key")]
    #[schema(value_type = Option<String>, write_only)]
    pub api_key: Option<ApiKey>,
    /// `verify`, `pin` or `insecure`.
    #[schema(pattern = "^(verify|pin|insecure)$")]
    pub tls: Option<String>,
    /// Fingerprint, with `pin`.
    pub pin: Option<String>,
    /// File with roots on the recorder's machine, with `verify`.
    pub ca: Option<String>,
}

impl ProbeRequest {
    /// What is to be tried.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn check(self) -> Result<Target, String> {
        Ok(Target {
            url: self.url.parse().map_err(|error: crate::endpoint::EndpointError| error.to_string())?,
            api_key: self.api_key.unwrap_or_else(|| ApiKey::new("")),
            tls: tls_policy(self.tls.as_deref(), self.pin.as_deref(), self.ca.as_deref())?.unwrap_or_default(),
        })
    }
}

/// `GET /api/v1/alerts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alerts {
    /// What was found wrong and is not over.
    pub active: Vec<AlertDocument>,
    /// The channels that are configured.
    pub channels: Vec<ChannelDocument>,
}

/// An alert that is not over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertDocument {
    /// `endpoint_offline`, `tunnel_error`, `traffic_limit`, `flush_overdue` or `journal_full`.
    pub kind: String,
    /// The endpoint that it concerns; `null` if it concerns the recorder.
    pub endpoint: Option<String>,
    /// The tunnel there; `null` if it concerns all of it.
    pub instance_id: Option<String>,
    /// Since when it has held; RFC 3339.
    pub since: String,
    /// For people.
    pub text: String,
}

/// How a channel does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelDocument {
    /// `webhook` or `telegram`.
    pub channel: String,
    /// Messages that wait to be sent.
    pub waiting: u64,
    /// Messages that were taken.
    pub sent: u64,
    /// Tries that failed.
    pub failures: u64,
    /// Messages that were given up: refused for good, after many tries, or for newer ones.
    pub given_up: u64,
    /// Why the last try failed; `null` after one that did not.
    pub last_error: Option<String>,
    /// When the last message was taken; RFC 3339.
    pub last_sent: Option<String>,
    /// What was given up last, the newest first; five at most.
    pub last_given_up: Vec<GivenUpDocument>,
}

/// A message that nobody was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GivenUpDocument {
    /// When it was given up; RFC 3339.
    pub time: String,
    /// Its first line.
    pub title: String,
    /// Why.
    pub reason: String,
}

/// `POST /api/v1/alerts/test`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertsTested {
    /// Each channel.
    pub channels: Vec<ChannelTested>,
}

/// How the test went on a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelTested {
    /// `webhook` or `telegram`.
    pub channel: String,
    /// Whether the message was taken.
    pub ok: bool,
    /// Why not.
    pub error: Option<String>,
}
