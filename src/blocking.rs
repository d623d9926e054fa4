//! Work that blocks (database calls, file writes, syncs) and the one handle through which it is done.
//!
//! In production the work goes to tokio's blocking threads. In the simulation it runs inline after a virtual delay that
//! is drawn from the seed: `spawn_blocking` holds tokio's paused clock, but not the order in which jobs finish.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long an inline job takes in virtual time. The argument names the job.
pub type Latency = dyn Fn(&'static str) -> Duration + Send + Sync;

/// Runs blocking closures; cheap to clone.
#[derive(Clone)]
pub enum Blocking {
    /// On tokio's blocking threads: production.
    Threads,
    /// On the caller's thread, after the virtual delay that the function gives: simulation.
    Inline(Arc<Latency>),
}

impl Blocking {
    /// Inline and at once: for tests that do not care about time.
    #[must_use]
    pub fn immediate() -> Self {
        Self::Inline(Arc::new(|_| Duration::ZERO))
    }

    /// Runs `work` and returns what it returned. `job` names the work for the simulation's delays and traces.
    ///
    /// Dropping the future does not stop work that has begun on a thread.
    ///
    /// # Panics
    /// Passes on a panic of `work`.
    pub async fn run<T: Send + 'static>(&self, job: &'static str, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            Self::Threads => match tokio::task::spawn_blocking(work).await {
                Ok(value) => value,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime is going away; whoever waits here will never be polled again.
                Err(_) => std::future::pending().await,
            },
            Self::Inline(latency) => {
                let delay = latency(job);
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                work()
            }
        }
    }
}

impl fmt::Debug for Blocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Threads => "Blocking::Threads",
            Self::Inline(_) => "Blocking::Inline",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn inline_work_takes_the_virtual_time_it_is_given() {
        let blocking = Blocking::Inline(Arc::new(|job| if job == "slow" { Duration::from_secs(7) } else { Duration::ZERO }));
        let before = crate::clock::Clock::monotonic(&crate::clock::SystemClock);
        assert_eq!(blocking.run("fast", || 1).await + blocking.run("slow", || 2).await, 3);
        assert_eq!(before.elapsed(), Duration::from_secs(7));
    }
}
