//! The SseIngestActor on paused time, with a master made of scripts and probes in place of the other actors.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, ResponseFuture, System};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde_json::json;
use tidegate::actors::buffer::{Append, Refusal, Refused};
use tidegate::actors::cache::{Apply, SetHealth};
use tidegate::actors::endpoints::{CertificateSeen, Identified, KeyRotated};
use tidegate::actors::history_worker::{LearnVersion, Observe};
use tidegate::actors::sse_ingest::{
    Backlog, Downstream, Drain, IngestSetup, IngestState, READ_SPACING, Retarget, SseIngestActor,
};
use tidegate::clock::{Clock, Timestamp, VirtualClock};
use tidegate::endpoint::{ApiKey, Endpoint, EndpointHealth, EndpointStatus, Fingerprint, TlsPolicy};
use tidegate::event::{Bunch, EndpointId, EventKind, Gap, InstanceId, Record, Sample, TunnelState};
use tidegate::id::{EventId, IdGenerator};
use tidegate::sse::EVENT_BYTES_MAX;
use tidegate::transport::{OpenStream, Target, Transport, TransportError};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

const START: Timestamp = Timestamp(1_795_435_200_000_000);
const KEY: &str = "fa4ec0de94466eb9305cbb1792a8bad5";
const NEW_KEY: &str = "fa4ec0dec05c3c9cd3f10664f64910ad";

type Feed = mpsc::UnboundedSender<Result<Bytes, TransportError>>;

/// What the scripted master saw, and what it answers.
#[derive(Default)]
struct Script {
    /// When it was connected to and with which key.
    connects: Vec<(Instant, String)>,
    /// Outcomes of the next connections; a good one where there is none.
    outcomes: VecDeque<TransportError>,
    /// The open streams, the newest last.
    feeds: Vec<Feed>,
    certificate: Option<Fingerprint>,
    instances: Option<Result<String, TransportError>>,
    gets: Vec<(Instant, &'static str)>,
    /// Answers to the next questions for `/info`; a version without uptime where there is none.
    infos: VecDeque<Result<serde_json::Value, TransportError>>,
}

#[derive(Clone, Default)]
struct Master(Rc<RefCell<Script>>);

impl Transport for Master {
    #[expect(clippy::disallowed_methods, reason = "a test notes the virtual time")]
    fn events(&self, target: &Target) -> LocalBoxFuture<'static, Result<OpenStream, TransportError>> {
        let mut script = self.0.borrow_mut();
        script.connects.push((Instant::now(), target.api_key.reveal().to_owned()));
        if let Some(error) = script.outcomes.pop_front() {
            return async { Err(error) }.boxed_local();
        }
        let (feed, mut body) = mpsc::unbounded_channel();
        script.feeds.push(feed);
        let certificate = script.certificate;
        let body = futures_util::stream::poll_fn(move |cx| body.poll_recv(cx)).boxed_local();
        async move { Ok(OpenStream { body, certificate }) }.boxed_local()
    }

    #[expect(clippy::disallowed_methods, reason = "a test notes the virtual time")]
    fn get(&self, _: &Target, call: &'static str) -> LocalBoxFuture<'static, Result<Bytes, TransportError>> {
        let mut script = self.0.borrow_mut();
        script.gets.push((Instant::now(), call));
        let answer = match call {
            "/info" => match script.infos.pop_front() {
                Some(info) => info.map(|info| info.to_string()),
                None => Ok(r#"{"ver":"v1.14.0"}"#.to_owned()),
            },
            _ => script.instances.clone().unwrap_or(Err(TransportError::WrongPath { path: call.to_owned() })),
        };
        async move { answer.map(Bytes::from) }.boxed_local()
    }
}

/// Stands for all other actors and keeps what they were told.
#[derive(Default)]
struct Seen {
    applied: Vec<Record>,
    observed: usize,
    /// What the history was told, in order: reasons of gaps, and versions.
    told: Vec<String>,
    appended: Vec<Record>,
    health: Vec<EndpointHealth>,
    keys: Vec<String>,
    master_ids: Vec<String>,
    fingerprints: Vec<Fingerprint>,
    refuse: Option<Refused>,
    /// Refused, but not before it is let go.
    refuse_held: Option<Refused>,
    /// Of a refused bunch, so many records are kept.
    kept: usize,
    hold: Vec<tokio::sync::oneshot::Sender<()>>,
    holding: bool,
}

#[derive(Clone, Default)]
struct Probe(Rc<RefCell<Seen>>);

impl Actor for Probe {
    type Context = Context<Self>;
}

fn records(bunch: &Bunch) -> impl Iterator<Item = Record> + '_ {
    bunch.records.iter().cloned()
}

impl Handler<Apply> for Probe {
    type Result = ();
    fn handle(&mut self, Apply(bunch): Apply, _: &mut Context<Self>) {
        self.0.borrow_mut().applied.extend(records(&bunch));
    }
}

impl Handler<Observe> for Probe {
    type Result = ();
    fn handle(&mut self, Observe(bunch): Observe, _: &mut Context<Self>) {
        let mut seen = self.0.borrow_mut();
        seen.observed += bunch.records.len();
        seen.told.extend(records(&bunch).filter_map(|record| match record {
            Record::Gap(gap) => Some(gap.reason.into()),
            Record::Event(_) => None,
        }));
    }
}

impl Handler<LearnVersion> for Probe {
    type Result = ();
    fn handle(&mut self, told: LearnVersion, _: &mut Context<Self>) {
        self.0.borrow_mut().told.push(told.version.into());
    }
}

impl Handler<Append> for Probe {
    type Result = ResponseFuture<Result<(), Refusal>>;
    fn handle(&mut self, Append(bunch): Append, _: &mut Context<Self>) -> Self::Result {
        let mut seen = self.0.borrow_mut();
        if let Some(refused) = seen.refuse {
            let kept = seen.kept;
            return Box::pin(async move { Err(Refusal { kept, reason: refused }) });
        }
        if let Some(reason) = seen.refuse_held {
            let (held, release) = tokio::sync::oneshot::channel();
            seen.hold.push(held);
            return Box::pin(async move {
                let _ = release.await;
                Err(Refusal { kept: 0, reason })
            });
        }
        seen.appended.extend(records(&bunch));
        if !seen.holding {
            return Box::pin(async { Ok(()) });
        }
        let (held, release) = tokio::sync::oneshot::channel();
        seen.hold.push(held);
        Box::pin(async move {
            let _ = release.await;
            Ok(())
        })
    }
}

impl Handler<SetHealth> for Probe {
    type Result = ();
    fn handle(&mut self, told: SetHealth, _: &mut Context<Self>) {
        self.0.borrow_mut().health.push(told.health);
    }
}

impl Handler<KeyRotated> for Probe {
    type Result = ();
    fn handle(&mut self, told: KeyRotated, _: &mut Context<Self>) {
        self.0.borrow_mut().keys.push(told.api_key.reveal().to_owned());
    }
}

impl Handler<Identified> for Probe {
    type Result = ();
    fn handle(&mut self, told: Identified, _: &mut Context<Self>) {
        self.0.borrow_mut().master_ids.push(told.master_id);
    }
}

impl Handler<CertificateSeen> for Probe {
    type Result = ();
    fn handle(&mut self, told: CertificateSeen, _: &mut Context<Self>) {
        self.0.borrow_mut().fingerprints.push(told.fingerprint);
    }
}

fn endpoint() -> Endpoint {
    Endpoint {
        id: EndpointId(1),
        name: "tokyo".to_owned(),
        url: "http://10.0.0.5:9090".parse().unwrap(),
        api_key: ApiKey::new(KEY),
        tls: TlsPolicy::Verify,
        paused: false,
        log_events: None,
        master_id: None,
    }
}

/// A running actor and both ends of it.
struct World {
    master: Master,
    probe: Probe,
    actor: Addr<SseIngestActor>,
    state: watch::Receiver<IngestState>,
    clock: std::sync::Arc<VirtualClock>,
}

impl World {
    fn start(change: impl FnOnce(&mut IngestSetup, &Master)) -> Self {
        let (master, probe, clock) = (Master::default(), Probe::default(), VirtualClock::starting_at(START));
        let addr = probe.clone().start();
        let (sender, state) = watch::channel(IngestState::default());
        let mut setup = IngestSetup {
            backlog: Rc::new(Backlog::new(clock.monotonic())),
            endpoint: endpoint(),
            known: BTreeMap::new(),
            last_heard: None,
            log_events: true,
            ids: Rc::new(RefCell::new(IdGenerator::new(0, EventId::ZERO))),
            clock: clock.clone(),
            transport: Rc::new(master.clone()),
            rng: fastrand::Rng::with_seed(1),
            downstream: Downstream {
                cache: addr.clone().recipient(),
                health: addr.clone().recipient(),
                history: addr.clone().recipient(),
                version: addr.clone().recipient(),
                buffer: addr.clone().recipient(),
                key_rotated: addr.clone().recipient(),
                identified: addr.clone().recipient(),
                certificate_seen: addr.recipient(),
            },
            state: sender,
        };
        change(&mut setup, &master);
        let actor = SseIngestActor::new(setup).start();
        Self { master, probe, actor, state, clock }
    }

    /// Sends bytes over the newest stream and lets them arrive.
    async fn send(&self, bytes: impl AsRef<[u8]>) {
        let feed = self.master.0.borrow().feeds.last().expect("a stream is open").clone();
        feed.send(Ok(Bytes::copy_from_slice(bytes.as_ref()))).expect("the stream is read");
        until_read().await;
    }

    /// The newest stream ends cleanly.
    async fn end(&self) {
        self.master.0.borrow_mut().feeds.pop();
        until_read().await;
    }

    fn connects(&self) -> usize {
        self.master.0.borrow().connects.len()
    }

    fn gaps(&self) -> Vec<Gap> {
        let gap = |record: &Record| if let Record::Gap(gap) = record { Some(gap.clone()) } else { None };
        self.probe.0.borrow().appended.iter().filter_map(gap).collect()
    }

    fn health(&self) -> EndpointHealth {
        self.probe.0.borrow().health.last().cloned().unwrap_or_default()
    }

    fn state(&self) -> IngestState {
        self.state.borrow().clone()
    }

    fn asked(&self, call: &str) -> usize {
        self.master.0.borrow().gets.iter().filter(|(_, asked)| *asked == call).count()
    }
}

async fn tick() {
    sleep(Duration::from_millis(1)).await;
}

/// What follows something else is read at the next of the moments at which all connections are read.
async fn until_read() {
    sleep(READ_SPACING).await;
    tick().await;
}

async fn seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
}

fn on_paused_time(test: impl Future<Output = ()>) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    System::with_tokio_rt(runtime).block_on(test);
}

fn instance(id: &str, tcp_rx: u64) -> serde_json::Value {
    json!({"id": id, "type": "client", "status": "running", "url": "client://tunnelpass@10.0.0.5:101/:80",
           "tcprx": tcp_rx, "tcptx": 0, "udprx": 0, "udptx": 0})
}

fn event(kind: &str, instance: &serde_json::Value) -> String {
    let data = json!({"type": kind, "time": "2026-11-23T12:00:00Z", "instance": instance, "logs": ""});
    format!("event: instance\ndata: {data}\n\n")
}

fn key_holder(kind: &str, key: &str) -> String {
    event(
        kind,
        &json!({"id": "********", "type": "", "status": "", "url": key, "config": "5d5a3a3751d81486",
                       "tcprx": 0, "tcptx": 0, "udprx": 0, "udptx": 0}),
    )
}

const SHUTDOWN: &str = "event: instance\ndata: {\"type\":\"shutdown\",\"time\":\"\",\"instance\":null,\"logs\":\"\"}\n\n";

#[test]
fn events_reach_cache_history_and_buffer_and_count_as_received_when_the_journal_has_them() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        tick().await;
        world.probe.0.borrow_mut().holding = true;
        world.send(key_holder("initial", KEY) + &event("initial", &instance("aaaaaaaa", 1))).await;
        world.send(event("update", &instance("aaaaaaaa", 2))).await;
        {
            let seen = world.probe.0.borrow();
            assert_eq!((seen.applied.len(), seen.observed, seen.appended.len()), (2, 2, 2));
            assert_eq!(seen.master_ids, ["5d5a3a3751d81486"]);
            assert!(seen.keys.is_empty(), "the key is the one in use");
            assert!(seen.applied.windows(2).all(|pair| pair[0].id() < pair[1].id()));
        }
        assert_eq!(world.state().events_received, 0);
        world.probe.0.borrow_mut().hold.drain(..).for_each(|held| held.send(()).unwrap());
        tick().await;
        assert_eq!(world.state().events_received, 2);
        assert_eq!(world.state().events, BTreeMap::from([("initial".to_owned(), 1), ("update".to_owned(), 1)]));
        assert_eq!((world.health().status, world.health().version), (EndpointStatus::Online, Some("v1.14.0".to_owned())));
    });
}

#[test]
fn a_journal_that_does_not_answer_does_not_stop_the_reading() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        tick().await;
        world.probe.0.borrow_mut().holding = true;
        for n in 0..500 {
            world.send(event("update", &instance("aaaaaaaa", n))).await;
        }
        assert_eq!(world.probe.0.borrow().applied.len(), 500);
        assert_eq!(world.state().events_received, 0);
    });
}

#[test]
fn an_initial_event_that_says_nothing_new_is_a_sample_and_not_stored() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        tick().await;
        world.send(event("initial", &instance("aaaaaaaa", 1))).await;
        world.send(event("initial", &instance("aaaaaaaa", 1))).await;
        let seen = world.probe.0.borrow();
        assert_eq!((seen.applied.len(), seen.observed, seen.appended.len()), (2, 2, 1));
    });
}

#[test]
fn log_events_are_not_stored_where_that_is_off_but_their_status_counts() {
    on_paused_time(async {
        let world = World::start(|setup, _| setup.log_events = false);
        tick().await;
        world.send(event("log", &instance("aaaaaaaa", 1))).await;
        let seen = world.probe.0.borrow();
        assert_eq!((seen.applied.len(), seen.appended.len()), (1, 0));
    });
}

#[test]
fn it_comes_back_after_retry_then_slower_up_to_a_minute_for_ever() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        tick().await;
        world.send("retry: 3000\n\n").await;
        world.master.0.borrow_mut().outcomes.extend(std::iter::repeat_n(TransportError::Refused, 100));
        world.end().await;
        seconds(3600).await;
        let waits: Vec<Duration> = world.master.0.borrow().connects.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(waits[0] >= Duration::from_secs(3) && waits[0] < Duration::from_secs(5), "{waits:?}");
        assert!(waits[1] >= Duration::from_secs(6), "{waits:?}");
        assert!(waits[6..].iter().all(|wait| (45..=60).contains(&wait.as_secs())), "{waits:?}");
        assert!(waits.len() > 55, "{}", waits.len());
        // One change to offline for the end, one more since the reason changed; not one per try.
        let statuses: Vec<_> = world.probe.0.borrow().health.iter().map(|health| health.status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == EndpointStatus::Offline).count(), 2, "{statuses:?}");
        assert!(world.health().reason.contains("refused"), "{}", world.health().reason);
    });
}

#[test]
fn without_retry_it_comes_back_within_a_second_and_the_gap_is_recorded_once_it_hears_again() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        tick().await;
        world.send(event("initial", &instance("aaaaaaaa", 1))).await;
        let last_heard = world.health().last_heard.unwrap_or(world.clock.wall());
        world.end().await;
        assert_eq!(world.health().status, EndpointStatus::Offline);
        seconds(1).await;
        assert_eq!((world.connects(), world.state().reconnects), (2, 1));
        assert!(world.gaps().is_empty(), "nothing was heard yet");
        world.send(event("initial", &instance("aaaaaaaa", 1))).await;
        let gaps = world.gaps();
        assert_eq!((gaps.len(), &*gaps[0].reason, gaps[0].instance.as_str()), (1, "connection_lost", ""));
        assert!(gaps[0].from <= last_heard && gaps[0].to > gaps[0].from, "{gaps:?}");
    });
}

#[test]
fn gaps_say_whether_the_recorder_the_master_or_the_line_was_away() {
    on_paused_time(async {
        let world = World::start(|setup, _| setup.last_heard = Some(Timestamp(START.0 - 60 * Timestamp::SECOND)));
        tick().await;
        world.send(key_holder("initial", KEY)).await;
        world.send(SHUTDOWN).await;
        world.end().await;
        seconds(2).await;
        world.send(key_holder("initial", KEY)).await;
        let feed = world.master.0.borrow().feeds.last().unwrap().clone();
        feed.send(Err(TransportError::Broken { detail: "reset".to_owned() })).unwrap();
        seconds(4).await;
        world.send(key_holder("initial", KEY)).await;
        let reasons: Vec<_> = world.gaps().iter().map(|gap| gap.reason.clone()).collect();
        assert_eq!(reasons, ["recorder_stopped".into(), "master_shutdown".into(), "connection_lost".into()] as [Box<str>; 3]);
        assert_eq!(world.gaps()[0].from, Timestamp(START.0 - 60 * Timestamp::SECOND));
    });
}

fn info(version: &str, uptime: u64) -> Result<serde_json::Value, TransportError> {
    Ok(json!({"ver": version, "uptime": uptime}))
}

impl World {
    /// What `/info` answers next.
    fn tells(&self, info: Result<serde_json::Value, TransportError>) {
        self.master.0.borrow_mut().infos.push_back(info);
    }

    fn told(&self) -> Vec<String> {
        self.probe.0.borrow().told.clone()
    }
}

/// Where nothing was started anew, a version and a gap say nothing about each other and come in any order.
fn sorted(mut told: Vec<String>) -> Vec<String> {
    told.sort();
    told
}

/// A master that has run for so many seconds is heard for a minute, lost, and found again after some two seconds. What history is told.
async fn lost_and_found(before: u64, after: &[Result<serde_json::Value, TransportError>]) -> (World, Vec<String>) {
    let world = World::start(|_, master| master.0.borrow_mut().infos.push_back(info("v1.14.0", before)));
    tick().await;
    world.send(event("initial", &instance("aaaaaaaa", 300_000))).await;
    seconds(60).await;
    world.send(event("update", &instance("aaaaaaaa", 300_010))).await;
    seconds(1).await;
    after.iter().for_each(|answer| world.tells(answer.clone()));
    world.end().await;
    seconds(2).await;
    world.send(event("initial", &instance("aaaaaaaa", 100_000))).await;
    seconds(8).await;
    let told = world.told();
    (world, told)
}

#[test]
fn a_master_whose_uptime_is_shorter_than_its_silence_was_started_anew() {
    on_paused_time(async {
        let (world, told) = lost_and_found(5_000, &[info("v1.7.0", 1)]).await;
        assert_eq!(told, ["v1.14.0", "connection_lost", "master_restarted", "v1.7.0"], "the version after the restart");
        let gap = world.gaps().pop().expect("a gap");
        assert_eq!((&*gap.reason, gap.instance.as_str()), (Gap::MASTER_RESTARTED, ""));
        let connected = world.master.0.borrow().connects[1].0;
        let began = world.clock.wall().0 - gap.from.0 - (world.clock.monotonic() - connected).as_micros() as i64;
        assert!((0..=3 * Timestamp::SECOND).contains(&began), "{began} µs before it was connected to");
    });
}

#[test]
fn a_line_that_broke_is_no_restart() {
    on_paused_time(async {
        let (_, told) = lost_and_found(5_000, &[info("v1.14.0", 5_063)]).await;
        assert_eq!(sorted(told), ["connection_lost", "v1.14.0", "v1.14.0"]);
    });
}

#[test]
fn a_master_that_tells_no_uptime_shows_no_restart() {
    on_paused_time(async {
        for silent in [json!({"ver": "v1.4.2"}), json!({"ver": "0.1.0", "uptime": 0}), json!({"ver": "v9", "uptime": "1d"})] {
            let (world, mut told) = lost_and_found(5_000, &[Ok(silent.clone()), Ok(silent.clone()), Ok(silent.clone())]).await;
            let version = silent["ver"].as_str().unwrap();
            assert_eq!(told.remove(0), "v1.14.0");
            assert_eq!(told.iter().filter(|told| *told == "connection_lost").count(), 1, "{told:?}");
            assert!(told.iter().all(|told| told == "connection_lost" || told == version), "{told:?}");
            assert!(world.asked("/info") <= 4, "{}", world.asked("/info"));
        }
    });
}

/// In its first second a master says 0, and that it says nothing may also be the network.
#[test]
fn an_uptime_that_tells_nothing_yet_is_asked_for_again() {
    on_paused_time(async {
        for first in [info("v1.14.0", 0), Err(TransportError::Refused)] {
            let (world, told) = lost_and_found(5_000, &[first, info("v1.14.0", 2)]).await;
            assert!(told.contains(&"master_restarted".to_owned()), "{told:?}");
            assert_eq!(world.gaps().len(), 2, "a gap and a restart: {:?}", world.gaps());
            assert_eq!(world.asked("/info"), 3);
        }
    });
}

#[test]
fn a_master_that_was_started_while_the_recorder_was_off_is_found_out_by_the_wall_clock() {
    on_paused_time(async {
        for (uptime, restarted) in [(40, true), (4_000, false)] {
            let world = World::start(|setup, master| {
                setup.last_heard = Some(Timestamp(START.0 - 60 * Timestamp::SECOND));
                master.0.borrow_mut().infos.push_back(info("v1.14.0", uptime));
            });
            tick().await;
            world.send(event("initial", &instance("aaaaaaaa", 1))).await;
            seconds(3).await;
            assert_eq!(world.told().contains(&"master_restarted".to_owned()), restarted, "{uptime}");
        }
    });
}

#[test]
fn a_restart_that_is_known_before_the_initial_events_are_there_is_told_after_them() {
    on_paused_time(async {
        let world = World::start(|setup, master| {
            setup.last_heard = Some(Timestamp(START.0 - 60 * Timestamp::SECOND));
            master.0.borrow_mut().infos.push_back(info("v1.14.0", 40));
        });
        tick().await;
        seconds(1).await;
        assert_eq!(world.told(), [""; 0], "nobody knows what fell yet");
        world.send(event("initial", &instance("aaaaaaaa", 1)) + &event("update", &instance("aaaaaaaa", 2))).await;
        assert_eq!(world.told(), ["recorder_stopped", "master_restarted", "v1.14.0"]);
    });
}

#[test]
fn another_address_is_no_restart() {
    on_paused_time(async {
        let world = World::start(|_, master| master.0.borrow_mut().infos.push_back(info("v1.14.0", 5_000)));
        tick().await;
        world.send(event("initial", &instance("aaaaaaaa", 1))).await;
        world.tells(info("v1.14.0", 1));
        seconds(5).await;
        let moved = Endpoint { url: "http://10.0.0.6:9090".parse().unwrap(), ..endpoint() };
        world.actor.send(Retarget(moved)).await.unwrap();
        tick().await;
        world.send(event("initial", &instance("aaaaaaaa", 1))).await;
        seconds(3).await;
        assert_eq!(sorted(world.told()), ["reconfigured", "v1.14.0", "v1.14.0"]);
    });
}

#[test]
fn what_a_person_must_mend_is_told_and_tried_all_the_same() {
    on_paused_time(async {
        let world = World::start(|_, master| master.0.borrow_mut().outcomes.push_back(TransportError::WrongKey));
        tick().await;
        assert_eq!(world.health().status, EndpointStatus::Fail);
        assert!(world.health().reason.contains("--api-key-file"), "{}", world.health().reason);
        seconds(2).await;
        assert_eq!(world.health().status, EndpointStatus::Online);
    });
}

#[test]
fn a_regenerated_key_is_used_stored_and_removed_from_text() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        tick().await;
        world.send(key_holder("initial", KEY) + &key_holder("update", NEW_KEY) + SHUTDOWN).await;
        world.end().await;
        seconds(2).await;
        assert_eq!(world.probe.0.borrow().keys, [NEW_KEY]);
        assert_eq!(world.master.0.borrow().connects.last().unwrap().1, NEW_KEY);
        let mut renamed = instance("aaaaaaaa", 1);
        renamed["alias"] = format!("{KEY} {NEW_KEY}").into();
        world.send(event("update", &renamed)).await;
        let seen = world.probe.0.borrow();
        let Some(Record::Event(event)) = seen.applied.last() else { panic!("an event") };
        assert_eq!(event.config.as_ref().unwrap().alias.as_str(), "*** ***");
        assert!(!format!("{:?}", seen.applied).contains("fa4ec0de"));
    });
}

#[test]
fn a_delete_that_carries_the_key_holder_changes_nothing() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        tick().await;
        world.send(key_holder("delete", NEW_KEY) + &key_holder("log", NEW_KEY)).await;
        let seen = world.probe.0.borrow();
        assert!(seen.keys.is_empty() && seen.applied.is_empty());
    });
}

#[test]
fn the_first_certificate_of_a_pinned_endpoint_is_kept_once() {
    on_paused_time(async {
        let world = World::start(|setup, master| {
            setup.endpoint.tls = TlsPolicy::Pin(None);
            master.0.borrow_mut().certificate = Some(Fingerprint([3; 32]));
        });
        tick().await;
        world.end().await;
        seconds(2).await;
        assert_eq!(world.connects(), 2);
        assert_eq!(world.probe.0.borrow().fingerprints, [Fingerprint([3; 32])]);
    });
}

fn known(ids: &[&str]) -> BTreeMap<InstanceId, TunnelState> {
    let state = TunnelState {
        config: Default::default(),
        sample: Sample::default(),
        seen_at: Timestamp(START.0 - Timestamp::MINUTE),
        last_event: EventId::ZERO,
    };
    ids.iter().map(|id| (InstanceId::from(*id), state.clone())).collect()
}

#[test]
fn what_vanished_while_nobody_watched_is_closed_and_what_the_stream_left_out_is_taken_from_the_list() {
    on_paused_time(async {
        let world = World::start(|setup, master| {
            setup.known = known(&["aaaaaaaa", "bbbbbbbb"]);
            let list = json!([instance("aaaaaaaa", 1), instance("cccccccc", 1)]);
            master.0.borrow_mut().instances = Some(Ok(list.to_string()));
        });
        tick().await;
        world.send(event("initial", &instance("aaaaaaaa", 1))).await;
        assert_eq!(world.asked("/instances"), 0, "initial events may still come");
        seconds(3).await;
        assert_eq!(world.asked("/instances"), 1);
        let gaps = world.gaps();
        assert_eq!((gaps.len(), &*gaps[0].reason, gaps[0].instance.as_str()), (1, "vanished", "bbbbbbbb"));
        assert_eq!(gaps[0].from, Timestamp(START.0 - Timestamp::MINUTE));
        let seen = world.probe.0.borrow();
        let Some(Record::Event(event)) = seen.appended.last() else { panic!("an event") };
        assert_eq!((event.kind.clone(), event.instance.as_str()), (EventKind::Initial, "cccccccc"));
    });
}

#[test]
fn reconciling_starts_at_the_first_event_that_is_not_initial_and_is_tried_again_if_it_fails() {
    on_paused_time(async {
        let world = World::start(|setup, master| {
            setup.known = known(&["bbbbbbbb"]);
            master.0.borrow_mut().instances = Some(Err(TransportError::Refused));
        });
        tick().await;
        world.send(event("initial", &instance("aaaaaaaa", 1)) + &event("update", &instance("aaaaaaaa", 1))).await;
        assert_eq!(world.asked("/instances"), 1);
        assert!(world.gaps().is_empty());
        world.master.0.borrow_mut().instances = Some(Ok(json!([instance("aaaaaaaa", 1)]).to_string()));
        seconds(31).await;
        assert_eq!(world.gaps().len(), 1);
    });
}

#[test]
fn a_list_with_an_unreadable_entry_closes_nobody() {
    on_paused_time(async {
        let world = World::start(|setup, master| {
            setup.known = known(&["bbbbbbbb"]);
            master.0.borrow_mut().instances = Some(Ok(r#"[{"id":"bbbbbbbb"}]"#.to_owned()));
        });
        seconds(3).await;
        assert_eq!(world.asked("/instances"), 1);
        assert!(world.gaps().is_empty());
    });
}

async fn reporting(world: &World) {
    tick().await;
    for n in 1..=5 {
        world.send(event("update", &instance("aaaaaaaa", n))).await;
        sleep(Duration::from_millis(4999) - READ_SPACING).await;
    }
}

#[test]
fn a_tunnel_that_stops_reporting_without_any_change_at_the_master_is_let_be() {
    on_paused_time(async {
        let world = World::start(|_, master| {
            master.0.borrow_mut().instances = Some(Ok(json!([instance("aaaaaaaa", 5)]).to_string()));
        });
        reporting(&world).await;
        let before = world.asked("/instances");
        seconds(60).await;
        assert_eq!(world.asked("/instances"), before + 1, "asked once");
        assert_eq!(world.connects(), 1);
        seconds(600).await;
        assert_eq!((world.asked("/instances"), world.connects()), (before + 3, 1), "then every five minutes");
    });
}

#[test]
fn a_change_that_the_stream_did_not_bring_means_that_it_is_dead() {
    on_paused_time(async {
        let world = World::start(|_, master| {
            master.0.borrow_mut().instances = Some(Ok(json!([instance("aaaaaaaa", 5)]).to_string()));
        });
        reporting(&world).await;
        world.master.0.borrow_mut().instances = Some(Ok(json!([instance("aaaaaaaa", 99)]).to_string()));
        seconds(25).await;
        assert_eq!(world.connects(), 2);
        world.send(event("initial", &instance("aaaaaaaa", 99))).await;
        assert_eq!(&*world.gaps().last().unwrap().reason, "silent");
    });
}

#[test]
fn a_change_that_arrives_a_moment_later_means_that_the_stream_lives() {
    on_paused_time(async {
        let world = World::start(|_, master| {
            master.0.borrow_mut().instances = Some(Ok(json!([instance("aaaaaaaa", 5)]).to_string()));
        });
        reporting(&world).await;
        world.master.0.borrow_mut().instances = Some(Ok(json!([instance("aaaaaaaa", 99)]).to_string()));
        let asked = world.asked("/instances");
        while world.asked("/instances") == asked {
            sleep(Duration::from_millis(100)).await;
        }
        world.send(event("update", &instance("aaaaaaaa", 100))).await;
        seconds(10).await;
        assert_eq!(world.connects(), 1);
        assert_eq!(world.state().reports_missed, 2);
    });
}

#[test]
fn silence_of_a_master_that_does_not_answer_either_is_a_dead_stream() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        tick().await;
        seconds(10).await;
        let unreachable = TransportError::TimedOut { phase: "the connection", seconds: 10 };
        world.master.0.borrow_mut().instances = Some(Err(unreachable));
        seconds(280).await;
        assert_eq!(world.connects(), 1);
        seconds(15).await;
        assert_eq!(world.connects(), 2);
    });
}

#[test]
fn an_outage_of_the_journal_is_counted_and_becomes_one_gap_that_also_keeps_earlier_ones() {
    on_paused_time(async {
        let world = World::start(|setup, _| setup.last_heard = Some(Timestamp(START.0 - 60 * Timestamp::SECOND)));
        tick().await;
        world.probe.0.borrow_mut().refuse = Some(Refused::JournalFull);
        for n in 0..3 {
            world.send(event("update", &instance("aaaaaaaa", n))).await;
        }
        assert_eq!(world.state().dropped, BTreeMap::from([("journal_full", 3)]));
        assert_eq!(world.probe.0.borrow().applied.len(), 4, "live state goes on: a gap and three events");
        world.probe.0.borrow_mut().refuse = None;
        world.send(event("update", &instance("aaaaaaaa", 9))).await;
        let reasons: Vec<_> = world.gaps().iter().map(|gap| gap.reason.to_string()).collect();
        assert_eq!(reasons, ["recorder_stopped", "refused"]);
        assert_eq!(world.state().events_received, 1);
        world.send(event("update", &instance("aaaaaaaa", 10))).await;
        assert_eq!(world.gaps().len(), 2);
    });
}

#[test]
fn an_oversized_and_a_broken_event_are_counted_and_the_next_ones_arrive() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        tick().await;
        world.send(format!("data: {}\n\n", "x".repeat(EVENT_BYTES_MAX + 1))).await;
        world.send("data: {broken\n\n").await;
        world.send("data: {\"type\":\"update\"}\n\n").await;
        world.send(event("update", &instance("aaaaaaaa", 1))).await;
        assert_eq!(world.state().dropped, BTreeMap::from([("json", 1), ("missing_field", 1), ("too_large", 1)]));
        assert_eq!((world.state().events_received, world.connects()), (1, 1));
    });
}

#[test]
fn draining_waits_for_every_answer_and_closes_the_connection() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        tick().await;
        world.probe.0.borrow_mut().holding = true;
        world.send(event("update", &instance("aaaaaaaa", 1))).await;
        let mut drained = Box::pin(world.actor.send(Drain));
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut drained).await.is_err());
        assert!(world.master.0.borrow().feeds[0].is_closed(), "the connection is closed at once");
        world.probe.0.borrow_mut().hold.drain(..).for_each(|held| held.send(()).unwrap());
        drained.await.unwrap();
        assert_eq!(world.state().events_received, 1);
        assert!(!world.actor.connected());
        seconds(120).await;
        assert_eq!(world.connects(), 1, "nobody connects any more");
    });
}

/// The answer comes after the last chance to begin anew, so nothing but the end of the actor ends the outage.
#[test]
fn what_is_refused_while_it_drains_leaves_a_gap() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        tick().await;
        world.send(event("update", &instance("aaaaaaaa", 1))).await;
        world.probe.0.borrow_mut().refuse_held = Some(Refused::JournalFull);
        world.send(event("update", &instance("aaaaaaaa", 2))).await;
        let drained = Box::pin(world.actor.send(Drain));
        tick().await;
        world.probe.0.borrow_mut().refuse_held = None;
        world.probe.0.borrow_mut().hold.drain(..).for_each(|held| held.send(()).unwrap());
        drained.await.unwrap();
        assert_eq!(world.state().dropped, BTreeMap::from([("journal_full", 1)]));
        let reasons: Vec<_> = world.gaps().iter().map(|gap| gap.reason.to_string()).collect();
        assert_eq!(reasons, ["refused"]);
    });
}

#[test]
fn draining_while_waiting_to_connect_ends_at_once() {
    on_paused_time(async {
        let world = World::start(|_, master| master.0.borrow_mut().outcomes.push_back(TransportError::Refused));
        tick().await;
        world.actor.send(Drain).await.unwrap();
        seconds(120).await;
        assert_eq!(world.connects(), 1);
    });
}

#[test]
fn another_address_or_key_takes_effect_at_once_and_the_old_stream_is_closed() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        tick().await;
        world.send(event("update", &instance("aaaaaaaa", 1))).await;
        world.actor.send(Retarget(Endpoint { api_key: ApiKey::new(NEW_KEY), ..endpoint() })).await.unwrap();
        tick().await;
        assert_eq!(world.master.0.borrow().connects.last().unwrap().1, NEW_KEY);
        assert!(world.master.0.borrow().feeds[0].is_closed());
        world.send(event("initial", &instance("aaaaaaaa", 1))).await;
        assert_eq!(&*world.gaps()[0].reason, "reconfigured");
        seconds(120).await;
        assert_eq!(world.connects(), 2, "timers of the old connection do nothing");
    });
}

#[test]
fn a_change_of_what_is_stored_takes_effect_without_a_gap_and_back() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        tick().await;
        for (log_events, stored) in [(Some(false), 0), (None, 1)] {
            world.actor.send(Retarget(Endpoint { log_events, ..endpoint() })).await.unwrap();
            world.send(event("log", &instance("aaaaaaaa", 1))).await;
            assert_eq!(world.probe.0.borrow().appended.len(), stored);
        }
        assert_eq!(world.connects(), 1);
    });
}

#[test]
fn what_was_kept_of_a_refused_bunch_counts_as_received() {
    on_paused_time(async {
        let world = World::start(|setup, _| setup.last_heard = Some(START));
        tick().await;
        world.probe.0.borrow_mut().kept = 2;
        world.probe.0.borrow_mut().refuse = Some(Refused::JournalFull);
        let events: String = (0..3).map(|n| event("update", &instance("aaaaaaaa", n))).collect();
        world.send(events).await;
        assert_eq!((world.state().events_received, world.state().dropped.get("journal_full")), (1, Some(&2)));
        world.probe.0.borrow_mut().refuse = None;
        world.send(event("update", &instance("aaaaaaaa", 9))).await;
        let reasons: Vec<_> = world.gaps().iter().map(|gap| gap.reason.to_string()).collect();
        assert_eq!(reasons, ["refused"], "the gap in what was kept is not recorded again");
    });
}

#[test]
fn a_master_that_accepts_and_closes_at_once_is_called_less_and_less_often() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        for _ in 0..6 {
            let connects = world.connects();
            while world.connects() == connects {
                sleep(Duration::from_millis(100)).await;
            }
            tick().await;
            world.end().await;
        }
        let connects = world.master.0.borrow().connects.clone();
        let last = connects[connects.len() - 1].0 - connects[connects.len() - 2].0;
        assert!(last >= Duration::from_secs(8), "{last:?}");
    });
}

#[test]
fn a_bunch_is_what_arrived_together_in_order_and_bounded() {
    on_paused_time(async {
        let world = World::start(|_, _| ());
        tick().await;
        let feed = world.master.0.borrow().feeds[0].clone();
        for n in 0..1000 {
            feed.send(Ok(Bytes::from(event("update", &instance("aaaaaaaa", n))))).unwrap();
        }
        tick().await;
        let seen = world.probe.0.borrow();
        let counters = |record: &Record| match record {
            Record::Event(event) => event.sample.as_ref().unwrap().counters.tcp_rx,
            Record::Gap(_) => panic!("no gap here"),
        };
        let order: Vec<u64> = seen.appended.iter().map(counters).collect();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    });
}
