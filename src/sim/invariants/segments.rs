//! No segment is deleted before its commit: when a file goes, every record that it held is stored, and so is the history
//! of those records and the live state that they made; for history, when its segment goes, the batch is stored.
//!
//! The history of a record is safe with a batch that reaches it: committed, or in a segment of its own that is synced where the journal
//! syncs at all.
//!
//! Live state counts as stored when a sync whose `through` reaches the record succeeded, or when nothing changed, which the
//! recorder alone knows: its `synced_through` is not taken as proof, so only what would differ is demanded, by [`super::Freshness`]
//! and [`super::Cache`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::observation::{Answer, Ended, Observation, Seen};
use super::super::oracle::Oracle;
use super::{Invariant, Terms};
use crate::event::Record;
use crate::id::EventId;
use crate::journaling::SyncPolicy;

/// See the module.
#[derive(Debug)]
pub struct Segments {
    /// Written is as good as synced: nobody asked for more.
    never_synced: bool,
    /// Batches of history that are written and not stored, by segment.
    history: BTreeMap<Arc<str>, Batch>,
    /// The last record of each event segment that moved a counter.
    counted: BTreeMap<Arc<str>, Counted>,
    /// Through which record history is safe.
    safe: EventId,
}

#[derive(Debug, Default)]
struct Counted {
    last: EventId,
    /// Synced since.
    synced: bool,
    /// A sync of its segment failed, and no later one brings back what that one dropped.
    sync_failed: bool,
}

#[derive(Debug)]
struct Batch {
    id: EventId,
    through: EventId,
    synced: bool,
}

impl Segments {
    /// With the policy of a recorder.
    #[must_use]
    pub fn new(terms: &Terms) -> Self {
        let never_synced = terms.settings.journal_sync == SyncPolicy::Off;
        Self { never_synced, history: BTreeMap::new(), counted: BTreeMap::new(), safe: EventId::ZERO }
    }
}

impl Invariant for Segments {
    fn name(&self) -> &'static str {
        "no segment deleted before its commit"
    }

    fn check(&mut self, oracle: &Oracle, observation: &Observation) -> Result<u64, String> {
        match &observation.seen {
            Seen::Written { file, records, answer: Answer::Acknowledged(()), .. } => {
                let counts = |record: &&Record| matches!(record, Record::Event(event) if event.sample.is_some());
                if let Some(last) = records.iter().rfind(counts) {
                    let counted = self.counted.entry(Arc::clone(file)).or_default();
                    (counted.last, counted.synced) = (last.id(), false);
                }
                Ok(0)
            }
            Seen::HistoryWritten { file, batch, answer: Answer::Acknowledged(()), .. } => {
                if self.never_synced {
                    self.safe = self.safe.max(batch.through);
                }
                self.history.insert(Arc::clone(file), Batch { id: batch.id, through: batch.through, synced: false });
                Ok(0)
            }
            // In doubt it is there or comes again: the recorder asks the database.
            Seen::History { batch, answer } if *answer != Answer::Refused => {
                self.safe = self.safe.max(batch.through);
                if *answer != Answer::Unknown {
                    self.history.retain(|_, written| written.id != batch.id);
                }
                Ok(0)
            }
            Seen::Synced { file, ok } => {
                if let Some(counted) = self.counted.get_mut(file) {
                    counted.sync_failed |= !ok;
                    counted.synced = !counted.sync_failed;
                }
                if let Some(batch) = self.history.get_mut(file).filter(|_| *ok) {
                    batch.synced = true;
                    self.safe = self.safe.max(batch.through);
                }
                Ok(0)
            }
            // What was not synced may be gone from its segment; the windows come back from the events.
            Seen::Ended(Ended::PowerLost) => {
                self.history.retain(|file, batch| batch.synced && oracle.is_linked(file));
                self.counted.retain(|file, counted| counted.synced && oracle.is_linked(file));
                Ok(0)
            }
            Seen::Removed { file } => {
                let held = oracle.pending.values().find(|pending| pending.certain && pending.file == *file);
                if let Some(held) = held {
                    return Err(format!("{file} was removed while {} was not stored", held.record.id()));
                }
                if let Some(Batch { id, .. }) = self.history.remove(file) {
                    return Err(format!("{file} was removed while the history batch {id} was not stored"));
                }
                if let Some(Counted { last, .. }) = self.counted.remove(file).filter(|counted| counted.last > self.safe) {
                    let safe = self.safe;
                    return Err(format!("{file} was removed while history was safe through {safe} and not through its {last}"));
                }
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, NOON, committed, terms, update};
    use super::*;
    use crate::store::{FlushCause, FlushInfo, HistoryBatch};

    fn history_written(id: i64) -> Seen {
        let info = FlushInfo { cause: FlushCause::Hourly, boundary: None, skipped_boundaries: 0, cut_at: NOON };
        let (id, through) = (EventId(id), EventId(id));
        let batch = HistoryBatch { id, info, through, rows: vec![], counter_events: vec![], states: vec![], accounts: vec![] };
        Seen::HistoryWritten { file: "1.events".into(), batch: Box::new(batch), bytes: 90, answer: Answer::Acknowledged(()) }
    }

    /// Found by seed 14: a torn batch of history is set aside, and its empty segment goes.
    #[test]
    fn history_that_power_took_before_the_sync_holds_no_segment() {
        let mut history = History::of(Segments::new(&terms()));
        history.see(history_written(5)).see(Seen::Ended(Ended::PowerLost)).see(removed());
        history.is_good();
        let mut history = History::of(Segments::new(&terms()));
        history.see(history_written(5)).see(Seen::Synced { file: "1.events".into(), ok: true });
        history.see(Seen::Ended(Ended::PowerLost)).see(removed());
        history.is_bad("the history batch 5 was not stored");
    }

    fn history_stored(id: i64) -> Seen {
        let Seen::HistoryWritten { batch, .. } = history_written(id) else { unreachable!() };
        Seen::History { batch, answer: committed(1, 0) }
    }

    fn removed() -> Seen {
        Seen::Removed { file: "1.events".into() }
    }

    #[test]
    fn a_segment_that_goes_after_its_commit_is_good() {
        let mut history = History::of(Segments::new(&terms()));
        history.written("1.events", &[update(1, 1)]).batch(&[update(1, 1)], false, committed(1, 0));
        history.see(history_stored(1)).see(removed());
        history.is_good();
    }

    /// Found by seed 50003: what a torn write left of a segment went with the batch that reached the rest of it.
    #[test]
    fn history_of_what_power_took_holds_no_segment() {
        for synced in [false, true] {
            let mut history = History::of(Segments::new(&terms()));
            history.written("1.events", &[update(1, 1)]);
            if synced {
                history.see(Seen::Synced { file: "1.events".into(), ok: true });
            }
            history.see(Seen::Ended(Ended::PowerLost)).batch(&[update(1, 1)], false, committed(1, 0)).see(removed());
            if synced { history.is_bad("history was safe through 0") } else { history.is_good() }
        }
    }

    #[test]
    fn a_segment_that_goes_before_the_history_of_its_records_is_safe_is_found() {
        let records = [update(1, 1), update(2, 2)];
        for (safe, is_good) in [(vec![history_stored(1)], false), (vec![history_stored(2)], true)] {
            let mut history = History::of(Segments::new(&terms()));
            history.written("1.events", &records).batch(&records, false, committed(2, 0));
            for seen in safe {
                history.see(seen);
            }
            history.see(removed());
            if is_good { history.is_good() } else { history.is_bad("history was safe through 1 and not through its 2") }
        }
        for synced in [false, true] {
            let mut history = History::of(Segments::new(&terms()));
            history.written("1.events", &records).batch(&records, false, committed(2, 0));
            let Seen::HistoryWritten { batch, bytes, answer, .. } = history_written(2) else { unreachable!() };
            history.see(Seen::HistoryWritten { file: "2.history".into(), batch, bytes, answer });
            if synced {
                history.see(Seen::Synced { file: "2.history".into(), ok: true });
            }
            history.see(removed());
            if synced { history.is_good() } else { history.is_bad("history was safe through 0") }
        }
    }

    #[test]
    fn a_segment_that_goes_before_its_commit_or_while_it_is_in_doubt_is_found() {
        let mut history = History::of(Segments::new(&terms()));
        history.written("1.events", &[update(1, 1)]).see(removed());
        history.is_bad("removed while 1 was not stored");
        let mut history = History::of(Segments::new(&terms()));
        history.written("1.events", &[update(1, 1)]).batch(&[update(1, 1)], false, Answer::Unknown).see(removed());
        history.is_bad("removed while 1 was not stored");
    }
}
