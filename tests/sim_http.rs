//! Simulated masters over real HTTP, seen by a raw TCP client.

use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::{Clock, SystemClock};
use tidegate::demo::Fleet;
use tidegate::demo::load::{AfterLoad, Load, LoadServer};
use tidegate::demo::server::MasterServer;
use tidegate::endpoint::MasterUrl;
use tidegate::sim::master::{Action, Answering, Fault, InstanceSpec, MasterSpec, SimMaster, Version, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn server(version: Version) -> MasterServer {
    let now = SystemClock.wall();
    let spec = MasterSpec { report_interval: Duration::from_millis(50), ..MasterSpec::new(version) };
    let mut master = SimMaster::new(spec, now, fastrand::Rng::with_seed(3));
    master.create(InstanceSpec::server("raw", 10_000));
    MasterServer::start(master, None, Arc::new(SystemClock)).unwrap()
}

/// A connection with what was read of it.
struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    async fn get(url: &MasterUrl, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect((&*url.host, url.port)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self { stream, read: Vec::new() }
    }

    async fn events(server: &MasterServer) -> Self {
        let key = format!("X-API-Key: {}\r\n", server.api_key().reveal());
        Self::get(&server.url(), "/api/v1/events", &key).await
    }

    /// Reads until the text occurs; false at the end of the connection.
    async fn read_until(&mut self, text: &str) -> bool {
        while !String::from_utf8_lossy(&self.read).contains(text) {
            if self.stream.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                return false;
            }
        }
        true
    }

    /// Reads to the end of the connection.
    async fn rest(mut self) -> String {
        while self.stream.read_buf(&mut self.read).await.unwrap_or(0) > 0 {}
        String::from_utf8_lossy(&self.read).into_owned()
    }
}

/// The chunks of a body; the last one is empty if the body ended cleanly.
fn chunks(body: &str) -> Vec<&str> {
    let (mut chunks, mut rest) = (Vec::new(), body);
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        chunks.push(&after[..length]);
        rest = &after[length + 2..];
    }
    chunks
}

fn fixture(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/fixtures/sim/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn without_date(head: &str) -> Vec<&str> {
    head.lines().filter(|line| !line.is_empty() && !line.to_lowercase().starts_with("date:")).collect()
}

#[tokio::test]
async fn heads_are_those_that_were_recorded() {
    for version in [Version::Go1_1_5, Version::Go1_14_0, Version::Rust0_1_0] {
        let server = server(version);
        let mut client = Client::events(&server).await;
        assert!(client.read_until("\r\n\r\n").await);
        let text = String::from_utf8_lossy(&client.read).into_owned();
        let recorded = fixture(&format!("{}.head.txt", version.name()));
        assert_eq!(without_date(text.split("\r\n\r\n").next().unwrap()), without_date(&recorded));
    }
}

#[tokio::test]
async fn a_wrong_key_and_a_wrong_path_are_refused_with_the_recorded_bodies() {
    let go = server(Version::Go1_14_0);
    let rust = server(Version::Rust0_1_0);
    let wrong = "X-API-Key: fa4ec0de\r\nConnection: close\r\n";
    for (server, path, headers, status, body) in [
        (&go, "/api/v1/events", "Connection: close\r\n", "401", "{\"error\":\"Unauthorized: API key required\"}\n"),
        (&go, "/api/v1/events", wrong, "401", "{\"error\":\"Unauthorized: Invalid API key\"}\n"),
        (&rust, "/api/v1/events", wrong, "401", "{\"error\":\"Unauthorized: Invalid API key\"}"),
        (&go, "/v1/events", wrong, "404", "404 page not found\n"),
        (&go, "/api/v1/events/", wrong, "404", "404 page not found\n"),
        (&rust, "/api/v1/Events", wrong, "404", ""),
        (&go, "//api/v1/events", wrong, "307", "<a href=\"/api/v1/events\">Temporary Redirect</a>.\n\n"),
    ] {
        let answer = Client::get(&server.url(), path, headers).await.rest().await;
        let (head, got) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert_eq!(got, body, "{path}");
        assert!(head.to_lowercase().contains(&format!("content-length: {}", body.len())), "{head}");
    }
}

#[tokio::test]
async fn each_event_is_a_chunk_and_a_shutdown_ends_the_body_properly() {
    let server = server(Version::Go1_14_0);
    let mut client = Client::events(&server).await;
    assert!(client.read_until("\"mode\":2").await, "a report came");
    server.act(&Action::Shutdown { down_for: None });
    let text = client.rest().await;
    let chunks = chunks(text.split_once("\r\n\r\n").unwrap().1);
    assert!(chunks[0].starts_with("retry: 3000\n\nevent: instance\n"));
    assert!(chunks[..chunks.len() - 1].iter().all(|chunk| chunk.ends_with("\n\n") && chunk.matches("data: ").count() == 1));
    assert!(chunks[chunks.len() - 2].contains("\"shutdown\""));
    assert_eq!(*chunks.last().unwrap(), "");
    assert!(TcpStream::connect(server.address()).await.is_err(), "it is down");
}

#[tokio::test]
async fn a_killed_master_closes_in_mid_body_and_listens_again_on_its_port() {
    let server = server(Version::Go1_14_0);
    let mut client = Client::events(&server).await;
    assert!(client.read_until("\"initial\"").await);
    server.act(&Action::Kill { down_for: Some(Duration::from_millis(20)) });
    assert!(!client.rest().await.ends_with("0\r\n\r\n"));
    while TcpStream::connect(server.address()).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(Client::events(&server).await.read_until("\"initial\"").await);
}

#[tokio::test]
async fn a_master_that_never_answers_accepts_and_says_nothing() {
    let server = server(Version::Go1_14_0);
    server.act(&Action::Fault(Fault::Answering { answering: Answering::Never, lasting: None }));
    let mut client = Client::events(&server).await;
    let answer = tokio::time::timeout(Duration::from_millis(200), client.read_until("HTTP")).await;
    assert!(answer.is_err(), "still waiting");
}

#[tokio::test]
async fn slow_bytes_are_the_same_bytes() {
    let server = server(Version::Go1_14_0);
    let wire = Wire { piece_bytes: 7, pause: Duration::ZERO };
    server.act(&Action::Fault(Fault::Wire { wire, lasting: None }));
    let mut client = Client::events(&server).await;
    assert!(client.read_until("\"mode\":2").await);
    server.act(&Action::Shutdown { down_for: None });
    let text = client.rest().await;
    assert_eq!(*chunks(text.split_once("\r\n\r\n").unwrap().1).last().unwrap(), "");
}

#[tokio::test]
async fn one_connection_serves_several_plain_requests() {
    let server = server(Version::Go2_0_0B10);
    let key = format!("X-API-Key: {}\r\n", server.api_key().reveal());
    let mut client = Client::get(&server.url(), "/api/v1/info", &key).await;
    assert!(client.read_until("\"v2.0.0-b10\"}\n").await);
    let second = format!("GET /api/v1/instances HTTP/1.1\r\n{key}Connection: close\r\n\r\n");
    client.stream.write_all(second.as_bytes()).await.unwrap();
    assert!(client.rest().await.ends_with("}]\n"));
}

#[tokio::test]
async fn a_load_numbers_its_events_per_connection_and_says_how_many_it_sent() {
    let load = Load { version: Version::Go1_14_0, instances: 7, events: 5_000, per_second: None, then: AfterLoad::End };
    let server = LoadServer::start(load, Arc::new(SystemClock), 1).unwrap();
    for connection in 1..=2_u64 {
        let key = format!("X-API-Key: {}\r\n", server.api_key().reveal());
        let text = Client::get(&server.url(), "/api/v1/events", &key).await.rest().await;
        let chunks = chunks(text.split_once("\r\n\r\n").unwrap().1);
        assert_eq!((chunks.len(), *chunks.last().unwrap()), (8 + 5_000 + 1, ""));
        for (k, chunk) in (1_u64..).zip(&chunks[8..chunks.len() - 1]) {
            let event: serde_json::Value =
                serde_json::from_str(chunk.lines().nth(1).unwrap().strip_prefix("data: ").unwrap()).unwrap();
            let instance = &event["instance"];
            assert_eq!((instance["tcprx"].as_u64(), instance["tcptx"].as_u64()), (Some(k), Some(connection)));
            assert_eq!(instance["id"], server.instances()[(k as usize - 1) % 7].as_str());
        }
    }
    assert_eq!(server.sent(), [5_000, 5_000]);
}

#[tokio::test]
async fn a_load_that_is_cut_by_its_reader_has_sent_at_least_what_arrived() {
    let load = Load { version: Version::Go1_14_0, instances: 3, events: 100_000, per_second: None, then: AfterLoad::StayOpen };
    let server = LoadServer::start(load, Arc::new(SystemClock), 1).unwrap();
    let key = format!("X-API-Key: {}\r\n", server.api_key().reveal());
    let mut client = Client::get(&server.url(), "/api/v1/events", &key).await;
    assert!(client.read_until("\"tcprx\":1000,").await);
    let arrived = String::from_utf8_lossy(&client.read).matches("\"update\"").count() as u64;
    drop(client);
    assert!(server.sent()[0] + 1 >= arrived, "{:?} of {arrived}", server.sent());
}

#[tokio::test]
async fn the_demo_fleet_sends_on_every_endpoint() {
    let fleet = Fleet::start(Arc::new(SystemClock), 1).unwrap();
    let mut instances = 0;
    for endpoint in &fleet.endpoints {
        let key = format!("X-API-Key: {}\r\n", endpoint.api_key.reveal());
        let mut client = Client::get(&endpoint.url, "/api/v1/events", &key).await;
        assert!(client.read_until("\"update\"").await, "{}", endpoint.name);
        instances += String::from_utf8_lossy(&client.read).matches("\"initial\"").count() - 1;
    }
    assert_eq!((fleet.endpoints.len(), instances), (3, 13));
    fleet.stop().await;
}
