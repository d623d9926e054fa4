//! The actors, one file each. All run on one arbiter: what is sent in one step arrives in the order of sending.

pub mod alerts;
pub mod buffer;
pub mod cache;
pub mod endpoints;
pub mod flush;
pub mod history_worker;
pub mod sse_ingest;

/// Messages that a mailbox on the data path takes before a sender has to wait. An SseIngestActor has at most a few bunches
/// on the way to each actor before it yields, and there are at most 500 endpoints; waiting would let bunches of
/// different endpoints overtake each other, so that ids would not rise.
pub const MAILBOX_MESSAGES: usize = 16_384;
