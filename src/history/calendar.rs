//! Which hour and which day a minute belongs to, also where `storage.timezone` was changed.
//!
//! Hours begin where a clock on the wall of the zone shows a full hour, days with the first instant of the date. A zone
//! applies from a stated minute on; the hour and the day that a change falls into go on until the new zone's next hour and
//! midnight, so that hours and days never overlap.

use std::time::Duration;

use chrono::{Days, NaiveDate, TimeZone};
use chrono_tz::Tz;

use crate::boundary::Boundaries;
use crate::clock::Timestamp;

const HOUR: Duration = Duration::from_secs(3_600);
/// Where daylight saving leaves midnight out, the date begins at one of the next quarters of an hour.
const QUARTER: chrono::TimeDelta = chrono::TimeDelta::minutes(15);
const QUARTERS: usize = 96;
/// Dates that a zone leaves out when it crosses the date line. None has left out more than one.
const DAYS_LEFT_OUT_MAX: u64 = 2;

/// A day, as far as a minute of it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day {
    /// Its first instant.
    pub start: Timestamp,
    /// The zone was changed in it: it is longer or shorter than a day, or its hours are not those of one zone.
    pub zone_changed: bool,
}

/// The zones that were in force, and from when on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// Rising; the first one also applies to what was before it.
    zones: Vec<(Timestamp, Tz)>,
}

impl Default for Calendar {
    fn default() -> Self {
        Self::new([])
    }
}

impl Calendar {
    /// A calendar of these zones, in the order of their times; UTC where there is none.
    #[must_use]
    pub fn new(zones: impl IntoIterator<Item = (Timestamp, Tz)>) -> Self {
        let mut zones: Vec<_> = zones.into_iter().collect();
        if zones.is_empty() {
            zones.push((Timestamp(0), Tz::UTC));
        }
        Self { zones }
    }

    /// The zone in force at the end.
    #[must_use]
    pub fn last_zone(&self) -> Tz {
        self.zones.last().map_or(Tz::UTC, |(_, zone)| *zone)
    }

    /// This calendar as it will be once a recorder has started at `now` with a zone, if that is another one.
    #[must_use]
    pub fn followed_by(&self, zone: Tz, now: Timestamp) -> Self {
        let mut zones = self.zones.clone();
        if self.last_zone() != zone {
            zones.push((Timestamp(now.minute().0 + Timestamp::MINUTE), zone));
        }
        Self { zones }
    }

    /// The start of the hour that holds an instant.
    #[must_use]
    pub fn hour(&self, instant: Timestamp) -> Timestamp {
        self.start(instant, hour_start).0
    }

    /// The first instant after the hour that holds one.
    #[must_use]
    pub fn hour_end(&self, instant: Timestamp) -> Timestamp {
        let (start, zone) = self.start(instant, hour_start);
        self.end(zone, start, hour_start, |zone, at| Boundaries::new(zone, HOUR).next_after(at))
    }

    /// The day that holds a minute.
    #[must_use]
    pub fn day(&self, minute: Timestamp) -> Day {
        let (start, zone) = self.start(minute, day_start);
        let end = self.end(zone, start, day_start, next_day);
        Day { start, zone_changed: self.changed_within(start, end) }
    }

    /// Whether the zone was changed between the start and the end of a day.
    #[must_use]
    pub fn changed_within(&self, start: Timestamp, end: Timestamp) -> bool {
        self.zones.iter().skip(1).any(|(from, _)| *from > start && *from < end)
    }

    /// The first instant after the day that holds a minute.
    #[must_use]
    pub fn day_end(&self, minute: Timestamp) -> Timestamp {
        let (start, zone) = self.start(minute, day_start);
        self.end(zone, start, day_start, next_day)
    }

    /// The first instant of the days from a date of the last zone on. Under another zone a day belongs to the date that it ended with,
    /// and belongs to it whole, so that what a period counts does not depend on when it was stored. `None` as of [`first_instant`].
    #[must_use]
    pub fn date_start(&self, date: NaiveDate) -> Option<Timestamp> {
        let first = first_instant(self.last_zone(), date)?;
        let start = self.day(first).start;
        let end = self.day_end(first);
        let last = Timestamp(end.0 - 1);
        let zone = self.zones.iter().rfind(|(from, _)| *from <= last).map_or(Tz::UTC, |(_, zone)| *zone);
        Some(if start == first || self::date(zone, last) >= date { start } else { end })
    }

    /// Where a stretch begins, and with which zone.
    fn start(&self, minute: Timestamp, start_in: impl Fn(Tz, Timestamp) -> Timestamp) -> (Timestamp, usize) {
        let mut at = minute;
        let mut index = self.zones.iter().rposition(|(from, _)| *from <= at).unwrap_or(0);
        loop {
            let (from, zone) = self.zones[index];
            let start = start_in(zone, at);
            if index == 0 || start >= from {
                return (start, index);
            }
            // It began under the zone before.
            index -= 1;
            at = Timestamp(from.0 - 1);
        }
    }

    /// Where a stretch that began at `start` under the zone of that index ends: at the first begin of another one in whichever zone
    /// is in force then.
    fn end(
        &self,
        mut index: usize,
        start: Timestamp,
        start_in: impl Fn(Tz, Timestamp) -> Timestamp,
        next_in: impl Fn(Tz, Timestamp) -> Timestamp,
    ) -> Timestamp {
        let mut at = start;
        loop {
            let next = next_in(self.zones[index].1, at);
            match self.zones.get(index + 1) {
                Some((from, _)) if *from <= next => {
                    index += 1;
                    at = *from;
                    // A change on the new zone's midnight begins a day, one on its full hour an hour.
                    if start_in(self.zones[index].1, at) == at && at > start {
                        return at;
                    }
                }
                _ => return next,
            }
        }
    }
}

fn hour_start(zone: Tz, at: Timestamp) -> Timestamp {
    Boundaries::new(zone, HOUR).last_until(at)
}

/// The date that a clock in the zone shows.
#[must_use]
pub fn date(zone: Tz, at: Timestamp) -> NaiveDate {
    zone.from_utc_datetime(&at.to_utc().naive_utc()).date_naive()
}

/// The first instant of a date: midnight; the first of two where it is repeated; where it is left out, the first reading after it. `None`
/// if the zone never had that date (it crossed the date line), or it is out of range.
#[must_use]
pub fn first_instant(zone: Tz, date: NaiveDate) -> Option<Timestamp> {
    let midnight = date.and_time(chrono::NaiveTime::MIN);
    let quarters = std::iter::successors(Some(midnight), |time| time.checked_add_signed(QUARTER)).take(QUARTERS);
    let first = quarters.filter_map(|time| zone.from_local_datetime(&time).earliest()).next();
    first.map(|first| first.to_utc().into())
}

/// The first instant of the date that `at` has in a zone.
#[must_use]
pub fn day_start(zone: Tz, at: Timestamp) -> Timestamp {
    // A date that an instant has has begun.
    first_instant(zone, date(zone, at)).unwrap_or_else(|| at.minute())
}

/// The start of the first day after `at` that the zone has.
#[must_use]
pub fn next_day(zone: Tz, at: Timestamp) -> Timestamp {
    let date = date(zone, at);
    let later = (1..=DAYS_LEFT_OUT_MAX + 1).filter_map(|days| date.checked_add_days(Days::new(days)));
    let found = later.filter_map(|date| first_instant(zone, date)).find(|next| *next > at);
    found.unwrap_or_else(|| at.plus(Duration::from_secs(86_400)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc().into()
    }

    fn calendar(zone: Tz) -> Calendar {
        Calendar::new([(Timestamp(0), zone)])
    }

    fn day(calendar: &Calendar, minute: &str) -> (String, bool) {
        let Day { start, zone_changed } = calendar.day(at(minute));
        (start.to_utc().format("%m-%d %H:%M").to_string(), zone_changed)
    }

    #[test]
    fn a_half_hour_zone_has_its_hours_and_days_at_half_past() {
        let kolkata = calendar(Tz::Asia__Kolkata);
        assert_eq!(kolkata.hour(at("2026-11-23T14:29:00Z")), at("2026-11-23T13:30:00Z"));
        assert_eq!(kolkata.hour(at("2026-11-23T14:30:00Z")), at("2026-11-23T14:30:00Z"));
        assert_eq!(day(&kolkata, "2026-11-23T18:29:00Z"), ("11-22 18:30".into(), false));
        assert_eq!(day(&kolkata, "2026-11-23T18:30:00Z"), ("11-23 18:30".into(), false));
    }

    #[test]
    fn a_day_of_daylight_saving_has_23_or_25_hours() {
        let berlin = calendar(Tz::Europe__Berlin);
        assert_eq!(day(&berlin, "2026-03-29T21:59:00Z"), ("03-28 23:00".into(), false));
        assert_eq!(day(&berlin, "2026-03-29T22:00:00Z"), ("03-29 22:00".into(), false));
        assert_eq!(day(&berlin, "2026-10-25T22:59:00Z"), ("10-24 22:00".into(), false));
        assert_eq!(berlin.day_end(at("2026-10-25T22:59:00Z")), at("2026-10-25T23:00:00Z"));
    }

    #[test]
    fn a_midnight_that_is_left_out_or_repeated_is_still_one_day_each() {
        // Cairo goes from 23:59 to 01:00 on 2026-04-24; Havana repeats the first hour of 2026-11-01.
        let cairo = calendar(Tz::Africa__Cairo);
        assert_eq!(day(&cairo, "2026-04-23T21:59:00Z"), ("04-22 22:00".into(), false));
        assert_eq!(day(&cairo, "2026-04-23T22:00:00Z"), ("04-23 22:00".into(), false));
        let havana = calendar(Tz::America__Havana);
        assert_eq!(day(&havana, "2026-11-01T04:30:00Z"), ("11-01 04:00".into(), false));
        assert_eq!(day(&havana, "2026-11-01T05:30:00Z"), ("11-01 04:00".into(), false));
        assert_eq!(havana.day_end(at("2026-11-01T05:30:00Z")), at("2026-11-02T05:00:00Z"));
    }

    #[test]
    fn a_date_that_a_zone_left_out_is_no_day() {
        // Apia went from 2011-12-29 to 2011-12-31.
        let apia = calendar(Tz::Pacific__Apia);
        assert_eq!(day(&apia, "2011-12-30T09:59:00Z"), ("12-29 10:00".into(), false));
        assert_eq!(day(&apia, "2011-12-30T10:00:00Z"), ("12-30 10:00".into(), false));
        assert_eq!(apia.day_end(at("2011-12-29T12:00:00Z")), at("2011-12-30T10:00:00Z"));
        assert_eq!(first_instant(Tz::Pacific__Apia, NaiveDate::from_ymd_opt(2011, 12, 30).unwrap()), None);
    }

    #[test]
    fn a_changed_zone_applies_from_the_change_on_and_marks_the_day_across_it() {
        let changed = Calendar::new([(Timestamp(0), Tz::UTC), (at("2026-11-23T10:10:00Z"), Tz::Asia__Kolkata)]);
        assert_eq!(changed.hour(at("2026-11-23T10:09:00Z")), at("2026-11-23T10:00:00Z"));
        assert_eq!(changed.hour(at("2026-11-23T10:20:00Z")), at("2026-11-23T10:00:00Z"), "goes on to the next full hour");
        assert_eq!(changed.hour(at("2026-11-23T10:30:00Z")), at("2026-11-23T10:30:00Z"));
        assert_eq!(day(&changed, "2026-11-22T23:59:00Z"), ("11-22 00:00".into(), false));
        assert_eq!(day(&changed, "2026-11-23T09:00:00Z"), ("11-23 00:00".into(), true));
        assert_eq!(day(&changed, "2026-11-23T18:29:00Z"), ("11-23 00:00".into(), true));
        assert_eq!(day(&changed, "2026-11-23T18:30:00Z"), ("11-23 18:30".into(), false));
        assert_eq!(changed.day_end(at("2026-11-23T01:00:00Z")), at("2026-11-23T18:30:00Z"));
    }

    #[test]
    fn a_zone_that_is_changed_twice_in_a_day_leaves_one_marked_day() {
        let changed = Calendar::new([
            (Timestamp(0), Tz::UTC),
            (at("2026-11-23T10:10:00Z"), Tz::Asia__Tokyo),
            (at("2026-11-23T12:00:00Z"), Tz::UTC),
        ]);
        assert_eq!(day(&changed, "2026-11-23T14:00:00Z"), ("11-23 00:00".into(), true));
        assert_eq!(day(&changed, "2026-11-23T23:59:00Z"), ("11-23 00:00".into(), true));
        assert_eq!(day(&changed, "2026-11-24T00:00:00Z"), ("11-24 00:00".into(), false));
    }

    /// Each minute belongs to one hour and each hour to one day, whatever the zones are.
    #[test]
    fn hours_nest_in_days_and_neither_overlap() {
        let zones = [Tz::Europe__Berlin, Tz::Australia__Lord_Howe, Tz::America__Havana, Tz::Asia__Kathmandu, Tz::UTC];
        for (index, zone) in zones.into_iter().enumerate() {
            let other = zones[(index + 2) % zones.len()];
            for begin in ["2026-03-27T00:00:00Z", "2026-10-23T00:00:00Z", "2026-04-03T00:00:00Z", "2026-10-31T00:00:00Z"] {
                let change = Timestamp(at(begin).0 + (30 * 60 + 7) * Timestamp::MINUTE);
                let calendar = Calendar::new([(Timestamp(0), zone), (change, other)]);
                let (mut hour, mut day) = (Timestamp(0), Timestamp(0));
                for minute in 0..4 * 1_440 {
                    let minute = Timestamp(at(begin).0 + minute * Timestamp::MINUTE);
                    let (this_hour, this_day) = (calendar.hour(minute), calendar.day(minute));
                    assert!(this_hour >= hour && this_hour <= minute, "{zone} {minute}");
                    assert!(this_day.start >= day && this_day.start <= this_hour, "{zone} {minute}");
                    assert_eq!(calendar.day(this_hour).start, this_day.start, "{zone} {minute}");
                    assert_eq!(calendar.hour(this_hour), this_hour, "{zone} {minute}");
                    assert!(calendar.day_end(minute) > minute && calendar.hour_end(minute) > minute, "{zone} {minute}");
                    let before = Timestamp(minute.0 - 1);
                    assert!(this_hour < minute || calendar.hour_end(before) == minute, "{zone} {minute}");
                    assert!(this_day.start < minute || calendar.day_end(before) == minute, "{zone} {minute}");
                    (hour, day) = (this_hour, this_day.start);
                }
            }
        }
    }
}
