//! Definitions of endpoints, and what people were told. Each is tried once and answered, whatever comes of it.

use actix::{Handler, Message, ResponseFuture};
use tokio::sync::oneshot;

use super::{FlushActor, Outcome, answered};
use crate::clock::Timestamp;
use crate::event::EndpointId;
use crate::modes::StorageMode;
use crate::modes::usage::Usage;
use crate::store::{AlertChanges, EndpointChange, NewEndpoint, Purge, Settings, Store, StoreError};

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

/// Store what changed about the alerts that people were told of. Sent by the AlertsActor, which asks again if it fails.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct KeepAlerts(pub AlertChanges);

pub(super) enum Definition {
    Add(NewEndpoint, oneshot::Sender<Result<EndpointId, StoreError>>),
    Change(ChangeEndpoint, oneshot::Sender<Result<(), StoreError>>),
    Remove(EndpointId, oneshot::Sender<Result<(), StoreError>>),
    Alerts(AlertChanges, oneshot::Sender<Result<(), StoreError>>),
    Keep(Settings, Vec<(StorageMode, Usage)>, Option<oneshot::Sender<Result<(), StoreError>>>),
}

/// An endpoint whose events and history are being deleted, step by step. The endpoint itself goes last, so that a purge that
/// was interrupted can be asked for again.
pub(super) struct Purging {
    id: EndpointId,
    progress: Purge,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

impl Purging {
    pub(super) fn step(mut self, store: &mut dyn Store) -> Outcome {
        match store.purge(self.id, self.progress) {
            Ok(progress) => {
                self.progress = progress;
                Outcome::Purge(self)
            }
            Err(error) => {
                let _ = self.reply.send(Err(error.clone()));
                Outcome::Definition(Err(error))
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.progress == Purge::Done
    }

    /// What follows a purge that is done.
    pub(super) fn removal(self) -> Definition {
        Definition::Remove(self.id, self.reply)
    }
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
            Self::Remove(id, reply) => done(store.remove_endpoint(id), reply),
            Self::Alerts(changes, reply) => done(store.keep_alerts(&changes), reply),
            Self::Keep(settings, usage, reply) => Outcome::Kept(store.keep_settings(&settings, &usage), reply),
        }
    }
}

impl Handler<AddEndpoint> for FlushActor {
    type Result = ResponseFuture<Result<EndpointId, StoreError>>;

    fn handle(&mut self, AddEndpoint(new): AddEndpoint, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.definitions.push_back(Definition::Add(new, reply));
        self.write_next(ctx);
        Box::pin(answered(answer))
    }
}

impl Handler<ChangeEndpoint> for FlushActor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, change: ChangeEndpoint, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.definitions.push_back(Definition::Change(change, reply));
        self.write_next(ctx);
        Box::pin(answered(answer))
    }
}

impl Handler<KeepAlerts> for FlushActor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    /// Not while the database is down: nobody waits for it, and it is asked again.
    fn handle(&mut self, KeepAlerts(changes): KeepAlerts, ctx: &mut Self::Context) -> Self::Result {
        if let Some(error) = self.down() {
            return Box::pin(async { Err(error) });
        }
        let (reply, answer) = oneshot::channel();
        self.definitions.push_back(Definition::Alerts(changes, reply));
        self.write_next(ctx);
        Box::pin(answered(answer))
    }
}

impl Handler<RemoveEndpoint> for FlushActor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, RemoveEndpoint { id, purge }: RemoveEndpoint, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        if purge {
            self.purges.push_back(Purging { id, progress: Purge::START, reply });
        } else {
            self.definitions.push_back(Definition::Remove(id, reply));
        }
        self.write_next(ctx);
        Box::pin(answered(answer))
    }
}
