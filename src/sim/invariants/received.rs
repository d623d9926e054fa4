//! Nothing received is lost (promise 1): what was written to the journal is in the database in the end, and what the
//! recorder counts as received was written.
//!
//! Written means that the disk acknowledged the append. A record is left open only where the promise leaves it open: power
//! was lost before its segment was synced. A batch that passes a record over is found when it is committed, since a later loss of
//! power would excuse it. The counter is held against the disk at every look, which finds a reply that
//! comes before the write, and with `journal.sync_interval = always` one that comes before the sync.

use std::collections::BTreeMap;

use super::super::observation::{Answer, Observation, Seen};
use super::super::oracle::{Oracle, Pending};
use super::{Invariant, Terms};
use crate::event::{EndpointId, Record};
use crate::journaling::SyncPolicy;

/// See the module.
#[derive(Debug)]
pub struct Received {
    /// A reply means synced.
    always_synced: bool,
    /// Events written since the recorder started, by endpoint.
    written: BTreeMap<EndpointId, u64>,
}

impl Received {
    /// With the policy of a recorder.
    #[must_use]
    pub fn new(terms: &Terms) -> Self {
        Self { always_synced: terms.settings.journal_sync == SyncPolicy::Always, written: BTreeMap::new() }
    }

    /// Batches are cut and committed in the order of ids: what one of them goes beyond is in it, or is lost.
    fn passed_over(oracle: &Oracle, records: &[Record]) -> Result<u64, String> {
        let Some(last) = records.last().map(Record::id) else { return Ok(0) };
        let mut in_batch = records.iter().map(Record::id).peekable();
        for (id, pending) in oracle.pending.range(..=last).filter(|(_, pending)| pending.certain) {
            while in_batch.next_if(|stored| stored < id).is_some() {}
            if in_batch.next_if_eq(id).is_none() {
                return Err(format!(
                    "{} was written to {} and is missing in a batch that goes beyond it",
                    name(&pending.record),
                    pending.file
                ));
            }
        }
        Ok(records.len() as u64)
    }

    /// Records of this life that a loss of power would take now.
    fn unsafe_records(oracle: &Oracle) -> BTreeMap<EndpointId, u64> {
        let mut counts = BTreeMap::new();
        let of_this_life = |pending: &&Pending| oracle.alive_since.is_some_and(|since| pending.at >= since);
        for pending in oracle.pending.values().rev().take_while(of_this_life).filter(|pending| !oracle.is_durable(pending)) {
            *counts.entry(pending.record.endpoint()).or_default() += 1;
        }
        counts
    }
}

impl Invariant for Received {
    fn name(&self) -> &'static str {
        "nothing received is lost"
    }

    fn check(&mut self, oracle: &Oracle, observation: &Observation) -> Result<u64, String> {
        match &observation.seen {
            Seen::Started { .. } | Seen::Ended(_) => self.written.clear(),
            Seen::Written { records, answer: Answer::Acknowledged(()), .. } => {
                for record in records {
                    *self.written.entry(record.endpoint()).or_default() += 1;
                }
            }
            Seen::Looked(look) => {
                let unsafe_records = if self.always_synced { Self::unsafe_records(oracle) } else { BTreeMap::new() };
                for (endpoint, state) in &look.ingest {
                    let written = self.written.get(endpoint).copied().unwrap_or_default();
                    if state.events_received > written {
                        return Err(format!(
                            "endpoint {endpoint} counts {} events as received and {written} records were written",
                            state.events_received
                        ));
                    }
                    let synced = written - unsafe_records.get(endpoint).copied().unwrap_or_default().min(written);
                    if state.events_received > synced {
                        return Err(format!(
                            "endpoint {endpoint} counts {} events as received and {synced} records were synced",
                            state.events_received
                        ));
                    }
                }
                return Ok(look.ingest.len() as u64);
            }
            Seen::Events { batch, answer: Answer::Acknowledged(_) } => return Self::passed_over(oracle, &batch.records),
            Seen::Settled(settled) => {
                let missing = oracle.pending.values().find(|pending| pending.certain);
                if let Some(missing) = missing {
                    return Err(format!("{} was written to {} and is not stored", name(&missing.record), missing.file));
                }
                let mut in_table = settled.audit.records.iter().copied().peekable();
                for id in oracle.stored.iter() {
                    while in_table.next_if(|found| *found < id).is_some() {}
                    if in_table.next_if_eq(&id).is_none() && !oracle.may_have_expired(id) {
                        return Err(format!("{id} was committed and is not in the database"));
                    }
                }
                return Ok(oracle.stored.len() as u64);
            }
            _ => {}
        }
        Ok(0)
    }
}

fn name(record: &Record) -> String {
    match record {
        Record::Event(event) => format!("{} {} of {}", event.kind.as_str(), event.id, event.instance),
        Record::Gap(gap) => format!("gap {} of endpoint {}", gap.id, gap.endpoint),
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, committed, terms, update};
    use super::*;
    use crate::actors::sse_ingest::IngestState;
    use crate::id::EventId;
    use crate::sim::observation::{Ended, Settled};

    fn settled(ids: &[i64]) -> Seen {
        let mut settled = Settled::default();
        settled.audit.records = ids.iter().map(|id| EventId(*id)).collect();
        Seen::Settled(Box::new(settled))
    }

    fn counted(received: u64) -> Vec<(EndpointId, IngestState)> {
        vec![(EndpointId(1), IngestState { events_received: received, ..IngestState::default() })]
    }

    #[test]
    fn what_is_written_and_stored_is_good() {
        let mut history = History::of(Received::new(&terms()));
        history.written("1.events", &[update(1, 1)]).look(|look| look.ingest = counted(1));
        history.batch(&[update(1, 1)], false, committed(1, 0)).see(settled(&[1]));
        history.is_good();
    }

    #[test]
    fn a_written_record_that_is_not_stored_in_the_end_is_found() {
        let mut history = History::of(Received::new(&terms()));
        history.written("1.events", &[update(1, 1)]).see(Seen::Ended(Ended::Killed)).see(settled(&[]));
        history.is_bad("1 of 9545ac3d was written to 1.events and is not stored");
    }

    #[test]
    fn a_written_record_that_a_batch_passes_over_is_found_at_once() {
        let records = [update(1, 1), update(2, 2), update(3, 3)];
        let mut history = History::of(Received::new(&terms()));
        history.written("1.events", &records).batch(&records[..1], false, committed(1, 0));
        history.batch(&records[1..], false, committed(2, 0));
        history.is_good();
        let mut history = History::of(Received::new(&terms()));
        history.written("1.events", &records).batch(&[records[0].clone(), records[2].clone()], false, committed(2, 0));
        history.is_bad("2 of 9545ac3d was written to 1.events and is missing in a batch that goes beyond it");
    }

    #[test]
    fn what_power_took_before_the_sync_may_be_absent() {
        let mut history = History::of(Received::new(&terms()));
        history.written("1.events", &[update(1, 1)]).look(|look| look.ingest = counted(1));
        history.see(Seen::Ended(Ended::PowerLost)).see(settled(&[]));
        history.is_good();
    }

    #[test]
    fn a_commit_that_the_database_forgot_is_found() {
        let mut history = History::of(Received::new(&terms()));
        history.written("1.events", &[update(1, 1)]).batch(&[update(1, 1)], false, committed(1, 0)).see(settled(&[]));
        history.is_bad("committed and is not in the database");
    }

    #[test]
    fn with_always_a_reply_before_the_sync_of_segment_and_directory_is_found() {
        let mut always = terms();
        always.settings.journal_sync = SyncPolicy::Always;
        for (synced, directory_synced) in [(true, true), (true, false), (false, true)] {
            let mut history = History::of(Received::new(&always));
            history.see(Seen::Created { file: "1.events".into() }).written("1.events", &[update(1, 1)]);
            if synced {
                history.see(Seen::Synced { file: "1.events".into(), ok: true });
            }
            if directory_synced {
                history.see(Seen::DirectorySynced);
            }
            history.look(|look| look.ingest = counted(1));
            if synced && directory_synced { history.is_good() } else { history.is_bad("0 records were synced") }
        }
    }

    #[test]
    fn a_reply_before_the_write_is_found() {
        let mut history = History::of(Received::new(&terms()));
        history.look(|look| look.ingest = counted(1));
        history.is_bad("counts 1 events as received and 0 records were written");
    }
}
