//! tidegate follows the event streams of many NodePass masters and lets them into a database in batches.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod actors;
pub mod backoff;
pub mod blocking;
pub mod boundary;
pub mod buffering;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delays;
pub mod demo;
pub mod endpoint;
pub mod event;
pub mod history;
pub mod http;
pub mod id;
pub mod ingest;
pub mod journal;
pub mod journaling;
pub mod live;
pub mod pipeline;
pub mod production;
pub mod recorder;
pub mod recovery;
pub mod redact;
pub mod replay;
pub mod sim;
pub mod sse;
pub mod status;
pub mod store;
pub mod transport;
pub mod wire;
