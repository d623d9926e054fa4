use std::sync::Arc;

use actix::Addr;

use super::*;
use crate::actors::flush::{FlushActor, FlushState};
use crate::blocking::Blocking;
use crate::clock::{Clock, VirtualClock};
use crate::config::RetentionConfig;
use crate::event::{EndpointId, Gap, InstanceId};
use crate::modes::ledger::Ledger;
use crate::modes::single_queue::EVENTS_MAX;
use crate::store::memory::{Fault, MemoryDatabase};
use crate::store::{FlushCause, FlushInfo};

struct Bench {
    database: MemoryDatabase,
    realtime: Addr<RealtimeActor>,
    state: watch::Receiver<RealtimeState>,
    flush_state: watch::Receiver<FlushState>,
    clock: Arc<VirtualClock>,
}

/// The real FlushActor over a database in memory whose every call takes so long.
fn bench(mode: StorageMode, call: Duration) -> Bench {
    let database = MemoryDatabase::default();
    let clock = VirtualClock::starting_at(Timestamp(1_795_435_200_000_000));
    let (flush_publish, flush_state) = watch::channel(FlushState::default());
    let blocking = Blocking::Inline(Arc::new(move |_| call));
    let rng = fastrand::Rng::with_seed(1);
    let ledger = Ledger::new(mode, BTreeMap::new(), clock.monotonic());
    let store = Box::new(database.store());
    let flush = FlushActor::new(store, blocking, clock.clone(), rng, RetentionConfig::LONGEST, flush_publish)
        .with_ledger(ledger, Settings::new())
        .start();
    let (publish, state) = watch::channel(RealtimeState::default());
    let realtime = RealtimeActor::new(RealtimeSetup {
        mode,
        configured: Tuning::default(),
        tuning: Tuning::default(),
        settings: Settings::new(),
        is_replay: false,
        clock: clock.clone(),
        single: flush.clone().recipient(),
        batches: flush.clone().recipient(),
        keep: flush.clone().recipient(),
        tuned: vec![flush.recipient()],
        publish,
    })
    .start();
    Bench { database, realtime, state, flush_state, clock }
}

fn records(ids: impl IntoIterator<Item = i64>) -> Vec<Record> {
    let gap = |id| Gap {
        id: EventId(id),
        endpoint: EndpointId(1),
        instance: InstanceId::default(),
        from: Timestamp(0),
        to: Timestamp(0),
        reason: "test".into(),
    };
    ids.into_iter().map(|id| Record::Gap(gap(id))).collect()
}

fn batch(ids: impl IntoIterator<Item = i64>) -> CommitEvents {
    let info = FlushInfo { cause: FlushCause::Threshold, boundary: None, skipped_boundaries: 0, cut_at: Timestamp(0) };
    CommitEvents(EventBatch::new(info, Arc::new(records(ids))))
}

fn on_paused_time(test: impl Future<Output = ()> + 'static) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    actix::System::with_tokio_rt(runtime).block_on(test);
}

impl Bench {
    async fn store_now(&self, ids: impl IntoIterator<Item = i64>) {
        self.realtime.send(StoreNow(records(ids))).await.expect("it lives");
    }

    async fn commit(&self, ids: impl IntoIterator<Item = i64>) -> Committed {
        self.realtime.send(batch(ids)).await.expect("it lives")
    }

    async fn switch(&self, mode: StorageMode) -> Switched {
        self.realtime.send(Switch { mode: Some(mode), ..Switch::default() }).await.expect("it lives").expect("it is allowed")
    }

    /// Ids stored, and how many were stored by themselves.
    fn stored(&self) -> (Vec<i64>, u64) {
        self.database.with_tables(|tables| (tables.records.keys().map(|id| id.0).collect(), tables.singles))
    }
}

#[test]
fn in_realtime_each_record_is_a_transaction_and_its_batch_writes_nothing() {
    on_paused_time(async {
        let bench = bench(StorageMode::Realtime, Duration::from_millis(2));
        bench.store_now(1..=5).await;
        // The batch waits for what is still to be written.
        assert_eq!(bench.commit(1..=5).await, Committed { single: 5, ..Committed::default() });
        assert_eq!(bench.stored(), ((1..=5).collect(), 5));
        let flush = bench.flush_state.borrow().clone();
        assert_eq!((flush.rows_written, flush.rows_skipped), (5, 0));
        let usage = flush.ledger.all(bench.clock.monotonic())[&StorageMode::Realtime];
        assert_eq!((usage.events, usage.single_transactions, usage.batch_transactions), (5, 5, 1));
    });
}

#[test]
fn in_batched_it_writes_nothing_and_the_batch_is_as_new() {
    on_paused_time(async {
        let bench = bench(StorageMode::Batched, Duration::ZERO);
        bench.store_now(1..=5).await;
        assert_eq!(bench.commit(1..=5).await, Committed { written: 5, ..Committed::default() });
        assert_eq!(bench.stored(), ((1..=5).collect(), 0));
    });
}

#[test]
fn a_database_that_is_down_costs_nothing_and_the_batch_stores_all() {
    on_paused_time(async {
        let bench = bench(StorageMode::Realtime, Duration::from_millis(1));
        bench.store_now(1..=3).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        bench.database.set_down(Some("no connection"));
        bench.store_now(4..=500).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!((bench.state.borrow().queue_events, bench.state.borrow().left_to_batch), (0, 497));
        let calls = bench.database.with_tables(|tables| tables.calls);
        for id in 501..=600 {
            bench.store_now([id]).await;
        }
        assert_eq!(bench.database.with_tables(|tables| tables.calls), calls, "it is not hammered");
        bench.database.set_down(None);
        assert_eq!(bench.commit(1..=600).await, Committed { written: 597, single: 3, ..Committed::default() });
        // It works again by itself.
        bench.store_now([601]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(bench.stored(), ((1..=601).collect(), 4));
    });
}

#[test]
fn a_slow_database_fills_the_queue_and_no_further_and_the_batch_does_not_wait_for_it() {
    on_paused_time(async {
        let bench = bench(StorageMode::Realtime, Duration::from_secs(2));
        bench.store_now(1..=3_000).await;
        assert_eq!(bench.state.borrow().queue_events, EVENTS_MAX as u64);
        let before = bench.clock.monotonic();
        let committed = bench.commit(1..=3_000).await;
        assert_eq!((committed.written, committed.single), (2_999, 1));
        assert!(bench.clock.monotonic() - before <= PATIENCE + Duration::from_secs(4), "{:?}", bench.clock.monotonic() - before);
        assert_eq!(bench.state.borrow().left_to_batch, 2_999);
    });
}

#[test]
fn a_write_in_doubt_is_stored_once_either_way() {
    on_paused_time(async {
        for (fault, expected) in [
            (Fault::DoubtStored, Committed { written: 1, single: 2, ..Committed::default() }),
            (Fault::DoubtLost, Committed { written: 2, single: 1, ..Committed::default() }),
        ] {
            let bench = bench(StorageMode::Realtime, Duration::ZERO);
            bench.store_now([1]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            bench.database.fail_next([fault]);
            bench.store_now([2, 3]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(bench.commit(1..=3).await, expected, "{fault:?}");
            assert_eq!(bench.flush_state.borrow().rows_skipped, 0);
        }
    });
}

#[test]
fn in_dual_what_was_altered_or_lost_in_between_is_found_and_what_was_left_is_no_difference() {
    on_paused_time(async {
        let bench = bench(StorageMode::Dual, Duration::ZERO);
        bench.store_now(1..=4).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        bench.database.with_tables(|tables| {
            let Some(Record::Gap(gap)) = tables.records.get_mut(&EventId(2)) else { panic!("it is stored") };
            gap.reason = "altered".into();
            tables.records.remove(&EventId(3));
        });
        let committed = bench.commit(1..=5).await;
        assert_eq!((committed.written, committed.single), (2, 3));
        let found = committed.comparison;
        assert_eq!((found.identical, found.different, found.missing_in_realtime, found.missing_in_batch), (2, 1, 1, 0));
    });
}

#[test]
fn modes_may_change_at_any_time_and_nothing_is_lost_or_doubled() {
    on_paused_time(async {
        let bench = bench(StorageMode::Batched, Duration::from_millis(1));
        let mut rng = fastrand::Rng::with_seed(7);
        let mut given = 0;
        let mut written = 0;
        for _ in 0..200 {
            let first = given + 1;
            for _ in 0..rng.u8(1..5) {
                let count = rng.i64(1..30);
                bench.store_now(given + 1..=given + count).await;
                given += count;
                let mode = StorageMode::ALL[rng.usize(0..3)];
                bench.realtime.do_send(Switch { mode: Some(mode), ..Switch::default() });
                if rng.bool() {
                    bench.database.fail_next([[Fault::Unavailable, Fault::DoubtLost, Fault::DoubtStored][rng.usize(0..3)]]);
                }
                tokio::time::sleep(Duration::from_millis(rng.u64(0..40))).await;
            }
            let committed = bench.commit(first..=given).await;
            assert_eq!(committed.comparison.differing(), 0);
            written += committed.written;
        }
        let (stored, singles) = bench.stored();
        assert_eq!(stored, (1..=given).collect::<Vec<_>>());
        assert!(written > 0 && singles > 0);
    });
}

#[test]
fn a_switch_while_the_database_is_down_holds_at_once_and_is_kept_when_it_works_again() {
    on_paused_time(async {
        let bench = bench(StorageMode::Dual, Duration::ZERO);
        bench.database.set_down(Some("no connection"));
        let switched = bench.switch(StorageMode::Batched).await;
        assert!(switched.not_kept.is_some_and(|error| error.message.contains("no connection")));
        assert_eq!(bench.state.borrow().mode, StorageMode::Batched);
        let committing = bench.realtime.send(batch(1..=3));
        bench.database.set_down(None);
        committing.await.expect("it lives");
        tokio::time::sleep(Duration::from_millis(1)).await;
        let kept = bench.database.with_tables(|tables| tables.settings.get("storage.mode").cloned());
        assert_eq!(kept.as_deref(), Some("batched"));
        assert_eq!(bench.flush_state.borrow().unkept, None);
    });
}

#[test]
fn tuned_keys_are_checked_kept_and_given_back_to_the_configuration() {
    on_paused_time(async {
        let bench = bench(StorageMode::Batched, Duration::ZERO);
        let set = |name: &str, value: &str| Switch { mode: None, set: [(name.to_owned(), value.to_owned())].into() };
        let ask = |switch| bench.realtime.send(switch);
        ask(set("storage.max_buffer_size", "50")).await.expect("it lives").expect("it is allowed");
        assert_eq!(bench.state.borrow().tuning.max_buffer_size, 50);
        for (name, value) in [("storage.max_buffer_size", "0"), ("journal.max_bytes", "1 GiB"), ("storage.colour", "")] {
            let refused = ask(set(name, value)).await.expect("it lives");
            assert!(refused.is_err(), "{name}={value}");
        }
        let kept = || bench.database.with_tables(|tables| tables.settings.clone());
        assert_eq!(kept(), Settings::from([("storage.max_buffer_size".to_owned(), "50".to_owned())]));
        ask(set("storage.max_buffer_size", "")).await.expect("it lives").expect("it is allowed");
        assert_eq!((kept(), bench.state.borrow().tuning), (Settings::new(), Tuning::default()));
    });
}
