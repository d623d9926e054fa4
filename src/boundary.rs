//! When the hour strikes: boundaries as instants of UTC, and which of them are still to be kept.
//!
//! A boundary is an instant at which a clock on the wall of `storage.timezone` shows a multiple of
//! `storage.flush_interval`, counted from midnight. Where daylight saving repeats such a reading it is a boundary both
//! times; where it leaves one out there is none. No clock is read here: wall time is an argument.

use std::time::Duration;

use chrono::{Offset, TimeZone};
use chrono_tz::Tz;

use crate::clock::Timestamp;

/// Offsets from UTC in use since 1972 are multiples of this, and so are all boundaries of intervals that are.
const QUARTER_SECONDS: i64 = 15 * 60;
/// Longest stretch without a boundary: 24 h, and the longest day that a zone has had (with a midnight left out: 48 h).
const SEARCH_SECONDS_MAX: i64 = 50 * 3600;
/// Skipped boundaries are counted up to here: a clock set wrong by centuries must not stop the recorder while it counts.
const SKIPPED_COUNTED_MAX: u32 = 1_000_000;

/// The boundaries of an interval in a time zone.
#[derive(Clone, Copy, Debug)]
pub struct Boundaries {
    timezone: Tz,
    interval_seconds: i64,
}

impl Boundaries {
    /// Boundaries every `interval`, which must be whole minutes, at least one, and divide 24 hours.
    ///
    /// # Panics
    /// If it does not; the configuration checks it.
    #[must_use]
    pub fn new(timezone: Tz, interval: Duration) -> Self {
        let seconds = i64::try_from(interval.as_secs()).unwrap_or(0);
        assert!(
            seconds >= 60 && seconds % 60 == 0 && 86_400 % seconds == 0 && interval.subsec_nanos() == 0,
            "a flush interval of {interval:?} does not divide the day into whole minutes"
        );
        Self { timezone, interval_seconds: seconds }
    }

    /// The first boundary after `instant`.
    #[must_use]
    pub fn next_after(&self, instant: Timestamp) -> Timestamp {
        let step = gcd(self.interval_seconds, QUARTER_SECONDS);
        let seconds = instant.0.div_euclid(Timestamp::SECOND);
        let mut candidate = seconds - seconds.rem_euclid(step) + step;
        let limit = candidate + SEARCH_SECONDS_MAX;
        while candidate < limit && !self.is_boundary(candidate) {
            candidate += step;
        }
        Timestamp(candidate * Timestamp::SECOND)
    }

    /// The last boundary at or before `instant`.
    #[must_use]
    pub fn last_until(&self, instant: Timestamp) -> Timestamp {
        let step = gcd(self.interval_seconds, QUARTER_SECONDS);
        let seconds = instant.0.div_euclid(Timestamp::SECOND);
        let mut candidate = seconds - seconds.rem_euclid(step);
        let limit = candidate - SEARCH_SECONDS_MAX;
        while candidate > limit && !self.is_boundary(candidate) {
            candidate -= step;
        }
        Timestamp(candidate * Timestamp::SECOND)
    }

    /// Boundaries after `from` and before `until`, counted up to a million.
    fn count_between(&self, from: Timestamp, until: Timestamp) -> u32 {
        let mut count = 0;
        let mut boundary = self.next_after(from);
        while boundary < until && count < SKIPPED_COUNTED_MAX {
            count += 1;
            boundary = self.next_after(boundary);
        }
        count
    }

    fn is_boundary(&self, unix_seconds: i64) -> bool {
        let Some(utc) = chrono::DateTime::from_timestamp(unix_seconds, 0) else { return true };
        let offset = self.timezone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc();
        (unix_seconds + i64::from(offset)).rem_euclid(86_400) % self.interval_seconds == 0
    }
}

/// A boundary that is kept now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The latest boundary that has passed.
    pub boundary: Timestamp,
    /// Boundaries before it that passed without being kept.
    pub skipped: u32,
}

/// Which boundary comes next, given which one was kept last.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    boundaries: Boundaries,
    last_kept: Timestamp,
}

impl Schedule {
    /// A schedule that goes on after `last_kept`, or from `now` where none was ever kept.
    #[must_use]
    pub fn new(boundaries: Boundaries, last_kept: Option<Timestamp>, now: Timestamp) -> Self {
        Self { boundaries, last_kept: last_kept.unwrap_or_else(|| boundaries.last_until(now)) }
    }

    /// Goes on with another interval. What its boundaries up to `now` would have been is past and is not kept.
    pub fn set_interval(&mut self, interval: Duration, now: Timestamp) {
        self.boundaries = Boundaries::new(self.boundaries.timezone, interval);
        self.last_kept = self.last_kept.max(self.boundaries.last_until(now));
    }

    /// The next boundary to keep. Later than the last one kept, also where the wall clock was set back behind it.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Timestamp {
        let next = self.boundaries.next_after(self.last_kept);
        if next > now { next } else { self.boundaries.last_until(now) }
    }

    /// The boundary to keep now, if one has passed since the last one kept. It is kept then.
    pub fn take_due(&mut self, now: Timestamp) -> Option<Kept> {
        if self.boundaries.next_after(self.last_kept) > now {
            return None;
        }
        let boundary = self.boundaries.last_until(now);
        let skipped = self.boundaries.count_between(self.last_kept, boundary);
        self.last_kept = boundary;
        Some(Kept { boundary, skipped })
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc().into()
    }

    #[test]
    fn another_interval_begins_with_its_next_boundary() {
        let mut schedule = Schedule::new(hourly(Tz::UTC), Some(at("2026-11-23T14:00:00Z")), at("2026-11-23T14:40:00Z"));
        schedule.set_interval(Duration::from_secs(900), at("2026-11-23T14:40:00Z"));
        assert_eq!(schedule.take_due(at("2026-11-23T14:41:00Z")), None);
        assert_eq!(schedule.next(at("2026-11-23T14:41:00Z")), at("2026-11-23T14:45:00Z"));
        schedule.set_interval(Duration::from_secs(21_600), at("2026-11-23T14:41:00Z"));
        assert_eq!(schedule.next(at("2026-11-23T14:41:00Z")), at("2026-11-23T18:00:00Z"));
    }

    fn hourly(zone: Tz) -> Boundaries {
        Boundaries::new(zone, Duration::from_secs(3600))
    }

    fn all_between(boundaries: Boundaries, from: &str, until: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut next = boundaries.next_after(at(from));
        while next < at(until) {
            found.push(next.to_utc().format("%H:%M").to_string());
            next = boundaries.next_after(next);
        }
        found
    }

    #[test]
    fn the_next_boundary_of_a_boundary_is_the_one_after_it() {
        let utc = hourly(Tz::UTC);
        assert_eq!(utc.next_after(at("2026-11-23T14:59:59.999999Z")), at("2026-11-23T15:00:00Z"));
        assert_eq!(utc.next_after(at("2026-11-23T15:00:00Z")), at("2026-11-23T16:00:00Z"));
        assert_eq!(utc.last_until(at("2026-11-23T15:00:00Z")), at("2026-11-23T15:00:00Z"));
        assert_eq!(utc.last_until(at("2026-11-23T15:59:59.9Z")), at("2026-11-23T15:00:00Z"));
    }

    #[test]
    fn a_half_hour_zone_has_its_hours_at_half_past() {
        let kolkata = hourly(Tz::Asia__Kolkata);
        assert_eq!(kolkata.next_after(at("2026-11-23T14:00:00Z")), at("2026-11-23T14:30:00Z"));
        let kathmandu = hourly(Tz::Asia__Kathmandu);
        assert_eq!(kathmandu.next_after(at("2026-11-23T14:00:00Z")), at("2026-11-23T14:15:00Z"));
    }

    #[test]
    fn every_interval_that_divides_the_day_is_met_exactly() {
        for minutes in [1, 2, 5, 9, 16, 45, 90, 480, 1440] {
            let boundaries = Boundaries::new(Tz::UTC, Duration::from_secs(minutes * 60));
            let count = all_between(boundaries, "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z").len() as u64;
            assert_eq!(count, 1440 / minutes - 1, "{minutes} minutes");
        }
    }

    #[test]
    fn daylight_saving_moves_midnight_and_not_the_hours() {
        let berlin_days = Boundaries::new(Tz::Europe__Berlin, Duration::from_secs(86_400));
        // 2026-03-29 has 23 hours there, 2026-10-25 has 25.
        assert_eq!(berlin_days.next_after(at("2026-03-28T23:00:00Z")), at("2026-03-29T22:00:00Z"));
        assert_eq!(berlin_days.next_after(at("2026-10-24T22:00:00Z")), at("2026-10-25T23:00:00Z"));
        let hours = all_between(hourly(Tz::Europe__Berlin), "2026-10-24T23:30:00Z", "2026-10-25T03:30:00Z");
        assert_eq!(hours, ["00:00", "01:00", "02:00", "03:00"]);
    }

    #[test]
    fn a_half_hour_step_of_daylight_saving_keeps_the_hours_of_the_wall() {
        // Lord Howe goes from +11:00 to +10:30 on 2026-04-05 at 15:00 UTC on the day before.
        let hours = all_between(hourly(Tz::Australia__Lord_Howe), "2026-04-04T13:30:00Z", "2026-04-04T17:00:00Z");
        assert_eq!(hours, ["14:00", "15:30", "16:30"]);
    }

    #[test]
    fn boundaries_passed_over_are_counted_and_one_is_kept() {
        let mut schedule = Schedule::new(hourly(Tz::UTC), Some(at("2026-11-23T10:00:00Z")), at("2026-11-23T10:30:00Z"));
        assert_eq!(schedule.take_due(at("2026-11-23T10:59:59Z")), None);
        let kept = schedule.take_due(at("2026-11-23T14:20:00Z")).unwrap();
        assert_eq!(kept, Kept { boundary: at("2026-11-23T14:00:00Z"), skipped: 3 });
        assert_eq!(schedule.take_due(at("2026-11-23T14:20:01Z")), None);
    }

    #[test]
    fn a_boundary_kept_before_the_clock_went_back_is_not_kept_again() {
        let mut schedule = Schedule::new(hourly(Tz::UTC), None, at("2026-11-23T14:50:00Z"));
        assert!(schedule.take_due(at("2026-11-23T15:00:00Z")).is_some());
        assert_eq!(schedule.next(at("2026-11-23T14:10:00Z")), at("2026-11-23T16:00:00Z"));
        assert_eq!(schedule.take_due(at("2026-11-23T15:00:00Z")), None);
        assert_eq!(
            schedule.take_due(at("2026-11-23T16:00:00Z")),
            Some(Kept { boundary: at("2026-11-23T16:00:00Z"), skipped: 0 })
        );
    }

    #[test]
    fn a_start_on_the_boundary_does_not_keep_it() {
        let mut schedule = Schedule::new(hourly(Tz::UTC), None, at("2026-11-23T15:00:00Z"));
        assert_eq!(schedule.take_due(at("2026-11-23T15:00:00Z")), None);
        assert_eq!(schedule.next(at("2026-11-23T15:00:00Z")), at("2026-11-23T16:00:00Z"));
    }
}
