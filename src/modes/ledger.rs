//! Who pays: what is written is counted for the mode that is in force.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::StorageMode;
use super::usage::{Usage, micros};
use crate::clock::Timestamp;

/// What each mode cost, and which one is in force.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    mode: StorageMode,
    /// Since when, in this life of the recorder; `None` before the first look at a clock.
    since: Option<Instant>,
    usage: BTreeMap<StorageMode, Usage>,
    /// The database's count of bytes at the last look.
    bytes_seen: Option<u64>,
}

impl Ledger {
    /// Goes on from what was kept.
    #[must_use]
    pub fn new(mode: StorageMode, kept: BTreeMap<StorageMode, Usage>, now: Instant) -> Self {
        Self { mode, since: Some(now), usage: kept, bytes_seen: None }
    }

    /// The mode in force.
    #[must_use]
    pub fn mode(&self) -> StorageMode {
        self.mode
    }

    /// Where to count now.
    pub fn current(&mut self) -> &mut Usage {
        self.usage.entry(self.mode).or_default()
    }

    /// Another mode is in force. Entering `dual` begins a new comparison.
    pub fn switch(&mut self, mode: StorageMode, now: Instant, wall: Timestamp) {
        let passed = self.passed(now);
        self.current().time_us += micros(passed);
        self.since = Some(now);
        let entered = self.mode != mode;
        self.mode = mode;
        let usage = self.current();
        if entered && mode == StorageMode::Dual {
            usage.compared_since = Some(wall);
            usage.comparison = super::usage::Comparison::default();
        }
    }

    /// Whether the database's count of bytes was ever read.
    #[must_use]
    pub fn knows_bytes(&self) -> bool {
        self.bytes_seen.is_some()
    }

    /// Counts what the database wrote since the last look.
    pub fn note_bytes(&mut self, reading: Option<u64>) {
        if let Some((before, now)) = self.bytes_seen.zip(reading) {
            self.current().count_bytes(now.saturating_sub(before));
        }
        self.bytes_seen = reading.or(self.bytes_seen);
    }

    /// What the mode in force cost up to now.
    #[must_use]
    pub fn of_current(&self, now: Instant) -> (StorageMode, Usage) {
        let usage = self.usage.get(&self.mode).copied().unwrap_or_default();
        (self.mode, Usage { time_us: usage.time_us + micros(self.passed(now)), ..usage })
    }

    /// What each mode cost up to now.
    #[must_use]
    pub fn all(&self, now: Instant) -> BTreeMap<StorageMode, Usage> {
        let mut all = self.usage.clone();
        all.extend([self.of_current(now)]);
        all
    }

    fn passed(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::modes::usage::{Comparison, Purpose};

    #[test]
    fn each_mode_pays_for_its_own_time_transactions_and_bytes() {
        let start = SystemClock.monotonic();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut ledger = Ledger::new(StorageMode::Batched, BTreeMap::new(), start);
        ledger.note_bytes(Some(1_000));
        ledger.current().count_transaction(Purpose::Batch, 10);
        ledger.note_bytes(Some(1_500));
        ledger.switch(StorageMode::Realtime, at(5), Timestamp(0));
        ledger.current().count_transaction(Purpose::Single, 1);
        ledger.note_bytes(Some(1_600));
        let all = ledger.all(at(7));
        let shown = |mode| {
            let usage: Usage = all[&mode];
            (usage.time_us / 1_000_000, usage.transactions(), usage.bytes)
        };
        assert_eq!((shown(StorageMode::Batched), shown(StorageMode::Realtime)), ((5, 1, Some(500)), (2, 1, Some(100))));
    }

    #[test]
    fn entering_dual_begins_a_new_comparison_and_staying_in_it_does_not() {
        let start = SystemClock.monotonic();
        let found = Comparison { different: 3, ..Comparison::default() };
        let mut ledger = Ledger::new(StorageMode::Dual, BTreeMap::new(), start);
        ledger.current().comparison = found;
        ledger.switch(StorageMode::Dual, start, Timestamp(1));
        assert_eq!(ledger.current().comparison, found);
        ledger.switch(StorageMode::Batched, start, Timestamp(2));
        ledger.switch(StorageMode::Dual, start, Timestamp(3));
        assert_eq!((ledger.current().comparison, ledger.current().compared_since), (Comparison::default(), Some(Timestamp(3))));
    }
}
