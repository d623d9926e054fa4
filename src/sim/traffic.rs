//! Believable traffic as a pure function of a tunnel's seed and the time.
//!
//! Both ends of a tunnel compute it from the same seed and so agree on every byte without knowing each other, and nothing
//! has to be remembered between two reports. Integers only, see the module above.

use crate::clock::Timestamp;

/// Length of the pieces of time whose rate is drawn, in microseconds. Reports come every 5 s by default.
const PIECE: i64 = 5 * Timestamp::SECOND;

/// Share of the daily peak by hour of the (local) day, in percent: low at night, highest in the evening.
const DAY_CURVE: [u64; 24] = [35, 22, 14, 9, 7, 6, 8, 14, 26, 38, 45, 50, 55, 52, 50, 52, 56, 62, 72, 85, 97, 100, 86, 58];

/// One minute in so many is a burst.
const BURST_ONE_IN: u64 = 24;

/// How much a burst is above the curve.
const BURST_FACTOR: u64 = 8;

/// Bytes that moved through a tunnel, seen from its user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// TCP bytes that the user sent.
    pub tcp_up: u64,
    /// TCP bytes that the user got.
    pub tcp_down: u64,
    /// UDP bytes that the user sent.
    pub udp_up: u64,
    /// UDP bytes that the user got.
    pub udp_down: u64,
}

impl Moved {
    /// All bytes together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.tcp_up + self.tcp_down + self.udp_up + self.udp_down
    }

    /// Adds another amount.
    pub fn add(&mut self, other: Self) {
        self.tcp_up += other.tcp_up;
        self.tcp_down += other.tcp_down;
        self.udp_up += other.udp_up;
        self.udp_down += other.udp_down;
    }
}

/// What moves through one tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Both ends of a tunnel have the same.
    pub seed: u64,
    /// Bytes per second that users get at the daily peak, bursts not counted. 0: an idle tunnel.
    pub peak_down: u64,
    /// Bytes per second that users send at the daily peak.
    pub peak_up: u64,
    /// Share of UDP in percent, at most 100.
    pub udp_percent: u64,
    /// The users' local time, in seconds east of UTC.
    pub users_offset_seconds: i64,
}

impl Traffic {
    /// What moves in `[from, to)`. Additive: `[a, c)` gives the same as `[a, b)` and `[b, c)`, up to one byte per piece.
    #[must_use]
    pub fn moved(&self, from: Timestamp, to: Timestamp) -> Moved {
        let mut moved = Moved::default();
        if self.peak_down == 0 && self.peak_up == 0 {
            return moved;
        }
        let mut at = from.0;
        while at < to.0 {
            let piece = at.div_euclid(PIECE);
            let end = ((piece + 1) * PIECE).min(to.0);
            moved.add(self.in_piece(piece, end - at));
            at = end;
        }
        moved
    }

    /// Connections open at an instant.
    #[must_use]
    pub fn connections(&self, at: Timestamp) -> (i32, i32) {
        let percent = self.percent(at.0.div_euclid(PIECE));
        let draw = mix(self.seed ^ 0xc0, at.0.div_euclid(PIECE));
        let tcps = i32::try_from(percent / 16 + draw % 3).unwrap_or(0);
        (if self.peak_down == 0 { 0 } else { tcps }, i32::try_from(self.udp_percent.min(1) * (draw >> 8) % 3).unwrap_or(0))
    }

    fn in_piece(&self, piece: i64, micros: i64) -> Moved {
        let percent = self.percent(piece);
        let share = |peak: u64| {
            let bytes = u128::from(peak) * u128::from(percent) * micros.unsigned_abs() as u128 / 100 / 1_000_000;
            u64::try_from(bytes).unwrap_or(u64::MAX)
        };
        let (down, up) = (share(self.peak_down), share(self.peak_up));
        let (udp_down, udp_up) = (down / 100 * self.udp_percent.min(100), up / 100 * self.udp_percent.min(100));
        Moved { tcp_up: up - udp_up, tcp_down: down - udp_down, udp_up, udp_down }
    }

    /// The rate in percent of the peak: day curve, times a burst, times noise between a quarter and seven quarters.
    fn percent(&self, piece: i64) -> u64 {
        let local_seconds = piece * (PIECE / Timestamp::SECOND) + self.users_offset_seconds;
        let second = u64::try_from(local_seconds.rem_euclid(86_400)).unwrap_or(0);
        let hour = (second / 3_600) as usize;
        let (here, next) = (DAY_CURVE[hour], DAY_CURVE[(hour + 1) % 24]);
        let curve = (here * (3_600 - second % 3_600) + next * (second % 3_600)) / 3_600;
        let burst = mix(self.seed ^ 0xb0, local_seconds.div_euclid(60)).is_multiple_of(BURST_ONE_IN);
        let noise = 25 + mix(self.seed, piece) % 151;
        curve * if burst { BURST_FACTOR } else { 1 } * noise / 100
    }
}

/// A well-mixed number from a seed and a position (the finaliser of SplitMix64).
fn mix(seed: u64, position: i64) -> u64 {
    let mut z = seed.wrapping_add((position as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_795_435_200_000_000;
    const TUNNEL: Traffic = Traffic { seed: 3, peak_down: 1_000_000, peak_up: 100_000, udp_percent: 10, users_offset_seconds: 0 };

    #[test]
    fn the_parts_of_a_time_move_what_the_whole_moves_up_to_rounding() {
        let (from, middle, to) = (Timestamp(NOON + 1), Timestamp(NOON + 7_777_777), Timestamp(NOON + 60_000_000));
        let mut parts = TUNNEL.moved(from, middle);
        parts.add(TUNNEL.moved(middle, to));
        let whole = TUNNEL.moved(from, to);
        assert!(whole.total().abs_diff(parts.total()) < 500, "{whole:?} {parts:?}");
        assert!(whole.total() > 0);
    }

    #[test]
    fn an_evening_moves_more_than_a_night_where_the_users_live() {
        let hour = |traffic: &Traffic, hours: i64| {
            let start = Timestamp(NOON + hours * 3_600_000_000);
            traffic.moved(start, Timestamp(start.0 + 3_600_000_000)).tcp_down
        };
        assert!(hour(&TUNNEL, 8) > 3 * hour(&TUNNEL, 16));
        let tokyo = Traffic { users_offset_seconds: 9 * 3_600, ..TUNNEL };
        assert!(hour(&tokyo, 0) > 3 * hour(&tokyo, 8));
    }

    #[test]
    fn an_idle_tunnel_moves_nothing() {
        let idle = Traffic { peak_down: 0, peak_up: 0, ..TUNNEL };
        assert_eq!(idle.moved(Timestamp(NOON), Timestamp(NOON + 86_400_000_000)), Moved::default());
    }
}
