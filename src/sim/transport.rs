//! Masters and the way to them: a [`Transport`] that drives [`SimMaster`]s by true time.
//!
//! Nobody drives a master that nobody looks at: before each request and each read it is brought up to the present, with
//! everything that its scenario had for the time between, each at its own moment.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream;
use tokio::sync::Notify;

use super::master::{Action, Answer, End, Reply, Request, SimMaster, StreamState, SubscriberId};
use super::scenario::Scenario;
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::event::{Counters, InstanceId};
use crate::transport::{OpenStream, Target, Transport, TransportError};

/// Longest wait for a response head and for the rest of an answer, as the production transport has it.
const HEAD_WITHIN: Duration = Duration::from_secs(15);
/// Time that a connection takes.
const CONNECT_TAKES: Duration = Duration::from_millis(3);
/// Longest sleep of a reader of a master to which nothing will happen by itself.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

/// A master with its life.
pub struct Living {
    /// The master.
    pub master: SimMaster,
    /// What happens to it.
    pub scenario: Scenario,
    /// Of each instance that ever was: the counters shown last, and the sum of all their rises.
    risen: BTreeMap<InstanceId, (Counters, Counters)>,
}

/// A master that readers can be woken for.
#[derive(Clone)]
pub struct Place {
    living: Rc<RefCell<Living>>,
    changed: Rc<Notify>,
    shared: Shared,
}

impl Living {
    /// A master and what will happen to it.
    #[must_use]
    pub fn new(master: SimMaster, scenario: Scenario) -> Self {
        Self { master, scenario, risen: BTreeMap::new() }
    }

    /// How much the counters of each instance rose so far, also of those that are gone.
    pub fn rises(&self) -> impl Iterator<Item = (&InstanceId, Counters)> {
        self.risen.iter().map(|(id, (_, risen))| (id, *risen))
    }

    /// Forgets the sums of instances that are gone. For runs that do not ask for them and are so long that they would add up.
    pub fn forget_gone(&mut self) {
        let Self { master, risen, .. } = self;
        risen.retain(|id, _| master.instances().any(|instance| instance.id == *id));
    }

    fn note_rises(&mut self) {
        for instance in self.master.instances() {
            let now = instance.shown;
            let Some((last, risen)) = self.risen.get_mut(&instance.id) else {
                self.risen.insert(instance.id.clone(), (now, Counters::default()));
                continue;
            };
            risen.tcp_rx += now.tcp_rx.saturating_sub(last.tcp_rx);
            risen.tcp_tx += now.tcp_tx.saturating_sub(last.tcp_tx);
            risen.udp_rx += now.udp_rx.saturating_sub(last.udp_rx);
            risen.udp_tx += now.udp_tx.saturating_sub(last.udp_tx);
            *last = now;
        }
    }

    /// Brings it up to `now`, everything at its own time.
    fn drive(&mut self, now: Timestamp) {
        while let Some(due) = self.next_due().filter(|due| *due <= now) {
            self.master.advance(due);
            self.note_rises();
            while let Some(action) = self.scenario.next_action(due, &self.master) {
                self.master.act(&action);
                self.note_rises();
            }
        }
        self.master.advance(now);
    }

    /// When something happens next.
    fn next_due(&self) -> Option<Timestamp> {
        [self.master.next_due(), self.scenario.next_due()].into_iter().flatten().min()
    }
}

impl Place {
    /// A master at its place.
    #[must_use]
    pub fn new(living: Living, shared: Shared) -> Self {
        Self { living: Rc::new(RefCell::new(living)), changed: Rc::new(Notify::new()), shared }
    }

    /// Looks at the master as it is now, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut Living) -> T) -> T {
        let mut living = self.living.borrow_mut();
        living.drive(self.shared.truth());
        look(&mut living)
    }

    /// Does something to it, and wakes its readers.
    pub fn act(&self, action: &Action) {
        self.with(|living| living.master.act(action));
        self.changed.notify_waiters();
    }

    fn ask(&self, path: &str, key: &str) -> Reply {
        let reply = self.with(|living| living.master.handle(&Request::get(path, key)));
        self.changed.notify_waiters();
        reply
    }

    async fn answer(&self, path: String, key: String) -> Result<Result<Answer, SubscriberId>, TransportError> {
        tokio::time::sleep(CONNECT_TAKES).await;
        match self.ask(&path, &key) {
            Reply::Refused => Err(TransportError::Refused),
            Reply::Silence => {
                tokio::time::sleep(HEAD_WITHIN).await;
                Err(TransportError::TimedOut { phase: "the response head", seconds: HEAD_WITHIN.as_secs() })
            }
            Reply::Stream(id) => Ok(Err(id)),
            Reply::Answer(answer) => match answer.status {
                200 => Ok(Ok(answer)),
                300..=399 => Err(TransportError::Redirect { location: answer.location.unwrap_or_default().into() }),
                401 => Err(TransportError::WrongKey),
                404 => Err(TransportError::WrongPath { path }),
                status => Err(TransportError::Status { status, hint: "simulated" }),
            },
        }
    }
}

/// See the module. A master's host name is `mN.sim`, with its place's number from 0.
pub struct SimTransport {
    places: Vec<Place>,
}

impl SimTransport {
    /// To these masters.
    #[must_use]
    pub fn new(places: Vec<Place>) -> Self {
        Self { places }
    }

    fn place(&self, target: &Target) -> Option<Place> {
        let number = target.url.host.strip_prefix('m')?.strip_suffix(".sim")?;
        self.places.get(number.parse::<usize>().ok()?).cloned()
    }
}

fn no_such_host() -> TransportError {
    TransportError::Resolve { detail: "no such host".to_owned() }
}

impl Transport for SimTransport {
    fn events(&self, target: &Target) -> LocalBoxFuture<'static, Result<OpenStream, TransportError>> {
        let (place, path, key) = (self.place(target), target.url.path("/events"), target.api_key.reveal().to_owned());
        Box::pin(async move {
            let place = place.ok_or_else(no_such_host)?;
            match place.answer(path, key).await? {
                Ok(answer) => Err(TransportError::NotAMaster { detail: answer.content_type.to_owned() }),
                Err(id) => {
                    let reader = Reader { place, id, waiting: VecDeque::new(), end: None };
                    let body = stream::unfold(reader, |mut reader| async move { Some((reader.next().await?, reader)) });
                    Ok(OpenStream { body: Box::pin(body), certificate: None })
                }
            }
        })
    }

    fn get(&self, target: &Target, call: &'static str) -> LocalBoxFuture<'static, Result<Bytes, TransportError>> {
        let (place, path, key) = (self.place(target), target.url.path(call), target.api_key.reveal().to_owned());
        Box::pin(async move {
            let place = place.ok_or_else(no_such_host)?;
            match place.answer(path, key).await? {
                Ok(answer) if answer.content_type.starts_with("application/json") => Ok(answer.body),
                Ok(answer) => Err(TransportError::NotAMaster { detail: answer.content_type.to_owned() }),
                Err(_) => Err(TransportError::NotAMaster { detail: "an event stream".to_owned() }),
            }
        })
    }
}

/// An open stream. The master forgets it when it is dropped.
struct Reader {
    place: Place,
    id: SubscriberId,
    waiting: VecDeque<Bytes>,
    end: Option<End>,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Bytes, TransportError>> {
        loop {
            if let Some(chunk) = self.waiting.pop_front() {
                return Some(Ok(self.paced(chunk).await));
            }
            match self.end {
                Some(End::Clean) => return None,
                Some(End::Cut) => {
                    self.end = Some(End::Clean);
                    return Some(Err(TransportError::Broken { detail: "connection reset by peer".to_owned() }));
                }
                None => {}
            }
            let notified = self.place.changed.notified();
            let id = self.id;
            let (chunks, state, sleep) = self.place.with(|living| {
                let mut chunks = Vec::new();
                let state = living.master.poll(id, &mut chunks);
                let sleep = living.next_due().map_or(SLEEP_MAX, |due| due.since(living.master.now()));
                (chunks, state, sleep)
            });
            self.waiting.extend(chunks);
            if let StreamState::Ended(end) = state {
                self.end = Some(end);
            } else if self.waiting.is_empty() {
                tokio::select! {
                    biased;
                    () = notified => {}
                    () = tokio::time::sleep(sleep) => {}
                }
            }
        }
    }

    /// A chunk as the wire lets it through: whole, or a piece of it after a pause.
    async fn paced(&mut self, mut chunk: Bytes) -> Bytes {
        let wire = self.place.with(|living| living.master.wire());
        if wire.piece_bytes == 0 || chunk.len() <= wire.piece_bytes {
            return chunk;
        }
        let rest = chunk.split_off(wire.piece_bytes);
        self.waiting.push_front(rest);
        tokio::time::sleep(wire.pause).await;
        chunk
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.place.living.borrow_mut().master.unsubscribe(self.id);
    }
}
