//! Each report that was written is counted in a minute: a window that is lost at a restart shows in no sum, since the next sample
//! makes good for it, but its reports are missed.
//!
//! What a loss of power takes with an unsynced segment need not be counted, nor what was written to one whose sync failed. Where days
//! expired, what is left says nothing any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::observation::{Answer, Ended, Observation, Seen};
use super::super::oracle::Oracle;
use super::Invariant;
use crate::event::{EventKind, Record, TunnelKey};

/// See the module.
#[derive(Debug, Default)]
pub struct Reports {
    /// What no loss of power takes any more.
    safe: BTreeMap<TunnelKey, u64>,
    /// What one would take, by segment.
    unsafe_in: BTreeMap<Arc<str>, Segment>,
}

/// Reports that were written to a segment since it was synced last.
#[derive(Debug, Default)]
struct Segment {
    reports: BTreeMap<TunnelKey, u64>,
    synced: bool,
    sync_failed: bool,
}

impl Reports {
    /// What was synced in a segment that the directory names survives everything.
    fn save(&mut self, oracle: &Oracle, directory_synced: bool) {
        let Self { safe, unsafe_in } = self;
        for (_, segment) in
            unsafe_in.iter_mut().filter(|(file, segment)| segment.synced && (directory_synced || oracle.is_linked(file)))
        {
            count(safe, std::mem::take(&mut segment.reports));
        }
    }
}

impl Invariant for Reports {
    fn name(&self) -> &'static str {
        "each report is counted in a minute"
    }

    fn check(&mut self, oracle: &Oracle, observation: &Observation) -> Result<u64, String> {
        match &observation.seen {
            Seen::Written { file, records, answer: Answer::Acknowledged(()), .. } => {
                let segment = self.unsafe_in.entry(Arc::clone(file)).or_default();
                segment.synced = false;
                for tunnel in records.iter().filter_map(reported) {
                    *segment.reports.entry(tunnel).or_default() += 1;
                }
            }
            Seen::Synced { file, ok } => {
                if let Some(segment) = self.unsafe_in.get_mut(file) {
                    segment.sync_failed |= !ok;
                    segment.synced = !segment.sync_failed;
                }
                self.save(oracle, false);
            }
            Seen::DirectorySynced => self.save(oracle, true),
            // It went when all of it was stored.
            Seen::Removed { file } => {
                if let Some(segment) = self.unsafe_in.remove(file) {
                    count(&mut self.safe, segment.reports);
                }
            }
            Seen::Ended(Ended::PowerLost) => self.unsafe_in.clear(),
            Seen::Settled(settled) if !oracle.days_expired => {
                let mut written = self.safe.clone();
                self.unsafe_in.values().for_each(|segment| count(&mut written, segment.reports.clone()));
                let counted: BTreeMap<_, _> = settled.audit.reports.iter().map(|(tunnel, count)| (tunnel, *count)).collect();
                for (tunnel, reports) in &written {
                    let counted = counted.get(tunnel).copied().unwrap_or_default();
                    if counted < *reports {
                        return Err(format!("{}: {reports} reports were written, and {counted} are counted", tunnel.instance));
                    }
                }
                return Ok(written.len() as u64);
            }
            _ => {}
        }
        Ok(0)
    }
}

fn count(counted: &mut BTreeMap<TunnelKey, u64>, reports: BTreeMap<TunnelKey, u64>) {
    for (tunnel, reports) in reports {
        *counted.entry(tunnel).or_default() += reports;
    }
}

/// Whose report a record is.
fn reported(record: &Record) -> Option<TunnelKey> {
    match record {
        Record::Event(event) if event.kind == EventKind::Update && event.sample.is_some() => event.tunnel(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::{History, tunnel, update};
    use super::*;
    use crate::sim::observation::Settled;

    fn counted(reports: u64) -> Seen {
        let mut settled = Settled::default();
        settled.audit.reports = vec![(tunnel(), reports)];
        Seen::Settled(Box::new(settled))
    }

    fn told() -> History {
        let mut history = History::of(Reports::default());
        history.see(Seen::Created { file: "1.events".into() }).see(Seen::DirectorySynced);
        history.written("1.events", &[update(1, 1), update(2, 2)]);
        history
    }

    fn synced(ok: bool) -> Seen {
        Seen::Synced { file: "1.events".into(), ok }
    }

    #[test]
    fn reports_that_are_counted_in_the_end_are_good_and_those_of_a_lost_window_are_found() {
        told().see(Seen::Ended(Ended::Killed)).see(counted(2)).is_good();
        told().see(Seen::Ended(Ended::Killed)).see(counted(1)).is_bad("2 reports were written, and 1 are counted");
    }

    #[test]
    fn what_power_took_need_not_be_counted_and_what_was_synced_must() {
        told().see(Seen::Ended(Ended::PowerLost)).see(counted(0));
        let mut history = told();
        history.see(synced(true)).written("1.events", &[update(3, 3)]).see(Seen::Ended(Ended::PowerLost));
        history.see(counted(1)).is_bad("2 reports were written, and 1 are counted");
        let mut history = told();
        history.see(synced(false)).see(synced(true)).see(Seen::Ended(Ended::PowerLost)).written("2.events", &[update(3, 3)]);
        history.see(counted(1)).is_good();
    }

    #[test]
    fn a_segment_that_no_directory_names_is_lost_with_all_that_was_synced_in_it() {
        let mut history = History::of(Reports::default());
        history.see(Seen::Created { file: "1.events".into() }).written("1.events", &[update(1, 1)]).see(synced(true));
        history.see(Seen::Ended(Ended::PowerLost)).written("2.events", &[update(2, 2)]).see(counted(1));
        history.is_good();
    }
}
