//! Simulated NodePass masters, for tests, for `tidegate demo` and for `tidegate simulate`.
//!
//! A [`SimMaster`](master::SimMaster) is a plain state machine: it reads no clock, opens no socket and draws only from the random generator
//! that it was given, so the same seed and the same calls give the same bytes on every machine. A *driver* owns the clock
//! and the wire. `crate::demo::server` is the one for real HTTP.
//!
//! ```
//! use std::time::Duration;
//! use tidegate::clock::Timestamp;
//! use tidegate::sim::master::{Action, InstanceSpec, MasterSpec, Reply, Request, SimMaster, Version};
//!
//! let noon = Timestamp(1_795_435_200_000_000);
//! let mut master = SimMaster::new(MasterSpec::new(Version::Go1_14_0), noon, fastrand::Rng::with_seed(7));
//! let id = master.create(InstanceSpec::server("tokyo", 10_190));
//! let key = master.api_key().to_owned();
//! let Reply::Stream(subscriber) = master.handle(&Request::get("/api/v1/events", &key)) else { panic!("refused") };
//! master.act(&Action::SetAlias { id, alias: "osaka".into() });
//! master.advance(noon.plus(Duration::from_secs(60)));
//! let mut chunks = Vec::new();
//! master.poll(subscriber, &mut chunks);
//! assert!(chunks[0].starts_with(b"retry: 3000\n\nevent: instance\ndata: {\"type\":\"initial\""));
//! assert!(chunks.len() > 12, "a report every 5 s, and what happened before");
//! ```
//!
//! What is decided by chance is decided with integers: the library's floating-point functions differ between machines.

pub mod agenda;
pub mod by_hand;
pub mod compare;
pub mod crash;
pub mod database;
pub mod disk;
pub mod invariants;
pub mod judge;
pub mod life;
pub mod logs;
pub mod master;
pub mod observation;
pub mod options;
pub mod oracle;
pub mod report;
pub mod scenario;
pub mod shared;
pub mod store;
pub mod traffic;
pub mod transport;
pub mod world;
