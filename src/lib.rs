//! tidegate follows the event streams of many NodePass masters and lets them into a database in batches.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod actors;
pub mod blocking;
pub mod cli;
pub mod clock;
pub mod config;
pub mod endpoint;
pub mod event;
pub mod http;
pub mod id;
pub mod journal;
pub mod pipeline;
pub mod redact;
pub mod replay;
pub mod status;
pub mod store;
pub mod transport;
