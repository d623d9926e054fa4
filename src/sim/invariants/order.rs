//! Order is kept: ids are written in rising order, batches are committed in the order of their ids, and within an instance
//! the events of a kind stand in the order in which the master made them.
//!
//! Records that are stored by themselves come before their batch, and in the order of their ids too.
//!
//! The master's `time` tells the order of making; between kinds it may run backwards, since a `create` races the first
//! `update`. Leftovers of failed writes may come out of order: their records were refused, and may be stored all the same.

use std::collections::BTreeMap;

use super::super::observation::{Answer, Ended, Observation, Seen};
use super::super::oracle::Oracle;
use super::Invariant;
use crate::clock::Timestamp;
use crate::event::{EventKind, Record, TunnelKey};
use crate::id::EventId;

/// How far `time` may run backwards between two `update` events of an instance, in microseconds.
const BACKWARDS_MICROS_MAX: i64 = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Order {
    last_written: EventId,
    last_in_batch: EventId,
    last_single: EventId,
    made: BTreeMap<TunnelKey, Timestamp>,
}

impl Invariant for Order {
    fn name(&self) -> &'static str {
        "order is kept"
    }

    fn check(&mut self, oracle: &Oracle, observation: &Observation) -> Result<u64, String> {
        match &observation.seen {
            Seen::Written { records, answer: Answer::Acknowledged(()), .. } => {
                for record in records {
                    if record.id() <= self.last_written {
                        return Err(format!("{} was written after {}", record.id(), self.last_written));
                    }
                    self.last_written = record.id();
                    self.made_in_order(record)?;
                }
                Ok(records.len() as u64)
            }
            Seen::Ended(Ended::PowerLost) => {
                // The ids of what was lost may be given again: nobody knows of them any more.
                let kept = oracle.pending.values().rev().find(|pending| pending.certain && oracle.is_durable(pending));
                self.last_written = kept.map_or(EventId::ZERO, |kept| kept.record.id()).max(oracle.stored.last());
                Ok(0)
            }
            Seen::Single { record, answer } => {
                if record.id() <= self.last_single {
                    return Err(format!("{} is stored by itself after {}", record.id(), self.last_single));
                }
                if matches!(answer, Answer::Acknowledged(_)) {
                    self.last_single = record.id();
                }
                Ok(1)
            }
            Seen::Events { batch, answer } => {
                if let Some(pair) = batch.records.windows(2).find(|pair| pair[0].id() >= pair[1].id()) {
                    return Err(format!("in a batch {} stands before {}", pair[0].id(), pair[1].id()));
                }
                let first = batch.records.iter().find(|record| {
                    let known = oracle.pending.get(&record.id());
                    known.is_some_and(|pending| pending.certain && !pending.in_doubt)
                });
                if let Some(first) = first
                    && first.id() < self.last_in_batch
                {
                    return Err(format!("{} is stored after {}", first.id(), self.last_in_batch));
                }
                if let (Some(last), Answer::Acknowledged(_)) = (batch.records.last(), answer) {
                    self.last_in_batch = self.last_in_batch.max(last.id());
                }
                Ok(batch.records.len() as u64)
            }
            _ => Ok(0),
        }
    }
}

impl Order {
    fn made_in_order(&mut self, record: &Record) -> Result<(), String> {
        let Record::Event(event) = record else { return Ok(()) };
        let (Some(made), Some(tunnel)) = (event.event_time, event.tunnel()) else { return Ok(()) };
        match event.kind {
            EventKind::Delete => {
                self.made.remove(&tunnel);
            }
            EventKind::Update => {
                let last = self.made.entry(tunnel).or_insert(made);
                if made.0 + BACKWARDS_MICROS_MAX < last.0 {
                    return Err(format!("{} of {}: made at {made}, stands behind one made at {last}", event.id, event.instance));
                }
                *last = made.max(*last);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, committed, update};
    use super::*;

    #[test]
    fn records_that_are_stored_by_themselves_come_in_order_and_before_their_batch() {
        let single = |id| Seen::Single { record: Box::new(update(id, 1)), answer: Answer::Acknowledged(true) };
        let records = [update(1, 1), update(2, 2), update(3, 3)];
        let mut history = History::of(Order::default());
        history.written("1.events", &records).see(single(2)).see(single(3)).batch(&records, false, committed(1, 0));
        history.is_good();
        let mut history = History::of(Order::default());
        history.written("1.events", &records).see(single(3)).see(single(2));
        history.is_bad("stored by itself after 3");
    }

    #[test]
    fn rising_ids_and_times_are_good() {
        let mut history = History::of(Order::default());
        history.written("1.events", &[update(1, 1), update(2, 2)]).written("2.events", &[update(3, 3)]);
        history.batch(&[update(1, 1), update(2, 2)], false, committed(2, 0)).batch(&[update(3, 3)], false, committed(1, 0));
        history.is_good();
    }

    #[test]
    fn a_batch_that_overtakes_another_is_found() {
        let mut history = History::of(Order::default());
        history.written("1.events", &[update(1, 1)]).written("2.events", &[update(2, 2)]);
        history.batch(&[update(2, 2)], false, committed(1, 0)).batch(&[update(1, 1)], false, committed(1, 0));
        history.is_bad("1 is stored after 2");
    }

    #[test]
    fn ids_out_of_order_within_a_batch_are_found() {
        let mut history = History::of(Order::default());
        history.written("1.events", &[update(1, 1), update(2, 2)]);
        history.batch(&[update(2, 2), update(1, 1)], false, committed(2, 0));
        history.is_bad("2 stands before 1");
    }

    #[test]
    fn two_events_of_an_instance_that_changed_places_are_found() {
        let (Record::Event(mut first), Record::Event(mut second)) = (update(1, 1), update(2, 2)) else { unreachable!() };
        (first.event_time, second.event_time) = (second.event_time, first.event_time);
        let mut history = History::of(Order::default());
        history.written("1.events", &[Record::Event(first), Record::Event(second)]);
        history.is_bad("stands behind one made at");
    }
}
