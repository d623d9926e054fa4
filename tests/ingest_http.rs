//! The production transport against small servers on loopback that behave as masters, and as what is mistaken for one.

use std::io::Write as _;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::StreamExt;
use rcgen::{CertificateParams, CertifiedKey, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tidegate::endpoint::{ApiKey, Fingerprint, TlsPolicy};
use tidegate::transport::HttpTransport;
use tidegate::transport::{Target, Transport, TransportError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

const KEY: &str = "fa4ec0de94466eb9305cbb1792a8bad5";
const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

fn target(scheme: &str, port: u16, tls: TlsPolicy) -> Target {
    Target { url: format!("{scheme}://127.0.0.1:{port}").parse().unwrap(), api_key: ApiKey::new(KEY), tls }
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A server that reads one request, answers with these bytes and closes. Returns its port and, later, the request.
async fn answering(answer: impl Into<Vec<u8>>) -> (u16, tokio::task::JoinHandle<String>) {
    let (listener, answer) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), answer.into());
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let request = read_head(&mut tcp).await;
        tcp.write_all(&answer).await.unwrap();
        request
    });
    (port, served)
}

async fn events_error(answer: &str) -> TransportError {
    let (port, _) = answering(answer).await;
    HttpTransport::new().events(&target("http", port, TlsPolicy::Verify)).await.err().expect("no stream")
}

async fn body(target: &Target) -> (Vec<u8>, Option<TransportError>) {
    let mut stream = HttpTransport::new().events(target).await.unwrap().body;
    let mut found = Vec::new();
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(bytes) => found.extend_from_slice(&bytes),
            Err(error) => return (found, Some(error)),
        }
    }
    (found, None)
}

#[tokio::test]
async fn a_stream_is_asked_for_with_the_key_and_arrives_however_it_is_cut() {
    let chunks = "5\r\ndata:\r\n3\r\n a\n\r\n1\r\n\n\r\n0\r\n\r\n";
    let (port, served) = answering(format!("{STREAM_HEAD}{chunks}")).await;
    assert_eq!(body(&target("http", port, TlsPolicy::Verify)).await, (b"data: a\n\n".to_vec(), None));
    let request = served.await.unwrap();
    assert!(request.starts_with("GET /api/v1/events HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains(&format!("x-api-key: {KEY}\r\n")), "{request}");
    assert!(request.to_lowercase().contains("accept: text/event-stream\r\n"), "{request}");
}

#[tokio::test]
async fn an_encoding_that_changes_nothing_is_taken() {
    let (port, _) = answering(STREAM_HEAD.replace("\r\n\r\n", "\r\nContent-Encoding: identity\r\n\r\n") + "0\r\n\r\n").await;
    assert_eq!(body(&target("http", port, TlsPolicy::Verify)).await, (Vec::new(), None));
}

#[tokio::test]
async fn an_end_without_the_last_chunk_is_a_broken_connection_and_http_1_0_ends_by_closing() {
    let (port, _) = answering(format!("{STREAM_HEAD}5\r\ndata:\r\n")).await;
    let (found, error) = body(&target("http", port, TlsPolicy::Verify)).await;
    assert_eq!(found, b"data:");
    assert!(matches!(error, Some(TransportError::Broken { .. })), "{error:?}");
    let (port, _) = answering("HTTP/1.0 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\ndata: a\n\n").await;
    assert_eq!(body(&target("http", port, TlsPolicy::Verify)).await, (b"data: a\n\n".to_vec(), None));
}

#[tokio::test]
async fn answers_that_are_no_stream_are_told_apart() {
    let head = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{more}\r\n");
    assert_eq!(events_error(&head("401 Unauthorized", "")).await, TransportError::WrongKey);
    assert_eq!(events_error(&head("404 Not Found", "")).await, TransportError::WrongPath { path: "/api/v1/events".to_owned() });
    assert!(matches!(events_error(&head("503 Busy", "")).await, TransportError::Status { status: 503, .. }));
    assert!(!events_error(&head("503 Busy", "")).await.needs_a_person());
    assert!(events_error(&head("403 No", "")).await.needs_a_person());
    for (kind, word) in [("text/html; charset=utf-8", "web page"), ("application/json", "JSON"), ("text/plain", "text/plain")] {
        let error = events_error(&head("200 OK", &format!("Content-Type: {kind}\r\n"))).await;
        assert!(matches!(&error, TransportError::NotAMaster { detail } if detail.contains(word)), "{error:?}");
    }
    assert!(matches!(events_error(&head("200 OK", "")).await, TransportError::NotAMaster { .. }));
    let compressed = events_error(&head("200 OK", "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n")).await;
    assert!(
        matches!(&compressed, TransportError::NotAMaster { detail } if detail.contains("compressed (`gzip`)")),
        "{compressed:?}"
    );
    assert!(compressed.needs_a_person());
    assert!(matches!(events_error("SSH-2.0-OpenSSH_9.2\r\n").await, TransportError::NotAMaster { .. }));
    assert!(matches!(events_error("").await, TransportError::Broken { .. }));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_names_its_target_without_secrets() {
    let location = format!("http://user:tunnelpass@elsewhere:1/x?key={KEY}");
    let error = events_error(&format!("HTTP/1.1 307 T\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")).await;
    assert_eq!(error, TransportError::Redirect { location: "http://***@elsewhere:1/x?key=***".to_owned() });
    assert!(error.needs_a_person());
}

#[tokio::test]
async fn nobody_there_and_a_name_without_address_are_told_apart() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let transport = HttpTransport::new();
    assert_eq!(transport.events(&target("http", port, TlsPolicy::Verify)).await.err(), Some(TransportError::Refused));
    let mut nowhere = target("http", port, TlsPolicy::Verify);
    nowhere.url = "http://no-such-host.invalid".parse().unwrap();
    assert!(matches!(transport.events(&nowhere).await.err(), Some(TransportError::Resolve { .. })));
}

/// Time is paused: it jumps to the limit when nothing else is left to do.
#[tokio::test(start_paused = true)]
async fn a_master_that_accepts_and_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let transport = HttpTransport::new();
    let error = transport.events(&target("http", port, TlsPolicy::Verify)).await.err();
    assert_eq!(error, Some(TransportError::TimedOut { phase: "the response head", seconds: 15 }));
    let error = transport.events(&target("https", port, TlsPolicy::Insecure)).await.err();
    assert_eq!(error, Some(TransportError::TimedOut { phase: "the TLS handshake", seconds: 10 }));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_end_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        read_head(&mut tcp).await;
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n[").await.unwrap();
        std::future::pending::<()>().await;
    });
    let error = HttpTransport::new().get(&target("http", port, TlsPolicy::Verify), "/instances").await.err();
    assert_eq!(error, Some(TransportError::TimedOut { phase: "the answer", seconds: 30 }));
    served.abort();
}

#[tokio::test]
async fn a_plain_get_gives_its_body() {
    let (port, served) =
        answering("HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n[]").await;
    let answer = HttpTransport::new().get(&target("http", port, TlsPolicy::Verify), "/instances").await;
    assert_eq!(answer, Ok(Bytes::from_static(b"[]")));
    assert!(served.await.unwrap().starts_with("GET /api/v1/instances HTTP/1.1\r\n"));
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        read_head(&mut tcp).await;
        tcp.write_all(STREAM_HEAD.as_bytes()).await.unwrap();
        // Ends only when the other side closes.
        tcp.read(&mut [0]).await
    });
    let stream = HttpTransport::new().events(&target("http", port, TlsPolicy::Verify)).await.unwrap();
    drop(stream);
    assert!(matches!(served.await.unwrap(), Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_reset_connection_is_a_broken_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        read_head(&mut tcp).await;
        tcp.write_all(STREAM_HEAD.as_bytes()).await.unwrap();
        reset(&tcp);
    });
    let (_, error) = body(&target("http", port, TlsPolicy::Verify)).await;
    assert!(matches!(error, Some(TransportError::Broken { .. })), "{error:?}");
    assert!(error.unwrap().to_string().contains("; if that goes on, see the log of the master"), "what to do is told");
}

fn reset(tcp: &TcpStream) {
    socket2::SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO)).unwrap();
}

// ---- TLS ----

struct Certificate {
    config: Arc<ServerConfig>,
    pem: String,
    fingerprint: Fingerprint,
}

fn certificate(names: &[&str], versions: &[&'static rustls::SupportedProtocolVersion]) -> Certificate {
    use sha2::Digest as _;
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    let signing_key = KeyPair::generate().unwrap();
    let CertifiedKey { cert, signing_key } = CertifiedKey { cert: params.self_signed(&signing_key).unwrap(), signing_key };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap())
        .unwrap();
    let fingerprint = Fingerprint(sha2::Sha256::digest(cert.der()).into());
    Certificate { config: Arc::new(config), pem: cert.pem(), fingerprint }
}

/// A TLS master that answers every connection with one event. Counts requests by sending them to the returned channel.
async fn tls_master(certificate: &Certificate) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::clone(&certificate.config));
    let (heads, seen) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let head = read_head(&mut tls).await;
            if !head.is_empty() {
                heads.send(head).unwrap();
                answer_tls(&mut tls).await;
            }
        }
    });
    (port, seen)
}

async fn answer_tls(tls: &mut (impl AsyncWrite + Unpin)) {
    let answer = format!("{STREAM_HEAD}9\r\ndata: a\n\n\r\n0\r\n\r\n");
    // The client may be gone already, which is its right.
    let _ = tls.write_all(answer.as_bytes()).await;
    let _ = tls.shutdown().await;
}

const ONLY_13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

#[tokio::test]
async fn a_self_signed_certificate_without_names_is_accepted_when_pinned_or_insecure_and_its_fingerprint_is_told() {
    let certificate = certificate(&[], ONLY_13);
    let (port, _seen) = tls_master(&certificate).await;
    for policy in [TlsPolicy::Pin(Some(certificate.fingerprint)), TlsPolicy::Pin(None), TlsPolicy::Insecure] {
        let target = target("https", port, policy);
        let opened = HttpTransport::new().events(&target).await.unwrap();
        assert_eq!(opened.certificate, Some(certificate.fingerprint));
        drop(opened);
        assert_eq!(body(&target).await, (b"data: a\n\n".to_vec(), None));
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_the_pinned_one_is_refused_before_the_key_is_sent() {
    let certificate = certificate(&[], ONLY_13);
    let (port, mut seen) = tls_master(&certificate).await;
    let expected = Fingerprint([7; 32]);
    let error = HttpTransport::new().events(&target("https", port, TlsPolicy::Pin(Some(expected)))).await.err();
    let shown = certificate.fingerprint.to_string();
    assert_eq!(error, Some(TransportError::PinMismatch { expected: expected.to_string(), shown }));
    assert!(seen.try_recv().is_err(), "no request was sent");
}

#[tokio::test]
async fn verification_wants_a_known_authority_and_the_right_name() {
    let good = certificate(&["127.0.0.1"], ONLY_13);
    let (port, mut seen) = tls_master(&good).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(good.pem.as_bytes()).unwrap();
    let trusting = TlsPolicy::VerifyWith(file.path().to_owned());
    assert_eq!(body(&target("https", port, trusting.clone())).await, (b"data: a\n\n".to_vec(), None));
    assert!(seen.try_recv().is_ok());

    let other = certificate(&["master.example"], ONLY_13);
    let (port, mut seen) = tls_master(&other).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(other.pem.as_bytes()).unwrap();
    for policy in [trusting, TlsPolicy::VerifyWith(file.path().to_owned()), TlsPolicy::VerifyWith("/nowhere.pem".into())] {
        let error = HttpTransport::new().events(&target("https", port, policy)).await.err().unwrap();
        assert!(matches!(error, TransportError::Untrusted { .. }), "{error:?}");
    }
    assert!(seen.try_recv().is_err(), "no request was sent");
}

#[tokio::test]
async fn https_to_a_plain_port_and_http_to_a_tls_port_are_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.read_buf(&mut Vec::with_capacity(4096)).await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    });
    let error = HttpTransport::new().events(&target("https", port, TlsPolicy::Insecure)).await.err();
    assert_eq!(error, Some(TransportError::SpeaksPlain));

    // As Go answers, and as a TLS library does that knows nothing of HTTP: with an alert record.
    let go = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    assert_eq!(events_error(go).await, TransportError::SpeaksTls);
    let (port, _) = answering([21, 3, 1, 0, 2, 2, 10]).await;
    let error = HttpTransport::new().events(&target("http", port, TlsPolicy::Verify)).await.err();
    assert_eq!(error, Some(TransportError::SpeaksTls));
}

#[tokio::test]
async fn a_tls_stream_cut_without_notice_is_a_broken_connection() {
    let certificate = certificate(&[], &[&rustls::version::TLS12, &rustls::version::TLS13]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::clone(&certificate.config));
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tls = acceptor.accept(tcp).await.unwrap();
        read_head(&mut tls).await;
        tls.write_all(format!("{STREAM_HEAD}9\r\ndata: a\n\n\r\n").as_bytes()).await.unwrap();
    });
    let (found, error) = body(&target("https", port, TlsPolicy::Insecure)).await;
    assert_eq!(found, b"data: a\n\n");
    assert!(matches!(error, Some(TransportError::Broken { .. })), "{error:?}");
}

/// A master, with TLS or without, that sends `pieces` one by one, each when it is asked for the next, and then closes.
async fn step_by_step(certificate: Option<&Certificate>, pieces: &'static [&'static str]) -> (u16, mpsc::UnboundedSender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = certificate.map(|certificate| TlsAcceptor::from(Arc::clone(&certificate.config)));
    let (next, mut asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut stream: Box<dyn Duplex> = match acceptor {
            Some(acceptor) => Box::new(acceptor.accept(tcp).await.unwrap()),
            None => Box::new(tcp),
        };
        read_head(&mut stream).await;
        stream.write_all(STREAM_HEAD.as_bytes()).await.unwrap();
        for piece in pieces {
            asked.recv().await;
            stream.write_all(piece.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
        asked.recv().await;
        let _ = stream.shutdown().await;
    });
    (port, next)
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// As the ingest actor reads: between two looks nobody waits, and then somebody does.
#[tokio::test]
async fn a_body_that_nobody_waits_for_now_and_then_brings_everything_and_its_end() {
    // Chunks in one packet, a chunk in two, and the end.
    const PIECES: &[&str] = &["3\r\nab\n\r\n3\r\ncd\n\r\n", "6\r\nef", "gh\n\n\r\n", "0\r\n\r\n"];
    let certificate = certificate(&["127.0.0.1"], ONLY_13);
    for tls in [None, Some(&certificate)] {
        let (port, next) = step_by_step(tls, PIECES).await;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut body = HttpTransport::new().events(&target(scheme, port, TlsPolicy::Insecure)).await.unwrap().body;
        let mut found = Vec::new();
        let read = async {
            loop {
                // Until nothing is there, with a waker that does nothing.
                while let Poll::Ready(piece) = body.poll_next_unpin(&mut Context::from_waker(Waker::noop())) {
                    let Some(piece) = piece else { return };
                    found.extend_from_slice(&piece.unwrap());
                }
                let _ = next.send(());
                // Then it waits, as after a moment without anything.
                let Some(piece) = body.next().await else { return };
                found.extend_from_slice(&piece.unwrap());
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), read).await.expect("it is woken");
        assert_eq!(String::from_utf8(found).unwrap(), "ab\ncd\nefgh\n\n", "{scheme}");
    }
}
