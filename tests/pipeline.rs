//! The real actors on paused time: messages in, rows out. Disk, database and clock are virtual, nothing else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tidegate::actors::buffer::{Append, FlushAnswer, FlushNow, Refused};
use tidegate::actors::cache::Apply;
use tidegate::actors::endpoints::ChangeError;
use tidegate::actors::history_worker::Observe;
use tidegate::blocking::Blocking;
use tidegate::clock::{Clock, Timestamp, VirtualClock};
use tidegate::endpoint::{ApiKey, TlsPolicy};
use tidegate::event::{
    Bunch, Counters, EndpointId, Event, EventKind, Gap, InstanceConfig, InstanceId, Record, Sample, TunnelKey,
};
use tidegate::id::EventId;
use tidegate::journal::{Call, Fault as DiskFault, MemoryDisk};
use tidegate::pipeline::{self, Parts, Settings, Shutdown};
use tidegate::recorder::RecorderHandle;
use tidegate::store::memory::{Fault, MemoryDatabase};
use tidegate::store::{EndpointChange, FlushCause, NewEndpoint, Store};
use tidegate::transport::{OpenStream, Target, Transport, TransportError};

/// 2026-11-23T14:20:00Z.
const START: Timestamp = Timestamp(1_795_443_600_000_000);

/// Nobody listens anywhere, or nobody ever answers.
struct NoMasters {
    hung: bool,
}

impl NoMasters {
    fn answer<T: 'static>(&self) -> LocalBoxFuture<'static, Result<T, TransportError>> {
        if self.hung { std::future::pending().boxed_local() } else { async { Err(TransportError::Refused) }.boxed_local() }
    }
}

impl Transport for NoMasters {
    fn events(&self, _: &Target) -> LocalBoxFuture<'static, Result<OpenStream, TransportError>> {
        self.answer()
    }

    fn get(&self, _: &Target, _: &'static str) -> LocalBoxFuture<'static, Result<Bytes, TransportError>> {
        self.answer()
    }
}

fn endpoint(name: &str) -> NewEndpoint {
    NewEndpoint {
        name: name.to_owned(),
        url: format!("http://127.0.0.1:1/{name}").parse().unwrap(),
        api_key: ApiKey::new("key"),
        tls: TlsPolicy::Verify,
        log_events: None,
    }
}

/// A recorder over virtual parts that outlive it.
struct World {
    clock: Arc<VirtualClock>,
    disk: Arc<MemoryDisk>,
    database: MemoryDatabase,
    settings: Settings,
    blocking: Blocking,
    /// Whether masters accept connections and never answer.
    hung: bool,
    /// Of the last injected event.
    last_id: i64,
}

impl World {
    fn new(settings: Settings) -> Self {
        let clock = VirtualClock::starting_at(START);
        let (disk, database, blocking) = (Arc::new(MemoryDisk::new()), MemoryDatabase::default(), Blocking::immediate());
        Self { clock, disk, database, settings, blocking, hung: false, last_id: 0 }.with_endpoint()
    }

    /// The endpoint whose events are injected. Paused, since nobody listens there.
    fn with_endpoint(self) -> Self {
        let new = endpoint("tokyo");
        let mut store = self.database.store();
        let id = store.add_endpoint(&new, START).unwrap();
        store.change_endpoint(id, &EndpointChange { paused: Some(true), ..EndpointChange::default() }, START).unwrap();
        self
    }

    async fn start(&self) -> RecorderHandle {
        let parts = Parts {
            clock: self.clock.clone(),
            blocking: self.blocking.clone(),
            transport: std::rc::Rc::new(NoMasters { hung: self.hung }),
            store: Box::new(self.database.store()),
            disk: self.disk.clone(),
            rng: fastrand::Rng::with_seed(7),
        };
        let (waiting, _) = tokio::sync::watch::channel(None);
        pipeline::start(parts, self.settings.clone(), &waiting).await.expect("it starts")
    }

    /// Updates of one instance, one per event; sent to all three actors as an SseIngestActor does.
    fn bunch(&mut self, count: usize) -> Arc<Bunch> {
        let endpoint = EndpointId(1);
        let records = (0..count).map(|_| {
            self.last_id += 1;
            let counters = Counters { tcp_rx: self.last_id as u64 * 10, ..Counters::default() };
            Record::Event(Event {
                id: EventId(self.last_id),
                endpoint,
                received_at: self.clock.wall(),
                event_time: None,
                kind: EventKind::Update,
                instance: InstanceId::from("9545ac3d"),
                sample: Some(Sample { counters, ..Sample::default() }),
                config: (self.last_id == 1).then(|| Arc::new(InstanceConfig::default())),
                detail: None,
                logs: None,
                stored: true,
            })
        });
        Arc::new(Bunch { endpoint, records: records.collect() })
    }

    async fn inject(&mut self, recorder: &RecorderHandle, count: usize) -> Result<(), Refused> {
        let bunch = self.bunch(count);
        let applied = recorder.actors.cache.send(Apply(bunch.clone()));
        let observed = recorder.actors.history.send(Observe(bunch.clone()));
        let journaled = recorder.actors.buffer.send(Append(bunch));
        applied.await.expect("the CacheActor runs");
        observed.await.expect("the HistoryWorkerActor runs");
        journaled.await.expect("the BufferActor runs").map_err(|refusal| refusal.reason)
    }

    fn stored_ids(&self) -> Vec<i64> {
        self.database.with_tables(|tables| tables.records.keys().map(|id| id.0).collect())
    }

    fn flushes(&self) -> Vec<(FlushCause, u64)> {
        self.database
            .with_tables(|tables| tables.flushes.iter().map(|flush| (flush.info.cause, flush.committed.written)).collect())
    }
}

fn on_paused_time<F: Future<Output = ()> + 'static>(test: impl FnOnce() -> F) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let system = actix::System::with_tokio_rt(runtime);
    system.block_on(async { test().await });
}

async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_thousand_events_are_flushed_at_once_and_the_rest_at_the_hour() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        let recorder = world.start().await;
        for _ in 0..15 {
            world.inject(&recorder, 100).await.unwrap();
        }
        pass(Duration::from_secs(1)).await;
        assert_eq!(world.flushes(), [(FlushCause::Threshold, 1000)]);
        assert_eq!(recorder.stats().optimized_storage.buffer_size, 500);
        pass(40 * MINUTE).await;
        assert_eq!(world.flushes(), [(FlushCause::Threshold, 1000), (FlushCause::Hourly, 500)]);
        world.database.with_tables(|tables| {
            let hourly = &tables.flushes[1].info;
            assert_eq!(hourly.boundary, Some(Timestamp(START.0 + 40 * Timestamp::MINUTE)));
            assert!(hourly.cut_at.since(hourly.boundary.unwrap()) < Duration::from_secs(1));
            assert_eq!(tables.history[0].len(), 1, "one minute of one tunnel");
        });
        let summary = recorder.actors.pipeline.send(Shutdown).await.unwrap();
        assert_eq!((summary.flushed, summary.left_in_journal, summary.late), (0, 0, vec![]));
        assert_eq!(world.stored_ids(), (1..=1500).collect::<Vec<_>>());
        assert!(world.disk.names().is_empty(), "{:?}", world.disk.names());
    });
}

#[test]
fn a_bunch_that_passes_the_threshold_is_split_exactly_there() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        let recorder = world.start().await;
        world.inject(&recorder, 2_345).await.unwrap();
        pass(Duration::from_secs(1)).await;
        assert_eq!(world.flushes(), [(FlushCause::Threshold, 1000), (FlushCause::Threshold, 1000)]);
        assert_eq!(recorder.stats().optimized_storage.buffer_size, 345);
    });
}

#[test]
fn an_empty_hour_is_kept_and_recorded() {
    on_paused_time(|| async {
        let world = World::new(Settings::default());
        let recorder = world.start().await;
        pass(3 * 60 * MINUTE).await;
        assert_eq!(world.flushes(), [(FlushCause::Hourly, 0); 3]);
        assert!(recorder.stats().optimized_storage.last_flush_time.unwrap().starts_with("2026-11-23 17:00:00"));
    });
}

#[test]
fn a_flush_on_request_answers_with_what_it_committed() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        let recorder = world.start().await;
        world.inject(&recorder, 42).await.unwrap();
        let answer = recorder.actors.buffer.send(FlushNow).await.unwrap();
        assert_eq!(answer, FlushAnswer { committed: 42, waiting: 0, error: None });
        let nothing = recorder.actors.buffer.send(FlushNow).await.unwrap();
        assert_eq!(nothing, FlushAnswer::default());
        assert_eq!(world.flushes(), [(FlushCause::Manual, 42)]);
    });
}

#[test]
fn a_flush_on_request_while_the_database_is_down_says_so_and_loses_nothing() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        let recorder = world.start().await;
        world.database.set_down(Some("no connection"));
        world.inject(&recorder, 42).await.unwrap();
        let answer = recorder.actors.buffer.send(FlushNow).await.unwrap();
        assert_eq!((answer.committed, answer.waiting), (0, 42));
        assert!(answer.error.unwrap().contains("no connection"));
        world.database.set_down(None);
        pass(2 * MINUTE).await;
        assert_eq!(world.stored_ids().len(), 42);
    });
}

#[test]
fn a_shutdown_while_the_database_is_down_leaves_all_in_the_journal_and_the_next_start_stores_it() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        let recorder = world.start().await;
        world.inject(&recorder, 1_200).await.unwrap();
        pass(Duration::from_secs(1)).await;
        world.database.set_down(Some("no connection"));
        world.inject(&recorder, 900).await.unwrap();
        let summary = recorder.actors.pipeline.send(Shutdown).await.unwrap();
        assert_eq!((summary.flushed, summary.left_in_journal), (0, 1_100));
        world.database.set_down(None);
        let again = world.start().await;
        pass(Duration::from_secs(1)).await;
        assert_eq!(world.stored_ids(), (1..=2_100).collect::<Vec<_>>());
        assert_eq!(again.stats().optimized_storage.rows_skipped, 1_000, "of the batch whose segment live state still needed");
        let summary = again.actors.pipeline.send(Shutdown).await.unwrap();
        assert_eq!(summary.left_in_journal, 0);
        assert!(world.disk.names().is_empty(), "{:?}", world.disk.names());
    });
}

/// The database is back and nobody has noticed yet when the recorder is told to stop.
#[test]
fn a_shutdown_just_after_the_database_came_back_leaves_nothing_behind() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        let recorder = world.start().await;
        world.database.set_down(Some("no connection"));
        world.inject(&recorder, 1_200).await.unwrap();
        pass(Duration::from_secs(100)).await;
        world.database.set_down(None);
        let summary = recorder.actors.pipeline.send(Shutdown).await.unwrap();
        assert_eq!((summary.flushed, summary.left_in_journal), (1_200, 0));
        assert!(world.disk.names().is_empty(), "{:?}", world.disk.names());
    });
}

/// A kill is a recorder that is no longer spoken to: its actors are dropped with their System, the disk keeps what was
/// written.
#[test]
fn a_killed_recorder_loses_nothing_that_was_acknowledged_and_stores_nothing_twice() {
    let disk = Arc::new(MemoryDisk::new());
    let database = MemoryDatabase::default();
    let mut last_id = 0;
    for round in 0..5 {
        let (disk_then, database) = (disk.clone(), database.clone());
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        last_id = actix::System::with_tokio_rt(runtime).block_on(async move {
            let mut world = World { disk: disk_then, database, last_id, ..World::new(Settings::default()) };
            if round == 0 {
                world = world.with_endpoint();
            }
            let recorder = world.start().await;
            world.database.fail_next([Fault::DoubtStored, Fault::DoubtLost]);
            for _ in 0..(3 + round) {
                world.inject(&recorder, 700).await.unwrap();
            }
            world.last_id
        });
        disk.kill();
    }
    on_paused_time(move || async move {
        let world = World { disk, database, last_id, ..World::new(Settings::default()) };
        let recorder = world.start().await;
        recorder.actors.pipeline.send(Shutdown).await.unwrap();
        assert_eq!(world.stored_ids(), (1..=last_id).collect::<Vec<_>>());
        let (deltas, first) =
            world.database.with_tables(|tables| (tables.history[0].values().map(|row| row.row.delta.tcp_rx).sum::<u64>(), 10));
        assert_eq!(deltas, last_id as u64 * 10 - first, "history adds up across kills");
    });
}

#[test]
fn while_the_database_is_down_batches_wait_on_disk_beyond_the_memory_bound_and_are_stored_in_order() {
    on_paused_time(|| async {
        let mut world = World::new(Settings { memory_events_max: 3_000, ..Settings::default() });
        let recorder = world.start().await;
        world.database.set_down(Some("no connection"));
        for _ in 0..20 {
            world.inject(&recorder, 1_000).await.unwrap();
            pass(MINUTE).await;
        }
        let storage = recorder.stats().optimized_storage;
        assert_eq!((storage.buffer_size, storage.waiting_batches), (20_000, 20));
        assert!(storage.buffer_usage_pct > 1_999.0);
        assert!(recorder.ready().unwrap_err().contains("no connection"));
        world.database.set_down(None);
        pass(2 * MINUTE).await;
        assert_eq!(world.stored_ids(), (1..=20_000).collect::<Vec<_>>());
        let firsts: Vec<i64> = world.database.with_tables(|tables| tables.flushes.iter().map(|flush| flush.first.0).collect());
        assert!(firsts.is_sorted(), "{firsts:?}");
        assert!(recorder.ready().is_ok());
    });
}

#[test]
fn a_full_journal_refuses_the_new_and_keeps_the_old() {
    on_paused_time(|| async {
        let mut settings = Settings::default();
        settings.limits.journal_bytes_max = 60_000;
        let mut world = World::new(settings);
        let recorder = world.start().await;
        world.database.set_down(Some("no connection"));
        let mut accepted = 0;
        let refused = loop {
            match world.inject(&recorder, 100).await {
                Ok(()) => accepted += 100,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, Refused::JournalFull);
        assert!(accepted > 500, "{accepted}");
        world.database.set_down(None);
        pass(60 * MINUTE).await;
        assert_eq!(world.stored_ids(), (1..=accepted).collect::<Vec<_>>());
        assert_eq!(world.inject(&recorder, 100).await, Ok(()), "there is room again");
    });
}

/// What is asked for with `tidegate flush`, and before a backup: nothing that was received waits any more, history included.
#[test]
fn a_flush_on_request_stores_the_windows_that_are_open_and_nothing_is_counted_twice_later() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        let recorder = world.start().await;
        world.inject(&recorder, 30).await.unwrap();
        let answer = recorder.flush().await;
        assert_eq!((answer.committed, answer.waiting, answer.error), (30, 0, None));
        let moved =
            || world.database.with_tables(|tables| tables.history[0].values().map(|row| row.row.delta.tcp_rx).sum::<u64>());
        let before = moved();
        assert!(before > 0, "the minute that is not over is stored as far as it is");
        recorder.actors.pipeline.send(Shutdown).await.unwrap();
        assert_eq!(moved(), before, "and not once more");
    });
}

#[test]
fn a_disk_without_room_refuses_and_works_again_when_there_is_room() {
    on_paused_time(|| async {
        let mut settings = Settings::default();
        settings.limits.free_bytes_min = 0;
        let mut world = World::new(settings);
        let recorder = world.start().await;
        world.inject(&recorder, 10).await.unwrap();
        assert_eq!(recorder.ready(), Ok(()));
        world.disk.set_capacity(Some(world.disk.used_bytes() + 100));
        assert_eq!(world.inject(&recorder, 10).await, Err(Refused::DiskFull));
        let unready = recorder.ready().expect_err("nothing is received");
        assert!(unready.contains("disk_full") && unready.contains("make room"), "{unready}");
        world.disk.set_capacity(None);
        world.inject(&recorder, 10).await.unwrap();
        assert_eq!(recorder.ready(), Ok(()));
        recorder.actors.pipeline.send(Shutdown).await.unwrap();
        let expected: Vec<i64> = (1..=10).chain(21..=30).collect();
        assert_eq!(world.stored_ids(), expected);
    });
}

/// What says that something was lost is not lost with it: its record waits in memory and is stored with the next batch.
#[test]
fn a_gap_is_recorded_though_the_disk_is_full_until_the_end() {
    on_paused_time(|| async {
        let mut settings = Settings::default();
        settings.limits.free_bytes_min = 0;
        let mut world = World::new(settings);
        let recorder = world.start().await;
        world.inject(&recorder, 10).await.unwrap();
        world.disk.set_capacity(Some(world.disk.used_bytes()));
        assert_eq!(world.inject(&recorder, 10).await, Err(Refused::DiskFull));
        let gap = Gap {
            id: EventId(100),
            endpoint: EndpointId(1),
            instance: InstanceId::default(),
            from: START,
            to: world.clock.wall(),
            reason: "refused".into(),
        };
        let bunch = Arc::new(Bunch { endpoint: EndpointId(1), records: vec![Record::Gap(gap)] });
        assert_eq!(recorder.actors.buffer.send(Append(bunch)).await.expect("it runs").map_err(|refusal| refusal.reason), Ok(()));
        recorder.actors.pipeline.send(Shutdown).await.unwrap();
        assert_eq!(world.stored_ids(), (1..=10).chain([100]).collect::<Vec<_>>());
    });
}

#[test]
fn gaps_that_wait_in_memory_have_a_bound_and_are_stored_when_the_database_works() {
    on_paused_time(|| async {
        let mut settings = Settings::default();
        settings.limits.free_bytes_min = 0;
        let world = World::new(settings);
        let recorder = world.start().await;
        world.database.set_down(Some("no connection"));
        world.disk.set_capacity(Some(world.disk.used_bytes()));
        let gap = |id| Gap {
            id: EventId(id),
            endpoint: EndpointId(1),
            instance: InstanceId::default(),
            from: START,
            to: START,
            reason: "refused".into(),
        };
        let (mut kept, mut ids) = (0, 1..);
        let refused = loop {
            let records = ids.by_ref().take(700).map(|id| Record::Gap(gap(id))).collect();
            let bunch = Arc::new(Bunch { endpoint: EndpointId(1), records });
            match recorder.actors.buffer.send(Append(bunch)).await.expect("it runs") {
                Ok(()) => kept += 700,
                Err(refusal) => break (refusal.reason, kept + refusal.kept),
            }
        };
        assert_eq!(refused, (Refused::DiskFull, 10_000));
        world.database.set_down(None);
        pass(60 * MINUTE).await;
        assert_eq!(world.stored_ids(), (1..=10_000).collect::<Vec<_>>());
    });
}

#[test]
fn a_database_that_does_not_answer_is_an_outage_until_it_does() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        world.blocking = Blocking::Inline(Arc::new(|job| Duration::from_secs(if job == "batch" { 90 } else { 0 })));
        let recorder = world.start().await;
        world.inject(&recorder, 10).await.unwrap();
        let asked = world.clock.monotonic();
        let answer = recorder.flush().await;
        assert!(answer.error.as_deref().is_some_and(|error| error.contains("no answer for 10 s")), "{answer:?}");
        assert!(world.clock.monotonic() - asked < Duration::from_secs(11), "whoever waits is told");
        assert!(recorder.ready().is_err_and(|why| why.contains("no answer")));
        let stats = recorder.stats();
        assert!(!stats.database.ok && stats.database.error.is_some());
        pass(5 * MINUTE).await;
        assert_eq!(recorder.ready(), Ok(()));
        assert!(recorder.stats().database.ok);
        assert_eq!(world.stored_ids(), (1..=10).collect::<Vec<_>>());
    });
}

/// A segment that was given up after a failed sync is stored from memory at once and not with the next event, which may be an hour away.
#[test]
fn what_a_failed_sync_leaves_in_doubt_is_stored_at_once() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        let recorder = world.start().await;
        world.inject(&recorder, 10).await.unwrap();
        world.disk.fail(Call::Sync, DiskFault::BROKEN, 1);
        pass(5 * Duration::from_secs(1)).await;
        assert_eq!(world.stored_ids(), (1..=10).collect::<Vec<_>>());
        // Nothing was written since, so nothing shows that it works again.
        assert!(recorder.ready().is_err_and(|why| why.starts_with("journal: ")));
        world.inject(&recorder, 1).await.unwrap();
        assert_eq!(recorder.ready(), Ok(()));
    });
}

#[test]
fn live_state_reaches_the_database_within_the_sync_interval_and_is_not_written_when_nothing_changed() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        let recorder = world.start().await;
        let key = TunnelKey { endpoint: EndpointId(1), instance: InstanceId::from("9545ac3d") };
        world.inject(&recorder, 3).await.unwrap();
        pass(Duration::from_millis(5_100)).await;
        world.database.with_tables(|tables| assert_eq!(tables.samples[&key].0.counters.tcp_rx, 30));
        let before = world.database.with_tables(|tables| tables.transactions);
        pass(10 * MINUTE).await;
        assert_eq!(world.database.with_tables(|tables| tables.transactions), before);
    });
}

#[test]
fn when_an_endpoint_was_last_heard_is_shown_while_its_status_and_tunnels_stay() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        let recorder = world.start().await;
        world.inject(&recorder, 1).await.unwrap();
        for _ in 0..3 {
            pass(MINUTE).await;
            world.inject(&recorder, 1).await.unwrap();
            let views = recorder.endpoints().await;
            assert_eq!((views[0].health.last_heard, views[0].tunnels), (Some(world.clock.wall()), 1));
        }
    });
}

#[test]
fn a_step_of_the_wall_clock_moves_the_boundary_and_none_is_kept_twice() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        let recorder = world.start().await;
        world.inject(&recorder, 5).await.unwrap();
        // To 17:30: three boundaries pass at once.
        world.clock.step(190 * Timestamp::MINUTE);
        pass(Duration::from_secs(6)).await;
        let info = world.database.with_tables(|tables| tables.flushes[0].info);
        assert_eq!(info.boundary, Some(Timestamp(START.0 + 160 * Timestamp::MINUTE)));
        assert_eq!(info.skipped_boundaries, 2);
        // Back to 14:20: the next boundary is 18:00, but no event waits longer than an hour.
        world.clock.step(-190 * Timestamp::MINUTE);
        world.inject(&recorder, 5).await.unwrap();
        pass(70 * MINUTE).await;
        let (count, last) = world.database.with_tables(|tables| (tables.flushes.len(), tables.flushes.last().unwrap().info));
        assert_eq!((count, last.cause, last.boundary), (2, FlushCause::Hourly, None));
    });
}

#[test]
fn the_last_boundary_kept_survives_a_restart() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        let recorder = world.start().await;
        world.inject(&recorder, 5).await.unwrap();
        pass(45 * MINUTE).await;
        recorder.actors.pipeline.send(Shutdown).await.unwrap();
        pass(130 * MINUTE).await;
        let _again = world.start().await;
        pass(Duration::from_secs(1)).await;
        let boundaries: Vec<_> = world.database.with_tables(|tables| {
            tables.flushes.iter().filter_map(|flush| flush.info.boundary.map(|at| (at, flush.info.skipped_boundaries))).collect()
        });
        let hour = |hours: i64| Timestamp(START.0 + (40 + hours * 60) * Timestamp::MINUTE);
        assert_eq!(boundaries, [(hour(0), 0), (hour(2), 1)]);
    });
}

#[test]
fn masters_that_hang_hold_up_neither_each_other_nor_who_asks() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        world.hung = true;
        let recorder = world.start().await;
        let before = world.clock.monotonic();
        let names: Vec<String> = (0..20).map(|number| format!("hung{number:02}")).collect();
        let added = futures_util::future::join_all(names.iter().map(|name| recorder.add_endpoint(endpoint(name))));
        let (added, listed) = futures_util::future::join(added, async {
            let listed = recorder.endpoints().await;
            (listed.len(), world.clock.monotonic() - before)
        })
        .await;
        assert_eq!(listed, (1, Duration::ZERO));
        assert!(added.iter().all(Result::is_ok), "{added:?}");
        assert!(world.clock.monotonic() - before < Duration::from_secs(6), "each master is asked for 5 s");
        let twice = futures_util::future::join(recorder.add_endpoint(endpoint("a")), recorder.add_endpoint(endpoint("a"))).await;
        assert!(twice.0.is_ok() && matches!(twice.1, Err(ChangeError::Conflict(_))), "{twice:?}");
    });
}

#[test]
fn while_an_endpoint_is_purged_all_others_are_served_and_a_shutdown_is_orderly() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        world.blocking = Blocking::Inline(Arc::new(|job| Duration::from_secs(u64::from(job == "purge"))));
        let recorder = world.start().await;
        for _ in 0..40 {
            world.inject(&recorder, 500).await.expect("there is room");
        }
        let purge = recorder.remove_endpoint("tokyo", true);
        let others = async {
            pass(Duration::from_secs(5)).await;
            let before = world.clock.monotonic();
            assert_eq!(recorder.endpoints().await.len(), 1);
            recorder.add_endpoint(endpoint("osaka")).await.expect("it is new");
            for change in
                [recorder.remove_endpoint("tokyo", false).await, recorder.add_endpoint(endpoint("tokyo")).await.map(|_| ())]
            {
                assert!(matches!(change, Err(ChangeError::Conflict(_))), "{change:?}");
            }
            assert!(world.clock.monotonic() - before <= 3 * Duration::from_secs(1), "a step takes a second");
            recorder.shutdown().await
        };
        let (purged, summary) = futures_util::future::join(purge, others).await;
        assert!(matches!(purged, Err(ChangeError::Unavailable(_))), "{purged:?}");
        assert_eq!((summary.late.as_slice(), summary.error), (&[][..], None));
        // It can be asked for again.
        world.blocking = Blocking::immediate();
        let recorder = world.start().await;
        recorder.remove_endpoint("tokyo", true).await.expect("nothing is in the way");
        assert_eq!(world.stored_ids(), [0_i64; 0]);
        assert_eq!(recorder.endpoints().await.len(), 1);
    });
}

#[test]
fn what_waits_for_a_disk_that_stalls_is_bounded_in_bytes() {
    on_paused_time(|| async {
        let mut world = World::new(Settings::default());
        world.blocking = Blocking::Inline(Arc::new(|job| Duration::from_secs(if job == "journal" { 3600 } else { 0 })));
        let recorder = world.start().await;
        let answers: Vec<_> = (0..64)
            .map(|_| {
                let mut bunch = Bunch::clone(&world.bunch(1));
                let Record::Event(event) = &mut bunch.records[0] else { unreachable!("it holds an event") };
                event.detail = Some("x".repeat(1 << 20).into());
                recorder.actors.buffer.send(Append(Arc::new(bunch)))
            })
            .collect();
        let answers = futures_util::future::join_all(answers).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("the BufferActor runs")).collect();
        let kept = answers.iter().take_while(|answer| answer.is_ok()).count();
        assert_eq!(kept, 31, "32 MiB less what the records themselves take");
        assert!(answers[kept..].iter().all(|answer| answer.is_err_and(|refusal| refusal.reason == Refused::JournalStalled)));
    });
}

#[test]
fn the_journal_keeps_its_bound_with_history_in_it_and_what_is_refused_is_not_counted() {
    on_paused_time(|| async {
        let bound = 64 << 10;
        let mut settings = Settings::default();
        settings.limits.journal_bytes_max = bound;
        let mut world = World::new(settings);
        let recorder = world.start().await;
        world.database.set_down(Some("no connection"));
        let mut accepted = 0;
        for _ in 0..200 {
            accepted += if world.inject(&recorder, 50).await.is_ok() { 50 } else { 0 };
            pass(MINUTE).await;
            assert!(world.disk.used_bytes() <= bound, "{} bytes", world.disk.used_bytes());
        }
        assert!(accepted > 500 && accepted < 5_000, "{accepted}");
        world.database.set_down(None);
        pass(61 * MINUTE).await;
        // The first bunch tells that there is room again; from the next one on samples are counted.
        for _ in 0..2 {
            world.inject(&recorder, 50).await.expect("there is room again");
        }
        let summary = recorder.actors.pipeline.send(Shutdown).await.expect("it runs");
        assert_eq!((summary.left_in_journal, summary.late.len()), (0, 0));
        assert_eq!(world.stored_ids().len(), accepted + 100);
        world.database.with_tables(|tables| {
            let moved: u64 = tables.history[0].values().map(|row| row.row.delta.tcp_rx).sum();
            assert_eq!(moved, (world.last_id as u64 - 1) * 10, "the counter's whole movement, refused or not");
            assert!(tables.history[0].len() <= accepted / 50 + 3, "{} minutes", tables.history[0].len());
        });
        assert!(world.disk.names().iter().all(|name| !name.contains("00000")), "{:?}", world.disk.names());
    });
}

/// What a recorder leaves that is killed after it was told to do this.
fn left_behind<F: Future<Output = ()> + 'static>(live: impl FnOnce(World, RecorderHandle) -> F + 'static) -> World {
    let world = World::new(Settings::default());
    let (disk, database) = (world.disk.clone(), world.database.clone());
    on_paused_time(move || async move {
        let recorder = world.start().await;
        live(world, recorder).await;
    });
    disk.kill();
    World { disk, database, ..World::new(Settings::default()) }
}

/// A recorder before this one left two hours of events and history in the journal; while the first of it is being stored, the
/// disk loses the history.
#[test]
fn history_that_the_journal_loses_while_it_waits_is_counted_and_holds_up_nothing() {
    let mut world = left_behind(|mut world, recorder| async move {
        world.database.set_down(Some("no connection"));
        for _ in 0..2 {
            world.inject(&recorder, 5).await.unwrap();
            pass(61 * MINUTE).await;
        }
    });
    let histories: Vec<String> = world.disk.names().into_iter().filter(|name| name.ends_with(".history")).collect();
    assert!(histories.len() >= 2, "{histories:?}");
    world.database.set_down(None);
    world.blocking = Blocking::Inline(Arc::new(|job| if job == "batch" { MINUTE } else { Duration::ZERO }));
    on_paused_time(move || async move {
        let recorder = world.start().await;
        for history in &histories {
            world.disk.edit(history, |bytes| bytes[60] ^= 1);
        }
        pass(10 * MINUTE).await;
        let stats = recorder.stats();
        assert!(stats.dropped.get("history_damaged").is_some_and(|rows| *rows >= 2), "{:?}", stats.dropped);
        assert_eq!(stats.dropped.get("journal_damaged"), None);
        assert_eq!(world.stored_ids(), (1..=10).collect::<Vec<_>>());
        let summary = recorder.actors.pipeline.send(Shutdown).await.expect("it runs");
        assert_eq!((summary.left_in_journal, summary.late.len()), (0, 0));
        assert!(!world.disk.names().iter().any(|name| name.ends_with(".history")), "{:?}", world.disk.names());
    });
}

/// Noise in the middle of a segment and a restart: what is lost is counted where people look, and the rest is stored.
#[test]
fn events_that_the_journal_lost_while_the_recorder_was_off_are_counted() {
    let world = left_behind(|mut world, recorder| async move {
        world.inject(&recorder, 9).await.unwrap();
        pass(MINUTE).await;
    });
    let segment = world.disk.names().into_iter().find(|name| name.ends_with(".events")).expect("a segment");
    world.disk.edit(&segment, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    on_paused_time(move || async move {
        let recorder = world.start().await;
        pass(MINUTE).await;
        assert_eq!(recorder.stats().dropped.get("journal_damaged"), Some(&1));
        assert_eq!(world.stored_ids().len(), 8);
    });
}

/// A sync fails while the database is away and memory is at its bound; then the system drops from memory what the sync was to write. The
/// batches are stored all the same: they were in the recorder's memory as long as nothing else had them.
#[test]
fn batches_whose_sync_failed_are_stored_though_the_system_forgets_their_bytes() {
    on_paused_time(|| async {
        let mut settings = Settings { memory_events_max: 10, ..Settings::default() };
        settings.limits.batch_events_max = 10;
        let mut world = World::new(settings);
        let recorder = world.start().await;
        world.database.set_down(Some("no connection"));
        for round in 0..6 {
            if round == 3 {
                world.disk.fail(Call::Sync, DiskFault::BROKEN, 1);
            }
            // A full batch, which lives in its segment only, and the beginning of the next.
            world.inject(&recorder, 15).await.unwrap();
            pass(MINUTE).await;
        }
        assert!(world.disk.forget(), "a failed sync");
        assert!(recorder.stats().optimized_storage.buffer_size == 90);
        world.database.set_down(None);
        pass(2 * MINUTE).await;
        recorder.actors.pipeline.send(Shutdown).await.expect("it runs");
        assert_eq!(recorder.stats().dropped.get("journal_damaged"), None);
        assert_eq!(world.stored_ids(), (1..=90).collect::<Vec<_>>());
    });
}
