//! Every capture of a real master is served to the real binary at log level trace, and replayed; then tables, files, output and
//! responses are searched for the secrets that the captures carry.
//!
//! In the captures every API key begins with `fa4ec0de`, and `tunnelpass` is a tunnel's password. The column
//! `endpoints.api_key` is the one place where a key may be.

#[path = "common/recorder.rs"]
mod recorder;
#[path = "common/stored.rs"]
mod stored;

mod postgres;

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use recorder::{Setup, number, received, tail};

const KEY: &str = "fa4ec0de";
const PASSWORD: &str = "tunnelpass";

/// A recorded stream.
struct Capture {
    path: PathBuf,
    body: Vec<u8>,
    instances: Vec<u8>,
    info: Vec<u8>,
}

impl Capture {
    /// The streams among the fixtures, each made that of another master: one master is not followed twice.
    fn all() -> Vec<Self> {
        let mut paths = Vec::new();
        for folder in ["go", "rs"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
            let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            paths.extend(entries.map(|entry| entry.expect("a directory can be read").path()));
        }
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "sse"));
        paths.sort();
        paths.into_iter().enumerate().map(|(nth, path)| Self::read(path, nth)).collect()
    }

    fn read(path: PathBuf, nth: usize) -> Self {
        let body = std::fs::read(&path).expect("a capture can be read");
        let instances = std::fs::read(path.with_extension("instances.json")).unwrap_or_else(|_| b"[]".to_vec());
        let info =
            b"{\"alias\":\"\",\"ver\":\"v1.14.0\",\"name\":\"127.0.0.1\",\"mid\":\"\",\"tls\":\"0\",\"crt\":\"\",\"key\":\"\"}";
        let (body, instances) = (other_master(&body, nth), other_master(&instances, nth));
        Self { path, body, instances, info: info.to_vec() }
    }

    /// Events about instances, which get a row or refresh the live state.
    fn events(&self) -> u64 {
        let text = String::from_utf8_lossy(&self.body);
        text.lines().filter(|line| line.starts_with("data:") && !line.contains("\"id\":\"********\"")).count() as u64
    }
}

/// The same answer with another master's id, which is the `config` of the pseudo-instance that carries the key.
fn other_master(answer: &[u8], nth: usize) -> Vec<u8> {
    let text = String::from_utf8_lossy(answer);
    let at = text.find("\"id\":\"********\"").and_then(|at| Some((at, text[at..].split_once("\"config\":\"")?.1)));
    let id = at.and_then(|(_, rest)| rest.split_once('"')).map(|(id, _)| id).filter(|id| id.len() == 16);
    id.map_or_else(|| answer.to_vec(), |id| text.replace(id, &format!("{nth:016x}")).into_bytes())
}

/// Serves a capture to the first that asks for events; whoever asks later gets a silent stream.
fn serve(capture: Arc<Capture>) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("http://{}/api", listener.local_addr().expect("it is bound"));
    let streams = Arc::new(AtomicU64::new(0));
    let opened = streams.clone();
    // Ends with the process.
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let (capture, streams) = (capture.clone(), streams.clone());
            std::thread::spawn(move || {
                // An error means that the recorder has closed its side.
                let _ = converse(&connection, &capture, &streams);
            });
        }
    });
    (url, opened)
}

fn converse(mut connection: &TcpStream, capture: &Capture, streams: &AtomicU64) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    loop {
        let mut path = String::new();
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            if path.is_empty() {
                path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            }
            line.clear();
        }
        if path.is_empty() {
            return Ok(());
        }
        if path.ends_with("/events") {
            write!(connection, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            if streams.fetch_add(1, Ordering::SeqCst) == 0 {
                // Chunks that end anywhere.
                for piece in capture.body.chunks(1_009) {
                    write!(connection, "{:x}\r\n", piece.len())?;
                    connection.write_all(piece)?;
                    connection.write_all(b"\r\n")?;
                }
            }
            // Until the reader leaves.
            while reader.read_line(&mut line)? > 0 {}
            return Ok(());
        }
        let body = match path.rsplit('/').next() {
            Some("instances") => &capture.instances,
            Some("info") => &capture.info,
            _ => return write!(connection, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        };
        write!(connection, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len())?;
        connection.write_all(body)?;
    }
}

/// What was searched, and what was found there.
#[derive(Default)]
struct Search {
    places: usize,
    bytes: usize,
    found: Vec<String>,
}

impl Search {
    fn bytes(&mut self, place: &str, bytes: &[u8]) {
        self.places += 1;
        self.bytes += bytes.len();
        for secret in [KEY, PASSWORD] {
            if let Some(at) = bytes.windows(secret.len()).position(|window| window.eq_ignore_ascii_case(secret.as_bytes())) {
                let around = &bytes[at.saturating_sub(120)..(at + 40).min(bytes.len())];
                self.found.push(format!("{place}: ...{}...", String::from_utf8_lossy(around)));
            }
        }
    }

    fn files(&mut self, directory: &Path, wanted: impl Fn(&Path) -> bool + Copy) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                self.files(&path, wanted);
            } else if wanted(&path) {
                // A segment may have been removed meanwhile.
                self.bytes(&path.display().to_string(), &std::fs::read(&path).unwrap_or_default());
            }
        }
    }

    /// All of a database but the column that holds the keys: overwritten there and in the file, then all bytes are searched.
    fn database(&mut self, path: &Path) {
        let mut database = stored::connect(&format!("sqlite:{}", path.display()));
        database.execute("UPDATE endpoints SET api_key = ''");
        // Apart: the first may not run inside a transaction.
        database.execute("VACUUM");
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)");
        self.bytes(&path.display().to_string(), &std::fs::read(path).expect("the database is a file"));
    }

    fn done(&self, setup: &Setup) {
        println!("{} places, {} bytes searched", self.places, self.bytes);
        assert!(self.found.is_empty(), "{:#?}\n{}", self.found, tail(&setup.log()));
    }
}

fn is_database(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tide.db"))
}

#[test]
fn no_key_and_no_password_of_a_followed_stream_leaves_the_decoder() {
    let captures: Vec<Arc<Capture>> = Capture::all().into_iter().map(Arc::new).collect();
    assert!(captures.len() >= 25, "only {} captures", captures.len());
    let served: Vec<u8> = captures.iter().flat_map(|capture| capture.body.clone()).collect();
    assert!(contains(&served, KEY) && contains(&served, PASSWORD), "the captures carry no secrets: nothing would be tested");

    let mut setup = Setup::sqlite().set("log", "trace").set("cache.sync_interval", "1s");
    let mut streams = Vec::new();
    for (nth, capture) in captures.iter().enumerate() {
        let (url, opened) = serve(capture.clone());
        setup = setup.endpoint(&format!("capture{nth}"), &url, &format!("{KEY}{nth:024x}"));
        streams.push(opened);
    }
    let mut run = setup.start();
    let events: u64 = captures.iter().map(|capture| capture.events()).sum();
    let stats = run.until("every event of every capture is decoded", |stats| {
        let counted: u64 = stats["events"].as_object().into_iter().flatten().map(|(_, count)| number(count)).sum();
        let dropped: u64 = stats["dropped"].as_object().into_iter().flatten().map(|(_, count)| number(count)).sum();
        counted + dropped >= events
    });
    println!("{events} events, {} received: {:#}", received(&stats), stats["events"]);
    assert!(streams.iter().all(|opened| opened.load(Ordering::SeqCst) >= 1), "every capture was read");

    let mut search = Search::default();
    // The journal holds events now, and the database's log too.
    search.files(&setup.path(""), |path| !is_database(path));
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v1/stats",
        "/api/v1/endpoints",
        "/api/v1/tunnels",
        "/api/v1/events",
        "/api/v1/flushes",
        "/api/v1/history",
        "/api/v1/endpoints/capture0",
        "/api/v1/endpoints/nobody",
    ] {
        let (_, body) = run.request("GET", path).expect("it answers");
        search.bytes(path, body.as_bytes());
    }
    let commands: [&[&str]; 6] = [
        &["tunnels", "--json"],
        &["endpoint", "list", "--json"],
        &["endpoint", "list"],
        &["stats", "--json"],
        &["flush", "--json"],
        &["endpoint", "add", "capture0", "http://127.0.0.1:1"],
    ];
    for command in commands {
        let output = setup.run(command);
        search.bytes(&command.join(" "), &[output.stdout, output.stderr].concat());
    }
    run.stop_well();
    search.files(&setup.path(""), |path| !is_database(path));
    let tunnels = "SELECT count(*) AS value FROM endpoint_sse WHERE detail LIKE '%127.0.0.1:101%' OR logs LIKE '%://%'";
    assert!(stored::connect(setup.database_url()).number(tunnels) > 0, "addresses stay, only what is secret goes");
    search.database(&setup.database_path());
    search.done(&setup);
}

#[test]
fn no_key_and_no_password_of_a_replayed_stream_is_stored_or_printed() {
    let captures = Capture::all();
    let setup = Setup::sqlite().set("log", "trace");
    let files: Vec<String> = captures.iter().map(|capture| capture.path.display().to_string()).collect();
    let arguments: Vec<&str> = ["replay"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let output = setup.run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", tail(&String::from_utf8_lossy(&output.stderr)));
    let mut search = Search::default();
    search.bytes("output of replay", &[output.stdout, output.stderr].concat());
    search.files(&setup.path(""), |path| !is_database(path));
    let mut database = stored::connect(setup.database_url());
    assert!(stored::rows(&mut database) > 1_000);
    let keys = database.texts("SELECT api_key AS value FROM endpoints");
    assert!(keys.iter().all(|key| !key.contains(KEY)), "a replay stores no key: {keys:?}");
    search.database(&setup.database_path());
    search.done(&setup);
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
