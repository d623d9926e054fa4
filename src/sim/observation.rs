//! What is seen of a recorder from outside: everything that crosses its boundary, one [`Observation`] each.
//!
//! The recorder itself has no hooks. What it wrote is seen at the disk, what it stored at the database, what it claims in
//! the states that it publishes. The [oracle](super::oracle) and the [invariants](super::invariants) are folds over this
//! stream, so a test of a checker is a made-up history.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::actors::buffer::BufferState;
use crate::actors::cache::CacheState;
use crate::actors::flush::FlushState;
use crate::actors::sse_ingest::IngestState;
use crate::clock::Timestamp;
use crate::event::{Counters, EndpointId, Record, TunnelKey, TunnelState};
use crate::id::EventId;
use crate::modes::StorageMode;
use crate::pipeline::ShutdownSummary;
use crate::retention::{Expired, Expiring};
use crate::store::{Committed, EventBatch, HistoryBatch, LiveChanges, Overlap};

/// Something that was seen, and when.
#[derive(Clone, Debug)]
pub struct Observation {
    /// True time since the simulation began. No clock step changes it.
    pub at: Duration,
    /// What the recorder's wall clock showed.
    pub wall: Timestamp,
    /// What.
    pub seen: Seen,
}

/// What the outside knows of an attempt: it worked, it did not, or nobody can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// It was answered with success.
    Acknowledged(T),
    /// It was answered with a failure that means: nothing was done.
    Refused,
    /// It may have been done or not.
    Unknown,
}

impl<T> Answer<T> {
    /// The same with another value.
    pub fn map<U>(self, to: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Acknowledged(value) => Answer::Acknowledged(to(value)),
            Self::Refused => Answer::Refused,
            Self::Unknown => Answer::Unknown,
        }
    }
}

/// Kinds of observations.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A recorder has started; its number, from 1.
    Started {
        /// Number of the life.
        life: u32,
    },
    /// Records were appended to a segment.
    Written {
        /// The segment's file.
        file: Arc<str>,
        /// The records, in order.
        records: Vec<Record>,
        /// Bytes of the append.
        bytes: usize,
        /// What the disk answered.
        answer: Answer<()>,
    },
    /// A batch of history was appended to a segment.
    HistoryWritten {
        /// The segment's file.
        file: Arc<str>,
        /// The batch.
        batch: Box<HistoryBatch>,
        /// Bytes of the append.
        bytes: usize,
        /// What the disk answered.
        answer: Answer<()>,
    },
    /// A segment was made: until the directory is synced a loss of power may take it with all that was synced in it.
    Created {
        /// The segment's file.
        file: Arc<str>,
    },
    /// The journal's directory was synced.
    DirectorySynced,
    /// A segment was synced, or that failed.
    Synced {
        /// The segment's file.
        file: Arc<str>,
        /// Whether it succeeded.
        ok: bool,
    },
    /// A segment was removed.
    Removed {
        /// The segment's file.
        file: Arc<str>,
    },
    /// A batch of records was given to the database.
    Events {
        /// The batch.
        batch: EventBatch,
        /// What it answered.
        answer: Answer<Committed>,
    },
    /// One record was given to the database by itself.
    Single {
        /// The record.
        record: Box<Record>,
        /// Whether it was new.
        answer: Answer<bool>,
    },
    /// A batch of history was given to the database.
    History {
        /// The batch.
        batch: Box<HistoryBatch>,
        /// What it answered.
        answer: Answer<Committed>,
    },
    /// Changes of live state were given to the database.
    Live {
        /// The changes.
        changes: Box<LiveChanges>,
        /// What it answered.
        answer: Answer<()>,
    },
    /// The database was told to delete what has expired.
    Expired {
        /// Of which table.
        what: Expiring,
        /// Rows from before this.
        before: Timestamp,
        /// What the recorder took for now.
        now: Timestamp,
        /// What it answered.
        answer: Answer<Expired>,
    },
    /// The database took a definition of an endpoint, or was read.
    Defined,
    /// A line was logged.
    Logged {
        /// The line.
        line: String,
    },
    /// The recorder's published states and its live tunnels were read.
    Looked(Box<Look>),
    /// A fault begins or ends.
    Fault {
        /// Its name.
        name: &'static str,
        /// Begins?
        on: bool,
    },
    /// Somebody switched to another mode.
    Switched {
        /// Which.
        mode: StorageMode,
    },
    /// The wall clock was stepped.
    Stepped {
        /// By how much, in microseconds.
        micros: i64,
    },
    /// The recorder is gone.
    Ended(Ended),
    /// All faults are over, and no new ones come.
    Healed,
    /// The end: everything had time to converge, the recorder was stopped, and the database was read.
    Settled(Box<Settled>),
}

/// How a recorder ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The process was killed.
    Killed,
    /// The machine lost power.
    PowerLost,
    /// It did not start, and said why.
    NotStarted(String),
    /// It was asked to stop, and answered.
    Stopped(ShutdownSummary),
    /// It was asked to stop and did not answer within its deadline and a margin.
    Hung,
}

/// What a recorder shows at one moment.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// BufferActor.
    pub buffer: BufferState,
    /// CacheActor.
    pub cache: CacheState,
    /// FlushActor.
    pub flush: FlushState,
    /// SseIngestActors.
    pub ingest: Vec<(EndpointId, IngestState)>,
    /// Live tunnels.
    pub tunnels: Vec<(TunnelKey, TunnelState)>,
    /// Instances that exist at all masters now.
    pub instances: usize,
}

/// An instance as its master shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Whose.
    pub tunnel: TunnelKey,
    /// Its alias; `None` for versions that have none.
    pub alias: Option<String>,
    /// Its status.
    pub status: String,
    /// Its counters.
    pub counters: Counters,
}

/// A tunnel as the database's view has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTunnel {
    /// Which.
    pub tunnel: TunnelKey,
    /// Its status.
    pub status: String,
    /// Its counters.
    pub counters: Counters,
}

/// What the database holds at the end.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Ids in `endpoint_sse` and `gaps`, rising.
    pub records: Vec<EventId>,
    /// Sums of the deltas in `history_days`, by tunnel.
    pub moved: Vec<(TunnelKey, Counters)>,
    /// Sums of `record_count` there.
    pub reports: Vec<(TunnelKey, u64)>,
    /// Where history does not add up, in words: what `tidegate check --history` finds.
    pub history_problems: Vec<String>,
    /// The oldest row of minutes, of hours and of days.
    pub oldest: [Option<Timestamp>; 3],
    /// Tunnels.
    pub tunnels: Vec<StoredTunnel>,
    /// Rows of `history_state`.
    pub history_states: usize,
    /// Rows of `quarantine`.
    pub quarantined: usize,
    /// Text columns that hold a canary, as `table.column`.
    pub leaks: Vec<String>,
}

/// What there is at the end.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// What did not come true within the time, in words; empty if everything converged.
    pub unmet: Vec<String>,
    /// What the masters show.
    pub shown: Vec<Shown>,
    /// How much the counters of each instance that ever was rose at its master: the sum of all rises.
    pub moved_at_masters: Vec<(TunnelKey, Counters)>,
    /// What the recorder showed last.
    pub look: Look,
    /// What it answered to its shutdown.
    pub summary: ShutdownSummary,
    /// What the database holds.
    pub audit: Audit,
    /// Segments that the journal still has after the shutdown.
    pub segments: Vec<String>,
}

impl fmt::Display for Observation {
    /// One line of a trace. Nothing in it differs between machines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>14} {} ", self.at.as_micros(), self.wall.0)?;
        match &self.seen {
            Seen::Started { life } => write!(f, "started life={life}"),
            Seen::Written { file, records, bytes, answer } => {
                write!(f, "written {file} records={} bytes={bytes} {answer:?}", records.len())?;
                records.iter().try_for_each(|record| write!(f, " {}", Brief(record)))
            }
            Seen::HistoryWritten { file, batch, bytes: _, answer } => {
                write!(f, "history-written {file} through={} rows={} {answer:?}", batch.through, batch.rows.len())
            }
            Seen::Created { file } => write!(f, "created {file}"),
            Seen::DirectorySynced => f.write_str("directory synced"),
            Seen::Synced { file, ok } => write!(f, "synced {file} ok={ok}"),
            Seen::Removed { file } => write!(f, "removed {file}"),
            Seen::Events { batch, answer } => {
                let EventBatch { info, records, maybe_stored, overlap, usage: _ } = batch;
                let (first, last) = (records.first().map(Record::id), records.last().map(Record::id));
                write!(f, "events {} records={} maybe_stored={maybe_stored}", info.cause.as_str(), records.len())?;
                if let (Some(first), Some(last)) = (first, last) {
                    write!(f, " first={first} last={last}")?;
                }
                if let Some(Overlap { written, doubtful, left, compare }) = overlap {
                    write!(f, " written={} doubtful={doubtful} left={left} compare={compare}", written.len())?;
                }
                if let Some(boundary) = info.boundary {
                    write!(f, " boundary={boundary} skipped={}", info.skipped_boundaries)?;
                }
                write!(f, " {answer:?}")
            }
            Seen::Single { record, answer } => write!(f, "single {} {answer:?}", record.id()),
            Seen::History { batch, answer } => {
                write!(f, "history {} through={} rows={}", batch.info.cause.as_str(), batch.through, batch.rows.len())?;
                write!(f, " states={} {answer:?}", batch.states.len())
            }
            Seen::Live { changes, answer } => {
                let LiveChanges { through, endpoints, configs, samples, removed } = &**changes;
                write!(f, "live through={through} endpoints={} configs={}", endpoints.len(), configs.len())?;
                write!(f, " samples={} removed={} {answer:?}", samples.len(), removed.len())
            }
            Seen::Expired { what, before, now: _, answer } => {
                write!(f, "expired {} before={} {:?}", what.table(), before.0, answer.clone().map(|expired| expired.rows))
            }
            Seen::Defined => f.write_str("defined"),
            Seen::Logged { line } => write!(f, "log {line}"),
            Seen::Looked(look) => {
                let (buffer, tunnels) = (&look.buffer, look.tunnels.len());
                write!(f, "looked buffer={} waiting={}", buffer.buffer_size, buffer.waiting_batches)?;
                write!(f, " journal={} tunnels={tunnels} synced={}", buffer.journal_bytes, look.cache.synced_through)?;
                look.ingest.iter().try_for_each(|(id, state)| write!(f, " {id}:{}", state.events_received))
            }
            Seen::Fault { name, on } => write!(f, "fault {name} {}", if *on { "begins" } else { "ends" }),
            Seen::Switched { mode } => write!(f, "switched to {mode}"),
            Seen::Stepped { micros } => write!(f, "clock stepped by {micros}"),
            Seen::Ended(ended) => write!(f, "ended {ended:?}"),
            Seen::Healed => f.write_str("healed"),
            Seen::Settled(settled) => {
                write!(f, "settled unmet={:?} records={}", settled.unmet, settled.audit.records.len())
            }
        }
    }
}

struct Brief<'a>(&'a Record);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Record::Event(event) => {
                write!(f, "[{} {} {} {}", event.id, event.endpoint, event.kind.as_str(), event.instance)?;
                if let Some(sample) = &event.sample {
                    let Counters { tcp_rx, tcp_tx, udp_rx, udp_tx } = sample.counters;
                    write!(f, " {} {tcp_rx}/{tcp_tx}/{udp_rx}/{udp_tx}", sample.status.as_str())?;
                }
                f.write_str("]")
            }
            Record::Gap(gap) => write!(f, "[{} {} gap {} {}]", gap.id, gap.endpoint, gap.reason, gap.instance),
        }
    }
}
