//! tidegate follows the event streams of many NodePass masters, keeps live state in memory, and lets events into a
//! database in batches: at 1,000 events, at the full hour, on request, and at shutdown.
//!
//! ```text
//!  master /events ──> SseIngestActor (one per master)      gives each event its id, once
//!                         │ a bunch per chunk, to all three in one step
//!         ┌───────────────┼──────────────────┐
//!         v               v                  v
//!    CacheActor     HistoryWorkerActor ─> BufferActor ── journal (a segment per batch)
//!    live state     minute windows           │ one batch at a time, in order
//!         │ every 5 s, what changed          v
//!         └────────────────────────────> FlushActor ──> database (the only writer)
//! ```
//!
//! | owner | owns | after a crash |
//! |---|---|---|
//! | [`SseIngestActor`](actors::sse_ingest) | one connection, what is known of its instances | connects again |
//! | [`CacheActor`](actors::cache) | live state | from the database and the journal |
//! | [`HistoryWorkerActor`](actors::history_worker) | open windows, counters | likewise |
//! | [`BufferActor`](actors::buffer) | batches, the [`journal`] | from the journal |
//! | [`FlushActor`](actors::flush) | the [`store`] | what was committed is there, once |
//! | [`EndpointsActor`](actors::endpoints) | who is followed | from the database |
//!
//! [`pipeline`] builds them from the last to the first and orders the shutdown. Clock, disk, transport, store and
//! randomness are passed in ([`pipeline::Parts`]), so the whole system runs on paused time:
//!
//! ```
//! use std::{rc::Rc, sync::Arc, time::Duration};
//! use tidegate::actors::{buffer::Append, cache::Apply, history_worker::Observe};
//! use tidegate::clock::{Clock, Timestamp, VirtualClock};
//! use tidegate::event::{Bunch, EndpointId, Event, EventKind, Record, Sample};
//! use tidegate::pipeline::{self, Parts, Settings, Shutdown};
//! use tidegate::store::{DieselStore, ReadConnection};
//! use tidegate::{blocking::Blocking, id::EventId, journal::MemoryDisk, transport::HttpTransport};
//!
//! let directory = tempfile::tempdir().unwrap();
//! let url = format!("sqlite:{}", directory.path().join("doc.db").display()).parse().unwrap();
//! let paused = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
//! let report = actix::System::with_tokio_rt(paused).block_on(async {
//!     // Twenty to three in the afternoon; the wall clock follows the paused time.
//!     let clock = VirtualClock::starting_at(Timestamp(1_795_444_800_000_000));
//!     let parts = Parts {
//!         clock: clock.clone(),
//!         blocking: Blocking::immediate(),
//!         transport: Rc::new(HttpTransport::new()),
//!         store: Box::new(DieselStore::open(&url, 100, clock.clone()).unwrap()),
//!         disk: Arc::new(MemoryDisk::new()),
//!         rng: fastrand::Rng::with_seed(1),
//!     };
//!     let (waiting, _) = tokio::sync::watch::channel(None);
//!     let recorder = pipeline::start(parts, Settings::default(), &waiting).await.unwrap();
//!
//!     // 1,500 events by message injection, as an SseIngestActor sends them: 1,000 are flushed at once.
//!     let event = |id| Record::Event(Event {
//!         id: EventId(id),
//!         endpoint: EndpointId(1),
//!         received_at: clock.wall(),
//!         event_time: None,
//!         kind: EventKind::Update,
//!         instance: "9545ac3d".into(),
//!         sample: Some(Sample::default()),
//!         config: None,
//!         detail: None,
//!         logs: None,
//!         stored: true,
//!     });
//!     let bunch = Arc::new(Bunch { endpoint: EndpointId(1), records: (1..=1_500).map(event).collect() });
//!     recorder.actors.cache.send(Apply(bunch.clone())).await.unwrap();
//!     recorder.actors.history.send(Observe(bunch.clone())).await.unwrap();
//!     recorder.actors.buffer.send(Append(bunch)).await.unwrap().unwrap();
//!
//!     // The other 500 are flushed at three.
//!     tokio::time::sleep(Duration::from_secs(21 * 60)).await;
//!     let flushes = recorder.stats().optimized_storage.flushes;
//!     assert_eq!((flushes.threshold, flushes.hourly), (1, 1));
//!
//!     let summary = recorder.actors.pipeline.send(Shutdown).await.unwrap();
//!     assert_eq!(summary.left_in_journal, 0);
//!     ReadConnection::open(&url).unwrap().check(clock.wall()).unwrap()
//! });
//! assert_eq!(report.events, 1_500);
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

// The fake recorder in `tests/common` is that of our own tests too, and calls us by name.
#[cfg(test)]
extern crate self as tidegate;

pub mod actors;
pub mod alerts;
pub mod backoff;
pub mod blocking;
pub mod boundary;
pub mod buffering;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delays;
pub mod demo;
pub mod endpoint;
pub mod event;
pub mod history;
pub mod http;
pub mod id;
pub mod import;
pub mod ingest;
pub mod journal;
pub mod journaling;
pub mod live;
pub mod modes;
pub mod pipeline;
pub mod production;
pub mod query;
pub mod rates;
pub mod recorder;
pub mod recovery;
pub mod redact;
pub mod replay;
pub mod restore;
pub mod retention;
pub mod sim;
pub mod sse;
pub mod status;
pub mod store;
pub mod transport;
pub mod wire;
