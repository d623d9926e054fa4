//! After the faults stop, everything converges within a bounded virtual time: every endpoint is online, nothing waits, live
//! state and `tunnels` are what the masters show, and after the shutdown the journal is empty.

use std::collections::BTreeMap;

use super::super::observation::{Observation, Seen, Settled};
use super::super::oracle::Oracle;
use super::Invariant;
use crate::event::TunnelKey;

/// See the module.
#[derive(Debug, Default)]
pub struct Convergence;

impl Invariant for Convergence {
    fn name(&self) -> &'static str {
        "everything converges"
    }

    fn check(&mut self, _: &Oracle, observation: &Observation) -> Result<u64, String> {
        let Seen::Settled(settled) = &observation.seen else { return Ok(0) };
        let Settled { unmet, shown, look, summary, audit, segments, moved_at_masters: _ } = &**settled;
        if let Some(first) = unmet.first() {
            return Err(first.clone());
        }
        let live: BTreeMap<&TunnelKey, _> = look.tunnels.iter().map(|(tunnel, state)| (tunnel, state)).collect();
        let stored: BTreeMap<&TunnelKey, _> = audit.tunnels.iter().map(|stored| (&stored.tunnel, stored)).collect();
        for at_master in shown {
            let name = &at_master.tunnel.instance;
            let Some(state) = live.get(&at_master.tunnel) else {
                return Err(format!("{name} exists at its master and is not shown"));
            };
            let alias_differs = at_master.alias.as_deref().is_some_and(|alias| alias != state.config.alias.as_str());
            if state.sample.counters != at_master.counters || state.sample.status.as_str() != at_master.status || alias_differs {
                return Err(format!("{name} is shown as {:?} and is {at_master:?}", state.sample));
            }
            match stored.get(&at_master.tunnel) {
                Some(stored) if stored.counters == at_master.counters && stored.status == at_master.status => {}
                other => return Err(format!("{name} stands in the database as {other:?} and is {at_master:?}")),
            }
        }
        let exists: BTreeMap<&TunnelKey, ()> = shown.iter().map(|shown| (&shown.tunnel, ())).collect();
        if let Some(ghost) = live.keys().chain(stored.keys()).find(|tunnel| !exists.contains_key(**tunnel)) {
            return Err(format!("{} is shown or stored and does not exist at its master", ghost.instance));
        }
        if summary.left_in_journal > 0 || summary.error.is_some() || !summary.late.is_empty() {
            return Err(format!("the last shutdown left something: {summary}"));
        }
        if let Some(segment) = segments.first() {
            return Err(format!("the journal still holds {} segments, the first is {segment}", segments.len()));
        }
        if audit.quarantined > 0 {
            return Err(format!("{} rows are in quarantine", audit.quarantined));
        }
        Ok(3 + shown.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, counters, state, tunnel};
    use super::*;
    use crate::sim::observation::{Shown, StoredTunnel};

    fn settled(change: impl FnOnce(&mut Settled)) -> History {
        let (tunnel, status, counters) = (tunnel(), "running".to_owned(), counters(7));
        let shown = vec![Shown { tunnel: tunnel.clone(), alias: None, status: status.clone(), counters }];
        let mut settled = Settled { shown, ..Settled::default() };
        settled.look.tunnels = vec![state(1, 7)];
        settled.audit.tunnels = vec![StoredTunnel { tunnel, status, counters }];
        change(&mut settled);
        let mut history = History::of(Convergence);
        history.see(Seen::Settled(Box::new(settled)));
        history
    }

    #[test]
    fn all_three_agreeing_is_good() {
        settled(|_| ()).is_good();
    }

    #[test]
    fn each_way_not_to_converge_is_found() {
        settled(|settled| settled.unmet.push("tokyo is OFFLINE".into())).is_bad("tokyo is OFFLINE");
        settled(|settled| settled.look.tunnels.clear()).is_bad("is not shown");
        settled(|settled| settled.look.tunnels = vec![state(1, 6)]).is_bad("is shown as");
        settled(|settled| settled.audit.tunnels[0].counters = counters(6)).is_bad("in the database");
        settled(|settled| settled.shown.clear()).is_bad("does not exist at its master");
        settled(|settled| settled.summary.left_in_journal = 3).is_bad("left_in_journal=3");
        settled(|settled| settled.segments.push("1.events".into())).is_bad("still holds 1 segments");
        settled(|settled| settled.audit.quarantined = 1).is_bad("quarantine");
    }
}
