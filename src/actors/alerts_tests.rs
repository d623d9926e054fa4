use std::cell::RefCell;
use std::collections::VecDeque;

use actix::System;
use futures_util::future::{FutureExt, LocalBoxFuture};

use super::*;
use crate::actors::sse_ingest::IngestState;
use crate::clock::{Timestamp, VirtualClock};
use crate::endpoint::EndpointHealth;
use crate::event::EndpointId;
use crate::store::memory::{MemoryDatabase, MemoryStore};
use crate::store::{Store, StoreError};

/// Answers as it is told, else well, and keeps what was sent.
#[derive(Default)]
struct FakeNotify {
    answers: RefCell<VecDeque<Result<(), PostError>>>,
    sent: RefCell<Vec<String>>,
    /// Never answers.
    dead: Option<Channel>,
}

impl Notify for FakeNotify {
    fn send(&self, channel: Channel, message: &Message) -> LocalBoxFuture<'static, Result<(), PostError>> {
        self.sent.borrow_mut().push(format!("{}: {}", channel.as_str(), message.text));
        if self.dead == Some(channel) {
            return std::future::pending().boxed_local();
        }
        let answer = self.answers.borrow_mut().pop_front().unwrap_or(Ok(()));
        async move { answer }.boxed_local()
    }
}

/// What masters moved.
struct FakeTraffic(Vec<(String, u64)>);

impl CycleTraffic for FakeTraffic {
    fn sums(&self) -> LocalBoxFuture<'static, Result<Vec<(String, u64)>, String>> {
        let sums = self.0.clone();
        async { Ok(sums) }.boxed_local()
    }
}

/// Tells of one tunnel in error, or of none.
struct FakeCache(bool);

impl Actor for FakeCache {
    type Context = Context<Self>;
}

impl Handler<ReadInError> for FakeCache {
    type Result = Vec<(TunnelKey, String)>;

    fn handle(&mut self, _: ReadInError, _: &mut Self::Context) -> Self::Result {
        let key = TunnelKey { endpoint: EndpointId(0), instance: "9545ac3d".into() };
        if self.0 { vec![(key, String::new())] } else { Vec::new() }
    }
}

/// Stores what people were told.
struct FakeFlush(MemoryStore);

impl Actor for FakeFlush {
    type Context = Context<Self>;
}

impl Handler<KeepAlerts> for FakeFlush {
    type Result = Result<(), StoreError>;

    fn handle(&mut self, KeepAlerts(changes): KeepAlerts, _: &mut Self::Context) -> Self::Result {
        self.0.keep_alerts(&changes)
    }
}

struct Fixture {
    notify: Rc<FakeNotify>,
    cache: watch::Sender<CacheState>,
    state: watch::Receiver<AlertsState>,
    actor: actix::Addr<AlertsActor>,
    _kept: (watch::Sender<EndpointsState>, watch::Sender<BufferState>, Vec<watch::Sender<IngestState>>),
}

/// Masters `m0`, `m1`, ... of which `m0` has a tunnel.
fn start(masters: i32, tunnel_in_error: bool) -> Fixture {
    start_with(masters, tunnel_in_error, &[])
}

fn start_with(masters: i32, tunnel_in_error: bool, traffic: &[(&str, u64)]) -> Fixture {
    start_on(&MemoryDatabase::default(), vec![Channel::Webhook], FakeNotify::default(), masters, tunnel_in_error, traffic)
}

/// With what people were told as it is in a database.
fn start_on(
    database: &MemoryDatabase,
    channels: Vec<Channel>,
    notify: FakeNotify,
    masters: i32,
    tunnel_in_error: bool,
    traffic: &[(&str, u64)],
) -> Fixture {
    let minute = Some(Duration::from_secs(60));
    let rules = Rules {
        endpoint_offline: minute,
        tunnel_error: minute,
        flush_overdue: minute,
        journal_full: minute,
        journal_percent: 80,
        traffic_limit: Some(1_000),
    };
    let mut kept = Vec::new();
    let names = (0..masters).map(|n| {
        let (sender, receiver) = watch::channel(IngestState::default());
        kept.push(sender);
        (EndpointId(n), (format!("m{n}"), receiver))
    });
    let (keep_endpoints, endpoints) = watch::channel(names.collect());
    let (keep_buffer, buffer) = watch::channel(BufferState::default());
    let (cache, cache_state) = watch::channel(CacheState::default());
    let (publish, state) = watch::channel(AlertsState::default());
    let notify = Rc::new(notify);
    let setup = AlertsSetup {
        rules,
        channels,
        notify: notify.clone(),
        clock: VirtualClock::starting_at(Timestamp(0)),
        journal_bytes_max: 100,
        cache: cache_state,
        endpoints,
        buffer,
        traffic: Rc::new(FakeTraffic(traffic.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect())),
        told: database.with_tables(|tables| tables.alerts.values().cloned().collect()),
        keep: FakeFlush(database.store()).start().recipient(),
        read_in_error: FakeCache(tunnel_in_error).start().recipient(),
        publish,
    };
    let actor = AlertsActor::new(setup).start();
    Fixture { notify, cache, state, actor, _kept: (keep_endpoints, keep_buffer, kept) }
}

fn set(fixture: &Fixture, masters: i32, status: EndpointStatus) {
    let health = EndpointHealth { status, reason: "connection refused".to_owned(), ..EndpointHealth::default() };
    fixture.cache.send_modify(|state| {
        state.endpoints = (0..masters).map(|n| (EndpointId(n), (health.clone(), 1))).collect();
    });
}

fn paused<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    System::with_tokio_rt(runtime).block_on(test());
}

#[test]
fn a_fleet_that_goes_is_one_message_and_one_when_it_is_back() {
    paused(|| async {
        let fixture = start(20, false);
        set(&fixture, 20, EndpointStatus::Offline);
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(fixture.state.borrow().active.len(), 20);
        set(&fixture, 20, EndpointStatus::Online);
        tokio::time::sleep(Duration::from_secs(90)).await;
        let sent = fixture.notify.sent.borrow().clone();
        assert_eq!(sent.len(), 2, "{sent:?}");
        assert!(sent[0].starts_with("webhook: 20 masters offline: m0, "), "{sent:?}");
        assert!(sent[1].starts_with("webhook: 20 masters online again: "), "{sent:?}");
        assert!(fixture.state.borrow().active.is_empty());
        assert_eq!(fixture.state.borrow().channels[0].1.sent, 2);
    });
}

#[test]
fn a_tunnel_in_error_is_told_of() {
    paused(|| async {
        let fixture = start(1, true);
        set(&fixture, 1, EndpointStatus::Online);
        tokio::time::sleep(Duration::from_secs(90)).await;
        let sent = fixture.notify.sent.borrow().clone();
        assert_eq!(sent, ["webhook: m0/9545ac3d in error: tunnel 9545ac3d is in error"]);
    });
}

#[test]
fn a_master_at_its_traffic_limit_is_told_of() {
    paused(|| async {
        let fixture = start_with(2, false, &[("m0", 999), ("m1", 1_000)]);
        set(&fixture, 2, EndpointStatus::Online);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let sent = fixture.notify.sent.borrow().clone();
        assert_eq!(sent, ["webhook: m1 at its traffic limit: 1000 B moved in this billing cycle, of 1000 B"]);
    });
}

#[test]
fn what_is_not_taken_is_tried_again_and_the_failure_is_shown() {
    paused(|| async {
        let fixture = start(1, false);
        fixture
            .notify
            .answers
            .borrow_mut()
            .extend([Err(PostError::passing("it answered 500")), Err(PostError::passing("it answered 500"))]);
        set(&fixture, 1, EndpointStatus::Offline);
        let mut state = fixture.state.clone();
        let channel = |state: &AlertsState| state.channels.first().map(|(_, channel)| channel.clone()).unwrap_or_default();
        state.wait_for(|state| channel(state).last_error.as_deref() == Some("it answered 500")).await.unwrap();
        state.wait_for(|state| channel(state).sent == 1).await.unwrap();
        let channel = state.borrow().channels[0].1.clone();
        assert_eq!((channel.failures, channel.waiting, channel.last_error), (2, 0, None));
        assert_eq!(fixture.notify.sent.borrow().len(), 3);
    });
}

#[test]
fn what_is_refused_for_good_is_given_up_and_shown() {
    paused(|| async {
        let fixture = start(1, false);
        fixture.notify.answers.borrow_mut().push_back(Err(PostError::permanent("it answered 404")));
        set(&fixture, 1, EndpointStatus::Offline);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(fixture.notify.sent.borrow().len(), 1, "once");
        let channel = fixture.state.borrow().channels[0].1.clone();
        assert_eq!((channel.given_up, channel.waiting), (1, 0));
        let given_up = &channel.last_given_up[0];
        assert_eq!((&*given_up.title, &*given_up.reason), ("m0 offline: connection refused", "it answered 404"));
    });
}

#[test]
fn a_channel_that_never_answers_does_not_hold_up_another() {
    paused(|| async {
        let notify = FakeNotify { dead: Some(Channel::Webhook), ..FakeNotify::default() };
        let fixture = start_on(&MemoryDatabase::default(), vec![Channel::Webhook, Channel::Telegram], notify, 1, false, &[]);
        set(&fixture, 1, EndpointStatus::Offline);
        tokio::time::sleep(Duration::from_secs(90)).await;
        set(&fixture, 1, EndpointStatus::Online);
        tokio::time::sleep(Duration::from_secs(90)).await;
        let state = fixture.state.borrow();
        let of = |channel| state.channels.iter().find(|(name, _)| *name == channel).map(|(_, state)| state.clone()).unwrap();
        assert_eq!((of(Channel::Telegram).sent, of(Channel::Webhook).waiting), (2, 2));
    });
}

fn on(database: &MemoryDatabase, notify: FakeNotify) -> Fixture {
    start_on(database, vec![Channel::Webhook], notify, 1, false, &[])
}

/// How many alerts the database holds as told, and how often it was called.
fn stored(database: &MemoryDatabase) -> (usize, u64) {
    database.with_tables(|tables| (tables.alerts.len(), tables.calls))
}

#[test]
fn a_restart_does_not_tell_again_and_tells_what_is_over_since() {
    paused(|| async {
        let database = MemoryDatabase::default();
        let first = on(&database, FakeNotify::default());
        set(&first, 1, EndpointStatus::Offline);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!((first.notify.sent.borrow().len(), stored(&database).0), (1, 1));
        let again = on(&database, FakeNotify::default());
        set(&again, 1, EndpointStatus::Offline);
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert!(again.notify.sent.borrow().is_empty(), "{:?}", again.notify.sent.borrow());
        assert_eq!(again.state.borrow().active.len(), 1, "it still holds");
        assert_eq!(stored(&database), (1, 1), "what does not change is not written");
        set(&again, 1, EndpointStatus::Online);
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(*again.notify.sent.borrow(), ["webhook: m0 online again"]);
        assert_eq!(stored(&database).0, 0);
    });
}

#[test]
fn what_nobody_was_told_is_told_by_the_next_recorder() {
    paused(|| async {
        let database = MemoryDatabase::default();
        let first = on(&database, FakeNotify { dead: Some(Channel::Webhook), ..FakeNotify::default() });
        set(&first, 1, EndpointStatus::Offline);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!((first.state.borrow().active.len(), stored(&database).0), (1, 0));
        let again = on(&database, FakeNotify::default());
        set(&again, 1, EndpointStatus::Offline);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(*again.notify.sent.borrow(), ["webhook: m0 offline: connection refused"]);
    });
}

#[test]
fn what_was_told_while_the_database_is_down_is_stored_when_it_works_again() {
    paused(|| async {
        let database = MemoryDatabase::default();
        database.set_down(Some("away"));
        let fixture = on(&database, FakeNotify::default());
        set(&fixture, 1, EndpointStatus::Offline);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!((fixture.notify.sent.borrow().len(), stored(&database).0), (1, 0));
        database.set_down(None);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(stored(&database).0, 1);
    });
}

#[test]
fn who_pauses_a_master_that_is_told_of_is_told_that_it_is_not_watched_any_more() {
    paused(|| async {
        let database = MemoryDatabase::default();
        let fixture = on(&database, FakeNotify::default());
        set(&fixture, 1, EndpointStatus::Offline);
        tokio::time::sleep(Duration::from_secs(90)).await;
        set(&fixture, 1, EndpointStatus::Disconnect);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(fixture.notify.sent.borrow()[1..], ["webhook: m0 no longer watched (paused or removed)"]);
        assert_eq!((fixture.state.borrow().active.len(), stored(&database).0), (0, 0));
    });
}

#[test]
fn a_test_goes_out_at_once_and_says_how_it_went() {
    paused(|| async {
        let fixture = start(1, false);
        assert_eq!(fixture.actor.send(Test).await.unwrap(), [(Channel::Webhook, Ok(()))]);
        fixture.notify.answers.borrow_mut().push_back(Err(PostError::passing("connection refused")));
        let refused = Err("connection refused".to_owned());
        assert_eq!(fixture.actor.send(Test).await.unwrap(), [(Channel::Webhook, refused)]);
    });
}
