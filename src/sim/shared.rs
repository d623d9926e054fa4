//! What the simulated parts share: true time, the judge, the faults that go on, and the place where the recorder dies.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::judge::Judge;
use super::observation::{Observation, Seen};
use crate::clock::{Clock, SystemClock, Timestamp};

/// Shared by disk, store, transport, clock and world.
pub type Shared = Arc<State>;

/// See the module.
pub struct State {
    /// Judges.
    pub judge: Mutex<Judge>,
    faults: Mutex<Going>,
    time: Mutex<Time>,
    /// Told when the recorder died or something was violated.
    pub over: Notify,
}

/// Faults that go on, and the one that will end this life.
#[derive(Debug, Default)]
pub struct Going {
    /// Every call of the database fails.
    pub database_down: bool,
    /// Calls of the database take seconds.
    pub database_slow: bool,
    /// One in so many calls of the database fails; 0 for none.
    pub database_locked_one_in: u8,
    /// The next commits are in doubt: true where they are stored.
    pub doubts: Vec<bool>,
    /// Journal work takes seconds.
    pub disk_slow: bool,
    /// After the failed syncs that come the system drops what they were to write from memory, too.
    pub forget: bool,
    /// It did: files are not what the recorder wrote, and the machine does not go on like that when the recorder is gone.
    pub forgotten: bool,
    /// The recorder dies at this call.
    pub death: Option<Death>,
    /// It is dead: nothing that its remains do has an effect.
    pub dead: bool,
    /// Draws latencies and what is left open.
    pub rng: fastrand::Rng,
    /// Longest ordinary call.
    pub latency_max: Duration,
}

/// Where the recorder dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// At a call of the disk, or of the database?
    pub at_disk: bool,
    /// After so many further calls.
    pub calls_left: u32,
    /// Power is lost, or is the process killed?
    pub power: bool,
    /// The last call is carried out before.
    pub after_call: bool,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// It is made.
    Goes,
    /// It is made, and nobody lives to see the answer.
    GoesUnseen,
    /// It is not made.
    Never,
}

#[derive(Debug)]
struct Time {
    start: Timestamp,
    /// True time of earlier lives and of the time between.
    before: Duration,
    /// Start of this life.
    began: Option<Instant>,
    step_micros: i64,
}

impl State {
    /// Of a simulation that begins at `start`.
    #[must_use]
    pub fn new(judge: Judge, start: Timestamp, latency_max: Duration, rng: fastrand::Rng) -> Shared {
        let going = Going { rng, latency_max, ..Going::default() };
        Arc::new(Self {
            judge: Mutex::new(judge),
            faults: Mutex::new(going),
            time: Mutex::new(Time { start, before: Duration::ZERO, began: None, step_micros: 0 }),
            over: Notify::new(),
        })
    }

    /// A life begins, in a runtime of its own.
    pub fn begin_life(&self) {
        let mut going = self.going();
        (going.dead, going.death) = (false, None);
        lock(&self.time).began = Some(SystemClock.monotonic());
    }

    /// A life is over: time stands still. Called inside the runtime whose time it is.
    pub fn freeze(&self) {
        let mut time = lock(&self.time);
        let lived = time.began.take().map_or(Duration::ZERO, |began| began.elapsed());
        time.before += lived;
    }

    /// Nobody lives for a while.
    pub fn pass(&self, away: Duration) {
        lock(&self.time).before += away;
    }

    /// True time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let time = lock(&self.time);
        time.before + time.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// True time as an instant: what the masters' clocks show.
    #[must_use]
    pub fn truth(&self) -> Timestamp {
        let elapsed = self.elapsed();
        lock(&self.time).start.plus(elapsed)
    }

    /// Steps the recorder's wall clock.
    pub fn step(&self, micros: i64) {
        lock(&self.time).step_micros += micros;
        self.see(Seen::Stepped { micros });
    }

    /// The faults that go on.
    pub fn going(&self) -> MutexGuard<'_, Going> {
        lock(&self.faults)
    }

    /// Has the judge see something, unless the recorder is dead.
    pub fn see(&self, seen: Seen) {
        if !self.going().dead {
            self.see_always(seen);
        }
    }

    /// Has the judge see something.
    pub fn see_always(&self, seen: Seen) {
        let observation = Observation { at: self.elapsed(), wall: self.wall(), seen };
        let violated = {
            let mut judge = lock(&self.judge);
            judge.see(observation);
            judge.violation.is_some()
        };
        if violated {
            self.over.notify_one();
        }
    }

    /// Asks what becomes of a call.
    #[must_use]
    pub fn point(&self, at_disk: bool) -> Point {
        let mut going = self.going();
        if going.dead {
            return Point::Never;
        }
        let Some(death) = going.death.as_mut().filter(|death| death.at_disk == at_disk) else { return Point::Goes };
        if death.calls_left > 0 {
            death.calls_left -= 1;
            return Point::Goes;
        }
        if death.after_call { Point::GoesUnseen } else { Point::Never }
    }

    /// The recorder dies now.
    pub fn die(&self) {
        self.going().dead = true;
        self.over.notify_one();
    }

    /// How long a blocking job takes.
    #[must_use]
    pub fn latency(&self, job: &str) -> Duration {
        let mut going = self.going();
        if going.dead {
            // Whatever the remains of a dead recorder wanted to do is never done.
            return Duration::from_secs(1 << 40);
        }
        let slow = if job == "journal" { going.disk_slow } else { going.database_slow };
        let most = going.latency_max.as_micros() as u64;
        if slow {
            return Duration::from_millis(going.rng.u64(500..9_000));
        }
        // Half of all calls take no time at all.
        match going.rng.u64(0..2 * most.max(1)) {
            micros if micros < most => Duration::from_micros(micros),
            _ => Duration::ZERO,
        }
    }
}

/// The recorder's wall clock: true time and the steps.
impl Clock for State {
    fn wall(&self) -> Timestamp {
        let truth = self.truth();
        Timestamp(truth.0 + lock(&self.time).step_micros)
    }
}

/// A panic elsewhere ends the run; what is behind a lock is changed in one step.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
