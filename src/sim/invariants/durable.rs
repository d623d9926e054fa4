//! A killed machine loses at most `journal.sync_interval` (promise 1): what was written is synced, or stored, within it.
//!
//! The sync itself takes time, and it may have to wait for a write that is under way; while a fault of the disk goes on
//! nothing is demanded.

use std::time::Duration;

use super::super::observation::{Observation, Seen};
use super::super::oracle::Oracle;
use super::{Invariant, Terms};
use crate::journaling::SyncPolicy;

/// See the module.
#[derive(Debug)]
pub struct Durable {
    within: Option<Duration>,
}

impl Durable {
    /// With the interval of a recorder.
    #[must_use]
    pub fn new(terms: &Terms) -> Self {
        let slack = terms.latency_max * 4 + Duration::from_millis(100);
        let within = match terms.settings.journal_sync {
            SyncPolicy::Always => Some(slack),
            SyncPolicy::Every(interval) => Some(interval + slack),
            SyncPolicy::Off => None,
        };
        Self { within }
    }
}

impl Invariant for Durable {
    fn name(&self) -> &'static str {
        "a killed machine loses at most the sync interval"
    }

    fn check(&mut self, oracle: &Oracle, observation: &Observation) -> Result<u64, String> {
        let (Some(within), Seen::Looked(_)) = (self.within, &observation.seen) else {
            return Ok(0);
        };
        let at = observation.at;
        let well_for = oracle.without_fault_for("disk", at).min(oracle.alive_for(at));
        if well_for < within * 2 {
            return Ok(0);
        }
        let well_since = at.saturating_sub(well_for);
        // The oldest that is not synced stands behind all that are.
        let late = oracle
            .pending
            .values()
            .rev()
            .take_while(|pending| !oracle.is_durable(pending))
            .find(|pending| pending.certain && !pending.sync_failed && pending.at + within < at && pending.at > well_since);
        match late {
            Some(late) => Err(format!(
                "{} was written {:?} ago and its segment {} is not synced",
                late.record.id(),
                at.saturating_sub(late.at),
                late.file
            )),
            None => Ok(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, terms, update};
    use super::*;

    #[test]
    fn a_segment_that_is_synced_within_the_interval_is_good() {
        let mut history = History::of(Durable::new(&terms()));
        history.look(|_| ()).pass(60).look(|_| ()).written("1.events", &[update(1, 1)]);
        history.see(Seen::Synced { file: "1.events".into(), ok: true }).pass(60).look(|_| ());
        history.is_good();
    }

    #[test]
    fn a_segment_whose_directory_is_not_synced_is_found() {
        let mut history = History::of(Durable::new(&terms()));
        history.look(|_| ()).pass(60).look(|_| ()).see(Seen::Created { file: "1.events".into() });
        history.written("1.events", &[update(1, 1)]).see(Seen::Synced { file: "1.events".into(), ok: true });
        history.pass(2).look(|_| ());
        history.is_bad("is not synced");
    }

    /// Found by seed 20202: the disk had been slow, and nobody looked before that was over.
    #[test]
    fn what_was_written_while_the_disk_was_slow_may_be_late() {
        let mut history = History::of(Durable::new(&terms()));
        history.look(|_| ()).pass(60).see(Seen::Fault { name: "disk-slow", on: true }).written("1.events", &[update(1, 1)]);
        history.pass(20).see(Seen::Fault { name: "disk-slow", on: false }).pass(4).look(|_| ());
        history.is_good();
    }

    #[test]
    fn a_segment_that_is_not_synced_is_found() {
        let mut history = History::of(Durable::new(&terms()));
        history.look(|_| ()).pass(60).look(|_| ()).written("1.events", &[update(1, 1)]).pass(2).look(|_| ());
        history.is_bad("is not synced");
    }
}
