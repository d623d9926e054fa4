//! History adds up (promise 5): what `tidegate check --history` proves of the database holds, and for each tunnel the stored
//! deltas are the movement of its counters over the records that were written, counted anew here in one piece. Where events were
//! lost, refused or left open the sum may differ from that (the live windows saw what the journal refused), but it is never above
//! what the counters rose at the master itself. Where days expired,
//! what is left is not asked for all that was counted.

use std::collections::BTreeMap;

use super::super::observation::{Answer, Observation, Seen};
use super::super::oracle::Oracle;
use super::Invariant;
use crate::clock::Timestamp;
use crate::event::{Counters, Gap, Record, TunnelKey};
use crate::history::Histories;
use crate::history::figures::sum;
use crate::id::EventId;
use crate::store::{FlushCause, FlushInfo};

/// Rows that are kept before they are summed up.
const ROWS_MAX: usize = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub struct HistoryAddsUp {
    /// As if a reset lasted at no master, and at all of them: which of them it is, the recorder learns from `/info`.
    least: Reckoning,
    most: Reckoning,
    /// As `most`, but as if all had been handed over before a master's restart was known: what an older state brought back stays counted.
    late: Reckoning,
    /// Since when the sum is not exact: something was refused or lost.
    inexact: bool,
}

#[derive(Debug, Default)]
struct Reckoning {
    histories: Histories,
    moved: BTreeMap<TunnelKey, Counters>,
}

impl Reckoning {
    fn note(&mut self, record: &Record) {
        self.histories.observe(record);
        if self.histories.waiting_rows() >= ROWS_MAX {
            self.sum_up();
        }
    }

    fn sum_up(&mut self) {
        let info = FlushInfo { cause: FlushCause::Manual, boundary: None, skipped_boundaries: 0, cut_at: Timestamp(0) };
        for row in self.histories.cut(EventId(1), info, true).into_iter().flat_map(|batch| batch.rows) {
            let moved = self.moved.entry(row.tunnel).or_default();
            *moved = sum(*moved, row.figures.delta);
        }
    }
}

impl Invariant for HistoryAddsUp {
    fn name(&self) -> &'static str {
        "history adds up"
    }

    fn check(&mut self, oracle: &Oracle, observation: &Observation) -> Result<u64, String> {
        match &observation.seen {
            Seen::Written { records, answer: Answer::Acknowledged(()), .. } => {
                for record in records {
                    self.note(record);
                }
                Ok(0)
            }
            Seen::Written { .. } => {
                self.inexact = true;
                Ok(0)
            }
            Seen::Looked(look) => {
                self.inexact |= look.ingest.iter().any(|(_, state)| !state.dropped.is_empty());
                Ok(0)
            }
            Seen::Settled(settled) => {
                if let Some(problem) = settled.audit.history_problems.first() {
                    return Err(problem.clone());
                }
                let stored: BTreeMap<_, _> = settled.audit.moved.iter().map(|(tunnel, moved)| (tunnel, *moved)).collect();
                let exact = !self.inexact && oracle.uncertain == 0 && !oracle.days_expired;
                for (tunnel, at_most) in &settled.moved_at_masters {
                    let stored = stored.get(tunnel).copied().unwrap_or_default();
                    for (name, stored, at_most) in by_counter(stored, *at_most) {
                        if stored > at_most {
                            return Err(format!("{}: {name} moved {at_most} at most, and {stored} is stored", tunnel.instance));
                        }
                    }
                }
                self.least.sum_up();
                self.most.sum_up();
                self.late.sum_up();
                for (tunnel, least) in self.least.moved.iter().filter(|_| exact) {
                    let stored = stored.get(tunnel).copied().unwrap_or_default();
                    let most = self.most.moved.get(tunnel).copied().unwrap_or_default();
                    let most = by_counter(stored, most).map(|(_, _, most)| most);
                    let late = self.late.moved.get(tunnel).copied().unwrap_or_default();
                    let late = by_counter(stored, late).map(|(_, _, late)| late);
                    for (((name, stored, least), most), late) in by_counter(stored, *least).into_iter().zip(most).zip(late) {
                        let (least, most) = (least.min(late), most.max(late));
                        if stored < least || stored > most {
                            return Err(format!("{}: {name} moved {least} to {most}, and {stored} is stored", tunnel.instance));
                        }
                    }
                }
                Ok(self.least.moved.len() as u64)
            }
            _ => Ok(0),
        }
    }
}

impl HistoryAddsUp {
    fn note(&mut self, record: &Record) {
        self.most.histories.learn_version(record.endpoint(), LASTING);
        self.late.histories.learn_version(record.endpoint(), LASTING);
        if matches!(record, Record::Gap(gap) if &*gap.reason == Gap::MASTER_RESTARTED) {
            self.late.sum_up();
        }
        self.least.note(record);
        self.most.note(record);
        self.late.note(record);
    }
}

/// A version at which resets last.
const LASTING: &str = "1.8.2";

fn by_counter(stored: Counters, moved: Counters) -> [(&'static str, u64, u64); 4] {
    [
        ("tcp_rx", stored.tcp_rx, moved.tcp_rx),
        ("tcp_tx", stored.tcp_tx, moved.tcp_tx),
        ("udp_rx", stored.udp_rx, moved.udp_rx),
        ("udp_tx", stored.udp_tx, moved.udp_tx),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, NOON, counters, of_kind, tunnel, update};
    use super::*;
    use crate::event::{EndpointId, EventKind};
    use crate::sim::observation::Settled;

    fn settled(moved: u64) -> Seen {
        let mut settled = Settled::default();
        settled.audit.moved = vec![(tunnel(), counters(moved))];
        Seen::Settled(Box::new(settled))
    }

    fn told(values: &[u64]) -> History {
        let mut history = History::of(HistoryAddsUp::default());
        for (index, value) in values.iter().enumerate() {
            history.written("1.events", &[update(index as i64 + 1, *value)]);
        }
        history
    }

    #[test]
    fn growth_resets_undone_resets_and_falls_are_reckoned() {
        let series =
            [(&[5, 10, 30][..], 25), (&[5, 10, 0, 7], 12), (&[5, 10, 0, 12], 7), (&[5, 10, 0, 12], 17), (&[5, 10, 3, 9], 11)];
        for (values, moved) in series {
            let mut history = told(values);
            history.see(settled(moved));
            history.is_good();
        }
    }

    #[test]
    fn a_partial_window_that_was_dropped_is_found() {
        told(&[5, 10, 30]).see(settled(5)).is_bad("moved 25 to 25, and 5 is stored");
    }

    #[test]
    fn a_fall_that_was_taken_for_a_reset_is_found() {
        told(&[5, 10, 3, 9]).see(settled(14)).is_bad("moved 11 to 11, and 14 is stored");
    }

    /// 100 was reset and rose to 20; the stream began anew with 80, and only then was it known that the master had been started anew.
    #[test]
    fn what_an_older_state_brought_back_may_have_been_handed_over_before_the_restart_was_known() {
        let gap = |id: i64, reason: &str| {
            let at = Timestamp(NOON.0 + id * Timestamp::SECOND);
            let (id, endpoint, instance) = (EventId(id), EndpointId(1), "".into());
            Record::Gap(Gap { id, endpoint, instance, from: at, to: at, reason: reason.into() })
        };
        for (stored, good) in [(24, false), (25, true), (85, true), (86, false)] {
            let mut history = told(&[100, 0, 20]);
            let began =
                [gap(4, "connection_lost"), of_kind(EventKind::Initial, 5, 80), gap(6, Gap::MASTER_RESTARTED), update(7, 85)];
            history.written("1.events", &began).see(settled(stored));
            if good { history.is_good() } else { history.is_bad("moved 25 to 85") }
        }
    }

    #[test]
    fn days_that_expired_are_not_missed() {
        let mut history = told(&[5, 10, 30]);
        let answer = Answer::Acknowledged(crate::retention::Expired { rows: 1, next: None });
        let (before, now) = (Timestamp(0), Timestamp(0));
        history.see(Seen::Expired { what: crate::retention::Expiring::Days, before, now, answer }).see(settled(5));
        history.is_good();
    }

    #[test]
    fn traffic_that_was_counted_twice_is_found_even_where_the_sum_is_inexact() {
        let mut history = told(&[5, 10, 30]);
        history.see(Seen::Written { file: "1.events".into(), records: vec![], bytes: 0, answer: Answer::Refused });
        let Seen::Settled(mut at_end) = settled(50) else { unreachable!() };
        at_end.moved_at_masters = vec![(tunnel(), counters(30))];
        history.see(Seen::Settled(at_end));
        history.is_bad("moved 30 at most, and 50 is stored");
    }

    #[test]
    fn what_the_check_of_the_database_finds_is_a_violation() {
        let mut history = told(&[5, 10]);
        let Seen::Settled(mut at_end) = settled(5) else { unreachable!() };
        at_end.audit.history_problems = vec!["the hour holds less than its minutes".into()];
        history.see(Seen::Settled(at_end));
        history.is_bad("the hour holds less");
    }
}
