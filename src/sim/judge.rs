//! Judges observations as they come: oracle, invariants, trace and counts in one place, behind one lock.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::Write;
use std::time::Duration;

use super::invariants::{self, Invariant, Terms};
use super::observation::{Answer, Ended, Observation, Seen};
use super::oracle::Oracle;
use crate::clock::Timestamp;

/// Observations kept for a report.
const RECENT_MAX: usize = 30;

/// Something that must never be was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// What it says.
    pub what: String,
    /// When, in true time since the beginning.
    pub at: Duration,
    /// What the wall clock showed.
    pub wall: Timestamp,
    /// The last observations, oldest first.
    pub recent: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = humantime::format_duration(Duration::from_secs(self.at.as_secs()));
        write!(f, "VIOLATED: {}: {} (after {at}, wall clock {})", self.invariant, self.what, self.wall)?;
        self.recent.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// What was counted on the way.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Records written to the journal.
    pub received: u64,
    /// Bytes of records and of history that were written to the journal.
    pub journal_bytes: u64,
    /// Rows that the database took.
    pub stored: u64,
    /// Rows that were there before.
    pub skipped: u64,
    /// Committed flushes by cause.
    pub flushes: BTreeMap<&'static str, u64>,
    /// Faults by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// Starts.
    pub lives: u32,
    /// Commits in doubt.
    pub in_doubt: u64,
}

/// See the module.
pub struct Judge {
    /// What must be.
    pub oracle: Oracle,
    /// What was counted.
    pub counts: Counts,
    /// The first violation.
    pub violation: Option<Violation>,
    invariants: Vec<(Box<dyn Invariant + Send>, u64)>,
    recent: VecDeque<Observation>,
    trace: Option<Box<dyn Write + Send>>,
    trace_error: Option<std::io::Error>,
}

impl Judge {
    /// A judge by all invariants. `trace` gets one line per observation.
    #[must_use]
    pub fn new(terms: &Terms, trace: Option<Box<dyn Write + Send>>) -> Self {
        Self {
            oracle: Oracle::default(),
            counts: Counts::default(),
            violation: None,
            invariants: invariants::all(terms).into_iter().map(|invariant| (invariant, 0)).collect(),
            recent: VecDeque::new(),
            trace,
            trace_error: None,
        }
    }

    /// Takes an observation in. After a violation nothing more is judged.
    pub fn see(&mut self, observation: Observation) {
        if self.violation.is_some() {
            return;
        }
        if let Some(trace) = &mut self.trace
            && let Err(error) = writeln!(trace, "{observation}")
        {
            self.trace_error.get_or_insert(error);
        }
        let mut violated = None;
        for (invariant, checks) in &mut self.invariants {
            match invariant.check(&self.oracle, &observation) {
                Ok(checked) => *checks += checked,
                Err(what) => {
                    violated = Some((invariant.name(), what));
                    break;
                }
            }
        }
        self.count(&observation.seen);
        self.oracle.fold(&observation);
        let (at, wall) = (observation.at, observation.wall);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(observation);
        if let Some((invariant, what)) = violated {
            let recent = self.recent.iter().map(shortened).collect();
            self.violation = Some(Violation { invariant, what, at, wall, recent });
        }
    }

    fn count(&mut self, seen: &Seen) {
        let counts = &mut self.counts;
        match seen {
            Seen::Started { life } => counts.lives = *life,
            Seen::Written { records, bytes, answer: Answer::Acknowledged(()), .. } => {
                counts.received += records.len() as u64;
                counts.journal_bytes += *bytes as u64;
            }
            Seen::HistoryWritten { bytes, .. } => counts.journal_bytes += *bytes as u64,
            Seen::Events { batch, answer: Answer::Acknowledged(committed) } => {
                counts.stored += committed.written;
                counts.skipped += committed.skipped;
                *counts.flushes.entry(batch.info.cause.as_str()).or_default() += 1;
            }
            Seen::Single { answer: Answer::Acknowledged(true), .. } => counts.stored += 1,
            Seen::Switched { .. } => *counts.faults.entry("mode").or_default() += 1,
            Seen::Events { answer: Answer::Unknown, .. } => counts.in_doubt += 1,
            Seen::Fault { name, on: true } if *name != "stopping" => *counts.faults.entry(name).or_default() += 1,
            Seen::Stepped { .. } => *counts.faults.entry("clock").or_default() += 1,
            Seen::Ended(Ended::Killed) => *counts.faults.entry("kill").or_default() += 1,
            Seen::Ended(Ended::PowerLost) => *counts.faults.entry("power").or_default() += 1,
            Seen::Ended(Ended::Stopped(_) | Ended::Hung) => *counts.faults.entry("shutdown").or_default() += 1,
            _ => {}
        }
    }

    /// Each invariant with how many facts it checked.
    #[must_use]
    pub fn checks(&self) -> Vec<(&'static str, u64)> {
        self.invariants.iter().map(|(invariant, checks)| (invariant.name(), *checks)).collect()
    }

    /// Writes the trace out.
    ///
    /// # Errors
    /// The first error that writing it met.
    pub fn finish_trace(&mut self) -> std::io::Result<()> {
        if let Some(error) = self.trace_error.take() {
            return Err(error);
        }
        self.trace.as_mut().map_or(Ok(()), |trace| trace.flush())
    }
}

/// A line of a report: a batch of a thousand records is too much.
fn shortened(observation: &Observation) -> String {
    const CHARACTERS_MAX: usize = 400;
    let line = observation.to_string();
    match line.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}
