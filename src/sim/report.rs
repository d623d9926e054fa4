//! What a run says at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::judge::{Counts, Violation};
use super::options::Plan;
use crate::modes::StorageMode;
use crate::modes::usage::Usage;

/// See the module.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was run.
    pub plan: Plan,
    /// Events that masters sent.
    pub sent: u64,
    /// Events that masters dropped in silence.
    pub dropped_by_masters: u64,
    /// What each mode cost, as the last recorder knew it at its end.
    pub usage: BTreeMap<StorageMode, Usage>,
    /// What was counted.
    pub counts: Counts,
    /// Each invariant with how many facts it checked.
    pub checks: Vec<(&'static str, u64)>,
    /// Virtual time.
    pub virtual_time: Duration,
    /// Real time.
    pub real_time: Duration,
    /// The first violation.
    pub violation: Option<Violation>,
    /// Why the trace is not whole, if it is not.
    pub trace_error: Option<String>,
}

impl Report {
    /// True if all invariants hold.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violation.is_none()
    }

    /// As one JSON document.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let document = Document {
            seed: self.plan.options.seed,
            repeat: format!("tidegate simulate {}", self.plan.options),
            holds: self.holds(),
            virtual_seconds: self.virtual_time.as_secs_f64(),
            real_seconds: self.real_time.as_secs_f64(),
            events_sent: self.sent,
            events_dropped_by_masters: self.dropped_by_masters,
            events_received: self.counts.received,
            events_stored: self.counts.stored,
            rows_skipped: self.counts.skipped,
            commits_in_doubt: self.counts.in_doubt,
            starts: self.counts.lives,
            flushes: self.counts.flushes.iter().map(|(cause, count)| ((*cause).to_owned(), (*count).into())).collect(),
            faults: self.counts.faults.iter().map(|(name, count)| ((*name).to_owned(), (*count).into())).collect(),
            invariants: self.checks.iter().map(|(name, checks)| ((*name).to_owned(), (*checks).into())).collect(),
            violation: self.violation.as_ref().map(|violation| ViolationDocument {
                invariant: violation.invariant,
                what: &violation.what,
                virtual_seconds: violation.at.as_secs_f64(),
                wall: violation.wall.to_string(),
                recent: &violation.recent,
            }),
        };
        // Maps with text keys and plain values cannot fail.
        serde_json::to_value(document).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Document<'a> {
    seed: u64,
    repeat: String,
    holds: bool,
    virtual_seconds: f64,
    real_seconds: f64,
    events_sent: u64,
    events_dropped_by_masters: u64,
    events_received: u64,
    events_stored: u64,
    rows_skipped: u64,
    commits_in_doubt: u64,
    starts: u32,
    flushes: serde_json::Map<String, serde_json::Value>,
    faults: serde_json::Map<String, serde_json::Value>,
    invariants: serde_json::Map<String, serde_json::Value>,
    violation: Option<ViolationDocument<'a>>,
}

#[derive(Serialize)]
struct ViolationDocument<'a> {
    invariant: &'static str,
    what: &'a str,
    virtual_seconds: f64,
    wall: String,
    recent: &'a [String],
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { received, journal_bytes: _, stored, skipped, flushes, faults, lives, in_doubt } = &self.counts;
        let pairs = |pairs: Vec<String>| if pairs.is_empty() { "none".to_owned() } else { pairs.join(" ") };
        let seconds = |time: Duration| humantime::format_duration(Duration::from_secs(time.as_secs())).to_string();
        writeln!(
            f,
            "events: sent {} (dropped by masters {}), received {received}, stored {stored}, skipped {skipped}",
            self.sent, self.dropped_by_masters
        )?;
        writeln!(f, "flushes: {}", pairs(flushes.iter().map(|(cause, count)| format!("{cause}={count}")).collect()))?;
        writeln!(f, "faults: {}", pairs(faults.iter().map(|(name, count)| format!("{name}={count}")).collect()))?;
        writeln!(f, "starts: {lives}, commits in doubt: {in_doubt}")?;
        writeln!(f, "time: virtual {}, real {:.2} s", seconds(self.virtual_time), self.real_time.as_secs_f64())?;
        for (name, checks) in &self.checks {
            writeln!(f, "  {checks:>10} checks of: {name}")?;
        }
        match &self.violation {
            None => write!(f, "all invariants hold"),
            Some(violation) => {
                writeln!(f, "{violation}")?;
                write!(f, "repeat it with: tidegate simulate {}", self.plan.options)
            }
        }
    }
}
