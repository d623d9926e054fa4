//! No batch is above its bound: `storage.max_buffer_size` records and `storage.max_buffer_bytes` of journal, by the bytes
//! of the appends that made it. The last record may cross the bound of bytes. All segments of records together are not above
//! `journal.max_bytes` (promise 3); history is not held to that bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::observation::{Answer, Observation, Seen};
use super::super::oracle::Oracle;
use super::{Invariant, Terms};

/// See the module.
#[derive(Debug)]
pub struct Batches {
    events_max: usize,
    bytes_max: u64,
    journal_bytes_max: u64,
    /// Bytes of all these segments.
    journal_bytes: u64,
    /// Bytes and the largest append of each segment that is there.
    segments: BTreeMap<Arc<str>, (u64, u64, usize)>,
}

impl Batches {
    /// With the bounds of a recorder.
    #[must_use]
    pub fn new(terms: &Terms) -> Self {
        let limits = terms.settings.limits;
        Self {
            events_max: limits.batch_events_max,
            bytes_max: limits.batch_bytes_max,
            journal_bytes_max: limits.journal_bytes_max,
            journal_bytes: 0,
            segments: BTreeMap::new(),
        }
    }
}

impl Invariant for Batches {
    fn name(&self) -> &'static str {
        "no batch above its bound"
    }

    fn check(&mut self, _: &Oracle, observation: &Observation) -> Result<u64, String> {
        match &observation.seen {
            Seen::Written { file, records, bytes, answer: Answer::Acknowledged(()) } => {
                let (all, largest, count) = self.segments.entry(Arc::clone(file)).or_default();
                // A record of many bytes may cross the bound of bytes, so the append before it tells.
                if *all >= self.bytes_max {
                    return Err(format!("{file} was full with {all} bytes and took {bytes} more"));
                }
                *all += *bytes as u64;
                self.journal_bytes += *bytes as u64;
                if self.journal_bytes > self.journal_bytes_max {
                    return Err(format!("the journal holds {} bytes of records", self.journal_bytes));
                }
                *largest = (*largest).max(*bytes as u64);
                *count += records.len();
                if *count > self.events_max {
                    return Err(format!("{file} holds {count} records, more than {}", self.events_max));
                }
                Ok(1)
            }
            Seen::Events { batch, .. } => {
                if batch.records.len() > self.events_max {
                    return Err(format!("a batch holds {} records, more than {}", batch.records.len(), self.events_max));
                }
                Ok(1)
            }
            Seen::Removed { file } => {
                if let Some((bytes, ..)) = self.segments.remove(file) {
                    self.journal_bytes -= bytes;
                }
                Ok(0)
            }
            Seen::Ended(_) => {
                // Nothing is appended to these segments any more, and what became of them at a start is not known.
                self.segments.clear();
                self.journal_bytes = 0;
                Ok(0)
            }
            _ => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, committed, terms, update};
    use super::*;

    fn of_two() -> Batches {
        let mut terms = terms();
        terms.settings.limits.batch_events_max = 2;
        Batches::new(&terms)
    }

    #[test]
    fn a_full_batch_is_good() {
        let mut history = History::of(of_two());
        let records = [update(1, 1), update(2, 2)];
        history.written("1.events", &records).batch(&records, false, committed(2, 0)).written("2.events", &[update(3, 3)]);
        history.is_good();
    }

    #[test]
    fn a_batch_above_its_bound_is_found() {
        let mut history = History::of(of_two());
        history.batch(&[update(1, 1), update(2, 2), update(3, 3)], false, committed(3, 0));
        history.is_bad("3 records, more than 2");
    }

    #[test]
    fn a_journal_above_its_bound_is_found_and_what_was_removed_does_not_count() {
        let mut terms = terms();
        terms.settings.limits.journal_bytes_max = 200;
        let mut history = History::of(Batches::new(&terms));
        history.written("1.events", &[update(1, 1)]).written("2.events", &[update(2, 2)]);
        history.see(Seen::Removed { file: "1.events".into() }).written("3.events", &[update(3, 3)]);
        history.is_good();
        history.written("4.events", &[update(4, 4)]);
        history.is_bad("the journal holds 270 bytes");
    }

    #[test]
    fn a_segment_that_goes_on_after_it_was_full_is_found() {
        let mut history = History::of(of_two());
        history.written("1.events", &[update(1, 1), update(2, 2)]).written("1.events", &[update(3, 3)]);
        history.is_bad("holds 3 records");
    }
}
