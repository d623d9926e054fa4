//! Nothing is stored twice, and nothing is skipped in silence (promise 2): an id is given once, a batch stores what was
//! received and nothing else, and the database's counts say so.
//!
//! A row may be skipped where its batch may be stored already: after a restart, or after a commit in doubt. A record that was
//! stored by itself is not stored again by its batch, and is no row that was skipped.

use super::super::observation::{Answer, Observation, Seen};
use super::super::oracle::Oracle;
use super::Invariant;
use crate::event::Record;

/// See the module.
#[derive(Debug, Default)]
pub struct Unique;

impl Invariant for Unique {
    fn name(&self) -> &'static str {
        "no id twice"
    }

    fn check(&mut self, oracle: &Oracle, observation: &Observation) -> Result<u64, String> {
        match &observation.seen {
            Seen::Written { records, answer: Answer::Acknowledged(()) | Answer::Unknown, .. } => {
                for id in records.iter().map(Record::id) {
                    let again_after_failure = oracle.pending.get(&id).is_some_and(|pending| !pending.certain);
                    if !again_after_failure && (oracle.pending.contains_key(&id) || oracle.stored.contains(id)) {
                        return Err(format!("the id {id} was given twice"));
                    }
                }
                Ok(records.len() as u64)
            }
            Seen::Events { batch, answer } => {
                let (mut new, mut open) = (0_u64, 0_u64);
                for record in batch.records.iter() {
                    let id = record.id();
                    match oracle.pending.get(&id) {
                        Some(pending) if pending.in_doubt => open += 1,
                        Some(_) => new += 1,
                        // Its segment was still there at a start, for history or live state, and the row was not any more. It goes
                        // again with the next sweep.
                        None if oracle.stored.contains(id) && oracle.may_have_expired(id) => open += 1,
                        None if oracle.stored.contains(id) => {}
                        None if oracle.may_hold_unseen(record, observation.at) => new += 1,
                        None => return Err(format!("a batch holds the id {id}, which was never received")),
                    }
                }
                if let Answer::Acknowledged(committed) = answer {
                    let skipped = batch.records.len() as u64 - new - open;
                    if committed.quarantined == 0 && (committed.written < new || committed.written > new + open) {
                        return Err(format!(
                            "a batch of {} records with {new} new ones wrote {} rows",
                            batch.records.len(),
                            committed.written
                        ));
                    }
                    if (committed.skipped > 0 || skipped > 0 && batch.overlap.is_none()) && !batch.maybe_stored {
                        return Err(format!("a batch that was never sent before holds {} stored rows", committed.skipped));
                    }
                }
                Ok(batch.records.len() as u64)
            }
            Seen::Single { record, answer } => {
                let id = record.id();
                let is_known = oracle.pending.contains_key(&id) || oracle.stored.contains(id);
                if !is_known && !oracle.may_hold_unseen(record, observation.at) {
                    return Err(format!("the id {id} was stored and was never received"));
                }
                if *answer == Answer::Acknowledged(true) && oracle.stored.contains(id) {
                    return Err(format!("the id {id} was stored twice"));
                }
                Ok(1)
            }
            Seen::Settled(settled) => {
                for id in &settled.audit.records {
                    if !oracle.stored.contains(*id) && !oracle.pending.contains_key(id) {
                        return Err(format!("the database holds the id {id}, which was never received"));
                    }
                }
                Ok(settled.audit.records.len() as u64)
            }
            _ => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, committed, update};
    use super::*;
    use crate::clock::Timestamp;
    use crate::event::{EndpointId, Gap};
    use crate::id::EventId;
    use crate::retention::{Expired, Expiring};
    use crate::sim::observation::Ended;

    #[test]
    fn a_record_that_is_stored_by_itself_and_again_by_its_batch_is_found() {
        let single = |id| Seen::Single { record: Box::new(update(id, 1)), answer: Answer::Acknowledged(true) };
        let mut history = History::of(Unique);
        history.written("1.events", &[update(1, 1)]).see(single(1)).see(single(1));
        history.is_bad("stored twice");
        let mut history = History::of(Unique);
        history.written("1.events", &[update(1, 1)]).see(single(1)).batch(&[update(1, 1)], false, committed(1, 0));
        history.is_bad("wrote 1 rows");
        let mut history = History::of(Unique);
        history.see(single(7));
        history.is_bad("never received");
    }

    #[test]
    fn a_commit_in_doubt_that_is_repeated_is_good_either_way() {
        for second in [committed(2, 0), committed(0, 2)] {
            let mut history = History::of(Unique);
            let records = [update(1, 1), update(2, 2)];
            history.written("1.events", &records).batch(&records, false, Answer::Unknown).batch(&records, true, second);
            history.is_good();
        }
    }

    /// Found by seed 100195: the clock had been set back, so open windows and with them the segments stayed for two hours, and events
    /// were kept for one. A start found a batch whose rows had been stored and had expired.
    #[test]
    fn a_batch_that_is_stored_again_after_its_rows_expired_is_good() {
        for (expired, is_good) in [(true, true), (false, false)] {
            let mut history = History::of(Unique);
            let records = [update(1, 1), update(2, 2)];
            history.written("1.events", &records).batch(&records, false, committed(2, 0));
            if expired {
                let answer = Answer::Acknowledged(Expired { rows: 2, next: None });
                history.see(Seen::Expired {
                    what: Expiring::Events,
                    before: Timestamp(i64::MAX),
                    now: Timestamp(i64::MAX),
                    answer,
                });
            }
            history.see(Seen::Ended(Ended::Killed)).see(Seen::Started { life: 2 }).batch(&records, true, committed(2, 0));
            if is_good { history.is_good() } else { history.is_bad("with 0 new ones wrote 2 rows") }
        }
    }

    #[test]
    fn an_id_that_is_given_twice_is_found() {
        let mut history = History::of(Unique);
        history.written("1.events", &[update(1, 1)]).written("2.events", &[update(1, 1)]);
        history.is_bad("given twice");
    }

    #[test]
    fn a_record_that_is_written_again_after_a_failed_write_keeps_its_id() {
        let mut history = History::of(Unique);
        let records = vec![update(1, 1)];
        history.see(Seen::Written { file: "1.events".into(), records, bytes: 9, answer: Answer::Unknown });
        history.written("2.events", &[update(1, 1)]);
        history.is_good();
    }

    /// Found by seed 50011: the header of a new segment was torn, so no write showed the gap that waited in memory from then on.
    #[test]
    fn a_gap_that_waits_in_memory_since_the_disk_failed_is_good() {
        let gap = |id| {
            let at = Timestamp(id);
            Record::Gap(Gap {
                id: EventId(id),
                endpoint: EndpointId(1),
                instance: "".into(),
                from: at,
                to: at,
                reason: "refused".into(),
            })
        };
        for (disk_failed, is_good) in [(true, true), (false, false)] {
            let mut history = History::of(Unique);
            history.pass(5);
            if disk_failed {
                history
                    .see(Seen::Fault { name: "disk-torn", on: true })
                    .pass(5)
                    .see(Seen::Fault { name: "disk-torn", on: false });
            }
            history.pass(60).batch(&[gap(7)], false, Answer::Unknown).batch(&[gap(7)], true, committed(1, 0));
            history.see(Seen::Single { record: Box::new(gap(8)), answer: Answer::Unknown });
            history.see(Seen::Single { record: Box::new(gap(8)), answer: Answer::Acknowledged(true) });
            if is_good { history.is_good() } else { history.is_bad("never received") }
        }
    }

    #[test]
    fn a_retry_with_new_ids_is_found() {
        let mut history = History::of(Unique);
        history.written("1.events", &[update(1, 1)]).batch(&[update(7, 1)], false, committed(1, 0));
        history.is_bad("never received");
    }

    #[test]
    fn a_row_that_is_skipped_in_silence_is_found() {
        let mut history = History::of(Unique);
        history.written("1.events", &[update(1, 1)]).batch(&[update(1, 1)], false, committed(0, 1));
        history.is_bad("wrote 0 rows");
    }

    #[test]
    fn a_batch_that_is_committed_again_without_cause_is_found() {
        let mut history = History::of(Unique);
        let records = [update(1, 1)];
        history.written("1.events", &records).batch(&records, false, committed(1, 0)).batch(&records, false, committed(0, 1));
        history.is_bad("never sent before");
    }
}
