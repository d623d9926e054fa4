//! The FlushActor over a database in memory, on paused time.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::*;
use crate::clock::{Clock, Timestamp, VirtualClock};
use crate::event::{EndpointId, Gap, InstanceId, Record};
use crate::id::EventId;
use crate::store::memory::{Fault, MemoryDatabase};
use crate::store::{EventBatch, FlushCause, FlushInfo, NewEndpoint};

struct Bench {
    database: MemoryDatabase,
    flush: actix::Addr<FlushActor>,
    state: watch::Receiver<FlushState>,
    clock: Arc<VirtualClock>,
}

fn bench() -> Bench {
    bench_with(Blocking::immediate())
}

fn bench_with(blocking: Blocking) -> Bench {
    let database = MemoryDatabase::default();
    let clock = VirtualClock::starting_at(Timestamp(1_795_435_200_000_000));
    let (publish, state) = watch::channel(FlushState::default());
    let rng = fastrand::Rng::with_seed(1);
    let flush = FlushActor::new(
        Box::new(database.store()),
        blocking,
        clock.clone(),
        rng,
        crate::config::RetentionConfig::LONGEST,
        publish,
    )
    .start();
    Bench { database, flush, state, clock }
}

/// A batch of the given ids.
fn batch(ids: impl IntoIterator<Item = i64>) -> EventBatch {
    let gap = |id| {
        let (from, to) = (Timestamp(0), Timestamp(0));
        Record::Gap(Gap {
            id: EventId(id),
            endpoint: EndpointId(1),
            instance: InstanceId::default(),
            from,
            to,
            reason: "test".into(),
        })
    };
    let info = FlushInfo { cause: FlushCause::Threshold, boundary: None, skipped_boundaries: 0, cut_at: Timestamp(0) };
    EventBatch::new(info, Arc::new(ids.into_iter().map(gap).collect()))
}

fn endpoint(name: &str) -> NewEndpoint {
    NewEndpoint {
        name: name.to_owned(),
        url: "http://127.0.0.1:1".parse().expect("a URL"),
        api_key: crate::endpoint::ApiKey::new("k"),
        tls: crate::endpoint::TlsPolicy::Verify,
        log_events: None,
    }
}

/// Runs a test on actix's System over paused time.
fn on_paused_time<T>(test: impl Future<Output = T> + 'static) -> T
where
    T: 'static,
{
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    actix::System::with_tokio_rt(runtime).block_on(test)
}

#[test]
fn a_failed_batch_is_tried_again_with_growing_waits_until_it_is_committed() {
    on_paused_time(async {
        let bench = bench();
        bench.database.fail_next([Fault::Unavailable; 3]);
        let before = bench.clock.monotonic();
        let committed = bench.flush.send(CommitEvents(batch(1..=10))).await.expect("an answer");
        assert_eq!(committed, Committed { written: 10, ..Committed::default() });
        let waited = bench.clock.monotonic() - before;
        assert!(waited >= Duration::from_secs(1 + 2 + 4) && waited < Duration::from_secs(10), "{waited:?}");
        let state = bench.state.borrow().clone();
        assert_eq!((state.failures, state.retries, state.write_transactions, state.error), (3, 3, 1, None));
    });
}

#[test]
fn a_commit_in_doubt_is_repeated_without_storing_anything_twice() {
    on_paused_time(async {
        for (fault, skipped) in [(Fault::DoubtStored, 10), (Fault::DoubtLost, 0)] {
            let bench = bench();
            bench.database.fail_next([fault]);
            let committed = bench.flush.send(CommitEvents(batch(1..=10))).await.expect("an answer");
            assert_eq!(committed.skipped, skipped, "{fault:?}");
            bench.database.with_tables(|tables| assert_eq!((tables.records.len(), tables.flushes.len()), (10, 1)));
        }
    });
}

#[test]
fn batches_are_committed_in_the_order_of_sending_also_after_a_failure() {
    on_paused_time(async {
        let bench = bench();
        bench.database.fail_next([Fault::Unavailable]);
        let first = bench.flush.send(CommitEvents(batch(1..=3)));
        let second = bench.flush.send(CommitEvents(batch(4..=6)));
        let _ = futures_util::future::join(first, second).await;
        let firsts: Vec<i64> = bench.database.with_tables(|tables| tables.flushes.iter().map(|flush| flush.first.0).collect());
        assert_eq!(firsts, [1, 4]);
    });
}

#[test]
fn while_the_database_is_down_live_state_is_answered_with_the_failure_and_does_not_hammer_it() {
    on_paused_time(async {
        let bench = bench();
        bench.database.set_down(Some("no connection"));
        let waiting = bench.flush.send(CommitEvents(batch(1..=3)));
        tokio::time::sleep(Duration::from_millis(1)).await;
        let calls = bench.database.with_tables(|tables| tables.calls);
        for _ in 0..100 {
            let answer = bench.flush.send(SyncLive(LiveChanges::default())).await.expect("an answer");
            assert_eq!(answer.expect_err("down").message, "no connection");
        }
        assert_eq!(bench.database.with_tables(|tables| tables.calls), calls);
        bench.database.set_down(None);
        waiting.await.expect("an answer");
        assert!(bench.flush.send(SyncLive(LiveChanges::default())).await.expect("an answer").is_ok());
    });
}

#[test]
fn an_outage_is_one_line_of_the_log_however_often_its_reason_changes() {
    on_paused_time(async {
        let lines = Rc::new(RefCell::new(Vec::new()));
        let sink = lines.clone();
        let _capture = crate::sim::logs::capture(move |line| sink.borrow_mut().push(line.to_owned()));
        let bench = bench();
        bench.database.set_down(Some("locked"));
        let waiting = bench.flush.send(CommitEvents(batch(1..=3)));
        for _ in 0..20 {
            for reason in ["read-only", "locked", "no connection"] {
                bench.database.set_down(Some(reason));
                tokio::time::sleep(Duration::from_secs(70)).await;
                assert_eq!(bench.state.borrow().error.as_deref(), Some(reason), "the stats have the present one");
            }
        }
        bench.database.set_down(None);
        waiting.await.expect("an answer");
        let lines = lines.borrow();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[0].starts_with("WARN") && lines[1].contains("works again"), "{lines:#?}");
    });
}

#[test]
fn someone_who_waits_makes_it_try_at_once() {
    on_paused_time(async {
        let bench = bench();
        bench.database.set_down(Some("no connection"));
        let waiting = bench.flush.send(CommitEvents(batch(1..=3)));
        tokio::time::sleep(Duration::from_secs(600)).await;
        bench.database.set_down(None);
        let before = bench.clock.monotonic();
        bench.flush.send(TryNow).await.expect("an answer");
        waiting.await.expect("an answer");
        assert_eq!(bench.clock.monotonic() - before, Duration::ZERO);
    });
}

#[test]
fn a_definition_that_is_refused_is_answered_and_is_no_failure_of_the_database() {
    on_paused_time(async {
        let bench = bench();
        let add = || bench.flush.send(AddEndpoint(endpoint("tokyo")));
        assert!(add().await.expect("an answer").is_ok());
        assert_eq!(add().await.expect("an answer").expect_err("taken").kind, StoreErrorKind::Refused);
        assert_eq!(bench.state.borrow().failures, 0);
    });
}

/// A purge of millions of rows takes minutes; nobody waits for it.
#[test]
fn batches_live_state_and_definitions_are_written_between_the_steps_of_a_purge() {
    on_paused_time(async {
        let step = Duration::from_millis(10);
        let bench = bench_with(Blocking::Inline(Arc::new(move |_| step)));
        let id = bench.flush.send(AddEndpoint(endpoint("tokyo"))).await.expect("an answer").expect("it is new");
        for batch_no in 0..50 {
            bench.flush.send(CommitEvents(batch(batch_no * 100 + 1..=batch_no * 100 + 100))).await.expect("an answer");
        }
        let before = bench.clock.monotonic();
        let removed = async {
            bench.flush.send(RemoveEndpoint { id, purge: true }).await.expect("an answer").expect("it works");
            bench.clock.monotonic() - before
        };
        let others = async {
            // One step is under way and one more has its turn.
            bench.flush.send(CommitEvents(batch(9_001..=9_010))).await.expect("an answer");
            bench.flush.send(CommitEvents(batch(9_011..=9_020))).await.expect("an answer");
            bench.flush.send(SyncLive(LiveChanges::default())).await.expect("an answer").expect("it works");
            bench.flush.send(AddEndpoint(endpoint("osaka"))).await.expect("an answer").expect("it works");
            bench.clock.monotonic() - before
        };
        let (removed, others) = futures_util::future::join(removed, others).await;
        assert!(others <= step * 9, "{others:?}");
        assert!(removed >= step * 50, "{removed:?}");
        bench.database.with_tables(|tables| assert_eq!((tables.records.len(), tables.endpoints.len()), (0, 1)));
    });
}

#[test]
fn a_purge_that_fails_is_answered_and_can_be_asked_for_again() {
    on_paused_time(async {
        let bench = bench();
        let id = bench.flush.send(AddEndpoint(endpoint("tokyo"))).await.expect("an answer").expect("it is new");
        bench.flush.send(CommitEvents(batch(1..=250))).await.expect("an answer");
        bench.database.fail_next([Fault::Unavailable]);
        let remove = || bench.flush.send(RemoveEndpoint { id, purge: true });
        assert!(remove().await.expect("an answer").is_err());
        bench.database.with_tables(|tables| assert_eq!(tables.endpoints.len(), 1));
        assert!(remove().await.expect("an answer").is_ok());
        bench.database.with_tables(|tables| assert_eq!((tables.records.len(), tables.endpoints.len()), (0, 0)));
    });
}

#[test]
fn a_table_that_was_not_swept_for_more_than_an_hour_past_its_retention_is_told_until_it_was() {
    on_paused_time(async {
        let bench = bench();
        let late = || bench.state.borrow().expiry_late.clone();
        let minutes = |minutes: u64| tokio::time::sleep(Duration::from_secs(minutes * 60));
        minutes(70).await;
        assert_eq!(late(), Vec::<&str>::new());
        // Rows grow older by two hours at once, twenty minutes before the next sweep.
        bench.clock.step(2 * 3_600 * Timestamp::SECOND);
        minutes(2).await;
        assert!(late().contains(&"service_history") && late().contains(&"endpoint_sse"), "{:?}", late());
        minutes(30).await;
        assert_eq!(late(), Vec::<&str>::new());
    });
}

#[test]
fn stop_is_answered_when_nothing_is_being_written_any_more() {
    on_paused_time(async {
        let bench = bench();
        bench.database.set_down(Some("no connection"));
        let waiting = bench.flush.send(CommitEvents(batch(1..=3)));
        bench.flush.send(Stop).await.expect("an answer");
        let calls = bench.database.with_tables(|tables| tables.calls);
        let never = tokio::time::timeout(Duration::from_secs(3600), waiting).await;
        assert!(never.is_err());
        assert_eq!(bench.database.with_tables(|tables| tables.calls), calls);
    });
}
