//! From when to when: `since` and `until` as people write them.

use std::time::Duration;

use chrono::{DateTime, NaiveDate};
use chrono_tz::Tz;

use super::QueryError;
use crate::clock::Timestamp;
use crate::history::calendar;

/// Longest text of an instant.
const TEXT_BYTES_MAX: usize = 64;
/// 9999-12-31: later than any retention, and within what every library can show.
const LAST: Timestamp = Timestamp(253_402_214_400 * Timestamp::SECOND);

/// Longer ago than anything that is stored.
pub const EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A half-open range of time: `from` belongs to it, `until` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Start.
    pub from: Timestamp,
    /// End.
    pub until: Timestamp,
}

impl Range {
    /// The range from `since` (or `default` ago) to `until` (or now).
    ///
    /// # Errors
    /// [`QueryError::Invalid`] if one is not understood, or nothing is between them.
    pub fn parse(
        since: Option<&str>,
        until: Option<&str>,
        default: Duration,
        now: Timestamp,
        zone: Tz,
    ) -> Result<Self, QueryError> {
        let until = until.map_or(Ok(now), |text| instant("until", text, now, zone))?;
        let from = match since {
            Some(text) => instant("since", text, now, zone)?,
            None => back(now.min(until), default),
        };
        if from >= until {
            return Err(QueryError::Invalid(format!("nothing is between since ({from}) and until ({until})")));
        }
        Ok(Self { from, until })
    }

    /// Its length.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.until.since(self.from)
    }
}

/// An instant: a time before now (`24h`, `30d`), RFC 3339, or a date, which is the start of that day in `zone`.
///
/// # Errors
/// [`QueryError::Invalid`].
pub fn instant(name: &str, text: &str, now: Timestamp, zone: Tz) -> Result<Timestamp, QueryError> {
    let shown: String = text.chars().take(TEXT_BYTES_MAX).collect();
    let wrong = || {
        QueryError::Invalid(format!(
            "`{}` is no {name}: give a time before now (`24h`, `30d`), RFC 3339 (`2026-11-25T08:00:00Z`; in a URL + is %2B) or a \
             date (`2026-11-25`)",
            shown.escape_debug()
        ))
    };
    if text.len() > TEXT_BYTES_MAX {
        return Err(wrong());
    }
    let found = if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        Some(time.to_utc().into())
    } else if let Ok(date) = text.parse::<NaiveDate>() {
        calendar::first_instant(zone, date)
    } else {
        humantime::parse_duration(text).ok().map(|ago| back(now, ago))
    };
    found.filter(|found| (Timestamp(0)..=LAST).contains(found)).ok_or_else(wrong)
}

/// So long before an instant; not before 1970.
fn back(instant: Timestamp, duration: Duration) -> Timestamp {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    Timestamp(instant.0.saturating_sub(micros).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23T12:00:00Z.
    const NOON: Timestamp = Timestamp(1_795_435_200_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn parse(since: Option<&str>, until: Option<&str>) -> Result<(String, String), QueryError> {
        let range = Range::parse(since, until, DAY, NOON, Tz::Asia__Kolkata)?;
        Ok((range.from.to_string(), range.until.to_string()))
    }

    #[test]
    fn a_range_is_written_as_an_age_a_time_or_a_day_of_the_zone() {
        for (since, until, from, to) in [
            (None, None, "2026-11-22T12:00:00.000000Z", "2026-11-23T12:00:00.000000Z"),
            (Some("36h"), None, "2026-11-22T00:00:00.000000Z", "2026-11-23T12:00:00.000000Z"),
            (Some("2d"), Some("1d"), "2026-11-21T12:00:00.000000Z", "2026-11-22T12:00:00.000000Z"),
            (Some("2026-11-20T00:00:00+01:00"), Some("30m"), "2026-11-19T23:00:00.000000Z", "2026-11-23T11:30:00.000000Z"),
            (Some("2026-11-01"), Some("2026-11-02"), "2026-10-31T18:30:00.000000Z", "2026-11-01T18:30:00.000000Z"),
            (None, Some("2026-11-02"), "2026-10-31T18:30:00.000000Z", "2026-11-01T18:30:00.000000Z"),
            (Some("9999y"), None, "1970-01-01T00:00:00.000000Z", "2026-11-23T12:00:00.000000Z"),
        ] {
            assert_eq!(parse(since, until).unwrap(), (from.to_owned(), to.to_owned()), "{since:?} {until:?}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_and_never_repeated_at_length() {
        let long = "9".repeat(100_000);
        for (since, until) in [
            (Some(""), None),
            (Some("yesterday"), None),
            (Some("-1h"), None),
            (Some("2026-13-01"), None),
            (Some("2026-11-25T08:00:00 01:00"), None),
            (Some("+262142-01-01"), None),
            (Some("1h"), Some("2h")),
            (Some("1h"), Some("1h")),
            (Some("2030-01-01"), None),
            (Some(long.as_str()), None),
        ] {
            let error = parse(since, until).unwrap_err().to_string();
            assert!(error.len() < 400, "{error}");
        }
    }
}
