//! What was refused is told (promise 8): events that the journal refused become a gap as soon as events of their endpoint are accepted
//! again. A recorder that dies before owes none: the next one records that there was none.
//!
//! Where the disk has no room for the gap either, it waits in memory with its batch, so after the disk or the database failed it is given
//! one flush more.
//!
//! Refusals show only in the counters, from look to look, so that a gap is taken to tell of all that was refused since the last look.
//! What is refused after that gap and before the next look is therefore not checked.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::observation::{Answer, Observation, Seen};
use super::super::oracle::Oracle;
use super::{Invariant, Terms};
use crate::actors::buffer::Refused;
use crate::actors::sse_ingest::IngestState;
use crate::event::{EndpointId, Record};

/// Why the journal refuses events while the recorder runs.
const REASONS: [Refused; 4] = [Refused::JournalFull, Refused::DiskFull, Refused::JournalStalled, Refused::JournalFailed];
/// Looks that a gap is given.
const CHANCES_MAX: u32 = 3;
/// The reason of the gap.
const REASON: &str = "refused";

/// See the module.
#[derive(Debug)]
pub struct Told {
    endpoints: BTreeMap<EndpointId, Known>,
    /// From the last fault to the commit of what waits in memory.
    committed_within: Duration,
}

/// From a boundary to the commit of its batches.
const COMMIT_WITHIN: Duration = Duration::from_secs(60);

impl Told {
    /// With the interval of a recorder.
    #[must_use]
    pub fn new(terms: &Terms) -> Self {
        Self { endpoints: BTreeMap::new(), committed_within: terms.settings.flush_interval + COMMIT_WITHIN }
    }

    fn gaps<'a>(&mut self, records: impl IntoIterator<Item = &'a Record>, is_kept: bool) {
        for record in records {
            if let Record::Gap(gap) = record
                && gap.reason.as_ref() == REASON
            {
                let known = self.endpoints.entry(gap.endpoint).or_default();
                known.chances = 0;
                if is_kept {
                    (known.owed, known.told) = (false, true);
                }
            }
        }
    }
}

/// What the last look showed of an endpoint.
#[derive(Debug, Default)]
struct Known {
    refused: u64,
    received: u64,
    /// A gap was written since then.
    told: bool,
    /// A gap is owed.
    owed: bool,
    /// Looks since then that showed more accepted events, and no further refusal: each of them brings the gap, which may be refused
    /// itself.
    chances: u32,
}

impl Invariant for Told {
    fn name(&self) -> &'static str {
        "what was refused is told"
    }

    fn check(&mut self, oracle: &Oracle, observation: &Observation) -> Result<u64, String> {
        match &observation.seen {
            Seen::Started { .. } | Seen::Ended(_) => self.endpoints.clear(),
            Seen::Written { records, answer, .. } => self.gaps(records, *answer == Answer::Acknowledged(())),
            Seen::Events { batch, answer } => self.gaps(batch.records.iter(), matches!(answer, Answer::Acknowledged(_))),
            Seen::Single { record, answer } => self.gaps([&**record], matches!(answer, Answer::Acknowledged(_))),
            Seen::Looked(look) => {
                let at = observation.at;
                let calm_for = oracle.without_fault_for("disk", at).min(oracle.without_fault_for("database", at));
                let works_for = calm_for.min(oracle.database_works_for(at));
                let may_wait = calm_for < oracle.alive_for(at) && works_for < self.committed_within;
                for (endpoint, state) in &look.ingest {
                    self.endpoints.entry(*endpoint).or_default().look(*endpoint, state, may_wait)?;
                }
                return Ok(look.ingest.len() as u64);
            }
            _ => {}
        }
        Ok(0)
    }
}

impl Known {
    fn look(&mut self, endpoint: EndpointId, state: &IngestState, may_wait: bool) -> Result<(), String> {
        let refused: u64 = REASONS.iter().filter_map(|reason| state.dropped.get(reason.as_str())).sum();
        let told = std::mem::take(&mut self.told);
        if refused < self.refused || state.events_received < self.received {
            // The endpoint was disabled and is followed anew: what counts begins at zero, and the gap that its end left may have been
            // the last thing to be refused.
            *self = Self::default();
        }
        if refused > self.refused {
            (self.owed, self.chances) = (!told, 0);
        } else if self.owed && state.events_received > self.received && !may_wait {
            self.chances += 1;
            if self.chances > CHANCES_MAX {
                return Err(format!(
                    "endpoint {endpoint}: {refused} events were refused, others accepted since, and no gap says so"
                ));
            }
        }
        (self.refused, self.received) = (refused, state.events_received);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, committed, terms};
    use super::*;
    use crate::clock::Timestamp;
    use crate::event::{Gap, InstanceId};
    use crate::id::EventId;
    use crate::sim::observation::Ended;

    fn look(history: &mut History, refused: u64, received: u64) {
        let state = IngestState {
            events_received: received,
            dropped: BTreeMap::from([(Refused::DiskFull.as_str(), refused), ("json", 7)]),
            ..IngestState::default()
        };
        history.look(|look| look.ingest = vec![(EndpointId(1), state)]);
    }

    fn gap(history: &mut History) {
        history.written("1.events", &[refused_gap()]);
    }

    fn refused_gap() -> Record {
        let (id, instance, at) = (EventId(9), InstanceId::default(), Timestamp(0));
        Record::Gap(Gap { id, endpoint: EndpointId(1), instance, from: at, to: at, reason: REASON.into() })
    }

    fn gap_is_refused(history: &mut History) {
        let (file, records) = ("1.events".into(), vec![refused_gap()]);
        history.see(Seen::Written { file, records, bytes: 50, answer: Answer::Refused });
    }

    #[test]
    fn a_gap_once_events_are_accepted_again_is_good_and_so_is_none_before() {
        let mut history = History::of(Told::new(&terms()));
        for (refused, received) in [(0, 5), (3, 5), (3, 5), (4, 5), (4, 6)] {
            look(&mut history, refused, received);
        }
        gap(&mut history);
        look(&mut history, 4, 7);
        look(&mut history, 4, 8);
        history.is_good();
    }

    #[test]
    fn a_refusal_that_begins_and_is_told_between_two_looks_is_good() {
        let mut history = History::of(Told::new(&terms()));
        look(&mut history, 0, 5);
        gap(&mut history);
        (6..16).for_each(|received| look(&mut history, 1, received));
        history.is_good();
    }

    #[test]
    fn a_gap_tells_nothing_of_what_is_refused_after_the_next_look() {
        let mut history = History::of(Told::new(&terms()));
        look(&mut history, 0, 5);
        gap(&mut history);
        look(&mut history, 1, 6);
        (6..16).for_each(|received| look(&mut history, 2, received));
        history.is_bad("no gap says so");
    }

    #[test]
    fn a_gap_that_is_refused_itself_is_waited_for_but_tells_nothing() {
        let mut history = History::of(Told::new(&terms()));
        look(&mut history, 1, 5);
        for received in 6..16 {
            gap_is_refused(&mut history);
            look(&mut history, 1, received);
        }
        history.is_good();
        (16..26).for_each(|received| look(&mut history, 1, received));
        history.is_bad("no gap says so");
    }

    /// Found by seed 110044: the disk was full when events were accepted again, so the gap was never written and went with its batch.
    #[test]
    fn a_gap_that_waits_in_memory_is_told_with_its_batch() {
        for (told, is_good) in [(true, true), (false, false)] {
            let mut history = History::of(Told::new(&terms()));
            history.pass(10).see(Seen::Fault { name: "disk-full", on: true }).pass(10);
            look(&mut history, 1, 5);
            history.see(Seen::Fault { name: "disk-full", on: false });
            (6..16).for_each(|received| look(&mut history, 1, received));
            assert_eq!(history.verdict, Ok(()));
            if told {
                history.batch(&[refused_gap()], false, committed(1, 0));
            }
            history.pass(4_000);
            (16..26).for_each(|received| look(&mut history, 1, received));
            if is_good { history.is_good() } else { history.is_bad("no gap says so") }
        }
    }

    #[test]
    fn an_endpoint_that_is_followed_anew_owes_nothing_of_before() {
        let mut history = History::of(Told::new(&terms()));
        look(&mut history, 3, 5);
        (0..9).for_each(|received| look(&mut history, 0, received));
        history.is_good();
        look(&mut history, 1, 9);
        (10..19).for_each(|received| look(&mut history, 1, received));
        history.is_bad("no gap says so");
    }

    #[test]
    fn events_that_were_refused_in_silence_are_found() {
        let mut history = History::of(Told::new(&terms()));
        for (refused, received) in [(3, 5), (3, 6), (3, 7), (3, 7), (3, 8), (3, 9)] {
            look(&mut history, refused, received);
        }
        history.is_bad("no gap says so");
    }

    #[test]
    fn a_recorder_that_dies_owes_nothing() {
        let mut history = History::of(Told::new(&terms()));
        look(&mut history, 3, 5);
        look(&mut history, 3, 6);
        history.see(Seen::Ended(Ended::Killed)).see(Seen::Started { life: 2 });
        (1..9).for_each(|received| look(&mut history, 0, received));
        history.is_good();
    }
}
