//! Steps, days, months and billing cycles of a time zone, as instants of UTC.

use std::time::Duration;

use chrono::{Datelike, Days, Months, NaiveDate};
use chrono_tz::Tz;

use super::range::Range;
use crate::boundary::Boundaries;
use crate::clock::Timestamp;
use crate::history::calendar::{date, day_start, first_instant, next_day};

const HOUR: Duration = Duration::from_secs(3_600);
/// A date and those after it that a zone may have left out.
const DATES_TRIED_MAX: usize = 3;

/// How far apart the values of a chart are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Minutes of UTC.
    Minute,
    /// Hours of the zone's clock.
    Hour,
    /// Days of the zone.
    Day,
}

impl Step {
    /// Its usual length in seconds. A day with a change of daylight saving has an hour more or less.
    #[must_use]
    pub fn seconds(self) -> u64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// As in `step=`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::Hour => "1h",
            Self::Day => "1d",
        }
    }

    /// The start of the step that holds `instant`.
    #[must_use]
    pub fn start(self, zone: Tz, instant: Timestamp) -> Timestamp {
        match self {
            Self::Minute => instant.minute(),
            Self::Hour => Boundaries::new(zone, HOUR).last_until(instant),
            Self::Day => day_start(zone, instant),
        }
    }

    /// The start of the step after the one that begins at `start`.
    #[must_use]
    pub fn next(self, zone: Tz, start: Timestamp) -> Timestamp {
        match self {
            Self::Minute => Timestamp(start.0 + Timestamp::MINUTE),
            Self::Hour => Boundaries::new(zone, HOUR).next_after(start),
            Self::Day => next_day(zone, start),
        }
    }

    /// The starts of all steps that overlap the range, oldest first, as far as `max` of them.
    #[must_use]
    pub fn slots(self, zone: Tz, range: Range, max: usize) -> Vec<Timestamp> {
        let first = self.start(zone, range.from);
        let following = |start: &Timestamp| Some(self.next(zone, *start));
        std::iter::successors(Some(first), following).take_while(|start| *start < range.until).take(max).collect()
    }
}

/// The periods that people ask for, as they are at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// The day.
    pub today: Range,
    /// The calendar month.
    pub month: Range,
    /// The billing cycle.
    pub cycle: Range,
}

impl Periods {
    /// Those that hold `now`. A cycle begins on `start_day`, on the last day of months that are shorter.
    #[must_use]
    pub fn at(now: Timestamp, zone: Tz, start_day: u8) -> Self {
        let today = date(zone, now);
        // A date that the zone left out begins with the next one that it had.
        let begin = |date: NaiveDate| {
            let later = date.iter_days().take(DATES_TRIED_MAX).find_map(|date| first_instant(zone, date));
            later.unwrap_or(now)
        };
        let range = |from: NaiveDate, until: NaiveDate| Range { from: begin(from), until: begin(until) };
        let first = today.with_day(1).unwrap_or(today);
        let (cycle, next_cycle) = cycle(today, start_day);
        Self {
            today: range(today, today.checked_add_days(Days::new(1)).unwrap_or(today)),
            month: range(first, first.checked_add_months(Months::new(1)).unwrap_or(first)),
            cycle: range(cycle, next_cycle),
        }
    }
}

/// First days of the cycle that holds `today` and of the one after it.
fn cycle(today: NaiveDate, start_day: u8) -> (NaiveDate, NaiveDate) {
    // The first of the month is there in every month, and adding months to it loses no days.
    let month = today.with_day(1).unwrap_or(today);
    let start_in = |month: NaiveDate| {
        let start = u32::from(start_day).clamp(1, 31).min(u32::from(month.num_days_in_month()));
        month.with_day(start).unwrap_or(month)
    };
    let start = start_in(month);
    if today >= start {
        (start, month.checked_add_months(Months::new(1)).map_or(start, start_in))
    } else {
        (month.checked_sub_months(Months::new(1)).map_or(start, start_in), start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc().into()
    }

    fn slots(step: Step, zone: Tz, from: &str, until: &str) -> Vec<String> {
        let range = Range { from: at(from), until: at(until) };
        let starts = step.slots(zone, range, usize::MAX);
        starts.into_iter().map(|start| start.to_utc().format("%d %H:%M").to_string()).collect()
    }

    #[test]
    fn every_step_that_overlaps_the_range_has_a_slot() {
        let (from, until) = ("2026-11-23T11:59:30Z", "2026-11-23T12:01:00Z");
        assert_eq!(slots(Step::Minute, Tz::UTC, from, until), ["23 11:59", "23 12:00"]);
        assert_eq!(slots(Step::Hour, Tz::UTC, from, until), ["23 11:00", "23 12:00"]);
        assert_eq!(slots(Step::Day, Tz::UTC, from, until), ["23 00:00"]);
    }

    #[test]
    fn hours_and_days_of_a_half_hour_zone_begin_at_half_past() {
        let kolkata = Tz::Asia__Kolkata;
        assert_eq!(
            slots(Step::Hour, kolkata, "2026-11-23T12:00:00Z", "2026-11-23T13:31:00Z"),
            ["23 11:30", "23 12:30", "23 13:30"]
        );
        assert_eq!(slots(Step::Day, kolkata, "2026-11-23T12:00:00Z", "2026-11-24T18:30:00Z"), ["22 18:30", "23 18:30"]);
    }

    #[test]
    fn days_of_daylight_saving_have_23_and_25_hours() {
        let berlin = Tz::Europe__Berlin;
        let spring = slots(Step::Day, berlin, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(spring, ["27 23:00", "28 23:00", "29 22:00"]);
        let autumn = slots(Step::Day, berlin, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(autumn, ["23 22:00", "24 22:00", "25 23:00"]);
        assert_eq!(slots(Step::Hour, berlin, "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z").len(), 25);
    }

    #[test]
    fn a_day_without_midnight_begins_at_its_first_reading_and_one_with_two_at_the_first() {
        // Santiago goes from 00:00 to 01:00 on 2026-09-06; Havana from 01:00 back to 00:00 on 2026-11-01.
        let santiago = slots(Step::Day, Tz::America__Santiago, "2026-09-05T12:00:00Z", "2026-09-07T12:00:00Z");
        assert_eq!(santiago, ["05 04:00", "06 04:00", "07 03:00"]);
        let havana = slots(Step::Day, Tz::America__Havana, "2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z");
        assert_eq!(havana, ["31 04:00", "01 04:00", "02 05:00"]);
        // Apia left out 2011-12-30.
        let apia = slots(Step::Day, Tz::Pacific__Apia, "2011-12-29T12:00:00Z", "2011-12-31T12:00:00Z");
        assert_eq!(apia, ["29 10:00", "30 10:00", "31 10:00"]);
    }

    #[test]
    fn a_cycle_starts_on_its_day_or_on_the_last_of_a_shorter_month() {
        for (today, start_day, from, until) in [
            ("2026-11-23", 1, "2026-11-01", "2026-12-01"),
            ("2026-11-23", 23, "2026-11-23", "2026-12-23"),
            ("2026-11-23", 24, "2026-10-24", "2026-11-24"),
            ("2026-02-27", 31, "2026-01-31", "2026-02-28"),
            ("2026-02-28", 31, "2026-02-28", "2026-03-31"),
            ("2026-03-30", 31, "2026-02-28", "2026-03-31"),
            ("2028-02-29", 30, "2028-02-29", "2028-03-30"),
            ("2026-12-31", 31, "2026-12-31", "2027-01-31"),
            ("2026-01-05", 15, "2025-12-15", "2026-01-15"),
        ] {
            let (cycle, next) = cycle(today.parse().unwrap(), start_day);
            assert_eq!((cycle.to_string(), next.to_string()), (from.to_owned(), until.to_owned()), "{today}, {start_day}");
        }
    }

    #[test]
    fn periods_are_those_of_the_zone_and_not_of_utc() {
        // In Auckland it is the first of December already.
        let periods = Periods::at(at("2026-11-30T11:30:00Z"), Tz::Pacific__Auckland, 15);
        assert_eq!(periods.today, Range { from: at("2026-11-30T11:00:00Z"), until: at("2026-12-01T11:00:00Z") });
        assert_eq!(periods.month, Range { from: at("2026-11-30T11:00:00Z"), until: at("2026-12-31T11:00:00Z") });
        assert_eq!(periods.cycle, Range { from: at("2026-11-14T11:00:00Z"), until: at("2026-12-14T11:00:00Z") });
    }
}
