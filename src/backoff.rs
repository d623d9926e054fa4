//! How long to wait before the next try.

use std::time::Duration;

/// Exponential back-off with jitter: doubles from `first` up to `ceiling`, each wait lengthened by up to a quarter.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    ceiling: Duration,
    next: Duration,
    rng: fastrand::Rng,
}

impl Backoff {
    /// A back-off that begins with `first` and whose waits, jitter included, never exceed `ceiling`.
    #[must_use]
    pub fn new(first: Duration, ceiling: Duration, rng: fastrand::Rng) -> Self {
        Self { first, ceiling, next: first, rng }
    }

    /// The wait after one more failure.
    pub fn after_failure(&mut self) -> Duration {
        let wait = self.next.mul_f64(1.0 + self.rng.f64() / 4.0).min(self.ceiling);
        self.next = (self.next * 2).min(self.ceiling);
        wait
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_ceiling_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), fastrand::Rng::with_seed(1));
        let waits: Vec<Duration> = (0..10).map(|_| backoff.after_failure()).collect();
        for (wait, floor) in waits.iter().zip([1, 2, 4, 8, 16, 32, 60, 60, 60, 60]) {
            let floor = Duration::from_secs(floor);
            assert!(*wait >= floor && *wait <= (floor * 5 / 4).min(Duration::from_secs(60)), "{waits:?}");
        }
        backoff.reset();
        assert!(backoff.after_failure() < Duration::from_secs(2));
    }
}
