//! The transport of production against real sockets: every way in which a master can fail to answer is told apart.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tidegate::endpoint::{ApiKey, Fingerprint, MasterUrl, TlsPolicy};
use tidegate::transport::{HttpTransport, Target, Transport, TransportError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("done within a minute") });
}

fn target(https: bool, port: u16, tls: TlsPolicy) -> Target {
    let url = MasterUrl { https, host: "127.0.0.1".to_owned(), port, prefix: "/api".to_owned() };
    Target { url, api_key: ApiKey::new("fa4ec0de00000000000000000000cafe"), tls }
}

/// Reads a request's head.
async fn head_of(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A server that answers one connection with these bytes and closes it; gives its port and what it was asked.
async fn answering(answer: impl Into<Vec<u8>>) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = answer.into();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head_of(&mut stream).await;
        stream.write_all(&answer).await.unwrap();
        stream.shutdown().await.ok();
        head
    });
    (port, asked)
}

async fn error_for(answer: &str) -> TransportError {
    let (port, _) = answering(answer).await;
    match HttpTransport::new().events(&target(false, port, TlsPolicy::Verify)).await {
        Ok(_) => panic!("`{answer}` was taken for an event stream"),
        Err(error) => error,
    }
}

#[test]
fn an_event_stream_is_passed_on_in_the_pieces_in_which_it_arrives_and_ends_cleanly() {
    run(async {
        let (port, asked) = answering(format!("{STREAM_HEAD}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).await;
        let stream = HttpTransport::new().events(&target(false, port, TlsPolicy::Verify)).await.unwrap();
        let pieces: Vec<_> = stream.body.map(|piece| piece.unwrap()).collect().await;
        assert_eq!(pieces.concat(), b"abcde");
        let head = asked.await.unwrap();
        assert!(head.starts_with("GET /api/v1/events HTTP/1.1\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("x-api-key: fa4ec0de00000000000000000000cafe\r\n"), "{head}");
        assert!(head.contains(&format!("127.0.0.1:{port}")), "{head}");
    });
}

#[test]
fn a_stream_that_is_closed_in_mid_body_is_broken_and_not_ended() {
    run(async {
        let (port, _) = answering(format!("{STREAM_HEAD}3\r\nabc\r\n5\r\nde")).await;
        let stream = HttpTransport::new().events(&target(false, port, TlsPolicy::Verify)).await.unwrap();
        let last = stream.body.collect::<Vec<_>>().await.pop().unwrap();
        assert!(matches!(last, Err(TransportError::Broken { .. })), "{last:?}");
    });
}

#[test]
fn refusals_by_the_master_are_told_apart() {
    run(async {
        let head = |status: &str, rest: &str| format!("HTTP/1.1 {status}\r\n{rest}Content-Length: 0\r\n\r\n");
        assert_eq!(error_for(&head("401 Unauthorized", "")).await, TransportError::WrongKey);
        let path = "/api/v1/events".to_owned();
        assert_eq!(error_for(&head("404 Not Found", "")).await, TransportError::WrongPath { path });
        let redirect = error_for(&head("307 Temporary Redirect", "Location: http://u:p@elsewhere/x\r\n")).await;
        assert_eq!(redirect, TransportError::Redirect { location: "http://elsewhere/x".to_owned() });
        assert!(matches!(error_for(&head("502 Bad Gateway", "")).await, TransportError::Status { status: 502, .. }));
        let page = error_for(&head("200 OK", "Content-Type: text/html\r\n")).await;
        assert!(matches!(page, TransportError::NotAMaster { ref detail } if detail.contains("text/html")), "{page}");
        let body = "Client sent an HTTP request to an HTTPS server.\n";
        assert_eq!(error_for(&format!("HTTP/1.0 400 Bad Request\r\n\r\n{body}")).await, TransportError::SpeaksTls);
        assert!(matches!(error_for("\x15\x03\x03\x00\x02\x02\x32").await, TransportError::NotAMaster { .. }));
    });
}

#[test]
fn a_redirect_is_not_followed_so_that_the_key_does_not_travel() {
    run(async {
        let elsewhere = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = elsewhere.local_addr().unwrap().port();
        error_for(&format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n")).await;
        let nobody = tokio::time::timeout(Duration::from_millis(50), elsewhere.accept()).await;
        assert!(nobody.is_err(), "somebody came");
    });
}

#[test]
fn a_closed_port_is_refused_and_a_name_without_address_is_not_resolved() {
    run(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let refused = HttpTransport::new().get(&target(false, port, TlsPolicy::Verify), "/info").await.unwrap_err();
        assert_eq!(refused, TransportError::Refused);
        let mut nowhere = target(false, port, TlsPolicy::Verify);
        nowhere.url.host = "no-such-host.invalid".to_owned();
        let unresolved = HttpTransport::new().get(&nowhere, "/info").await.unwrap_err();
        assert!(matches!(unresolved, TransportError::Resolve { .. }), "{unresolved}");
    });
}

/// The clock is paused once the connection stands, so that the limit is not waited for.
#[test]
fn a_master_that_accepts_and_never_answers_is_given_up_after_the_limit() {
    run(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asking = tokio::task::LocalSet::new();
        asking
            .run_until(async {
                let asked = tokio::task::spawn_local(HttpTransport::new().events(&target(false, port, TlsPolicy::Verify)));
                let (mut silent, _) = listener.accept().await.unwrap();
                head_of(&mut silent).await;
                tokio::time::pause();
                let error = asked.await.unwrap().err().unwrap();
                assert_eq!(error, TransportError::TimedOut { phase: "the response head", seconds: 15 });
            })
            .await;
    });
}

#[test]
fn dropping_the_stream_closes_the_connection() {
    run(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            head_of(&mut stream).await;
            stream.write_all(STREAM_HEAD.as_bytes()).await.unwrap();
            stream.read(&mut [0; 1]).await
        });
        let stream = HttpTransport::new().events(&target(false, port, TlsPolicy::Verify)).await.unwrap();
        drop(stream);
        assert!(matches!(server.await.unwrap(), Ok(0) | Err(_)));
    });
}

/// A TLS server with a fresh self-signed certificate without a host name, as `tls=1` masters have it. Each connection is
/// answered with an event stream.
async fn tls_master() -> (u16, CertificateDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    let certificate = parameters.self_signed(&key).unwrap().der().clone();
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], private)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move { serve(acceptor.accept(stream).await).await });
        }
    });
    (port, certificate)
}

async fn serve(stream: std::io::Result<impl AsyncRead + AsyncWrite + Unpin>) {
    let Ok(mut stream) = stream else { return };
    head_of(&mut stream).await;
    let _ = stream.write_all(format!("{STREAM_HEAD}2\r\nok\r\n0\r\n\r\n").as_bytes()).await;
    let _ = stream.shutdown().await;
}

#[test]
fn a_self_signed_certificate_is_judged_as_the_policy_says() {
    run(async {
        let (port, certificate) = tls_master().await;
        let shown = Fingerprint(Sha256::digest(&certificate).into());
        for policy in [TlsPolicy::Insecure, TlsPolicy::Pin(None), TlsPolicy::Pin(Some(shown))] {
            let stream = HttpTransport::new().events(&target(true, port, policy.clone())).await;
            let stream = stream.unwrap_or_else(|error| panic!("{policy:?}: {error}"));
            assert_eq!(stream.certificate, Some(shown), "{policy:?}");
            let pieces: Vec<_> = stream.body.map(|piece| piece.unwrap()).collect().await;
            assert_eq!(pieces.concat(), b"ok");
        }
        let other = TlsPolicy::Pin(Some(Fingerprint([7; 32])));
        let changed = HttpTransport::new().events(&target(true, port, other)).await.err().unwrap();
        assert_eq!(changed, TransportError::PinMismatch { expected: Fingerprint([7; 32]).to_string(), shown: shown.to_string() });
        assert!(changed.needs_a_person());
    });
}

#[test]
fn a_certificate_of_an_unknown_issuer_is_not_trusted_and_the_error_says_what_to_do() {
    run(async {
        let (port, _) = tls_master().await;
        let directory = tempfile::tempdir().unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["elsewhere".to_owned()]).unwrap();
        let ca = directory.path().join("ca.pem");
        std::fs::write(&ca, other.cert.pem()).unwrap();
        let error = HttpTransport::new().events(&target(true, port, TlsPolicy::VerifyWith(ca))).await.err().unwrap();
        assert!(matches!(error, TransportError::Untrusted { .. }), "{error}");
        assert!(error.to_string().contains("--tls pin"), "{error}");
        let missing = TlsPolicy::VerifyWith(directory.path().join("missing.pem"));
        let error = HttpTransport::new().events(&target(true, port, missing)).await.err().unwrap();
        assert!(error.to_string().contains("missing.pem"), "{error}");
    });
}

#[test]
fn an_https_url_to_a_clear_text_master_is_told_apart() {
    run(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 16]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request").await;
            let _ = stream.shutdown().await;
        });
        let error = HttpTransport::new().events(&target(true, port, TlsPolicy::Insecure)).await.err().unwrap();
        assert!(matches!(error, TransportError::Tls { ref detail } if detail.contains("http://")), "{error:?}");
    });
}
