//! What masters tell of themselves: keys, ids, certificates. It is in effect at once, and stored when the database takes it.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use log::{info, warn};

use super::EndpointsActor;
use crate::actors::cache::SetHealth;
use crate::actors::flush::ChangeEndpoint;
use crate::endpoint::{ApiKey, EndpointHealth, EndpointStatus, Fingerprint, TlsPolicy};
use crate::event::EndpointId;
use crate::store::{EndpointChange, StoreErrorKind};

/// What a master told of itself is tried to be stored again after this time.
const STORE_AGAIN_AFTER: Duration = Duration::from_secs(30);

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

impl EndpointsActor {
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

    /// Keeps a master's id. That of a capture is nobody's.
    pub(super) fn learn_id(&mut self, ctx: &mut Context<Self>, endpoint: EndpointId, master_id: String) {
        if !self.setup.keep_what_masters_tell {
            return;
        }
        let Some(followed) = self.followed.get_mut(&endpoint) else { return };
        followed.endpoint.master_id = Some(master_id.clone());
        followed.unstored.master_id = Some(master_id);
        self.store_learnt(ctx, endpoint);
    }

    pub(super) fn twin_of(&self, id: EndpointId, master_id: &str) -> Option<&str> {
        let twin = self
            .followed
            .values()
            .find(|other| other.endpoint.id != id && other.endpoint.master_id.as_deref() == Some(master_id));
        twin.map(|other| other.endpoint.name.as_str())
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
        self.learn_id(ctx, endpoint, master_id);
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
