//! No segment is deleted before its commit: when a file goes, every record that it held is stored, and so is the history
//! of those records and the live state that they made; for history, when its segment goes, the batch is stored.
//!
//! Live state counts as stored when a sync whose `through` reaches the record succeeded, or when nothing changed, which the
//! recorder alone knows: its `synced_through` is not taken as proof, so only what would differ is demanded, by [`super::Freshness`]
//! and [`super::Cache`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::observation::{Answer, Ended, Observation, Seen};
use super::super::oracle::Oracle;
use super::Invariant;
use crate::id::EventId;

/// See the module.
#[derive(Debug, Default)]
pub struct Segments {
    /// Batches of history that are written and not stored, by segment, and whether they are synced.
    history: BTreeMap<Arc<str>, (EventId, bool)>,
}

impl Invariant for Segments {
    fn name(&self) -> &'static str {
        "no segment deleted before its commit"
    }

    fn check(&mut self, oracle: &Oracle, observation: &Observation) -> Result<u64, String> {
        match &observation.seen {
            Seen::HistoryWritten { file, batch, answer: Answer::Acknowledged(()), .. } => {
                self.history.insert(Arc::clone(file), (batch.id, false));
                Ok(0)
            }
            Seen::History { batch, answer: Answer::Acknowledged(_) } => {
                self.history.retain(|_, (id, _)| *id != batch.id);
                Ok(0)
            }
            Seen::Synced { file, ok: true } => {
                if let Some((_, synced)) = self.history.get_mut(file) {
                    *synced = true;
                }
                Ok(0)
            }
            // What was not synced may be gone from its segment; the windows come back from the events.
            Seen::Ended(Ended::PowerLost) => {
                self.history.retain(|file, (_, synced)| *synced && oracle.is_linked(file));
                Ok(0)
            }
            Seen::Removed { file } => {
                let held = oracle.pending.values().find(|pending| pending.certain && pending.file == *file);
                if let Some(held) = held {
                    return Err(format!("{file} was removed while {} was not stored", held.record.id()));
                }
                if let Some((id, _)) = self.history.remove(file) {
                    return Err(format!("{file} was removed while the history batch {id} was not stored"));
                }
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, NOON, committed, update};
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
        let mut history = History::of(Segments::default());
        history.see(history_written(5)).see(Seen::Ended(Ended::PowerLost)).see(removed());
        history.is_good();
        let mut history = History::of(Segments::default());
        history.see(history_written(5)).see(Seen::Synced { file: "1.events".into(), ok: true });
        history.see(Seen::Ended(Ended::PowerLost)).see(removed());
        history.is_bad("the history batch 5 was not stored");
    }

    fn removed() -> Seen {
        Seen::Removed { file: "1.events".into() }
    }

    #[test]
    fn a_segment_that_goes_after_its_commit_is_good() {
        let mut history = History::of(Segments::default());
        history.written("1.events", &[update(1, 1)]).batch(&[update(1, 1)], false, committed(1, 0)).see(removed());
        history.is_good();
    }

    #[test]
    fn a_segment_that_goes_before_its_commit_or_while_it_is_in_doubt_is_found() {
        let mut history = History::of(Segments::default());
        history.written("1.events", &[update(1, 1)]).see(removed());
        history.is_bad("removed while 1 was not stored");
        let mut history = History::of(Segments::default());
        history.written("1.events", &[update(1, 1)]).batch(&[update(1, 1)], false, Answer::Unknown).see(removed());
        history.is_bad("removed while 1 was not stored");
    }
}
