//! What a mode cost and achieved while it was in force: counters that only add up, kept across restarts.

use std::time::Duration;

use crate::clock::Timestamp;

/// What a transaction was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// One event with its tunnel's state.
    Single,
    /// A batch of events.
    Batch,
    /// Live state.
    Live,
    /// History, endpoints, settings.
    Other,
}

/// What the batches and the rows that were written one at a time have in common, seen from the batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Comparison {
    /// Rows that were there with every field equal.
    pub identical: u64,
    /// Rows that were there with another field somewhere. They stay as they are.
    pub different: u64,
    /// Rows that the realtime path was told are stored, and that were not there. The batch stored them.
    pub missing_in_realtime: u64,
    /// Rows between the first and the last of a batch that the batch does not hold.
    pub missing_in_batch: u64,
}

impl Comparison {
    /// Rows that were looked at.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.identical + self.differing()
    }

    /// Rows that are not the same on both sides.
    #[must_use]
    pub fn differing(&self) -> u64 {
        self.different + self.missing_in_realtime + self.missing_in_batch
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.identical += other.identical;
        self.different += other.different;
        self.missing_in_realtime += other.missing_in_realtime;
        self.missing_in_batch += other.missing_in_batch;
    }
}

/// See the module. Times are microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How long the mode was in force while a recorder ran.
    pub time_us: u64,
    /// Events and gaps stored.
    pub events: u64,
    /// Rows written: events, gaps, history, live state.
    pub rows: u64,
    /// Transactions that stored one event.
    pub single_transactions: u64,
    /// Transactions that stored a batch of events.
    pub batch_transactions: u64,
    /// Transactions that stored live state.
    pub live_transactions: u64,
    /// Transactions that stored history, endpoints or settings.
    pub other_transactions: u64,
    /// Bytes that the database wrote; `None` where that cannot be told.
    pub bytes: Option<u64>,
    /// Time spent in calls of the database, failed ones included.
    pub database_us: u64,
    /// From receipt to the committed row, summed over `events`.
    pub latency_us: u64,
    /// The longest of these.
    pub latency_max_us: u64,
    /// Events that were to be written one at a time and were left to their batch.
    pub left_to_batch: u64,
    /// Since when `comparison` counts: the last switch to `dual`.
    pub compared_since: Option<Timestamp>,
    /// What the comparison found.
    pub comparison: Comparison,
}

impl Usage {
    /// Transactions of all purposes.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.single_transactions + self.batch_transactions + self.live_transactions + self.other_transactions
    }

    /// Counts a committed transaction.
    pub fn count_transaction(&mut self, purpose: Purpose, rows: u64) {
        *match purpose {
            Purpose::Single => &mut self.single_transactions,
            Purpose::Batch => &mut self.batch_transactions,
            Purpose::Live => &mut self.live_transactions,
            Purpose::Other => &mut self.other_transactions,
        } += 1;
        self.rows += rows;
    }

    /// Counts events that were stored together at `at`, by their times of receipt. Where the wall clock was set back in
    /// between, they took no time.
    pub fn count_events(&mut self, received: impl IntoIterator<Item = Timestamp>, at: Timestamp) {
        for received in received {
            let latency = micros(at.since(received));
            self.events += 1;
            self.latency_us = self.latency_us.saturating_add(latency);
            self.latency_max_us = self.latency_max_us.max(latency);
        }
    }

    /// Counts time in the database.
    pub fn count_time(&mut self, took: Duration) {
        self.database_us += micros(took);
    }

    /// Counts bytes that were written.
    pub fn count_bytes(&mut self, bytes: u64) {
        self.bytes = Some(self.bytes.unwrap_or_default() + bytes);
    }
}

/// Whole microseconds.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_summed_and_its_longest_kept_and_a_clock_set_back_makes_none() {
        let mut usage = Usage::default();
        usage.count_events([Timestamp(10), Timestamp(40), Timestamp(90)], Timestamp(50));
        assert_eq!((usage.events, usage.latency_us, usage.latency_max_us), (3, 50, 40));
    }

    #[test]
    fn transactions_are_told_apart_by_purpose() {
        let mut usage = Usage::default();
        for purpose in [Purpose::Single, Purpose::Single, Purpose::Batch, Purpose::Live, Purpose::Other] {
            usage.count_transaction(purpose, 2);
        }
        let Usage { single_transactions, batch_transactions, live_transactions, other_transactions, rows, .. } = usage;
        assert_eq!((single_transactions, batch_transactions, live_transactions, other_transactions, rows), (2, 1, 1, 1, 10));
        assert_eq!(usage.transactions(), 5);
    }
}
