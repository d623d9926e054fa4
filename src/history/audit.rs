//! Proof that history adds up, from what is stored alone.
//!
//! For each tunnel and each counter: the days that are stored, and what is counted and in no row yet, are together what the
//! counter rose, falls included, and what the recorded falls say of how much of that was counted. And each hour is the sum of its
//! minutes, each day the sum of its hours, as far as these are still kept. `tidegate check --history` and the invariant of the
//! simulation both ask here.

use std::collections::BTreeMap;

use super::calendar::Calendar;
use super::figures::Figures;
use super::ladder::Level;
use crate::clock::Timestamp;
use crate::event::{Counters, TunnelKey};
use crate::store::Account;

const NAMES: [&str; 4] = ["tcp_rx", "tcp_tx", "udp_rx", "udp_tx"];

/// A row of `history_accounts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredAccount {
    /// What the counters rose in all, falls taken off, less what expired since. By counter.
    pub risen: [i64; 4],
    /// What they showed last.
    pub closing: Counters,
    /// What is counted and in no row yet.
    pub open: Counters,
}

impl StoredAccount {
    /// Adds what happened since the batch before.
    pub fn add(&mut self, account: &Account) {
        let (from, to) = (signed(account.from), signed(account.to));
        self.risen = std::array::from_fn(|n| self.risen[n] + (to[n] - from[n]));
        self.closing = account.to;
        self.open = account.open;
    }

    /// A day that counted so much expires.
    pub fn expire(&mut self, delta: Counters) {
        let gone = signed(delta);
        self.risen = std::array::from_fn(|n| self.risen[n] - gone[n]);
    }

    /// A row of `counter_events` expires.
    pub fn explain(&mut self, adjustment: [i64; 4]) {
        self.risen = std::array::from_fn(|n| self.risen[n] + adjustment[n]);
    }
}

/// A row of `counter_events`, as far as it matters here: what the step counted beyond what the counters rose. By counter.
#[must_use]
pub fn adjustment(before: Counters, after: Counters, counted: Counters) -> [i64; 4] {
    let (before, after, counted) = (signed(before), signed(after), signed(counted));
    std::array::from_fn(|n| counted[n] - (after[n] - before[n]))
}

/// Counters are bounded by 2^63-1 where they are counted.
fn signed(counters: Counters) -> [i64; 4] {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    [signed(counters.tcp_rx), signed(counters.tcp_tx), signed(counters.udp_rx), signed(counters.udp_tx)]
}

/// The rows of one tunnel, endpoint or of the fleet on all levels, in the order of [`Level::ALL`].
pub type Levels = [BTreeMap<Timestamp, Figures>; 3];

/// What is stored of one tunnel.
#[derive(Clone, Debug, Default)]
pub struct TunnelHistory {
    /// Its account, if it has one.
    pub account: Option<StoredAccount>,
    /// Sum of [`adjustment`]s of its rows in `counter_events`: of counters near 2^63 two falls are more than that.
    pub adjusted: [i128; 4],
    /// Its rows.
    pub levels: Levels,
}

/// From when on the rows of each level are all there, in the order of [`Level::ALL`].
pub type Floors = [Timestamp; 3];

/// What is wrong with a tunnel's history, in words; nothing if it adds up.
#[must_use]
pub fn check_tunnel(tunnel: &TunnelKey, history: &TunnelHistory, calendar: &Calendar, floors: Floors) -> Vec<String> {
    let name = format!("tunnel {} of endpoint {}", tunnel.instance, tunnel.endpoint);
    let mut problems = check_levels(&name, &history.levels, calendar, floors);
    let Some(account) = &history.account else {
        if history.levels.iter().any(|level| !level.is_empty()) {
            problems.push(format!("{name} has history and no account"));
        }
        return problems;
    };
    let (mut stored, mut is_full) = ([0_i128; 4], [false; 4]);
    for day in history.levels[2].values() {
        for (n, delta) in signed(day.delta).into_iter().enumerate() {
            stored[n] += i128::from(delta);
            is_full[n] |= delta == i64::MAX;
        }
    }
    let open = signed(account.open);
    for (n, counter) in NAMES.into_iter().enumerate() {
        let (have, owed) = (stored[n] + i128::from(open[n]), i128::from(account.risen[n]) + history.adjusted[n]);
        // A day that counted more stays at 2^63-1.
        if have != owed && !(is_full[n] && have < owed) {
            problems.push(format!(
                "{name}: {counter} moved {owed} bytes, and {have} are counted ({} in days, {} open)",
                stored[n], open[n]
            ));
        }
    }
    problems
}

/// Where a level does not agree with the one below it, in words.
#[must_use]
pub fn check_levels(name: &str, levels: &Levels, calendar: &Calendar, floors: Floors) -> Vec<String> {
    let mut problems = Vec::new();
    for (lower, upper) in [(0, 1), (1, 2)] {
        let level = Level::ALL[upper];
        let mut sums: BTreeMap<Timestamp, Figures> = BTreeMap::new();
        for (start, figures) in &levels[lower] {
            let sum = sums.entry(level.stretch(*start, calendar).0).or_default();
            *sum = sum.plus(*figures);
        }
        let from = floors[lower].max(floors[upper]);
        let starts = sums.keys().chain(levels[upper].keys()).filter(|start| **start >= from);
        let word = if upper == 1 { ["hour", "minutes"] } else { ["day", "hours"] };
        for start in starts.collect::<std::collections::BTreeSet<_>>() {
            let (below, above) = (sums.get(start).map(summed), levels[upper].get(start).map(summed));
            if below != above {
                let told = |sums: Option<Summed>| sums.map_or_else(|| "nothing".to_owned(), |sums| format!("{sums:?}"));
                problems.push(format!(
                    "{name}: the {} from {start} holds {}, and its {} together {}",
                    word[0],
                    told(above),
                    word[1],
                    told(below)
                ));
            }
        }
    }
    problems
}

/// What adds up: bytes by counter, reports, reports expected, covered milliseconds, sum and number of pings.
type Summed = ([u64; 4], i32, i32, i64, i64, i32);

fn summed(figures: &Figures) -> Summed {
    let Counters { tcp_rx, tcp_tx, udp_rx, udp_tx } = figures.delta;
    let (sum, count) = figures.ping.map_or((0, 0), |ping| (ping.sum, ping.count));
    // Each level stays at 2^63-1 for itself.
    let bytes = [tcp_rx, tcp_tx, udp_rx, udp_tx].map(|bytes| bytes.min(i64::MAX as u64));
    (bytes, figures.record_count, figures.expected_count, figures.covered_ms, sum, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EndpointId;

    const HOUR: i64 = 3_600 * Timestamp::SECOND;

    fn tunnel() -> TunnelKey {
        TunnelKey { endpoint: EndpointId(1), instance: "9545ac3d".into() }
    }

    fn bytes(tcp_rx: u64) -> Counters {
        Counters { tcp_rx, ..Counters::default() }
    }

    fn figures(tcp_rx: u64) -> Figures {
        Figures { delta: bytes(tcp_rx), ..Figures::default() }
    }

    /// Two minutes of one hour, 30 and 12 bytes, and a third minute of 5 in the next.
    fn history() -> TunnelHistory {
        let minutes = [(0, 30), (1, 12), (60, 5)].map(|(minute, bytes)| (Timestamp(minute * Timestamp::MINUTE), figures(bytes)));
        let hours = [(Timestamp(0), figures(42)), (Timestamp(HOUR), figures(5))];
        let days = [(Timestamp(0), figures(47))];
        let account = StoredAccount { risen: [50, 0, 0, 0], closing: bytes(1_050), open: bytes(3) };
        TunnelHistory { account: Some(account), adjusted: [0; 4], levels: [minutes.into(), hours.into(), days.into()] }
    }

    fn check(history: &TunnelHistory, minutes_from: i64) -> Vec<String> {
        check_tunnel(&tunnel(), history, &Calendar::default(), [Timestamp(minutes_from), Timestamp(0), Timestamp(0)])
    }

    #[test]
    fn days_and_what_is_open_are_what_the_counters_rose() {
        assert_eq!(check(&history(), 0), [""; 0]);
        let mut short = history();
        short.account.as_mut().unwrap().open = bytes(2);
        assert!(check(&short, 0)[0].contains("tcp_rx moved 50 bytes, and 49 are counted"), "{:?}", check(&short, 0));
    }

    #[test]
    fn a_fall_is_owed_only_with_its_record() {
        let mut fallen = history();
        // 1,050 fell to 200 and rose to 250 again.
        let account = fallen.account.as_mut().unwrap();
        account.add(&Account { tunnel: tunnel(), from: bytes(1_050), to: bytes(250), open: bytes(53) });
        assert!(check(&fallen, 0)[0].contains("moved -750 bytes"), "{:?}", check(&fallen, 0));
        fallen.adjusted = adjustment(bytes(1_050), bytes(200), bytes(0)).map(i128::from);
        assert_eq!(check(&fallen, 0), [""; 0]);
    }

    #[test]
    fn falls_from_the_end_of_the_range_add_up_however_many_there_are() {
        let highest = bytes(i64::MAX as u64);
        let mut fallen = history();
        // 1,050 rose to the end of the range and fell to 7, twice.
        let day = fallen.levels[2].get_mut(&Timestamp(0)).unwrap();
        day.delta = bytes(i64::MAX as u64 - 1_000);
        let later = [(Timestamp(24 * HOUR), figures(i64::MAX as u64 - 7))];
        fallen.levels[2].extend(later);
        fallen.levels[1] = BTreeMap::from([(Timestamp(0), fallen.levels[2][&Timestamp(0)]), later[0]]);
        fallen.levels[0].clear();
        let account = fallen.account.as_mut().unwrap();
        account.add(&Account { tunnel: tunnel(), from: bytes(1_050), to: highest, open: bytes(0) });
        account.add(&Account { tunnel: tunnel(), from: highest, to: bytes(7), open: bytes(0) });
        account.add(&Account { tunnel: tunnel(), from: bytes(7), to: highest, open: bytes(0) });
        account.add(&Account { tunnel: tunnel(), from: highest, to: bytes(7), open: bytes(0) });
        let fall = adjustment(highest, bytes(7), bytes(0));
        fallen.adjusted = fall.map(|fall| 2 * i128::from(fall));
        assert_eq!(check(&fallen, 48 * HOUR), [""; 0]);
        fallen.adjusted[0] += 1;
        assert_eq!(check(&fallen, 48 * HOUR).len(), 1);
    }

    #[test]
    fn what_a_level_cannot_hold_is_not_missed() {
        let most = || figures(i64::MAX as u64);
        let minutes = [(Timestamp(0), most()), (Timestamp(Timestamp::MINUTE), most())];
        let levels = [minutes.into(), [(Timestamp(0), most())].into(), [(Timestamp(0), most())].into()];
        let account = StoredAccount { risen: [5, 0, 0, 0], ..StoredAccount::default() };
        let full = TunnelHistory { account: Some(account), adjusted: [2 * i128::from(i64::MAX) - 5, 0, 0, 0], levels };
        assert_eq!(check(&full, 0), [""; 0]);
    }

    #[test]
    fn levels_that_disagree_are_named_unless_the_lower_one_has_expired() {
        let mut lost = history();
        lost.levels[0].remove(&Timestamp(0));
        assert!(check(&lost, 0)[0].contains("the hour from 1970-01-01T00:00:00"), "{:?}", check(&lost, 0));
        assert_eq!(check(&lost, 1), [""; 0]);
        let mut missing = history();
        missing.levels[1].remove(&Timestamp(HOUR));
        assert_eq!(check(&missing, 0).len(), 2, "{:?}", check(&missing, 0));
    }

    #[test]
    fn history_without_an_account_is_named() {
        assert_eq!(check(&TunnelHistory { account: None, ..history() }, 0).len(), 1);
        assert_eq!(check(&TunnelHistory::default(), 0), [""; 0]);
    }
}
