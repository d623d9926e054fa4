//! A master that sends as fast as the socket takes it, for benches and for tests that count.
//!
//! Event `k` (from 1) of connection `c` (from 1) is an `update` of instance `(k - 1) % instances` with `tcprx` = `k` and
//! `tcptx` = `c`, so whoever reads the database can tell for each connection whether what was stored is a prefix without holes of what
//! was sent. The events are put together from rendered parts; what this costs is small beside the socket's own work.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::wire::{self, LAST_CHUNK, push_chunk_head};
use crate::clock::SharedClock;
use crate::endpoint::{ApiKey, MasterUrl};
use crate::event::{Counters, InstanceId};
use crate::sim::master::{InstanceSpec, MasterSpec, Reply, SimMaster, Version, Wire, stream_head};

/// Bytes that are put together before they are handed to the socket.
const BUFFER_BYTES: usize = 256 << 10;

/// A paced load is sent in slices of this length, or of one event where that takes longer.
const SLICE: Duration = Duration::from_millis(10);

/// What a load master sends to each connection, and when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Version whose form the events have.
    pub version: Version,
    /// How many instances take turns, at least 1.
    pub instances: usize,
    /// Events for each connection after the `initial` ones.
    pub events: u64,
    /// Events per second and connection; as fast as the socket takes them where `None`.
    pub per_second: Option<u64>,
    /// What follows.
    pub then: AfterLoad,
}

/// How a connection goes on after its last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterLoad {
    /// Stays open without a word.
    StayOpen,
    /// Ends cleanly.
    End,
    /// Closes in mid-body.
    Cut,
}

/// A load master that listens. Dropping it ends its tasks and closes its connections.
#[derive(Debug)]
pub struct LoadServer {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    load: Load,
    clock: SharedClock,
    address: SocketAddr,
    master: Mutex<SimMaster>,
    ids: Vec<InstanceId>,
    /// Per connection, the events that the socket took whole.
    sent: Mutex<Vec<Arc<AtomicU64>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("address", &self.address).field("load", &self.load).finish_non_exhaustive()
    }
}

impl LoadServer {
    /// Serves on a free loopback port. Must be called inside a tokio runtime, best one of its own ([`ServerThread`]).
    ///
    /// # Errors
    /// If no port can be had.
    pub fn start(load: Load, clock: SharedClock, seed: u64) -> io::Result<Self> {
        let load = Load { instances: load.instances.max(1), ..load };
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let mut master = SimMaster::new(MasterSpec::new(load.version), clock.wall(), fastrand::Rng::with_seed(seed));
        let spec = |number: usize| InstanceSpec::server(&format!("load-{number}"), 10_000 + (number % 50_000) as u16);
        let ids = (0..load.instances).map(|number| master.create(spec(number))).collect();
        let shared = Arc::new(Shared { load, clock, address, master: Mutex::new(master), ids, sent: Mutex::default() });
        let task = tokio::spawn(serve(shared.clone(), listener));
        Ok(Self { shared, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> MasterUrl {
        let (host, port) = (self.shared.address.ip().to_string(), self.shared.address.port());
        MasterUrl { https: false, host, port, prefix: "/api".to_owned() }
    }

    /// Its key.
    #[must_use]
    pub fn api_key(&self) -> ApiKey {
        ApiKey::new(lock(&self.shared.master).api_key())
    }

    /// The instances in the order of their turns.
    #[must_use]
    pub fn instances(&self) -> &[InstanceId] {
        &self.shared.ids
    }

    /// For each connection that asked for events, first to last, how many were handed to its socket whole.
    #[must_use]
    pub fn sent(&self) -> Vec<u64> {
        lock(&self.shared.sent).iter().map(|sent| sent.load(Ordering::Acquire)).collect()
    }

    /// Closes the port and all connections.
    pub async fn stop(mut self) {
        self.task.abort();
        // It ends by cancellation, which is what is wanted.
        let _ = (&mut self.task).await;
    }
}

impl Drop for LoadServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(converse(shared.clone(), stream));
    }
}

async fn converse(shared: Arc<Shared>, mut stream: TcpStream) {
    let mut buffer = Vec::new();
    while let Ok(Some(request)) = wire::read_request(&mut stream, &mut buffer).await {
        let now = shared.clock.wall();
        let version = shared.load.version;
        let reply = {
            let mut master = lock(&shared.master);
            master.advance(now);
            shared.show_last_sent(&mut master);
            master.handle(&request.as_request())
        };
        match reply {
            Reply::Answer(answer) => {
                if wire::send(&mut stream, &answer.render(version, now), Wire::default()).await.is_err() || request.closes {
                    return;
                }
            }
            Reply::Stream(id) => {
                let mut initial = Vec::new();
                {
                    let mut master = lock(&shared.master);
                    master.poll(id, &mut initial);
                    master.unsubscribe(id);
                }
                let mut bytes = stream_head(version, now, false).into_bytes();
                bytes.extend_from_slice(&wire::as_chunks(&initial, false));
                if stream.write_all(&bytes).await.is_ok() {
                    let _ = shared.pour(&mut stream).await;
                }
                return;
            }
            Reply::Silence | Reply::Refused => return,
        }
    }
}

impl Shared {
    /// Lets `/instances` say what the events of the newest connection said last.
    fn show_last_sent(&self, master: &mut SimMaster) {
        let (sent, connection) = {
            let all = lock(&self.sent);
            (all.last().map_or(0, |sent| sent.load(Ordering::Acquire)), all.len() as u64)
        };
        let turns = self.ids.len() as u64;
        for (index, id) in (1..).zip(&self.ids) {
            if sent >= index {
                let last = sent - (sent - index) % turns;
                master.show_counters(id, Counters { tcp_rx: last, tcp_tx: connection, ..Counters::default() });
                // As the updates were rendered: a list that differs from them would look like a dead stream.
                master.show_as_new(id);
            }
        }
    }

    async fn pour(&self, stream: &mut TcpStream) -> io::Result<()> {
        let sent = Arc::new(AtomicU64::new(0));
        let connection = {
            let mut all = lock(&self.sent);
            all.push(sent.clone());
            all.len() as u64
        };
        let templates: Vec<Template> = {
            let mut master = lock(&self.master);
            self.ids.iter().map(|id| Template::of(&mut master, id, connection)).collect()
        };
        let slice_events = self.load.per_second.map(|rate| (rate * SLICE.as_millis() as u64 / 1_000).max(1));
        let slice = self.load.per_second.map_or(SLICE, |rate| SLICE.max(Duration::from_secs(1) / rate.clamp(1, 1_000) as u32));
        let mut ticks = tokio::time::interval(slice);
        let mut buffer = Vec::with_capacity(BUFFER_BYTES + 4_096);
        let mut ends: Vec<usize> = Vec::new();
        let mut k = 0;
        while k < self.load.events {
            if slice_events.is_some() {
                ticks.tick().await;
            }
            let time = lock(&self.master).time_text(self.clock.wall());
            buffer.clear();
            ends.clear();
            while k < self.load.events
                && buffer.len() < BUFFER_BYTES
                && slice_events.is_none_or(|most| (ends.len() as u64) < most)
            {
                templates[(k % templates.len() as u64) as usize].push(&mut buffer, time.as_bytes(), k + 1);
                ends.push(buffer.len());
                k += 1;
            }
            let before = k - ends.len() as u64;
            let mut written = 0;
            while written < buffer.len() {
                written += stream.write(&buffer[written..]).await?;
                let whole = ends.partition_point(|end| *end <= written) as u64;
                sent.store(before + whole, Ordering::Release);
            }
        }
        match self.load.then {
            AfterLoad::StayOpen => wire::reader_left(stream).await,
            AfterLoad::End => {
                stream.write_all(LAST_CHUNK).await?;
                stream.shutdown().await?;
            }
            AfterLoad::Cut => {}
        }
        Ok(())
    }
}

/// An `update` event of one instance without its time and its `tcprx`.
struct Template {
    before_time: Vec<u8>,
    before_count: Vec<u8>,
    after_count: Vec<u8>,
}

impl Template {
    /// Renders an event with a number that occurs nowhere else, and cuts it there.
    fn of(master: &mut SimMaster, id: &InstanceId, connection: u64) -> Self {
        const MARK: u64 = u64::MAX;
        master.show_counters(id, Counters { tcp_rx: MARK, tcp_tx: connection, ..Counters::default() });
        let event = master.render_update(id);
        master.show_counters(id, Counters::default());
        let event = String::from_utf8_lossy(&event).into_owned();
        let (before_time, rest) = event.split_once("\"time\":\"").expect("every event has a time");
        let (_, rest) = rest.split_once('"').expect("the time ends");
        let (between, after) = rest.split_once(&MARK.to_string()).expect("every instance has counters");
        Self {
            before_time: format!("{before_time}\"time\":\"").into(),
            before_count: format!("\"{between}").into(),
            after_count: format!("{after}\r\n").into(),
        }
    }

    /// Appends one event as one HTTP chunk.
    fn push(&self, out: &mut Vec<u8>, time: &[u8], count: u64) {
        let mut digits = [0; 20];
        let count = decimal(&mut digits, count);
        // The line end of the chunk is part of the last piece.
        let length = self.before_time.len() + time.len() + self.before_count.len() + count.len() + self.after_count.len() - 2;
        push_chunk_head(out, length);
        for part in [&self.before_time[..], time, &self.before_count, count, &self.after_count] {
            out.extend_from_slice(part);
        }
    }
}

fn decimal(digits: &mut [u8; 20], mut number: u64) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

/// A thread with a runtime of its own, so that servers do not share one with what is measured. Ends when dropped.
#[derive(Debug)]
pub struct ServerThread {
    handle: tokio::runtime::Handle,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ServerThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread or no runtime.
    pub fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("sim-masters".to_owned()).spawn(move || {
            // An error says that the handle was dropped, which is a reason to stop too.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Runs `start` inside the thread's runtime: servers that it starts live there.
    pub fn run<R>(&self, start: impl FnOnce() -> R) -> R {
        let _inside = self.handle.enter();
        start()
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}
