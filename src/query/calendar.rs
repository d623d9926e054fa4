//! Steps, days, months and billing cycles of a time zone, as instants of UTC.

use chrono::{Datelike, Months, NaiveDate};
use chrono_tz::Tz;

use super::range::Range;
use crate::clock::Timestamp;
use crate::history::calendar::{Calendar, date};

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
    pub fn start(self, calendar: &Calendar, instant: Timestamp) -> Timestamp {
        match self {
            Self::Minute => instant.minute(),
            Self::Hour => calendar.hour(instant),
            Self::Day => calendar.day(instant).start,
        }
    }

    /// The start of the step after the one that begins at `start`.
    #[must_use]
    pub fn next(self, calendar: &Calendar, start: Timestamp) -> Timestamp {
        match self {
            Self::Minute => Timestamp(start.0 + Timestamp::MINUTE),
            Self::Hour => calendar.hour_end(start),
            Self::Day => calendar.day_end(start),
        }
    }

    /// The starts of all steps that overlap the range, oldest first. They are those that history is stored by, so that a minute is in
    /// the same step before it is stored and afterwards.
    #[must_use]
    pub fn slots(self, calendar: &Calendar, range: Range) -> Vec<Timestamp> {
        let first = self.start(calendar, range.from);
        let following = |start: &Timestamp| Some(self.next(calendar, *start));
        std::iter::successors(Some(first), following).take_while(|start| *start < range.until).collect()
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
    /// Those that hold `now`, of whole days as `calendar` and from now on `zone` cut them. A cycle begins on `start_day`, on the
    /// last day of months that are shorter.
    #[must_use]
    pub fn at(now: Timestamp, zone: Tz, start_day: u8, calendar: &Calendar) -> Self {
        let calendar = calendar.followed_by(zone, now);
        let today = date(zone, now);
        // A date that the zone left out begins with the next one that it had.
        let begin = |date: NaiveDate| {
            let later = date.iter_days().take(DATES_TRIED_MAX).find_map(|date| calendar.date_start(date));
            later.unwrap_or(now)
        };
        let range = |from: NaiveDate, until: NaiveDate| Range { from: begin(from), until: begin(until) };
        let first = today.with_day(1).unwrap_or(today);
        let (cycle, next_cycle) = cycle(today, start_day);
        Self {
            today: Range { from: calendar.day(now).start, until: calendar.day_end(now) },
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

    fn calendar(zone: Tz) -> Calendar {
        Calendar::new([(Timestamp(0), zone)])
    }

    fn slots(step: Step, zone: Tz, from: &str, until: &str) -> Vec<String> {
        let range = Range { from: at(from), until: at(until) };
        let starts = step.slots(&calendar(zone), range);
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
        let zone = Tz::Pacific__Auckland;
        let periods = Periods::at(at("2026-11-30T11:30:00Z"), zone, 15, &calendar(zone));
        assert_eq!(periods.today, Range { from: at("2026-11-30T11:00:00Z"), until: at("2026-12-01T11:00:00Z") });
        assert_eq!(periods.month, Range { from: at("2026-11-30T11:00:00Z"), until: at("2026-12-31T11:00:00Z") });
        assert_eq!(periods.cycle, Range { from: at("2026-11-14T11:00:00Z"), until: at("2026-12-14T11:00:00Z") });
    }

    fn range(range: Range) -> (String, String) {
        let text = |at: Timestamp| at.to_utc().format("%m-%d %H:%M").to_string();
        (text(range.from), text(range.until))
    }

    #[test]
    fn a_day_across_a_change_of_zone_is_today_whole_and_belongs_to_the_month_that_it_ends_in() {
        let own = |from: &str, until: &str| (from.to_owned(), until.to_owned());
        let periods = |old: Tz, new: Tz, change: &str, now: &str| {
            let calendar = Calendar::new([(Timestamp(0), old), (at(change), new)]);
            let periods = Periods::at(at(now), new, 1, &calendar);
            (range(periods.today), range(periods.month))
        };
        let (kolkata, utc) = (Tz::Asia__Kolkata, Tz::UTC);
        // 2026-12-01 of Kolkata goes on until midnight of UTC.
        assert_eq!(
            periods(kolkata, utc, "2026-12-01T10:00:00Z", "2026-12-01T12:00:00Z"),
            (own("11-30 18:30", "12-02 00:00"), own("11-30 18:30", "01-01 00:00"))
        );
        // The last of November goes on into what is December already in Kolkata.
        assert_eq!(
            periods(utc, kolkata, "2026-11-30T20:00:00Z", "2026-11-30T21:00:00Z"),
            (own("11-30 00:00", "12-01 18:30"), own("11-30 00:00", "12-31 18:30"))
        );
        // Long after the change the days before it are still those of the old zone.
        assert_eq!(
            periods(utc, kolkata, "2026-12-10T20:00:00Z", "2026-12-20T00:00:00Z"),
            (own("12-19 18:30", "12-20 18:30"), own("12-01 00:00", "12-31 18:30"))
        );
    }

    #[test]
    fn a_zone_that_no_recorder_has_started_with_yet_applies_from_now_on() {
        let now = at("2026-11-30T20:00:00Z");
        let periods = Periods::at(now, Tz::Asia__Kolkata, 1, &calendar(Tz::UTC));
        assert_eq!(range(periods.today), ("11-30 00:00".to_owned(), "12-01 18:30".to_owned()));
        assert_eq!(range(periods.month), ("11-30 00:00".to_owned(), "12-31 18:30".to_owned()));
    }

    /// Whatever the zones are: today is in the month and in the cycle, each holds now, and all are made of whole days and steps.
    #[test]
    fn periods_hold_each_other_and_are_made_of_whole_days_whatever_the_zones_are() {
        let zones = [
            Tz::UTC,
            Tz::Asia__Kolkata,
            Tz::America__New_York,
            Tz::Pacific__Kiritimati,
            Tz::Pacific__Niue,
            Tz::Australia__Lord_Howe,
        ];
        for (old, new) in zones.iter().flat_map(|old| zones.iter().map(move |new| (*old, *new))) {
            for hour in (0..72).step_by(5) {
                let change = Timestamp(at("2026-11-29T00:00:00Z").0 + hour * 60 * Timestamp::MINUTE);
                let calendar = Calendar::new([(Timestamp(0), old), (change, new)]);
                for later in [0, 1, 59, 61, 600, 1_439, 2_000, 50_000] {
                    let now = Timestamp(change.0 + later * Timestamp::MINUTE + 7);
                    let told = format!("{old} to {new} at {change}, now {now}");
                    let Periods { today, month, cycle } = Periods::at(now, new, 30, &calendar);
                    for period in [month, cycle] {
                        assert!(period.from <= today.from && today.until <= period.until, "{told}: {period:?} {today:?}");
                        for end in [period.from, period.until] {
                            assert_eq!(calendar.day(end).start, end, "{told}");
                        }
                    }
                    assert!(today.from <= now && now < today.until, "{told}");
                    assert_eq!(Step::Day.slots(&calendar, today), [today.from], "{told}");
                    for step in [Step::Hour, Step::Day] {
                        let slots = step.slots(&calendar, Range { from: change, until: Timestamp(now.0 + 1) });
                        assert!(slots.windows(2).all(|pair| pair[0] < pair[1]), "{told}");
                        assert_eq!(slots.last(), Some(&step.start(&calendar, now)), "{told}");
                    }
                }
            }
        }
    }
}
