//! The recorder with the machine's own clock, disk, network and database.

use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use log::warn;
use tokio::sync::watch;

use crate::actors::alerts::{AlertsActor, AlertsSetup, AlertsState};
use crate::alerts::{Active, Messenger, StoredTraffic};
use crate::backoff::Backoff;
use crate::blocking::Blocking;
use crate::clock::{SharedClock, SystemClock};
use crate::config::{AlertsConfig, Config, JournalSync};
use crate::journal::RealDisk;
use crate::journaling::{Limits, SyncPolicy};
use crate::pipeline::{self, Parts, Settings, StartError};
use crate::recorder::{AlertsHandle, RecorderHandle};
use crate::store::{DieselStore, Store, StoreError, StoreErrorKind};
use crate::transport::HttpTransport;

/// First and longest wait between tries to reach the database at start.
const START_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

impl Settings {
    /// What the configuration decides for the actors.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let Config { storage, cache, journal, .. } = config;
        Self {
            mode: storage.mode,
            batch_size: storage.batch_size,
            limits: Limits {
                batch_events_max: storage.max_buffer_size,
                batch_bytes_max: storage.max_buffer_bytes as u64,
                journal_bytes_max: journal.max_bytes,
                free_bytes_min: journal.min_free_bytes,
            },
            flush_interval: storage.flush_interval,
            timezone: storage.timezone,
            memory_events_max: storage.memory_max_events,
            log_events: storage.log_events,
            cache_sync_interval: cache.sync_interval,
            journal_sync: match journal.sync {
                JournalSync::Always => SyncPolicy::Always,
                JournalSync::Every(interval) => SyncPolicy::Every(interval),
                JournalSync::Off => SyncPolicy::Off,
            },
            retention: config.retention.clone(),
            shutdown_deadline: config.shutdown_deadline,
            node: config.node,
        }
    }
}

/// Starts a recorder. Waits for a database that cannot be reached; `waiting` says so meanwhile.
///
/// # Errors
/// [`StartError`] for what waiting does not mend.
pub async fn start(config: &Config, waiting: &watch::Sender<Option<String>>) -> Result<RecorderHandle, StartError> {
    let mut rng = fastrand::Rng::new();
    // The lock on the journal comes first: it is what a second recorder of the same configuration meets.
    let disk = Arc::new(RealDisk::open(&config.journal.dir)?);
    let (store, told) = open_store(config, rng.fork(), waiting).await?;
    let parts = Parts {
        clock: Arc::new(SystemClock),
        blocking: Blocking::Threads,
        transport: std::rc::Rc::new(HttpTransport::new()),
        store,
        disk,
        rng,
    };
    let recorder = pipeline::start(parts, Settings::of(config), waiting).await?;
    let alerts = Some(start_alerts(config, &recorder, told));
    Ok(RecorderHandle { alerts, ..recorder })
}

/// Starts who tells people what is wrong.
fn start_alerts(config: &Config, recorder: &RecorderHandle, told: Vec<Active>) -> AlertsHandle {
    let AlertsConfig { rules, webhook, telegram } = config.alerts.clone();
    let messenger = Messenger { transport: HttpTransport::new(), webhook, telegram };
    let (publish, state) = watch::channel(AlertsState::default());
    let setup = AlertsSetup {
        rules,
        channels: messenger.channels(),
        notify: std::rc::Rc::new(messenger),
        clock: Arc::new(SystemClock),
        journal_bytes_max: config.journal.max_bytes,
        cache: recorder.states.cache.clone(),
        endpoints: recorder.states.endpoints.clone(),
        buffer: recorder.states.buffer.clone(),
        traffic: std::rc::Rc::new(StoredTraffic {
            recorder: recorder.clone(),
            database: config.database.clone(),
            timezone: config.storage.timezone,
            billing_start_day: config.billing_start_day,
        }),
        told,
        keep: recorder.actors.flush.clone().recipient(),
        read_in_error: recorder.actors.cache.clone().recipient(),
        publish,
    };
    AlertsHandle { actor: AlertsActor::new(setup).start(), state }
}

/// Opens the database, for as long as it takes, and reads which alerts people were told of.
async fn open_store(
    config: &Config,
    rng: fastrand::Rng,
    waiting: &watch::Sender<Option<String>>,
) -> Result<(Box<dyn Store>, Vec<Active>), StoreError> {
    let mut backoff = Backoff::new(START_RETRY.0, START_RETRY.1, rng);
    loop {
        let (url, batch_size) = (config.database.clone(), config.storage.batch_size);
        let clock: SharedClock = Arc::new(SystemClock);
        let open = move || {
            let mut store = DieselStore::open(&url, batch_size, clock)?;
            let told = store.told_alerts()?;
            Ok::<_, StoreError>((store, told))
        };
        match Blocking::Threads.run("open", open).await {
            Ok::<_, StoreError>((store, told)) => return Ok((Box::new(store), told)),
            Err(error) if error.kind == StoreErrorKind::Unavailable => {
                if waiting.borrow().is_none() {
                    warn!("database: {error}; nothing is received until the endpoints are known, it is tried again");
                }
                waiting.send_replace(Some(error.to_string()));
                tokio::time::sleep(backoff.after_failure()).await;
            }
            Err(error) => return Err(error),
        }
    }
}
