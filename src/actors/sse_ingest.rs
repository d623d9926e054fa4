//! SseIngestActor: follows the event stream of one master.
//!
//! Fed by the master through a [`Transport`](crate::transport::Transport) and by the EndpointsActor, which starts, retargets
//! and drains it. Feeds CacheActor and HistoryWorkerActor with every bunch of events, BufferActor with those that are
//! stored, EndpointsActor with what it learns of the master.
//!
//! It never makes the master wait. A bunch is what was ready to be read, at most [`PIECES_BYTES_MAX`]; it gets its ids and
//! is put into all three mailboxes in one synchronous step, so that the order of ids is the order of arrival there, for
//! all masters together. Before the next bunch it waits until cache and history have taken this one (they share the
//! thread and never wait for anything), so at most one bunch per endpoint is in their mailboxes. It does *not* wait for
//! the journal: how much may be unanswered there is the BufferActor's bound, beyond which it refuses.
//!
//! It keeps what is known of each instance ([`Tracker`]), so that what did not change is not built again. It ends by
//! [`Drain`]; a kill loses what was not acknowledged, which nobody has called received.

mod check;
mod connect;
mod pieces;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, MailboxError, Message, Recipient, ResponseFuture,
    SpawnHandle, StreamHandler, WrapFuture,
};
use futures_util::future::join;
use futures_util::stream::{StreamExt, poll_fn};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use self::check::{Question, Restarted};
use self::pieces::Pieces;
pub use self::pieces::{Backlog, PIECES_BYTES_MAX, PIECES_MAX, READ_SPACING};
use super::buffer::{Append, Refusal};
use super::cache::{Apply, SetHealth};
use super::endpoints::{CertificateSeen, Identified, KeyRotated};
use super::history_worker::{LearnVersion, Observe};
use crate::clock::{SharedClock, Timestamp};
use crate::endpoint::{Endpoint, EndpointHealth, EndpointStatus};
use crate::event::{Bunch, Event, EventKind, InstanceId, Record, Status, TunnelState};
use crate::id::IdGenerator;
use crate::ingest::backoff::Backoff;
use crate::ingest::intake::{Haul, Intake, OpenGap};
use crate::ingest::outage::Outage;
use crate::ingest::pace::Pace;
use crate::ingest::tracker::Tracker;
use crate::ingest::uptime::Uptime;
use crate::redact::Redactor;
use crate::transport::{SharedTransport, Target};

/// Ids come from one generator for all endpoints; actors share one thread.
pub type SharedIds = Rc<RefCell<IdGenerator>>;

/// Everything that an SseIngestActor is given.
pub struct IngestSetup {
    /// Whom to follow.
    pub endpoint: Endpoint,
    /// Tunnels of this endpoint as they are known from the database and the journal.
    pub known: BTreeMap<InstanceId, TunnelState>,
    /// When the endpoint was last heard, for the gap since then; `None` for a new one.
    pub last_heard: Option<Timestamp>,
    /// Whether `log` events are stored where the endpoint does not say: `storage.log_events`.
    pub log_events: bool,
    /// Shared id generator.
    pub ids: SharedIds,
    /// Clock.
    pub clock: SharedClock,
    /// How to connect.
    pub transport: SharedTransport,
    /// For jitter.
    pub rng: fastrand::Rng,
    /// Where events and findings go.
    pub downstream: Downstream,
    /// What waits for the journal, of all endpoints.
    pub backlog: Rc<Backlog>,
    /// Where counters are published.
    pub state: watch::Sender<IngestState>,
}

/// Whom an SseIngestActor tells what.
#[derive(Clone)]
pub struct Downstream {
    /// CacheActor: every bunch.
    pub cache: Recipient<Apply>,
    /// CacheActor: health.
    pub health: Recipient<SetHealth>,
    /// HistoryWorkerActor: every bunch.
    pub history: Recipient<Observe>,
    /// HistoryWorkerActor: the master's version.
    pub version: Recipient<LearnVersion>,
    /// BufferActor: the stored records of every bunch.
    pub buffer: Recipient<Append>,
    /// EndpointsActor.
    pub key_rotated: Recipient<KeyRotated>,
    /// EndpointsActor.
    pub identified: Recipient<Identified>,
    /// EndpointsActor.
    pub certificate_seen: Recipient<CertificateSeen>,
}

/// Counters of one endpoint since the recorder started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IngestState {
    /// Stored events that the journal has.
    pub events_received: u64,
    /// Events by kind, also those that are not stored.
    pub events: BTreeMap<String, u64>,
    /// What was not kept, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Reports that a tunnel's interval let expect and that did not come.
    pub reports_missed: u64,
    /// Connections after the first.
    pub reconnects: u64,
}

/// The endpoint is configured anew. Sent by the EndpointsActor. The reply means that it took effect: at once, over a new
/// connection, if address, key or TLS changed or none was open; otherwise the open stream goes on.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Retarget(pub Endpoint);

/// Stop reading and connecting. Sent by the EndpointsActor. The reply means: all that was read is handed on and
/// acknowledged or refused; the actor has stopped.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// Follows one master.
pub struct SseIngestActor {
    endpoint: Endpoint,
    /// What holds where the endpoint does not say.
    log_events: bool,
    ids: SharedIds,
    clock: SharedClock,
    transport: SharedTransport,
    rng: fastrand::Rng,
    downstream: Downstream,
    state: watch::Sender<IngestState>,
    intake: Intake,
    backoff: Backoff,
    pace: Pace,
    outage: Outage,
    uptime: Uptime,
    /// How often `GET /info` was asked over this stream.
    info_asked: u32,
    /// What the master says of a start, until the stream has brought all `initial` events, which show what fell with it.
    restarted: Option<Restarted>,
    health: EndpointHealth,
    /// Counts connections and their ends: what was armed or asked under another number does nothing.
    connection: u64,
    /// The attempt to connect, or the open stream; cancelling it closes the connection.
    link: Option<SpawnHandle>,
    /// When the open stream began.
    open_since: Option<tokio::time::Instant>,
    /// There was a stream before; the next one is a reconnect.
    connected_before: bool,
    /// The gap that the next stream ends.
    gap: Option<OpenGap>,
    shutdown_seen: bool,
    /// When the last event came, for the gap that a silent stream leaves.
    last_event_at: Option<Timestamp>,
    last_initial: tokio::time::Instant,
    /// The full list was compared since this stream began.
    reconciled: bool,
    /// The question about the full list that is under way.
    question: Option<Question>,
    /// The timer of [`Self::watch`].
    watching: Option<SpawnHandle>,
    /// What waits for the journal, of all endpoints.
    backlog: Rc<Backlog>,
    /// Answers of the BufferActor are awaited there, in order.
    acks: Option<mpsc::UnboundedSender<Pending>>,
    acks_awaited: usize,
    draining: Vec<oneshot::Sender<()>>,
    /// What was refused last has become a gap, with which this actor ends.
    last_gap_sent: bool,
}

/// A bunch that the BufferActor has not answered.
struct Pending {
    bunch: Arc<Bunch>,
    answer: actix::dev::RecipientRequest<Append>,
}

/// The BufferActor's answer.
struct Acknowledged {
    bunch: Arc<Bunch>,
    answer: Result<Result<(), Refusal>, MailboxError>,
}

impl SseIngestActor {
    /// An actor that begins to connect when it is started.
    #[must_use]
    pub fn new(setup: IngestSetup) -> Self {
        let IngestSetup { endpoint, known, last_heard, log_events, ids, clock, transport, rng, downstream, backlog, state } =
            setup;
        let stored_logs = endpoint.log_events.unwrap_or(log_events);
        let tracker = Tracker::new(endpoint.id, known, Redactor::default(), stored_logs);
        let intake = Intake::new(endpoint.id, &endpoint.name, endpoint.api_key.clone(), endpoint.master_id.clone(), tracker);
        let now = clock.monotonic();
        let health = EndpointHealth { since: clock.wall(), last_heard, ..EndpointHealth::default() };
        Self {
            endpoint,
            log_events,
            ids,
            transport,
            rng,
            downstream,
            state,
            intake,
            backoff: Backoff::default(),
            pace: Pace::new(now),
            outage: Outage::default(),
            uptime: Uptime::new(now, clock.wall(), last_heard),
            clock,
            info_asked: 0,
            restarted: None,
            health,
            connection: 0,
            link: None,
            open_since: None,
            connected_before: false,
            gap: last_heard.map(|from| OpenGap { from, reason: "recorder_stopped" }),
            shutdown_seen: false,
            last_event_at: last_heard,
            last_initial: now,
            reconciled: false,
            question: None,
            watching: None,
            backlog,
            acks: None,
            acks_awaited: 0,
            draining: Vec::new(),
            last_gap_sent: false,
        }
    }

    fn target(&self) -> Target {
        let Endpoint { url, api_key, tls, .. } = &self.endpoint;
        Target { url: url.clone(), api_key: api_key.clone(), tls: tls.clone() }
    }

    /// Tells the CacheActor, and the log once per change of status or reason.
    fn set_health(&mut self, status: EndpointStatus, reason: String) {
        if self.health.status == status && self.health.reason == reason {
            return;
        }
        if self.health.status != status {
            self.health.since = self.clock.wall();
        }
        let name = &self.endpoint.name;
        match status {
            EndpointStatus::Online => log::info!("endpoint {name}: connected"),
            EndpointStatus::Fail => log::error!("endpoint {name}: {reason}"),
            EndpointStatus::Offline | EndpointStatus::Disconnect => log::warn!("endpoint {name}: {reason}; it is tried again"),
        }
        (self.health.status, self.health.reason) = (status, reason);
        self.send_health();
    }

    fn send_health(&self) {
        // Lost only if the CacheActor is gone, and then nobody asks any more.
        self.downstream.health.do_send(SetHealth { endpoint: self.endpoint.id, health: self.health.clone() });
    }

    /// Gives a bunch to everyone who wants it, in one step.
    fn hand_on(&mut self, records: Vec<Record>, ctx: &mut Context<Self>) {
        if records.is_empty() {
            return;
        }
        let bunch = Arc::new(Bunch { endpoint: self.endpoint.id, records });
        // A fresh clone of a recipient always puts its first message into the mailbox at once, however full that is;
        // one that has sent before may hold the message back, and another master's later ids would overtake it.
        let cache = self.downstream.cache.clone().send(Apply(Arc::clone(&bunch)));
        let history = self.downstream.history.clone().send(Observe(Arc::clone(&bunch)));
        let stored = |record: &Record| !matches!(record, Record::Event(Event { stored: false, .. }));
        if bunch.records.iter().all(stored) {
            self.append(bunch);
        } else if bunch.records.iter().any(stored) {
            let records = bunch.records.iter().filter(|record| stored(record)).cloned().collect();
            self.append(Arc::new(Bunch { endpoint: bunch.endpoint, records }));
        }
        ctx.wait(join(cache, history).into_actor(self).map(|_, _, _| ()));
    }

    fn append(&mut self, bunch: Arc<Bunch>) {
        let bytes = bunch.memory_bytes();
        let answer = self.downstream.buffer.clone().send(Append(Arc::clone(&bunch)));
        if let Some(acks) = &self.acks
            && acks.send(Pending { bunch, answer }).is_ok()
        {
            self.backlog.add(bytes);
            self.acks_awaited += 1;
        }
    }

    /// Gives fresh ids to gaps and has them stored.
    fn append_gaps(&mut self, gaps: Vec<crate::event::Gap>) {
        let wall = self.clock.wall();
        let mut ids = self.ids.borrow_mut();
        let records: Vec<_> = gaps.into_iter().map(|gap| Record::Gap(crate::event::Gap { id: ids.next(wall), ..gap })).collect();
        drop(ids);
        if records.is_empty() {
            return;
        }
        let bunch = Arc::new(Bunch { endpoint: self.endpoint.id, records });
        // Whether they are seen now or a little later makes no difference to anyone.
        self.downstream.cache.clone().do_send(Apply(Arc::clone(&bunch)));
        self.downstream.history.clone().do_send(Observe(Arc::clone(&bunch)));
        self.append(bunch);
    }

    /// What a bunch says about the rhythm of its tunnels, and who is gone.
    fn observe(&mut self, records: &[Record]) {
        let now = self.clock.monotonic();
        let mut missed = 0;
        for record in records {
            let Record::Event(event) = record else { continue };
            match event.kind {
                EventKind::Update => {
                    let running = event.sample.as_ref().is_some_and(|sample| sample.status == Status::Running);
                    missed += self.pace.report(&event.instance, running, now);
                }
                EventKind::Delete => {
                    self.pace.forget(&event.instance);
                    self.note_deleted(&event.instance);
                }
                _ => {}
            }
        }
        if missed > 0 {
            self.state.send_modify(|state| state.reports_missed += missed);
        }
    }

    fn stop_if_drained(&mut self, ctx: &mut Context<Self>) {
        if self.draining.is_empty() || self.acks_awaited > 0 {
            return;
        }
        if !std::mem::replace(&mut self.last_gap_sent, true) {
            // What was refused last would be a silent hole: no event comes any more that would end it.
            let gaps = self.outage.accepted(self.endpoint.id, self.clock.wall());
            self.append_gaps(gaps);
        }
        if self.acks_awaited == 0 {
            ctx.stop();
        }
    }
}

impl Actor for SseIngestActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (acks, mut pending) = mpsc::unbounded_channel::<Pending>();
        self.acks = Some(acks);
        let answers = poll_fn(move |cx| pending.poll_recv(cx))
            .map(|Pending { bunch, answer }| async { Acknowledged { answer: answer.await, bunch } })
            .buffered(usize::MAX);
        ctx.add_stream(answers);
        self.connect(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        log::debug!("endpoint {}: no longer followed", self.endpoint.name);
        for waiting in self.draining.drain(..) {
            // Whoever no longer waits needs no answer.
            let _ = waiting.send(());
        }
    }
}

impl StreamHandler<Pieces> for SseIngestActor {
    fn handle(&mut self, pieces: Pieces, ctx: &mut Self::Context) {
        if pieces.connection != self.connection {
            return;
        }
        let wall = self.clock.wall();
        let mut haul = Haul::default();
        if !pieces.bytes.is_empty() {
            self.health.last_heard = Some(wall);
            self.uptime.heard(self.clock.monotonic());
            let (intake, ids) = (&mut self.intake, &self.ids);
            self.state.send_modify(|state| {
                for piece in &pieces.bytes {
                    intake.read(piece, wall, state, &mut |_| ids.borrow_mut().next(wall), &mut haul);
                }
            });
        }
        if haul.heard {
            self.last_event_at = Some(wall);
        }
        self.observe(&haul.records);
        self.hand_on(std::mem::take(&mut haul.records), ctx);
        self.follow_up(haul, ctx);
        match pieces.end {
            None => {}
            Some(Ok(())) => self.stream_ended(ctx),
            Some(Err(error)) => self.stream_broke(&error, ctx),
        }
    }

    fn finished(&mut self, _: &mut Self::Context) {
        // The end of a stream is a piece of its own; the actor lives on.
    }
}

impl StreamHandler<Acknowledged> for SseIngestActor {
    fn handle(&mut self, Acknowledged { bunch, answer }: Acknowledged, ctx: &mut Self::Context) {
        self.acks_awaited -= 1;
        self.backlog.remove(bunch.memory_bytes());
        let events = |records: &[Record]| records.iter().filter(|record| matches!(record, Record::Event(_))).count() as u64;
        let name = &self.endpoint.name;
        let (kept, reason) = match answer {
            Ok(Ok(())) => {
                self.state.send_modify(|state| state.events_received += events(&bunch.records));
                let gaps = self.outage.accepted(self.endpoint.id, self.clock.wall());
                if !gaps.is_empty() {
                    log::info!("endpoint {name}: events are accepted again");
                    self.append_gaps(gaps);
                }
                self.stop_if_drained(ctx);
                return;
            }
            Ok(Err(Refusal { kept, reason })) => (kept, reason.as_str()),
            Err(_) => (0, "buffer_gone"),
        };
        let (kept, refused) = bunch.records.split_at(kept.min(bunch.records.len()));
        if self.outage.refused(refused) {
            log::error!("endpoint {name}: events are not accepted ({reason}); they are counted and become a gap");
        }
        self.state.send_modify(|state| {
            state.events_received += events(kept);
            if events(refused) > 0 {
                *state.dropped.entry(reason).or_default() += events(refused);
            }
        });
        self.stop_if_drained(ctx);
    }

    fn finished(&mut self, _: &mut Self::Context) {
        // Ends with the actor, which holds the other end.
    }
}

impl Handler<Retarget> for SseIngestActor {
    type Result = ();

    fn handle(&mut self, Retarget(endpoint): Retarget, ctx: &mut Self::Context) {
        if !self.draining.is_empty() {
            return;
        }
        self.intake.set_key(&endpoint.api_key);
        self.intake.tracker.log_events = endpoint.log_events.unwrap_or(self.log_events);
        let before = std::mem::replace(&mut self.endpoint, endpoint);
        let Endpoint { url, api_key, tls, .. } = &self.endpoint;
        if *url != before.url {
            // What answers there may be another process for another reason.
            self.uptime = Uptime::new(self.clock.monotonic(), self.clock.wall(), None);
        }
        // What concerns storage alone is no reason for a gap.
        if self.open_since.is_none() || (url, api_key, tls) != (&before.url, &before.api_key, &before.tls) {
            self.retarget(ctx);
        }
    }
}

impl Handler<Drain> for SseIngestActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (done, waiting) = oneshot::channel();
        self.draining.push(done);
        self.close(ctx);
        self.stop_if_drained(ctx);
        Box::pin(async move {
            // An error means that the actor is gone, which is what was asked for.
            let _ = waiting.await;
        })
    }
}
