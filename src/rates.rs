//! How fast a tunnel's counters move now: bytes per second from its last two samples. Kept in memory only; history has its
//! own averages.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::Counters;

/// Samples closer together than this are one: a change of status is told within milliseconds of a report.
const SPAN_MIN: Duration = Duration::from_millis(500);
/// Two samples further apart than this say nothing of now.
const SPAN_MAX: Duration = Duration::from_secs(120);
/// A rate is believed for so many of its own spans after the last sample ...
const SPANS_BELIEVED: u32 = 3;
/// ... but at least for this long: three reports of a master at its default of 5 s.
const BELIEVED_MIN: Duration = Duration::from_secs(15);

/// Bytes per second on the instance's non-tunnel side, TCP and UDP together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Received.
    pub bytes_in: u64,
    /// Sent.
    pub bytes_out: u64,
    /// When the rate is no longer known, unless a sample comes.
    pub until: Timestamp,
}

/// Watches the counters of one tunnel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    base: Option<(Counters, Timestamp)>,
    rate: Option<Rate>,
}

impl Meter {
    /// Takes a sample that was received then.
    pub fn observe(&mut self, counters: Counters, at: Timestamp) {
        if let Some((before, since)) = self.base
            && at >= since
        {
            let span = at.since(since);
            if span < SPAN_MIN && moved(before, counters).is_some() {
                return;
            }
            self.rate = moved(before, counters).filter(|_| (SPAN_MIN..=SPAN_MAX).contains(&span)).map(|(bytes_in, bytes_out)| {
                let per_second = |bytes: u64| (bytes as f64 / span.as_secs_f64()).round() as u64;
                let until = at.plus((span * SPANS_BELIEVED).max(BELIEVED_MIN));
                Rate { bytes_in: per_second(bytes_in), bytes_out: per_second(bytes_out), until }
            });
        } else {
            // The first sample, or the wall clock was stepped back: there is nothing to compare with.
            self.rate = None;
        }
        self.base = Some((counters, at));
    }

    /// The rate of the last two samples; it may be past its time. `None` while it is not known.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }
}

/// Bytes received and sent between two samples; `None` if a counter fell, as it does when the instance was restarted.
fn moved(before: Counters, now: Counters) -> Option<(u64, u64)> {
    let received = now.tcp_rx.checked_sub(before.tcp_rx)?.saturating_add(now.udp_rx.checked_sub(before.udp_rx)?);
    let sent = now.tcp_tx.checked_sub(before.tcp_tx)?.saturating_add(now.udp_tx.checked_sub(before.udp_tx)?);
    Some((received, sent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp(1_000 * millis)
    }

    fn counters(tcp_rx: u64, tcp_tx: u64, udp_rx: u64, udp_tx: u64) -> Counters {
        Counters { tcp_rx, tcp_tx, udp_rx, udp_tx }
    }

    fn shown(meter: &Meter) -> Option<(u64, u64)> {
        meter.rate().map(|rate| (rate.bytes_in, rate.bytes_out))
    }

    #[test]
    fn two_samples_make_a_rate_of_tcp_and_udp_together() {
        let mut meter = Meter::default();
        meter.observe(counters(1_000, 0, 0, 0), at(0));
        assert_eq!(shown(&meter), None);
        meter.observe(counters(2_000, 100, 4_000, 0), at(5_000));
        assert_eq!(shown(&meter), Some((1_000, 20)));
        meter.observe(counters(2_000, 100, 4_000, 0), at(10_000));
        assert_eq!(shown(&meter), Some((0, 0)), "no traffic is known");
    }

    #[test]
    fn a_fall_of_a_counter_makes_the_rate_unknown_until_the_next_sample() {
        let mut meter = Meter::default();
        meter.observe(counters(1_000, 0, 0, 0), at(0));
        meter.observe(counters(2_000, 0, 0, 0), at(5_000));
        meter.observe(counters(500, 0, 0, 0), at(5_100));
        assert_eq!(shown(&meter), None);
        meter.observe(counters(1_500, 0, 0, 0), at(10_100));
        assert_eq!(shown(&meter), Some((200, 0)));
    }

    #[test]
    fn samples_that_come_together_are_one_and_those_far_apart_say_nothing() {
        let mut meter = Meter::default();
        meter.observe(counters(0, 0, 0, 0), at(0));
        meter.observe(counters(5_000, 0, 0, 0), at(5_000));
        meter.observe(counters(5_001, 0, 0, 0), at(5_001));
        assert_eq!(shown(&meter), Some((1_000, 0)), "not 1 byte in 1 ms");
        meter.observe(counters(10_000, 0, 0, 0), at(10_000));
        assert_eq!(shown(&meter), Some((1_000, 0)));
        meter.observe(counters(900_000, 0, 0, 0), at(310_000));
        assert_eq!(shown(&meter), None);
        meter.observe(counters(905_000, 0, 0, 0), at(300_000));
        assert_eq!(shown(&meter), None, "the clock was stepped back");
        meter.observe(counters(910_000, 0, 0, 0), at(305_000));
        assert_eq!(shown(&meter), Some((1_000, 0)));
    }

    #[test]
    fn a_rate_is_believed_for_three_reports() {
        let mut meter = Meter::default();
        meter.observe(counters(0, 0, 0, 0), at(0));
        meter.observe(counters(0, 0, 0, 0), at(2_000));
        assert_eq!(meter.rate().unwrap().until, at(17_000));
        meter.observe(counters(0, 0, 0, 0), at(22_000));
        assert_eq!(meter.rate().unwrap().until, at(82_000));
    }
}
