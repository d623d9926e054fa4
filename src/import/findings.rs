//! What is wrong in a source, counted, with a few examples of each.

use std::collections::BTreeMap;

use serde::Serialize;

use super::times::{Time, offset_text};

/// Most examples of one defect.
const EXAMPLES_MAX: usize = 3;

/// A kind of thing that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Defect {
    /// `delta_*` of `service_history` hold counters as they stood: turned into differences.
    CumulativeDeltas,
    /// A counter is below the one before: a reset, or a master that came back with an older state. Nothing is counted for the step.
    CounterFell,
    /// `*_increment` below zero: reckoned anew from the totals.
    NegativeIncrement,
    /// `*_increment` as large as the total, since the hour before had no row: reckoned anew from the totals.
    LifetimeSpike,
    /// An hour that says again what the hour before said, without a record of its own: left out.
    CarriedForward,
    /// A row that is there twice: taken once.
    Duplicate,
    /// Several rows of a tunnel in one minute: added up.
    SameMinute,
    /// Times with another UTC offset than most: brought to UTC.
    MixedOffsets,
    /// An hour that was put together by comparing times with another offset as text: moved to where its rows are.
    ShiftedHour,
    /// Rows of a tunnel that is not there any more.
    DeletedTunnel,
    /// Rows of an endpoint that is not there any more, or cannot be imported: left out.
    DeletedEndpoint,
    /// A time that cannot be read: the row is left out.
    UnreadableTime,
    /// A time after now: the row is left out.
    InFuture,
    /// A counter below zero: the row is left out.
    NegativeCounter,
}

impl Defect {
    /// The defect and what was done about it, for people.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::CumulativeDeltas => "rows whose delta_* are counters as they stood: turned into differences",
            Self::CounterFell => "steps at which a counter fell: what the fall hides is not counted",
            Self::NegativeIncrement => "hours with a negative increment: reckoned anew from the totals",
            Self::LifetimeSpike => "hours whose increment is everything ever sent: reckoned anew from the totals",
            Self::CarriedForward => "hours that were carried forward without a record: left out",
            Self::Duplicate => "rows that are there twice: taken once",
            Self::SameMinute => "rows of a minute that has another one: added up",
            Self::MixedOffsets => "rows with another UTC offset than most: brought to UTC",
            Self::ShiftedHour => "hours put together in another UTC offset than their rows: moved to where these are",
            Self::DeletedTunnel => "rows of tunnels that were deleted",
            Self::DeletedEndpoint => "rows of endpoints that were deleted or cannot be imported: left out",
            Self::UnreadableTime => "rows whose time cannot be read: left out",
            Self::InFuture => "rows of times that are still to come: left out",
            Self::NegativeCounter => "rows with a counter below zero: left out",
        }
    }
}

/// How often, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Rows or steps.
    pub count: u64,
    /// The first few.
    pub examples: Vec<String>,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(BTreeMap<Defect, Found>);

impl Findings {
    /// Notes one; `example` is asked for while there are few.
    pub fn note(&mut self, defect: Defect, example: impl FnOnce() -> String) {
        self.note_many(defect, 1, example);
    }

    /// Notes several at once.
    pub fn note_many(&mut self, defect: Defect, count: u64, example: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        let found = self.0.entry(defect).or_default();
        found.count += count;
        if found.examples.len() < EXAMPLES_MAX {
            found.examples.push(example());
        }
    }

    /// How often a defect was found.
    #[must_use]
    pub fn count(&self, defect: Defect) -> u64 {
        self.0.get(&defect).map_or(0, |found| found.count)
    }

    /// All, in the order of [`Defect`].
    pub fn iter(&self) -> impl Iterator<Item = (Defect, &Found)> {
        self.0.iter().map(|(defect, found)| (*defect, found))
    }
}

/// Which UTC offsets the times of a table have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets(BTreeMap<Option<i32>, (u64, String)>);

impl Offsets {
    /// Counts a time; `example` is asked for at the first of its offset.
    pub fn note(&mut self, time: Time, example: impl FnOnce() -> String) {
        self.0.entry(time.offset).or_insert_with(|| (0, example())).0 += 1;
    }

    /// The offset, if there is only one.
    #[must_use]
    pub fn only(&self) -> Option<i32> {
        let mut offsets = self.0.keys();
        offsets.next().copied().flatten().filter(|_| offsets.next().is_none())
    }

    /// Rows by offset as text.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.0.iter().map(|(offset, (count, _))| (offset_text(*offset), *count)).collect()
    }

    /// Notes the rows that have another offset than most.
    pub fn tell(&self, findings: &mut Findings) {
        let most = self.0.iter().max_by_key(|(_, (count, _))| *count).map(|(offset, _)| *offset);
        for (offset, (count, example)) in self.0.iter().filter(|(offset, _)| Some(**offset) != most) {
            findings.note_many(Defect::MixedOffsets, *count, || format!("{example} ({count} with {})", offset_text(*offset)));
        }
    }
}
