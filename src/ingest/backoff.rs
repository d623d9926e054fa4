//! When to connect again.

use std::time::Duration;

/// Longest wait between two attempts, whatever the master asked for.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// First wait where the master asked for none; with its jitter it stays within a second.
const WAIT_WITHOUT_RETRY: Duration = Duration::from_millis(500);

/// Shortest first wait: `retry: 0` must not make us hammer.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// A connection that lasted this long was a good one: the next wait is the first again. Shorter ones let the wait
/// grow, or a master that accepts and closes at once would be called every second for ever.
pub const STABLE_AFTER: Duration = Duration::from_secs(30);

/// Waits that double from attempt to attempt up to [`WAIT_MAX`], for ever.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    attempts: u32,
    retry: Option<Duration>,
}

impl Backoff {
    /// The master asked for this wait.
    pub fn asked_for(&mut self, retry: Duration) {
        self.retry = Some(retry);
    }

    /// The connection before was a good one.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How long to wait before the next attempt: the doubled base and up to half of the base more, so that the
    /// readers of one master do not come back together; at the ceiling up to a quarter less.
    pub fn next_wait(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let base = self.retry.unwrap_or(WAIT_WITHOUT_RETRY).clamp(WAIT_MIN, WAIT_MAX);
        let doubled = base.saturating_mul(1 << self.attempts.min(16));
        self.attempts = self.attempts.saturating_add(1);
        let wait = doubled + doubled.min(base).mul_f64(rng.f64() / 2.0);
        if wait < WAIT_MAX { wait } else { WAIT_MAX.mul_f64(1.0 - rng.f64() / 4.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(backoff: &mut Backoff, count: usize) -> Vec<Duration> {
        let mut rng = fastrand::Rng::with_seed(7);
        (0..count).map(|_| backoff.next_wait(&mut rng)).collect()
    }

    #[test]
    fn the_first_wait_is_within_a_second_where_no_retry_was_sent() {
        for seed in 0..200 {
            let wait = Backoff::default().next_wait(&mut fastrand::Rng::with_seed(seed));
            assert!((Duration::from_millis(500)..=Duration::from_secs(1)).contains(&wait), "{wait:?}");
        }
    }

    #[test]
    fn the_first_wait_is_not_shorter_than_the_retry_that_was_sent() {
        let mut backoff = Backoff::default();
        backoff.asked_for(Duration::from_secs(3));
        let wait = waits(&mut backoff, 1)[0];
        assert!((Duration::from_secs(3)..Duration::from_millis(4_501)).contains(&wait), "{wait:?}");
    }

    #[test]
    fn waits_grow_to_the_ceiling_and_stay_there_for_ever() {
        let waits = waits(&mut Backoff::default(), 300);
        assert!(waits.windows(2).take(6).all(|pair| pair[1] > pair[0]), "{waits:?}");
        assert!(waits[8..].iter().all(|wait| (Duration::from_secs(45)..=WAIT_MAX).contains(wait)), "{waits:?}");
    }

    #[test]
    fn a_reset_begins_again_and_extreme_retries_are_bounded() {
        let mut backoff = Backoff::default();
        waits(&mut backoff, 20);
        backoff.reset();
        assert!(waits(&mut backoff, 1)[0] <= Duration::from_secs(1));
        backoff.reset();
        backoff.asked_for(Duration::from_millis(u64::MAX));
        assert!(waits(&mut backoff, 3).iter().all(|wait| *wait <= WAIT_MAX));
        backoff.reset();
        backoff.asked_for(Duration::ZERO);
        assert!(waits(&mut backoff, 1)[0] >= WAIT_MIN);
    }
}
