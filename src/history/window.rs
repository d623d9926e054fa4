//! A minute of one tunnel while it is being counted, and the interval at which reports come.

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

/// The learnt report interval, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Interval {
    pub(super) learnt: Option<i64>,
    candidate: Option<i64>,
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
    /// When its first sample came.
    pub(super) first: Timestamp,
    pub(super) delta: Counters,
    /// In microseconds.
    covered: i64,
    ping: Option<Ping>,
    pool: Option<i32>,
    tcps: Option<i32>,
    udps: Option<i32>,
    record_count: i32,
    pub(super) in_totals: InTotals,
}

impl Window {
    pub(super) fn new(first: Timestamp, in_totals: InTotals) -> Self {
        Self {
            minute: first.minute(),
            first,
            delta: Counters::default(),
            covered: 0,
            ping: None,
            pool: None,
            tcps: None,
            udps: None,
            record_count: 0,
            in_totals,
        }
    }

    /// Adds a sample that counted so much over so many microseconds.
    pub(super) fn add(&mut self, sample: &Sample, counted: Counters, covered: i64, is_report: bool) {
        let ping = sample.ping.map(Ping::of);
        let one = Figures { delta: counted, ping, pool: sample.pool, tcps: sample.tcps, udps: sample.udps, ..Figures::default() };
        let so_far = self.figures(0).plus(one);
        self.delta = so_far.delta;
        self.covered = self.covered.saturating_add(covered);
        (self.ping, self.pool, self.tcps, self.udps) = (so_far.ping, so_far.pool, so_far.tcps, so_far.udps);
        self.record_count = self.record_count.saturating_add(i32::from(is_report));
    }

    /// What was counted, of so many reports expected.
    pub(super) fn figures(&self, expected_count: i32) -> Figures {
        Figures {
            delta: self.delta,
            covered_ms: (self.covered + 500) / 1_000,
            ping: self.ping,
            pool: self.pool,
            tcps: self.tcps,
            udps: self.udps,
            record_count: self.record_count,
            expected_count,
        }
    }

    /// Reports that the minute lets expect until `until`, from its start on or from when the tunnel was first heard in it.
    pub(super) fn expected(&self, interval: Interval, first: Timestamp, until: Timestamp) -> i32 {
        let Some(learnt) = interval.learnt else { return 0 };
        let end = until.0.min(self.minute.0 + Timestamp::MINUTE);
        // A minute whose first sample came within an interval of its start covers the whole minute.
        let start = if first.0 - self.minute.0 > learnt { first.0 - learnt } else { self.minute.0 };
        ((end - start).max(0) as f64 / learnt as f64).round() as i32
    }
}
