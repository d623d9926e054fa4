//! CacheActor: the live state of every endpoint and tunnel.
//!
//! Fed by the SseIngestActors, which send every event here first; feeds the FlushActor with what changed, every
//! `cache.sync_interval`, in one transaction. All reads of live state come from here. It keeps the state in memory and
//! what of it the database does not know yet; a sync that fails is made up for by the next one, with the values of
//! then. It ends by [`SyncNow`]; after a kill the state comes back from the database and the journal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, Recipient, ResponseActFuture, SpawnHandle,
    WrapFuture,
};
use tokio::sync::watch;

use super::flush::SyncLive;
use super::realtime::Tune;
use crate::clock::{SharedClock, Timestamp};
use crate::endpoint::EndpointHealth;
use crate::event::{Bunch, EndpointId, Status, TunnelKey, TunnelState};
use crate::id::EventId;
use crate::live::{Delta, LiveState};
use crate::store::StoreError;

/// Events to apply to live state, stored ones and others, in the order of their ids.
///
/// Sent by the SseIngestActor for every bunch. The reply means that reads see them. There is no failure.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Apply(pub Arc<Bunch>);

/// An endpoint's health changed. Sent by the SseIngestActor; the reply means that reads see it.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct SetHealth {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its health from now on.
    pub health: EndpointHealth,
}

/// Forget a removed endpoint. Sent by the EndpointsActor after its SseIngestActor has stopped.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Forget(pub EndpointId);

/// The live tunnels, of one endpoint or of all. Sent by who shows them.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Vec<(TunnelKey, TunnelState)>")]
pub struct ReadTunnels(pub Option<EndpointId>);

/// What changed in live state after a version. Sent for all readers of the HTTP server together, so that its cost does not
/// grow with their number.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Delta")]
pub struct ReadSince(pub u64);

/// The tunnels whose status is `error`, with their aliases. Sent by the AlertsActor every few seconds.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Vec<(TunnelKey, String)>")]
pub struct ReadInError;

/// Write what the database does not know, now. Sent by the pipeline at shutdown, when nothing more comes in. The reply says
/// whether it was written; what was not comes back from the journal.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SyncNow;

/// What the CacheActor shows to all.
#[derive(Clone, Debug, Default)]
pub struct CacheState {
    /// Live state of every event up to here is in the database.
    pub synced_through: EventId,
    /// When it was last found equal or made equal.
    pub synced_at: Option<Timestamp>,
    /// Each endpoint's health and number of tunnels.
    pub endpoints: BTreeMap<EndpointId, (EndpointHealth, usize)>,
}

/// See the module.
pub struct CacheActor {
    live: LiveState,
    sync_interval: Duration,
    sync_timer: Option<SpawnHandle>,
    clock: SharedClock,
    flush: Recipient<SyncLive>,
    syncing: bool,
    failures: u64,
    publish: watch::Sender<CacheState>,
}

impl CacheActor {
    /// An actor that goes on from `live`.
    #[must_use]
    pub fn new(
        live: LiveState,
        sync_interval: Duration,
        clock: SharedClock,
        flush: Recipient<SyncLive>,
        publish: watch::Sender<CacheState>,
    ) -> Self {
        Self { live, sync_interval, sync_timer: None, clock, flush, syncing: false, failures: 0, publish }
    }

    /// Hands over what changed. A sync under way is not overtaken: it is followed by the next.
    fn sync(&mut self) -> ResponseActFuture<Self, Result<(), StoreError>> {
        let changes = self.live.take_changes();
        if changes.is_empty() {
            self.synced(changes.through);
            return Box::pin(actix::fut::ready(Ok(())));
        }
        self.syncing = true;
        let (through, failures) = (changes.through, self.failures);
        let sent = self.flush.send(SyncLive(changes.clone()));
        Box::pin(sent.into_actor(self).map(move |answer, actor, _| {
            actor.syncing = false;
            match answer {
                Ok(Ok(())) => {
                    // After a failure in between, what that sync was to store is missing.
                    if actor.failures == failures {
                        actor.synced(through);
                    }
                    Ok(())
                }
                Ok(Err(error)) => {
                    actor.failures += 1;
                    actor.live.put_back(changes);
                    Err(error)
                }
                // The FlushActor has stopped, and so will this one.
                Err(_) => Ok(()),
            }
        }))
    }

    fn arm_sync(&mut self, ctx: &mut Context<Self>) {
        let armed = ctx.run_interval(self.sync_interval, |actor, ctx| {
            if !actor.syncing {
                // A failure is the FlushActor's to report; the changes are kept for the next sync.
                let sync = actor.sync().map(|_, _, _| ());
                ctx.spawn(sync);
            }
        });
        if let Some(before) = self.sync_timer.replace(armed) {
            ctx.cancel_future(before);
        }
    }

    fn synced(&mut self, through: EventId) {
        let now = self.clock.wall();
        self.publish.send_modify(|state| {
            state.synced_through = state.synced_through.max(through);
            state.synced_at = Some(now);
        });
    }

    /// Shows when an endpoint was last heard. It comes with every bunch: nobody is woken for it, and nothing is copied.
    fn publish_last_heard(&self, endpoint: EndpointId) {
        let Some((EndpointHealth { last_heard, .. }, _)) = self.live.endpoint(endpoint) else { return };
        self.publish.send_if_modified(|state| {
            if let Some((health, _)) = state.endpoints.get_mut(&endpoint) {
                health.last_heard = *last_heard;
            }
            false
        });
    }

    /// Shows an endpoint's health and number of tunnels as they are now.
    fn publish_endpoint(&self, endpoint: EndpointId) {
        let shown = self.live.endpoint(endpoint).map(|(health, tunnels)| (health.clone(), tunnels));
        self.publish.send_modify(|state| match shown {
            Some(shown) => {
                state.endpoints.insert(endpoint, shown);
            }
            None => {
                state.endpoints.remove(&endpoint);
            }
        });
    }
}

impl Actor for CacheActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(super::MAILBOX_MESSAGES);
        let all: Vec<EndpointId> = self.live.endpoints().collect();
        for endpoint in all {
            self.publish_endpoint(endpoint);
        }
        self.arm_sync(ctx);
    }
}

impl Handler<Apply> for CacheActor {
    type Result = ();

    fn handle(&mut self, Apply(bunch): Apply, _: &mut Self::Context) {
        let before = self.live.endpoint(bunch.endpoint).map(|(_, tunnels)| tunnels);
        for record in &bunch.records {
            self.live.apply(record);
        }
        if self.live.endpoint(bunch.endpoint).map(|(_, tunnels)| tunnels) != before {
            self.publish_endpoint(bunch.endpoint);
        } else {
            self.publish_last_heard(bunch.endpoint);
        }
    }
}

impl Handler<SetHealth> for CacheActor {
    type Result = ();

    fn handle(&mut self, SetHealth { endpoint, health }: SetHealth, _: &mut Self::Context) {
        self.live.set_health(endpoint, health);
        self.publish_endpoint(endpoint);
    }
}

impl Handler<Tune> for CacheActor {
    type Result = ();

    fn handle(&mut self, Tune(tuning): Tune, ctx: &mut Self::Context) {
        if self.sync_interval != tuning.sync_interval {
            self.sync_interval = tuning.sync_interval;
            self.arm_sync(ctx);
        }
    }
}

impl Handler<Forget> for CacheActor {
    type Result = ();

    fn handle(&mut self, Forget(endpoint): Forget, _: &mut Self::Context) {
        self.live.forget(endpoint);
        self.publish_endpoint(endpoint);
    }
}

impl Handler<ReadTunnels> for CacheActor {
    type Result = Vec<(TunnelKey, TunnelState)>;

    fn handle(&mut self, ReadTunnels(endpoint): ReadTunnels, _: &mut Self::Context) -> Self::Result {
        self.live
            .tunnels()
            .filter(|(key, _)| endpoint.is_none_or(|endpoint| key.endpoint == endpoint))
            .map(|(key, state)| (key, state.clone()))
            .collect()
    }
}

impl Handler<ReadSince> for CacheActor {
    type Result = MessageResult<ReadSince>;

    fn handle(&mut self, ReadSince(version): ReadSince, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.live.since(version))
    }
}

impl Handler<ReadInError> for CacheActor {
    type Result = Vec<(TunnelKey, String)>;

    fn handle(&mut self, _: ReadInError, _: &mut Self::Context) -> Self::Result {
        let in_error = self.live.tunnels().filter(|(_, state)| state.sample.status == Status::Error);
        in_error.map(|(key, state)| (key, state.config.alias.to_string())).collect()
    }
}

impl Handler<SyncNow> for CacheActor {
    type Result = ResponseActFuture<Self, Result<(), StoreError>>;

    fn handle(&mut self, _: SyncNow, _: &mut Self::Context) -> Self::Result {
        self.live.mark_last_heard();
        self.sync()
    }
}
