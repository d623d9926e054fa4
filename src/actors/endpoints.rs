//! EndpointsActor: which endpoints there are, and one SseIngestActor for each that is not paused.
//!
//! Fed by who changes endpoints (HTTP API, command line) and by the SseIngestActors, which tell what they learn about
//! their masters; feeds the FlushActor with definitions. It keeps the definitions and the SseIngestActors' addresses. It
//! ends by [`StopAll`], which drains the streams.

mod changes;
mod learnt;

use std::collections::BTreeMap;
use std::rc::Rc;

use actix::{Actor, ActorFutureExt, ActorTryFutureExt, Addr, AsyncContext, Context, Handler, Message, Recipient, WrapFuture};
use tokio::sync::watch;

pub use self::changes::{Add, Change, ChangeError, Remove};
pub use self::learnt::{CertificateSeen, Identified, KeyRotated};
use super::buffer::FlushNow;
use super::cache::{CacheState, Forget, ReadTunnels, SetHealth};
use super::flush::{AddEndpoint, ChangeEndpoint, RemoveEndpoint};
use super::history_worker::{self, CutWindows};
use super::sse_ingest::{self, Backlog, Downstream, IngestSetup, IngestState, SharedIds, SseIngestActor};
use crate::clock::{SharedClock, Timestamp};
use crate::endpoint::{Endpoint, EndpointHealth, EndpointStatus};
use crate::event::{EndpointId, InstanceId};
use crate::store::EndpointChange;
use crate::transport::SharedTransport;

/// All endpoints, by name.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Vec<EndpointView>")]
pub struct List;

/// Drain all streams. Sent by the pipeline at shutdown. The reply means that nothing more comes in.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct StopAll;

/// An endpoint as it is shown. `endpoint.api_key` must not leave the process.
#[derive(Clone, Debug)]
pub struct EndpointView {
    /// Definition.
    pub endpoint: Endpoint,
    /// Health.
    pub health: EndpointHealth,
    /// Counters of this run.
    pub state: IngestState,
    /// Number of its tunnels.
    pub tunnels: usize,
}

/// What an EndpointsActor is given.
pub struct EndpointsSetup {
    /// All endpoints that are stored.
    pub endpoints: Vec<Endpoint>,
    /// `storage.log_events`, for endpoints that do not say otherwise.
    pub log_events: bool,
    /// Whether keys and ids that masters tell are kept; not those of a capture.
    pub keep_what_masters_tell: bool,
    /// Shared id generator.
    pub ids: SharedIds,
    /// Clock.
    pub clock: SharedClock,
    /// How masters are connected to.
    pub transport: SharedTransport,
    /// Root of the SseIngestActors' jitter.
    pub rng: fastrand::Rng,
    /// What all SseIngestActors are given, with this actor's own recipients filled in by it.
    pub ingest: IngestDownstream,
    /// FlushActor.
    pub add: Recipient<AddEndpoint>,
    /// FlushActor.
    pub change: Recipient<ChangeEndpoint>,
    /// FlushActor.
    pub remove: Recipient<RemoveEndpoint>,
    /// CacheActor.
    pub forget: Recipient<Forget>,
    /// CacheActor.
    pub read_tunnels: Recipient<ReadTunnels>,
    /// HistoryWorkerActor.
    pub forget_history: Recipient<history_worker::Forget>,
    /// HistoryWorkerActor.
    pub cut_windows: Recipient<CutWindows>,
    /// BufferActor.
    pub flush_now: Recipient<FlushNow>,
    /// CacheActor's state: health and numbers of tunnels.
    pub cache_state: watch::Receiver<CacheState>,
    /// Counters of all SseIngestActors.
    pub publish: watch::Sender<EndpointsState>,
}

/// The recipients of an SseIngestActor that are not this actor.
#[derive(Clone)]
pub struct IngestDownstream {
    /// CacheActor.
    pub cache: Recipient<super::cache::Apply>,
    /// CacheActor.
    pub health: Recipient<SetHealth>,
    /// HistoryWorkerActor.
    pub history: Recipient<super::history_worker::Observe>,
    /// HistoryWorkerActor.
    pub version: Recipient<super::history_worker::LearnVersion>,
    /// BufferActor.
    pub buffer: Recipient<super::buffer::Append>,
}

/// Names and counters of all endpoints.
pub type EndpointsState = BTreeMap<EndpointId, (String, watch::Receiver<IngestState>)>;

struct Followed {
    endpoint: Endpoint,
    /// `None` while paused.
    ingest: Option<Addr<SseIngestActor>>,
    state: watch::Sender<IngestState>,
    /// What its master told that is not stored yet.
    unstored: EndpointChange,
    /// It is on its way out and nothing is changed about it any more.
    removing: bool,
}

/// See the module.
pub struct EndpointsActor {
    setup: EndpointsSetup,
    followed: BTreeMap<EndpointId, Followed>,
    backlog: Rc<Backlog>,
    /// Nothing is followed any more.
    stopping: bool,
}

impl EndpointsActor {
    /// An actor that follows the endpoints it is given, as soon as it is started.
    #[must_use]
    pub fn new(setup: EndpointsSetup) -> Self {
        let now = setup.clock.monotonic();
        let backlog = Rc::new(if setup.keep_what_masters_tell { Backlog::new(now) } else { Backlog::of_captures(now) });
        Self { setup, followed: BTreeMap::new(), backlog, stopping: false }
    }

    fn follow(&mut self, ctx: &mut Context<Self>, endpoint: Endpoint) {
        let id = endpoint.id;
        let paused = endpoint.paused;
        let (state, receiver) = watch::channel(IngestState::default());
        let name = endpoint.name.clone();
        self.setup.publish.send_modify(|all| {
            all.insert(id, (name, receiver));
        });
        self.followed
            .insert(id, Followed { endpoint, ingest: None, state, unstored: EndpointChange::default(), removing: false });
        if paused {
            self.show_paused(id);
            return;
        }
        if self.health(id).since == Timestamp::default() {
            self.show(id, EndpointStatus::Offline, "not tried yet".to_owned());
        }
        self.connect(ctx, id);
    }

    /// Starts the SseIngestActor of an endpoint with the tunnels that are known of it, if it should have one and has none.
    fn connect(&mut self, ctx: &mut Context<Self>, id: EndpointId) {
        let known = self.setup.read_tunnels.send(ReadTunnels(Some(id)));
        ctx.spawn(
            known
                .into_actor(self)
                .map_ok(move |tunnels, actor, ctx| {
                    let known =
                        tunnels.into_iter().map(|(key, state)| (key.instance, state)).collect::<BTreeMap<InstanceId, _>>();
                    let downstream = actor.downstream(ctx);
                    let Some(followed) = actor.followed.get_mut(&id) else { return };
                    if followed.endpoint.paused || followed.removing || followed.ingest.is_some() || actor.stopping {
                        return;
                    }
                    let setup = &mut actor.setup;
                    let last_heard = setup.cache_state.borrow().endpoints.get(&id).and_then(|(health, _)| health.last_heard);
                    followed.ingest = Some(
                        SseIngestActor::new(IngestSetup {
                            log_events: setup.log_events,
                            endpoint: followed.endpoint.clone(),
                            known,
                            last_heard,
                            ids: setup.ids.clone(),
                            clock: setup.clock.clone(),
                            transport: setup.transport.clone(),
                            rng: setup.rng.fork(),
                            downstream,
                            backlog: actor.backlog.clone(),
                            state: followed.state.clone(),
                        })
                        .start(),
                    );
                })
                .map(|_, _, _| ()),
        );
    }

    fn downstream(&self, ctx: &Context<Self>) -> Downstream {
        let IngestDownstream { cache, health, history, version, buffer } = self.setup.ingest.clone();
        let me = ctx.address();
        Downstream {
            cache,
            health,
            history,
            version,
            buffer,
            key_rotated: me.clone().recipient(),
            identified: me.clone().recipient(),
            certificate_seen: me.recipient(),
        }
    }

    fn show_paused(&self, id: EndpointId) {
        let name = self.followed.get(&id).map_or("NAME", |followed| followed.endpoint.name.as_str());
        self.show(id, EndpointStatus::Disconnect, format!("paused; `tidegate endpoint resume {name}` connects it again"));
    }

    /// From now on it is so.
    fn show(&self, id: EndpointId, status: EndpointStatus, reason: String) {
        let health = EndpointHealth { status, reason, since: self.setup.clock.wall(), ..self.health(id) };
        // If the CacheActor is gone there is nobody left to show it to.
        self.setup.ingest.health.do_send(SetHealth { endpoint: id, health });
    }

    fn health(&self, id: EndpointId) -> EndpointHealth {
        self.setup.cache_state.borrow().endpoints.get(&id).map(|(health, _)| health.clone()).unwrap_or_default()
    }

    /// Stops the stream of an endpoint; resolves when all that it read is handed on.
    fn stop(&mut self, id: EndpointId) -> impl Future<Output = ()> + use<> {
        let ingest = self.followed.get_mut(&id).and_then(|followed| followed.ingest.take());
        async move {
            if let Some(ingest) = ingest {
                // If it is gone already there is nothing left to hand on.
                let _ = ingest.send(sse_ingest::Drain).await;
            }
        }
    }
}

impl Actor for EndpointsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for endpoint in std::mem::take(&mut self.setup.endpoints) {
            self.follow(ctx, endpoint);
        }
    }
}

impl Handler<List> for EndpointsActor {
    type Result = Vec<EndpointView>;

    fn handle(&mut self, _: List, _: &mut Self::Context) -> Self::Result {
        let cache = self.setup.cache_state.borrow();
        let mut all: Vec<EndpointView> = self
            .followed
            .values()
            .map(|followed| {
                let (health, tunnels) = cache.endpoints.get(&followed.endpoint.id).cloned().unwrap_or_default();
                EndpointView { endpoint: followed.endpoint.clone(), health, state: followed.state.borrow().clone(), tunnels }
            })
            .collect();
        all.sort_by(|a, b| a.endpoint.name.cmp(&b.endpoint.name));
        all
    }
}

impl Handler<StopAll> for EndpointsActor {
    type Result = actix::ResponseFuture<()>;

    fn handle(&mut self, _: StopAll, _: &mut Self::Context) -> Self::Result {
        self.stopping = true;
        let ids: Vec<EndpointId> = self.followed.keys().copied().collect();
        let stopping: Vec<_> = ids.iter().map(|id| self.stop(*id)).collect();
        let online = ids.into_iter().map(|endpoint| (endpoint, self.health(endpoint)));
        let online: Vec<_> = online.filter(|(_, health)| health.status == EndpointStatus::Online).collect();
        let (cache, since) = (self.setup.ingest.health.clone(), self.setup.clock.wall());
        Box::pin(async move {
            futures_util::future::join_all(stopping).await;
            for (endpoint, health) in online {
                let reason = "the recorder is stopped".to_owned();
                let health = EndpointHealth { status: EndpointStatus::Offline, reason, since, ..health };
                // If the CacheActor is gone there is nobody left to show it to.
                let _ = cache.send(SetHealth { endpoint, health }).await;
            }
        })
    }
}
