//! The hour is the hour (promise 4), reckoned anew here from the zone's own clock, minute by minute.
//!
//! A boundary that is kept is one; it is kept once, ever; the boundaries passed over since the last one are counted; without
//! a clock step the cut comes within a second; each boundary that passes while the recorder lives and the database works
//! is kept; and no event waits longer than `flush_interval` by the monotonic clock.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{TimeZone, Timelike};
use chrono_tz::Tz;

use super::super::observation::{Answer, Observation, Seen};
use super::super::oracle::Oracle;
use super::{Invariant, Terms};
use crate::clock::Timestamp;
use crate::store::FlushCause;

/// Between boundary and cut without a clock step.
const CUT_WITHIN: Duration = Duration::from_secs(1);
/// From a boundary, or the end of a wait, to the commit.
const COMMIT_WITHIN: Duration = Duration::from_secs(60);
/// A step is noticed within this time.
const STEP_NOTICED_WITHIN: Duration = Duration::from_secs(5);
/// Minutes that are looked through for skipped boundaries; a leap beyond is not counted here.
const MINUTES_SEARCHED_MAX: i64 = 60 * 24 * 7;

/// See the module.
#[derive(Debug)]
pub struct Boundaries {
    timezone: Tz,
    interval: Duration,
    latency: Duration,
    last_kept: Option<Timestamp>,
    /// Boundaries since then whose commit has an unknown outcome.
    in_doubt: BTreeSet<Timestamp>,
    last_life: u32,
}

impl Boundaries {
    /// With zone and interval of a recorder.
    #[must_use]
    pub fn new(terms: &Terms) -> Self {
        let settings = &terms.settings;
        let latency = terms.latency_max * 4;
        Self {
            timezone: settings.timezone,
            interval: settings.flush_interval,
            latency,
            last_kept: None,
            in_doubt: BTreeSet::new(),
            last_life: 0,
        }
    }

    fn is_boundary(&self, at: Timestamp) -> bool {
        let local = self.timezone.from_utc_datetime(&at.to_utc().naive_utc());
        at.0.rem_euclid(Timestamp::SECOND) == 0
            && u64::from(local.num_seconds_from_midnight()).is_multiple_of(self.interval.as_secs())
    }

    /// The last boundary at or before `wall`, looked for minute by minute. Zones with odd seconds left that behind in 1972.
    fn last_until(&self, wall: Timestamp) -> Option<Timestamp> {
        let minute = wall.minute();
        (0..MINUTES_SEARCHED_MAX).map(|back| Timestamp(minute.0 - back * Timestamp::MINUTE)).find(|at| self.is_boundary(*at))
    }

    /// Boundaries between two instants, without both.
    fn passed(&self, from: Timestamp, until: Timestamp) -> usize {
        let minutes = (1..(until.0 - from.0) / Timestamp::MINUTE).map(|minute| Timestamp(from.0 + minute * Timestamp::MINUTE));
        minutes.filter(|at| self.is_boundary(*at)).count()
    }

    fn kept(
        &mut self,
        oracle: &Oracle,
        seen: &Observation,
        boundary: Timestamp,
        cut_at: Timestamp,
        skipped: u32,
    ) -> Result<(), String> {
        if !self.is_boundary(boundary) {
            return Err(format!("{boundary} is no boundary of {:?} in {}", self.interval, self.timezone));
        }
        let same_life = self.last_life == oracle.life;
        self.last_life = oracle.life;
        let Some(last) = self.last_kept.replace(boundary) else { return Ok(()) };
        if boundary <= last {
            return Err(format!("{boundary} was kept although {last} had been kept before"));
        }
        let in_doubt = std::mem::take(&mut self.in_doubt);
        if (boundary.0 - last.0) / Timestamp::MINUTE < MINUTES_SEARCHED_MAX {
            let passed = self.passed(last, boundary);
            let kept_last = std::iter::once(last).chain(in_doubt.into_iter().filter(|doubted| *doubted < boundary));
            if !kept_last.map(|kept| self.passed(kept, boundary)).any(|passed| passed == skipped as usize) {
                return Err(format!("{passed} boundaries passed between {last} and {boundary}, and {skipped} were recorded"));
            }
        }
        let calm = self.interval + STEP_NOTICED_WITHIN;
        let late = cut_at.since(boundary);
        // The commit may come hours after the cut; it is then that the clock was stepped or not.
        let mut cut_when = oracle.when_shown(seen, cut_at).peekable();
        let was_calm = |at| oracle.unstepped_before(at) > calm && oracle.alive_for(at) > calm;
        if same_life && late > CUT_WITHIN + self.latency && cut_when.peek().is_some() && cut_when.all(was_calm) {
            return Err(format!("the cut for {boundary} came {late:?} late"));
        }
        Ok(())
    }
}

impl Invariant for Boundaries {
    fn name(&self) -> &'static str {
        "the hour is the hour"
    }

    fn check(&mut self, oracle: &Oracle, seen: &Observation) -> Result<u64, String> {
        match &seen.seen {
            Seen::Events { batch, answer: Answer::Acknowledged(_) } => match batch.info.boundary {
                Some(boundary) => {
                    let (cut_at, skipped) = (batch.info.cut_at, batch.info.skipped_boundaries);
                    // A commit in doubt is repeated with the same boundary.
                    if self.last_kept == Some(boundary) && batch.maybe_stored {
                        return Ok(0);
                    }
                    self.kept(oracle, seen, boundary, cut_at, skipped).map(|()| 1)
                }
                None if batch.info.cause == FlushCause::Hourly && batch.records.is_empty() => {
                    Err("an hourly flush without boundary and without records".to_owned())
                }
                None => Ok(0),
            },
            Seen::Events { batch, answer: Answer::Unknown } => {
                self.in_doubt.extend(batch.info.boundary);
                Ok(0)
            }
            Seen::Looked(_) => {
                // A batch that is not in memory is read back by the journal, and a slow disk leaves some behind.
                let works_for = oracle.database_works_for(seen.at).min(oracle.without_fault_for("disk", seen.at));
                if works_for.is_zero() {
                    return Ok(0);
                }
                let since = oracle.unstepped_for(seen.at).min(works_for).min(oracle.alive_for(seen.at));
                let due = self.last_until(Timestamp(seen.wall.0 - COMMIT_WITHIN.as_micros() as i64));
                // What is in doubt may be kept, and then the recorder knows it from the database.
                if let (Some(due), Some(last)) = (due, self.last_kept.max(self.in_doubt.last().copied()))
                    && due > last
                    && seen.wall.since(due) + STEP_NOTICED_WITHIN < since
                {
                    return Err(format!("{due} passed {:?} ago and was not kept", seen.wall.since(due)));
                }
                let longest = self.interval + COMMIT_WITHIN + self.latency;
                if let Some(oldest) = oracle.pending.values().find(|pending| pending.certain)
                    && seen.at.saturating_sub(oldest.at) > longest
                    && works_for > longest
                {
                    return Err(format!(
                        "{} has waited for {:?}, longer than the flush interval",
                        oldest.record.id(),
                        seen.at.saturating_sub(oldest.at)
                    ));
                }
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, NOON, committed, terms, update};
    use super::*;
    use crate::event::Record;
    use crate::store::FlushInfo;

    fn checker() -> Boundaries {
        Boundaries::new(&terms())
    }

    fn keep(history: &mut History, minutes: i64, skipped: u32, late_seconds: i64) {
        let boundary = Timestamp(NOON.0 + minutes * Timestamp::MINUTE);
        let cut_at = Timestamp(boundary.0 + late_seconds * Timestamp::SECOND);
        let info = FlushInfo { cause: FlushCause::Hourly, boundary: Some(boundary), skipped_boundaries: skipped, cut_at };
        let nothing: [Record; 0] = [];
        history.flushed(info, &nothing, false, committed(0, 0));
    }

    #[test]
    fn hours_that_are_kept_in_time_are_good() {
        let mut history = History::of(checker());
        for hour in 1..5 {
            history.pass(3_600);
            keep(&mut history, hour * 60, 0, 0);
            history.pass(120).look(|_| ());
            history.pass(0);
        }
        history.is_good();
    }

    #[test]
    fn what_is_no_boundary_is_found() {
        let mut history = History::of(checker());
        keep(&mut history, 61, 0, 0);
        history.is_bad("is no boundary");
    }

    #[test]
    fn a_boundary_that_is_kept_again_after_the_clock_went_back_is_found() {
        let mut history = History::of(checker());
        keep(&mut history, 60, 0, 0);
        history.see(Seen::Stepped { micros: -3_600_000_000 });
        keep(&mut history, 60, 0, 0);
        history.is_bad("had been kept before");
    }

    #[test]
    fn boundaries_passed_over_must_be_counted() {
        let mut history = History::of(checker());
        keep(&mut history, 60, 0, 0);
        keep(&mut history, 240, 2, 0);
        history.is_good();
        keep(&mut history, 360, 0, 0);
        history.is_bad("1 boundaries passed");
    }

    /// Found by seed 101: power was lost when the answer to the commit of a boundary was due; it was stored.
    #[test]
    fn a_boundary_whose_commit_is_in_doubt_may_count_as_kept() {
        for skipped in [1, 2] {
            let mut history = History::of(checker());
            keep(&mut history, 60, 0, 0);
            let boundary = Some(Timestamp(NOON.0 + 120 * Timestamp::MINUTE));
            let info = FlushInfo { cause: FlushCause::Hourly, boundary, skipped_boundaries: 0, cut_at: NOON };
            history.flushed(info, &[], false, Answer::Unknown);
            keep(&mut history, 240, skipped, 0);
            history.is_good();
        }
    }

    /// Found by seed 290036: power was lost as the answer was due, and the next boundary was in doubt once before it was kept.
    #[test]
    fn of_two_boundaries_in_doubt_each_may_count_as_kept() {
        for (skipped, is_good) in [(2, true), (1, true), (0, false)] {
            let mut history = History::of(checker());
            keep(&mut history, 60, 0, 0);
            for minutes in [120, 240] {
                let boundary = Some(Timestamp(NOON.0 + minutes * Timestamp::MINUTE));
                let info = FlushInfo { cause: FlushCause::Hourly, boundary, skipped_boundaries: 0, cut_at: NOON };
                history.flushed(info, &[], false, Answer::Unknown);
            }
            keep(&mut history, 240, skipped, 0);
            if is_good { history.is_good() } else { history.is_bad("2 boundaries passed") }
        }
    }

    /// Found by seed 9820045: power was lost when the answer to the commit of a boundary was due, and the clock went back. When it shows
    /// the boundary again the recorder knows from the database that it was kept.
    #[test]
    fn a_boundary_in_doubt_need_not_be_kept_when_the_clock_shows_it_again() {
        for (in_doubt, is_good) in [(true, true), (false, false)] {
            let mut history = History::of(checker());
            history.pass(3_600);
            keep(&mut history, 60, 0, 0);
            if in_doubt {
                let boundary = Some(Timestamp(NOON.0 + 120 * Timestamp::MINUTE));
                let info = FlushInfo { cause: FlushCause::Hourly, boundary, skipped_boundaries: 0, cut_at: NOON };
                history.flushed(info, &[], false, Answer::Unknown);
            }
            keep_nothing(&mut history);
            history.pass(3_700).look(|_| ());
            if is_good { history.is_good() } else { history.is_bad("was not kept") }
        }
    }

    /// The database works.
    fn keep_nothing(history: &mut History) {
        history.batch(&[update(1, 1)], false, committed(1, 0));
    }

    #[test]
    fn a_late_cut_and_a_boundary_that_is_not_kept_are_found() {
        let mut history = History::of(checker());
        history.pass(7_200);
        keep(&mut history, 60, 0, 0);
        keep(&mut history, 120, 0, 30);
        history.is_bad("came 30s late");
        let mut history = History::of(checker());
        history.pass(3_600);
        keep(&mut history, 60, 0, 0);
        history.pass(3_700).look(|_| ());
        history.is_bad("was not kept");
    }

    /// Found by seeds 3061 and 3106: the database was down, and a cut that a step had made late was committed an hour later.
    #[test]
    fn a_cut_is_late_by_the_clock_of_its_time_and_not_of_its_commit() {
        let mut stepped = History::of(checker());
        stepped.pass(3_600);
        keep(&mut stepped, 60, 0, 0);
        stepped.pass(10).see(Seen::Stepped { micros: 3_610 * Timestamp::SECOND }).pass(7_000);
        keep(&mut stepped, 120, 0, 30);
        stepped.is_good();
        let mut late = History::of(checker());
        late.pass(3_600);
        keep(&mut late, 60, 0, 0);
        late.pass(7_000).see(Seen::Stepped { micros: Timestamp::SECOND });
        keep(&mut late, 120, 0, 30);
        late.is_bad("came 30s late");
    }

    /// Found by seed 3232: the disk was slow, and each batch that waited had to be read back from it.
    #[test]
    fn a_boundary_need_not_be_kept_while_the_disk_is_slow_and_at_once_after() {
        for (slow_for, words) in [(3_700, None), (10, Some("was not kept"))] {
            let mut history = History::of(checker());
            history.pass(3_600);
            keep(&mut history, 60, 0, 0);
            history.look(|_| ()).see(Seen::Fault { name: "disk-slow", on: true }).pass(slow_for);
            history.see(Seen::Fault { name: "disk-slow", on: false }).pass(3_705 - slow_for).look(|_| ());
            match words {
                None => history.is_good(),
                Some(words) => history.is_bad(words),
            }
        }
    }

    #[test]
    fn an_event_that_waits_longer_than_the_interval_is_found() {
        let mut history = History::of(checker());
        history.written("1.events", &[update(1, 1)]).pass(3_700).look(|_| ());
        history.is_bad("has waited for 3700s");
    }
}
