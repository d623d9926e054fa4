//! Stopping is orderly (promise 6): it ends within its deadline, and with a database that works nothing is left behind.

use super::super::observation::{Ended, Observation, Seen};
use super::super::oracle::Oracle;
use super::Invariant;

/// See the module.
#[derive(Debug, Default)]
pub struct Shutdown;

impl Invariant for Shutdown {
    fn name(&self) -> &'static str {
        "stopping is orderly"
    }

    fn check(&mut self, oracle: &Oracle, observation: &Observation) -> Result<u64, String> {
        match &observation.seen {
            Seen::Ended(Ended::Hung) => Err("a shutdown was not answered within its deadline".to_owned()),
            Seen::Ended(Ended::Stopped(summary)) => {
                let calm = !oracle.any_fault(&["database", "disk"]) && !oracle.database_works_for(observation.at).is_zero();
                let left = oracle.pending.values().filter(|pending| pending.certain).count() as u64;
                if calm && summary.late.is_empty() && summary.error.is_none() && left > 0 {
                    return Err(format!("{left} written records were not stored although the shutdown reports none: {summary}"));
                }
                if left > summary.left_in_journal && summary.late.is_empty() {
                    return Err(format!("{left} records are left and the summary says {summary}"));
                }
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, committed, update};
    use super::*;
    use crate::pipeline::ShutdownSummary;

    #[test]
    fn a_shutdown_that_stores_all_or_says_what_is_left_is_good() {
        let mut history = History::of(Shutdown);
        history.written("1.events", &[update(1, 1)]).batch(&[update(1, 1)], false, committed(1, 0)).pass(1);
        history.see(Seen::Ended(Ended::Stopped(ShutdownSummary::default())));
        history.is_good();
        let mut history = History::of(Shutdown);
        history.written("1.events", &[update(1, 1)]).see(Seen::Fault { name: "database-down", on: true });
        let summary = ShutdownSummary { left_in_journal: 1, error: Some("down".into()), ..ShutdownSummary::default() };
        history.see(Seen::Ended(Ended::Stopped(summary)));
        history.is_good();
    }

    #[test]
    fn a_shutdown_that_hides_what_is_left_is_found() {
        let mut history = History::of(Shutdown);
        history.written("1.events", &[update(1, 1)]).pass(1);
        history.see(Seen::Ended(Ended::Stopped(ShutdownSummary::default())));
        history.is_bad("were not stored");
    }

    #[test]
    fn a_shutdown_that_hangs_is_found() {
        let mut history = History::of(Shutdown);
        history.see(Seen::Ended(Ended::Hung));
        history.is_bad("not answered");
    }
}
