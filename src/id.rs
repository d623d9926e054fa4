//! Event ids: given once, at receipt, and never again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Bits of the counter within a millisecond.
const COUNTER_BITS: u32 = 13;
/// Bits of the node number.
const NODE_BITS: u32 = 9;
/// 2024-01-01T00:00:00Z, from where an id's milliseconds count.
const EPOCH_MILLIS: i64 = 1_704_067_200_000;

/// A positive 63-bit integer: milliseconds since 2024-01-01 UTC (41 bits), node (9 bits), counter (13 bits).
///
/// Ids order events, they do not date them: the milliseconds run ahead of a clock that was set back or of a burst of
/// more than 8,192 events in a millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(pub i64);

impl EventId {
    /// Lower than every id that is ever given.
    pub const ZERO: Self = Self(0);

    /// Lower than every id of that millisecond and of later ones.
    #[must_use]
    pub fn first_of(at: Timestamp) -> Self {
        Self((at.millis() - EPOCH_MILLIS).max(0) << (COUNTER_BITS + NODE_BITS))
    }

    /// The id clock's reading, as a time.
    #[must_use]
    pub fn id_clock(self) -> Timestamp {
        Timestamp(((self.0 >> (COUNTER_BITS + NODE_BITS)) + EPOCH_MILLIS) * 1_000)
    }

    /// Number of the node that gave it.
    #[must_use]
    pub fn node(self) -> i64 {
        (self.0 >> COUNTER_BITS) & ((1 << NODE_BITS) - 1)
    }
}

/// JSON carries ids as strings, for which this is the form: JavaScript's numbers end at 53 bits.
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Gives ids that only ever rise.
#[derive(Debug)]
pub struct IdGenerator {
    node: i64,
    last: EventId,
    /// A replay: the ids are those of the file and the ones after them, whatever the clock shows.
    replaying: bool,
}

impl IdGenerator {
    /// Highest node number.
    pub const NODE_MAX: u16 = (1 << NODE_BITS) - 1;

    /// A generator whose first id is above `floor`, the highest id known from the database and the journal.
    ///
    /// # Panics
    /// If `node` is above [`Self::NODE_MAX`].
    #[must_use]
    pub fn new(node: u16, floor: EventId) -> Self {
        assert!(node <= Self::NODE_MAX, "node {node} does not fit {NODE_BITS} bits");
        Self { node: i64::from(node), last: floor, replaying: false }
    }

    /// A generator for replays, which gives what [`Self::give_next`] says.
    #[must_use]
    pub fn replaying() -> Self {
        Self { node: 0, last: EventId::ZERO, replaying: true }
    }

    /// In a replay: the next id is this one, the one after it this one plus 1, and so on.
    pub fn give_next(&mut self, id: EventId) {
        self.last = EventId(id.0 - 1);
    }

    /// The next id. Follows the wall clock forwards and never goes back with it.
    pub fn next(&mut self, wall: Timestamp) -> EventId {
        if self.replaying {
            self.last = EventId(self.last.0 + 1);
            return self.last;
        }
        let (last_millis, last_counter) = (self.last.0 >> (COUNTER_BITS + NODE_BITS), self.last.0 & ((1 << COUNTER_BITS) - 1));
        let now_millis = (wall.millis() - EPOCH_MILLIS).max(1);
        let (millis, counter) = if now_millis > last_millis {
            (now_millis, 0)
        } else if last_counter + 1 < 1 << COUNTER_BITS && self.last.0 >> COUNTER_BITS & ((1 << NODE_BITS) - 1) == self.node {
            (last_millis, last_counter + 1)
        } else {
            (last_millis + 1, 0)
        };
        self.last = EventId(millis << (COUNTER_BITS + NODE_BITS) | self.node << COUNTER_BITS | counter);
        self.last
    }

    /// The last id given, or the floor.
    #[must_use]
    pub fn last(&self) -> EventId {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp(1_795_435_200_000_000);

    #[test]
    fn ids_rise_while_the_clock_stands_still_steps_back_and_bursts() {
        let mut ids = IdGenerator::new(3, EventId::ZERO);
        let mut last = ids.next(NOON);
        for step in 0..20_000_i64 {
            let next = ids.next(Timestamp(NOON.0 - step * 1_000));
            assert!(next > last, "{next} after {last}");
            last = next;
        }
        assert!(last.id_clock() >= NOON && last.id_clock() < NOON.plus(std::time::Duration::from_millis(10)));
    }

    #[test]
    fn the_first_id_is_above_the_floor_even_if_the_floor_is_ahead_of_the_clock_or_of_another_node() {
        let mut ahead = IdGenerator::new(511, EventId::ZERO);
        let floor = ahead.next(NOON.plus(std::time::Duration::from_secs(3600)));
        assert!(IdGenerator::new(0, floor).next(NOON) > floor);
    }

    #[test]
    fn an_id_is_positive_and_keeps_its_parts() {
        let id = IdGenerator::new(5, EventId::ZERO).next(NOON);
        assert!(id.0 > 0);
        assert_eq!(id.id_clock(), NOON);
        assert_eq!(id.0 >> COUNTER_BITS & 511, 5);
    }
}
