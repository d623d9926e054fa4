//! What readers cost, and what they wait: 10,000 tunnels that send 2,000 events per second, in one process with the real
//! recorder and the real HTTP server, the masters on a thread of their own, the readers on another.
//!
//! `cargo bench --bench http -- [SECONDS]`, 20 by default for each phase. Prints, and fails a run that is beyond its budget:
//! - how long an overview takes (stats, endpoints and tunnels on one connection): 100 ms at p99;
//! - how much later the CacheActor takes a message while 200 readers follow `/api/v1/stream?tunnels=all`, of whom every tenth
//!   takes nothing: 50 ms at p99 more than without them. What an event waits in the cache's mailbox is what this message waits.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate::actors::cache::ReadSince;
use tidegate::clock::{Clock, SystemClock};
use tidegate::config::{Config, Sources};
use tidegate::demo::load::{AfterLoad, Load, LoadServer, ServerThread};
use tidegate::endpoint::TlsPolicy;
use tidegate::http::archive::Archive;
use tidegate::http::server;
use tidegate::production;
use tidegate::recorder::RecorderHandle;
use tidegate::sim::master::Version;
use tidegate::store::NewEndpoint;
use tokio::sync::watch;

const MASTERS: u64 = 100;
const INSTANCES: usize = 100;
/// Events per second of each master: 2,000 of all.
const PER_SECOND: u64 = 20;
const READERS: usize = 200;
/// Every tenth reader takes nothing.
const STALLED_EACH: usize = 10;
/// Budgets, in milliseconds at p99.
const OVERVIEW_MS: f64 = 100.0;
const LATER_MS: f64 = 50.0;
/// Time between two messages to the CacheActor, and between two overviews.
const LOOK_EVERY: Duration = Duration::from_millis(5);

fn main() {
    let seconds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(20);
    let phase = Duration::from_secs(seconds);
    let directory = tempfile::tempdir().expect("a directory");
    let masters = ServerThread::start().expect("a thread");
    let load = Load {
        version: Version::Go1_14_0,
        instances: INSTANCES,
        events: PER_SECOND * (seconds * 4 + 60),
        per_second: Some(PER_SECOND),
        then: AfterLoad::StayOpen,
    };
    let start = |seed| masters.run(|| LoadServer::start(load, Arc::new(SystemClock), seed).expect("a port"));
    let all: Vec<LoadServer> = (0..MASTERS).map(start).collect();
    let (recorder, address) = serve(directory.path(), &all);
    wait_for_tunnels(&recorder);

    let alone = p99("the CacheActor takes a message, without readers", waits(&recorder, phase));
    let overview = p99("an overview", overviews(address, phase));
    let readers = Readers::start(address);
    let beside = p99("the CacheActor takes a message, with 200 readers", waits(&recorder, phase));
    println!("bytes that the readers took: {} MB", readers.stop() >> 20);
    let later = beside - alone;
    println!("later at p99: {later:.2} ms of {LATER_MS} ms; overview at p99: {overview:.2} ms of {OVERVIEW_MS} ms");
    let fits = later <= LATER_MS && overview <= OVERVIEW_MS;
    // The recorder's thread has no other end than the process's.
    std::process::exit(i32::from(!fits));
}

/// Starts a recorder of these masters, with its server, on a thread of its own.
fn serve(directory: &std::path::Path, masters: &[LoadServer]) -> (RecorderHandle, SocketAddr) {
    let database_url = Some(format!("sqlite:{}/t.db", directory.display()));
    let set = vec!["http.listen=127.0.0.1:0".to_owned()];
    let config = Config::load(&Sources { set, database_url, ..Sources::default() }).expect("a configuration");
    let new = |(n, master): (usize, &LoadServer)| NewEndpoint {
        name: format!("m{n}"),
        url: master.url(),
        api_key: master.api_key(),
        tls: TlsPolicy::Verify,
        log_events: None,
    };
    let endpoints: Vec<NewEndpoint> = masters.iter().enumerate().map(new).collect();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_rt::System::new().block_on(async move {
            let (waiting, _) = watch::channel(None);
            let recorder = production::start(&config, &waiting).await.expect("a recorder");
            let listener = server::bind(config.http.listen).expect("a port");
            let address = listener.local_addr().expect("an address");
            let served = server::serve(listener, recorder.clone(), Archive::new(&config), &config.http, "bench");
            actix_rt::spawn(served.expect("a server"));
            for endpoint in endpoints {
                recorder.add_endpoint(endpoint).await.expect("an endpoint");
            }
            tell.send((recorder, address)).expect("somebody waits");
            std::future::pending::<()>().await;
        });
    });
    told.recv().expect("it starts")
}

fn wait_for_tunnels(recorder: &RecorderHandle) {
    let tunnels = || recorder.stats().endpoints.iter().map(|endpoint| endpoint.tunnels).sum::<u64>();
    let limit = SystemClock.monotonic() + Duration::from_secs(120);
    while tunnels() < MASTERS * INSTANCES as u64 {
        assert!(SystemClock.monotonic() < limit, "{} tunnels after two minutes", tunnels());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How long messages to the CacheActor took until their answer, in milliseconds.
fn waits(recorder: &RecorderHandle, phase: Duration) -> Vec<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let before = received(recorder);
    let waits = runtime.block_on(async {
        let end = SystemClock.monotonic() + phase;
        let mut waits = Vec::new();
        while SystemClock.monotonic() < end {
            let begin = SystemClock.monotonic();
            // Nothing is newer than the last version: the answer is short.
            recorder.actors.cache.send(ReadSince(u64::MAX)).await.expect("it runs");
            waits.push(begin.elapsed().as_secs_f64() * 1e3);
            tokio::time::sleep(LOOK_EVERY).await;
        }
        waits
    });
    println!("events per second meanwhile: {:.0}", (received(recorder) - before) as f64 / phase.as_secs_f64());
    waits
}

fn received(recorder: &RecorderHandle) -> u64 {
    recorder.stats().endpoints.iter().map(|endpoint| endpoint.events_received).sum()
}

/// How long overviews took, in milliseconds.
fn overviews(address: SocketAddr, phase: Duration) -> Vec<f64> {
    let mut tcp = TcpStream::connect(address).expect("a connection");
    tcp.set_nodelay(true).expect("a socket");
    let end = SystemClock.monotonic() + phase;
    let (mut times, mut bytes) = (Vec::new(), 0);
    while SystemClock.monotonic() < end {
        let begin = SystemClock.monotonic();
        bytes = ["stats", "endpoints", "tunnels"].iter().map(|what| get(&mut tcp, &format!("/api/v1/{what}"))).sum();
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        // More often than the copy of live state is renewed, or only fresh copies would be measured.
        std::thread::sleep(LOOK_EVERY * 10);
    }
    println!("bytes of an overview: {bytes}");
    times
}

/// Gets a document over a connection that stays open; its length.
fn get(tcp: &mut TcpStream, path: &str) -> usize {
    // In one piece, as browsers send it: pieces would wait for each other, 40 ms for each request.
    tcp.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).expect("it takes a request");
    let (mut answer, mut piece) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let read = tcp.read(&mut piece).expect("it answers");
        assert_ne!(read, 0, "the connection ended");
        answer.extend_from_slice(&piece[..read]);
        let Some(head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let length: usize = length.parse().expect("a number");
        if answer.len() >= head + 4 + length {
            return length;
        }
    }
}

/// Readers of the stream, on one thread.
struct Readers {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Readers {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let connect = move |_| {
            let mut tcp = TcpStream::connect(address).expect("a connection");
            write!(tcp, "GET /api/v1/stream?tunnels=all HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it takes a request");
            tcp.set_nonblocking(true).expect("a socket");
            tcp
        };
        let mut all: Vec<TcpStream> = (0..READERS).map(connect).collect();
        let thread = std::thread::spawn(move || {
            let (mut piece, mut taken) = (vec![0; 1 << 18], 0);
            while !stopped.load(Ordering::Relaxed) {
                for (_, reader) in all.iter_mut().enumerate().filter(|(n, _)| n % STALLED_EACH != 0) {
                    while let Ok(read @ 1..) = reader.read(&mut piece) {
                        taken += read as u64;
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            taken
        });
        Self { stop, thread }
    }

    /// Ends them and gives the bytes that they took.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the readers end")
    }
}

fn p99(what: &str, mut millis: Vec<f64>) -> f64 {
    millis.sort_by(f64::total_cmp);
    // By nearest rank.
    let at = |share: f64| millis[((millis.len() as f64 * share).ceil() as usize).clamp(1, millis.len()) - 1];
    println!("{what}: median {:.2} ms, p99 {:.2} ms, longest {:.2} ms, {} times", at(0.5), at(0.99), at(1.0), millis.len());
    at(0.99)
}
