//! The sizes of all maps are bounded while instances come and go: by the instances that exist, and not by those that ever
//! existed. What shows are the live tunnels, the states of history and the counters by name.

use super::super::observation::{Observation, Seen};
use super::super::oracle::Oracle;
use super::Invariant;

/// Tunnels that may be known beyond those that exist: they went while nobody was looking.
const TUNNELS_UNKNOWN_MAX: usize = 200;
/// Kinds of events and reasons of drops are few; masters can make up kinds.
const NAMES_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Maps;

impl Invariant for Maps {
    fn name(&self) -> &'static str {
        "sizes of all maps are bounded"
    }

    fn check(&mut self, _: &Oracle, observation: &Observation) -> Result<u64, String> {
        match &observation.seen {
            Seen::Looked(look) => {
                if look.tunnels.len() > look.instances + TUNNELS_UNKNOWN_MAX {
                    return Err(format!("{} tunnels are live and {} instances exist", look.tunnels.len(), look.instances));
                }
                if look.cache.endpoints.len() > look.ingest.len() {
                    return Err(format!("health of {} endpoints is kept", look.cache.endpoints.len()));
                }
                for (endpoint, state) in &look.ingest {
                    if state.events.len() > NAMES_MAX || state.dropped.len() > NAMES_MAX {
                        return Err(format!("endpoint {endpoint} counts {} kinds of events", state.events.len()));
                    }
                }
                Ok(3)
            }
            Seen::Settled(settled) => {
                if settled.audit.history_states > settled.shown.len() {
                    return Err(format!(
                        "{} states of history are kept for {} tunnels",
                        settled.audit.history_states,
                        settled.shown.len()
                    ));
                }
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, state};
    use super::*;
    use crate::sim::observation::Settled;

    #[test]
    fn as_many_as_exist_are_good() {
        let mut history = History::of(Maps);
        history.look(|look| (look.instances, look.tunnels) = (1, vec![state(1, 1)]));
        history.is_good();
    }

    #[test]
    fn tunnels_and_states_that_stay_for_ever_are_found() {
        let mut history = History::of(Maps);
        history.look(|look| look.tunnels = vec![state(1, 1); 201]);
        history.is_bad("201 tunnels are live");
        let mut settled = Settled::default();
        settled.audit.history_states = 1;
        let mut history = History::of(Maps);
        history.see(Seen::Settled(Box::new(settled)));
        history.is_bad("states of history");
    }
}
