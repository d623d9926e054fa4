//! The body of a stream, in portions that are worth a bunch.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{LocalBoxStream, Stream, StreamExt};

use crate::transport::TransportError;

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
}

impl Stream for Portions {
    type Item = Pieces;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Pieces>> {
        if self.ended {
            return Poll::Ready(None);
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
