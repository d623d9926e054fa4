//! Runs the real program, and a recorder for it that keeps everything in memory.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use tidegate::actors::alerts::AlertsState;
use tidegate::config::{Config, Sources};
use tidegate::event::InstanceConfig;
use tidegate::http::archive::Archive;
use tidegate::http::identity;
use tidegate::http::server;
use tidegate::redact::Redacted;

#[path = "../common/fake.rs"]
mod fake;

pub use fake::Fake;

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

/// A recorder in memory. Each of its endpoints has two tunnels with the same alias, which tries to colour the terminal.
pub fn fake() -> Fake {
    let fake = Fake::default();
    let config = InstanceConfig { alias: Redacted::from_store("web\u{1b}[31m"), ..InstanceConfig::default() };
    fake.state().instances = vec!["aaaa0000", "bbbb0000"];
    fake.state().tunnel.config = Arc::new(config);
    fake.state().alerts = AlertsState::default();
    fake
}

/// Serves a recorder on a port of its own, for the database `sqlite:tidegate.db` in `directory`, until the test ends. Gives
/// the flag that tells commands where it is.
pub fn serve(fake: &Fake, directory: &Path, token: Option<&str>) -> String {
    let set: Vec<String> = token.map(|token| format!("http.token={token}")).into_iter().collect();
    serve_as(None, fake, directory, &set)
}

/// As [`serve`], under this identity instead of the database's, with keys set as `--set` does.
pub fn serve_as(identity: Option<&str>, fake: &Fake, directory: &Path, set: &[String]) -> String {
    let set = [set, &["http.listen=127.0.0.1:0".to_owned()]].concat();
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
