//! What was counted over a stretch of time, of one tunnel or of many, and how two stretches become one.
//!
//! All parts are whole numbers, so that sums do not depend on the order in which parts came.

use serde::{Deserialize, Serialize};

use crate::event::Counters;

/// What was counted of one tunnel over a minute, an hour or a day, or over a part of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Bytes moved, by counter.
    pub delta: Counters,
    /// Time over which they moved, in milliseconds: from the sample before the first one to the last one. After a gap it
    /// is longer than the stretch itself.
    pub covered_ms: i64,
    /// Ping over the samples that had one.
    pub ping: Option<Ping>,
    /// Idle pooled connections, last value.
    pub pool: Option<i32>,
    /// Open TCP connections, last value.
    pub tcps: Option<i32>,
    /// Open UDP sessions, last value.
    pub udps: Option<i32>,
    /// Reports received.
    pub record_count: i32,
    /// Reports that the learnt interval lets expect; 0 while it is not known.
    pub expected_count: i32,
}

/// Round trips in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Sum.
    pub sum: i64,
    /// How many, at least 1.
    pub count: i32,
    /// Lowest.
    pub min: i32,
    /// Highest.
    pub max: i32,
}

impl Ping {
    /// One round trip.
    #[must_use]
    pub fn of(millis: i32) -> Self {
        Self { sum: i64::from(millis), count: 1, min: millis, max: millis }
    }

    /// Mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum as f64 / f64::from(self.count.max(1))
    }

    fn plus(self, other: Self) -> Self {
        Self {
            sum: self.sum.saturating_add(other.sum),
            count: self.count.saturating_add(other.count),
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

impl Figures {
    /// This stretch and a later one as one.
    #[must_use]
    pub fn plus(self, later: Self) -> Self {
        Self {
            delta: sum(self.delta, later.delta),
            covered_ms: self.covered_ms.saturating_add(later.covered_ms),
            ping: match (self.ping, later.ping) {
                (Some(a), Some(b)) => Some(a.plus(b)),
                (a, b) => a.or(b),
            },
            pool: later.pool.or(self.pool),
            tcps: later.tcps.or(self.tcps),
            udps: later.udps.or(self.udps),
            record_count: self.record_count.saturating_add(later.record_count),
            expected_count: self.expected_count.saturating_add(later.expected_count),
        }
    }

    /// Bytes per second received, TCP and UDP, over the covered time; `None` if nothing is covered.
    #[must_use]
    pub fn speed_in(&self) -> Option<i64> {
        speed(self.delta.tcp_rx, self.delta.udp_rx, self.covered_ms)
    }

    /// Bytes per second sent, likewise.
    #[must_use]
    pub fn speed_out(&self) -> Option<i64> {
        speed(self.delta.tcp_tx, self.delta.udp_tx, self.covered_ms)
    }
}

fn speed(tcp: u64, udp: u64, covered_ms: i64) -> Option<i64> {
    // Whole bytes per second: SQLite stores a whole number in a few bytes and any other in eight.
    (covered_ms > 0).then(|| (tcp.saturating_add(udp) as f64 * 1e3 / covered_ms as f64).round() as i64)
}

/// What was counted of many tunnels over one stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sums over the tunnels: also the covered time (a thousand tunnels cover a thousand minutes in one), pool and
    /// connections. Ping is over all samples.
    pub figures: Figures,
    /// Sum of the tunnels' speeds in bytes per second.
    pub speed_in: Option<i64>,
    /// Likewise.
    pub speed_out: Option<i64>,
    /// Tunnels that have a row.
    pub tunnels: i32,
}

impl Totals {
    /// A tunnel's row of this stretch is `new` and was `old` before, if there was one.
    pub fn replace(&mut self, old: Option<Figures>, new: Figures) {
        let known = old.unwrap_or_default();
        let mine = &mut self.figures;
        mine.delta = sum(mine.delta, minus(new.delta, known.delta));
        mine.covered_ms = mine.covered_ms.saturating_add(new.covered_ms - known.covered_ms);
        mine.record_count = mine.record_count.saturating_add(new.record_count - known.record_count);
        mine.expected_count = mine.expected_count.saturating_add(new.expected_count - known.expected_count);
        if let Some(ping) = new.ping {
            let (sum, count) = known.ping.map_or((0, 0), |known| (known.sum, known.count));
            let more = Ping { sum: ping.sum - sum, count: ping.count - count, ..ping };
            mine.ping = Some(mine.ping.map_or(more, |mine| mine.plus(more)));
        }
        replace(&mut mine.pool, known.pool, new.pool, i32::MAX);
        replace(&mut mine.tcps, known.tcps, new.tcps, i32::MAX);
        replace(&mut mine.udps, known.udps, new.udps, i32::MAX);
        replace(&mut self.speed_in, known.speed_in(), new.speed_in(), i64::MAX);
        replace(&mut self.speed_out, known.speed_out(), new.speed_out(), i64::MAX);
        self.tunnels += i32::from(old.is_none());
    }

    /// A part of a tunnel's row comes of which another part does not count here. Of its last values the total has those of `shown`, if
    /// that is known; its speed stays as it is.
    pub fn add_part(&mut self, part: Figures, shown: Option<Figures>) {
        self.figures = self.figures.plus(Figures { pool: None, tcps: None, udps: None, ..part });
        if let Some(shown) = shown {
            replace(&mut self.figures.pool, shown.pool, part.pool, i32::MAX);
            replace(&mut self.figures.tcps, shown.tcps, part.tcps, i32::MAX);
            replace(&mut self.figures.udps, shown.udps, part.udps, i32::MAX);
        }
    }
}

/// A sum of which one part was `old` and is `new`. What does not fit stays at the end of the range, and is never less than nothing.
fn replace<T: Copy + Default + Into<i128> + TryFrom<i128>>(sum: &mut Option<T>, old: Option<T>, new: Option<T>, most: T) {
    if let Some(new) = new {
        let exact = sum.unwrap_or_default().into() + new.into() - old.unwrap_or_default().into();
        *sum = Some(T::try_from(exact.max(0)).unwrap_or(most));
    }
}

/// Sum by counter; stays at the end of the range.
#[must_use]
pub fn sum(a: Counters, b: Counters) -> Counters {
    Counters {
        tcp_rx: a.tcp_rx.saturating_add(b.tcp_rx),
        tcp_tx: a.tcp_tx.saturating_add(b.tcp_tx),
        udp_rx: a.udp_rx.saturating_add(b.udp_rx),
        udp_tx: a.udp_tx.saturating_add(b.udp_tx),
    }
}

fn minus(a: Counters, b: Counters) -> Counters {
    Counters {
        tcp_rx: a.tcp_rx.saturating_sub(b.tcp_rx),
        tcp_tx: a.tcp_tx.saturating_sub(b.tcp_tx),
        udp_rx: a.udp_rx.saturating_sub(b.udp_rx),
        udp_tx: a.udp_tx.saturating_sub(b.udp_tx),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(bytes: u64, seconds: i64, ping: i32, tcps: Option<i32>) -> Figures {
        Figures {
            delta: Counters { tcp_rx: bytes, tcp_tx: bytes / 2, ..Counters::default() },
            covered_ms: seconds * 1_000,
            ping: Some(Ping::of(ping)),
            tcps,
            record_count: 1,
            expected_count: 1,
            ..Figures::default()
        }
    }

    #[test]
    fn two_parts_make_the_whole_and_the_later_gauge_stays() {
        let whole = figures(600, 5, 10, Some(3)).plus(figures(400, 5, 31, None));
        assert_eq!((whole.delta.tcp_rx, whole.delta.tcp_tx, whole.covered_ms), (1_000, 500, 10_000));
        assert_eq!((whole.speed_in(), whole.speed_out(), whole.tcps), (Some(100), Some(50), Some(3)));
        assert_eq!(whole.ping, Some(Ping { sum: 41, count: 2, min: 10, max: 31 }));
        assert_eq!(whole.ping.map(|ping| ping.mean()), Some(20.5));
    }

    #[test]
    fn without_covered_time_there_is_no_speed() {
        assert_eq!(figures(600, 0, 1, None).speed_in(), None);
    }

    #[test]
    fn totals_are_the_same_however_a_tunnels_row_grew() {
        let (first, second) = (figures(600, 5, 10, Some(3)), figures(400, 5, 31, Some(5)));
        let (whole, other) = (first.plus(second), figures(80, 10, 7, Some(1)));
        let mut at_once = Totals::default();
        at_once.replace(None, whole);
        at_once.replace(None, other);
        let mut in_parts = Totals::default();
        in_parts.replace(None, first);
        in_parts.replace(None, other);
        in_parts.replace(Some(first), whole);
        assert_eq!(at_once, in_parts);
        assert_eq!((at_once.figures.delta.tcp_rx, at_once.figures.tcps, at_once.tunnels), (1_080, Some(6), 2));
        assert_eq!((at_once.speed_in, at_once.figures.ping), (Some(108), Some(Ping { sum: 48, count: 3, min: 7, max: 31 })));
    }

    #[test]
    fn what_is_too_much_for_a_total_stays_at_the_end_of_the_range_and_comes_back_from_there() {
        let many = Figures { pool: Some(i32::MAX), ..figures(u64::MAX, 1, 1, Some(i32::MAX)) };
        let none = Figures { pool: Some(0), ..figures(0, 1, 1, Some(0)) };
        let mut total = Totals::default();
        total.replace(None, many);
        total.replace(None, many);
        assert_eq!((total.figures.pool, total.figures.tcps, total.speed_in), (Some(i32::MAX), Some(i32::MAX), Some(i64::MAX)));
        total.replace(Some(many), none);
        total.replace(Some(many), none);
        assert_eq!((total.figures.pool, total.figures.tcps, total.speed_in), (Some(0), Some(0), Some(0)));
    }
}
