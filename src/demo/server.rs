//! One simulated master over real HTTP/1.1 on a loopback port.
//!
//! One task drives the master by the clock and one serves its port; each connection has a task of its own. A stream's bytes
//! are taken from the master when the socket has taken those before, so a slow reader loses events as with a real one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::wire::{self, LAST_CHUNK};
use crate::clock::SharedClock;
use crate::endpoint::{ApiKey, MasterUrl};
use crate::sim::master::{Action, End, Reply, SimMaster, StreamState, SubscriberId, Wire, stream_head};
use crate::sim::scenario::Scenario;

/// How soon binding is tried again when the port of a master that comes up is taken.
const BIND_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Longest sleep of the driver, so that a stepped clock is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// A simulated master that listens. Dropping it ends its tasks and closes its connections.
#[derive(Debug)]
pub struct MasterServer {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    master: Mutex<(SimMaster, Option<Scenario>)>,
    clock: SharedClock,
    address: SocketAddr,
    /// Rises when the master changed: there may be bytes to send, a port to open or close.
    changed: watch::Sender<u64>,
    /// Wakes the driver: there may be another time to wake up.
    poke: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("address", &self.address).finish_non_exhaustive()
    }
}

impl MasterServer {
    /// Serves `master` on a free loopback port, by `clock`; a scenario is acted out. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn start(master: SimMaster, scenario: Option<Scenario>, clock: SharedClock) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let (changed, _) = watch::channel(0);
        let shared = Arc::new(Shared { master: Mutex::new((master, scenario)), clock, address, changed, poke: Notify::new() });
        let tasks = vec![tokio::spawn(drive(shared.clone())), tokio::spawn(serve(shared.clone(), listener))];
        Ok(Self { shared, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Its URL with the prefix.
    #[must_use]
    pub fn url(&self) -> MasterUrl {
        let prefix = self.with(|master| master.spec().prefix.to_string());
        MasterUrl { https: false, host: self.address().ip().to_string(), port: self.address().port(), prefix }
    }

    /// Its present key.
    #[must_use]
    pub fn api_key(&self) -> ApiKey {
        self.with(|master| ApiKey::new(master.api_key()))
    }

    /// Does something to the master now.
    pub fn act(&self, action: &Action) {
        self.with(|master| master.act(action));
    }

    /// Looks at the master, or changes it, as it is now.
    pub fn with<R>(&self, look: impl FnOnce(&mut SimMaster) -> R) -> R {
        let result = {
            let mut held = self.shared.lock();
            held.0.advance(self.shared.clock.wall());
            look(&mut held.0)
        };
        self.shared.tell();
        result
    }

    /// Closes the port and all connections.
    pub async fn stop(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            // It ends by cancellation, which is what is wanted.
            let _ = task.await;
        }
    }
}

impl Drop for MasterServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn tell(&self) {
        self.changed.send_modify(|n| *n += 1);
        self.poke.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, (SimMaster, Option<Scenario>)> {
        // A panic elsewhere leaves the master as it was between two of its steps.
        self.master.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the master by the clock.
async fn drive(shared: Arc<Shared>) {
    loop {
        let sleep = {
            let mut held = shared.lock();
            let (master, scenario) = &mut *held;
            let now = shared.clock.wall();
            master.advance(now);
            if let Some(scenario) = scenario {
                while let Some(action) = scenario.next_action(now, master) {
                    log::debug!("demo master at {}: {action:?}", shared.address);
                    master.act(&action);
                }
            }
            let due = [master.next_due(), scenario.as_ref().and_then(Scenario::next_due)].into_iter().flatten().min();
            due.map_or(SLEEP_MAX, |due| due.since(shared.clock.wall()).min(SLEEP_MAX))
        };
        shared.changed.send_modify(|n| *n += 1);
        tokio::select! {
            biased;
            () = shared.poke.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// Accepts connections while the master listens.
async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let mut listener = Some(listener);
    let mut changed = shared.changed.subscribe();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let listens = shared.lock().0.listens();
        match (&listener, listens) {
            (Some(_), false) => listener = None,
            (None, true) => match TcpListener::bind(shared.address).await {
                Ok(bound) => listener = Some(bound),
                Err(_) => tokio::time::sleep(BIND_AGAIN_AFTER).await,
            },
            (Some(bound), true) => {
                tokio::select! {
                    biased;
                    accepted = bound.accept() => if let Ok((stream, _)) = accepted {
                        connections.spawn(converse(shared.clone(), stream));
                    },
                    _ = changed.changed() => {}
                }
            }
            (None, false) => {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Serves one connection. An error of the socket ends it, and nobody needs to know.
async fn converse(shared: Arc<Shared>, mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Ok(Some(request)) = wire::read_request(&mut stream, &mut buffer).await {
        let (reply, version, now, wire) = {
            let mut held = shared.lock();
            let now = shared.clock.wall();
            held.0.advance(now);
            (held.0.handle(&request.as_request()), held.0.spec().version, now, held.0.wire())
        };
        match reply {
            Reply::Refused => return,
            Reply::Silence => {
                wire::reader_left(&stream).await;
                return;
            }
            Reply::Answer(answer) => {
                if wire::send(&mut stream, &answer.render(version, now), wire).await.is_err() || request.closes {
                    return;
                }
            }
            Reply::Stream(id) => {
                shared.poke.notify_one();
                let subscription = Subscription { shared: &shared, id };
                let head = stream_head(version, now, request.http_1_0);
                if wire::send(&mut stream, head.as_bytes(), wire).await.is_ok() {
                    let _ = subscription.feed(&mut stream, request.http_1_0).await;
                }
                return;
            }
        }
    }
}

/// A stream that is being read; forgotten by the master when the reader is gone.
struct Subscription<'a> {
    shared: &'a Shared,
    id: SubscriberId,
}

impl Subscription<'_> {
    async fn feed(&self, stream: &mut TcpStream, http_1_0: bool) -> io::Result<()> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let (chunks, state, wire) = self.take();
            if !chunks.is_empty() {
                wire::send(stream, &wire::as_chunks(&chunks, http_1_0), wire).await?;
            }
            match state {
                StreamState::Open if !chunks.is_empty() => {}
                StreamState::Open => {
                    tokio::select! {
                        biased;
                        _ = changed.changed() => {}
                        () = wire::reader_left(stream) => return Ok(()),
                    }
                }
                StreamState::Ended(End::Clean) => {
                    if !http_1_0 {
                        stream.write_all(LAST_CHUNK).await?;
                    }
                    return stream.shutdown().await;
                }
                StreamState::Ended(End::Cut) => return Ok(()),
            }
        }
    }

    fn take(&self) -> (Vec<Bytes>, StreamState, Wire) {
        let mut held = self.shared.lock();
        let mut chunks = Vec::new();
        let state = held.0.poll(self.id, &mut chunks);
        (chunks, state, held.0.wire())
    }
}

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        self.shared.lock().0.unsubscribe(self.id);
    }
}
