//! What an SseIngestActor decides, without the actor: plain values in, plain values out.

pub mod backoff;
pub mod intake;
pub mod outage;
pub mod pace;
pub mod tracker;
pub mod uptime;
