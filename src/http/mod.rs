//! The HTTP interface: who may ask ([`guard`]), what can be asked ([`routes`]), and what the answers look like
//! ([`document`], [`problem`]).

pub mod document;
pub mod guard;
pub mod identity;
pub mod problem;
pub mod recorder;
pub mod routes;
pub mod server;
pub mod starting;
