//! The HTTP server under many and bad clients, with the real binary: a reader of the stream that takes nothing, a thousand
//! connections, HEAD on a connection that goes on. What is received must not notice.

#[path = "common/recorder.rs"]
mod recorder;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate::clock::SystemClock;
use tidegate::demo::load::{AfterLoad, Load, LoadServer, ServerThread};
use tidegate::sim::master::Version;

use recorder::{PATIENCE, Recorder, Setup, received, wait};

/// Connections that the server takes at a time (`CONNECTIONS_MAX` of src/http/server.rs).
const TAKEN_MAX: usize = 1_024;

fn load(instances: usize, per_second: u64) -> (ServerThread, LoadServer) {
    let per_second = Some(per_second);
    let load = Load { version: Version::Go1_14_0, instances, events: u64::MAX, per_second, then: AfterLoad::StayOpen };
    let thread = ServerThread::start().expect("a thread for the master");
    let server = thread.run(|| LoadServer::start(load, Arc::new(SystemClock), 1)).expect("a port");
    (thread, server)
}

fn address(setup: &Setup) -> SocketAddr {
    let port = setup.origin().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A connection whose system buffers little of what is not read.
fn connect(setup: &Setup, request: &str) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(16 << 10).expect("a buffer's size");
    socket.connect(&address(setup).into()).expect("it listens");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it takes a request");
    stream
}

/// A value of `/metrics`.
fn metric(recorder: &mut Recorder<'_>, name: &str) -> f64 {
    let text = recorder.request("GET", "/metrics").or_else(|_| recorder.request("GET", "/metrics")).expect("metrics").1;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Nothing was lost, and the master is heard on.
fn assert_received_on(recorder: &mut Recorder<'_>) {
    let mut before = None;
    let stats = recorder.until("more is received", |stats| {
        let now = received(stats);
        now > *before.get_or_insert(now) + 100
    });
    assert_eq!(stats["dropped"], serde_json::json!({}), "{stats:#}");
    assert_eq!(stats["endpoints"][0]["reconnects"], serde_json::json!(0), "the master did not have to drop us");
}

#[test]
fn a_reader_that_takes_nothing_of_ten_thousand_tunnels_is_disconnected_and_others_hear_on() {
    const INSTANCES: usize = 10_000;
    let (_thread, master) = load(INSTANCES, 1_000);
    let setup = Setup::sqlite().masters([&master]);
    let mut recorder = setup.start_and_wait();
    recorder.until("all tunnels are known", |stats| stats["endpoints"][0]["tunnels"] == serde_json::json!(INSTANCES));

    let mut stalled = connect(&setup, "GET /api/v1/stream?tunnels=all");
    let mut good = connect(&setup, "GET /api/v1/stream?tunnels=all");
    let reader = std::thread::spawn(move || {
        let (mut piece, mut updates, mut bytes) = (vec![0; 1 << 16], 0, 0);
        // Longer than the other one is kept: it has a queue of eight messages, one a second.
        while updates < 20 {
            let length = good.read(&mut piece).expect("the stream goes on");
            assert_ne!(length, 0, "the stream ended after {updates} updates");
            updates += piece[..length].windows(13).filter(|part| part == b"event: update").count();
            bytes += length;
        }
        bytes
    });
    let gone = wait(PATIENCE, || (metric(&mut recorder, "tidegate_stream_readers_cut_off_total") >= 1.0).then_some(()));
    assert!(gone.is_some(), "it is kept");
    assert_eq!(metric(&mut recorder, "tidegate_stream_readers"), 1.0, "the other one is kept");
    // What was on its way may still be read; then the connection is at its end.
    let mut rest = 0;
    let mut piece = vec![0; 1 << 16];
    let end = loop {
        match stalled.read(&mut piece) {
            Ok(0) => break true,
            Ok(length) => rest += length,
            Err(error) => break error.kind() == ErrorKind::ConnectionReset,
        }
    };
    assert!(end, "it is still open after {rest} bytes");
    assert!(reader.join().expect("the other one hears on") > rest);
    assert_received_on(&mut recorder);
}

/// File descriptors of a process.
fn descriptors(recorder: &Recorder<'_>) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", recorder.pid())).expect("a process has descriptors").count()
}

#[test]
fn a_thousand_connections_are_answered_bounded_and_given_back_while_events_are_received() {
    const ALL: usize = TAKEN_MAX + 150;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum.map(|most| most.min(4_096)).or(Some(4_096)), maximum })
        .expect("a limit");
    let (_thread, master) = load(50, 500);
    let setup = Setup::sqlite().masters([&master]);
    let mut recorder = setup.start_and_wait();
    recorder.until("the master is heard", |stats| received(stats) > 0);
    let before = descriptors(&recorder);

    // Readers of the stream stay for as long as they like: 256 are let in, the others are told so and stay connected for a while.
    let mut all: Vec<TcpStream> = (0..ALL).map(|_| connect(&setup, "GET /api/v1/stream")).collect();
    let most = wait(PATIENCE, || Some(descriptors(&recorder)).filter(|now| *now >= before + 2 * 256));
    assert!(most.is_some(), "they are not taken");
    let (mut readers, mut refused) = (0, 0);
    for stream in &mut all {
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("each is answered, those beyond the limit when others have gone");
        match &status {
            b"HTTP/1.1 200" => readers += 1,
            b"HTTP/1.1 503" => refused += 1,
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
        let now = descriptors(&recorder);
        assert!(now <= before + 2 * TAKEN_MAX + 16, "{now} descriptors");
    }
    assert_eq!((readers, refused), (256, ALL - 256));
    assert_received_on(&mut recorder);

    drop(all);
    // The connection that asks is one itself.
    let given_back = wait(PATIENCE, || (metric(&mut recorder, "tidegate_http_connections") <= 1.0).then_some(()));
    assert!(given_back.is_some(), "{} are open", metric(&mut recorder, "tidegate_http_connections"));
    let back = wait(PATIENCE, || Some(()).filter(|()| descriptors(&recorder) <= before + 4));
    assert!(back.is_some(), "{} descriptors, {before} before", descriptors(&recorder));
    assert_received_on(&mut recorder);
}

/// A client that sends a byte of a request now and then, or none at all, has ten seconds.
#[test]
fn who_never_finishes_a_request_is_let_go() {
    let setup = Setup::sqlite();
    let _recorder = setup.start_and_wait();
    let mut silent = TcpStream::connect(address(&setup)).expect("it listens");
    let mut slow = TcpStream::connect(address(&setup)).expect("it listens");
    slow.write_all(b"GET /api/v1/stats HTTP/1.1\r\nHost: loc").expect("it takes the beginning");
    for stream in [&mut silent, &mut slow] {
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the connection is ended");
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    }
}

#[test]
fn head_is_answered_without_a_body_and_the_connection_goes_on() {
    let setup = Setup::sqlite();
    let _recorder = setup.start_and_wait();
    let mut stream = TcpStream::connect(address(&setup)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut ask = |request: &str| {
        write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it takes a request");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).expect("it answers"), 1, "the connection ended: {request}");
            answer.push(byte[0]);
        }
        String::from_utf8(answer).expect("a head is text")
    };
    // A body would be taken for the head of the next answer.
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/", 200),
        ("/api/v1/stats", 200),
        ("/api/v1/stream", 200),
        ("/metrics", 200),
        ("/nothing", 404),
        ("/healthz", 200),
    ] {
        let head = ask(&format!("HEAD {path}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert!(head.contains("content-length: ") || path == "/api/v1/stream", "{path}: {head}");
    }
    assert!(ask("GET /healthz").starts_with("HTTP/1.1 200 "));
}

/// Sent without waiting for answers: each HEAD has its head, whatever comes behind it, and the connection goes on to the last.
#[test]
fn heads_in_a_row_are_all_answered() {
    let setup = Setup::sqlite();
    let _recorder = setup.start_and_wait();
    let mut stream = TcpStream::connect(address(&setup)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let ask = |method: &str, path: &str, more: &str| format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    let heads: String = ["/healthz", "/api/v1/stats", "/nothing", "/"].map(|path| ask("HEAD", path, "")).concat();
    let last = ask("GET", "/healthz", "Connection: close\r\n");
    stream.write_all(format!("{heads}{last}").as_bytes()).expect("it takes them");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("it answers");
    let parts: Vec<&str> = answers.split("\r\n\r\n").collect();
    let statuses: Vec<&str> = parts.iter().filter_map(|part| part.strip_prefix("HTTP/1.1 ")?.get(..3)).collect();
    assert_eq!(statuses, ["200", "200", "404", "200", "200"], "{answers}");
    assert!(parts[..4].iter().all(|head| head.contains("content-length: ") && !head.contains("chunked")), "{answers}");
    assert!(parts.len() == 6 && !parts[5].is_empty(), "only the last has a body: {answers}");
}
