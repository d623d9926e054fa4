//! Start-up: live state and history as they were, from the database and the journal, before the first stream opens.

use std::collections::BTreeSet;
use std::sync::Arc;

use log::{info, warn};

use crate::boundary::Schedule;
use crate::buffering::RecoveredBatch;
use crate::clock::Timestamp;
use crate::event::{EndpointId, Record};
use crate::history::Histories;
use crate::id::EventId;
use crate::journal::disk::Disk;
use crate::journal::{Content, Journal, JournalError, RepairReport, Run, SegmentKind, Writer};
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
    /// Damage found in the journal; it is set aside and reported.
    pub damaged: usize,
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
    let (mut batches, mut empty) = (Vec::new(), Vec::new());

    // History first: it says from which event on the records of the event segments are still to be counted.
    for no in reading.segments_of(SegmentKind::History) {
        let segment = reading.read(no)?;
        let Content::History(mut found) = segment.content else { continue };
        match found.pop() {
            Some(batch) => {
                highest_id = highest_id.max(batch.id);
                if batch.through > histories.through() {
                    histories
                        .restore(batch.through, batch.states.iter().map(|(tunnel, state)| (tunnel.clone(), state.as_deref())));
                }
                batches.push(RecoveredBatch {
                    segment: no,
                    info: batch.info,
                    events: 0,
                    last: batch.through,
                    bytes: segment.bytes,
                });
            }
            None => empty.push(no),
        }
    }
    let history_durable = histories.through();
    let mut replayed = 0;
    for no in reading.segments_of(SegmentKind::Events) {
        let segment = reading.read(no)?;
        let Content::Events(records) = segment.content else { continue };
        if records.is_empty() {
            empty.push(no);
            continue;
        }
        for record in records.iter().filter(|record| known.contains(&record.endpoint())) {
            live.apply(record);
            histories.observe(record);
        }
        let last = records.iter().map(Record::id).max().unwrap_or_default();
        highest_id = highest_id.max(last);
        replayed += records.len();
        let info = FlushInfo { cause: FlushCause::Recovery, boundary: None, skipped_boundaries: 0, cut_at: now };
        batches.push(RecoveredBatch { segment: no, info, events: records.len() as u64, last, bytes: segment.bytes });
    }
    batches.sort_by_key(|batch| batch.segment);

    let (mut writer, repair) = reading.into_writer(Run::started_at(now))?;
    let damaged = report(&repair);
    for no in empty {
        // What could be read of it is nothing, and what could not be read is set aside.
        if let Err(error) = writer.remove(no) {
            warn!("journal: {error}");
        }
    }
    if !batches.is_empty() {
        info!("journal: {replayed} events in {} batches of a recorder before this one; they are flushed first", batches.len());
    }
    Ok(Recovered { live, histories, history_durable, batches, writer, highest_id, damaged })
}

/// Says what was found and done, and returns how much of it was damage that no crash explains.
fn report(repair: &RepairReport) -> usize {
    let mut damaged = 0;
    for damage in &repair.damage {
        if damage.kind.is_trace_of_a_crash() {
            info!("journal: {damage}; what a crash left of unsynced writes, repaired");
        } else {
            warn!("journal: {damage}; set aside, the records around it are read");
            damaged += 1;
        }
    }
    if repair.bytes_not_kept > 0 {
        warn!("journal: {} damaged bytes were not set aside, too many are already; move the files away", repair.bytes_not_kept);
    }
    for failed in &repair.failed {
        warn!("journal: {failed}");
    }
    damaged
}

/// The schedule that goes on after the last boundary that was kept.
#[must_use]
pub fn schedule(boundaries: crate::boundary::Boundaries, stored: &Stored, now: Timestamp) -> Schedule {
    Schedule::new(boundaries, stored.last_boundary, now)
}
