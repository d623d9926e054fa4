//! A time in which the journal accepted nothing, as one gap.

use crate::clock::Timestamp;
use crate::event::{EndpointId, Gap, InstanceId, Record};
use crate::id::EventId;

/// Gaps that are kept while they cannot be recorded. More come only from a master that breaks off all the time.
const GAPS_MAX: usize = 64;

/// The reason of the gap that an outage leaves.
pub const REASON: &str = Gap::REFUSED;

/// What was refused since the journal last accepted something.
#[derive(Debug, Default)]
pub struct Outage {
    since: Option<Timestamp>,
    gaps: Vec<Gap>,
}

impl Outage {
    /// These were refused. Gaps among them are kept for later. Returns whether the outage begins with them.
    pub fn refused(&mut self, records: &[Record]) -> bool {
        let begins = self.since.is_none() && !records.is_empty();
        for record in records {
            let since = match record {
                Record::Gap(gap) if &*gap.reason == REASON => gap.from,
                // Nothing is missing because of it, and told once more it would explain what fell since then.
                Record::Gap(gap) if &*gap.reason == Gap::MASTER_RESTARTED => gap.to,
                Record::Gap(gap) => {
                    if self.gaps.len() < GAPS_MAX {
                        self.gaps.push(gap.clone());
                    }
                    gap.to
                }
                Record::Event(event) => event.received_at,
            };
            self.since = Some(self.since.map_or(since, |known| known.min(since)));
        }
        begins
    }

    /// Something was accepted at `now`. Returns the gaps to record, whose ids are to be given anew; empty if there was
    /// no outage.
    pub fn accepted(&mut self, endpoint: EndpointId, now: Timestamp) -> Vec<Gap> {
        let Some(from) = self.since.take() else { return Vec::new() };
        let mut gaps = std::mem::take(&mut self.gaps);
        let (id, instance) = (EventId::ZERO, InstanceId::default());
        gaps.push(Gap { id, endpoint, instance, from, to: now, reason: REASON.into() });
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(from: i64, to: i64, reason: &str) -> Gap {
        Gap {
            id: EventId::ZERO,
            endpoint: EndpointId(1),
            instance: InstanceId::default(),
            from: Timestamp(from),
            to: Timestamp(to),
            reason: reason.into(),
        }
    }

    fn records(gaps: &[Gap]) -> Vec<Record> {
        gaps.iter().cloned().map(Record::Gap).collect()
    }

    #[test]
    fn an_outage_is_one_gap_however_many_bunches_were_refused() {
        let mut outage = Outage::default();
        assert!(outage.accepted(EndpointId(1), Timestamp(1)).is_empty());
        assert!(outage.refused(&records(&[gap(1, 10, "connection_lost")])));
        assert!(!outage.refused(&records(&[gap(11, 20, "vanished")])));
        let gaps = outage.accepted(EndpointId(1), Timestamp(30));
        assert_eq!(gaps, [gap(1, 10, "connection_lost"), gap(11, 20, "vanished"), gap(10, 30, REASON)]);
        assert!(outage.accepted(EndpointId(1), Timestamp(40)).is_empty());
    }

    #[test]
    fn an_outage_whose_gap_is_refused_too_goes_on() {
        let mut outage = Outage::default();
        outage.refused(&records(&[gap(5, 10, REASON)]));
        outage.refused(&records(&[gap(12, 15, REASON)]));
        assert_eq!(outage.accepted(EndpointId(1), Timestamp(30)), [gap(5, 30, REASON)]);
    }
}
