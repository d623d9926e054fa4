//! One simulated master.
//!
//! [`SimMaster`] holds instances and subscribers. A driver calls, with times that never go back:
//! - [`advance`](SimMaster::advance) at or after [`next_due`](SimMaster::next_due), which runs what is due by then in order;
//! - [`act`](SimMaster::act) for what an operator, a process or the network does at that moment;
//! - [`handle`](SimMaster::handle) for each request, and [`poll`](SimMaster::poll) for each stream: a reader that is polled after each
//!   `advance` is prompt, one that is not polled is slow.
//!
//! How an event travels, which is where masters lose events: it is put into the queue of each subscriber, which has 10 slots
//! (what does not fit is dropped in silence), and is rendered from the live instance when the sender moves it into the
//! socket. The sender runs after each event while the socket has room, except in a burst, where it runs by chance. The socket is
//! what [`poll`](SimMaster::poll) empties.

mod action;
mod events;
mod http;
mod instance;
mod lines;
mod operate;
mod render;
mod requests;
mod run;
mod subscriber;
mod version;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

pub use action::{Action, Answering, Fault, Malformed, Wire};
pub use http::{Answer, Reply, Request, stream_head};
pub use instance::{Instance, InstanceSpec, InstanceStatus, LogLevel, Password, PeerSpec, Role, TUNNEL_PASSWORD};
pub use render::Kind;
pub use subscriber::{End, StreamCounts, StreamState, SubscriberId};
pub use version::Version;

use crate::clock::Timestamp;
use crate::endpoint::ApiKey;
use crate::event::{Counters, InstanceId};
use run::Timer;
use subscriber::{About, Queued, Subscriber};

/// What every simulated API key begins with, so that a search for it finds leaks.
pub const KEY_CANARY: &str = "fa4ec0de";

/// What a master is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterSpec {
    /// Version, which decides fields and behaviour.
    pub version: Version,
    /// Prefix of the API, without `/v1`.
    pub prefix: Box<str>,
    /// Local zone of `time`, in seconds east of UTC. Rust masters write UTC all the same.
    pub zone_offset_seconds: i32,
    /// `NP_REPORT_INTERVAL`.
    pub report_interval: Duration,
    /// Bytes that a subscriber's socket takes before the queue begins to fill. With 0 nothing leaves the queue between two polls.
    pub socket_bytes: usize,
    /// Alias of the master, in `/info`.
    pub alias: Box<str>,
}

impl MasterSpec {
    /// Prefix `/api`, UTC, a report every 5 s, sockets of 4 MiB (3.95 MB were seen to arrive after a reader slept).
    #[must_use]
    pub fn new(version: Version) -> Self {
        Self {
            version,
            prefix: "/api".into(),
            zone_offset_seconds: 0,
            report_interval: Duration::from_secs(5),
            socket_bytes: 4 << 20,
            alias: "".into(),
        }
    }
}

/// A simulated master; see the module's description.
pub struct SimMaster {
    spec: MasterSpec,
    rng: fastrand::Rng,
    now: Timestamp,
    started_at: Timestamp,
    up: bool,
    /// `/info` shows no master id during the first run (seen on v1.14.0 and v2.0.0-b10).
    first_run: bool,
    key: ApiKey,
    master_id: Box<str>,
    instances: BTreeMap<InstanceId, Instance>,
    timers: BTreeMap<(Timestamp, u64), Timer>,
    timers_made: u64,
    subscribers: BTreeMap<SubscriberId, Subscriber>,
    subscribers_made: u64,
    ended_counts: StreamCounts,
    answering: Answering,
    /// Number of the current [`Answering`]; a timer of an earlier one does nothing. The same for `wire_set`.
    answering_set: u64,
    wire: Wire,
    wire_set: u64,
    events_made: u64,
}

impl SimMaster {
    /// A master that starts now, without instances. Key and master id are drawn.
    #[must_use]
    pub fn new(spec: MasterSpec, now: Timestamp, mut rng: fastrand::Rng) -> Self {
        let key = draw_key(&mut rng);
        let master_id = format!("{:016x}", rng.u64(..)).into();
        Self {
            spec,
            rng,
            now,
            started_at: now,
            up: true,
            first_run: true,
            key,
            master_id,
            instances: BTreeMap::new(),
            timers: BTreeMap::new(),
            timers_made: 0,
            subscribers: BTreeMap::new(),
            subscribers_made: 0,
            ended_counts: StreamCounts::default(),
            answering: Answering::Normally,
            answering_set: 0,
            wire: Wire::default(),
            wire_set: 0,
            events_made: 0,
        }
    }

    /// The key that is asked for now.
    #[must_use]
    pub fn api_key(&self) -> &str {
        self.key.reveal()
    }

    /// 16 hex digits.
    #[must_use]
    pub fn master_id(&self) -> &str {
        &self.master_id
    }

    /// What it was started with, as changed since.
    #[must_use]
    pub fn spec(&self) -> &MasterSpec {
        &self.spec
    }

    /// The time up to which it ran.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether its port is open.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.up && self.answering != Answering::Refusing
    }

    /// How bytes travel at the moment.
    #[must_use]
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// Events made so far, `initial` ones not counted.
    #[must_use]
    pub fn events_made(&self) -> u64 {
        self.events_made
    }

    /// The instances that exist, by id.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values().filter(|instance| !instance.deleted)
    }

    /// One instance.
    #[must_use]
    pub fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.instances.get(id).filter(|instance| !instance.deleted)
    }

    /// Counts over all streams, open and ended.
    #[must_use]
    pub fn stream_counts(&self) -> StreamCounts {
        self.subscribers.values().fold(self.ended_counts, |sum, subscriber| add(sum, subscriber.counts))
    }

    /// Streams that are open or not read to their end.
    #[must_use]
    pub fn subscriber_count(&self) -> usize {
        self.subscribers.len()
    }

    /// When something happens next by itself; `None` if nothing will.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Runs everything that is due up to and including `to`, each at its own time. An earlier `to` does nothing.
    pub fn advance(&mut self, to: Timestamp) {
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= to) {
            let ((at, _), timer) = entry.remove_entry();
            self.now = self.now.max(at);
            self.fire(timer);
        }
        self.now = self.now.max(to);
    }

    /// Reads a stream: appends what its socket and queue hold to `chunks`, one HTTP chunk each. Ended streams are forgotten
    /// with the reply that says so; an unknown one is [`End::Cut`].
    pub fn poll(&mut self, id: SubscriberId, chunks: &mut Vec<Bytes>) -> StreamState {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return StreamState::Ended(End::Cut) };
        if subscriber.half_open {
            return StreamState::Open;
        }
        if !subscriber.queue.is_empty() {
            subscriber.sent_at = self.now;
        }
        subscriber.socket_bytes = 0;
        chunks.extend(subscriber.socket.drain(..));
        while let Some(queued) = self.subscribers.get_mut(&id).and_then(Subscriber::take_queued) {
            chunks.push(self.render(queued));
        }
        self.forget_deleted();
        match self.subscribers.get(&id).and_then(|subscriber| subscriber.end) {
            Some(end) => {
                self.unsubscribe(id);
                StreamState::Ended(end)
            }
            None => StreamState::Open,
        }
    }

    /// The reader went away.
    pub fn unsubscribe(&mut self, id: SubscriberId) {
        if let Some(subscriber) = self.subscribers.remove(&id) {
            self.ended_counts = add(self.ended_counts, subscriber.counts);
        }
        self.forget_deleted();
    }

    /// Shows these counters until the next report, as a load does that is not made of reports.
    pub fn show_counters(&mut self, id: &InstanceId, counters: Counters) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.shown = counters;
        }
    }

    /// Lets an instance look as before its first report, but for its counters.
    pub fn show_as_new(&mut self, id: &InstanceId) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.mode = 0;
            (instance.ping, instance.pool, instance.tcps, instance.udps) = (0, 0, 0, 0);
        }
    }

    /// The bytes of an `update` of an instance as it is now, without sending it.
    pub fn render_update(&mut self, id: &InstanceId) -> Bytes {
        let moment = self.moment();
        self.render(Queued::Live { kind: Kind::Update, moment, about: About::Instance(id.clone()), logs: "".into() })
    }

    /// The field `time` of an event that is made at `at`.
    #[must_use]
    pub fn time_text(&self, at: Timestamp) -> String {
        let mut out = String::with_capacity(40);
        render::push_time(&mut out, self.spec.version, render::Moment { at, nanos: 0 }, self.spec.zone_offset_seconds);
        out
    }

    /// Sets a timer.
    fn set(&mut self, after: Duration, timer: Timer) {
        self.timers_made += 1;
        self.timers.insert((self.now.plus(after), self.timers_made), timer);
    }

    /// A duration drawn from `low..high` milliseconds, with microseconds.
    fn draw_millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.rng.u64(low * 1_000..high * 1_000))
    }
}

/// Without the key and what else holds secrets.
impl fmt::Debug for SimMaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimMaster")
            .field("spec", &self.spec)
            .field("now", &self.now)
            .field("up", &self.up)
            .finish_non_exhaustive()
    }
}

fn draw_key(rng: &mut fastrand::Rng) -> ApiKey {
    ApiKey::new(&format!("{KEY_CANARY}{:08x}{:016x}", rng.u32(..), rng.u64(..)))
}

fn add(a: StreamCounts, b: StreamCounts) -> StreamCounts {
    StreamCounts { sent: a.sent + b.sent, dropped: a.dropped + b.dropped, cut_off: a.cut_off + b.cut_off }
}
