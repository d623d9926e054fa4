//! EndpointsActor: which endpoints there are, and one SseIngestActor for each that is not paused.
//!
//! Fed by who changes endpoints (HTTP API, command line) and by the SseIngestActors, which tell what they learn about
//! their masters; feeds the FlushActor with definitions. It keeps the definitions and the SseIngestActors' addresses. It
//! ends by [`StopAll`], which drains the streams.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, ActorTryFutureExt, Addr, AsyncContext, AtomicResponse, Context, Handler, Message, Recipient,
    WrapFuture,
};
use log::{info, warn};
use tokio::sync::watch;

use super::buffer::FlushNow;
use super::cache::{CacheState, Forget, ReadTunnels, SetHealth};
use super::flush::{AddEndpoint, ChangeEndpoint, RemoveEndpoint};
use super::history_worker::{self, CutWindows};
use super::sse_ingest::{self, Backlog, Downstream, IngestSetup, IngestState, Retarget, SharedIds, SseIngestActor};
use crate::clock::SharedClock;
use crate::endpoint::{ApiKey, Endpoint, EndpointHealth, EndpointStatus, Fingerprint, TlsPolicy, valid_name};
use crate::event::{EndpointId, InstanceId};
use crate::store::{EndpointChange, FlushCause, NewEndpoint, StoreError, StoreErrorKind};
use crate::transport::{SharedTransport, Target};

/// What a master told of itself is tried to be stored again after this time.
const STORE_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// How long a new endpoint's master is asked for its id, to see whether it is followed already.
const IDENTIFY_WITHIN: Duration = Duration::from_secs(5);

/// The stream carried a new API key for the master.
///
/// Sent by the SseIngestActor, which uses the key from then on. The reply means that it will be stored.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct KeyRotated {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The key.
    pub api_key: ApiKey,
}

/// The master told its id. Sent by the SseIngestActor once per connection where it differs from what is known.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Identified {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// 16 hex digits.
    pub master_id: String,
}

/// The first certificate of an endpoint with `tls = pin` and no fingerprint was seen; it is kept.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct CertificateSeen {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
}

/// Follow a new master. The reply means that it is stored and being connected to.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<EndpointId, ChangeError>")]
pub struct Add(pub NewEndpoint);

/// Change an endpoint. The reply means that the change is stored and in effect.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), ChangeError>")]
pub struct Change {
    /// Which.
    pub name: String,
    /// What.
    pub change: EndpointChange,
}

/// Stop following a master. The reply means that what it sent is stored or journaled, and that it is removed.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), ChangeError>")]
pub struct Remove {
    /// Which.
    pub name: String,
    /// Delete its events and history too.
    pub purge: bool,
}

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

/// A change of endpoints was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such endpoint.
    #[error("there is no endpoint named `{0}`; see `tidegate endpoint list`")]
    NotFound(String),
    /// What is there forbids it.
    #[error("{0}")]
    Conflict(String),
    /// The database cannot take it now.
    #[error("not stored: {0}; try again when the database works")]
    Unavailable(String),
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::Refused => Self::Conflict(error.message),
            StoreErrorKind::Unavailable | StoreErrorKind::Fatal => Self::Unavailable(error.to_string()),
        }
    }
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
}

/// See the module.
pub struct EndpointsActor {
    setup: EndpointsSetup,
    followed: BTreeMap<EndpointId, Followed>,
    backlog: Rc<Backlog>,
}

impl EndpointsActor {
    /// An actor that follows the endpoints it is given, as soon as it is started.
    #[must_use]
    pub fn new(setup: EndpointsSetup) -> Self {
        Self { setup, followed: BTreeMap::new(), backlog: Rc::default() }
    }

    fn find(&self, name: &str) -> Result<EndpointId, ChangeError> {
        let found = self.followed.iter().find(|(_, followed)| followed.endpoint.name == name);
        found.map(|(id, _)| *id).ok_or_else(|| ChangeError::NotFound(name.to_owned()))
    }

    fn follow(&mut self, ctx: &mut Context<Self>, endpoint: Endpoint) {
        let id = endpoint.id;
        let paused = endpoint.paused;
        let (state, receiver) = watch::channel(IngestState::default());
        let name = endpoint.name.clone();
        self.setup.publish.send_modify(|all| {
            all.insert(id, (name, receiver));
        });
        self.followed.insert(id, Followed { endpoint, ingest: None, state, unstored: EndpointChange::default() });
        if paused {
            self.show_paused(id);
        } else {
            self.connect(ctx, id);
        }
    }

    /// Starts the SseIngestActor of an endpoint, with the tunnels that are known of it.
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
                    if followed.endpoint.paused || followed.ingest.is_some() {
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
        let IngestDownstream { cache, health, history, buffer } = self.setup.ingest.clone();
        let me = ctx.address();
        Downstream {
            cache,
            health,
            history,
            buffer,
            key_rotated: me.clone().recipient(),
            identified: me.clone().recipient(),
            certificate_seen: me.recipient(),
        }
    }

    fn show_paused(&self, id: EndpointId) {
        let health = EndpointHealth {
            status: EndpointStatus::Disconnect,
            reason: "paused; `tidegate endpoint resume NAME` connects it again".to_owned(),
            since: self.setup.clock.wall(),
            ..self.health(id)
        };
        // If the CacheActor is gone there is nobody left to show it to.
        self.setup.ingest.health.do_send(SetHealth { endpoint: id, health });
    }

    fn health(&self, id: EndpointId) -> EndpointHealth {
        self.setup.cache_state.borrow().endpoints.get(&id).map(|(health, _)| health.clone()).unwrap_or_default()
    }

    /// Has the FlushActor store what a master told of itself; what cannot be stored now is tried again.
    fn store_learnt(&mut self, ctx: &mut Context<Self>, id: EndpointId) {
        let Some(followed) = self.followed.get(&id) else { return };
        let change = followed.unstored.clone();
        if change == EndpointChange::default() {
            return;
        }
        let sent = self.setup.change.send(ChangeEndpoint { id, change: change.clone() });
        ctx.spawn(sent.into_actor(self).map(move |answer, actor, ctx| {
            let Some(followed) = actor.followed.get_mut(&id) else { return };
            match answer {
                Ok(Ok(())) if followed.unstored == change => followed.unstored = EndpointChange::default(),
                Ok(Ok(())) => actor.store_learnt(ctx, id),
                Ok(Err(error)) if error.kind == StoreErrorKind::Refused => {
                    warn!("endpoint {}: {error}", followed.endpoint.name);
                    followed.unstored = EndpointChange::default();
                }
                Ok(Err(_)) => {
                    ctx.run_later(STORE_AGAIN_AFTER, move |actor, ctx| actor.store_learnt(ctx, id));
                }
                // The FlushActor has stopped: the recorder is stopping.
                Err(_) => {}
            }
        }));
    }

    fn twin_of(&self, id: EndpointId, master_id: &str) -> Option<&str> {
        let twin = self
            .followed
            .values()
            .find(|other| other.endpoint.id != id && other.endpoint.master_id.as_deref() == Some(master_id));
        twin.map(|other| other.endpoint.name.as_str())
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

impl Handler<KeyRotated> for EndpointsActor {
    type Result = ();

    fn handle(&mut self, KeyRotated { endpoint, api_key }: KeyRotated, ctx: &mut Self::Context) {
        if !self.setup.keep_what_masters_tell {
            return;
        }
        let Some(followed) = self.followed.get_mut(&endpoint) else { return };
        info!("endpoint {}: the master has a new API key; it is used from now on", followed.endpoint.name);
        followed.endpoint.api_key = api_key.clone();
        followed.unstored.api_key = Some(api_key);
        self.store_learnt(ctx, endpoint);
    }
}

impl Handler<Identified> for EndpointsActor {
    type Result = ();

    fn handle(&mut self, Identified { endpoint, master_id }: Identified, ctx: &mut Self::Context) {
        if !self.setup.keep_what_masters_tell {
            return;
        }
        if let Some(twin) = self.twin_of(endpoint, &master_id) {
            let reason = format!(
                "this is the same master as endpoint `{twin}`; remove one of the two, else every event would be stored twice"
            );
            let health =
                EndpointHealth { status: EndpointStatus::Fail, reason, since: self.setup.clock.wall(), ..self.health(endpoint) };
            if let Some(followed) = self.followed.get(&endpoint) {
                warn!("endpoint {}: {}", followed.endpoint.name, health.reason);
            }
            let cache = self.setup.ingest.health.clone();
            let stopped = self.stop(endpoint);
            ctx.spawn(actix::fut::wrap_future(async move {
                stopped.await;
                // If the CacheActor is gone there is nobody left to show it to.
                let _ = cache.send(SetHealth { endpoint, health }).await;
            }));
            return;
        }
        let Some(followed) = self.followed.get_mut(&endpoint) else { return };
        followed.endpoint.master_id = Some(master_id.clone());
        followed.unstored.master_id = Some(master_id);
        self.store_learnt(ctx, endpoint);
    }
}

impl Handler<CertificateSeen> for EndpointsActor {
    type Result = ();

    fn handle(&mut self, CertificateSeen { endpoint, fingerprint }: CertificateSeen, ctx: &mut Self::Context) {
        let Some(followed) = self.followed.get_mut(&endpoint) else { return };
        info!("endpoint {}: its certificate is pinned now: {fingerprint}", followed.endpoint.name);
        followed.endpoint.tls = TlsPolicy::Pin(Some(fingerprint));
        followed.unstored.tls = Some(followed.endpoint.tls.clone());
        self.store_learnt(ctx, endpoint);
    }
}

impl Handler<Add> for EndpointsActor {
    type Result = AtomicResponse<Self, Result<EndpointId, ChangeError>>;

    fn handle(&mut self, Add(new): Add, _: &mut Self::Context) -> Self::Result {
        let taken = self.find(&new.name).is_ok();
        let transport = self.setup.transport.clone();
        let add = self.setup.add.clone();
        let target = Target { url: new.url.clone(), api_key: new.api_key.clone(), tls: new.tls.clone() };
        let checked = async move {
            if taken {
                return Err(ChangeError::Conflict(format!("an endpoint named `{}` exists already", new.name)));
            }
            valid_name(&new.name).map_err(|error| ChangeError::Conflict(error.to_string()))?;
            // A master that cannot be reached now is told apart when it can.
            let answer = tokio::time::timeout(IDENTIFY_WITHIN, transport.get(&target, "/instances")).await;
            Ok((new, answer.ok().and_then(Result::ok).and_then(|body| crate::wire::master_id(&body))))
        };
        AtomicResponse::new(Box::pin(checked.into_actor(self).then(move |checked, actor: &mut Self, _| {
            let refused = checked.and_then(|(new, master_id)| {
                match master_id.as_deref().and_then(|master_id| actor.twin_of(EndpointId::default(), master_id)) {
                    Some(twin) => Err(ChangeError::Conflict(format!("this master is followed already, as endpoint `{twin}`"))),
                    None => Ok(new),
                }
            });
            async move {
                let new = refused?;
                let id = add.send(AddEndpoint(new.clone())).await.map_err(|_| stopping())??;
                Ok((id, new))
            }
            .into_actor(actor)
            .map(|added: Result<_, ChangeError>, actor, ctx| {
                let (id, NewEndpoint { name, url, api_key, tls, log_events }) = added?;
                info!("endpoint {name}: added");
                actor.follow(ctx, Endpoint { id, name, url, api_key, tls, paused: false, log_events, master_id: None });
                Ok(id)
            })
        })))
    }
}

fn stopping() -> ChangeError {
    ChangeError::Unavailable("the recorder is stopping".to_owned())
}

impl Handler<Change> for EndpointsActor {
    type Result = AtomicResponse<Self, Result<(), ChangeError>>;

    fn handle(&mut self, Change { name, change }: Change, _: &mut Self::Context) -> Self::Result {
        let id = self.find(&name);
        let store = self.setup.change.clone();
        let stored = async move {
            let id = id?;
            store.send(ChangeEndpoint { id, change: change.clone() }).await.map_err(|_| stopping())??;
            Ok((id, change))
        };
        AtomicResponse::new(Box::pin(stored.into_actor(self).then(|stored: Result<_, ChangeError>, actor: &mut Self, ctx| {
            let drained = match &stored {
                Ok((id, change)) => actor.change(ctx, *id, change.clone()),
                Err(_) => None,
            };
            async move {
                let (_, _) = stored?;
                if let Some(drained) = drained {
                    drained.await;
                }
                Ok(())
            }
            .into_actor(actor)
        })))
    }
}

impl EndpointsActor {
    /// Puts a stored change into effect. The future resolves when a stream that had to stop is drained.
    fn change(
        &mut self,
        ctx: &mut Context<Self>,
        id: EndpointId,
        change: EndpointChange,
    ) -> Option<futures_util::future::LocalBoxFuture<'static, ()>> {
        let followed = self.followed.get_mut(&id)?;
        let endpoint = &mut followed.endpoint;
        let EndpointChange { url, api_key, tls, paused, log_events, master_id } = change;
        let retarget = url.is_some() || api_key.is_some() || tls.is_some() || log_events.is_some();
        if url.as_ref().is_some_and(|url| *url != endpoint.url) {
            // Another address may be another master.
            endpoint.master_id = None;
        }
        endpoint.url = url.unwrap_or_else(|| endpoint.url.clone());
        endpoint.api_key = api_key.unwrap_or_else(|| endpoint.api_key.clone());
        endpoint.tls = tls.unwrap_or_else(|| endpoint.tls.clone());
        endpoint.log_events = log_events.unwrap_or(endpoint.log_events);
        endpoint.master_id = master_id.or_else(|| endpoint.master_id.clone());
        endpoint.paused = paused.unwrap_or(endpoint.paused);
        if endpoint.paused {
            info!("endpoint {}: paused", endpoint.name);
            let stopped = self.stop(id);
            self.show_paused(id);
            return Some(Box::pin(stopped));
        }
        match &followed.ingest {
            Some(ingest) if retarget => {
                let sent = ingest.send(Retarget(endpoint.clone()));
                Some(Box::pin(async {
                    // If it is gone the recorder is stopping.
                    let _ = sent.await;
                }))
            }
            Some(_) => None,
            None => {
                self.connect(ctx, id);
                None
            }
        }
    }
}

impl Handler<Remove> for EndpointsActor {
    type Result = AtomicResponse<Self, Result<(), ChangeError>>;

    fn handle(&mut self, Remove { name, purge }: Remove, _: &mut Self::Context) -> Self::Result {
        let id = match self.find(&name) {
            Ok(id) => id,
            Err(error) => return AtomicResponse::new(Box::pin(actix::fut::ready(Err(error)))),
        };
        let stopped = self.stop(id);
        let EndpointsSetup { remove, forget, forget_history, cut_windows, flush_now, .. } = &self.setup;
        let (remove, forget, forget_history) = (remove.clone(), forget.clone(), forget_history.clone());
        let (cut_windows, flush_now) = (cut_windows.clone(), flush_now.clone());
        let removed = async move {
            stopped.await;
            if purge {
                // What is on its way must be in the tables to be deleted with the rest.
                forget_history.send(history_worker::Forget(id)).await.map_err(|_| stopping())?;
                cut_windows.send(CutWindows { cause: FlushCause::Manual, open: false }).await.map_err(|_| stopping())?;
                let flushed = flush_now.send(FlushNow).await.map_err(|_| stopping())?;
                if let Some(error) = flushed.error {
                    return Err(ChangeError::Unavailable(error));
                }
            }
            remove.send(RemoveEndpoint { id, purge }).await.map_err(|_| stopping())??;
            forget.send(Forget(id)).await.map_err(|_| stopping())?;
            forget_history.send(history_worker::Forget(id)).await.map_err(|_| stopping())?;
            Ok(())
        };
        AtomicResponse::new(Box::pin(removed.into_actor(self).map(move |removed, actor, ctx| {
            match &removed {
                Ok(()) => {
                    actor.followed.remove(&id);
                    actor.setup.publish.send_modify(|all| {
                        all.remove(&id);
                    });
                    // It may have been the twin for which another one was stopped.
                    let idle = actor.followed.iter().filter(|(_, other)| other.ingest.is_none() && !other.endpoint.paused);
                    for other in idle.map(|(id, _)| *id).collect::<Vec<_>>() {
                        actor.connect(ctx, other);
                    }
                    info!("endpoint {name}: removed{}", if purge { ", with its events and history" } else { "" });
                }
                // It is still stored: go on following it.
                Err(_) => actor.connect(ctx, id),
            }
            removed
        })))
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
