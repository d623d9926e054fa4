//! What waits to be written one at a time, and what became of it, until its batch is on its way.
//!
//! A record is tried once. What does not fit, fails or comes too late is left to its batch, which has it anyway: so this queue
//! can be short, and a slow database costs neither records nor the time of those who send them.

use std::collections::VecDeque;

use crate::event::Record;
use crate::id::EventId;
use crate::store::Overlap;

/// Records that wait at most: what a database on a slow disk takes in a few seconds. What is beyond is better stored in batches.
pub const EVENTS_MAX: usize = 1_000;
/// Bytes that wait at most, roughly: a `log` event may have hundreds of kilobytes.
pub const BYTES_MAX: usize = 4 << 20;
/// Ids of written records whose batch is not on its way yet, at most: eight bytes each. More means that batches wait for a
/// database that does not keep up, and then writing one at a time is the last thing that helps.
pub const WRITTEN_MAX: usize = 100_000;

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The row is there.
    Written,
    /// It may be there.
    InDoubt,
    /// It is not.
    Failed,
}

/// See the module.
#[derive(Debug, Default)]
pub struct SingleQueue {
    waiting: VecDeque<Record>,
    bytes: usize,
    in_flight: Option<EventId>,
    written: VecDeque<EventId>,
    doubtful: VecDeque<EventId>,
    /// Since the last batch.
    left: u64,
    left_in_all: u64,
    written_in_all: u64,
}

impl SingleQueue {
    /// Adds records, in the order of their ids; what does not fit is left.
    pub fn push(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            let bytes = weight(&record);
            let unbatched = self.written.len() + self.waiting.len();
            if self.waiting.len() >= EVENTS_MAX || self.bytes + bytes > BYTES_MAX || unbatched >= WRITTEN_MAX {
                self.leave(1);
            } else {
                self.bytes += bytes;
                self.waiting.push_back(record);
            }
        }
    }

    /// The next record to write, if none is being written.
    pub fn take(&mut self) -> Option<Record> {
        if self.in_flight.is_some() {
            return None;
        }
        let record = self.waiting.pop_front()?;
        self.bytes -= weight(&record);
        self.in_flight = Some(record.id());
        Some(record)
    }

    /// The write of the record that was taken last has ended.
    pub fn ended(&mut self, ended: Ended) {
        let Some(id) = self.in_flight.take() else { return };
        match ended {
            Ended::Written => {
                self.written_in_all += 1;
                self.written.push_back(id);
            }
            Ended::InDoubt => {
                self.doubtful.push_back(id);
                self.leave(1);
            }
            Ended::Failed => self.leave(1),
        }
    }

    /// Leaves what waits and has an id up to `last` to its batch.
    pub fn leave_through(&mut self, last: EventId) {
        while let Some(record) = self.waiting.pop_front_if(|record| record.id() <= last) {
            self.bytes -= weight(&record);
            self.leave(1);
        }
    }

    /// Leaves all that waits.
    pub fn leave_all(&mut self) {
        self.leave(self.waiting.len() as u64);
        self.waiting.clear();
        self.bytes = 0;
    }

    /// True if nothing with an id up to `last` waits or is being written.
    #[must_use]
    pub fn is_through(&self, last: EventId) -> bool {
        self.waiting.front().map(Record::id).into_iter().chain(self.in_flight).all(|id| id > last)
    }

    /// What a batch that ends with `last`, and is the next one, has in common with what was written. Forgets it.
    pub fn take_overlap(&mut self, last: EventId, compare: bool) -> Option<Overlap> {
        let up_to = |ids: &mut VecDeque<EventId>| {
            let count = ids.partition_point(|id| *id <= last);
            ids.drain(..count).collect::<Vec<_>>()
        };
        let (written, doubtful) = (up_to(&mut self.written), up_to(&mut self.doubtful).len() as u64);
        let left = std::mem::take(&mut self.left);
        let nothing = written.is_empty() && doubtful == 0 && left == 0 && !compare;
        (!nothing).then_some(Overlap { written, doubtful, left, compare })
    }

    /// Records that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.in_flight.is_some())
    }

    /// True if nothing waits or is being written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records left to their batch since the start.
    #[must_use]
    pub fn left_in_all(&self) -> u64 {
        self.left_in_all
    }

    /// Records written since the start.
    #[must_use]
    pub fn written_in_all(&self) -> u64 {
        self.written_in_all
    }

    fn leave(&mut self, count: u64) {
        self.left += count;
        self.left_in_all += count;
    }
}

/// What a record takes in memory: itself, and its text. The configuration is shared with live state.
fn weight(record: &Record) -> usize {
    let text = match record {
        Record::Event(event) => {
            event.logs.as_ref().map_or(0, |logs| logs.as_str().len()) + event.detail.as_ref().map_or(0, |detail| detail.len())
        }
        Record::Gap(gap) => gap.reason.len(),
    };
    size_of::<Record>() + text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::event::{EndpointId, Gap, InstanceId};

    fn records(ids: impl IntoIterator<Item = i64>) -> Vec<Record> {
        let gap = |id, reason: String| Gap {
            id: EventId(id),
            endpoint: EndpointId(1),
            instance: InstanceId::default(),
            from: Timestamp(0),
            to: Timestamp(0),
            reason: reason.into(),
        };
        ids.into_iter().map(|id| Record::Gap(gap(id, String::new()))).collect()
    }

    fn write(queue: &mut SingleQueue, ended: Ended) -> Option<EventId> {
        let id = queue.take()?.id();
        queue.ended(ended);
        Some(id)
    }

    #[test]
    fn records_are_written_in_order_and_one_at_a_time() {
        let mut queue = SingleQueue::default();
        queue.push(records(1..=2));
        assert_eq!(queue.take().map(|record| record.id()), Some(EventId(1)));
        assert!(queue.take().is_none());
        queue.ended(Ended::Written);
        assert_eq!(queue.take().map(|record| record.id()), Some(EventId(2)));
    }

    #[test]
    fn what_does_not_fit_is_left_and_counted_and_later_ones_have_room_again() {
        let mut queue = SingleQueue::default();
        queue.push(records(1..=EVENTS_MAX as i64 + 5));
        assert_eq!((queue.len(), queue.left_in_all()), (EVENTS_MAX, 5));
        write(&mut queue, Ended::Written);
        queue.push(records([5_000]));
        assert_eq!((queue.len(), queue.left_in_all()), (EVENTS_MAX, 5));
    }

    #[test]
    fn long_texts_fill_the_queue_too_and_what_leaves_it_makes_room() {
        let mut queue = SingleQueue::default();
        let long = |id| {
            let Record::Gap(gap) = records([id]).remove(0) else { unreachable!() };
            Record::Gap(Gap { reason: "x".repeat(BYTES_MAX / 2).into(), ..gap })
        };
        queue.push([long(1), long(2), long(3)]);
        assert_eq!((queue.len(), queue.left_in_all()), (1, 2));
        write(&mut queue, Ended::Written);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_batch_takes_what_was_written_up_to_its_end_and_the_next_one_the_rest() {
        let mut queue = SingleQueue::default();
        queue.push(records(1..=6));
        for ended in [Ended::Written, Ended::Failed, Ended::InDoubt, Ended::Written] {
            write(&mut queue, ended);
        }
        let first = queue.take_overlap(EventId(3), false).unwrap();
        assert_eq!(first, Overlap { written: vec![EventId(1)], doubtful: 1, left: 2, compare: false });
        assert!(!queue.is_through(EventId(6)) && queue.is_through(EventId(4)));
        queue.leave_through(EventId(5));
        let second = queue.take_overlap(EventId(5), true).unwrap();
        assert_eq!(second, Overlap { written: vec![EventId(4)], doubtful: 0, left: 1, compare: true });
        assert_eq!(queue.take_overlap(EventId(5), false), None);
        assert_eq!(write(&mut queue, Ended::Written), Some(EventId(6)));
    }

    #[test]
    fn written_ids_without_a_batch_have_a_bound() {
        let mut queue = SingleQueue::default();
        for id in 0..WRITTEN_MAX as i64 {
            queue.push(records([id]));
            write(&mut queue, Ended::Written);
        }
        queue.push(records([1 << 40]));
        assert_eq!((queue.len(), queue.left_in_all()), (0, 1));
    }
}
