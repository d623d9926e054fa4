//! The journal: the buffer's other half, on disk.

pub mod disk;
