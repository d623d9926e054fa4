//! The real binary, from outside: started, watched over HTTP, killed, stopped. What it needs lies in a directory of its own.
//!
//! Waiting is polling with a deadline: a process that is looked at from outside gives no other sign.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tidegate::clock::{Clock, SystemClock};
use tidegate::demo::load::LoadServer;

/// How long a condition may take that comes at once on an idle machine. Long, since test machines are not idle.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks at the process.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Everything that one recorder is started with, again and again.
pub struct Setup {
    directory: TempDir,
    database_url: String,
    endpoints: Vec<(String, String, String)>,
    set: Vec<(String, String)>,
    port: u16,
    wrapper: Vec<String>,
}

impl Setup {
    /// With an SQLite database in a directory that goes away at the end.
    pub fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let database_url = format!("sqlite:{}", directory.path().join("tide.db").display());
        Self { directory, database_url, endpoints: Vec::new(), set: Vec::new(), port: free_port(), wrapper: Vec::new() }
    }

    /// With another database; the journal lies in the directory all the same.
    pub fn on_database(url: &str) -> Self {
        let setup = Self::sqlite();
        let journal = setup.path("journal").display().to_string();
        Self { database_url: url.to_owned(), ..setup }.set("journal.dir", &journal)
    }

    /// Sets a key of the configuration.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.set.retain(|(known, _)| known != key);
        self.set.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Follows a master.
    pub fn endpoint(mut self, name: &str, url: &str, api_key: &str) -> Self {
        self.endpoints.push((name.to_owned(), url.to_owned(), api_key.to_owned()));
        self
    }

    /// Follows load masters, named `load1`, `load2` and so on.
    pub fn masters<'a>(self, masters: impl IntoIterator<Item = &'a LoadServer>) -> Self {
        (1..).zip(masters).fold(self, |setup, (nth, master)| {
            setup.endpoint(&format!("load{nth}"), &master.url().to_string(), master.api_key().reveal())
        })
    }

    /// Runs it under another program: that program's command line, before the binary.
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// A file of this name in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// As in `database.url`.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Origin of the page.
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The database, where it is SQLite.
    pub fn database_path(&self) -> PathBuf {
        PathBuf::from(self.database_url.strip_prefix("sqlite:").expect("an SQLite database"))
    }

    /// The journal's directory.
    pub fn journal(&self) -> PathBuf {
        let set = self.set.iter().find(|(key, _)| key == "journal.dir").map(|(_, value)| PathBuf::from(value));
        set.unwrap_or_else(|| self.path("tide.db.journal"))
    }

    /// Where stderr of all runs goes.
    pub fn log_path(&self) -> PathBuf {
        self.path("stderr.log")
    }

    /// What all runs have printed to stderr so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Starts it and does not wait for anything.
    pub fn start(&self) -> Recorder<'_> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).expect("the log can be written");
        let out = File::create(self.path("stdout.log")).expect("stdout has a file");
        let mut command = self.command(&["run"]);
        for (name, url, _) in &self.endpoints {
            command.arg("--endpoint").arg(format!("{name}={url}"));
        }
        let child = command.stdin(Stdio::null()).stdout(out).stderr(log).spawn().expect("the binary can be started");
        Recorder { setup: self, child: Some(child), http: Http::new(self.port) }
    }

    /// Starts it and waits until it answers requests.
    pub fn start_and_wait(&self) -> Recorder<'_> {
        let mut recorder = self.start();
        recorder.until("it answers", |_| true);
        recorder
    }

    /// Another command with the same configuration, run to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("the binary can be started")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let binary = env!("CARGO_BIN_EXE_tidegate");
        let mut words = self.wrapper.iter().map(String::as_str).filter(|_| arguments == ["run"]).chain([binary]);
        let mut command = Command::new(words.next().unwrap_or(binary));
        command.args(words).args(arguments).current_dir(self.directory.path());
        // What the tester has set for tidegate is not meant for this one.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("TIDEGATE_") || variable == "RUST_LOG" {
                command.env_remove(&variable);
            }
        }
        for (name, _, api_key) in &self.endpoints {
            command.env(format!("TIDEGATE_API_KEY_{}", name.to_uppercase()), api_key);
        }
        command.args(["--database-url", &self.database_url]);
        command.arg("--set").arg(format!("http.listen=127.0.0.1:{}", self.port));
        for (key, value) in &self.set {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command
    }
}

/// A loopback port that is free and below the range from which the system gives ports to outgoing connections, so that it
/// stays free while the recorder is down.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16 % 1_000 * 12;
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A run of the binary. Killed when dropped.
pub struct Recorder<'a> {
    setup: &'a Setup,
    child: Option<Child>,
    http: Http,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// Last line on stderr; what libraries trace while they end is left out.
    pub last_line: String,
}

impl Ended {
    /// `flushed=12 left_in_journal=3` in the last line.
    pub fn number(&self, name: &str) -> u64 {
        let value = self.last_line.split([' ', ',']).find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}=N in: {}", self.last_line))
    }
}

impl Recorder<'_> {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().expect("it runs").id().cast_signed())
    }

    /// `GET /api/v1/stats`; `None` while it does not answer, or has not started to record.
    pub fn stats(&mut self) -> Option<Value> {
        match self.http.request("GET", "/api/v1/stats") {
            Ok((200, body)) => {
                let stats: Value = serde_json::from_str(&body).expect("the stats are JSON");
                (!stats["optimized_storage"]["next_boundary"].is_null()).then_some(stats)
            }
            _ => None,
        }
    }

    /// Any request: status and body.
    pub fn request(&mut self, method: &str, path: &str) -> io::Result<(u16, String)> {
        self.http.request(method, path)
    }

    /// Waits until the stats say something, and returns them.
    pub fn until(&mut self, what: &str, condition: impl FnMut(&Value) -> bool) -> Value {
        self.until_within(PATIENCE, what, condition)
    }

    /// The same with another limit.
    pub fn until_within(&mut self, limit: Duration, what: &str, mut condition: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waited = wait(limit, || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().expect("a child can be waited for")) {
                panic!("waiting until {what}: the recorder ended with {status}\n{}", tail(&self.setup.log()));
            }
            last = self.stats()?;
            condition(&last).then_some(())
        });
        if waited.is_none() {
            panic!("not within {limit:?}: {what}\nlast stats: {last:#}\n{}", tail(&self.setup.log()));
        }
        last
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a child can be signalled");
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        let status = self.child.take().expect("it runs").wait().expect("a child can be waited for");
        assert_eq!(status.signal(), Some(9), "it ended by itself before the kill: {status}\n{}", tail(&self.setup.log()));
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(self) -> Ended {
        self.signal(Signal::SIGTERM);
        self.ended()
    }

    /// Waits for the end.
    pub fn ended(mut self) -> Ended {
        let mut child = self.child.take().expect("it runs");
        let status = wait(PATIENCE, || child.try_wait().expect("a child can be waited for"));
        let log = self.setup.log();
        let Some(status) = status else {
            let _ = child.kill();
            panic!("it does not end\n{}", tail(&log));
        };
        Ended { status, last_line: log.lines().rfind(|line| !line.contains(" TRACE ")).unwrap_or_default().to_owned() }
    }

    /// SIGTERM, and asserts that it ends well with nothing left in the journal.
    pub fn stop_well(self) -> Ended {
        let setup = self.setup;
        let ended = self.stop();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}\n{}", tail(&setup.log()));
        assert_eq!(ended.number("left_in_journal"), 0, "{ended:?}");
        assert_eq!(segments(&setup.journal()), Vec::<String>::new(), "{ended:?}");
        ended
    }
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Calls `look` until it gives something or the time is over.
pub fn wait<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let until = SystemClock.monotonic() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if SystemClock.monotonic() >= until {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The segments in a journal's directory, by name.
pub fn segments(journal: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(journal).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(".events") || name.ends_with(".history"));
    names.sort();
    names
}

/// Received events of all endpoints in this run.
pub fn received(stats: &Value) -> u64 {
    stats["endpoints"].as_array().into_iter().flatten().map(|endpoint| number(&endpoint["events_received"])).sum()
}

/// Received events of one endpoint in this run.
pub fn received_from(stats: &Value, name: &str) -> u64 {
    let endpoints = stats["endpoints"].as_array().into_iter().flatten();
    endpoints.filter(|endpoint| endpoint["name"] == name).map(|endpoint| number(&endpoint["events_received"])).sum()
}

/// True if each of this many endpoints has received something in this run.
pub fn all_receive(stats: &Value, endpoints: usize) -> bool {
    let all = stats["endpoints"].as_array().into_iter().flatten();
    all.filter(|endpoint| number(&endpoint["events_received"]) > 0).count() == endpoints
}

/// A number of the stats; 0 where it is not there.
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Flushes of all causes.
pub fn flushes(stats: &Value) -> u64 {
    stats["optimized_storage"]["flushes"].as_object().into_iter().flatten().map(|(_, count)| number(count)).sum()
}

/// The last lines, for messages.
pub fn tail(log: &str) -> String {
    const LINES: usize = 25;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// As much of HTTP as the stats need: one connection that is kept and made anew when the recorder was.
struct Http {
    port: u16,
    stream: Option<TcpStream>,
}

impl Http {
    const fn new(port: u16) -> Self {
        Self { port, stream: None }
    }

    fn request(&mut self, method: &str, path: &str) -> io::Result<(u16, String)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
                let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream
            }
        };
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")?;
        let mut answer = Vec::new();
        let head = loop {
            if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            more(&mut stream, &mut answer)?;
        };
        let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let length = length.unwrap_or_default();
        while answer.len() < head + length {
            more(&mut stream, &mut answer)?;
        }
        self.stream = Some(stream);
        Ok((status, String::from_utf8_lossy(&answer[head..]).into_owned()))
    }
}

fn more(stream: &mut TcpStream, answer: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    match stream.read(&mut buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        length => {
            answer.extend_from_slice(&buffer[..length]);
            Ok(())
        }
    }
}
