//! What expires when, and in how small steps it is deleted.
//!
//! A sweep walks all tables once, in steps of so many rows; a step that took too long halves the next ones. The plan decides,
//! the FlushActor carries out, one step between two batches.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::RetentionConfig;

/// A step that took longer halves the next ones of its table: it holds up a batch or a sync by no more.
pub const STEP_MAX: Duration = Duration::from_millis(50);
/// Rows of the first step.
const ROWS_FIRST: u32 = 500;
/// Fewest rows of a step, with which a table still shrinks faster than a fleet of 1,000 tunnels fills it.
const ROWS_MIN: u32 = 50;
/// Most rows of a step.
const ROWS_MAX: u32 = 10_000;
/// From the beginning of one sweep to that of the next. Each dirties a page per tunnel and level, so it is not short.
const SWEEP_EVERY: Duration = Duration::from_secs(30 * 60);
/// From the start to the first sweep.
const SWEEP_FIRST: Duration = Duration::from_secs(60);
/// A fleet of 65 tunnels makes 1,100 flushes a day, 10 MB in 90 days. Longer than this they are kept for the events of theirs that are.
pub const FLUSHES_MAX: Duration = Duration::from_secs(14 * 86_400);
/// A table that is this much older than promised is an alarm, once the recorder has run that long.
pub const LATE_MAX: Duration = Duration::from_secs(3_600);

/// What expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expiring {
    /// `endpoint_sse`.
    Events,
    /// `service_history`.
    Minutes,
    /// `history_minute_totals`.
    MinuteTotals,
    /// `history_hours`.
    Hours,
    /// `history_hour_totals`.
    HourTotals,
    /// `counter_events`. Before the days: an account that is closed with its last day has none any more.
    CounterEvents,
    /// `history_days`.
    Days,
    /// `history_day_totals`.
    DayTotals,
    /// `gaps`.
    Gaps,
    /// `quarantine`.
    Quarantine,
    /// `flushes`.
    Flushes,
    /// Pages that are free in the file are given back to the system (SQLite).
    Space,
}

impl Expiring {
    /// All, in the order of a sweep.
    pub const ALL: [Self; 12] = [
        Self::Events,
        Self::Minutes,
        Self::MinuteTotals,
        Self::Hours,
        Self::HourTotals,
        Self::CounterEvents,
        Self::Days,
        Self::DayTotals,
        Self::Gaps,
        Self::Quarantine,
        Self::Flushes,
        Self::Space,
    ];

    /// The table's name.
    #[must_use]
    pub fn table(self) -> &'static str {
        match self {
            Self::Events => "endpoint_sse",
            Self::Minutes => "service_history",
            Self::MinuteTotals => "history_minute_totals",
            Self::Hours => "history_hours",
            Self::HourTotals => "history_hour_totals",
            Self::CounterEvents => "counter_events",
            Self::Days => "history_days",
            Self::DayTotals => "history_day_totals",
            Self::Gaps => "gaps",
            Self::Quarantine => "quarantine",
            Self::Flushes => "flushes",
            Self::Space => "free pages",
        }
    }

    /// How long its rows are kept; `None` is for ever. Gaps explain the charts of hours; quarantine and flushes say what became of
    /// events, flushes for two weeks where hours are kept longer ([`FLUSHES_MAX`]); what is said of counters is part of the proof of the
    /// days.
    #[must_use]
    pub fn kept(self, retention: &RetentionConfig) -> Option<Duration> {
        match self {
            Self::Events => Some(retention.events),
            Self::Minutes | Self::MinuteTotals => Some(retention.minutes),
            Self::Hours | Self::HourTotals => Some(retention.hours),
            Self::CounterEvents | Self::Days | Self::DayTotals => retention.days,
            Self::Gaps | Self::Quarantine => Some(retention.hours.max(retention.events)),
            Self::Flushes => Some(retention.hours.min(FLUSHES_MAX).max(retention.events)),
            Self::Space => Some(Duration::ZERO),
        }
    }
}

/// Where a step goes on: after the rows of this endpoint and instance.
pub type Cursor = Option<(i32, String)>;

/// One step of a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Which table.
    pub what: Expiring,
    /// Rows from before this expire.
    pub before: Timestamp,
    /// What the wall clock shows: a row that is dated after it was dated by a clock ahead.
    pub now: Timestamp,
    /// Most rows, or pages, of this step.
    pub rows: u32,
    /// Where the step before it ended.
    pub after: Cursor,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Rows deleted, or pages given back.
    pub rows: u64,
    /// Where the next step goes on; `None` if nothing of the table is left to expire.
    pub next: Option<Cursor>,
}

/// See the module.
#[derive(Debug)]
pub struct Plan {
    retention: RetentionConfig,
    /// Rows per step, by table, where it is not the first one's.
    rows: BTreeMap<Expiring, u32>,
    /// The step that is next, of the sweep that goes on.
    step: Option<Expiry>,
    /// When the next sweep is due, by the monotonic clock since the start.
    due: Duration,
    /// Through when each table was swept last.
    swept: BTreeMap<Expiring, Timestamp>,
}

impl Plan {
    /// A plan whose first sweep is due when the recorder has settled: what the journal holds from before is stored first.
    #[must_use]
    pub fn new(retention: RetentionConfig) -> Self {
        Self { retention, rows: BTreeMap::new(), step: None, due: SWEEP_FIRST, swept: BTreeMap::new() }
    }

    /// The step to take now, if one is due. `uptime` is the time since the start, `now` the wall clock's.
    pub fn next(&mut self, uptime: Duration, now: Timestamp) -> Option<Expiry> {
        if self.step.is_none() && uptime >= self.due {
            self.due = uptime + SWEEP_EVERY;
            self.step = self.first_from(Expiring::ALL.first().copied(), now);
        }
        self.step.clone()
    }

    /// A step is done, and took so long.
    pub fn done(&mut self, step: &Expiry, expired: Expired, took: Duration, now: Timestamp) {
        let rows = self.rows.entry(step.what).or_insert(ROWS_FIRST);
        if took > STEP_MAX {
            *rows = (*rows / 2).max(ROWS_MIN);
        } else if took < STEP_MAX / 4 && expired.rows >= u64::from(step.rows) {
            *rows = (*rows * 2).min(ROWS_MAX);
        }
        let rows = *rows;
        self.step = match expired.next {
            Some(after) => Some(Expiry { rows, after, ..step.clone() }),
            None => {
                self.swept.insert(step.what, step.before);
                let following = Expiring::ALL.into_iter().find(|what| *what > step.what);
                self.first_from(following, now)
            }
        };
    }

    /// The first step of that table, or of the next one that expires at all.
    fn first_from(&self, what: Option<Expiring>, now: Timestamp) -> Option<Expiry> {
        let from = what?;
        Expiring::ALL.into_iter().filter(|what| *what >= from).find_map(|what| {
            let kept = what.kept(&self.retention)?;
            let rows = self.rows.get(&what).copied().unwrap_or(ROWS_FIRST);
            Some(Expiry { what, before: before(now, kept), now, rows, after: None })
        })
    }

    /// Tables that hold rows which should have been gone for more than an hour. Nothing in the first hour.
    #[must_use]
    pub fn late(&self, uptime: Duration, now: Timestamp) -> Vec<Expiring> {
        if uptime < LATE_MAX {
            return Vec::new();
        }
        let is_late = |what: &Expiring| {
            let kept = what.kept(&self.retention).filter(|_| *what != Expiring::Space);
            kept.is_some_and(|kept| {
                let promised = before(now, kept.saturating_add(LATE_MAX));
                self.swept.get(what).is_none_or(|swept| *swept < promised)
            })
        };
        Expiring::ALL.into_iter().filter(is_late).collect()
    }
}

/// The instant before which rows that are kept so long expire.
#[must_use]
pub fn before(now: Timestamp, kept: Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(kept.as_micros()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp(1_795_435_200_000_000);
    const DAY: Duration = Duration::from_secs(86_400);
    const MILLIS: Duration = Duration::from_millis(1);

    fn retention() -> RetentionConfig {
        RetentionConfig { events: DAY, minutes: 7 * DAY, hours: 90 * DAY, days: None }
    }

    fn all(rows: u64) -> Expired {
        Expired { rows, next: None }
    }

    #[test]
    fn flushes_are_kept_for_two_weeks_at_most_unless_events_are_kept_longer() {
        let kept =
            |hours, events| Expiring::Flushes.kept(&RetentionConfig { hours: hours * DAY, events: events * DAY, ..retention() });
        assert_eq!([kept(90, 1), kept(7, 1), kept(7, 400)], [14, 7, 400].map(|days| Some(days * DAY)));
    }

    #[test]
    fn a_sweep_walks_all_tables_but_those_that_are_kept_for_ever() {
        let mut plan = Plan::new(retention());
        assert_eq!(plan.next(SWEEP_FIRST - MILLIS, NOON), None);
        let mut walked = Vec::new();
        while let Some(step) = plan.next(SWEEP_FIRST, NOON) {
            walked.push((step.what, NOON.since(step.before)));
            plan.done(&step, all(0), MILLIS, NOON);
        }
        assert_eq!(walked[0], (Expiring::Events, DAY));
        assert_eq!(walked[1], (Expiring::Minutes, 7 * DAY));
        assert_eq!(walked.len(), 9, "{walked:?}");
        assert_eq!(plan.next(SWEEP_FIRST + SWEEP_EVERY - MILLIS, NOON), None);
        assert!(plan.next(SWEEP_FIRST + SWEEP_EVERY, NOON).is_some());
    }

    #[test]
    fn a_table_is_swept_until_nothing_is_left_of_it() {
        let mut plan = Plan::new(retention());
        let first = plan.next(SWEEP_FIRST, NOON).unwrap();
        let cursor = Some((3, "aaaa0001".to_owned()));
        plan.done(&first, Expired { rows: 7, next: Some(cursor.clone()) }, MILLIS, NOON);
        let second = plan.next(SWEEP_FIRST, NOON).unwrap();
        assert_eq!((second.what, second.before, second.after), (first.what, first.before, cursor));
    }

    #[test]
    fn a_step_that_took_too_long_halves_the_next_and_quick_ones_grow_back() {
        let mut plan = Plan::new(retention());
        let mut sizes = Vec::new();
        for took in [60, 60, 60, 60, 1, 1, 30, 1] {
            let step = plan.next(SWEEP_FIRST, NOON).unwrap();
            sizes.push(step.rows);
            let expired = Expired { rows: u64::from(step.rows), next: Some(None) };
            plan.done(&step, expired, Duration::from_millis(took), NOON);
        }
        assert_eq!(sizes, [500, 250, 125, 62, 50, 100, 200, 200]);
    }

    #[test]
    fn a_table_that_was_not_swept_is_late_an_hour_after_the_start() {
        let mut plan = Plan::new(retention());
        assert!(plan.late(LATE_MAX - MILLIS, NOON).is_empty());
        assert_eq!(plan.late(LATE_MAX, NOON).len(), 8);
        while let Some(step) = plan.next(SWEEP_FIRST, NOON) {
            plan.done(&step, all(0), MILLIS, NOON);
        }
        assert!(plan.late(LATE_MAX, NOON.plus(LATE_MAX)).is_empty());
        assert_eq!(plan.late(LATE_MAX, NOON.plus(LATE_MAX + MILLIS)).len(), 8);
    }
}
