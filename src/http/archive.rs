//! What is read from the database for those who ask over HTTP: on connections of its own, off every reactor.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use chrono_tz::Tz;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::problem::Problem;
use crate::blocking::Blocking;
use crate::clock::{SharedClock, SystemClock, Timestamp};
use crate::config::{Config, RetentionConfig};
use crate::query::QueryError;
use crate::query::storage::Storage;
use crate::store::ReadConnection;
use crate::store::pool::{PoolState, ReadPool};

/// How long a measurement of the database is good for at least: it reads every page of a file.
const MEASUREMENT_KEPT: Duration = Duration::from_secs(60);
/// And it is kept for so many times as long as it took, so that measuring takes a few percent of the time at most.
const MEASUREMENT_KEPT_TIMES: u32 = 30;

/// The database for reading, and what the answers depend on. Cheap to clone; the clones share everything.
#[derive(Clone)]
pub struct Archive(Arc<Inner>);

struct Inner {
    pool: ReadPool,
    clock: SharedClock,
    timezone: Tz,
    retention: RetentionConfig,
    billing_start_day: u8,
    journal_max_bytes: u64,
    measured: Mutex<Option<Measured>>,
}

struct Measured {
    storage: Storage,
    until: Instant,
}

impl Archive {
    /// The archive of a configuration's database. Nothing is opened yet: it may not be there.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self(Arc::new(Inner {
            pool: ReadPool::new(config.database.clone(), Blocking::Threads),
            clock: Arc::new(SystemClock),
            timezone: config.storage.timezone,
            retention: config.retention.clone(),
            billing_start_day: config.billing_start_day,
            journal_max_bytes: config.journal.max_bytes,
            measured: Mutex::default(),
        }))
    }

    /// How the pool of connections fares.
    #[must_use]
    pub fn pool_state(&self) -> PoolState {
        self.0.pool.state()
    }

    /// Answers nothing any more; see [`ReadPool::close`].
    pub async fn close(&self) {
        self.0.pool.close().await;
    }

    /// The time of an answer.
    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.wall()
    }

    /// `storage.timezone`.
    pub(super) fn timezone(&self) -> Tz {
        self.0.timezone
    }

    /// `retention.*`.
    pub(super) fn retention(&self) -> &RetentionConfig {
        &self.0.retention
    }

    /// `billing.start_day`.
    pub(super) fn billing_start_day(&self) -> u8 {
        self.0.billing_start_day
    }

    /// Reads from the database; see [`ReadPool::read`].
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl Fn(&mut ReadConnection) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, Problem> {
        Ok(self.0.pool.read(work).await?)
    }

    /// The database's size, measured now or a while ago. Whoever asks meanwhile waits for the same measurement.
    pub(super) async fn storage(&self) -> Result<Storage, Problem> {
        let inner = &self.0;
        let mut measured = inner.measured.lock().await;
        let started = inner.clock.monotonic();
        if let Some(measured) = measured.as_ref().filter(|measured| started < measured.until) {
            return Ok(measured.storage.clone());
        }
        let at = inner.clock.wall();
        let record = inner.pool.read(|reader| Ok(reader.storage()?)).await?;
        let storage = Storage::new(record, &inner.retention, inner.journal_max_bytes, at);
        let now = inner.clock.monotonic();
        let kept = ((now - started) * MEASUREMENT_KEPT_TIMES).max(MEASUREMENT_KEPT);
        *measured = Some(Measured { storage: storage.clone(), until: now + kept });
        Ok(storage)
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let status = match &error {
            QueryError::NotFound(_) => StatusCode::NOT_FOUND,
            QueryError::Invalid(_) => StatusCode::BAD_REQUEST,
            QueryError::Store(_) | QueryError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}
