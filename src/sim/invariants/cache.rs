//! Live state equals what the last events say: no state is older than a written event of its tunnel, also after a replay,
//! and its figures are those of the event that it names. A deleted tunnel is not there.
//!
//! An event reaches the cache before it is written, so the state may name an event that the journal never got.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::observation::{Answer, Ended, Observation, Seen};
use super::super::oracle::Oracle;
use super::Invariant;
use crate::event::{Event, EventKind, Gap, Record, Sample, TunnelKey, TunnelState};
use crate::id::EventId;

/// See the module.
#[derive(Debug, Default)]
pub struct Cache {
    /// What the last written event of each tunnel said.
    said: BTreeMap<TunnelKey, Said>,
    /// The last event of each tunnel whose state the database holds.
    stored: BTreeMap<TunnelKey, Said>,
}

#[derive(Debug)]
struct Said {
    id: EventId,
    /// `None` where it ended the tunnel.
    sample: Option<Sample>,
    /// When it was written.
    at: Duration,
}

impl Invariant for Cache {
    fn name(&self) -> &'static str {
        "live state equals the last events"
    }

    fn check(&mut self, _: &Oracle, observation: &Observation) -> Result<u64, String> {
        match &observation.seen {
            Seen::Written { records, answer: Answer::Acknowledged(()), .. } => {
                records.iter().for_each(|record| self.note(record, observation.at));
                Ok(0)
            }
            Seen::Live { changes, answer: Answer::Acknowledged(()) } => {
                for (tunnel, sample, _, id) in &changes.samples {
                    let said = Said { id: *id, sample: Some(sample.clone()), at: observation.at };
                    self.stored.insert(tunnel.clone(), said);
                }
                for (tunnel, _) in &changes.removed {
                    self.stored.remove(tunnel);
                }
                Ok(0)
            }
            // What was lost is not known: begin anew with the next events.
            Seen::Ended(Ended::PowerLost) => {
                self.said.clear();
                Ok(0)
            }
            Seen::Looked(look) => {
                let live: BTreeMap<_, _> = look.tunnels.iter().map(|(tunnel, state)| (tunnel, state)).collect();
                // The tunnels may have been read before what was written at this very moment.
                for (tunnel, Said { id, sample, .. }) in self.said.iter().filter(|(_, said)| said.at < observation.at) {
                    match (live.get(tunnel), sample) {
                        // An event that changes nothing is not stored, so after a restart the state may be of an earlier one.
                        (Some(state), said) if state.last_event < *id && said.as_ref() != Some(&state.sample) => {
                            return Err(format!(
                                "{}: live state is of {}, and {id} was written since",
                                tunnel.instance, state.last_event
                            ));
                        }
                        (Some(state), Some(sample)) if state.last_event == *id && state.sample != *sample => {
                            return Err(format!("{}: live state is not what its last event {id} says", tunnel.instance));
                        }
                        (Some(state), None) if state.last_event == *id => {
                            return Err(format!("{}: it ended with {id} and is still shown", tunnel.instance));
                        }
                        // It may have ended since by an event that is not written yet.
                        (Some(_), _) | (None, _) => {}
                    }
                }
                for (tunnel, Said { id, sample, .. }) in self.stored.iter().filter(|(_, said)| said.at < observation.at) {
                    let differs = |state: &TunnelState| state.last_event < *id && Some(&state.sample) != sample.as_ref();
                    if let Some(state) = live.get(tunnel).filter(|state| differs(state)) {
                        return Err(format!(
                            "{}: live state is of {}, and the database knows of {id}",
                            tunnel.instance, state.last_event
                        ));
                    }
                }
                self.said.retain(|tunnel, said| said.sample.is_some() || live.contains_key(tunnel));
                Ok(look.tunnels.len() as u64)
            }
            _ => Ok(0),
        }
    }
}

impl Cache {
    fn note(&mut self, record: &Record, at: Duration) {
        match record {
            Record::Event(event) => {
                let Some(tunnel) = event.tunnel() else { return };
                match &event.kind {
                    EventKind::Delete => {
                        self.said.insert(tunnel, Said { id: event.id, sample: None, at });
                    }
                    _ => self.note_sample(tunnel, event, at),
                }
            }
            Record::Gap(gap) if gap.reason.as_ref() == Gap::VANISHED => {
                let tunnel = TunnelKey { endpoint: gap.endpoint, instance: gap.instance.clone() };
                self.said.insert(tunnel, Said { id: gap.id, sample: None, at });
            }
            Record::Gap(_) => {}
        }
    }

    fn note_sample(&mut self, tunnel: TunnelKey, event: &Event, at: Duration) {
        if let Some(sample) = &event.sample {
            self.said.insert(tunnel, Said { id: event.id, sample: Some(sample.clone()), at });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, of_kind, state, update};
    use super::*;

    #[test]
    fn live_state_of_the_last_event_or_a_later_one_is_good() {
        let mut history = History::of(Cache::default());
        history.written("1.events", &[update(1, 10)]).pass(1).look(|look| look.tunnels = vec![state(1, 10)]);
        history.pass(1).look(|look| look.tunnels = vec![state(2, 20)]);
        history.is_good();
    }

    /// Found by seed 1 with `--faults shutdown,masters`: a line that says nothing new of the tunnel is no change to store.
    #[test]
    fn after_a_restart_the_state_may_be_of_an_earlier_event_that_says_the_same() {
        let mut history = History::of(Cache::default());
        history.written("1.events", &[update(1, 10), update(2, 10)]).live(1, 10).see(Seen::Ended(Ended::Killed));
        history.see(Seen::Started { life: 2 }).pass(1).look(|look| look.tunnels = vec![state(1, 10)]);
        history.is_good();
    }

    #[test]
    fn a_stale_event_that_overwrote_a_newer_state_is_found() {
        let mut history = History::of(Cache::default());
        history.written("1.events", &[update(1, 10), update(2, 20)]).see(Seen::Ended(Ended::Killed));
        history.see(Seen::Started { life: 2 }).pass(1).look(|look| look.tunnels = vec![state(1, 10)]);
        history.is_bad("live state is of 1, and 2 was written since");
    }

    #[test]
    fn a_replay_that_goes_back_behind_the_database_is_found() {
        let mut history = History::of(Cache::default());
        history.written("1.events", &[update(1, 10), update(2, 20)]).live(2, 20).see(Seen::Ended(Ended::PowerLost));
        history.see(Seen::Started { life: 2 }).pass(1).look(|look| look.tunnels = vec![state(1, 10)]);
        history.is_bad("live state is of 1, and the database knows of 2");
    }

    #[test]
    fn a_state_that_is_not_what_its_event_says_is_found() {
        let mut history = History::of(Cache::default());
        history.written("1.events", &[update(2, 20)]).pass(1).look(|look| look.tunnels = vec![state(2, 10)]);
        history.is_bad("is not what its last event 2 says");
    }

    #[test]
    fn a_deleted_tunnel_that_is_still_shown_is_found() {
        let mut history = History::of(Cache::default());
        history.written("1.events", &[update(1, 1), of_kind(EventKind::Delete, 2, 1)]);
        history.pass(1).look(|look| look.tunnels = vec![state(1, 1)]);
        history.is_bad("live state is of 1, and 2 was written since");
    }
}
