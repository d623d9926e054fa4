//! tidegate follows the event streams of many NodePass masters and lets them into a database in batches.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod actors;
pub mod blocking;
pub mod clock;
pub mod endpoint;
pub mod event;
pub mod id;
pub mod ingest;
pub mod journal;
pub mod redact;
pub mod sse;
pub mod store;
pub mod transport;
pub mod wire;
