//! The ladder: minutes, hours and days of tunnels, and totals of endpoints and of the fleet on each of these levels.
//!
//! A part of a minute is added to its row on every level, so that no level needs the one below to still be there: a late
//! minute of an hour whose minutes expired adds to the hour and lowers nothing.

use std::collections::BTreeMap;

use super::calendar::{Calendar, Day};
use super::figures::{Figures, Totals};
use crate::clock::Timestamp;
use crate::event::{EndpointId, TunnelKey};
use crate::history::InTotals;
use crate::store::HistoryRow;

/// The endpoint id under which totals of the fleet stand.
pub const FLEET: EndpointId = EndpointId(0);

/// One of the three lengths of stretches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// UTC minutes.
    Minutes,
    /// Full hours of `storage.timezone`.
    Hours,
    /// Dates of `storage.timezone`.
    Days,
}

impl Level {
    /// All, from the shortest.
    pub const ALL: [Self; 3] = [Self::Minutes, Self::Hours, Self::Days];

    /// The stretch that holds a minute: its start, and whether the zone was changed in it (told for days only).
    #[must_use]
    pub fn stretch(self, minute: Timestamp, calendar: &Calendar) -> (Timestamp, bool) {
        match self {
            Self::Minutes => (minute, false),
            Self::Hours => (calendar.hour(minute), false),
            Self::Days => {
                let Day { start, zone_changed } = calendar.day(minute);
                (start, zone_changed)
            }
        }
    }
}

/// A row, and what is special about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marked<T> {
    /// The row.
    pub row: T,
    /// See [`Day::zone_changed`].
    pub zone_changed: bool,
    /// Of a tunnel's row.
    pub left_out: LeftOut,
}

/// What of a tunnel's row is left out of totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    endpoint: Parts,
    fleet: Parts,
}

/// Which parts of a tunnel's row are left out of a total. What was counted adds up whatever they are; last values and speeds do not,
/// so it matters whether those that the row shows are in the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Parts {
    /// The row counts as it is.
    #[default]
    None,
    /// It does not count.
    All,
    /// It began to count: its last values are in the total.
    Earlier,
    /// It ceased to count, or did so once: what last values the total has of it is not known any more.
    Later,
}

impl LeftOut {
    /// As it is stored.
    #[must_use]
    pub fn number(self) -> i32 {
        self.endpoint as i32 + 4 * self.fleet as i32
    }

    /// What [`number`](Self::number) gave.
    #[must_use]
    pub fn from_number(number: i32) -> Self {
        Self { endpoint: Parts::from_number(number & 3), fleet: Parts::from_number(number >> 2 & 3) }
    }
}

impl Parts {
    fn from_number(number: i32) -> Self {
        [Self::None, Self::All, Self::Earlier, Self::Later].into_iter().find(|parts| *parts as i32 == number).unwrap_or_default()
    }

    /// A part comes that counts or not, after a row of which `self` was left out, or as the first one.
    fn followed(known: Option<Self>, counts: bool) -> Self {
        match (known, counts) {
            (None, true) => Self::None,
            (None | Some(Self::All), false) => Self::All,
            (Some(Self::All), true) => Self::Earlier,
            (Some(known), true) => known,
            (Some(_), false) => Self::Later,
        }
    }
}

/// Rows of tunnels on one level.
pub type TunnelRows = BTreeMap<(TunnelKey, Timestamp), Marked<Figures>>;
/// Rows of endpoints and of the fleet ([`FLEET`]) on one level.
pub type TotalRows = BTreeMap<(EndpointId, Timestamp), Marked<Totals>>;

/// A row as it counts on one level.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// Start of the stretch.
    pub start: Timestamp,
    zone_changed: bool,
    /// The row.
    pub row: &'a HistoryRow,
}

impl Placed<'_> {
    /// Whose totals it is a part of.
    pub fn totals(&self) -> impl Iterator<Item = EndpointId> {
        let endpoint = self.row.in_totals.endpoint.then_some(self.row.tunnel.endpoint);
        endpoint.into_iter().chain(self.row.in_totals.fleet.then_some(FLEET))
    }

    /// What is left out of which total, with what was before.
    fn left_out(&self, known: Option<LeftOut>) -> LeftOut {
        let InTotals { endpoint, fleet } = self.row.in_totals;
        LeftOut {
            endpoint: Parts::followed(known.map(|known| known.endpoint), endpoint),
            fleet: Parts::followed(known.map(|known| known.fleet), fleet),
        }
    }
}

/// Where rows stand on a level.
#[must_use]
pub fn place<'a>(rows: &'a [HistoryRow], level: Level, calendar: &Calendar) -> Vec<Placed<'a>> {
    // The minutes of many tunnels are the same.
    let mut stretches: BTreeMap<Timestamp, (Timestamp, bool)> = BTreeMap::new();
    let place = |row: &'a HistoryRow| {
        let (start, zone_changed) = *stretches.entry(row.minute).or_insert_with(|| level.stretch(row.minute, calendar));
        Placed { start, zone_changed, row }
    };
    rows.iter().map(place).collect()
}

/// Adds rows to a level. `tunnels` and `totals` hold what is stored of the stretches concerned, and hold what is to be
/// stored afterwards.
pub fn add(rows: &[Placed<'_>], tunnels: &mut TunnelRows, totals: &mut TotalRows) {
    for placed in rows {
        let known = tunnels.get(&(placed.row.tunnel.clone(), placed.start)).copied();
        let old = known.map(|known| known.row);
        let new = old.map_or(placed.row.figures, |old| old.plus(placed.row.figures));
        let left_out = placed.left_out(known.map(|known| known.left_out));
        for endpoint in placed.totals() {
            let total = totals.entry((endpoint, placed.start)).or_default();
            let of = |left_out: LeftOut| if endpoint == FLEET { left_out.fleet } else { left_out.endpoint };
            match known.map_or(Parts::None, |known| of(known.left_out)) {
                Parts::None => total.row.replace(old, new),
                Parts::All => total.row.replace(None, placed.row.figures),
                Parts::Earlier => total.row.add_part(placed.row.figures, old),
                Parts::Later => total.row.add_part(placed.row.figures, None),
            }
            total.zone_changed |= placed.zone_changed;
        }
        let zone_changed = placed.zone_changed || known.is_some_and(|known| known.zone_changed);
        tunnels.insert((placed.row.tunnel.clone(), placed.start), Marked { row: new, zone_changed, left_out });
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::*;
    use crate::event::Counters;

    fn at(text: &str) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc().into()
    }

    fn row(endpoint: i32, instance: &str, minute: &str, tcp_rx: u64) -> HistoryRow {
        let delta = Counters { tcp_rx, ..Counters::default() };
        HistoryRow {
            tunnel: TunnelKey { endpoint: EndpointId(endpoint), instance: instance.into() },
            minute: at(minute),
            figures: Figures { delta, covered_ms: 60_000, record_count: 12, expected_count: 12, ..Figures::default() },
            in_totals: InTotals::BOTH,
        }
    }

    fn sums(rows: &TunnelRows) -> Vec<(String, u64)> {
        let name = |tunnel: &TunnelKey, start: &Timestamp| format!("{} {}", tunnel.instance, start.to_utc().format("%d %H:%M"));
        rows.iter().map(|((tunnel, start), row)| (name(tunnel, start), row.row.delta.tcp_rx)).collect()
    }

    #[test]
    fn minutes_add_up_to_hours_and_days_of_the_zone() {
        let calendar = Calendar::new([(Timestamp(0), Tz::Asia__Kolkata)]);
        let rows = [
            row(1, "a", "2026-11-23T18:28:00Z", 1),
            row(1, "a", "2026-11-23T18:29:00Z", 2),
            row(1, "a", "2026-11-23T18:30:00Z", 4),
            row(2, "b", "2026-11-23T18:30:00Z", 8),
        ];
        let level = |level| {
            let (mut tunnels, mut totals) = (TunnelRows::new(), TotalRows::new());
            add(&place(&rows, level, &calendar), &mut tunnels, &mut totals);
            (sums(&tunnels), totals)
        };
        let (hours, hour_totals) = level(Level::Hours);
        assert_eq!(hours, [("a 23 17:30".into(), 3), ("a 23 18:30".into(), 4), ("b 23 18:30".into(), 8)]);
        let total = hour_totals[&(FLEET, at("2026-11-23T18:30:00Z"))].row;
        assert_eq!((total.figures.delta.tcp_rx, total.tunnels, total.figures.record_count), (12, 2, 24));
        let (days, _) = level(Level::Days);
        assert_eq!(days, [("a 22 18:30".into(), 3), ("a 23 18:30".into(), 4), ("b 23 18:30".into(), 8)]);
    }

    #[test]
    fn a_late_part_adds_to_what_is_stored() {
        let calendar = Calendar::default();
        let (mut tunnels, mut totals) = (TunnelRows::new(), TotalRows::new());
        for (minute, bytes) in [("2026-11-23T10:05:00Z", 100), ("2026-11-23T10:01:00Z", 7), ("2026-11-23T10:05:00Z", 1)] {
            add(&place(&[row(1, "a", minute, bytes)], Level::Hours, &calendar), &mut tunnels, &mut totals);
        }
        assert_eq!(sums(&tunnels), [("a 23 10:00".into(), 108)]);
        let total = totals[&(EndpointId(1), at("2026-11-23T10:00:00Z"))].row;
        assert_eq!((total.figures.delta.tcp_rx, total.tunnels), (108, 1));
    }

    #[test]
    fn an_end_that_is_left_out_has_its_rows_and_is_no_part_of_totals() {
        let mut server = row(1, "a", "2026-11-23T10:05:00Z", 100);
        server.in_totals = InTotals { endpoint: true, fleet: false };
        let (mut tunnels, mut totals) = (TunnelRows::new(), TotalRows::new());
        add(&place(&[server], Level::Minutes, &Calendar::default()), &mut tunnels, &mut totals);
        assert_eq!(tunnels.len(), 1);
        assert_eq!(totals.keys().map(|(endpoint, _)| *endpoint).collect::<Vec<_>>(), [EndpointId(1)]);
    }

    /// A server is left out while its client is followed, and counts when that is gone, or the other way round.
    #[test]
    fn what_a_total_has_of_an_end_that_counts_for_a_part_of_the_hour_is_never_less_than_nothing() {
        let part = |minute: i64, pool: i32, counts: bool| HistoryRow {
            minute: Timestamp(at("2026-11-23T10:00:00Z").0 + minute * Timestamp::MINUTE),
            figures: Figures { pool: Some(pool), ..row(1, "a", "2026-11-23T10:00:00Z", 6_000).figures },
            in_totals: InTotals { endpoint: counts, fleet: true },
            ..row(1, "a", "2026-11-23T10:00:00Z", 0)
        };
        let cases: [(&[(i32, bool)], _); 5] = [
            (&[(30, true), (10, true)], (12_000, 10, 1, 24)),
            (&[(30, false), (10, true)], (6_000, 10, 1, 12)),
            (&[(30, false), (10, true), (4, true)], (12_000, 4, 1, 24)),
            (&[(10, true), (30, false)], (6_000, 10, 1, 12)),
            // What it showed last while it counted is not known any more, and stays.
            (&[(10, true), (30, false), (2, true)], (12_000, 10, 1, 24)),
        ];
        for (parts, expected) in cases {
            let (mut tunnels, mut totals) = (TunnelRows::new(), TotalRows::new());
            for (minute, (pool, counts)) in (0..).zip(parts) {
                add(&place(&[part(minute, *pool, *counts)], Level::Hours, &Calendar::default()), &mut tunnels, &mut totals);
                let stored = tunnels.values_mut().next().unwrap();
                stored.left_out = LeftOut::from_number(stored.left_out.number());
            }
            let hour = at("2026-11-23T10:00:00Z");
            let told = |endpoint| {
                let Totals { figures, speed_in, tunnels, .. } = totals[&(endpoint, hour)].row;
                assert!(speed_in >= Some(0), "{parts:?}");
                (figures.delta.tcp_rx, figures.pool.unwrap(), tunnels, figures.record_count)
            };
            assert_eq!(told(EndpointId(1)), expected, "{parts:?}");
            let (all, last) = (parts.len() as u64, parts[parts.len() - 1].0);
            assert_eq!(told(FLEET), (6_000 * all, last, 1, 12 * all as i32), "{parts:?}");
        }
    }
}
