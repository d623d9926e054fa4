//! `tidegate endpoint ...`.

mod probe;

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::Json;
use super::api_key;
use super::exit::{ExitCode, Failure};
use super::output::{self, cell, plain};
use super::place::Place;
use crate::config::{Config, tls_policy};
use crate::endpoint::{ApiKey, EndpointError, MasterUrl, TlsPolicy, valid_name};
use crate::http::document::{EndpointDocument, Endpoints};
use crate::store::{EndpointChange, NewEndpoint};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  tidegate endpoint add tokyo http://10.0.0.5:9090/api\n\nEach subcommand's --help has its own."
)]
pub(super) struct Endpoint {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Follows a new master
    #[command(after_help = "The API key comes from --api-key-file, TIDEGATE_API_KEY_<NAME>, TIDEGATE_API_KEY or a prompt.\n\n\
                      Examples:\n  tidegate endpoint add tokyo http://10.0.0.5:9090/api --api-key-file key.txt\n  \
                      tidegate endpoint add paris https://10.0.0.6:9090 --tls pin")]
    Add {
        /// Unique name
        name: String,
        /// Address with the master's prefix; no path means /api
        url: String,
        #[command(flatten)]
        key: KeyFlags,
        #[command(flatten)]
        tls: TlsFlags,
        /// Store its `log` events, or not [default: storage.log_events]
        #[arg(long, value_name = "BOOL")]
        log_events: Option<bool>,
        #[command(flatten)]
        output: Json,
    },
    /// Changes address, key, TLS or what is stored of a master
    #[command(after_help = "Without anything to change it sets a new API key, from the environment or a prompt.\n\n\
                      Example:\n  tidegate endpoint set tokyo --url http://10.0.0.7:9090/api --api-key-file key.txt")]
    Set {
        /// Its name
        name: String,
        /// New address with prefix
        #[arg(long)]
        url: Option<String>,
        #[command(flatten)]
        key: KeyFlags,
        #[command(flatten)]
        tls: TlsFlags,
        /// Store its `log` events, or not; `default` follows storage.log_events
        #[arg(long, value_name = "true|false|default")]
        log_events: Option<String>,
        #[command(flatten)]
        output: Json,
    },
    /// Lists masters
    #[command(after_help = "Example:\n  tidegate endpoint list --json")]
    List {
        #[command(flatten)]
        output: Json,
    },
    /// Stops following a master; its history stays until it expires
    #[command(after_help = "Example:\n  tidegate endpoint remove tokyo --purge --yes")]
    Remove {
        /// Its name
        name: String,
        /// Delete its events and history too
        #[arg(long)]
        purge: bool,
        /// Do not ask before deleting history
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: Json,
    },
    /// Disconnects from a master until it is resumed
    #[command(after_help = "Example:\n  tidegate endpoint pause tokyo")]
    Pause(Name),
    /// Connects to a paused master again
    #[command(after_help = "Example:\n  tidegate endpoint resume tokyo")]
    Resume(Name),
    /// Accepts the changed certificate of a master that is pinned
    #[command(after_help = "The next certificate that the master shows is kept.\n\nExample:\n  tidegate endpoint trust tokyo")]
    Trust(Name),

    /// Tries step by step whether a master can be followed, and says what to do about the first step that fails
    #[command(
        after_help = "With a NAME its stored address, key and policy are used; with a URL those given here, and no recorder \
                      is needed.\n\nExamples:\n  tidegate endpoint probe tokyo\n  \
                      tidegate endpoint probe https://10.0.0.6:9090/api --tls pin --api-key-file key.txt"
    )]
    Probe(probe::Probe),
}

#[derive(Debug, clap::Args)]
struct Name {
    /// Its name
    name: String,
    #[command(flatten)]
    output: Json,
}

#[derive(Debug, clap::Args)]
struct KeyFlags {
    /// File with the API key; `-` is standard input
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// The master asks for no key
    #[arg(long, conflicts_with = "api_key_file")]
    no_api_key: bool,
}

#[derive(Debug, clap::Args)]
struct TlsFlags {
    /// How the certificate of an https master is judged: by a CA, by its fingerprint, or not at all [default: verify]
    #[arg(long, value_parser = ["verify", "pin", "insecure"])]
    tls: Option<String>,
    /// SHA-256 of the certificate, with --tls pin; without it the first certificate seen is kept
    #[arg(long, value_name = "SHA256")]
    pin: Option<String>,
    /// PEM file with the roots to trust, with --tls verify
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl TlsFlags {
    fn policy(&self) -> Result<Option<TlsPolicy>, Failure> {
        // The recorder may run in another directory.
        let ca = self.ca.as_deref().map(std::path::absolute).transpose();
        let ca = ca.map_err(|error| Failure::usage(format!("--ca: {error}")))?;
        let ca = ca.as_deref().map(Path::to_string_lossy);
        tls_policy(self.tls.as_deref(), self.pin.as_deref(), ca.as_deref()).map_err(Failure::usage)
    }
}

impl Endpoint {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        match self.action {
            Action::Add { name, url, key, tls, log_events, output } => {
                valid_name(&name).map_err(wrong)?;
                let url: MasterUrl = url.parse().map_err(wrong)?;
                let tls = tls.policy()?.unwrap_or_default();
                if !url.https && matches!(tls, TlsPolicy::Pin(_) | TlsPolicy::VerifyWith(_)) {
                    return Err(Failure::usage(
                        "a certificate is looked at over https:// only, and over http:// the key goes in clear text: give an https:// URL, \
                         or leave --tls, --pin and --ca out"
                            .to_owned(),
                    ));
                }
                warn_of_insecure(&url, &tls);
                let api_key = if key.no_api_key {
                    ApiKey::new("")
                } else {
                    api_key::obtain(key.api_key_file.as_deref(), &config.api_keys, &name)?
                };
                let new = NewEndpoint { name, url, api_key, tls, log_events };
                let place = Place::find(config).await;
                let added = place.add(&new).await?;
                done(
                    &added,
                    output,
                    match place {
                        Place::Recorder(_) => "added; the recorder connects to it",
                        Place::Database { .. } => "added; `tidegate run` will follow it",
                    },
                );
            }
            Action::Set { name, url, key, tls, log_events, output } => {
                let mut change = EndpointChange {
                    url: url.map(|url| url.parse().map_err(wrong)).transpose()?,
                    tls: tls.policy()?,
                    log_events: log_events.as_deref().map(parse_log_events).transpose()?,
                    ..EndpointChange::default()
                };
                // The environment may hold keys for other purposes; it is read only if a key is what is to be set.
                let only_key = change == EndpointChange::default();
                if key.no_api_key {
                    change.api_key = Some(ApiKey::new(""));
                } else if key.api_key_file.is_some() || only_key {
                    change.api_key = Some(api_key::obtain(key.api_key_file.as_deref(), &config.api_keys, &name)?);
                }
                done(&Place::find(config).await.change(&name, &change).await?, output, "changed");
            }
            Action::List { output } => {
                let endpoints = Place::find(config).await.endpoints().await?;
                if output.json { output::json(&Endpoints { endpoints, next: None }) } else { list(&endpoints) }
            }
            Action::Probe(probe) => return probe.execute(config).await,
            Action::Remove { name, purge, yes, output } => return remove(config, &name, purge, yes, output).await,
            Action::Pause(Name { name, output }) => {
                let change = EndpointChange { paused: Some(true), ..EndpointChange::default() };
                done(&Place::find(config).await.change(&name, &change).await?, output, "paused");
            }
            Action::Resume(Name { name, output }) => {
                let change = EndpointChange { paused: Some(false), ..EndpointChange::default() };
                done(&Place::find(config).await.change(&name, &change).await?, output, "resumed");
            }
            Action::Trust(Name { name, output }) => {
                let trusted = Place::find(config).await.trust(&name).await?;
                done(&trusted, output, "the next certificate it shows will be kept");
            }
        }
        Ok(ExitCode::Done)
    }
}

async fn remove(config: &Config, name: &str, purge: bool, yes: bool, output: Json) -> Result<ExitCode, Failure> {
    if purge && !yes {
        if !output::can_ask() {
            return Err(Failure::usage(format!(
                "--purge deletes all events and history of `{}`; confirm with --yes",
                plain(name)
            )));
        }
        let question = format!("Delete `{}` with all its events and history?", plain(name));
        let confirmed = output::confirm(&question).map_err(|error| Failure::usage(format!("cannot ask: {error}")))?;
        if !confirmed {
            return Err(Failure::usage("nothing was deleted"));
        }
    }
    Place::find(config).await.remove(name, purge).await?;
    if output.json {
        output::json(&serde_json::json!({ "removed": name, "purged": purge }));
    } else if purge {
        output::print(&format!("{name}: removed with its events and history"));
    } else {
        output::print(&format!("{name}: removed; its history stays until it expires"));
    }
    Ok(ExitCode::Done)
}

fn wrong(error: EndpointError) -> Failure {
    Failure::usage(error.to_string())
}

fn parse_log_events(text: &str) -> Result<Option<bool>, Failure> {
    match text {
        "default" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Failure::usage("--log-events takes true, false or default")),
    }
}

fn warn_of_insecure(url: &MasterUrl, tls: &TlsPolicy) {
    if url.https && *tls == TlsPolicy::Insecure {
        output::note("note: with --tls insecure anyone between here and the master can read its API key; --tls pin notices that");
    }
}

fn done(endpoint: &EndpointDocument, output: Json, what: &str) {
    if output.json {
        output::json(endpoint);
    } else {
        output::print(&format!("{} ({}): {what}", endpoint.name, endpoint.url));
    }
}

fn list(endpoints: &[EndpointDocument]) {
    if endpoints.is_empty() {
        output::note("no endpoints; add one with `tidegate endpoint add NAME URL`");
        return;
    }
    let mut table = output::table(&["NAME", "URL", "TLS", "STATUS", "SINCE", "TUNNELS", "VERSION", "REASON"]);
    for endpoint in endpoints {
        table.add_row([
            endpoint.name.clone(),
            endpoint.url.clone(),
            endpoint.tls.tls.clone(),
            endpoint.status.as_str().to_owned(),
            seconds(&endpoint.since),
            endpoint.tunnels.to_string(),
            endpoint.version.as_deref().map_or_else(|| "-".to_owned(), cell),
            plain(&endpoint.reason),
        ]);
    }
    output::print_table(&table);
}

/// A time of a document without its fraction.
fn seconds(time: &str) -> String {
    time.split_once('.').map_or(time, |(seconds, _)| seconds).replace('T', " ")
}
