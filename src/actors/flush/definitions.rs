//! Definitions of endpoints. Each is tried once and answered, whatever comes of it.

use actix::{Handler, Message, ResponseFuture};
use tokio::sync::oneshot;

use super::{FlushActor, Outcome, owed};
use crate::clock::Timestamp;
use crate::event::EndpointId;
use crate::modes::StorageMode;
use crate::modes::usage::Usage;
use crate::store::{EndpointChange, NewEndpoint, Settings, Store, StoreError};

/// Make an endpoint. Sent by the EndpointsActor, which passes a failure on to who asked.
#[derive(Debug, Message)]
#[rtype(result = "Result<EndpointId, StoreError>")]
pub struct AddEndpoint(pub NewEndpoint);

/// Change an endpoint. As [`AddEndpoint`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct ChangeEndpoint {
    /// Which.
    pub id: EndpointId,
    /// What.
    pub change: EndpointChange,
}

/// Remove an endpoint. As [`AddEndpoint`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct RemoveEndpoint {
    /// Which.
    pub id: EndpointId,
    /// Delete its events and history too.
    pub purge: bool,
}

pub(super) enum Definition {
    Add(NewEndpoint, oneshot::Sender<Result<EndpointId, StoreError>>),
    Change(ChangeEndpoint, oneshot::Sender<Result<(), StoreError>>),
    Remove(RemoveEndpoint, oneshot::Sender<Result<(), StoreError>>),
    Keep(Settings, Vec<(StorageMode, Usage)>, Option<oneshot::Sender<Result<(), StoreError>>>),
}

impl Definition {
    pub(super) fn write(self, store: &mut dyn Store, at: Timestamp) -> Outcome {
        fn done<T>(result: Result<T, StoreError>, reply: oneshot::Sender<Result<T, StoreError>>) -> Outcome
        where
            T: Clone,
        {
            let _ = reply.send(result.clone());
            Outcome::Definition(result.map(|_| ()))
        }
        match self {
            Self::Add(new, reply) => done(store.add_endpoint(&new, at), reply),
            Self::Change(ChangeEndpoint { id, change }, reply) => done(store.change_endpoint(id, &change, at), reply),
            Self::Remove(RemoveEndpoint { id, purge }, reply) => done(store.remove_endpoint(id, purge, at), reply),
            Self::Keep(settings, usage, reply) => {
                let result = store.keep_settings(&settings, &usage);
                if let Some(reply) = reply {
                    let _ = reply.send(result.clone());
                }
                Outcome::Kept(result)
            }
        }
    }
}

impl Handler<AddEndpoint> for FlushActor {
    type Result = ResponseFuture<Result<EndpointId, StoreError>>;

    fn handle(&mut self, AddEndpoint(new): AddEndpoint, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.definitions.push_back(Definition::Add(new, reply));
        self.write_next(ctx);
        Box::pin(owed(answer))
    }
}

impl Handler<ChangeEndpoint> for FlushActor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, change: ChangeEndpoint, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.definitions.push_back(Definition::Change(change, reply));
        self.write_next(ctx);
        Box::pin(owed(answer))
    }
}

impl Handler<RemoveEndpoint> for FlushActor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, remove: RemoveEndpoint, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.definitions.push_back(Definition::Remove(remove, reply));
        self.write_next(ctx);
        Box::pin(owed(answer))
    }
}
