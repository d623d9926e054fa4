//! History adds up (promise 5): for each tunnel the stored deltas equal the movement of its counters over the stored
//! events, reckoned anew here. Where events were lost, refused or left open the sum may differ from that (the live windows saw
//! what the journal refused), but it is never above what the counters rose at the master itself.

use std::collections::BTreeMap;

use super::super::observation::{Answer, Observation, Seen};
use super::super::oracle::Oracle;
use super::Invariant;
use crate::event::{Counters, EventKind, Gap, Record, TunnelKey};

/// See the module.
#[derive(Debug, Default)]
pub struct HistoryAddsUp {
    tunnels: BTreeMap<TunnelKey, Movement>,
    /// Since when the sum is not exact: something was refused or lost.
    inexact: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Movement {
    last: Option<Counters>,
    before_reset: Option<Counters>,
    moved: Counters,
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
                let stored: BTreeMap<_, _> = settled.audit.moved.iter().map(|(tunnel, moved)| (tunnel, *moved)).collect();
                let exact = !self.inexact && oracle.uncertain == 0;
                for (tunnel, at_most) in &settled.moved_at_masters {
                    let stored = stored.get(tunnel).copied().unwrap_or_default();
                    for (name, stored, at_most) in by_counter(stored, *at_most) {
                        if stored > at_most {
                            return Err(format!("{}: {name} moved {at_most} at most, and {stored} is stored", tunnel.instance));
                        }
                    }
                }
                for (tunnel, movement) in self.tunnels.iter().filter(|_| exact) {
                    let stored = stored.get(tunnel).copied().unwrap_or_default();
                    for (name, stored, moved) in by_counter(stored, movement.moved) {
                        if stored != moved {
                            return Err(format!("{}: {name} moved {moved}, and {stored} is stored", tunnel.instance));
                        }
                    }
                }
                Ok(self.tunnels.len() as u64)
            }
            _ => Ok(0),
        }
    }
}

fn by_counter(stored: Counters, moved: Counters) -> [(&'static str, u64, u64); 4] {
    [
        ("tcp_rx", stored.tcp_rx, moved.tcp_rx),
        ("tcp_tx", stored.tcp_tx, moved.tcp_tx),
        ("udp_rx", stored.udp_rx, moved.udp_rx),
        ("udp_tx", stored.udp_tx, moved.udp_tx),
    ]
}

impl HistoryAddsUp {
    fn note(&mut self, record: &Record) {
        match record {
            Record::Event(event) => {
                let (Some(tunnel), Some(sample)) = (event.tunnel(), &event.sample) else { return };
                let movement = self.tunnels.entry(tunnel).or_default();
                movement.count(sample.counters);
                if event.kind == EventKind::Delete {
                    (movement.last, movement.before_reset) = (None, None);
                }
            }
            Record::Gap(gap) if gap.reason.as_ref() == Gap::VANISHED => {
                let tunnel = TunnelKey { endpoint: gap.endpoint, instance: gap.instance.clone() };
                if let Some(movement) = self.tunnels.get_mut(&tunnel) {
                    (movement.last, movement.before_reset) = (None, None);
                }
            }
            Record::Gap(_) => {}
        }
    }
}

impl Movement {
    /// Growth counts; a fall counts nothing; the report that undoes a reset counts from before the reset.
    fn count(&mut self, now: Counters) {
        let Some(last) = self.last.replace(now) else { return };
        let zero = Counters::default();
        let undone = self.before_reset.filter(|old| *old != zero && not_below(now, *old));
        let from = undone.or_else(|| not_below(now, last).then_some(last));
        self.before_reset = match from {
            None if now == zero => Some(last),
            _ if now == zero => self.before_reset,
            _ => None,
        };
        if let Some(from) = from {
            add(&mut self.moved, now, from);
        }
    }
}

fn not_below(now: Counters, before: Counters) -> bool {
    now.tcp_rx >= before.tcp_rx && now.tcp_tx >= before.tcp_tx && now.udp_rx >= before.udp_rx && now.udp_tx >= before.udp_tx
}

fn add(sum: &mut Counters, now: Counters, from: Counters) {
    sum.tcp_rx += now.tcp_rx - from.tcp_rx;
    sum.tcp_tx += now.tcp_tx - from.tcp_tx;
    sum.udp_rx += now.udp_rx - from.udp_rx;
    sum.udp_tx += now.udp_tx - from.udp_tx;
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, counters, tunnel, update};
    use super::*;
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
        for (values, moved) in [(&[5, 10, 30][..], 25), (&[5, 10, 0, 7], 12), (&[5, 10, 0, 12], 7), (&[5, 10, 3, 9], 11)] {
            let mut history = told(values);
            history.see(settled(moved));
            history.is_good();
        }
    }

    #[test]
    fn a_partial_window_that_was_dropped_is_found() {
        told(&[5, 10, 30]).see(settled(5)).is_bad("moved 25, and 5 is stored");
    }

    #[test]
    fn a_fall_that_was_taken_for_a_reset_is_found() {
        told(&[5, 10, 3, 9]).see(settled(14)).is_bad("moved 11, and 14 is stored");
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
}
