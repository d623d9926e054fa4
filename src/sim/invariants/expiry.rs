//! What is kept as long as promised is there, and what was promised to go goes (docs/storage.md, Retention): no step deletes rows that
//! are younger than `retention.*` by a wall clock that was shown, what is missing in the end has expired ([`super::Received`] asks
//! for the rest), a sweep ends at least every hour while the database works, and it leaves nothing behind that was stored
//! before it.
//!
//! Events go by batch: which, the [oracle](Oracle::must_expire_before) reckons from what was committed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::observation::{Answer, Observation, Seen};
use super::super::oracle::Oracle;
use super::{Invariant, Terms};
use crate::clock::Timestamp;
use crate::config::RetentionConfig;
use crate::event::Record;
use crate::id::EventId;
use crate::retention::{Expired, Expiring, LATE_MAX};

/// Beyond the hour: steps between batches, each with its latency.
const SLACK: Duration = Duration::from_secs(600);
/// The levels of history, and by how many seconds at most, in any zone and on the longest day, one of their rows begins before the
/// minutes that it is made of.
const LEVELS: [(Expiring, i64); 3] = [(Expiring::Minutes, 60), (Expiring::Hours, 3_600), (Expiring::Days, 25 * 3_600)];

/// See the module.
#[derive(Debug)]
pub struct Expiry {
    retention: RetentionConfig,
    /// The highest time that the wall clock showed.
    wall_max: Timestamp,
    /// The last sweep of each table that ended: its bound, and when.
    swept: BTreeMap<Expiring, (Timestamp, Duration)>,
    /// Highest id of a batch that was committed.
    flushed: EventId,
    /// Highest id that the last sweep of events and gaps had to look at.
    swept_through: BTreeMap<Expiring, EventId>,
    /// Records that were stored after a sweep of their table that went beyond them.
    late: BTreeMap<Expiring, BTreeSet<EventId>>,
    /// The oldest minute that was added since the last sweep, by table.
    added: BTreeMap<Expiring, Timestamp>,
    /// Events that were deleted in all, and whether a step of unknown outcome may have deleted more.
    deleted: u64,
    deleted_in_doubt: bool,
}

impl Expiry {
    /// With the retention of a recorder.
    #[must_use]
    pub fn new(terms: &Terms) -> Self {
        Self {
            retention: terms.settings.retention.clone(),
            wall_max: Timestamp(i64::MIN),
            swept: BTreeMap::new(),
            flushed: EventId::ZERO,
            swept_through: BTreeMap::new(),
            late: BTreeMap::new(),
            added: BTreeMap::new(),
            deleted: 0,
            deleted_in_doubt: false,
        }
    }

    /// A step deleted so many events, or nobody knows how many. When nothing is left to do, all that had to go must be among them.
    fn events(&mut self, oracle: &Oracle, must: EventId, answer: &Answer<Expired>) -> Result<(), String> {
        match answer {
            Answer::Acknowledged(expired) => self.deleted += expired.rows,
            Answer::Unknown => self.deleted_in_doubt = true,
            Answer::Refused => {}
        }
        if !matches!(answer, Answer::Acknowledged(Expired { next: None, .. })) {
            return Ok(());
        }
        let (due, at_most) = (oracle.events_below(must), oracle.events_below(must.max(oracle.may_be_gone_below())));
        if self.deleted < due && !self.deleted_in_doubt {
            return Err(format!("{due} events should have expired by now, and {} were deleted", self.deleted));
        }
        // What was stored again after it had expired was deleted twice.
        self.deleted = if self.deleted_in_doubt { at_most } else { self.deleted.min(at_most) };
        self.deleted_in_doubt = false;
        Ok(())
    }

    fn step(&self, what: Expiring, before: Timestamp) -> Result<(), String> {
        let Some(kept) = what.kept(&self.retention) else {
            return Err(format!("rows of {} expire, which are kept for ever", what.table()));
        };
        let youngest = self.wall_max.0 - i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
        if before.0 > youngest {
            return Err(format!("rows of {} from before {before} expire, and are kept for {kept:?}", what.table()));
        }
        Ok(())
    }

    fn stored(&mut self, id: EventId) {
        for (table, _) in self.swept_through.iter().filter(|(_, through)| id <= **through) {
            self.late.entry(*table).or_default().insert(id);
        }
    }

    /// What should have gone with the last sweep and is there.
    fn left(&self, oracle: &Oracle, records: &[EventId], oldest: [Option<Timestamp>; 3]) -> Option<String> {
        let outlived = |id: &&EventId| {
            let (table, received) = oracle.received(**id);
            let through = self.swept_through.get(&table).copied().unwrap_or_default();
            let swept = table == Expiring::Events || self.swept.get(&table).is_some_and(|(before, _)| received < *before);
            let late = self.late.get(&table).is_some_and(|late| late.contains(id));
            swept && **id <= through && !late
        };
        if let Some(id) = records.iter().find(outlived) {
            let (table, received) = oracle.received(*id);
            return Some(format!("{id} of {received} is in {} and should have expired", table.table()));
        }
        for ((what, seconds), oldest) in LEVELS.into_iter().zip(oldest) {
            let (Some((before, _)), Some(oldest)) = (self.swept.get(&what), oldest) else { continue };
            let added = self.added.get(&what).map_or(i64::MAX, |added| added.0 - seconds * Timestamp::SECOND);
            if oldest.0 < before.0.min(added) {
                return Some(format!("a row of {oldest} is in {} and should have expired", what.table()));
            }
        }
        None
    }
}

impl Invariant for Expiry {
    fn name(&self) -> &'static str {
        "what is kept stays and what has expired goes"
    }

    fn check(&mut self, oracle: &Oracle, observation: &Observation) -> Result<u64, String> {
        self.wall_max = self.wall_max.max(observation.wall);
        match &observation.seen {
            Seen::Stepped { micros } => self.wall_max = self.wall_max.max(Timestamp(observation.wall.0 - micros)),
            Seen::Expired { what, before, now, answer } => {
                self.step(*what, *before)?;
                if *what == Expiring::Events {
                    self.events(oracle, oracle.must_expire_before(*before, *now), answer)?;
                }
                if matches!(answer, Answer::Acknowledged(expired) if expired.next.is_none()) {
                    self.swept.insert(*what, (*before, observation.at));
                    let through = match what {
                        Expiring::Events => EventId(oracle.must_expire_before(*before, *now).0 - 1),
                        _ => self.flushed,
                    };
                    self.swept_through.insert(*what, through);
                    self.added.remove(what);
                    self.late.remove(what);
                }
                return Ok(1);
            }
            Seen::Events { batch, answer } if *answer != Answer::Refused => {
                batch.records.iter().map(Record::id).for_each(|id| self.stored(id));
                if let (Answer::Acknowledged(_), Some(last)) = (answer, batch.records.last()) {
                    self.flushed = self.flushed.max(last.id());
                }
            }
            Seen::Single { record, answer } if *answer != Answer::Refused => self.stored(record.id()),
            Seen::History { batch, answer } if *answer != Answer::Refused => {
                let Some(first) = batch.rows.iter().map(|row| row.minute).min() else { return Ok(0) };
                for (what, _) in LEVELS {
                    let added = self.added.entry(what).or_insert(first);
                    *added = first.min(*added);
                }
            }
            Seen::Looked(_) => {
                let at = observation.at;
                let within = LATE_MAX + SLACK;
                let works_for = oracle.database_works_for(at).min(oracle.alive_for(at));
                if works_for <= within {
                    return Ok(0);
                }
                let last = self.swept.get(&Expiring::Events).map(|(_, at)| *at);
                if last.is_none_or(|last| at.saturating_sub(last) > within) {
                    return Err(format!("the database has worked for {works_for:?} and events were swept last at {last:?}"));
                }
                return Ok(1);
            }
            Seen::Settled(settled) => {
                let audit = &settled.audit;
                return self.left(oracle, &audit.records, audit.oldest).map_or(Ok(audit.records.len() as u64), Err);
            }
            _ => {}
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, NOON, committed, terms, update};
    use super::*;
    use crate::sim::observation::Settled;

    /// Events are kept for two hours.
    fn history() -> History {
        let mut terms = terms();
        terms.settings.retention.events = Duration::from_secs(7_200);
        History::of(Expiry::new(&terms))
    }

    fn id(second: i64) -> i64 {
        EventId::first_of(Timestamp(NOON.0 + second * Timestamp::SECOND)).0
    }

    /// An event whose id and receipt are of that second.
    fn event(second: i64) -> Record {
        let Record::Event(mut event) = update(0, 1) else { unreachable!() };
        event.id = EventId(id(second));
        event.received_at = Timestamp(NOON.0 + second * Timestamp::SECOND);
        Record::Event(event)
    }

    fn swept(second: i64) -> Seen {
        let answer = Answer::Acknowledged(Expired { rows: 2, next: None });
        let now = Timestamp(NOON.0 + 10_000 * Timestamp::SECOND);
        Seen::Expired { what: Expiring::Events, before: Timestamp(NOON.0 + second * Timestamp::SECOND), now, answer }
    }

    fn holds(ids: &[i64]) -> Seen {
        let mut settled = Settled::default();
        settled.audit.records = ids.iter().map(|id| EventId(*id)).collect();
        Seen::Settled(Box::new(settled))
    }

    #[test]
    fn what_is_older_than_promised_may_go_and_what_is_younger_has_to_stay() {
        let mut history = history();
        history.pass(10_000).see(swept(2_800));
        history.is_good();
        history.see(swept(2_801));
        history.is_bad("rows of endpoint_sse from before");
    }

    #[test]
    fn days_that_are_kept_for_ever_do_not_expire() {
        let mut terms = terms();
        terms.settings.retention.days = None;
        let mut history = History::of(Expiry::new(&terms));
        let answer = Answer::Acknowledged(Expired { rows: 0, next: None });
        history.see(Seen::Expired { what: Expiring::Days, before: Timestamp(0), now: NOON, answer });
        history.is_bad("kept for ever");
    }

    #[test]
    fn an_event_that_a_sweep_left_behind_is_found_and_one_that_came_after_it_is_not() {
        let records = [event(0), event(1)];
        for (left, is_good) in [(vec![], true), (vec![id(1)], false)] {
            let mut history = history();
            history.written("1.events", &records).batch(&records, false, committed(2, 0)).pass(10_000).see(swept(2_800));
            history.see(holds(&left));
            if is_good { history.verdict.clone().unwrap() } else { history.is_bad("should have expired") }
        }
        let mut history = history();
        history.written("1.events", &records).pass(10_000).see(swept(2_800)).batch(&records, false, committed(2, 0));
        history.see(holds(&[id(0), id(1)]));
        history.is_good();
    }

    #[test]
    fn events_that_a_sweep_did_not_delete_are_missed_at_once() {
        let records = [event(0), event(1)];
        for (rows, is_good) in [(2, true), (1, false)] {
            let mut history = history();
            history.written("1.events", &records).batch(&records, false, committed(2, 0)).pass(10_000);
            let Seen::Expired { what, before, now, .. } = swept(2_800) else { unreachable!() };
            history.see(Seen::Expired { what, before, now, answer: Answer::Acknowledged(Expired { rows, next: None }) });
            if is_good { history.is_good() } else { history.is_bad("2 events should have expired by now, and 1 were deleted") }
        }
    }

    #[test]
    fn a_recorder_that_never_sweeps_is_found() {
        let mut history = history();
        history.look(|_| ()).pass(4_000).look(|_| ());
        assert_eq!(history.verdict, Ok(()));
        history.pass(300).look(|_| ());
        history.is_bad("events were swept last at None");
    }

    #[test]
    fn a_minute_that_a_sweep_left_behind_is_found() {
        let mut terms = terms();
        terms.settings.retention.minutes = Duration::from_secs(3_600);
        let mut history = History::of(Expiry::new(&terms));
        let answer = Answer::Acknowledged(Expired { rows: 1, next: None });
        history.pass(7_200).see(Seen::Expired {
            what: Expiring::Minutes,
            before: Timestamp(NOON.0 + 3_600 * Timestamp::SECOND),
            now: NOON,
            answer,
        });
        let mut settled = Settled::default();
        settled.audit.oldest = [Some(NOON), None, None];
        history.see(Seen::Settled(Box::new(settled)));
        history.is_bad("is in service_history");
    }
}
