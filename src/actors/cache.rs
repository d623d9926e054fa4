//! CacheActor: the live state of every endpoint and tunnel.

use std::sync::Arc;

use actix::Message;

use crate::endpoint::EndpointHealth;
use crate::event::{Bunch, EndpointId};

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
