//! The production transport: HTTP/1.1 by hyper over a TCP or TLS connection that is made here, so that it is known which
//! phase failed or hung. Each call has a connection of its own, which closes when the answer or the stream is dropped.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{Stream, StreamExt};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, Connection};
use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue, LOCATION, USER_AGENT};
use hyper::http::response::Parts;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::socket::Socket;
use super::tls::{Tls, handshake};
use super::{ANSWER_BYTES_MAX, OpenStream, Target, Transport, TransportError};
use crate::endpoint::{Fingerprint, MasterUrl};
use crate::redact::Redactor;

/// Time for the name server. Resolvers give up after 5 s by default and ask a second server.
pub const RESOLVE_SECS: u64 = 10;
/// Names that are looked up at once. Each takes a thread until the resolver gives up, which may be long after nobody waits any more,
/// and the journal and the database work on the same threads.
const LOOKUPS_MAX: usize = 32;
static LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS_MAX);
/// Time for the TCP connection, over all addresses of the name. Two lost SYN packets fit into it.
pub const CONNECT_SECS: u64 = 10;
/// Time for the TLS handshake: two round trips and some computing on a small machine.
pub const TLS_SECS: u64 = 10;
/// Time for the response head. A known master accepts connections and never answers; `/info` takes 0.1 s by design.
pub const HEAD_SECS: u64 = 15;
/// Time for the whole answer of a plain `GET` after its head. The stream has no such limit.
pub const ANSWER_SECS: u64 = 30;

/// Idle time after which TCP asks whether the peer is there: most NAT tables forget a connection after minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Time between such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Unanswered questions after which the peer is gone: one minute after the last byte at most.
const KEEPALIVE_COUNT: u32 = 3;
/// The same bound for bytes that were sent and not acknowledged.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// Bytes that are read ahead per connection, with the response head: memory stays small with 500 masters.
const READ_BYTES_MAX: usize = 64 << 10;

/// Longest text of a peer that goes into an error message, in characters.
const QUOTED_CHARS_MAX: usize = 200;
/// Of an error answer, so much is read to look for a known sentence.
const HINT_BYTES_MAX: usize = 4096;

/// What is said of who asks.
const AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));

type Http = Connection<TokioIo<Io>, Full<Bytes>>;

/// Speaks to masters over the network. Cheap to clone.
#[derive(Clone, Default)]
pub struct HttpTransport {
    tls: Rc<Tls>,
}

impl HttpTransport {
    /// A transport. Root certificates are read at the first connection that needs them.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    async fn call(self, target: Target, path: String, accept: &'static str) -> Result<Answer, TransportError> {
        let answer = self.send(&target, &path, accept).await?;
        answer.accepted(&target, path).await
    }

    async fn send(&self, target: &Target, path: &str, accept: &'static str) -> Result<Answer, TransportError> {
        let url = &target.url;
        let tcp = connect(url, &resolve(url).await?).await?;
        let (io, certificate) = if url.https {
            let (stream, certificate) = self.encrypt(target, tcp).await?;
            (Io::Tls(Box::new(stream)), certificate)
        } else {
            (Io::Plain(tcp), None)
        };
        ask(io, target, path, accept, certificate).await
    }

    /// The handshake, with the target's policy.
    pub(super) async fn encrypt(
        &self,
        target: &Target,
        tcp: Socket,
    ) -> Result<(TlsStream<Socket>, Option<Fingerprint>), TransportError> {
        let config = self.tls.config(&target.tls).await?;
        let limit = Limit { phase: "the TLS handshake", seconds: TLS_SECS };
        limit.over(handshake(config, &target.tls, &target.url.host, tcp)).await
    }
}

/// Sends a request over a connection and reads the response head.
pub(super) async fn ask(
    io: Io,
    target: &Target,
    path: &str,
    accept: &'static str,
    certificate: Option<Fingerprint>,
) -> Result<Answer, TransportError> {
    let request = request(target, path, accept)?;
    let limit = Limit { phase: "the response head", seconds: HEAD_SECS };
    let (response, body) = limit.over(exchange(io, request)).await?;
    Ok(Answer { response, body, certificate })
}

/// Posts a JSON body and gives the head of the answer.
pub(super) async fn post(io: Io, place: &MasterUrl, path: &str, body: Bytes) -> Result<Parts, TransportError> {
    let request = Request::post(path)
        .header(HOST, place.authority())
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, AGENT)
        .body(Full::new(body))
        .map_err(|_| TransportError::NotAMaster { detail: "the path cannot be asked for".to_owned() })?;
    let limit = Limit { phase: "the response head", seconds: HEAD_SECS };
    let (response, _) = limit.over(exchange(io, request)).await?;
    Ok(response.into_parts().0)
}

impl Answer {
    /// The answer if its status is 200, else what the status means.
    pub(super) async fn accepted(mut self, target: &Target, path: String) -> Result<Self, TransportError> {
        let status = self.response.status();
        if status == StatusCode::OK {
            return Ok(self);
        }
        let answer = &mut self;
        if status.is_redirection() {
            let location = answer.response.headers().get(LOCATION).map_or("nowhere", |value| value.to_str().unwrap_or("?"));
            return Err(TransportError::Redirect { location: quoted(location, target) });
        }
        Err(match status.as_u16() {
            401 => TransportError::WrongKey,
            404 => TransportError::WrongPath { path },
            400 => {
                let start = timeout(Duration::from_secs(1), answer.body.read_all(HINT_BYTES_MAX)).await;
                let start = start.ok().and_then(Result::ok).unwrap_or_default();
                if memchr::memmem::find(&start, b"HTTP request to an HTTPS server").is_some() {
                    TransportError::SpeaksTls
                } else {
                    TransportError::Status { status: 400, hint: "something between here and the master changes requests" }
                }
            }
            status => TransportError::Status { status, hint: hint(status) },
        })
    }
}

impl Transport for HttpTransport {
    fn events(&self, target: &Target) -> LocalBoxFuture<'static, Result<OpenStream, TransportError>> {
        let call = self.clone().call(target.clone(), target.url.path("/events"), "text/event-stream");
        let target = target.clone();
        async move {
            let answer = call.await?;
            expect_type(&answer.response, "text/event-stream", &target)?;
            Ok(OpenStream { body: answer.body.boxed_local(), certificate: answer.certificate })
        }
        .boxed_local()
    }

    fn get(&self, target: &Target, call: &'static str) -> LocalBoxFuture<'static, Result<Bytes, TransportError>> {
        let answer = self.clone().call(target.clone(), target.url.path(call), "application/json");
        let target = target.clone();
        async move {
            let mut answer = answer.await?;
            expect_type(&answer.response, "application/json", &target)?;
            let limit = Limit { phase: "the answer", seconds: ANSWER_SECS };
            limit.over(answer.body.read_all(ANSWER_BYTES_MAX)).await
        }
        .boxed_local()
    }
}

/// What is waited for, and how long.
pub(super) struct Limit {
    pub(super) phase: &'static str,
    pub(super) seconds: u64,
}

impl Limit {
    pub(super) async fn over<T>(self, work: impl Future<Output = Result<T, TransportError>>) -> Result<T, TransportError> {
        let Self { phase, seconds } = self;
        match timeout(Duration::from_secs(seconds), work).await {
            Ok(result) => result,
            Err(_) => Err(TransportError::TimedOut { phase, seconds }),
        }
    }
}

/// A response whose head was read.
pub(super) struct Answer {
    pub(super) response: Response<()>,
    pub(super) body: BodyStream,
    certificate: Option<Fingerprint>,
}

/// The addresses of a master's host name.
pub(super) async fn resolve(url: &MasterUrl) -> Result<Vec<SocketAddr>, TransportError> {
    if let Ok(address) = url.host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, url.port)]);
    }
    let limit = Limit { phase: "the name server", seconds: RESOLVE_SECS };
    let addresses = limit.over(async {
        let failed = |detail: String| TransportError::Resolve { detail };
        let permit = LOOKUPS.acquire().await.map_err(|error| failed(error.to_string()))?;
        let (host, port) = (url.host.clone(), url.port);
        // A task of its own, since the thread goes on when nobody waits for it any more.
        let lookup = tokio::spawn(async move {
            let found = lookup_host((host.as_str(), port)).await.map(Iterator::collect);
            drop(permit);
            found
        });
        lookup.await.map_err(|error| failed(error.to_string()))?.map_err(|error: io::Error| failed(error.to_string()))
    });
    let addresses: Vec<_> = addresses.await?;
    if addresses.is_empty() {
        return Err(TransportError::Resolve { detail: "the name has no address".to_owned() });
    }
    Ok(addresses)
}

/// Connects to the first of these addresses that takes it.
pub(super) async fn connect(url: &MasterUrl, addresses: &[SocketAddr]) -> Result<Socket, TransportError> {
    let limit = Limit { phase: "the connection", seconds: CONNECT_SECS };
    // Each address has its share of the time, so that one that swallows packets does not use up all of it.
    let share = Duration::from_secs(CONNECT_SECS) / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    let tcp = limit
        .over(async {
            let mut last = TransportError::Unreachable { detail: format!("{} has no address", url.host) };
            for address in addresses {
                match timeout(share, TcpStream::connect(*address)).await {
                    Ok(Ok(tcp)) => return Ok(tcp),
                    Ok(Err(error)) => last = connect_error(&error),
                    Err(_) => last = TransportError::TimedOut { phase: "the connection", seconds: CONNECT_SECS },
                }
            }
            Err(last)
        })
        .await?;
    keep_alive(&tcp).map_err(|error| TransportError::Unreachable { detail: error.to_string() })?;
    Ok(tcp.into())
}

fn connect_error(error: &io::Error) -> TransportError {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        TransportError::Refused
    } else {
        TransportError::Unreachable { detail: error.to_string() }
    }
}

fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(tcp);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_COUNT);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    tcp.set_nodelay(true)
}

fn request(target: &Target, path: &str, accept: &'static str) -> Result<Request<Full<Bytes>>, TransportError> {
    let mut request = Request::get(path).header(HOST, target.url.authority()).header(ACCEPT, accept).header(USER_AGENT, AGENT);
    if !target.api_key.reveal().is_empty() {
        // A key that no header can carry cannot be the right one.
        let mut key = HeaderValue::from_str(target.api_key.reveal()).map_err(|_| TransportError::WrongKey)?;
        key.set_sensitive(true);
        request = request.header("X-API-Key", key);
    }
    request.body(Full::default()).map_err(|_| TransportError::WrongPath { path: path.to_owned() })
}

/// Sends the request and reads the response head, driving the connection meanwhile.
async fn exchange(io: Io, request: Request<Full<Bytes>>) -> Result<(Response<()>, BodyStream), TransportError> {
    let first_bytes = Rc::new(Cell::new([0; 2]));
    let io = io.noting(Rc::clone(&first_bytes));
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(READ_BYTES_MAX).handshake(TokioIo::new(io)).await.map_err(|error| broken(&error))?;
    let mut connection = Some(Box::pin(connection));
    let mut response = pin!(sender.send_request(request));
    let response = std::future::poll_fn(|cx| {
        if let Poll::Ready(result) = response.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        poll_connection(&mut connection, cx);
        response.as_mut().poll(cx)
    });
    let response = response.await.map_err(|error| {
        // A TLS server that does not know HTTP answers with an alert record: type 21, version 3.
        if error.is_parse() && first_bytes.get() == [21, 3] { TransportError::SpeaksTls } else { head_error(&error) }
    })?;
    let (head, body) = response.into_parts();
    Ok((Response::from_parts(head, ()), BodyStream { connection, body, ended: false }))
}

/// Lets the connection work; errors of it reach the response or the body.
fn poll_connection(connection: &mut Option<Pin<Box<Http>>>, cx: &mut Context<'_>) {
    if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
        *connection = None;
    }
}

/// The body of a response together with the connection that it comes through: one cannot outlive the other.
pub(super) struct BodyStream {
    connection: Option<Pin<Box<Http>>>,
    body: Incoming,
    ended: bool,
}

impl BodyStream {
    pub(super) async fn read_all(&mut self, limit: usize) -> Result<Bytes, TransportError> {
        let mut answer = BytesMut::new();
        while let Some(piece) = self.next().await {
            let piece = piece?;
            if answer.len() + piece.len() > limit {
                return Err(TransportError::TooLong { limit });
            }
            answer.extend_from_slice(&piece);
        }
        Ok(answer.freeze())
    }
}

impl Stream for BodyStream {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while !this.ended {
            let mut frame = Pin::new(&mut this.body).poll_frame(cx);
            if frame.is_pending() {
                poll_connection(&mut this.connection, cx);
                frame = Pin::new(&mut this.body).poll_frame(cx);
            }
            match ready!(frame) {
                Some(Ok(frame)) => {
                    // Trailers say nothing to us.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(error)) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(broken(&error))));
                }
                None => this.ended = true,
            }
        }
        Poll::Ready(None)
    }
}

pub(super) fn expect_type<T>(response: &Response<T>, expected: &str, target: &Target) -> Result<(), TransportError> {
    // It was not asked for, and a compressed stream would look like a master that says nothing.
    let encoding = response.headers().get(CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
    if let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        let encoding = quoted(encoding, target);
        return Err(TransportError::NotAMaster {
            detail: format!(
                "the answer is compressed (`{encoding}`); switch compression off in the proxy in front of the master"
            ),
        });
    }
    let found = response.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?").to_owned());
    let essence = found.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == expected {
        return Ok(());
    }
    let found = match (&*essence, found) {
        ("text/html", _) => "it answers with a web page".to_owned(),
        ("application/json", _) => "it answers with JSON where an event stream should come".to_owned(),
        (_, Some(other)) => format!("it answers with `{}`", quoted(&other, target)),
        (_, None) => "its answer has no content type".to_owned(),
    };
    Err(TransportError::NotAMaster { detail: format!("{found}; check host, port and prefix of the URL") })
}

/// A peer's text for an error message: without secrets and control characters, not too long.
pub(super) fn quoted(text: &str, target: &Target) -> String {
    let clean = Redactor::new([&target.api_key]).clean(text);
    clean.as_str().chars().filter(|c| !c.is_control()).take(QUOTED_CHARS_MAX).collect()
}

fn hint(status: u16) -> &'static str {
    match status {
        403 => "it forbids access; check for a proxy or a firewall in front of it",
        405 | 501 => "it does not know the request; check host and port",
        407 => "a proxy in between wants a password",
        429 => "it is asked too often",
        502..=504 => "a proxy in front of it does not reach it; check that the master runs",
        500.. => "it failed; see its log",
        _ => "check that the URL is that of a NodePass master",
    }
}

fn head_error(error: &hyper::Error) -> TransportError {
    if error.is_parse() {
        return TransportError::NotAMaster { detail: format!("it does not speak HTTP/1.1 ({error})") };
    }
    broken(error)
}

fn broken(error: &hyper::Error) -> TransportError {
    let cause = std::error::Error::source(error).map(|cause| format!(" ({cause})")).unwrap_or_default();
    TransportError::Broken { detail: format!("{error}{cause}") }
}

/// The bytes below HTTP.
pub(super) enum Io {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
    /// Plain, and the first two bytes that come are noted.
    Noted(Socket, Rc<Cell<[u8; 2]>>, usize),
}

impl Io {
    fn noting(self, first_bytes: Rc<Cell<[u8; 2]>>) -> Self {
        if let Self::Plain(tcp) = self { Self::Noted(tcp, first_bytes, 0) } else { self }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            Self::Noted(tcp, first_bytes, noted) => {
                let before = buf.filled().len();
                ready!(Pin::new(tcp).poll_read(cx, buf))?;
                let mut bytes = first_bytes.get();
                for byte in buf.filled()[before..].iter().take(2 - *noted) {
                    bytes[*noted] = *byte;
                    *noted += 1;
                }
                first_bytes.set(bytes);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) | Self::Noted(tcp, ..) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) | Self::Noted(tcp, ..) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) | Self::Noted(tcp, ..) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
