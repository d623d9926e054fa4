//! The body of a stream, in portions that are worth a bunch.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{LocalBoxStream, Stream, StreamExt};
use tokio::time::Sleep;

use crate::actors::buffer::STALLED_BYTES_MAX;
use crate::transport::TransportError;

/// Memory of the records that wait for the journal before reading pauses: half of what the BufferActor takes before it refuses.
const BACKLOG_BYTES_MAX: usize = STALLED_BYTES_MAX / 2;
/// Longest pause. A socket's buffers hold what a master sends meanwhile; a journal that stalls for longer costs events,
/// which are then refused and counted here and not dropped in silence by the master.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Memory of the records, of all endpoints, that the BufferActor has not answered; actors share one thread.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: Cell<usize>,
    paused: RefCell<Vec<Waker>>,
}

impl Backlog {
    pub(super) fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
        if !self.is_full() {
            self.paused.take().into_iter().for_each(Waker::wake);
        }
    }

    fn is_full(&self) -> bool {
        self.bytes.get() >= BACKLOG_BYTES_MAX
    }
}

/// A portion ends when it holds this many bytes: the time to read it (about a millisecond) stays short for the others
/// on the thread, and its memory small.
pub const PIECES_BYTES_MAX: usize = 256 << 10;

/// A portion ends with this many pieces. A master sends each event as a piece of its own.
pub const PIECES_MAX: usize = 256;

/// What was ready to be read of one connection.
#[derive(Debug)]
pub(super) struct Pieces {
    pub(super) connection: u64,
    pub(super) bytes: Vec<Bytes>,
    /// How the body ended, with the last portion.
    pub(super) end: Option<Result<(), TransportError>>,
}

/// A body as a stream of [`Pieces`].
pub(super) struct Portions {
    pub(super) connection: u64,
    pub(super) body: LocalBoxStream<'static, Result<Bytes, TransportError>>,
    pub(super) ended: bool,
    pub(super) backlog: Rc<Backlog>,
    /// Runs while reading pauses.
    pub(super) pause: Option<Pin<Box<Sleep>>>,
}

impl Portions {
    fn is_paused(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.backlog.is_full() {
            self.pause = None;
            return false;
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(PAUSE_MAX)));
        let paused = pause.as_mut().poll(cx).is_pending();
        if paused {
            self.backlog.paused.borrow_mut().push(cx.waker().clone());
        }
        paused
    }
}

impl Stream for Portions {
    type Item = Pieces;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Pieces>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.is_paused(cx) {
            return Poll::Pending;
        }
        let mut pieces = Pieces { connection: self.connection, bytes: Vec::new(), end: None };
        let mut length = 0;
        while length < PIECES_BYTES_MAX && pieces.bytes.len() < PIECES_MAX {
            match self.body.poll_next_unpin(cx) {
                Poll::Pending if pieces.bytes.is_empty() => return Poll::Pending,
                // The waker is registered: more comes with the next poll.
                Poll::Pending => break,
                Poll::Ready(Some(Ok(bytes))) => {
                    length += bytes.len();
                    pieces.bytes.push(bytes);
                }
                Poll::Ready(last) => {
                    self.ended = true;
                    pieces.end = Some(last.map_or(Ok(()), |item| item.map(drop)));
                    break;
                }
            }
        }
        Poll::Ready(Some(pieces))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::stream;

    use super::*;

    fn portions(backlog: &Rc<Backlog>) -> Portions {
        let body = stream::repeat_with(|| Ok(Bytes::from_static(b"x"))).boxed_local();
        Portions { connection: 1, body, ended: false, backlog: backlog.clone(), pause: None }
    }

    #[tokio::test(start_paused = true)]
    async fn reading_pauses_while_too_much_waits_for_the_journal_and_goes_on_when_it_is_written() {
        let backlog = Rc::new(Backlog::default());
        let mut portions = portions(&backlog);
        backlog.add(BACKLOG_BYTES_MAX);
        assert!(portions.next().now_or_never().is_none());
        backlog.remove(1);
        assert!(portions.next().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_has_an_end_so_that_what_is_lost_is_counted_here() {
        let backlog = Rc::new(Backlog::default());
        let mut portions = portions(&backlog);
        backlog.add(BACKLOG_BYTES_MAX);
        assert!(portions.next().now_or_never().is_none());
        tokio::time::sleep(PAUSE_MAX).await;
        assert!(portions.next().now_or_never().is_some());
    }
}
