//! The transport of production: HTTP/1.1 over TCP or TLS, one connection per request, each phase with a limit of its own.
//!
//! A library client would hide which phase failed, follow redirects unless told not to, and pool connections that are never
//! used again; what is left after that is this file.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, StreamExt};
use http_body_util::{BodyDataStream, BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue, LOCATION};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::client::TlsStream;

use super::{ANSWER_BYTES_MAX, OpenStream, Target, Transport, TransportError, tls};
use crate::endpoint::{Fingerprint, MasterUrl};

/// For the name server's answer.
const RESOLVE_WITHIN: Duration = Duration::from_secs(10);
/// For each address: two lost SYNs are sent again within 3 s, a third within 7 s.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 3;
/// For the TLS handshake.
const TLS_WITHIN: Duration = Duration::from_secs(10);
/// For the response head. A NodePass master in Rust is known that accepts and never answers; `/info` takes 0.1 s.
const HEAD_WITHIN: Duration = Duration::from_secs(15);
/// For the rest of a plain answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// An idle connection is probed after this time, since a Go master says nothing while nothing happens.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// Time between probes; three unanswered ones end the connection.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// Bytes of an error answer that are looked at.
const ERROR_BODY_BYTES_MAX: usize = 4 << 10;

/// What a Go server says to clear-text HTTP on a TLS port.
const GO_SPEAKS_TLS: &[u8] = b"Client sent an HTTP request to an HTTPS server";

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpTransport;

impl Transport for HttpTransport {
    fn events(&self, target: &Target) -> LocalBoxFuture<'static, Result<OpenStream, TransportError>> {
        let target = target.clone();
        async move {
            let path = target.url.path("/events");
            let answer = request(&target, &path, "text/event-stream").await?;
            let kind = content_type(&answer.response);
            if !kind.starts_with("text/event-stream") {
                return Err(TransportError::NotAMaster {
                    detail: format!("{path} answers with `{kind}` and not with an event stream"),
                });
            }
            let Answer { response, connection, certificate } = answer;
            let mut body = BodyDataStream::new(response.into_body());
            let body = futures_util::stream::poll_fn(move |cx| {
                // Holds the connection for as long as the stream.
                let _held = &connection;
                body.poll_next_unpin(cx).map_err(|error| TransportError::Broken { detail: innermost(&error) })
            });
            Ok(OpenStream { body: body.boxed_local(), certificate })
        }
        .boxed_local()
    }

    fn get(&self, target: &Target, call: &'static str) -> LocalBoxFuture<'static, Result<Bytes, TransportError>> {
        let target = target.clone();
        async move {
            let answer = request(&target, &target.url.path(call), "application/json").await?;
            let collected = Limited::new(answer.response.into_body(), ANSWER_BYTES_MAX).collect();
            match within(ANSWER_WITHIN, "the answer", collected).await? {
                Ok(body) => Ok(body.to_bytes()),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    Err(TransportError::TooLong { limit: ANSWER_BYTES_MAX })
                }
                Err(error) => Err(TransportError::Broken { detail: innermost(error.as_ref()) }),
            }
        }
        .boxed_local()
    }
}

/// A response with status 200 and what keeps its body coming.
struct Answer {
    response: Response<Incoming>,
    connection: Connection,
    certificate: Option<Fingerprint>,
}

/// Closes the connection when it is dropped.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn request(target: &Target, path: &str, accept: &'static str) -> Result<Answer, TransportError> {
    let Target { url, api_key, tls } = target;
    let mut key = HeaderValue::from_str(api_key.reveal()).map_err(|_| TransportError::UnusableKey)?;
    key.set_sensitive(true);
    let host = HeaderValue::from_str(&url.authority()).map_err(|error| TransportError::Resolve { detail: error.to_string() })?;
    let request = Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, accept)
        .header("X-API-Key", key)
        .body(Empty::<Bytes>::new())
        .map_err(|_| TransportError::WrongPath { path: path.to_owned() })?;

    let tcp = connect(url).await?;
    let (socket, certificate) = if url.https {
        let (stream, certificate) = within(TLS_WITHIN, "the TLS handshake", tls::handshake(tcp, &url.host, tls)).await??;
        (Socket::Tls(Box::new(stream)), certificate)
    } else {
        (Socket::Plain(tcp), None)
    };
    let (mut sender, driver) =
        http1::handshake(TokioIo::new(socket)).await.map_err(|error| TransportError::Broken { detail: innermost(&error) })?;
    let connection = Connection(
        tokio::spawn(async {
            // Its errors reach the reader of the response.
            let _ = driver.await;
        })
        .abort_handle(),
    );
    let response =
        within(HEAD_WITHIN, "the response head", sender.send_request(request)).await?.map_err(|error| not_http(&error))?;
    let response = accept_ok(response, path).await?;
    Ok(Answer { response, connection, certificate })
}

async fn connect(url: &MasterUrl) -> Result<TcpStream, TransportError> {
    let found = within(RESOLVE_WITHIN, "the name server", tokio::net::lookup_host((url.host.as_str(), url.port))).await?;
    let addresses: Vec<SocketAddr> =
        found.map_err(|error| TransportError::Resolve { detail: error.to_string() })?.take(ADDRESSES_MAX).collect();
    let mut last = TransportError::Resolve { detail: "it has no address".to_owned() };
    for address in addresses {
        match within(CONNECT_WITHIN, "the connection", TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                keep_alive(&tcp);
                return Ok(tcp);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => last = TransportError::Refused,
            Ok(Err(error)) => last = TransportError::Unreachable { detail: error.to_string() },
            Err(timed_out) => last = timed_out,
        }
    }
    Err(last)
}

/// Has the system notice a peer that is gone: within a minute after 30 s of silence. A system that cannot is no reason
/// not to connect: silence is also noticed by the events that do not come.
fn keep_alive(tcp: &TcpStream) {
    let socket = SockRef::from(tcp);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY).with_retries(3);
    if let Err(error) = socket.set_tcp_keepalive(&keepalive) {
        log::debug!("no TCP keep-alive: {error}");
    }
}

async fn within<T>(limit: Duration, phase: &'static str, work: impl Future<Output = T>) -> Result<T, TransportError> {
    tokio::time::timeout(limit, work).await.map_err(|_| TransportError::TimedOut { phase, seconds: limit.as_secs() })
}

/// Passes a 200 on and tells everything else apart.
async fn accept_ok(response: Response<Incoming>, path: &str) -> Result<Response<Incoming>, TransportError> {
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    if status.is_redirection() {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("an unnamed place");
        return Err(TransportError::Redirect { location: without_user_info(location) });
    }
    Err(match status {
        StatusCode::UNAUTHORIZED => TransportError::WrongKey,
        StatusCode::NOT_FOUND => TransportError::WrongPath { path: path.to_owned() },
        StatusCode::BAD_REQUEST if speaks_tls(response).await => TransportError::SpeaksTls,
        _ => TransportError::Status { status: status.as_u16(), hint: hint(status) },
    })
}

async fn speaks_tls(response: Response<Incoming>) -> bool {
    let collected = Limited::new(response.into_body(), ERROR_BODY_BYTES_MAX).collect();
    let Ok(Ok(body)) = within(ANSWER_WITHIN, "the answer", collected).await else { return false };
    body.to_bytes().windows(GO_SPEAKS_TLS.len()).any(|window| window == GO_SPEAKS_TLS)
}

fn hint(status: StatusCode) -> &'static str {
    match status.as_u16() {
        403 => "something in front of the master forbids it",
        405 => "what answers there is not a NodePass API, or is an older one",
        407 => "a proxy in between asks for a login",
        429 => "something in front of the master limits requests; it is tried again",
        502..=504 => "a proxy in front of the master does not reach it",
        500.. => "the master or a proxy has a fault; look at its log",
        _ => "check that the URL is that of a NodePass master",
    }
}

fn not_http(error: &hyper::Error) -> TransportError {
    if error.is_parse() {
        let detail = "what answers does not speak HTTP; if the master has tls=1 or tls=2, use an https:// URL";
        TransportError::NotAMaster { detail: detail.to_owned() }
    } else {
        TransportError::Broken { detail: innermost(error) }
    }
}

fn content_type(response: &Response<Incoming>) -> String {
    response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("no content type").to_owned()
}

fn without_user_info(location: &str) -> String {
    match url::Url::parse(location) {
        Ok(mut url) => {
            // Both fail only for URLs that cannot have user-info.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.to_string()
        }
        Err(_) => location.split('@').next_back().unwrap_or_default().to_owned(),
    }
}

/// The words of the error that an error wraps, at the bottom: `connection reset by peer` and not `error reading a body`.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// A connection with or without TLS.
enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
