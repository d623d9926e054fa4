//! What batches save: the same stream through the real recorder into a SQLite file, once in `realtime` and once in `batched`.

use std::time::Duration;

use serde::Serialize;

use super::options::{Database, Faults, Options};
use super::world::{self, SimulateError};
use crate::modes::StorageMode;
use crate::modes::report::ModeCost;
use crate::modes::usage::Usage;

/// What the original design promises: this much fewer writes, in percent.
pub const PROMISED_PCT: f64 = 95.0;

/// One stream in both modes.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Tunnels of the one master, each of which reports every 5 s.
    pub tunnels: usize,
    /// Each event by itself.
    pub realtime: ModeCost,
    /// In batches.
    pub batched: ModeCost,
    /// Fewer transactions in `batched`, in percent of those in `realtime`. There the syncs of live state are left out, since
    /// single writes do their work and a panel has none.
    pub transactions_saved_pct: f64,
    /// Fewer bytes written, in percent; `None` where the system does not tell.
    pub bytes_saved_pct: Option<f64>,
}

/// Lets a master with so many tunnels report for so long, and then three quarters of an hour more, in which a simulation
/// settles; in both modes alike.
///
/// # Errors
/// [`SimulateError`].
pub fn measure(tunnels: usize, length: Duration) -> Result<Compared, SimulateError> {
    let usage = |mode| -> Result<Usage, SimulateError> {
        let options = Options {
            length,
            endpoints: 1,
            tunnels,
            faults: Faults::default(),
            database: Database::Sqlite,
            mode: Some(mode),
            ..Options::default()
        };
        Ok(world::run(&options, None, |_| ())?.usage.get(&mode).copied().unwrap_or_default())
    };
    let (realtime, batched) = (usage(StorageMode::Realtime)?, usage(StorageMode::Batched)?);
    let saved = |before: u64, after: u64| 100.0 - after as f64 * 100.0 / before.max(1) as f64;
    Ok(Compared {
        tunnels,
        transactions_saved_pct: saved(realtime.transactions() - realtime.live_transactions, batched.transactions()),
        bytes_saved_pct: realtime.bytes.zip(batched.bytes).map(|(before, after)| saved(before, after)),
        realtime: ModeCost::new(StorageMode::Realtime, &realtime),
        batched: ModeCost::new(StorageMode::Batched, &batched),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_events_take_a_transaction_each_in_realtime_and_few_in_batched() {
        let compared = measure(20, Duration::from_secs(600)).expect("it runs");
        let Compared { realtime, batched, .. } = &compared;
        assert_eq!(realtime.events, batched.events);
        assert_eq!(realtime.single_transactions, realtime.events);
        assert_eq!((batched.single_transactions, realtime.left_to_batch), (0, 0));
        assert!(compared.transactions_saved_pct > 80.0, "{compared:?}");
        assert!(compared.bytes_saved_pct.is_none_or(|saved| saved > 80.0), "{compared:?}");
    }
}
