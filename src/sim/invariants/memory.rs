//! The memory bound is kept (promise 3): beyond `storage.memory_max_events` waiting records live in the journal alone.
//!
//! Beside the bound there may be in memory the batch that is being filled, the one that is being committed, and what waits
//! for a journal write that is under way; a disk that stalls has a bound of its own.

use super::super::observation::{Observation, Seen};
use super::super::oracle::Oracle;
use super::{Invariant, Terms};
use crate::actors::buffer::STALLED_BYTES_MAX;
use crate::event::Record;

/// Records that may wait for one journal write: a burst of all tunnels.
const UNWRITTEN_MAX: u64 = 5_000;

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

    fn check(&mut self, oracle: &Oracle, observation: &Observation) -> Result<u64, String> {
        let Seen::Looked(look) = &observation.seen else { return Ok(0) };
        let held = look.buffer.memory_events;
        let unwritten =
            if oracle.any_fault(&["disk"]) { (STALLED_BYTES_MAX / size_of::<Record>()) as u64 } else { UNWRITTEN_MAX };
        let bound = self.events_max + unwritten;
        if held > bound {
            return Err(format!(
                "{held} records are in memory; the bound, with two batches and what is being written, is {bound}"
            ));
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
        history.look(|look| look.buffer.memory_events = 107_000);
        history.is_good();
        history.look(|look| look.buffer.memory_events = 107_001);
        history.is_bad("107001 records are in memory");
    }
}
