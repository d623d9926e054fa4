//! SseIngestActor: one per master.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use actix::{Message, Recipient};
use serde::Serialize;
use tokio::sync::watch;

use super::buffer::Append;
use super::cache::{Apply, SetHealth};
use super::endpoints::{CertificateSeen, Identified, KeyRotated};
use super::history_worker::Observe;
use crate::clock::{SharedClock, Timestamp};
use crate::endpoint::Endpoint;
use crate::event::{InstanceId, TunnelState};
use crate::id::IdGenerator;
use crate::transport::SharedTransport;

/// Ids come from one generator for all endpoints; actors share one thread.
pub type SharedIds = Rc<RefCell<IdGenerator>>;

/// Everything that an SseIngestActor is given.
pub struct IngestSetup {
    /// Whom to follow.
    pub endpoint: Endpoint,
    /// Tunnels of this endpoint as they are known from the database and the journal.
    pub known: BTreeMap<InstanceId, TunnelState>,
    /// When the endpoint was last heard, for the gap since then; `None` for a new one.
    pub last_heard: Option<Timestamp>,
    /// Whether `log` events are stored.
    pub log_events: bool,
    /// Shared id generator.
    pub ids: SharedIds,
    /// Clock.
    pub clock: SharedClock,
    /// How to connect.
    pub transport: SharedTransport,
    /// For jitter.
    pub rng: fastrand::Rng,
    /// Where events and findings go.
    pub downstream: Downstream,
    /// Where counters are published.
    pub state: watch::Sender<IngestState>,
}

/// Whom an SseIngestActor tells what.
#[derive(Clone)]
pub struct Downstream {
    /// CacheActor: every bunch.
    pub cache: Recipient<Apply>,
    /// CacheActor: health.
    pub health: Recipient<SetHealth>,
    /// HistoryWorkerActor: every bunch.
    pub history: Recipient<Observe>,
    /// BufferActor: the stored records of every bunch.
    pub buffer: Recipient<Append>,
    /// EndpointsActor.
    pub key_rotated: Recipient<KeyRotated>,
    /// EndpointsActor.
    pub identified: Recipient<Identified>,
    /// EndpointsActor.
    pub certificate_seen: Recipient<CertificateSeen>,
}

/// Counters of one endpoint since the recorder started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IngestState {
    /// Stored events that the journal has.
    pub events_received: u64,
    /// Events by kind, also those that are not stored.
    pub events: BTreeMap<String, u64>,
    /// What was not kept, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Reports that a tunnel's interval let expect and that did not come.
    pub reports_missed: u64,
    /// Connections after the first.
    pub reconnects: u64,
}

/// The endpoint's address, key or TLS changed: connect anew with these. Sent by the EndpointsActor.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Retarget(pub Endpoint);

/// Stop reading and connecting. Sent by the EndpointsActor. The reply means: all that was read is handed on and
/// acknowledged or refused; the actor has stopped.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Drain;
/// STUB
pub struct SseIngestActor;
impl SseIngestActor {
    /// STUB
    pub fn new(_: IngestSetup) -> Self {
        todo!()
    }
}
impl actix::Actor for SseIngestActor {
    type Context = actix::Context<Self>;
}
impl actix::Handler<Drain> for SseIngestActor {
    type Result = ();
    fn handle(&mut self, _: Drain, _: &mut Self::Context) {}
}
impl actix::Handler<Retarget> for SseIngestActor {
    type Result = ();
    fn handle(&mut self, _: Retarget, _: &mut Self::Context) {}
}
