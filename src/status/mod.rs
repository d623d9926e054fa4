//! What the recorder shows of itself.

pub mod snapshot;
