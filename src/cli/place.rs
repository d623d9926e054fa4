//! Where a command does its work: at the running recorder, or in the database if none runs.

use std::collections::BTreeMap;
use std::path::Path;

use hyper::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientError, segment};
use super::database::{self, OpenError};
use super::exit::Failure;
use super::output;
use crate::actors::endpoints::ChangeError;
use crate::actors::realtime::Switch;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Tuning};
use crate::endpoint::{Endpoint, TlsPolicy};
use crate::event::EndpointId;
use crate::http::document::{EndpointDocument, Endpoints, TlsDocument, TunnelDocument, Tunnels};
use crate::http::{endpoints, identity};
use crate::modes::StorageMode;
use crate::modes::report::{Facts, ModeReport};
use crate::modes::usage::Usage;
use crate::status::snapshot::{DatabaseStats, EndpointStats, OptimizedStorage, Stats};
use crate::store::{EndpointChange, NewEndpoint, Purge, Settings, Store, StoreError, Stored};

/// Where the work is done.
pub enum Place<'a> {
    /// The recorder of this database runs and answers.
    Recorder(Client),
    /// No recorder of this database was found.
    Database {
        /// The database is in it.
        config: &'a Config,
        /// Why no recorder was found.
        why: ClientError,
    },
}

/// A client for the recorder of this configuration.
#[must_use]
pub fn client(config: &Config) -> Client {
    let without_database = config.database.sqlite_path().is_some_and(|path| !path.exists());
    Client::new(&config.http, identity::of(&config.database), without_database)
}

impl<'a> Place<'a> {
    /// Asks at `http.listen` for the recorder of this database.
    pub async fn find(config: &'a Config) -> Self {
        let client = client(config);
        match client.hello().await {
            Ok(()) => Self::Recorder(client),
            Err(why) => Self::Database { config, why },
        }
    }

    /// All endpoints, by name.
    ///
    /// # Errors
    /// [`Failure`] of the recorder or of the database.
    pub async fn endpoints(&self) -> Result<Vec<EndpointDocument>, Failure> {
        match self {
            Self::Recorder(client) => {
                Ok(client.call(Method::GET, "/api/v1/endpoints", None).await?.success::<Endpoints>()?.endpoints)
            }
            Self::Database { config, why } => {
                mention(why);
                Ok(database::reader(&config.database)?.endpoints()?)
            }
        }
    }

    /// All tunnels, by endpoint and instance.
    ///
    /// # Errors
    /// As [`Place::endpoints`].
    pub async fn tunnels(&self) -> Result<Vec<TunnelDocument>, Failure> {
        match self {
            Self::Recorder(client) => Ok(client.call(Method::GET, "/api/v1/tunnels", None).await?.success::<Tunnels>()?.tunnels),
            Self::Database { config, why } => {
                mention(why);
                Ok(database::reader(&config.database)?.tunnels()?)
            }
        }
    }

    /// The recorder's stats; of the database what it knows, with `process` absent and counters zero.
    ///
    /// # Errors
    /// As [`Place::endpoints`].
    pub async fn stats(&self) -> Result<Stats, Failure> {
        match self {
            Self::Recorder(client) => Ok(client.call(Method::GET, "/api/v1/stats", None).await?.success()?),
            Self::Database { config, why } => {
                mention(why);
                let mut reader = database::reader(&config.database)?;
                let endpoints = reader.endpoints()?.into_iter().map(stats_of_stored).collect();
                let known = reader.modes()?.0.get(StorageMode::KEY).and_then(|name| StorageMode::from_name(name));
                let mode = known.or(config.storage.mode).unwrap_or_default();
                Ok(Stats {
                    optimized_storage: OptimizedStorage {
                        max_buffer_size: config.storage.max_buffer_size as u64,
                        journal_bytes: directory_bytes(&config.journal.dir),
                        ..OptimizedStorage::default()
                    },
                    endpoints,
                    database: DatabaseStats { ok: true, since: None, error: None },
                    mode: mode.as_str().to_owned(),
                    ..Stats::default()
                })
            }
        }
    }

    /// How events reach the database, and what that costs.
    ///
    /// # Errors
    /// As [`Place::endpoints`].
    pub async fn mode_report(&self) -> Result<ModeReport, Failure> {
        match self {
            Self::Recorder(client) => Ok(client.call(Method::GET, "/api/v1/mode", None).await?.success()?),
            Self::Database { config, why } => {
                mention(why);
                let (kept, usage) = database::reader(&config.database)?.modes()?;
                stored_mode(config, kept, usage)
            }
        }
    }

    /// Changes the mode, or keys that may change while the recorder runs.
    ///
    /// # Errors
    /// As [`Place::endpoints`]; usage for a key or a value that is not allowed.
    pub async fn switch_mode(&self, switch: &Switch) -> Result<ModeReport, Failure> {
        match self {
            Self::Recorder(client) => {
                let body = json!({ "mode": switch.mode.map(StorageMode::as_str), "set": switch.set });
                let answer = client.call(Method::POST, "/api/v1/mode", Some(&body));
                Ok(output::patiently("waiting for the recorder", answer).await?.success()?)
            }
            Self::Database { config, why } => {
                let mut store = open(config, why)?;
                let Stored { settings, usage, .. } = store.load()?;
                let settings =
                    switch.changed(&settings, configured(config)).map_err(|error| Failure::usage(error.to_string()))?;
                store.keep_settings(&settings, &[])?;
                stored_mode(config, settings, usage)
            }
        }
    }

    /// Makes an endpoint.
    ///
    /// # Errors
    /// As [`Place::endpoints`]; usage if the name is taken.
    pub async fn add(&self, new: &NewEndpoint) -> Result<EndpointDocument, Failure> {
        match self {
            Self::Recorder(client) => {
                let mut body = tls_body(&new.tls);
                body["name"] = json!(new.name);
                body["url"] = json!(new.url.to_string());
                body["api_key"] = json!(new.api_key.reveal());
                body["log_events"] = json!(new.log_events);
                let answer = client.call(Method::POST, "/api/v1/endpoints", Some(&body));
                Ok(output::patiently("waiting for the recorder", answer).await?.success()?)
            }
            Self::Database { config, why } => {
                let mut store = open(config, why)?;
                let known = store.load()?.endpoints;
                if let Some(twin) = known.iter().find(|(other, _)| other.url == new.url && other.name != new.name) {
                    return Err(Failure::usage(format!("{} is followed already, as endpoint `{}`", new.url, twin.0.name)));
                }
                store.add_endpoint(new, SystemClock.wall()).map_err(change_failed)?;
                stored(store.as_mut(), &new.name).map(|endpoint| document(&endpoint))
            }
        }
    }

    /// Changes an endpoint.
    ///
    /// # Errors
    /// As [`Place::endpoints`]; usage if there is no such endpoint.
    pub async fn change(&self, name: &str, change: &EndpointChange) -> Result<EndpointDocument, Failure> {
        match self {
            Self::Recorder(client) => {
                let path = format!("/api/v1/endpoints/{}", segment(name));
                let body = change_body(change);
                let answer = client.call(Method::PATCH, &path, Some(&body));
                Ok(output::patiently("waiting for the recorder", answer).await?.success()?)
            }
            Self::Database { config, why } => {
                let mut store = open(config, why)?;
                let endpoint = stored(store.as_mut(), name)?;
                store.change_endpoint(endpoint.id, change, SystemClock.wall()).map_err(change_failed)?;
                stored(store.as_mut(), name).map(|endpoint| document(&endpoint))
            }
        }
    }

    /// Accepts a changed certificate: the next one that is shown is kept.
    ///
    /// # Errors
    /// As [`Place::change`]; usage if the endpoint pins none.
    pub async fn trust(&self, name: &str) -> Result<EndpointDocument, Failure> {
        match self {
            Self::Recorder(client) => {
                let path = format!("/api/v1/endpoints/{}/trust", segment(name));
                Ok(client.call(Method::POST, &path, None).await?.success()?)
            }
            Self::Database { config, why } => {
                let endpoint = stored(open(config, why)?.as_mut(), name)?;
                let tls = Some(endpoints::trust(name, &endpoint.tls).map_err(Failure::usage)?);
                self.change(name, &EndpointChange { tls, ..EndpointChange::default() }).await
            }
        }
    }

    /// Removes an endpoint, with `purge` its events and history too.
    ///
    /// # Errors
    /// As [`Place::change`].
    pub async fn remove(&self, name: &str, purge: bool) -> Result<(), Failure> {
        match self {
            Self::Recorder(client) => {
                let path = format!("/api/v1/endpoints/{}?purge={purge}", segment(name));
                let answer = client.call(Method::DELETE, &path, None);
                Ok(output::patiently("waiting until the endpoint is drained and removed", answer).await?.done()?)
            }
            Self::Database { config, why } => {
                let mut store = open(config, why)?;
                let endpoint = stored(store.as_mut(), name)?;
                if purge {
                    purge_all(store.as_mut(), endpoint.id).map_err(change_failed)?;
                }
                // The endpoint goes last, so that a purge that was interrupted can be asked for again.
                store.remove_endpoint(endpoint.id).map_err(change_failed)
            }
        }
    }
}

/// What the configuration says of the keys that may change.
fn configured(config: &Config) -> Tuning {
    Tuning::new(&config.storage, config.cache.sync_interval)
}

/// The report of a database without a recorder.
fn stored_mode(config: &Config, kept: Settings, usage: BTreeMap<StorageMode, Usage>) -> Result<ModeReport, Failure> {
    let known = kept.get(StorageMode::KEY).and_then(|name| StorageMode::from_name(name));
    let mode = known.or(config.storage.mode).unwrap_or_default();
    let tuning = configured(config).with_all(&kept).map_err(|error| Failure::database(error.to_string()))?;
    Ok(ModeReport::new(&Facts { mode, tuning, kept, usage, now: SystemClock.wall(), ..Facts::default() }))
}

/// Deletes all that an endpoint left behind, and says that it is still at it.
fn purge_all(store: &mut dyn Store, id: EndpointId) -> Result<(), StoreError> {
    let started = SystemClock.monotonic();
    let (mut progress, mut told) = (Purge::START, started);
    while progress != Purge::Done {
        progress = store.purge(id, progress)?;
        let now = SystemClock.monotonic();
        if now - told >= output::SILENCE {
            told = now;
            output::note(&format!("deleting events and history ... {} s", (now - started).as_secs()));
        }
    }
    Ok(())
}

/// Says why the database is asked, where that is not simply because no recorder runs.
fn mention(why: &ClientError) {
    if !matches!(why, ClientError::NotRunning { .. }) {
        output::note(&format!("note: {why}; this is what the database holds"));
    }
}

/// Opens the database for a change. If a recorder has it, that recorder should have answered.
fn open(config: &Config, why: &ClientError) -> Result<Box<dyn Store>, Failure> {
    database::writer(config).map_err(|error| match error {
        OpenError::InUse(in_use) => Failure::unreachable(format!(
            "{in_use}, and {why}: if it is a recorder, give the address it listens on with --set http.listen=ADDRESS"
        )),
        OpenError::Store(error) => error.into(),
    })
}

/// An endpoint as it is stored, with its key, where no recorder runs.
pub(super) fn stored_endpoint(config: &Config, why: &ClientError, name: &str) -> Result<Endpoint, Failure> {
    stored(open(config, why)?.as_mut(), name)
}

fn stored(store: &mut dyn Store, name: &str) -> Result<Endpoint, Failure> {
    let endpoints = store.load()?.endpoints;
    let found = endpoints.into_iter().map(|(endpoint, _)| endpoint).find(|endpoint| endpoint.name == name);
    found.ok_or_else(|| Failure::usage(ChangeError::NotFound(name.to_owned()).to_string()))
}

/// What the database refuses for itself (a name that is taken) is the user's to mend.
fn change_failed(error: crate::store::StoreError) -> Failure {
    match error.kind {
        crate::store::StoreErrorKind::Refused => Failure::usage(error.to_string()),
        _ => error.into(),
    }
}

fn document(endpoint: &Endpoint) -> EndpointDocument {
    EndpointDocument {
        name: endpoint.name.clone(),
        url: endpoint.url.to_string(),
        tls: (&endpoint.tls).into(),
        paused: endpoint.paused,
        log_events: endpoint.log_events,
        master_id: endpoint.master_id.clone(),
        ..EndpointDocument::default()
    }
}

fn stats_of_stored(endpoint: EndpointDocument) -> EndpointStats {
    EndpointStats {
        name: endpoint.name,
        status: endpoint.status,
        reason: endpoint.reason,
        since: endpoint.since,
        tunnels: endpoint.tunnels,
        ..EndpointStats::default()
    }
}

fn tls_body(policy: &TlsPolicy) -> Value {
    let TlsDocument { tls, pin, ca } = policy.into();
    json!({ "tls": tls, "pin": pin, "ca": ca })
}

/// The body of a `PATCH`: what is not changed is absent.
fn change_body(change: &EndpointChange) -> Value {
    let mut body = change.tls.as_ref().map_or_else(|| json!({}), tls_body);
    if let Some(url) = &change.url {
        body["url"] = json!(url.to_string());
    }
    if let Some(key) = &change.api_key {
        body["api_key"] = json!(key.reveal());
    }
    if let Some(paused) = change.paused {
        body["paused"] = json!(paused);
    }
    if let Some(log_events) = change.log_events {
        body["log_events"] = json!(log_events);
    }
    body
}

/// Bytes of the files in a directory; 0 where there is none.
fn directory_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::ApiKey;
    use crate::http::document::{AddEndpoint, ChangeEndpoint};

    /// What the client writes is what the server reads: both directions through the JSON.
    #[test]
    fn a_change_arrives_at_the_server_as_it_was_meant() {
        for change in [
            EndpointChange::default(),
            EndpointChange {
                url: Some("https://h:1/a".parse().unwrap()),
                api_key: Some(ApiKey::new("k")),
                tls: Some(TlsPolicy::Pin(None)),
                paused: Some(true),
                log_events: Some(None),
                master_id: None,
            },
            EndpointChange {
                log_events: Some(Some(false)),
                tls: Some(TlsPolicy::VerifyWith("/ca.pem".into())),
                ..Default::default()
            },
            EndpointChange { tls: Some(TlsPolicy::Insecure), ..EndpointChange::default() },
        ] {
            let body: ChangeEndpoint = serde_json::from_value(change_body(&change)).unwrap();
            assert_eq!(body.check().unwrap(), change);
        }
    }

    #[test]
    fn a_body_that_adds_needs_name_and_address_only() {
        let body: AddEndpoint = serde_json::from_value(json!({"name": "a", "url": "http://h"})).unwrap();
        let new = body.check().unwrap();
        assert_eq!((new.api_key, new.tls, new.log_events), (ApiKey::new(""), TlsPolicy::Verify, None));
    }
}
