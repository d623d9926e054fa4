//! What is late: a batch that is not committed, a buffer above its bound, a boundary without its flush; and ids that run
//! ahead of the clock. Each is warned of once, after a minute, and again only after it was well in between.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Timestamp;

/// How long something may be late before it is warned of.
pub const WARN_AFTER: Duration = Duration::from_secs(60);

/// The buffer as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The monotonic clock.
    pub now: Instant,
    /// When the oldest batch that is not committed was cut.
    pub oldest_cut: Option<Instant>,
    /// Records accepted and not committed.
    pub events: u64,
    /// Records that are 100 %.
    pub full: u64,
    /// The boundary whose flush is not committed, and when it was reached.
    pub boundary: Option<(Timestamp, Instant)>,
    /// How far the clock of the newest id is ahead of the wall clock.
    pub id_ahead: Duration,
}

/// What was late when it was last looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delays {
    above_since: Option<Instant>,
    late: bool,
    above: bool,
    overdue: bool,
    ahead: bool,
}

impl Delays {
    /// Compares with what was seen before and returns the warnings that are new.
    pub fn look(&mut self, seen: Seen) -> Vec<String> {
        let Seen { now, oldest_cut, events, full, boundary, id_ahead } = seen;
        let long = |since: Option<Instant>| since.is_some_and(|since| now - since >= WARN_AFTER);
        self.above_since = if events > full { self.above_since.or(Some(now)) } else { None };
        let before = *self;
        self.late = long(oldest_cut);
        self.above = long(self.above_since);
        self.overdue = long(boundary.map(|(_, since)| since));
        self.ahead = id_ahead > WARN_AFTER;
        let mut warnings = Vec::new();
        if self.ahead && !before.ahead {
            let seconds = id_ahead.as_secs();
            warnings.push(format!(
                "event ids are {seconds} s ahead of the wall clock, which was set back or was wrong; ids go on rising"
            ));
        }
        if self.late && !before.late {
            warnings.push(format!("a batch was cut over a minute ago and is not committed; {events} events wait"));
        }
        if self.above && !before.above {
            warnings.push(format!("the buffer has been above 100 % for over a minute; {events} events wait"));
        }
        if let (true, false, Some((boundary, _))) = (self.overdue, before.overdue, boundary) {
            warnings.push(format!("the boundary of {boundary} passed over a minute ago and its flush is not committed"));
        }
        warnings
    }

    /// True if a boundary passed over a minute ago and its flush is not committed.
    #[must_use]
    pub fn overdue(&self) -> bool {
        self.overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_warned_of_once_after_a_minute_and_again_after_it_was_well() {
        let start = crate::clock::Clock::monotonic(&crate::clock::SystemClock);
        let at = |seconds| start + Duration::from_secs(seconds);
        let seen = |seconds, late: bool| Seen {
            now: at(seconds),
            oldest_cut: late.then_some(start),
            events: if late { 1500 } else { 10 },
            full: 1000,
            boundary: late.then_some((Timestamp(0), start)),
            id_ahead: Duration::from_secs(if seconds == 301 { 61 } else { 0 }),
        };
        let mut delays = Delays::default();
        assert!(delays.look(seen(0, true)).is_empty());
        assert!(delays.look(seen(59, true)).is_empty());
        assert_eq!(delays.look(seen(60, true)).len(), 3);
        assert!(delays.overdue());
        assert!(delays.look(seen(300, true)).is_empty());
        let ahead = delays.look(seen(301, false));
        assert!(ahead.len() == 1 && ahead[0].contains("61 s ahead"), "{ahead:?}");
        assert!(!delays.overdue());
        assert_eq!(delays.look(seen(302, true)).len(), 2, "the buffer is above its bound only since now");
    }
}
