//! The actors, one file each, in the order in which an event passes them.

pub mod buffer;
pub mod cache;
pub mod endpoints;
pub mod flush;
pub mod history_worker;
pub mod sse_ingest;
