//! What a master tells, after decoding and redaction: the types that every actor shares.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::clock::Timestamp;
use crate::id::EventId;
use crate::redact::Redacted;

/// Number of an endpoint (a NodePass master that is followed): its key in `endpoints`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EndpointId(pub i32);

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Id of an instance at its master: 8 lower-case hex digits, or empty where an event concerns the master itself.
///
/// It is the key of most maps that an event is looked up in, so its text stands in the key itself: comparing it follows no pointer.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(SmolStr);

impl InstanceId {
    /// The id of the pseudo-instance that carries the master's API key; it is never a tunnel.
    pub const KEY_HOLDER: &'static str = "********";

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// So that maps can be asked by the text of an event without making an id of it.
impl std::borrow::Borrow<str> for InstanceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for InstanceId {
    fn from(value: &str) -> Self {
        Self(SmolStr::new(value))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tunnel: an instance of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TunnelKey {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The instance there.
    pub instance: InstanceId,
}

/// Kind of an event, as the master's field `type` says it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventKind {
    /// An instance as it is at the time of subscription.
    Initial,
    /// An instance was made.
    Create,
    /// State or counters of an instance.
    Update,
    /// An instance was removed.
    Delete,
    /// The master ends its streams (it stops, or its key was regenerated).
    Shutdown,
    /// A line that an instance printed.
    Log,
    /// A kind that this version does not know; kept under its own name.
    Other(Box<str>),
}

impl EventKind {
    /// Names of the kinds that masters are known to send.
    pub const NAMES: [&str; 6] = ["initial", "create", "update", "delete", "shutdown", "log"];

    /// The name on the wire and in `endpoint_sse.event_type`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Initial => "initial",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Shutdown => "shutdown",
            Self::Log => "log",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for EventKind {
    fn from(name: &str) -> Self {
        match name {
            "initial" => Self::Initial,
            "create" => Self::Create,
            "update" => Self::Update,
            "delete" => Self::Delete,
            "shutdown" => Self::Shutdown,
            "log" => Self::Log,
            other => Self::Other(other.into()),
        }
    }
}

/// Status of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Status {
    /// Its process runs.
    Running,
    /// It is stopped.
    #[default]
    Stopped,
    /// Its process reported an error or died.
    Error,
    /// A status that this version does not know.
    Other(Box<str>),
}

impl Status {
    /// The name on the wire and in the tables.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Error => "error",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for Status {
    fn from(name: &str) -> Self {
        match name {
            "running" => Self::Running,
            "stopped" => Self::Stopped,
            "error" => Self::Error,
            other => Self::Other(other.into()),
        }
    }
}

/// Bytes moved since the counters were last reset, seen from the instance's non-tunnel side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// TCP bytes received.
    pub tcp_rx: u64,
    /// TCP bytes sent.
    pub tcp_tx: u64,
    /// UDP bytes received.
    pub udp_rx: u64,
    /// UDP bytes sent.
    pub udp_tx: u64,
}

/// What changes from report to report. A `None` means that the master's version does not send the field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Status.
    pub status: Status,
    /// Traffic counters.
    pub counters: Counters,
    /// Round trip in milliseconds (v1.5.0 and later).
    pub ping: Option<i32>,
    /// Idle pooled connections (v1.5.0 and later).
    pub pool: Option<i32>,
    /// Open TCP connections (v1.6.0 and later).
    pub tcps: Option<i32>,
    /// Open UDP sessions (v1.6.0 and later).
    pub udps: Option<i32>,
}

/// The other end of a tunnel, as the operator entered it (v1.8.2 and later).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Service id that both ends share.
    pub sid: Redacted,
    /// Service type.
    pub kind: Redacted,
    /// Service alias.
    pub alias: Redacted,
}

/// What an operator sets and what therefore repeats in every event. Redacted: holds no user-info and no key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceConfig {
    /// Name given by the operator; may be empty, need not be unique.
    pub alias: Redacted,
    /// `server` or `client`.
    pub kind: Redacted,
    /// The command line as URL.
    pub url: Redacted,
    /// The URL with all defaults spelled out (v1.7.0 and later; empty on Rust masters).
    pub config: Redacted,
    /// Start together with the master (v1.4.2 and later).
    pub restart: Option<bool>,
    /// 0 until the first report; server 1 reverse, 2 forward; client 1 single-ended, 2 tunnelled (v1.6.0 and later).
    pub mode: Option<i32>,
    /// The other end.
    pub peer: Peer,
    /// Tags.
    pub tags: BTreeMap<Redacted, Redacted>,
    /// Fields of the instance that this version does not know, as one JSON object; empty where there are none.
    pub unknown: Redacted,
}

/// An event as it was received, decoded and redacted.
///
/// In memory and in the journal it is whole; in the database the configuration stands in `detail`, where it changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Given at receipt.
    pub id: EventId,
    /// Who sent it.
    pub endpoint: EndpointId,
    /// Time of receipt; samples are dated by it.
    pub received_at: Timestamp,
    /// The master's own time, if it could be read. Not comparable between masters.
    pub event_time: Option<Timestamp>,
    /// Kind.
    pub kind: EventKind,
    /// The instance concerned, empty where there is none.
    pub instance: InstanceId,
    /// State and counters, where the event carries an instance.
    pub sample: Option<Sample>,
    /// The configuration, only where it differs from what was known before this event.
    pub config: Option<Arc<InstanceConfig>>,
    /// JSON object of the configuration fields that changed with this event, for `endpoint_sse.detail`.
    pub detail: Option<Box<str>>,
    /// The printed line of a `log` event.
    pub logs: Option<Redacted>,
    /// False for events that only refresh live state: an `initial` that says nothing new, a `log` event where
    /// `storage.log_events` is off. They get no row, are not journaled and are counted by kind.
    pub stored: bool,
}

impl Event {
    /// The tunnel concerned; `None` for events about the master itself.
    #[must_use]
    pub fn tunnel(&self) -> Option<TunnelKey> {
        (!self.instance.as_str().is_empty()).then(|| TunnelKey { endpoint: self.endpoint, instance: self.instance.clone() })
    }
}

/// A time in which events of an endpoint may be missing. Never interpolated over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// From the same sequence as the events' ids.
    pub id: EventId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The instance, or empty if the whole endpoint is concerned.
    pub instance: InstanceId,
    /// Last time that something was heard before the gap.
    pub from: Timestamp,
    /// When the stream was whole again.
    pub to: Timestamp,
    /// Why, in one of the words of the documentation: `connection_lost`, `recorder_stopped`, `silent`, `refused`, ...
    pub reason: Box<str>,
}

impl Gap {
    /// Reason: the instance was there before the recorder was away, and is not any more.
    pub const VANISHED: &'static str = "vanished";
    /// Reason: the master's uptime shows that it was started anew at `from`, as far as a second or two. Nothing is missing because of
    /// this by itself: it says why counters fell when the stream came back.
    pub const MASTER_RESTARTED: &'static str = "master_restarted";
    /// Reason: events came and were not accepted.
    pub const REFUSED: &'static str = "refused";
}

/// What the journal keeps and a batch stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A row of `endpoint_sse`.
    Event(Event),
    /// A row of `gaps`.
    Gap(Gap),
}

impl Record {
    /// The record's id.
    #[must_use]
    pub fn id(&self) -> EventId {
        match self {
            Self::Event(event) => event.id,
            Self::Gap(gap) => gap.id,
        }
    }

    /// Bytes that it takes in memory, some tens more or less.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let texts = match self {
            Self::Event(event) => {
                event.detail.as_ref().map_or(0, |text| text.len())
                    + event.logs.as_ref().map_or(0, |text| text.as_str().len())
                    + event.config.as_ref().map_or(0, |config| config.memory_bytes())
            }
            Self::Gap(gap) => gap.reason.len(),
        };
        size_of::<Self>() + texts
    }

    /// Whose record it is.
    #[must_use]
    pub fn endpoint(&self) -> EndpointId {
        match self {
            Self::Event(event) => event.endpoint,
            Self::Gap(gap) => gap.endpoint,
        }
    }

    /// When it came into being here.
    #[must_use]
    pub fn received_at(&self) -> Timestamp {
        match self {
            Self::Event(event) => event.received_at,
            Self::Gap(gap) => gap.to,
        }
    }
}

impl InstanceConfig {
    fn memory_bytes(&self) -> usize {
        let Self {
            alias,
            kind,
            url,
            config,
            restart: _,
            mode: _,
            peer: Peer { sid, kind: peer_kind, alias: peer_alias },
            tags,
            unknown,
        } = self;
        let texts = [alias, kind, url, config, sid, peer_kind, peer_alias, unknown];
        let texts = texts.into_iter().chain(tags.iter().flat_map(|(name, value)| [name, value]));
        size_of::<Self>() + texts.map(|text| size_of::<Redacted>() + text.as_str().len()).sum::<usize>()
    }
}

/// Records of one endpoint that arrived together, in the order of arrival. Shared by the actors, never copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bunch {
    /// Who sent them.
    pub endpoint: EndpointId,
    /// The records; ids rise.
    pub records: Vec<Record>,
}

impl Bunch {
    /// As [`Record::memory_bytes`], of all records.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.records.iter().map(Record::memory_bytes).sum()
    }
}

/// A tunnel's live state: what the last events say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelState {
    /// The configuration last seen.
    pub config: Arc<InstanceConfig>,
    /// The sample last seen.
    pub sample: Sample,
    /// When it was seen.
    pub seen_at: Timestamp,
    /// The event that said so; an older event never overwrites it.
    pub last_event: EventId,
}
