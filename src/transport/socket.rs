//! A TCP connection that the system is asked to watch only while somebody waits for it.
//!
//! A reader that comes back by itself (`src/actors/sse_ingest/pieces.rs`) polls with a waker that does nothing. A socket in the
//! runtime's epoll would still wake the thread for each packet, and a master sends each event as a packet of its own: a fleet
//! of 100 masters woke it 1,400 times a second for nothing, a quarter of the recorder's CPU time.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream as UnwatchedTcp};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connected socket.
#[derive(Debug)]
pub(super) struct Socket(State);

#[derive(Debug)]
enum State {
    Watched(TcpStream),
    /// Not in the runtime's epoll; still non-blocking.
    Unwatched(UnwatchedTcp),
    /// Going over failed half-way. The connection is closed.
    Lost,
}

impl Socket {
    /// The other side's address.
    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            State::Watched(tcp) => tcp.peer_addr(),
            State::Unwatched(tcp) => tcp.peer_addr(),
            State::Lost => Err(lost()),
        }
    }

    fn watched(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if let State::Unwatched(_) = self.0
            && let State::Unwatched(tcp) = std::mem::replace(&mut self.0, State::Lost)
        {
            self.0 = State::Watched(TcpStream::from_std(tcp)?);
        }
        match &mut self.0 {
            State::Watched(tcp) => Ok(Pin::new(tcp)),
            State::Unwatched(_) | State::Lost => Err(lost()),
        }
    }

    fn unwatch(&mut self) -> io::Result<()> {
        if let State::Watched(_) = self.0
            && let State::Watched(tcp) = std::mem::replace(&mut self.0, State::Lost)
        {
            self.0 = State::Unwatched(tcp.into_std()?);
        }
        Ok(())
    }
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        Self(State::Watched(tcp))
    }
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the socket could not be handed over to the runtime")
}

/// Whether whoever polls comes back by itself.
fn nobody_waits(cx: &Context<'_>) -> bool {
    cx.waker().will_wake(Waker::noop())
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let State::Unwatched(tcp) = &mut this.0 {
            match tcp.read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && nobody_waits(cx) => return Poll::Pending,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let polled = this.watched()?.poll_read(cx, buf);
        if polled.is_pending() && nobody_waits(cx) {
            this.unwatch()?;
        }
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().watched()?.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP socket has nothing to flush; hyper asks after every read, for which it need not be watched.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().watched()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        (near.into(), listener.accept().await.expect("a connection").0)
    }

    /// Polls with a waker that does nothing; tries again until the bytes that were sent have come.
    fn read_unwatched(socket: &mut Socket) -> Poll<io::Result<Vec<u8>>> {
        let mut memory = [0; 100];
        let mut buf = ReadBuf::new(&mut memory);
        let polled = Pin::new(socket).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
        polled.map_ok(|()| buf.filled().to_vec())
    }

    fn is_watched(socket: &Socket) -> bool {
        matches!(socket.0, State::Watched(_))
    }

    async fn eventually(socket: &mut Socket) -> io::Result<Vec<u8>> {
        let read = async {
            loop {
                if let Poll::Ready(result) = read_unwatched(socket) {
                    return result;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), read).await.expect("it comes")
    }

    #[tokio::test]
    async fn a_socket_that_nobody_waits_for_is_not_watched_and_is_read_all_the_same() {
        let (mut near, mut far) = pair().await;
        assert!(read_unwatched(&mut near).is_pending());
        assert!(!is_watched(&near));
        far.write_all(b"first").await.expect("it is sent");
        assert_eq!(eventually(&mut near).await.expect("bytes"), b"first");
        assert!(!is_watched(&near));
    }

    #[tokio::test]
    async fn who_waits_again_is_woken_by_what_comes_and_by_what_came_before() {
        let (mut near, mut far) = pair().await;
        assert!(read_unwatched(&mut near).is_pending());
        let mut memory = [0; 100];
        let (read, written) = tokio::join!(near.read(&mut memory), async {
            tokio::task::yield_now().await;
            far.write_all(b"later").await
        });
        written.expect("it is sent");
        assert_eq!(&memory[..read.expect("bytes")], b"later");
        assert!(is_watched(&near));

        assert!(read_unwatched(&mut near).is_pending());
        far.write_all(b"before").await.expect("it is sent");
        let read = near.read(&mut memory).await.expect("bytes");
        assert_eq!(&memory[..read], b"before");
    }

    #[tokio::test]
    async fn an_end_is_seen_whether_watched_or_not() {
        let (mut near, far) = pair().await;
        assert!(read_unwatched(&mut near).is_pending());
        drop(far);
        assert_eq!(eventually(&mut near).await.expect("the end"), b"");
    }

    #[tokio::test]
    async fn an_unwatched_socket_can_be_written_to() {
        let (mut near, mut far) = pair().await;
        assert!(read_unwatched(&mut near).is_pending());
        near.write_all(b"asked").await.expect("it is sent");
        let mut memory = [0; 5];
        far.read_exact(&mut memory).await.expect("bytes");
        assert_eq!(&memory, b"asked");
        poll_fn(|cx| Pin::new(&mut near).poll_flush(cx)).await.expect("nothing to flush");
    }
}
