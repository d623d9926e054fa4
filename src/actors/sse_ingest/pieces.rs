//! The body of a stream, in portions that are worth a bunch.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{LocalBoxStream, Stream, StreamExt};
use tokio::time::{Instant, Sleep};

use crate::actors::buffer::STALLED_BYTES_MAX;
use crate::clock::SharedClock;
use crate::transport::TransportError;

/// Memory of the records that wait for the journal before reading pauses: half of what the BufferActor takes before it refuses.
const BACKLOG_BYTES_MAX: usize = STALLED_BYTES_MAX / 2;
/// Longest pause. A socket's buffers hold what a master sends meanwhile; a journal that stalls for longer costs events,
/// which are then refused and counted here and not dropped in silence by the master.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Reports of many tunnels come one by one, each a packet of its own. What comes between two of these moments is read together: at
/// 2,000 events a second most of the recorder's CPU time is a matter of turns and not of bytes (docs/performance.md). All connections
/// have the same moments, so that their bunches are also journaled together. Until then the socket holds what comes; it is not the
/// master that waits. A quarter of a second is not seen on a page that changes once a second, for reports that come each 5 s.
pub const READ_SPACING: Duration = Duration::from_millis(250);

/// A portion of more than this is followed by the next at once. It is a fraction of what a socket holds before the sender has to wait,
/// and a master drops what it cannot send.
const SPACED_BYTES_MAX: usize = 8 << 10;

/// What the connections share; actors share one thread.
#[derive(Debug)]
pub struct Backlog {
    /// Memory of the records, of all endpoints, that the BufferActor has not answered.
    bytes: Cell<usize>,
    paused: RefCell<Vec<Waker>>,
    /// The moments to read are multiples of [`READ_SPACING`] after this.
    origin: Instant,
    /// [`READ_SPACING`], or nothing.
    spacing: Duration,
}

impl Backlog {
    /// An empty one; `now` by the monotonic clock.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { bytes: Cell::new(0), paused: RefCell::default(), origin: now, spacing: READ_SPACING }
    }

    /// One for captures, which nobody has to spare: what can be read is read at once.
    #[must_use]
    pub fn of_captures(now: Instant) -> Self {
        Self { spacing: Duration::ZERO, ..Self::new(now) }
    }

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
    connection: u64,
    body: LocalBoxStream<'static, Result<Bytes, TransportError>>,
    ended: bool,
    backlog: Rc<Backlog>,
    /// Runs while reading pauses.
    pause: Option<Pin<Box<Sleep>>>,
    clock: SharedClock,
    /// Ends at the next moment to read. It is made once for the connection and set anew each time.
    spacing: Pin<Box<Sleep>>,
    spaced: bool,
}

impl Portions {
    /// The body of a connection with this number.
    pub(super) fn new(
        connection: u64,
        body: LocalBoxStream<'static, Result<Bytes, TransportError>>,
        backlog: Rc<Backlog>,
        clock: SharedClock,
    ) -> Self {
        let spacing = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { connection, body, ended: false, backlog, pause: None, clock, spacing, spaced: false }
    }

    /// Reads on at the next moment that all connections share.
    fn space(&mut self) {
        let spacing = self.backlog.spacing;
        if spacing.is_zero() {
            return;
        }
        let now = self.clock.monotonic();
        let since = now.saturating_duration_since(self.backlog.origin).as_micros();
        let passed = Duration::from_micros((since % spacing.as_micros()) as u64);
        self.spacing.as_mut().reset(now + (spacing - passed));
        self.spaced = true;
    }

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
        if self.is_paused(cx) || (self.spaced && self.spacing.as_mut().poll(cx).is_pending()) {
            return Poll::Pending;
        }
        self.spaced = false;
        let mut pieces = Pieces { connection: self.connection, bytes: Vec::new(), end: None };
        let mut length = 0;
        while length < PIECES_BYTES_MAX && pieces.bytes.len() < PIECES_MAX {
            // Once there is something, nobody needs to be woken for more: this is asked again at the next moment. A waker that
            // does nothing also tells the socket (`transport/socket.rs`).
            let polled = if pieces.bytes.is_empty() || self.backlog.spacing.is_zero() {
                self.body.poll_next_unpin(cx)
            } else {
                self.body.poll_next_unpin(&mut Context::from_waker(Waker::noop()))
            };
            match polled {
                Poll::Pending if pieces.bytes.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    if length <= SPACED_BYTES_MAX {
                        self.space();
                    }
                    break;
                }
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
    use std::sync::Arc;
    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn backlog() -> Rc<Backlog> {
        Rc::new(Backlog::new(SystemClock.monotonic()))
    }

    fn portions(backlog: &Rc<Backlog>) -> Portions {
        let body = stream::repeat_with(|| Ok(Bytes::from_static(b"x"))).boxed_local();
        Portions::new(1, body, backlog.clone(), Arc::new(SystemClock))
    }

    #[tokio::test(start_paused = true)]
    async fn a_capture_is_read_without_waiting_for_moments() {
        let backlog = Rc::new(Backlog::of_captures(SystemClock.monotonic()));
        let (send, receive) = mpsc::unbounded_channel();
        let body = stream::unfold(receive, |mut receive| async move { Some((receive.recv().await?, receive)) }).boxed_local();
        let mut portions = Portions::new(1, body, backlog, Arc::new(SystemClock));
        let started = SystemClock.monotonic();
        for _ in 0..20 {
            send.send(Ok(Bytes::from_static(b"x"))).expect("it is read");
            assert_eq!(portions.next().await.expect("a portion").bytes.len(), 1);
        }
        assert_eq!(SystemClock.monotonic(), started);
    }

    /// A body into which a test puts its chunks.
    fn fed(backlog: &Rc<Backlog>) -> (mpsc::UnboundedSender<Bytes>, Portions) {
        let (feed, mut chunks) = mpsc::unbounded_channel();
        let body = stream::poll_fn(move |cx| chunks.poll_recv(cx).map(|chunk| chunk.map(Ok))).boxed_local();
        (feed, Portions::new(1, body, backlog.clone(), Arc::new(SystemClock)))
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_one_by_one_is_read_together_at_moments_that_all_connections_share() {
        let backlog = backlog();
        let ((feed, mut portions), (other_feed, mut other)) = (fed(&backlog), fed(&backlog));
        let chunk = || Bytes::from_static(b"data: {}");
        let started = SystemClock.monotonic();
        tokio::time::sleep(READ_SPACING / 4).await;
        feed.send(chunk()).expect("a reader");
        assert_eq!(portions.next().now_or_never().flatten().expect("at once").bytes.len(), 1);
        tokio::time::sleep(READ_SPACING / 4).await;
        other_feed.send(chunk()).expect("a reader");
        assert_eq!(other.next().now_or_never().flatten().expect("at once").bytes.len(), 1);
        for feed in [&feed, &other_feed, &feed, &other_feed] {
            feed.send(chunk()).expect("a reader");
        }
        assert!(portions.next().now_or_never().is_none() && other.next().now_or_never().is_none());
        for portions in [&mut portions, &mut other] {
            assert_eq!(portions.next().await.expect("a portion").bytes.len(), 2);
            assert_eq!(SystemClock.monotonic() - started, READ_SPACING);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_brings_much_is_read_without_a_pause() {
        let (feed, mut portions) = fed(&backlog());
        for _ in 0..10 {
            feed.send(Bytes::from(vec![b'x'; SPACED_BYTES_MAX + 1])).expect("a reader");
            assert!(portions.next().now_or_never().is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_after_a_pause_wakes_the_reader() {
        let (feed, mut portions) = fed(&backlog());
        feed.send(Bytes::from_static(b"x")).expect("a reader");
        portions.next().await.expect("a portion");
        let late = tokio::spawn(async move {
            tokio::time::sleep(READ_SPACING * 7).await;
            feed.send(Bytes::from_static(b"y")).expect("a reader");
            feed
        });
        assert_eq!(portions.next().await.expect("a portion").bytes.len(), 1);
        drop(late.await);
        assert!(portions.next().await.expect("the end").end.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn reading_pauses_while_too_much_waits_for_the_journal_and_goes_on_when_it_is_written() {
        let backlog = backlog();
        let mut portions = portions(&backlog);
        backlog.add(BACKLOG_BYTES_MAX);
        assert!(portions.next().now_or_never().is_none());
        backlog.remove(1);
        assert!(portions.next().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_has_an_end_so_that_what_is_lost_is_counted_here() {
        let backlog = backlog();
        let mut portions = portions(&backlog);
        backlog.add(BACKLOG_BYTES_MAX);
        assert!(portions.next().now_or_never().is_none());
        tokio::time::sleep(PAUSE_MAX).await;
        assert!(portions.next().now_or_never().is_some());
    }
}
