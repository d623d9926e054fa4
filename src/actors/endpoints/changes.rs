//! Endpoints are made, changed and removed on request: first in the database, then in effect.

use std::time::Duration;

use actix::{
    ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler, Message, ResponseActFuture, ResponseFuture, WrapFuture,
};
use futures_util::future::LocalBoxFuture;
use log::info;

use super::{EndpointsActor, EndpointsSetup};
use crate::actors::buffer::FlushNow;
use crate::actors::cache::Forget;
use crate::actors::flush::{AddEndpoint, ChangeEndpoint, RemoveEndpoint};
use crate::actors::history_worker::{self, CutWindows};
use crate::actors::sse_ingest::Retarget;
use crate::endpoint::{Endpoint, valid_name};
use crate::event::EndpointId;
use crate::store::{EndpointChange, FlushCause, NewEndpoint, StoreError, StoreErrorKind};
use crate::transport::Target;

/// How long a new endpoint's master is asked for its id, to see whether it is followed already.
const IDENTIFY_WITHIN: Duration = Duration::from_secs(5);

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

fn stopping() -> ChangeError {
    ChangeError::Unavailable("the recorder is stopping".to_owned())
}

impl EndpointsActor {
    fn find_to_change(&self, name: &str) -> Result<EndpointId, ChangeError> {
        match self.followed.values().find(|followed| followed.endpoint.name == name) {
            None => Err(ChangeError::NotFound(name.to_owned())),
            Some(followed) if followed.removing => Err(ChangeError::Conflict(format!("endpoint `{name}` is being removed"))),
            Some(followed) => Ok(followed.endpoint.id),
        }
    }

    fn may_be_new(&self, NewEndpoint { name, url, .. }: &NewEndpoint) -> Result<(), ChangeError> {
        if self.stopping {
            return Err(stopping());
        }
        let mut others = self.followed.values().map(|followed| &followed.endpoint);
        if others.clone().any(|other| other.name == *name) {
            return Err(ChangeError::Conflict(format!(
                "an endpoint named `{name}` exists already; change it with `tidegate endpoint set`, or choose another name"
            )));
        }
        // A master that tells no id, or cannot be asked now, has its address. Captures share one.
        if self.setup.keep_what_masters_tell
            && let Some(twin) = others.find(|other| other.url == *url)
        {
            return Err(ChangeError::Conflict(format!("{url} is followed already, as endpoint `{}`", twin.name)));
        }
        valid_name(name).map_err(|error| ChangeError::Conflict(error.to_string()))
    }

    /// Puts a stored change into effect. The future resolves when a stream that had to stop is drained.
    fn change(&mut self, ctx: &mut Context<Self>, id: EndpointId, change: EndpointChange) -> Option<LocalBoxFuture<'static, ()>> {
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
        let was_paused = endpoint.paused;
        endpoint.paused = paused.unwrap_or(was_paused);
        if endpoint.paused && was_paused {
            return None;
        }
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

impl Handler<Add> for EndpointsActor {
    type Result = ResponseFuture<Result<EndpointId, ChangeError>>;

    /// Asks the master who it is, beside everything else: one that hangs holds up nobody.
    fn handle(&mut self, Add(new): Add, ctx: &mut Self::Context) -> Self::Result {
        if let Err(refused) = self.may_be_new(&new) {
            return Box::pin(async { Err(refused) });
        }
        let (me, transport) = (ctx.address(), self.setup.transport.clone());
        let target = Target { url: new.url.clone(), api_key: new.api_key.clone(), tls: new.tls.clone() };
        Box::pin(async move {
            // A master that cannot be reached now is told apart when it can.
            let answer = tokio::time::timeout(IDENTIFY_WITHIN, transport.get(&target, "/instances")).await;
            let master_id = answer.ok().and_then(Result::ok).and_then(|body| crate::wire::master_id(&body));
            me.send(AddIdentified { new, master_id }).await.map_err(|_| stopping())?
        })
    }
}

/// The second half of an [`Add`]: the master has told its id, or could not.
#[derive(Message)]
#[rtype(result = "Result<EndpointId, ChangeError>")]
struct AddIdentified {
    new: NewEndpoint,
    master_id: Option<String>,
}

impl Handler<AddIdentified> for EndpointsActor {
    type Result = AtomicResponse<Self, Result<EndpointId, ChangeError>>;

    fn handle(&mut self, AddIdentified { new, master_id }: AddIdentified, _: &mut Self::Context) -> Self::Result {
        let twin = master_id.as_deref().and_then(|master_id| self.twin_of(EndpointId::default(), master_id));
        let refused = match twin {
            Some(twin) => Err(ChangeError::Conflict(format!("this master is followed already, as endpoint `{twin}`"))),
            None => self.may_be_new(&new),
        };
        let add = self.setup.add.clone();
        let stored = async move {
            refused?;
            let id = add.send(AddEndpoint(new.clone())).await.map_err(|_| stopping())??;
            Ok((id, new))
        };
        AtomicResponse::new(Box::pin(stored.into_actor(self).map(|stored: Result<_, ChangeError>, actor, ctx| {
            let (id, NewEndpoint { name, url, api_key, tls, log_events }) = stored?;
            info!("endpoint {name}: added");
            actor.follow(ctx, Endpoint { id, name, url, api_key, tls, paused: false, log_events, master_id: None });
            if let Some(master_id) = master_id {
                actor.learn_id(ctx, id, master_id);
            }
            Ok(id)
        })))
    }
}

impl Handler<Change> for EndpointsActor {
    type Result = AtomicResponse<Self, Result<(), ChangeError>>;

    fn handle(&mut self, Change { name, change }: Change, _: &mut Self::Context) -> Self::Result {
        let id = self.find_to_change(&name);
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

impl Handler<Remove> for EndpointsActor {
    type Result = ResponseActFuture<Self, Result<(), ChangeError>>;

    fn handle(&mut self, Remove { name, purge }: Remove, _: &mut Self::Context) -> Self::Result {
        let id = match self.find_to_change(&name) {
            Ok(id) => id,
            Err(error) => return Box::pin(actix::fut::ready(Err(error))),
        };
        // A purge takes minutes, in which everything else goes on.
        if let Some(followed) = self.followed.get_mut(&id) {
            followed.removing = true;
        }
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
        Box::pin(removed.into_actor(self).map(move |removed, actor, ctx| {
            match &removed {
                Ok(()) => {
                    actor.followed.remove(&id);
                    actor.setup.publish.send_modify(|all| {
                        all.remove(&id);
                    });
                    // It may have been the twin for which another one was stopped.
                    for other in actor.followed.keys().copied().collect::<Vec<_>>() {
                        actor.connect(ctx, other);
                    }
                    info!("endpoint {name}: removed{}", if purge { ", with its events and history" } else { "" });
                }
                // It is still stored: go on following it.
                Err(_) => {
                    if let Some(followed) = actor.followed.get_mut(&id) {
                        followed.removing = false;
                    }
                    actor.connect(ctx, id);
                }
            }
            removed
        }))
    }
}
