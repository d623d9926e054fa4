//! HistoryWorkerActor: turns samples into one row per tunnel and minute.

use std::sync::Arc;

use actix::Message;

use crate::event::Bunch;

/// Samples to count, in the order of their ids.
///
/// Sent by the SseIngestActor for every bunch. The reply means counted. There is no failure.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Observe(pub Arc<Bunch>);
