//! What a recorder shows of itself.

pub mod snapshot;
