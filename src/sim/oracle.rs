//! The oracle: what must be true of each record, given what was seen.
//!
//! An attempt has three outcomes: acknowledged, refused, unknown. A write of unknown outcome is never taken for absent,
//! and never demanded either: a record that may or may not have been written may or may not be stored, but once at most.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::observation::{Answer, Ended, Observation, Seen};
use crate::clock::Timestamp;
use crate::event::Record;
use crate::id::EventId;
use crate::retention::Expiring;

/// A record that was written and is not known to be stored.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The record.
    pub record: Record,
    /// The segment that it is in.
    pub file: Arc<str>,
    /// When it was written.
    pub at: Duration,
    /// Its segment was synced since. Whether it is durable also takes its directory: see [`Oracle::is_durable`].
    pub synced: bool,
    /// A sync of its segment failed: the system may have dropped its bytes, and no later sync brings them back.
    pub sync_failed: bool,
    /// It must be stored in the end; else it may be.
    pub certain: bool,
    /// A commit of it has an unknown outcome.
    pub in_doubt: bool,
}

/// A batch of records that was committed, or may have been.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// Its first id.
    pub first: EventId,
    /// Its last id.
    pub last: EventId,
    /// When the first and the last of its records to arrive were received.
    pub received: (Timestamp, Timestamp),
    /// Whether it was acknowledged.
    pub certain: bool,
}

/// docs/storage.md, Retention: through the last old batch before the first young one, and into that one as far as its ids tell time.
/// `holds` says which batches stand in the way of those behind them, `goes` which take along what is before them.
fn expires_before<'a>(
    batches: impl Iterator<Item = &'a Batch> + Clone,
    holds: impl Fn(&Batch) -> bool,
    goes: impl Fn(&Batch) -> bool,
    before: Timestamp,
    now: Timestamp,
) -> EventId {
    let is_old = |batch: &Batch| batch.received.1 < before;
    let young = batches.clone().find(|batch| !is_old(batch) && batch.received.1 <= now && holds(batch));
    let earlier = batches.take_while(|batch| young.is_none_or(|young| batch.first < young.first));
    if let Some(young) = young.filter(|young| goes(young) && young.first.id_clock().millis() >= young.received.0.millis()) {
        let within = EventId::first_of(before).min(EventId(young.last.0 + 1));
        if within > young.first {
            return within;
        }
    }
    earlier.filter(|batch| is_old(batch) && goes(batch)).map(|batch| EventId(batch.last.0 + 1)).max().unwrap_or_default()
}

/// Ids that are known to be stored, compact: eight bytes each.
#[derive(Debug, Default)]
pub struct Ids(Vec<i64>);

impl Ids {
    /// Whether an id is there.
    #[must_use]
    pub fn contains(&self, id: EventId) -> bool {
        match self.0.last() {
            Some(last) if *last >= id.0 => self.0.binary_search(&id.0).is_ok(),
            _ => false,
        }
    }

    /// Adds an id. At the end it costs nothing.
    pub fn insert(&mut self, id: EventId) {
        match self.0.last() {
            Some(last) if *last >= id.0 => {
                if let Err(place) = self.0.binary_search(&id.0) {
                    self.0.insert(place, id.0);
                }
            }
            _ => self.0.push(id.0),
        }
    }

    /// How many are below an id.
    #[must_use]
    pub fn below(&self, id: EventId) -> usize {
        self.0.partition_point(|known| *known < id.0)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without ids.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, rising.
    pub fn iter(&self) -> impl Iterator<Item = EventId> {
        self.0.iter().map(|id| EventId(*id))
    }

    /// The highest.
    #[must_use]
    pub fn last(&self) -> EventId {
        EventId(self.0.last().copied().unwrap_or_default())
    }
}

/// See the module. It is folded over the observations; the invariants see it as it was before each one.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Written and not known to be stored.
    pub pending: BTreeMap<EventId, Pending>,
    /// Known to be stored.
    pub stored: Ids,
    /// Highest id that was ever written.
    pub highest: EventId,
    /// Records written for certain.
    pub written: u64,
    /// Records whose fate was left open by a loss of power or a failed write.
    pub uncertain: u64,
    /// Highest `through` of history that is durable in the database.
    pub history_stored: EventId,
    /// Whether a fault goes on, and when it last began or ended, by its name.
    faults: BTreeMap<&'static str, (bool, Duration)>,
    /// Since when calls of the database succeed.
    works_since: Option<Duration>,
    /// Number of the running recorder; 0 while there is none.
    pub life: u32,
    /// Since when it runs.
    pub alive_since: Option<Duration>,
    /// When the wall clock was stepped, and by how many microseconds.
    steps: Vec<(Duration, i64)>,
    /// Segments that were made since the directory was synced.
    unlinked: BTreeSet<Arc<str>>,
    /// Batches that were given to the database, by their ids.
    batches: BTreeMap<(EventId, EventId), Batch>,
    /// Events before this id may have expired.
    may_be_gone: EventId,
    /// Rows of tables but the events' from before this may have expired.
    expired: BTreeMap<Expiring, Timestamp>,
    /// Whether days of history may have expired: what is left is not all that was counted.
    pub days_expired: bool,
    /// When the records were received whose id does not say it: gaps, and events after a step back of the clock.
    received: BTreeMap<EventId, (Expiring, Timestamp)>,
    /// All faults are over.
    pub healed: bool,
}

impl Oracle {
    /// Takes an observation in.
    pub fn fold(&mut self, observation: &Observation) {
        let at = observation.at;
        match &observation.seen {
            Seen::Started { life } => {
                (self.life, self.alive_since) = (*life, Some(at));
                self.works_since.get_or_insert(at);
            }
            Seen::Written { file, records, answer, .. } => self.fold_written(at, file, records, *answer),
            Seen::Created { file } => {
                self.unlinked.insert(Arc::clone(file));
            }
            Seen::DirectorySynced => self.unlinked.clear(),
            Seen::Removed { file } => {
                self.unlinked.remove(file);
            }
            Seen::Synced { file, ok } => self.fold_synced(file, *ok),
            Seen::Events { batch, answer } => {
                self.fold_call(at, *answer);
                self.fold_batch(&batch.records, *answer);
                for record in batch.records.iter() {
                    let id = record.id();
                    self.fold_gap_in_memory(at, record);
                    match answer {
                        Answer::Acknowledged(_) => {
                            self.pending.remove(&id);
                            self.stored.insert(id);
                        }
                        Answer::Unknown => {
                            if let Some(pending) = self.pending.get_mut(&id) {
                                pending.in_doubt = true;
                            }
                        }
                        Answer::Refused => {}
                    }
                }
            }
            Seen::Single { record, answer } => {
                self.fold_call(at, *answer);
                self.fold_gap_in_memory(at, record);
                let id = record.id();
                match answer {
                    Answer::Acknowledged(_) => {
                        self.pending.remove(&id);
                        self.stored.insert(id);
                    }
                    Answer::Unknown => {
                        if let Some(pending) = self.pending.get_mut(&id) {
                            pending.in_doubt = true;
                        }
                    }
                    Answer::Refused => {}
                }
            }
            Seen::History { batch, answer } => {
                self.fold_call(at, *answer);
                if matches!(answer, Answer::Acknowledged(_)) {
                    self.history_stored = self.history_stored.max(batch.through);
                }
            }
            Seen::Live { answer, .. } => self.fold_call(at, *answer),
            Seen::Expired { what, before, now, answer } => {
                self.fold_call(at, answer.clone().map(|_| ()));
                if !matches!(answer, Answer::Refused) {
                    self.days_expired |= *what == Expiring::Days;
                    if *what == Expiring::Events {
                        self.may_be_gone = self.may_be_gone.max(self.may_expire_before(*before, *now));
                    }
                    let expired = self.expired.entry(*what).or_insert(*before);
                    *expired = (*before).max(*expired);
                }
            }
            Seen::Fault { name, on } => {
                self.faults.insert(name, (*on, at));
                if name.starts_with("database") {
                    // A call that began during the fault may still take its time.
                    self.works_since = None;
                }
            }
            Seen::Stepped { micros } => self.steps.push((at, *micros)),
            Seen::Ended(ended) => {
                (self.life, self.alive_since, self.works_since) = (0, None, None);
                self.faults.remove("stopping");
                if *ended == Ended::PowerLost {
                    self.fold_power_loss();
                }
            }
            Seen::Healed => self.healed = true,
            Seen::HistoryWritten { .. }
            | Seen::Switched { .. }
            | Seen::Defined
            | Seen::Logged { .. }
            | Seen::Looked(_)
            | Seen::Settled(_) => {}
        }
    }

    fn fold_written(&mut self, at: Duration, file: &Arc<str>, records: &[Record], answer: Answer<()>) {
        let certain = match answer {
            Answer::Acknowledged(()) => true,
            Answer::Unknown => false,
            Answer::Refused => return,
        };
        for record in records {
            let id = record.id();
            self.highest = self.highest.max(id);
            let (received, is_gap) = (record.received_at(), matches!(record, Record::Gap(_)));
            if is_gap || received.millis() != id.id_clock().millis() {
                let table = if is_gap { Expiring::Gaps } else { Expiring::Events };
                self.received.insert(id, (table, received));
            }
            *(if certain { &mut self.written } else { &mut self.uncertain }) += 1;
            let (record, file) = (record.clone(), Arc::clone(file));
            let pending = Pending { record, file, at, synced: false, sync_failed: false, certain, in_doubt: false };
            self.pending.insert(id, pending);
        }
    }

    /// A gap for which the journal had no room waits in memory, and no write showed it if not even its segment could be begun.
    fn fold_gap_in_memory(&mut self, at: Duration, record: &Record) {
        let id = record.id();
        if matches!(record, Record::Gap(_)) && !self.pending.contains_key(&id) && !self.stored.contains(id) {
            self.fold_written(at, &Arc::from("memory"), std::slice::from_ref(record), Answer::Unknown);
        }
    }

    fn fold_batch<T>(&mut self, records: &[Record], answer: Answer<T>) {
        let received = records.iter().map(Record::received_at);
        let Some(received) = received.clone().min().zip(received.max()).filter(|_| !matches!(answer, Answer::Refused)) else {
            return;
        };
        let (Some(first), Some(last)) = (records.first().map(Record::id), records.last().map(Record::id)) else { return };
        let batch = Batch { first, last, received, certain: false };
        self.batches.entry((first, last)).or_insert(batch).certain |= matches!(answer, Answer::Acknowledged(_));
    }

    fn fold_synced(&mut self, file: &Arc<str>, ok: bool) {
        // A segment is synced when its records are the newest, so the search ends soon.
        for pending in self.pending.values_mut().rev() {
            if pending.file == *file {
                if pending.synced {
                    break;
                }
                pending.sync_failed |= !ok;
                pending.synced = !pending.sync_failed;
            }
        }
    }

    /// What was not synced may be there or not.
    fn fold_power_loss(&mut self) {
        let Self { pending, unlinked, .. } = self;
        let kept = |pending: &Pending| pending.synced && !unlinked.contains(&pending.file);
        for pending in pending.values_mut().filter(|pending| pending.certain && !kept(pending)) {
            pending.certain = false;
            self.written -= 1;
            self.uncertain += 1;
        }
        self.unlinked.clear();
    }

    fn fold_call<T: Copy>(&mut self, at: Duration, answer: Answer<T>) {
        match answer {
            Answer::Acknowledged(_) => {
                self.works_since.get_or_insert(at);
            }
            Answer::Refused | Answer::Unknown => self.works_since = None,
        }
    }

    /// In which table a record that was stored stands, and when it was received.
    #[must_use]
    pub fn received(&self, id: EventId) -> (Expiring, Timestamp) {
        self.received.get(&id).copied().unwrap_or((Expiring::Events, id.id_clock()))
    }

    /// The id before which a step that deletes events of before `before`, while the clock shows `now`, may delete.
    fn may_expire_before(&self, before: Timestamp, now: Timestamp) -> EventId {
        expires_before(self.batches.values(), |batch| batch.certain, |_| true, before, now)
    }

    /// The id before which such a step, when it has nothing left to do, must have deleted all.
    #[must_use]
    pub fn must_expire_before(&self, before: Timestamp, now: Timestamp) -> EventId {
        expires_before(self.batches.values(), |_| true, |batch| batch.certain, before, now)
    }

    /// Events with an id below this that were stored, whether they have expired or not.
    #[must_use]
    pub fn events_below(&self, id: EventId) -> u64 {
        let gaps = self.received.range(..id).filter(|(id, (table, _))| *table == Expiring::Gaps && self.stored.contains(**id));
        (self.stored.below(id) - gaps.count()) as u64
    }

    /// The id below which events may have expired.
    #[must_use]
    pub fn may_be_gone_below(&self) -> EventId {
        self.may_be_gone
    }

    /// Whether a record that was stored need not be there any more.
    #[must_use]
    pub fn may_have_expired(&self, id: EventId) -> bool {
        let (table, received) = self.received(id);
        if table == Expiring::Events {
            return id < self.may_be_gone;
        }
        self.expired.get(&table).is_some_and(|before| received < *before)
    }

    /// Whether a fault goes on.
    #[must_use]
    pub fn faulty(&self, name: &str) -> bool {
        self.faults.get(name).is_some_and(|(on, _)| *on)
    }

    /// Whether the disk failed in the life of the present recorder: gaps may wait in memory that no write has shown.
    #[must_use]
    pub fn may_hold_unseen(&self, record: &Record, at: Duration) -> bool {
        matches!(record, Record::Gap(_)) && self.without_fault_for("disk", at) < self.alive_for(at)
    }

    /// Whether any fault with one of these beginnings goes on.
    #[must_use]
    pub fn any_fault(&self, beginnings: &[&str]) -> bool {
        self.faults.iter().any(|(name, (on, _))| *on && beginnings.iter().any(|beginning| name.starts_with(beginning)))
    }

    /// How long no fault with this beginning has gone on, as of `at`.
    #[must_use]
    pub fn without_fault_for(&self, beginning: &str, at: Duration) -> Duration {
        let faults = self.faults.iter().filter(|(name, _)| name.starts_with(beginning));
        let since = faults.map(|(_, (on, changed))| if *on { at } else { *changed }).max();
        since.map_or(Duration::MAX, |since| at.saturating_sub(since))
    }

    /// How long the recorder and its database have worked without a failed call, as of `at`.
    #[must_use]
    pub fn database_works_for(&self, at: Duration) -> Duration {
        match (self.works_since, self.alive_since) {
            (Some(works), Some(alive)) if !self.any_fault(&["database"]) => at.saturating_sub(works.max(alive)),
            _ => Duration::ZERO,
        }
    }

    /// How long the recorder has lived, as of `at`.
    #[must_use]
    pub fn alive_for(&self, at: Duration) -> Duration {
        self.alive_since.map_or(Duration::ZERO, |since| at.saturating_sub(since))
    }

    /// How long the wall clock has not been stepped, as of `at`.
    #[must_use]
    pub fn unstepped_for(&self, at: Duration) -> Duration {
        self.steps.last().map_or(Duration::MAX, |(stepped, _)| at.saturating_sub(*stepped))
    }

    /// Whether a loss of power leaves a record: its segment is synced, and so is the directory that names it.
    #[must_use]
    pub fn is_durable(&self, pending: &Pending) -> bool {
        pending.synced && self.is_linked(&pending.file)
    }

    /// Whether the directory was synced since a segment was made.
    #[must_use]
    pub fn is_linked(&self, file: &Arc<str>) -> bool {
        !self.unlinked.contains(file)
    }

    /// The true times at which the wall clock showed `wall`, as of an observation: after a step back it shows the same once more.
    pub fn when_shown(&self, observation: &Observation, wall: Timestamp) -> impl Iterator<Item = Duration> {
        let mut offset = observation.wall.0 - observation.at.as_micros() as i64;
        let mut until = Duration::MAX;
        let first = (Duration::ZERO, 0);
        self.steps.iter().rev().chain([&first]).copied().collect::<Vec<_>>().into_iter().filter_map(move |(from, micros)| {
            let shown = u64::try_from(wall.0 - offset).ok().map(Duration::from_micros);
            let shown = shown.filter(|shown| (from..until).contains(shown));
            (offset, until) = (offset - micros, from);
            shown
        })
    }

    /// How long before `at` the wall clock was stepped last.
    #[must_use]
    pub fn unstepped_before(&self, at: Duration) -> Duration {
        let before = self.steps.iter().rev().find(|(stepped, _)| *stepped <= at);
        before.map_or(Duration::MAX, |(stepped, _)| at.saturating_sub(*stepped))
    }
}

#[cfg(test)]
mod tests {
    use super::super::invariants::made_up::{History, NOON, committed, update};
    use super::*;

    #[test]
    fn an_acknowledged_record_must_be_stored_and_a_doubtful_one_may_be() {
        let mut history = History::told();
        history.written("1.events", &[update(1, 10)]);
        history.see(Seen::Written { file: "1.events".into(), records: vec![update(2, 20)], bytes: 90, answer: Answer::Unknown });
        let certain: Vec<bool> = history.oracle.pending.values().map(|pending| pending.certain).collect();
        assert_eq!(certain, [true, false]);
    }

    #[test]
    fn power_lost_leaves_open_what_was_not_synced_only() {
        let mut history = History::told();
        history.written("1.events", &[update(1, 10)]);
        history.see(Seen::Synced { file: "1.events".into(), ok: true });
        history.written("1.events", &[update(2, 20)]);
        history.see(Seen::Ended(Ended::PowerLost));
        let certain: Vec<bool> = history.oracle.pending.values().map(|pending| pending.certain).collect();
        assert_eq!(certain, [true, false]);
    }

    /// Found by seeds 3080 and 3095: power was lost between the sync of a new segment and that of the directory.
    #[test]
    fn power_lost_takes_a_synced_segment_whose_directory_was_not_synced() {
        for directory_synced in [false, true] {
            let mut history = History::told();
            history.see(Seen::Created { file: "1.events".into() }).written("1.events", &[update(1, 10)]);
            history.see(Seen::Synced { file: "1.events".into(), ok: true });
            if directory_synced {
                history.see(Seen::DirectorySynced);
            }
            history.see(Seen::Ended(Ended::PowerLost));
            assert_eq!(history.oracle.pending[&EventId(1)].certain, directory_synced);
        }
    }

    #[test]
    fn what_the_wall_clock_shows_again_after_a_step_back_was_shown_twice() {
        let mut history = History::told();
        history.pass(100).see(Seen::Stepped { micros: -60 * Timestamp::SECOND }).pass(100);
        let now =
            Observation { at: Duration::from_secs(200), wall: Timestamp(NOON.0 + 140 * Timestamp::SECOND), seen: Seen::Defined };
        let shown = |second: i64| -> Vec<u64> {
            let wall = Timestamp(NOON.0 + second * Timestamp::SECOND);
            history.oracle.when_shown(&now, wall).map(|at| at.as_secs()).collect()
        };
        assert_eq!((shown(120), shown(50), shown(20)), (vec![180], vec![110, 50], vec![20]));
        assert_eq!(history.oracle.unstepped_before(Duration::from_secs(110)), Duration::from_secs(10));
    }

    #[test]
    fn a_commit_in_doubt_is_neither_stored_nor_forgotten() {
        let mut history = History::told();
        history.written("1.events", &[update(1, 10)]);
        history.batch(&[update(1, 10)], false, Answer::Unknown);
        assert!(history.oracle.pending[&EventId(1)].in_doubt && history.oracle.stored.is_empty());
        history.batch(&[update(1, 10)], true, committed(0, 1));
        assert!(history.oracle.pending.is_empty() && history.oracle.stored.contains(EventId(1)));
    }
}
