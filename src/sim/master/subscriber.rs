//! A subscriber of the event stream: its queue, its socket, and how its stream ends.

use std::collections::VecDeque;

use bytes::Bytes;

use super::render::{Kind, Moment};
use crate::clock::Timestamp;
use crate::event::InstanceId;

/// A stream that a master has open. Numbers rise and are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub u64);

/// How a stream ends after the bytes that were given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The last chunk, a proper end of the body.
    Clean,
    /// The connection closes in mid-body.
    Cut,
}

/// Whether a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// More may come.
    Open,
    /// This was all; the subscriber is forgotten.
    Ended(End),
}

/// What became of the events of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Events rendered into the socket, `initial` ones included.
    pub sent: u64,
    /// Events dropped silently because the queue was full.
    pub dropped: u64,
    /// Events that waited in the queue or the socket when the connection was cut, or that a half-open one swallowed.
    pub cut_off: u64,
}

/// About whom an event is.
#[derive(Clone, Debug)]
pub(super) enum About {
    Instance(InstanceId),
    KeyHolder,
    Nothing,
}

/// An event that waits. Go keeps a reference and renders it when it is sent; Rust keeps a copy.
#[derive(Clone, Debug)]
pub(super) enum Queued {
    Live { kind: Kind, moment: Moment, about: About, logs: Box<str> },
    Rendered(Bytes),
}

#[derive(Debug, Default)]
pub(super) struct Subscriber {
    /// What waits for the sender.
    pub queue: VecDeque<Queued>,
    /// What the socket has taken and the reader has not, one chunk each.
    pub socket: VecDeque<Bytes>,
    /// Bytes in `socket`.
    pub socket_bytes: usize,
    /// When something was last put into the socket.
    pub sent_at: Timestamp,
    /// Set when the stream ends once the socket is empty.
    pub end: Option<End>,
    /// The network swallows everything, in silence.
    pub half_open: bool,
    pub counts: StreamCounts,
}

impl Subscriber {
    /// The next event that the sender renders; it counts as sent.
    pub fn take_queued(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.counts.sent += 1;
        Some(queued)
    }

    /// Puts a chunk into the socket.
    pub fn put(&mut self, bytes: Bytes, now: Timestamp) {
        self.sent_at = now;
        self.socket_bytes += bytes.len();
        self.socket.push_back(bytes);
    }

    /// Ends the stream. A cut loses what waits in the queue.
    pub fn end_with(&mut self, end: End) {
        if self.end.is_none() && !self.half_open {
            self.counts.cut_off += self.queue.len() as u64;
            self.queue.clear();
            self.end = Some(end);
        }
    }
}
