//! The memory bound is kept (promise 3): beyond `storage.memory_max_events` waiting records live in the journal alone.
//!
//! Beside the bound there may be in memory the batch that is being filled, the one that is being committed, and what the
//! journal refused to take, which has no other place.

use super::super::observation::{Observation, Seen};
use super::super::oracle::Oracle;
use super::{Invariant, Terms};

/// See the module.
#[derive(Debug)]
pub struct Memory {
    events_max: u64,
}

impl Memory {
    /// With the bounds of a recorder.
    #[must_use]
    pub fn new(terms: &Terms) -> Self {
        let batch = terms.settings.limits.batch_events_max;
        Self { events_max: (terms.settings.memory_events_max + 2 * batch) as u64 }
    }
}

impl Invariant for Memory {
    fn name(&self) -> &'static str {
        "the memory bound is kept"
    }

    fn check(&mut self, _: &Oracle, observation: &Observation) -> Result<u64, String> {
        let Seen::Looked(look) = &observation.seen else { return Ok(0) };
        let held = look.buffer.in_memory_events;
        if held > self.events_max {
            return Err(format!("{held} records are in memory; the bound with two batches is {}", self.events_max));
        }
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, terms};
    use super::*;

    #[test]
    fn the_bound_and_two_batches_are_good_and_one_more_is_found() {
        let mut history = History::of(Memory::new(&terms()));
        history.look(|look| look.buffer.in_memory_events = 102_000);
        history.is_good();
        history.look(|look| look.buffer.in_memory_events = 102_001);
        history.is_bad("102001 records are in memory");
    }
}
