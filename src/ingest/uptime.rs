//! Whether a master was started anew while it was not heard, as far as `uptime` of `GET /info` shows it. Nothing else does: a master
//! has no boot id, and one that was killed says no word.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Timestamp;

/// Masters count their uptime in whole seconds.
const UPTIME_STEP: Duration = Duration::from_secs(1);
/// Clocks of two machines drift apart by less than a thousandth, and by this beside it.
const DRIFT_SHARE: u32 = 1_000;
const DRIFT_MAX: Duration = Duration::from_secs(2);

/// What is known of when a master's process was alive.
#[derive(Debug)]
pub struct Uptime {
    /// The last sign of life: so long before this instant.
    heard: (Instant, Option<Duration>),
    /// How long the master had not been heard when the present stream was opened, and when that was. `None` where it never was heard.
    silence: Option<(Instant, Duration)>,
    /// At this instant its process was at least so old.
    known: Option<(Instant, Duration)>,
}

impl Uptime {
    /// Begins at `now`. `last_heard` is what an earlier recorder left, by the wall clock, which shows `wall` now.
    #[must_use]
    pub fn new(now: Instant, wall: Timestamp, last_heard: Option<Timestamp>) -> Self {
        Self { heard: (now, last_heard.map(|heard| wall.since(heard))), silence: None, known: None }
    }

    /// Something came over the stream.
    pub fn heard(&mut self, now: Instant) {
        self.heard = (now, Some(Duration::ZERO));
    }

    /// A stream was opened.
    pub fn opened(&mut self, now: Instant) {
        let (at, before) = self.heard;
        self.silence = before.map(|before| (now, now.saturating_duration_since(at) + before));
    }

    /// The master told its uptime, in whole seconds and more than 0 (Rust masters always say 0), to a question that was asked and
    /// answered at these instants. Returns how old its process is at most, if it was started since it was heard over the stream before.
    pub fn told(&mut self, uptime: Duration, asked: Instant, answered: Instant) -> Option<Duration> {
        let at_most = uptime + UPTIME_STEP + answered.saturating_duration_since(asked);
        let expected = self.known.map(|(then, age)| {
            let since = answered.saturating_duration_since(then);
            (age + since).saturating_sub(DRIFT_MAX + since / DRIFT_SHARE)
        });
        // Who knows its process from before sees at once that this is another one. Who does not goes by when it was heard last.
        let another = self.silence.is_some_and(|(opened, before)| {
            let unheard = before + answered.saturating_duration_since(opened);
            match expected {
                Some(expected) => at_most < expected && uptime <= unheard,
                None => at_most < unheard,
            }
        });
        let age = if another { uptime } else { uptime.max(expected.unwrap_or_default()) };
        self.known = Some((answered, age));
        another.then_some(at_most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    const START: Timestamp = Timestamp(1_795_435_200_000_000);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The master was heard until second 10, and a stream was opened at this second again. What does its uptime show then, and what did
    /// it tell at second 1, if it did?
    fn shown(opened: u64, before: Option<u64>, uptime: u64) -> bool {
        let start = SystemClock.monotonic();
        let mut known = Uptime::new(start, START, None);
        known.opened(start);
        if let Some(before) = before {
            assert_eq!(known.told(seconds(before), start + seconds(1), start + seconds(1)), None, "nothing was heard before");
        }
        known.heard(start + seconds(10));
        known.opened(start + seconds(opened));
        known.told(seconds(uptime), start + seconds(opened), start + seconds(opened)).is_some()
    }

    #[test]
    fn a_process_that_is_younger_than_the_silence_was_started_in_it() {
        assert!(shown(20, None, 8) && shown(20, Some(5_000), 8));
    }

    #[test]
    fn a_process_that_was_heard_before_was_not_started_since() {
        assert!(!shown(20, None, 5_019) && !shown(20, Some(5_000), 5_019));
        assert!(!shown(3_600, Some(5_000), 8_598), "a second or two of drift");
    }

    /// Without an earlier answer it may as well have been started right before it was heard last.
    #[test]
    fn a_start_within_a_second_of_the_last_sign_of_life_takes_an_earlier_answer() {
        assert!(!shown(13, None, 3));
        assert!(shown(13, Some(5_000), 3));
    }

    #[test]
    fn a_machine_that_slept_makes_no_other_process() {
        // Its uptime stood still for an hour, and is longer than the silence all the same.
        assert!(!shown(3_700, Some(90_000), 90_099));
    }

    #[test]
    fn what_a_recorder_before_heard_counts_by_the_wall_clock() {
        let start = SystemClock.monotonic();
        for (uptime, another) in [(50, true), (58, true), (59, false), (4_000, false)] {
            let mut known = Uptime::new(start, START, Some(Timestamp(START.0 - 60 * Timestamp::SECOND)));
            known.opened(start);
            known.heard(start);
            assert_eq!(known.told(seconds(uptime), start, start).is_some(), another, "{uptime}");
        }
    }

    #[test]
    fn an_endpoint_that_was_never_heard_shows_nothing() {
        let start = SystemClock.monotonic();
        let mut known = Uptime::new(start, START, None);
        known.opened(start);
        known.heard(start);
        assert_eq!(known.told(seconds(1), start, start), None);
    }
}
