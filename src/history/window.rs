//! A minute of one tunnel while it is being counted, and how many reports of a tunnel are due.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::figures::{Figures, Ping};
use super::pairs::InTotals;
use crate::clock::Timestamp;
use crate::event::{Counters, Sample};

/// Two report intervals are taken for the same if they differ by less than this share of the longer one.
const INTERVAL_TOLERANCE: f64 = 0.1;
/// Reports further apart than this are not a cadence but a gap.
const INTERVAL_MAX: Duration = Duration::from_secs(600);
/// Updates closer together than this are a change of state and its echo, not a cadence.
const INTERVAL_MIN: Duration = Duration::from_millis(500);
/// Reports that make an interval known: two distances that are alike have three ends.
const REPORTS_LEARNT_FROM: i32 = 3;

/// The learnt report interval, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Interval {
    learnt: Option<i64>,
    candidate: Option<i64>,
}

/// Which reports of a tunnel are due. Each report that comes counts those that were due since the one before it, its own among them, so
/// that a silence is expected by the report that ends it, and a tunnel that never reports again expects nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Due {
    interval: Interval,
    /// When the last report came.
    last: Option<Timestamp>,
    /// Until when what was due is counted. `None` while no interval is known, and after a report that the tunnel does not run.
    through: Option<Timestamp>,
}

impl Due {
    /// A report came: how many were due since the one before it.
    pub(super) fn report(&mut self, now: Timestamp, is_running: bool) -> i32 {
        let was_known = self.interval.learnt.is_some();
        if let Some(before) = self.last.replace(now) {
            self.interval.observe(now.since(before));
        }
        let Some(interval) = self.interval.learnt else { return 0 };
        let due = match self.through {
            // It runs ahead by half an interval at most, where a report was early; by more, the clock was set back.
            Some(through) if through.0 - now.0 <= interval => {
                let due = ((now.0 - through.0) as f64 / interval as f64).round().max(0.0) as i32;
                // A change of state soon after a report is none that was due, and the next one is due as if it had not come.
                self.through = Some(Timestamp(through.0 + i64::from(due) * interval));
                due
            }
            // What was due before is not known.
            _ => {
                self.through = Some(now);
                if was_known { 1 } else { REPORTS_LEARNT_FROM }
            }
        };
        if !is_running {
            self.through = None;
        }
        due
    }
}

impl Interval {
    /// A cadence counts as learnt when it was seen twice in a row; changes of state between two reports do not disturb it.
    pub(super) fn observe(&mut self, apart: Duration) {
        if apart < INTERVAL_MIN || apart > INTERVAL_MAX {
            return;
        }
        let apart = i64::try_from(apart.as_micros()).unwrap_or(i64::MAX);
        let alike = |other: i64| (apart - other).abs() as f64 <= INTERVAL_TOLERANCE * apart.max(other) as f64;
        if self.candidate.is_some_and(alike) {
            self.learnt = Some(apart);
        }
        self.candidate = Some(apart);
    }
}

/// A minute, or a part of one, that is not handed over yet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Window {
    pub(super) minute: Timestamp,
    pub(super) delta: Counters,
    /// In microseconds.
    covered: i64,
    ping: Option<Ping>,
    pool: Option<i32>,
    tcps: Option<i32>,
    udps: Option<i32>,
    record_count: i32,
    #[serde(default)]
    expected_count: i32,
    pub(super) in_totals: InTotals,
}

impl Window {
    pub(super) fn new(minute: Timestamp, in_totals: InTotals) -> Self {
        Self {
            minute,
            delta: Counters::default(),
            covered: 0,
            ping: None,
            pool: None,
            tcps: None,
            udps: None,
            record_count: 0,
            expected_count: 0,
            in_totals,
        }
    }

    /// Adds a sample that counted so much over so many microseconds. Of a report it is told how many were due.
    pub(super) fn add(&mut self, sample: &Sample, counted: Counters, covered: i64, report: Option<i32>) {
        let ping = sample.ping.map(Ping::of);
        let one = Figures { delta: counted, ping, pool: sample.pool, tcps: sample.tcps, udps: sample.udps, ..Figures::default() };
        let so_far = self.figures().plus(one);
        self.delta = so_far.delta;
        self.covered = self.covered.saturating_add(covered);
        (self.ping, self.pool, self.tcps, self.udps) = (so_far.ping, so_far.pool, so_far.tcps, so_far.udps);
        self.record_count = self.record_count.saturating_add(i32::from(report.is_some()));
        self.expected_count = self.expected_count.saturating_add(report.unwrap_or_default());
    }

    /// What was counted.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            delta: self.delta,
            covered_ms: (self.covered + 500) / 1_000,
            ping: self.ping,
            pool: self.pool,
            tcps: self.tcps,
            udps: self.udps,
            record_count: self.record_count,
            expected_count: self.expected_count,
        }
    }
}
