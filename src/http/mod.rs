//! The HTTP interface: who may ask ([`guard`]), what can be asked ([`routes`], a file for each group), and what the answers
//! look like ([`document`], [`problem`]).

mod alerts;
pub mod archive;
#[cfg(test)]
mod archive_tests;
mod connection;
pub mod document;
pub mod endpoints;
mod etag;
mod events;
mod failures;
#[cfg(test)]
mod fake;
mod flush;
pub mod guard;
mod head;
mod health;
mod history;
pub mod identity;
mod login;
mod metrics;
pub mod mirror;
mod mode;
mod openapi;
pub mod page;
mod paging;
mod parameters;
mod probe;
pub mod problem;
pub mod recorder;
pub mod routes;
pub mod server;
mod session;
pub mod starting;
mod stats;
mod stored;
pub mod stream;
mod tunnels;
