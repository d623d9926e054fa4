//! The only file that reads a clock.
//!
//! Two clocks are kept apart on purpose. The *wall clock* dates things and decides when an hour is full; it can be
//! stepped in both directions by an operator or by NTP. The *monotonic clock* (tokio's, so that tests can pause it)
//! measures how long something took or may still take. Everything that needs the time is handed a [`Clock`].

#![expect(clippy::disallowed_methods, reason = "this is the file that reads the clocks")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// An instant of UTC in microseconds since 1970-01-01; the unit of every time that is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Microseconds in a second.
    pub const SECOND: i64 = 1_000_000;
    /// Microseconds in a minute.
    pub const MINUTE: i64 = 60 * Self::SECOND;

    /// The same instant in whole milliseconds since 1970-01-01, rounded down.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The start of the UTC minute that holds this instant.
    #[must_use]
    pub fn minute(self) -> Self {
        Self(self.0 - self.0.rem_euclid(Self::MINUTE))
    }

    /// This instant moved forward, saturating at the end of the range.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to this instant, zero where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// As a chrono value; instants beyond chrono's range become the epoch.
    #[must_use]
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(value: DateTime<Utc>) -> Self {
        Self(value.timestamp_micros())
    }
}

/// RFC 3339 in UTC with microseconds, for logs and JSON.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_utc().to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

/// Where time comes from. Production uses [`SystemClock`], tests and the simulation [`VirtualClock`].
pub trait Clock: Send + Sync + 'static {
    /// The wall clock. May step in both directions.
    fn wall(&self) -> Timestamp;

    /// The monotonic clock that tokio's timers run on.
    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A clock as it is handed around.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        Utc::now().into()
    }
}

/// Real time, also where tokio's is paused: for reports of how long something took on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A wall clock that follows tokio's (paused) time from a chosen start and can be stepped.
#[derive(Debug)]
pub struct VirtualClock {
    start: Timestamp,
    started: Instant,
    step_micros: AtomicI64,
}

impl VirtualClock {
    /// A clock that shows `start` now. Must be called inside the runtime whose time it follows.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Arc<Self> {
        Arc::new(Self { start, started: Instant::now(), step_micros: AtomicI64::new(0) })
    }

    /// Steps the wall clock by `micros` (negative: backwards) without touching the monotonic one.
    pub fn step(&self, micros: i64) {
        self.step_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn wall(&self) -> Timestamp {
        let elapsed = i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.start.0 + elapsed + self.step_micros.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_starts_at_or_before_its_instants_also_before_1970() {
        assert_eq!(Timestamp(61_000_001).minute(), Timestamp(60_000_000));
        assert_eq!(Timestamp(60_000_000).minute(), Timestamp(60_000_000));
        assert_eq!(Timestamp(-1).minute(), Timestamp(-60_000_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_moves_the_wall_clock_and_not_the_monotonic_one() {
        let clock = VirtualClock::starting_at(Timestamp(0));
        let before = clock.monotonic();
        tokio::time::advance(Duration::from_secs(5)).await;
        clock.step(-2 * Timestamp::SECOND);
        assert_eq!(clock.wall(), Timestamp(3 * Timestamp::SECOND));
        assert_eq!(clock.monotonic() - before, Duration::from_secs(5));
    }
}
