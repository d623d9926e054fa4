//! The FlushActor over a database in memory, on paused time.

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
    let database = MemoryDatabase::default();
    let clock = VirtualClock::starting_at(Timestamp(1_795_435_200_000_000));
    let (publish, state) = watch::channel(FlushState::default());
    let rng = fastrand::Rng::with_seed(1);
    let flush = FlushActor::new(Box::new(database.store()), Blocking::immediate(), clock.clone(), rng, publish).start();
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
