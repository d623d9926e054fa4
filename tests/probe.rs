//! A probe against simulated masters and what is mistaken for one: each step, and the first that fails with what to do.

#[allow(dead_code, reason = "each test program uses a part")]
mod cli_support;

use std::sync::Arc;

use cli_support::{fake, nobody, run_with, serve};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tidegate::clock::{Clock, SystemClock};
use tidegate::demo::server::MasterServer;
use tidegate::endpoint::{ApiKey, TlsPolicy};
use tidegate::sim::master::{InstanceSpec, MasterSpec, SimMaster, Version};
use tidegate::transport::probe::{Step, probe};
use tidegate::transport::{HttpTransport, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const KEY: &str = "fa4ec0de94466eb9305cbb1792a8bad5";

fn master() -> MasterServer {
    let mut master = SimMaster::new(MasterSpec::new(Version::Go1_14_0), SystemClock.wall(), fastrand::Rng::with_seed(3));
    master.create(InstanceSpec::server("web", 10_000));
    MasterServer::start(master, None, Arc::new(SystemClock)).unwrap()
}

async fn steps(target: &Target) -> Vec<Step> {
    let steps = probe(&HttpTransport::new(), target, None, &SystemClock).await;
    let shown = format!("{steps:?}");
    assert!(!shown.contains(target.api_key.reveal()), "a probe shows the key: {shown}");
    steps
}

/// `name tcp key!`: the steps, and `!` at the one that failed.
fn names(steps: &[Step]) -> String {
    let names = steps.iter().map(|step| format!("{}{}", step.name.as_str(), if step.ok { "" } else { "!" }));
    names.collect::<Vec<_>>().join(" ")
}

fn http(url: &str) -> Target {
    Target { url: url.parse().unwrap(), api_key: ApiKey::new(KEY), tls: TlsPolicy::Verify }
}

#[actix_rt::test]
async fn a_master_that_can_be_followed_passes_every_step() {
    let master = master();
    let target = Target { url: master.url(), api_key: master.api_key(), tls: TlsPolicy::Verify };
    let steps = steps(&target).await;
    assert_eq!(names(&steps), "name tcp head key path version event", "{steps:#?}");
    assert!(steps[5].detail.contains("1.14"), "{steps:#?}");
    assert_eq!(steps[6].detail, "the first event is `initial`");
}

#[actix_rt::test]
async fn the_first_step_that_fails_is_the_last_and_says_what_to_do() {
    let master = master();
    let url = master.url().to_string();
    let origin = master.url().origin();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for (url, expected, advice) in [
        ("http://tidegate.invalid".to_owned(), "name!", "name server"),
        (free, "name tcp!", "check that the master runs"),
        (url.clone(), "name tcp head key!", "--api-key-file"),
        (format!("{origin}/wrong"), "name tcp head path!", "prefix"),
    ] {
        let steps = steps(&http(&url)).await;
        assert_eq!(names(&steps), expected, "{url}: {steps:#?}");
        let last = steps.last().unwrap();
        assert!(last.advice.contains(advice) && !last.detail.is_empty(), "{url}: {last:?}");
        assert!(!last.advice.contains("NAME"), "an address has no name: {last:?}");
    }
}

#[actix_rt::test]
async fn a_web_server_is_not_a_master() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let _ = tcp.read(&mut [0; 4_096]).await;
        let page = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nServer: {KEY}\r\nContent-Length: 0\r\n\r\n");
        tcp.write_all(page.as_bytes()).await.unwrap();
    });
    let steps = steps(&http(&url)).await;
    assert_eq!(names(&steps), "name tcp head path!");
    assert!(steps[3].detail.contains("web page"), "{steps:?}");
}

/// A TLS server with a self-signed certificate that answers every request as a master does.
async fn tls_master() -> u16 {
    let mut params = CertificateParams::new(vec!["tokyo.example".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "tokyo\u{1b}[31m");
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    actix_rt::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let mut head = vec![0; 4_096];
            let length = tls.read(&mut head).await.unwrap_or(0);
            let answer = if String::from_utf8_lossy(&head[..length]).contains("/info") {
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"ver\":\"1.15.4\"}".to_owned()
            } else {
                let event = "event: shutdown\ndata: {\"type\":\"shutdown\",\"time\":\"2026-01-01T00:00:00Z\"}\n\n";
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{event}")
            };
            let _ = tls.write_all(answer.as_bytes()).await;
            let _ = tls.shutdown().await;
        }
    });
    port
}

#[actix_rt::test]
async fn the_certificate_is_shown_whether_it_is_accepted_or_not() {
    let port = tls_master().await;
    let target = |tls| Target { tls, ..http(&format!("https://127.0.0.1:{port}")) };
    let accepted = steps(&target(TlsPolicy::Insecure)).await;
    assert_eq!(names(&accepted), "name tcp tls head key path version event", "{accepted:#?}");
    let refused = steps(&target(TlsPolicy::Verify)).await;
    assert_eq!(names(&refused), "name tcp tls!", "{refused:#?}");
    for step in [&accepted[2], &refused[2]] {
        let shown = ["SHA-256", "valid ", "subject ", "issuer ", "tokyo"].iter().all(|part| step.detail.contains(part));
        assert!(shown && !step.detail.contains('\u{1b}'), "{step:?}");
    }
    assert!(refused[2].advice.contains("--tls pin"), "{refused:?}");
    let pinned = target(TlsPolicy::Pin(Some("ab".repeat(32).parse().unwrap())));
    assert!(!steps(&pinned).await[2].advice.contains("NAME"), "an address has no name");
    let named = probe(&HttpTransport::new(), &pinned, Some("tokyo"), &SystemClock).await;
    assert!(named[2].advice.contains("`tidegate endpoint trust tokyo`"), "{named:?}");
}

#[test]
fn the_command_works_without_a_recorder_and_its_code_says_how_far_it_came() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let system = actix_rt::System::new();
        let master = system.block_on(async { master() });
        tell.send((master.url().to_string(), master.api_key().reveal().to_owned())).unwrap();
        system.run()
    });
    let (url, key) = told.recv().unwrap();
    let probe = |url: &str, key: &str, json: &str| {
        let ran = run_with(path, &["endpoint", "probe", url, json], &[("TIDEGATE_API_KEY", key)], "");
        assert!(!ran.stdout.contains(key) && !ran.stderr.contains(key), "{}{}", ran.stdout, ran.stderr);
        ran
    };
    let ran = probe(&url, &key, "--json");
    assert_eq!((ran.code, &ran.json()["ok"]), (0, &json!(true)), "{}{}", ran.stdout, ran.stderr);
    let ran = probe(&url, KEY, "--set=log=off");
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("FAILED") && ran.stdout.contains("--api-key-file"), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(probe("http://tidegate.invalid", KEY, "--json").code, 3);
    assert_eq!(probe("ftp://h", KEY, "--json").code, 2);
    assert!(!path.join("tidegate.db").exists(), "a URL needs no database");

    // By name: at the recorder, else from the database.
    let fake = fake();
    let at = serve(&fake, path, None);
    let add = |at: &str| run_with(path, &["endpoint", "add", "tokyo", &url, at], &[("TIDEGATE_API_KEY", &key)], "");
    assert_eq!(add(&at).code, 0);
    let ran = run_with(path, &["endpoint", "probe", "tokyo", "--json", &at], &[], "");
    assert_eq!((ran.code, &ran.json()["ok"]), (0, &json!(true)), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(run_with(path, &["endpoint", "probe", "paris", &at], &[], "").code, 2);
    let at = nobody();
    assert_eq!(add(&at).code, 0);
    let ran = run_with(path, &["endpoint", "probe", "tokyo", "--json", &at], &[], "");
    assert_eq!((ran.code, &ran.json()["ok"]), (0, &json!(true)), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(run_with(path, &["endpoint", "probe", "tokyo", "--tls", "pin", &at], &[], "").code, 2);
}
