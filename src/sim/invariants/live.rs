//! Live state is stored before its segment goes: when the segment of an event is removed, the database shows what that event said of
//! its tunnel, or something newer. Else a crash at that moment would bring an older state back: the journal is all that repeats it.
//!
//! Live state is written beside the batches, so this is another promise than that of [`super::Segments`]. What the database shows is
//! known from the answers to its syncs. One whose answer was lost counts from the next start on, which finds out; within
//! a life it has to be repeated.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::observation::{Answer, Ended, Observation, Seen};
use super::super::oracle::Oracle;
use super::Invariant;
use crate::event::{EventKind, Gap, Record, Sample, TunnelKey};
use crate::id::EventId;
use crate::store::LiveChanges;

/// What an event said of its tunnel; `None` where it ended it.
type Said = (EventId, Option<Sample>);

/// See the module.
#[derive(Debug, Default)]
pub struct Live {
    /// What the last event of each tunnel in each segment said.
    said: BTreeMap<Arc<str>, BTreeMap<TunnelKey, Said>>,
    tunnels: BTreeMap<TunnelKey, Shown>,
}

/// What the database shows of a tunnel.
#[derive(Debug, Default)]
struct Shown {
    stored: Option<Said>,
    /// What it may show instead.
    perhaps: Option<Said>,
    /// What it shows if a sync of this life took effect whose answer was lost.
    in_doubt: Option<Said>,
}

impl Shown {
    fn is_there(&self) -> bool {
        self.stored.iter().chain(&self.perhaps).any(|(_, sample)| sample.is_some())
    }

    /// A write took effect. The database leaves out what is older than what it has.
    fn take(&mut self, said: Said) {
        self.perhaps = self.perhaps.take().filter(|(id, _)| *id > said.0);
        self.in_doubt = self.in_doubt.take().filter(|(id, _)| *id > said.0);
        if self.stored.as_ref().is_none_or(|(id, _)| *id < said.0) {
            self.stored = Some(said);
        }
    }

    /// Whether nothing would be lost with the event.
    fn covers(&self, (id, sample): &Said) -> bool {
        let covers = |(stored, shown): &Said| stored >= id || shown == sample;
        // A tunnel that the database does not know need not be removed from it.
        let never_there = sample.is_none() && self.stored.is_none();
        never_there || self.stored.iter().chain(&self.perhaps).any(covers)
    }
}

impl Live {
    fn note(&mut self, file: &Arc<str>, record: &Record) {
        let (tunnel, sample) = match record {
            Record::Event(event) if event.kind == EventKind::Delete => (event.tunnel(), None),
            // One that says nothing of the tunnel.
            Record::Event(event) if event.sample.is_none() => return,
            Record::Event(event) => (event.tunnel(), event.sample.clone()),
            Record::Gap(gap) if gap.reason.as_ref() == Gap::VANISHED => {
                (Some(TunnelKey { endpoint: gap.endpoint, instance: gap.instance.clone() }), None)
            }
            Record::Gap(_) => return,
        };
        if let Some(tunnel) = tunnel {
            self.said.entry(Arc::clone(file)).or_default().insert(tunnel, (record.id(), sample));
        }
    }

    /// What a sync stores, by tunnel. A removal says nothing of the event that caused it: it is newer than all that was stored before.
    fn each(changes: &LiveChanges) -> impl Iterator<Item = (&TunnelKey, Said)> {
        let samples = changes.samples.iter().map(|(tunnel, sample, _, id)| (tunnel, (*id, Some(sample.clone()))));
        samples.chain(changes.removed.iter().map(|(tunnel, _)| (tunnel, (changes.through, None))))
    }
}

impl Invariant for Live {
    fn name(&self) -> &'static str {
        "live state is stored before its segment goes"
    }

    fn check(&mut self, _: &Oracle, observation: &Observation) -> Result<u64, String> {
        match &observation.seen {
            Seen::Written { file, records, answer: Answer::Acknowledged(()), .. } => {
                records.iter().for_each(|record| self.note(file, record));
            }
            Seen::Live { changes, answer: Answer::Acknowledged(()) } => {
                for (tunnel, said) in Self::each(changes) {
                    self.tunnels.entry(tunnel.clone()).or_default().take(said);
                }
            }
            // A record that is stored by itself takes along what it says of a tunnel that the database knows.
            Seen::Single { record, answer } if *answer != Answer::Refused => {
                let Record::Event(event) = record.as_ref() else { return Ok(0) };
                let (Some(tunnel), Some(sample)) = (event.tunnel(), &event.sample) else { return Ok(0) };
                let said = (event.id, Some(sample.clone()));
                let known = self.tunnels.get_mut(&tunnel).filter(|shown| shown.is_there() && event.kind != EventKind::Delete);
                match (known, answer) {
                    (Some(shown), Answer::Acknowledged(_)) => shown.take(said),
                    (Some(shown), _) => shown.in_doubt = Some(said),
                    (None, _) => {}
                }
            }
            Seen::Live { changes, answer: Answer::Unknown } => {
                for (tunnel, said) in Self::each(changes) {
                    self.tunnels.entry(tunnel.clone()).or_default().in_doubt = Some(said);
                }
            }
            Seen::Ended(ended) => {
                for shown in self.tunnels.values_mut() {
                    shown.perhaps = shown.in_doubt.take().or(shown.perhaps.take());
                }
                if *ended == Ended::PowerLost {
                    // Which of them are still there is not known.
                    self.said.clear();
                }
            }
            Seen::Removed { file } => {
                let said = self.said.remove(file).unwrap_or_default();
                let nothing = Shown::default();
                for (tunnel, said) in &said {
                    let shown = self.tunnels.get(tunnel).unwrap_or(&nothing);
                    if !shown.covers(said) {
                        return Err(format!(
                            "{file} was removed with {} of {}, and the database shows {:?}",
                            said.0, tunnel.instance, shown.stored
                        ));
                    }
                }
                return Ok(said.len() as u64);
            }
            _ => {}
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, NOON, of_kind, sample, tunnel, update};
    use super::*;

    fn removed() -> Seen {
        Seen::Removed { file: "1.events".into() }
    }

    fn in_doubt(id: i64, tcp_rx: u64) -> Seen {
        let samples = vec![(tunnel(), sample(tcp_rx), NOON, EventId(id))];
        let changes = Box::new(LiveChanges { through: EventId(id), samples, ..LiveChanges::default() });
        Seen::Live { changes, answer: Answer::Unknown }
    }

    #[test]
    fn a_segment_that_goes_after_a_sync_of_its_last_event_or_a_later_one_is_good() {
        for id in [2, 3] {
            let mut history = History::of(Live::default());
            history.written("1.events", &[update(1, 10), update(2, 20)]).live(id, 20).see(removed());
            history.is_good();
        }
    }

    #[test]
    fn an_event_that_says_what_the_database_shows_already_needs_no_sync() {
        let mut history = History::of(Live::default());
        history.live(1, 10).written("1.events", &[update(2, 10)]).see(removed());
        history.is_good();
    }

    /// Found by seed 3160: in `realtime` there is no sync of what was stored already.
    #[test]
    fn a_record_that_is_stored_by_itself_stores_what_it_says_of_its_tunnel() {
        let mut history = History::of(Live::default());
        let single = Seen::Single { record: Box::new(update(2, 20)), answer: Answer::Acknowledged(true) };
        history.live(1, 10).written("1.events", &[update(2, 20)]).see(single).see(removed());
        history.is_good();
    }

    /// Found by seed 50025: in `realtime` with a slow database single records come long after the sync of what followed them.
    #[test]
    fn an_older_record_that_is_stored_by_itself_takes_nothing_back() {
        let mut history = History::of(Live::default());
        let single = Seen::Single { record: Box::new(update(1, 10)), answer: Answer::Acknowledged(true) };
        history.written("1.events", &[update(1, 10), update(2, 20)]).live(2, 20).see(single).see(removed());
        history.is_good();
    }

    #[test]
    fn a_segment_that_goes_before_the_sync_of_its_last_event_is_found() {
        let mut history = History::of(Live::default());
        history.written("1.events", &[update(1, 10), update(2, 20)]).live(1, 10).see(removed());
        history.is_bad("1.events was removed with 2 of 9545ac3d");
    }

    #[test]
    fn a_sync_in_doubt_counts_from_the_next_start_on_and_not_before() {
        let mut history = History::of(Live::default());
        history.written("1.events", &[update(2, 20)]).see(in_doubt(2, 20)).see(Seen::Ended(Ended::Killed)).see(removed());
        history.is_good();
        let mut history = History::of(Live::default());
        history.written("1.events", &[update(2, 20)]).see(in_doubt(2, 20)).see(removed());
        history.is_bad("removed with 2");
    }

    #[test]
    fn the_end_of_a_tunnel_has_to_be_stored_like_its_figures() {
        let gone = LiveChanges { through: EventId(2), removed: vec![(tunnel(), NOON)], ..LiveChanges::default() };
        for stored in [true, false] {
            let mut history = History::of(Live::default());
            history.written("0.events", &[update(1, 10)]).live(1, 10);
            history.written("1.events", &[of_kind(EventKind::Delete, 2, 10)]);
            if stored {
                history.see(Seen::Live { changes: Box::new(gone.clone()), answer: Answer::Acknowledged(()) });
            }
            history.see(removed());
            if stored { history.is_good() } else { history.is_bad("removed with 2") }
        }
    }

    #[test]
    fn what_a_loss_of_power_may_have_taken_is_not_asked_for() {
        let mut history = History::of(Live::default());
        history.written("0.events", &[update(1, 10)]).written("1.events", &[update(2, 20)]).live(1, 10);
        history.see(Seen::Removed { file: "0.events".into() }).see(Seen::Ended(Ended::PowerLost)).see(removed());
        history.is_good();
    }
}
