//! A few read-only connections for those who ask over HTTP.
//!
//! A read runs on a blocking thread, never on the reactor that carries ingest, and never on the writer's connection. So
//! many run at a time, so many wait, the rest is refused. Connections are made when they are needed and given up when they
//! break, so an outage of the database needs no care.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::read::ReadConnection;
use super::{DatabaseUrl, StoreErrorKind};
use crate::blocking::Blocking;
use crate::query::QueryError;

/// Reads at a time: the page's charts are asked for together, and a machine of this kind has one to four cores.
pub const CONNECTIONS_MAX: usize = 4;
/// Reads that wait for their turn. A page has a handful of them; hundreds are a loop gone wild.
pub const WAITING_MAX: usize = 32;
/// Time for one read, waiting included. Charts take hundredths of a second, the longest scans some tenths.
pub const LIMIT: Duration = Duration::from_secs(10);

/// How long [`ReadPool::close`] waits for reads that run; SQLite's cannot be interrupted.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// See the module. Cheap to clone; the clones share everything.
#[derive(Clone)]
pub struct ReadPool(Arc<Shared>);

struct Shared {
    url: DatabaseUrl,
    blocking: Blocking,
    idle: Mutex<Vec<ReadConnection>>,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    refused: AtomicU64,
    late: AtomicU64,
}

/// How the pool fares; the counts only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolState {
    /// Reads that run now.
    pub running: usize,
    /// Reads that wait for their turn.
    pub waiting: usize,
    /// Reads refused because too many waited.
    pub refused: u64,
    /// Reads that were given up because they took too long.
    pub late: u64,
}

/// Counts one who waits, for as long as it lives.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ReadPool {
    /// A pool for that database. Nothing is opened yet.
    #[must_use]
    pub fn new(url: DatabaseUrl, blocking: Blocking) -> Self {
        Self(Arc::new(Shared {
            url,
            blocking,
            idle: Mutex::default(),
            turns: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            waiting: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            late: AtomicU64::new(0),
        }))
    }

    /// How it fares.
    #[must_use]
    pub fn state(&self) -> PoolState {
        let shared = &self.0;
        PoolState {
            running: CONNECTIONS_MAX.saturating_sub(shared.turns.available_permits()),
            waiting: shared.waiting.load(Ordering::Relaxed),
            refused: shared.refused.load(Ordering::Relaxed),
            late: shared.late.load(Ordering::Relaxed),
        }
    }

    /// Takes no reads any more and gives the connections up, at most 2 s later. The writer's connection has to be the last:
    /// one that may only read leaves SQLite's log (`-wal`) behind when it closes, with all that was written.
    pub async fn close(&self) {
        let shared = &self.0;
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        // Whether it took too long makes no difference: those that still run give their connections up themselves.
        let _ = timeout(CLOSE_LIMIT, shared.turns.acquire_many(all)).await;
        shared.turns.close();
        shared.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Runs a read. It may run twice: once more on a new connection where an old one turns out to be broken.
    ///
    /// # Errors
    /// [`QueryError::Busy`] if too many wait or it takes longer than [`LIMIT`]; else what `work` gives.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl Fn(&mut ReadConnection) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        let shared = &self.0;
        let answer = async {
            let turn = self.turn().await?;
            let mine = Arc::clone(&self.0);
            shared
                .blocking
                .run("read", move || {
                    let answer = mine.run(&work);
                    drop(turn);
                    answer
                })
                .await
        };
        timeout(LIMIT, answer).await.unwrap_or_else(|_| {
            shared.late.fetch_add(1, Ordering::Relaxed);
            Err(QueryError::Busy(format!("the database did not answer within {} s; ask for less, or later", LIMIT.as_secs())))
        })
    }

    async fn turn(&self) -> Result<tokio::sync::OwnedSemaphorePermit, QueryError> {
        let shared = &self.0;
        let waiting = shared.waiting.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&shared.waiting);
        let turns = Arc::clone(&shared.turns);
        if waiting >= WAITING_MAX {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            return Err(QueryError::Busy(format!("{WAITING_MAX} other questions wait for the database already; ask later")));
        }
        turns.acquire_owned().await.map_err(|_| QueryError::Busy("the recorder is stopping".to_owned()))
    }
}

impl Shared {
    fn run<T>(&self, work: &impl Fn(&mut ReadConnection) -> Result<T, QueryError>) -> Result<T, QueryError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let was_idle = idle.is_some();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.open()?,
        };
        let mut answer = work(&mut connection);
        if failed(&answer) && !connection.is_usable() {
            if !was_idle {
                return answer;
            }
            // All idle ones broke together: the database was away.
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
            connection = self.open()?;
            answer = work(&mut connection);
            if failed(&answer) {
                return answer;
            }
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.turns.is_closed() {
            idle.push(connection);
        }
        answer
    }

    fn open(&self) -> Result<ReadConnection, QueryError> {
        let mut connection = ReadConnection::open(&self.url)?;
        connection.limit_statements(LIMIT)?;
        Ok(connection)
    }
}

fn failed<T>(answer: &Result<T, QueryError>) -> bool {
    matches!(answer, Err(QueryError::Store(error)) if error.kind == StoreErrorKind::Unavailable)
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
