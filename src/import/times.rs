//! Times as NodePassDash stored them in SQLite: text, each with the UTC offset of whoever made it.

use chrono::{DateTime, FixedOffset, NaiveDateTime};

use crate::clock::Timestamp;

/// A time and the offset that it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// The instant.
    pub at: Timestamp,
    /// Seconds east of UTC; `None` where the text has none, which is taken for UTC.
    pub offset: Option<i32>,
}

impl Time {
    /// Reads `2006-01-02 15:04:05.999999999-07:00`, also with `T`, `Z`, without fraction, without offset, and with what Go
    /// appends when it prints a time for people (`+0800 CST`, `m=+0.1`).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        DateTime::parse_from_rfc3339(text).ok().map(Self::with_offset).or_else(|| Self::parse_other(text))
    }

    fn parse_other(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (first, second) = (words.next()?, words.next());
        let (date, time) = match first.split_once('T') {
            Some(parts) => parts,
            None => (first, second?),
        };
        let offset = if first.contains('T') { second } else { words.next() };
        let whole = format!("{date} {time}{}", offset.unwrap_or_default());
        for form in ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%:z"] {
            if let Ok(time) = DateTime::parse_from_str(&whole, form) {
                return Some(Self::with_offset(time));
            }
        }
        // A word behind it that is no offset is a zone's name, of which nothing can be made.
        let naive = NaiveDateTime::parse_from_str(&whole, "%Y-%m-%d %H:%M:%S%.f").ok()?;
        Some(Self { at: naive.and_utc().into(), offset: None })
    }

    fn with_offset(time: DateTime<FixedOffset>) -> Self {
        Self { at: time.to_utc().into(), offset: Some(time.offset().local_minus_utc()) }
    }

    /// The instant at which a clock in another offset shows what this time's own clock showed.
    #[must_use]
    pub fn in_offset(self, seconds_east: i32) -> Timestamp {
        let shift = i64::from(self.offset.unwrap_or(0) - seconds_east);
        Timestamp(self.at.0.saturating_add(shift * Timestamp::SECOND))
    }
}

/// `+08:00`, or `none`.
#[must_use]
pub fn offset_text(offset: Option<i32>) -> String {
    match offset {
        None => "none".to_owned(),
        Some(seconds) => {
            let (sign, seconds) = if seconds < 0 { ('-', -seconds) } else { ('+', seconds) };
            format!("{sign}{:02}:{:02}", seconds / 3600, seconds / 60 % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, Option<i32>)> {
        Time::parse(text).map(|time| (time.at.to_string(), time.offset))
    }

    #[test]
    fn every_form_that_was_stored_is_read_as_the_same_instant() {
        let east = Some(8 * 3600);
        for (text, at, offset) in [
            ("2025-09-10 13:30:59.123456789+08:00", "2025-09-10T05:30:59.123456Z", east),
            ("2025-09-10 13:30:59+08:00", "2025-09-10T05:30:59.000000Z", east),
            ("2025-09-10T05:30:59Z", "2025-09-10T05:30:59.000000Z", Some(0)),
            ("2025-09-10 05:30:59.5Z", "2025-09-10T05:30:59.500000Z", Some(0)),
            ("2025-09-10 05:30:59+00:00", "2025-09-10T05:30:59.000000Z", Some(0)),
            ("2025-09-10 01:00:59.5-04:30", "2025-09-10T05:30:59.500000Z", Some(-4 * 3600 - 1800)),
            ("2025-09-10 13:30:59.5 +0800 CST", "2025-09-10T05:30:59.500000Z", east),
            ("2025-09-10 05:30:59.5 +0000 UTC m=+0.1", "2025-09-10T05:30:59.500000Z", Some(0)),
            ("2025-09-10 05:30:59", "2025-09-10T05:30:59.000000Z", None),
            ("2025-09-10T05:30:59.5", "2025-09-10T05:30:59.500000Z", None),
        ] {
            assert_eq!(read(text), Some((at.to_owned(), offset)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "now", "2025-09-10", "2025-13-10 05:30:59Z", "1757482259", "2025-09-10 05:30", "2025-09-10 05:30:59 CST"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_wall_clock_is_read_in_another_offset() {
        let hour = Time::parse("2025-09-10 05:00:00+08:00").unwrap();
        assert_eq!(hour.in_offset(0).to_string(), "2025-09-10T05:00:00.000000Z");
        assert_eq!(hour.in_offset(8 * 3600), hour.at);
    }

    #[test]
    fn an_offset_is_shown_as_it_is_written() {
        assert_eq!([None, Some(0), Some(28_800), Some(-16_200)].map(offset_text), ["none", "+00:00", "+08:00", "-04:30"]);
    }
}
