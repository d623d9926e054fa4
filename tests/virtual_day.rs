//! A day on paused time: the real actors, a master with five tunnels that report every 5 s, a disk and a database in memory. The database is
//! down from 8:00 to 14:00. Memory stays bounded, nothing is lost, and the order is kept.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use tidegate::blocking::Blocking;
use tidegate::clock::{Clock, Timestamp, VirtualClock};
use tidegate::config::RetentionConfig;
use tidegate::endpoint::{ApiKey, TlsPolicy};
use tidegate::event::{Counters, EventKind, InstanceId, Record};
use tidegate::journal::MemoryDisk;
use tidegate::journaling::Limits;
use tidegate::pipeline::{self, Parts, Settings};
use tidegate::recorder::RecorderHandle;
use tidegate::sim::master::{InstanceSpec, MasterSpec, Reply, Request, SimMaster, Version};
use tidegate::store::memory::{MemoryDatabase, Tables};
use tidegate::store::{NewEndpoint, Store};
use tidegate::transport::{OpenStream, Target, Transport, TransportError};
use tokio::sync::watch;
use tokio::time::{interval, sleep};

/// 2026-11-23, midnight.
const MIDNIGHT: Timestamp = Timestamp(1_795_392_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);
const REPORT_EVERY: Duration = Duration::from_secs(5);
const TUNNELS: usize = 5;
/// `storage.memory_max_events`: under a twentieth of what waits at the end of the outage.
const MEMORY_EVENTS: usize = 1_000;
const BATCH: usize = 1_000;

/// A master whose tunnels number their reports: `tcp_rx` of a tunnel counts them from 1.
struct Master {
    sim: RefCell<SimMaster>,
    clock: Arc<VirtualClock>,
    ids: Vec<InstanceId>,
    reports: RefCell<u64>,
}

impl Master {
    fn new(clock: Arc<VirtualClock>) -> Rc<Self> {
        let mut sim = SimMaster::new(MasterSpec::new(Version::Go1_14_0), clock.wall(), fastrand::Rng::with_seed(7));
        let ids =
            (0..TUNNELS).map(|nth| sim.create(InstanceSpec::server(&format!("tunnel-{nth}"), 10_000 + nth as u16))).collect();
        Rc::new(Self { sim: RefCell::new(sim), clock, ids, reports: RefCell::default() })
    }

    fn key(&self) -> ApiKey {
        ApiKey::new(self.sim.borrow().api_key())
    }

    /// The next report of every tunnel.
    fn report(&self) -> Bytes {
        let mut sim = self.sim.borrow_mut();
        sim.advance(self.clock.wall());
        *self.reports.borrow_mut() += 1;
        let tcp_rx = *self.reports.borrow();
        let mut bytes = Vec::new();
        for id in &self.ids {
            sim.show_counters(id, Counters { tcp_rx, ..Counters::default() });
            bytes.extend_from_slice(&sim.render_update(id));
        }
        bytes.into()
    }

    fn ask(&self, path: &str) -> Reply {
        let mut sim = self.sim.borrow_mut();
        sim.advance(self.clock.wall());
        let key = sim.api_key().to_owned();
        sim.handle(&Request::get(path, &key))
    }
}

/// The way to the master, without a network.
struct Wire(Rc<Master>);

impl Transport for Wire {
    fn events(&self, _: &Target) -> LocalBoxFuture<'static, Result<OpenStream, TransportError>> {
        let master = self.0.clone();
        async move {
            let Reply::Stream(subscriber) = master.ask("/api/v1/events") else { return Err(TransportError::Refused) };
            let mut initial = Vec::new();
            {
                let mut sim = master.sim.borrow_mut();
                sim.poll(subscriber, &mut initial);
                sim.unsubscribe(subscriber);
            }
            let reports = stream::unfold((interval(REPORT_EVERY), master), |(mut ticks, master)| async move {
                ticks.tick().await;
                Some((Ok(master.report()), (ticks, master)))
            });
            let body = stream::iter(initial.into_iter().map(Ok)).chain(reports).boxed_local();
            Ok(OpenStream { body, certificate: None })
        }
        .boxed_local()
    }

    fn get(&self, _: &Target, call: &'static str) -> LocalBoxFuture<'static, Result<Bytes, TransportError>> {
        let reply = self.0.ask(&format!("/api/v1{call}"));
        async move {
            match reply {
                Reply::Answer(answer) if answer.status == 200 => Ok(answer.body),
                _ => Err(TransportError::Refused),
            }
        }
        .boxed_local()
    }
}

/// Lets time pass and looks every minute at how much is held in memory.
async fn pass(recorder: &RecorderHandle, time: Duration) {
    for _ in 0..time.as_secs() / 60 {
        sleep(Duration::from_secs(60)).await;
        let buffer = recorder.states.buffer.borrow();
        // Beside the bound there are the batch that is filled and the one that is written.
        let bound = (MEMORY_EVENTS + 2 * BATCH) as u64;
        assert!(buffer.memory_events <= bound, "{} events in memory, {} wait", buffer.memory_events, buffer.buffer_size);
        assert!(buffer.lost.is_empty(), "{:?}", buffer.lost);
    }
}

/// Every report of every tunnel once, in order, and batches in order.
fn check(tables: &Tables, reports: u64) {
    let mut seen: BTreeMap<&InstanceId, u64> = BTreeMap::new();
    for record in tables.records.values() {
        let Record::Event(event) = record else { continue };
        if event.kind == EventKind::Update {
            let counted = event.sample.as_ref().expect("an update has a sample").counters.tcp_rx;
            let before = seen.entry(&event.instance).or_default();
            assert_eq!(counted, *before + 1, "{} of {}", event.id, event.instance);
            *before = counted;
        }
    }
    assert_eq!(seen.len(), TUNNELS);
    assert!(seen.values().all(|count| *count == reports), "{seen:?} of {reports}");
    let firsts: Vec<_> = tables.flushes.iter().filter(|flush| flush.first.0 > 0).map(|flush| flush.first).collect();
    assert!(firsts.is_sorted(), "batches are committed in order");
    assert!(tables.flushes.iter().all(|flush| flush.committed.skipped == 0), "nothing was sent twice");
    let boundaries: Vec<_> = tables.flushes.iter().filter_map(|flush| flush.info.boundary).collect();
    assert!(boundaries.is_sorted_by(|one, next| one < next), "{boundaries:?}");
    assert_eq!(boundaries.len(), 24, "each hour is kept once: {boundaries:?}");
}

fn on_paused_time(test: impl Future<Output = ()> + 'static) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    actix::System::with_tokio_rt(runtime).block_on(test);
}

#[test]
fn a_day_with_the_database_down_for_six_hours_loses_nothing_and_keeps_memory_bounded() {
    on_paused_time(async {
        let clock = VirtualClock::starting_at(MIDNIGHT);
        let master = Master::new(clock.clone());
        let (database, disk) = (MemoryDatabase::default(), MemoryDisk::new());
        let url = "http://10.0.0.1:9090".parse().expect("a URL");
        let new = NewEndpoint { name: "one".to_owned(), url, api_key: master.key(), tls: TlsPolicy::Verify, log_events: None };
        database.store().add_endpoint(&new, MIDNIGHT).expect("it is new");
        let parts = Parts {
            clock: clock.clone(),
            blocking: Blocking::immediate(),
            transport: Rc::new(Wire(master.clone())),
            store: Box::new(database.store()),
            disk: Arc::new(disk.clone()),
            rng: fastrand::Rng::with_seed(1),
        };
        let limits = Limits { batch_events_max: BATCH, ..Settings::default().limits };
        let settings =
            Settings { memory_events_max: MEMORY_EVENTS, limits, retention: RetentionConfig::LONGEST, ..Settings::default() };
        let (waiting, _) = watch::channel(None);
        let recorder = pipeline::start(parts, settings, &waiting).await.expect("it starts");

        pass(&recorder, 8 * HOUR).await;
        assert!(recorder.states.buffer.borrow().buffer_size < BATCH as u64);
        database.set_down(Some("no connection"));
        pass(&recorder, 6 * HOUR).await;
        let (size, journal) = {
            let buffer = recorder.states.buffer.borrow();
            (buffer.buffer_size, buffer.journal_bytes)
        };
        let missed = 6 * HOUR.as_secs() / REPORT_EVERY.as_secs() * TUNNELS as u64;
        assert!(size >= missed, "{size} wait of {missed}");
        println!("{size} events wait in {journal} bytes of journal, {} in memory", recorder.states.buffer.borrow().memory_events);
        database.set_down(None);
        // The longest wait of the back-off, and a moment to drain.
        pass(&recorder, Duration::from_secs(120)).await;
        assert!(recorder.states.buffer.borrow().buffer_size < BATCH as u64, "the backlog is not drained");
        pass(&recorder, 10 * HOUR).await;

        let summary = recorder.shutdown().await;
        assert_eq!((summary.left_in_journal, &summary.error, summary.late.len()), (0, &None, 0), "{summary}");
        database.with_tables(|tables| check(tables, *master.reports.borrow()));
        assert!(disk.names().iter().all(|name| !name.ends_with(".events") && !name.ends_with(".history")), "{disk:?}");
    });
}
