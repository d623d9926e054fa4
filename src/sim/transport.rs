//! Masters and the way to them: a [`Transport`] that drives [`SimMaster`]s by true time.
//!
//! Nobody drives a master that nobody looks at: before each request and each read it is brought up to the present, with
//! everything that its scenario had for the time between, each at its own moment.

use std::cell::RefCell;
use std::collections::VecDeque;
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
}

/// A master that readers can be woken for.
#[derive(Clone)]
pub struct Place {
    living: Rc<RefCell<Living>>,
    changed: Rc<Notify>,
    shared: Shared,
}

impl Living {
    /// Brings it up to `now`, everything at its own time.
    fn drive(&mut self, now: Timestamp) {
        let Self { master, scenario } = self;
        while let Some(due) = [master.next_due(), scenario.next_due()].into_iter().flatten().min().filter(|due| *due <= now) {
            master.advance(due);
            while let Some(action) = scenario.next_action(due, master) {
                master.act(&action);
            }
        }
        master.advance(now);
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
            let (chunks, state, sleep) = self.place.with(|Living { master, scenario }| {
                let mut chunks = Vec::new();
                let state = master.poll(id, &mut chunks);
                let due = [master.next_due(), scenario.next_due()].into_iter().flatten().min();
                (chunks, state, due.map_or(SLEEP_MAX, |due| due.since(master.now())))
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
