//! The database as the commands use it while no recorder runs. The one place where they meet `store`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::exit::Failure;
use crate::clock::{SystemClock, Timestamp};
use crate::config::{Config, DatabaseUrl};
use crate::endpoint::EndpointStatus;
use crate::http::document::{EndpointDocument, TlsDocument, TunnelDocument, TunnelStatuses};
use crate::modes::StorageMode;
use crate::modes::usage::Usage;
use crate::store::{
    self, DieselStore, EndpointRecord, ReadConnection, Settings, Store, StoreError, StoreErrorKind, TunnelFilter, TunnelRecord,
};

/// A connection that reads and takes no lock.
pub struct Reader(ReadConnection);

impl Reader {
    /// The connection itself, for questions.
    pub fn connection(&mut self) -> &mut ReadConnection {
        &mut self.0
    }

    /// All endpoints, by name.
    ///
    /// # Errors
    /// As the database gives them.
    pub fn endpoints(&mut self) -> Result<Vec<EndpointDocument>, StoreError> {
        let tunnels = self.0.tunnels(&TunnelFilter::default())?;
        let endpoints = self.0.endpoints()?.into_iter().map(|endpoint| {
            let (mut count, mut statuses) = (0, TunnelStatuses::default());
            for tunnel in tunnels.iter().filter(|tunnel| tunnel.endpoint == endpoint.name) {
                count += 1;
                statuses.count(&tunnel.status);
            }
            endpoint_document(endpoint, count, statuses)
        });
        Ok(endpoints.collect())
    }

    /// Mode and tuned keys as they are kept, and what each mode cost.
    ///
    /// # Errors
    /// As the database gives them.
    pub fn modes(&mut self) -> Result<(Settings, BTreeMap<StorageMode, Usage>), StoreError> {
        self.0.modes()
    }

    /// All tunnels, by endpoint and instance.
    ///
    /// # Errors
    /// As the database gives them.
    pub fn tunnels(&mut self) -> Result<Vec<TunnelDocument>, StoreError> {
        Ok(self.0.tunnels(&TunnelFilter::default())?.into_iter().map(tunnel_document).collect())
    }
}

fn endpoint_document(endpoint: EndpointRecord, tunnels: u64, tunnel_statuses: TunnelStatuses) -> EndpointDocument {
    let is_new = endpoint.last_check.is_none() && endpoint.reason.is_empty() && !endpoint.paused;
    // Only a recorder writes how an endpoint is.
    let reason = if is_new { "not followed yet; start `tidegate run`".to_owned() } else { endpoint.reason };
    EndpointDocument {
        tls: tls_document(&endpoint.tls),
        name: endpoint.name,
        url: format!("{}{}", endpoint.url, endpoint.api_path),
        paused: endpoint.paused,
        log_events: endpoint.log_events,
        master_id: endpoint.master_id,
        version: endpoint.version,
        status: EndpointStatus::from_text(&endpoint.status),
        reason,
        since: Timestamp(endpoint.since).to_string(),
        last_heard: endpoint.last_check.map(|at| Timestamp(at).to_string()),
        tunnels,
        tunnel_statuses,
        // Rates are of now, and nobody looks now.
        rate_in: None,
        rate_out: None,
    }
}

/// The column `tls`: `verify`, `verify:PATH`, `pin`, `pin:HEX` or `insecure`.
fn tls_document(column: &str) -> TlsDocument {
    let (tls, argument) = column.split_once(':').map_or((column, None), |(tls, argument)| (tls, Some(argument.to_owned())));
    let (pin, ca) = if tls == "pin" { (argument, None) } else { (None, argument) };
    TlsDocument { tls: tls.to_owned(), pin, ca }
}

fn tunnel_document(tunnel: TunnelRecord) -> TunnelDocument {
    TunnelDocument {
        endpoint: tunnel.endpoint,
        instance_id: tunnel.instance_id,
        alias: tunnel.name,
        kind: tunnel.kind,
        status: tunnel.status,
        tcp_rx: tunnel.tcp_rx.cast_unsigned(),
        tcp_tx: tunnel.tcp_tx.cast_unsigned(),
        udp_rx: tunnel.udp_rx.cast_unsigned(),
        udp_tx: tunnel.udp_tx.cast_unsigned(),
        tcps: tunnel.tcps,
        udps: tunnel.udps,
        pool: tunnel.pool,
        ping: tunnel.ping,
        rate_in: None,
        rate_out: None,
        last_event_time: Timestamp(tunnel.last_event_time).to_string(),
        url: tunnel.url,
    }
}

/// Opens the database for reading.
///
/// # Errors
/// As the database gives them; there may be none yet.
pub fn reader(database: &DatabaseUrl) -> Result<Reader, StoreError> {
    ReadConnection::open(database).map(Reader)
}

/// Opens the database for writing: locked, made if it is not there, migrated.
///
/// # Errors
/// [`OpenError::InUse`] while a recorder has it.
pub fn writer(config: &Config) -> Result<Box<dyn Store>, OpenError> {
    let store = DieselStore::open(&config.database, config.storage.batch_size, Arc::new(SystemClock)).map_err(OpenError::of)?;
    Ok(Box::new(store))
}

/// Brings the schema up to date and names the migrations that ran.
///
/// # Errors
/// [`OpenError::InUse`] while a recorder has the database.
pub fn migrate(database: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
    store::migrate(database).map_err(OpenError::of)
}

/// Why the database could not be had for writing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it; the text names its pid.
    #[error("{0}")]
    InUse(String),
    /// Anything else.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// Tells the two apart by the store's words: its lock has no error kind of its own.
    #[must_use]
    pub fn of(error: StoreError) -> Self {
        if error.kind == StoreErrorKind::Fatal && error.message.contains("in use by") {
            Self::InUse(error.message)
        } else {
            Self::Store(error)
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::database(error.to_string())
    }
}
