//! What batches save: the same stream through the real recorder into a SQLite file, once in `realtime` and once in `batched`.

use std::time::Duration;

use serde::Serialize;

use super::life::SYNCS_TO_SETTLE;
use super::options::{Database, Faults, Options};
use super::world::{self, SimulateError};
use crate::config::Tuning;
use crate::modes::StorageMode;
use crate::modes::report::ModeCost;
use crate::modes::usage::Usage;

/// What the original design promises: this much fewer writes, in percent.
pub const PROMISED_PCT: f64 = 95.0;

/// How seldom live state is synced in `realtime` at least, where each single write does its work: what a sync writes there is nothing that
/// one transaction per event would write.
pub const REALTIME_SYNC: Duration = Duration::from_secs(60);

/// One stream in both modes.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Tunnels of the one master, each of which reports every 5 s.
    pub tunnels: usize,
    /// `cache.sync_interval` in `batched`, in seconds. In `realtime` it is a minute or more.
    pub sync_interval_s: u64,
    /// Each event by itself.
    pub realtime: ModeCost,
    /// In batches.
    pub batched: ModeCost,
    /// Bytes that `batched` wrote to the journal. One transaction per event needs none, so `realtime` is not charged with its own.
    pub journal_bytes: u64,
    /// Fewer transactions in `batched`, in percent of those in `realtime`. There the syncs of live state are left out, since
    /// single writes do their work and a panel has none.
    pub transactions_saved_pct: f64,
    /// Fewer bytes written for the database, in percent; `None` where the system does not tell.
    pub bytes_saved_pct: Option<f64>,
    /// So many times fewer bytes are written, the journal of `batched` included; `None` where the system does not tell.
    pub bytes_times_fewer: Option<f64>,
}

/// What one mode cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Of the database.
    pub usage: Usage,
    /// Bytes of the journal.
    pub journal_bytes: u64,
}

/// Lets a master with so many tunnels report for so long, and then three quarters of an hour more, in which a simulation
/// settles; in both modes alike. In `batched` live state is synced every `live_sync`.
///
/// # Errors
/// [`SimulateError`].
pub fn measure(tunnels: usize, length: Duration, live_sync: Duration) -> Result<Compared, SimulateError> {
    let realtime = cost(StorageMode::Realtime, tunnels, length, live_sync.max(REALTIME_SYNC), Database::Sqlite)?;
    let batched = cost(StorageMode::Batched, tunnels, length, live_sync, Database::Sqlite)?;
    Ok(Compared::new(tunnels, live_sync, &realtime, &batched))
}

/// The stream in one mode. A simulation settles the longer the more seldom it syncs; up to [`REALTIME_SYNC`] all last equally.
///
/// # Errors
/// [`SimulateError`].
pub fn cost(
    mode: StorageMode,
    tunnels: usize,
    length: Duration,
    live_sync: Duration,
    database: Database,
) -> Result<Cost, SimulateError> {
    let options = Options {
        length: length + REALTIME_SYNC.saturating_sub(live_sync) * SYNCS_TO_SETTLE,
        endpoints: 1,
        tunnels,
        faults: Faults::default(),
        database,
        mode: Some(mode),
        live_sync: Some(live_sync),
        ..Options::default()
    };
    let report = world::run(&options, None, |_| ())?;
    Ok(Cost { usage: report.usage.get(&mode).copied().unwrap_or_default(), journal_bytes: report.counts.journal_bytes })
}

impl Compared {
    /// The difference.
    #[must_use]
    pub fn new(tunnels: usize, live_sync: Duration, realtime: &Cost, batched: &Cost) -> Self {
        let saved = |before: u64, after: u64| 100.0 - after as f64 * 100.0 / before.max(1) as f64;
        let (before, after) = (realtime.usage, batched.usage);
        let bytes = before.bytes.zip(after.bytes);
        let times = |(before, after): (u64, u64)| before as f64 / (after + batched.journal_bytes).max(1) as f64;
        Self {
            tunnels,
            sync_interval_s: live_sync.as_secs(),
            journal_bytes: batched.journal_bytes,
            transactions_saved_pct: saved(before.transactions() - before.live_transactions, after.transactions()),
            bytes_saved_pct: bytes.map(|(before, after)| saved(before, after)),
            bytes_times_fewer: bytes.map(times),
            realtime: ModeCost::new(StorageMode::Realtime, &before),
            batched: ModeCost::new(StorageMode::Batched, &after),
        }
    }
}

/// `cache.sync_interval` unless it is given.
#[must_use]
pub fn default_sync() -> Duration {
    Tuning::default().sync_interval
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_events_take_a_transaction_each_in_realtime_and_few_in_batched() {
        let compared = measure(20, Duration::from_secs(600), default_sync()).expect("it runs");
        let Compared { realtime, batched, journal_bytes, .. } = &compared;
        assert_eq!(realtime.events, batched.events);
        assert_eq!(realtime.single_transactions, realtime.events);
        assert_eq!((batched.single_transactions, realtime.left_to_batch), (0, 0));
        assert!(realtime.live_transactions * 9 < batched.live_transactions, "{compared:?}");
        assert!(*journal_bytes > batched.events * 60 && *journal_bytes < batched.events * 150, "{compared:?}");
        assert!(compared.transactions_saved_pct > 80.0, "{compared:?}");
        assert!(compared.bytes_saved_pct.is_none_or(|saved| saved > 80.0), "{compared:?}");
        assert!(compared.bytes_times_fewer.is_none_or(|times| times > 3.0), "{compared:?}");
    }

    #[test]
    fn live_state_that_is_synced_less_often_costs_fewer_transactions() {
        let length = Duration::from_secs(60);
        let [often, seldom] = [5, 60].map(|seconds| {
            let every = Duration::from_secs(seconds);
            cost(StorageMode::Batched, 1, length, every, Database::Sqlite).expect("it runs").usage
        });
        let syncs = (often.live_transactions, seldom.live_transactions);
        assert!(syncs.0 > 9 * syncs.1 && syncs.0 < 14 * syncs.1, "{syncs:?}");
        assert_eq!(often.events, seldom.events, "the same stream");
    }
}
