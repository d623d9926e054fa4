//! Wrong tokens are counted by where they come from, and after a few the next ones have to wait.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// So many wrong tokens are answered at once.
const BURST: u32 = 10;
/// After them one more is looked at each time this has passed: 14,400 a day, of which no token of 16 characters is afraid.
const PAUSE: Duration = Duration::from_secs(6);
/// Addresses that are counted by themselves. All others share one count, so that memory has a bound and many addresses
/// bring no more tries.
const ADDRESSES_MAX: usize = 1_024;

/// Wrong tokens of late. For each address the instant at which its failures are forgotten; each puts it off by [`PAUSE`].
#[derive(Debug, Default)]
pub struct Failures {
    forgotten_at: BTreeMap<IpAddr, Instant>,
    others: Option<Instant>,
}

impl Failures {
    /// How long this address must wait before its next token is looked at.
    #[must_use]
    pub fn wait(&self, address: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let own = address.and_then(|address| self.forgotten_at.get(&network(address)).copied());
        let forgotten_at = match own {
            Some(own) => Some(own),
            None if self.is_full(now) => self.others,
            None => None,
        };
        let wait = forgotten_at?.saturating_duration_since(now).checked_sub(PAUSE * (BURST - 1))?;
        (!wait.is_zero()).then_some(wait)
    }

    /// Counts a wrong token.
    pub fn count(&mut self, address: Option<IpAddr>, now: Instant) {
        let address = network(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        if !self.forgotten_at.contains_key(&address) && self.forgotten_at.len() >= ADDRESSES_MAX {
            self.forgotten_at.retain(|_, until| *until > now);
        }
        if self.forgotten_at.contains_key(&address) || self.forgotten_at.len() < ADDRESSES_MAX {
            let until = self.forgotten_at.entry(address).or_insert(now);
            *until = (*until).max(now) + PAUSE;
        } else {
            self.others = Some(self.others.unwrap_or(now).max(now) + PAUSE);
        }
    }

    fn is_full(&self, now: Instant) -> bool {
        self.forgotten_at.len() >= ADDRESSES_MAX && self.forgotten_at.values().all(|until| *until > now)
    }
}

/// What is counted as one: an IPv4 address, or the 64 bits of an IPv6 network, all of which one customer has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn v4(n: u32) -> Option<IpAddr> {
        Some(IpAddr::from(n.to_be_bytes()))
    }

    #[test]
    fn ten_failures_are_free_and_then_one_each_pause() {
        let (mut failures, now) = (Failures::default(), SystemClock.monotonic());
        for _ in 0..BURST {
            assert_eq!(failures.wait(v4(1), now), None);
            failures.count(v4(1), now);
        }
        assert_eq!(failures.wait(v4(1), now), Some(PAUSE));
        assert_eq!(failures.wait(v4(2), now), None, "another address is not concerned");
        assert_eq!(failures.wait(v4(1), now + PAUSE), None);
        failures.count(v4(1), now + PAUSE);
        assert_eq!(failures.wait(v4(1), now + PAUSE), Some(PAUSE));
        assert_eq!(failures.wait(v4(1), now + PAUSE * (BURST + 2)), None);
    }

    #[test]
    fn one_network_is_one_guesser() {
        let (mut failures, now) = (Failures::default(), SystemClock.monotonic());
        for n in 0..=BURST {
            failures.count(Some(format!("2001:db8::{n}").parse().unwrap()), now);
        }
        assert!(failures.wait(Some("2001:db8::ffff".parse().unwrap()), now).is_some());
        assert!(failures.wait(Some("2001:db8:0:1::1".parse().unwrap()), now).is_none());
    }

    #[test]
    fn many_addresses_take_bounded_memory_and_bring_no_more_tries() {
        let (mut failures, now) = (Failures::default(), SystemClock.monotonic());
        for n in 0..ADDRESSES_MAX as u32 + BURST {
            failures.count(v4(n), now);
        }
        assert_eq!(failures.forgotten_at.len(), ADDRESSES_MAX);
        assert!(failures.wait(v4(1 << 20), now).is_some());
        let later = now + PAUSE;
        assert_eq!(failures.wait(v4(1 << 20), later), None, "the counts are forgotten");
        failures.count(v4(1 << 20), later);
        assert_eq!(failures.forgotten_at.len(), 1);
    }
}
