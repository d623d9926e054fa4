//! What a step of the counters from one sample to the next means.
//!
//! Counters that fall are never wrap-around. The master resets them, or comes back after a kill with an older state file
//! and counts on from there; what it shows from then on is new traffic, counted from the fallen value. What a fall hides is
//! not known and counts 0: too low, never too high.

use crate::event::Counters;

/// What is known of a tunnel's counters beside their last values.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Before {
    /// The last values.
    pub(crate) counters: Counters,
    /// What they were before a fall that the very next figures may undo.
    pub(crate) fall: Option<Counters>,
    /// Resets last at this master (v1.8.2 and later).
    pub(crate) resets_last: bool,
}

/// What a step counts, and what is special about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Bytes moved, by counter.
    pub(crate) counted: Counters,
    /// As in `counter_events.kind`; `None` for plain growth.
    pub(crate) kind: Option<&'static str>,
    /// What the very next figures may go back to.
    pub(crate) fall: Option<Counters>,
}

pub(super) const RESET: &str = "reset";
pub(super) const RESET_UNDONE: &str = "reset_undone";
pub(super) const FALL_BACK: &str = "fall_back";
pub(super) const FALL_UNKNOWN: &str = "fall_unknown";

/// The step from `before` to the counters `after`.
pub(crate) fn step(before: Before, after: Counters) -> Step {
    if let Some(fall) = before.fall.filter(|fall| *fall != Counters::default())
        && let Some(counted) = growth(fall, after)
    {
        return Step { counted, kind: Some(RESET_UNDONE), fall: None };
    }
    if let Some(counted) = growth(before.counters, after) {
        // Only the next figures can undo a fall, and the same figures again are not the next.
        let fall = before.fall.filter(|_| after == before.counters);
        return Step { counted, kind: None, fall };
    }
    if after == Counters::default() {
        let fall = (!before.resets_last).then_some(before.counters);
        return Step { counted: Counters::default(), kind: Some(RESET), fall };
    }
    // One counter may fall while another rises, which is growth all the same.
    let counted = Counters {
        tcp_rx: after.tcp_rx.saturating_sub(before.counters.tcp_rx),
        tcp_tx: after.tcp_tx.saturating_sub(before.counters.tcp_tx),
        udp_rx: after.udp_rx.saturating_sub(before.counters.udp_rx),
        udp_tx: after.udp_tx.saturating_sub(before.counters.udp_tx),
    };
    // Whatever it was: figures that stand where they stood before it, or higher, take it back.
    Step { counted, kind: Some(FALL_UNKNOWN), fall: Some(highest(before.counters, after)) }
}

/// `after - before`, or `None` if any counter is smaller.
pub(super) fn growth(before: Counters, after: Counters) -> Option<Counters> {
    Some(Counters {
        tcp_rx: after.tcp_rx.checked_sub(before.tcp_rx)?,
        tcp_tx: after.tcp_tx.checked_sub(before.tcp_tx)?,
        udp_rx: after.udp_rx.checked_sub(before.udp_rx)?,
        udp_tx: after.udp_tx.checked_sub(before.udp_tx)?,
    })
}

/// The highest figures that a tunnel fell from and is still below, after a step: what an older state of its master may bring back.
pub(super) fn fallen_from(known: Option<Counters>, before: Counters, kind: Option<&str>, after: Counters) -> Option<Counters> {
    let fell = matches!(kind, Some(RESET | FALL_UNKNOWN)).then_some(before);
    let from = match (known, fell) {
        (Some(known), Some(fell)) => Some(highest(known, fell)),
        (known, fell) => known.or(fell),
    };
    from.filter(|from| growth(*from, after).is_none())
}

/// What of a step to `after` may be an older state that came back, and no traffic: all that it counted up to the figures fallen from.
pub(super) fn in_doubt(counted: Counters, after: Counters, fallen_from: Counters) -> Counters {
    let of = |counted: u64, after: u64, from: u64| counted - counted.min(after.saturating_sub(from));
    Counters {
        tcp_rx: of(counted.tcp_rx, after.tcp_rx, fallen_from.tcp_rx),
        tcp_tx: of(counted.tcp_tx, after.tcp_tx, fallen_from.tcp_tx),
        udp_rx: of(counted.udp_rx, after.udp_rx, fallen_from.udp_rx),
        udp_tx: of(counted.udp_tx, after.udp_tx, fallen_from.udp_tx),
    }
}

fn highest(a: Counters, b: Counters) -> Counters {
    Counters {
        tcp_rx: a.tcp_rx.max(b.tcp_rx),
        tcp_tx: a.tcp_tx.max(b.tcp_tx),
        udp_rx: a.udp_rx.max(b.udp_rx),
        udp_tx: a.udp_tx.max(b.udp_tx),
    }
}

/// Counters as both databases can hold them: they stay at 2^63-1, which reads as no movement.
pub(super) fn bounded(counters: Counters) -> Counters {
    const HIGHEST: u64 = i64::MAX as u64;
    Counters {
        tcp_rx: counters.tcp_rx.min(HIGHEST),
        tcp_tx: counters.tcp_tx.min(HIGHEST),
        udp_rx: counters.udp_rx.min(HIGHEST),
        udp_tx: counters.udp_tx.min(HIGHEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(rx: u64, tx: u64) -> Counters {
        Counters { tcp_rx: rx, tcp_tx: tx, ..Counters::default() }
    }

    /// What a series counts from its second value on, and the kinds of its special steps.
    fn counted(series: &[Counters], resets_last: bool) -> (u64, u64, Vec<&'static str>) {
        let mut before = Before { counters: series[0], fall: None, resets_last };
        let (mut rx, mut tx, mut kinds) = (0, 0, Vec::new());
        for after in &series[1..] {
            let step = step(before, *after);
            rx += step.counted.tcp_rx;
            tx += step.counted.tcp_tx;
            kinds.extend(step.kind);
            before = Before { counters: *after, fall: step.fall, resets_last };
        }
        (rx, tx, kinds)
    }

    #[test]
    fn growth_counts() {
        assert_eq!(counted(&[tcp(5, 1), tcp(5, 1), tcp(9, 4)], true), (4, 3, vec![]));
    }

    #[test]
    fn a_reset_counts_nothing_and_what_comes_after_it_counts_from_zero() {
        assert_eq!(counted(&[tcp(1_000, 9), tcp(0, 0), tcp(0, 0), tcp(40, 2)], false), (40, 2, vec![RESET]));
    }

    #[test]
    fn the_next_report_undoes_a_reset_where_resets_do_not_last() {
        let series = [tcp(1_000, 9), tcp(0, 0), tcp(0, 0), tcp(1_200, 9), tcp(1_300, 10)];
        assert_eq!(counted(&series, false), (300, 1, vec![RESET, RESET_UNDONE]));
    }

    #[test]
    fn where_resets_last_growth_beyond_the_old_figures_is_growth() {
        assert_eq!(counted(&[tcp(1_000, 9), tcp(0, 0), tcp(1_200, 9)], true), (1_200, 9, vec![RESET]));
    }

    #[test]
    fn a_fall_counts_nothing_and_growth_goes_on_from_the_fallen_value() {
        assert_eq!(counted(&[tcp(300, 9), tcp(100, 5), tcp(150, 8)], true), (50, 3, vec![FALL_UNKNOWN]));
    }

    #[test]
    fn one_counter_may_fall_while_another_rises() {
        assert_eq!(counted(&[tcp(300, 9), tcp(100, 20), tcp(150, 30)], true), (50, 21, vec![FALL_UNKNOWN]));
    }

    #[test]
    fn a_fall_that_the_next_figures_take_back_is_counted_once() {
        let series = [tcp(300, 9), tcp(100, 12), tcp(310, 13), tcp(320, 14)];
        assert_eq!(counted(&series, true), (20, 5, vec![FALL_UNKNOWN, RESET_UNDONE]));
    }

    #[test]
    fn after_other_figures_a_fall_is_not_taken_back_any_more() {
        assert_eq!(counted(&[tcp(300, 0), tcp(100, 0), tcp(110, 0), tcp(400, 0)], true), (300, 0, vec![FALL_UNKNOWN]));
    }

    #[test]
    fn a_counter_beyond_the_range_of_the_database_stays_at_its_end() {
        let high = bounded(Counters { tcp_rx: u64::MAX, tcp_tx: 7, ..Counters::default() });
        assert_eq!(high, tcp(i64::MAX as u64, 7));
    }
}
