//! How often each tunnel reports, and when its silence is worth a question.
//!
//! A quiet stream says nothing by itself: masters send no keep-alive, and a server without a client does not report.
//! But a tunnel that reported every five seconds and stops has either changed in a way that the stream should have
//! told, or the stream is dead.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::event::InstanceId;

/// Time without any event after which the master is asked.
pub const SILENCE_MAX: Duration = Duration::from_secs(5 * 60);

/// Reports of a tunnel that may be missing before the master is asked.
pub const MISSED_MAX: u32 = 3;

/// What a report may be late by besides, for a busy machine or network.
const GRACE: Duration = Duration::from_secs(1);

/// Updates that follow each other faster are changes, not reports: the shortest interval in use is two seconds.
const INTERVAL_MIN: Duration = Duration::from_millis(500);

/// So many equal distances in a row are an interval.
const EQUAL_DISTANCES: u32 = 3;

#[derive(Clone, Copy, Debug)]
struct Rhythm {
    last: Instant,
    distance: Duration,
    equal: u32,
    interval: Option<Duration>,
    asked: bool,
}

/// The rhythm of each tunnel of one connection.
#[derive(Debug)]
pub struct Pace {
    tunnels: BTreeMap<InstanceId, Rhythm>,
    last_event: Instant,
    asked: Instant,
    /// The deadline as it was told last.
    told: Instant,
    sooner: bool,
}

impl Pace {
    /// A connection begins. Rhythms are learnt anew: what was missed meanwhile is a gap already.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { tunnels: BTreeMap::new(), last_event: now, asked: now, told: now + SILENCE_MAX, sooner: false }
    }

    /// An event of any kind came.
    pub fn heard(&mut self, now: Instant) {
        self.last_event = now;
    }

    /// When the last event came, or the connection began.
    #[must_use]
    pub fn last_event(&self) -> Instant {
        self.last_event
    }

    /// An `update` came. Returns how many reports before it are missing.
    pub fn report(&mut self, instance: &InstanceId, running: bool, now: Instant) -> u64 {
        if !running {
            self.forget(instance);
            return 0;
        }
        let Some(rhythm) = self.tunnels.get_mut(instance) else {
            let rhythm = Rhythm { last: now, distance: Duration::ZERO, equal: 0, interval: None, asked: false };
            self.tunnels.insert(instance.clone(), rhythm);
            return 0;
        };
        let missed = rhythm.reported(now);
        self.sooner |= rhythm.deadline().is_some_and(|deadline| deadline < self.told);
        missed
    }

    /// The tunnel is gone or stopped: nothing is expected of it.
    pub fn forget(&mut self, instance: &InstanceId) {
        self.tunnels.remove(instance);
    }

    /// When to look for silence next.
    #[must_use]
    pub fn deadline(&mut self) -> Instant {
        let stream = self.last_event.max(self.asked) + SILENCE_MAX;
        self.told = self.tunnels.values().filter_map(Rhythm::deadline).fold(stream, Instant::min);
        self.told
    }

    /// Whether the deadline came nearer since it was last told, which is seldom: a report moves that of its tunnel away.
    pub fn take_sooner(&mut self) -> bool {
        std::mem::take(&mut self.sooner)
    }

    /// Whether the master should be asked now. A tunnel is asked about once until it reports again.
    pub fn overdue(&mut self, now: Instant) -> bool {
        let mut overdue = now >= self.last_event.max(self.asked) + SILENCE_MAX;
        for rhythm in self.tunnels.values_mut() {
            if rhythm.deadline().is_some_and(|deadline| now >= deadline) {
                rhythm.asked = true;
                overdue = true;
            }
        }
        if overdue {
            self.asked = now;
        }
        overdue
    }
}

impl Rhythm {
    /// Takes a report in. Returns how many before it are missing.
    fn reported(&mut self, now: Instant) -> u64 {
        self.asked = false;
        let distance = now.saturating_duration_since(self.last);
        if distance < INTERVAL_MIN {
            return 0;
        }
        self.equal = if distance.abs_diff(self.distance) <= distance / 4 { self.equal + 1 } else { 1 };
        self.distance = distance;
        self.last = now;
        let missed = self.interval.map_or(0.0, |interval| distance.as_secs_f64() / interval.as_secs_f64() - 1.0);
        if self.equal >= EQUAL_DISTANCES {
            self.interval = Some(distance);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float is cut to the range of u64")]
        let missed = missed.round() as u64;
        missed
    }

    fn deadline(&self) -> Option<Instant> {
        let interval = self.interval.filter(|_| !self.asked)?;
        Some(self.last + interval * MISSED_MAX + GRACE)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the start")]
mod tests {
    use super::*;

    const FIVE: Duration = Duration::from_secs(5);

    fn reporting(start: Instant) -> (Pace, InstanceId, Instant) {
        let (mut pace, id, mut now) = (Pace::new(start), InstanceId::from("9545ac3d"), start);
        for _ in 0..5 {
            now += FIVE;
            assert_eq!(pace.report(&id, true, now), 0);
            pace.heard(now);
        }
        (pace, id, now)
    }

    #[test]
    fn three_missed_reports_of_a_reporting_tunnel_are_asked_about_once() {
        let (mut pace, id, now) = reporting(Instant::now());
        let late = now + FIVE * 3 + GRACE;
        assert_eq!(pace.deadline(), late);
        assert!(!pace.overdue(late - Duration::from_millis(1)));
        assert!(pace.overdue(late));
        assert!(!pace.overdue(late + FIVE));
        pace.report(&id, true, late + FIVE);
        assert!(pace.overdue(late + FIVE * 4 + GRACE));
    }

    #[test]
    fn five_minutes_without_any_event_are_asked_about_every_five_minutes() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!(!pace.overdue(start + SILENCE_MAX - FIVE));
        assert!(pace.overdue(start + SILENCE_MAX));
        assert!(!pace.overdue(start + SILENCE_MAX + FIVE));
        assert!(pace.overdue(start + SILENCE_MAX * 2));
    }

    #[test]
    fn nothing_is_expected_of_a_stopped_tunnel_and_of_updates_without_a_rhythm() {
        let start = Instant::now();
        let (mut pace, id, now) = reporting(start);
        pace.report(&id, false, now + FIVE);
        assert_eq!(pace.deadline(), now + SILENCE_MAX);
        for seconds in [1, 2, 4, 8, 16, 32] {
            assert_eq!(pace.report(&id, true, now + FIVE + Duration::from_secs(seconds)), 0);
        }
        assert_eq!(pace.deadline(), now + SILENCE_MAX);
    }

    #[test]
    fn missing_reports_are_counted_and_changes_between_reports_are_not_mistaken_for_them() {
        let (mut pace, id, now) = reporting(Instant::now());
        assert_eq!(pace.report(&id, true, now + Duration::from_millis(3)), 0);
        assert_eq!(pace.report(&id, true, now + FIVE * 4), 3);
        assert_eq!(pace.report(&id, true, now + FIVE * 5), 0);
    }

    /// Each look costs a walk over all tunnels: a report of a steady tunnel is no reason for one, whatever its jitter.
    #[test]
    fn the_deadline_comes_nearer_with_a_shorter_interval_and_after_a_question_only() {
        let (mut pace, id, mut now) = reporting(Instant::now());
        assert!(pace.take_sooner(), "the first rhythm ends before five minutes of silence");
        let _ = pace.deadline();
        for millis in [4_990, 5_010, 5_000, 4_980] {
            now += Duration::from_millis(millis);
            pace.report(&id, true, now);
            assert!(!pace.take_sooner());
        }
        let late = pace.deadline();
        assert!(pace.overdue(late));
        let silence = pace.deadline();
        pace.report(&id, true, late + FIVE);
        assert!(pace.take_sooner() && pace.deadline() < silence);
    }

    #[test]
    fn a_new_interval_is_learnt() {
        let (mut pace, id, mut now) = reporting(Instant::now());
        for _ in 0..4 {
            now += Duration::from_secs(2);
            pace.report(&id, true, now);
        }
        assert_eq!(pace.deadline(), now + Duration::from_secs(6) + GRACE);
    }
}
