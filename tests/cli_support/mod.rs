//! Runs the real program, and a recorder for it that keeps everything in memory.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use tidegate::actors::alerts::{AlertsState, TestedChannels};
use tidegate::actors::buffer::FlushAnswer;
use tidegate::actors::endpoints::{ChangeError, EndpointView};
use tidegate::actors::sse_ingest::IngestState;
use tidegate::clock::Timestamp;
use tidegate::config::{Config, Sources};
use tidegate::endpoint::{Endpoint, EndpointHealth};
use tidegate::event::{EndpointId, InstanceConfig, InstanceId, Sample, TunnelKey, TunnelState};
use tidegate::http::archive::Archive;
use tidegate::http::identity;
use tidegate::http::problem::Problem;
use tidegate::http::recorder::RecorderApi;
use tidegate::http::server;
use tidegate::id::EventId;
use tidegate::live::Delta;
use tidegate::redact::Redacted;
use tidegate::status::snapshot::{ProcessStats, Stats};
use tidegate::store::{EndpointChange, NewEndpoint};

/// What a run of the program left.
pub struct Ran {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Standard output as the one JSON document that it must be.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

/// Runs the program in `directory` with this environment (and no other TIDEGATE_ variable) and standard input.
pub fn run_with<S: AsRef<OsStr>>(directory: &Path, arguments: &[S], environment: &[(&str, &str)], input: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.current_dir(directory).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    let mut child = command.env_remove("RUST_LOG").envs(environment.iter().copied()).spawn().unwrap();
    // A program that does not read its input may have closed it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
}

/// Runs the program in `directory`.
pub fn run(directory: &Path, arguments: &[&str]) -> Ran {
    run_with(directory, arguments, &[], "")
}

/// A recorder in memory. Each of its endpoints has two tunnels with the same alias.
#[derive(Clone, Default)]
pub struct Fake(pub Arc<Mutex<State>>);

/// What it holds.
#[derive(Default)]
pub struct State {
    pub endpoints: Vec<Endpoint>,
    pub purged: Vec<String>,
    pub broken: Option<String>,
}

impl RecorderApi for Fake {
    fn stats(&self) -> Stats {
        let process = ProcessStats { pid: 4711, uptime_s: 3.0, rss_bytes: 1 << 20, version: "0.1.0 (test)".to_owned() };
        Stats { mode: "batched".to_owned(), process: Some(process), ..Stats::default() }
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    async fn flush(&self) -> FlushAnswer {
        match self.0.lock().unwrap().broken.clone() {
            None => FlushAnswer { committed: 7, ..FlushAnswer::default() },
            error => FlushAnswer { waiting: 7, error, ..FlushAnswer::default() },
        }
    }

    async fn endpoints(&self) -> Result<Vec<EndpointView>, Problem> {
        let view = |endpoint: &Endpoint| EndpointView {
            endpoint: endpoint.clone(),
            health: EndpointHealth::default(),
            state: IngestState::default(),
            tunnels: 2,
        };
        Ok(self.0.lock().unwrap().endpoints.iter().map(view).collect())
    }

    async fn add_endpoint(&self, new: NewEndpoint) -> Result<EndpointId, ChangeError> {
        let mut state = self.0.lock().unwrap();
        if state.endpoints.iter().any(|endpoint| endpoint.name == new.name) {
            return Err(ChangeError::Conflict(format!("the name `{}` is taken", new.name)));
        }
        let id = EndpointId(i32::try_from(state.endpoints.len()).unwrap() + 1);
        let NewEndpoint { name, url, api_key, tls, log_events } = new;
        state.endpoints.push(Endpoint { id, name, url, api_key, tls, paused: false, log_events, master_id: None });
        Ok(id)
    }

    async fn change_endpoint(&self, name: &str, change: EndpointChange) -> Result<(), ChangeError> {
        let mut state = self.0.lock().unwrap();
        let endpoint = state.endpoints.iter_mut().find(|endpoint| endpoint.name == name);
        let endpoint = endpoint.ok_or_else(|| ChangeError::NotFound(name.to_owned()))?;
        endpoint.url = change.url.unwrap_or(endpoint.url.clone());
        endpoint.api_key = change.api_key.unwrap_or(endpoint.api_key.clone());
        endpoint.tls = change.tls.unwrap_or(endpoint.tls.clone());
        endpoint.paused = change.paused.unwrap_or(endpoint.paused);
        endpoint.log_events = change.log_events.unwrap_or(endpoint.log_events);
        Ok(())
    }

    async fn remove_endpoint(&self, name: &str, purge: bool) -> Result<(), ChangeError> {
        let mut state = self.0.lock().unwrap();
        let place = state.endpoints.iter().position(|endpoint| endpoint.name == name);
        state.endpoints.remove(place.ok_or_else(|| ChangeError::NotFound(name.to_owned()))?);
        if purge {
            state.purged.push(name.to_owned());
        }
        Ok(())
    }

    fn alerts(&self) -> AlertsState {
        AlertsState::default()
    }

    async fn test_alerts(&self) -> Result<TestedChannels, Problem> {
        Ok(Vec::new())
    }

    async fn live_since(&self, version: u64) -> Result<Delta, Problem> {
        let config = Arc::new(InstanceConfig { alias: Redacted::from_store("web\u{1b}[31m"), ..InstanceConfig::default() });
        let state = TunnelState { config, sample: Sample::default(), seen_at: Timestamp(0), last_event: EventId(1) };
        let held = self.0.lock().unwrap();
        let tunnels = held.endpoints.iter().flat_map(|endpoint| {
            let key = |instance: &str| TunnelKey { endpoint: endpoint.id, instance: InstanceId::from(instance) };
            ["aaaa0000", "bbbb0000"].map(|instance| (key(instance), state.clone(), None))
        });
        Ok(Delta {
            version: version + 1,
            endpoints: held.endpoints.iter().map(|endpoint| endpoint.id).collect(),
            thinned: Vec::new(),
            tunnels: tunnels.collect(),
        })
    }
}

/// Serves a recorder on a port of its own, for the database `sqlite:tidegate.db` in `directory`, until the test ends. Gives
/// the flag that tells commands where it is.
pub fn serve(fake: &Fake, directory: &Path, token: Option<&str>) -> String {
    serve_as(None, fake, directory, token)
}

/// As [`serve`], under this identity instead of the database's.
pub fn serve_as(identity: Option<&str>, fake: &Fake, directory: &Path, token: Option<&str>) -> String {
    let mut set = vec!["http.listen=127.0.0.1:0".to_owned()];
    set.extend(token.map(|token| format!("http.token={token}")));
    let database_url = Some(format!("sqlite:{}/tidegate.db", directory.display()));
    let config = Config::load(&Sources { set, database_url, ..Sources::default() }).unwrap();
    let identity = identity.map_or_else(|| identity::of(&config.database), str::to_owned);
    let listener = server::bind(config.http.listen).unwrap();
    let address = listener.local_addr().unwrap();
    let fake = fake.clone();
    std::thread::spawn(move || {
        let system = actix_rt::System::new();
        system
            .block_on(async { server::serve(listener, fake, Archive::new(&config), &config.http, &identity).unwrap().await })
            .unwrap();
    });
    // The socket listens already: a request waits until the server takes it.
    format!("--set=http.listen={address}")
}

/// A flag for an address at which nobody listens.
pub fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("--set=http.listen={}", listener.local_addr().unwrap())
}
