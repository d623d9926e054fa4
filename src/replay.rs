//! stub
/// stub
pub const REPLAY_NODE_FIRST: u16 = 256;
