//! For how much of each step its master was heard. With it three things are told apart where a chart has no value or none but 0: a
//! tunnel that reported and moved nothing (0), one that was silent while its master was heard (it was down, or had nothing to report),
//! and a time of which nothing is known.

use std::time::Duration;

use super::Scope;
use super::range::Range;
use crate::clock::Timestamp;
use crate::config::RetentionConfig;
use crate::event::{EndpointId, Gap};
use crate::history::calendar::Calendar;
use crate::history::ladder::Level;
use crate::id::EventId;
use crate::store::{HistoryRow, ReadConnection, StoreError};

/// Gaps of a chart that are looked at, the newest. What was before the oldest of them counts as not heard.
const GAPS_MAX: u32 = 10_000;

/// What a recorder that runs knows beside the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Until when each endpoint was heard: until now while it is connected. Without those that are paused.
    pub until: Vec<(EndpointId, Timestamp)>,
    /// Gaps that are not in the database.
    pub gaps: Vec<Gap>,
}

/// From when to when the masters of a scope were heard, without the gaps between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    from: Timestamp,
    until: Timestamp,
    /// Rising, and apart from each other.
    gaps: Vec<(Timestamp, Timestamp)>,
}

impl Heard {
    fn new(from: Timestamp, until: Timestamp, gaps: impl IntoIterator<Item = (Timestamp, Timestamp)>) -> Self {
        let mut all: Vec<_> = gaps.into_iter().filter(|(from, to)| from < to).collect();
        all.sort_unstable();
        let mut gaps: Vec<(Timestamp, Timestamp)> = Vec::new();
        for (from, to) in all {
            match gaps.last_mut() {
                Some((_, last)) if from <= *last => *last = to.max(*last),
                _ => gaps.push((from, to)),
            }
        }
        Self { from, until, gaps }
    }

    /// Seconds of each slot in which they were heard, rounded down. The last slot ends at `end`.
    pub(super) fn seconds(&self, slots: &[Timestamp], end: Timestamp) -> Vec<i64> {
        let mut gaps = self.gaps.as_slice();
        let ends = slots.iter().skip(1).copied().chain([end]);
        slots
            .iter()
            .zip(ends)
            .map(|(start, end)| {
                let (start, end) = ((*start).max(self.from), end.min(self.until));
                while gaps.first().is_some_and(|(_, to)| *to <= start) {
                    gaps = &gaps[1..];
                }
                let silent = gaps.iter().take_while(|(from, _)| *from < end);
                let silent: i64 = silent.map(|(from, to)| ((*to).min(end).0 - (*from).max(start).0).max(0)).sum();
                ((end.0 - start.0).max(0) - silent).max(0) / Timestamp::SECOND
            })
            .collect()
    }
}

/// What is known of a scope from `since` on, as of `now`. `rows` are those that wait in the recorder.
///
/// # Errors
/// As the database gives them.
pub(super) fn of(
    reader: &mut ReadConnection,
    calendar: &Calendar,
    scope: &Scope,
    Range { from: since, until: now }: Range,
    retention: &RetentionConfig,
    live: Option<&Live>,
    rows: &[&HistoryRow],
) -> Result<Heard, StoreError> {
    // What was imported says nothing of what its recorder heard.
    let imported = reader.imported_through(scope)?.unwrap_or_default();
    let waiting =
        || rows.iter().filter(|row| scope.contains(&row.tunnel)).map(|row| row.minute).filter(|minute| *minute > imported);
    let [minutes, hours, days] = [Level::Minutes, Level::Hours, Level::Days].map(|level| reader.extent(level, scope, imported));
    let (minutes, hours, days) = (minutes?, hours?, days?);
    // A level keeps what the one above it rounds; what is gone from all of them but one is known from the end of that stretch on.
    let day_ends = |first: Timestamp| calendar.day_end(first);
    let first = match (minutes, hours, days) {
        (Some((minute, _)), _, Some((day, _))) if minute < day_ends(day) => Some(minute),
        (_, Some((hour, _)), Some((day, _))) if hour < day_ends(day) => Some(hour.plus(HOUR)),
        (_, _, Some((day, _))) => Some(day_ends(day)),
        (_, Some((hour, _)), None) => Some(hour.plus(HOUR)),
        (Some((minute, _)), None, None) => Some(minute),
        (None, None, None) => None,
    };
    let Some(first) = first.into_iter().chain(waiting()).min() else { return Ok(Heard::default()) };

    // Gaps expire too, and what lies before the oldest that is kept may have been one.
    let kept = now.0.saturating_sub(i64::try_from(retention.hours.max(retention.events).as_micros()).unwrap_or(i64::MAX));
    let mut from = first.max(Timestamp(kept));
    let stored = reader.gaps_since(scope, EventId::first_of(from.max(since)), GAPS_MAX)?;
    if stored.len() >= GAPS_MAX as usize {
        from = stored.iter().map(|(from, _)| *from).min().unwrap_or(from).max(from);
    }
    let buffered = live.into_iter().flat_map(|live| &live.gaps);
    let buffered = buffered.filter(|gap| &*gap.reason != Gap::MASTER_RESTARTED && concerns(scope, gap));
    let gaps = stored.into_iter().chain(buffered.map(|gap| (gap.from, gap.to)));

    let until = match live {
        Some(live) => of_scope(scope, live.until.iter().copied()),
        None => of_scope(scope, reader.last_heard()?),
    };
    let mut until = until.unwrap_or_default().min(now);
    if let Scope::Tunnel(tunnel) = scope
        && !reader.has_tunnel(tunnel)?
    {
        // It is gone, or so new that only rows are there yet.
        let last = [
            minutes.map(|(_, minute)| minute.plus(MINUTE)),
            if minutes.is_none() { hours.map(|(_, hour)| hour.plus(HOUR)) } else { None },
            if minutes.is_none() && hours.is_none() { days.map(|(_, day)| day_ends(day)) } else { None },
            waiting().max().map(|minute| minute.plus(MINUTE)),
        ];
        until = until.min(last.into_iter().flatten().max().unwrap_or_default());
    }
    Ok(Heard::new(from, until, gaps))
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Whether a gap is one of what is asked for. An instance's own says nothing of its endpoint.
fn concerns(scope: &Scope, gap: &Gap) -> bool {
    let whole = gap.instance.as_str().is_empty();
    match scope {
        Scope::Fleet => whole,
        Scope::Endpoint(id) => whole && gap.endpoint == *id,
        Scope::Tunnel(tunnel) => gap.endpoint == tunnel.endpoint && (whole || gap.instance == tunnel.instance),
    }
}

/// Until when all endpoints of a scope were heard.
fn of_scope(scope: &Scope, until: impl IntoIterator<Item = (EndpointId, Timestamp)>) -> Option<Timestamp> {
    let asked = |endpoint: EndpointId| match scope {
        Scope::Fleet => true,
        Scope::Endpoint(id) => endpoint == *id,
        Scope::Tunnel(tunnel) => endpoint == tunnel.endpoint,
    };
    until.into_iter().filter(|(endpoint, _)| asked(*endpoint)).map(|(_, until)| until).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * Timestamp::SECOND)
    }

    fn seconds(from: i64, until: i64, gaps: &[(i64, i64)]) -> Vec<i64> {
        let heard = Heard::new(at(from), at(until), gaps.iter().map(|(from, to)| (at(*from), at(*to))));
        heard.seconds(&[at(0), at(60), at(120), at(180)], at(240))
    }

    #[test]
    fn a_step_is_heard_but_for_gaps_and_from_the_first_report_to_the_last_sign_of_life() {
        assert_eq!(seconds(0, 240, &[]), [60, 60, 60, 60]);
        assert_eq!(seconds(70, 130, &[]), [0, 50, 10, 0]);
        assert_eq!(seconds(0, 240, &[(50, 130)]), [50, 0, 50, 60]);
        assert_eq!(seconds(0, 240, &[(10, 20), (30, 40)]), [40, 60, 60, 60]);
        assert_eq!(seconds(0, 0, &[]), [0; 4]);
    }

    #[test]
    fn gaps_that_overlap_count_once_in_whatever_order_they_come() {
        assert_eq!(seconds(0, 240, &[(40, 50), (10, 30), (20, 45), (170, 190)]), [20, 60, 50, 50]);
        assert_eq!(seconds(30, 200, &[(0, 40), (190, 300), (250, 260)]), [20, 60, 60, 10]);
    }
}
