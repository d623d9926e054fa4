//! Start-up: live state and history as they were, from the database and the journal, before the first stream opens.

use std::collections::BTreeSet;
use std::sync::Arc;

use log::{error, info, warn};

use crate::boundary::Schedule;
use crate::buffering::RecoveredBatch;
use crate::clock::Timestamp;
use crate::event::{EndpointId, Record};
use crate::history::Histories;
use crate::id::EventId;
use crate::journal::{Content, Disk, Journal, JournalError, RepairReport, Run, SegmentKind, SegmentNo, Writer};
use crate::live::LiveState;
use crate::store::{FlushCause, FlushInfo, Stored};

/// What a recorder begins with.
pub struct Recovered {
    /// Live state, as the last event says it.
    pub live: LiveState,
    /// Open windows and counters.
    pub histories: Histories,
    /// History is durable through here.
    pub history_durable: EventId,
    /// Batches that the journal holds.
    pub batches: Vec<RecoveredBatch>,
    /// The journal, repaired and open for appending.
    pub writer: Writer,
    /// Highest id that was ever given.
    pub highest_id: EventId,
    /// What was wrong with the journal and what was done about it.
    pub report: RepairReport,
    /// Records that are known to be missing from damaged segments. Segments that are missing or unreadable as a whole may have
    /// held any number.
    pub events_lost: u64,
}

/// Rebuilds from what the database knows and the journal holds. Blocks.
///
/// # Errors
/// If the journal cannot be read at all, or another process has it.
pub fn recover(stored: &Stored, disk: Arc<dyn Disk>, now: Timestamp) -> Result<Recovered, JournalError> {
    let known: BTreeSet<EndpointId> = stored.endpoints.iter().map(|(endpoint, _)| endpoint.id).collect();
    let mut live = LiveState::restore(
        stored.endpoints.iter().map(|(endpoint, health)| (endpoint.id, health.clone())),
        stored.tunnels.iter().cloned(),
    );
    let mut histories = Histories::default();
    histories.restore(
        stored.history_through,
        stored.history_states.iter().map(|(tunnel, state)| (tunnel.clone(), Some(state.as_ref()))),
    );
    let mut highest_id = stored.highest_id;
    let mut reading = Journal::open(disk)?;

    let mut batches = Vec::new();
    let (mut replayed, mut events_lost) = (0, 0);

    // History first: it says from which event on the records of the event segments are still to be counted.
    for no in reading.segments_of(SegmentKind::History) {
        let segment = reading.read(no)?;
        let mut recovered = RecoveredBatch { empty: true, ..nothing(no, segment.bytes, now) };
        if let Content::History(batches) = segment.content
            && let Some(batch) = batches.into_iter().next()
        {
            highest_id = highest_id.max(batch.id);
            if batch.through > histories.through() {
                let states = batch.states.iter().map(|(tunnel, state)| (tunnel.clone(), state.as_deref()));
                histories.restore(batch.through, states);
            }
            let history_rows = batch.rows.len() as u64;
            recovered = RecoveredBatch { info: batch.info, last: batch.through, history_rows, empty: false, ..recovered };
        }
        batches.push(RecoveredBatch { is_history: true, ..recovered });
    }
    let history_durable = histories.through();
    for no in reading.segments_of(SegmentKind::Events) {
        let segment = reading.read(no)?;
        events_lost += u64::from(segment.records_missing);
        let Content::Events(records) = segment.content else { continue };
        for record in records.iter().filter(|record| known.contains(&record.endpoint())) {
            live.apply(record);
            histories.observe(record);
        }
        let last = records.iter().map(Record::id).max().unwrap_or_default();
        let events = records.len() as u64;
        highest_id = highest_id.max(last);
        replayed += events;
        batches.push(RecoveredBatch { events, last, empty: records.is_empty(), ..nothing(no, segment.bytes, now) });
    }
    // Not before: the version may be newer than the records.
    for (endpoint, health) in &stored.endpoints {
        if let Some(version) = &health.version {
            histories.learn_version(endpoint.id, version);
        }
    }
    // The end of a tunnel may be known to live state alone: its event was refused by a full disk, and the recorder died before its
    // history was handed over. Nobody would forget its counters any more.
    histories.forget_unless(|tunnel| live.has(tunnel));
    batches.sort_by_key(|batch| batch.segment);
    let (writer, report) = reading.into_writer(Run::started_at(now))?;
    // What could not be read at all was renamed and is no segment any more.
    batches.retain(|batch| writer.segment(batch.segment).is_some());
    tell(&report, events_lost);
    if replayed > 0 {
        info!("journal: {replayed} events in {} batches of a recorder before this one; they are flushed first", batches.len());
    }
    Ok(Recovered { live, histories, history_durable, batches, writer, highest_id, report, events_lost })
}

/// A segment without anything in it.
fn nothing(segment: SegmentNo, bytes: u64, now: Timestamp) -> RecoveredBatch {
    let info = FlushInfo { cause: FlushCause::Recovery, boundary: None, skipped_boundaries: 0, cut_at: now };
    RecoveredBatch { segment, info, is_history: false, events: 0, history_rows: 0, last: EventId::ZERO, bytes, empty: true }
}

fn tell(report: &RepairReport, events_lost: u64) {
    for damage in &report.damage {
        if damage.kind.is_trace_of_a_crash() {
            info!("journal: {damage}");
        } else {
            error!("journal: {damage}");
        }
    }
    if events_lost > 0 {
        error!("journal: {events_lost} events of damaged segments are lost; the disk may be failing");
    }
    for failed in &report.failed {
        warn!("journal: {failed}");
    }
    if report.bytes_not_kept > 0 {
        warn!("journal: {} damaged bytes were not kept; move the files ending in .damaged away", report.bytes_not_kept);
    }
}

/// The schedule that goes on after the last boundary that was kept.
#[must_use]
pub fn schedule(boundaries: crate::boundary::Boundaries, stored: &Stored, now: Timestamp) -> Schedule {
    Schedule::new(boundaries, stored.last_boundary, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{TunnelKey, TunnelState};
    use crate::journal::MemoryDisk;

    /// Found by seed 3536 of the simulation: the `delete` of a tunnel was refused by a full disk, live state had it, and the machine
    /// lost power before the hour. Its counters stayed in `history_state`, and in memory, for ever.
    #[test]
    fn history_forgets_a_tunnel_that_live_state_does_not_know() {
        let tunnel = |instance: &str| TunnelKey { endpoint: EndpointId(1), instance: instance.into() };
        let mut before = Histories::default();
        before.observe(&crate::journal::samples::report(1));
        let info = FlushInfo { cause: FlushCause::Hourly, boundary: None, skipped_boundaries: 0, cut_at: Timestamp(1) };
        let json = before.cut(EventId(1), info, true).and_then(|batch| batch.states.into_iter().next()?.1).expect("a state");
        let state = |instance: &str| (tunnel(instance), json.clone());
        let live =
            TunnelState { config: Arc::default(), sample: Default::default(), seen_at: Timestamp(1), last_event: EventId(1) };
        let stored = Stored {
            tunnels: vec![(tunnel("9545ac3d"), live)],
            history_states: vec![state("9545ac3d"), state("0a1b2c3d")],
            ..Stored::default()
        };
        let mut recovered = recover(&stored, Arc::new(MemoryDisk::new()), Timestamp(1)).expect("an empty journal");
        let batch = recovered.histories.cut(EventId(2), info, false).expect("a state that goes");
        assert_eq!(batch.states, [(tunnel("0a1b2c3d"), None)]);
    }
}
