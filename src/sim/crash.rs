//! The end of a recorder that dies: what stays of it is dropped with its System, what it had not synced may be lost.

use std::time::Duration;

use super::life::{LifeEnd, World};
use super::observation::{Ended, Seen};
use super::shared::{Shared, lock};

/// Resolves when the recorder is dead or something is violated.
pub async fn over(shared: &Shared) {
    loop {
        if shared.going().dead || lock(&shared.judge).violation.is_some() {
            return;
        }
        shared.over.notified().await;
    }
}

impl World {
    /// What an end means for disk and time. Returns false if nothing follows.
    pub fn bury(&mut self, end: LifeEnd) -> bool {
        let LifeEnd::Over(ended) = end else { return false };
        let away = match ended {
            Ended::Stopped(_) => self.rng.u64(1..600),
            Ended::PowerLost => self.rng.u64(20..1_200),
            Ended::Killed | Ended::Hung | Ended::NotStarted(_) => self.rng.u64(1..30),
        };
        // What a failed sync left does not go while nobody runs: the next one would start on it.
        self.shared.going().forget = false;
        // A recorder that starts on what the system has forgotten finds damage, as after a loss of power: so it is one.
        let forgotten = std::mem::take(&mut self.shared.going().forgotten) && ended != Ended::PowerLost;
        match ended {
            Ended::PowerLost => self.disk.crash(&mut self.rng),
            _ if forgotten => self.disk.crash(&mut self.rng),
            _ => self.disk.kill(),
        }
        self.shared.see_always(Seen::Ended(ended));
        if forgotten {
            self.shared.see_always(Seen::Ended(Ended::PowerLost));
        }
        self.shared.pass(Duration::from_secs(away));
        lock(&self.shared.judge).violation.is_none()
    }
}
