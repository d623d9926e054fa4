//! Import from NodePassDash.
pub mod source;
pub mod times;
